"""Special functions. Their NumPy meaning is SciPy's; kernels have them where `codegen/vecmath.py` or libm does."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.elementwise import POSITIVE, UNIT, batch_elementwise, elementwise, exp, infer_same, log


def by_scipy(name: str, *before: Any) -> Callable[..., np.ndarray]:
    """`scipy.special.name(*before, x)` in float64, rounded to x's dtype."""
    def run(a: np.ndarray) -> np.ndarray:
        from scipy import special
        with np.errstate(all="ignore"):
            return np.asarray(getattr(special, name)(*before, a.astype(np.float64))).astype(a.dtype)
    return run


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
    return (g * polygamma(x, n=1),)


digamma = elementwise("digamma", "digamma(a)", by_scipy("psi"), _digamma_vjp, domain=POSITIVE, cost=60)
lgamma = elementwise("lgamma", "lgamma(a)", by_scipy("gammaln"), lambda g, y, x: (g * digamma(x),), domain=POSITIVE,
                     cost=60)
erfinv = elementwise("erfinv", "erfinv(a)", by_scipy("erfinv"),
                     lambda g, y, x: (g * (exp(y * y) * (math.sqrt(math.pi) / 2)),), domain=UNIT, cost=60)


def _incomplete(name: str, sign: int) -> Op:
    """Half of a gamma integral: differentiable in x, not in a, as in PyTorch."""
    def meaning(a: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy import special
        with np.errstate(all="ignore"):
            return np.asarray(getattr(special, name)(a.astype(np.float64), x.astype(np.float64))).astype(a.dtype)

    def slope(a: Value, x: Value) -> Value:
        return exp((a - 1) * log(x) - x - lgamma(a)) * sign

    return Op(name, "library", lambda a, x: infer_same(name)(a, x), meaning,
              lambda g, y, a, x: (None, g * slope(a, x)),
              jvp=lambda t, y, a, x: None if t[1] is None else t[1] * slope(a, x), batch=batch_elementwise,
              domain=POSITIVE)


gammainc, gammaincc = _incomplete("gammainc", 1), _incomplete("gammaincc", -1)
"""The regularized incomplete gamma functions P(a, x) and Q(a, x)."""

__all__ = ["by_scipy", "digamma", "erfinv", "gammainc", "gammaincc", "lgamma", "polygamma"]
