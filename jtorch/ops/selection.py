"""What a mask selects, and where: the size of the result depends on the data, so these are computed at once, by native
functions that write into memory of the right size (`runtime.selection_ir`)."""
from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch._tensor import Tensor, from_buffer
from jtorch.capture import observe
from jtorch.capture.record import current
from jtorch.ir.graph import Type
from jtorch.ops.attach import FUNCTIONS, expose
from jtorch.ops.direct import elements, is_there
from jtorch.runtime import native
from jtorch.runtime.memory import address_of, allocator

WORD = 8

_BYTES = frozenset((dtypes.bool_, dtypes.uint8, dtypes.int8))


def places(t: Tensor) -> list[Tensor]:
    """Per dimension of `t` (one of size 1 if it has none), the coordinates of the elements that are not zero: int64 of
    shape (count,)."""
    mask = _mask(t)
    return list(_places(mask if mask.ndim else mask.reshape(1), True).unbind())


def flat_places(mask: Tensor) -> Tensor:
    """Where a mask is set, counted through all its elements: int64 of shape (count,)."""
    return _places(_mask(mask).reshape(-1), True)[0]


def selected(t: Tensor, mask: Tensor) -> Tensor | None:
    """`t[mask]` for a bool mask of the first dimensions of `t`, if all is there and nothing is to be recorded."""
    bits, kind = _mask(mask), t._type
    if t._geometry is not None or not is_there(t) or not current.recorder.knows_values or observe.sinks:
        return None
    count = int(np.count_nonzero(bits))
    item = kind.nbytes // bits.size if bits.size else 0
    source, result = t._storage.cell.buffer, allocator.alloc(count * item)
    native.load().select(address_of(bits), bits.size, count, source.ptr, result.ptr, item)
    return from_buffer(result, Type(kind.dtype, (count, *kind.shape[bits.ndim:])))


def _mask(t: Tensor) -> np.ndarray:
    """Bytes, C-contiguous, that are not zero where an element is not; for the time in which `t` is held."""
    array = elements(t) if current.recorder.knows_values and is_there(t) else t.detach()._array()
    array = array.view(np.uint8) if t._type.dtype in _BYTES else (array != 0).view(np.uint8)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _places(mask: np.ndarray, apart: bool) -> Tensor:
    """The coordinates of what is set: a row for each place, or where they shall lie `apart` one for each dimension."""
    count, ndim = int(np.count_nonzero(mask)), mask.ndim
    buffer = allocator.alloc(count * ndim * WORD)
    if ndim:
        shape = (ctypes.c_int64 * ndim)(*mask.shape)
        between, step = (count, 1) if apart else (1, ndim)
        native.load().places(address_of(mask), ctypes.addressof(shape), ndim, count, buffer.ptr, between, step)
    return from_buffer(buffer, Type(dtypes.int64, (ndim, count) if apart else (count, ndim)))


@expose("nonzero")
def nonzero(input: Tensor, *, as_tuple: bool = False, out: Any = None) -> Any:
    """Where the elements are not zero. The shape depends on the data, so this is computed at once."""
    if as_tuple:
        return tuple(places(input))
    result = _places(_mask(input), False)
    return result if out is None else out.resize_(result.shape).copy_(result)


@expose("nonzero_static")
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """`nonzero` with `size` rows: cut off, or filled up with `fill_value`."""
    if size < 0:
        raise RuntimeError("nonzero_static: 'size' must be an non-negative integer")
    found = nonzero(input)[:size]
    return FUNCTIONS["cat"]((found, found.new_full((size - found.shape[0], input.ndim), fill_value)))


@expose("argwhere")
def argwhere(input: Tensor) -> Tensor:
    return nonzero(input)
