# ruff: noqa: B018  the kernels have holes, and what is filled in uses the names
"""Products of bfloat16 matrices: exact products, sums in float32, each result rounded once.

Two rows of b lie side by side in a packed panel, an element of the upper one and the one below it in a word, as
`pair_tile` reads them (`jtorch/runtime/pair_tiles.py`): neither operand is widened in memory.
"""
from __future__ import annotations

from jtorch.codegen.library.blocks import block_of
from jtorch.codegen.library.call import Lowering, Operand, grain_of, pointer, storer
from jtorch.codegen.library.copy import zero
from jtorch.codegen.library.gemm_gram import is_gram, mirror
from jtorch.codegen.library.gemm_layout import DEPTH, FLOPS_PER_NS, arranged, packed, round_up, tile_block_size
from jtorch.codegen.library.gemm_vector import vector_product
from jtorch.codegen.library.language import (
    EPILOGUE,
    Pointer,
    index_div,
    index_mod,
    pair_tile,
    select,
    shifted,
    store,
    tile_columns,
    tile_rows,
    transpose_pairs,
    u32,
)

HALF_BLOCKS, HALF_ROWS = 8, 128
"""Blocks of rows that a matrix times its own transpose is cut into, unless they would have more rows than this."""


def pair_blocks(a: Pointer, b: Pointer, c: Pointer, sums: Pointer, panels: Pointer, scratch_stride: int, inner: int,
                sa0: int, sa1: int, sb0: int, sb1: int, m: int, n: int, k: int, a_row: int, b_row: int, b_col: int,
                rows: int, cols: int, depth: int, half: int, begin: int, end: int, worker: int) -> None:
    """c[batch] = a[batch] @ b[batch]; an item is a block of rows x cols of one batch, whose sums are in scratch memory.
    Rows of a are contiguous. `half`: only up to the diagonal, and the longest blocks first."""
    row_blocks = index_div(m + rows - 1, rows)
    col_blocks = index_div(n + cols - 1, cols)
    own = index_div(worker * scratch_stride, 4)
    for item in range(begin, end):
        batch, r0, c0 = block_of(item, row_blocks, col_blocks, rows, cols)
        if half:
            r0 = (row_blocks - 1) * rows - r0
        i0 = index_div(batch, inner)
        i1 = index_mod(batch, inner)
        r1 = min(r0 + rows, m)
        c1 = min(c0 + cols, select(half > 0, r1, n))
        for p0 in range(0, k, depth):
            kp = min(depth, k - p0)
            pairs = index_div(kp, 2)
            x = i0 * sa0 + i1 * sa1 + p0
            for j in range(c0, c1, tile_columns(sums)):
                width = min(tile_columns(sums), c1 - j)
                y = i0 * sb0 + i1 * sb1 + p0 * b_row + j * b_col
                if b_col == 1:
                    for p in range(pairs):
                        for q in range(width):
                            low = u32(b[y + 2 * p * b_row + q])
                            high = u32(b[y + (2 * p + 1) * b_row + q])
                            panels[own + p * tile_columns(sums) + q] = low | (high << u32(16))
                elif b_row == 1:
                    transpose_pairs(shifted(b, y), b_col, shifted(panels, own), tile_columns(sums), width, pairs)
                else:
                    for p in range(pairs):
                        for q in range(width):
                            low = u32(b[y + 2 * p * b_row + q * b_col])
                            high = u32(b[y + (2 * p + 1) * b_row + q * b_col])
                            panels[own + p * tile_columns(sums) + q] = low | (high << u32(16))
                if 2 * pairs < kp:
                    for q in range(width):
                        panels[own + pairs * tile_columns(sums) + q] = u32(b[y + (kp - 1) * b_row + q * b_col])
                for r in range(r0, r1, tile_rows(sums)):
                    pair_tile(shifted(a, x + r * a_row), a_row, shifted(panels, own), kp,
                              shifted(sums, own + (r - r0) * cols + j - c0), cols, min(tile_rows(sums), r1 - r), width,
                              p0 > 0)
        for r in range(r0, r1):
            for j in range(c0, c1):
                c[(batch * m + r) * n + j] = store(sums[own + (r - r0) * cols + j - c0])
        EPILOGUE


def half_rows(m: int) -> int:
    return min(round_up(-(-m // HALF_BLOCKS), 8), HALF_ROWS)


def product(low: Lowering, a: Operand, b: Operand, out: Operand) -> None:
    """out = a @ b of bfloat16, finished by the epilogue; out, bfloat16 or float32, is contiguous."""
    if not out.numel:
        return
    if not a.shape[-1]:
        zero(low, out)
        return
    a, b, batch, sa, sb = arranged(low, a, b, out)
    (m, k), n = a.shape[-2:], b.shape[-1]
    if 1 in (m, n) and vector_product(low, a, b, out, batch, sa, sb, True):
        return
    count, half = batch[0] * batch[1], is_gram(a, b, sa, sb)
    if a.strides[-1] != 1:
        a, sa = packed(low, a, batch, sa)
    epilogue = None if half else low.fuse(count, m, n)
    depth = min(k, 2 * DEPTH)
    rows, cols = (half_rows(m), n) if half else tile_block_size(m, n, -(-k // 2), count)
    block = round_up(rows * cols * 4, 64)
    names = ("inner", "sa0", "sa1", "sb0", "sb1", "m", "n", "k", "a_row", "b_row", "b_col", "rows", "cols", "depth",
             "half")
    values = (batch[1], *sa, *sb, m, n, k, a.strides[-2], *b.strides[-2:], rows, cols, depth, int(half))
    low.call(pair_blocks, [("a", pointer(a.dtype), a.arg), ("b", pointer(b.dtype), b.arg),
                           ("c", pointer(out.dtype), out.arg), ("sums", "p:float32", ("scratch",)),
                           ("panels", "p:uint32", ("scratch", block)), ("scratch_stride", "i", ("scratch_stride",)),
                           *((name, "i", value) for name, value in zip(names, values))],
             count * -(-m // rows) * -(-n // cols), grain_of(rows * cols * k / FLOPS_PER_NS + 150),
             block + round_up(-(-depth // 2), 16) * 48 * 4, holes={"store": storer(out.dtype)}, epilogue=epilogue)
    if half:
        mirror(low, out, count, m)
