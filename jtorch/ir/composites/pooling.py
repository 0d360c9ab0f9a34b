"""Pooling to a given size."""
from __future__ import annotations

from math import prod

from jtorch import dtypes
from jtorch.ir.arith import where
from jtorch.ir.composites.define import REQUIRED, add_axis, along, composite, filled, mean_over
from jtorch.ir.composites.resampling import sample_axis, sample_axis_grad
from jtorch.ir.graph import Builder, Shape, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims import window
from jtorch.ir.prims.create import constant, iota
from jtorch.ir.prims.elementwise import cast_to, expand, floor_divide
from jtorch.ir.prims.movement import concatenate, reshape_to, slice_axis


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


def _alike(spatial: Shape, output: Shape) -> dict | None:
    """Attributes of the `avg_pool` that has the same windows, where they are alike, small and several."""
    sizes = tuple(n // m if m else 0 for n, m in zip(spatial, output))
    if not _divides(spatial, output) or prod(output) == 1 or prod(sizes) > SMALL:
        return None
    return {"kernel": sizes, "stride": sizes, "padding": (0,) * len(sizes), "ceil_mode": False,
            "count_include_pad": True, "divisor_override": None}


def _places(b: Builder, n: int, m: int) -> tuple[Value, Value]:
    """(index[k, m], -1 where a window has fewer elements than k; their number [m]) of the windows of one axis."""
    k = max([stop - start for start, stop in window.spans(n, m)], default=1)
    place = b.apply(iota, length=m, dtype=dtypes.int64)
    pieces = constant(b, m, dtypes.int64, (m,))
    start = floor_divide(place * n, pieces)
    stop = floor_divide((place + 1) * n + (m - 1), pieces)
    index = reshape_to(start, (1, m)) + reshape_to(b.apply(iota, length=k, dtype=dtypes.int64), (k, 1))
    return where(index < reshape_to(stop, (1, m)), index, -1), stop - start


SMALL = 32
"""Elements of a window up to which equal windows are left to the kernel of `avg_pool`."""

LONG = 16
"""Elements of a window from which on the few windows of an axis are summed one by one, as slices."""


def _is_few_long(n: int, m: int) -> bool:
    return n > LONG * m and 0 < m <= 2 * LONG


def _spread(share: Value, axis: int, n: int) -> Value:
    """Each element of `share` at all n places of its window. Neighbours overlap in one place at most, where both are
    added."""
    m = share.shape[axis]
    spans = [*window.spans(n, m), (n, n)]
    both = slice_axis(share, axis, 0, m - 1) + slice_axis(share, axis, 1, m) if m > 1 else share
    parts, at = [], 0
    for j, ((_, stop), (following, _)) in enumerate(zip(spans, spans[1:])):
        alone = slice_axis(share, axis, j, j + 1)
        parts.append(expand(alone, (*share.shape[:axis], following - at, *share.shape[axis + 1:])))
        at = max(stop, following)
        if at > following:
            parts.append(slice_axis(both, axis, j, j + 1))
    return concatenate(*parts, axis=axis)


def _adaptive_avg_pool(b: Builder, x: Value, output: Shape) -> Value:
    lead = x.ndim - len(output)
    alike = _alike(x.shape[lead:], output)
    if alike:
        return window.avg_pool(x, **alike)
    if _divides(x.shape[lead:], output):
        split = [s for n, m in zip(x.shape[lead:], output) for s in (m, n // m)]
        return mean_over(reshape_to(x, (*x.shape[:lead], *split)), tuple(range(lead + 1, lead + 2 * len(output), 2)))
    for axis, m in enumerate(output, lead):
        n = x.shape[axis]
        if _is_few_long(n, m):
            parts = [mean_over(slice_axis(x, axis, *ends), (axis,)) for ends in window.spans(n, m)]
            x = concatenate(*[add_axis(v, axis) for v in parts], axis=axis) if m > 1 else add_axis(parts[0], axis)
            continue
        index, size = _places(b, n, m)
        total = sample_axis(x, axis, index, filled(x, 1.0, index.shape))
        x = total / expand(along(cast_to(size, x.dtype), axis, x.ndim), total.shape)
    return x


def _adaptive_avg_pool_vjp(g: Value, y: Value, x: Value, output: Shape) -> tuple:
    lead = x.ndim - len(output)
    spatial = x.shape[lead:]
    alike = _alike(spatial, output)
    if alike:
        return (window.avg_pool_grad(g, input_spatial=spatial, **alike),)
    if _divides(spatial, output):
        pairs = [(m, n // m) for n, m in zip(spatial, output)]
        thin = reshape_to(g / prod(k for _, k in pairs), (*x.shape[:lead], *[s for m, _ in pairs for s in (m, 1)]))
        return (reshape_to(expand(thin, (*x.shape[:lead], *[s for pair in pairs for s in pair])), x.shape),)
    for axis, m in reversed(list(enumerate(output, lead))):
        n = x.shape[axis]
        index, size = _places(g.builder, n, m)
        share = g / expand(along(cast_to(size, g.dtype), axis, g.ndim), g.shape)
        g = (_spread(share, axis, n) if _is_few_long(n, m)
             else sample_axis_grad(share, axis, index, filled(g, 1.0, index.shape), n))
    return (g,)


adaptive_avg_pool = composite("adaptive_avg_pool", _adaptive_avg_pool, _adaptive_avg_pool_vjp, infer=_infer,
                              attrs={"output": REQUIRED}, batch=_batch, domain="adaptive")
"""Averages over the last axes, to the sizes `output`, of the windows that `adaptive_max_pool` has."""


def adaptive_max_pool(x: Value, output: Shape) -> tuple[Value, Value]:
    """(values, indices) of `window.adaptive_max_pool`, or of `max_pool` where the windows are all alike."""
    n = len(output)
    spatial = x.shape[x.ndim - n:]
    if 0 in spatial or not _divides(spatial, output):
        return window.adaptive_max_pool(x, output=output)
    sizes = tuple(s // m for s, m in zip(spatial, output))
    return window.max_pool(x, kernel=sizes, stride=sizes, padding=(0,) * n, dilation=(1,) * n, ceil_mode=False)
