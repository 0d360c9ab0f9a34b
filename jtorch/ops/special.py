"""Special functions: those of the `torch` namespace, and the rest of `torch.special`."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor, attach
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.composites import pointwise as composed
from jtorch.ir.graph import Value
from jtorch.ir.prims import special
from jtorch.ops.attach import FUNCTIONS, define, with_out

SPECIAL: dict[str, Callable[..., Any]] = {}
"""Functions that only `torch.special` has, by name."""


def _real(name: str, *operands: Operand) -> None:
    for v in operands:
        if isinstance(v, Value) and v.dtype.is_complex:
            short = "Complex" + ("Float" if v.dtype is dtypes.complex64 else "Double")
            raise NotImplementedError(f'"{name}_cpu" not implemented for \'{short}\'')


def _only_special(name: str, body: Callable[..., Value]) -> None:
    body.__name__ = name
    SPECIAL[name] = with_out(define(method=False, function=False)(body))


# --- one operand -----------------------------------------------------------------------------------------------------

def _of_one(name: str, formula: Callable[[Value], Value]) -> Callable[[Value], Value]:
    def function(input: Value) -> Value:
        _real(name, input)
        return formula(arith.as_float(input))
    function.__name__ = name
    return function


for _name in ("lgamma", "digamma", "erfinv", "i0"):
    define(inplace=True)(_of_one(_name, getattr(special, _name)))

for _name, _op in {
        "entr": composed.entr, "ndtr": composed.ndtr, "ndtri": special.ndtri, "log_ndtr": special.log_ndtr,
        "erfcx": special.erfcx, "i0e": special.i0e, "i1": special.i1, "i1e": special.i1e, "airy_ai": special.airy_ai,
        "bessel_j0": special.bessel_j0, "bessel_j1": special.bessel_j1, "bessel_y0": special.bessel_y0,
        "bessel_y1": special.bessel_y1, "spherical_bessel_j0": special.spherical_bessel_j0,
        "modified_bessel_i0": special.i0, "modified_bessel_i1": special.i1,
        "modified_bessel_k0": special.modified_bessel_k0, "modified_bessel_k1": special.modified_bessel_k1,
        "scaled_modified_bessel_k0": special.scaled_modified_bessel_k0,
        "scaled_modified_bessel_k1": special.scaled_modified_bessel_k1}.items():
    _only_special(_name, _of_one(_name, _op))


# --- two operands ----------------------------------------------------------------------------------------------------

def _of_two(name: str, op: Any) -> Callable[[Operand, Operand], Value]:
    def function(input: Operand, other: Operand) -> Value:
        _real(name, input, other)
        return op(*arith.promote(input, other, float_result=True))
    function.__name__ = name
    return function


for _name, _op in {"xlog1py": composed.xlog1py, "zeta": special.zeta}.items():
    _only_special(_name, _of_two(_name, _op))


def _polynomial(op: Any) -> None:
    def function(input: Operand, n: Operand) -> Value:
        _real(op.name, input, n)
        return op(*arith.promote(input, n, float_result=True))
    _only_special(op.name, function)


for _op in special.POLYNOMIALS:
    _polynomial(_op)


@define(inplace=True)
def igamma(input: Value, other: Value) -> Value:
    """The regularized lower incomplete gamma function P(input, other), differentiable in `other`."""
    return special.gammainc(*arith.promote(input, other, float_result=True))


@define(inplace=True)
def igammac(input: Value, other: Value) -> Value:
    """The regularized upper incomplete gamma function Q(input, other), differentiable in `other`."""
    return special.gammaincc(*arith.promote(input, other, float_result=True))


# --- with a number ---------------------------------------------------------------------------------------------------

@define(method=False)
def polygamma(n: int, input: Value) -> Value:
    """The n-th derivative of digamma, for n >= 0."""
    x = arith.as_float(input)
    if n == 1:
        return composed.trigamma(x)
    return special.digamma(x) if n == 0 else special.polygamma(x, n=n)


def _polygamma(self: Tensor, n: int) -> Tensor:
    return polygamma(n, self)


def _polygamma_(self: Tensor, n: int) -> Tensor:
    return self.copy_(polygamma(n, self))


attach(polygamma=_polygamma, polygamma_=_polygamma_)


@define(inplace=True)
def mvlgamma(input: Value, p: int) -> Value:
    """log of the multivariate gamma function of dimension p."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    x = arith.as_float(input)
    total = special.lgamma(x)
    for i in range(1, p):
        total = total + special.lgamma(x - 0.5 * i)
    return total + p * (p - 1) / 4 * math.log(math.pi)


SPECIAL.update({theirs: FUNCTIONS[own] for theirs, own in {
    "expit": "sigmoid", "gammaln": "lgamma", "psi": "digamma", "gammainc": "igamma", "gammaincc": "igammac",
    "multigammaln": "mvlgamma", **{name: name for name in (
        "digamma", "erf", "erfc", "erfinv", "exp2", "expm1", "i0", "log1p", "log_softmax", "logit", "logsumexp",
        "polygamma", "round", "sinc", "softmax", "xlogy")}}.items()})
