"""Reading and writing at places: `x[...]` and masks."""
from __future__ import annotations

import operator
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch._tensor import Tensor, attach, from_array
from jtorch.capture.dispatch import NUMBERS, evaluate
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.graph import Type, Value, contiguous_strides
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import indexing, movement
from jtorch.ir.prims.library import cumsum
from jtorch.ops.arguments import out_of_range
from jtorch.ops.attach import check_apart, define, expose, wrap_public
from jtorch.ops.conversion import copy_, fill_, fill_part
from jtorch.ops.creation import array_from
from jtorch.ops.direct import check_fits, filling, places_written, refuse_misfit, row_written
from jtorch.ops.selection import flat_places, places, selected
from jtorch.ops.shape import _placed, _reshape, alias
from jtorch.views import Memo, assign, make_view, type_name, view_of

# --- what stands in the brackets -------------------------------------------------------------------------------------

_TOO_MANY = "too many indices for tensor of dimension {}"


def _as_index(item: Any) -> Any:
    """A list, array or range in the brackets as a tensor."""
    if isinstance(item, (list, range, np.ndarray)):
        if isinstance(item, list) and not item:
            return from_array(np.empty(0, np.int64))
        array = array_from(list(item) if isinstance(item, range) else item, None)
        if array.size == 0 and array.dtype.kind == "f":
            array = array.astype(np.int64)
        return from_array(array)
    return item


def _consumed(item: Any) -> int:
    """How many dimensions of the tensor an item stands for."""
    if item is None or item is True or item is False:
        return 0
    if isinstance(item, Tensor) and item.dtype in (dtypes.bool_, dtypes.uint8):
        return item.ndim
    return 1


def parse(t: Tensor, index: Any) -> tuple[Tensor, list[tuple[int, Tensor]]]:
    """The part of `t` that integers, slices, None and Ellipsis select, as a view, and the tensors among the items with
    the dimensions of that view at which they stand."""
    items = list(index) if isinstance(index, tuple) else [index]
    if isinstance(index, list) and index and any(isinstance(i, (slice, list, Tensor)) or i is None or i is Ellipsis
                                                 for i in index) and not all(isinstance(i, (list, int)) for i in index):
        items = list(index)
    items = [_as_index(i) for i in items]
    shape = t._type.shape
    used = sum([_consumed(i) for i in items if i is not Ellipsis])
    if used > len(shape):
        if not shape and not isinstance(items[0], (slice, Tensor)):
            _check_int(0, 0, shape)
        raise IndexError(_TOO_MANY.format(len(shape)))
    starts, stops, steps = [0] * len(shape), list(shape), [1] * len(shape)
    kept: list[int] = []  # the view's dimensions: d is one of the tensor's, -1 - d a new one in front of that
    tensors: list[tuple[int, Tensor]] = []
    d = 0
    sliced = False
    for item in items:
        if item is None:
            kept.append(-1 - d)
        elif item is Ellipsis:
            for _ in range(len(shape) - used):
                kept.append(d)
                d += 1
            used = len(shape)
        elif isinstance(item, slice):
            start, stop, step = _slice_bounds(item, shape[d])
            if (start, stop, step) != (0, shape[d], 1):
                starts[d], stops[d], steps[d], sliced = start, max(start, stop), step, True
            kept.append(d)
            d += 1
        elif item is True or item is False:
            tensors.append((len(kept), from_array(np.array([0] if item else [], np.int64))))
            kept.append(-1 - d)
        elif isinstance(item, Tensor):
            found = _scalar_index(item)
            if found is not None:
                starts[d] = _check_int(found, d, shape)
                stops[d], sliced = starts[d] + 1, True
                d += 1
                continue
            tensors.append((len(kept), item))
            for _ in range(_consumed(item)):
                kept.append(d)
                d += 1
            if not _consumed(item):
                kept.append(-1 - d)
        else:
            starts[d] = _check_int(_int_of(item, len(shape)), d, shape)
            stops[d], sliced = starts[d] + 1, True
            d += 1
    kept.extend(range(d, len(shape)))
    return _viewed(t, starts, stops, steps, kept, sliced), tensors


def _int_of(item: Any, ndim: int) -> int:
    try:
        return operator.index(item)
    except TypeError:
        if isinstance(item, str):
            raise TypeError("new(): invalid data type 'str'") from None
        raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid "
                         "indices "
                         f"(got {type(item).__name__})") from None


def _scalar_index(item: Tensor) -> int | None:
    """A 0-d integer tensor is an integer where its value may be looked at."""
    if item.ndim or item.dtype in (dtypes.bool_, dtypes.uint8) or item.dtype.category != dtypes.INT:
        return None
    return None if current.recorder.tracing is not None else int(item.item())


def _check_int(i: int, d: int, shape: tuple[int, ...]) -> int:
    if not shape:
        raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in "
                         "C++ to "
                         "convert a 0-dim tensor to a number")
    n = shape[d]
    if not -n <= i < n:
        raise IndexError(f"index {i} is out of bounds for dimension {d} with size {n}")
    return i % n


def _slice_bounds(s: slice, n: int) -> tuple[int, int, int]:
    step = 1 if s.step is None else operator.index(s.step)
    if step <= 0:
        raise ValueError("step must be greater than zero")
    try:
        return s.indices(n)
    except TypeError:
        start, stop = (None if x is None else operator.index(x) for x in (s.start, s.stop))
        return slice(start, stop, step).indices(n)


def _viewed(t: Tensor, starts: list[int], stops: list[int], steps: list[int], kept: list[int],
            sliced: bool) -> Tensor:
    part = make_view(t, movement.slice_, (tuple(starts), tuple(stops), tuple(steps))) if sliced else t
    if kept == list(range(t.ndim)):
        return part if sliced else alias(t)
    shape, strides = part._type.shape, part.stride()
    result = _reshape(part, tuple([1 if d < 0 else shape[d] for d in kept]))
    old_shape, old_strides = (*t._type.shape, 1), (*t.stride(), 1)
    # a new dimension's stride is what unsqueeze gives before later items are applied
    placed = tuple([strides[d] if d >= 0 else old_shape[-1 - d] * old_strides[-1 - d] for d in kept])
    return _placed(result, placed, part.storage_offset())


_row_memo: dict[tuple, tuple] = {}


def _row(t: Tensor, i: int) -> Tensor:
    """`t[i]`, the commonest index, without the general case's detours."""
    n = t._type.shape[0]
    if not 0 <= i < n:
        i = _check_int(i, 0, t._type.shape)
    key = t._type, t._geometry
    found = _row_memo.get(key)
    if found is None:
        shape, strides, offset = t._type.shape, t.stride(), t.storage_offset()
        rest = shape[1:]
        dense = strides[1:] == contiguous_strides(rest)
        if len(_row_memo) > 10_000:
            _row_memo.clear()
        found = _row_memo[key] = (Type(t.dtype, rest), strides[0], strides[1:], offset, dense, (0,) * len(rest), rest,
                                  (1,) * len(shape), (rest,))
    kind, step, strides, offset, dense, starts, stops, ones, rest = found
    operations = (movement.slice_, ((i, *starts), (i + 1, *stops), ones)), (movement.reshape, rest)
    offset += i * step
    return view_of(t, kind, operations, None if dense and not offset else (strides, offset))


_parts = Memo(anywhere=True)


def _part(t: Tensor, index: Any) -> Tensor | None:
    """The view that integers, slices of integers, None and Ellipsis select, remembered for the next time; None where
    other things stand in the brackets."""
    key: list[Any] = [t._type, t._geometry and t._geometry[0]]
    for item in index if type(index) is tuple else (index,):
        if type(item) is slice:
            item = item.start, item.stop, item.step
            for bound in item:
                if bound is not None and type(bound) is not int:
                    return None
        elif type(item) is not int and item is not None and item is not Ellipsis:
            return None
        key.append(item)
    packed = tuple(key)
    found = _parts.again(t, packed)
    return _parts.note(t, packed, parse(t, index)[0]) if found is None else found


# --- advanced indices ------------------------------------------------------------------------------------------------

def _check_index_dtype(x: Tensor) -> None:
    if x.dtype not in (dtypes.int64, dtypes.int32, dtypes.bool_, dtypes.uint8):
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")


def expanded(part: Tensor, tensors: list[tuple[int, Tensor]]) -> list[Tensor | None]:
    """One entry per dimension of `part`: the integer tensor that picks there; masks become their found positions."""
    entries: list[Tensor | None] = [None] * part.ndim
    for d, x in tensors:
        _check_index_dtype(x)
        if x.dtype in (dtypes.bool_, dtypes.uint8):
            for i, n in enumerate(x.shape):
                if part.shape[d + i] != n:
                    raise IndexError(f"The shape of the mask {list(x.shape)} at index {i} does not match the shape "
                                     "of the "
                                     f"indexed tensor {list(part.shape)} at index {d + i}")
            entries[d:d + max(x.ndim, 1)] = places(x)
        else:
            check_bounds(x, part.shape[d], d)
            entries[d] = x
    return entries


def check_bounds(x: Tensor, size: int, d: int) -> None:
    """IndexError now where the indices are at hand; otherwise the kernel finds it."""
    bad = out_of_range(x, -size, size)
    if bad is not None:
        raise IndexError(f"index {bad} is out of bounds for dimension {d} with size {size}")


def _broadcast_indices(indices: list[Value]) -> list[Value]:
    try:
        return list(arith.broadcast([ew.cast_to(i, dtypes.int64) for i in indices]))
    except RuntimeError:
        shapes = ", ".join(str(list(i.shape)) for i in indices)
        raise IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                         f"{shapes}") from None


def _flat_index(x: Value, entries: tuple[Value | None, ...]) -> tuple[Value, Value, int, tuple[int, ...]]:
    """(x with its indexed dimensions merged into one, the index into that, its place, the permutation)."""
    dims = [d for d, e in enumerate(entries) if e is not None]
    indices = _broadcast_indices([e for e in entries if e is not None])
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    order = tuple(range(x.ndim)) if adjacent else (*dims, *[d for d in range(x.ndim) if d not in dims])
    axis = dims[0] if adjacent else 0
    x = movement.permute_to(x, order)
    if len(dims) == 1:
        return x, indices[0], axis, order
    sizes = x.shape[axis:axis + len(dims)]
    total = 1
    for n in sizes:
        total *= n
    flat: Any = None
    inside: Any = None
    for i, n in zip(indices, sizes):
        here = ew.bitwise_and(arith.ge(i, -n), arith.lt(i, n))
        inside = here if inside is None else ew.bitwise_and(inside, here)
        place = arith.where(i < 0, i + n, i)
        flat = place if flat is None else flat * n + place
    flat = arith.where(inside, flat, total)
    merged = movement.reshape_to(x, (*x.shape[:axis], total, *x.shape[axis + len(dims):]))
    return merged, flat, axis, order


def _index_value(input: Value, entries: tuple[Value | None, ...]) -> Value:
    merged, flat, axis, _ = _flat_index(input, entries)
    return indexing.take(merged, flat, axis=axis)


_index = define(method=False, function=False)(_index_value)


def _index_put_value(input: Value, entries: tuple[Value | None, ...], values: Operand, accumulate: bool) -> Value:
    merged, flat, axis, order = _flat_index(input, entries)
    shape = (*merged.shape[:axis], *flat.shape, *merged.shape[axis + 1:])
    src = arith.as_value(input.builder, values, input.dtype)
    while src.ndim > len(shape) and src.shape[0] == 1:
        src = movement.reshape_to(src, src.shape[1:])
    if src.ndim > len(shape) or any(n not in (1, m) for n, m in zip(reversed(src.shape), reversed(shape))):
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(src.shape)} cannot be broadcast to indexing "
                           "result "
                           f"of shape {list(shape)}")
    written = (indexing.put_add if accumulate else indexing.put)(merged, flat, movement.expand_to(src, shape),
                                                                 axis=axis)
    moved = movement.reshape_to(written, tuple([input.shape[p] for p in order]))
    return movement.permute_to(moved, movement.inverse_permutation(order))


_put_at = define(method=False, function=False)(_index_put_value)


def _masked_value(input: Value, mask: Value, values: Operand) -> Value:
    src = arith.as_value(input.builder, values, input.dtype)
    wide = movement.expand_to(mask, input.shape)
    return ew.where(wide, movement.expand_to(src, input.shape), input)


_masked = define(method=False, function=False)(_masked_value)


def _leading(t: Tensor, index: Any) -> tuple[Tensor | None, ...] | None:
    """The entries for integer tensors in the brackets and nothing else, the commonest of advanced indices."""
    items = index if type(index) is tuple else (index,)
    shape = t._type.shape
    if not items or len(items) > len(shape):
        return None
    for x in items:
        if not isinstance(x, Tensor) or x._type.dtype is not dtypes.int64 or not x._type.shape:
            return None
    for d, x in enumerate(items):
        n, known = shape[d], x._storage.cell.range if x._view is None else None
        if known is None or known[0] < -n or known[1] >= n:
            check_bounds(x, n, d)
    return (*items, *[None] * (len(shape) - len(items)))


def _one_mask(part: Tensor, tensors: list[tuple[int, Tensor]]) -> tuple[int, Tensor] | None:
    return tensors[0] if len(tensors) == 1 and tensors[0][1].dtype in (dtypes.bool_, dtypes.uint8) else None


def getitem(self: Tensor, index: Any) -> Tensor:
    if type(index) is int and self._type.shape:
        return _row(self, index)
    found = _part(self, index)
    if found is not None:
        return found
    entries = _leading(self, index)
    if entries is not None:
        return _index(self, entries)
    if isinstance(index, Tensor) and index._type.dtype is dtypes.bool_:
        mask, shape = index._type.shape, self._type.shape
        if mask and mask == shape[:len(mask)]:
            found = selected(self, index)
            if found is not None:
                return found
            if mask == shape:
                return _index(self.reshape(-1), (flat_places(index),))
    part, tensors = parse(self, index)
    if not tensors:
        return part
    return _index(part, tuple(expanded(part, tensors)))


_ASSIGNED = (Tensor, *NUMBERS)


def setitem(self: Tensor, index: Any, value: Any) -> None:
    if type(index) is int and row_written(self, index, value):
        return
    found = _row(self, index) if type(index) is int and self._type.shape else _part(self, index)
    entries = _leading(self, index) if found is None else None
    part, tensors = (found, []) if found is not None else (self, []) if entries is not None else parse(self, index)
    if not isinstance(value, _ASSIGNED):
        if isinstance(value, np.generic):
            value = value.item()
        elif isinstance(value, np.ndarray) or hasattr(value, "__array__") or isinstance(value, (list, tuple)):
            if isinstance(value, (list, tuple)):
                raise TypeError(f"can't assign a {type(value).__name__} to a torch.{type_name(self.dtype)}Tensor")
            value = from_array(np.array(value, self.dtype.numpy))
        else:
            raise TypeError(f"can't assign a {type(value).__name__} to a torch.{type_name(self.dtype)}Tensor")
    if not tensors and entries is None:
        if isinstance(value, Tensor):
            shape, wanted = value._type.shape, part._type.shape
            while len(shape) > len(wanted) and shape[0] == 1:
                shape = shape[1:]
            if shape != wanted:
                value = (value if len(shape) == value.ndim else value.reshape(shape)).expand(wanted)
            elif len(shape) < value.ndim:
                value = value.reshape(shape)
            copy_(part, value)
        else:
            fill_part(part, value)
        return
    one = _one_mask(part, tensors)
    if one is not None and _fits_masked(part, one, value):
        d, mask = one
        _check_mask(part, d, mask)
        if mask.dtype is dtypes.uint8:
            mask = mask.bool()
        mask = mask.reshape((1,) * d + tuple(mask.shape) + (1,) * (part.ndim - d - mask.ndim))
        assign(part, evaluate(_masked.function, (part, mask, value)))
        return
    entries = entries or tuple(expanded(part, tensors))
    if not places_written(part, entries, value):
        check_fits(filling(part.dtype), value)
        assign(part, evaluate(_put_at.function, (part, entries, value, False)))


def _check_mask(part: Tensor, d: int, mask: Tensor) -> None:
    for i, n in enumerate(mask.shape):
        if part.shape[d + i] != n:
            raise IndexError(f"The shape of the mask {list(mask.shape)} at index {i} does not match the shape of the "
                             f"indexed tensor {list(part.shape)} at index {d + i}")


def _fits_masked(part: Tensor, one: tuple[int, Tensor], value: Any) -> bool:
    """Can `part[mask] = value` be a choice between two tensors? Yes where the value does not depend on the place."""
    d, mask = one
    if mask.ndim == 0:
        return False
    if not isinstance(value, Tensor):
        return True
    rest = part.shape[d + mask.ndim:]
    if value.ndim > len(rest):
        return False
    return all(n in (1, m) for n, m in zip(reversed(value.shape), reversed(rest)))


attach(__getitem__=getitem, __setitem__=setitem)


def _delitem(self: Tensor, index: Any) -> None:
    raise TypeError("Tensor does not support deleting items")


attach(__delitem__=_delitem)


# --- index_put, masks ------------------------------------------------------------------------------------------------

def _entries(input: Tensor, indices: Any) -> tuple[Tensor | None, ...]:
    found = _leading(input, tuple(indices))
    if found is not None:
        return found
    items = [i if i is None else _as_index(i) for i in indices]
    placed, d = [], 0
    for x in items:
        if x is not None:
            placed.append((d, x))
        d += 1 if x is None else max(_consumed(x), 1)
    if d > input.ndim:
        raise IndexError(_TOO_MANY.format(input.ndim))
    return tuple(expanded(input, placed))


@expose("index_put")
def index_put(input: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    return _put_at(input, _entries(input, indices), _valued(input, values), accumulate)


@expose("index_put_")
def index_put_(input: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    entries, values = _entries(input, indices), _valued(input, values)
    if not accumulate and places_written(input, entries, values):
        return input
    return assign(input, evaluate(_put_at.function, (input, entries, values, accumulate)))


def _valued(input: Tensor, values: Any) -> Any:
    if isinstance(values, Tensor) and values.dtype is not input.dtype:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{type_name(input.dtype)} for "
                           f"the destination and {type_name(values.dtype)} for the source.")
    return values


def _check_mask_dtype(mask: Value, name: str) -> Value:
    if mask.dtype is dtypes.uint8:
        return ew.cast_to(mask, dtypes.bool_)
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"{name} only supports boolean masks, but got mask with dtype {type_name(mask.dtype)}"
                           if name == "masked_fill_" else f"{name}: expected BoolTensor for mask")
    return mask


@define(inplace=True, out=False)
def masked_fill(input: Value, mask: Value, value: Operand) -> Value:
    mask = _check_mask_dtype(mask, "masked_fill_")
    if isinstance(value, Value) and value.ndim:
        raise RuntimeError("masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                           f"{value.ndim} dimension(s).")
    if isinstance(value, Value) and value.dtype.is_complex and input.dtype.category in (dtypes.INT, dtypes.FLOAT):
        raise dtypes.no_place(input.dtype)
    shape = arith.broadcast_shapes(input.shape, mask.shape)
    v = movement.expand_to(arith.as_value(input.builder, value, input.dtype), shape)
    return ew.where(movement.expand_to(mask, shape), v, movement.expand_to(input, shape))


wrap_public(refuse_misfit, "masked_fill", "masked_fill_")


@expose("masked_select")
def masked_select(input: Tensor, mask: Tensor, *, out: Any = None) -> Tensor:
    if mask.dtype not in (dtypes.bool_, dtypes.uint8):
        raise RuntimeError("masked_select: expected BoolTensor or ByteTensor for mask")
    if out is not None:
        check_apart((input, mask), out)
        if out.dtype is not input.dtype:
            raise RuntimeError(f"masked_select(): self and result must have the same scalar type, but got "
                               f"{input.dtype} and {out.dtype}")
    shape = arith.broadcast_shapes(input._type.shape, mask._type.shape)
    parts = [t if t._type.shape == shape else t.expand(shape) for t in (input, mask)]
    result = getitem(*parts) if shape else input.reshape(1)[mask.reshape(1)]
    return result if out is None else out.resize_(result.shape).copy_(result)


def _masked_scatter_value(input: Value, mask: Value, source: Value) -> Value:
    if source.dtype is not input.dtype:
        raise RuntimeError("masked_scatter: expected self and source to have same dtypes but got "
                           f"{type_name(input.dtype)} and {type_name(source.dtype)}")
    shape = arith.broadcast_shapes(input.shape, mask.shape)
    n = 1
    for s in shape:
        n *= s
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    wide = movement.reshape_to(movement.expand_to(mask, shape), (n,))
    if n == 0:
        return movement.expand_to(input, shape)
    number = cumsum(ew.cast_to(wide, dtypes.int64), axis=0) - 1
    flat = movement.reshape_to(source, (source.type.numel,))
    picked = indexing.take(flat, arith.where(wide, number, 0), axis=0) if source.type.numel else None
    x = movement.reshape_to(movement.expand_to(input, shape), (n,))
    return movement.reshape_to(ew.where(wide, picked, x) if picked is not None else x, shape)


_masked_scatter_value.__name__ = "masked_scatter"
define(inplace=True, out=False)(_masked_scatter_value)


@expose("fill_diagonal_", function=False)
def fill_diagonal_(self: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    if self.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    if self.ndim > 2 and len(set(self.shape)) != 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    if self.ndim == 2:
        rows, columns = self.shape
        fill_(self.diagonal(), fill_value)
        if wrap:
            for start in range(columns + 1, rows, columns + 1):
                fill_(self[start:].diagonal(), fill_value)
        return self
    step = sum(self.stride())
    fill_(self.as_strided((self.shape[0],), (step,)), fill_value)
    return self


__all__ = ["getitem", "setitem"]
