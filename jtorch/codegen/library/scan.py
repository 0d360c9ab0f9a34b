# ruff: noqa: F841  the kernels have holes, and what is filled in uses the names
"""Running reductions along an axis: rows one after another where the axis is the last, else columns side by side."""
from __future__ import annotations

from math import prod

from jtorch import dtypes
from jtorch.codegen.library.call import Lowering, Operand, conversion, grain_of, loader, pointer
from jtorch.codegen.library.copy import contiguous, converted, copy
from jtorch.codegen.library.language import COMBINE, WINS, Pointer, T, i64, index_div, index_mod, load, select

COLUMN_BLOCK = 64


def scan_rows(x: Pointer, y: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """y[row, i] = x[row, 0] + ... + x[row, i]; an item is a row."""
    for item in range(begin, end):
        acc = T(x[item * n])
        y[item * n] = acc
        for i in range(item * n + 1, item * n + n):
            v = T(x[i])
            acc = COMBINE
            y[i] = acc


def scan_columns(x: Pointer, y: Pointer, n: int, inner: int, block: int, begin: int, end: int, worker: int) -> None:
    """y[outer, i, j] = x[outer, 0, j] + ... + x[outer, i, j]; an item is a block of j of one outer."""
    blocks = index_div(inner + block - 1, block)
    for item in range(begin, end):
        first = index_div(item, blocks) * n * inner
        j0 = index_mod(item, blocks) * block
        j1 = min(j0 + block, inner)
        for j in range(first + j0, first + j1):
            y[j] = x[j]
        for i in range(1, n):
            row = first + i * inner
            for j in range(row + j0, row + j1):
                acc = y[j - inner]
                v = x[j]
                y[j] = COMBINE


def scan_extrema(x: Pointer, y: Pointer, index: Pointer, n: int, inner: int, begin: int, end: int, worker: int) -> None:
    """y = the extremum so far along the middle axis, index = its latest place; an item is a column."""
    for item in range(begin, end):
        first = index_div(item, inner) * n * inner + index_mod(item, inner)
        raw = x[first]
        best = load(raw)
        at = i64(0)
        for i in range(n):
            p = first + i * inner
            v = load(x[p])
            wins = WINS | (v != v)
            best = select(wins, v, best)
            raw = select(wins, x[p], raw)
            at = select(wins, i, at)
            y[p] = raw
            index[p] = at


COMBINES = {"cumsum": "acc + v", "cumprod": "acc * v"}


def running(low: Lowering) -> None:
    x = contiguous(low, low.inputs[0])
    out = low.outputs[0]
    if not out.numel:
        return
    d = out.dtype
    if d.is_complex or d is dtypes.bool_:
        raise NotImplementedError(f"running reductions of {d.name}")
    if d in (dtypes.float16, dtypes.bfloat16):
        wide = low.temp(dtypes.float32, out.shape)
        run(low, converted(low, x, dtypes.float32), wide)
        copy(low, wide, out)
    else:
        run(low, x, out)


def run(low: Lowering, x: Operand, out: Operand) -> None:
    axis = low.node.attr("axis")
    outer, n, inner = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1:])
    d = out.dtype
    p = pointer(d)
    c = conversion(d)
    operands = [("x", p, x.arg), ("y", p, out.arg), ("n", "i", n)]
    combine = f"{c}({COMBINES[low.node.op.name]})"
    if inner == 1:
        low.call(scan_rows, operands, outer, grain_of(n * 1.5), holes={"COMBINE": combine, "T": c})
    else:
        block = min(inner, COLUMN_BLOCK)
        low.call(scan_columns, [*operands, ("inner", "i", inner), ("block", "i", block)], outer * -(-inner // block),
                 grain_of(n * (3 + block * 0.2)), holes={"COMBINE": combine})


def extrema(low: Lowering) -> None:
    x = contiguous(low, low.inputs[0])
    out, index = low.outputs
    if not out.numel:
        return
    axis = low.node.attr("axis")
    d = out.dtype
    if d.is_complex:
        raise NotImplementedError("complex numbers have no order")
    outer, n, inner = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1:])
    p = pointer(d)
    low.call(scan_extrema, [("x", p, x.arg), ("y", p, out.arg), ("index", "p:int64", index.arg), ("n", "i", n),
                            ("inner", "i", inner)], outer * inner, grain_of(n * 2.0),
             holes={"WINS": "(v >= best)" if low.node.op.name == "cummax" else "(v <= best)", "load": loader(d)})

