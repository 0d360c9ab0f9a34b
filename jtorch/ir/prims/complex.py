"""Complex numbers: conjugation, and complex elements seen as pairs of real ones.

Gradients follow PyTorch's convention: the cotangent of a real loss L with respect to z = x + iy is dL/dx + i dL/dy.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import constant, full
from jtorch.ir.prims.elementwise import batch_elementwise, zeros_like


def _conj_infer(t: Type) -> Type:
    if not t.dtype.is_complex:
        raise AssertionError(f"conj of {t}")
    return t


conj = Op("conj", "library", _conj_infer, np.conj, lambda g, z, x: (conjugated(g),), linear=True, wirtinger=True,
          batch=batch_elementwise, domain="complex")


def conjugated(v: Value) -> Value:
    """The conjugate; of a real value, itself."""
    if not v.dtype.is_complex:
        return v
    if v.op is conj:
        return v.inputs[0]
    if v.op is full:
        return constant(v.builder, complex(v.attr("value")).conjugate(), v.dtype, v.shape)
    return conj(v)


def _pairs_infer(t: Type) -> Type:
    if not t.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return Type(t.dtype.to_real(), (*t.shape, 2))


def _pairs_numpy(a: np.ndarray) -> np.ndarray:
    a = np.ascontiguousarray(a).reshape(a.shape)
    return a.view(a.real.dtype).reshape(*a.shape, 2) if a.ndim else a.reshape(1).view(a.real.dtype)


def _from_pairs_infer(t: Type) -> Type:
    if not t.shape or t.shape[-1] != 2 or not t.dtype.is_floating_point:
        raise AssertionError(f"view_as_complex of {t}")
    return Type(t.dtype.to_complex(), t.shape[:-1])


def _from_pairs_numpy(a: np.ndarray) -> np.ndarray:
    a = np.ascontiguousarray(a)
    return a.view(np.result_type(a.dtype, np.complex64)).reshape(a.shape[:-1])


def _batch_pairs(self: Op, b: Any, n: int, m: tuple, x: Value) -> Value:
    return self(x)


view_as_real = Op("view_as_real", "library", _pairs_infer, _pairs_numpy, lambda g, y, x: (view_as_complex(g),),
                  linear=True, wirtinger=True, batch=_batch_pairs, domain="complex")
"""Complex elements as pairs (real, imaginary) along a new last axis."""

view_as_complex = Op("view_as_complex", "library", _from_pairs_infer, _from_pairs_numpy,
                     lambda g, y, x: (view_as_real(g),), linear=True, wirtinger=True, batch=_batch_pairs,
                     domain="pairs")
"""The inverse of `view_as_real`."""


def _part_infer(t: Type) -> Type:
    if not t.dtype.is_complex:
        raise AssertionError(f"a part of {t}")
    return Type(t.dtype.to_real(), t.shape)


def _make_infer(re: Type, im: Type) -> Type:
    if re != im or not re.dtype.is_floating_point:
        raise AssertionError(f"complex numbers of {re} and {im}")
    return Type(re.dtype.to_complex(), re.shape)


def _make_numpy(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    found = np.empty(re.shape, np.result_type(re.dtype, np.complex64))
    found.real, found.imag = re, im
    return found


real_part = Op("real_part", "library", _part_infer, np.real, lambda g, y, x: (make_complex(g, zeros_like(g)),),
               linear=True, wirtinger=True, batch=batch_elementwise, domain="complex")
imag_part = Op("imag_part", "library", _part_infer, np.imag, lambda g, y, x: (make_complex(zeros_like(g), g),),
               linear=True, wirtinger=True, batch=batch_elementwise, domain="complex")
make_complex = Op("make_complex", "library", _make_infer, _make_numpy, lambda g, y, re, im: (real(g), imag(g)),
                  linear=True, wirtinger=True, batch=batch_elementwise, domain="pair")
"""re + i im"""


def real(v: Value) -> Value:
    """The real part."""
    return v if not v.dtype.is_complex else v.inputs[0] if v.op is make_complex else real_part(v)


def imag(v: Value) -> Value:
    """The imaginary part of a complex value."""
    return v.inputs[1] if v.op is make_complex else imag_part(v)


def complex_of(re: Value, im: Value) -> Value:
    """re + i im, for real values of one type."""
    return make_complex(re, im)
