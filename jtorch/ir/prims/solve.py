"""Linear systems by LAPACK: inverses, triangular and general systems, determinants' derivatives, the exponential.

All work on the last two axes, and every axis in front of them is a batch. These functions of a matrix are holomorphic,
so their rules stand as for real matrices.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir import exponential, lapack
from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.contract import matmul, transpose_last
from jtorch.ir.prims.elementwise import zeros_like
from jtorch.ir.prims.matrices import columns, lower, rows, square_infer, upper
from jtorch.ir.prims.movement import concatenate, expand_to, reshape_to
from jtorch.ir.prims.reduce import sum_


def batch_leading(self: Op, b: Any, n: int, mapped: tuple, *operands: Value, **attrs: Any) -> Any:
    """The mapped axis is one more axis of the batch."""
    operands = tuple([v if m else expand_to(v, (n, *v.shape)) for v, m in zip(operands, mapped)])
    return self(*operands, **attrs)


def info_of(t: Type) -> Type:
    return Type(dtypes.int32, t.shape[:-2])


def _inverse_vjp(g: Any, y: tuple, a: Value) -> tuple:
    transposed = transpose_last(y[0])
    return (None if g[0] is None else -matmul(transposed, matmul(g[0], transposed)),)


inverse = Op("inverse", "library", lambda t: (square_infer(t), info_of(t)), lapack.inverse, _inverse_vjp,
             batch=batch_leading, domain="matrix")
"""(A^-1, info)"""


def _lu_infer(t: Type) -> tuple[Type, Type, Type]:
    return t, Type(dtypes.int32, (*t.shape[:-2], min(t.shape[-2:]))), info_of(t)


lu_decomposition = Op("lu_decomposition", "library", _lu_infer, lapack.lu, batch=batch_leading, domain="matrix",
                      no_grad="a work form of the matrix: `lu_factor` and `solve` have derivatives")
"""(L and U in one matrix, row exchanges counted from 1, info)"""


def _solve_infer(a: Type, factors: Type, exchanges: Type, b: Type, transpose: bool) -> Type:
    if a != factors or a.ndim != b.ndim or a.shape[:-1] != b.shape[:-1] or a.dtype is not b.dtype:
        raise AssertionError(f"solve: {a}, {b}")
    return b


def _solve_vjp(g: Value, x: Value, a: Value, factors: Value, exchanges: Value, b: Value, transpose: bool) -> tuple:
    grad_b = solve(a, factors, exchanges, g, transpose=not transpose)
    left, right = (x, grad_b) if transpose else (grad_b, x)
    grad_a = -matmul(left, transpose_last(right)) if a.requires_grad else None
    return grad_a, None, None, grad_b


solve = Op("solve", "library", _solve_infer,
           lambda a, factors, exchanges, b, transpose: lapack.lu_solve(factors, exchanges, b, transpose), _solve_vjp,
           attr_names=("transpose",), attr_defaults={"transpose": False}, batch=batch_leading, domain="matrix")
"""A^-1 B or A^-T B, given A's `lu_decomposition`. A itself is only differentiated with respect to."""


def _triangular_vjp(g: Value, x: Value, a: Value, b: Value, upper: bool, transpose: bool, unit: bool) -> tuple:
    grad_b = solve_triangular(a, g, upper=upper, transpose=not transpose, unit=unit)
    grad_a = None
    if a.requires_grad:
        left, right = (x, grad_b) if transpose else (grad_b, x)
        grad_a = _triangle(-matmul(left, transpose_last(right)), upper, unit)
    return grad_a, grad_b


def _triangle(v: Value, is_upper: bool, unit: bool) -> Value:
    return upper(v, int(unit)) if is_upper else lower(v, -int(unit))


def _triangular_infer(a: Type, b: Type, upper: bool, transpose: bool, unit: bool) -> Type:
    if square_infer(a).shape[:-1] != b.shape[:-1] or a.dtype is not b.dtype:
        raise AssertionError(f"solve_triangular: {a}, {b}")
    return b


solve_triangular = Op("solve_triangular", "library", _triangular_infer, lapack.solve_triangular, _triangular_vjp,
                      attr_names=("upper", "transpose", "unit"), batch=batch_leading, domain="matrix",
                      attr_defaults={"upper": False, "transpose": False, "unit": False})
"""X with A X = B (A^T X = B), of which only the upper or lower triangle is read; `unit`: ones on the diagonal."""


def _total(v: Value) -> Value:
    """The sum over each matrix, expanded over it again."""
    s = sum_(v, axes=(v.ndim - 2, v.ndim - 1))
    return expand_to(reshape_to(s, (*s.shape, 1, 1)), v.shape)


def _cofactors_vjp(g: Value, c: Value, a: Value) -> tuple:
    """With C = det(A) M, M = A^-T: det(A) (sum(g M) M - M g^T M)."""
    m = transpose_last(inverse(a)[0])
    around = matmul(m, matmul(transpose_last(g), m))
    det = determinant(a)
    scale = expand_to(reshape_to(det, (*det.shape, 1, 1)), a.shape)
    return (scale * (_total(g * m) * m - around),)


cofactors = Op("cofactors", "library", square_infer, lapack.cofactors, _cofactors_vjp, batch=batch_leading,
               domain="matrix")
"""The derivative of det(A) with respect to every element."""

determinant = Op("determinant", "library", lambda t: Type(square_infer(t).dtype, t.shape[:-2]), np.linalg.det,
                 lambda g, y, a: (expand_to(reshape_to(g, (*g.shape, 1, 1)), a.shape) * cofactors(a),),
                 batch=batch_leading, domain="matrix")


def _doubled(top_left: Value, top_right: Value, bottom_left: Value, bottom_right: Value) -> Value:
    """One matrix of four."""
    axis = top_left.ndim - 1
    return concatenate(concatenate(top_left, top_right, axis=axis), concatenate(bottom_left, bottom_right, axis=axis),
                       axis=axis - 1)


def _exponential_tangent_vjp(g: Value, y: Value, a: Value, e: Value) -> tuple:
    """The operation is the upper right block of exp([[A, E], [0, A]])."""
    n, zero, t = a.shape[-1], zeros_like(a), transpose_last(a)
    found = exponential_tangent(_doubled(t, zero, transpose_last(e), t), _doubled(zero, g, zero, zero))
    top, bottom = rows(found, 0, n), rows(found, n, 2 * n)
    return columns(top, 0, n) + columns(bottom, n, 2 * n), columns(top, n, 2 * n)


def _same_infer(a: Type, e: Type) -> Type:
    if square_infer(a) != e:
        raise AssertionError(f"exponential_tangent: {a}, {e}")
    return a


exponential_tangent = Op("exponential_tangent", "library", _same_infer, exponential.derivative,
                         _exponential_tangent_vjp, batch=batch_leading, domain="matrix")
"""The derivative of exp at A in the direction E."""
matrix_exp = Op("matrix_exp", "library", square_infer, exponential.exponential,
                lambda g, y, a: (exponential_tangent(transpose_last(a), g),),
                jvp=lambda t, y, a: exponential_tangent(a, t[0]), batch=batch_leading, domain="matrix")


def _least_squares_infer(a: Type, b: Type, rcond: float | None, driver: str) -> tuple[Type, Type, Type]:
    lead, (m, n) = a.shape[:-2], a.shape[-2:]
    return (Type(a.dtype, (*lead, n, b.shape[-1])), Type(dtypes.int64, lead),
            Type(a.dtype.to_real(), (*lead, min(m, n))))


least_squares = Op("least_squares", "library", _least_squares_infer, lapack.least_squares,
                   attr_names=("rcond", "driver"), batch=batch_leading, domain="matrix",
                   no_grad="the composite `lstsq` has the derivative")
"""(X that minimises |A X - B|, rank, singular values) by LAPACK's `driver`"""

ldl_factor = Op("ldl_factor", "library", lambda t, hermitian: (square_infer(t), Type(dtypes.int32, t.shape[:-1]),
                                                               info_of(t)),
                lapack.ldl, no_grad="PyTorch has no derivative of it either", attr_names=("hermitian",),
                batch=batch_leading, domain="matrix")
ldl_solve = Op("ldl_solve", "library", lambda factors, exchanges, b, hermitian: b, lapack.ldl_solve,
               no_grad="PyTorch has no derivative of it either", attr_names=("hermitian",), batch=batch_leading,
               domain="matrix")
reflectors = Op("reflectors", "library", lambda t: (t, Type(t.dtype, (*t.shape[:-2], min(t.shape[-2:])))),
                lapack.reflectors, no_grad="PyTorch has no derivative of it either", batch=batch_leading,
                domain="matrix")
"""LAPACK's geqrf: R above and the Householder vectors below the diagonal, and their factors."""
