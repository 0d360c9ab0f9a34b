"""The caching allocator of host memory.

Most of the time of a large operation on fresh memory is the operating system zeroing pages, so freed blocks
are kept by size class and handed out again. Small blocks come from malloc; large ones are cut from mappings that
prefer huge pages (`heap`), and where a class has none, all that are free are joined and cut anew: a program whose
sizes change takes what its largest needs take. A `Buffer` returns its block when the last reference to it goes.

A buffer may be freed in the middle of anything, by the garbage collector or by another thread. The free
lists are therefore changed by single list operations only, and what is slower holds a re-entrant lock.
"""
from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from typing import Any

import numpy

from jtorch.errors import OutOfMemoryError

from . import sysmem
from .heap import Heap

ALIGNMENT = 64
"""Bytes; every buffer starts at a multiple of it (one cache line, one AVX-512 vector)."""

LARGE = 1 << 20
"""Bytes; blocks from this size on are whole pages of the heap."""

CHECKED = 64 << 20
"""Bytes; fresh blocks from this size on are checked against the memory that the machine has."""

SMALL_CACHE = 8 << 20
"""Bytes of free small blocks kept in each size class."""

LARGE_CACHE_SHARE = 0.25
"""Share of the machine's memory that free large blocks may keep."""

MEMO_LIMIT = 1 << 16
"""Entries in the table from requested sizes to size classes."""

OBJECT_FIELDS = object.__basicsize__
"""Bytes of a Python object in front of its own fields. First among them is the number of a float or complex, and the
address of an array's data (NumPy's ABI)."""

_word_at = ctypes.c_int64.from_address


def address_of(array: numpy.ndarray) -> int:
    """Where an array's data begins. Its attributes take five times as long to say so."""
    return _word_at(id(array) + OBJECT_FIELDS).value


class SizeClass(list):
    """The free blocks (addresses) of one size, in bytes. Beyond `limit` of them the allocator decides."""

    __slots__ = ("size", "limit", "last_freed", "allocator")

    def __init__(self, size: int, allocator: Allocator):
        self.size = size
        self.limit = 0 if size >= LARGE else max(1, SMALL_CACHE // size)
        self.last_freed = 0  # the allocator's tick; the class freed longest ago is trimmed first
        self.allocator = allocator


class Buffer:
    """A piece of memory: `ptr` (address) and `nbytes`. It lives as long as something refers to it."""

    __slots__ = ("ptr", "nbytes", "_home", "_owner", "_borrowed", "__weakref__")
    _owner: Any  # what the memory belongs to, where that is not the allocator
    _borrowed: tuple[Any, numpy.ndarray]

    def __init__(self, ptr: int, nbytes: int, home: SizeClass | None):
        self.ptr = ptr
        self.nbytes = nbytes
        self._home = home  # the size class to return to; None if the memory is another object's

    def __del__(self):
        home = self._home
        if home is not None:
            if len(home) < home.limit:
                home.append(self.ptr)
            else:
                home.allocator.keep_or_release(home, self.ptr)

    @classmethod
    def from_numpy(cls, array: numpy.ndarray) -> Buffer:
        """A buffer over the memory of a C-contiguous array, which it keeps alive."""
        if not isinstance(array, numpy.ndarray) or not array.flags.c_contiguous:
            raise ValueError("Buffer.from_numpy needs a C-contiguous array")
        buffer = _new(cls)
        buffer.ptr = address_of(array)
        buffer.nbytes = array.nbytes
        buffer._home = None
        buffer._owner = array
        return buffer

    def numpy(self, dtype, shape, offset=0, strides=None) -> numpy.ndarray:
        """An array over this memory, without a copy: from byte `offset` on, with `strides` in bytes. The array keeps
        the buffer alive."""
        memory: Any = (ctypes.c_char * self.nbytes).from_address(self.ptr)
        memory.buffer = self
        return numpy.ndarray(shape, dtype, memory, offset, strides)

    def borrowed(self, key, dtype, shape, offset=0, strides=None) -> numpy.ndarray:
        """`numpy` for somebody who holds the buffer as long as the array, and hands neither on: the array does not keep
        the buffer alive, and the last one asked for is kept for whoever asks with an equal key."""
        try:
            known, array = self._borrowed
            if known == key:
                return array
        except AttributeError:
            pass
        memory = (ctypes.c_char * self.nbytes).from_address(self.ptr)
        array = numpy.ndarray(shape, dtype, memory, offset, strides)
        self._borrowed = key, array
        return array

    def copy_from(self, source: Buffer) -> None:
        """Take over the contents of a buffer of the same size."""
        ctypes.memmove(self.ptr, source.ptr, self.nbytes)

    def __repr__(self):
        return f"Buffer({self.nbytes} bytes at {self.ptr:#x})"


_new = object.__new__


class Allocator:
    """Hands out buffers. One for the process: `allocator`."""

    def __init__(self, cache_limit: int | None = None):
        self._memo: dict[int, SizeClass] = {}  # requested bytes -> size class
        self._classes: dict[int, SizeClass] = {}  # size -> size class
        self._large: list[SizeClass] = []  # the size classes of the heap's blocks
        self._heap = Heap()
        self._busy = False  # is the heap being changed? The garbage collector may come in between, and free or ask
        self._strays: list[tuple[int, int]] = []  # what was asked for then: mappings that the heap does not know yet
        self._lock = threading.RLock()
        self._cache_limit = cache_limit
        self._reserved = self._peak = self._tick = 0

    def alloc(self, nbytes: int) -> Buffer:
        """A buffer of `nbytes` bytes, not cleared. Raises `OutOfMemoryError`."""
        try:
            home = self._memo[nbytes]
            ptr = home.pop()
        except LookupError:
            home = self.size_class(nbytes)
            ptr = self._reserve(home, nbytes)
        buffer = _new(Buffer)  # a constructor in Python costs as much again
        buffer.ptr = ptr
        buffer.nbytes = nbytes
        buffer._home = home
        return buffer

    @property
    def cache_limit(self):
        """Bytes of free large blocks that are kept."""
        if self._cache_limit is None:
            self._cache_limit = int(sysmem.memory_info()[0] * LARGE_CACHE_SHARE)
        return self._cache_limit

    @cache_limit.setter
    def cache_limit(self, nbytes):
        self._cache_limit = nbytes
        self._trim_large(nbytes)

    @staticmethod
    def trim_malloc():
        """Give the system the pages of freed memory that malloc keeps; NumPy's arrays are malloc's."""
        sysmem.give_back()

    def trim(self):
        """Give all free blocks back to the operating system."""
        with self._lock:
            for home in list(self._classes.values()):
                while home.limit and home:
                    self._release(home, home.pop())
            self._trim_large(0)

    def stats(self) -> dict[str, int]:
        """Bytes: allocated (in buffers, rounded up), cached (free), reserved (both) and peak (reserved)."""
        cached = sum(len(home) * home.size for home in list(self._classes.values())) + self._heap.free.total
        reserved = self._reserved
        return {"allocated": reserved - cached, "cached": cached, "reserved": reserved, "peak": self._peak}

    def reset_peak(self):
        """Let the peak start again from what is reserved now."""
        self._peak = self._reserved

    def forget_lock(self):
        """In a forked child: whoever held the lock does not exist here."""
        self._lock = threading.RLock()

    def keep_or_release(self, home, ptr):
        """Take back a block whose class keeps no more by itself."""
        if home.limit:
            self._release(home, ptr)
            return
        self._tick += 1
        home.last_freed = self._tick
        home.append(ptr)
        limit = self._cache_limit if self._cache_limit is not None else self.cache_limit
        if self._reserved > limit:  # what is free is part of that
            self._trim_large(limit)

    def size_class(self, nbytes):
        if nbytes < 0:
            raise ValueError(f"cannot allocate {nbytes} bytes")
        size = class_size(nbytes)
        with self._lock:
            home = self._classes.get(size)
            if home is None:
                home = self._classes[size] = SizeClass(size, self)
                if size >= LARGE:
                    self._large.append(home)
                    self.cache_limit  # noqa: B018 (asked for now: blocks are freed also when Python has half ended)
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[nbytes] = home
        return home

    def _reserve(self, home, nbytes):
        """A block, free or fresh."""
        with self._lock:
            if home:
                return home.pop()
            size = home.size
            if size >= CHECKED:
                self._check(size, nbytes)
            ptr = self._cut(size) if size >= LARGE else sysmem.malloc(size, ALIGNMENT)
            if not ptr:
                raise out_of_memory(nbytes, "The operating system refused it.")
            if size < LARGE:
                self._reserved += size
            self._peak = max(self._peak, self._reserved)
            return ptr

    def _cut(self, size):
        """A block of the heap, which the free blocks of all classes go back to."""
        if self._busy:
            ptr = sysmem.map_pages(size)
            self._strays.append((ptr, size))
            self._reserved += size
            return ptr
        with self._heap_held() as heap:
            for home in self._large:
                while home:
                    heap.put(home.pop(), home.size)
            before = heap.free.total
            ptr = heap.take(size)
            if ptr:
                self._reserved += size - (before - heap.free.total)
            return ptr

    @contextlib.contextmanager
    def _heap_held(self):
        try:
            self._busy = True
            while self._strays:
                self._heap.adopt(*self._strays.pop())
            yield self._heap
        finally:
            self._busy = False

    def ensure(self, nbytes: int) -> None:
        """Raise `OutOfMemoryError` if the machine has no room for `nbytes` more, in whoever's hands."""
        if nbytes > sysmem.memory_info()[1]:
            self.trim()
            total, available = sysmem.memory_info()
            if nbytes > available:
                gib = 1 << 30
                raise out_of_memory(nbytes, f"{available / gib:.1f} GiB of {total / gib:.1f} GiB are free.")

    def _check(self, size, nbytes):
        """Raise if a fresh block of `size` bytes cannot be backed; may empty the cache first."""
        total, available = sysmem.memory_info()
        if size > available or self._reserved + size > total:
            self.trim()
            total, available = sysmem.memory_info()
        if size > available or self._reserved + size > total:
            gib = 1 << 30
            free = f"{available / gib:.1f} GiB of {total / gib:.1f} GiB are free"
            raise out_of_memory(nbytes, f"{free}, buffers hold {self._reserved / gib:.1f} GiB.")

    def _trim_large(self, limit):
        """Let the operating system have free pages until `limit` bytes are free: what was put back into the heap, then
        blocks of the class freed longest ago first."""
        with self._lock:
            if self._busy:
                return
            with self._heap_held() as heap:
                excess = heap.free.total + sum(len(home) * home.size for home in self._large) - limit
                while excess > 0:
                    if heap.free:
                        given = heap.free.largest()
                    else:
                        oldest = min((home for home in self._large if home), key=lambda home: home.last_freed,
                                     default=None)
                        if oldest is None:
                            return
                        try:
                            given = heap.put(oldest.pop(), oldest.size)
                        except IndexError:  # another thread took it
                            continue
                    heap.give_back(given)
                    self._reserved -= given[1] - given[0]
                    excess -= given[1] - given[0]

    def _release(self, home, ptr):
        """Give a small block back to malloc."""
        with self._lock:
            self._reserved -= home.size
        sysmem.free(ptr)


def class_size(nbytes: int) -> int:
    """Bytes of the block for a request: 4 classes per octave for small ones, 8 for large ones."""
    if nbytes <= 4 * ALIGNMENT:
        return max(-(-nbytes // ALIGNMENT), 1) * ALIGNMENT
    large = nbytes > LARGE - LARGE // 8
    step = 1 << ((nbytes - 1).bit_length() - (4 if large else 3))
    return -(-nbytes // step) * step


def out_of_memory(nbytes: int, reason: str) -> OutOfMemoryError:
    """The error, in PyTorch's words."""
    where = "[enforce fail at jtorch/runtime/memory.py] DefaultCPUAllocator"
    return OutOfMemoryError(f"{where}: not enough memory: you tried to allocate {nbytes} bytes. {reason}")


allocator = Allocator()
"""The process's allocator."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=allocator.forget_lock)
