# ruff: noqa: B007, B018, F841  the kernels have holes, and what is filled in uses the names
"""Pooling over the last one to three axes. An item is a plane; the windows that lie inside it are unrolled.

Gradients are added plane by plane in the order of the windows, so they need no atomic operations.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import prod

from jtorch import dtypes
from jtorch.codegen.library.call import (
    Arg,
    Lowering,
    Operand,
    conversion,
    grain_of,
    loader,
    merge_axes,
    pointer,
    storer,
)
from jtorch.codegen.library.conv_window import stride_text, three
from jtorch.codegen.library.copy import contiguous, copy, zero
from jtorch.codegen.library.kernel_text import inline
from jtorch.codegen.library.language import (
    AVERAGE,
    BEST,
    COLUMN,
    DIVISOR,
    INDEX_EDGE,
    INDEX_INSIDE,
    LOWEST,
    OFFSETS,
    SIZE,
    Pointer,
    T,
    i64,
    index_div,
    index_mod,
    load,
    maximum,
    select,
    store,
)

UNROLLED = 32
"""Elements of a window up to which its loop is unrolled."""


def max_planes(x: Pointer, y: Pointer, index: Pointer, xp: int, depth: int, height: int, width: int, kd: int, kh: int,
               kw: int, sd: int, sh: int, sw: int, pd: int, ph: int, pw: int, dd: int, dh: int, dw: int, od: int,
               oh: int, ow: int, begin: int, end: int, worker: int) -> None:
    """y = the largest element of each window, index = its place in the plane (the first of equal ones; NaN wins)."""
    first = min(ow, index_div(pw + sw - 1, sw))
    last = max(first, min(ow, (width - 1 - (kw - 1) * dw + pw) // sw + 1))
    OFFSETS
    for item in range(begin, end):
        plane = index_div(item, od * oh)
        row = index_mod(item, oh)
        z0 = index_mod(index_div(item, oh), od) * sd - pd
        y0 = row * sh - ph
        base = plane * xp
        target = item * ow
        lo = ow
        hi = ow
        if (z0 >= 0) & (z0 + (kd - 1) * dd < depth) & (y0 >= 0) & (y0 + (kh - 1) * dh < height):
            lo = first
            hi = last
        corner = (z0 * height + y0) * width - pw
        for j in range(lo, hi):
            BEST
            INDEX_INSIDE
        for side in range(2):
            j0 = side * hi
            j1 = lo
            if side == 1:
                j1 = ow
            for j in range(j0, j1):
                x0 = j * sw - pw
                best = LOWEST
                at = i64(-1)
                for a in range(kd):
                    iz = z0 + a * dd
                    for b in range(kh):
                        iy = y0 + b * dh
                        if (iz >= 0) & (iz < depth) & (iy >= 0) & (iy < height):
                            for e in range(kw):
                                ix = x0 + e * dw
                                if (ix >= 0) & (ix < width):
                                    place = (iz * height + iy) * width + ix
                                    v = load(x[base + place])
                                    if (v > best) | ((v != v) & (best == best)) | (at < 0):
                                        best = v
                                        at = place
                y[target + j] = store(best)
                INDEX_EDGE


@inline
def next_row(plane: int, z: int, row: int, od: int, oh: int) -> tuple[int, int, int]:
    """The row after this one, which od * oh rows of a plane are counted in."""
    wraps = row + 1 == oh
    ends = wraps & (z + 1 == od)
    plane_after = plane + i64(ends)
    z_after = select(ends, 0, z + i64(wraps))
    row_after = select(wraps, 0, row + 1)
    return plane_after, z_after, row_after


def max_values(x: Pointer, y: Pointer, tops: Pointer, scratch_stride: int, row_size: int, xp: int, depth: int,
               height: int, width: int, kd: int, kh: int, sd: int, sh: int, sw: int, pd: int, ph: int, pw: int, dd: int,
               dh: int, dw: int, od: int, oh: int, ow: int, begin: int, end: int, worker: int) -> None:
    """`max_planes` without the places: the rows that a row of windows meets are folded into one with its padding, then
    the windows of that one."""
    first = index_div(worker * scratch_stride, SIZE)
    for i in range(first, first + row_size):
        tops[i] = LOWEST
    plane = index_div(begin, od * oh)
    z = index_mod(index_div(begin, oh), od)
    row = index_mod(begin, oh)
    for item in range(begin, end):
        z0 = z * sd - pd
        y0 = row * sh - ph
        line = first + pw
        found = False
        for a in range(kd):
            iz = z0 + a * dd
            for b in range(kh):
                iy = y0 + b * dh
                if (iz >= 0) & (iz < depth) & (iy >= 0) & (iy < height):
                    source = plane * xp + (iz * height + iy) * width
                    if found:
                        for i in range(width):
                            tops[line + i] = maximum(tops[line + i], load(x[source + i]))
                    else:
                        for i in range(width):
                            tops[line + i] = load(x[source + i])
                    found = True
        if not found:
            for i in range(width):
                tops[line + i] = LOWEST
        for j in range(ow):
            p = first + COLUMN
            BEST
            y[item * ow + j] = store(best)  # noqa: F821
        plane, z, row = next_row(plane, z, row, od, oh)


def adaptive_max_planes(x: Pointer, y: Pointer, index: Pointer, best: Pointer, at: Pointer, scratch_stride: int,
                        half: int, xp: int, depth: int, height: int, width: int, od: int, oh: int, ow: int, begin: int,
                        end: int, worker: int) -> None:
    """y = the largest element of each window, index = its place in the plane (the first of equal ones; NaN wins).

    An item is a row of a plane: the rows of its windows are folded into one, then the windows of that one. A worker's
    scratch memory holds the places of that row in its first `half` bytes, the values behind them.
    """
    places = index_div(worker * scratch_stride, 8)
    columns = index_div(worker * scratch_stride + half, SIZE)
    for item in range(begin, end):
        plane = index_div(item, od * oh)
        k = index_mod(index_div(item, oh), od)
        row = index_mod(item, oh)
        z0 = index_div(k * depth, od)
        z1 = index_div((k + 1) * depth + od - 1, od)
        y0 = index_div(row * height, oh)
        y1 = index_div((row + 1) * height + oh - 1, oh)
        base = plane * xp
        first = (z0 * height + y0) * width
        for j in range(width):
            best[columns + j] = load(x[base + first + j])
            at[places + j] = first + j
        for iz in range(z0, z1):
            for iy in range(y0, y1):
                place = (iz * height + iy) * width
                for j in range(width):
                    v = load(x[base + place + j])
                    top = best[columns + j]
                    wins = (v > top) | ((v != v) & (top == top))
                    best[columns + j] = select(wins, v, top)
                    at[places + j] = select(wins, place + j, at[places + j])
        for j in range(ow):
            x0 = index_div(j * width, ow)
            x1 = index_div((j + 1) * width + ow - 1, ow)
            top = best[columns + x0]
            place = at[places + x0]
            for i in range(x0 + 1, x1):
                v = best[columns + i]
                here = at[places + i]
                same = (v == top) | ((v != v) & (top != top))
                wins = (v > top) | ((v != v) & (top == top)) | (same & (here < place))
                top = select(wins, v, top)
                place = select(wins, here, place)
            y[item * ow + j] = store(top)
            index[item * ow + j] = place


def max_planes_grad(g: Pointer, index: Pointer, gx: Pointer, count: int, size: int, begin: int, end: int,
                    worker: int) -> None:
    """gx[plane, index] += g[plane], from 0; an item is a plane."""
    for item in range(begin, end):
        for i in range(item * size, item * size + size):
            gx[i] = T(0)
        for i in range(item * count, item * count + count):
            place = item * size + index[i]
            gx[place] = gx[place] + g[i]


@inline
def span_of(place: int, kernel: int, stride: int, padding: int, size: int) -> tuple[int, int, int]:
    """Where a window begins and ends along an axis, and its length with the padding that it reaches over."""
    unclipped = place * stride - padding
    beyond = min(unclipped + kernel, size + padding)
    start = max(unclipped, 0)
    stop = min(beyond, size)
    return start, stop, beyond - unclipped


def avg_planes(x: Pointer, y: Pointer, xp: int, depth: int, height: int, width: int, kd: int, kh: int, kw: int, sd: int,
               sh: int, sw: int, pd: int, ph: int, pw: int, od: int, oh: int, ow: int, include: int, divisor: int,
               begin: int, end: int, worker: int) -> None:
    """y = the mean of each window. `include`: padding counts as elements; `divisor`: counts instead of them, if not 0.
    An item is a row of a plane; its windows that reach over no edge are in columns first to last."""
    first = min(ow, index_div(pw + sw - 1, sw))
    last = max(first, min(ow, (width - kw + pw) // sw + 1))
    OFFSETS
    whole = kd * kh * kw
    if divisor != 0:
        whole = divisor
    plane = index_div(begin, od * oh)
    z = index_mod(index_div(begin, oh), od)
    row = index_mod(begin, oh)
    for item in range(begin, end):
        z0, z1, deep = span_of(z, kd, sd, pd, depth)
        y0, y1, high = span_of(row, kh, sh, ph, height)
        inside = (z1 - z0) * (y1 - y0)
        lo = ow
        hi = ow
        if inside == kd * kh:
            lo = first
            hi = last
        corner = plane * xp + (z0 * height + y0) * width - pw
        for j in range(lo, hi):
            p = corner + COLUMN
            AVERAGE
            y[item * ow + j] = store(acc / T(whole))  # noqa: F821
        for side in range(2):
            j0 = side * hi
            j1 = lo
            if side == 1:
                j1 = ow
            for j in range(j0, j1):
                x0, x1, wide = span_of(j, kw, sw, pw, width)
                count = deep * high * wide
                DIVISOR
                acc = T(0)
                for iz in range(z0, z1):
                    for iy in range(y0, y1):
                        source = plane * xp + (iz * height + iy) * width
                        for ix in range(x0, x1):
                            acc += load(x[source + ix])
                y[item * ow + j] = store(acc / T(count))
        plane, z, row = next_row(plane, z, row, od, oh)


def avg_inside(x: Pointer, y: Pointer, xp: int, height: int, width: int, sd: int, sh: int, sw: int, od: int, oh: int,
               ow: int, count: int, begin: int, end: int, worker: int) -> None:
    """y = the mean of each window where none reaches over an edge; an item is a row of a plane."""
    OFFSETS
    plane = index_div(begin, od * oh)
    z = index_mod(index_div(begin, oh), od)
    row = index_mod(begin, oh)
    for item in range(begin, end):
        corner = plane * xp + (z * sd * height + row * sh) * width
        for j in range(ow):
            p = corner + COLUMN
            AVERAGE
            y[item * ow + j] = store(acc / T(count))  # noqa: F821
        plane, z, row = next_row(plane, z, row, od, oh)


def avg_inside_grad(g: Pointer, gx: Pointer, size: int, height: int, width: int, sd: int, sh: int, sw: int, od: int,
                    oh: int, ow: int, count: int, begin: int, end: int, worker: int) -> None:
    """gx = g / count in windows that neither overlap nor reach over an edge; an item is a plane of `size` elements."""
    OFFSETS
    for item in range(begin, end):
        for i in range(item * size, (item + 1) * size):
            gx[i] = T(0)
        for z in range(od):
            for row in range(oh):
                corner = item * size + (z * sd * height + row * sh) * width
                source = ((item * od + z) * oh + row) * ow
                for j in range(ow):
                    share = g[source + j] / T(count)
                    p = corner + COLUMN
                    AVERAGE


def avg_planes_grad(g: Pointer, gx: Pointer, depth: int, height: int, width: int, kd: int, kh: int, kw: int, sd: int,
                    sh: int, sw: int, pd: int, ph: int, pw: int, od: int, oh: int, ow: int, include: int, divisor: int,
                    begin: int, end: int, worker: int) -> None:
    """gx = g / count added into the windows; an item is a plane."""
    volume = depth * height * width
    for item in range(begin, end):
        for i in range(item * volume, item * volume + volume):
            gx[i] = T(0)
        for k in range(od):
            for row in range(oh):
                z0, z1, deep = span_of(k, kd, sd, pd, depth)
                y0, y1, high = span_of(row, kh, sh, ph, height)
                inside = (z1 - z0) * (y1 - y0)
                for j in range(ow):
                    x0, x1, wide = span_of(j, kw, sw, pw, width)
                    count = deep * high * wide
                    DIVISOR
                    share = g[((item * od + k) * oh + row) * ow + j] / T(count)
                    for iz in range(z0, z1):
                        for iy in range(y0, y1):
                            target = item * volume + (iz * height + iy) * width
                            for ix in range(x0, x1):
                                gx[target + ix] = gx[target + ix] + share


COUNT = """\
if include == 0:
    count = inside * (x1 - x0)
if divisor != 0:
    count = divisor"""


@dataclass(frozen=True, slots=True)
class Pool:
    planes: int
    spatial: tuple[int, int, int]
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    before: tuple[int, int, int]
    out: tuple[int, int, int]

    @property
    def cells(self) -> int:
        return prod(self.kernel)

    @property
    def is_inside(self) -> bool:
        """A small window, and none that reaches over an edge?"""
        fits = all((o - 1) * s + k <= n for o, s, k, n in zip(self.out, self.stride, self.kernel, self.spatial))
        return fits and self.before == (0, 0, 0) and self.cells <= UNROLLED

    @property
    def offsets(self) -> str:
        """Lines that say where the rows of a window begin."""
        rows = itertools.product(range(self.kernel[0]), range(self.kernel[1]))
        return "\n".join(f"o{i} = ({a} * height + {b}) * width" for i, (a, b) in enumerate(rows))

    @property
    def places(self) -> list[str]:
        """Of a window's elements, in order."""
        rows = range(self.kernel[0] * self.kernel[1])
        return [f"p + o{i} + {e}" for i, e in itertools.product(rows, range(self.kernel[2]))]

    def integers(self, *groups: str) -> list[tuple[str, str, Arg]]:
        known = {"depth height width": self.spatial, "height width": self.spatial[1:],
                 "kd kh kw": self.kernel, "sd sh sw": self.stride,
                 "pd ph pw": self.before, "od oh ow": self.out}
        return [(name, "i", value) for group in groups for name, value in zip(group.split(), known[group])]


def pool_of(x: tuple[int, ...], y: tuple[int, ...], attrs: dict) -> Pool:
    n = len(attrs["kernel"])
    return Pool(prod(x[:len(x) - n]), three(x[len(x) - n:], 1), three(attrs["kernel"], 1), three(attrs["stride"], 1),
                three(attrs["padding"], 0), three(y[len(y) - n:], 1))


def planes_of(low: Lowering, x: Operand, n: int) -> tuple[Operand, int]:
    """x with contiguous planes that lie at one stride, and that stride."""
    lead = len(x.shape) - n
    sizes, (strides,) = merge_axes(x.shape[:lead], x.strides[:lead])
    if len(sizes) > 1 or not x.has_contiguous(lead):
        x = contiguous(low, x)
        sizes, (strides,) = merge_axes(x.shape[:lead], x.strides[:lead])
    return x, strides[0] if strides else 0


def hole_of_lowest(d: dtypes.dtype) -> str:
    c = conversion(d)
    if d.is_floating_point:
        return f"-{c}(1e999)"
    if d is dtypes.bool_:
        return "b8(False)"
    return f"{c}(0)" if d is dtypes.uint8 else f"{c}(-{1 << (d.itemsize * 8 - 1)})"


def max_pool(low: Lowering) -> None:
    x = low.inputs[0]
    out, index = low.outputs
    if not out.numel:
        return
    attrs = low.node.kwargs
    d, v = x.dtype, pool_of(x.shape, out.shape, attrs)
    dilation = three(attrs["dilation"], 1)
    x, xp = planes_of(low, x, len(attrs["kernel"]))
    sizes = (*v.integers("depth height width", "kd kh kw", "sd sh sw", "pd ph pw"),
             *((name, "i", value) for name, value in zip(("dd", "dh", "dw"), dilation)), *v.integers("od oh ow"))
    if 1 not in low.wanted and v.kernel[2] <= UNROLLED and d is not dtypes.bool_:
        size = max((v.out[2] - 1) * v.stride[2] + (v.kernel[2] - 1) * dilation[2] + 1, v.before[2] + v.spatial[2])
        steps = [f" + {e}" if dilation[2] == 1 else f" + {e} * dw" for e in range(v.kernel[2])]
        best = ["best = tops[p]", *(f"best = maximum(best, tops[p{step}])" for step in steps[1:])]
        low.call(max_values, [("x", pointer(d), x.arg), ("y", pointer(d), out.arg),
                              ("tops", pointer(d.compute), ("scratch",)), ("scratch_stride", "i", ("scratch_stride",)),
                              ("row_size", "i", size), ("xp", "i", xp), *(s for s in sizes if s[0] != "kw")],
                 v.planes * v.out[0] * v.out[1], grain_of(v.spatial[2] * v.cells * 0.04 + v.out[2] * 0.2 + 10),
                 scratch=size * d.compute.itemsize,
                 holes={"BEST": "\n".join(best), "COLUMN": stride_text(v.stride[2]), "LOWEST": hole_of_lowest(d),
                        "SIZE": str(d.compute.itemsize), "load": loader(d), "store": storer(d)})
        return
    unrolled = v.cells <= UNROLLED
    rows = list(itertools.product(range(v.kernel[0]), range(v.kernel[1]))) if unrolled else []
    offsets = [f"o{i} = ({a} * dd * height + {b} * dh) * width" for i, (a, b) in enumerate(rows)]
    best = [f"p = base + corner + {stride_text(v.stride[2])}"]
    for i, e in itertools.product(range(len(rows)), range(v.kernel[2])):
        offset = f"o{i} + {e}" if dilation[2] == 1 else f"o{i} + {e} * dw"
        if i == e == 0:
            best += ["best = load(x[p + o0])", "at = i32(o0)"]
        else:
            best += [f"v = load(x[p + {offset}])", "wins = (v > best) | ((v != v) & (best == best))",
                     "best = select(wins, v, best)", f"at = select(wins, i32({offset}), at)"]
    best.append("y[target + j] = store(best)")
    holes = {"OFFSETS": "\n".join(offsets), "BEST": "\n".join(best),
             "INDEX_INSIDE": f"index[target + j] = corner + {stride_text(v.stride[2])} + i64(at)",
             "INDEX_EDGE": "index[target + j] = max(at, 0)", "LOWEST": hole_of_lowest(d), "load": loader(d),
             "store": storer(d)}
    if not unrolled:
        holes |= {"OFFSETS": "first = ow\nlast = ow", "BEST": "pass", "INDEX_INSIDE": "pass"}
    args = [("x", pointer(d), x.arg), ("y", pointer(d), out.arg), ("index", "p:int64", index.arg), ("xp", "i", xp),
            *sizes]
    low.call(max_planes, args, v.planes * v.out[0] * v.out[1], grain_of(v.out[2] * v.cells * 0.3 + 10), holes=holes)


def adaptive_max_pool(low: Lowering) -> None:
    x = low.inputs[0]
    out, index = low.outputs
    if not out.numel:
        return
    n = len(low.node.attr("output"))
    d = x.dtype
    if d is dtypes.bool_ or d.is_complex:
        raise NotImplementedError("numbers with an order only")
    spatial, small = three(x.shape[len(x.shape) - n:], 1), three(out.shape[len(out.shape) - n:], 1)
    x, xp = planes_of(low, x, n)
    row = -(-spatial[2] * 8 // 64) * 64
    sizes = zip(("depth", "height", "width", "od", "oh", "ow"), (*spatial, *small))
    low.call(adaptive_max_planes, [
        ("x", pointer(d), x.arg), ("y", pointer(d), out.arg), ("index", "p:int64", index.arg),
        ("best", pointer(d.compute), ("scratch",)), ("at", "p:int64", ("scratch",)),
        ("scratch_stride", "i", ("scratch_stride",)), ("half", "i", row), ("xp", "i", xp),
        *[(name, "i", v) for name, v in sizes]],
        out.numel // small[2], grain_of(prod(spatial) / (small[0] * small[1]) * 0.5 + 20), scratch=2 * row,
        holes={"load": loader(d), "store": storer(d), "SIZE": str(d.compute.itemsize)})


def max_pool_grad(low: Lowering) -> None:
    g, index = (contiguous(low, x) for x in low.inputs)
    out = low.outputs[0]
    spatial = low.node.attr("input_spatial")
    size, planes = prod(spatial), prod(out.shape[:len(out.shape) - len(spatial)])
    if not out.numel:
        return
    d = out.dtype

    def run(g: Operand, gx: Operand) -> None:
        count = g.numel // max(planes, 1)
        p = pointer(gx.dtype)
        low.call(max_planes_grad, [("g", p, g.arg), ("index", "p:int64", index.arg), ("gx", p, gx.arg), ("count", "i",
                                                                                                         count),
                                   ("size", "i", size)], planes, grain_of(size * 0.1 + count * 1.5),
                 holes={"T": conversion(gx.dtype)})
    wide_sums(low, run, g, out, d)


def wide_sums(low: Lowering, run: object, g: Operand, out: Operand, d: dtypes.dtype) -> None:
    """`run(g, out)`, in float32 for half types."""
    if d in (dtypes.float16, dtypes.bfloat16):
        wide_g, wide = low.temp(dtypes.float32, g.shape), low.temp(dtypes.float32, out.shape)
        copy(low, g, wide_g)
        run(wide_g, wide)  # type: ignore[operator]
        copy(low, wide, out)
    else:
        run(g, out)  # type: ignore[operator]


def avg_args(low: Lowering, v: Pool) -> list[tuple[str, str, Arg]]:
    attrs = low.node.kwargs
    return [*v.integers("depth height width", "kd kh kw", "sd sh sw", "pd ph pw", "od oh ow"),
            ("include", "i", int(attrs["count_include_pad"])), ("divisor", "i", attrs["divisor_override"] or 0)]


def avg_pool(low: Lowering) -> None:
    x = low.inputs[0]
    out = low.outputs[0]
    if not out.numel:
        return
    attrs = low.node.kwargs
    d = x.dtype
    if not d.is_floating_point:
        raise NotImplementedError("means of integers")
    v = pool_of(x.shape, out.shape, attrs)
    x, xp = planes_of(low, x, len(attrs["kernel"]))
    p, unrolled = pointer(d), v.cells <= UNROLLED
    args = [("x", p, x.arg), ("y", p, out.arg), ("xp", "i", xp)]
    items, grain = v.planes * v.out[0] * v.out[1], grain_of(v.out[2] * v.cells * (0.1 if unrolled else 0.5) + 10)
    holes = {"COLUMN": stride_text(v.stride[2]), "DIVISOR": COUNT, "OFFSETS": "first = ow\nlast = ow",
             "AVERAGE": "acc = T(0)", "T": conversion(d), "load": loader(d), "store": storer(d)}
    if unrolled:
        terms = [f"load(x[{place}])" for place in v.places]
        sums = [f"acc = {terms[0]}", *[f"acc += {term}" for term in terms[1:]]]
        holes |= {"OFFSETS": v.offsets, "AVERAGE": "\n".join(sums)}
    if v.is_inside:
        low.call(avg_inside, [*args, *v.integers("height width", "sd sh sw", "od oh ow"),
                              ("count", "i", attrs["divisor_override"] or v.cells)], items, grain, holes=holes)
    else:
        low.call(avg_planes, [*args, *avg_args(low, v)], items, grain, holes=holes)


def avg_pool_grad(low: Lowering) -> None:
    g = contiguous(low, low.inputs[0])
    out = low.outputs[0]
    attrs = low.node.kwargs
    if not out.numel:
        return
    if not g.numel:
        zero(low, out)
        return
    d = out.dtype
    if not d.is_floating_point:
        raise NotImplementedError("means of integers")
    v = pool_of(out.shape, g.shape, attrs)
    apart = all(s >= k for s, k in zip(v.stride, v.kernel))

    def run(g: Operand, gx: Operand) -> None:
        p = pointer(gx.dtype)
        if v.is_inside and apart:
            low.call(avg_inside_grad, [("g", p, g.arg), ("gx", p, gx.arg), ("size", "i", prod(v.spatial)),
                                       *v.integers("height width", "sd sh sw", "od oh ow"),
                                       ("count", "i", attrs["divisor_override"] or v.cells)], v.planes,
                     grain_of(prod(v.spatial) * 0.5),
                     holes={"OFFSETS": v.offsets, "AVERAGE": "\n".join([f"gx[{place}] = share" for place in v.places]),
                            "COLUMN": stride_text(v.stride[2]), "T": conversion(gx.dtype)})
            return
        low.call(avg_planes_grad, [("g", p, g.arg), ("gx", p, gx.arg), *avg_args(low, v)], v.planes,
                 grain_of(prod(v.out) * v.cells + prod(v.spatial) * 0.1),
                 holes={"DIVISOR": COUNT, "T": conversion(gx.dtype)})
    wide_sums(low, run, g, out, d)
