"""Matrix factorizations and linear systems by LAPACK (`lapack_calls.py`): a matrix goes in transposed, except where the
transposed problem is the same one. `jtorch/ir/lapack.py` has the meaning of each operation in NumPy, which finds
the same signs and phases, as it calls the same routines.
"""
from __future__ import annotations

import functools
from math import prod
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.codegen.library.call import Lowering, Operand, conversion, grain_of
from jtorch.codegen.library.copy import contiguous, copy, zero
from jtorch.codegen.library.language import (
    ALPHA,
    NAN,
    Pointer,
    T,
    addr_of,
    call_routine,
    i32,
    i64,
    index_div,
    index_mod,
    store_error,
)
from jtorch.codegen.library.lapack_calls import (
    BLOCK,
    COLUMNS,
    FLOPS_PER_NS,
    LETTERS,
    Argument,
    Work,
    batch,
    by_columns,
    elements,
    letter,
    real_pointer,
    routine,
    scale_matrices,
    transposed,
    words_of,
)
from jtorch.codegen.library.reflections import by_pivoting, eigenvectors, expanded
from jtorch.errors import LinAlgError
from jtorch.ir.prims.factor import failure

# --- what surrounds the routines -------------------------------------------------------------------------------------

def clear_above(x: Pointer, rows: int, columns: int, words: int, begin: int, end: int, worker: int) -> None:
    """x[..., i, j] = 0 where j > i; an item is a row. `words` real numbers make an element."""
    for item in range(begin, end):
        first = item * columns * words
        for j in range((index_mod(item, rows) + 1) * words, columns * words):
            x[first + j] = 0


def clear_below(x: Pointer, rows: int, columns: int, words: int, begin: int, end: int, worker: int) -> None:
    """x[..., i, j] = 0 where j < i."""
    for item in range(begin, end):
        first = item * columns * words
        for j in range(min(index_mod(item, rows), columns) * words):
            x[first + j] = 0


def spoil_failed(x: Pointer, info: Pointer, size: int, begin: int, end: int, worker: int) -> None:
    """NaN for the matrices that have a code in `info`."""
    for item in range(begin, end):
        if info[item] != 0:
            for i in range(item * size, item * size + size):
                x[i] = NAN


def exchange_rows(x: Pointer, exchanges: Pointer, rows: int, columns: int, block: int, backwards: int, begin: int,
                  end: int, worker: int) -> None:
    """Rows i and exchanges[i] - 1 are swapped, for one i after the other; an item is a block of columns."""
    blocks = index_div(columns + block - 1, block)
    for item in range(begin, end):
        matrix = index_div(item, blocks)
        c0 = index_mod(item, blocks) * block
        c1 = min(c0 + block, columns)
        for step in range(rows):
            i = rows - 1 - step if backwards else step
            j = i64(exchanges[matrix * rows + i]) - 1
            if j != i:
                here = (matrix * rows + i) * columns
                there = (matrix * rows + j) * columns
                for c in range(c0, c1):
                    kept = x[here + c]
                    x[here + c] = x[there + c]
                    x[there + c] = kept


def order_of_exchanges(exchanges: Pointer, order: Pointer, scratch: Pointer, stride: int, count: int, size: int,
                       inverse: int, begin: int, end: int, worker: int) -> None:
    """The order in which row exchanges leave the rows, or its inverse."""
    base = index_div(worker * stride, 8)
    for item in range(begin, end):
        for i in range(size):
            scratch[base + i] = i
        for i in range(count):
            j = i64(exchanges[item * count + i]) - 1
            kept = scratch[base + i]
            scratch[base + i] = scratch[base + j]
            scratch[base + j] = kept
        for i in range(size):
            if inverse:
                order[item * size + scratch[base + i]] = i
            else:
                order[item * size + i] = scratch[base + i]


def solve_blocks(trsm: int, a: Pointer, b: Pointer, words: Pointer, stride: int, n: int, columns: int, block: int,
                 size: int, uplo: int, trans: int, diag: int, begin: int, end: int, worker: int) -> None:
    """B = op(A)^-1 B, in place; an item is a block of the columns of B. Seen by columns: B^T = B^T op(A)^-T."""
    at = index_div(worker * stride, 4)
    blocks = index_div(columns + block - 1, block)
    words[at] = i32(82)  # 'R'
    words[at + 1] = i32(uplo)
    words[at + 2] = i32(trans)
    words[at + 3] = i32(diag)
    words[at + 5] = i32(n)
    words[at + 6] = i32(columns)
    for i in range(8, 12):
        words[at + i] = i32(0)
    ALPHA  # noqa: B018
    for item in range(begin, end):
        matrix = index_div(item, blocks)
        c0 = index_mod(item, blocks) * block
        words[at + 4] = i32(min(block, columns - c0))
        call_routine(trsm, addr_of(words, at), addr_of(words, at + 1), addr_of(words, at + 2), addr_of(words, at + 3),
                     addr_of(words, at + 4), addr_of(words, at + 5), addr_of(words, at + 8),
                     addr_of(a, matrix * n * n * size), addr_of(words, at + 5),
                     addr_of(b, (matrix * n * columns + c0) * size), addr_of(words, at + 6), 1, 1, 1, 1)


def diagonal_product(u: Pointer, exchanges: Pointer, det: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """The determinant from an LU decomposition."""
    for item in range(begin, end):
        found = T(1)
        for i in range(n):
            pivot = u[(item * n + i) * n + i]
            found = found * (-pivot if i64(exchanges[item * n + i]) != i + 1 else pivot)
        det[item] = found


def diagonal_product_complex(u: Pointer, exchanges: Pointer, det: Pointer, n: int, begin: int, end: int, worker: int
                             ) -> None:
    for item in range(begin, end):
        re = T(1)
        im = T(0)
        for i in range(n):
            place = ((item * n + i) * n + i) * 2
            sign = T(-1) if i64(exchanges[item * n + i]) != i + 1 else T(1)
            x = sign * u[place]
            y = sign * u[place + 1]
            kept = re
            re = re * x - im * y
            im = kept * y + im * x
        det[2 * item] = re
        det[2 * item + 1] = im


def lift_pivots(u: Pointer, n: int, words: int, eps: float, tiny: float, begin: int, end: int, worker: int) -> None:
    """Pivots that are 0 become eps times the largest one: the matrix of cofactors changes by as little."""
    for item in range(begin, end):
        largest = T(tiny)
        for i in range(n):
            place = ((item * n + i) * n + i) * words
            for w in range(words):
                largest = max(largest, abs(u[place + w]))
        for i in range(n):
            place = ((item * n + i) * n + i) * words
            if u[place] == 0 and u[place + words - 1] == 0:
                u[place] = max(T(eps) * largest, T(tiny))


def scale_matrices_complex(x: Pointer, scale: Pointer, size: int, begin: int, end: int, worker: int) -> None:
    for item in range(begin, end):
        re = scale[2 * item]
        im = scale[2 * item + 1]
        for i in range(item * size, item * size + size):
            a = x[2 * i]
            b = x[2 * i + 1]
            x[2 * i] = a * re - b * im
            x[2 * i + 1] = a * im + b * re


def pair_values(re: Pointer, im: Pointer, values: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    for item in range(begin, end):
        for i in range(item * n, item * n + n):
            values[2 * i] = re[i]
            values[2 * i + 1] = im[i]


def pair_vectors(v: Pointer, im: Pointer, vectors: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """Eigenvectors as geev gives them for a real matrix: of a pair of conjugate values, the real parts and then the
    imaginary parts. An item is a matrix."""
    for item in range(begin, end):
        first = item * n * n
        for j in range(n):
            part = im[item * n + j]
            # The imaginary part is positive in the first of a pair, which is followed by the other one.
            real = j if part >= 0 else j - 1
            other = j + 1 if part > 0 else j
            for i in range(n):
                out = 2 * (first + i * n + j)
                vectors[out] = v[first + real * n + i]
                y = v[first + other * n + i]
                vectors[out + 1] = T(0) if part == 0 else (y if part > 0 else -y)


def refuse_infinite(x: Pointer, error: Pointer, code: int, size: int, begin: int, end: int, worker: int) -> None:
    for item in range(begin, end):
        worst = T(0)
        for i in range(item * size, item * size + size):
            worst = worst + (x[i] - x[i])
        if worst != 0:
            store_error(error, code)


def refuse_failed(info: Pointer, error: Pointer, code: int, count: int, begin: int, end: int, worker: int) -> None:
    """The first matrix with a code in `info` is an error. Above the error's number: which one, and the code."""
    for i in range(count):
        if info[i] != 0:
            store_error(error, code + (min(i, 0x3FFFFF) << 20) + (i64(info[i]) << 42))


def clear(low: Lowering, function: Any, x: Operand) -> None:
    rows, columns = x.shape[-2:]
    elements(low, function, [("x", x)], {"rows": rows, "columns": columns, "words": words_of(x.dtype)},
             x.numel // columns, columns / 2)


# --- operations ------------------------------------------------------------------------------------------------------

def cholesky(low: Lowering) -> None:
    """A Hermitian matrix read by columns is its conjugate, and the triangles change places: nothing is transposed."""
    count, (a,), (out, info) = batch(low), low.inputs, low.outputs
    n, upper = a.shape[-1], low.node.attr("upper")
    name = letter(a) + "potrf"
    copy(low, a, out)
    routine(low, name, ["L" if upper else "U", n, out, n, info], count, n**3 / 3)
    clear(low, clear_below if upper else clear_above, out)


def decomposed(low: Lowering, a: Operand, exchanges: Operand | None = None, info: Operand | None = None
               ) -> tuple[Operand, Operand, Operand]:
    """The LU decomposition of a by columns, its row exchanges and codes."""
    m, n = a.shape[-2:]
    lead = a.shape[:-2]
    name = letter(a) + "getrf"
    work = by_columns(low, a)
    exchanges = exchanges or low.temp(dtypes.int32, (*lead, min(m, n)))
    info = info or low.temp(dtypes.int32, lead)
    routine(low, name, [m, n, work, m, exchanges, info], prod(lead), 2 / 3 * max(m, n) * min(m, n)**2)
    return work, exchanges, info


def lu(low: Lowering) -> None:
    batch(low)
    out, exchanges, info = low.outputs
    work, _, _ = decomposed(low, low.inputs[0], exchanges, info)
    copy(low, transposed(work), out)


def lu_order(low: Lowering) -> None:
    exchanges = contiguous(low, low.inputs[0])
    size, count = low.node.attr("size"), exchanges.shape[-1]
    if not low.outputs[0].numel or not count:
        raise NotImplementedError("no rows")
    low.call(order_of_exchanges, [
        ("exchanges", "p:int32", exchanges.arg), ("order", "p:int64", low.outputs[0].arg),
        ("scratch", "p:int64", ("scratch",)), ("stride", "i", ("scratch_stride",)), ("count", "i", count),
        ("size", "i", size), ("inverse", "i", int(low.node.attr("inverse")))],
        exchanges.numel // count, grain_of(size * 2), 8 * size)


def substitute(low: Lowering, a: Operand, b: Operand, upper: bool, transpose: bool, unit: bool) -> None:
    """b = op(a)^-1 b of contiguous operands, b in place."""
    n, columns = b.shape[-2:]
    d = a.dtype
    alpha = "words[at + 9] = i32(0x3FF00000)" if d.to_real() is dtypes.float64 else "words[at + 8] = i32(0x3F800000)"
    block = min(columns, COLUMNS)
    low.call(solve_blocks, [
        ("trsm", "i", ("symbol", letter(a) + "trsm")), ("a", "p:uint8", a.arg), ("b", "p:uint8", b.arg),
        ("words", "p:int32", ("scratch",)), ("stride", "i", ("scratch_stride",)), ("n", "i", n),
        ("columns", "i", columns), ("block", "i", block), ("size", "i", d.itemsize),
        ("uplo", "i", ord("L" if upper else "U")), ("trans", "i", ord("T" if transpose else "N")),
        ("diag", "i", ord("U" if unit else "N"))],
        b.numel // (n * columns) * -(-columns // block), grain_of(n * n * block / FLOPS_PER_NS + 500), 64,
        holes={"ALPHA": alpha})


def solve_triangular(low: Lowering) -> None:
    batch(low)
    a, out = contiguous(low, low.inputs[0]), low.outputs[0]
    letter(a)
    copy(low, low.inputs[1], out)
    substitute(low, a, out, **low.node.kwargs)


def solve(low: Lowering) -> None:
    """P L U x = b, or U^T L^T P^T x = b."""
    batch(low)
    _, factors, exchanges, b = low.inputs
    out, transpose = low.outputs[0], low.node.attr("transpose")
    letter(factors)
    factors, exchanges = contiguous(low, factors), contiguous(low, exchanges)
    copy(low, b, out)
    if transpose:
        substitute(low, factors, out, True, True, False)
        substitute(low, factors, out, False, True, True)
    n, columns = out.shape[-2:]
    low.call(exchange_rows, [("x", {4: "p:int32", 8: "p:int64", 16: "p:complex128"}[out.dtype.itemsize], out.arg),
                             ("exchanges", "p:int32", exchanges.arg), ("rows", "i", n), ("columns", "i", columns),
                             ("block", "i", COLUMNS), ("backwards", "i", int(transpose))],
             out.numel // (n * columns) * -(-columns // COLUMNS), grain_of(n * min(columns, COLUMNS) * 0.3))
    if not transpose:
        substitute(low, factors, out, False, False, True)
        substitute(low, factors, out, True, False, False)


def inverted(low: Lowering, work: Operand, exchanges: Operand, info: Operand) -> None:
    """LU decompositions by columns become inverses."""
    n = work.shape[-1]
    size = n * BLOCK
    routine(low, letter(work) + "getri", [n, work, n, exchanges, Work(size * work.dtype.itemsize), size, info],
            work.numel // n**2, 4 / 3 * n**3)


def inverse(low: Lowering) -> None:
    count, (out, info) = batch(low), low.outputs
    work, exchanges, _ = decomposed(low, low.inputs[0], None, info)
    inverted(low, work, exchanges, info)
    copy(low, transposed(work), out)
    size = out.numel // count
    elements(low, spoil_failed, [("x", out), ("info", info)], {"size": size * words_of(out.dtype)}, count, 100,
             NAN="T(1e999) - T(1e999)")


def _determinant(low: Lowering, work: Operand, exchanges: Operand, det: Operand) -> None:
    n = work.shape[-1]
    function = diagonal_product_complex if work.dtype.is_complex else diagonal_product
    elements(low, function, [("u", work), ("exchanges", exchanges), ("det", det)], {"n": n}, work.numel // n**2, n * 4)


def determinant(low: Lowering) -> None:
    batch(low)
    work, exchanges, _ = decomposed(low, low.inputs[0])
    _determinant(low, work, exchanges, low.outputs[0])


def cofactors(low: Lowering) -> None:
    """det(A) A^-T; by columns, the inverse is its own transpose."""
    count, (a,), (out,) = batch(low), low.inputs, low.outputs
    n, real = a.shape[-1], a.dtype.to_real().numpy
    work, exchanges, info = decomposed(low, a)
    elements(low, lift_pivots, [("u", work)], {"n": n, "words": words_of(a.dtype), "eps": float(np.finfo(real).eps),
                                               "tiny": float(np.finfo(real).tiny)}, count, n * 4)
    det = low.temp(a.dtype, a.shape[:-2])
    _determinant(low, work, exchanges, det)
    inverted(low, work, exchanges, info)
    function = scale_matrices_complex if a.dtype.is_complex else scale_matrices
    elements(low, function, [("x", work), ("scale", det)], {"size": n * n}, count, n * n)
    copy(low, work, out)


def reflected(low: Lowering, a: Operand, tau: Operand, room: int = 0) -> Operand:
    """geqrf of a, by columns; `room`: for so many columns."""
    m, n = a.shape[-2:]
    count = prod(a.shape[:-2])
    name = letter(a) + "geqrf"
    work = low.temp(a.dtype, (*a.shape[:-2], max(n, room), m))
    part = Operand(work.place, a.dtype, transposed(a).shape, work.strides)
    copy(low, transposed(a), part)
    size = max(n, room, 1) * BLOCK
    routine(low, name, [m, n, work, m, tau, Work(size * a.dtype.itemsize), size, low.temp(dtypes.int32, (count,))],
            count, 2 * m * n * min(m, n))
    return work


def reflected_by_blocks(low: Lowering, a: Operand) -> tuple[Operand, Operand]:
    """geqrt of a, by columns, and the factors of its blocks of reflectors. It takes the columns of a block by halves,
    where geqrf takes one after another: a seventh less time for 256 x 256."""
    (m, n), lead = a.shape[-2:], a.shape[:-2]
    k = min(m, n)
    name, size = letter(a) + "geqrt", min(BLOCK, k)
    work, factors = by_columns(low, a), low.temp(a.dtype, (*lead, k, size))
    routine(low, name, [m, n, size, work, m, factors, size, Work(size * n * a.dtype.itemsize),
                        low.temp(dtypes.int32, (prod(lead),))], prod(lead), 2 * m * n * k)
    return work, factors


def _leading(x: Operand, rows: int, columns: int) -> Operand:
    """The first rows and columns of each matrix."""
    return Operand(x.place, x.dtype, (*x.shape[:-2], rows, columns), x.strides, x.offset)


def reflectors(low: Lowering) -> None:
    batch(low)
    out, tau = low.outputs
    copy(low, transposed(reflected(low, low.inputs[0], tau)), out)


def qr(low: Lowering) -> None:
    count, (a,), (q, r) = batch(low), low.inputs, low.outputs
    m, n = a.shape[-2:]
    k, width = min(m, n), q.shape[-1]
    by_blocks = width > COLUMNS
    tau = low.temp(a.dtype, (*a.shape[:-2], k))
    work, factors = reflected_by_blocks(low, a) if by_blocks else (reflected(low, a, tau, width), tau)
    copy(low, _leading(transposed(work), r.shape[-2], n), r)
    clear(low, clear_below, r)
    if by_blocks:
        copy(low, transposed(expanded(low, work, factors, width)), q)
        return
    size = width * BLOCK
    routine(low, LETTERS[a.dtype] + ("ungqr" if a.dtype.is_complex else "orgqr"),
            [m, width, k, work, m, tau, Work(size * a.dtype.itemsize), size, low.temp(dtypes.int32, (count,))], count,
            4 / 3 * m * width * k)
    copy(low, _leading(transposed(work), m, width), q)


def eigh(low: Lowering) -> None:
    count, (a,), (values, vectors, info) = batch(low), low.inputs, low.outputs
    n, d = a.shape[-1], a.dtype
    name = letter(a) + ("heevd" if d.is_complex else "syevd")
    wanted = 1 in low.wanted
    work = by_columns(low, a)
    if wanted and not d.is_complex and n >= COLUMNS:
        copy(low, transposed(eigenvectors(low, work, values, info)), vectors)
        return
    real = d.to_real().itemsize
    integers = 3 + 5 * n if wanted else 1
    size = (2 * n + n * max(n, BLOCK) if d.is_complex else 1 + 6 * n + 2 * n * n) if wanted else 2 * n + n * BLOCK + 1
    args: list[Argument] = ["V" if wanted else "N", "U" if low.node.attr("upper") else "L", n, work, n, values,
                            Work(size * d.itemsize), size]
    if d.is_complex:
        reals = 1 + 5 * n + 2 * n * n if wanted else n
        args += [Work(reals * real), reals]
    routine(low, name, [*args, Work(integers * 4), integers, info], count, (9 if wanted else 4) * n**3)
    if wanted:
        copy(low, transposed(work), vectors)


def svd(low: Lowering) -> None:
    count, (a,), (u, s, vh, info) = batch(low), low.inputs, low.outputs
    (m, n), d = a.shape[-2:], a.dtype
    large, small = max(m, n), min(m, n)
    name = letter(a) + "gesdd"
    wanted = 0 in low.wanted or 2 in low.wanted
    size = small * (4 * small + 10 if wanted else 10) + large + BLOCK * (large + 2 * small)
    work = by_columns(low, a)
    left, right = (low.temp(d, transposed(x).shape if wanted else (*x.shape[:-2], 1, 1)) for x in (u, vh))
    job = "N" if not wanted else "A" if low.node.attr("full") else "S"
    args: list[Argument] = [job, m, n, work, m, s, left, m, right, vh.shape[-2], Work(size * d.itemsize), size]
    if d.is_complex:
        reals = max(5 * small * (small + 1), 2 * large * small + 2 * small * small + small) if wanted else 7 * small
        args.append(Work(reals * d.to_real().itemsize))
    routine(low, name, [*args, Work(32 * small), info], count, (20 if wanted else 5) * large * small**2)
    if wanted:
        copy(low, transposed(left), u)
        copy(low, transposed(right), vh)


def eig(low: Lowering) -> None:
    count, (a,), (values, vectors) = batch(low), low.inputs, low.outputs
    n, d = a.shape[-1], a.dtype
    name = letter(a) + "geev"
    wanted = 1 in low.wanted
    work = by_columns(low, a)
    code = ("code", RuntimeError, "torch.linalg.eig: input tensor should not contain infs or NaNs.")
    low.call(refuse_infinite, [("x", real_pointer(work), work.arg), ("error", "p:int64", ("error",)),
                               ("code", "i", code), ("size", "i", n * n * words_of(d))], count, grain_of(n * n * 0.1),
             holes={"T": conversion(d.to_real())})
    found = low.temp(d, work.shape if wanted else (count,))
    job: list[Argument] = ["N", "V" if wanted else "N", n, work, n]
    size = n * max(BLOCK, 8)
    area: list[Argument] = [found, n, found, n, Work(size * d.itemsize), size]
    info = low.temp(dtypes.int32, (count,))
    flops = (25 if wanted else 10) * n**3
    if d.is_complex:
        routine(low, name, [*job, values, *area, Work(2 * n * d.to_real().itemsize), info], count, flops)
        if wanted:
            copy(low, transposed(found), vectors)
        return
    re, im = (low.temp(d, (*a.shape[:-2], n)) for _ in range(2))
    routine(low, name, [*job, re, im, *area, info], count, flops)
    elements(low, pair_values, [("re", re), ("im", im), ("values", values)], {"n": n}, count, n)
    if wanted:
        elements(low, pair_vectors, [("v", found), ("im", im), ("vectors", vectors)], {"n": n}, count, 10 * n * n)


def least_squares(low: Lowering) -> None:
    """By gelsy, PyTorch's default; the other drivers are run in NumPy."""
    if low.node.attr("driver") != "gelsy":
        raise NotImplementedError("a driver of least squares")
    count, (a, b), (x, rank, values) = batch(low), low.inputs, low.outputs
    (m, n), k, d = a.shape[-2:], b.shape[-1], a.dtype
    lead, small = a.shape[:-2], min(m, n)
    name = letter(a) + "gelsy"
    rcond = low.node.attr("rcond")
    rcond = float(np.finfo(d.to_real().numpy).eps) * max(m, n) if rcond is None else float(rcond)
    work = by_columns(low, a)
    right = low.temp(d, (*lead, k, max(m, n)))
    copy(low, transposed(b), _leading(right, k, m))
    order, found = low.temp(dtypes.int32, (*lead, n)), low.temp(dtypes.int32, lead)
    zero(low, order)
    size = max(small + 2 * n + BLOCK * (n + 1), 2 * small + BLOCK * k, small + 3 * n + 1)
    if m >= n and k > COLUMNS and not d.is_complex:
        by_pivoting(low, work, right, order, found, rcond, size)
        copy(low, found, rank)
        zero(low, values)
        return
    args: list[Argument] = [m, n, k, work, m, right, max(m, n), order, rcond, found, Work(size * d.itemsize), size]
    if d.is_complex:
        args.append(Work(2 * n * d.to_real().itemsize))
    routine(low, name, [*args, low.temp(dtypes.int32, (count,))], count, 4 * m * n * small)
    copy(low, transposed(_leading(right, k, n)), x)
    copy(low, found, rank)
    zero(low, values)


def succeeded(low: Lowering) -> None:
    v, info = low.inputs
    info = contiguous(low, info)
    copy(low, v, low.outputs[0])
    text = functools.partial(failure, batched=bool(info.shape), **low.node.kwargs)
    low.call(refuse_failed, [("info", "p:int32", info.arg), ("error", "p:int64", ("error",)),
                             ("code", "i", ("code", LinAlgError, text)), ("count", "i", info.numel)], 1)
