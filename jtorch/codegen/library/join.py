# ruff: noqa: B007, B018  the kernels have holes, and what is filled in uses the names
"""Parts side by side in rows that are shorter than a few cache lines. They are written row by row, all parts of a row
together: two threads that each wrote one of the parts would take turns at the lines."""
from __future__ import annotations

from collections.abc import Sequence

from jtorch.codegen.library.call import Lowering, Operand, grain_of, raw_pointer
from jtorch.codegen.library.language import LINES, Pointer

NARROW = 16384
"""Bytes of a row; in longer ones most lines are of one part alone."""

MAX_PARTS = 16
"""So many parts are written together; their kernel's text is as long."""

BLOCK = 4096
"""Elements of the result that an item is about."""


def join_rows(dst: Pointer, n: int, block: int, begin: int, end: int, worker: int) -> None:
    """Row r of dst is row r of each part, one after another; an item is a block of rows."""
    for item in range(begin, end):
        for r in range(item * block, min(item * block + block, n)):
            LINES


def join(low: Lowering, parts: Sequence[Operand], widths: Sequence[int], out: Operand) -> None:
    """Contiguous parts, as matrices of these widths, side by side. Widths of 1 are in the kernel's text, so that LLVM
    joins them in vector registers."""
    count, pitch = len(parts), sum(widths)
    p = raw_pointer(out.dtype)
    args = [(f"src{i}", p, x.arg) for i, x in enumerate(parts)]
    if pitch == count:
        lines = [f"dst[r * {count} + {i}] = src{i}[r]" for i in range(count)]
    else:
        args += [(f"w{i}", "i", w) for i, w in enumerate(widths)]
        before = ["r * (" + " + ".join([f"w{i}" for i in range(count)]) + ")", *[f"w{i}" for i in range(count - 1)]]
        lines = [f"for c in range(w{i}):\n    dst[{' + '.join(before[:i + 1])} + c] = src{i}[r * w{i} + c]"
                 for i in range(count)]
    rows = out.numel // pitch
    block = max(1, BLOCK // pitch)
    low.call(join_rows, [("dst", p, out.arg), ("n", "i", rows), ("block", "i", block), *args], -(-rows // block),
             grain_of(BLOCK * out.dtype.itemsize * 0.08), holes={"LINES": "\n".join(lines)})
