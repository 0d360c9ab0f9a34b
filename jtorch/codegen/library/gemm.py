# ruff: noqa: B018, F841  the kernels have holes, and what is filled in uses the names
"""Matrix products in registers, and by OpenBLAS, on blocks of rows and columns, one thread per block.

How a product is cut into blocks depends on its size alone, so the result does not depend on the number of threads.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jtorch import dtypes
from jtorch.codegen.library.call import (
    Arg,
    Epilogue,
    Lowering,
    Operand,
    conversion,
    grain_of,
    merge_axes,
    pointer,
    storer,
)
from jtorch.codegen.library.copy import contiguous, converted, copy
from jtorch.codegen.library.language import (
    BOUNDS,
    COMBINE,
    EPILOGUE,
    SIZE,
    Pointer,
    T,
    addr_of,
    call_gemm_T,
    fma,
    index_div,
    index_mod,
    matrix_tile,
    reassoc_add,
    shifted,
    tile_columns,
    tile_rows,
    transpose,
)

FLOPS_PER_NS = 100.0
"""What one core does in float32; only a scale for grains."""

BLOCK_FLOPS = 1e6
"""A product is cut into about the square root of its work over this: each block packs its operands anew, so larger
products have larger blocks."""

MAX_BLOCKS = 16
"""Blocks that a product is cut into, unless they would still be larger than `LARGE_SIDE` squared."""

LARGE_SIDE = 512

GRAM_WORK = 1 << 26
"""Multiplications from which a product with its own transpose is half computed."""

GRAM_ROWS, GRAM_BLOCKS, MIRROR_ROWS = 128, 16, 16
"""Rows from which a product with its own transpose is half computed and half mirrored; into how many blocks of rows it
is cut; rows that are mirrored at a time, the elements of a cache line."""

DEPTH = 1024
"""Rows of b that are packed at a time: a panel of them stays in the second-level cache."""

MIN_DEPTH = 128
"""The fewest, where products are summed: their left operands share cache lines, so parts of all of them take turns."""

VECTOR_WORK = 4096
"""Elements of a matrix from which a product with a single vector does not go to BLAS."""


def gemm_blocks(gemm: int, a: Pointer, b: Pointer, c: Pointer, inner: int, sa0: int, sa1: int, sb0: int, sb1: int,
                sc: int, m: int, n: int, k: int, ta: int, lda: int, tb: int, ldb: int, ldc: int, a_row: int, b_col: int,
                rows: int, cols: int, begin: int, end: int, worker: int) -> None:
    """c[batch] = op(a[batch]) @ op(b[batch]); an item is a block of rows x cols of one batch."""
    row_blocks = index_div(m + rows - 1, rows)
    col_blocks = index_div(n + cols - 1, cols)
    for item in range(begin, end):
        c0 = index_mod(item, col_blocks) * cols
        q = index_div(item, col_blocks)
        r0 = index_mod(q, row_blocks) * rows
        batch = index_div(q, row_blocks)
        i0 = index_div(batch, inner)
        i1 = index_mod(batch, inner)
        r1 = min(r0 + rows, m)
        c1 = min(c0 + cols, n)
        call_gemm_T(gemm, ta, tb, r1 - r0, c1 - c0, k, T(1.0), addr_of(a, i0 * sa0 + i1 * sa1 + r0 * a_row), lda,
                    addr_of(b, i0 * sb0 + i1 * sb1 + c0 * b_col), ldb, T(0.0), addr_of(c, batch * sc + r0 * ldc + c0),
                    ldc)
        EPILOGUE


def tile_blocks(a: Pointer, b: Pointer, c: Pointer, scratch: Pointer, scratch_stride: int, inner: int, sa0: int,
                sa1: int, sb0: int, sb1: int, sc: int, m: int, n: int, k: int, a_row: int, a_col: int, b_row: int,
                b_col: int, terms0: int, at0: int, bt0: int, terms1: int, at1: int, bt1: int, rows: int, cols: int,
                depth: int, begin: int, end: int, worker: int) -> None:
    """`gemm_blocks` with sums in registers. Of b, as many columns as a tile has are packed at a time, `depth` rows of
    them; a is read where it is: packing its rows too, where they are not contiguous, costs more than it gains. One
    or two columns left over are sums along the rows of a if these are contiguous: they would not fill a vector.
    The sum over terms0 x terms1 products, whose operands lie at0, at1 (bt0, bt1) apart."""
    row_blocks = index_div(m + rows - 1, rows)
    col_blocks = index_div(n + cols - 1, cols)
    panel = index_div(worker * scratch_stride, SIZE)
    lanes = index_div(tile_columns(c), 3)
    for item in range(begin, end):
        c0 = index_mod(item, col_blocks) * cols
        q = index_div(item, col_blocks)
        r0 = index_mod(q, row_blocks) * rows
        batch = index_div(q, row_blocks)
        i0 = index_div(batch, inner)
        i1 = index_mod(batch, inner)
        r1 = min(r0 + rows, m)
        c1 = min(c0 + cols, n)
        for p0 in range(0, k, depth):
            kp = min(depth, k - p0)
            for t in range(terms0 * terms1):
                t0 = index_div(t, terms1)
                t1 = index_mod(t, terms1)
                x = i0 * sa0 + i1 * sa1 + t0 * at0 + t1 * at1 + p0 * a_col
                j = c0
                while j < c1:
                    width = min(tile_columns(c), c1 - j)
                    rest = index_mod(width, lanes)
                    thin = (a_col == 1) & (rest > 0) & (rest <= 2)
                    if thin & (width > rest):  # whole vectors first
                        width -= rest
                        thin = False
                    source = i0 * sb0 + i1 * sb1 + t0 * bt0 + t1 * bt1 + p0 * b_row + j * b_col
                    if thin:
                        for q in range(width):
                            for p in range(kp):
                                scratch[panel + q * kp + p] = b[source + p * b_row + q * b_col]
                            for r in range(r0, r1):
                                acc = T(0.0)
                                for p in range(kp):
                                    acc = reassoc_add(acc, a[x + r * a_row + p] * scratch[panel + q * kp + p])
                                target = batch * sc + r * n + j + q
                                if (p0 > 0) | (t > 0):
                                    acc += c[target]
                                c[target] = acc
                        break
                    if b_col == 1:
                        for p in range(kp):
                            for q in range(width):
                                scratch[panel + p * tile_columns(c) + q] = b[source + p * b_row + q]
                    elif b_row == 1:
                        transpose(shifted(b, source), b_col, shifted(scratch, panel), tile_columns(c), width, kp)
                    else:
                        for p in range(kp):
                            for q in range(width):
                                scratch[panel + p * tile_columns(c) + q] = b[source + p * b_row + q * b_col]
                    for r in range(r0, r1, tile_rows(c)):
                        matrix_tile(shifted(a, x + r * a_row), a_row, a_col, shifted(scratch, panel), tile_columns(c),
                                    kp, shifted(c, batch * sc + r * n + j), n, min(tile_rows(c), r1 - r), width,
                                    (p0 > 0) | (t > 0))
                    j += width
        EPILOGUE


def dot_rows(w: Pointer, x: Pointer, y: Pointer, sw: int, sx: int, ldw: int, n: int, k: int, block: int, begin: int,
             end: int, worker: int) -> None:
    """y[batch, i] = sum(w[batch, i, :] * x[batch, :]); an item is a block of i of one batch."""
    blocks = index_div(n + block - 1, block)
    for item in range(begin, end):
        batch = index_div(item, blocks)
        i0 = index_mod(item, blocks) * block
        i1 = min(i0 + block, n)
        for i in range(i0, i1):
            acc = T(0.0)
            for j in range(k):
                acc = reassoc_add(acc, w[batch * sw + i * ldw + j] * x[batch * sx + j])
            y[batch * n + i] = acc
        BOUNDS
        EPILOGUE


def axpy_columns(w: Pointer, x: Pointer, y: Pointer, sw: int, sx: int, ldw: int, x_step: int, n: int, k: int,
                 block: int, begin: int, end: int, worker: int) -> None:
    """y[batch, i] = sum(w[batch, :, i] * x[batch, :]); an item is a block of i of one batch."""
    blocks = index_div(n + block - 1, block)
    for item in range(begin, end):
        batch = index_div(item, blocks)
        i0 = index_mod(item, blocks) * block
        i1 = min(i0 + block, n)
        for i in range(i0, i1):
            y[batch * n + i] = T(0.0)
        whole = k - index_mod(k, 4)
        for j in range(0, whole, 4):
            x0 = x[batch * sx + j * x_step]
            x1 = x[batch * sx + (j + 1) * x_step]
            x2 = x[batch * sx + (j + 2) * x_step]
            x3 = x[batch * sx + (j + 3) * x_step]
            p = batch * sw + j * ldw
            for i in range(i0, i1):
                s = fma(w[p + i], x0, y[batch * n + i])
                s = fma(w[p + ldw + i], x1, s)
                s = fma(w[p + 2 * ldw + i], x2, s)
                y[batch * n + i] = fma(w[p + 3 * ldw + i], x3, s)
        for j in range(whole, k):
            x0 = x[batch * sx + j * x_step]
            p = batch * sw + j * ldw
            for i in range(i0, i1):
                y[batch * n + i] = fma(w[p + i], x0, y[batch * n + i])
        BOUNDS
        EPILOGUE


def plain_rows(a: Pointer, b: Pointer, c: Pointer, inner: int, sa0: int, sa1: int, sb0: int, sb1: int, m: int, n: int,
               k: int, a_row: int, a_col: int, b_row: int, b_col: int, begin: int, end: int, worker: int) -> None:
    """c[batch] = a[batch] @ b[batch] for numbers that BLAS does not know; an item is a row of one batch."""
    for item in range(begin, end):
        row = index_mod(item, m)
        batch = index_div(item, m)
        i0 = index_div(batch, inner)
        i1 = index_mod(batch, inner)
        x = i0 * sa0 + i1 * sa1 + row * a_row
        y = i0 * sb0 + i1 * sb1
        for j in range(n):
            c[item * n + j] = T(0)
        for p in range(k):
            v = a[x + p * a_col]
            for j in range(n):
                c[item * n + j] = COMBINE


def gram_blocks(gemm: int, a: Pointer, c: Pointer, inner: int, sa0: int, sa1: int, sc: int, m: int, k: int, ta: int,
                lda: int, a_row: int, rows: int, begin: int, end: int, worker: int) -> None:
    """c[batch] = op(a[batch]) @ op(a[batch])' up to the diagonal; an item is a block of rows, the longest first."""
    blocks = index_div(m + rows - 1, rows)
    for item in range(begin, end):
        batch = index_div(item, blocks)
        at = index_div(batch, inner) * sa0 + index_mod(batch, inner) * sa1
        r0 = (blocks - 1 - index_mod(item, blocks)) * rows
        r1 = min(r0 + rows, m)
        call_gemm_T(gemm, ta, 1 - ta, r1 - r0, r1, k, T(1.0), addr_of(a, at + r0 * a_row), lda, addr_of(a, at), lda,
                    T(0.0), addr_of(c, batch * sc + r0 * m), m)


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


def tile_block_size(m: int, n: int, k: int, batch: int) -> tuple[int, int]:
    """`block_size` for products in registers: of the cuts into about as many blocks, the one that costs least.

    >>> tile_block_size(768, 512, 128, 1)
    (384, 128)
    """
    pieces = wanted_pieces(m, n, k, batch)
    best, chosen = math.inf, (m, n)
    for power in range(pieces.bit_length()):
        rows, cols = round_up(-(-m // (1 << power)), 8), round_up(-(-n // (pieces >> power)), 16)
        blocks = -(-m // rows) * -(-n // cols)
        idle = max(0, pieces - blocks) / pieces
        cost = blocks * block_cost(min(rows, m), min(cols, n), k) * (1 + idle ** 2)
        if cost < best:
            best, chosen = cost, (min(rows, m), min(cols, n))
    return chosen


def block_cost(rows: int, cols: int, k: int) -> float:
    """About the cycles of a block: multiplications in tiles of 8 rows and 3, 2 or 1 vectors, and packing."""
    panels, rest = divmod((cols + 13) // 16, 3)
    return k * (-(-rows // 8) * (27 * panels + (0, 11, 19)[rest]) + 0.3 * cols)


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def matmul(low: Lowering) -> None:
    a, b = low.inputs
    out = low.outputs[0]
    d = out.dtype
    if d.is_complex:
        raise NotImplementedError("complex matrix products")
    if d in (dtypes.float16, dtypes.bfloat16):
        wide = low.temp(dtypes.float32, out.shape)
        product(low, converted(low, a, dtypes.float32), converted(low, b, dtypes.float32, barrier=False), wide)
        copy(low, wide, out)
    elif d.is_floating_point:
        product(low, a, b, out, fused=True)
    else:
        integer_product(low, a, b, out)


def product(low: Lowering, a: Operand, b: Operand, out: Operand, fused: bool = False) -> None:
    """out = a @ b in float32 or float64; out is contiguous. `fused`: out is the result, to be finished by the
    epilogue."""
    if not out.numel:
        return
    batch, (sa, sb) = merge_axes(out.shape[:-2], a.strides[:-2], b.strides[:-2])
    (m, k), n = a.shape[-2:], b.shape[-1]
    if len(batch) > 2:
        a, b = contiguous(low, a), contiguous(low, b)
        batch, (sa, sb) = merge_axes(out.shape[:-2], a.strides[:-2], b.strides[:-2])
    if len(batch) == 1 and sb == [0] and (m == 1 or sa[0] == m * a.strides[-2]):  # one matrix for all: more rows
        row = sa[0] if m == 1 else a.strides[-2]
        m, batch, sa, sb = m * batch[0], [], [], []
        a = Operand(a.place, a.dtype, (m, k), (row, a.strides[-1]), a.offset)
        b = Operand(b.place, b.dtype, (k, n), b.strides[-2:], b.offset)
    batch, sa, sb = ([one] * (2 - len(x)) + x for one, x in ((1, batch), (0, sa), (0, sb)))
    if 1 in (m, n) and vector_product(low, a, b, out, batch, sa, sb, fused):
        return
    count = batch[0] * batch[1]
    if m >= GRAM_ROWS and m * m * k > GRAM_WORK and sa == sb and is_transpose(a, b):
        gram_product(low, a, out, batch, sa)
        return
    epilogue = low.fuse(count, m, n) if fused else None
    if min(m, n) > 1 and k:
        tiled_product(low, a, b, out, batch, sa, sb, epilogue)
        return
    left, right = readable(low, a, batch, sa), readable(low, b, batch, sb)
    rows, cols = block_size(m, n, k, count)
    routine = "sgemm" if out.dtype is dtypes.float32 else "dgemm"
    names = ("inner", "sa0", "sa1", "sb0", "sb1", "sc", "m", "n", "k", "ta", "lda", "tb", "ldb", "ldc", "a_row",
             "b_col", "rows", "cols")
    values = (batch[1], left.outer, left.inner, right.outer, right.inner, m * n, m, n, k, int(left.transposed), left.ld,
              int(right.transposed), right.ld, n, left.row, right.col, rows, cols)
    p = pointer(out.dtype)
    low.call(gemm_blocks, [("gemm", "i", ("symbol", routine)), ("a", p, left.arg), ("b", p, right.arg), ("c", p,
                                                                                                         out.arg),
                           *((name, "i", value) for name, value in zip(names, values))],
             count * -(-m // rows) * -(-n // cols), grain_of(2 * rows * cols * k / FLOPS_PER_NS + 150),
             holes={"call_gemm_T": "call_gemm_f32" if out.dtype is dtypes.float32 else "call_gemm_f64",
                    "T": conversion(out.dtype)}, epilogue=epilogue)


def is_transpose(a: Operand, b: Operand) -> bool:
    """Is b the memory of a, read with rows and columns exchanged?"""
    return ((a.place, a.offset, a.dtype, a.shape[-2:], a.strides[-2:]) ==
            (b.place, b.offset, b.dtype, b.shape[:-3:-1], b.strides[:-3:-1]))


def gram_product(low: Lowering, a: Operand, out: Operand, batch: list[int], sa: list[int]) -> None:
    """out = a @ a': half of the product, and its mirror image."""
    (m, k), count = a.shape[-2:], batch[0] * batch[1]
    left = readable(low, a, batch, sa)
    rows = round_up(max(-(-m // GRAM_BLOCKS), GRAM_BLOCKS), 16)
    p, single = pointer(out.dtype), out.dtype is dtypes.float32
    names = ("inner", "sa0", "sa1", "sc", "m", "k", "ta", "lda", "a_row", "rows")
    values = (batch[1], left.outer, left.inner, m * m, m, k, int(left.transposed), left.ld, left.row, rows)
    low.call(gram_blocks, [("gemm", "i", ("symbol", "sgemm" if single else "dgemm")), ("a", p, left.arg),
                           ("c", p, out.arg), *((name, "i", value) for name, value in zip(names, values))],
             count * -(-m // rows), 1,
             holes={"call_gemm_T": "call_gemm_f32" if single else "call_gemm_f64", "T": conversion(out.dtype)})
    low.call(mirror_blocks, [("c", p, out.arg), ("sc", "i", m * m), ("m", "i", m), ("rows", "i", MIRROR_ROWS)],
             count * -(-m // MIRROR_ROWS), 1)


def tiled_product(low: Lowering, a: Operand, b: Operand, out: Operand, batch: Sequence[int], sa: Sequence[int],
                  sb: Sequence[int], epilogue: Epilogue | None = None, terms: Sequence[tuple[int, int, int]] = (),
                  barrier: bool = True) -> None:
    """out = a @ b, each for two batch axes with strides `sa`, `sb`; out is contiguous.

    `terms`, up to two: (number, stride of a, stride of b) of an axis along which such products are summed.
    """
    (m, k), n = a.shape[-2:], b.shape[-1]
    count = batch[0] * batch[1]
    terms = [(1, 0, 0)] * (2 - len(terms)) + list(terms)
    products = terms[0][0] * terms[1][0]
    depth = min(k, max(DEPTH // products, MIN_DEPTH))
    rows, cols = tile_block_size(m, n, k * products, count)
    names = ("inner", "sa0", "sa1", "sb0", "sb1", "sc", "m", "n", "k", "a_row", "a_col", "b_row", "b_col", "terms0",
             "at0", "bt0", "terms1", "at1", "bt1", "rows", "cols", "depth")
    values = (batch[1], *sa, *sb, m * n, m, n, k, *a.strides[-2:], *b.strides[-2:], *terms[0], *terms[1], rows, cols,
              depth)
    p, size = pointer(out.dtype), out.dtype.itemsize
    low.call(tile_blocks, [("a", p, a.arg), ("b", p, b.arg), ("c", p, out.arg), ("scratch", p, ("scratch",)),
                           ("scratch_stride", "i", ("scratch_stride",)),
                           *((name, "i", value) for name, value in zip(names, values))],
             count * -(-m // rows) * -(-n // cols), grain_of(2 * rows * cols * k * products / FLOPS_PER_NS + 150),
             round_up(depth, 16) * 48 * size, barrier, {"SIZE": str(size), "T": conversion(out.dtype)}, epilogue)


def readable(low: Lowering, x: Operand, batch: list[int], strides: list[int]) -> Matrix:
    """The operand for BLAS, copied if its layout is none that BLAS reads."""
    layout = blas_layout(x.shape, x.strides)
    if layout is None:
        shape = (*[n if s else 1 for n, s in zip(batch, strides)], *x.shape[-2:])
        source = Operand(x.place, x.dtype, shape, (*strides, *x.strides[-2:]), x.offset)
        x = low.temp(x.dtype, shape)
        copy(low, source, x)
        strides = [s if old else 0 for s, old in zip(x.strides, strides)]
        layout = blas_layout(x.shape, x.strides)
        assert layout is not None
    return Matrix(x.arg, strides[0], strides[1], *layout)


def vector_product(low: Lowering, a: Operand, b: Operand, out: Operand, batch: list[int], sa: list[int],
                   sb: list[int], fused: bool) -> bool:
    """A matrix times a vector, which BLAS's matrix product does badly; False if it should do it nevertheless."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    count = batch[0] * batch[1]
    if m == 1:  # the matrix is b.T
        w, sw, (step, ld), size = b, sb, b.strides[-2:], n
        x, sx, x_step = a, sa, a.strides[-1]
    else:
        w, sw, (ld, step), size = a, sa, a.strides[-2:], m
        x, sx, x_step = b, sb, b.strides[-2]
    if size * k < VECTOR_WORK or batch[0] != 1:
        return False
    p = pointer(out.dtype)
    args = [("w", p, w.arg), ("x", p, x.arg), ("y", p, out.arg), ("sw", "i", sw[1]), ("sx", "i", sx[1])]
    if step == 1 and x_step == 1 and k > 1:
        function, block, leading = dot_rows, max(1, 32768 // k), [("ldw", "i", ld)]
    elif ld == 1 and size > 1:
        function, leading = axpy_columns, [("ldw", "i", step), ("x_step", "i", x_step)]
        block = min(1024, max(256, round_up(-(-size // 2), 16)))
    else:
        return False
    epilogue = low.fuse(count, m, n) if fused else None
    bounds = "r0 = 0\nr1 = 1\nc0 = i0\nc1 = i1" if m == 1 else "r0 = i0\nr1 = i1\nc0 = 0\nc1 = 1"
    low.call(function, [*args, *leading, ("n", "i", size), ("k", "i", k), ("block", "i", block)],
             count * -(-size // block), grain_of(block * k * 0.1),
             holes={"T": conversion(out.dtype), "BOUNDS": bounds},
             epilogue=epilogue)
    return True


def integer_product(low: Lowering, a: Operand, b: Operand, out: Operand) -> None:
    """Wrapping integers; booleans with and/or."""
    if not out.numel:
        return
    d = out.dtype
    batch, (sa, sb) = merge_axes(out.shape[:-2], a.strides[:-2], b.strides[:-2])
    if len(batch) > 2:
        a, b = contiguous(low, a), contiguous(low, b)
        batch, (sa, sb) = merge_axes(out.shape[:-2], a.strides[:-2], b.strides[:-2])
    batch, sa, sb = ([one] * (2 - len(x)) + x for one, x in ((1, batch), (0, sa), (0, sb)))
    (m, k), n = a.shape[-2:], b.shape[-1]
    element = "b[y + p * b_row + j]" if b.strides[-1] == 1 else "b[y + p * b_row + j * b_col]"
    combine = f"{storer(d)}(c[item * n + j] + v * {element})"
    if d is dtypes.bool_:
        combine = f"c[item * n + j] | (v & {element})"
    names = ("inner", "sa0", "sa1", "sb0", "sb1", "m", "n", "k", "a_row", "a_col", "b_row", "b_col")
    values = (batch[1], *sa, *sb, m, n, k, *a.strides[-2:], *b.strides[-2:])
    p = pointer(d)
    low.call(plain_rows, [("a", p, a.arg), ("b", p, b.arg), ("c", p, out.arg),
                          *((name, "i", value) for name, value in zip(names, values))],
             batch[0] * batch[1] * m, grain_of(n * k * 0.3), holes={"COMBINE": combine, "T": conversion(d)})
