"""Pointwise arithmetic of several operands, which PyTorch has as one operation. Operands have one shape and dtype."""
from __future__ import annotations

import math

from jtorch import dtypes
from jtorch.ir.arith import maximum, minimum, where
from jtorch.ir.composites.define import composite, pointwise, same_type
from jtorch.ir.graph import Builder, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.complex import real
from jtorch.ir.prims.elementwise import abs_ as absolute
from jtorch.ir.prims.elementwise import (
    batch_elementwise,
    cast_to,
    erfc,
    exp,
    expand,
    is_zero,
    isinf,
    isnan,
    log,
    log1p,
    round_,
    sin,
    zeros_like,
)
from jtorch.ir.prims.movement import reshape_to
from jtorch.ir.prims.special import polygamma


def _scaled(x: Value, value: float) -> Value:
    return x if value == 1 else x * value


def _lerp(b: Builder, start: Value, end: Value, weight: Value) -> Value:
    """From the nearer end, as PyTorch does, so that both ends are exact. `weight` may be 0-d."""
    w = expand(weight, start.shape)
    return where(absolute(w) < 0.5, start + w * (end - start), end - (end - start) * (1 - w))


def _lerp_vjp(g: Value, y: Value, start: Value, end: Value, weight: Value) -> tuple:
    w = expand(weight, start.shape)
    return g * (1 - w), g * w, g * (end - start)


def _lerp_batch(self: Op, b: Builder, n: int, m: tuple, start: Value, end: Value, weight: Value) -> Value:
    if m[2] and weight.ndim == 1:
        weight = reshape_to(weight, (n, *[1] * (start.ndim - m[0])))
    elif not m[2]:
        weight = expand(weight, (n, *weight.shape)) if weight.ndim else weight
    start, end = (v if mapped else expand(v, (n, *v.shape)) for v, mapped in zip((start, end), m))
    return self(start, end, expand(weight, start.shape))


lerp = composite("lerp", _lerp, _lerp_vjp, infer=same_type, domain="triple", batch=_lerp_batch)
"""start + weight * (end - start)"""

addcmul = composite("addcmul", lambda b, x, a, c, value: x + _scaled(a, value) * c, infer=same_type, attrs={"value": 1},
                    batch=batch_elementwise, domain="triple")
addcdiv = composite("addcdiv", lambda b, x, a, c, value: x + _scaled(a, value) / c, infer=same_type, attrs={"value": 1},
                    batch=batch_elementwise, domain="triple")


def _clamp(x: Value, low: float | None, high: float | None) -> Value:
    if low is not None:
        x = maximum(x, low)
    return x if high is None else minimum(x, high)


def _clamp_vjp(g: Value, y: Value, x: Value, low: float | None, high: float | None) -> tuple:
    """A bound that is met exactly lets the gradient through."""
    inside = None
    if low is not None:
        inside = x >= low
    if high is not None:
        inside = x <= high if inside is None else inside & (x <= high)
    return (g if inside is None else where(inside, g, zeros_like(g)),)


clamp = pointwise("clamp", _clamp, _clamp_vjp, attrs={"low": None, "high": None}, domain="real")
"""`torch.clamp` with numbers for bounds (in x's dtype already)."""


def _clamp_tensors(b: Builder, x: Value, low: Value, high: Value) -> Value:
    return minimum(maximum(x, low), high)


def _clamp_tensors_vjp(g: Value, y: Value, x: Value, low: Value, high: Value) -> tuple:
    zero = zeros_like(g)
    below, above = (x < low) & (low < high), (x > high) | (low > high)
    return where((x >= low) & (x <= high), g, zero), where(below, g, zero), where(above, g, zero)


clamp_tensors = composite("clamp_tensors", _clamp_tensors, _clamp_tensors_vjp, infer=same_type, domain="triple",
                          batch=batch_elementwise)
"""`torch.clamp` with tensors for bounds."""


def _logaddexp(b: Builder, x: Value, y: Value) -> Value:
    if x.dtype.is_complex:  # the one with the larger real part in front
        first = real(x) >= real(y)
        top, rest = where(first, x, y), where(first, y, x)
        return top + log1p(exp(rest - top))
    top = maximum(x, y)
    rest = log1p(exp(-absolute(x - y)))
    return where(isnan(x - y) & ~isnan(top), top, top + rest)  # equal infinities


def _logaddexp_vjp(g: Value, out: Value, x: Value, y: Value) -> tuple:
    return g * exp(x - out), g * exp(y - out)


logaddexp = composite("logaddexp", _logaddexp, _logaddexp_vjp, infer=same_type, domain="pair", batch=batch_elementwise)
"""log(exp(x) + exp(y))"""


def _xlogy(b: Builder, x: Value, y: Value) -> Value:
    return where(is_zero(x) & ~isnan(y), zeros_like(x), x * log(y))


def _xlogy_vjp(g: Value, out: Value, x: Value, y: Value) -> tuple:
    zero = zeros_like(x)
    return where(is_zero(x) & (y <= 0), zero, g * log(y)), g * x / y


xlogy = composite("xlogy", _xlogy, _xlogy_vjp, infer=same_type, domain="positive pair", batch=batch_elementwise)
"""x * log(y), and 0 where x is 0."""


def _xlog1py(b: Builder, x: Value, y: Value) -> Value:
    return where(is_zero(x) & ~isnan(y), zeros_like(x), x * log1p(y))


def _xlog1py_vjp(g: Value, out: Value, x: Value, y: Value) -> tuple:
    zero = zeros_like(x)
    return where(is_zero(x) & (y <= -1), zero, g * log1p(y)), g * x / (y + 1)


xlog1py = composite("xlog1py", _xlog1py, _xlog1py_vjp, infer=same_type, domain="positive pair",
                    batch=batch_elementwise)
"""x * log1p(y), and 0 where x is 0."""


def _entr(x: Value) -> Value:
    inside = where(is_zero(x), zeros_like(x), -x * log(x))
    return where(x < 0, zeros_like(x) - math.inf, inside)


entr = pointwise("entr", _entr, lambda g, y, x: (g * (-log(x) - 1),),
                 domain="positive")
"""-x * log(x), 0 at 0 and -inf below."""

ndtr = pointwise("ndtr", lambda x: erfc(x * -math.sqrt(0.5)) * 0.5,
                 lambda g, y, x: (g * (exp(x * x * -0.5) / math.sqrt(2 * math.pi)),))
"""The normal distribution function."""


BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)


def _trigamma(x: Value) -> Value:
    """In float64: the recurrence up to where the asymptotic series holds, and the reflection below 1/2 (M. Abramowitz,
    I. Stegun, "Handbook of Mathematical Functions", 1964, 6.4.6, 6.4.7, 6.4.12)."""
    wide = cast_to(x, dtypes.float64)
    low = wide < 0.5
    above = where(low, 1 - wide, wide)
    steps = 10 if x.dtype is dtypes.float64 else 4
    total = None
    for k in range(steps):
        term = 1 / (above + k)
        total = term * term if total is None else total + term * term
    r = 1 / (above + steps)
    square = r * r
    series = zeros_like(r)
    for number in reversed(BERNOULLI):
        series = square * (series + number)
    total = total + (r + square * 0.5 + r * series)
    sine = math.pi / sin(math.pi * (wide - round_(wide)))
    return cast_to(where(low, sine * sine - total, total), x.dtype)


trigamma = pointwise("trigamma", _trigamma, lambda g, y, x: (g * polygamma(x, n=2),), domain="positive")
"""The derivative of digamma."""


def _hypot(b: Builder, x: Value, y: Value) -> Value:
    """Scaled by the larger operand, so that squares do not overflow."""
    big, small = maximum(absolute(x), absolute(y)), minimum(absolute(x), absolute(y))
    ratio = small / where(is_zero(big), zeros_like(big) + 1, big)
    return where(isinf(big), big, big * (1 + ratio * ratio) ** 0.5)


def _hypot_vjp(g: Value, out: Value, x: Value, y: Value) -> tuple:
    return g * (x / out), g * (y / out)


hypot = composite("hypot", _hypot, _hypot_vjp, infer=same_type, domain="pair", batch=batch_elementwise)
