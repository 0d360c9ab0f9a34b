"""Small writes that are done at once: elements that are there go to memory that is there, and nothing is recorded.

`buffer[i] = sample` in a loop would otherwise be a graph of its own for each write. It is a copy of memory where
the written tensor is plain data which nobody else holds: no pending operation, no graph that may be differentiated, no
other storage. Everything else is recorded.
"""
from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from ctypes import memmove
from sys import getrefcount
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture import observe
from jtorch.capture.cell import Cell
from jtorch.capture.dispatch import NUMBERS
from jtorch.capture.record import current, is_data
from jtorch.dtypes import dtype
from jtorch.ir.prims.create import detach
from jtorch.ir.prims.movement import permute, reshape, slice_
from jtorch.storage import Storage

MOST = 32 << 10
"""Bytes; more than this is a kernel's work."""

ELEMENTS: dict[dtype, Any] = {
    dtypes.float32: ctypes.c_float, dtypes.float64: ctypes.c_double, dtypes.int64: ctypes.c_int64,
    dtypes.int32: ctypes.c_int32, dtypes.int16: ctypes.c_int16, dtypes.int8: ctypes.c_int8,
    dtypes.uint8: ctypes.c_uint8, dtypes.bool_: ctypes.c_bool,
}
"""One element in memory, where C has a type for it."""

_PLACES = frozenset((reshape, permute, slice_, detach))  # views in which each element has a place of its own
_FLOATING = frozenset((dtypes.float32, dtypes.float64))
_LARGEST = 3.4e38  # of float32; beyond it a conversion has something to say
_EXACT = 1 << 53


def copied(t: Tensor, source: Tensor) -> bool:
    """Write the elements of `source`, of the same type, to `t` now. False: nothing was done, record it."""
    kind = t._type
    if not is_there(source) or not writable_now(t, kind.nbytes):
        return False
    to, at = t._geometry or (kind.strides, 0)
    of, start = source._geometry or (kind.strides, 0)
    if to == kind.strides and of == kind.strides:
        size = kind.dtype.itemsize
        memmove(t._storage.cell.buffer.ptr + at * size, source._storage.cell.buffer.ptr + start * size, kind.nbytes)
    else:
        np.copyto(elements(t), elements(source))
    return written(t._storage)


def filled(t: Tensor, number: Any) -> bool:
    """Write a Python number to all elements of `t` now. False: nothing was done, record it."""
    kind = t._type
    if not fits(kind.dtype, number) or not writable_now(t, kind.nbytes):
        return False
    if kind.numel == 1:
        offset = 0 if t._geometry is None else t._geometry[1] * kind.dtype.itemsize
        ELEMENTS[kind.dtype].from_address(t._storage.cell.buffer.ptr + offset).value = number
    else:
        elements(t)[...] = number
    return written(t._storage)


def row_written(t: Tensor, i: int, value: Any) -> bool:
    """`t[i] = value` now, for a tensor that is all of its storage: the commonest write, without a view for it. False:
    nothing was done."""
    whole = t._type
    d, shape = whole.dtype, whole.shape
    if t._view is not None or not shape or not 0 <= i < shape[0]:
        return False
    size = whole.strides[0] * d.itemsize
    if type(value) is Tensor:
        kind = value._type
        if kind.dtype is not d or kind.shape != shape[1:] or value._geometry is not None or not is_there(value) \
                or not writable_now(t, size):
            return False
        memmove(t._storage.cell.buffer.ptr + i * size, value._storage.cell.buffer.ptr, kind.nbytes)
    elif len(shape) > 1 or not fits(d, value) or not writable_now(t, size):
        return False
    else:
        ELEMENTS[d].from_address(t._storage.cell.buffer.ptr + i * size).value = value
    return written(t._storage)


def places_written(t: Tensor, indices: Sequence[Tensor | None], values: Any) -> bool:
    """`t[indices] = values` now: elements, each named by an index for every dimension. False: nothing was done."""
    kind = t._type
    if len(indices) != len(kind.shape) or not indices or indices[0] is None:
        return False
    storage, shape = t._storage, indices[0]._type.shape
    for i in indices:
        if i is None or i._type.shape != shape or i._type.dtype is not dtypes.int64 or i._storage is storage \
                or not is_there(i):
            return False
    if type(values) is Tensor:
        if values._type.dtype is not kind.dtype or values._type.shape != shape or values._storage is storage \
                or not is_there(values):
            return False
    elif not fits(kind.dtype, values):
        return False
    if not writable_now(t, indices[0]._type.numel * kind.dtype.itemsize):
        return False
    elements(t)[tuple([elements(i) for i in indices])] = elements(values) if type(values) is Tensor else values  # type: ignore
    return written(storage)


def elements(t: Tensor) -> np.ndarray:
    """The elements of a tensor that are there, for the time in which its buffer is held."""
    kind, geometry = t._type, t._geometry
    size, (strides, offset) = kind.dtype.itemsize, geometry if geometry is not None and kind.numel else (None, 0)
    return t._storage.cell.buffer.borrowed((kind, geometry), kind.dtype.numpy, kind.shape, offset * size,
                                           strides and [s * size for s in strides])


def fits(d: dtype, number: Any) -> bool:
    """Is this a Python number that becomes an element of the dtype without anything to say about it?"""
    if d in _FLOATING:
        return (type(number) is float and -_LARGEST < number < _LARGEST) or (
            type(number) is int and -_EXACT <= number <= _EXACT)
    return (d is dtypes.int64 and type(number) is int and -_EXACT <= number <= _EXACT) or (
        d is dtypes.bool_ and type(number) is bool)


def refuse_misfit(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a tensor whose last argument, `value`, is written: RuntimeError for a number that does not fit."""
    @functools.wraps(function)
    def checked(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(input, Tensor):
            check_fits(input._type.dtype, args[-1] if args and not kwargs else kwargs.get("value"))
        return function(input, *args, **kwargs)
    return checked


def check_fits(d: dtype, number: Any) -> None:
    """RuntimeError where this is a Python number, and the dtype has no place for it."""
    if not fits(d, number) and type(number) in NUMBERS:
        dtypes.check_number(number, d)


def filling(d: dtype) -> dtype:
    """What a number is converted to where it fills a whole tensor: beyond a half type's range it is infinity there."""
    return dtypes.float64 if d.itemsize == 2 and d.is_floating_point else d


def is_there(source: Tensor) -> bool:
    """Are the elements of the tensor in memory, and nothing more than that?"""
    return source._storage.cell.buffer is not None and not source._requires_grad and is_data(source)


def writable_now(t: Tensor, nbytes: int) -> bool:
    """May so many bytes of the memory of `t` be written at once? Not where the write is to be recorded, traced, mapped
    or profiled, or where somebody counts on what is there."""
    cell = t._storage.cell
    if cell.buffer is None or cell.value is not None or t._requires_grad or nbytes > MOST:
        return False
    if t._view is not None:
        for operation, _ in t._view:
            if operation not in _PLACES:
                return False
    if getrefcount(cell) > _OF_CELL or getrefcount(cell.buffer) > _OF_BUFFER:
        return False
    return current.recorder.knows_values and not observe.sinks


def written(storage: Storage) -> bool:
    storage.version += 1
    storage.cell.range = None
    return True


def _references() -> tuple[int, int]:
    """What `getrefcount` says of a cell that one storage has, and of a buffer that one cell has."""
    storage = Storage(Cell(None, None, None, object()))  # type: ignore[arg-type]
    cell = storage.cell
    return getrefcount(cell), getrefcount(cell.buffer)


_OF_CELL, _OF_BUFFER = _references()
