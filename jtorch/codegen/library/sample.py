# ruff: noqa: B018, F841  the kernels have holes, and what is filled in uses the names
"""Weighted sums of elements at named places, and their derivatives. A place outside of the data adds nothing."""
from __future__ import annotations

from jtorch import dtypes
from jtorch.codegen.library.blocks import block_of
from jtorch.codegen.library.call import Lowering, conversion, grain_of, pointer
from jtorch.codegen.library.copy import contiguous, copy, zero
from jtorch.codegen.library.indexing import integers
from jtorch.codegen.library.kernel_text import inline
from jtorch.codegen.library.language import (
    EPILOGUE,
    EVERY,
    OFFSETS,
    SIZE,
    SUMS,
    VALUE,
    Pointer,
    T,
    index_div,
    index_mod,
    reassoc_add,
    select,
    shifted,
    transpose,
)

UNROLLED = 16
"""Places per element up to which the loop over them is unrolled."""

MANY_CHANNELS = 8
"""From here on a transposition costs less than to gather several elements of each channel one by one."""

BLOCK = 2048
"""Places and weights that an item keeps in the cache."""


def sample_places(x: Pointer, index: Pointer, weight: Pointer, out: Pointer, channels: int, size: int, count: int,
                  taps: int, some: int, block: int, begin: int, end: int, worker: int) -> None:
    """out[n, c, o] = sum of weight[n, k, o] * x[n, c, index[n, k, o]]; an item is a block of o, of `some` channels."""
    blocks = index_div(count + block - 1, block)
    parts = index_div(channels + some - 1, some)
    for item in range(begin, end):
        batch, r0, c0 = block_of(item, parts, blocks, some, block)
        r1 = min(r0 + some, channels)
        c1 = min(c0 + block, count)
        SUMS
        EPILOGUE


IN_TURN = """\
for c in range(r0, r1):
    p = (batch * channels + c) * size
    y = (batch * channels + c) * count
    for o in range(c0, c1):
        out[y + o] = T(0)
    for k in range(taps):
        for o in range(c0, c1):
            q = (batch * taps + k) * count + o
            i = index[q]
            inside = (i >= 0) & (i < size)
            out[y + o] += select(inside, x[p + select(inside, i, 0)], T(0)) * weight[q]"""


def _unrolled(taps: int, zero: str) -> str:
    """The sum over places written out. Four channels are done side by side: places and weights are loaded once."""
    lines = []
    middle = "r1 - index_mod(r1 - r0, 4)"
    for together, first, last in ((4, "r0", middle), (1, middle, "r1")):
        lines += [f"for c in range({first}, {last}, {together}):", "    p = (batch * channels + c) * size",
                  "    y = (batch * channels + c) * count", "    for o in range(c0, c1):",
                  "        q = batch * taps * count + o"]
        for k in range(taps):
            lines += [f"        i{k} = index[q + {k} * count]", f"        inside{k} = (i{k} >= 0) & (i{k} < size)",
                      f"        p{k} = p + select(inside{k}, i{k}, 0)", f"        w{k} = weight[q + {k} * count]"]
            for c in range(together):
                value = f"select(inside{k}, x[p{k} + {c} * size], {zero}) * w{k}"
                lines.append(f"        acc{c} = {f'acc{c} + ' if k else ''}{value}")
        lines += [f"        out[y + {c} * count + o] = acc{c}" for c in range(together)]
    return "\n".join(lines)


@inline
def add_rows(x: Pointer, index: Pointer, weight: Pointer, out: Pointer, first: int, pitch: int, width: int, size: int,
             number: int, q: int, sk: int, u: int, wk: int, y: int) -> None:
    """out[y] += the rows of a plane at `number` places, from q on, that are inside of it, by weights from u on."""
    for tap in range(number):
        i = index[q + tap * sk]
        if (i >= 0) & (i < size):
            w = weight[u + tap * wk]
            p = first + i * pitch
            for j in range(width):
                out[y + j] += w * x[p + j]


@inline
def sum_rows(x: Pointer, index: Pointer, weight: Pointer, out: Pointer, first: int, pitch: int, width: int, size: int,
             taps: int, q: int, sk: int, u: int, wk: int, y: int) -> None:
    """out[y] = the sum of rows of a plane, which lie `pitch` apart from `first` on, as `add_rows` has it."""
    OFFSETS
    if EVERY:
        for j in range(width):
            out[y + j] = VALUE
    else:
        for j in range(width):
            out[y + j] = T(0)
        add_rows(x, index, weight, out, first, pitch, width, size, taps, q, sk, u, wk, y)


@inline
def places_of(item: int, blocks: int, block: int, count: int, channels: int, plane: int
              ) -> tuple[int, int, int, int, int]:
    """The plane that an item is about, the block of its places, which image it belongs to, and where it begins."""
    batch = index_div(item, blocks)
    r0 = index_mod(item, blocks) * block
    r1 = min(r0 + block, count)
    n = index_div(batch, channels)
    first = batch * plane
    return batch, r0, r1, n, first


def sample_rows(x: Pointer, index: Pointer, weight: Pointer, out: Pointer, channels: int, size: int, count: int,
                width: int, taps: int, block: int, sn: int, sk: int, so: int, wn: int, wk: int, wo: int, begin: int,
                end: int, worker: int) -> None:
    """out[n, c, o, :] = sum of weight[n, k, o] * x[n, c, index[n, k, o], :]; an item is a block of o of one plane.
    sn, sk, so are the strides of index, wn, wk, wo those of weight."""
    blocks = index_div(count + block - 1, block)
    for item in range(begin, end):
        batch, r0, r1, n, first = places_of(item, blocks, block, count, channels, size * width)
        pitch = width
        for o in range(r0, r1):
            q = n * sn + o * so
            u = n * wn + o * wo
            y = (batch * count + o) * width
            sum_rows(x, index, weight, out, first, pitch, width, size, taps, q, sk, u, wk, y)
        c0 = 0
        c1 = width
        EPILOGUE


def sample_channels(x: Pointer, index: Pointer, weight: Pointer, out: Pointer, scratch: Pointer, scratch_stride: int,
                    pitch: int, size: int, count: int, taps: int, sn: int, sk: int, so: int, wn: int, wk: int, wo: int,
                    begin: int, end: int, worker: int) -> None:
    """out[n, c, o] = sum of weight[n, k, o] * x[n, index[n, k, o], c]: rows of `pitch` channels are summed and
    then transposed in scratch memory. An item is a block of 32 channels and 64 o."""
    row_blocks = index_div(pitch + 31, 32)
    col_blocks = index_div(count + 63, 64)
    rows = index_div(worker * scratch_stride, SIZE)
    columns = rows + 64 * 48
    for item in range(begin, end):
        batch, r0, c0 = block_of(item, row_blocks, col_blocks, 32, 64)
        c1 = min(c0 + 64, count)
        r1 = min(r0 + 32, pitch)
        first = batch * size * pitch + r0
        width = r1 - r0
        for o in range(c0, c1):
            q = batch * sn + o * so
            u = batch * wn + o * wo
            y = rows + (o - c0) * 48
            sum_rows(x, index, weight, scratch, first, pitch, width, size, taps, q, sk, u, wk, y)
        transpose(shifted(scratch, rows), 48, shifted(scratch, columns), 80, c1 - c0, width)
        for r in range(r0, r1):
            for c in range(c0, c1):
                out[(batch * pitch + r) * count + c] = scratch[columns + (r - r0) * 80 + c - c0]
        EPILOGUE


def sample_many_rows(x: Pointer, index: Pointer, weight: Pointer, out: Pointer, channels: int, size: int, count: int,
                     width: int, taps: int, block: int, sn: int, sk: int, so: int, wn: int, wk: int, wo: int,
                     begin: int, end: int, worker: int) -> None:
    """`sample_rows` for many places: four at a time where they are all inside."""
    blocks = index_div(count + block - 1, block)
    for item in range(begin, end):
        batch, r0, r1, n, first = places_of(item, blocks, block, count, channels, size * width)
        pitch = width
        for o in range(r0, r1):
            y = (batch * count + o) * width
            for j in range(width):
                out[y + j] = T(0)
            for k in range(0, taps, 4):
                q = n * sn + k * sk + o * so
                u = n * wn + k * wk + o * wo
                four = k + 4 <= taps
                step = select(four, sk, 0)
                i0 = index[q]
                i1 = index[q + step]
                i2 = index[q + 2 * step]
                i3 = index[q + 3 * step]
                least = min(min(i0, i1), min(i2, i3))
                most = max(max(i0, i1), max(i2, i3))
                if four & (least >= 0) & (most < size):
                    w0 = weight[u]
                    w1 = weight[u + wk]
                    w2 = weight[u + 2 * wk]
                    w3 = weight[u + 3 * wk]
                    p0 = first + i0 * pitch
                    p1 = first + i1 * pitch
                    p2 = first + i2 * pitch
                    p3 = first + i3 * pitch
                    for j in range(width):
                        out[y + j] = (out[y + j] + w0 * x[p0 + j] + w1 * x[p1 + j] + w2 * x[p2 + j]
                                      + w3 * x[p3 + j])
                else:
                    add_rows(x, index, weight, out, first, pitch, width, size, min(4, taps - k), q, sk, u, wk, y)
        c0 = 0
        c1 = width
        EPILOGUE


def sample_rows_grad(g: Pointer, index: Pointer, weight: Pointer, gx: Pointer, channels: int, size: int, count: int,
                     inner: int, taps: int, block: int, sn: int, sk: int, so: int, wn: int, wk: int, wo: int,
                     begin: int, end: int, worker: int) -> None:
    """gx[n, c, index[n, k, o], :] += weight[n, k, o] * g[n, c, o, :], from 0; an item is a block of columns of one
    plane."""
    blocks = index_div(inner + block - 1, block)
    for item in range(begin, end):
        plane = index_div(item, blocks)
        j0 = index_mod(item, blocks) * block
        j1 = min(j0 + block, inner)
        n = index_div(plane, channels)
        for i in range(size):
            for j in range(j0, j1):
                gx[(plane * size + i) * inner + j] = T(0)
        for o in range(count):
            y = (plane * count + o) * inner
            for k in range(taps):
                i = index[n * sn + k * sk + o * so]
                if (i >= 0) & (i < size):
                    w = weight[n * wn + k * wk + o * wo]
                    p = (plane * size + i) * inner
                    for j in range(j0, j1):
                        gx[p + j] += w * g[y + j]


def sample_places_grad(g: Pointer, index: Pointer, weight: Pointer, gx: Pointer, channels: int, size: int, count: int,
                       taps: int, begin: int, end: int, worker: int) -> None:
    """`sample_rows_grad` where a row is one element; an item is a plane."""
    for plane in range(begin, end):
        n = index_div(plane, channels)
        for i in range(plane * size, plane * size + size):
            gx[i] = T(0)
        for o in range(count):
            v = g[plane * count + o]
            for k in range(taps):
                q = (n * taps + k) * count + o
                i = index[q]
                if (i >= 0) & (i < size):
                    gx[plane * size + i] += weight[q] * v


def sample_weights_grad(x: Pointer, index: Pointer, g: Pointer, out: Pointer, channels: int, size: int, count: int,
                        taps: int, block: int, begin: int, end: int, worker: int) -> None:
    """out[n, k, o] = sum over c of g[n, c, o] * x[n, c, index[n, k, o]]; an item is a block of o of one n."""
    blocks = index_div(count + block - 1, block)
    for item in range(begin, end):
        n = index_div(item, blocks)
        o0 = index_mod(item, blocks) * block
        o1 = min(o0 + block, count)
        for k in range(taps):
            q = (n * taps + k) * count
            for o in range(o0, o1):
                out[q + o] = T(0)
            for c in range(n * channels, n * channels + channels):
                for o in range(o0, o1):
                    i = index[q + o]
                    inside = (i >= 0) & (i < size)
                    out[q + o] += select(inside, x[c * size + select(inside, i, 0)], T(0)) * g[c * count + o]


def sample_row_weights_grad(x: Pointer, index: Pointer, g: Pointer, out: Pointer, channels: int, size: int, count: int,
                            inner: int, taps: int, block: int, sn: int, sk: int, so: int, begin: int, end: int,
                            worker: int) -> None:
    """out[n, k, o] = sum over c and r of g[n, c, o, r] * x[n, c, index[n, k, o], r]; an item is a block of o."""
    blocks = index_div(count + block - 1, block)
    for item in range(begin, end):
        n = index_div(item, blocks)
        o0 = index_mod(item, blocks) * block
        for o in range(o0, min(o0 + block, count)):
            for k in range(taps):
                i = index[n * sn + k * sk + o * so]
                total = T(0)
                if (i >= 0) & (i < size):
                    for c in range(n * channels, n * channels + channels):
                        p = (c * size + i) * inner
                        y = (c * count + o) * inner
                        for j in range(inner):
                            total = reassoc_add(total, g[y + j] * x[p + j])
                out[(n * taps + k) * count + o] = total


def _check(low: Lowering) -> None:
    if low.outputs[0].dtype not in (dtypes.float32, dtypes.float64):
        raise NotImplementedError("only float32 and float64")


TURNED = (0, 3, 2, 1)
"""How planes [n, channels, size, 1] are seen as rows of channels, and those as planes."""


def _as_rows(channels: int, size: int, inner: int, taps: int, count: int) -> bool:
    """Is it worth while to turn planes into rows: are as many elements named as there are?"""
    return inner == 1 and channels >= MANY_CHANNELS and taps > 1 and taps * count >= size


def _row_holes(c: str, taps: int) -> dict[str, str]:
    if not taps:
        return {"OFFSETS": "pass", "EVERY": "False", "VALUE": f"{c}(0)", "T": c}
    offsets = "\n".join(f"i{k} = index[q + {k} * sk]\nw{k} = weight[u + {k} * wk]\n"
                        f"p{k} = first + i{k} * pitch" for k in range(taps))
    every = " & ".join(f"(i{k} >= 0) & (i{k} < size)" for k in range(taps))
    return {"OFFSETS": offsets, "EVERY": every, "VALUE": " + ".join(f"w{k} * x[p{k} + j]" for k in range(taps)), "T": c}


def sample(low: Lowering) -> None:
    """Rows are summed over index and weight as they lie; elements over contiguous ones, in vectors."""
    _check(low)
    out = low.outputs[0]
    if not out.numel:
        return
    x, index, weight = low.inputs
    n, channels, size, inner = x.shape
    taps, count = index.shape[1:]
    if not size:
        zero(low, out)
        return
    p = pointer(x.dtype)
    c = conversion(x.dtype)
    if inner > 1:
        x = contiguous(low, x)
        many = taps > UNROLLED
        block = max(1, min(count, 16384 // (inner * (taps if many else 1))))
        epilogue = low.fuse(n * channels, count, inner)
        low.call(sample_many_rows if many else sample_rows,
                 [("x", p, x.arg), ("index", "p:int64", index.arg), ("weight", p, weight.arg), ("out", p, out.arg),
                  *integers("channels size count width taps block", channels, size, count, inner, taps, block),
                  *integers("sn sk so wn wk wo", *index.strides, *weight.strides)], n * channels * -(-count // block),
                 grain_of(block * (5 + inner * taps * 0.1)),
                 holes={"T": c} if many else _row_holes(c, taps), epilogue=epilogue)
        return
    if _as_rows(channels, size, inner, taps, count) and taps <= UNROLLED:
        x = contiguous(low, x.permuted(TURNED))
        size_of = x.dtype.itemsize
        low.call(sample_channels,
                 [("x", p, x.arg), ("index", "p:int64", index.arg), ("weight", p, weight.arg), ("out", p, out.arg),
                  ("scratch", p, ("scratch",)), ("scratch_stride", "i", ("scratch_stride",)),
                  *integers("pitch size count taps", channels, size, count, taps),
                  *integers("sn sk so wn wk wo", *index.strides, *weight.strides)],
                 n * -(-channels // 32) * -(-count // 64), grain_of(64 * (5 + 32 * taps * 0.1)),
                 (64 * 48 + 32 * 80) * size_of, holes={**_row_holes(c, taps), "SIZE": str(size_of)},
                 epilogue=low.fuse(n, channels, count))
        return
    x, index, weight = contiguous(low, x), contiguous(low, index), contiguous(low, weight)
    block = max(1, min(count, BLOCK // max(taps, 1)))
    some = max(1, min(channels, BLOCK // block, -(-n * channels * -(-count // block) // 16)))
    low.call(sample_places, [("x", p, x.arg), ("index", "p:int64", index.arg), ("weight", p, weight.arg),
                             ("out", p, out.arg), *integers("channels size count taps some block", channels, size,
                                                            count, taps, some, block)],
             n * -(-channels // some) * -(-count // block), grain_of(some * block * taps * 0.7),
             holes={"SUMS": _unrolled(taps, f"{c}(0)") if 0 < taps <= UNROLLED else IN_TURN, "T": c},
             epilogue=low.fuse(n, channels, count))


def sample_input_grad(low: Lowering) -> None:
    _check(low)
    out = low.outputs[0]
    if not out.numel:
        return
    g, index, weight = low.inputs
    n, channels, size, inner = out.shape
    taps, count = index.shape[1:]
    p, holes = pointer(g.dtype), {"T": conversion(g.dtype)}
    result = out
    if _as_rows(channels, size, inner, taps, count):
        g, channels, inner = g.permuted(TURNED), 1, channels
        result = low.temp(out.dtype, (n, 1, size, inner))
    g = contiguous(low, g)
    if inner == 1:
        index, weight = contiguous(low, index), contiguous(low, weight)
    args = [("g", p, g.arg), ("index", "p:int64", index.arg), ("weight", p, weight.arg), ("gx", p, result.arg)]
    if inner == 1:
        low.call(sample_places_grad, [*args, *integers("channels size count taps", channels, size, count, taps)],
                 n * channels, grain_of(size * 0.1 + count * taps * 1.0), holes=holes)
        return
    block = min(inner, 256)
    low.call(sample_rows_grad, [*args, *integers("channels size count inner taps block", channels, size, count, inner,
                                                 taps, block),
                                *integers("sn sk so wn wk wo", *index.strides, *weight.strides)],
             n * channels * -(-inner // block), grain_of((size + count * taps) * (2 + block * 0.1)), holes=holes)
    if result is not out:
        copy(low, result.permuted(TURNED), out)


def sample_weight_grad(low: Lowering) -> None:
    _check(low)
    out = low.outputs[0]
    if not out.numel:
        return
    x, index, g = low.inputs
    n, channels, size, inner = x.shape
    taps, count = index.shape[1:]
    p, holes = pointer(x.dtype), {"T": conversion(x.dtype)}
    if not size:
        zero(low, out)
        return
    if _as_rows(channels, size, inner, taps, count):
        x, g, channels, inner = x.permuted(TURNED), g.permuted(TURNED), 1, channels
    x, g = contiguous(low, x), contiguous(low, g)
    if inner == 1:
        index = contiguous(low, index)
    args = [("x", p, x.arg), ("index", "p:int64", index.arg), ("g", p, g.arg), ("out", p, out.arg)]
    if inner > 1:
        block = min(count, 128)
        low.call(sample_row_weights_grad, [*args, *integers("channels size count inner taps block sn sk so", channels,
                                                            size, count, inner, taps, block, *index.strides)],
                 n * -(-count // block), grain_of(block * taps * (5 + channels * inner * 0.1)), holes=holes)
        return
    block = min(count, 1024)
    low.call(sample_weights_grad, [*args, *integers("channels size count taps block", channels, size, count, taps,
                                                    block)],
             n * -(-count // block), grain_of(block * taps * channels * 0.7), holes=holes)
