"""How matrix products are cut into blocks, and how their operands lie in memory."""
from __future__ import annotations

import math
from dataclasses import dataclass

from jtorch.codegen.library.call import Arg, Lowering, Operand, merge_axes
from jtorch.codegen.library.copy import contiguous, copy

FLOPS_PER_NS = 100.0
"""What one core does in float32; only a scale for grains."""

BLOCK_FLOPS = 1e6
"""A product is cut into about the square root of its work over this: each block packs its operands anew, so larger
products have larger blocks."""

MAX_BLOCKS = 16
"""Blocks that a product is cut into, unless they would still be larger than `LARGE_SIDE` squared."""

LARGE_SIDE = 512

DEPTH = 1024
"""Rows of b that are packed at a time: a panel of them stays in the second-level cache."""


PACKING, TRANSPOSED_PACKING = 0.3, 0.8
"""Cycles that packing takes, an element: of rows as they are, and of transposed ones."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Batched matrix operand as BLAS sees it: strides of the two batch axes, transposed or not, leading dimension."""

    arg: Arg
    outer: int
    inner: int
    transposed: bool
    ld: int

    @property
    def row(self) -> int:
        """Elements from one row to the next."""
        return 1 if self.transposed else self.ld

    @property
    def col(self) -> int:
        return self.ld if self.transposed else 1


def blas_layout(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[bool, int] | None:
    """(transposed, leading dimension) of the last two axes, None if BLAS cannot read them.

    >>> blas_layout((3, 5), (5, 1)), blas_layout((3, 5), (1, 3)), blas_layout((3, 5), (10, 2))
    ((False, 5), (True, 3), None)
    """
    (m, k), (row, col) = shape[-2:], strides[-2:]
    if (col == 1 or k == 1) and (row >= k or m == 1) and row < 1 << 31:
        return False, row if m > 1 else max(k, 1)
    if (row == 1 or m == 1) and (col >= m or k == 1) and col < 1 << 31:
        return True, col if k > 1 else max(m, 1)
    return None


def wanted_pieces(m: int, n: int, k: int, batch: int) -> int:
    """Blocks that a product should be cut into, a power of two."""
    flops = 2.0 * m * n * k
    wanted = min((flops / BLOCK_FLOPS) ** 0.5, max(MAX_BLOCKS / batch, m * n / LARGE_SIDE ** 2))
    return 1 << round(math.log2(max(wanted, 1)))


def block_size(m: int, n: int, k: int, batch: int) -> tuple[int, int]:
    """Rows and columns of the blocks: a fixed function of the problem's size.

    Few enough that packing the operands anew for each of them costs little, many enough to share; cut where that
    repeats the least packing.

    >>> block_size(64, 256, 784, 1)
    (64, 64)
    """
    pieces = wanted_pieces(m, n, k, batch)
    if pieces == 1:
        return max(m, 1), max(n, 1)
    best, chosen = math.inf, (m, n)
    for power in range(pieces.bit_length()):
        p, q = 1 << power, pieces >> power
        rows, cols = round_up(-(-m // p), 16), round_up(-(-n // q), 32)
        p, q = -(-m // rows), -(-n // cols)
        packing = p * k * n + q * m * k + (p * rows - m) * n * k * 0.2 + (q * cols - n) * m * k * 0.2
        too_few = max(0.0, pieces - p * q) * m * n * k / 50
        if packing + too_few < best:
            best, chosen = packing + too_few, (min(rows, m), min(cols, n))
    return chosen


def tile_block_size(m: int, n: int, k: int, batch: int, packing: float = PACKING) -> tuple[int, int]:
    """`block_size` for products in registers: of the cuts into about as many blocks, the one that costs least, if
    packing an element of the right operand takes so many cycles.

    >>> tile_block_size(768, 512, 128, 1)
    (384, 128)
    """
    pieces = wanted_pieces(m, n, k, batch)
    best, chosen = math.inf, (m, n)
    for power in range(pieces.bit_length()):
        rows, cols = round_up(-(-m // (1 << power)), 8), round_up(-(-n // (pieces >> power)), 16)
        blocks = -(-m // rows) * -(-n // cols)
        idle = max(0, pieces - blocks) / pieces
        cost = blocks * block_cost(min(rows, m), min(cols, n), k, packing) * (1 + idle ** 2)
        if cost < best:
            best, chosen = cost, (min(rows, m), min(cols, n))
    return chosen


def block_cost(rows: int, cols: int, k: int, packing: float = PACKING) -> float:
    """About the cycles of a block: multiplications in tiles of 8 rows and 3, 2 or 1 vectors, and packing."""
    panels, rest = divmod((cols + 13) // 16, 3)
    return k * (-(-rows // 8) * (27 * panels + (0, 11, 19)[rest]) + packing * cols)


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def arranged(low: Lowering, a: Operand, b: Operand, out: Operand) -> tuple[
        Operand, Operand, list[int], list[int], list[int]]:
    """The operands of out = a @ b, two batch axes, and the operands' strides along them. One matrix for all of a batch
    becomes more rows; more than two batch axes are copied into fewer."""
    batch, (sa, sb) = merge_axes(out.shape[:-2], a.strides[:-2], b.strides[:-2])
    (m, k), n = a.shape[-2:], b.shape[-1]
    if len(batch) > 2:
        a, b = contiguous(low, a), contiguous(low, b)
        batch, (sa, sb) = merge_axes(out.shape[:-2], a.strides[:-2], b.strides[:-2])
    if len(batch) == 1 and sb == [0] and (m == 1 or sa[0] == m * a.strides[-2]):
        row = sa[0] if m == 1 else a.strides[-2]
        m, batch, sa, sb = m * batch[0], [], [], []
        a = Operand(a.place, a.dtype, (m, k), (row, a.strides[-1]), a.offset)
        b = Operand(b.place, b.dtype, (k, n), b.strides[-2:], b.offset)
    batch, sa, sb = ([one] * (2 - len(x)) + x for one, x in ((1, batch), (0, sa), (0, sb)))
    return a, b, batch, sa, sb


def packed(low: Lowering, x: Operand, batch: list[int], strides: list[int]) -> tuple[Operand, list[int]]:
    """A contiguous copy of the matrices, and its strides along the batch axes: what is repeated stays so."""
    shape = (*[n if s else 1 for n, s in zip(batch, strides)], *x.shape[-2:])
    source = Operand(x.place, x.dtype, shape, (*strides, *x.strides[-2:]), x.offset)
    x = low.temp(x.dtype, shape)
    copy(low, source, x)
    return x, [s if old else 0 for s, old in zip(x.strides, strides)]


def readable(low: Lowering, x: Operand, batch: list[int], strides: list[int]) -> Matrix:
    """The operand for BLAS, copied if its layout is none that BLAS reads."""
    layout = blas_layout(x.shape, x.strides)
    if layout is None:
        x, strides = packed(low, x, batch, strides)
        layout = blas_layout(x.shape, x.strides)
        assert layout is not None
    return Matrix(x.arg, strides[0], strides[1], *layout)
