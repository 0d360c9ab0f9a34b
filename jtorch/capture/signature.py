"""Arguments of a traced call: taking containers apart, and what makes two calls alike."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jtorch._tensor import Tensor, new_tensor
from jtorch.capture.cell import Cell
from jtorch.capture.record import Recorder, current
from jtorch.runtime.memory import allocator
from jtorch.storage import SharedBuffer, Storage


class Leaf:
    """A tensor argument as dense data: `ptr` is its address. A strided view is copied first, or, where the function
    writes, is passed as its `whole` storage."""

    __slots__ = ("tensor", "shown", "cell", "storage", "buffer", "ptr", "whole")

    def __init__(self, t: Tensor, whole: bool = False) -> None:
        self.tensor = self.shown = t
        storage = t._storage
        if storage.cell.buffer is None:
            current.recorder.materialise(storage.cell)
        self.whole = whole or t._view is None
        if self.whole:
            self.cell, self.storage, self.buffer = storage.cell, storage, storage.cell.buffer
            self.ptr = self.buffer.ptr
            return
        if (t._geometry is None or is_dense(t)) and not t._pending_ops():
            self.buffer = storage.cell.buffer
            self.ptr = self.buffer.ptr + t.storage_offset() * t.itemsize
        else:
            array = t._array()
            self.buffer = allocator.alloc(t.nbytes)
            self.buffer.numpy(array.dtype, array.shape)[...] = array
            self.ptr = self.buffer.ptr
        self.cell = Cell(t._type, None, None, self)
        self.storage = Storage(self.cell)

    def stand_in(self) -> Tensor:
        """The tensor that the traced function sees: the argument itself unless it is a view passed as dense data."""
        t = self.tensor
        if self.whole:
            return t
        s = new_tensor(type(t), self.storage, t._type, None)
        s._requires_grad, s._grad = t.requires_grad, t._grad
        self.shown = s
        return s

    def shared(self) -> SharedBuffer:
        """The data as memory that is not its own."""
        buffer = SharedBuffer(self.ptr, self.tensor.nbytes, None)
        buffer._owner = self.buffer
        return buffer


def is_dense(t: Tensor) -> bool:
    expected = 1
    for n, s in zip(reversed(t._type.shape), reversed(t.stride())):
        if n != 1 and s != expected:
            return False
        expected *= n
    return True


def flatten(x: Any) -> tuple[list[Any], Any]:
    """Leaves of nested tuples, lists and dicts, and their structure."""
    flat: list[Any] = []
    return flat, _flatten(x, flat)


def _flatten(x: Any, flat: list[Any]) -> Any:
    kind = type(x)
    if kind is tuple or kind is list:
        return (kind, tuple([_flatten(i, flat) for i in x]))
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return (kind, tuple([_flatten(i, flat) for i in x]))
    if isinstance(x, dict):
        return (kind, tuple(x), tuple([_flatten(i, flat) for i in x.values()]))
    flat.append(x)
    return None


def unflatten(structure: Any, flat: Sequence[Any]) -> Any:
    return _unflatten(structure, iter(flat))


def _unflatten(structure: Any, items: Any) -> Any:
    if structure is None:
        return next(items)
    kind = structure[0]
    if len(structure) == 3:
        values = [_unflatten(s, items) for s in structure[2]]
        return kind(zip(structure[1], values))
    values = [_unflatten(s, items) for s in structure[1]]
    return kind(*values) if hasattr(kind, "_fields") else kind(values)


def signature_of(flat: Sequence[Any], structure: Any, recorder: Recorder) -> tuple:
    """Equal for calls that the same programs may serve: structure, types of tensors, which arguments are one and the
    same tensor, values of everything else."""
    parts: list[Any] = [structure, recorder.grad_enabled, recorder.inference, recorder.autocast]
    storages: dict[int, int] = {}
    for x in flat:
        if isinstance(x, Tensor):
            s = storages.setdefault(id(x._storage), len(storages))
            grad = None if x._grad is None else id(x._grad._storage)
            parts.append((x._type, x.requires_grad, x._view is None, s, grad))
        else:
            parts.append((type(x), _hashable(x)))
    return tuple(parts)


def views_of(leaves: Sequence[Leaf]) -> tuple:
    """What makes calls alike whose arguments are passed as whole storages."""
    return tuple([(leaf.tensor._view, leaf.tensor._geometry, leaf.cell.type) for leaf in leaves])


def _hashable(x: Any) -> Any:
    try:
        hash(x)
    except TypeError:
        return id(x)
    return x
