# ruff: noqa: F841  the kernels have holes, and what is filled in uses the names
"""Running reductions along an axis: rows one after another where the axis is the last, else columns side by side."""
from __future__ import annotations

from math import prod

from jtorch import dtypes
from jtorch.codegen.library.call import Lowering, Operand, conversion, grain_of, loader, merge_axes, pointer
from jtorch.codegen.library.copy import contiguous, converted, copy
from jtorch.codegen.library.language import (
    COMBINE,
    SIZE,
    WINS,
    Pointer,
    T,
    exp,
    i64,
    index_div,
    index_mod,
    isinf,
    load,
    log,
    select,
)

COLUMN_BLOCK = 64


def scan_rows(x: Pointer, y: Pointer, n: int, apart: int, step: int, rows: int, begin: int, end: int,
              worker: int) -> None:
    """y[row, i] = x[row, 0] + ... + x[row, i]; x's elements lie `step`, its rows `apart` from one another. An item is
    four rows: a sum waits for the one before it, so they are taken side by side."""
    for item in range(begin, end):
        row = item * 4
        if row + 4 <= rows:
            x0 = row * apart
            x1 = x0 + apart
            x2 = x1 + apart
            x3 = x2 + apart
            y0 = row * n
            y1 = y0 + n
            y2 = y1 + n
            y3 = y2 + n
            acc0 = T(x[x0])
            acc1 = T(x[x1])
            acc2 = T(x[x2])
            acc3 = T(x[x3])
            y[y0] = acc0
            y[y1] = acc1
            y[y2] = acc2
            y[y3] = acc3
            for i in range(1, n):
                acc = acc0
                v = T(x[x0 + i * step])
                acc0 = COMBINE
                acc = acc1
                v = T(x[x1 + i * step])
                acc1 = COMBINE
                acc = acc2
                v = T(x[x2 + i * step])
                acc2 = COMBINE
                acc = acc3
                v = T(x[x3 + i * step])
                acc3 = COMBINE
                y[y0 + i] = acc0
                y[y1 + i] = acc1
                y[y2 + i] = acc2
                y[y3 + i] = acc3
        else:
            for r in range(row, rows):
                acc = T(x[r * apart])
                y[r * n] = acc
                for i in range(1, n):
                    v = T(x[r * apart + i * step])
                    acc = COMBINE
                    y[r * n + i] = acc


def scan_columns(x: Pointer, y: Pointer, n: int, apart: int, step: int, inner: int, block: int, begin: int, end: int,
                 worker: int) -> None:
    """y[outer, i, j] = x[outer, 0, j] + ... + x[outer, i, j]; x's rows lie `step`, its outers `apart` from one another.
    An item is a block of j of one outer."""
    blocks = index_div(inner + block - 1, block)
    for item in range(begin, end):
        outer = index_div(item, blocks)
        j0 = index_mod(item, blocks) * block
        width = min(block, inner - j0)
        source = outer * apart + j0
        row = outer * n * inner + j0
        for j in range(width):
            y[row + j] = x[source + j]
        for _ in range(1, n):
            above = row
            row += inner
            source += step
            for j in range(width):
                acc = y[above + j]
                v = x[source + j]
                y[row + j] = COMBINE


def extrema_rows(x: Pointer, y: Pointer, index: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """y[row, i] = the extremum of x[row, 0..i], index = its latest place; an item is a row. From one extremum on, what
    does not beat it is passed over in a loop of its own, which waits for no selection."""
    for item in range(begin, end):
        first = item * n
        i = i64(0)
        while i < n:
            raw = x[first + i]
            best = load(raw)
            j = i
            y[first + j] = raw
            index[first + j] = i
            j += 1
            stays = True
            while stays and j < n:
                v = load(x[first + j])
                stays = not (WINS or v != v)
                if stays:
                    y[first + j] = raw
                    index[first + j] = i
                    j += 1
            i = j


def extrema_columns(x: Pointer, y: Pointer, index: Pointer, n: int, inner: int, block: int, begin: int, end: int,
                    worker: int) -> None:
    """The same along the middle axis; an item is a block of columns."""
    blocks = index_div(inner + block - 1, block)
    for item in range(begin, end):
        first = index_div(item, blocks) * n * inner
        j0 = index_mod(item, blocks) * block
        j1 = min(j0 + block, inner)
        for j in range(first + j0, first + j1):
            y[j] = x[j]
            index[j] = 0
        for i in range(1, n):
            row = first + i * inner
            for j in range(row + j0, row + j1):
                v = load(x[j])
                best = load(y[j - inner])
                wins = WINS | (v != v)
                y[j] = select(wins, x[j], y[j - inner])
                index[j] = select(wins, i, index[j - inner])


def scan_logsumexp(x: Pointer, y: Pointer, scratch: Pointer, scratch_stride: int, n: int, begin: int, end: int,
                   worker: int) -> None:
    """y[row, i] = log(exp x[row, 0] + ... + exp x[row, i]); an item is a row. The sum is held in units of exp(the
    largest so far), so that only its recurrence waits for itself: the functions are taken of whole blocks."""
    base = index_div(worker * scratch_stride, SIZE)
    for item in range(begin, end):
        largest = T(-1.0) / T(0.0)
        total = T(0.0)
        for start in range(item * n, item * n + n, 128):
            stop = min(start + 128, item * n + n)
            before = largest
            for i in range(start, stop):
                v = x[i]
                largest = select((v > largest) | (v != v), v, largest)
                y[i] = largest
            for i in range(start, stop):
                unit = select(isinf(y[i]), T(0.0), y[i])
                scratch[base + i - start] = exp(x[i] - unit)
                past = before
                if i > start:
                    past = y[i - 1]
                scratch[base + 128 + i - start] = exp(past - unit)
            for i in range(stop - start):
                total = total * scratch[base + 128 + i] + scratch[base + i]
                scratch[base + i] = total
            for i in range(start, stop):
                y[i] = select(isinf(y[i]), T(0.0), y[i]) + log(scratch[base + i - start])


COMBINES = {"cumsum": "acc + v", "cumprod": "acc * v"}


def running(low: Lowering) -> None:
    x, out = low.inputs[0], low.outputs[0]
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
    """The axis may have any stride (a flip's is negative), what is beside it lies as in contiguous data."""
    axis = low.node.attr("axis")
    outer, n, inner = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1:])
    sizes, (strides,) = merge_axes(x.shape[:axis], x.strides[:axis])
    if len(sizes) > 1 or not x.has_contiguous(axis + 1):
        x = contiguous(low, x)
        strides = [n * inner]
    d = out.dtype
    p = pointer(d)
    c = conversion(d)
    operands = [("x", p, x.arg), ("y", p, out.arg), ("n", "i", n), ("apart", "i", strides[0] if strides else 0),
                ("step", "i", x.strides[axis])]
    combine = f"{c}({COMBINES[low.node.op.name]})"
    if inner == 1:
        low.call(scan_rows, [*operands, ("rows", "i", outer)], -(-outer // 4), grain_of(n * 2.0),
                 holes={"COMBINE": combine, "T": c})
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
    operands = [("x", p, x.arg), ("y", p, out.arg), ("index", "p:int64", index.arg), ("n", "i", n)]
    holes = {"WINS": "(v >= best)" if low.node.op.name == "cummax" else "(v <= best)", "load": loader(d)}
    if inner == 1:
        low.call(extrema_rows, operands, outer, grain_of(n * 1.0), holes=holes)
    else:
        block = min(inner, COLUMN_BLOCK)
        low.call(extrema_columns, [*operands, ("inner", "i", inner), ("block", "i", block)],
                 outer * -(-inner // block), grain_of(n * (3 + block * 0.4)), holes=holes)


def logsumexp(low: Lowering) -> None:
    """In float32 or float64; another axis than the last is brought there and back."""
    x, out = low.inputs[0], low.outputs[0]
    if not out.numel:
        return
    axis, rank = low.node.attr("axis"), len(x.shape)
    if out.dtype.is_complex:
        raise NotImplementedError("logcumsumexp of complex numbers")
    order = (*[a for a in range(rank) if a != axis], axis)
    back = tuple(order.index(a) for a in range(rank))
    wide = out.dtype.compute
    rows = x.permuted(order)
    rows = contiguous(low, rows) if wide is x.dtype else converted(low, rows, wide)
    result = out if axis == rank - 1 and wide is out.dtype else low.temp(wide, rows.shape)
    p, n = pointer(wide), rows.shape[-1]
    low.call(scan_logsumexp, [("x", p, rows.arg), ("y", p, result.arg), ("scratch", p, ("scratch",)),
                              ("scratch_stride", "i", ("scratch_stride",)), ("n", "i", n)], prod(rows.shape[:-1]),
             grain_of(n * 3.0), scratch=256 * wide.itemsize, holes={"T": conversion(wide), "SIZE": str(wide.itemsize)})
    if result is not out:
        copy(low, result.permuted(back), out)
