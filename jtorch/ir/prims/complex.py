"""Complex numbers: conjugation, and complex elements seen as pairs of real ones.

Gradients follow PyTorch's convention: the cotangent of a real loss L with respect to z = x + iy is dL/dx + i dL/dy.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import constant, full
from jtorch.ir.prims.elementwise import batch_elementwise
from jtorch.ir.prims.movement import concatenate, reshape_to, slice_axis


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


def _part(v: Value, place: int) -> Value:
    pairs = v.inputs[0] if v.op is view_as_complex else view_as_real(v)
    return reshape_to(slice_axis(pairs, v.ndim, place, place + 1), v.shape)


def real(v: Value) -> Value:
    """The real part."""
    return _part(v, 0) if v.dtype.is_complex else v


def imag(v: Value) -> Value:
    """The imaginary part of a complex value."""
    return _part(v, 1)


def complex_of(re: Value, im: Value) -> Value:
    """re + i im, for real values of one type."""
    return view_as_complex(concatenate(*[reshape_to(v, (*v.shape, 1)) for v in (re, im)], axis=re.ndim))
