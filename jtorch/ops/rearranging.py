"""Rearrangements that copy: flips, rolls, repeats, diagonals, and parts written into a copy."""
from __future__ import annotations

from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor, attach
from jtorch.capture.dispatch import evaluate, wrap_result
from jtorch.ir.graph import Value
from jtorch.ir.prims import create, movement
from jtorch.ir.prims import elementwise as ew
from jtorch.ops.arguments import shape_of, wrap_dim, wrap_dims
from jtorch.ops.attach import FUNCTIONS, define, expose, write_out
from jtorch.ops.shape import _slice_function, as_strided, diagonal, reshape, select, transpose
from jtorch.views import assign


def _flip_value(input: Value, dims: Any) -> Value:
    axes = wrap_dims(dims, input.ndim)
    return movement.flip(input, axes=tuple(sorted(axes))) if axes and input.ndim else input


_flip = define(method=False, function=False)(_flip_value)


@expose("flip")
def flip(input: Tensor, *dims: Any, axis: Any = None) -> Tensor:
    if axis is not None:
        dims = (axis,)
    return _flip(input, shape_of(dims))


def _flip_keyword(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    return flip(input, *(args if dims is None else (dims,)))


FUNCTIONS["flip"] = _flip_keyword
attach(flip=_flip_keyword)


@expose("fliplr")
def fliplr(input: Tensor) -> Tensor:
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return _flip(input, (1,))


@expose("flipud")
def flipud(input: Tensor) -> Tensor:
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return _flip(input, (0,))


def _ints(x: Any) -> tuple[int, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


@expose("rot90")
def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    a, b = (wrap_dim(d, input.ndim) for d in dims)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 0:
        return input.clone()
    return _flip(input, (a, b)) if k == 2 else transpose(_flip(input, (b if k == 1 else a,)), a, b)


@define()
def roll(input: Value, shifts: Any, dims: Any = ()) -> Value:
    shifts, dims = _ints(shifts), _ints(dims if dims is not None else ())
    if not shifts:
        raise RuntimeError("`shifts` required")
    if not dims:
        if len(shifts) != 1:
            raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
        return movement.reshape_to(_rolled(movement.reshape_to(input, (input.type.numel,)), 0, shifts[0]), input.shape)
    if len(shifts) != len(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    for d, s in zip(dims, shifts):
        if not input.ndim:
            raise IndexError("Dimension specified as 0 but tensor has no dimensions")
        input = _rolled(input, wrap_dim(d, input.ndim), s)
    return input


def _rolled(v: Value, d: int, shift: int) -> Value:
    n = v.shape[d] if v.ndim else 0
    if n == 0 or shift % n == 0:
        return v
    cut = n - shift % n
    return movement.concatenate(movement.slice_axis(v, d, cut, n), movement.slice_axis(v, d, 0, cut), axis=d)


def _repeat_value(input: Value, repeats: Any) -> Value:
    n = len(repeats)
    if n < input.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    if any(r < 0 for r in repeats):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(repeats)}: {list(repeats)}")
    shape = (1,) * (n - input.ndim) + input.shape
    pairs = tuple([k for s in shape for k in (1, s)])
    full = tuple([k for r, s in zip(repeats, shape) for k in (r, s)])
    v = movement.expand_to(movement.reshape_to(input, pairs), full)
    return movement.reshape_to(v, tuple([r * s for r, s in zip(repeats, shape)]))


_repeat = define(method=False, function=False)(_repeat_value)


@expose("repeat", function=False)
def repeat(self: Tensor, *sizes: Any, repeats: Any = None) -> Tensor:
    return _repeat(self, shape_of(sizes if repeats is None else (repeats,)))


@expose("tile")
def tile(input: Tensor, *dims: Any) -> Tensor:
    given = shape_of(dims)
    return _repeat(input, (1,) * (input.ndim - len(given)) + given)


def _tile_keyword(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    return tile(input, *(args if dims is None else (dims,)))


FUNCTIONS["tile"] = _tile_keyword
attach(tile=_tile_keyword)


@define()
def diag_embed(input: Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Value:
    n = input.ndim + 1
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    length = input.shape[-1]
    size = length + abs(offset)
    zero = create.constant(input.builder, False if input.dtype is dtypes.bool_ else 0, input.dtype)
    lead = input.shape[:-1]
    # a diagonal is every (size + 1)-th place of the flattened matrix
    start = offset if offset >= 0 else -offset * size
    if length:
        tail = size * size - start - ((length - 1) * (size + 1) + 1)
        flat = movement.pad(input, zero, widths=(*[(0, 0, 0)] * len(lead), (start, tail, size)))
    else:
        flat = movement.expand_to(zero, (*lead, size * size))
    v = movement.reshape_to(flat, (*lead, size, size))
    order = [-1] * n
    order[a], order[b] = n - 2, n - 1
    rest = iter(range(n - 2))
    return movement.permute_to(v, tuple([next(rest) if o < 0 else o for o in order]))


@expose("diag")
def diag(input: Tensor, diagonal: int = 0, *, out: Any = None) -> Tensor:
    if input.ndim == 1:
        result = diag_embed(input, diagonal)
    elif input.ndim == 2:
        result = _diagonal(input, diagonal).clone()
    else:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return result if out is None else write_out(evaluate(_identity.function, (result,)), out)


_diagonal = diagonal


@define(method=False, function=False)
def _identity(input: Value) -> Value:
    return input


@expose("diagflat")
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    return diag_embed(reshape(input, -1), offset)


def _sum_to_size(self: Tensor, *size: Any) -> Tensor:
    return wrap_result(evaluate(_sum_to.function, (self, shape_of(size))))


@define(method=False, function=False)
def _sum_to(input: Value, size: Any) -> Value:
    lead = input.ndim - len(size)
    if lead < 0 or any(n != 1 and n != m for n, m in zip(size, input.shape[lead:])):
        raise RuntimeError(f"size {{{list(size)}}} is not expandable to size {{{list(input.shape)}}}.")
    if input.dtype.category <= dtypes.INT and (not size or size != input.shape):
        input = ew.cast_to(input, dtypes.int64)
    return movement.sum_to(input, size)


attach(sum_to_size=_sum_to_size)


def _scatter_into(name: str, place: Any) -> None:
    def function(input: Tensor, src: Tensor, *args: Any, out: Any = None, **kwargs: Any) -> Tensor:
        result = input.clone()
        part = place(result, *args, **kwargs)
        if part.shape != src.shape:
            raise RuntimeError(f"expected src to have a size equal to the {name.split('_')[0]} of self. src size = "
                               f"{list(src.shape)}, {name.split('_')[0]} size = {list(part.shape)}")
        assign(part, evaluate(_identity.function, (src,)))
        return result if out is None else write_out(evaluate(_identity.function, (result,)), out)
    function.__name__ = name
    expose(name)(function)


_scatter_into("select_scatter", select)
_scatter_into("slice_scatter", _slice_function)
_scatter_into("diagonal_scatter", diagonal)
_scatter_into("as_strided_scatter", as_strided)
