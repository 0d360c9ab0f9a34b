# ruff: noqa: B007, B018, F841  the kernels have holes, and what is filled in uses the names
"""3x3 convolutions by Winograd's F(2x2, 3x3): 16 multiplications for 2x2 results instead of 36.

Y = A' [(G w G') * (B' x B)] A for every tile of 4x4 input places, two apart (Lavin and Gray, "Fast algorithms for
convolutional neural networks", 2015). The products for one of the 16 places of a tile, summed over the channels, are a
product of matrices: channels out x channels in, and channels in x tiles. Its operands are sums of up to 16 elements,
which costs accuracy, and its sums have a ninth of the terms, which gains some: against float64 the error was 0.6 times
that of the direct sums (root of the mean square, normal numbers, 32 to 256 channels). It is relative to the largest
element of a tile: an infinity or NaN spoils the 2x2 results, not only those whose window it is in. Only float32 is done
this way.

The tiles of an image have one place more in a row than there are tiles: the four parts of a padded image (even and odd
rows and columns) are then read as they lie, and the loops over tiles run through all rows at once.
"""
from __future__ import annotations

import re

from jtorch import dtypes
from jtorch.codegen.library import gemm
from jtorch.codegen.library.call import Lowering, Operand, grain_of, pointer
from jtorch.codegen.library.conv_window import Window, holes_of, strides_of
from jtorch.codegen.library.copy import contiguous
from jtorch.codegen.library.gemm_layout import round_up
from jtorch.codegen.library.language import (
    EPILOGUE,
    INPUTS,
    OUTPUTS,
    PADDED_ROW,
    TERMS,
    Pointer,
    index_div,
    index_mod,
    shifted,
    transpose,
)

LONG_SUMS = 64
"""Channels, in and out, from which the products take longer than the transformations around them; half of that where
all transformed elements stay in the second-level cache."""

LINE = 16
"""Elements of a cache line."""

PLACES = 150
"""Output places of all images from which the transformation of the weights is."""

ELEMENTS = 1 << 20
"""Elements of transformed input that images are taken together for: they stay in the third-level cache."""

FEW_ELEMENTS = 1 << 18

PLANE = 1 << 14
"""Elements of a padded image up to which its four parts stay in the second-level cache."""


def winograd_weights(w: Pointer, u: Pointer, scratch: Pointer, scratch_stride: int, cg: int, step: int, begin: int,
                     end: int, worker: int) -> None:
    """u[16, output channel, channel] = G w G'; an item is an output channel."""
    pitch = index_div(cg + 15, 16) * 16
    first = index_div(worker * scratch_stride, 4)
    for item in range(begin, end):
        transpose(shifted(w, item * cg * 9), 9, shifted(scratch, first), pitch, cg, 9)
        target = item * cg
        for j in range(cg):
            INPUTS
            TERMS
            OUTPUTS


def winograd_input(x: Pointer, v: Pointer, padded: Pointer, scratch_stride: int, channels: int, height: int,
                   width: int, ph: int, pw: int, th: int, tw: int, places: int, step: int, xn: int, xc: int, xh: int,
                   begin: int, end: int, worker: int) -> None:
    """v[16, channel, place] = B' x B; an item is a channel of an image."""
    pitch = tw + 1
    part = (th + 1) * pitch
    first = index_div(worker * scratch_stride, 4)
    both = index_div(pw + 1, 2)
    last = min(index_div(width + pw, 2), pitch)
    for j in range(first, first + 4 * part + 1):
        padded[j] = 0.0
    for item in range(begin, end):
        channel = index_mod(item, channels)
        image = index_div(item, channels)
        for iy in range(max(0, -ph), min(height, 2 * th + 2 - ph)):
            row = iy + ph
            line = image * xn + channel * xc + iy * xh - pw
            even = first + index_mod(row, 2) * 2 * part + index_div(row, 2) * pitch
            odd = even + part
            PADDED_ROW
        target = channel * places + image * th * pitch
        for j in range(th * pitch):
            INPUTS
            TERMS
            OUTPUTS


PADDED_ROW_LINES = """\
for j in range(both, last):
    padded[even + j] = x[line + 2 * j]
    padded[odd + j] = x[line + 2 * j + 1]
if both > index_div(pw, 2):
    padded[odd + both - 1] = x[line + 2 * both - 1]
if (index_mod(width + pw, 2) == 1) & (last < pitch):
    padded[even + last] = x[line + 2 * last]"""
"""A row of x, split into even and odd columns of the padded image; from `both` to `last` there are elements of both."""


def winograd_output(m: Pointer, y: Pointer, scratch: Pointer, scratch_stride: int, groups: int, og: int, oh: int,
                    ow: int, th: int, tw: int, places: int, step: int, image: int, begin: int, end: int,
                    worker: int) -> None:
    """y = A' m A for the images from `image` on; an item is an output channel of one of them."""
    pitch = tw + 1
    size = th * pitch
    target = index_div(worker * scratch_stride, 4)
    for item in range(begin, end):
        channel = index_mod(item, groups * og)
        first = channel * places + index_div(item, groups * og) * size
        for j in range(size):
            INPUTS
            TERMS
            OUTPUTS
        out = (image * groups * og + item) * oh * ow
        for row in range(oh):
            line = target + index_mod(row, 2) * 2 * size + index_div(row, 2) * pitch
            for j in range(index_div(ow, 2)):
                y[out + 2 * j] = scratch[line + j]
                y[out + 2 * j + 1] = scratch[line + size + j]
            if index_mod(ow, 2) == 1:
                y[out + ow - 1] = scratch[line + index_div(ow, 2)]
            out += ow
        batch = image * groups + index_div(item, og)
        r0 = index_mod(item, og)
        r1 = r0 + 1
        c0 = 0
        c1 = oh * ow
        EPILOGUE


def along(names: list[str], out: str, transform: list[str]) -> list[str]:
    """Lines that transform a vector of variables; in `transform`, 0, 1, … stand for them."""
    return [f"{out}{k} = " + re.sub(r"\d", lambda m: names[int(m[0])], text) for k, text in enumerate(transform)]


B = ["0 - 2", "1 + 2", "2 - 1", "1 - 3"]
A = ["0 + 1 + 2", "1 - 2 - 3"]


def both(n: int, transform: list[str]) -> str:
    """Lines from d00, d01, … (n x n) to the transformed r00, r01, …, rows first."""
    lines = []
    for e in range(n):
        lines += along([f"d{r}{e}" for r in range(n)], f"t{e}", transform)
    for k in range(len(transform)):
        lines += along([f"t{e}{k}" for e in range(n)], f"r{k}", transform)
    return "\n".join(lines)


def weight_lines() -> str:
    """G w G', with the halves as factors."""
    lines = []
    for e in range(3):
        lines += [f"h{e} = (d0{e} + d2{e}) * f32(0.5)", f"k{e} = d1{e} * f32(0.5)", f"t{e}0 = d0{e}",
                  f"t{e}1 = h{e} + k{e}", f"t{e}2 = h{e} - k{e}", f"t{e}3 = d2{e}"]
    for k in range(4):
        lines += [f"h{k} = (t0{k} + t2{k}) * f32(0.5)", f"k{k} = t1{k} * f32(0.5)", f"r{k}0 = t0{k}",
                  f"r{k}1 = h{k} + k{k}", f"r{k}2 = h{k} - k{k}", f"r{k}3 = t2{k}"]
    return "\n".join(lines)


def each(n: int, line: str) -> str:
    """`line` for every R and E below n, with K = n R + E."""
    return "\n".join(line.replace("R", str(r)).replace("E", str(e)).replace("K", str(n * r + e))
                     for r in range(n) for e in range(n))


WEIGHTS = {"INPUTS": each(3, "dRE = scratch[first + K * pitch + j]"), "TERMS": weight_lines(),
           "OUTPUTS": each(4, "u[K * step + target + j] = rRE")}
INPUT = {"PADDED_ROW": PADDED_ROW_LINES,
         "INPUTS": "\n".join(f"d{r}{e} = padded[first + {r % 2 * 2 + e % 2} * part + {r // 2} * pitch + {e // 2} + j]"
                             for r in range(4) for e in range(4)),
         "TERMS": both(4, B), "OUTPUTS": each(4, "v[K * step + target + j] = rRE")}
OUTPUT = {"INPUTS": each(4, "dRE = m[K * step + first + j]"), "TERMS": both(4, A),
          "OUTPUTS": each(2, "scratch[target + K * size + j] = rRE")}


def tiles(v: Window) -> tuple[int, int]:
    return -(-v.out[1] // 2), -(-v.out[2] // 2)


def is_worth_it(v: Window, d: object) -> bool:
    """Are there a Winograd form of this convolution, and work enough that it saves?"""
    if d is not dtypes.float32 or v.kernel != (1, 3, 3) or v.stride != (1, 1, 1) or v.dilation != (1, 1, 1) or \
            v.spatial[0] != 1 or min(v.before) < 0 or min(v.spatial) == 0:
        return False
    th, tw = tiles(v)
    places = v.n * v.plane
    saved = 9 * places - 16 * round_up(v.n * th * (tw + 1), 16)
    return min(v.cg, v.og) >= LONG_SUMS // 2 and places >= PLACES and saved >= 0.3 * 9 * places


def suits(v: Window, d: object) -> bool:
    """Can this convolution be done so, and is it worth it?"""
    th, tw = tiles(v)
    transformed = 16 * max(v.cg, v.og) * v.groups * th * (tw + 1)
    sums_are_long = min(v.cg, v.og) >= LONG_SUMS or v.n * transformed <= FEW_ELEMENTS
    fits = 4 * (th + 1) * (tw + 1) <= PLANE and transformed <= ELEMENTS
    return sums_are_long and fits and is_worth_it(v, d)


def apart(elements: int) -> int:
    """The distance of 16 arrays of that many elements: not a multiple of 4096 bytes, at which all of them would share
    the lines of one set of the first-level cache."""
    return round_up(elements, LINE) + LINE


def transformed_weights(low: Lowering, v: Window, w: Operand) -> tuple[Operand, int]:
    """[16, group, output channel, channel], and the distance of the 16."""
    p, channels = pointer(w.dtype), v.groups * v.og
    step = apart(channels * v.cg)
    u = low.temp(w.dtype, (16, step))
    low.call(winograd_weights, [("w", p, w.arg), ("u", p, u.arg), ("scratch", p, ("scratch",)),
                                ("scratch_stride", "i", ("scratch_stride",)), ("cg", "i", v.cg),
                                ("step", "i", step)],
             channels, grain_of(v.cg * 3.0), round_up(v.cg, 16) * 16 * 4, holes=WEIGHTS)
    return u, step


def forward(low: Lowering, v: Window, x: Operand, w: Operand, out: Operand, fused: bool) -> None:
    """out = convolution(x, w); w and out are contiguous."""
    if x.strides[-1] != 1:
        x = contiguous(low, x)
    th, tw = tiles(v)
    size = th * (tw + 1)
    cin, cout = v.groups * v.cg, v.groups * v.og
    images = max(1, min(v.n, ELEMENTS // (16 * max(cin, cout) * size)))
    d, p = x.dtype, pointer(x.dtype)
    epilogue = low.fuse(v.n * v.groups, v.og, v.plane) if fused else None
    scratch = [("scratch", p, ("scratch",)), ("scratch_stride", "i", ("scratch_stride",))]
    u, weight_step = transformed_weights(low, v, w)
    transformed = low.temp(d, (16, apart(cin * images * size)))
    products = low.temp(d, (16, v.groups, v.og, images * size))
    stride = dict(zip(("xn", "xc", "xd", "xh", "xw"), strides_of(x)))
    for image in range(0, v.n, images):
        count = min(images, v.n - image)
        places = count * size
        step = apart(cin * places)
        part = Operand(x.place, d, x.shape, x.strides, x.offset + image * x.strides[0])
        low.call(winograd_input, [("x", p, part.arg), ("v", p, transformed.arg),
                                  ("padded", *scratch[0][1:]), scratch[1],
                                  *((name, "i", value) for name, value in (
                                      ("channels", cin), ("height", v.spatial[1]), ("width", v.spatial[2]),
                                      ("ph", v.before[1]), ("pw", v.before[2]), ("th", th), ("tw", tw),
                                      ("places", places), ("step", step))),
                                  *(stride[name] for name in ("xn", "xc", "xh"))],
                 count * cin, grain_of(size * 3.0), (4 * (th + 1) * (tw + 1) + 16) * 4, barrier=image > 0,
                 holes=INPUT)
        left = Operand(u.place, d, (v.og, v.cg), (v.cg, 1), u.offset)
        right = Operand(transformed.place, d, (v.cg, places), (places, 1), transformed.offset)
        result = Operand(products.place, d, (16, v.groups, v.og, places), (cout * places, v.og * places, places, 1))
        gemm.tiled_product(low, left, right, result, (16, v.groups), (weight_step, v.og * v.cg),
                           (step, v.cg * places))
        low.call(winograd_output, [("m", p, products.arg), ("y", p, out.arg), *scratch,
                                   *((name, "i", value) for name, value in (
                                       ("groups", v.groups), ("og", v.og), ("oh", v.out[1]), ("ow", v.out[2]),
                                       ("th", th), ("tw", tw), ("places", places), ("step", cout * places),
                                       ("image", image)))],
                 count * cout, grain_of(size * 3.0), size * 4 * 4, holes={**OUTPUT, **holes_of(d)}, epilogue=epilogue)
