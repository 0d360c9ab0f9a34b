# ruff: noqa: B018, F841  the kernels have holes, and what is filled in uses the names
"""Products of a matrix with a vector: as fast as the matrix can be read, which blocks and packing would not be."""
from __future__ import annotations

from jtorch import dtypes
from jtorch.codegen.library.call import Lowering, Operand, conversion, grain_of, loader, pointer, storer
from jtorch.codegen.library.gemm_layout import round_up
from jtorch.codegen.library.language import (
    BOUNDS,
    EPILOGUE,
    STORES,
    SUMS,
    TOGETHER,
    ZEROS,
    Pointer,
    T,
    fma,
    index_div,
    index_mod,
    load,
    reassoc_add,
    store,
)

VECTOR_WORK = 4096
"""Elements of a matrix from which a product with a single vector does not go to BLAS."""


def dot_rows(w: Pointer, x: Pointer, y: Pointer, sw: int, sx: int, ldw: int, n: int, k: int, block: int, begin: int,
             end: int, worker: int) -> None:
    """y[batch, i] = sum(w[batch, i, :] * x[batch, :]); an item is a block of i of one batch. Several rows are read at
    once: a single one does not ask for the data of a third-level cache fast enough."""
    blocks = index_div(n + block - 1, block)
    for item in range(begin, end):
        batch = index_div(item, blocks)
        i0 = index_mod(item, blocks) * block
        i1 = min(i0 + block, n)
        whole = i1 - index_mod(i1 - i0, TOGETHER)
        for i in range(i0, whole, TOGETHER):
            p = batch * sw + i * ldw
            ZEROS
            for j in range(k):
                v = load(x[batch * sx + j])
                SUMS
            STORES
        for i in range(whole, i1):
            acc = T(0.0)
            for j in range(k):
                acc = reassoc_add(acc, load(w[batch * sw + i * ldw + j]) * load(x[batch * sx + j]))
            y[batch * n + i] = store(acc)
        BOUNDS
        EPILOGUE


def rows_together(count: int) -> dict[str, str]:
    """The holes of `dot_rows` for that many rows at once."""
    rows = range(count)
    return {"TOGETHER": str(count), "ZEROS": "\n".join(f"acc{r} = T(0.0)" for r in rows),
            "SUMS": "\n".join(f"acc{r} = reassoc_add(acc{r}, load(w[p + {r} * ldw + j]) * v)" for r in rows),
            "STORES": "\n".join(f"y[batch * n + i + {r}] = store(acc{r})" for r in rows)}


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
    p = pointer(a.dtype)
    sums: dict[str, str] = {}
    args = [("w", p, w.arg), ("x", p, x.arg), ("y", pointer(out.dtype), out.arg), ("sw", "i", sw[1]),
            ("sx", "i", sx[1])]
    if step == 1 and x_step == 1 and k > 1:
        together = 4 if m == 1 else 1  # as a batch, rows have the same sums however many they are
        function, block, leading = dot_rows, max(1, 32768 // k // together) * together, [("ldw", "i", ld)]
        sums = rows_together(together)
    elif ld == 1 and size > 1 and a.dtype is not dtypes.bfloat16:  # the result holds the sums meanwhile
        function, leading = axpy_columns, [("ldw", "i", step), ("x_step", "i", x_step)]
        block = min(1024, max(256, round_up(-(-size // 2), 16)))
    else:
        return False
    epilogue = low.fuse(count, m, n) if fused else None
    bounds = "r0 = 0\nr1 = 1\nc0 = i0\nc1 = i1" if m == 1 else "r0 = i0\nr1 = i1\nc0 = 0\nc1 = 1"
    low.call(function, [*args, *leading, ("n", "i", size), ("k", "i", k), ("block", "i", block)],
             count * -(-size // block), grain_of(block * k * 0.1),
             holes={"T": conversion(a.dtype), "load": loader(a.dtype), "store": storer(out.dtype), "BOUNDS": bounds,
                    **sums},
             epilogue=epilogue)
    return True
