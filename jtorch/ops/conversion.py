"""From tensors to Python, NumPy, other dtypes and back; copies."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from jtorch import devices, dtypes
from jtorch._tensor import Tensor, attach, from_array, new_tensor
from jtorch.capture.dispatch import NUMBERS, evaluate
from jtorch.capture.record import current, is_data
from jtorch.dtypes import dtype
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.graph import Value, contiguous_strides
from jtorch.ir.prims.complex import conj
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.create import detach as detach_marker
from jtorch.ir.prims.elementwise import cast_to, neg, where
from jtorch.ir.prims.movement import expand_to, pad, reshape_to, slice_, slice_axis
from jtorch.ops.arguments import default_float, shape_of
from jtorch.ops.attach import define, expose
from jtorch.ops.creation import as_dtype
from jtorch.ops.direct import ELEMENTS, check_fits, copied, filled, filling
from jtorch.ops.shape import unbind
from jtorch.printing import format_tensor
from jtorch.storage import SharedBuffer
from jtorch.views import assign, make_view, store, type_name

# --- to Python -------------------------------------------------------------------------------------------------------


@expose("item", function=False)
def item(self: Tensor) -> Any:
    if self._type.numel != 1:
        raise RuntimeError(f"a Tensor with {self._type.numel} elements cannot be converted to Scalar")
    number, buffer = ELEMENTS.get(self._type.dtype), self._storage.cell.buffer
    if number is not None and buffer is not None and current.recorder.tracing is None and is_data(self):
        offset = 0 if self._geometry is None else self._geometry[1]
        return number.from_address(buffer.ptr + offset * self._type.dtype.itemsize).value
    return python_number(self._array().reshape(()))


def python_number(a: np.ndarray) -> Any:
    return float(a) if a.dtype.kind == "V" else a.item()  # bfloat16 is a kind of its own


@expose("tolist", function=False)
def tolist(self: Tensor) -> Any:
    a = self._array()
    return (a.astype(np.float32) if self._type.dtype is dtypes.bfloat16 else a).tolist()


def _bool(self: Tensor) -> bool:
    n = self._type.numel
    if n != 1:
        raise RuntimeError("Boolean value of Tensor with no values is ambiguous" if n == 0 else
                           "Boolean value of Tensor with more than one value is ambiguous")
    return bool(self._array().reshape(())[()])


def _scalar(self: Tensor) -> Any:
    if self._type.numel != 1:
        raise ValueError("only one element tensors can be converted to Python scalars")
    return item(self)


def _float(self: Tensor) -> float:
    x = _scalar(self)
    if isinstance(x, complex):
        if x.imag:
            raise RuntimeError("value cannot be converted to type double without overflow")
        x = x.real
    return float(x)


def _index(self: Tensor) -> int:
    if self._type.numel != 1 or self._type.dtype.category > dtypes.INT:
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(item(self))


def _len(self: Tensor) -> int:
    if not self._type.shape:
        raise TypeError("len() of a 0-d tensor")
    return self._type.shape[0]


def _iter(self: Tensor) -> Iterator[Tensor]:
    if not self._type.shape:
        raise TypeError("iteration over a 0-d tensor")
    return iter(unbind(self, 0))


def _contains(self: Tensor, element: Any) -> bool:
    if isinstance(element, (*NUMBERS, Tensor)):
        return bool((self == element).any())
    raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")


def _repr(self: Tensor, *, tensor_contents: Any = None) -> str:
    function = getattr(self, "grad_fn", None)
    array = self.detach()._array()
    named = type(self).__name__
    return format_tensor(array, dtype_name=self.dtype.name, default_dtype=default_float().name,
                         requires_grad=self.requires_grad, grad_fn=type(function).__name__ if function is not None and
                         not hasattr(function, "name") else function.name() if function is not None else None,
                         class_name="tensor" if named in ("Tensor", "Parameter", "Buffer") else named)


def _format(self: Tensor, spec: str) -> str:
    if not self._type.shape and type(self) is Tensor:
        return item(self).__format__(spec)
    return object.__format__(self, spec)


def _reversed(self: Tensor) -> Tensor:
    return self if self.ndim == 0 else self.flip(0)


for _name, _method in {"__bool__": _bool, "__nonzero__": _bool, "__float__": _float, "__index__": _index,
                       "__len__": _len,
                       "__int__": lambda self: int(_scalar(self)), "__complex__": lambda self: complex(_scalar(self)),
                       "__iter__": _iter, "__contains__": _contains, "__repr__": _repr, "__format__": _format,
                       "__str__": lambda self: repr(self), "__reversed__": _reversed,
                       "__hash__": lambda self: id(self)}.items():
    setattr(Tensor, _name, _method)


# --- to NumPy --------------------------------------------------------------------------------------------------------

@expose("numpy", function=False)
def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The elements as an array over the tensor's memory: writing to either is seen by the other."""
    if force:
        return self.detach()._array().copy()
    if self.requires_grad:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    if self._type.dtype is dtypes.bfloat16:
        raise TypeError("Got unsupported ScalarType BFloat16")
    for op, bit, resolve in ((conj, "conjugate", "resolve_conj"), (neg, "negative", "resolve_neg")):
        if op in self._pending_ops():
            raise RuntimeError(f"Can't call numpy() on Tensor that has {bit} bit set. Use tensor.{resolve}().numpy() "
                               "instead.")
    return export(self)


def export(t: Tensor) -> np.ndarray:
    """An array over the tensor's memory, which from now on is shared."""
    recorder = current.recorder
    cell = t._storage.cell
    if recorder.tracing is None:
        recorder.flush()  # what is pending must not see later writes
    if cell.buffer is None:
        recorder.materialise(cell)
    if type(cell.buffer) is not SharedBuffer:
        old = cell.buffer
        alone = sys.getrefcount(old) <= 3  # the cell's, this variable's and getrefcount's
        if alone:
            cell.buffer = SharedBuffer.over(old)
        else:
            fresh = np.empty(old.nbytes, np.uint8)
            cell.buffer = SharedBuffer.from_numpy(fresh)
            cell.buffer.copy_from(old)
    array = t._array()
    if array.nbytes and not t._pending_ops():
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        t._storage.export(owner.base if owner.base is not None else owner)
    return array


def _array_protocol(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    if self._type.dtype is dtypes.bfloat16:
        raise TypeError("Got unsupported ScalarType BFloat16")
    array = numpy(self)
    if dtype is not None and array.dtype != dtype:
        return array.astype(dtype)
    return array.copy() if copy else array


def _array_wrap(self: Tensor, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Tensor:
    return from_array(np.array(array))


attach(__array__=_array_protocol)
attach(__array_wrap__=_array_wrap)


@expose("data_ptr", "const_data_ptr", function=False)
def data_ptr(self: Tensor) -> int:
    cell = self._storage.cell
    if cell.buffer is None:
        current.recorder.materialise(cell)
    if not self._type.numel:
        return 0
    return cell.buffer.ptr + self.storage_offset() * self._type.dtype.itemsize


class UntypedStorage:
    """`tensor.untyped_storage()`: the memory behind a tensor, in bytes; `tensor.storage()` counts in elements."""

    def __init__(self, tensor: Tensor, typed: bool) -> None:
        self._tensor, self._typed = tensor, typed
        self.dtype = tensor.dtype

    @property
    def _cell(self) -> Any:
        return self._tensor._storage.cell

    def _flat(self) -> np.ndarray:
        t = new_tensor(Tensor, self._tensor._storage, self._cell.type, None)
        flat = export(t).reshape(-1)
        return flat if self._typed else flat.view(np.uint8)

    def data_ptr(self) -> int:
        t = new_tensor(Tensor, self._tensor._storage, self._cell.type, None)
        return data_ptr(t)

    def nbytes(self) -> int:
        return self._cell.type.nbytes

    def size(self) -> int:
        return self._cell.type.numel if self._typed else self.nbytes()

    def __len__(self) -> int:
        return self.size()

    def element_size(self) -> int:
        return self._cell.type.dtype.itemsize if self._typed else 1

    def tolist(self) -> list:
        return self._flat().tolist()

    def __getitem__(self, i: Any) -> Any:
        return self._flat()[i].item()

    def __setitem__(self, i: Any, x: Any) -> None:
        self._flat()[i] = x

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def untyped(self) -> UntypedStorage:
        return UntypedStorage(self._tensor, False)

    @property
    def device(self) -> devices.device:
        return devices.cpu

    @property
    def _cdata(self) -> int:
        return id(self._tensor._storage)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and self._tensor._storage is other._tensor._storage

    def __hash__(self) -> int:
        return id(self._tensor._storage)


@expose("untyped_storage", function=False)
def untyped_storage(self: Tensor) -> UntypedStorage:
    return UntypedStorage(self, False)


@expose("storage", function=False)
def storage(self: Tensor) -> UntypedStorage:
    return UntypedStorage(self, True)


# --- other dtypes ----------------------------------------------------------------------------------------------------

def _cast_value(input: Value, dtype: Any) -> Value:
    return cast_to(input, dtype)


_cast = define(method=False, function=False)(_cast_value)


def convert(t: Tensor, d: dtype, copy: bool = False) -> Tensor:
    if d is t._type.dtype:
        return clone(t) if copy else t
    return _cast(t, d)


@expose("to", function=False)
def to(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False, copy: bool = False,
       memory_format: Any = None, other: Any = None) -> Tensor:
    flags = []
    for a in (*args, other):
        if isinstance(a, dtypes.dtype) or a in (float, int, bool, complex) and isinstance(a, type):
            dtype = a
        elif isinstance(a, Tensor):
            dtype = a.dtype
        elif isinstance(a, bool):
            flags.append(a)
        elif isinstance(a, (str, devices.device, int)):
            device = a if not isinstance(a, int) else f"cuda:{a}"
        elif a is not None:
            raise TypeError(f"to() received an invalid combination of arguments - got ({type(a).__name__})")
    if len(flags) > 1:
        copy = flags[1]
    devices.check(device)
    return convert(self, as_dtype(dtype) or self._type.dtype, copy)


def _typed(name: str, d: dtype) -> None:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return convert(self, d)
    method.__name__ = name
    setattr(Tensor, name, method)


for _name, _d in {"float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16,
                  "bfloat16": dtypes.bfloat16,
                  "int": dtypes.int32, "long": dtypes.int64, "short": dtypes.int16, "char": dtypes.int8,
                  "byte": dtypes.uint8, "bool": dtypes.bool_, "cfloat": dtypes.complex64,
                  "cdouble": dtypes.complex128}.items():
    _typed(_name, _d)

TYPE_NAMES = {f"torch.{type_name(d)}Tensor": d for d in dtypes.ALL if d not in (dtypes.uint32,)}


@expose("type", function=False)
def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    if dtype is None:
        return f"torch.{type_name(self.dtype)}Tensor"
    if isinstance(dtype, str):
        if dtype not in TYPE_NAMES:
            raise ValueError(f"invalid type: '{dtype}'")
        dtype = TYPE_NAMES[dtype]
    elif hasattr(dtype, "tensor_dtype"):
        dtype = dtype.tensor_dtype
    return convert(self, as_dtype(dtype))  # type: ignore[arg-type]


@expose("type_as", function=False)
def type_as(self: Tensor, other: Tensor) -> Tensor:
    return convert(self, other.dtype)


@expose("cpu", function=False)
def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    return self


@expose("cuda", function=False)
def cuda(self: Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    devices.check("cuda" if device is None else device)
    return self


# --- copies ----------------------------------------------------------------------------------------------------------

def _clone_value(input: Value) -> Value:
    return input


_clone = define(method=False, function=False)(_clone_value)


@expose("clone")
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    return _clone(input)


def is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    kind = self._type
    if self._geometry is None or self._geometry[0] == kind.strides or not kind.numel:
        return True
    return all(n == 1 or a == b for n, a, b in zip(kind.shape, self._geometry[0], kind.strides))


attach(is_contiguous=is_contiguous)


@expose("contiguous", function=False)
def contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    return self if is_contiguous(self) else _clone(self)


@expose("detach")
def detach(self: Tensor) -> Tensor:
    """The same memory without history."""
    v: Tensor = object.__new__(Tensor)
    v._storage, v._type, v._geometry = self._storage, self._type, self._geometry
    v._view = (*(self._view or ()), (detach_marker, ()))
    v._value, v._version, v._epoch, v._requires_grad, v._grad = None, -1, None, False, None  # type: ignore[assignment]
    return v


def _detach_(self: Tensor) -> Tensor:
    if self._view is not None:
        raise RuntimeError("Can't detach views in-place. Use detach() instead. If you are using "
                           "DistributedDataParallel (DDP) "
                           "for training, and gradient_as_bucket_view is set as True, gradients are views of DDP "
                           "buckets, "
                           "and hence detach_() cannot be called on these gradients.")
    if self._requires_grad:
        self._requires_grad = False
        self._epoch = None
    elif self.requires_grad:
        recorder = current.recorder
        store(recorder, self._storage, recorder.detached(recorder.value(self)))
    return self


attach(detach_=_detach_)


def _set_data(self: Tensor, other: Tensor) -> None:
    if not isinstance(other, Tensor):
        raise TypeError(f"Variable data has to be a tensor, but got {type(other).__name__}")
    other = detach(other)
    self._storage, self._type, self._geometry = other._storage, other._type, other._geometry
    view = other._view[:-1]  # type: ignore[index]
    self._view = tuple(view) or None
    self._version, self._epoch = -1, None


attach(data=property(detach, _set_data))


def _copy_value(input: Value, src: Operand) -> Value:
    v = arith.as_value(input.builder, src, input.dtype)
    if v.shape == input.shape:
        return v
    shape = arith.broadcast_shapes(input.shape, v.shape)
    if shape != input.shape:
        raise RuntimeError(f"output with shape {list(input.shape)} doesn't match the broadcast shape {list(shape)}")
    return expand_to(v, shape)


_copied = define(method=False, function=False)(_copy_value)
_CONTENTS = (Tensor, *NUMBERS)


@expose("copy_", function=False)
def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    if not isinstance(src, _CONTENTS):
        raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(src).__name__}")
    if isinstance(src, Tensor) and src._type == self._type:
        return self if copied(self, src) else assign(self, current.recorder.value(src))
    return assign(self, evaluate(_copied.function, (self, src)))


def _fill_value(input: Value, value: Operand) -> Value:
    if isinstance(value, Value) and value.ndim:
        raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
    filled = expand_to(arith.as_value(input.builder, value, input.dtype), input.shape)
    if input.requires_grad:  # the result does too, though the gradient is 0
        return where(constant(input.builder, True, dtypes.bool_, input.shape), filled, input)
    return filled


_filled = define(method=False, function=False)(_fill_value)


@expose(method=False)
def fill(input: Tensor, value: Any) -> Tensor:
    return _filled(input, value)


@expose("fill_")
def fill_(self: Tensor, value: Any) -> Tensor:
    if self._geometry is not None and 0 in self._geometry[0] and not isinstance(value, Tensor):
        part = self  # a number may be written to places that are expanded: once
        for d, (n, s) in enumerate(zip(self._type.shape, self._geometry[0])):
            if n > 1 and s == 0:
                starts, stops = [0] * self.ndim, list(part._type.shape)
                stops[d] = 1
                part = make_view(part, slice_, (tuple(starts), tuple(stops), (1,) * self.ndim))
        if part is not self:
            fill_(part, value)
            return self
    return fill_part(self, value)


def fill_part(self: Tensor, value: Any) -> Tensor:
    """`self[...] = value`: what is expanded is refused."""
    if filled(self, value):
        return self
    check_fits(filling(self._type.dtype), value)
    return assign(self, evaluate(_filled.function, (self, value)))


@expose("zero_")
def zero_(self: Tensor) -> Tensor:
    return fill_(self, 0)


def _resized_value(input: Value, shape: Any) -> Value:
    n = 1
    for s in shape:
        n *= s
    flat = reshape_to(input, (input.type.numel,))
    if n <= input.type.numel:
        flat = slice_axis(flat, 0, 0, n)
    else:
        zero = constant(input.builder, False if input.dtype is dtypes.bool_ else 0, input.dtype)
        flat = pad(flat, zero, widths=((0, n - input.type.numel, 0),))
    return reshape_to(flat, shape)


_resized = define(method=False, function=False)(_resized_value)


@expose("resize_", function=False)
def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Another shape in place; elements are kept in the order of memory, new ones are 0."""
    shape = shape_of(sizes)
    if shape == self._type.shape:
        return self
    if self.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    other = _resized(self, shape)
    _take_over(self, other)
    return self


def _take_over(self: Tensor, other: Tensor) -> None:
    self._storage, self._type, self._view, self._geometry = other._storage, other._type, other._view, other._geometry
    self._version, self._epoch = -1, None


@expose("resize_as_", function=False)
def resize_as_(self: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    return resize_(self, the_template.shape)


@expose("set_", function=False)
def set_(self: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None) -> Tensor:
    """Let this tensor be (a strided view of) another one's memory."""
    if source is None:
        source = from_array(np.empty(0, self.dtype.numpy))
    if isinstance(source, UntypedStorage):
        base = source._tensor
        flat = new_tensor(Tensor, base._storage, base._storage.cell.type, None)
        n = base._storage.cell.type.numel
        shape = tuple(size) if size is not None else (n,)
        source = flat.as_strided(shape, tuple(stride) if stride is not None else contiguous_strides(shape),
                                 storage_offset)
    elif size is not None:
        source = source.as_strided(size, stride if stride is not None else contiguous_strides(tuple(size)),
                                   storage_offset)
    _take_over(self, source)
    return self


@expose("as_subclass", function=False)
def as_subclass(self: Tensor, cls: type) -> Any:
    t = new_tensor(cls, self._storage, self._type, None)
    t._view, t._geometry = self._view, self._geometry
    if self._requires_grad:
        t._requires_grad = True
    return t


# --- questions -------------------------------------------------------------------------------------------------------

@expose("is_same_size")
def is_same_size(input: Tensor, other: Tensor) -> bool:
    return input._type.shape == other._type.shape


@expose("element_size", function=False)
def element_size(self: Tensor) -> int:
    return self._type.dtype.itemsize


@expose("nelement", function=False)
def nelement(self: Tensor) -> int:
    return self._type.numel


@expose("numel")
def numel(input: Tensor) -> int:
    return input._type.numel


@expose("is_floating_point")
def is_floating_point(input: Tensor) -> bool:
    return input._type.dtype.is_floating_point


@expose("is_complex")
def is_complex(input: Tensor) -> bool:
    return input._type.dtype.is_complex


@expose("is_signed")
def is_signed(input: Tensor) -> bool:
    return input._type.dtype.is_signed


@expose("is_nonzero")
def is_nonzero(input: Tensor) -> bool:
    return _bool(input)


@expose("is_inference")
def is_inference(input: Tensor) -> bool:
    return False


@expose("is_tensor", method=False)
def is_tensor(obj: Any) -> bool:
    return isinstance(obj, Tensor)


@expose("is_storage", method=False)
def is_storage(obj: Any) -> bool:
    return isinstance(obj, UntypedStorage)


@expose("get_device", function=False)
def get_device(self: Tensor) -> int:
    return -1


@expose("is_set_to", function=False)
def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    return (self._storage is tensor._storage and self.shape == tensor.shape and self.stride() == tensor.stride()
            and self.storage_offset() == tensor.storage_offset())


@expose("pin_memory", "to_dense", function=False)
def _itself(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return self




@expose("is_pinned", "is_distributed", "is_coalesced", function=False)
def _no(self: Tensor) -> bool:
    return False


def _always(answer: Any) -> property:
    return property(lambda self: answer)


for _name, _answer in {"is_cpu": True, "is_cuda": False, "is_meta": False, "is_sparse": False, "is_quantized": False,
                       "is_nested": False, "is_mps": False, "is_xpu": False, "is_mkldnn": False, "is_xla": False,
                       "is_ipu": False, "is_vulkan": False, "is_sparse_csr": False, "output_nr": 0,
                       "name": None}.items():
    setattr(Tensor, _name, _always(_answer))


def _is_view(self: Tensor) -> bool:
    return self._view is not None


def _base(self: Tensor) -> Tensor | None:
    if self._view is None:
        return None
    return new_tensor(Tensor, self._storage, self._storage.cell.type, None)


attach(_is_view=_is_view)
attach(_base=property(_base))


@expose("apply_", function=False)
def apply_(self: Tensor, callable: Any) -> Tensor:
    array = self._array()
    flat = [callable(x.item()) for x in array.reshape(-1)]
    return copy_(self, from_array(np.array(flat, array.dtype).reshape(array.shape)))


@expose("map_", function=False)
def map_(self: Tensor, tensor: Tensor, callable: Any) -> Tensor:
    a, b = np.broadcast_arrays(self._array(), tensor._array())
    flat = [callable(x.item(), y.item()) for x, y in zip(a.reshape(-1), b.reshape(-1))]
    return copy_(self, from_array(np.array(flat, a.dtype).reshape(a.shape)))


__all__ = ["UntypedStorage", "convert", "export"]
