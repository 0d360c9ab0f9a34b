"""The mutable memory that tensors share."""
from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.capture.cell import Cell
from jtorch.ir.graph import Type
from jtorch.runtime.memory import Buffer, address_of

_new = object.__new__


class SharedBuffer(Buffer):
    """Memory that something outside jtorch looks at too: never handed on to a second cell, and written in place."""

    __slots__ = ()

    @classmethod
    def over(cls, buffer: Buffer, offset: int = 0, nbytes: int | None = None) -> SharedBuffer:
        """The memory of `buffer` (`nbytes` of it, from byte `offset` on), which is kept alive."""
        shared = _new(cls)  # without the call of a constructor: each sample that is read is one
        shared.ptr = buffer.ptr + offset
        shared.nbytes = buffer.nbytes if nbytes is None else nbytes
        shared._home = None
        shared._owner = buffer
        return shared

    @classmethod
    def of_array(cls, array: np.ndarray) -> SharedBuffer:
        """The memory of a C-contiguous array."""
        shared = _new(cls)
        shared.ptr = address_of(array)
        shared.nbytes = array.nbytes
        shared._home = None
        shared._owner = array
        return shared

    def copy(self) -> Buffer:
        memory = np.empty(self.nbytes, np.uint8)
        ctypes.memmove(memory.ctypes.data, self.ptr, self.nbytes)
        return Buffer.from_numpy(memory)


class ArrayWatch:
    """Tells whether anybody else refers to a NumPy array that a buffer keeps alive. Called like a weak reference."""

    __slots__ = ("array",)

    _OURS = 3  # the buffer's reference, this one's, and getrefcount's argument

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __call__(self) -> np.ndarray | None:
        if self.array.base is not None:  # the memory is not NumPy's: nobody can tell
            return self.array
        return self.array if sys.getrefcount(self.array) > self._OURS else None


class Storage:
    """What `Tensor`s that alias each other have in common: the latest `Cell` of their contents.

    Contents have the shape in which they were made (contiguous); views are chains of operations on that. `version`
    counts writes. Where `exports` (NumPy arrays, DLPack capsules on the same memory) are alive, reads and
    writes happen at once, since the outside may look at any time.
    """

    __slots__ = ("cell", "version", "settled", "exports", "array", "__weakref__")
    cell: Cell
    version: int
    settled: int  # the version of which `is_settled` was last asked
    exports: list[Callable[[], Any]] | None
    array: np.ndarray | None  # of an `ArrayStorage`

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.version = self.settled = 0
        self.exports = None

    def write(self, cell: Cell) -> None:
        old = self.cell
        if old.buffer is not None:
            cell.previous = old
        elif old.previous is not None:
            cell.previous, old.previous = old.previous, None
        else:
            cell.before = old.before or old.value
        cell.home = weakref.ref(self)
        self.cell = cell
        self.version += 1

    def is_settled(self) -> bool:
        """Has nobody written since this was last asked?"""
        if self.settled == self.version:
            return True
        self.settled = self.version
        return False

    def exported(self) -> bool:
        """Does memory outside jtorch alias this storage?"""
        if self.exports is None:
            return False
        self.exports = [r for r in self.exports if r() is not None] or None
        return self.exports is not None

    def expose(self, array: np.ndarray, type: Type, root: np.ndarray) -> None:
        """Become the memory of an array. `root` is the array that owns it."""
        self.cell = Cell(type, None, None, SharedBuffer.of_array(array if array is root else _over(array, root)))
        self.exports = [ArrayWatch(root)]

    def export(self, owner: Any) -> None:
        """From now on `owner` (an object, or an `ArrayWatch`), while alive, reads and writes this memory."""
        if self.exports is None:
            self.exports = []
        self.exports.append(owner if isinstance(owner, ArrayWatch) else weakref.ref(owner))


class ArrayStorage(Storage):
    """The memory of a NumPy array that owns it or is a part of another one. What takes part in recording is made when
    it is first asked for, and this is an ordinary Storage from then on: of the samples that a loader joins to a batch,
    only the memory is."""

    __slots__ = ()

    def __init__(self, array: np.ndarray) -> None:
        self.version = self.settled = 0
        self.array = array

    def __getattr__(self, name: str) -> Any:  # where `cell` and `exports` are not set
        array = self.array
        if array is not None:  # no other thread is ahead
            self.expose(array, Type(dtypes.BY_NUMPY[array.dtype], array.shape), root_of(array))
            self.__class__ = Storage  # type: ignore[assignment]
            self.array = None
        return getattr(self, name)


def root_of(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _over(array: np.ndarray, root: np.ndarray) -> np.ndarray:
    """A view of the array's memory of which nothing but `root` is known."""
    return np.ndarray(array.shape, array.dtype, root, address_of(array) - address_of(root)) if (
        root.flags.c_contiguous) else array
