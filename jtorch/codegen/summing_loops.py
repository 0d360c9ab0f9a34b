"""The innermost loop of a reduction over a row: sums in blocks, and side by side."""
from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jtorch.codegen.loops import DENSE, Load

if TYPE_CHECKING:
    from jtorch.codegen.cpu import Writer

SUM_BLOCK = 8192
"""Elements of a row that are summed before the next level of the sum."""

LANES = 4
"""Sums side by side in a loop over strided elements."""

LANE_LINES = 6
"""Statements of an element up to which there are so many: each is compiled as many times."""


def blocked(w: Writer, folds: list[int], lines: list[str], n: int) -> list[str]:
    """The vector loop of a row in blocks, each summed on its own: rounding errors grow with a block's length."""
    sums = [f for f in folds if w.is_sum(f)]
    block = [f"stop = min(start + {SUM_BLOCK}, n{n})",
             *[w.start(f).replace(f"a{f}", f"h{f}", 1) for f in sums],
             *innermost(w, folds, _renamed(lines, sums, "h{}"), "start", "stop", "h"),
             *[f"a{f} = {w.combine(f, f'a{f}', f'h{f}')}" for f in sums]]
    return [f"for start in range(0, n{n}, {SUM_BLOCK}):", *_indented(block)]


def innermost(w: Writer, folds: list[int], lines: list[str], low: str, high: str, total: str = "a") -> list[str]:
    """The vector loop; sums are named by `total` and their number. What LLVM does not vectorise because of its strides
    would wait for each addition before the next one: a few elements are added to sums of their own."""
    sums = [f for f in folds if w.is_sum(f)]
    strided = any(isinstance(v, Load) and v.access != DENSE and v.access[w.vector] == "s" for v in w.nest.values)
    if not sums or not strided or len(lines) > LANE_LINES:
        return [f"for i in range({low}, {high}):", *_indented(lines)]
    starts, body, ends = [], [], []
    for k in range(LANES):
        body += [f"i = at + {k}", *(_renamed(lines, sums, f"y{{}}_{k}", total) if k else lines)]
    for f in sums:
        for k in range(1, LANES):
            starts.append(w.start(f).replace(f"a{f}", f"y{f}_{k}", 1))
            ends.append(f"{total}{f} = {w.combine(f, f'{total}{f}', f'y{f}_{k}')}")
    return [*starts, f"whole = {high} - (({high} - {low}) & {LANES - 1})",
            f"for at in range({low}, whole, {LANES}):", *_indented(body),
            f"for i in range(whole, {high}):", *_indented(lines), *ends]


def _renamed(lines: list[str], sums: list[int], name: str, old: str = "a") -> list[str]:
    for f in sums:
        lines = [re.sub(rf"\b{old}{f}\b", name.format(f), line) for line in lines]
    return lines


def _indented(lines: list[str]) -> list[str]:
    return ["    " + t for t in lines]
