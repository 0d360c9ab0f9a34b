"""Random numbers as values: `rand(builder, state, shape, ...) -> (values, new_state)`.

Each function takes raw draws of the generator and does arithmetic on them, so the numbers fuse with what uses them. The
algorithms are those of `jtorch/ir/random_streams.py`, step for step; elements are filled in the order of memory.
A bound may be a Python number or a 0-d Value.
"""
from __future__ import annotations

import math
from math import prod
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.dtypes import dtype
from jtorch.ir import random_streams as streams
from jtorch.ir.arith import where
from jtorch.ir.graph import Builder, Shape, Value
from jtorch.ir.primitive import Op, op
from jtorch.ir.prims.create import constant, iota
from jtorch.ir.prims.elementwise import cast_to, ceil, cos, eq, exp, expand, log, log1p, sin, sqrt, tan
from jtorch.ir.prims.movement import concatenate, reshape_to, slice_axis
from jtorch.ir.prims.random import mt19937, scalar_normals, shuffle, wide_integers

Result = tuple[Value, Value]
Number = Value | float


def draw(state: Value, count: int) -> tuple[Value, Value]:
    return mt19937(state, count=count)


def _masked(raw: Value, mask: int) -> Value:
    """The low bits of a draw, as a number that all conversions know."""
    whole = cast_to(raw, dtypes.int32)
    return op("bitwise_and")(whole, constant(raw.builder, mask, dtypes.int32, raw.shape))


def unit_from_raw(raw: Value, wide: bool) -> Value:
    """Uniform in [0, 1): float32 of 24 bits of a draw, or float64 of 53 bits of a pair of them, high word first."""
    if not wide:
        return cast_to(_masked(raw, (1 << 24) - 1), dtypes.float32) * 2.0**-24
    pairs = reshape_to(raw, (raw.shape[0] // 2, 2))
    high, low = (reshape_to(slice_axis(pairs, 1, i, i + 1), (raw.shape[0] // 2,)) for i in (0, 1))
    return (cast_to(_masked(high, (1 << 21) - 1), dtypes.float64) * 2.0**-21 + cast_to(low, dtypes.float64) * 2.0**-53)


def _unit(state: Value, n: int, wide: bool) -> Result:
    raw, state = draw(state, 2 * n if wide else n)
    return unit_from_raw(raw, wide), state


def _as(x: Number, like: Value) -> Number:
    return cast_to(x, like.dtype) if isinstance(x, Value) else float(like.dtype.numpy.type(x))


def uniform(b: Builder, state: Value, shape: Shape, dtype: dtype, low: Number = 0.0, high: Number = 1.0) -> Result:
    """`uniform_(low, high)`. A value that rounds up to `high` becomes `low`."""
    unit, state = _unit(state, prod(shape), dtype is dtypes.float64)
    if (low, high) == (0.0, 1.0):
        values = cast_to(unit, dtype)
        if dtype in (dtypes.float16, dtypes.bfloat16):
            values = where(values >= 1.0, 0.0, values)
        return reshape_to(values, shape), state
    start, stop = _as(low, unit), _as(high, unit)
    span = stop - start
    if not isinstance(span, Value):
        span = float(unit.dtype.numpy.type(span))
    double = cast_to(unit, dtypes.float64)
    wide_span, wide_start = (cast_to(v, dtypes.float64) if isinstance(v, Value) else v for v in (span, start))
    values = cast_to(cast_to(double * wide_span + wide_start, unit.dtype), dtype)
    top = cast_to(high, dtype) if isinstance(high, Value) else constant(b, float(high), dtype)
    values = where(eq(values, expand(top, values.shape)), _as(low, values), values)
    return reshape_to(values, shape), state


def rand(b: Builder, state: Value, shape: Shape, dtype: dtype) -> Result:
    """`torch.rand`."""
    return uniform(b, state, shape, dtype)


def _in_double(function: Op, x: Value) -> Value:
    """A function of float64 rounded once: the interpreter's and a kernel's give the same number."""
    return cast_to(function(cast_to(x, dtypes.float64)), x.dtype)


def _box_muller(unit: Value, mean: Number, std: Number) -> Value:
    """Blocks of 16: the first 8 are radii, the last 8 angles."""
    block = streams.BLOCK
    pairs = reshape_to(unit, (unit.shape[0] // block, 2, block // 2))
    radius = sqrt(_in_double(log, 1.0 - slice_axis(pairs, 1, 0, 1)) * -2.0)
    theta = slice_axis(pairs, 1, 1, 2) * float(unit.dtype.numpy.type(2.0 * math.pi))
    samples = concatenate(radius * _in_double(cos, theta), radius * _in_double(sin, theta), axis=1)
    shifted = _affine(cast_to(samples, dtypes.float64), _as(mean, unit), _as(std, unit))  # fused in PyTorch
    return reshape_to(cast_to(shifted, unit.dtype), unit.shape)


def _affine(samples: Value, mean: Number, std: Number) -> Value:
    return samples * _as(std, samples) + _as(mean, samples)


def normal(b: Builder, state: Value, shape: Shape, dtype: dtype, mean: Number = 0.0, std: Number = 1.0,
           contiguous: bool = True) -> Result:
    """`normal_(mean, std)`; with the defaults `randn`. The last 16 are drawn anew where 16 does not divide the size."""
    n = prod(shape)
    if not streams.normal_is_blocked(n, contiguous):
        samples, state = scalar_normals(state, count=n)
        return reshape_to(cast_to(_affine(samples, mean, std), dtype), shape), state
    raw, state = draw(state, streams.normal_blocked_draws(n, dtype.numpy))
    unit = unit_from_raw(raw, dtype is dtypes.float64)
    block = streams.BLOCK
    whole = n - n % block
    values = _box_muller(slice_axis(unit, 0, 0, whole), mean, std)
    if n % block:
        last = _box_muller(slice_axis(unit, 0, unit.shape[0] - block, unit.shape[0]), mean, std)
        values = concatenate(slice_axis(values, 0, 0, n - block), last, axis=0)
    return reshape_to(cast_to(values, dtype), shape), state


def randn(b: Builder, state: Value, shape: Shape, dtype: dtype) -> Result:
    """`torch.randn`."""
    return normal(b, state, shape, dtype)


def log_normal(b: Builder, state: Value, shape: Shape, dtype: dtype, mean: Number = 1.0, std: Number = 2.0) -> Result:
    samples, state = scalar_normals(state, count=prod(shape))
    return reshape_to(cast_to(exp(_affine(samples, mean, std)), dtype), shape), state


def bernoulli(b: Builder, state: Value, shape: Shape, p: Number, dtype: dtype) -> Result:
    """`bernoulli(p)` for probabilities of that shape, `bernoulli_(p)` for a number (a float or a 0-d float64 Value)."""
    per_element = isinstance(p, Value) and p.shape == tuple(shape) and not (p.ndim == 0 and p.dtype is dtypes.float64)
    wide = not per_element or p.dtype is dtypes.float64  # type: ignore[union-attr]
    unit, state = _unit(state, prod(shape), wide)
    limit: Any = p
    if isinstance(p, Value):
        limit = cast_to(p, unit.dtype)
        limit = reshape_to(limit, unit.shape) if per_element else expand(limit, unit.shape)
    return reshape_to(cast_to(unit < limit, dtype), shape), state


def _doubles(state: Value, shape: Shape) -> Result:
    return _unit(state, prod(shape), True)


def exponential(b: Builder, state: Value, shape: Shape, dtype: dtype, rate: float = 1.0) -> Result:
    unit, state = _doubles(state, shape)
    return reshape_to(cast_to(log1p(-unit) * (-1.0 / rate), dtype), shape), state


def cauchy(b: Builder, state: Value, shape: Shape, dtype: dtype, median: float = 0.0, sigma: float = 1.0) -> Result:
    unit, state = _doubles(state, shape)
    return reshape_to(cast_to(tan((unit - 0.5) * math.pi) * sigma + median, dtype), shape), state


def geometric(b: Builder, state: Value, shape: Shape, dtype: dtype, p: float) -> Result:
    """Trials up to and including the first success."""
    unit, state = _doubles(state, shape)
    return reshape_to(cast_to(ceil(log(unit) / float(np.log1p(-p))), dtype), shape), state


def _integers(raw: Value, low: int, span: int, pairs: bool) -> Value:
    if pairs:
        return wide_integers(raw, low=low, span=span)
    whole = cast_to(raw, dtypes.int64)
    if span < 1 << 32:
        whole = op("remainder")(whole, constant(raw.builder, span, dtypes.int64, whole.shape))
    return whole + low if low else whole


def randint(b: Builder, state: Value, shape: Shape, low: int, high: int, dtype: dtype = dtypes.int64) -> Result:
    """`torch.randint(low, high, shape)`."""
    raw, state = draw(state, streams.randint_draws(prod(shape), high - low))
    values = _integers(raw, low, high - low, high - low >= streams.WIDE_RANGE)
    return reshape_to(cast_to(values, dtype), shape), state


def random(b: Builder, state: Value, shape: Shape, dtype: dtype) -> Result:
    """`random_()` without bounds."""
    raw, state = draw(state, streams.random_draws(prod(shape), dtype.numpy))
    values = _integers(raw, 0, streams.random_span(dtype.numpy), dtype in (dtypes.int64, dtypes.float64))
    return reshape_to(cast_to(values, dtype), shape), state


def randperm(b: Builder, state: Value, n: int, dtype: dtype = dtypes.int64) -> Result:
    """`torch.randperm`: place i is swapped with one of those from i on."""
    raw, state = draw(state, streams.randperm_draws(n))
    ahead = cast_to(raw, dtypes.int64)
    remaining = n - b.apply(iota, length=raw.shape[0], dtype=dtypes.int64)
    return cast_to(shuffle(op("remainder")(ahead, remaining), length=n), dtype), state


def multinomial(b: Builder, state: Value, weights: Value, samples: int, replacement: bool) -> Result:
    """`torch.multinomial` on (rows, categories): int64 (rows, samples). A race of exponentials, or the inverse of the
    distribution function where several samples are drawn with replacement."""
    rows, categories = weights.shape
    if streams.multinomial_is_race(samples, replacement):
        times, state = exponential(b, state, weights.shape, weights.dtype)
        _, order = op("sort")(weights / times, axis=1, descending=True, stable=True)
        return slice_axis(order, 1, 0, samples), state
    real = dtypes.float32 if weights.dtype.itemsize == 2 else weights.dtype
    totals = op("cumsum")(cast_to(weights, real), axis=1)
    totals = cast_to(totals / expand(slice_axis(totals, 1, categories - 1, categories), totals.shape), dtypes.float64)
    ones = constant(b, 1.0, dtypes.float64, (rows, 1))
    totals = concatenate(slice_axis(totals, 1, 0, categories - 1), ones, axis=1)
    unit, state = _unit(state, rows * samples, True)
    return op("searchsorted")(totals, reshape_to(unit, (rows, samples)), right=False), state


def keep_mask(raw: Value, keep: float, shape: Shape) -> Value:
    """Which elements a dropout keeps: `bernoulli_(keep)` of raw draws, two for each."""
    return reshape_to(unit_from_raw(raw, True) < keep, shape)
