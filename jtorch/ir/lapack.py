"""Matrix factorizations of NumPy arrays: LAPACK's routines over batches of matrices.

Every function takes [..., m, n] and gives results with the same leading axes; `info` is LAPACK's return code for each
matrix. NumPy has loops over batches in C for some routines; the others are called through SciPy matrix by matrix.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def routine(name: str, like: Array) -> Callable[..., Any]:
    """SciPy's wrapper of a LAPACK routine for the dtype of `like`."""
    from scipy.linalg.lapack import get_lapack_funcs
    if like.dtype.kind == "c":
        name = {"orgqr": "ungqr", "ormqr": "unmqr"}.get(name, name)
    return get_lapack_funcs((name,), (like,))[0]


def each(function: Callable[..., Any], results: Sequence[tuple[tuple[int, ...], Any]], *arrays: Array) -> tuple:
    """`function` of one matrix each, over the leading axes of the arrays, which are equal. `results`: (shape, dtype) of
    what it returns for one matrix."""
    lead = arrays[0].shape[:-2] if arrays else ()
    count = int(np.prod(lead, dtype=np.int64))
    flat = [a.reshape(count, *a.shape[len(lead):]) for a in arrays]
    found = [np.empty((count, *shape), dtype) for shape, dtype in results]
    for i in range(count):
        for place, value in zip(found, function(*[a[i] for a in flat])):
            place[i] = value
    return tuple([f.reshape((*lead, *f.shape[1:])) for f in found])


def cholesky(a: Array, upper: bool) -> tuple[Array, Array]:
    """(factor, info): lower L with a = L L^H from the lower triangle of a; its adjoint from the upper one."""
    n = a.shape[-1]
    info = np.zeros(a.shape[:-2], np.int32)
    if not a.size:
        return a.copy(), info
    try:
        return np.linalg.cholesky(a, upper=upper), info
    except np.linalg.LinAlgError:
        potrf = routine("potrf", a)
        factors, info = each(lambda m: potrf(m, lower=not upper, clean=True), [((n, n), a.dtype), ((), np.int32)], a)
        return factors, info


def lu(a: Array) -> tuple[Array, Array, Array]:
    """(L and U in one matrix, row exchanges counted from 1, info)."""
    m, n = a.shape[-2:]
    k = min(m, n)
    if not a.size:
        return (a.copy(), np.zeros((*a.shape[:-2], k), np.int32), np.zeros(a.shape[:-2], np.int32))
    getrf = routine("getrf", a)

    def one(matrix: Array) -> tuple:
        factors, exchanges, info = getrf(matrix)
        return factors, exchanges + 1, info
    return each(one, [((m, n), a.dtype), ((k,), np.int32), ((), np.int32)], a)


def permutation(exchanges: Array, n: int) -> Array:
    """Row i of P @ x is row result[i] of x, for P^T the product of the row exchanges: P L U = A has A[result] = L U."""
    lead = exchanges.shape[:-1]
    flat = exchanges.reshape(int(np.prod(lead, dtype=np.int64)), exchanges.shape[-1]) - 1
    order = np.tile(np.arange(n), (len(flat), 1))
    rows = np.arange(len(flat))
    for i in range(flat.shape[1]):
        j = flat[:, i]
        order[rows, i], order[rows, j] = order[rows, j], order[rows, i].copy()
    return order.reshape(*lead, n)


def lu_solve(factors: Array, exchanges: Array, b: Array, transpose: bool) -> Array:
    """A^-1 b or A^-T b. Of a singular A: infinities and NaNs."""
    if not b.size:
        return b.copy()
    getrs = routine("getrs", factors)

    def one(lu: Array, pivots: Array, right: Array) -> tuple:
        return (getrs(lu, pivots - 1, right, trans=1 if transpose else 0)[0],)
    n, k = b.shape[-2:]
    pivots = exchanges[..., None]  # `each` goes over all axes but two
    return each(lambda lu, p, right: one(lu, p[:, 0], right), [((n, k), b.dtype)], factors, pivots, b)[0]


def inverse(a: Array) -> tuple[Array, Array]:
    """(inverse, info); of singular matrices NaN."""
    info = np.zeros(a.shape[:-2], np.int32)
    if not a.size:
        return a.copy(), info
    try:
        return np.linalg.inv(a), info
    except np.linalg.LinAlgError:
        factors, exchanges, info = lu(a)
        eye = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
        return lu_solve(factors, exchanges, eye, False), info


def solve_triangular(a: Array, b: Array, upper: bool, transpose: bool, unit: bool) -> Array:
    """x with a x = b (or a^T x = b); only the triangle is read."""
    if not b.size:
        return b.copy()
    trtrs = routine("trtrs", a)
    n, k = b.shape[-2:]

    def one(matrix: Array, right: Array) -> tuple:
        x, info = trtrs(matrix, right, lower=not upper, trans=1 if transpose else 0, unitdiag=unit)
        if info > 0:  # a zero on the diagonal: LAPACK leaves the right side as it was
            with np.errstate(all="ignore"):
                x = _substitute(matrix.T if transpose else matrix, right, upper != transpose)
        return (x,)
    return each(one, [((n, k), b.dtype)], a, b)[0]


def _substitute(a: Array, b: Array, upper: bool) -> Array:
    """Plain substitution, which divides by zero where the matrix has one."""
    n = a.shape[0]
    x = b.copy()
    for i in reversed(range(n)) if upper else range(n):
        done = slice(i + 1, n) if upper else slice(0, i)
        x[i] = (b[i] - a[i, done] @ x[done]) / a[i, i]
    return x


def qr(a: Array, complete: bool) -> tuple[Array, Array]:
    m, n = a.shape[-2:]
    k = m if complete else min(m, n)
    if not a.size:
        q = np.broadcast_to(np.eye(m, k, dtype=a.dtype), (*a.shape[:-2], m, k))
        return q.copy(), np.zeros((*a.shape[:-2], k, n), a.dtype)
    return np.linalg.qr(a, "complete" if complete else "reduced")


def reflectors(a: Array) -> tuple[Array, Array]:
    """(R above and the Householder vectors below the diagonal, their factors tau): LAPACK's geqrf."""
    m, n = a.shape[-2:]
    if not a.size:
        return a.copy(), np.zeros((*a.shape[:-2], min(m, n)), a.dtype)
    geqrf = routine("geqrf", a)
    return each(lambda matrix: geqrf(matrix)[:2], [((m, n), a.dtype), ((min(m, n),), a.dtype)], a)


def eigh(a: Array, upper: bool) -> tuple[Array, Array, Array]:
    """(ascending real eigenvalues, eigenvectors in columns, info) of Hermitian matrices."""
    n = a.shape[-1]
    info = np.zeros(a.shape[:-2], np.int32)
    if not a.size:
        return np.zeros(a.shape[:-1], a.real.dtype), a.copy(), info
    try:
        return *np.linalg.eigh(a, "U" if upper else "L"), info
    except np.linalg.LinAlgError:
        heevd = routine("heevd" if a.dtype.kind == "c" else "syevd", a)
        return each(lambda m: heevd(m, lower=not upper),
                    [((n,), a.real.dtype), ((n, n), a.dtype), ((), np.int32)], a)


def eig(a: Array) -> tuple[Array, Array]:
    """(eigenvalues, eigenvectors in columns), complex."""
    wide = np.result_type(a.dtype, np.complex64)
    if not a.size:
        return np.zeros(a.shape[:-1], wide), np.zeros(a.shape, wide)
    values, vectors = np.linalg.eig(a)
    return values.astype(wide), vectors.astype(wide)


def svd(a: Array, full: bool) -> tuple[Array, Array, Array, Array]:
    """(u, s, v^H, info) with a = u diag(s) v^H; with `full`, square u and v."""
    m, n = a.shape[-2:]
    k = min(m, n)
    info = np.zeros(a.shape[:-2], np.int32)
    if not a.size:
        lead = a.shape[:-2]
        u = np.broadcast_to(np.eye(m, m if full else k, dtype=a.dtype), (*lead, m, m if full else k))
        vh = np.broadcast_to(np.eye(n if full else k, n, dtype=a.dtype), (*lead, n if full else k, n))
        return u.copy(), np.zeros((*lead, k), a.real.dtype), vh.copy(), info
    try:
        return *np.linalg.svd(a, full_matrices=full), info
    except np.linalg.LinAlgError:
        gesdd = routine("gesdd", a)
        shapes = [((m, m if full else k), a.dtype), ((k,), a.real.dtype), ((n if full else k, n), a.dtype)]
        return each(lambda x: gesdd(x, full_matrices=full), [*shapes, ((), np.int32)], a)


def cofactors(a: Array) -> Array:
    """The derivative of det(a) with respect to each element, also of singular matrices: by the singular values,
    det(u) det(v^H) u diag(the product of the others) v^H, transposed in the sense of the bilinear form."""
    n = a.shape[-1]
    if not a.size:
        return a.copy()
    u, s, vh, _ = svd(a, False)
    others = np.stack([np.prod(np.delete(s, i, -1), -1) for i in range(n)], -1)
    scale = np.linalg.det(u) * np.linalg.det(vh)
    return scale[..., None, None] * ((u * others[..., None, :]) @ vh).conj()


def least_squares(a: Array, b: Array, rcond: float | None, driver: str) -> tuple[Array, Array, Array]:
    """(x, rank, singular values) that minimise |a x - b| (of the least norm, where a's rank is deficient).

    `driver` is LAPACK's: 'gels' takes full rank for granted, 'gelsy' finds the rank by a QR with pivoting, 'gelsd' and
    'gelss' by singular values.
    """
    from scipy.linalg import lapack
    m, n = a.shape[-2:]
    k = b.shape[-1]
    small = min(m, n)
    real = a.real.dtype
    if not a.size or not b.size:
        rank = np.full(a.shape[:-2], small if a.size else 0, np.int64)
        return np.zeros((*a.shape[:-2], n, k), a.dtype), rank, np.zeros((*a.shape[:-2], small), real)
    eps = float(np.finfo(real).eps) * max(m, n) if rcond is None else rcond
    call = routine(driver, a)

    def one(matrix: Array, right: Array) -> tuple:
        padded = np.zeros((max(m, n), k), a.dtype)
        padded[:m] = right
        values, rank = np.zeros(small, real), small
        if driver == "gels":
            x = call(matrix, padded)[1]
        elif driver == "gelsy":
            work = lapack.get_lapack_funcs(("gelsy_lwork",), (matrix,))[0](m, n, k, eps)[0]
            _, x, _, rank, _ = call(matrix, padded, np.zeros((n, 1), np.int32), eps, int(work.real), False, False)
        elif driver == "gelss":
            work = lapack.get_lapack_funcs(("gelss_lwork",), (matrix,))[0](m, n, k, eps)[0]
            _, x, values, rank, _, _ = call(matrix, padded, eps, int(work.real), False, False)
        else:
            sizes = lapack.get_lapack_funcs(("gelsd_lwork",), (matrix,))[0](m, n, k, eps)
            if a.dtype.kind == "c":
                work, rwork, iwork, _ = sizes
                x, values, rank, _ = call(matrix, padded, int(work.real), int(rwork), int(iwork), eps, False, False)
            else:
                work, iwork, _ = sizes
                x, values, rank, _ = call(matrix, padded, int(work), int(iwork), eps, False, False)
        return x[:n], rank, values
    return each(one, [((n, k), a.dtype), ((), np.int64), ((small,), real)], a, b)


def ldl(a: Array, hermitian: bool) -> tuple[Array, Array, Array]:
    """(L and the blocks of D in one matrix, row exchanges, info) of symmetric or Hermitian matrices: sytrf, hetrf."""
    n = a.shape[-1]
    if not a.size:
        return a.copy(), np.zeros(a.shape[:-1], np.int32), np.zeros(a.shape[:-2], np.int32)
    call = routine("hetrf" if hermitian and a.dtype.kind == "c" else "sytrf", a)
    factors, exchanges, info = each(lambda m: call(m, lower=1), [((n, n), a.dtype), ((n,), np.int32), ((), np.int32)],
                                    a)
    return np.tril(factors), exchanges, info


def ldl_solve(factors: Array, exchanges: Array, b: Array, hermitian: bool) -> Array:
    if not b.size:
        return b.copy()
    call = routine("hetrs" if hermitian and factors.dtype.kind == "c" else "sytrs", factors)
    n, k = b.shape[-2:]
    return each(lambda ld, p, right: call(ld, p[:, 0], right, lower=1)[:1], [((n, k), b.dtype)],
                factors, exchanges[..., None], b)[0]
