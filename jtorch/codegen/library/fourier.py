"""Fourier transforms: 16 lines of an array at a time, one in each lane of the vector registers (`fourier_kernel.py`).

Long lines are matrices: columns, factors, rows (D. Bailey, "FFTs in external or hierarchical memory", 1990). Lengths
with a large prime factor have no kernel; NumPy transforms them.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from jtorch.codegen.library.call import KernelCall, Lowering, Operand, conversion, grain_of, pointer, row_major, whole
from jtorch.codegen.library.copy import contiguous, copy, zero
from jtorch.codegen.library.fourier_kernel import LANES, PARAMETERS, RADIX_BITS, WIDE, text
from jtorch.codegen.library.language import Pointer, T, cos, f64, index_div, index_mod, sin
from jtorch.dtypes import dtype

LONGEST = 4096
"""Lines up to this length fit into the second-level cache, both halves of the scratch memory and all lanes of them."""
LARGEST_PRIME = 61
FEW = 8
"""Lines that lie side by side in smaller numbers are brought to the end of the array."""


def radices(n: int) -> list[int] | None:
    """The passes of a transform of n elements, the dearest first; None if there is no kernel for n."""
    found = []
    for r in (8, 4, 2, 5, 3, *range(7, LARGEST_PRIME + 1, 2)):
        while n % r == 0:
            found.append(r)
            n //= r
    found.sort(reverse=True)
    return found if n == 1 and len(found) * RADIX_BITS < 63 else None


def packed(passes: list[int]) -> int:
    return sum(r << RADIX_BITS * i for i, r in enumerate(passes))


@cache
def split(n: int) -> tuple[int, int] | None:
    """n as a product of two lengths that have kernels and fit into the cache, the nearest to equal ones."""
    for a in range(math.isqrt(n), 0, -1):
        if n % a == 0 and n // a <= LONGEST and radices(a) is not None and radices(n // a) is not None:
            return a, n // a
    return None


# --- factors ---------------------------------------------------------------------------------------------------------

def roots(table: Pointer, count: int, n: int, unit: float, block: int, begin: int, end: int, worker: int) -> None:
    """table[k] = exp(i k unit) for k < count, where n units are a circle."""
    for item in range(begin, end):
        for k in range(item * block, min(item * block + block, count)):
            angle = f64(k if 2 * k <= n else k - n) * unit
            table[2 * k] = T(cos(angle))
            table[2 * k + 1] = T(sin(angle))


def lane_roots(table: Pointer, n: int, lanes: int, unit: float, begin: int, end: int, worker: int) -> None:
    """table[k, c, l] = exp(i k l unit): first the real parts."""
    for k in range(begin, end):
        for lane in range(lanes):
            angle = f64(k * lane) * unit
            table[2 * k * lanes + lane] = T(cos(angle))
            table[2 * k * lanes + lanes + lane] = T(sin(angle))


def halves_joined(z: Pointer, out: Pointer, near: Pointer, h: int, block: int, unit: float, scale_: float, begin: int,
                  end: int, worker: int) -> None:
    """The first h + 1 frequencies of 2 h real numbers, whose even and odd ones were transformed as real and imaginary
    parts. An item is a block of frequencies."""
    blocks = index_div(h + block, block)
    half = T(0.5 * scale_)
    for item in range(begin, end):
        line = index_div(item, blocks)
        k0 = index_mod(item, blocks) * block
        fr = T(cos(f64(k0) * unit))
        fi = T(sin(f64(k0) * unit))
        for j in range(min(block, h + 1 - k0)):
            k = k0 + j
            here = 2 * (line * h + (k if k < h else 0))
            there = 2 * (line * h + (h - k if k > 0 else 0))
            wr = fr * near[2 * j] - fi * near[2 * j + 1]
            wi = fr * near[2 * j + 1] + fi * near[2 * j]
            dr = z[here] - z[there]
            si = z[here + 1] + z[there + 1]
            o = 2 * (line * (h + 1) + k)
            out[o] = half * (z[here] + z[there] + (wr * si + wi * dr))
            out[o + 1] = half * (z[here + 1] - z[there + 1] + (wi * si - wr * dr))


def circle(low: Lowering, n: int, real: dtype, count: int | None = None) -> Operand:
    """The first `count` (all) of the n roots of 1, clockwise."""
    count, block = count or n, 256
    table = low.temp(real.to_complex(), (count,))
    low.call(roots, [("table", pointer(real), table.arg), ("count", "i", count), ("n", "i", n),
                     ("unit", "f", -2 * math.pi / n), ("block", "i", block)], -(-count // block), grain_of(block * 10),
             barrier=False, holes={"T": conversion(real)})
    return table


# --- lines -----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of an array: line l of batch o begins at element o * outer + l * lane, and steps by `step`. Either the lane
    or the step is 1."""

    array: Operand
    outer: int
    lane: int
    step: int


def transform(low: Lowering, n: int, batches: int, lines: int, src: Lines, dst: Lines, load: str = "complex",
              store: str = "complex", backward: bool = False, scale: float = 1.0, conjugate: bool = False,
              twist: int = 0) -> None:
    """Transform `lines` lines in each of `batches`. `twist`: multiply element k of line l by the root number k * l of
    so many."""
    passes = radices(n)
    if passes is None or n > LONGEST:
        raise NotImplementedError(f"a transform of {n} elements")
    real = src.array.dtype.to_real()
    size, p = real.itemsize, pointer(real)
    table = near = circle(low, n, real)
    if twist:
        near = low.temp(real.to_complex(), (n, LANES))
        low.call(lane_roots, [("table", p, near.arg), ("n", "i", n), ("lanes", "i", LANES),
                              ("unit", "f", -2 * math.pi / twist)], n, grain_of(LANES * 10), barrier=False,
                 holes={"T": conversion(real)})
    source = text(load, src.lane == 1, store, dst.lane == 1, backward, conversion(real), size)
    # Transposed blocks are written in squares, beyond the end; two spectra may need two halves' room.
    rooms = [size * (WIDE * n + 1024), size * (WIDE * (2 * n if store == "whole" else n) + 1024)]
    values = {"n": n, "codes": packed(passes), "odd": len(passes) % 2, "lines": lines,
              "so": src.outer, "sl": src.lane, "sk": src.step, "do": dst.outer, "dl": dst.lane, "dk": dst.step}
    floats = {"scale_": scale, "unit": -2 * math.pi / twist if twist else 0.0, "sign": -1.0 if conjugate else 1.0}
    args = [("src", p, src.array.arg), ("dst", p, dst.array.arg), ("table", p, table.arg), ("near", p, near.arg),
            ("x", p, ("scratch", 0)), ("y", p, ("scratch", rooms[0])), ("stride", "i", ("scratch_stride",)),
            *[(k, "i", v) for k, v in values.items()], *[(k, "f", v) for k, v in floats.items()]]
    assert [name for name, _, _ in args] == list(PARAMETERS)
    block = WIDE if "real" in (load, store) else LANES
    low.calls.append(KernelCall("fourier_lines", source, tuple([kind for _, kind, _ in args]),
                                tuple([v for _, _, v in args]), batches * -(-lines // block),
                                grain_of(n * LANES * (1 + len(passes)) * 0.15), sum(rooms)))


def along_axis(low: Lowering, axis: int, src: Operand, dst: Operand, n: int, load: str = "complex",
               store: str = "complex", **options: Any) -> None:
    """Transform contiguous `src` along an axis, n long, into contiguous `dst`; they may be the same."""
    outer, inner = prod(src.shape[:axis]), prod(src.shape[axis + 1:])
    if n > LONGEST or 1 < inner < FEW:
        along_last(low, axis, src, dst, n, load, store, **options)
        return
    here, there = src.shape[axis] * inner, dst.shape[axis] * inner
    if inner > 1:
        transform(low, n, outer, inner, Lines(src, here, 1, inner), Lines(dst, there, 1, inner), load, store, **options)
    else:
        transform(low, n, 1, outer, Lines(src, 0, here, 1), Lines(dst, 0, there, 1), load, store, **options)


def along_last(low: Lowering, axis: int, src: Operand, dst: Operand, n: int, load: str, store: str,
               **options: Any) -> None:
    """The same after the axis has been brought to the end, where it is not there."""
    if axis == len(src.shape) - 1:
        long_lines(low, src, dst, n, load, store, **options)
        return
    order = [*range(axis), *range(axis + 1, len(src.shape)), axis]
    near, far = (low.temp(x.dtype, [x.shape[i] for i in order]) for x in (src, dst))
    copy(low, src.permuted(order), near)
    along_axis(low, len(order) - 1, near, far, n, load, store, **options)
    copy(low, far.permuted([order.index(i) for i in range(len(order))]), dst)


def long_lines(low: Lowering, src: Operand, dst: Operand, n: int, load: str, store: str, backward: bool = False,
               scale: float = 1.0, conjugate: bool = False) -> None:
    """Lines that do not fit into the cache, along the last axis."""
    lead = src.shape[:-1]
    if load == "complex" and store == "complex":
        square(low, prod(lead), n, src, dst, backward, scale)
    elif load == "real" and store == "half" and n % 2 == 0:
        h = n // 2
        pairs = Operand(src.place, dst.dtype, (*lead, h), row_major((*lead, h)), src.offset // 2)
        found = low.temp(dst.dtype, (*lead, h))
        along_axis(low, len(lead), pairs, found, h)
        join_halves(low, prod(lead), h, n, found, dst, scale)
    elif load == "real" and store == "whole":
        wide = low.temp(dst.dtype, src.shape)
        zero(low, whole(wide.place, src.dtype, (2 * src.numel,)))
        copy(low, src, Operand(wide.place, src.dtype, src.shape, tuple([2 * s for s in wide.strides])))
        square(low, prod(lead), n, wide, dst, conjugate, scale)
    else:
        raise NotImplementedError("a long transform to or from half a spectrum")


def square(low: Lowering, batches: int, n: int, src: Operand, dst: Operand, backward: bool, scale: float) -> None:
    """Complex lines as matrices [a, b]: columns are transformed and twisted, then the rows, which become columns."""
    sizes = split(n)
    if sizes is None:
        raise NotImplementedError(f"a transform of {n} elements")
    a, b = sizes
    half = low.temp(dst.dtype, (batches, n))
    transform(low, a, batches, b, Lines(src, n, 1, b), Lines(half, n, 1, b), store="twisted", backward=backward,
              twist=n)
    transform(low, b, batches, a, Lines(half, n, b, 1), Lines(dst, n, 1, a), backward=backward, scale=scale)


def join_halves(low: Lowering, batches: int, h: int, n: int, found: Operand, dst: Operand, scale: float) -> None:
    real, block = dst.dtype.to_real(), 256
    p = pointer(real)
    near = circle(low, n, real, min(block, n))
    low.call(halves_joined, [("z", p, found.arg), ("out", p, dst.arg), ("near", p, near.arg), ("h", "i", h),
                             ("block", "i", block), ("unit", "f", -2 * math.pi / n), ("scale_", "f", scale)],
             batches * -(-(h + 1) // block), grain_of(block), holes={"T": conversion(real)})


# --- operations ------------------------------------------------------------------------------------------------------

def source(low: Lowering) -> Operand:
    if not low.inputs[0].numel or not low.outputs[0].numel or low.inputs[0].dtype.itemsize == 2:
        raise NotImplementedError("an empty array, or one of a half type")
    return contiguous(low, low.inputs[0])


def fft(low: Lowering) -> None:
    x, (out,) = source(low), low.outputs
    axes, backward, scale = low.node.attr("axes"), not low.node.attr("forward"), low.node.attr("scale")
    for i, axis in enumerate(axes):
        factor = scale if i == len(axes) - 1 else 1.0
        if x.dtype.is_complex:
            along_axis(low, axis, x, out, x.shape[axis], backward=backward, scale=factor)
        else:
            along_axis(low, axis, x, out, x.shape[axis], "real", "whole", conjugate=backward, scale=factor)
        x = out


def rfft(low: Lowering) -> None:
    x, (out,) = source(low), low.outputs
    *others, last = low.node.attr("axes")
    scale = low.node.attr("scale")
    along_axis(low, last, x, out, x.shape[last], "real", "half", scale=scale)
    for axis in others:
        along_axis(low, axis, out, out, out.shape[axis])


def irfft(low: Lowering) -> None:
    x, (out,) = source(low), low.outputs
    *others, last = low.node.attr("axes")
    for axis in others:
        turned = low.temp(x.dtype, x.shape)
        along_axis(low, axis, x, turned, x.shape[axis], backward=True)
        x = turned
    along_axis(low, last, x, out, out.shape[last], "half", "real", backward=True, scale=low.node.attr("scale"))
