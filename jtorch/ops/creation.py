"""Tensors made from data, from numbers, and from nothing."""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch import devices, dtypes
from jtorch._tensor import Tensor, from_array, from_buffer, legacy_constructor, new_tensor, wrap
from jtorch.capture.dispatch import LARGE, NUMBERS, Function, evaluate
from jtorch.capture.record import current
from jtorch.dtypes import dtype
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.graph import Builder, Type, Value, kind_of
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims.create import constant, iota
from jtorch.ir.prims.library import row_places
from jtorch.ir.prims.movement import as_strided, expand_to, reshape_to
from jtorch.ops.arguments import check_shape, default_float, shape_of, wrap_dim
from jtorch.ops.attach import FUNCTIONS, define, expose, write_out
from jtorch.ops.direct import check_fits, filling
from jtorch.runtime.memory import allocator
from jtorch.storage import ArrayStorage, Storage, root_of
from jtorch.views import make_view

# --- from data -------------------------------------------------------------------------------------------------------


def _check_dtype(function: str, dt: Any) -> None:
    if dt is not None and not isinstance(dt, dtype):
        if dt in (float, int, bool, complex):
            return
        raise TypeError(f"{function}(): argument 'dtype' must be torch.dtype, not {type(dt).__name__}")


_PYTHON_TYPES = {float: None, int: dtypes.int64, bool: dtypes.bool_, complex: None}


def as_dtype(dt: Any) -> dtype | None:
    """A dtype, also where Python's `float`, `int`, `bool` stand for one."""
    if dt is None or isinstance(dt, dtype):
        return dt
    if dt is float:
        return default_float()
    if dt is complex:
        return default_float().to_complex()
    return _PYTHON_TYPES.get(dt, dt)


def _check_ragged(data: Any, depth: int = 0) -> None:
    """ValueError with PyTorch's text where nested sequences differ in length."""
    if not isinstance(data, (list, tuple)) or not data:
        return
    lengths = [len(x) if isinstance(x, (list, tuple)) else None for x in data]
    for n in lengths:
        if n != lengths[0]:
            if n is None or lengths[0] is None:
                kind = type(data[lengths.index(n)]).__name__
                raise TypeError(f"not a sequence: {kind}" if n is None else f"must be real number, not {kind}")
            raise ValueError(f"expected sequence of length {lengths[0]} at dim {depth + 1} (got {n})")
    for x in data:
        _check_ragged(x, depth + 1)


def _plain(data: Any) -> Any:
    """Nested sequences with the tensors in them as NumPy arrays."""
    if isinstance(data, Tensor):
        return data._array()
    if isinstance(data, (list, tuple)):
        return [_plain(x) for x in data]
    return data


def _first_leaf(data: Any) -> Any:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return data


def _has_tensor(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return not _NUMBER_TYPES.issuperset(map(type, data)) and any(map(_has_tensor, data))
    return isinstance(data, Tensor)


_NUMBER_TYPES = frozenset(NUMBERS)


def array_from(data: Any, dt: dtype | None) -> np.ndarray:
    """A fresh NumPy array with what `torch.tensor(data)` would hold."""
    if isinstance(data, Tensor):
        array = data._array()
        return np.array(array, dt.numpy if dt else array.dtype)
    if isinstance(data, np.ndarray):
        dtypes.from_numpy(data.dtype)
        with np.errstate(all="ignore"):
            return np.array(data, dt.numpy if dt else data.dtype, order="C")
    if isinstance(data, np.generic):
        return np.array(data, dt.numpy if dt else dtypes.from_numpy(data.dtype).numpy)
    if isinstance(data, (bool, int, float, complex)):
        if dt is None:
            dt = dtypes.of_scalar(data, default_float())
        return _convert(data, dt)
    if isinstance(data, str) or data is None:
        raise TypeError(f"new(): invalid data type '{type(data).__name__}'" if isinstance(data, str)
                        else "must be real number, not NoneType")
    if not isinstance(data, (list, tuple)):
        if hasattr(data, "__array__"):
            return array_from(np.asarray(data), dt)
        if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
            data = [data[i] for i in range(len(data))]
        elif hasattr(data, "__index__") or hasattr(data, "__float__"):
            data = data.__index__() if hasattr(data, "__index__") else float(data)
            return array_from(data, dt)
        else:
            raise RuntimeError(f"Could not infer dtype of {type(data).__name__}")
    leaf = _first_leaf(data)
    if _has_tensor(data):
        data = _plain(data)
    try:
        if dt is not None and isinstance(leaf, (bool, int, float)) and dt.category != dtypes.INT:
            return np.array(data, np.float64 if dt.itemsize == 2 else None).astype(dt.numpy)
        array = np.array(data)
    except (ValueError, TypeError):
        _check_ragged(data)
        raise
    if array.dtype.kind in "OUS":
        _refuse(data, array)
    if array.dtype.kind == "u" and array.dtype == np.uint64 and not isinstance(leaf, (np.ndarray, np.generic)):
        raise ValueError("Overflow when unpacking long long")
    if dt is None:
        dt = _inferred(array, leaf)
    if array.dtype == dt.numpy:
        return array
    if dt.category == dtypes.INT and dt is not dtypes.int64 and array.size and array.dtype.kind in "iuf":
        dtypes.check_fits(array.min(), array.max(), dt)
    with np.errstate(all="ignore"):
        return array.astype(dt.numpy)


def _inferred(array: np.ndarray, leaf: Any) -> dtype:
    if isinstance(leaf, (np.ndarray, np.generic, Tensor)):
        return dtypes.from_numpy(array.dtype)
    if array.dtype.kind == "f":
        return default_float()
    if array.dtype.kind == "c":
        return default_float().to_complex()
    return dtypes.from_numpy(array.dtype)


def _refuse(data: Any, array: np.ndarray) -> None:
    _check_ragged(data)
    leaf = _first_leaf(data)
    if isinstance(leaf, int):
        raise ValueError("Overflow when unpacking long long")
    if isinstance(leaf, str):
        raise ValueError("too many dimensions 'str'")
    raise RuntimeError(f"Could not infer dtype of {type(leaf).__name__}")


def _convert(x: Any, dt: dtype) -> np.ndarray:
    if dt.category <= dtypes.INT and isinstance(x, complex):
        raise RuntimeError("value cannot be converted to type int64_t without overflow")
    try:
        if dt.category == dtypes.INT:
            if dt is not dtypes.int64:
                dtypes.check_fits(x, x, dt)
            elif not -(1 << 63) <= x < 1 << 63:
                raise ValueError("Overflow when unpacking long long")
            x = dtypes.wrapped(int(x), dt)
        with np.errstate(all="ignore"):
            return np.array(x, dt.numpy)
    except OverflowError:
        raise ValueError("Overflow when unpacking long long") from None


@expose("tensor", method=False)
def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    """A new tensor with a copy of the data."""
    devices.check(device)
    _check_dtype("tensor", dtype)
    if isinstance(data, Tensor):
        warnings.warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
                      "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).",
                      UserWarning, stacklevel=2)
        t = data.detach().clone() if dtype is None else data.detach().to(dtype, copy=True)
        return t.requires_grad_(True) if requires_grad else t
    t = from_array(array_from(data, as_dtype(dtype)))
    return require_grad(t) if requires_grad else t


@expose("as_tensor", method=False)
def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """The data as a tensor, sharing memory where it can."""
    devices.check(device)
    dt = as_dtype(dtype)
    if isinstance(data, Tensor):
        return data if dt is None or dt is data.dtype else data.to(dt)
    if isinstance(data, np.ndarray) and (dt is None or data.dtype == dt.numpy):
        return from_numpy(data)
    return from_array(array_from(data, dt))


@expose("asarray", method=False)
def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None,
            requires_grad: bool = False) -> Tensor:
    if copy:
        t = obj.detach().to(as_dtype(dtype) or obj.dtype, copy=True) if isinstance(obj, Tensor) else tensor(obj,
                                                                                                            dtype=dtype)
    else:
        t = as_tensor(obj, dtype, device)
        if copy is False and isinstance(obj, (Tensor, np.ndarray)) and t.dtype != getattr(obj, "dtype", None):
            if isinstance(obj, Tensor):
                raise ValueError(f"can't alias tensor with dtype '{obj.dtype}' into dtype '{t.dtype}'.")
    if requires_grad:
        t = t.detach().requires_grad_(True)
    return t


@expose("from_numpy", method=False)
def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory, both ways."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    known = _array_types.get(array.dtype)
    if known is None or not array.flags.carray:
        return _from_strided(array)
    kind = known.get(array.shape)
    if kind is None:
        if len(known) > 10_000:
            known.clear()
        kind = known[array.shape] = Type(dtypes.from_numpy(array.dtype), array.shape)
    storage = _new(ArrayStorage)  # without the calls of two constructors: a loader does this for each sample
    storage.version = storage.settled = 0
    storage.array = array
    t: Tensor = _new(Tensor)
    t._storage = storage
    t._type = kind
    t._view = t._geometry = t._value = t._epoch = t._grad = None  # type: ignore[assignment]
    t._version = -1
    t._requires_grad = False
    return t


_new = object.__new__
_array_types: dict[np.dtype, dict[tuple[int, ...], Type]] = {d.numpy: {} for d in dtypes.ALL}
"""NumPy dtype -> shape -> type: two small look-ups instead of one with a key to build."""


def _from_strided(array: np.ndarray) -> Tensor:
    """The general case: a tensor over an array with any strides. Raises where there is none."""
    if any(s < 0 for s, n in zip(array.strides, array.shape) if n > 1):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative "
                         "strides are "
                         "not currently supported. (You can probably work around this by making a copy of your array "
                         " with array.copy().) ")
    if not array.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion between "
                         "byte "
                         "orders is currently not supported.")
    d = dtypes.from_numpy(array.dtype)
    if not array.flags.writeable:
        array = array.copy()
    kind = Type(d, array.shape)
    if array.flags.c_contiguous:
        return new_tensor(Tensor, ArrayStorage(array), kind, None)
    size = array.itemsize
    if any(s % size for s in array.strides):
        raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array to "
                         "reallocate the memory.")
    if not array.size:
        return new_tensor(Tensor, ArrayStorage(np.empty(array.shape, array.dtype)), kind, None)
    strides = tuple([s // size for s in array.strides])
    span = 1 + sum((n - 1) * s for n, s in zip(array.shape, strides))
    memory = np.lib.stride_tricks.as_strided(array, (span,), (size,))
    flat = Type(d, (span,))
    storage = _new(Storage)
    storage.version = storage.settled = 0
    storage.expose(memory, flat, root_of(array))
    base = new_tensor(Tensor, storage, flat, None)
    return make_view(base, as_strided, (array.shape, strides, 0))


@expose("frombuffer", method=False)
def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    array = np.frombuffer(buffer, as_dtype(dtype).numpy, count, offset)  # type: ignore[union-attr]
    t = from_numpy(array)
    return t.requires_grad_() if requires_grad else t


# --- from numbers ----------------------------------------------------------------------------------------------------

def finish(v: Value, requires_grad: bool, out: Any = None) -> Tensor:
    """The tensor of a created value."""
    if out is not None:
        return write_out(v, out)
    if v.type.nbytes >= LARGE:
        allocator.ensure(v.type.nbytes)
    t = wrap(current.recorder, v)
    return require_grad(t) if requires_grad else t


def require_grad(t: Tensor) -> Tensor:
    if t.dtype.category < dtypes.FLOAT:
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
    return t.requires_grad_(True)


def constant_of(shape: tuple[int, ...], value: Any, d: dtype) -> Value:
    recorder = current.recorder
    key = (constant, shape, kind_of(value), value, d)
    found = recorder.calls.get(key)
    if found is None:
        found = recorder.calls[key] = constant(recorder.builder, value, d, check_shape(shape))
    return found


def _floating(dt: Any) -> dtype:
    return as_dtype(dt) or default_float()


def _maker(name: str, value: float) -> None:
    def make(size: tuple[int, ...], out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
             pin_memory: bool = False, requires_grad: bool = False, memory_format: Any = None) -> Tensor:
        devices.check(device)
        _check_dtype(name, dtype)
        d = _floating(dtype) if out is None or dtype is not None else out.dtype
        if name == "zeros" and size and min(size) < 0:
            raise RuntimeError("zeros: Dimension size must be non-negative.")
        return finish(constant_of(size, value, d), requires_grad, out)

    def function(*size: Any, **kwargs: Any) -> Tensor:
        if "size" in kwargs:
            size = (kwargs.pop("size"),)
        return make(shape_of(size), **kwargs)

    def like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
             requires_grad: bool = False, memory_format: Any = None) -> Tensor:
        devices.check(device)
        return finish(constant_of(input._type.shape, value, as_dtype(dtype) or input._type.dtype), requires_grad)

    def new(self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False,
            layout: Any = None, pin_memory: bool = False) -> Tensor:
        devices.check(device)
        return finish(constant_of(shape_of(size), value, as_dtype(dtype) or self._type.dtype),
                      requires_grad)

    def new_keyword(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if "size" in kwargs:
            args = (kwargs.pop("size"),)
        return new(self, *args, **kwargs)

    function.__name__, like.__name__, new_keyword.__name__ = name, name + "_like", "new_" + name
    FUNCTIONS[name], FUNCTIONS[name + "_like"] = function, like
    setattr(Tensor, "new_" + name, new_keyword)


_maker("zeros", 0)
_maker("ones", 1)
_maker("empty", 0)


@expose("full", method=False)
def full(size: Any, fill_value: Any, *, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
         pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    devices.check(device)
    d = as_dtype(dtype)
    if d is None and out is not None:
        d = out.dtype
    if d is not None or type(fill_value) is float:
        check_fits(filling(d or default_float()), fill_value)
    return finish(evaluate(_full, (check_shape(shape_of((size,))), fill_value, d)), requires_grad, out)


def _full_value(builder: Builder, size: Any, fill_value: Operand, dtype: Any) -> Value:
    if not isinstance(fill_value, Value):
        d = dtype or dtypes.of_scalar(fill_value, builder.default_float)
        return constant(builder, arith.as_value(builder, fill_value, d).attrs[1], d, size)
    if fill_value.ndim:
        raise TypeError("full(): argument 'fill_value' (position 2) must be Number, not Tensor")
    d = dtype or (arith.result_dtype(builder, [fill_value]) if arith.is_scalar(fill_value) else fill_value.dtype)
    return expand_to(ew.cast_to(fill_value, d), size)


def _as_function(body: Callable[..., Any], name: str) -> Any:
    body.__name__ = name
    return Function(body)


_full = _as_function(_full_value, "full")


@expose("full_like", method=False)
def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
              pin_memory: bool = False, requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    devices.check(device)
    return finish(evaluate(_full, (input._type.shape, fill_value, as_dtype(dtype) or input.dtype)), requires_grad)


@expose("new_full", function=False)
def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    devices.check(device)
    return finish(evaluate(_full, (check_shape(shape_of((size,))), fill_value, as_dtype(dtype) or self.dtype)),
                  requires_grad)


@expose("new_tensor", function=False)
def new_tensor_(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
                layout: Any = None, pin_memory: bool = False) -> Tensor:
    devices.check(device)
    t = from_array(array_from(data, as_dtype(dtype) or self.dtype))
    return t.requires_grad_() if requires_grad else t


@expose("new", function=False)
def new(self: Tensor, *args: Any) -> Tensor:
    return legacy_constructor(Tensor, self.dtype, *args)


@expose("scalar_tensor", method=False)
def scalar_tensor(s: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
                  requires_grad: bool = False) -> Tensor:
    devices.check(device)
    return finish(evaluate(_full, ((), s, _floating(dtype))), requires_grad)


@expose("empty_strided", method=False)
def empty_strided(size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                  requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    devices.check(device)
    size, stride = tuple(size), tuple(stride)
    span = 1 + sum((n - 1) * s for n, s in zip(size, stride)) if 0 not in size else 0
    base = finish(constant_of((span,), 0, _floating(dtype)), False)
    t = make_view(base, as_strided, (size, stride, 0)) if span else finish(constant_of(size, 0, _floating(dtype)),
                                                                           False)
    return t.requires_grad_() if requires_grad else t


@expose("new_empty_strided", function=False)
def new_empty_strided(self: Tensor, size: Any, stride: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
    return empty_strided(size, stride, dtype=dtype or self.dtype, **kwargs)


@expose("empty_permuted", method=False)
def empty_permuted(size: Any, physical_layout: Any, **kwargs: Any) -> Tensor:
    inverse = [list(physical_layout).index(i) for i in range(len(size))]
    return FUNCTIONS["empty"](tuple(size[p] for p in physical_layout), **kwargs).permute(*inverse)


def _number(x: Any) -> Any:
    return x.item() if isinstance(x, (Tensor, np.generic)) else x


@expose("arange", method=False)
def arange(start: Any = 0, end: Any = None, step: Any = 1, *, out: Any = None, dtype: Any = None, layout: Any = None,
           device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... up to but not including `end`; `arange(end)` begins at 0."""
    devices.check(device)
    if end is None:
        start, end = 0, start
    start, end, step = _number(start), _number(end), _number(step)
    d = as_dtype(dtype)
    if d is None:
        d = out.dtype if out is not None else (
            default_float() if any(isinstance(x, float) for x in (start, end, step)) else dtypes.int64)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if d.category <= dtypes.INT and not int(step):
        raise RuntimeError(f"step must be nonzero for a range of dtype {d}")
    if d is dtypes.int64:
        length = -(-(int(end) - int(start)) // int(step))
    else:
        length = math.ceil((end - start) / step)  # from the numbers as given, also for smaller integers
    if d.category <= dtypes.INT:
        start, end, step = int(start), int(end), int(step)
    return finish(evaluate(_arange, (max(length, 0), start, step, d)), requires_grad, out)


def _arange_value(builder: Builder, length: Any, start: Operand, step: Operand, dtype: Any) -> Value:
    count = builder.apply(iota, length=length, dtype=dtypes.int64)
    if dtype.category <= dtypes.INT:
        return ew.cast_to(count * step + start, dtype)
    wide = ew.cast_to(count, dtypes.float64)
    return ew.cast_to(wide * step + start, dtype)


_arange = _as_function(_arange_value, "arange")


@expose("range", method=False)
def range_(start: Any, end: Any, step: Any = 1, *, dtype: Any = None, **kwargs: Any) -> Tensor:
    n = math.floor((end - start) / step) + 1
    return finish(evaluate(_arange, (n, float(start), float(step), _floating(dtype))), False)


def _linspace_value(builder: Builder, start: Operand, end: Operand, steps: Any, dtype: Any, base: Any) -> Value:
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    wide = dtypes.complex128 if dtype.is_complex else dtypes.float64

    def bound(x: Operand) -> Value:
        v = arith.as_value(builder, x, wide)
        if dtype.category <= dtypes.INT:
            v = ew.trunc(v)  # PyTorch takes the ends of a line of integers as integers
        if v.ndim:
            raise RuntimeError("linspace only supports 0-dimensional start and end tensors")
        return expand_to(v, (steps,))
    first, last = bound(start), bound(end)
    if steps == 1:
        values = first
    else:
        count = builder.apply(iota, length=steps, dtype=dtypes.int64)
        place = ew.cast_to(count, wide)
        width = (last - first) / max(steps - 1, 1)
        values = arith.where(count < (steps + 1) // 2, first + width * place, last - width * (steps - 1 - place))
    if base is not None:
        values = arith.pow_(base, values)
    return ew.cast_to(values, dtype)


_linspace = _as_function(_linspace_value, "linspace")


def _line_dtype(start: Any, end: Any, dt: Any, out: Any) -> dtype:
    d = as_dtype(dt)
    if d is None and out is not None:
        d = out.dtype
    if d is None:
        is_complex = any(isinstance(x, complex) or (isinstance(x, Tensor) and x.dtype.is_complex) for x in (start, end))
        d = default_float().to_complex() if is_complex else default_float()
    return d


def _steps(name: str, steps: Any) -> int:
    if not hasattr(steps, "__index__"):
        raise TypeError(f"{name}(): argument 'steps' (position 3) must be int, not {type(steps).__name__}")
    return steps.__index__()


@expose("linspace", method=False)
def linspace(start: Any, end: Any, steps: int, *, out: Any = None, dtype: Any = None, layout: Any = None,
             device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    devices.check(device)
    d = _line_dtype(start, end, dtype, out)
    return finish(evaluate(_linspace, (start, end, _steps("linspace", steps), d, None)), requires_grad, out)


@expose("logspace", method=False)
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, out: Any = None, dtype: Any = None,
             layout: Any = None, device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    devices.check(device)
    d = _line_dtype(start, end, dtype, out)
    return finish(evaluate(_linspace, (start, end, _steps("logspace", steps), d, base)), requires_grad, out)


def band(builder: Builder, rows: int, columns: int, diagonal: int) -> tuple[Value, Value]:
    """Row number + diagonal, and column number, over a matrix."""
    r = reshape_to(builder.apply(iota, length=rows, dtype=dtypes.int64), (rows, 1))
    c = reshape_to(builder.apply(iota, length=columns, dtype=dtypes.int64), (1, columns))
    shape = (rows, columns)
    return expand_to(r + diagonal if diagonal else r, shape), expand_to(c, shape)


def _eye_value(builder: Builder, n: Any, m: Any, dtype: Any) -> Value:
    r, c = band(builder, n, m, 0)
    return ew.cast_to(ew.eq(r, c), dtype)


_eye = _as_function(_eye_value, "eye")


@expose("eye", method=False)
def eye(n: int, m: int | None = None, *, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
        pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    devices.check(device)
    if n < 0 or (m is not None and m < 0):
        raise RuntimeError(f"n must be greater or equal to 0, got {n}" if n < 0 else
                           f"m must be greater or equal to 0, got {m}")
    d = as_dtype(dtype) or (out.dtype if out is not None else default_float())
    return finish(evaluate(_eye, (n, n if m is None else m, d)), requires_grad, out)


def _triangle(input: Value, diagonal: int, upper: bool, name: str) -> Value:
    if input.ndim < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
    r, c = band(input.builder, input.shape[-2], input.shape[-1], diagonal)
    keep = ew.ge(c, r) if upper else ew.le(c, r)
    return arith.where(keep, input, constant(input.builder, False if input.dtype is dtypes.bool_ else 0, input.dtype))


@define(inplace=True)
def tril(input: Value, diagonal: int = 0) -> Value:
    return _triangle(input, diagonal, False, "tril")


@define(inplace=True)
def triu(input: Value, diagonal: int = 0) -> Value:
    return _triangle(input, diagonal, True, "triu")


@define(method=False, function=False)
def _places(first: Value, ends: Value, total: int, dt: dtype) -> Value:
    return ew.cast_to(row_places(first, ends, total=total), dt)


def places_of_rows(first: np.ndarray, stop: np.ndarray, dt: dtype = dtypes.int64) -> Tensor:
    """[2, K]: rows and columns of the places of which row r has the columns first[r] to stop[r]."""
    ends = np.cumsum(np.maximum(stop - first, 0))
    total = int(ends[-1]) if len(ends) else 0
    return _places(from_array(first), from_array(ends), total, dt)


@expose("tril_indices", method=False)
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = dtypes.int64, device: Any = None,
                 layout: Any = None) -> Tensor:
    """[2, K]: rows and columns of the places at and under the diagonal `offset` of a row x col matrix."""
    diagonal = np.arange(row) + offset
    return places_of_rows(np.zeros(row, np.int64), np.clip(diagonal + 1, 0, col), dtype)


@expose("triu_indices", method=False)
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = dtypes.int64, device: Any = None,
                 layout: Any = None) -> Tensor:
    """[2, K]: rows and columns of the places at and above the diagonal `offset` of a row x col matrix."""
    diagonal = np.arange(row) + offset
    return places_of_rows(np.clip(diagonal, 0, col), np.full(row, col), dtype)


__all__ = ["array_from", "as_dtype", "from_buffer", "from_numpy", "tensor", "wrap_dim"]
