# ruff: noqa: B007, B018  the kernels have holes, and what is filled in uses the names
"""Strided copies, with or without a conversion: contiguous, transpose, concatenate, pad, flip, slice_update."""
from __future__ import annotations

from math import prod

from jtorch.codegen.library.blocks import block_of
from jtorch.codegen.library.call import Lowering, Operand, grain_of, loader, merge_axes, pointer, raw_pointer, storer
from jtorch.codegen.library.kernel_text import inline
from jtorch.codegen.library.language import DC, PLACE, SIZE, TRANSPOSED, VALUE, Pointer, index_div, index_mod

MAX_OUTER = 4
"""Axes that a copy may have, after merging, besides its rows and columns."""

TILE_ROWS, TILE_COLS = 64, 64
"""Blocks in which a transposition goes through the cache: contiguous in the source along the rows."""


@inline
def begins(matrix: int, n1: int, n2: int, n3: int, s0: int, s1: int, s2: int, s3: int, d0: int, d1: int, d2: int,
           d3: int) -> tuple[int, int]:
    """Where the matrix of this number, as the outer axes (.., n1, n2, n3) count, begins in src and in dst."""
    i3 = index_mod(matrix, n3)
    rest = index_div(matrix, n3)
    i2 = index_mod(rest, n2)
    rest = index_div(rest, n2)
    i1 = index_mod(rest, n1)
    i0 = index_div(rest, n1)
    x = i0 * s0 + i1 * s1 + i2 * s2 + i3 * s3
    y = i0 * d0 + i1 * d1 + i2 * d2 + i3 * d3
    return x, y


def copy_blocks(src: Pointer, dst: Pointer, n1: int, n2: int, n3: int, s0: int, s1: int, s2: int, s3: int, sr: int,
                sc: int, d0: int, d1: int, d2: int, d3: int, dr: int, dc: int, rows: int, cols: int, block_rows: int,
                block_cols: int, begin: int, end: int, worker: int) -> None:
    """An item is a block of rows and columns of one of the matrices that the outer axes (.., n1, n2, n3) count."""
    row_blocks = index_div(rows + block_rows - 1, block_rows)
    col_blocks = index_div(cols + block_cols - 1, block_cols)
    for item in range(begin, end):
        matrix, r0, c0 = block_of(item, row_blocks, col_blocks, block_rows, block_cols)
        x, y = begins(matrix, n1, n2, n3, s0, s1, s2, s3, d0, d1, d2, d3)
        c1 = min(c0 + block_cols, cols)
        for r in range(r0, min(r0 + block_rows, rows)):
            for c in range(c0, c1):
                dst[y + r * dr + DC] = VALUE


def transpose_blocks(src: Pointer, dst: Pointer, scratch: Pointer, scratch_stride: int, n1: int, n2: int, n3: int,
                     s0: int, s1: int, s2: int, s3: int, sr: int, sc: int, d0: int, d1: int, d2: int, d3: int, dr: int,
                     dc: int, rows: int, cols: int, block_rows: int, block_cols: int, begin: int, end: int,
                     worker: int) -> None:
    """`copy_blocks` where src is contiguous along the rows' axis: a block goes through scratch memory whose lines do
    not share cache sets, as those of a matrix with rows of 4096 bytes do."""
    row_blocks = index_div(rows + block_rows - 1, block_rows)
    col_blocks = index_div(cols + block_cols - 1, block_cols)
    tile = index_div(worker * scratch_stride, SIZE)
    for item in range(begin, end):
        matrix, r0, c0 = block_of(item, row_blocks, col_blocks, block_rows, block_cols)
        x, y = begins(matrix, n1, n2, n3, s0, s1, s2, s3, d0, d1, d2, d3)
        height = min(block_rows, rows - r0)
        width = min(block_cols, cols - c0)
        TRANSPOSED
        for r in range(height):
            for c in range(width):
                dst[y + (r0 + r) * dr + c0 + c] = scratch[tile + PLACE]


BY_ELEMENTS = """\
for c in range(width):
    for r in range(height):
        scratch[tile + c * PITCH + r] = src[x + r0 + r + (c0 + c) * sc]"""

IN_REGISTERS = "transpose(shifted(src, x + r0 + c0 * sc), sc, shifted(scratch, tile), PITCH, width, height)"
"""For elements of four and eight bytes, which are moved as floats of that size."""


def fill_blocks(value: Pointer, dst: Pointer, n: int, block: int, begin: int, end: int, worker: int) -> None:
    """Contiguous dst: every element is value[0]."""
    v = value[0]
    for item in range(begin, end):
        for i in range(item * block, min(item * block + block, n)):
            dst[i] = v


def zero_blocks(dst: Pointer, n: int, block: int, begin: int, end: int, worker: int) -> None:
    """Contiguous dst, seen as words of its element size: every element is 0."""
    for item in range(begin, end):
        for i in range(item * block, min(item * block + block, n)):
            dst[i] = 0


def copy(low: Lowering, src: Operand, dst: Operand, barrier: bool = True) -> None:
    """dst = src, converted when the dtypes differ. Broadcast and reversed axes of src are strides like any other."""
    assert src.shape == dst.shape, (src, dst)
    if not dst.numel:
        return
    if src.dtype is dst.dtype:
        kinds, value = (raw_pointer(src.dtype), raw_pointer(dst.dtype)), "src[x + r * sr + SC]"
    else:
        kinds = pointer(src.dtype), pointer(dst.dtype)
        value = f"{storer(dst.dtype)}({loader(src.dtype)}(src[x + r * sr + SC]))"
    names, values, items, holes, grain = order_blocks(src, dst)
    integers = [(n, "i", v) for n, v in zip(names, values)]
    if src.dtype is dst.dtype and values[-2:] == [TILE_ROWS, TILE_COLS] and holes["DC"] == "c":
        size, p = src.dtype.itemsize, kinds[0]
        if size in (4, 8):
            p, pitch = f"p:float{8 * size}", TILE_COLS + 16
            holes = {"TRANSPOSED": IN_REGISTERS, "PLACE": "r * PITCH + c"}
        else:
            pitch = TILE_ROWS + 1
            holes = {"TRANSPOSED": BY_ELEMENTS, "PLACE": "c * PITCH + r"}
        low.call(transpose_blocks, [("src", p, src.arg), ("dst", p, dst.arg), ("scratch", p, ("scratch",)),
                                    ("scratch_stride", "i", ("scratch_stride",)), *integers], items, grain,
                 TILE_COLS * pitch * size, barrier, {"SIZE": str(size), "PITCH": str(pitch), **holes})
        return
    low.call(copy_blocks, [("src", kinds[0], src.arg), ("dst", kinds[1], dst.arg), *integers], items, grain,
             barrier=barrier, holes={"VALUE": value, **holes})


def order_blocks(src: Operand, dst: Operand) -> tuple[list[str], list[int], int, dict[str, str], int]:
    """Names and values of the integers of `copy_blocks`, the number of items, the holes, and the grain."""
    sizes, (ss, ds) = order_axes(*merge_axes(dst.shape, src.strides, dst.strides))
    if len(sizes) - 2 > MAX_OUTER:
        raise NotImplementedError(f"a copy over {len(sizes)} axes that do not merge")
    outer = [1] * (MAX_OUTER - len(sizes) + 2) + sizes[:-2]
    so, do = ([0] * (MAX_OUTER - len(sizes) + 2) + s[:-2] for s in (ss, ds))
    rows, cols = sizes[-2:]
    block_rows, block_cols = blocks(rows, cols, transposed=ss[-1] != 1 and ss[-2] == 1)
    items = prod(outer) * -(-rows // block_rows) * -(-cols // block_cols)
    names = ["n1", "n2", "n3", "s0", "s1", "s2", "s3", "sr", "sc", "d0", "d1", "d2", "d3", "dr", "dc", "rows", "cols",
             "block_rows", "block_cols"]
    values = [*outer[1:], *so, *ss[-2:], *do, *ds[-2:], rows, cols, block_rows, block_cols]
    holes = {"SC": "c" if ss[-1] == 1 else "c * sc", "DC": "c" if ds[-1] == 1 else "c * dc"}
    return names, values, items, holes, grain_of(block_rows * block_cols * dst.dtype.itemsize * 0.08)


def order_axes(sizes: list[int], strides: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """At least two axes; the destination's nearest one last, and before it the source's nearest one."""
    while len(sizes) < 2:  # as the outermost of the axes, so that it is not taken for the nearest one
        strides = [[sizes[0] * s[0] if sizes else 1, *s] for s in strides]
        sizes = [1, *sizes]
    src, dst = strides
    order = list(range(len(sizes)))
    last = min(order, key=lambda a: (abs(dst[a]), -a))
    order.remove(last)
    if src[last] not in (0, 1):
        second = min(order, key=lambda a: (abs(src[a]) or 1 << 62, -a))
    else:
        second = min(order, key=lambda a: (abs(dst[a]), -a))
    order.remove(second)
    order += [second, last]
    return [sizes[a] for a in order], [[s[a] for a in order] for s in strides]


def blocks(rows: int, cols: int, transposed: bool) -> tuple[int, int]:
    if transposed:
        return TILE_ROWS, TILE_COLS
    block_cols = min(max(cols, 1), 16384)
    return max(1, min(rows, 16384 // block_cols)), block_cols


def zero(low: Lowering, dst: Operand, barrier: bool = True) -> None:
    """dst = 0, dst contiguous."""
    block = 16384
    low.call(zero_blocks, [("dst", raw_pointer(dst.dtype), dst.arg), ("n", "i", dst.numel), ("block", "i", block)],
             -(-dst.numel // block), grain_of(block * dst.dtype.itemsize * 0.05), barrier=barrier)


def contiguous(low: Lowering, x: Operand) -> Operand:
    """x itself, or a contiguous copy of it in a temporary."""
    if x.is_contiguous:
        return x
    result = low.temp(x.dtype, x.shape)
    copy(low, x, result)
    return result


def converted(low: Lowering, x: Operand, dtype: object, barrier: bool = True) -> Operand:
    """A contiguous copy of x with another dtype, in a temporary."""
    result = low.temp(dtype, x.shape)  # type: ignore[arg-type]
    copy(low, x, result, barrier)
    return result

