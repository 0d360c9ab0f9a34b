"""`save`: PyTorch's zip format. The previous file stays until the new one is complete."""
from __future__ import annotations

import contextlib
import io
import os
import pickle
import secrets
import stat
import struct
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from jtorch._tensor import Size, Tensor
from jtorch.capture.record import current
from jtorch.devices import device
from jtorch.dtypes import Layout, dtype
from jtorch.nn.parameter import Buffer, Parameter
from jtorch.ops.conversion import UntypedStorage
from jtorch.ops.pickling import memory_of
from jtorch.serialization.archive import Writer
from jtorch.serialization.names import (
    NEW_DTYPES,
    STORAGE_TYPES,
    UNTYPED,
    StorageType,
    layout_of,
    reduced,
    written_as,
)
from jtorch.storage import Storage

DEFAULT_PROTOCOL = 2
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001


class Handle:
    """Stands in the pickle for a storage: its number and the type of its elements."""

    __slots__ = ("storage", "dtype")

    def __init__(self, storage: Storage, d: dtype) -> None:
        self.storage, self.dtype = storage, d


class Storages:
    """The storages that a pickle refers to, numbered as they come."""

    def __init__(self) -> None:
        self.keys: dict[Storage, str] = {}

    def identity(self, handle: Handle, legacy: bool) -> tuple:
        storage = handle.storage
        key = self.keys.setdefault(storage, str(len(self.keys)))
        kind, count = STORAGE_TYPES.get(handle.dtype, UNTYPED), storage.cell.type.numel
        if kind is UNTYPED or handle.dtype in NEW_DTYPES:
            count = storage.cell.type.nbytes
        return ("storage", kind, key, "cpu", count, None) if legacy else ("storage", kind, key, "cpu", count)


_BASIC = frozenset([str, int, float, bool, type(None), dict, list, tuple, OrderedDict, bytes, set, types.FunctionType])


def replaced(x: Any) -> Any:
    """A `reducer_override`: tensors, dtypes and such as PyTorch writes them."""
    kind = type(x)
    if kind in _BASIC or issubclass(kind, type):
        return NotImplemented
    if issubclass(kind, Tensor) and kind.__reduce_ex__ in _TENSOR_REDUCTIONS:
        return reduced(x, Handle)
    if kind is device:
        return device, (x.type,) if x.index is None else (x.type, x.index)
    if kind is Size:
        return Size, (tuple(x),)
    if kind is dtype or kind is StorageType:
        return repr(x).removeprefix("torch.")
    if kind is Layout:
        return (layout_of, (repr(x),)) if x.name == "strided" else x.name
    return NotImplemented


def handle_of(x: Any) -> Handle | None:
    if type(x) is Handle:
        return x
    if isinstance(x, UntypedStorage):
        storage = x._tensor._storage
        return Handle(storage, storage.cell.type.dtype)
    return None


_InPython: Any = pickle._Pickler  # the one in which names can be replaced


class Pickler(_InPython):
    """Writes PyTorch's names for what is ours."""

    reducer_override = staticmethod(replaced)
    dispatch = {**_InPython.dispatch, types.FunctionType: lambda self, x: self.save_global(x)}

    def __init__(self, file: Any, protocol: int, storages: Storages, legacy: bool = False) -> None:
        super().__init__(file, protocol)
        self.storages, self.legacy = storages, legacy

    def persistent_id(self, x: Any) -> Any:
        handle = handle_of(x)
        return None if handle is None else self.storages.identity(handle, self.legacy)

    def save_global(self, x: Any, name: str | None = None) -> None:
        own = name or getattr(x, "__qualname__", None) or x.__name__
        written = written_as(x, getattr(x, "__module__", None), own)
        if written is None:
            super().save_global(x, name)
            return
        self.write(pickle.GLOBAL + f"{written[0]}\n{written[1]}\n".encode())
        self.memoize(x)


def pickled(obj: Any, pickle_module: Any, protocol: int, storages: Storages, legacy: bool = False) -> bytes:
    """The object as a pickle. Another module than `pickle` writes the names of classes as it finds them."""
    memory = io.BytesIO()
    if pickle_module is pickle:
        Pickler(memory, protocol, storages, legacy).dump(obj)
        return memory.getvalue()

    class Other(pickle_module.Pickler):
        """Knows storages."""

        def persistent_id(self, x: Any) -> Any:
            handle = handle_of(x)
            return None if handle is None else storages.identity(handle, legacy)

        def reducer_override(self, x: Any) -> Any:
            if isinstance(x, Tensor) and type(x).__reduce_ex__ in _TENSOR_REDUCTIONS:
                return reduced(x, Handle)
            inherited = getattr(super(), "reducer_override", None)
            return NotImplemented if inherited is None else inherited(x)

    Other(memory, protocol).dump(obj)
    return memory.getvalue()


# --- files -----------------------------------------------------------------------------------------------------------

def save(obj: Any, f: Any, pickle_module: Any = pickle, pickle_protocol: int = DEFAULT_PROTOCOL,
         _use_new_zipfile_serialization: bool = True, _disable_byteorder_record: bool = False) -> None:
    """Write an object to a file that `load` and PyTorch read. `f` is a path, or an object with `write`.

    Storages shared between tensors are written once. A file at the path is replaced when the new one is complete: an
    error, a full disk or a killed process leave the previous one as it is.

    Raises: RuntimeError if there is no such folder; AttributeError if `f` is neither a path nor has `write`; what
    pickling raises.
    """
    current.recorder.flush()
    if not _is_path(f):
        if not hasattr(f, "write"):
            raise AttributeError("expected 'f' to be string, path, or a file-like object with a 'write' attribute, but "
                                 f"it is a {type(f).__name__}")
        _write(obj, f, "archive", pickle_module, pickle_protocol, _use_new_zipfile_serialization)
        return
    path = os.fspath(f)
    name = os.path.splitext(os.path.basename(os.fsdecode(path)))[0] or "archive"
    if not name.isascii():
        name = "archive"
    with replacing(path) as file:
        _write(obj, file, name, pickle_module, pickle_protocol, _use_new_zipfile_serialization)


def _is_path(f: Any) -> bool:
    return isinstance(f, (str, bytes, os.PathLike))


@contextlib.contextmanager
def replacing(path: Any) -> Iterator[Any]:
    """A new file that takes the place of the one at `path` when the block is left without an error."""
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {os.fsdecode(folder)} does not exist.")
    try:
        mode = os.stat(target).st_mode
    except OSError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):  # a device or a pipe: there is nothing to keep
        with open(target, "wb") as file:
            yield file
        return
    beside = os.path.join(folder, type(name)().join([name[:200], _suffix(name)]))
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except PermissionError:  # the folder takes no new files
        with open(target, "wb") as file:
            yield file
        return
    try:
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, stat.S_IMODE(mode))
            yield file
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _suffix(name: Any) -> Any:
    suffix = f".{secrets.token_hex(6)}.tmp"
    return suffix.encode() if isinstance(name, bytes) else suffix


def _write(obj: Any, file: Any, name: str, pickle_module: Any, protocol: int, zipped: bool) -> None:
    storages = Storages()
    if not zipped:
        _write_legacy(obj, file, pickle_module, protocol, storages)
        return
    data = pickled(obj, pickle_module, protocol, storages)
    archive = Writer(file, name)
    archive.write("data.pkl", data)
    archive.write(".format_version", b"1")
    archive.write(".storage_alignment", b"64")
    archive.write("byteorder", sys.byteorder.encode())
    for storage, key in storages.keys.items():
        archive.write(f"data/{key}", memory_of(storage))
    archive.write("version", b"3\n")
    archive.write(".data/serialization_id", b"%040d" % secrets.randbelow(10**40))
    archive.close()


def _write_legacy(obj: Any, file: Any, pickle_module: Any, protocol: int, storages: Storages) -> None:
    """The format before PyTorch 1.6: pickles one behind the other, then the storages."""
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": PROTOCOL_VERSION, "little_endian": sys.byteorder == "little", "type_sizes": sizes}
    for x in (MAGIC_NUMBER, PROTOCOL_VERSION, system):
        file.write(pickle.dumps(x, protocol))
    file.write(pickled(obj, pickle_module, protocol, storages, legacy=True))
    file.write(pickle.dumps(list(storages.keys.values()), protocol))
    for storage in storages.keys:
        file.write(struct.pack("<q", storage.cell.type.numel))
        file.write(memory_of(storage).data)


_TENSOR_REDUCTIONS = (Tensor.__reduce_ex__, Parameter.__reduce_ex__, Buffer.__reduce_ex__)
