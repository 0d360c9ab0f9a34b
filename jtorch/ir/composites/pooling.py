"""Pooling to a given size: window i of an axis of n, pooled to m, is [floor(i * n / m), ceil((i + 1) * n / m))."""
from __future__ import annotations

import math
from math import prod

from jtorch import dtypes
from jtorch.ir.arith import where
from jtorch.ir.composites.define import REQUIRED, composite, mean_over, sum_over
from jtorch.ir.graph import Builder, Shape, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import constant, iota
from jtorch.ir.prims.elementwise import cast_to, expand, floor_divide
from jtorch.ir.prims.indexing import gather, take
from jtorch.ir.prims.movement import permute_to, reshape_to
from jtorch.ir.prims.reduce import argmax
from jtorch.ir.prims.window import max_pool, pick


def _infer(x: Type, output: Shape) -> Type:
    n = len(output)
    if x.ndim < n or any(s == 0 for s in x.shape[x.ndim - n:]):
        raise RuntimeError("Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                           f"{list(x.shape)}")
    return Type(x.dtype, (*x.shape[:x.ndim - n], *output))


def _batch(self: Op, b: Builder, n: int, m: tuple, x: Value, output: Shape) -> Value:
    return self(x, output=output)


def _divides(spatial: Shape, output: Shape) -> bool:
    return all(m and n % m == 0 for n, m in zip(spatial, output))


def _window(b: Builder, n: int, m: int) -> tuple[Value, Value, Value]:
    """(index[m, k], which of them are inside bool[m, k], their number [m]) of the windows of one axis."""
    k = max((-(-(i + 1) * n // m) - i * n // m for i in range(m)), default=1)
    place = b.apply(iota, length=m, dtype=dtypes.int64)
    size, pieces = (constant(b, v, dtypes.int64, (m,)) for v in (n, m))
    start = floor_divide(place * n, pieces)
    stop = floor_divide((place + 1) * n + (m - 1), pieces)
    index = reshape_to(start, (m, 1)) + reshape_to(b.apply(iota, length=k, dtype=dtypes.int64), (1, k))
    inside = index < reshape_to(stop, (m, 1))
    return where(inside, index, expand(reshape_to(size - 1, (m, 1)), (m, k))), inside, stop - start


def _adaptive_avg_pool(b: Builder, x: Value, output: Shape) -> Value:
    lead = x.ndim - len(output)
    if _divides(x.shape[lead:], output):
        split = [s for n, m in zip(x.shape[lead:], output) for s in (m, n // m)]
        return mean_over(reshape_to(x, (*x.shape[:lead], *split)), tuple(range(lead + 1, lead + 2 * len(output), 2)))
    for axis, m in enumerate(output, lead):
        index, inside, size = _window(b, x.shape[axis], m)
        rows = take(x, index, axis=axis)
        mask = reshape_to(inside, (*inside.shape, *[1] * (x.ndim - axis - 1)))
        total = sum_over(where(mask, rows, 0.0), (axis + 1,))
        x = total / expand(reshape_to(cast_to(size, x.dtype), (m, *[1] * (x.ndim - axis - 1))), total.shape)
    return x


adaptive_avg_pool = composite("adaptive_avg_pool", _adaptive_avg_pool, infer=_infer, attrs={"output": REQUIRED},
                              batch=_batch, domain="adaptive")
"""Averages over the last axes, to the sizes `output`."""


def _adaptive_max_pool(b: Builder, x: Value, output: Shape) -> tuple[Value, Value]:
    n = len(output)
    lead = x.ndim - n
    spatial = x.shape[lead:]
    if _divides(spatial, output):
        window = tuple(s // m for s, m in zip(spatial, output))
        ones = (1,) * n
        return max_pool(x, kernel=window, stride=window, padding=(0,) * n, dilation=ones, ceil_mode=False)
    flat = constant(b, 0, dtypes.int64)
    rows = x
    for axis, (s, m) in enumerate(zip(spatial, output)):  # [..., m1, k1, m2, k2, ...]
        index, inside, _ = _window(b, s, m)
        at = lead + 2 * axis
        rows = take(rows, index, axis=at)
        mask = reshape_to(inside, (*inside.shape, *[1] * (rows.ndim - at - 2)))
        rows = where(mask, rows, -math.inf)
        flat = reshape_to(flat, (*flat.shape, 1, 1)) * s + index
    order = (*range(lead), *range(lead, rows.ndim, 2), *range(lead + 1, rows.ndim, 2))
    k = prod(rows.shape[lead + 1::2])
    rows = reshape_to(permute_to(rows, order), (*x.shape[:lead], *output, k))
    places = reshape_to(permute_to(flat, (*range(0, 2 * n, 2), *range(1, 2 * n, 2))), (*output, k))
    best = argmax(rows, axis=rows.ndim - 1)
    chosen = gather(expand(places, rows.shape), reshape_to(best, (*best.shape, 1)), axis=rows.ndim - 1)
    indices = reshape_to(chosen, best.shape)
    return pick(x, indices, n), indices


def _max_infer(x: Type, output: Shape) -> tuple[Type, Type]:
    y = _infer(x, output)
    return y, Type(dtypes.int64, y.shape)


adaptive_max_pool = composite("adaptive_max_pool", _adaptive_max_pool, infer=_max_infer, attrs={"output": REQUIRED},
                              batch=_batch, domain="adaptive")
"""(values, indices): maxima over the last axes, to the sizes `output`; indices are flat in the input's plane."""
