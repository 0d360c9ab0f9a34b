"""Tensors taken apart and put together: pickling, copying, and what files and other processes are built on.

What travels is the storage, so tensors that share memory share it again where they arrive. Under pickle's protocol 5 a
storage's bytes are an out-of-band buffer.
"""
from __future__ import annotations

import copy
import math
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from jtorch._tensor import Tensor, attach, from_array, new_tensor, set_requires_grad
from jtorch.capture.cell import Cell
from jtorch.dtypes import dtype
from jtorch.ir.graph import Type, contiguous_strides
from jtorch.ir.prims.movement import as_strided, permute, reshape, slice_
from jtorch.lazy import lazy_module
from jtorch.ops.attach import expose
from jtorch.ops.conversion import clone, detach
from jtorch.runtime.memory import Buffer
from jtorch.storage import Storage
from jtorch.views import make_view

if TYPE_CHECKING:
    from jtorch.ops import sharing
else:
    sharing = lazy_module("jtorch.ops.sharing")


def whole_of(storage: Storage) -> Tensor:
    """The tensor that is all of a storage's contents."""
    return new_tensor(Tensor, storage, storage.cell.type, None)


def memory_of(storage: Storage) -> np.ndarray:
    """The bytes of a storage, computed now; an array over its memory."""
    array = whole_of(storage)._array()
    return array.reshape(-1).view(np.uint8)


def storage_over(array: np.ndarray, d: dtype, shape: tuple[int, ...]) -> Storage:
    """A storage on the memory of a contiguous array of bytes; a copy of it where it may not be written."""
    return Storage(Cell(Type(d, shape), None, None, buffer_over(array)))


def buffer_over(array: np.ndarray) -> Buffer:
    """A buffer on the array's memory, which it keeps alive; a copy where the memory may not be written."""
    return Buffer.from_numpy(array if array.flags.writeable else array.copy())


def tensor_over(storage: Storage, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Tensor:
    """The tensor of these sizes and strides (in elements) over a storage.

    RuntimeError if it does not lie within the storage.
    """
    whole = whole_of(storage)
    shape = whole._type.shape
    check_place(storage, size, stride, offset)
    dense = contiguous_strides(size)
    if math.prod(size) == 0:
        return from_array(np.empty(size, whole.dtype.numpy)) if shape != size else whole
    contiguous = all(n == 1 or s == d for n, s, d in zip(size, stride, dense))
    if contiguous and size == shape:
        return whole
    order = permutation(size, stride)
    if offset == 0 and order is not None and shape == tuple([size[i] for i in order]):
        return make_view(whole, permute, (tuple([order.index(i) for i in range(len(order))]),))
    if not contiguous:
        return make_view(whole, as_strided, (size, stride, offset))
    count = whole._type.numel
    t = whole if whole.ndim == 1 else make_view(whole, reshape, ((count,),))
    if math.prod(size) != count:
        t = make_view(t, slice_, ((offset,), (offset + math.prod(size),), (1,)))
    return make_view(t, reshape, (size,))


def permutation(size: tuple[int, ...], stride: tuple[int, ...]) -> list[int] | None:
    """The axes from the longest stride to the shortest if, in this order, they fill memory without gaps."""
    order = sorted(range(len(size)), key=lambda i: (-stride[i], -size[i]))
    dense = contiguous_strides(tuple([size[i] for i in order]))
    return order if all(size[i] == 1 or stride[i] == d for i, d in zip(order, dense)) else None


def check_place(storage: Storage, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> None:
    """RuntimeError if sizes, strides and offset do not describe elements of the storage."""
    numbers = (*size, *stride, offset)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise RuntimeError(f"setStorage: sizes {size}, strides {stride} and storage offset {offset} do not describe a "
                           "tensor")
    d = storage.cell.type.dtype
    needed = offset + sum((n - 1) * s for n, s in zip(size, stride)) + 1 if math.prod(size) else 0
    if needed > storage.cell.type.numel:
        raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and "
                           f"itemsize {d.itemsize} requiring a storage size of {needed * d.itemsize} are out of bounds "
                           f"for storage of size {storage.cell.type.nbytes}")


def parts_of(t: Tensor) -> tuple[Storage, tuple[int, ...], tuple[int, ...], int]:
    """What `tensor_over` makes the tensor's elements from. A view as another dtype, or of conjugates, is copied."""
    if t._storage.cell.type.dtype is not t._type.dtype or t._pending_ops():
        t = clone(detach(t))
    return t._storage, t._type.shape, t.stride(), t.storage_offset()


# --- pickle ----------------------------------------------------------------------------------------------------------

def _reduce_storage(self: Storage, protocol: int) -> tuple:
    memory = memory_of(self)
    data: Any = pickle.PickleBuffer(memory.data) if protocol >= 5 else memory.tobytes()
    return _restore_storage, (data, self.cell.type.dtype, self.cell.type.shape)


def _restore_storage(data: Any, d: dtype, shape: tuple[int, ...]) -> Storage:
    return storage_over(np.frombuffer(data, np.uint8), d, shape)


def _reduce(self: Tensor, protocol: int) -> tuple:
    return _rebuild, (type(self), *parts_of(self), self.requires_grad, self.__dict__.copy())


def _rebuild(cls: type, storage: Storage, size: tuple[int, ...], stride: tuple[int, ...], offset: int,
             requires_grad: bool, state: dict[str, Any]) -> Tensor:
    t = tensor_over(storage, size, stride, offset)
    if cls is not Tensor:
        t = t.as_subclass(cls)
    set_requires_grad(t, requires_grad)
    t.__dict__.update(state)
    return t


Storage.__reduce_ex__ = _reduce_storage  # type: ignore[method-assign, assignment]
attach(__reduce_ex__=_reduce)


# --- copy ------------------------------------------------------------------------------------------------------------

def _deepcopy(self: Tensor, memo: dict) -> Tensor:
    found = memo.get(id(self))
    if found is not None:
        return found
    if not self.is_leaf:
        raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol "
                           "at the moment.  If you were attempting to deepcopy a module, this may be because of a "
                           "torch.nn.utils.weight_norm usage, see https://github.com/pytorch/pytorch/pull/103001")
    kept = memo.setdefault("jtorch storages", {})
    storage = kept.get(id(self._storage))
    if storage is None:
        storage = kept[id(self._storage)] = clone(detach(whole_of(self._storage)))._storage
    t = new_tensor(type(self), storage, self._type, None)
    t._view = tuple([s for s in self._view if s[0].kind != "marker"]) or None if self._view is not None else None
    t._geometry, t._requires_grad = self._geometry, self._requires_grad
    memo[id(self)] = t
    if self._grad is not None:
        t._grad = copy.deepcopy(self._grad, memo)
    for name, x in self.__dict__.items():
        t.__dict__[name] = copy.deepcopy(x, memo)
    return t


def _shallow(self: Tensor) -> Tensor:
    t = new_tensor(type(self), self._storage, self._type, None)
    t._view, t._geometry, t._requires_grad = self._view, self._geometry, self._requires_grad
    t.__dict__.update(self.__dict__)
    return t


attach(__deepcopy__=_deepcopy)
attach(__copy__=_shallow)


# --- other processes -------------------------------------------------------------------------------------------------

@expose("share_memory_", function=False)
def share_memory_(self: Tensor) -> Tensor:
    """Move the tensor's storage to memory that other processes can have too. Returns the tensor."""
    sharing.share(self._storage)
    return self


@expose("is_shared", function=False)
def is_shared(self: Tensor) -> bool:
    """Does the tensor lie in memory that other processes can have too?"""
    return sharing.is_shared(self._storage)


__all__ = ["buffer_over", "check_place", "memory_of", "parts_of", "permutation", "share_memory_", "storage_over",
           "tensor_over", "whole_of"]
