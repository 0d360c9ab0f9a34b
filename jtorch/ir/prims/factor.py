"""Matrix factorizations by LAPACK: Cholesky, LU, QR, eigenvalues, singular values.

All work on the last two axes, and every axis in front of them is a batch. `info` results are LAPACK's return codes;
`succeeded` turns one into the error that a user sees. The derivative rules are the classical ones (M. Giles,
"Collected matrix derivative results for forward and reverse mode algorithmic differentiation", 2008); for complex
matrices they hold for losses that do not change with the phase of a vector, as in PyTorch.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.errors import LinAlgError
from jtorch.ir import lapack
from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.complex import conjugated
from jtorch.ir.prims.contract import matmul, transpose_last
from jtorch.ir.prims.elementwise import cast_to, expand, where, zeros_like
from jtorch.ir.prims.indexing import gather
from jtorch.ir.prims.matrices import (
    adjoint,
    columns,
    diagonal,
    diagonal_matrix,
    eye_mask,
    lower,
    per_column,
    per_row,
    replace_diagonal,
    rows,
    square_infer,
    upper,
)
from jtorch.ir.prims.movement import concatenate
from jtorch.ir.prims.solve import batch_leading, info_of, lu_decomposition, solve, solve_triangular

_REASONS = {
    "cholesky": "The factorization could not be completed because the input is not positive-definite (the leading "
                "minor of order {info} is not positive-definite).",
    "inv": "The diagonal element {info} is zero, the inversion could not be completed because the input matrix is "
           "singular.",
    "solve": "The solver failed because the input matrix is singular.",
    "lu_factor": "U[{info},{info}] is zero and using it on lu_solve would result in a division by zero. If you still "
                 "want to perform the factorization, consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, "
                 "pivot)",
    "eigh": "The algorithm failed to converge because the input matrix is ill-conditioned or has too many repeated "
            "eigenvalues (error code: {info}).",
    "svd": "The algorithm failed to converge because the input matrix is ill-conditioned or has too many repeated "
           "singular values (error code: {info}).",
    "ldl_factor": "torch.linalg.ldl_factor_ex: Singular matrix.",
}
"""Why a routine fails, in PyTorch's words."""


def failure(place: int, info: int, name: str, reason: str, batched: bool) -> str:
    """The message about the matrix number `place`, whose code is `info`."""
    where = f"(Batch element {place}): " if batched else ""
    return f"{name}: {where}{_REASONS[reason].format(info=info)}"


def _succeeded_numpy(v: np.ndarray, info: np.ndarray, name: str, reason: str) -> np.ndarray:
    if np.any(info):
        place = int(np.flatnonzero(info)[0])
        raise LinAlgError(failure(place, int(info.reshape(-1)[place]), name, reason, info.ndim > 0))
    return v


def _succeeded_batch(self: Op, b: Any, n: int, m: tuple, v: Value, info: Value, **attrs: str) -> Value:
    return self(v if m[0] else expand(v, (n, *v.shape)), info, **attrs)


succeeded = Op("succeeded", "library", lambda t, info, name, reason: t, _succeeded_numpy,
               lambda g, y, v, info, name, reason: (g, None), jvp=lambda t, y, v, info, name, reason: t[0],
               attr_names=("name", "reason"), batch=_succeeded_batch, domain="info")
"""`v`, or a LinAlgError from the function `name` if `info` has a return code other than 0."""


def _refused_vjp(g: Value, y: Value, v: Value, reason: str) -> tuple:
    raise RuntimeError(reason)


refused = Op("refused", "marker", lambda t, reason: t, lambda v, reason: v, _refused_vjp, attr_names=("reason",),
             batch=lambda self, b, n, m, v, reason: self(v, reason=reason))
"""`v`, whose derivative is an error."""


# --- Cholesky --------------------------------------------------------------------------------------------------------

def _cholesky_vjp(g: Any, y: tuple, a: Value, upper: bool) -> tuple:
    """L^-H (X + X^H - diag(X)) / 2 L^-1 with X the lower triangle of L^H g."""
    if g[0] is None:
        return (None,)
    low, cotangent = (adjoint(y[0]), adjoint(g[0])) if upper else (y[0], g[0])
    x = lower(matmul(adjoint(low), cotangent))
    both = x + adjoint(x)
    inner = where(eye_mask(x), x, both) * 0.5
    left = solve_triangular(adjoint(low), inner, upper=True)
    return (adjoint(solve_triangular(adjoint(low), adjoint(left), upper=True)),)


cholesky = Op("cholesky", "library", lambda t, upper: (square_infer(t), info_of(t)), lapack.cholesky, _cholesky_vjp,
              attr_names=("upper",), attr_defaults={"upper": False}, wirtinger=True, batch=batch_leading,
              domain="positive definite")
"""(L with A = L L^H, or its adjoint with `upper`; info). Only one triangle of A is read; the derivative is spread over
both."""


# --- LU --------------------------------------------------------------------------------------------------------------

lu_order = Op("lu_order", "library", lambda t, size, inverse: Type(dtypes.int64, (*t.shape[:-1], size)),
              lambda exchanges, size, inverse: np.argsort(lapack.permutation(exchanges, size), -1) if inverse else
              lapack.permutation(exchanges, size), no_grad="an index", attr_names=("size", "inverse"),
              batch=batch_leading, domain="exchanges")
"""The rows of A that are those of L U, or with `inverse` the rows of L U that are those of A."""


def permute_rows(v: Value, order: Value) -> Value:
    """Row i of the result is row order[i]."""
    return gather(v, per_row(order, v), axis=v.ndim - 2)


def _lu_factor_vjp(g: Any, y: tuple, a: Value) -> tuple:
    """With L and U square: P L^-H (tril(L^H gL, -1) + triu(gU U^H)) U^-H. The rest of a long L is A U^-1, the rest of a
    wide U is L^-1 A; what they contribute comes first."""
    if g[0] is None:
        return (None,)
    factors, (m, n) = y[0], a.shape[-2:]
    k = min(m, n)
    square, grad = (columns(rows(v, 0, k), 0, k) for v in (factors, g[0]))
    rest_of_l = rest_of_u = None
    grad_l, grad_u = lower(grad, -1), upper(grad)
    if n > k:
        rest_of_u = solve_triangular(square, columns(g[0], k, n), transpose=True, unit=True)
        grad_l = grad_l - matmul(rest_of_u, transpose_last(columns(factors, k, n)))
    if m > k:
        rest_of_l = _divided(square, rows(g[0], k, m))
        grad_u = grad_u - matmul(transpose_last(rows(factors, k, m)), rest_of_l)
    unit = replace_diagonal(lower(square, -1), diagonal(zeros_like(square)) + 1)
    middle = lower(matmul(transpose_last(unit), grad_l), -1) + upper(matmul(grad_u, transpose_last(upper(square))))
    found = _divided(square, solve_triangular(square, middle, transpose=True, unit=True))
    if rest_of_u is not None:
        found = concatenate(found, rest_of_u, axis=a.ndim - 1)
    if rest_of_l is not None:
        found = concatenate(found, rest_of_l, axis=a.ndim - 2)
    return (permute_rows(found, lu_order(y[1], size=m, inverse=True)), )


def _divided(square: Value, v: Value) -> Value:
    """v U^-T"""
    return transpose_last(solve_triangular(square, transpose_last(v), upper=True))


lu_factor = Op("lu_factor", "library", lu_decomposition.infer, lapack.lu, _lu_factor_vjp, batch=batch_leading,
               domain="matrix")
"""(L below the diagonal and U from it on, row exchanges counted from 1, info)"""


# --- QR --------------------------------------------------------------------------------------------------------------

def _qr_vjp(g: Any, y: tuple, a: Value, complete: bool) -> tuple:
    """Square or long R: (gQ + Q sym(triu(gR R^H - Q^H gQ))) R^-H, where sym(X) = X + X^H with a real diagonal once. Of
    a wide R = [R1, R2], R2 = Q^H A2 contributes first."""
    q, r = y
    m, n = a.shape[-2:]
    if complete and m > n:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols")
    grad_q, grad_r = g
    grad_q = zeros_like(q) if grad_q is None else grad_q
    rest = None
    if m < n and grad_r is not None:
        wide = columns(grad_r, m, n)
        rest = matmul(q, wide)
        grad_q = grad_q + matmul(columns(a, m, n), adjoint(wide))
        grad_r = columns(grad_r, 0, m)
    r1 = columns(r, 0, m) if m < n else r
    inner = -matmul(adjoint(q), grad_q)
    if grad_r is not None:
        inner = matmul(grad_r, adjoint(r1)) + inner
    inner = upper(inner)
    inner = inner + adjoint(inner)
    middle = where(eye_mask(inner), cast_to(cast_to(inner, inner.dtype.to_real()) * 0.5, inner.dtype), inner)
    found = grad_q + matmul(q, middle)
    found = adjoint(solve_triangular(r1, adjoint(found), upper=True))
    if m < n:
        found = concatenate(found, zeros_like(columns(a, m, n)) if rest is None else rest, axis=a.ndim - 1)
    return (found,)


def _qr_infer(t: Type, complete: bool) -> tuple[Type, Type]:
    lead, (m, n) = t.shape[:-2], t.shape[-2:]
    k = m if complete else min(m, n)
    return Type(t.dtype, (*lead, m, k)), Type(t.dtype, (*lead, k, n))


qr = Op("qr", "library", _qr_infer, lapack.qr, _qr_vjp, attr_names=("complete",), attr_defaults={"complete": False},
        wirtinger=True, batch=batch_leading, domain="matrix")


# --- eigenvalues -----------------------------------------------------------------------------------------------------

def _gaps(values: Value, like: Value) -> Value:
    """values[j] - values[i] at [i, j], and 1 on the diagonal."""
    gaps = per_column(values, like) - per_row(values, like)
    return where(eye_mask(gaps), zeros_like(gaps) + 1, gaps)


def _eigh_vjp(g: Any, y: tuple, a: Value, upper: bool) -> tuple:
    """V (diag(gL) + V^H gV / gaps) V^H, its Hermitian part."""
    values, v = y[0], y[1]
    grad_values, grad_v = g[0], g[1]
    if grad_v is None:
        if grad_values is None:
            return (None,)
        return (matmul(v * per_column(cast_to(grad_values, v.dtype), v), adjoint(v)),)
    inner = matmul(adjoint(v), grad_v)
    inner = inner / cast_to(_gaps(values, inner), inner.dtype)
    inner = (inner + adjoint(inner)) * 0.5
    edge = zeros_like(diagonal(inner)) if grad_values is None else cast_to(grad_values, v.dtype)
    return (matmul(v, matmul(replace_diagonal(inner, edge), adjoint(v))),)


def _eigh_infer(t: Type, upper: bool) -> tuple[Type, Type, Type]:
    return Type(t.dtype.to_real(), square_infer(t).shape[:-1]), t, info_of(t)


eigh = Op("eigh", "library", _eigh_infer, lapack.eigh, _eigh_vjp, attr_names=("upper",), attr_defaults={"upper": False},
          wirtinger=True, ambiguous=True, batch=batch_leading, domain="positive definite")
"""(ascending eigenvalues, vectors in columns, info) of Hermitian matrices, of which one triangle is read."""


def _eig_numpy(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not np.isfinite(a).all():
        raise RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")
    return lapack.eig(a)


def _eig_vjp(g: Any, y: tuple, a: Value) -> tuple:
    """V^-H (diag(gL) + (V^H gV - V^H V diag(Re(V^H gV))) / conj(gaps)) V^H. Vectors have length 1."""
    values, v = y
    grad_values, grad_v = g
    if grad_v is None:
        if grad_values is None:
            return (None,)
        middle = diagonal_matrix(grad_values)
    else:
        along = matmul(adjoint(v), grad_v)
        length = cast_to(cast_to(diagonal(along), v.dtype.to_real()), v.dtype)
        inner = along - matmul(adjoint(v), v) * per_column(length, v)
        inner = inner / _gaps(conjugated(values), inner)
        middle = replace_diagonal(inner, zeros_like(values) if grad_values is None else grad_values)
    right = adjoint(v)
    return (solve(right, *lu_decomposition(right)[:2], matmul(middle, right)),)


def _eig_infer(t: Type) -> tuple[Type, Type]:
    wide = square_infer(t).dtype.to_complex()
    return Type(wide, t.shape[:-1]), Type(wide, t.shape)


eig = Op("eig", "library", _eig_infer, _eig_numpy, _eig_vjp, wirtinger=True, ambiguous=True, batch=batch_leading,
         domain="matrix")
"""(eigenvalues, vectors in columns), complex also for real matrices"""


# --- singular values -------------------------------------------------------------------------------------------------

def _skew(v: Value) -> Value:
    return v - adjoint(v)


def _svd_vjp(g: Any, y: tuple, a: Value, full: bool) -> tuple:
    """U ((skew(U^H gU) S + S skew(V^H gV)) / gaps of S^2 + diag(gS)) V^H, and what gU and gV have outside of the spaces
    that U and V span. Of a square U or V with `full`, only the first min(m, n) columns count."""
    m, n = a.shape[-2:]
    k = min(m, n)
    u, s, vh = columns(y[0], 0, k), y[1], rows(y[2], 0, k)
    grad_u = None if g[0] is None else columns(g[0], 0, k)
    grad_s = None if g[1] is None else cast_to(g[1], u.dtype)
    grad_vh = None if g[2] is None else rows(g[2], 0, k)
    if grad_u is None and grad_vh is None:
        return (None if grad_s is None else matmul(u * per_column(grad_s, u), vh),)
    wide = cast_to(s, u.dtype)
    inner = diagonal_matrix(zeros_like(wide) if grad_s is None else grad_s)
    square = s * s
    gaps = cast_to(_gaps(square, inner), u.dtype)
    if grad_u is not None:
        turned = _skew(matmul(adjoint(u), grad_u))
        inner = inner + turned / gaps * per_column(wide, inner)
        if u.dtype.is_complex:  # the diagonal: a common phase of both vectors
            edge = diagonal(turned)
            inner = inner - diagonal_matrix(edge * wide) + diagonal_matrix(edge / (wide * 2))
    if grad_vh is not None:
        turned = _skew(matmul(vh, adjoint(grad_vh)))
        part = turned / gaps * per_row(wide, inner)
        inner = inner + (where(eye_mask(part), zeros_like(part), part) if u.dtype.is_complex else part)
    found = matmul(matmul(u, inner), vh)
    if grad_u is not None and m > k:
        share = grad_u / per_column(wide, grad_u)
        found = found + matmul(share - matmul(u, matmul(adjoint(u), share)), vh)
    if grad_vh is not None and n > k:
        share = grad_vh / per_row(wide, grad_vh)
        found = found + matmul(u, share - matmul(matmul(share, adjoint(vh)), vh))
    return (found,)


def _svd_infer(t: Type, full: bool) -> tuple[Type, Type, Type, Type]:
    lead, (m, n) = t.shape[:-2], t.shape[-2:]
    k = min(m, n)
    return (Type(t.dtype, (*lead, m, m if full else k)), Type(t.dtype.to_real(), (*lead, k)),
            Type(t.dtype, (*lead, n if full else k, n)), info_of(t))


svd = Op("svd", "library", _svd_infer, lapack.svd, _svd_vjp, attr_names=("full",), attr_defaults={"full": False},
         wirtinger=True, ambiguous=True, batch=batch_leading, domain="matrix")
"""(U, S, V^H, info) with A = U diag(S) V^H; `full`: square U and V"""
