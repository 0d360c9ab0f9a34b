# ruff: noqa: B007, B018  the kernel has a hole
"""The input gradient of a convolution with strides, which is the transposed convolution: a convolution for each class.

The places of gx with the same remainders by the stride are a class. They meet the same elements of the window, every
few of it, and so the class is a convolution of gy with those at stride 1. Then the classes are put between one another.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable
from math import gcd, prod

from jtorch.codegen.library.call import Lowering, Operand, grain_of, pointer, row_major
from jtorch.codegen.library.conv_small import elements, grid_of
from jtorch.codegen.library.conv_window import Window
from jtorch.codegen.library.copy import copy, zero
from jtorch.codegen.library.language import LINES, Pointer, index_div, index_mod

CLASSES = 8
"""The most that are worth a convolution each."""


def interleave(parts: Pointer, gx: Pointer, depth: int, height: int, width: int, sd: int, sh: int, sw: int, ch: int,
               cw: int, gd: int, gh: int, gw: int, total: int, begin: int, end: int, worker: int) -> None:
    """gx from its classes [remainder by sd, by sh (ch of them), by sw (cw of them), plane, gd, gh, gw], each of `total`
    elements. An item is a row of gx."""
    whole = index_div(width, sw)
    for item in range(begin, end):
        row = index_mod(item, height)
        q = index_div(item, height)
        z = index_mod(q, depth)
        plane = index_div(q, depth)
        source = (index_mod(z, sd) * ch + index_mod(row, sh)) * cw * total
        source += ((plane * gd + index_div(z, sd)) * gh + index_div(row, sh)) * gw
        target = item * width
        for j in range(whole):
            LINES
        for e in range(width - whole * sw):
            gx[target + whole * sw + e] = parts[source + e * total + whole]


def suits_input_grad(v: Window) -> bool:
    return v.stride != (1, 1, 1) and prod(v.stride) <= CLASSES and not v.is_direct


def input_grad(low: Lowering, v: Window, gy: Operand, w: Operand, gx: Operand,
               convolve: Callable[[Lowering, Window, Operand, Operand, Operand], None]) -> None:
    """gx = the x-derivative; gy and w are contiguous."""
    grid = grid_of(v)
    counts = tuple(min(s, n) for s, n in zip(v.stride, v.spatial))
    shape = (v.n, v.groups * v.cg, *grid)
    parts = low.temp(gx.dtype, (*counts, *shape))
    for number, remainders in enumerate(itertools.product(*map(range, counts))):
        part = Operand(parts.place, gx.dtype, shape, row_major(shape), number * prod(shape))
        found = [elements(v, axis, r) for axis, r in enumerate(remainders)]
        if not all(found):
            zero(low, part)
            continue
        apart = tuple(d // gcd(d, s) for d, s in zip(v.dilation, v.stride))
        before = tuple((bs.start * d - p - r) // s + (len(bs) - 1) * a for bs, d, p, r, s, a in zip(
            found, v.dilation, v.before, remainders, v.stride, apart))
        kernel = tuple(len(bs) for bs in found)
        one = Window(v.n, v.groups, v.og, v.cg, v.out, kernel, (1, 1, 1), before, apart, grid)  # type: ignore[arg-type]
        convolve(low, one, gy, reversed_elements(low, v, w, found), part)
    p, sizes = pointer(gx.dtype), zip("depth height width sd sh sw ch cw gd gh gw total".split(),
                                      (*v.spatial, *v.stride, *counts[1:], *grid, prod(shape)))
    lines = [f"gx[target + j * {v.stride[2]} + {e}] = parts[source + {e} * total + j]" for e in range(v.stride[2])]
    low.call(interleave, [("parts", p, parts.arg), ("gx", p, gx.arg), *((name, "i", n) for name, n in sizes)],
             v.n * v.groups * v.cg * prod(v.spatial[:2]), grain_of(v.spatial[2] * 0.3 + 5),
             holes={"LINES": "\n".join(lines)})


def reversed_elements(low: Lowering, v: Window, w: Operand, found: list[range]) -> Operand:
    """w[G*O, C, *K] as [G*C, O, *found], the window's elements that were found in reverse order."""
    steps = row_major(v.kernel)
    kernel = tuple(len(bs) for bs in found)
    shape = (v.groups, v.cg, v.og, *kernel)
    source = Operand(w.place, w.dtype, shape,
                     (v.og * v.depth, v.window, v.depth, *(-s * bs.step for s, bs in zip(steps, found))),
                     w.offset + sum(s * bs[-1] for s, bs in zip(steps, found)))
    result = low.temp(w.dtype, shape)
    copy(low, source, result)
    return result.reshaped((v.groups * v.cg, v.og, *kernel))
