# ruff: noqa: B018, F841  the kernels have holes, and what is filled in uses the names
"""Matrix products in registers, and by OpenBLAS, on blocks of rows and columns, one thread per block.

How a product is cut into blocks depends on its size alone, so the result does not depend on the number of threads.
"""
from __future__ import annotations

from collections.abc import Sequence

from jtorch import dtypes
from jtorch.codegen.library import gemm_bfloat
from jtorch.codegen.library.blocks import block_of
from jtorch.codegen.library.call import Epilogue, Lowering, Operand, conversion, grain_of, pointer, storer
from jtorch.codegen.library.copy import converted, copy
from jtorch.codegen.library.gemm_gram import GRAM_BLOCKS, is_gram, mirror
from jtorch.codegen.library.gemm_layout import (
    DEPTH,
    FLOPS_PER_NS,
    PACKING,
    TRANSPOSED_PACKING,
    arranged,
    block_size,
    readable,
    round_up,
    tile_block_size,
)
from jtorch.codegen.library.gemm_vector import vector_product
from jtorch.codegen.library.language import (
    COMBINE,
    EPILOGUE,
    FOUR,
    SIZE,
    Pointer,
    T,
    addr_of,
    call_gemm_T,
    copy_rows,
    index_div,
    index_mod,
    matrix_tile,
    reassoc_add,
    shifted,
    tile_columns,
    tile_rows,
    transpose,
)

MIN_DEPTH = 128
"""The fewest, where products are summed: their left operands share cache lines, so parts of all of them take turns."""

def gemm_blocks(gemm: int, a: Pointer, b: Pointer, c: Pointer, inner: int, sa0: int, sa1: int, sb0: int, sb1: int,
                sc: int, m: int, n: int, k: int, ta: int, lda: int, tb: int, ldb: int, ldc: int, a_row: int, b_col: int,
                rows: int, cols: int, begin: int, end: int, worker: int) -> None:
    """c[batch] = op(a[batch]) @ op(b[batch]); an item is a block of rows x cols of one batch."""
    row_blocks = index_div(m + rows - 1, rows)
    col_blocks = index_div(n + cols - 1, cols)
    for item in range(begin, end):
        batch, r0, c0 = block_of(item, row_blocks, col_blocks, rows, cols)
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
        batch, r0, c0 = block_of(item, row_blocks, col_blocks, rows, cols)
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
                        copy_rows(shifted(b, source), b_row, shifted(scratch, panel), tile_columns(c), kp, width)
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
        fours = k - index_mod(k, 4)
        for p in range(0, fours, 4):  # the row of c is read and written once for four of b
            v0 = a[x + p * a_col]
            v1 = a[x + (p + 1) * a_col]
            v2 = a[x + (p + 2) * a_col]
            v3 = a[x + (p + 3) * a_col]
            for j in range(n):
                c[item * n + j] = FOUR
        for p in range(fours, k):
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


def matmul(low: Lowering) -> None:
    a, b = low.inputs
    out = low.outputs[0]
    d = a.dtype
    if d.is_complex:
        raise NotImplementedError("complex matrix products")
    if d is dtypes.bfloat16:
        gemm_bfloat.product(low, a, b, out)
    elif d is dtypes.float16:
        rounded = out.dtype is d
        sums = low.temp(dtypes.float32, out.shape) if rounded else out
        product(low, converted(low, a, dtypes.float32), converted(low, b, dtypes.float32, barrier=False), sums,
                fused=not rounded)
        if rounded:
            copy(low, sums, out)
    elif d.is_floating_point:
        product(low, a, b, out, fused=True)
    else:
        integer_product(low, a, b, out)


def product(low: Lowering, a: Operand, b: Operand, out: Operand, fused: bool = False) -> None:
    """out = a @ b in float32 or float64; out is contiguous. `fused`: out is the result, to be finished by the
    epilogue."""
    if not out.numel:
        return
    a, b, batch, sa, sb = arranged(low, a, b, out)
    (m, k), n = a.shape[-2:], b.shape[-1]
    if 1 in (m, n) and vector_product(low, a, b, out, batch, sa, sb, fused):
        return
    count = batch[0] * batch[1]
    if is_gram(a, b, sa, sb):
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


def gram_product(low: Lowering, a: Operand, out: Operand, batch: list[int], sa: list[int]) -> None:
    """out = a @ a': half of the product, and its mirror image."""
    (m, k), count = a.shape[-2:], batch[0] * batch[1]
    left = readable(low, a, batch, sa)
    rows = round_up(max(-(-m // GRAM_BLOCKS), 16), 16)
    p, single = pointer(out.dtype), out.dtype is dtypes.float32
    names = ("inner", "sa0", "sa1", "sc", "m", "k", "ta", "lda", "a_row", "rows")
    values = (batch[1], left.outer, left.inner, m * m, m, k, int(left.transposed), left.ld, left.row, rows)
    low.call(gram_blocks, [("gemm", "i", ("symbol", "sgemm" if single else "dgemm")), ("a", p, left.arg),
                           ("c", p, out.arg), *((name, "i", value) for name, value in zip(names, values))],
             count * -(-m // rows), 1,
             holes={"call_gemm_T": "call_gemm_f32" if single else "call_gemm_f64", "T": conversion(out.dtype)})
    mirror(low, out, count, m)


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
    packing = PACKING if b.strides[-1] == 1 else TRANSPOSED_PACKING
    rows, cols = tile_block_size(m, n, k * products, count, packing)
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


def integer_product(low: Lowering, a: Operand, b: Operand, out: Operand) -> None:
    """Wrapping integers; booleans with and/or."""
    if not out.numel:
        return
    d = out.dtype
    a, b, batch, sa, sb = arranged(low, a, b, out)
    (m, k), n = a.shape[-2:], b.shape[-1]
    column = "j" if b.strides[-1] == 1 else "j * b_col"

    def added(*factors: tuple[str, str]) -> str:
        """c with the products of elements of a and the elements of these rows of b."""
        terms = [(v, f"b[y + {row} * b_row + {column}]") for v, row in factors]
        if d is dtypes.bool_:
            return " | ".join(["c[item * n + j]", *[f"({v} & {element})" for v, element in terms]])
        return f"{storer(d)}({' + '.join(['c[item * n + j]', *[f'{v} * {element}' for v, element in terms]])})"

    names = ("inner", "sa0", "sa1", "sb0", "sb1", "m", "n", "k", "a_row", "a_col", "b_row", "b_col")
    values = (batch[1], *sa, *sb, m, n, k, *a.strides[-2:], *b.strides[-2:])
    p = pointer(d)
    low.call(plain_rows, [("a", p, a.arg), ("b", p, b.arg), ("c", p, out.arg),
                          *((name, "i", value) for name, value in zip(names, values))],
             batch[0] * batch[1] * m, grain_of(n * k * 0.3), holes={
                 "COMBINE": added(("v", "p")), "FOUR": added(*[(f"v{i}", f"(p + {i})") for i in range(4)]),
                 "T": conversion(d)})
