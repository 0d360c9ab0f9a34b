# ruff: noqa: F841  the kernels have holes, and what is filled in uses the names
"""Reading and writing at places that index values name, and the updates that are copies into a part.

Writes are parallel only over places that cannot collide, and in the order of the index where they can: equal programs
give equal bits. An index out of range is reported, not followed.
"""
from __future__ import annotations

from math import prod

from jtorch import dtypes
from jtorch.codegen.library.call import (
    STORAGE,
    Arg,
    Lowering,
    Operand,
    grain_of,
    loader,
    merge_axes,
    pointer,
    raw_pointer,
    row_major,
    storer,
)
from jtorch.codegen.library.copy import contiguous, copy, copy_blocks, order_blocks
from jtorch.codegen.library.join import MAX_PARTS, NARROW, join
from jtorch.codegen.library.kernel_text import inline
from jtorch.codegen.library.language import (
    COLUMN,
    COMBINE,
    PLACE,
    ROW,
    Pointer,
    i64,
    index_div,
    index_mod,
    select,
    store_error,
)
from jtorch.errors import IndexOutOfBoundsError
from jtorch.ir.prims.movement import overlaps

COLUMN_BLOCK = 64
"""Columns that an item of `put` writes."""


@inline
def row_named(index: Pointer, i: int, rows: int) -> int:
    """The row that number i of the index names; a negative one counts from the end."""
    r = index[i]
    r = select(r < 0, r + rows, r)
    return r


def take_rows(x: Pointer, index: Pointer, out: Pointer, error: Pointer, code: int, so: int, sr: int, rows: int,
              count: int, inner: int, block: int, begin: int, end: int, worker: int) -> None:
    """out[o, i, :] = x[o, index[i], :]; an item is a block of i of one o."""
    blocks = index_div(count + block - 1, block)
    for item in range(begin, end):
        o = index_div(item, blocks)
        i0 = index_mod(item, blocks) * block
        for i in range(i0, min(i0 + block, count)):
            r = row_named(index, i, rows)
            if (r < 0) | (r >= rows):
                store_error(error, code)
            else:
                source = o * so + r * sr
                target = (o * count + i) * inner
                for j in range(inner):
                    out[target + j] = x[source + j]


def take_elements(x: Pointer, index: Pointer, out: Pointer, error: Pointer, code: int, so: int, sr: int, outer: int,
                  rows: int, count: int, block: int, begin: int, end: int, worker: int) -> None:
    """out[o, i] = x[o, index[i]]; an item is a block of i of four o, which look at an index once. The way out of their
    loop keeps LLVM from gathers in vectors, which take longer where x is in the cache."""
    blocks = index_div(count + block - 1, block)
    for item in range(begin, end):
        o = index_div(item, blocks) * 4
        i0 = index_mod(item, blocks) * block
        i1 = min(i0 + block, count)
        if o + 4 <= outer:
            x0 = o * so
            x1 = x0 + so
            x2 = x1 + so
            x3 = x2 + so
            out0 = o * count
            out1 = out0 + count
            out2 = out1 + count
            out3 = out2 + count
            for i in range(i0, i1):
                r = row_named(index, i, rows)
                if (r < 0) | (r >= rows):
                    store_error(error, code)
                    break
                place = r * sr
                out[out0 + i] = x[x0 + place]
                out[out1 + i] = x[x1 + place]
                out[out2 + i] = x[x2 + place]
                out[out3 + i] = x[x3 + place]
        else:
            bad = i64(0)
            for k in range(o, outer):
                for i in range(i0, i1):
                    r = row_named(index, i, rows)
                    outside = (r < 0) | (r >= rows)
                    bad |= i64(outside)
                    out[k * count + i] = x[k * so + select(outside, 0, r) * sr]
            if bad != 0:
                store_error(error, code)


def put_rows(index: Pointer, src: Pointer, out: Pointer, error: Pointer, code: int, rows: int, count: int, inner: int,
             block: int, begin: int, end: int, worker: int) -> None:
    """out[o, index[i], :] = or += src[o, i, :] in the order of i; an item is a block of columns of one o."""
    blocks = index_div(inner + block - 1, block)
    for item in range(begin, end):
        o = index_div(item, blocks)
        j0 = index_mod(item, blocks) * block
        j1 = min(j0 + block, inner)
        for i in range(count):
            r = row_named(index, i, rows)
            if (r < 0) | (r >= rows):
                store_error(error, code)
            else:
                target = (o * rows + r) * inner
                source = (o * count + i) * inner
                for j in range(j0, j1):
                    out[target + j] = COMBINE


def gather_elements(x: Pointer, index: Pointer, out: Pointer, error: Pointer, code: int, n1: int, n2: int, size: int,
                    s0: int, s1: int, s2: int, s3: int, sa: int, d0: int, d1: int, d2: int, d3: int, cols: int,
                    block: int, begin: int, end: int, worker: int) -> None:
    """out[.., j] = x[.., index[.., j], ..]: `sa` is x's stride along the axis that the index replaces, the others are
    its strides along the axes of the index (d0..). An item is a block of columns of one row. The way out of the loop
    keeps LLVM from gathers in vectors, as in `take_elements`."""
    blocks = index_div(cols + block - 1, block)
    for item in range(begin, end):
        row = index_div(item, blocks)
        j0 = index_mod(item, blocks) * block
        i2 = index_mod(row, n2)
        q = index_div(row, n2)
        i1 = index_mod(q, n1)
        i0 = index_div(q, n1)
        x0 = i0 * s0 + i1 * s1 + i2 * s2
        p0 = i0 * d0 + i1 * d1 + i2 * d2
        for j in range(j0, min(j0 + block, cols)):
            r = index[p0 + COLUMN]
            if (r < 0) | (r >= size):
                store_error(error, code)
                break
            out[row * cols + j] = x[x0 + PLACE]


def scatter_elements(index: Pointer, src: Pointer, out: Pointer, error: Pointer, code: int, n1: int, size: int, s0: int,
                     s1: int, s2: int, sa: int, d0: int, d1: int, d2: int, da: int, e0: int, e1: int, e2: int, ea: int,
                     count: int, cols: int, block: int, begin: int, end: int, worker: int) -> None:
    """out[.., index[i], j] = combination with src[.., i, j] in the order of i; an item is a block of columns of one
    row. Strides: s of out, d of index, e of src; the last letter `a` is the indexed axis, which has `count` places in
    index."""
    blocks = index_div(cols + block - 1, block)
    for item in range(begin, end):
        row = index_div(item, blocks)
        j0 = index_mod(item, blocks) * block
        j1 = min(j0 + block, cols)
        i1 = index_mod(row, n1)
        i0 = index_div(row, n1)
        for i in range(count):
            for j in range(j0, j1):
                r = index[i0 * d0 + i1 * d1 + j * d2 + i * da]
                if (r < 0) | (r >= size):
                    store_error(error, code)
                else:
                    v = src[i0 * e0 + i1 * e1 + j * e2 + i * ea]
                    target = i0 * s0 + i1 * s1 + j * s2 + r * sa
                    out[target] = COMBINE


def scatter_rows(index: Pointer, src: Pointer, out: Pointer, x: Pointer, error: Pointer, code: int, n1: int, size: int,
                 s0: int, s1: int, sa: int, d0: int, d1: int, da: int, e0: int, e1: int, ea: int, count: int,
                 copied: int, begin: int, end: int, worker: int) -> None:
    """`scatter_elements` along the last axis; an item is a row, of which `copied` elements are x's before."""
    for row in range(begin, end):
        i1 = index_mod(row, n1)
        i0 = index_div(row, n1)
        p0 = i0 * d0 + i1 * d1
        q0 = i0 * e0 + i1 * e1
        first = i0 * s0 + i1 * s1
        for i in range(first, first + copied):
            out[i] = x[i]
        outside = False
        for i in range(count):
            outside = outside | (index[p0 + i * da] < 0) | (index[p0 + i * da] >= size)
        if outside:
            store_error(error, code)
        else:
            for i in range(count):
                v = src[q0 + i * ea]
                target = first + index[p0 + i * da] * sa
                out[target] = COMBINE


def put_elements(index: Pointer, src: Pointer, out: Pointer, error: Pointer, code: int, outer: int, rows: int,
                 count: int, begin: int, end: int, worker: int) -> None:
    """`put_rows` along the last axis; an item is four rows, which look at an index once."""
    for item in range(begin, end):
        o = item * 4
        if o + 4 <= outer:
            for i in range(count):
                r = row_named(index, i, rows)
                if (r < 0) | (r >= rows):
                    store_error(error, code)
                else:
                    target = o * rows + r
                    source = o * count + i
                    out[target] = COMBINE
                    target += rows
                    source += count
                    out[target] = COMBINE
                    target += rows
                    source += count
                    out[target] = COMBINE
                    target += rows
                    source += count
                    out[target] = COMBINE
        else:
            for k in range(o, outer):
                for i in range(count):
                    r = row_named(index, i, rows)
                    if (r < 0) | (r >= rows):
                        store_error(error, code)
                    else:
                        target = k * rows + r
                        source = k * count + i
                        out[target] = COMBINE


def search_elements(edges: Pointer, x: Pointer, out: Pointer, n: int, count: int, block: int, begin: int, end: int,
                    worker: int) -> None:
    """out[row, i] = how many of the ascending edges[row, n] come before x[row, i]; an item is a block of i of one row.
    All searches of a block take a step before any takes the next: no branch, and no step waits for the one before."""
    blocks = index_div(count + block - 1, block)
    for item in range(begin, end):
        row = index_div(item, blocks)
        i0 = index_mod(item, blocks) * block
        first = row * count + i0
        last = row * count + min(i0 + block, count)
        base = row * n
        for i in range(first, last):
            out[i] = 0
        left = n
        while left > 1:
            half = index_div(left, 2)
            for i in range(first, last):
                v = x[i]
                edge = edges[base + out[i] + half - 1]
                out[i] += select(ROW, half, 0)
            left -= half
        if n > 0:
            for i in range(first, last):
                v = x[i]
                edge = edges[base + out[i]]
                out[i] += select(ROW, 1, 0)


OUT_OF_RANGE = ("code", IndexOutOfBoundsError, "index out of range in self")


def index_args(low: Lowering) -> list[tuple[str, str, Arg]]:
    return [("error", "p:int64", ("error",)), ("code", "i", OUT_OF_RANGE)]


def integers(names: str, *values: int) -> list[tuple[str, str, Arg]]:
    return [(name, "i", value) for name, value in zip(names.split(), values, strict=True)]


def around(x: Operand, axis: int) -> tuple[int, int, int]:
    return prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1:])


def take(low: Lowering) -> None:
    x, index = low.inputs
    out = low.outputs[0]
    axis = low.node.attr("axis")
    outer, rows, inner = around(x, axis)
    if not index.numel or not outer:
        return
    if not inner:
        raise NotImplementedError("only the bounds are to be checked")
    index = contiguous(low, index)
    lead, (lead_strides,) = merge_axes(x.shape[:axis], x.strides[:axis])
    if len(lead) > 1 or not x.has_contiguous(axis + 1):
        x = contiguous(low, x)
        lead, (lead_strides,) = merge_axes(x.shape[:axis], x.strides[:axis])
    so = lead_strides[0] if lead else 0
    p = raw_pointer(x.dtype)
    args = [("x", p, x.arg), ("index", "p:int64", index.arg), ("out", p, out.arg), *index_args(low)]
    count = index.numel
    if inner == 1 and rows:
        block = 4096
        low.call(take_elements, [*args, *integers("so sr outer rows count block", so, x.strides[axis], outer, rows,
                                                  count, block)],
                 -(-outer // 4) * -(-count // block), grain_of(min(block, count) * min(outer, 4)))
    else:
        block = max(1, min(count, 16384 // inner))
        low.call(take_rows, [*args, *integers("so sr rows count inner block", so, x.strides[axis], rows, count, inner,
                                              block)],
                 outer * -(-count // block), grain_of(block * (5 + inner * x.dtype.itemsize * 0.1)))


def check_blocks(index: Pointer, error: Pointer, code: int, count: int, low: int, high: int, block: int, begin: int,
                 end: int, worker: int) -> None:
    """Report an index that is not low <= i < high."""
    for item in range(begin, end):
        bad = i64(0)
        for i in range(item * block, min(item * block + block, count)):
            r = index[i]
            bad |= i64((r < low) | (r >= high))
        if bad != 0:
            store_error(error, code)


def start_from(low: Lowering, x: Operand, out: Operand) -> None:
    """out = x, unless out is x's memory already."""
    if low.in_place != 0:
        copy(low, x, out)


def apart(low: Lowering, x: Operand) -> Operand:
    """x, or a copy of it where it lies in the memory that is about to be written."""
    if low.in_place != 0 or x.place != low.inputs[0].place:
        return x
    result = low.temp(x.dtype, x.shape)
    copy(low, x, result)
    return result


def checked(low: Lowering, index: Operand, lowest: int, size: int) -> list[tuple[str, str, Arg]]:
    """The arguments with which the kernel reports an index that is not lowest <= i < size. Where it writes in place it
    must find none any more: all are looked at before."""
    if low.in_place != 0:
        return index_args(low)
    index, block = contiguous(low, index), 4096
    low.call(check_blocks, [("index", "p:int64", index.arg), *index_args(low),
                            *integers("count low high block", index.numel, lowest, size, block)],
             -(-index.numel // block), grain_of(block * 0.5))
    return [("error", "p:int64", ("error",)), ("code", "i", 0)]


def in_wide(low: Lowering, run: object, x: Operand, src: Operand, out: Operand) -> bool:
    """Half types: repeated sums are taken in float32. True if `run(x, src, out)` was done on converted data."""
    if out.dtype not in (dtypes.float16, dtypes.bfloat16):
        return False
    wide, wide_src = low.temp(dtypes.float32, out.shape), low.temp(dtypes.float32, src.shape)
    copy(low, x, wide)
    copy(low, src, wide_src, barrier=False)
    run(wide_src, wide)  # type: ignore[operator]
    copy(low, wide, out)
    return True


def put(low: Lowering) -> None:
    x, index, src = low.inputs
    out = low.outputs[0]
    adds = low.node.op.name == "put_add"
    axis = low.node.attr("axis")
    outer, rows, inner = around(out, axis)
    if index.numel and not (outer and inner):
        raise NotImplementedError("only the bounds are to be checked")
    index, src = contiguous(low, apart(low, index)), apart(low, src)
    reports = checked(low, index, -rows, rows)

    def run(src: Operand, out: Operand) -> None:
        if not index.numel:
            return
        src = contiguous(low, src)
        d = out.dtype
        if not adds:
            p, combine = raw_pointer(d), "src[source + j]"
        elif d is dtypes.bool_:
            p, combine = pointer(d), "out[target + j] | src[source + j]"
        else:
            p, combine = pointer(d), f"{storer(d)}(out[target + j] + src[source + j])"
        if inner == 1:
            combine = combine.replace("target + j", "target").replace("source + j", "source")
            low.call(put_elements, [("index", "p:int64", index.arg), ("src", p, src.arg), ("out", p, out.arg),
                                    *reports, *integers("outer rows count", outer, rows, index.numel)],
                     -(-outer // 4), grain_of(index.numel * 4.0), holes={"COMBINE": combine})
            return
        block = min(inner, COLUMN_BLOCK if index.numel * inner > 1 << 14 else inner)
        low.call(put_rows, [("index", "p:int64", index.arg), ("src", p, src.arg), ("out", p, out.arg), *reports,
                            *integers("rows count inner block", rows, index.numel, inner, block)],
                 outer * -(-inner // block), grain_of(index.numel * (2 + block * 0.3)), holes={"COMBINE": combine})

    if out.dtype.is_complex and adds:
        raise NotImplementedError("complex sums")
    if adds and in_wide(low, run, x, src, out):
        return
    start_from(low, x, out)
    run(src, out)


def gather(low: Lowering) -> None:
    x, index = low.inputs
    out = low.outputs[0]
    axis = low.node.attr("axis")
    if not out.numel:
        return
    if not x.numel:
        raise NotImplementedError("nothing to read")
    sx = [0 if a == axis else s for a, s in enumerate(x.strides)]
    sizes, (ss, ds, _) = merge_axes(index.shape, sx, index.strides, row_major(index.shape))
    if len(sizes) > 4:
        raise NotImplementedError("too many axes")
    fill = 4 - len(sizes)
    sizes, ss, ds = [1] * fill + sizes, [0] * fill + ss, [0] * fill + ds
    p = raw_pointer(x.dtype)
    block = min(sizes[3], 4096)
    place = "r" + (" * sa" if x.strides[axis] != 1 else "")
    if ss[3]:
        place += " + j" if ss[3] == 1 else " + j * s3"
    low.call(gather_elements, [("x", p, x.arg), ("index", "p:int64", index.arg), ("out", p, out.arg), *index_args(low),
                               *integers("n1 n2 size s0 s1 s2 s3 sa d0 d1 d2 d3 cols block", *sizes[1:3],
                                         x.shape[axis], *ss, x.strides[axis], *ds, sizes[3], block)],
             prod(sizes[:3]) * -(-sizes[3] // block), grain_of(5 + block),
             holes={"COLUMN": "j" if ds[3] == 1 else "j * d3", "PLACE": place})


SCATTER = {"set": "v", "add": "out[target] + v", "prod": "out[target] * v", "amax": "maximum(out[target], v)",
           "amin": "minimum(out[target], v)"}
SCATTER_BOOL = {"set": "v", "add": "out[target] | v", "prod": "out[target] & v", "amax": "out[target] | v",
                "amin": "out[target] & v"}


MANY_ROWS = 16
"""So many rows are copied one by one, just before they are written to; fewer at once, by all threads."""


def scatter(low: Lowering) -> None:
    x, index, src = low.inputs
    out = low.outputs[0]
    axis, mode = low.node.attr("axis"), low.node.attr("mode")
    index, src = apart(low, index), apart(low, src)
    reports = checked(low, index, 0, out.shape[axis])
    wide = mode != "set" and out.dtype in STORAGE
    by_rows = (low.in_place != 0 and axis == len(x.shape) - 1 and index.shape[:-1] == x.shape[:-1] and index.numel > 0
               and x.is_contiguous and not wide and prod(x.shape[:-1]) >= MANY_ROWS)

    def run(src: Operand, out: Operand) -> None:
        if not index.numel:
            return
        d = out.dtype
        if not out.numel:
            raise NotImplementedError("nothing to write to")
        strides = (out.strides, index.strides, src.strides)
        lead, before = merge_axes(index.shape[:axis], *[s[:axis] for s in strides])
        behind, after = merge_axes(index.shape[axis + 1:], *[s[axis + 1:] for s in strides])
        if len(lead) > 2 or len(behind) > 1:
            raise NotImplementedError("too many axes")
        sizes = [1] * (2 - len(lead)) + lead + (behind or [1])
        columns = [[0] * (2 - len(lead)) + b + (a or [0]) for b, a in zip(before, after)]
        values = [v for column, s in zip(columns, strides) for v in (*column, s[axis])]
        count, cols = index.shape[axis], sizes[2]
        block = min(cols, 64 if count * cols > 1 << 13 else cols)
        if mode == "set":
            p, combine = raw_pointer(d), "v"
        elif d is dtypes.bool_:
            p, combine = pointer(d), SCATTER_BOOL[mode]
        else:
            p, combine = pointer(d), f"{storer(d)}({SCATTER[mode]})"
        if cols == 1:
            (s0, s1, _, sa), (d0, d1, _, da), (e0, e1, _, ea) = values[:4], values[4:8], values[8:]
            low.call(scatter_rows, [("index", "p:int64", index.arg), ("src", p, src.arg), ("out", p, out.arg),
                                    ("x", p, x.arg if by_rows else out.arg), *reports,
                                    *integers("n1 size s0 s1 sa d0 d1 da e0 e1 ea count copied", sizes[1],
                                              out.shape[axis], s0, s1, sa, d0, d1, da, e0, e1, ea, count,
                                              out.shape[axis] if by_rows else 0)],
                     sizes[0] * sizes[1], grain_of(count * 2.0), holes={"COMBINE": combine})
            return
        low.call(scatter_elements, [("index", "p:int64", index.arg), ("src", p, src.arg), ("out", p, out.arg),
                                    *reports,
                                    *integers("n1 size s0 s1 s2 sa d0 d1 d2 da e0 e1 e2 ea count cols block", sizes[1],
                                              out.shape[axis], *values, count, cols, block)],
                 sizes[0] * sizes[1] * -(-cols // block), grain_of(count * block * 2.0), holes={"COMBINE": combine})

    if out.dtype.is_complex and mode != "set":
        raise NotImplementedError("complex sums")
    if mode != "set" and in_wide(low, run, x, src, out):
        return
    if not by_rows:
        start_from(low, x, out)
    run(src, out)


def searchsorted(low: Lowering) -> None:
    edges, x = (contiguous(low, v) for v in low.inputs)
    out = low.outputs[0]
    if not out.numel:
        return
    d = x.dtype
    if d.is_complex:
        raise NotImplementedError("complex numbers have no order")
    n = edges.shape[-1]
    row = x.shape[-1] if len(edges.shape) > 1 else x.numel
    a, b = f"{loader(d)}(edge)", f"{loader(d)}(v)"
    below = f"{a} <= {b}" if low.node.attr("right") else f"{a} < {b}"
    if d.is_floating_point:  # NaN is the largest
        below = f"({below}) | (isnan({b}) & ~isnan({a}))"
        if low.node.attr("right"):
            below += f" | (isnan({a}) & isnan({b}))"
    block = min(row, 1024)
    low.call(search_elements, [("edges", pointer(d), edges.arg), ("x", pointer(d), x.arg), ("out", "p:int64", out.arg),
                               *integers("n count block", n, row, block)],
             x.numel // row * -(-row // block), grain_of(block * 1.5 * max(1, n.bit_length())), holes={"ROW": below})


# --- copies into a part ----------------------------------------------------------------------------------------------

def add_blocks(low: Lowering, src: Operand, dst: Operand, serial: bool) -> None:
    """dst += src, by the copy kernel with another store."""
    d = dst.dtype
    value = "dst[y + r * dr + DC] | src[x + r * sr + SC]" if d is dtypes.bool_ else \
        f"{storer(d)}({loader(d)}(dst[y + r * dr + DC]) + {loader(d)}(src[x + r * sr + SC]))"
    names, values, items, holes, grain = order_blocks(src, dst)
    low.call(copy_blocks, [("src", pointer(d), src.arg), ("dst", pointer(d), dst.arg),
                           *((n, "i", v) for n, v in zip(names, values))], items, items if serial else grain,
             holes={"VALUE": value, **holes})


def slice_update(low: Lowering) -> None:
    x, src = low.inputs
    out = low.outputs[0]
    src = apart(low, src)
    start_from(low, x, out)
    starts, _, steps = low.node.attrs
    offset = out.offset + sum(a * s for a, s in zip(starts, out.strides))
    copy(low, src, Operand(out.place, out.dtype, src.shape, tuple(a * s for a, s in zip(steps, out.strides)), offset))


def as_strided_scatter(low: Lowering) -> None:
    x, src = low.inputs
    out = low.outputs[0]
    shape, strides, offset, accumulate = low.node.attrs
    clash = overlaps(shape, strides)
    if clash and (not accumulate or out.dtype in (dtypes.float16, dtypes.bfloat16)):
        raise NotImplementedError("the order of writes to one place")
    if accumulate and out.dtype.is_complex:
        raise NotImplementedError("complex sums")
    src = apart(low, src)
    start_from(low, x, out)
    place = Operand(out.place, out.dtype, tuple(shape), tuple(strides), out.offset + offset)
    if not src.numel:
        return
    if accumulate:
        add_blocks(low, src, place, serial=clash)
    else:
        copy(low, src, place)


def concatenate(low: Lowering) -> None:
    out, axis = low.outputs[0], low.node.attr("axis")
    parts = [x for x in low.inputs if x.numel]
    pitch = prod(out.shape[axis:])
    narrow = pitch * out.dtype.itemsize < NARROW and pitch < out.numel
    if narrow and len(parts) <= MAX_PARTS and all(x.is_contiguous for x in parts):
        join(low, parts, [prod(x.shape[axis:]) for x in parts], out)
        return
    start = 0
    for x in parts:
        part = Operand(out.place, out.dtype, x.shape, out.strides, out.offset + start * out.strides[axis])
        copy(low, x, part, barrier=not low.calls or narrow and len(parts) <= MAX_PARTS)
        start += x.shape[axis]


def flip(low: Lowering) -> None:
    x = low.inputs[0]
    offset, strides = x.offset, list(x.strides)
    for axis in low.node.attr("axes"):
        offset += max(x.shape[axis] - 1, 0) * strides[axis]
        strides[axis] = -strides[axis]
    copy(low, Operand(x.place, x.dtype, x.shape, tuple(strides), offset), low.outputs[0])


def plain_copy(low: Lowering) -> None:
    copy(low, low.inputs[0], low.outputs[0])


def permute(low: Lowering) -> None:
    copy(low, low.inputs[0].permuted(low.node.attr("perm")), low.outputs[0])


def reshape(low: Lowering) -> None:
    x = low.inputs[0]
    copy(low, x, low.outputs[0].reshaped(x.shape))

