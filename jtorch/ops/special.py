"""Special functions of more than one argument."""
from __future__ import annotations

import math

from jtorch import dtypes
from jtorch._tensor import Tensor, attach
from jtorch.ir import arith
from jtorch.ir.graph import Value
from jtorch.ir.prims import special
from jtorch.ir.prims.elementwise import cast_to
from jtorch.ops.attach import define


def _floating(v: Value) -> Value:
    return v if v.dtype.category >= dtypes.FLOAT else cast_to(v, v.builder.default_float)


@define(method=False)
def polygamma(n: int, input: Value) -> Value:
    """The n-th derivative of digamma, for n >= 0."""
    x = _floating(input)
    return special.digamma(x) if n == 0 else special.polygamma(x, n=n)


def _polygamma(self: Tensor, n: int) -> Tensor:
    return polygamma(n, self)


attach(polygamma=_polygamma)


@define("mvlgamma", "special_multigammaln", inplace=True)
def mvlgamma(input: Value, p: int) -> Value:
    """log of the multivariate gamma function of dimension p."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    x = _floating(input)
    total = special.lgamma(x)
    for i in range(1, p):
        total = total + special.lgamma(x - 0.5 * i)
    return total + p * (p - 1) / 4 * math.log(math.pi)


@define("igamma", "special_gammainc", inplace=True)
def igamma(input: Value, other: Value) -> Value:
    """The regularized lower incomplete gamma function P(input, other), differentiable in `other`."""
    return special.gammainc(*arith.promote(input, other, float_result=True))


@define("igammac", "special_gammaincc", inplace=True)
def igammac(input: Value, other: Value) -> Value:
    """The regularized upper incomplete gamma function Q(input, other), differentiable in `other`."""
    return special.gammaincc(*arith.promote(input, other, float_result=True))
