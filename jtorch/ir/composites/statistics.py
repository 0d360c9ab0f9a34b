"""Means, variances and norms over axes (removed from the shape; `axes` is sorted and non-negative)."""
from __future__ import annotations

import math
from typing import Any

from jtorch.ir.arith import where
from jtorch.ir.composites.define import REQUIRED, composite, count, mean_over, sum_over
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import abs_, is_zero, pow_, sign, sqrt, zeros_like
from jtorch.ir.prims.reduce import keep_axes, max_, min_, reduced_shape

Axes = tuple[int, ...]


def _infer(x: Type, axes: Axes, **attrs: Any) -> Type:
    return Type(x.dtype, reduced_shape(x.shape, axes))


def _batch(self: Op, b: Builder, n: int, m: tuple, x: Value, axes: Axes, **attrs: Any) -> Any:
    return self(x, axes=tuple(a + 1 for a in axes), **attrs)


def _mean_vjp(g: Value, y: Value, x: Value, axes: Axes) -> tuple:
    return (keep_axes(g / max(count(x.shape, axes), 1), x, axes),)


mean = composite("mean", lambda b, x, axes: mean_over(x, axes), _mean_vjp, infer=_infer, attrs={"axes": REQUIRED},
                 batch=_batch, linear=True, domain="axes float")


def centred(x: Value, axes: Axes) -> Value:
    return x - mean_over(x, axes, keep=True)


def _variance(x: Value, axes: Axes, correction: float) -> Value:
    c = centred(x, axes)
    n = count(x.shape, axes)
    total = sum_over(c * c, axes)
    # with no degree of freedom left the quotient is NaN (0 / 0), or infinite where there is something to divide
    return total / float(n - correction) if n > correction else total / 0.0


def _var_scale(x: Value, axes: Axes, correction: float) -> float:
    n = count(x.shape, axes)
    return 2.0 / (n - correction) if n > correction else math.nan


def _var_vjp(g: Value, y: Value, x: Value, axes: Axes, correction: float) -> tuple:
    return (keep_axes(g * _var_scale(x, axes, correction), x, axes) * centred(x, axes),)


var = composite("var", lambda b, x, axes, correction: _variance(x, axes, correction), _var_vjp, infer=_infer,
                attrs={"axes": REQUIRED, "correction": 1}, batch=_batch, domain="axes float")
"""sum((x - mean)**2) / (n - correction)"""


def _std_vjp(g: Value, y: Value, x: Value, axes: Axes, correction: float) -> tuple:
    share = where(is_zero(y), zeros_like(g), g / (y * 2.0))
    return _var_vjp(share, y, x, axes, correction)


std = composite("std", lambda b, x, axes, correction: sqrt(_variance(x, axes, correction)), _std_vjp, infer=_infer,
                attrs={"axes": REQUIRED, "correction": 1}, batch=_batch, domain="axes float")


def _var_mean_vjp(g: tuple, y: tuple, x: Value, axes: Axes, correction: float) -> tuple:
    parts = []
    if g[0] is not None:
        parts += _var_vjp(g[0], y[0], x, axes, correction)
    if g[1] is not None:
        parts += _mean_vjp(g[1], y[1], x, axes)
    return (parts[0] if len(parts) == 1 else parts[0] + parts[1],)


var_mean = composite("var_mean", lambda b, x, axes, correction: (_variance(x, axes, correction), mean_over(x, axes)),
                     _var_mean_vjp, infer=lambda x, axes, correction: (_infer(x, axes),) * 2,
                     attrs={"axes": REQUIRED, "correction": 1}, batch=_batch, domain="axes float")
"""(variance, mean)"""


# --- norms -----------------------------------------------------------------------------------------------------------

def _norm(b: Builder, x: Value, axes: Axes, p: float) -> Value:
    size = abs_(x)
    if p == 2:
        return sqrt(sum_over(x * x, axes))
    if p == 1:
        return sum_over(size, axes)
    if p == 0:
        return sum_over(where(is_zero(x), zeros_like(x), 1.0), axes)
    if math.isinf(p):
        return (max_ if p > 0 else min_)(size, axes=axes)
    exponent = constant(b, float(p), x.dtype, x.shape)
    total = sum_over(pow_(size, exponent), axes)
    return pow_(total, constant(b, 1.0 / p, x.dtype, total.shape))


def _norm_vjp(g: Value, y: Value, x: Value, axes: Axes, p: float) -> tuple:
    """x * (|x| / y)**(p - 2) / y, and 0 where the norm is 0."""
    wide_g, wide_y = keep_axes(g, x, axes), keep_axes(y, x, axes)
    zero = zeros_like(x)
    if p == 0:
        return (zero,)
    if p == 1:
        return (wide_g * sign(x),)
    if p == 2:
        return (where(is_zero(wide_y), zero, wide_g * (x / wide_y)),)
    if math.isinf(p):
        size = abs_(x)
        hit = where(is_zero(size - wide_y), 1.0 + zero, zero)
        return (wide_g * sign(x) * hit / sum_over(hit, axes, keep=True),)
    ratio = where(is_zero(wide_y), zero + 1.0, abs_(x) / wide_y)
    power = pow_(ratio, constant(x.builder, float(p - 1), x.dtype, x.shape))
    return (where(is_zero(wide_y) | is_zero(x), zero, wide_g * sign(x) * power),)


vector_norm = composite("vector_norm", _norm, _norm_vjp, infer=_infer, attrs={"axes": REQUIRED, "p": 2.0}, batch=_batch,
                        domain="axes float")
"""(sum |x|**p)**(1/p); the largest or smallest |x| for p = inf or -inf, the count of non-zeros for p = 0."""
