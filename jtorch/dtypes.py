"""Data types and PyTorch's promotion rules.

A `dtype` is a singleton: compare with `is` or `==`. `dtype.numpy` is the NumPy dtype that holds its elements in memory;
`dtype.compute` is the dtype that arithmetic is done in (float32 for the two half types).
"""
from __future__ import annotations

import math
from typing import Any

import ml_dtypes  # NumPy itself has no bfloat16
import numpy as np

BOOL, INT, FLOAT, COMPLEX = range(4)  # promotion categories, lowest first


class dtype:
    """An element type; attributes follow `torch.dtype`."""

    __slots__ = ("name", "numpy", "itemsize", "category", "is_floating_point", "is_complex", "is_signed", "_rank",
                 "compute")

    def __init__(self, name: str, numpy_type: Any, category: int, rank: int) -> None:
        self.name = name
        self.numpy = np.dtype(numpy_type)
        self.itemsize = self.numpy.itemsize
        self.category = category
        self.is_floating_point = category == FLOAT
        self.is_complex = category == COMPLEX
        self.is_signed = category != BOOL and not name.startswith("uint")
        self._rank = rank
        self.compute = self

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str | tuple:
        return (by_name, (self.name,))

    def to_real(self) -> dtype:
        return {complex64: float32, complex128: float64}.get(self, self)

    def to_complex(self) -> dtype:
        return {float64: complex128}.get(self, complex64) if not self.is_complex else self


bool_ = dtype("bool", np.bool_, BOOL, 0)
uint8 = dtype("uint8", np.uint8, INT, 1)
int8 = dtype("int8", np.int8, INT, 2)
int16 = dtype("int16", np.int16, INT, 3)
int32 = dtype("int32", np.int32, INT, 4)
uint32 = dtype("uint32", np.uint32, INT, 4)  # only for raw random bits: promotion with other integers is not PyTorch's
int64 = dtype("int64", np.int64, INT, 5)
float16 = dtype("float16", np.float16, FLOAT, 6)
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, FLOAT, 7)
float32 = dtype("float32", np.float32, FLOAT, 8)
float64 = dtype("float64", np.float64, FLOAT, 9)
complex64 = dtype("complex64", np.complex64, COMPLEX, 10)
complex128 = dtype("complex128", np.complex128, COMPLEX, 11)
float16.compute = bfloat16.compute = float32

ALL = (bool_, uint8, int8, int16, int32, uint32, int64, float16, bfloat16, float32, float64, complex64, complex128)
FLOATS = (float16, bfloat16, float32, float64)
INTS = (uint8, int8, int16, int32, int64)
_BY_NAME = {d.name: d for d in ALL}
BY_NUMPY = {d.numpy: d for d in ALL}


def by_name(name: str) -> dtype:
    return _BY_NAME[name]


def type_name(d: dtype) -> str:
    return {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long",
            "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool",
            "complex64": "ComplexFloat", "complex128": "ComplexDouble"}[d.name]


def require(d: dtype, category: int, kernel: str) -> None:
    """NotImplementedError, as PyTorch's dispatch raises it, where `kernel` has no case for a dtype below `category`."""
    if d.category < category:
        raise NotImplementedError(f'"{kernel}" not implemented for \'{type_name(d)}\'')


def wrapped(x: int, d: dtype) -> int:
    """An integer as C converts it to `d`: modulo 2^n, in two's complement."""
    bits = 8 * d.itemsize
    x &= (1 << bits) - 1
    return x - (1 << bits) if d.numpy.kind == "i" and x >> (bits - 1) else x


def check_fits(lowest: Any, highest: Any, d: dtype) -> None:
    """RuntimeError as PyTorch's where numbers of that range do not fit an integer dtype. An unsigned one takes negative
    integers, by their magnitude."""
    info = np.iinfo(d.numpy)
    low = -info.max if info.min == 0 and isinstance(lowest, (int, np.integer)) else info.min
    if not (low <= lowest and highest <= info.max):
        raise no_place(d)


def check_number(x: bool | int | float | complex, d: dtype) -> None:
    """RuntimeError as PyTorch's where a number that is written does not fit a dtype (fractions are cut off),
    OverflowError for one that no integer dtype has a place for."""
    if type(x) is int and not -1 << 63 <= x < 1 << 64:
        raise OverflowError("int too big to convert")
    if d is bool_ or d.is_complex:
        return
    if isinstance(x, complex):
        if x.imag:
            raise no_place(d)
        x = x.real
    if d.category == INT:
        check_fits(x, x, d)
    elif -math.inf < x < math.inf and abs(x) > float(ml_dtypes.finfo(d.numpy).max):
        raise no_place(d)


def no_place(d: dtype) -> RuntimeError:
    name = {"int32": "int", "float32": "float", "float64": "double", "float16": "c10::Half",
            "bfloat16": "c10::BFloat16"}.get(d.name, f"{d.name}_t")
    return RuntimeError(f"value cannot be converted to type {name} without overflow")


def from_numpy(numpy_dtype: Any) -> dtype:
    """The dtype of NumPy data; TypeError with PyTorch's text where there is none."""
    found = BY_NUMPY.get(np.dtype(numpy_dtype))
    if found is None:
        raise TypeError(
            f"can't convert np.ndarray of type numpy.{np.dtype(numpy_dtype).type.__name__}. The only supported types "
            "are: "
            "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, uint32, uint16, "
            "uint8, and "
            "bool.")
    return found


def of_scalar(value: Any, default_float: dtype = float32) -> dtype:
    """The dtype `torch.tensor(value)` would have for a Python number."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return int64
    if isinstance(value, complex):
        return default_float.to_complex()
    return default_float


def _promote(a: dtype, b: dtype) -> dtype:
    if a is b:
        return a
    if a.category != b.category:
        low, high = (a, b) if a.category < b.category else (b, a)
        if high.is_complex and low is float64:
            return complex128
        return high
    if a.category == INT and uint8 in (a, b):  # uint8 with a signed type needs a wider signed type
        other = b if a is uint8 else a
        return int16 if other is int8 else other
    if {a, b} == {float16, bfloat16}:
        return float32
    return a if a._rank > b._rank else b


_TABLE = {(a, b): _promote(a, b) for a in ALL for b in ALL}


def promote_types(a: dtype, b: dtype) -> dtype:
    """`torch.promote_types`."""
    return _TABLE[a, b]


def can_cast(from_: dtype, to: dtype) -> bool:
    """`torch.can_cast`: a cast may not lower the category (except among equals), nor take the sign away."""
    return from_.category <= to.category and not (from_.is_signed and to is uint8 and from_ is not bool_)


def result_type(operands: list[tuple[dtype, int]], default_float: dtype = float32) -> dtype:
    """Promotion of operands given as (dtype, priority): 0 for a Python scalar, 1 for a 0-d tensor, 2 for a tensor
    with dimensions. A lower priority only matters when its category is higher. Source: `torch.result_type`."""
    best: list[dtype | None] = [None, None, None]
    for operand, priority in operands:
        present = best[priority]
        best[priority] = operand if present is None else _TABLE[present, operand]
    result: dtype | None = None
    for priority in (2, 1, 0):
        d = best[priority]
        if d is None:
            continue
        if result is None:
            result = d
            if priority == 0 and d.category == FLOAT:  # a Python number alone has no width of its own
                result = default_float
            elif priority == 0 and d.category == COMPLEX:
                result = default_float.to_complex()
        elif d.category > result.category:
            if priority == 0 or result.category == BOOL or d.category != result.category:
                # a float scalar with integer tensors gives the default float, not the scalar's own width
                if priority == 0 and d.category == FLOAT:
                    d = default_float
                elif priority == 0 and d.category == COMPLEX:
                    d = result.to_complex() if result.category == FLOAT else default_float.to_complex()
                elif d.category == COMPLEX and result.category == FLOAT:
                    d = _TABLE[d, result]
            result = d
    assert result is not None
    return result


class Layout:
    """`torch.strided`, `torch.channels_last` and such: names that arguments may carry. Memory is always row-major."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple:
        return (_layout, (self.name,))


LAYOUTS = tuple([Layout(n) for n in ("strided", "contiguous_format", "preserve_format", "channels_last",
                                     "channels_last_3d")])


def _layout(name: str) -> Layout:
    return next(layout for layout in LAYOUTS if layout.name == name)
