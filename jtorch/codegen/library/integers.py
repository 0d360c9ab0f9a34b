"""Kernels of integers: common divisors and multiples, counts, places."""
from __future__ import annotations

from math import prod

from jtorch import dtypes
from jtorch.codegen.library.call import Lowering, conversion, grain_of, pointer
from jtorch.codegen.library.copy import contiguous
from jtorch.codegen.library.language import VALUE, Pointer, T, i64, index_div, index_mod, select

BLOCK = 1024


def euclid(x: Pointer, y: Pointer, out: Pointer, n: int, block: int, begin: int, end: int, worker: int) -> None:
    """Euclid's algorithm on the magnitudes `first` and `second`, which leaves the divisor in `a`."""
    for item in range(begin, end):
        for i in range(item * block, min(item * block + block, n)):
            first = select(i64(x[i]) < 0, -i64(x[i]), i64(x[i]))
            second = select(i64(y[i]) < 0, -i64(y[i]), i64(y[i]))
            a = first
            b = second
            while b != 0:
                rest = index_mod(a, b)
                a = b
                b = rest
            out[i] = T(VALUE)


def _pairs(low: Lowering, value: str) -> None:
    x, y = (contiguous(low, v) for v in low.inputs)
    out = low.outputs[0]
    p = pointer(out.dtype)
    low.call(euclid, [("x", p, x.arg), ("y", p, y.arg), ("out", p, out.arg), ("n", "i", out.numel),
                      ("block", "i", BLOCK)],
             -(-out.numel // BLOCK), grain_of(BLOCK * 20), holes={"T": conversion(out.dtype), "VALUE": value})


def gcd(low: Lowering) -> None:
    _pairs(low, "a")


def lcm(low: Lowering) -> None:
    _pairs(low, "select(a == 0, 0, index_div(first, select(a == 0, 1, a)) * second)")


# --- counts ----------------------------------------------------------------------------------------------------------

PIECES = 4
"""Parts of a row that are counted apart, where a part is long beside its counts."""


def count_pieces(x: Pointer, counts: Pointer, n: int, size: int, pieces: int, begin: int, end: int,
                 worker: int) -> None:
    """counts[row, piece, v] = how many of that piece of row x[row, :n] are v; an item is a piece."""
    for item in range(begin, end):
        row = index_div(item, pieces) * n
        piece = index_mod(item, pieces)
        base = item * size
        for v in range(size):
            counts[base + v] = 0
        for i in range(row + index_div(piece * n, pieces), row + index_div((piece + 1) * n, pieces)):
            place = base + i64(x[i])
            counts[place] = counts[place] + 1


def add_pieces(counts: Pointer, out: Pointer, size: int, pieces: int, begin: int, end: int, worker: int) -> None:
    """out[row, v] = the sum of counts[row, :, v]; an item is a row."""
    for item in range(begin, end):
        for v in range(size):
            out[item * size + v] = counts[item * pieces * size + v]
        for piece in range(1, pieces):
            for v in range(size):
                out[item * size + v] = out[item * size + v] + counts[(item * pieces + piece) * size + v]


def bincount(low: Lowering) -> None:
    x, out = contiguous(low, low.inputs[0]), low.outputs[0]
    if not out.numel:
        return
    n, size, rows = x.shape[-1], out.shape[-1], prod(out.shape[:-1])
    pieces = PIECES if n >= 16 * PIECES * size else 1
    counts = out if pieces == 1 else low.temp(dtypes.int64, (rows, pieces, size))
    sizes = [("size", "i", size), ("pieces", "i", pieces)]
    low.call(count_pieces, [("x", pointer(x.dtype), x.arg), ("counts", "p:int64", counts.arg), ("n", "i", n), *sizes],
             rows * pieces, grain_of(n / pieces))
    if pieces > 1:
        low.call(add_pieces, [("counts", "p:int64", counts.arg), ("out", "p:int64", out.arg), *sizes], rows,
                 grain_of(size * pieces * 0.3))


# --- places ----------------------------------------------------------------------------------------------------------

def fill_rows(first: Pointer, ends: Pointer, out: Pointer, total: int, begin: int, end: int, worker: int) -> None:
    for row in range(begin, end):
        start = i64(0)
        if row > 0:
            start = ends[row - 1]
        column = first[row] - start
        for i in range(start, ends[row]):
            out[i] = row
            out[total + i] = column + i


def row_places(low: Lowering) -> None:
    first, ends = (contiguous(low, v) for v in low.inputs)
    total = low.outputs[0].shape[1]
    low.call(fill_rows, [("first", "p:int64", first.arg), ("ends", "p:int64", ends.arg),
                         ("out", "p:int64", low.outputs[0].arg), ("total", "i", total)],
             first.numel, grain_of(total / max(first.numel, 1) * 0.5))
