"""Several tensors as one: `cat`, `stack` and their relatives, grids and blocks."""
from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from ctypes import memmove
from operator import attrgetter
from typing import Any

import numpy as np

from jtorch._tensor import Tensor, from_array, from_buffer, wrap
from jtorch.capture import alike, observe
from jtorch.capture.record import current, is_data
from jtorch.ir import arith
from jtorch.ir.graph import Type, Value
from jtorch.ir.prims import create, movement
from jtorch.ir.prims.elementwise import cast_to
from jtorch.ops.arguments import wrap_dim
from jtorch.ops.attach import FUNCTIONS, define, expose
from jtorch.ops.creation import places_of_rows
from jtorch.ops.shape import alias, expand, reshape, unsqueeze
from jtorch.runtime.memory import allocator
from jtorch.storage import ArrayStorage


def joined(values: Sequence[Value], axis: int) -> Value:
    return movement.concatenate(*values, axis=axis) if len(values) > 1 else values[0]


@define("cat", "concat", "concatenate", method=False, out="apart")
def cat(tensors: tuple[Value, ...], dim: int = 0) -> Value:
    if not tensors:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    for i, v in enumerate(tensors):
        if v.ndim == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    vectors = all(v.ndim == 1 for v in tensors)
    kept = [v for v in tensors if vectors or v.shape != (0,)]  # the old kind of empty tensor goes with everything
    d = arith.result_dtype(tensors[0].builder, tensors)
    if not kept:
        return cast_to(tensors[0], d)
    axis = wrap_dim(dim, kept[0].ndim)
    for i, v in enumerate(tensors):
        if v.shape == (0,) and not vectors:
            continue
        if v.ndim != kept[0].ndim:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {kept[0].ndim} and {v.ndim}")
        for a, (n, m) in enumerate(zip(kept[0].shape, v.shape)):
            if a != axis and n != m:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {axis}. Expected size {n} but "
                                   "got size "
                                   f"{m} for tensor number {i} in the list.")
    return joined([cast_to(v, d) for v in kept], axis)


@define(method=False)
def stack(tensors: tuple[Value, ...], dim: int = 0) -> Value:
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    first = tensors[0].shape
    for i, v in enumerate(tensors):
        if v.shape != first:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and "
                               f"{list(v.shape)} at entry {i}")
    axis = wrap_dim(dim, len(first) + 1)
    d = arith.result_dtype(tensors[0].builder, tensors)
    return joined([movement.reshape_to(cast_to(v, d), (*first[:axis], 1, *first[axis:])) for v in tensors], axis)


# --- data that is there ----------------------------------------------------------------------------------------------

_array = attrgetter("array")


def _side_by_side(tensors: Sequence[Tensor], kind: Type) -> Tensor | None:
    """The elements of tensors of one dtype, one tensor after the other, as a tensor of type `kind`; None where one of
    them is not there yet or has a history."""
    untouched = [s for t in tensors if type(s := t._storage) is ArrayStorage and t._view is None
                 and not t._requires_grad]
    rows = tensors[0]._type.shape[1:]
    if len(untouched) == len(tensors) and len(tensors[0]._type.shape) and kind.numel:
        joined = allocator.alloc(kind.nbytes)
        flat = kind.numel // math.prod(rows), *rows
        np.concatenate(list(map(_array, untouched)), out=joined.numpy(kind.dtype.numpy, flat))
        return from_buffer(joined, kind)
    rows_of_one = _rows_of_one(tensors)
    if rows_of_one is not None:
        joined = allocator.alloc(kind.nbytes)
        source, places = rows_of_one
        np.take(source, places, 0, joined.numpy(source.dtype, (len(places), source.shape[1])), "clip")
        return from_buffer(joined, kind)
    pieces = []
    for t in tensors:
        buffer = t._storage.cell.buffer
        if buffer is None or t._requires_grad or not is_data(t):
            return None
        pieces.append(buffer)
    joined = allocator.alloc(kind.nbytes)
    at, width = joined.ptr, kind.dtype.itemsize
    for t, buffer in zip(tensors, pieces):
        part = t._type
        strides, offset = t._geometry or (part.strides, 0)
        if strides == part.strides:
            memmove(at, buffer.ptr + offset * width, part.nbytes)
        else:
            np.copyto(joined.numpy(kind.dtype.numpy, part.shape, at - joined.ptr), t._array())
        at += part.nbytes
    return from_buffer(joined, kind)


def _rows_of_one(tensors: Sequence[Tensor]) -> tuple[np.ndarray, list[int]] | None:
    """What is in one memory as rows of the tensors' size, and which of them these tensors are, as samples of a dataset
    that is one tensor are; None if they are no such rows."""
    first = tensors[0]
    part, storage, buffer = first._type, first._storage, first._storage.cell.buffer
    if (buffer is None or not part.numel or storage.cell.value is not None
            or [t._storage for t in tensors].count(storage) < len(tensors)
            or [t._type for t in tensors].count(part) < len(tensors)):
        return None
    places, size = [], part.numel
    for t in tensors:
        place = t._geometry
        if place is None:
            places.append(0)
        elif place[0] != part.strides or place[1] % size or t._requires_grad:
            return None
        else:
            places.append(place[1] // size)
        if not is_data(t):
            return None
    return buffer.numpy(part.dtype.numpy, (storage.cell.type.nbytes // part.nbytes, size)), places


def stacked_data(tensors: Sequence[Tensor]) -> Tensor | None:
    """Tensors of one type stacked along a new first axis: copied if they are there, and what is pending in the same way
    for each of them computed for all at once; None where that is not all there is to do."""
    kind, recorder = tensors[0]._type, current.recorder
    if not recorder.knows_values or observe.sinks or [t._type for t in tensors].count(kind) < len(tensors):
        return None
    joined = _side_by_side(tensors, Type(kind.dtype, (len(tensors), *kind.shape)))
    if joined is None and len(tensors) >= MANY and kind.nbytes * len(tensors) <= SMALL:
        found = alike.stacked(recorder, tuple([recorder.value(t) for t in tensors]))
        return None if found is None else wrap(recorder, found)
    return joined


def concatenated_data(tensors: Sequence[Tensor]) -> Tensor | None:
    """The same for `cat` along the first axis."""
    kind, length = tensors[0]._type, 0
    if not current.recorder.knows_values or not kind.shape:
        return None
    for t in tensors:
        part = t._type
        if part is not kind and (part.dtype is not kind.dtype or part.shape[1:] != kind.shape[1:] or not part.shape):
            return None
        length += part.shape[0]
    return _side_by_side(tensors, Type(kind.dtype, (length, *kind.shape[1:])))


MANY = 8
"""Tensors; from so many on, small ones that are there are copied at once: in a graph each of them would be a parameter,
and each number of them a graph of its own."""

SMALL = 4 << 20
"""Bytes of all of them; more is work for a kernel."""


def _copied_at_once(name: str, copied: Callable[[Sequence[Tensor]], Tensor | None]) -> Callable[..., Any]:
    """The function `name`, which copies many small samples as `copied` does and records everything else."""
    recorded = FUNCTIONS[name]

    @functools.wraps(recorded)
    def function(*args: Any, **kwargs: Any) -> Any:
        tensors, dim = (*args, kwargs.get("dim", 0))[:2] if args else (None, None)
        if (type(tensors) in (list, tuple) and len(tensors) >= MANY and type(dim) is int and dim == 0
                and (not kwargs or kwargs.keys() == {"dim"}) and set(map(type, tensors)) == {Tensor}
                and len(tensors) * tensors[0]._type.nbytes <= SMALL and not observe.sinks):
            joined = copied(tensors)
            if joined is not None:
                return joined
        return recorded(*args, **kwargs)
    return function


FUNCTIONS["stack"] = _copied_at_once("stack", stacked_data)
for _name in ("cat", "concat", "concatenate"):
    FUNCTIONS[_name] = _copied_at_once(_name, concatenated_data)

# --- relatives -------------------------------------------------------------------------------------------------------

def _at_least(v: Value, n: int) -> Value:
    if v.ndim >= n:
        return v
    if n == 1:
        return movement.reshape_to(v, (1,))
    if n == 2:
        return movement.reshape_to(v, (1, *(v.shape or (1,))))
    shape = {0: (1, 1, 1), 1: (1, *v.shape, 1), 2: (*v.shape, 1)}[v.ndim]
    return movement.reshape_to(v, shape)


@define(method=False)
def hstack(tensors: tuple[Value, ...]) -> Value:
    if not tensors:
        raise RuntimeError("hstack expects a non-empty TensorList")
    parts = tuple([_at_least(v, 1) for v in tensors])
    return _cat(parts, 0 if parts[0].ndim == 1 else 1)


@define("vstack", "row_stack", method=False)
def vstack(tensors: tuple[Value, ...]) -> Value:
    if not tensors:
        raise RuntimeError("vstack expects a non-empty TensorList")
    return _cat(tuple([_at_least(v, 2) for v in tensors]), 0)


@define(method=False)
def dstack(tensors: tuple[Value, ...]) -> Value:
    if not tensors:
        raise RuntimeError("dstack expects a non-empty TensorList")
    return _cat(tuple([_at_least(v, 3) for v in tensors]), 2)


@define(method=False)
def column_stack(tensors: tuple[Value, ...]) -> Value:
    if not tensors:
        raise RuntimeError("column_stack expects a non-empty TensorList")
    return _cat(tuple([v if v.ndim > 1 else movement.reshape_to(v, (v.type.numel, 1)) for v in tensors]), 1)


_cat = cat.function.body


def _atleast(name: str, n: int) -> None:
    def one(x: Tensor) -> Tensor:
        if x.ndim >= n:
            return x
        if n == 1:
            return reshape(x, 1)
        if n == 2:
            return reshape(x, 1, 1) if x.ndim == 0 else unsqueeze(x, 0)
        return reshape(x, (1, 1, 1)) if x.ndim == 0 else unsqueeze(x if x.ndim == 2 else unsqueeze(x, 0), -1)

    def function(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
            return tuple([one(x) for x in tensors[0]])
        return one(tensors[0]) if len(tensors) == 1 else tuple([one(x) for x in tensors])
    function.__name__ = name
    FUNCTIONS[name] = function


for _n in (1, 2, 3):
    _atleast(f"atleast_{_n}d", _n)


@expose("meshgrid", method=False)
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if not tensors:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    for x in tensors:
        if x.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x.ndim}D")
    if any(x.dtype is not tensors[0].dtype for x in tensors):
        raise RuntimeError("torch.meshgrid expects all tensors to have the same dtype")
    if indexing is None:
        warnings.warn("torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument.",
                      stacklevel=2)
        indexing = "ij"
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    swap = indexing == "xy" and len(tensors) > 1
    if swap:
        tensors = (tensors[1], tensors[0], *tensors[2:])
    shape = tuple([x.numel() for x in tensors])
    grids = [expand(reshape(x, tuple(-1 if i == a else 1 for i in range(len(tensors)))), shape)
             for a, x in enumerate(tensors)]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@expose("cartesian_prod", method=False)
def cartesian_prod(*tensors: Tensor) -> Tensor:
    if len(tensors) == 1:
        return alias(tensors[0])
    return FUNCTIONS["stack"]([reshape(g, -1) for g in meshgrid(*tensors, indexing="ij")], 1)


@expose("combinations")
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    if input.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if not r:
        return input[:0].clone()
    n = input.shape[0]
    before = _combinations(n, r - 1, with_replacement)
    rows, last = places_of_rows(_following(before, with_replacement), np.full(len(before), n)).unbind()
    return FUNCTIONS["cat"]([input[from_array(before)][rows], input[last].unsqueeze(1)], 1)


def _combinations(n: int, r: int, with_replacement: bool) -> np.ndarray:
    """The ways to choose r of n places, as ascending rows in their order: each row is followed by all that may come
    after its last place."""
    rows = np.zeros((1, 0), np.int64)
    for _ in range(r):
        first = _following(rows, with_replacement)
        counts = np.maximum(n - first, 0)
        ends = np.cumsum(counts)
        column = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + counts, counts)
        rows = np.column_stack([np.repeat(rows, counts, 0), column])
    return rows


def _following(rows: np.ndarray, with_replacement: bool) -> np.ndarray:
    """The first place that may follow each row."""
    return rows[:, -1] + (not with_replacement) if rows.shape[1] else np.zeros(len(rows), np.int64)


@define(method=False)
def _block_diag(tensors: tuple[Value, ...]) -> Value:
    d = arith.result_dtype(tensors[0].builder, tensors)
    parts = []
    for v in tensors:
        if v.ndim > 2:
            raise RuntimeError("torch.block_diag: Input tensors must have 2 or fewer dimensions. Input 0 has "
                               f"{v.ndim} dimensions")
        parts.append(cast_to(_at_least(v, 2), d))
    rows, columns = (sum([p.shape[i] for p in parts]) for i in (0, 1))
    result = movement.expand_to(create.constant(tensors[0].builder, 0, d), (rows, columns))
    r = c = 0
    for p in parts:
        n, m = p.shape
        result = movement.slice_update(result, p, starts=(r, c), stops=(r + n, c + m), steps=(1, 1))
        r, c = r + n, c + m
    return result


FUNCTIONS.pop("_block_diag")


@expose("block_diag", method=False)
def block_diag(*tensors: Tensor) -> Tensor:
    return _block_diag(tensors)
