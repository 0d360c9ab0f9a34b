# ruff: noqa: B007, B018, F841  the kernels have holes, and what is filled in uses the names
"""Winograd convolutions whose tiles stay in the second-level cache: an item does a few rows of tiles of an image from
its input to its result.

`conv_winograd` has the transformations and says what they cost in accuracy. There each step is a kernel over all tiles,
which shares even a small image among threads, but writes and reads 16 numbers for every 4 in between. Here that is done
where there are images or rows enough for items of their own.
"""
from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from jtorch.codegen.library.call import Lowering, Operand, grain_of, pointer
from jtorch.codegen.library.conv_window import Window, holes_of, strides_of
from jtorch.codegen.library.conv_winograd import (
    INPUT,
    LINE,
    OUTPUT,
    PADDED_ROW_LINES,
    apart,
    is_worth_it,
    tiles,
    transformed_weights,
)
from jtorch.codegen.library.copy import contiguous
from jtorch.codegen.library.gemm_layout import FLOPS_PER_NS, block_cost, round_up
from jtorch.codegen.library.language import (
    EPILOGUE,
    INPUT_DATA,
    INPUT_TERMS,
    INPUT_VALUES,
    OUTPUT_DATA,
    OUTPUT_TERMS,
    OUTPUT_VALUES,
    PADDED_ROW,
    Pointer,
    index_div,
    index_mod,
    matrix_tile,
    shifted,
    tile_columns,
    tile_rows,
)

ITEMS = 16
"""The fewest that there have to be."""

ELEMENTS = 200_000
"""Of an item's scratch memory: of float32 that is less than a second-level cache, which the weights go through too."""

CHANNELS = 64
"""Output channels whose products of a panel of tiles wait for their transformation."""

PANEL = 48
"""Tiles of a panel: the columns of a tile of a matrix product, at most."""


def winograd_strips(x: Pointer, u: Pointer, y: Pointer, padded: Pointer, data: Pointer, products: Pointer,
                    results: Pointer, scratch_stride: int, groups: int, cg: int, og: int, height: int, width: int,
                    oh: int, ow: int, ph: int, pw: int, th: int, tw: int, rows: int, places: int, part: int,
                    channels: int, step: int, data_step: int, product_step: int, xn: int, xc: int, xh: int, begin: int,
                    end: int, worker: int) -> None:
    """y = A' [sum over channels of u * (B' x B)] A. An item is `rows` rows of tiles of a group of an image.

    A worker's scratch memory holds the four `part`s of a padded channel (even and odd rows and columns), the
    transformed data [16, cg, places], the products of a panel [16, channels, 48], and the four parts of the results.
    """
    pitch = tw + 1
    strips = index_div(th + rows - 1, rows)
    base = index_div(worker * scratch_stride, 4)
    both = index_div(pw + 1, 2)
    last = min(index_div(width + pw, 2), pitch)
    for item in range(begin, end):
        t0 = index_mod(item, strips) * rows
        q = index_div(item, strips)
        g = index_mod(q, groups)
        image = index_div(q, groups)
        t1 = min(t0 + rows, th)
        size = (t1 - t0) * pitch
        columns = index_div(size + 15, 16) * 16
        for j in range(4 * part):
            padded[base + j] = 0.0
        for c in range(cg):
            for row in range(max(0, ph - 2 * t0), min(2 * (t1 - t0) + 2, height + ph - 2 * t0)):
                line = image * xn + (g * cg + c) * xc + (2 * t0 + row - ph) * xh - pw
                even = base + index_mod(row, 2) * 2 * part + index_div(row, 2) * pitch
                odd = even + part
                PADDED_ROW
            target = base + c * places
            for j in range(columns):
                INPUT_DATA
                INPUT_TERMS
                INPUT_VALUES
        for p in range(0, columns, tile_columns(y)):
            some = min(tile_columns(y), columns - p)
            for o0 in range(0, og, channels):
                o1 = min(o0 + channels, og)
                for k in range(16):
                    for o in range(o0, o1, tile_rows(y)):
                        matrix_tile(shifted(u, k * step + (g * og + o) * cg), cg, 1,
                                    shifted(data, base + k * data_step + p), places, cg,
                                    shifted(products, base + k * product_step + (o - o0) * 48), 48,
                                    min(tile_rows(y), o1 - o), some, False)
                for o in range(o0, o1):
                    first = base + (o - o0) * 48
                    target = base + o * 4 * places + p
                    for j in range(some):
                        OUTPUT_DATA
                        OUTPUT_TERMS
                        OUTPUT_VALUES
        r0 = 2 * t0
        lines = min(2 * t1, oh) - r0
        batch = image * groups + g
        c0 = r0 * ow
        c1 = c0 + lines * ow
        for o in range(og):
            out = (batch * og + o) * oh * ow + c0
            for row in range(lines):
                line = base + (o * 4 + index_mod(row, 2) * 2) * places + index_div(row, 2) * pitch
                for j in range(index_div(ow, 2)):
                    y[out + 2 * j] = results[line + j]
                    y[out + 2 * j + 1] = results[line + places + j]
                if index_mod(ow, 2) == 1:
                    y[out + ow - 1] = results[line + index_div(ow, 2)]
                out += ow
            r0 = o
            r1 = o + 1
            EPILOGUE


HOLES = {
    "PADDED_ROW": PADDED_ROW_LINES, "INPUT_TERMS": INPUT["TERMS"],
    "INPUT_DATA": INPUT["INPUTS"].replace("[first", "[base"),
    "INPUT_VALUES": INPUT["OUTPUTS"].replace("v[", "data[").replace("* step", "* data_step"),
    "OUTPUT_DATA": OUTPUT["INPUTS"].replace("m[", "products[").replace("* step", "* product_step"),
    "OUTPUT_TERMS": OUTPUT["TERMS"],
    "OUTPUT_VALUES": OUTPUT["OUTPUTS"].replace("scratch[", "results[").replace("* size", "* places"),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """The scratch memory of an item of `rows` rows of tiles: sizes of its regions' parts, in elements."""

    places: int  # tiles, with what fills the last vector
    part: int
    channels: int
    data_step: int
    product_step: int
    starts: tuple[int, ...]  # of the regions, and the end of the last one


def layout(v: Window, rows: int) -> Layout:
    pitch, channels = tiles(v)[1] + 1, min(v.og, CHANNELS)
    places, part = round_up(rows * pitch, LINE), (rows + 1) * pitch + 2 * LINE
    data_step, product_step = apart(v.cg * places), apart(channels * PANEL)
    sizes = (round_up(4 * part, LINE), 16 * data_step, 16 * product_step, 4 * v.og * places)
    return Layout(places, part, channels, data_step, product_step, tuple(accumulate(sizes, initial=0)))


def rows_of(v: Window) -> int:
    """Rows of tiles of an item, 0 if there would be too few items, or too few tiles in one to fill a panel, or if their
    scratch memory would be too large."""
    th, tw = tiles(v)
    best, chosen = 0.0, 0
    for strips in range(1, th + 1):
        rows = -(-th // strips)
        strips = -(-th // rows)
        if strips * v.n * v.groups < ITEMS or rows * (tw + 1) < PANEL or layout(v, rows).starts[-1] > ELEMENTS:
            continue
        products = block_cost(v.og, rows * (tw + 1), v.cg)
        cost = strips * (products + (rows + 1) * (tw + 1) * v.cg * 0.3)
        if not chosen or cost < best:
            best, chosen = cost, rows
    return chosen


def suits(v: Window, d: object) -> bool:
    return is_worth_it(v, d) and rows_of(v) > 0


def forward(low: Lowering, v: Window, x: Operand, w: Operand, out: Operand, fused: bool) -> None:
    """out = convolution(x, w); w and out are contiguous."""
    if x.strides[-1] != 1:
        x = contiguous(low, x)
    th, tw = tiles(v)
    rows = rows_of(v)
    plan = layout(v, rows)
    p = pointer(x.dtype)
    regions = [(name, p, ("scratch", 4 * start))
               for name, start in zip(("padded", "data", "products", "results"), plan.starts)]
    epilogue = low.fuse(v.n * v.groups, v.og, v.plane) if fused else None
    u, step = transformed_weights(low, v, w)
    stride = dict(zip(("xn", "xc", "xd", "xh", "xw"), strides_of(x)))
    items = v.n * v.groups * -(-th // rows)
    low.call(winograd_strips, [("x", p, x.arg), ("u", p, u.arg), ("y", p, out.arg), *regions,
                               ("scratch_stride", "i", ("scratch_stride",)),
                               *((name, "i", value) for name, value in (
                                   ("groups", v.groups), ("cg", v.cg), ("og", v.og), ("height", v.spatial[1]),
                                   ("width", v.spatial[2]), ("oh", v.out[1]), ("ow", v.out[2]), ("ph", v.before[1]),
                                   ("pw", v.before[2]), ("th", th), ("tw", tw), ("rows", rows),
                                   ("places", plan.places), ("part", plan.part), ("channels", plan.channels),
                                   ("step", step), ("data_step", plan.data_step),
                                   ("product_step", plan.product_step))),
                               *(stride[name] for name in ("xn", "xc", "xh"))],
             items, grain_of(v.n * v.groups * v.flops / items / 2 / FLOPS_PER_NS), 4 * plan.starts[-1],
             holes={**HOLES, **holes_of(x.dtype)}, epilogue=epilogue)
