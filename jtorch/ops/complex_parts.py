"""Complex tensors: their parts, as views, and how they are put together."""
from __future__ import annotations

import math
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor, attach
from jtorch.ir import arith
from jtorch.ir.graph import Value
from jtorch.ir.prims import complex as parts
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims.create import detach
from jtorch.ops.attach import FUNCTIONS, define, expose
from jtorch.ops.shape import alias, select
from jtorch.views import make_view, type_name


@expose("view_as_real")
def view_as_real(input: Tensor) -> Tensor:
    """Pairs (real, imaginary) along a new last dimension. A view."""
    if not input.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    if is_conj(input):
        raise RuntimeError("view_as_real doesn't work on unresolved conjugated tensors.  To resolve the conjugate "
                           "tensor so you can view it as real, use self.resolve_conj(); however, be warned that the "
                           "resulting tensor will NOT alias the original.")
    return make_view(input, parts.view_as_real, ())


@expose("view_as_complex")
def view_as_complex(input: Tensor) -> Tensor:
    """The inverse of `view_as_real`. A view."""
    if not input.dtype.is_floating_point or input.dtype is dtypes.bfloat16 or input.dtype is dtypes.float16:
        raise RuntimeError("view_as_complex is only supported for half, float and double tensors, but got a tensor of "
                           f"scalar type: {type_name(input.dtype)}")
    if not input.ndim:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if input.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if input.stride(-1) != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    for i, s in enumerate(input.stride()[:-1]):
        if s % 2:
            raise RuntimeError(f"Tensor must have a stride divisible by 2 for all but last dimension, got stride {s} "
                               f"at dimension {i}")
    if input.storage_offset() % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    return make_view(input, parts.view_as_complex, ())


@expose("real", method=False)
def real(input: Tensor) -> Tensor:
    """The real part. A view."""
    return _part(input, 0) if input.dtype.is_complex else input


@expose("imag", method=False)
def imag(input: Tensor) -> Tensor:
    """The imaginary part. A view."""
    if not input.dtype.is_complex:
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    part = _part(input, 1)
    return make_view(part, ew.neg, ()) if is_conj(input) else part


def _part(z: Tensor, place: int) -> Tensor:
    return select(view_as_real(conj(z) if is_conj(z) else z), -1, place)


def _set_part(part: Any) -> Any:
    def setter(self: Tensor, value: Any) -> None:
        part(self).copy_(value if isinstance(value, Tensor) else FUNCTIONS["full"]((), value, dtype=part(self).dtype))
    return setter


attach(real=property(real, _set_part(real)), imag=property(imag, _set_part(imag)))


@define("conj_physical", inplace=True)
def conj_physical(input: Value) -> Value:
    return parts.conjugated(input)


@expose("conj")
def conj(input: Tensor) -> Tensor:
    """The conjugate. A view: it is computed when it is read."""
    return make_view(input, parts.conj, ()) if input.dtype.is_complex else alias(input)


@expose("is_conj")
def is_conj(input: Tensor) -> bool:
    """Is this a view that conjugates what lies in memory?"""
    return parts.conj in input._pending_ops()


@expose("is_neg")
def is_neg(input: Tensor) -> bool:
    """Is this a view that negates what lies in memory (the imaginary part of a conjugate)?"""
    return ew.neg in input._pending_ops()


@expose("resolve_conj")
def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself, or a copy with the conjugates in memory."""
    return input.clone() if is_conj(input) else input


@expose("resolve_neg")
def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself, or a copy with the negated elements in memory."""
    return input.clone() if is_neg(input) else input


@define("isreal", out=False)
def isreal(input: Value) -> Value:
    if not input.dtype.is_complex:
        return ew.is_zero(ew.zeros_like(input))
    return ew.is_zero(parts.imag(input))


@define("sgn", inplace=True)
def sgn(input: Value) -> Value:
    """x / |x|, and 0 of 0."""
    return input if input.dtype is dtypes.bool_ else ew.sign(input)


@define("sign", inplace=True)
def sign(input: Value) -> Value:
    if input.dtype.is_complex:
        raise RuntimeError("Unlike NumPy, torch.sign doesn't allow complex inputs; instead, please use torch.sgn.")
    return input if input.dtype is dtypes.bool_ else ew.sign(input)


@define("angle", out=True)
def angle(input: Value) -> Value:
    if not input.dtype.is_complex:
        x = arith.as_float(input)
        zero = ew.zeros_like(x)
        return arith.where(ew.isnan(x), x, arith.where(x < 0, zero + math.pi, zero))
    re, im = parts.real(input), parts.imag(input)
    hole = ew.bitwise_and(ew.is_zero(re), ew.is_zero(im))  # the derivative there is taken for 0
    return ew.where(hole, arith.atan2(detach(im), detach(re)),
                    arith.atan2(im, ew.where(hole, ew.ones_like(re), re)))


def _check_pair(a: Value, b: Value) -> None:
    for v in (a, b):
        if v.dtype not in (dtypes.float16, dtypes.float32, dtypes.float64):
            raise RuntimeError("Expected both inputs to be Half, Float or Double tensors but got "
                               f"{type_name(a.dtype)} and {type_name(b.dtype)}")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"Expected object of scalar type {type_name(a.dtype)} but got scalar type "
                           f"{type_name(b.dtype)} for second argument")


@define("complex", method=False, out="typed")
def complex_(real: Value, imag: Value) -> Value:
    _check_pair(real, imag)
    return parts.complex_of(*arith.broadcast((real, imag)))


@define("polar", method=False, out="typed")
def polar(abs: Value, angle: Value) -> Value:
    _check_pair(abs, angle)
    size, turn = arith.broadcast((abs, angle))
    return parts.complex_of(size * ew.cos(turn), size * ew.sin(turn))
