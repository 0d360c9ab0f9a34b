# ruff: noqa: B018, F841  the kernels have holes, and what is filled in uses the names
"""Distances of all pairs of rows, and triangles of matrices as vectors."""
from __future__ import annotations

import math

from jtorch import dtypes
from jtorch.codegen.library.call import Lowering, conversion, grain_of, pointer, raw_pointer
from jtorch.codegen.library.copy import contiguous
from jtorch.codegen.library.indexing import integers
from jtorch.codegen.library.language import COMBINE, FOUR, VALUE, Pointer, T, index_div, index_mod

COLUMNS = 1024
"""Distances of a row that are summed side by side."""


def row_distances(x: Pointer, y: Pointer, out: Pointer, p: float, rows: int, others: int, terms: int, block: int,
                  begin: int, end: int, worker: int) -> None:
    """out[b, i, j] = the norm of x[b, i, :] - y[b, :, j]; an item is a block of j of one row."""
    blocks = index_div(others + block - 1, block)
    for item in range(begin, end):
        row = index_div(item, blocks)
        j0 = index_mod(item, blocks) * block
        j1 = min(j0 + block, others)
        base = index_div(row, rows) * terms * others
        target = row * others
        for j in range(j0, j1):
            out[target + j] = T(0)
        fours = terms - index_mod(terms, 4)
        for m in range(0, fours, 4):
            first = row * terms + m
            second = base + m * others
            for j in range(j0, j1):
                acc = out[target + j]
                FOUR
                out[target + j] = acc
        for m in range(fours, terms):
            for j in range(j0, j1):
                d = x[row * terms + m] - y[base + m * others + j]
                acc = out[target + j]
                out[target + j] = COMBINE
        for j in range(j0, j1):
            acc = out[target + j]
            out[target + j] = VALUE


def condense_rows(x: Pointer, out: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """out = what is above the diagonal of x[b, n, n]; an item is a row."""
    for item in range(begin, end):
        i = index_mod(item, n)
        b = index_div(item, n)
        target = b * index_div(n * (n - 1), 2) + index_div(i * (2 * n - i - 1), 2) - i - 1
        for j in range(i + 1, n):
            out[target + j] = x[item * n + j]


def expand_rows(x: Pointer, out: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """The other way, with zeros on and below the diagonal."""
    for item in range(begin, end):
        i = index_mod(item, n)
        b = index_div(item, n)
        source = b * index_div(n * (n - 1), 2) + index_div(i * (2 * n - i - 1), 2) - i - 1
        for j in range(i + 1):
            out[item * n + j] = 0
        for j in range(i + 1, n):
            out[item * n + j] = x[source + j]


def _norm(p: float) -> tuple[str, str]:
    """How a difference `d` enters the sum `acc`, and what is made of the sum."""
    if p == 0:
        return "acc + select(d == T(0), T(0), T(1))", "acc"
    if p == 1:
        return "acc + abs(d)", "acc"
    if p == 2:
        return "acc + d * d", "sqrt(acc)"
    if math.isinf(p):
        return "maximum(acc, abs(d))", "acc"
    return "acc + pow(abs(d), T(p))", "pow(acc, T(1) / T(p))"


def distances(low: Lowering) -> None:
    x, y = low.inputs
    out = low.outputs[0]
    if out.dtype not in (dtypes.float32, dtypes.float64):
        raise NotImplementedError("only float32 and float64")
    if not out.numel:
        return
    n = len(y.shape)
    x, y = contiguous(low, x), contiguous(low, y.permuted((*range(n - 2), n - 1, n - 2)))
    (rows, terms), others = x.shape[-2:], y.shape[-1]
    block = min(others, COLUMNS)
    d = pointer(out.dtype)
    combine, value = _norm(low.node.attr("p"))
    four = "\n".join(f"d = x[first + {k}] - y[second + {k} * others + j]\nacc = {combine}" for k in range(4))
    low.call(row_distances, [("x", d, x.arg), ("y", d, y.arg), ("out", d, out.arg), ("p", "f", low.node.attr("p")),
                             *integers("rows others terms block", rows, others, terms, block)],
             out.numel // others * -(-others // block), grain_of(block * (terms + 2) * 0.1),
             holes={"COMBINE": combine, "FOUR": four, "VALUE": value, "T": conversion(out.dtype)})


def condensed(low: Lowering) -> None:
    x, out = contiguous(low, low.inputs[0]), low.outputs[0]
    n, p = x.shape[-1], raw_pointer(out.dtype)
    if out.numel:
        low.call(condense_rows, [("x", p, x.arg), ("out", p, out.arg), ("n", "i", n)], x.numel // n,
                 grain_of(5 + n * 0.1))


def expanded(low: Lowering) -> None:
    x, out = contiguous(low, low.inputs[0]), low.outputs[0]
    n, p = low.node.attr("size"), raw_pointer(out.dtype)
    if out.dtype.is_complex:
        raise NotImplementedError("zeros of this kind")
    if out.numel:
        low.call(expand_rows, [("x", p, x.arg), ("out", p, out.arg), ("n", "i", n)], out.numel // n,
                 grain_of(5 + n * 0.2))
