"""Functions that are inlined in kernel text: the text does what plain Python does with the calls."""
from __future__ import annotations

from typing import Any

import pytest

from jtorch.codegen.library.kernel_text import body_of, inline, text


@inline
def least_and_sum(x: Any, first: int, count: int) -> tuple[int, int]:
    """Of x[first], x[first + 1], …"""
    least = x[first]
    total = 0
    for i in range(first, first + count):
        least = min(least, x[i])
        total += x[i]
    return least, total


@inline
def store_range(x: Any, out: Any, at: int, first: int, count: int) -> None:
    """out[at] = the sum less the least."""
    least, total = least_and_sum(x, first, count)
    out[at] = total - least


def sums(x: Any, out: Any, n: int, begin: int, end: int, worker: int) -> None:
    """out[row, 0] = the sum of a row less its least; out[row, 1] = the least."""
    for i in range(begin, end):
        store_range(x, out, 2 * i, i * n, n)
        lowest, rest = least_and_sum(x, i * n, n)
        out[2 * i + 1] = lowest


def clashing(x: Any, out: Any, total: int, begin: int, end: int, worker: int) -> None:
    for row in range(begin, end):
        lowest, rest = least_and_sum(x, row, total)
        out[row] = lowest + total


def renamed(x: Any, out: Any, n: int, begin: int, end: int, worker: int) -> None:
    """As `sums`; the loops inside have other names than this one."""
    for row in range(begin, end):
        store_range(x, out, 2 * row, row * n, n)
        lowest, rest = least_and_sum(x, row * n, n)
        out[2 * row + 1] = lowest
    for i in range(begin, end):
        out[2 * i] = out[2 * i] + HOLE  # noqa: F821


def test_calls_are_replaced_by_lines() -> None:
    body = body_of(renamed)
    assert "least_and_sum" not in body and "store_range" not in body
    scope: dict[str, Any] = {}
    exec(text(renamed, ("x", "out", "n"), (("HOLE", "100"),)), scope)
    x, out = [3, 1, 4, 1, 5, 9], [0, 0, 0, 0]
    scope["kernel"](x, out, 3, 0, 2, 0)
    assert out == [107, 1, 114, 1]


@pytest.mark.parametrize("kernel, names", [(sums, "'i'"), (clashing, "'total'")])
def test_names_that_mean_two_things_are_refused(kernel: Any, names: str) -> None:
    with pytest.raises(AssertionError, match=rf"both have \[.*{names}"):
        body_of(kernel)
