"""Tensors in memory that several processes have.

A shared storage lies in a file that exists in memory only. With the strategy 'file_descriptor' the file has no name,
and is gone when the last process that has it is, however that ends. With 'file_system' it has a name in /dev/shm and
counts who has it; the last one removes it. What killed processes leave is removed by Python's resource tracker.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
import weakref
from collections.abc import Iterator
from multiprocessing import resource_tracker, util
from typing import Any

import numpy as np

from jtorch.capture.cell import Cell
from jtorch.capture.record import current
from jtorch.dtypes import dtype
from jtorch.ir.graph import Type
from jtorch.runtime import sysmem
from jtorch.storage import SharedBuffer, Storage

FOLDER = "/dev/shm"
HEADER = 64
"""Bytes in front of the elements in a named file: how many have it."""

STRATEGIES = {"file_descriptor", "file_system"}


def anonymous_file(nbytes: int) -> int:
    """The descriptor of a new file of zeros that exists in memory only and has no name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("jtorch")
    else:  # not Linux
        with tempfile.TemporaryFile(dir=FOLDER if os.path.isdir(FOLDER) else None) as file:
            descriptor = os.dup(file.fileno())
    try:
        reserve(descriptor, nbytes)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def reserve(descriptor: int, nbytes: int) -> None:
    """Give a file its size and its memory now: a lack of it found out later would kill the process."""
    os.ftruncate(descriptor, nbytes)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, nbytes)
        except OSError as error:
            raise RuntimeError(f"unable to allocate {nbytes} bytes of shared memory: {error.strerror}. Is {FOLDER} or "
                               "the machine's memory full?") from None


class Mapping:
    """`nbytes` bytes of a file, in memory from `ptr` on; all who map the file see what the others write."""

    __slots__ = ("ptr", "nbytes", "_length", "__weakref__")

    def __init__(self, descriptor: int, nbytes: int, header: int = 0) -> None:
        self._length = max(nbytes + header, 1)
        start = sysmem.map_shared(descriptor, self._length)
        if not start:
            raise RuntimeError(f"unable to map {nbytes} bytes of shared memory")
        self.ptr, self.nbytes = start + header, nbytes
        weakref.finalize(self, sysmem.unmap_pages, start, self._length).atexit = False


class Described(Mapping):
    """A mapping that keeps its file's descriptor, to be sent on."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int, nbytes: int) -> None:
        super().__init__(descriptor, nbytes)
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor).atexit = False

    @classmethod
    def new(cls, nbytes: int) -> Described:
        return cls(anonymous_file(max(nbytes, 1)), nbytes)

    @property
    def identity(self) -> tuple:
        return file_identity(self.descriptor)


def file_identity(descriptor: int) -> tuple:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


class Named(Mapping):
    """A mapping of a file in /dev/shm. Holds one of the references that the file counts."""

    __slots__ = ("name", "process")

    def __init__(self, name: str, nbytes: int, descriptor: int) -> None:
        super().__init__(descriptor, nbytes, HEADER)
        self.name, self.process = name, os.getpid()
        _named.add(self)
        self.release_at_exit()

    def release_at_exit(self) -> None:
        """Or when it is no longer used. In a process that was forked with it, nothing happens."""
        util.Finalize(self, release, (self.name,), exitpriority=0)

    @classmethod
    def new(cls, nbytes: int) -> Named:
        name = f"jtorch_{os.getpid()}_{secrets.token_hex(6)}"
        descriptor = os.open(os.path.join(FOLDER, name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        resource_tracker.register("/" + name, "shared_memory")
        try:
            reserve(descriptor, nbytes + HEADER)
            count(descriptor, 1)
            return cls(name, nbytes, descriptor)
        except BaseException:
            unlink(name)
            raise
        finally:
            os.close(descriptor)

    @classmethod
    def received(cls, name: str, nbytes: int) -> Named:
        """The mapping for a name that came with a reference."""
        with opened(name) as descriptor:
            return cls(name, nbytes, descriptor)

    @property
    def identity(self) -> tuple:
        return (self.name,)


_named: weakref.WeakSet[Named] = weakref.WeakSet()


def _renew(named: weakref.WeakSet[Named]) -> None:
    """A process that `multiprocessing` starts forgets the finalizers of what came with its arguments."""
    for mapping in list(named):
        if mapping.process == os.getpid():
            mapping.release_at_exit()


util.register_after_fork(_named, _renew)


@contextlib.contextmanager
def opened(name: str) -> Iterator[int]:
    descriptor = os.open(os.path.join(FOLDER, name), os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def count(descriptor: int, change: int) -> int:
    """Change how many have a named file; the number after that."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        number = int.from_bytes(os.pread(descriptor, 8, 0), "little") + change
        os.pwrite(descriptor, number.to_bytes(8, "little"), 0)
        return number
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def hold(name: str) -> None:
    """One more reference to a named file: for a message that is on its way."""
    with opened(name) as descriptor:
        count(descriptor, 1)


def release(name: str) -> None:
    """Give up a reference; the last one removes the file."""
    with contextlib.suppress(OSError), opened(name) as descriptor:
        if count(descriptor, -1) <= 0:
            unlink(name)


def unlink(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(FOLDER, name))
        resource_tracker.unregister("/" + name, "shared_memory")


# --- storages --------------------------------------------------------------------------------------------------------

class _Settings:
    strategy = "file_descriptor"


def get_sharing_strategy() -> str:
    """How tensors travel between processes: 'file_descriptor' or 'file_system'."""
    return _Settings.strategy


def set_sharing_strategy(new_strategy: str) -> None:
    """Choose how tensors travel between processes from now on. Called before processes are started, it holds for them,
    and they have one resource tracker together."""
    if new_strategy not in STRATEGIES:
        raise AssertionError(f"invalid sharing strategy {new_strategy!r}: expected one of {sorted(STRATEGIES)}")
    if new_strategy == "file_system":
        resource_tracker.ensure_running()
    _Settings.strategy = new_strategy


def mapping_of(storage: Storage) -> Any:
    """The mapping in which a storage lies, None if its memory is the process's own."""
    buffer = storage.cell.buffer
    owner = getattr(buffer, "_owner", None) if type(buffer) is SharedBuffer else None
    return owner if isinstance(owner, Mapping) else None


def is_shared(storage: Storage) -> bool:
    """Does the storage lie in memory that other processes can have too: a mapping, or the segment in which a loader's
    worker has sent it?"""
    if mapping_of(storage) is not None:
        return True
    owner = getattr(storage.cell.buffer, "_owner", None)
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner, memoryview) and hasattr(owner.obj, "lease")


def share(storage: Storage) -> Any:
    """Move a storage to shared memory, if it is not there; its mapping."""
    found = mapping_of(storage)
    if found is not None:
        return found
    recorder = current.recorder
    if recorder.tracing is not None:
        raise RuntimeError("memory cannot be shared in a traced function")
    recorder.flush()
    cell = storage.cell
    if cell.buffer is None:
        recorder.materialise(cell)
    mapping = (Named if _Settings.strategy == "file_system" else Described).new(cell.type.nbytes)
    buffer = over(mapping, cell.type.nbytes)
    buffer.copy_from(cell.buffer)
    cell.buffer = buffer
    storage.export(mapping)
    return mapping


def over(mapping: Mapping, nbytes: int) -> SharedBuffer:
    buffer = SharedBuffer(mapping.ptr, nbytes, None)
    buffer._owner = mapping
    return buffer


def shared_storage(mapping: Any, d: dtype, shape: tuple[int, ...]) -> Storage:
    """The storage that lies in a mapping."""
    kind = Type(d, shape)
    if kind.nbytes > mapping.nbytes:
        raise RuntimeError(f"{kind.nbytes} bytes of shared memory are expected, {mapping.nbytes} are there")
    storage = Storage(Cell(kind, None, None, over(mapping, kind.nbytes)))
    storage.export(mapping)
    return storage


__all__ = ["Mapping", "anonymous_file", "get_sharing_strategy", "mapping_of", "set_sharing_strategy", "share",
           "shared_storage"]
