"""Steps behind a factorization that are cut for threads: reflections of blocks of columns, by gemqrt, ormqr and ormtr.

qr, eigh and lstsq of one matrix are one work item but for these. `lapack.py` has the operations.
"""
from __future__ import annotations

from math import prod

import numpy as np

from jtorch import dtypes
from jtorch.codegen.library.call import Lowering, Operand, conversion, grain_of, pointer
from jtorch.codegen.library.copy import copy
from jtorch.codegen.library.language import (
    SIZE,
    Pointer,
    T,
    addr_of,
    call_routine,
    i32,
    i64,
    index_div,
    index_mod,
    max_number,
)
from jtorch.codegen.library.lapack_calls import (
    BLOCK,
    COLUMNS,
    FLOPS_PER_NS,
    LETTERS,
    Work,
    elements,
    letter,
    routine,
    scale_matrices,
    words_of,
)

ROOM = COLUMNS * BLOCK + 65 * 64
"""Elements that ormqr works with: its table of a block of reflectors is 65 x 64."""


def reflect_blocks(ormtr: int, a: Pointer, tau: Pointer, z: Pointer, words: Pointer, stride: int, n: int, block: int,
                   size: int, uplo: int, room: int, begin: int, end: int, worker: int) -> None:
    """z = Q z, columns first, with the reflectors of sytrd in a and tau; an item is a block of the columns of z."""
    at = index_div(worker * stride, 4)
    blocks = index_div(n + block - 1, block)
    words[at] = i32(76)  # 'L'
    words[at + 1] = i32(uplo)
    words[at + 2] = i32(78)  # 'N'
    words[at + 3] = i32(n)
    words[at + 5] = i32(room)
    for item in range(begin, end):
        matrix = index_div(item, blocks)
        c0 = index_mod(item, blocks) * block
        words[at + 4] = i32(min(block, n - c0))
        call_routine(ormtr, addr_of(words, at), addr_of(words, at + 1), addr_of(words, at + 2), addr_of(words, at + 3),
                     addr_of(words, at + 4), addr_of(a, matrix * n * n * size), addr_of(words, at + 3),
                     addr_of(tau, matrix * n * size), addr_of(z, (matrix * n + c0) * n * size), addr_of(words, at + 3),
                     addr_of(words, at + 16), addr_of(words, at + 5), addr_of(words, at + 6), 1, 1, 1)


def unit_columns(x: Pointer, rows: int, columns: int, words: int, begin: int, end: int, worker: int) -> None:
    """The identity, columns first; an item is a column."""
    for item in range(begin, end):
        first = item * rows * words
        for i in range(first, first + rows * words):
            x[i] = 0
        x[first + index_mod(item, columns) * words] = 1


def expand_reflectors(gemqrt: int, a: Pointer, factors: Pointer, q: Pointer, words: Pointer, stride: int, rows: int,
                      columns: int, count: int, size: int, lines: int, block: int, item_size: int, begin: int, end: int,
                      worker: int) -> None:
    """q = Q q, columns first, for the identity q and `count` reflectors of geqrt in a, of `lines` columns, in blocks
    of `size`. An item is a block of the columns of q, of which later reflectors change nothing."""
    at = index_div(worker * stride, 4)
    blocks = index_div(columns + block - 1, block)
    words[at] = i32(76)  # 'L'
    words[at + 1] = i32(78)  # 'N'
    words[at + 2] = i32(rows)
    words[at + 5] = i32(size)
    for item in range(begin, end):
        matrix = index_div(item, blocks)
        c0 = index_mod(item, blocks) * block
        c1 = min(c0 + block, columns)
        words[at + 3] = i32(c1 - c0)
        words[at + 4] = i32(min(count, c1))
        call_routine(gemqrt, addr_of(words, at), addr_of(words, at + 1), addr_of(words, at + 2), addr_of(words, at + 3),
                     addr_of(words, at + 4), addr_of(words, at + 5), addr_of(a, matrix * lines * rows * item_size),
                     addr_of(words, at + 2), addr_of(factors, matrix * count * size * item_size),
                     addr_of(words, at + 5), addr_of(q, (matrix * columns + c0) * rows * item_size),
                     addr_of(words, at + 2), addr_of(words, at + 16), addr_of(words, at + 6), 1, 1)


def rank_of_triangle(laic1: int, r: Pointer, found: Pointer, words: Pointer, reals: Pointer, stride: int, m: int,
                     n: int, rcond: float, low: float, high: float, begin: int, end: int, worker: int) -> None:
    """How many leading rows of each triangle have a condition up to 1 / rcond, as gelsy finds it by estimating the
    extreme singular values row by row (laic1); 0 where gelsy would scale the matrix."""
    at = index_div(worker * stride, 4)
    base = index_div(worker * stride, SIZE) + 16
    sizes = base + 2 * n
    words[at] = i32(2)
    words[at + 1] = i32(1)
    for item in range(begin, end):
        first = item * n * m
        rank = i64(0)
        top = abs(r[first])
        if (top >= low) & (top <= high):
            rank = i64(1)
            for i in range(2):
                reals[base + i * n] = 1
                reals[sizes + i] = top
            going = n > 1
            while going:
                words[at + 2] = i32(rank)
                for i in range(2):
                    call_routine(laic1, addr_of(words, at + i), addr_of(words, at + 2), addr_of(reals, base + i * n),
                                 addr_of(reals, sizes + i), addr_of(r, first + rank * m),
                                 addr_of(r, first + rank * m + rank), addr_of(reals, sizes + 2 + i),
                                 addr_of(reals, sizes + 4 + i), addr_of(reals, sizes + 6 + i))
                going = reals[sizes + 3] * T(rcond) <= reals[sizes + 2]
                if going:
                    for i in range(2):
                        for j in range(base + i * n, base + i * n + rank):
                            reals[j] = reals[j] * reals[sizes + 4 + i]
                        reals[base + i * n + rank] = reals[sizes + 6 + i]
                        reals[sizes + i] = reals[sizes + 2 + i]
                    rank += 1
                    going = rank < n
        found[item] = i32(rank)


def solve_regular(ormqr: int, trsm: int, a: Pointer, tau: Pointer, order: Pointer, found: Pointer, b: Pointer,
                  x: Pointer, words: Pointer, reals: Pointer, stride: int, m: int, n: int, columns: int, block: int,
                  room: int, begin: int, end: int, worker: int) -> None:
    """x = P R^-1 Q^T b for the matrices of full rank; an item is a block of the columns of b, which lie as rows."""
    at = index_div(worker * stride, 4)
    base = index_div(worker * stride, SIZE) + 16
    blocks = index_div(columns + block - 1, block)
    words[at] = i32(76)  # 'L'
    words[at + 1] = i32(84)  # 'T'
    words[at + 2] = i32(85)  # 'U'
    words[at + 3] = i32(78)  # 'N'
    words[at + 4] = i32(m)
    words[at + 5] = i32(n)
    words[at + 6] = i32(room)
    reals[base] = 1
    for item in range(begin, end):
        matrix = index_div(item, blocks)
        c0 = index_mod(item, blocks) * block
        c1 = min(c0 + block, columns)
        if found[matrix] == n:
            here = (matrix * columns + c0) * m
            words[at + 7] = i32(c1 - c0)
            call_routine(ormqr, addr_of(words, at), addr_of(words, at + 1), addr_of(words, at + 4),
                         addr_of(words, at + 7), addr_of(words, at + 5), addr_of(a, matrix * n * m),
                         addr_of(words, at + 4), addr_of(tau, matrix * n), addr_of(b, here), addr_of(words, at + 4),
                         addr_of(reals, base + 1), addr_of(words, at + 6), addr_of(words, at + 8), 1, 1)
            call_routine(trsm, addr_of(words, at), addr_of(words, at + 2), addr_of(words, at + 3),
                         addr_of(words, at + 3), addr_of(words, at + 5), addr_of(words, at + 7), addr_of(reals, base),
                         addr_of(a, matrix * n * m), addr_of(words, at + 4), addr_of(b, here), addr_of(words, at + 4),
                         1, 1, 1, 1)
            for i in range(n):
                target = (matrix * n + i64(order[matrix * n + i]) - 1) * columns
                for c in range(c0, c1):
                    x[target + c] = b[(matrix * columns + c) * m + i]


def solve_deficient(gelsy: int, a: Pointer, order: Pointer, found: Pointer, b: Pointer, x: Pointer, words: Pointer,
                    reals: Pointer, stride: int, m: int, n: int, columns: int, room: int, rcond: float, begin: int,
                    end: int, worker: int) -> None:
    """The other matrices by gelsy, which finds the rank again."""
    at = index_div(worker * stride, 4)
    base = index_div(worker * stride, SIZE) + 16
    words[at] = i32(m)
    words[at + 1] = i32(n)
    words[at + 2] = i32(columns)
    words[at + 3] = i32(room)
    reals[base] = rcond
    for item in range(begin, end):
        if found[item] != n:
            for i in range(item * n, item * n + n):
                order[i] = 0
            call_routine(gelsy, addr_of(words, at), addr_of(words, at + 1), addr_of(words, at + 2),
                         addr_of(a, item * n * m), addr_of(words, at), addr_of(b, item * columns * m),
                         addr_of(words, at), addr_of(order, item * n), addr_of(reals, base), addr_of(found, item),
                         addr_of(reals, base + 1), addr_of(words, at + 3), addr_of(words, at + 4))
            for i in range(n):
                for c in range(columns):
                    x[(item * n + i) * columns + c] = b[(item * columns + c) * m + i]


def bring_in_range(x: Pointer, scale: Pointer, size: int, low: float, high: float, begin: int, end: int,
                   worker: int) -> None:
    """Matrices whose largest element is not in low .. high are scaled by a power of two; scale = its inverse."""
    for item in range(begin, end):
        largest = T(0)
        for i in range(item * size, item * size + size):
            largest = max_number(largest, abs(x[i]))
        factor = T(1)
        while (largest * factor > high) & (factor > 0):
            factor = factor * T(0.0625)
        while (largest * factor < low) & (largest > 0):
            factor = factor * T(16)
        scale[item] = T(1) / factor
        if factor != 1:
            for i in range(item * size, item * size + size):
                x[i] = x[i] * factor


def expanded(low: Lowering, work: Operand, factors: Operand, width: int) -> Operand:
    """The first `width` columns of Q, by columns, cut for threads; `work` and `factors` are geqrt's."""
    (lines, m), d, count = work.shape[-2:], work.dtype, prod(work.shape[:-2])
    reflectors, size = factors.shape[-2:]
    q = low.temp(d, (*work.shape[:-2], width, m))
    elements(low, unit_columns, [("x", q)], {"rows": m, "columns": width, "words": words_of(d)}, count * width, m)
    low.call(expand_reflectors, [
        ("gemqrt", "i", ("symbol", LETTERS[d] + "gemqrt")), ("a", "p:uint8", work.arg),
        ("factors", "p:uint8", factors.arg), ("q", "p:uint8", q.arg), ("words", "p:int32", ("scratch",)),
        ("stride", "i", ("scratch_stride",)), ("rows", "i", m), ("columns", "i", width), ("count", "i", reflectors),
        ("size", "i", size), ("lines", "i", lines), ("block", "i", BLOCK), ("item_size", "i", d.itemsize)],
        count * -(-width // BLOCK), grain_of(4 * m * reflectors * BLOCK / FLOPS_PER_NS), 64 + BLOCK**2 * d.itemsize)
    return q


def eigenvectors(low: Lowering, work: Operand, values: Operand, info: Operand) -> Operand:
    """By columns: the steps of syevd, the last of which, the reflection of the vectors, is cut for threads."""
    d, n, lead = work.dtype, work.shape[-1], work.shape[:-2]
    count, uplo, limits = prod(lead), "U" if low.node.attr("upper") else "L", np.finfo(d.numpy)
    edge, tau = low.temp(d, (*lead, n)), low.temp(d, (*lead, n))
    scale, vectors = low.temp(d, lead), low.temp(d, work.shape)
    low_end = float(np.sqrt(limits.tiny / limits.eps))
    elements(low, bring_in_range, [("x", work), ("scale", scale)], {"size": n * n, "low": low_end, "high": 1 / low_end},
             count, n * n)
    size = n * BLOCK
    routine(low, letter(work) + "sytrd", [uplo, n, work, n, values, edge, tau, Work(size * d.itemsize), size, info],
            count, 4 / 3 * n**3)
    size, integers = 1 + 4 * n + n * n, 3 + 5 * n
    routine(low, letter(work) + "stedc", ["I", n, values, edge, vectors, n, Work(size * d.itemsize), size,
                                          Work(4 * integers), integers, info], count, 3 * n**3)
    low.call(reflect_blocks, [
        ("ormtr", "i", ("symbol", letter(work) + "ormtr")), ("a", "p:uint8", work.arg), ("tau", "p:uint8", tau.arg),
        ("z", "p:uint8", vectors.arg), ("words", "p:int32", ("scratch",)), ("stride", "i", ("scratch_stride",)),
        ("n", "i", n), ("block", "i", COLUMNS), ("size", "i", d.itemsize), ("uplo", "i", ord(uplo)),
        ("room", "i", ROOM)],
        count * -(-n // COLUMNS), grain_of(2 * n * n * COLUMNS / FLOPS_PER_NS), 64 + ROOM * d.itemsize)
    elements(low, scale_matrices, [("x", values), ("scale", scale)], {"size": n}, count, n)
    return vectors


def by_pivoting(low: Lowering, work: Operand, right: Operand, order: Operand, found: Operand, rcond: float, room: int
                 ) -> None:
    """The steps of gelsy for matrices of full rank, all that follows the QR cut for threads. Operands by columns."""
    d, lead, (n, m), k = work.dtype, work.shape[:-2], work.shape[-2:], right.shape[-2]
    count, limits, real, address = prod(lead), np.finfo(d.numpy), pointer(d), LETTERS[d]
    tau, factors = low.temp(d, (*lead, n)), low.temp(d, work.shape)
    copy(low, work, factors)
    size = 2 * n + (n + 1) * BLOCK
    routine(low, address + "geqp3", [m, n, factors, m, order, tau, Work(size * d.itemsize), size,
                                     low.temp(dtypes.int32, (count,))], count, 4 * m * n * n)
    common = [("words", "p:int32", ("scratch",)), ("reals", real, ("scratch",)),
              ("stride", "i", ("scratch_stride",)), ("m", "i", m), ("n", "i", n)]
    holes = {"T": conversion(d), "SIZE": str(d.itemsize)}
    tiny = float(limits.tiny / limits.eps)
    low.call(rank_of_triangle, [
        ("laic1", "i", ("symbol", address + "laic1")), ("r", real, factors.arg), ("found", "p:int32", found.arg),
        *common, ("rcond", "f", rcond), ("low", "f", tiny), ("high", "f", 1 / tiny)],
        count, grain_of(n * n), (16 + 2 * n + 8) * d.itemsize, holes=holes)
    low.call(solve_regular, [
        ("ormqr", "i", ("symbol", address + "ormqr")), ("trsm", "i", ("symbol", address + "trsm")),
        ("a", real, factors.arg), ("tau", real, tau.arg), ("order", "p:int32", order.arg),
        ("found", "p:int32", found.arg), ("b", real, right.arg), ("x", real, low.outputs[0].arg), *common,
        ("columns", "i", k), ("block", "i", COLUMNS), ("room", "i", ROOM)],
        count * -(-k // COLUMNS), grain_of(5 * m * n * COLUMNS / FLOPS_PER_NS), (17 + ROOM) * d.itemsize, holes=holes)
    low.call(solve_deficient, [
        ("gelsy", "i", ("symbol", address + "gelsy")), ("a", real, work.arg), ("order", "p:int32", order.arg),
        ("found", "p:int32", found.arg), ("b", real, right.arg), ("x", real, low.outputs[0].arg), *common,
        ("columns", "i", k), ("room", "i", room), ("rcond", "f", rcond)],
        count, 1, (17 + room) * d.itemsize, holes=holes)
