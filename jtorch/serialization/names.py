"""What the names in PyTorch's files mean here, and under which names what is ours is written.

A checkpoint is a pickle: it names functions that put tensors together, types of storages, dtypes. `MEANING` gives for
each such name what is called or used instead. The restricted unpickler knows these names and no others, so all that
stands here has to be harmless whatever its arguments are.
"""
from __future__ import annotations

import collections
import importlib
import types
from collections.abc import Callable
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Size, Tensor, set_requires_grad
from jtorch.capture.cell import Cell
from jtorch.devices import device
from jtorch.dtypes import LAYOUTS, Layout, dtype
from jtorch.ir.graph import Type
from jtorch.nn.parameter import Buffer, Parameter
from jtorch.ops.conversion import UntypedStorage
from jtorch.ops.pickling import parts_of, permutation, tensor_over, whole_of
from jtorch.storage import Storage
from jtorch.views import type_name


class StorageType:
    """`torch.FloatStorage` and its kin: in a file, the type of a storage's elements."""

    __slots__ = ("name", "dtype")

    def __init__(self, name: str, d: dtype) -> None:
        self.name, self.dtype = name, d

    def __repr__(self) -> str:
        return f"torch.{self.name}"


STORAGE_TYPES = {d: StorageType(type_name(d) + "Storage", d) for d in dtypes.ALL if d is not dtypes.uint32}
UNTYPED = StorageType("UntypedStorage", dtypes.uint8)
NEW_DTYPES = (dtypes.uint32,)
"""dtypes that have no type of storage: they are written over an untyped one."""


class Loaded:
    """A storage of a file. The first dense tensor made over it gives its contents their shape."""

    __slots__ = ("storage", "used", "_face")

    def __init__(self, storage: Storage) -> None:
        self.storage, self.used = storage, False
        self._face: UntypedStorage | None = None

    def tensor(self, size: Any, stride: Any, offset: Any, d: dtype | None = None) -> Tensor:
        size, stride = tuple(size), tuple(stride)
        storage = self.storage
        cell = storage.cell
        if d is not None and d is not cell.type.dtype:  # raw bytes: the tensor says what they are
            if self.used or cell.type.dtype is not dtypes.uint8 or cell.type.nbytes % d.itemsize:
                raise RuntimeError("tensors that see the same memory as different types are not supported")
            storage.cell = cell = Cell(Type(d, (cell.type.nbytes // d.itemsize,)), None, None, cell.buffer)
        if not self.used and offset == 0 and all(type(n) is int and n > 0 for n in (*size, *stride)):
            order = permutation(size, stride) if len(size) == len(stride) else None
            shape = tuple([size[i] for i in order]) if order is not None else ()
            if order is not None and Size(shape).numel() == cell.type.numel:
                storage.cell = Cell(Type(cell.type.dtype, shape), None, None, cell.buffer)
        self.used = True
        return tensor_over(storage, size, stride, offset)

    def face(self, typed: bool) -> UntypedStorage:
        """What the user sees of a storage that was saved by itself."""
        if self._face is None:
            self.used = True
            self._face = UntypedStorage(whole_of(self.storage), typed)
        return self._face


# --- rebuilding ------------------------------------------------------------------------------------------------------

def _loaded(storage: Any) -> Loaded:
    if not isinstance(storage, Loaded):
        raise TypeError(f"a tensor's storage is expected, not {type(storage).__name__}")
    return storage


def rebuild_tensor(storage: Any, storage_offset: Any, size: Any, stride: Any) -> Tensor:
    return _loaded(storage).tensor(size, stride, storage_offset)


def rebuild_tensor_v2(storage: Any, storage_offset: Any, size: Any, stride: Any, requires_grad: Any,
                      backward_hooks: Any, metadata: Any = None) -> Tensor:
    return _finished(_loaded(storage).tensor(size, stride, storage_offset), requires_grad, metadata)


def rebuild_tensor_v3(storage: Any, storage_offset: Any, size: Any, stride: Any, requires_grad: Any,
                      backward_hooks: Any, dtype: Any, metadata: Any = None) -> Tensor:
    return _finished(_loaded(storage).tensor(size, stride, storage_offset, dtype), requires_grad, metadata)


def _finished(t: Tensor, requires_grad: Any, metadata: Any) -> Tensor:
    marks = metadata or {}
    if marks.get("conj"):
        t = t.conj()
    if marks.get("neg"):
        t = -t
    set_requires_grad(t, bool(requires_grad))
    return t


def rebuild_parameter(data: Any, requires_grad: Any, backward_hooks: Any) -> Parameter:
    return Parameter(data, bool(requires_grad))


def rebuild_parameter_with_state(data: Any, requires_grad: Any, backward_hooks: Any, state: Any) -> Parameter:
    return with_state(Parameter(data, bool(requires_grad)), state)


def rebuild_from_type(function: Any, kind: Any, arguments: Any, state: Any) -> Tensor:
    """A tensor of a subclass, or with attributes."""
    if not (isinstance(kind, type) and issubclass(kind, Tensor)):
        raise TypeError(f"a type of tensors is expected, not {kind!r}")
    if function not in _REBUILD.values():
        raise TypeError(f"a function that rebuilds tensors is expected, not {function!r}")
    t = function(*arguments)
    if isinstance(state, dict) and state.get("_is_buffer"):
        return Buffer(t, persistent=bool(state.get("persistent", True)))
    if type(t) is not kind and kind is not Tensor:
        t = t.as_subclass(kind)
    return with_state(t, state)


def with_state(t: Any, state: Any) -> Any:
    """Attributes given back to a tensor."""
    plain, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if slots:
        raise TypeError("attributes in slots of a tensor are not supported")
    t.__dict__.update(plain or {})
    return t


def _unsupported(what: str) -> Callable[..., Any]:
    def refuse(*args: Any) -> Any:
        raise RuntimeError(f"the file holds {what}, which jtorch does not have")
    return refuse


# --- plain values: the constructors that a file may call, with the arguments that pickle gives them -----------------

def _bytes(text: Any, encoding: Any = "utf-8") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "utf-8", "ascii"):
        raise TypeError(f"cannot encode {type(text).__name__} as {encoding!r}")
    return text.encode(encoding)


def _bytearray(data: Any = b"", encoding: Any = "utf-8") -> bytearray:
    return bytearray(data if isinstance(data, bytes) else _bytes(data, encoding))


def layout_of(name: Any) -> Layout:
    for layout in LAYOUTS:
        if repr(layout) == name:
            return layout
    raise RuntimeError(f"the file holds the layout {name!r}, which jtorch does not have")


def _size(numbers: Any = ()) -> Size:
    return Size(tuple(numbers))


PLAIN: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict, "collections.Counter": collections.Counter,
    "_codecs.encode": _bytes, "builtins.bytearray": _bytearray, "builtins.set": set, "builtins.complex": complex,
    "__builtin__.bytearray": _bytearray, "__builtin__.set": set, "__builtin__.complex": complex,  # protocol 2 says so
}
"""Values of Python's own."""

_REBUILD: dict[str, Any] = {
    "_rebuild_tensor": rebuild_tensor, "_rebuild_tensor_v2": rebuild_tensor_v2, "_rebuild_tensor_v3": rebuild_tensor_v3,
    "_rebuild_parameter": rebuild_parameter, "_rebuild_parameter_with_state": rebuild_parameter_with_state,
    "_rebuild_qtensor": _unsupported("a quantized tensor"), "_rebuild_sparse_tensor": _unsupported("a sparse tensor"),
    "_rebuild_sparse_csr_tensor": _unsupported("a sparse tensor"),
    "_rebuild_nested_tensor": _unsupported("a nested tensor"),
    "_rebuild_meta_tensor_no_storage": _unsupported("a tensor without memory (device 'meta')"),
    "_rebuild_device_tensor_from_numpy": _unsupported("a tensor of another device"),
    "_rebuild_device_tensor_from_cpu_tensor": _unsupported("a tensor of another device"),
    "_rebuild_wrapper_subclass": _unsupported("a tensor subclass without memory"),
}

MEANING: dict[str, Any] = {
    **PLAIN, **{f"torch._utils.{name}": function for name, function in _REBUILD.items()},
    **{f"torch.{t.name}": t for t in (*STORAGE_TYPES.values(), UNTYPED)}, "torch.storage.UntypedStorage": UNTYPED,
    **{repr(d): d for d in dtypes.ALL}, **{repr(layout): layout for layout in LAYOUTS},
    "torch._tensor._rebuild_from_type_v2": rebuild_from_type, "torch.Size": _size, "torch.device": device,
    "torch.serialization._get_layout": layout_of, "torch.Tensor": Tensor, "torch._tensor.Tensor": Tensor,
    "torch.nn.parameter.Parameter": Parameter, "torch.nn.parameter.Buffer": Buffer,
}
"""name in a file -> what it means here."""

_WRITTEN: dict[int, tuple[str, str]] = {
    id(x): (module, name)  # the first name given to a thing is the one that is written
    for module, _, name, x in reversed([(*key.rpartition("."), x) for key, x in MEANING.items()
                                        if not key.startswith(("collections", "builtins", "_codecs", "__builtin__"))])}
_WRITTEN[id(Size)] = ("torch", "Size")


def written_as(x: Any, module: str | None, name: str) -> tuple[str, str] | None:
    """(module, name) under which a thing of jtorch's stands in a file: PyTorch's. None for what is not of ours."""
    found = _WRITTEN.get(id(x))
    if found is not None:
        return found
    top, dot, rest = (module or "").partition(".")
    return ("torch" + dot + rest, name) if top == "jtorch" else None


def find(module: str, name: str) -> Any:
    """What a name in an unrestricted file means: ours for PyTorch's, else whatever Python finds.

    A class that PyTorch has in a file of its own is looked for in the packages around that file too.
    """
    found = MEANING.get(f"{module}.{name}")
    if found is not None:
        return found
    top, dot, rest = module.partition(".")
    if top != "torch":
        return _attribute(importlib.import_module(module), name)
    places = ("jtorch" + dot + rest).split(".")
    for end in range(len(places), 0, -1):
        try:
            return _attribute(importlib.import_module(".".join(places[:end])), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise AttributeError(f"the file needs {module}.{name}, which jtorch does not have")


def _attribute(module: types.ModuleType, name: str) -> Any:
    x: Any = module
    for part in name.split("."):
        x = getattr(x, part)
    return x


# --- what is written -------------------------------------------------------------------------------------------------

def reduced(t: Tensor, storage_of: Callable[[Storage, dtype], Any]) -> tuple:
    """How a tensor is put together again, in the functions above; `storage_of` gives what stands for its storage."""
    kind, state = type(t), t.__dict__
    data = t.detach() if isinstance(t, Parameter) else t
    hooks: Any = collections.OrderedDict()
    storage, size, stride, offset = parts_of(data)
    handle = storage_of(storage, storage.cell.type.dtype)
    arguments: tuple = (handle, offset, size, stride, bool(data.requires_grad), hooks)
    function: Callable[..., Tensor] = rebuild_tensor_v2
    if storage.cell.type.dtype in NEW_DTYPES:
        function, arguments = rebuild_tensor_v3, (*arguments, storage.cell.type.dtype)
    if kind is Parameter:
        made: Any = _Made(function, arguments)
        if state:
            return rebuild_parameter_with_state, (made, t.requires_grad, hooks, dict(state))
        return rebuild_parameter, (made, t.requires_grad, collections.OrderedDict())
    if isinstance(t, Buffer):
        return rebuild_from_type, (function, Tensor, arguments, {"persistent": t.persistent, "_is_buffer": True})
    if kind is not Tensor or state:
        return rebuild_from_type, (function, kind, arguments, dict(state))
    return function, arguments


class _Made:
    """Something that a function makes from arguments when it is loaded."""

    __slots__ = ("recipe",)

    def __init__(self, *recipe: Any) -> None:
        self.recipe = recipe

    def __reduce__(self) -> tuple:
        return self.recipe
