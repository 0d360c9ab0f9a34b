"""Special functions. Their NumPy meaning is SciPy's; kernels have them where `codegen/vecmath.py` or libm does."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.primitive import op as operation
from jtorch.ir.prims.elementwise import (
    FLOAT,
    POSITIVE,
    UNIT,
    batch_elementwise,
    elementwise,
    exp,
    infer_same,
    is_zero,
    log,
    ones_like,
    sign,
    where,
)

NOT_DIFFERENTIABLE = "PyTorch has no derivative of it either"


def by_scipy(name: str, *before: Any) -> Callable[..., np.ndarray]:
    """`scipy.special.name(*before, ...)` in float64, rounded to the operands' dtype."""
    def run(a: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        from scipy import special
        with np.errstate(all="ignore"):
            found = getattr(special, name)(*before, a.astype(np.float64), *[r.astype(np.float64) for r in rest])
            return np.asarray(found).astype(a.dtype)
    return run


def function(name: str, numpy: Callable[..., np.ndarray], slope: Callable[[Value, Value], Value] | None = None,
             domain: str = FLOAT) -> Op:
    """A function of one number that only the host computes, with its derivative `slope(y, x)`."""
    if slope is None:
        return Op(name, "library", infer_same(name), numpy, no_grad=NOT_DIFFERENTIABLE, batch=batch_elementwise,
                  domain=domain)
    return Op(name, "library", infer_same(name), numpy, lambda g, y, x: (g * slope(y, x),),
              jvp=lambda t, y, x: t[0] * slope(y, x), batch=batch_elementwise, domain=domain)


# --- gamma functions -------------------------------------------------------------------------------------------------

def _polygamma_numpy(a: np.ndarray, n: int) -> np.ndarray:
    return by_scipy("polygamma", n)(a)


def _polygamma_infer(x: Type, n: int) -> Type:
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    return x


polygamma = Op("polygamma", "library", _polygamma_infer, _polygamma_numpy,
               lambda g, y, x, n: (g * polygamma(x, n=n + 1),),
               jvp=lambda t, y, x, n: t[0] * polygamma(x, n=n + 1), attr_names=("n",), batch=batch_elementwise,
               domain=POSITIVE)
"""The n-th derivative of digamma."""


def _digamma_vjp(g: Value, y: Value, x: Value) -> tuple:
    return (g * operation("trigamma")(x),)


digamma = elementwise("digamma", "digamma(a)", by_scipy("psi"), _digamma_vjp, domain=POSITIVE, cost=60)
lgamma = elementwise("lgamma", "lgamma(a)", by_scipy("gammaln"), lambda g, y, x: (g * digamma(x),), domain=POSITIVE,
                     cost=60)


def _incomplete(name: str, sign: int) -> Op:
    """Half of a gamma integral: differentiable in x, not in a, as in PyTorch."""
    def slope(a: Value, x: Value) -> Value:
        return exp((a - 1) * log(x) - x - lgamma(a)) * sign

    return Op(name, "library", infer_same(name), by_scipy(name), lambda g, y, a, x: (None, g * slope(a, x)),
              jvp=lambda t, y, a, x: None if t[1] is None else t[1] * slope(a, x), batch=batch_elementwise,
              domain=POSITIVE)


gammainc, gammaincc = _incomplete("gammainc", 1), _incomplete("gammaincc", -1)
"""The regularized incomplete gamma functions P(a, x) and Q(a, x)."""


def _zeta_slope(x: Value, q: Value) -> Value:
    return -x * zeta(x + 1, q)


zeta = Op("zeta", "library", infer_same("zeta"), by_scipy("zeta"),
          lambda g, y, x, q: (None, g * _zeta_slope(x, q)),
          jvp=lambda t, y, x, q: None if t[1] is None else t[1] * _zeta_slope(x, q), batch=batch_elementwise,
          domain=POSITIVE)
"""The Hurwitz zeta function: the sum over k >= 0 of (k + q)**-x. Differentiable in q, not in x, as in PyTorch."""


# --- error functions and the normal distribution ---------------------------------------------------------------------

erfinv = elementwise("erfinv", "erfinv(a)", by_scipy("erfinv"),
                     lambda g, y, x: (g * (exp(y * y) * (math.sqrt(math.pi) / 2)),), domain=UNIT, cost=60)
erfcx = function("erfcx", by_scipy("erfcx"), lambda y, x: 2 * x * y - 2 / math.sqrt(math.pi))
"""exp(x**2) * erfc(x)"""
log_ndtr = function("log_ndtr", by_scipy("log_ndtr"), lambda y, x: exp(x * x * -0.5 - y) / math.sqrt(2 * math.pi))
"""The logarithm of the normal distribution function."""
ndtri = function("ndtri", by_scipy("ndtri"), lambda y, x: exp(y * y * 0.5) * math.sqrt(2 * math.pi), domain="fraction")
"""The inverse of the normal distribution function."""


# --- Bessel functions ------------------------------------------------------------------------------------------------

def _over(y: Value, x: Value) -> Value:
    """y / x of an odd function y with the slope 1/2 at 0."""
    hole = is_zero(x)
    return where(hole, ones_like(x) * 0.5, y / where(hole, ones_like(x), x))


i0 = function("i0", by_scipy("i0"), lambda y, x: i1(x))
i1 = function("i1", by_scipy("i1"), lambda y, x: i0(x) - _over(y, x))
i0e = function("i0e", by_scipy("i0e"), lambda y, x: i1e(x) - sign(x) * y)
"""exp(-|x|) * i0(x)"""
i1e = function("i1e", by_scipy("i1e"), lambda y, x: i0e(x) - sign(x) * y - _over(y, x))
"""exp(-|x|) * i1(x)"""


def _airy(x: np.ndarray) -> np.ndarray:
    from scipy import special
    return special.airy(x.astype(np.float64))[0].astype(x.dtype)


airy_ai = function("airy_ai", _airy)
bessel_j0, bessel_j1 = function("bessel_j0", by_scipy("j0")), function("bessel_j1", by_scipy("j1"))
spherical_bessel_j0 = function("spherical_bessel_j0", by_scipy("spherical_jn", 0))
bessel_y0, bessel_y1, modified_bessel_k0, modified_bessel_k1, scaled_modified_bessel_k0, scaled_modified_bessel_k1 = (
    function(name, by_scipy(theirs), domain=POSITIVE) for name, theirs in (
        ("bessel_y0", "y0"), ("bessel_y1", "y1"), ("modified_bessel_k0", "k0"), ("modified_bessel_k1", "k1"),
        ("scaled_modified_bessel_k0", "k0e"), ("scaled_modified_bessel_k1", "k1e")))


# --- orthogonal polynomials ------------------------------------------------------------------------------------------

Step = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _polynomial(name: str, first: Callable[[np.ndarray], np.ndarray], step: Step) -> Op:
    """The polynomials p[n] with p[0] = 1, p[1] = first(x), p[k + 1] = step(k, x, p[k], p[k - 1]); 0 for n < 0. n is
    an operand, of which the whole part counts."""
    def run(x: np.ndarray, n: np.ndarray) -> np.ndarray:
        wide = x.astype(np.float64)
        degree = np.trunc(n.astype(np.float64))
        before, p = np.ones_like(wide), np.asarray(first(wide))
        found = np.select([degree == 0, degree == 1], [before, p], 0.0)
        with np.errstate(all="ignore"):
            for k in range(1, int(np.nanmax(degree, initial=0.0))):
                before, p = p, step(k, wide, p, before)
                found = np.where(degree == k + 1, p, found)
        return found.astype(x.dtype)
    return Op(name, "library", infer_same(name), run, no_grad=NOT_DIFFERENTIABLE, batch=batch_elementwise,
              domain="degree")


def _chebyshev(k: int, x: np.ndarray, p: np.ndarray, before: np.ndarray) -> np.ndarray:
    return 2 * x * p - before


_CHEBYSHEV: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "t": lambda x: x, "u": lambda x: 2 * x, "v": lambda x: 2 * x - 1, "w": lambda x: 2 * x + 1}


def _shifted(letter: str) -> Op:
    """The Chebyshev polynomial of 2 x - 1."""
    return _polynomial(f"shifted_chebyshev_polynomial_{letter}", lambda x: _CHEBYSHEV[letter](2 * x - 1),
                       lambda k, x, p, before: _chebyshev(k, 2 * x - 1, p, before))


POLYNOMIALS = (
    *[_polynomial(f"chebyshev_polynomial_{letter}", first, _chebyshev) for letter, first in _CHEBYSHEV.items()],
    *[_shifted(letter) for letter in _CHEBYSHEV],
    _polynomial("hermite_polynomial_h", lambda x: 2 * x, lambda k, x, p, before: 2 * (x * p - k * before)),
    _polynomial("hermite_polynomial_he", lambda x: x, lambda k, x, p, before: x * p - k * before),
    _polynomial("laguerre_polynomial_l", lambda x: 1 - x,
                lambda k, x, p, before: ((2 * k + 1 - x) * p - k * before) / (k + 1)),
    _polynomial("legendre_polynomial_p", lambda x: x,
                lambda k, x, p, before: ((2 * k + 1) * x * p - k * before) / (k + 1)),
)

__all__ = ["POLYNOMIALS", "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "by_scipy", "digamma",
           "erfcx", "erfinv", "gammainc", "gammaincc", "i0", "i0e", "i1", "i1e", "lgamma", "log_ndtr",
           "modified_bessel_k0", "modified_bessel_k1", "ndtri", "polygamma", "scaled_modified_bessel_k0",
           "scaled_modified_bessel_k1", "spherical_bessel_j0", "zeta"]
