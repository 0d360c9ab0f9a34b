"""`load`: PyTorch's zip format and the one before it."""
from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from jtorch import devices
from jtorch.capture.record import current
from jtorch.dtypes import dtype
from jtorch.ops.conversion import UntypedStorage
from jtorch.ops.pickling import storage_over
from jtorch.runtime.memory import allocator
from jtorch.serialization.archive import MAGIC, Mapping, Reader
from jtorch.serialization.names import MEANING, Loaded, StorageType, find
from jtorch.serialization.restricted import Machine, allowed_names
from jtorch.serialization.saving import MAGIC_NUMBER, PROTOCOL_VERSION

_ADVICE = ("Weights only load failed. Re-running `torch.load` with `weights_only` set to `False` will likely succeed, "
           "but it can result in arbitrary code execution. Do it only if you got the file from a trusted source.\n"
           "WeightsUnpickler error: {}")


def load(f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None,
         mmap: bool | None = None, **pickle_load_args: Any) -> Any:
    """What `save` of jtorch or PyTorch wrote. `f` is a path, or an object with `read`, `seek` and `tell`.

    By default only tensors and plain containers are loaded, by an unpickler that calls nothing else; with
    `weights_only=False` the file may run any code. `mmap=True` reads a file's tensors when they are used.
    `map_location` is a device, a dictionary of devices, or a function of (storage, location); all must end on the CPU.

    Raises: pickle.UnpicklingError, naming what was refused, if the file holds more than data or is no pickle;
    RuntimeError if it is damaged, or has tensors of a device and no `map_location`; EOFError if it is empty.
    """
    if weights_only is None:
        weights_only = pickle_module is None
    if weights_only and pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    if weights_only and set(pickle_load_args) - {"encoding"}:
        warnings.warn("pickle_load_args only works if `weights_only=False`.", stacklevel=2)
    if mmap and not isinstance(f, (str, os.PathLike)):
        raise ValueError("f must be a file path in order to use the mmap argument")
    if current.recorder.tracing is not None:
        raise RuntimeError("torch.load cannot be called in a traced function")
    place = restorer(map_location)
    with opened(f) as file:
        start = file.tell()
        head = file.read(len(MAGIC))
        file.seek(start)
        try:
            if head == MAGIC:
                archive = _Archive(Reader(file), place, Mapping(f) if mmap else None)
                return archive.load(weights_only, pickle_module or pickle, pickle_load_args)
            if mmap:
                raise RuntimeError("mmap can only be used with files saved with `torch.save(_use_new_zipfile_"
                                   "serialization=True), please torch.save your checkpoint with this option in order "
                                   "to use mmap.")
            return _load_legacy(file, place, weights_only, pickle_module or pickle, pickle_load_args)
        except pickle.UnpicklingError as error:
            if not weights_only:
                raise
            raise pickle.UnpicklingError(_ADVICE.format(error)) from None


@contextlib.contextmanager
def opened(f: Any) -> Iterator[IO[bytes]]:
    """`f` for reading: opened if it is a path."""
    if isinstance(f, (str, bytes, os.PathLike)):
        with open(f, "rb") as file:
            yield file
        return
    try:
        f.seek(f.tell())
        _ = f.read
    except (OSError, AttributeError) as error:
        kind = AttributeError if isinstance(error, AttributeError) else io.UnsupportedOperation
        raise kind(f"{error}. You can only torch.load from a file that is seekable. Please pre-load the data into a "
                   "buffer like io.BytesIO and try to load from it instead.") from None
    yield f


# --- where tensors go ------------------------------------------------------------------------------------------------

Restorer = Callable[[Loaded, str], Loaded]


def restorer(map_location: Any) -> Restorer:
    """The function that puts a storage, saved on a device, where `map_location` says. That has to be the CPU."""
    def on_cpu(loaded: Loaded, location: str) -> Loaded:
        kind = location.partition(":")[0]
        if kind == "cuda":
            raise RuntimeError("Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is "
                               "False. If you are running on a CPU-only machine, please use torch.load with "
                               "map_location=torch.device('cpu') to map your storages to the CPU.")
        if kind != "cpu":
            raise RuntimeError(f"don't know how to restore data location of torch.storage.UntypedStorage (tagged with "
                               f"{location}): please use torch.load with map_location=torch.device('cpu')")
        return loaded

    if map_location is None:
        return on_cpu
    if isinstance(map_location, dict):
        return lambda loaded, location: on_cpu(loaded, str(map_location.get(location, location)))
    if isinstance(map_location, (str, bytes)):
        target = map_location.decode() if isinstance(map_location, bytes) else map_location
        return lambda loaded, location: on_cpu(loaded, target)
    if isinstance(map_location, devices.device):
        return lambda loaded, location: on_cpu(loaded, str(map_location))

    def asked(loaded: Loaded, location: str) -> Loaded:
        result = map_location(loaded.face(typed=False), location)
        if result is None:
            return on_cpu(loaded, location)
        if not isinstance(result, UntypedStorage):
            raise TypeError(f"map_location is expected to return a storage or None, not {type(result).__name__}")
        return loaded if result == loaded.face(typed=False) else Loaded(result._tensor._storage)
    return asked


# --- the zip format --------------------------------------------------------------------------------------------------

class _Archive:
    """Loads from the records of a zip file."""

    def __init__(self, reader: Reader, place: Restorer, mapping: Mapping | None) -> None:
        self.reader, self.place, self.mapping = reader, place, mapping
        self.loaded: dict[str, Loaded] = {}
        if "constants.pkl" in reader:
            raise RuntimeError("the file is a TorchScript archive, which jtorch does not load: save the state_dict of "
                               "the model with torch.save")
        order = reader.read("byteorder") if "byteorder" in reader else b"little"
        if order not in (b"little", b"big"):
            raise RuntimeError(f"Unknown endianness type: {order!r}")
        self.swap = order.decode() != sys.byteorder

    def load(self, weights_only: bool, pickle_module: Any, arguments: dict[str, Any]) -> Any:
        data = self.reader.read("data.pkl")
        if weights_only:
            return Machine(data, self.storage, encoding=arguments.get("encoding", "utf-8")).run()
        return unrestricted(io.BytesIO(data), pickle_module, self.storage, arguments)

    def storage(self, identity: tuple) -> Any:
        if len(identity) != 5:
            raise pickle.UnpicklingError(f"a storage of the zip format has 5 attributes, this one {len(identity)}")
        _, kind, key, location, numel = identity
        d = checked(kind, key, location, numel)
        found = self.loaded.get(key)
        if found is None:
            found = self.place(self.read(f"data/{key}", d, numel), location)
            self.loaded[key] = found
        elif found.storage.cell.type.dtype is not d:
            raise RuntimeError(f"storage {key} is of two types")
        return found

    def read(self, name: str, d: dtype, numel: int) -> Loaded:
        length = numel * d.itemsize
        there = self.reader.length(name)
        if there != length:
            raise RuntimeError(f"record {name} holds {there} bytes instead of {length}: the file is damaged")
        if self.mapping is not None:
            memory = self.mapping.part(*self.reader.place(name), d.itemsize)
        else:
            memory = allocator.alloc(length).numpy(np.uint8, (length,))
            self.reader.read_into(name, memory.data)
        return Loaded(storage_over(swapped(memory, d) if self.swap else memory, d, (numel,)))


def checked(kind: Any, key: Any, location: Any, numel: Any) -> dtype:
    """The dtype of a storage whose attributes make sense."""
    if not isinstance(kind, StorageType):
        raise pickle.UnpicklingError(f"a type of storages is expected, not {kind!r}")
    if type(key) is not str or type(location) is not str or type(numel) is not int or numel < 0:
        raise pickle.UnpicklingError("the attributes of a storage are damaged")
    return kind.dtype


def swapped(memory: np.ndarray, d: dtype) -> np.ndarray:
    """Elements in the other order of bytes; a complex number is two."""
    size = d.itemsize // 2 if d.is_complex else d.itemsize
    return memory.view(f"u{size}").byteswap().view(np.uint8)


# --- the format before PyTorch 1.6 -----------------------------------------------------------------------------------

def _load_legacy(file: IO[bytes], place: Restorer, weights_only: bool, pickle_module: Any,
                 arguments: dict[str, Any]) -> Any:
    """Pickles one behind the other (a magic number, a version, the system, the object, names of storages), then the
    storages. Of the object's pickle nothing is run before the numbers are right."""
    start = file.tell()
    data = file.read()
    if not data:
        raise EOFError("Ran out of input")
    encoding = arguments.get("encoding", "utf-8")

    def plain(position: int) -> tuple[Any, int]:
        machine = Machine(data, refuse_storage, position, encoding=encoding)
        return machine.run(), machine.position

    try:
        magic, position = plain(0)
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(f"invalid load key: not a file that torch.save writes ({error})") from None
    if magic != MAGIC_NUMBER:
        raise RuntimeError("Invalid magic number; corrupt file?")
    version, position = plain(position)
    if version != PROTOCOL_VERSION:
        raise RuntimeError(f"Invalid protocol version: {version}")
    system, position = plain(position)
    swap = isinstance(system, dict) and system.get("little_endian", True) != (sys.byteorder == "little")
    waiting: dict[str, tuple[Loaded, np.ndarray]] = {}

    def storage(identity: tuple) -> Any:
        if identity[0] == "module":  # (class, file, source) of a pickled class
            return identity[1]
        if len(identity) != 6:
            raise pickle.UnpicklingError(f"a storage of the old format has 6 attributes, this one {len(identity)}")
        _, kind, key, location, numel, view = identity
        d = checked(kind, key, location, numel)
        if view is not None:
            raise RuntimeError("the file has views of storages, as PyTorch wrote them before 0.4; jtorch does not load "
                               "these")
        if key not in waiting:
            if numel * d.itemsize > len(data):
                raise RuntimeError(f"storage {key} of {numel} elements does not fit into the file: it is damaged")
            memory = allocator.alloc(numel * d.itemsize).numpy(np.uint8, (numel * d.itemsize,))
            waiting[key] = place(Loaded(storage_over(memory, d, (numel,))), location), memory
        return waiting[key][0]

    if weights_only:
        machine = Machine(data, storage, position, encoding=encoding)
        result, position = machine.run(), machine.position
    else:
        stream = io.BytesIO(data)
        stream.seek(position)
        result = unrestricted(stream, pickle_module, storage, arguments)
        position = stream.tell()
    keys, position = plain(position)
    if not isinstance(keys, list) or not all(type(k) is str for k in keys) or set(waiting) - set(keys):
        raise RuntimeError("the list of storages is damaged")
    for key in keys:
        if key not in waiting:
            raise RuntimeError("the list of storages is damaged")
        loaded, memory = waiting[key]
        size = loaded.storage.cell.type.dtype.itemsize
        body = position + 8 + len(memory)
        if body > len(data) or struct.unpack_from("<q", data, position)[0] * size != len(memory):
            raise RuntimeError(f"unexpected EOF or wrong size of storage {key}. The file might be corrupted.")
        raw = np.frombuffer(data, np.uint8, len(memory), position + 8)
        memory[:] = swapped(raw, loaded.storage.cell.type.dtype) if swap else raw
        position = body
    file.seek(start + position)
    return result


def refuse_storage(identity: tuple) -> Any:
    raise pickle.UnpicklingError("a storage where none is expected")


# --- without restriction ---------------------------------------------------------------------------------------------

def unrestricted(stream: IO[bytes], pickle_module: Any, storage: Callable[[tuple], Any],
                 arguments: dict[str, Any]) -> Any:
    """Python's unpickling, in which PyTorch's names mean ours."""
    class Unpickler(pickle_module.Unpickler):
        """Knows PyTorch's names and storages."""

        def find_class(self, module: str, name: str) -> Any:
            if module.partition(".")[0] == "torch" or f"{module}.{name}" in MEANING:
                return find(module, name)
            return super().find_class(module, name)

        def persistent_load(self, identity: Any) -> Any:
            return storage(identity)

    return Unpickler(stream, **{"encoding": "utf-8", **arguments}).load()


def get_unsafe_globals_in_checkpoint(f: Any) -> list[str]:
    """The names in a file of `save`'s zip format that `load` would refuse, in the order in which they come."""
    with opened(f) as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("Expected input to be a checkpoint returned by torch.save")
        file.seek(0)
        names: dict[str, None] = {}
        Machine(Reader(file).read("data.pkl"), refuse_storage, names=names).run()
    return [name for name in names if name not in MEANING and name not in allowed_names()]
