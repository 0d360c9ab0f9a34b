# ruff: noqa: B007, B018, F841  the kernels have holes, and what is filled in uses the names
"""Convolutions: unrolled windows in the cache, and products in registers or by BLAS on them.

All kernels are written for three spatial axes; fewer are leading axes of size 1. Columns are never made for a whole
image: an item unrolls the windows of some output rows and some channels into its worker's scratch memory and
multiplies.

What is cut where depends on sizes alone, and sums are taken in a fixed order, so the number of threads does not matter.
"""
from __future__ import annotations

from math import prod

from jtorch import dtypes
from jtorch.codegen.library import conv_direct, conv_small, conv_strided, conv_winograd, conv_winograd_strips
from jtorch.codegen.library import gemm as gemm_library
from jtorch.codegen.library.call import Arg, Lowering, Operand, grain_of, pointer, row_major
from jtorch.codegen.library.conv_columns import LINE_STRIPS, OFFSETS_LINES, STRIPS, TILES, WHOLE, split_by, split_size
from jtorch.codegen.library.conv_window import Window, holes_of, step, stride_text, strides_of, window_of
from jtorch.codegen.library.copy import contiguous, converted, copy, zero
from jtorch.codegen.library.gemm_layout import FLOPS_PER_NS, round_up
from jtorch.codegen.library.kernel_text import inline
from jtorch.codegen.library.language import (
    OFFSETS,
    SIZE,
    SX,
    Pointer,
    T,
    addr_of,
    call_gemm_T,
    index_div,
    index_mod,
    product_tile,
    reassoc_add,
    shifted,
    tile_columns,
    tile_rows,
)

COLUMNS = 200_000
"""Elements of a block of columns: less than a megabyte of float32, to stay in a second-level cache."""

DEPTH = 512
"""Rows of columns (channels x window) that are multiplied at a time, at least where there are as many."""

ITEMS = 16
"""Pieces that work is cut into where that costs something."""

PARTIAL_SUMS = 1 << 22
"""Elements of memory for the weight gradient's partial sums."""

MARGIN = 64
"""Elements behind the columns that the last tile may read."""

PLACES = 512
"""Output places whose operands stay in the cache while the weight gradient is summed."""

WHOLE_TILES = 96
"""A multiple of the columns of a tile, on any CPU."""

HIGH = 8
"""Output rows of a piece of an image, to those of the input that it shares with the next."""

BLOCK_FLOPS = 2e6
"""An image is not cut into items of less work than this."""



def window_columns(x: Pointer, col: Pointer, offsets: Pointer, split: Pointer, scratch_stride: int, groups: int,
                   cg: int, depth: int, height: int, width: int, kd: int, kh: int, kw: int, sd: int, sh: int, sw: int,
                   pd: int, ph: int, pw: int, dd: int, dh: int, dw: int, od: int, oh: int, ow: int, xn: int, xc: int,
                   xd: int, xh: int, xw: int, residues: int, strips: int, begin: int, end: int, worker: int) -> None:
    """The columns of whole images for `tile_blocks`; an item is a channel of an output slice of an image."""
    y0 = 0
    apart = index_div(worker * scratch_stride, SIZE)
    if begin == 0:
        at = 0
        OFFSETS
    for item in range(begin, end):
        c = index_mod(item, groups * cg)
        q = index_div(item, groups * cg)
        z = index_mod(q, od)
        i = index_div(q, od)
        line = item * kw * kd * residues * strips * ow
        STRIPS


def tile_blocks(w: Pointer, y: Pointer, col: Pointer, offsets: Pointer, groups: int, cg: int, og: int, k: int, od: int,
                plane: int, span: int, outs: int, pixels: int, begin: int, end: int, worker: int) -> None:
    """y = w times the columns that `window_columns` made. An item is a block of `outs` output channels and `pixels`
    output places of an output slice (`plane` places, `span` elements of columns per channel) of an image."""
    pixel_blocks = index_div(plane + pixels - 1, pixels)
    out_blocks = index_div(og + outs - 1, outs)
    for item in range(begin, end):
        p0 = index_mod(item, pixel_blocks) * pixels
        q = index_div(item, pixel_blocks)
        o0 = index_mod(q, out_blocks) * outs
        q = index_div(q, out_blocks)
        z = index_mod(q, od)
        q = index_div(q, od)
        g = index_mod(q, groups)
        i = index_div(q, groups)
        p1 = min(p0 + pixels, plane)
        o1 = min(o0 + outs, og)
        base = ((i * od + z) * groups + g) * cg * span
        result = (i * groups + g) * og * od * plane + z * plane
        TILES


def strip_blocks(x: Pointer, w: Pointer, y: Pointer, col: Pointer, offsets: Pointer, split: Pointer,
                 scratch_stride: int, table: int, groups: int, cg: int, og: int, depth: int, height: int, width: int,
                 kd: int, kh: int, kw: int, sd: int, sh: int, sw: int, pd: int, ph: int, pw: int, dd: int, dh: int,
                 dw: int, od: int, oh: int, ow: int, xn: int, xc: int, xd: int, xh: int, xw: int, k: int, residues: int,
                 strips: int, rows: int, begin: int, end: int, worker: int) -> None:
    """y = convolution(x, w). An item is a block of `rows` output rows of one output slice of one image and group; its
    columns, and behind them the table of offsets, are made in the worker's scratch memory."""
    apart = index_div(worker * scratch_stride, SIZE)
    row_blocks = index_div(oh + rows - 1, rows)
    span = kw * kd * residues * strips * ow
    plane = oh * ow
    base = index_div(worker * scratch_stride, SIZE)
    first = index_div(worker * scratch_stride + table, 8)
    at = first
    OFFSETS
    for item in range(begin, end):
        y0 = index_mod(item, row_blocks) * rows
        q = index_div(item, row_blocks)
        z = index_mod(q, od)
        q = index_div(q, od)
        g = index_mod(q, groups)
        i = index_div(q, groups)
        line = base
        for c in range(g * cg, g * cg + cg):
            STRIPS
        p0 = 0
        p1 = min(rows, oh - y0) * ow
        o0 = 0
        o1 = og
        result = (i * groups + g) * og * od * plane + z * plane + y0 * ow
        TILES


@inline
def reach_of(e: int, dw: int, pw: int, sw: int, width: int, ow: int) -> tuple[int, int, int]:
    """How far the window's column e is to the right of the output's column 0, and the columns of the output for which
    it lies inside of the input."""
    shift = e * dw - pw
    lo = min(ow, max(0, (sw - 1 - shift) // sw))
    hi = max(lo, min(ow, (width - 1 - shift) // sw + 1))
    return shift, lo, hi


def conv_input_blocks(gemm: int, gy: Pointer, w: Pointer, gx: Pointer, scratch: Pointer, scratch_stride: int,
                      groups: int, cg: int, og: int, depth: int, height: int, width: int, kd: int, kh: int, kw: int,
                      sd: int, sh: int, sw: int, pd: int, ph: int, pw: int, dd: int, dh: int, dw: int, od: int,
                      oh: int, ow: int, channels: int, rows: int, begin: int, end: int, worker: int) -> None:
    """gx = the x-derivative. An item is a block of input channels of one image: the columns' gradient by a product,
    for some output rows at a time, added into the places that the windows came from."""
    window = kd * kh * kw
    out_rows = od * oh
    plane = out_rows * ow
    volume = depth * height * width
    channel_blocks = index_div(cg + channels - 1, channels)
    columns = index_div(worker * scratch_stride, SIZE)
    for item in range(begin, end):
        first = index_mod(item, channel_blocks) * channels
        last = min(first + channels, cg)
        q = index_div(item, channel_blocks)
        g = index_mod(q, groups)
        i = index_div(q, groups)
        base = (i * groups + g) * cg * volume
        for j in range(base + first * volume, base + last * volume):
            gx[j] = T(0.0)
        for r0 in range(0, out_rows, rows):
            r1 = min(r0 + rows, out_rows)
            count = (r1 - r0) * ow
            call_gemm_T(gemm, 1, 0, (last - first) * window, count, og, T(1.0), addr_of(w,
                                                                                        (g * og * cg + first) * window),
                        cg * window, addr_of(gy, (i * groups + g) * og * plane + r0 * ow), plane, T(0.0),
                        addr_of(scratch, columns), count)
            line = columns
            for c in range(first, last):
                for a in range(kd):
                    for b in range(kh):
                        for e in range(kw):
                            shift, lo, hi = reach_of(e, dw, pw, sw, width, ow)
                            z = index_div(r0, oh)
                            row = r0 - z * oh
                            for r in range(r0, r1):
                                iz = z * sd - pd + a * dd
                                iy = row * sh - ph + b * dh
                                if (iz >= 0) & (iz < depth) & (iy >= 0) & (iy < height):
                                    target = base + ((c * depth + iz) * height + iy) * width + shift
                                    for j in range(lo, hi):
                                        gx[target + SX] = gx[target + SX] + scratch[line + j]
                                line += ow
                                row += 1
                                if row == oh:
                                    row = 0
                                    z += 1


def conv_weight_blocks(gemm: int, gy: Pointer, x: Pointer, gw: Pointer, scratch: Pointer, scratch_stride: int,
                       groups: int, cg: int, og: int, depth: int, height: int, width: int, kd: int, kh: int, kw: int,
                       sd: int, sh: int, sw: int, pd: int, ph: int, pw: int, dd: int, dh: int, dw: int, od: int,
                       oh: int, ow: int, xn: int, xc: int, xd: int, xh: int, xw: int, n: int, images: int,
                       channels: int, rows: int, begin: int, end: int, worker: int) -> None:
    """gw[piece] = the w-derivative, summed over a piece of `images` images. An item is a block of input channels of one
    group and one piece."""
    window = kd * kh * kw
    out_rows = od * oh
    plane = out_rows * ow
    channel_blocks = index_div(cg + channels - 1, channels)
    columns = index_div(worker * scratch_stride, SIZE)
    for item in range(begin, end):
        first = index_mod(item, channel_blocks) * channels
        last = min(first + channels, cg)
        q = index_div(item, channel_blocks)
        g = index_mod(q, groups)
        piece = index_div(q, groups)
        beta = T(0.0)
        for i in range(piece * images, min(piece * images + images, n)):
            for r0 in range(0, out_rows, rows):
                r1 = min(r0 + rows, out_rows)
                count = (r1 - r0) * ow
                line = columns
                for c in range(first, last):
                    for a in range(kd):
                        for b in range(kh):
                            for e in range(kw):
                                shift, lo, hi = reach_of(e, dw, pw, sw, width, ow)
                                z = index_div(r0, oh)
                                row = r0 - z * oh
                                for r in range(r0, r1):
                                    iz = z * sd - pd + a * dd
                                    iy = row * sh - ph + b * dh
                                    if (iz >= 0) & (iz < depth) & (iy >= 0) & (iy < height):
                                        source = i * xn + (g * cg + c) * xc + iz * xd + iy * xh + shift * xw
                                        for j in range(line, line + lo):
                                            scratch[j] = T(0.0)
                                        for j in range(lo, hi):
                                            scratch[line + j] = x[source + SX]
                                        for j in range(line + hi, line + ow):
                                            scratch[j] = T(0.0)
                                    else:
                                        for j in range(line, line + ow):
                                            scratch[j] = T(0.0)
                                    line += ow
                                    row += 1
                                    if row == oh:
                                        row = 0
                                        z += 1
                call_gemm_T(gemm, 0, 1, og, (last - first) * window, count, T(1.0),
                            addr_of(gy, (i * groups + g) * og * plane + r0 * ow), plane, addr_of(scratch, columns),
                            count, beta, addr_of(gw, ((piece * groups + g) * og * cg + first) * window), cg * window)
                beta = T(1.0)


def channels_last(x: Pointer, xt: Pointer, offsets: Pointer, groups: int, cg: int, depth: int, height: int, width: int,
                  sd: int, sh: int, sw: int, pd: int, ph: int, pw: int, od: int, oh: int, ow: int, xn: int, xc: int,
                  xd: int, xh: int, xw: int, td: int, th: int, tw: int, begin: int, end: int, worker: int) -> None:
    """xt[image, group, td, th, tw, channel] = x with its padding; an item is a row of it. And the table of where the
    window of each output place begins."""
    if begin == 0:
        at = 0
        for z in range(od):
            for row in range(oh):
                for j in range(ow):
                    offsets[at] = ((z * sd * th + row * sh) * tw + j * sw) * cg
                    at += 1
    for item in range(begin, end):
        iy = index_mod(item, th) - ph
        q = index_div(item, th)
        iz = index_mod(q, td) - pd
        q = index_div(q, td)
        g = index_mod(q, groups)
        i = index_div(q, groups)
        line = item * tw * cg
        lo = max(0, min(tw, pw))
        hi = max(lo, min(tw, width + pw))
        if (iz < 0) | (iz >= depth) | (iy < 0) | (iy >= height):
            lo = tw
            hi = tw
        for j in range(line, line + lo * cg):
            xt[j] = T(0.0)
        for c in range(cg):
            source = i * xn + (g * cg + c) * xc + iz * xd + iy * xh - pw * xw
            for j in range(lo, hi):
                xt[line + j * cg + c] = x[source + j * xw]
        for j in range(line + hi * cg, line + tw * cg):
            xt[j] = T(0.0)


def weight_tiles(gy: Pointer, xt: Pointer, offsets: Pointer, parts: Pointer, groups: int, cg: int, og: int, kd: int,
                 kh: int, dd: int, dh: int, runs: int, run: int, run_step: int, td: int, th: int, tw: int, plane: int,
                 n: int, images: int, outs: int, places: int, begin: int, end: int, worker: int) -> None:
    """parts[piece, group, o, window, channel] = gy times xt, summed over a piece of `images` images. An item is `outs`
    output channels and a row of the window of a group and a piece. A row of the window meets `runs` contiguous runs of
    `run` elements of xt, `run_step` apart; `places` output places are taken at a time, to stay in the cache."""
    out_blocks = index_div(og + outs - 1, outs)
    length = kd * kh * runs * run
    for item in range(begin, end):
        b = index_mod(item, kh)
        q = index_div(item, kh)
        a = index_mod(q, kd)
        q = index_div(q, kd)
        o0 = index_mod(q, out_blocks) * outs
        q = index_div(q, out_blocks)
        g = index_mod(q, groups)
        piece = index_div(q, groups)
        o1 = min(o0 + outs, og)
        for i in range(piece * images, min(piece * images + images, n)):
            base = ((i * groups + g) * td + a * dd) * th * tw * cg + b * dh * tw * cg
            for p in range(0, plane, places):
                for e in range(runs):
                    for c in range(0, run, tile_columns(xt)):
                        target = (a * kh + b) * runs * run + e * run + c
                        for o in range(o0, o1, tile_rows(xt)):
                            product_tile(shifted(gy, ((i * groups + g) * og + o) * plane + p), plane,
                                         shifted(xt, base + e * run_step + c), shifted(offsets, p),
                                         min(places, plane - p),
                                         shifted(parts, ((piece * groups + g) * og + o) * length + target), length,
                                         min(tile_rows(xt), o1 - o), min(tile_columns(xt), run - c),
                                         (i > piece * images) | (p > 0))


def conv_weight_direct(gy: Pointer, x: Pointer, gw: Pointer, groups: int, cg: int, og: int, depth: int, height: int,
                       width: int, kd: int, kh: int, kw: int, sd: int, sh: int, sw: int, pd: int, ph: int, pw: int,
                       dd: int, dh: int, dw: int, od: int, oh: int, ow: int, xn: int, xc: int, xd: int, xh: int,
                       xw: int, n: int, begin: int, end: int, worker: int) -> None:
    """gw = the w-derivative by plain loops; an item is one output channel and one input channel of its group."""
    for item in range(begin, end):
        channel = index_div(item, cg)
        c = index_mod(item, cg) + index_div(channel, og) * cg
        for a in range(kd):
            for b in range(kh):
                for e in range(kw):
                    shift, lo, hi = reach_of(e, dw, pw, sw, width, ow)
                    total = T(0.0)
                    for i in range(n):
                        for z in range(od):
                            iz = z * sd - pd + a * dd
                            for row in range(oh):
                                iy = row * sh - ph + b * dh
                                if (iz >= 0) & (iz < depth) & (iy >= 0) & (iy < height):
                                    source = i * xn + c * xc + iz * xd + iy * xh + shift * xw
                                    place = (((i * groups * og + channel) * od + z) * oh + row) * ow
                                    acc = T(0.0)
                                    for j in range(lo, hi):
                                        acc = reassoc_add(acc, gy[place + j] * x[source + SX])
                                    total += acc
                    gw[((item * kd + a) * kh + b) * kw + e] = total


def sum_pieces(parts: Pointer, out: Pointer, n: int, pieces: int, block: int, begin: int, end: int,
               worker: int) -> None:
    """out[i] = sum over the first axis of parts[pieces, n], in order; an item is a block of i."""
    for item in range(begin, end):
        i0 = item * block
        i1 = min(i0 + block, n)
        for i in range(i0, i1):
            out[i] = parts[i]
        for p in range(1, pieces):
            for i in range(i0, i1):
                out[i] = out[i] + parts[p * n + i]


def scratch_args(p: str) -> list[tuple[str, str, Arg]]:
    return [("scratch", p, ("scratch",)), ("scratch_stride", "i", ("scratch_stride",))]


def routine(d: object) -> Arg:
    return ("symbol", "dgemm" if d is dtypes.float64 else "sgemm")


def widened(low: Lowering, operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
    """Half operands converted to float32; other dtypes that BLAS does not know are refused."""
    d = operands[0].dtype
    if d in (dtypes.float16, dtypes.bfloat16):
        return tuple([converted(low, x, dtypes.float32, barrier=i == 0) for i, x in enumerate(operands)])
    if d not in (dtypes.float32, dtypes.float64):
        raise NotImplementedError(f"a convolution of {d.name}")
    return operands


def convolution(low: Lowering) -> None:
    x, w = widened(low, low.inputs)
    out = low.outputs[0]
    if not out.numel:
        return
    v = window_of(x.shape, w.shape, out.shape, low.node.kwargs)
    if out.dtype is x.dtype:
        forward(low, v, x, contiguous(low, w), out, fused=True)
    else:
        y = low.temp(x.dtype, out.shape)
        forward(low, v, x, contiguous(low, w), y)
        copy(low, y, out)


def forward(low: Lowering, v: Window, x: Operand, w: Operand, out: Operand, fused: bool = False) -> None:
    """out = convolution(x, w); w and out are contiguous."""
    if v.depth == 0:
        zero(low, out)
    elif v.is_pointwise and x.has_contiguous(2):
        pointwise(low, v, x, w, out, fused)
    elif v.is_direct:
        conv_direct.forward(low, v, x, w, out, fused)
    elif conv_small.suits_forward(v):
        conv_small.forward(low, v, x, w, out, fused)
    elif conv_winograd_strips.suits(v, out.dtype):
        conv_winograd_strips.forward(low, v, x, w, out, fused)
    elif conv_winograd.suits(v, out.dtype):
        conv_winograd.forward(low, v, x, w, out, fused)
    else:
        blocked(low, v, x, w, out, fused)


def pointwise(low: Lowering, v: Window, x: Operand, w: Operand, out: Operand, fused: bool) -> None:
    """A window of one element: a product of matrices as they are."""
    xs = Operand(x.place, x.dtype, (v.n, v.groups, v.cg, v.plane),
                 (x.strides[0], x.strides[1] * v.cg, x.strides[1], 1), x.offset)
    ws = Operand(w.place, w.dtype, (v.n, v.groups, v.og, v.cg), (0, v.og * v.cg, v.cg, 1), w.offset)
    gemm_library.product(low, ws, xs, out.reshaped((v.n, v.groups, v.og, v.plane)), fused)


def blocked(low: Lowering, v: Window, x: Operand, w: Operand, out: Operand, fused: bool) -> None:
    """Columns in each worker's cache where there are slices of images, or high pieces of them, enough to share, else
    first all of them. Signals are upright: the window's places along the height need no copies."""
    size, sw = out.dtype.itemsize, v.stride[2]
    is_split = 1 < sw <= 4 and v.kernel[2] > 1 and x.strides[-1] == 1 and \
        v.spatial[0] == v.kernel[0] == v.out[0] == 1 and v.spatial[1] > 1
    holes = {"STRIPS": STRIPS, "TILES": TILES, "OFFSETS": OFFSETS_LINES, **(split_by(sw) if is_split else WHOLE),
             **holes_of(out.dtype, SX=step(x, v))}
    if v.spatial[:2] == v.kernel[:2] == v.out[:2] == (1, 1):
        holes |= {"STRIPS": LINE_STRIPS, "SX": step(x, v).replace("sw", "sh").replace("xw", "xh")}
        v, x = v.turned(), Operand(x.place, x.dtype, (*x.shape, 1), (*x.strides, 0), x.offset)
    halo = ((v.kernel[1] - 1) * v.dilation[1]) // v.stride[1]
    residues = min(v.stride[1], (v.kernel[1] - 1) * v.dilation[1] + 1)
    strip = v.kernel[2] * v.kernel[0] * residues * v.out[2]  # elements of columns per channel and output row
    epilogue = low.fuse(v.n * v.groups, v.og, v.plane) if fused else None
    p = pointer(out.dtype)
    slices = v.n * v.groups * v.out[0]
    slice_flops = v.flops / v.out[0]
    rows = max(1, min(v.out[1], COLUMNS // (v.cg * strip) - halo))
    pieces = -(-ITEMS // slices)
    if pieces > 1 and v.out[1] >= pieces * max(HIGH * halo, 2 * WHOLE_TILES / v.out[2]):
        rows = min(rows, -(-v.out[1] // pieces))
    rows = -(-v.out[1] // -(-v.out[1] // rows))  # of even size
    if slices * -(-v.out[1] // rows) >= ITEMS and (rows > halo or rows == v.out[1]):
        strips = rows + halo
        table = round_up((v.cg * strip * strips + MARGIN) * size, 64)
        split = table + round_up(v.depth * 8, 64)
        low.call(strip_blocks, [("x", p, x.arg), ("w", p, w.arg), ("y", p, out.arg), ("col", p, ("scratch",)),
                                ("offsets", "p:int64", ("scratch",)), ("split", p, ("scratch", split)),
                                ("scratch_stride", "i", ("scratch_stride",)), ("table", "i", table), *v.integers(),
                                *strides_of(x), ("k", "i", v.depth),
                                ("residues", "i", residues), ("strips", "i", strips), ("rows", "i", rows)],
                 slices * -(-v.out[1] // rows), grain_of(slice_flops * rows / v.out[1] / FLOPS_PER_NS),
                 split + is_split * split_size(v, strips, residues) * size,
                 holes={**holes, "FIRST": "first", "COLUMN": "z * plane + y0 * ow"},
                 epilogue=epilogue)
        return
    strips = v.out[1] + halo
    span, plane = strip * strips, v.out[1] * v.out[2]
    columns, offsets = low.temp(out.dtype, (slices * v.cg * span + MARGIN,)), low.temp(dtypes.int64, (v.depth,))
    low.call(window_columns, [("x", p, x.arg), ("col", p, columns.arg), ("offsets", "p:int64", offsets.arg),
                              ("split", p, ("scratch",)), ("scratch_stride", "i", ("scratch_stride",)),
                              *v.integers(with_og=False), *strides_of(x), ("residues", "i", residues),
                              ("strips", "i", strips)],
             slices * v.cg, grain_of(span * 0.2), is_split * split_size(v, strips, residues) * size, holes=holes)
    pixels, outs = place_blocks(plane, v.og, slices, slice_flops)
    low.call(tile_blocks, [("w", p, w.arg), ("y", p, out.arg), ("col", p, columns.arg),
                           ("offsets", "p:int64", offsets.arg),
                           *((name, "i", value) for name, value in (
                               ("groups", v.groups), ("cg", v.cg), ("og", v.og), ("k", v.depth), ("od", v.out[0]),
                               ("plane", plane), ("span", span), ("outs", outs), ("pixels", pixels)))],
             slices * -(-plane // pixels) * -(-v.og // outs), grain_of(2.0 * pixels * outs * v.depth / FLOPS_PER_NS),
             holes={**holes, "FIRST": "0", "COLUMN": "z * plane"}, epilogue=epilogue)


def place_blocks(plane: int, outs: int, slices: int, slice_flops: float) -> tuple[int, int]:
    """Output places and channels of an item: `ITEMS` items if they are worth it, places cut first, at whole tiles."""
    wanted = min(ITEMS / slices, slice_flops / BLOCK_FLOPS)
    pieces = max(1, min(int(wanted), plane // WHOLE_TILES))
    pixels = round_up(-(-plane // pieces), WHOLE_TILES)
    pieces = max(1, round(wanted / -(-plane // pixels)))
    return pixels, round_up(-(-outs // pieces), 8)


def input_grad(low: Lowering) -> None:
    gy, w = widened(low, low.inputs)
    out = low.outputs[0]
    if not out.numel:
        return
    v = window_of(out.shape, w.shape, gy.shape, low.node.kwargs)
    gy, w = contiguous(low, gy), contiguous(low, w)
    gx = out if out.dtype is gy.dtype else low.temp(gy.dtype, out.shape)
    if not gy.numel or not v.og:
        zero(low, gx)
    elif conv_small.suits_input_grad(v):
        conv_small.input_grad(low, v, gy, w, gx, fused=gx is out)
    elif v.stride == (1, 1, 1):
        turned = conv_strided.reversed_elements(low, v, w, [range(k) for k in v.kernel])
        forward(low, mirrored(v), gy, turned, gx, fused=gx is out)
    elif conv_strided.suits_input_grad(v):
        conv_strided.input_grad(low, v, gy, w, gx, forward)
    else:
        scattered(low, v, gy, w, gx)
    if gx is not out:
        copy(low, gx, out)


def mirrored(v: Window) -> Window:
    """The convolution over gy that gives the x-derivative when the stride is 1."""
    before = tuple(d * (k - 1) - p for d, k, p in zip(v.dilation, v.kernel, v.before))
    return Window(v.n, v.groups, v.og, v.cg, v.out, v.kernel, v.stride, before, v.dilation, v.spatial)  # type: ignore[arg-type]


def scattered(low: Lowering, v: Window, gy: Operand, w: Operand, gx: Operand) -> None:
    out_rows = v.out[0] * v.out[1]
    channels = min(v.cg, max(1, -(-128 // v.window)))
    if v.n * v.groups * -(-v.cg // channels) < ITEMS:
        channels = max(1, v.n * v.groups * v.cg // ITEMS)
    rows = min(out_rows, max(1, COLUMNS // (channels * v.window * v.out[2])))
    scratch = channels * v.window * rows * v.out[2] * gx.dtype.itemsize
    p = pointer(gx.dtype)
    low.call(conv_input_blocks, [("gemm", "i", routine(gx.dtype)), ("gy", p, gy.arg), ("w", p, w.arg),
                                 ("gx", p, gx.arg),
                                 *scratch_args(p), *v.integers(), ("channels", "i", channels), ("rows", "i", rows)],
             v.n * v.groups * -(-v.cg // channels), grain_of(v.flops * channels / v.cg / FLOPS_PER_NS), scratch,
             holes=holes_of(gx.dtype, SX=stride_text(v.stride[2])))


def weight_grad(low: Lowering) -> None:
    gy, x = widened(low, low.inputs)
    out = low.outputs[0]
    if not out.numel:
        return
    v = window_of(x.shape, out.shape, gy.shape, low.node.kwargs)
    gw = out if out.dtype is gy.dtype else low.temp(gy.dtype, out.shape)
    if not gy.numel:
        zero(low, gw)
    else:
        summed(low, v, contiguous(low, gy), x, gw, fused=gw is out)
    if gw is not out:
        copy(low, gw, out)


def summed(low: Lowering, v: Window, gy: Operand, x: Operand, gw: Operand, fused: bool) -> None:
    """gw, by products over blocks of output rows, added up over images in a fixed order."""
    p = pointer(gw.dtype)
    operands = [("gy", p, gy.arg), ("x", p, x.arg)]
    if v.is_direct:
        low.call(conv_weight_direct, [*operands, ("gw", p, gw.arg), *v.integers(), *strides_of(x), ("n", "i", v.n)],
                 v.groups * v.og * v.cg, grain_of(v.n * v.flops / v.cg / v.og / 10),
                 holes=holes_of(gw.dtype, SX=step(x, v)))
        return
    if v.window > 1 and v.n * v.plane >= PLACES and v.cg >= 8 and v.og >= 4:
        tiled_sums(low, v, gy, x, gw)
        return
    if conv_small.suits_weight_grad(v):
        conv_small.weight_grad(low, v, gy, x, gw, fused)
        return
    channels = min(v.cg, max(1, -(-DEPTH // v.window)))
    items = v.groups * -(-v.cg // channels)
    pieces = max(1, min(v.n, -(-ITEMS // items), PARTIAL_SUMS // gw.numel))
    images = -(-v.n // pieces)
    pieces = -(-v.n // images)
    if items * pieces < ITEMS and v.n * v.flops > 2e6:
        channels = max(1, min(channels, -(-v.cg * items * pieces // ITEMS)), -(-128 // v.window))
        channels = min(channels, v.cg)
    items = v.groups * -(-v.cg // channels) * pieces
    out_rows = v.out[0] * v.out[1]
    rows = min(out_rows, max(1, COLUMNS // (channels * v.window * v.out[2])))
    rows = -(-out_rows // -(-out_rows // rows))
    scratch = channels * v.window * rows * v.out[2] * gw.dtype.itemsize
    target = gw if pieces == 1 else low.temp(gw.dtype, (pieces, *gw.shape))
    low.call(conv_weight_blocks, [("gemm", "i", routine(gw.dtype)), *operands, ("gw", p, target.arg),
                                  *scratch_args(p), *v.integers(),
                                  *strides_of(x), ("n", "i", v.n), ("images", "i", images), ("channels", "i", channels),
                                  ("rows", "i", rows)],
             items, grain_of(v.flops * images * channels / v.cg / FLOPS_PER_NS), scratch,
             holes=holes_of(gw.dtype, SX=step(x, v)))
    if pieces > 1:
        add_pieces(low, target, gw, pieces)


def add_pieces(low: Lowering, parts: Operand, out: Operand, pieces: int) -> None:
    p, block = pointer(out.dtype), 4096
    low.call(sum_pieces, [("parts", p, parts.arg), ("out", p, out.arg), ("n", "i", out.numel), ("pieces", "i", pieces),
                          ("block", "i", block)], -(-out.numel // block), grain_of(block * pieces * 0.1))


def tiled_sums(low: Lowering, v: Window, gy: Operand, x: Operand, gw: Operand) -> None:
    """gw by products in registers, on x with its channels last."""
    p, d = pointer(gw.dtype), gw.dtype
    size = [(o - 1) * s + (k - 1) * r + 1 for o, s, k, r in zip(v.out, v.stride, v.kernel, v.dilation)]
    xt = low.temp(d, (v.n * v.groups * prod(size) * v.cg + MARGIN,))
    offsets = low.temp(dtypes.int64, (v.plane,))
    where = [("td", "i", size[0]), ("th", "i", size[1]), ("tw", "i", size[2])]
    known = {name: (name, kind, value) for name, kind, value in v.integers()}
    low.call(channels_last, [("x", p, x.arg), ("xt", p, xt.arg), ("offsets", "p:int64", offsets.arg),
                             *(known[k] for k in ("groups cg depth height width sd sh sw pd ph pw od oh ow").split()),
                             *strides_of(x), *where],
             v.n * v.groups * size[0] * size[1], grain_of(size[2] * v.cg * 0.6), holes=holes_of(d))
    rows = v.groups * v.kernel[0] * v.kernel[1]
    pieces = max(1, min(v.n, -(-ITEMS // rows), PARTIAL_SUMS // gw.numel))
    images = -(-v.n // pieces)
    pieces = -(-v.n // images)
    outs = v.og
    if rows * pieces < ITEMS:
        outs = min(v.og, round_up(-(-v.og * rows * pieces // ITEMS), 8))
    runs, run = (1, v.kernel[2] * v.cg) if v.dilation[2] == 1 else (v.kernel[2], v.cg)
    shape = (v.groups * v.og, *v.kernel, v.cg)
    parts = low.temp(d, (pieces, *shape))
    flops = 2.0 * outs * v.kernel[2] * v.cg * v.plane * images
    low.call(weight_tiles, [("gy", p, gy.arg), ("xt", p, xt.arg), ("offsets", "p:int64", offsets.arg),
                            ("parts", p, parts.arg), *(known[k] for k in "groups cg og kd kh dd dh".split()),
                            ("runs", "i", runs), ("run", "i", run), ("run_step", "i", v.dilation[2] * v.cg), *where,
                            *((name, "i", value) for name, value in (("plane", v.plane), ("n", v.n), ("images", images),
                                                                     ("outs", outs), ("places", PLACES)))],
             pieces * rows * -(-v.og // outs), grain_of(flops / FLOPS_PER_NS))
    total = parts
    if pieces > 1:
        total = low.temp(d, shape)
        add_pieces(low, parts, total, pieces)
    flat = Operand(total.place, d, shape, row_major(shape))
    copy(low, flat.permuted((0, 4, 1, 2, 3)), gw.reshaped((shape[0], v.cg, *v.kernel)))
