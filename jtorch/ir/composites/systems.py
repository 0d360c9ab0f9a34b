"""Pseudo-inverses and least squares, whose derivatives hold where the rank does not change."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch.ir.arith import floor_divide, ne, where
from jtorch.ir.composites.define import REQUIRED, composite, numbers
from jtorch.ir.graph import Builder, Value
from jtorch.ir.prims.complex import conjugated, imag
from jtorch.ir.prims.contract import matmul
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import abs_, cast_to, log, sign, zeros_like
from jtorch.ir.prims.factor import eigh, svd
from jtorch.ir.prims.matrices import adjoint, diagonal, eye_mask, per_column
from jtorch.ir.prims.movement import expand_to, reshape_to
from jtorch.ir.prims.reduce import max_, prod, sum_
from jtorch.ir.prims.solve import least_squares, solve


def kept(sizes: Value, atol: Value, rtol: Value) -> Value:
    """Which singular values count: those above max(atol, rtol * the largest). The tolerances are one per matrix."""
    largest = max_(sizes, axes=(sizes.ndim - 1,))
    bound = where(atol > rtol * largest, atol, rtol * largest)
    return sizes > expand_to(reshape_to(bound, (*bound.shape, 1)), sizes.shape)


def _pinv(b: Builder, a: Value, atol: Value, rtol: Value, hermitian: bool) -> Value:
    if not a.type.numel:
        return constant(b, 0, a.dtype, (*a.shape[:-2], a.shape[-1], a.shape[-2]))
    if hermitian:
        values, left, _ = eigh(a)
        sizes, right = abs_(values), adjoint(left)
    else:
        left, values, right, _ = svd(a)
        sizes = values
    inverted = where(kept(sizes, atol, rtol), 1 / values, zeros_like(values))
    return matmul(adjoint(right) * per_column(cast_to(inverted, a.dtype), adjoint(right)), adjoint(left))


def pinv_gradient(g: Value, p: Value, a: Value) -> Value:
    """G. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate", 1973."""
    gh, ph = adjoint(g), adjoint(p)
    if a.shape[-2] <= a.shape[-1]:
        k = matmul(gh, p)
        kph = matmul(k, ph)
        return (kph - adjoint(matmul(p, k)) - matmul(matmul(a, p), kph)
                + matmul(matmul(ph, p), gh - matmul(k, a)))
    k = matmul(p, gh)
    phk = matmul(ph, k)
    return (phk - adjoint(matmul(k, p)) + matmul(matmul(gh - matmul(a, k), p), ph) - matmul(matmul(phk, p), a))


pinv = composite("pinv", _pinv, lambda g, y, a, atol, rtol, hermitian: (pinv_gradient(g, y, a), None, None),
                 attrs={"hermitian": False}, wirtinger=True, domain="matrix")
"""The pseudo-inverse; singular values up to max(atol, rtol * the largest) count as 0."""


def _lstsq_vjp(g: Value, y: Value, a: Value, b: Value, rcond: float | None, driver: str) -> tuple:
    real, lead = a.dtype.to_real(), a.shape[:-2]
    eps = float(np.finfo(real.numpy).eps) * max(a.shape[-2:])
    p = pinv(a, constant(a.builder, 0.0, real, lead), constant(a.builder, eps, real, lead))
    return pinv_gradient(matmul(g, adjoint(b)), p, a), matmul(adjoint(p), g)


lstsq = composite("lstsq", lambda b, a, right, rcond, driver: least_squares(a, right, rcond=rcond, driver=driver)[0],
                  _lstsq_vjp, attrs={"rcond": None, "driver": REQUIRED}, wirtinger=True, widen=False, domain="matrix")
"""The X that minimises |A X - B|, of the least norm. (Rank and singular values are the primitive's.)"""


def _slogdet(b: Builder, a: Value, factors: Value, exchanges: Value) -> tuple[Value, Value]:
    """From the diagonal of U, and how many of the row exchanges are some."""
    edge = diagonal(factors)
    axes = (edge.ndim - 1,)
    places = numbers(b, exchanges.shape, exchanges.ndim - 1) + 1
    swaps = sum_(cast_to(ne(cast_to(exchanges, places.dtype), places), places.dtype), axes=axes)
    parity = cast_to(1 - 2 * (swaps - 2 * floor_divide(swaps, 2)), a.dtype)
    size = sum_(log(abs_(edge)), axes=axes)
    return prod(sign(edge), axes=axes) * parity, size


def _slogdet_vjp(g: Any, y: tuple, a: Value, factors: Value, exchanges: Value) -> tuple:
    """(gL - i Im(conj(gS) S)) A^-H"""
    if g == (None, None):
        return None, None, None
    scale = zeros_like(y[0]) if g[1] is None else cast_to(g[1], a.dtype)
    if a.dtype.is_complex and g[0] is not None:
        scale = scale - 1j * cast_to(imag(conjugated(g[0]) * y[0]), a.dtype)
    elif g[1] is None:
        return None, None, None
    eye = where(eye_mask(a), 1.0, zeros_like(a))
    return expand_to(reshape_to(scale, (*scale.shape, 1, 1)), a.shape) * adjoint(
        solve(a, factors, exchanges, cast_to(eye, a.dtype))), None, None


slogdet = composite("slogdet", _slogdet, _slogdet_vjp, wirtinger=True, widen=False, domain="matrix")
"""(sign, log |det|), given A's `lu_decomposition`."""

__all__ = ["kept", "lstsq", "pinv", "pinv_gradient", "slogdet"]
