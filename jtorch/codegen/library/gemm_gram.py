"""A matrix times its own transpose is symmetric: half of it is computed, the other half is its mirror image."""
from __future__ import annotations

from collections.abc import Sequence

from jtorch.codegen.library.call import Lowering, Operand, raw_pointer
from jtorch.codegen.library.language import Pointer, index_div, index_mod

GRAM_WORK = 1 << 26
"""Multiplications from which a product with its own transpose is half computed."""

GRAM_ROWS, GRAM_BLOCKS, MIRROR_ROWS = 128, 16, 16
"""Rows from which a product with its own transpose is half computed and half mirrored; into how many blocks of rows it
is cut; rows that are mirrored at a time, the elements of a cache line."""


def is_gram(a: Operand, b: Operand, sa: Sequence[int], sb: Sequence[int]) -> bool:
    """Is b the transpose of a, and the product large enough?"""
    m, k = a.shape[-2:]
    return m >= GRAM_ROWS and m * m * k > GRAM_WORK and sa == sb and is_transpose(a, b)


def is_transpose(a: Operand, b: Operand) -> bool:
    """Is b the memory of a, read with rows and columns exchanged?"""
    return ((a.place, a.offset, a.dtype, a.shape[-2:], a.strides[-2:]) ==
            (b.place, b.offset, b.dtype, b.shape[:-3:-1], b.strides[:-3:-1]))


def mirror_blocks(c: Pointer, sc: int, m: int, rows: int, begin: int, end: int, worker: int) -> None:
    """What is above the diagonal from what is below; an item is a block of rows."""
    blocks = index_div(m + rows - 1, rows)
    for item in range(begin, end):
        at = index_div(item, blocks) * sc
        r0 = index_mod(item, blocks) * rows
        r1 = min(r0 + rows, m)
        for j in range(r0 + 1, m):
            for r in range(r0, min(r1, j)):
                c[at + r * m + j] = c[at + j * m + r]


def mirror(low: Lowering, out: Operand, count: int, m: int) -> None:
    """Fill in what is above the diagonals of `count` matrices."""
    low.call(mirror_blocks, [("c", raw_pointer(out.dtype), out.arg), ("sc", "i", m * m), ("m", "i", m),
                             ("rows", "i", MIRROR_ROWS)], count * -(-m // MIRROR_ROWS), 1)
