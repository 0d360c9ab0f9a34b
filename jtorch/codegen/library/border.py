# ruff: noqa: B018, F841  the kernels have holes, and what is filled in uses the names
"""Padding: every element of the result is written once, by rows, whose inside is a plain copy."""
from __future__ import annotations

from math import prod

from jtorch.codegen.library.blocks import block_of
from jtorch.codegen.library.call import Lowering, Operand, grain_of, raw_pointer
from jtorch.codegen.library.copy import contiguous, copy, fill_blocks
from jtorch.codegen.library.indexing import integers
from jtorch.codegen.library.language import EDGE, FOLD, Pointer, index_div, index_mod

OUTER = 3
"""Axes that a padding may have, after merging, besides its rows and columns."""


def pad_rows(x: Pointer, value: Pointer, out: Pointer, n1: int, n2: int, lo0: int, lo1: int, lo2: int, lor: int,
             loc: int, m0: int, m1: int, m2: int, mr: int, mc: int, rows: int, cols: int, block_rows: int,
             block_cols: int, begin: int, end: int, worker: int) -> None:
    """x is contiguous [m0, m1, m2, mr, mc] and stands in out [.., n1, n2, rows, cols] from [lo0, lo1, lo2, lor, loc]
    on. FOLD makes of a place `i` outside 0..m the one that it repeats, or says that it is not `inside`. An item is a
    block of rows and columns of one of the matrices that the outer axes count."""
    v = value[0]
    row_blocks = index_div(rows + block_rows - 1, block_rows)
    col_blocks = index_div(cols + block_cols - 1, block_cols)
    for item in range(begin, end):
        matrix, r0, c0 = block_of(item, row_blocks, col_blocks, block_rows, block_cols)
        c1 = min(c0 + block_cols, cols)
        q = index_div(matrix, n2)
        within = True
        inside = True
        i = index_div(q, n1) - lo0
        m = m0
        FOLD
        within &= inside
        source = i
        i = index_mod(q, n1) - lo1
        m = m1
        FOLD
        within &= inside
        source = source * m1 + i
        i = index_mod(matrix, n2) - lo2
        m = m2
        FOLD
        within &= inside
        source = source * m2 + i
        for r in range(r0, min(r0 + block_rows, rows)):
            i = r - lor
            m = mr
            FOLD
            p = (source * mr + i) * mc
            y = (matrix * rows + r) * cols
            if within & inside:
                a = min(max(c0, loc), c1)
                b = max(min(c1, loc + mc), a)
                m = mc
                for c in range(c0, a):
                    i = c - loc
                    EDGE
                for c in range(a, b):
                    out[y + c] = x[p - loc + c]
                for c in range(b, c1):
                    i = c - loc
                    EDGE
            else:
                for c in range(c0, c1):
                    out[y + c] = v


FOLDS = {
    "constant": "inside = (i >= 0) & (i < m)",
    "reflect": "i = max(i, -i)\ni = m - 1 - max(m - 1 - i, i - m + 1)",
    "replicate": "i = min(max(i, 0), m - 1)",
    "circular": "if i < 0:\n    i += m\nif i >= m:\n    i -= m",
}


def _merged(shape: tuple[int, ...], widths: list[tuple[int, int]], mode: str) -> list[tuple[int, int, int]]:
    """(before, elements, after) of the axes, fewer where neighbours can be one. A constant border of an axis is also
    one of the axis merged with whole ones behind it."""
    axes: list[tuple[int, int, int]] = []
    for n, (lo, hi) in reversed(list(zip(shape, widths))):
        if n == 1 and not lo and not hi:
            continue
        if axes and not axes[-1][0] and not axes[-1][2] and (mode == "constant" or (not lo and not hi)):
            inner = axes.pop()[1]
            axes.append((lo * inner, n * inner, hi * inner))
        else:
            axes.append((lo, n, hi))
    return axes[::-1]


def _rows(low: Lowering, x: Operand, value: Operand, widths: list[tuple[int, int]], mode: str) -> None:
    out = low.outputs[0]
    if not out.numel:
        return
    axes = _merged(x.shape, widths, mode)
    if len(axes) > OUTER + 2 or not x.numel:
        raise NotImplementedError("too many axes, or nothing to repeat")
    axes = [(0, 1, 0)] * (OUTER + 2 - len(axes)) + axes
    x = contiguous(low, x)
    *_, rows, cols = sizes = [sum(a) for a in axes]
    block_cols = min(cols, 16384)
    block_rows = max(1, min(rows, 16384 // block_cols))
    p = raw_pointer(out.dtype)
    edge = "out[y + c] = v" if mode == "constant" else FOLDS[mode] + "\nout[y + c] = x[p + i]"
    low.call(pad_rows, [("x", p, x.arg), ("value", p, value.arg), ("out", p, out.arg),
                        *integers("n1 n2", *sizes[1:3]), *integers("lo0 lo1 lo2 lor loc", *[a[0] for a in axes]),
                        *integers("m0 m1 m2 mr mc", *[a[1] for a in axes]),
                        *integers("rows cols block_rows block_cols", rows, cols, block_rows, block_cols)],
             prod(sizes[:3]) * -(-rows // block_rows) * -(-cols // block_cols),
             grain_of(block_rows * block_cols * out.dtype.itemsize * 0.05),
             holes={"FOLD": FOLDS[mode], "EDGE": edge})


def extend(low: Lowering) -> None:
    x = low.inputs[0]
    _rows(low, x, x, list(low.node.attr("widths")), low.node.attr("mode"))


def pad(low: Lowering) -> None:
    x, value = low.inputs
    out = low.outputs[0]
    widths = low.node.attr("widths")
    if x.numel and not any(between for _, _, between in widths):
        try:
            _rows(low, x, value, [(lo, hi) for lo, hi, _ in widths], "constant")
            return
        except NotImplementedError:
            pass
    if out.numel:
        p, block = raw_pointer(out.dtype), 16384
        low.call(fill_blocks, [("value", p, value.arg), ("dst", p, out.arg), *integers("n block", out.numel, block)],
                 -(-out.numel // block), grain_of(block * out.dtype.itemsize * 0.05))
    offset = out.offset + sum(lo * s for (lo, _, _), s in zip(widths, out.strides))
    strides = tuple((inner + 1) * s for (_, _, inner), s in zip(widths, out.strides))
    copy(low, x, Operand(out.place, out.dtype, x.shape, strides, offset))
