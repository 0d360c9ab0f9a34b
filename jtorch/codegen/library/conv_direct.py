# ruff: noqa: B007, B018, F841  the kernels have holes, and what is filled in uses the names
"""Convolutions without a product of matrices: one channel in a group, or hardly any work."""
from __future__ import annotations

from jtorch.codegen.library.call import Epilogue, Lowering, Operand, grain_of, pointer
from jtorch.codegen.library.conv_window import Window, holes_of, step, stride_text, strides_of
from jtorch.codegen.library.language import (
    COLUMN,
    EPILOGUE,
    ROWS,
    SIZE,
    SX,
    TERMS,
    WEIGHTS,
    Pointer,
    T,
    fma,
    index_div,
    index_mod,
)

STRIP = 1 << 11
"""Elements of padded rows that a depthwise convolution at stride 1 works on at a time: they stay in the first-level
cache."""

UNROLLED = 32
"""Elements of a window up to which its loop is unrolled."""


def conv_direct(x: Pointer, w: Pointer, y: Pointer, groups: int, cg: int, og: int, depth: int, height: int, width: int,
                kd: int, kh: int, kw: int, sd: int, sh: int, sw: int, pd: int, ph: int, pw: int, dd: int, dh: int,
                dw: int, od: int, oh: int, ow: int, xn: int, xc: int, xd: int, xh: int, xw: int, begin: int, end: int,
                worker: int) -> None:
    """y = convolution(x, w) by plain loops; an item is one output channel of one image."""
    for item in range(begin, end):
        i = index_div(item, groups * og)
        channel = index_mod(item, groups * og)
        g = index_div(channel, og)
        for z in range(od):
            for row in range(oh):
                target = ((item * od + z) * oh + row) * ow
                for j in range(target, target + ow):
                    y[j] = T(0.0)
                for c in range(cg):
                    for a in range(kd):
                        iz = z * sd - pd + a * dd
                        for b in range(kh):
                            iy = row * sh - ph + b * dh
                            if (iz >= 0) & (iz < depth) & (iy >= 0) & (iy < height):
                                for e in range(kw):
                                    shift = e * dw - pw
                                    lo = min(ow, max(0, (sw - 1 - shift) // sw))
                                    hi = max(lo, min(ow, (width - 1 - shift) // sw + 1))
                                    source = i * xn + (g * cg + c) * xc + iz * xd + iy * xh + shift * xw
                                    v = w[(((channel * cg + c) * kd + a) * kh + b) * kw + e]
                                    for j in range(lo, hi):
                                        y[target + j] = fma(v, x[source + SX], y[target + j])
        batch = item
        r0 = 0
        r1 = 1
        c0 = 0
        c1 = od * oh * ow
        EPILOGUE


def depthwise_planes(x: Pointer, w: Pointer, y: Pointer, og: int, height: int, width: int, kh: int, kw: int, sh: int,
                     sw: int, ph: int, pw: int, dh: int, dw: int, oh: int, ow: int, xn: int, xc: int, xh: int,
                     channels: int, begin: int, end: int, worker: int) -> None:
    """y = convolution(x, w) with one input channel in a group and two axes; an item is an output channel of an image.
    Where the whole window lies inside, its loop is unrolled."""
    first = max(0, min(ow, (pw + sw - 1) // sw))
    last = max(first, min(ow, (width - 1 - (kw - 1) * dw + pw) // sw + 1))
    for item in range(begin, end):
        channel = index_mod(item, channels)
        base = index_div(item, channels) * xn + index_div(channel, og) * xc
        weights = channel * kh * kw
        WEIGHTS
        for row in range(oh):
            y0 = row * sh - ph
            target = (item * oh + row) * ow
            lo = ow
            hi = ow
            if (y0 >= 0) & (y0 + (kh - 1) * dh < height):
                lo = first
                hi = last
            corner = base + y0 * xh - pw
            for j in range(lo, hi):
                p = corner + COLUMN
                acc = T(0.0)
                TERMS
                y[target + j] = acc
            for part in range(2):
                j0 = part * hi
                j1 = lo
                if part == 1:
                    j1 = ow
                for j in range(j0, j1):
                    acc = T(0.0)
                    for b in range(kh):
                        iy = y0 + b * dh
                        if (iy >= 0) & (iy < height):
                            for e in range(kw):
                                ix = j * sw - pw + e * dw
                                if (ix >= 0) & (ix < width):
                                    acc = fma(w[weights + b * kw + e], x[base + iy * xh + ix], acc)
                    y[target + j] = acc
        batch = item
        r0 = 0
        r1 = 1
        c0 = 0
        c1 = oh * ow
        EPILOGUE


def depthwise_rows(x: Pointer, w: Pointer, y: Pointer, wide: Pointer, scratch_stride: int, og: int, height: int,
                   width: int, kh: int, kw: int, ph: int, pw: int, dh: int, dw: int, oh: int,
                   ow: int, xn: int, xc: int, xh: int, channels: int, pitch: int, rows: int, begin: int, end: int,
                   worker: int) -> None:
    """`depthwise_planes` at stride 1; an item is a block of output rows of an output channel. The rows are padded into
    scratch memory, where the loops meet no edge; four rows of the result share what they read of one."""
    padded = index_div(worker * scratch_stride, SIZE)
    row_blocks = index_div(oh + rows - 1, rows)
    lo = min(pitch, max(0, pw))
    hi = max(lo, min(pitch, width + pw))
    for j in range(padded, padded + (rows + (kh - 1) * dh) * pitch):  # the borders stay as they are for all items
        wide[j] = T(0.0)
    for item in range(begin, end):
        plane = index_div(item, row_blocks)
        y0 = index_mod(item, row_blocks) * rows
        y1 = min(y0 + rows, oh)
        channel = index_mod(plane, channels)
        base = index_div(plane, channels) * xn + index_div(channel, og) * xc
        weights = channel * kh * kw
        WEIGHTS
        for row in range(y1 - y0 + (kh - 1) * dh):
            iy = y0 + row - ph
            line = padded + row * pitch
            if (iy >= 0) & (iy < height):
                for j in range(lo, hi):
                    wide[line + j] = x[base + iy * xh - pw + j]
            else:
                for j in range(lo, hi):
                    wide[line + j] = T(0.0)
        fours = y1 - y0 - index_mod(y1 - y0, 4)
        for row in range(0, fours, 4):
            line = padded + row * pitch
            target = (plane * oh + y0 + row) * ow
            for j in range(ow):
                ROWS
        for row in range(fours, y1 - y0):
            line = padded + row * pitch
            target = (plane * oh + y0 + row) * ow
            for j in range(ow):
                acc = T(0.0)
                TERMS
                y[target + j] = acc
        batch = plane
        r0 = 0
        r1 = 1
        c0 = y0 * ow
        c1 = y1 * ow
        EPILOGUE


def forward(low: Lowering, v: Window, x: Operand, w: Operand, out: Operand, fused: bool) -> None:
    p = pointer(out.dtype)
    epilogue = low.fuse(v.n * v.groups * v.og, 1, v.plane) if fused else None
    if v.cg == 1 and v.kernel[0] == 1 and v.spatial[0] == 1 and v.out[0] == 1 and v.window <= UNROLLED and \
            v.before[0] == 0 and x.strides[-1] == 1:
        depthwise(low, v, x, w, out, epilogue)
        return
    low.call(conv_direct, [("x", p, x.arg), ("w", p, w.arg), ("y", p, out.arg), *v.integers(), *strides_of(x)],
             v.n * v.groups * v.og, grain_of(v.flops / v.og / 20), holes=holes_of(out.dtype, SX=step(x, v)),
             epilogue=epilogue)


def depthwise(low: Lowering, v: Window, x: Operand, w: Operand, out: Operand, epilogue: Epilogue | None) -> None:
    p = pointer(out.dtype)
    places = [(b, e) for b in range(v.kernel[1]) for e in range(v.kernel[2])]
    known = {name: (name, kind, value) for name, kind, value in [*v.integers(), *strides_of(x)]}
    operands = [("x", p, x.arg), ("w", p, w.arg), ("y", p, out.arg)]
    planes = v.n * v.groups * v.og
    weights = "\n".join(f"w{b}_{e} = w[weights + {b * v.kernel[2] + e}]" for b, e in places)

    def terms(source: str, acc: str = "acc") -> str:
        column = "" if v.dilation[2] == 1 else " * dw"
        return "\n".join(f"{acc} = fma(w{b}_{e}, {source.format(b=b)} + {e}{column}], {acc})" for b, e in places)

    if v.stride != (1, 1, 1):
        names = "og height width kh kw sh sw ph pw dh dw oh ow xn xc xh"
        low.call(depthwise_planes, [*operands, *(known[k] for k in names.split()), ("channels", "i", v.groups * v.og)],
                 planes, grain_of(v.flops / v.og / 30), epilogue=epilogue,
                 holes=holes_of(out.dtype, COLUMN=stride_text(v.stride[2]), WEIGHTS=weights,
                                TERMS=terms("x[p + {b} * dh * xh")))
        return
    pitch = v.out[2] + (v.kernel[2] - 1) * v.dilation[2]
    halo = (v.kernel[1] - 1) * v.dilation[1]
    rows = max(1, min(v.out[1], max(halo, STRIP // pitch)))
    together = [f"acc{r} = T(0.0)\n{terms(f'wide[line + j + ({{b}} * dh + {r}) * pitch', f'acc{r}')}\n"
                f"y[target + {r} * ow + j] = acc{r}" for r in range(4)]
    names = "og height width kh kw ph pw dh dw oh ow xn xc xh"
    low.call(depthwise_rows, [*operands, ("wide", p, ("scratch",)), ("scratch_stride", "i", ("scratch_stride",)),
                              *(known[k] for k in names.split()),
                              *((name, "i", value) for name, value in (("channels", v.groups * v.og), ("pitch", pitch),
                                                                       ("rows", rows)))],
             planes * -(-v.out[1] // rows), grain_of(v.flops / v.og * rows / v.out[1] / 40),
             (rows + halo) * pitch * out.dtype.itemsize, epilogue=epilogue,
             holes=holes_of(out.dtype, WEIGHTS=weights, ROWS="\n".join(together),
                            TERMS=terms("wide[line + j + {b} * dh * pitch")))
