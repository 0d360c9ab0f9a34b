"""Convolutions of small images: the places of all images side by side are the columns of one product.

A tile of a product has tens of columns. Where an image has fewer output places, or the weights are larger than
what they are multiplied with, the windows of all images are unrolled first (`place_columns`), and the rest is a product
of matrices that reads the weights where they are.
"""
from __future__ import annotations

from math import gcd

from jtorch.codegen.library import gemm
from jtorch.codegen.library.call import Lowering, Operand, grain_of, pointer, row_major
from jtorch.codegen.library.conv_window import Window, holes_of, strides_of
from jtorch.codegen.library.copy import copy, zero
from jtorch.codegen.library.language import Pointer, T, index_div, index_mod, select

COLUMNS = 1 << 21
"""Elements of unrolled windows up to which they are made for all images at once."""

PLACES = 1024
"""Output places of all images together up to which the weight gradient is one product."""

LANES = 16
"""Places of an image that fill a vector."""


def place_columns(x: Pointer, col: Pointer, table: Pointer, scratch_stride: int, cg: int, n: int, depth: int,
                  height: int, width: int, kd: int, kh: int, kw: int, dd: int, dh: int, dw: int, pd: int, ph: int,
                  pw: int, sd: int, sh: int, sw: int, gd: int, gh: int, gw: int, sign: int, vd: int, vh: int, vw: int,
                  xn: int, xc: int, xd: int, xh: int, xw: int, group_step: int, channel_step: int, window_step: int,
                  begin: int, end: int, worker: int) -> None:
    """The elements of x that each element of the window meets, for all images and the places (gd, gh, gw) of a grid:
    sd, sh, sw apart for neighbours, and sign * floor((window * dilation - padding) / (vd, vh, vw)) from its
    place. An item is a channel; where an element lies in x is the same for all channels and comes from a table."""
    outside = -(1 << 62)
    places = n * gd * gh * gw
    window = kd * kh * kw
    first = index_div(worker * scratch_stride, 8)
    at = first
    for a in range(kd):
        z0 = (a * dd - pd) // vd
        for b in range(kh):
            y0 = (b * dh - ph) // vh
            for e in range(kw):
                x0 = (e * dw - pw) // vw
                for i in range(n):
                    for z in range(gd):
                        iz = z * sd + sign * z0
                        for row in range(gh):
                            iy = row * sh + sign * y0
                            for j in range(gw):
                                ix = j * sw + sign * x0
                                table[at] = outside
                                if (iz >= 0) & (iz < depth) & (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width):
                                    table[at] = i * xn + iz * xd + iy * xh + ix * xw
                                at += 1
    for item in range(begin, end):
        base = item * xc
        line = index_div(item, cg) * group_step + index_mod(item, cg) * channel_step
        for q in range(window):
            for j in range(places):
                t = table[first + q * places + j]
                col[line + q * window_step + j] = select(t > outside, x[base + select(t > outside, t, 0)], T(0.0))


def unrolled(low: Lowering, v: Window, x: Operand, grid: tuple[int, int, int], backward: bool) -> Operand:
    """The columns of x: [group, channel, window, place] for products with w, [group, window, channel, place] with what
    x is the gradient of (`backward`: v is the convolution whose result x is the gradient of)."""
    channels = v.og if backward else v.cg
    places = v.n * grid[0] * grid[1] * grid[2]
    shape = (v.groups, v.window, channels, places) if backward else (v.groups, channels, v.window, places)
    col = low.temp(x.dtype, shape)
    steps = row_major(shape)
    ones = (1, 1, 1)
    values = [channels, v.n, *(v.out if backward else v.spatial), *v.kernel, *v.dilation, *v.before,
              *(ones if backward else v.stride), *grid, -1 if backward else 1, *(v.stride if backward else ones)]
    names = "cg n depth height width kd kh kw dd dh dw pd ph pw sd sh sw gd gh gw sign vd vh vw".split()
    p = pointer(x.dtype)
    low.call(place_columns, [("x", p, x.arg), ("col", p, col.arg), ("table", "p:int64", ("scratch",)),
                             ("scratch_stride", "i", ("scratch_stride",)),
                             *((name, "i", value) for name, value in zip(names, values)), *strides_of(x),
                             ("group_step", "i", steps[0]), ("channel_step", "i", steps[2] if backward else steps[1]),
                             ("window_step", "i", steps[1] if backward else steps[2])],
             v.groups * channels, grain_of(v.window * places * 0.6), v.window * places * 8, holes=holes_of(x.dtype))
    return col


def suits_forward(v: Window) -> bool:
    """Would much of an image's last vector be empty, and less of it with all images together?"""
    def unused(places: int) -> float:
        return ((places + 13) // LANES * LANES) / places
    return min(v.spatial) > 0 and -(-v.plane // LANES) * LANES >= 1.3 * max(1, unused(v.n * v.plane)) * v.plane and \
        v.og >= 8 and v.groups * v.depth * v.n * v.plane <= COLUMNS


def forward(low: Lowering, v: Window, x: Operand, w: Operand, out: Operand, fused: bool) -> None:
    """out = convolution(x, w); w and out are contiguous."""
    col = unrolled(low, v, x, v.out, backward=False)
    places = v.n * v.plane
    left = Operand(w.place, w.dtype, (v.og, v.depth), (v.depth, 1), w.offset)
    right = Operand(col.place, col.dtype, (v.depth, places), (places, 1))
    result = out if v.n == 1 else low.temp(out.dtype, (v.groups, v.og, v.n, v.plane))
    epilogue = low.fuse(v.groups, v.og, v.plane) if fused and v.n == 1 else None
    gemm.tiled_product(low, left, right, result, (1, v.groups), (0, v.og * v.depth), (0, v.depth * places), epilogue)
    if v.n > 1:
        copy(low, result.permuted((2, 0, 1, 3)), out.reshaped((v.n, v.groups, v.og, v.plane)))


def grid_of(v: Window) -> tuple[int, int, int]:
    """Input places that have the same remainder by the stride."""
    return tuple([-(-n // s) for n, s in zip(v.spatial, v.stride)])  # type: ignore[return-value]


def suits_input_grad(v: Window) -> bool:
    """Are the weights larger than the unrolled gradient, so that turning them around would cost more? Or are there
    strides, and the images not large?"""
    gd, gh, gw = grid_of(v)
    columns = v.window * v.og * v.n * gd * gh * gw
    strided = v.stride != (1, 1, 1)
    return v.kernel[0] == v.stride[0] == 1 and v.cg >= 8 and v.og >= 8 and v.groups * columns <= COLUMNS and \
        (strided or columns <= v.og * v.depth)


def input_grad(low: Lowering, v: Window, gy: Operand, w: Operand, gx: Operand, fused: bool) -> None:
    """gx = the x-derivative. The places of gx with the same remainders by the stride meet the same elements of the
    window, so each of these classes is a sum of products over those."""
    grid = grid_of(v)
    col = unrolled(low, v, gy, grid, backward=True)
    places = v.n * grid[0] * grid[1] * grid[2]
    kw = v.kernel[2]
    found = [(y, x, elements(v, 1, y), elements(v, 2, x)) for y in range(min(v.stride[1], v.spatial[1]))
             for x in range(min(v.stride[2], v.spatial[2]))]
    classes = [c for c in found if c[2] and c[3]]
    in_place = v.n == 1 and v.stride == (1, 1, 1)
    epilogue = low.fuse(v.groups, v.cg, places) if fused and in_place else None
    results = [gx if in_place else low.temp(gx.dtype, (v.groups, v.cg, places)) for _ in classes]
    for (_, _, rows, columns), result in zip(classes, results):
        at = rows.start * kw + columns.start
        left = Operand(w.place, w.dtype, (v.cg, v.og), (v.window, v.depth), w.offset + at)
        right = Operand(col.place, col.dtype, (v.og, places), (places, 1), at * v.og * places)
        terms = [(len(rows), rows.step * kw, rows.step * kw * v.og * places),
                 (len(columns), columns.step, columns.step * v.og * places)]
        gemm.tiled_product(low, left, right, result, (1, v.groups), (0, v.og * v.depth), (0, v.window * v.og * places),
                           epilogue, terms, barrier=result is results[0])
    if in_place:
        return
    if len(classes) < len(found):
        zero(low, gx)
    depth, height, width = v.spatial
    channels, volume = v.groups * v.cg, depth * height * width
    for (y, x, _, _), result in zip(classes, results):
        shape = (v.n, channels, depth, -(-(height - y) // v.stride[1]), -(-(width - x) // v.stride[2]))
        source = Operand(result.place, result.dtype, shape,
                         (grid[0] * grid[1] * grid[2], places, grid[1] * grid[2], grid[2], 1), result.offset)
        target = Operand(gx.place, gx.dtype, shape, (channels * volume, volume, height * width, v.stride[1] * width,
                                                     v.stride[2]), gx.offset + y * width + x)
        copy(low, source, target, barrier=result is results[0])


def elements(v: Window, axis: int, remainder: int) -> range:
    """The elements of the window along an axis that places with this remainder by the stride meet."""
    d, s = v.dilation[axis], v.stride[axis]
    first = next((b for b in range(v.kernel[axis]) if (b * d - v.before[axis] - remainder) % s == 0), v.kernel[axis])
    return range(first, v.kernel[axis], s // gcd(d, s))


def suits_weight_grad(v: Window) -> bool:
    return v.n * v.plane <= PLACES and v.og > 1 and v.depth >= LANES and \
        v.groups * v.depth * v.n * v.plane <= COLUMNS and min(v.spatial) > 0


def weight_grad(low: Lowering, v: Window, gy: Operand, x: Operand, gw: Operand, fused: bool) -> None:
    """gw, by one product over the places of all images."""
    col = unrolled(low, v, x, v.out, backward=False)
    places = v.n * v.plane
    if v.n > 1:
        order = gy.reshaped((v.n, v.groups, v.og, v.plane)).permuted((1, 2, 0, 3))
        gy = low.temp(gy.dtype, order.shape)
        copy(low, order, gy, barrier=False)
    epilogue = low.fuse(v.groups, v.og, v.depth) if fused else None
    left = Operand(gy.place, gy.dtype, (v.og, places), (places, 1), gy.offset)
    right = Operand(col.place, col.dtype, (places, v.depth), (1, places))
    gemm.tiled_product(low, left, right, gw, (1, v.groups), (0, v.og * places), (0, v.depth * places), epilogue)
