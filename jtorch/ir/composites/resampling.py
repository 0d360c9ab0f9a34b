"""Resampling of images and signals: for each place of the result, which elements are read, and with which weights.

Reading is `sample`'s work; what stands here is the arithmetic of places and weights, in float64 for `interpolate`.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from jtorch import dtypes
from jtorch.ir.arith import maximum, minimum, remainder, where
from jtorch.ir.composites.define import REQUIRED, add_axis, composite, filled, sum_over
from jtorch.ir.graph import Builder, Shape, Type, Value
from jtorch.ir.prims.create import iota
from jtorch.ir.prims.elementwise import abs_, cast_to, floor, round_
from jtorch.ir.prims.movement import reshape_to, slice_axis
from jtorch.ir.prims.sample import sample, sample_input_grad


def _count(b: Builder, n: int, axis: int, ndim: int) -> Value:
    """0, 1, ..., n - 1 along one of `ndim` axes."""
    return reshape_to(b.apply(iota, length=n, dtype=dtypes.int64), tuple(n if a == axis else 1 for a in range(ndim)))


def sample_axis(x: Value, axis: int, index: Value, weight: Value) -> Value:
    """x with m elements along `axis`, the weighted sums of those that index[k, m] names."""
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1:])
    y = sample(reshape_to(x, (1, outer, x.shape[axis], inner)), add_axis(index, 0), add_axis(weight, 0))
    return reshape_to(y, (*x.shape[:axis], index.shape[1], *x.shape[axis + 1:]))


def sample_axis_grad(g: Value, axis: int, index: Value, weight: Value, n: int) -> Value:
    """The derivative of `sample_axis` with respect to x, which has n elements along `axis`."""
    outer, inner = math.prod(g.shape[:axis]), math.prod(g.shape[axis + 1:])
    x = sample_input_grad(reshape_to(g, (1, outer, g.shape[axis], inner)), add_axis(index, 0), add_axis(weight, 0),
                          size=n)
    return reshape_to(x, (*g.shape[:axis], n, *g.shape[axis + 1:]))


# --- interpolate ------------------------------------------------------------------------------------------------------

def ratio_of(n: int, m: int, scale: float | None, align_corners: bool) -> float:
    """Elements of the input per element of the result."""
    if align_corners:
        return (n - 1) / (m - 1) if m > 1 else 0.0
    return 1.0 / scale if scale is not None and scale > 0 else n / m


def _places(b: Builder, m: int, ratio: float, align_corners: bool) -> Value:
    """Where each of m elements of the result lies among those of the input: float64 [1, m]."""
    place = cast_to(_count(b, m, 1, 2), dtypes.float64)
    return place * ratio if align_corners else (place + 0.5) * ratio - 0.5


def _linear(b: Builder, n: int, m: int, ratio: float, align_corners: bool) -> tuple[Value, Value]:
    at = maximum(_places(b, m, ratio, align_corners), 0.0)
    low = minimum(floor(at), float(n - 1))
    tap = _count(b, 2, 0, 2)
    return minimum(cast_to(low, dtypes.int64) + tap, n - 1), where(tap > 0, at - low, 1 - (at - low))


def cubic_weights(t: Value, tap: Value, a: float = -0.75) -> Value:
    """Of the four elements around a place that is `t` behind the second (Keys, 1981)."""
    behind = tap < 2
    outer = where(behind, 1 - tap, tap - 2)
    distance = where(behind, t, 1 - t) + cast_to(outer, t.dtype)
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return where(outer > 0, far, near)


def _cubic(b: Builder, n: int, m: int, ratio: float, align_corners: bool) -> tuple[Value, Value]:
    at = _places(b, m, ratio, align_corners)
    low = floor(at)
    tap = _count(b, 4, 0, 2)
    return minimum(maximum(cast_to(low, dtypes.int64) + (tap - 1), 0), n - 1), cubic_weights(at - low, tap)


def _triangle(x: Value) -> Value:
    return maximum(1.0 - abs_(x), 0.0)


def _keys(x: Value, a: float = -0.5) -> Value:
    x = abs_(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return where(x < 1, near, where(x < 2, far, 0.0))


FILTERS: dict[str, tuple[Callable[[Value], Value], float]] = {"linear": (_triangle, 1.0), "cubic": (_keys, 2.0)}
"""Kernel, and how far it reaches to either side."""


def _filtered(b: Builder, n: int, m: int, ratio: float, kind: str) -> tuple[Value, Value]:
    """The kernel, as wide as the elements that one of the result covers, over what it reaches of the input."""
    kernel, reach = FILTERS[kind]
    wide = max(ratio, 1.0)
    taps = max(min(int(ratio * (i + 0.5) + reach * wide + 0.5), n) - max(int(ratio * (i + 0.5) - reach * wide + 0.5), 0)
               for i in range(m))
    centre = (cast_to(_count(b, m, 1, 2), dtypes.float64) + 0.5) * ratio
    first = maximum(cast_to(centre - reach * wide + 0.5, dtypes.int64), 0)
    place = first + _count(b, taps, 0, 2)
    inside = place < minimum(cast_to(centre + reach * wide + 0.5, dtypes.int64), n)
    weights = where(inside, kernel((cast_to(place, dtypes.float64) + 0.5 - centre) / wide), 0.0)
    return where(inside, place, -1), weights / sum_over(weights, (0,), keep=True)


def _interpolate(b: Builder, x: Value, sizes: Shape, scales: tuple, kind: str, align_corners: bool,
                 antialias: bool) -> Value:
    """Axis by axis: the last one, whose elements are gathered one by one, when there is least to gather."""
    axes = [a for a, (m, scale) in enumerate(zip(sizes, scales), x.ndim - len(sizes))
            if m != x.shape[a] or scale is not None]
    grown = math.prod(sizes[:-1]) > math.prod(x.shape[x.ndim - len(sizes):-1])
    for axis in reversed(axes) if grown else axes:
        i = axis - x.ndim + len(sizes)
        n, m = x.shape[axis], sizes[i]
        ratio = ratio_of(n, m, scales[i], align_corners)
        index, weight = _filtered(b, n, m, ratio, kind) if antialias else \
            (_linear if kind == "linear" else _cubic)(b, n, m, ratio, align_corners)
        x = sample_axis(x, axis, index, cast_to(weight, x.dtype))
    return x


interpolate = composite(
    "interpolate", _interpolate, infer=lambda x, sizes, **_: Type(x.dtype, (*x.shape[:x.ndim - len(sizes)], *sizes)),
    attrs={"sizes": REQUIRED, "scales": REQUIRED, "kind": REQUIRED, "align_corners": REQUIRED, "antialias": REQUIRED},
    domain="interpolate")
"""The last axes resampled to `sizes`; `kind` is 'linear' or 'cubic', a scale is a factor or None."""


# --- grid_sample ------------------------------------------------------------------------------------------------------

def _unnormalised(x: Value, n: int, align_corners: bool) -> Value:
    return (x + 1) / 2 * (n - 1) if align_corners else ((x + 1) * n - 1) / 2


def _reflected(x: Value, low: float, high: float) -> Value:
    if low == high:
        return filled(x, 0.0)
    span = high - low
    rest = remainder(abs_(x - low), 2 * span)
    return where(rest > span, 2 * span - rest, rest) + low


def _clamped(p: Value, n: int) -> Value:
    """Between the first and the last element; at both the gradient is 0, and NaN is at the first, as in PyTorch."""
    return where(p > 0.0, where(p < float(n - 1), p, float(n - 1)), 0.0)


def _bounded(p: Value, n: int, padding_mode: str, align_corners: bool) -> Value:
    if padding_mode == "zeros":
        return p
    if padding_mode == "reflection":
        p = _reflected(p, 0.0, float(n - 1)) if align_corners else _reflected(p, -0.5, n - 0.5)
    return _clamped(p, n)


def _corners(places: Sequence[Value], spatial: Shape, mode: str, padding_mode: str, align_corners: bool) \
        -> tuple[Value, Value]:
    """(index, weight) [N, K, O] of the elements around places [N, O], one tap axis per spatial axis."""
    b, n = places[0].builder, len(spatial)
    taps = {"nearest": 1, "bilinear": 2, "bicubic": 4}[mode]
    index: Any = None
    weight: Any = None
    inside: Any = None
    for a, (p, size) in enumerate(zip(places, spatial)):
        p = reshape_to(p, (p.shape[0], *[1] * n, p.shape[1]))
        tap = _count(b, taps, 1 + a, n + 2)
        if mode == "bicubic":
            low = floor(p)
            at = _bounded(low + cast_to(tap - 1, p.dtype), size, padding_mode, align_corners)
            part = cubic_weights(p - low, tap)
        else:
            p = _bounded(p, size, padding_mode, align_corners)
            if mode == "nearest":
                at, part = round_(p), None
            else:
                low = floor(p)
                at, part = low + cast_to(tap, p.dtype), where(tap > 0, p - low, 1 - (p - low))
        here = (at >= 0.0) & (at <= float(size - 1))
        flat = cast_to(_clamped(at, size), dtypes.int64)
        inside = here if inside is None else inside & here
        index = flat if index is None else index * size + flat
        if part is not None:
            weight = part if weight is None else weight * part
    shape = (places[0].shape[0], taps ** n, places[0].shape[1])
    index = reshape_to(where(inside, index, -1), shape)
    return index, filled(places[0], 1.0, shape) if weight is None else reshape_to(weight, shape)


def _grid_sample(b: Builder, x: Value, grid: Value, mode: str, padding_mode: str, align_corners: bool) -> Value:
    spatial = x.shape[2:]
    n, out = len(spatial), grid.shape[1:-1]
    lines = (x.shape[0], math.prod(out))
    places = [_unnormalised(reshape_to(slice_axis(grid, n + 1, n - 1 - a, n - a), lines), spatial[a], align_corners)
              for a in range(n)]
    index, weight = _corners(places, spatial, mode, padding_mode, align_corners)
    planes = reshape_to(x, (*x.shape[:2], math.prod(spatial), 1))
    return reshape_to(sample(planes, index, weight), (*x.shape[:2], *out))


grid_sample = composite(
    "grid_sample", _grid_sample, infer=lambda x, grid, **_: Type(x.dtype, (*x.shape[:2], *grid.shape[1:-1])),
    attrs={"mode": REQUIRED, "padding_mode": REQUIRED, "align_corners": REQUIRED}, domain="grid_sample")
"""x[N, C, *S] at the places of grid[N, *out, n] in [-1, 1], whose last axis begins with the last of S."""
