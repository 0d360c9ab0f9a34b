"""Formulas with matrices that the rules of linear algebra are written in: adjoints, diagonals, triangles."""
from __future__ import annotations

from jtorch import dtypes
from jtorch.ir.graph import Type, Value
from jtorch.ir.prims.complex import conjugated
from jtorch.ir.prims.contract import matmul, transpose_last
from jtorch.ir.prims.create import iota
from jtorch.ir.prims.elementwise import eq, ge, where, zeros_like
from jtorch.ir.prims.movement import expand_to, reshape_to, slice_axis
from jtorch.ir.prims.reduce import sum_

__all__ = ["adjoint", "columns", "diagonal", "diagonal_matrix", "eye_mask", "lower", "matmul", "per_column", "per_row",
           "replace_diagonal", "rows", "square_infer", "transpose_last", "upper"]


def adjoint(v: Value) -> Value:
    """The conjugate transpose of matrices."""
    return conjugated(transpose_last(v))


def _counter(v: Value, axis: int) -> Value:
    """The place along `axis` of every element of the matrices `v`."""
    line = v.builder.apply(iota, length=v.shape[axis], dtype=dtypes.int64)
    return expand_to(reshape_to(line, (v.shape[axis], 1) if axis == -2 else (1, v.shape[axis])), v.shape)


def eye_mask(v: Value) -> Value:
    return eq(_counter(v, -2), _counter(v, -1))


def lower(v: Value, offset: int = 0) -> Value:
    """The triangle on and below the diagonal (`offset` places above it)."""
    return where(ge(_counter(v, -2) + offset, _counter(v, -1)), v, zeros_like(v))


def upper(v: Value, offset: int = 0) -> Value:
    return where(ge(_counter(v, -1), _counter(v, -2) + offset), v, zeros_like(v))


def diagonal(v: Value) -> Value:
    """The main diagonal, min(m, n) long."""
    k = min(v.shape[-2:])
    v = columns(rows(v, 0, k), 0, k)
    return sum_(where(eye_mask(v), v, zeros_like(v)), axes=(v.ndim - 1,))


def per_row(d: Value, like: Value) -> Value:
    """A vector per matrix, with one element for each row, as an operand of the matrices' shape."""
    return expand_to(reshape_to(d, (*d.shape, 1)), like.shape)


def per_column(d: Value, like: Value) -> Value:
    return expand_to(reshape_to(d, (*d.shape[:-1], 1, d.shape[-1])), like.shape)


def diagonal_matrix(d: Value) -> Value:
    wide = expand_to(reshape_to(d, (*d.shape, 1)), (*d.shape, d.shape[-1]))
    return where(eye_mask(wide), wide, zeros_like(wide))


def replace_diagonal(v: Value, d: Value) -> Value:
    """Square matrices with another diagonal."""
    return where(eye_mask(v), per_row(d, v), v)


def rows(v: Value, start: int, stop: int) -> Value:
    return slice_axis(v, v.ndim - 2, start, stop)


def columns(v: Value, start: int, stop: int) -> Value:
    return slice_axis(v, v.ndim - 1, start, stop)


def square_infer(t: Type) -> Type:
    if t.ndim < 2 or t.shape[-1] != t.shape[-2]:
        raise AssertionError(f"no square matrices: {t}")
    return t

