"""The tensor: a typed view of a Storage. Operators are attached by `jtorch.ops`; this file holds what a tensor *is*."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jtorch import devices, dtypes
from jtorch.capture.cell import Cell, Epoch
from jtorch.capture.execute import array_of, buffer_of
from jtorch.capture.record import OWNED, Recorder, current
from jtorch.dtypes import dtype
from jtorch.ir.graph import Type, Value, known_type
from jtorch.ir.primitive import Op
from jtorch.ir.prims.complex import conj
from jtorch.ir.prims.elementwise import neg
from jtorch.storage import Storage

if TYPE_CHECKING:
    from jtorch._methods import TensorMethods  # a stub: tools/stubs.py lists there what is attached
else:
    TensorMethods = object


class Size(tuple):
    """Shape of a tensor: a tuple with `numel()`, printed as PyTorch prints it."""

    def numel(self) -> int:
        n = 1
        for s in self:
            n *= s
        return n

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"

    def __getitem__(self, i: Any) -> Any:
        item = tuple.__getitem__(self, i)
        return Size(item) if isinstance(i, slice) else item

    def __add__(self, other: Any) -> Size:
        return Size(tuple(self) + tuple(other))


class Tensor(TensorMethods):
    """A multi-dimensional array that records what is done with it.

    `_storage` is shared with the views of this tensor. `_view` is the chain of (op, attributes) that leads from the
    storage's contents to this tensor, None for the contents themselves; `_geometry` its (strides, offset) in elements,
    None where contiguous from 0. `_value`, `_version` and `_epoch` note the tensor's Value and for which contents it
    holds.
    """

    __module__ = "jtorch"  # its public name, as `type(x)` prints it
    __slots__ = ("_storage", "_type", "_view", "_geometry", "_value", "_version", "_epoch", "_requires_grad", "_grad",
                 "__dict__", "__weakref__")
    _storage: Storage
    _type: Type
    _view: tuple[tuple[Any, Any], ...] | None
    _geometry: tuple[tuple[int, ...], int] | None
    _value: Value
    _version: int
    _epoch: Epoch | None
    _requires_grad: bool
    _grad: Tensor | None
    __array_priority__ = 1000

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        return legacy_constructor(cls, dtypes_default(), *args, **kwargs)

    # --- what it is ----------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self._type.shape)

    @property
    def dtype(self) -> dtype:
        return self._type.dtype

    @property
    def device(self) -> devices.device:
        return devices.cpu

    @property
    def ndim(self) -> int:
        return len(self._type.shape)

    @property
    def itemsize(self) -> int:
        return self._type.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._type.nbytes

    def numel(self) -> int:
        return self._type.numel

    def stride(self, dim: int | None = None) -> Any:
        strides = self._type.strides if self._geometry is None else self._geometry[0]
        return strides if dim is None else strides[dim]

    def storage_offset(self) -> int:
        return 0 if self._geometry is None else self._geometry[1]

    @property
    def requires_grad(self) -> bool:
        if self._requires_grad:
            return True
        if self._version == self._storage.version:
            return self._value is not None and self._value.requires_grad
        if self._storage.cell.value is None and all(op not in OWNED for op, _ in self._view or ()):
            return False  # data without a history
        return current.recorder.value(self).requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        set_requires_grad(self, flag)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        set_requires_grad(self, requires_grad)
        return self

    @property
    def is_leaf(self) -> bool:
        return self._requires_grad or not self.requires_grad

    # --- data ----------------------------------------------------------------------------------------------------

    def _array(self) -> np.ndarray:
        """The tensor's elements as a NumPy array, computed now: over the storage's memory (strided for a view), unless
        reading changes them (`_pending_ops`)."""
        recorder = current.recorder
        cell = self._storage.cell
        if recorder.tracing is not None and not recorder.tracing.is_constant(cell):
            recorder.tracing.refuse_value()
        if cell.buffer is None:
            recorder.materialise(cell)
        if self._view is None:
            return array_of(cell.buffer, cell.type)
        size = self._type.dtype.itemsize
        strides, offset = self._geometry if self._geometry is not None and self._type.numel else (None, 0)
        array = cell.buffer.numpy(self._type.dtype.numpy, self._type.shape, offset * size,
                                  strides and [s * size for s in strides])
        for op in self._pending_ops():
            array = op.numpy(array)  # type: ignore[misc]
        return array

    def _pending_ops(self) -> tuple[Op, ...]:
        """What reading does to the elements in memory: nothing, `conj` (PyTorch's conjugate bit), `neg` (its negative
        bit). An even number of one is none."""
        if self._view is None:
            return ()
        chain = [op for op, _ in self._view]
        return tuple([op for op in (conj, neg) if chain.count(op) % 2])


def attach(**members: Any) -> None:
    """Give `Tensor` methods and properties. tools/stubs.py declares them for type checkers."""
    for name, member in members.items():
        setattr(Tensor, name, member)


def new_tensor(cls: type, storage: Storage, type: Type, value: Value | None) -> Any:
    """A tensor of class `cls` that is the whole contents of `storage`."""
    t: Any = object.__new__(cls)
    t._storage = storage  # one by one: Python packs longer assignments into tuples
    t._type = type
    t._view = t._geometry = t._epoch = t._grad = None
    t._value = value
    t._version = -1
    t._requires_grad = False
    return t


def from_array(array: np.ndarray, requires_grad: bool = False, cls: type = Tensor) -> Any:
    """A tensor with (the memory of, if it is free) a NumPy array."""
    d = dtypes.BY_NUMPY.get(array.dtype) or dtypes.from_numpy(array.dtype)
    shape = array.shape
    return from_buffer(buffer_of(array), known_type((d, shape)) or Type(d, shape), requires_grad, cls)


def from_buffer(buffer: Any, type: Type, requires_grad: bool = False, cls: type = Tensor) -> Any:
    cell = Cell(type, None, None, buffer)
    tracing = current.recorder.tracing
    if tracing is not None:
        tracing.made(cell)
    t = new_tensor(cls, Storage(cell), type, None)
    t._requires_grad = requires_grad
    return t


_new = object.__new__


def computed_tensor(buffer: Any, type: Type) -> Tensor:
    """A tensor that a program has just computed (`from_buffer` outside of a trace)."""
    cell = _new(Cell)  # as its constructor does: a call of that in Python costs as much again
    cell.type = type
    cell.buffer = buffer
    cell.value = cell.epoch = cell.previous = cell.range = cell.home = cell.before = None
    storage = _new(Storage)
    storage.cell = cell
    storage.version = storage.settled = 0
    storage.exports = None
    t: Any = _new(Tensor)
    t._storage = storage
    t._type = type
    t._view = t._geometry = t._epoch = t._grad = t._value = None
    t._version = -1
    t._requires_grad = False
    return t


def wrap(recorder: Recorder, v: Value) -> Tensor:
    """A new tensor whose value is `v`, pending in the recorder's present epoch."""
    if v.requires_grad and not recorder.grad_enabled:
        v = recorder.detached(v)
    epoch = recorder.epoch
    if epoch.spent:
        epoch.revive(v)
    kind = v.type
    cell = _new(Cell)
    cell.type = kind
    cell.value = v
    cell.epoch = epoch
    cell.buffer = cell.previous = cell.range = cell.home = cell.before = None
    pending = epoch.pending
    pending.append(cell)
    storage = _new(Storage)
    storage.cell = cell
    storage.version = storage.settled = 0
    storage.exports = None
    t = _new(Tensor)
    t._storage = storage
    t._type = kind
    t._view = t._geometry = t._grad = None
    t._value = v
    t._version = 0
    t._epoch = epoch
    t._requires_grad = False
    if epoch.flush_now or not len(pending) & 63:
        recorder.after_record()
    return t


def set_requires_grad(t: Tensor, flag: bool) -> None:
    if flag == t._requires_grad:
        if flag or not t.requires_grad:
            return
    if not flag and not t._requires_grad:
        raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a computed "
                           "variable in a subgraph that doesn't require differentiation use "
                           "var_no_grad = var.detach().")
    if flag and not (t.dtype.is_floating_point or t.dtype.is_complex):
        raise RuntimeError("only Tensors of floating point dtype can require gradients")
    if flag and t.requires_grad:
        return  # already, through its history
    t._requires_grad = flag
    t._epoch, t._version = None, -1  # its Value is now another


def dtypes_default() -> dtype:
    return current.recorder.builder.default_float


def legacy_constructor(cls: type, dt: dtype, *args: Any, device: Any = None) -> Any:
    """`torch.Tensor(2, 3)`, `torch.Tensor([1, 2])`, `torch.FloatTensor(...)`."""
    if len(args) == 1 and isinstance(args[0], Tensor):
        data = args[0]._array().astype(dt.numpy)
    elif len(args) == 1 and not isinstance(args[0], (int, Size)):
        data = np.array(args[0], dt.numpy)
    else:
        shape = args[0] if len(args) == 1 and isinstance(args[0], Size) else args
        data = np.empty(shape if args else (0,), dt.numpy)
    return from_array(data, cls=cls)
