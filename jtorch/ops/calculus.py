"""Differences and integrals of functions that are known by samples."""
from __future__ import annotations

from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import library, reduce
from jtorch.ir.prims.movement import reshape_to, slice_axis
from jtorch.ops.arguments import wrap_dim, wrap_dims
from jtorch.ops.attach import define, expose
from jtorch.ops.joining import joined


@define()
def diff(input: Value, n: int = 1, dim: int = -1, prepend: Value | None = None, append: Value | None = None) -> Value:
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    axis = wrap_dim(dim, input.ndim)
    if n == 0:
        return input
    x = joined([v for v in (prepend, input, append) if v is not None], axis)
    for _ in range(n):
        size = x.shape[axis]
        if size == 0:
            break
        high, low = slice_axis(x, axis, 1, size), slice_axis(x, axis, 0, size - 1)
        x = ew.bitwise_xor(high, low) if x.dtype is dtypes.bool_ else high - low
    return x


# --- integrals -------------------------------------------------------------------------------------------------------

def _double_areas(name: str, y: Value, x: Value | None, dx: Operand, axis: int) -> Value:
    """Twice the areas of the trapezoids between neighbouring samples."""
    if y.dtype is dtypes.bool_ or (x is not None and x.dtype is dtypes.bool_):
        raise RuntimeError(f"{name}: received a bool input for `{'y' if y.dtype is dtypes.bool_ else 'x'}`, but bool "
                           "is not supported")
    size = y.shape[axis]
    pairs = slice_axis(y, axis, 1, size) + slice_axis(y, axis, 0, size - 1 if size else 0)
    if x is None:
        return arith.mul(pairs, dx)
    if x.ndim == 1 and y.ndim > 1:
        if x.shape[0] != size:
            raise RuntimeError(f"{name}: There must be one `x` value for each sample point")
        x = reshape_to(x, tuple([x.shape[0] if a == axis else 1 for a in range(y.ndim)]))
        at = axis
    else:
        at = axis - y.ndim + x.ndim
    return arith.mul(pairs, slice_axis(x, at, 1, x.shape[at]) - slice_axis(x, at, 0, x.shape[at] - 1))


@define("trapezoid", "trapz", method=False)
def trapezoid(y: Value, x: Value | None = None, *, dx: Operand = 1, dim: int = -1) -> Value:
    axis = wrap_dim(dim, y.ndim)
    if x is None and y.dtype.category == dtypes.INT:
        y = ew.cast_to(y, dtypes.int64)
    return arith.div(reduce.sum_(_double_areas("trapezoid", y, x, dx, axis), axes=(axis,)), 2.0)


@define(method=False)
def cumulative_trapezoid(y: Value, x: Value | None = None, *, dx: Operand = 1, dim: int = -1) -> Value:
    axis = wrap_dim(dim, y.ndim)
    areas = _double_areas("cumulative_trapezoid", y, x, dx, axis)
    if areas.dtype.category <= dtypes.INT:
        areas = ew.cast_to(areas, dtypes.int64)
    return arith.div(library.cumsum(areas, axis=axis), 2.0)


# --- derivatives -----------------------------------------------------------------------------------------------------

def _weighted(x: Value, axis: int, start: int, stop: int, weights: tuple[Operand, ...], first: int) -> Value:
    """sum_k weights[k] * x[first + start + k : first + stop + k] along the axis."""
    terms = [arith.mul(slice_axis(x, axis, first + start + k, first + stop + k), w) for k, w in enumerate(weights)]
    total = terms[0]
    for t in terms[1:]:
        total = total + t
    return total


def _uneven(left: Value, right: Value) -> dict[str, tuple[Value, Value, Value]]:
    """Second-order weights of three samples, `left` and `right` of each other: for the derivative at each of them."""
    both, product = left + right, left * right
    return {"first": (-(left * 2 + right) / (left * both), both / product, -left / (right * both)),
            "middle": (-right / (left * both), (right - left) / product, left / (right * both)),
            "last": (right / (left * both), -both / product, (right * 2 + left) / (right * both))}


@define(method=False, function=False)
def _gradient_along(input: Value, axis: int, spacing: Operand | None, places: Value | None, edge_order: int) -> Value:
    n = input.shape[axis]
    x = arith.as_float(input)
    if places is None:
        h: Any = spacing
        middle: tuple = (-0.5, 0.0, 0.5)
        edges: tuple = (((-1.0, 1.0), (-1.0, 1.0)) if edge_order == 1 else
                        ((-1.5, 2.0, -0.5), (0.5, -2.0, 1.5)))
        parts = [_weighted(x, axis, 0, 1, edges[0], 0)]
        if n > 2:
            parts.append(_weighted(x, axis, 0, n - 2, middle, 0))
        parts.append(_weighted(x, axis, 0, 1, edges[1], n - len(edges[1])))
        return arith.div(joined(parts, axis), h)
    shape = tuple([n - 1 if a == axis else 1 for a in range(x.ndim)])
    gaps = reshape_to(slice_axis(places, 0, 1, n) - slice_axis(places, 0, 0, n - 1), shape)

    def gap(start: int, stop: int) -> Value:
        return slice_axis(gaps, axis, start, stop)
    parts = []
    if n > 2:
        parts.append(_weighted(x, axis, 0, n - 2, _uneven(gap(0, n - 2), gap(1, n - 1))["middle"], 0))
    if edge_order == 1:
        ends = [_weighted(x, axis, 0, 1, (-1 / g, 1 / g), at) for g, at in ((gap(0, 1), 0), (gap(n - 2, n - 1), n - 2))]
    else:
        ends = [_weighted(x, axis, 0, 1, _uneven(gap(0, 1), gap(1, 2))["first"], 0),
                _weighted(x, axis, 0, 1, _uneven(gap(n - 3, n - 2), gap(n - 2, n - 1))["last"], n - 3)]
    return joined([ends[0], *parts, ends[1]], axis)


@expose("gradient", method=False)
def gradient(input: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1) -> list[Tensor]:
    """Derivatives along dimensions by central differences; `spacing` is a number, one number or one tensor of places
    for each dimension."""
    dims = tuple(range(input.ndim)) if dim is None else wrap_dims(dim, input.ndim)
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    if spacing is None:
        spacing = 1
    each = list(spacing) if isinstance(spacing, (tuple, list)) else [spacing] * len(dims)
    if len(each) != len(dims):
        raise RuntimeError(f"torch.gradient expected spacing to be unspecified, a scalar, or a list of length "
                           f"{len(dims)}, but got a list of length {len(each)}")
    result = []
    for d, s in zip(dims, each):
        if input.shape[d] < edge_order + 1:
            raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
        if isinstance(s, Tensor) and s.ndim:
            if s.ndim != 1 or s.shape[0] != input.shape[d]:
                raise RuntimeError(f"torch.gradient expected coordinates of dimension {d} to be a vector of "
                                   f"{input.shape[d]} places, but got {list(s.shape)}")
            result.append(_gradient_along(input, d, None, s, edge_order))
        else:
            result.append(_gradient_along(input, d, s, None, edge_order))
    return result
