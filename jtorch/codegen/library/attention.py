"""Attention and its derivative: a block of rows of weights is made, used and forgotten in cache.

Products are sums in registers (`jtorch/runtime/tiles.py`). What a causal row does not see is left out in steps of a
tile's rows; up to there its weights are zeros.
"""
from __future__ import annotations

from jtorch import dtypes
from jtorch.codegen.library.call import Lowering, Operand, conversion, grain_of, merge_axes, pointer
from jtorch.codegen.library.copy import contiguous
from jtorch.codegen.library.gemm_layout import FLOPS_PER_NS, round_up
from jtorch.codegen.library.kernel_text import inline
from jtorch.codegen.library.language import (
    SIZE,
    Pointer,
    T,
    copy_rows,
    exp,
    index_div,
    index_mod,
    log,
    matrix_tile,
    max_number,
    reassoc_add,
    select,
    shifted,
    tile_columns,
    tile_rows,
    transpose,
)

BLOCK_ELEMENTS = 1 << 16
"""Weights of a block of rows: with the slopes beside them they stay in the second-level cache."""

MAX_ROWS, MIN_ROWS, MAX_DEPTH = 64, 16, 256
"""Rows of a block; rows of an operand that are packed at a time."""

WANTED_ITEMS = 16
"""Items that the work is cut into where there are not as many matrices."""

WIDE = 64
"""Weights of a row are computed in multiples of it, without a loop over what is left: those not seen are zeros."""

PANEL_COLUMNS = 48
"""The most columns that a tile has."""


@inline
def score_rows(q: Pointer, x: int, q_row: int, k: Pointer, y: int, k_row: int, e: int, weights: Pointer, own: int,
               pitch: int, panel: Pointer, r0: int, r1: int, seen: int, causal: int) -> None:
    """weights[r0 .. r1, 0 .. seen] = rows of q times rows of k, of which a causal row takes those that it sees."""
    lanes = index_div(tile_columns(weights), 3)
    for column in range(0, seen, tile_columns(weights)):
        wide = min(tile_columns(weights), seen - column)
        transpose(shifted(k, y + column * k_row), k_row, shifted(panel, own), tile_columns(weights), wide, e)
        for row in range(r0, r1, tile_rows(weights)):
            here = select(causal > 0, min(wide, row + tile_rows(weights) - column), wide)
            if here > 0:
                here = index_div(here + lanes - 1, lanes) * lanes
                matrix_tile(shifted(q, x + row * q_row), q_row, 1, shifted(panel, own), tile_columns(weights), e,
                            shifted(weights, own + (row - r0) * pitch + column), pitch,
                            min(tile_rows(weights), r1 - row), here, False)


@inline
def mix_rows(weights: Pointer, own: int, pitch: int, v: Pointer, z: int, v_row: int, d: int, out: Pointer, to: int,
             panel: Pointer, depth: int, r0: int, r1: int, seen: int, causal: int) -> None:
    """out[r0 .. r1] = rows of weights times rows of v; out's first row is at `to`."""
    for column in range(0, d, tile_columns(out)):
        wide = min(tile_columns(out), d - column)
        for p0 in range(0, seen, depth):
            p1 = min(p0 + depth, seen)
            copy_rows(shifted(v, z + p0 * v_row + column), v_row, shifted(panel, own), tile_columns(out), p1 - p0, wide)
            for row in range(r0, r1, tile_rows(out)):
                last = select(causal > 0, min(p1, row + tile_rows(out)), p1)
                if last > p0:
                    matrix_tile(shifted(weights, own + (row - r0) * pitch + p0), pitch, 1, shifted(panel, own),
                                tile_columns(out), last - p0, shifted(out, to + row * d + column), d,
                                min(tile_rows(out), r1 - row), wide, p0 > 0)


@inline
def spread_rows(weights: Pointer, own: int, pitch: int, g: Pointer, u: int, g_row: int, d: int, out: Pointer, to: int,
                panel: Pointer, r0: int, r1: int, seen: int, causal: int) -> None:
    """out[0 .. seen] += rows of transposed weights times g[r0 .. r1]; out's first row is at `to`."""
    for column in range(0, d, tile_columns(out)):
        wide = min(tile_columns(out), d - column)
        copy_rows(shifted(g, u + r0 * g_row + column), g_row, shifted(panel, own), tile_columns(out), r1 - r0, wide)
        for row in range(0, seen, tile_rows(out)):
            unseen = select(causal > 0, max(row - r0, 0), 0)
            matrix_tile(shifted(weights, own + unseen * pitch + row), 1, pitch,
                        shifted(panel, own + unseen * tile_columns(out)), tile_columns(out), r1 - r0 - unseen,
                        shifted(out, to + row * d + column), d, min(tile_rows(out), seen - row), wide, True)


def attend_rows(q: Pointer, k: Pointer, v: Pointer, out: Pointer, sums: Pointer, weights: Pointer, panel: Pointer,
                totals: Pointer, scratch_stride: int, scale: float, causal: int, inner: int, sq0: int, sq1: int,
                sk0: int, sk1: int, sv0: int, sv1: int, q_row: int, k_row: int, v_row: int, t: int, s: int, e: int,
                d: int, rows: int, pitch: int, depth: int, begin: int, end: int, worker: int) -> None:
    """An item is a block of rows of one matrix, those that see most first."""
    blocks = index_div(t + rows - 1, rows)
    own = index_div(worker * scratch_stride, SIZE)
    for item in range(begin, end):
        batch = index_div(item, blocks)
        r0 = (blocks - 1 - index_mod(item, blocks)) * rows
        r1 = min(r0 + rows, t)
        i0 = index_div(batch, inner)
        i1 = index_mod(batch, inner)
        x = i0 * sq0 + i1 * sq1
        y = i0 * sk0 + i1 * sk1
        z = i0 * sv0 + i1 * sv1
        seen = select(causal > 0, min(s, r1), s)
        score_rows(q, x, q_row, k, y, k_row, e, weights, own, pitch, panel, r0, r1, seen, causal)
        for r in range(r0, r1):
            at = own + (r - r0) * pitch
            n = select(causal > 0, min(r + 1, seen), seen)
            whole = index_div(n + WIDE - 1, WIDE) * WIDE
            top = weights[at] * T(scale)
            for j in range(whole):
                scaled = select(j < n, weights[at + j] * T(scale), T(-1e999))
                weights[at + j] = scaled
                top = max_number(top, scaled)
            total = T(0.0)
            for j in range(whole):
                weight = exp(weights[at + j] - top)
                weights[at + j] = weight
                total = reassoc_add(total, weight)
            factor = T(1.0) / total
            for j in range(whole):
                weights[at + j] = weights[at + j] * factor
            sums[batch * t + r] = top
            totals[own + r - r0] = total
        for r in range(r0, r1):
            sums[batch * t + r] = sums[batch * t + r] + log(totals[own + r - r0])
        to_out = batch * t * d
        mix_rows(weights, own, pitch, v, z, v_row, d, out, to_out, panel, depth, r0, r1, seen, causal)


def attend_stripes(q: Pointer, k: Pointer, v: Pointer, g: Pointer, sums: Pointer, delta: Pointer, dq: Pointer,
                   dk: Pointer, dv: Pointer, weights: Pointer, slopes: Pointer, panel: Pointer, scratch_stride: int,
                   scale: float, causal: int, count: int, inner: int, sq0: int, sq1: int, sk0: int, sk1: int, sv0: int,
                   sv1: int, sg0: int, sg1: int, q_row: int, k_row: int, v_row: int, g_row: int, t: int, s: int, e: int,
                   d: int, rows: int, pitch: int, depth: int, stripes: int, stripe_rows: int, begin: int, end: int,
                   worker: int) -> None:
    """An item is a stripe of rows of one matrix: it writes these rows of dq, and its parts of dk and dv."""
    own = index_div(worker * scratch_stride, SIZE)
    for item in range(begin, end):
        batch = index_div(item, stripes)
        stripe = index_mod(item, stripes)
        i0 = index_div(batch, inner)
        i1 = index_mod(batch, inner)
        x = i0 * sq0 + i1 * sq1
        y = i0 * sk0 + i1 * sk1
        z = i0 * sv0 + i1 * sv1
        u = i0 * sg0 + i1 * sg1
        to_q = batch * t * e
        to_k = (stripe * count + batch) * s * e
        to_v = (stripe * count + batch) * s * d
        for i in range(s * e):
            dk[to_k + i] = T(0.0)
        for i in range(s * d):
            dv[to_v + i] = T(0.0)
        end_row = min((stripe + 1) * stripe_rows, t)
        for r0 in range(stripe * stripe_rows, end_row, rows):
            r1 = min(r0 + rows, end_row)
            seen = select(causal > 0, min(s, r1), s)
            score_rows(q, x, q_row, k, y, k_row, e, weights, own, pitch, panel, r0, r1, seen, causal)
            score_rows(g, u, g_row, v, z, v_row, d, slopes, own, pitch, panel, r0, r1, seen, causal)
            for r in range(r0, r1):
                at = own + (r - r0) * pitch
                n = select(causal > 0, min(r + 1, seen), seen)
                less = sums[batch * t + r]
                mean = delta[batch * t + r]
                for j in range(index_div(n + WIDE - 1, WIDE) * WIDE):
                    weight = select(j < n, exp(weights[at + j] * T(scale) - less), T(0.0))
                    weights[at + j] = weight
                    slopes[at + j] = select(j < n, weight * (slopes[at + j] - mean) * T(scale), T(0.0))
            mix_rows(slopes, own, pitch, k, y, k_row, e, dq, to_q, panel, depth, r0, r1, seen, causal)
            spread_rows(slopes, own, pitch, q, x, q_row, e, dk, to_k, panel, r0, r1, seen, causal)
            spread_rows(weights, own, pitch, g, u, g_row, d, dv, to_v, panel, r0, r1, seen, causal)


def add_parts(parts: Pointer, out: Pointer, number: int, size: int, begin: int, end: int, worker: int) -> None:
    """out = the sum of the parts in their order; an item is an element."""
    for i in range(begin, end):
        out[i] = parts[i]
    for part in range(1, number):
        for i in range(begin, end):
            out[i] = out[i] + parts[part * size + i]


def arranged(low: Lowering, operands: list[Operand]) -> tuple[list[Operand], list[int], list[int]]:
    """The operands with contiguous rows, two batch axes, and all operands' strides along them."""
    lead = operands[0].shape[:-2]
    operands = [x if x.strides[-1] == 1 or x.shape[-1] == 1 else contiguous(low, x) for x in operands]
    batch, strides = merge_axes(lead, *[x.strides[:-2] for x in operands])
    if len(batch) > 2:
        operands = [contiguous(low, x) for x in operands]
        batch, strides = merge_axes(lead, *[x.strides[:-2] for x in operands])
    batch = [1] * (2 - len(batch)) + batch
    return operands, batch, [n for s in strides for n in [0] * (2 - len(s)) + s]


def block_rows(t: int, s: int, count: int) -> int:
    """Rows of a block, a multiple of a tile's: a function of sizes alone."""
    rows = min(MAX_ROWS, max(MIN_ROWS, BLOCK_ELEMENTS // s // 8 * 8))
    while rows > MIN_ROWS and count * -(-t // rows) < WANTED_ITEMS:
        rows //= 2
    return round_up(rows, 8)


def require_real(low: Lowering) -> None:
    if low.inputs[0].dtype not in (dtypes.float32, dtypes.float64):
        raise NotImplementedError("attention of this type")


def attend(low: Lowering) -> None:
    require_real(low)
    (q, k, v), batch, strides = arranged(low, list(low.inputs))
    out, sums = low.outputs
    (t, e), (s, d), count = q.shape[-2:], v.shape[-2:], batch[0] * batch[1]
    if not (out.numel and s):
        raise NotImplementedError("attention to nothing")
    rows, pitch, depth = block_rows(t, s, count), round_up(s, WIDE), min(s, MAX_DEPTH)
    size, p = out.dtype.itemsize, pointer(out.dtype)
    block, panel = rows * pitch * size, max(round_up(e, 16), depth) * PANEL_COLUMNS * size
    values = {"scratch_stride": ("scratch_stride",)} | {"scale": float(low.node.attr("scale"))} | dict(zip(
        ("causal", "inner", "sq0", "sq1", "sk0", "sk1", "sv0", "sv1", "q_row", "k_row", "v_row", "t", "s", "e", "d",
         "rows", "pitch", "depth"),
        (int(low.node.attr("causal")), batch[1], *strides, *[x.strides[-2] for x in (q, k, v)], t, s, e, d, rows, pitch,
         depth)))
    low.call(attend_rows, [("q", p, q.arg), ("k", p, k.arg), ("v", p, v.arg), ("out", p, out.arg),
                           ("sums", p, sums.arg), ("weights", p, ("scratch",)), ("panel", p, ("scratch", block)),
                           ("totals", p, ("scratch", block + panel)),
                           *((name, "f" if name == "scale" else "i", value) for name, value in values.items())],
             count * -(-t // rows), grain_of(2 * rows * s * (e + d) / FLOPS_PER_NS + rows * s * 0.3),
             block + panel + round_up(rows * size, 64),
             holes={"SIZE": str(size), "WIDE": str(WIDE), "T": conversion(out.dtype)})


def attend_grad(low: Lowering) -> None:
    require_real(low)
    (q, k, v, g), batch, strides = arranged(low, list(low.inputs[:4]))
    sums, delta = (contiguous(low, x) for x in low.inputs[4:])
    dq, dk, dv = low.outputs
    (t, e), (s, d), count = q.shape[-2:], v.shape[-2:], batch[0] * batch[1]
    if not (count and t and s and e and d):
        raise NotImplementedError("attention to nothing")
    rows, pitch, depth = block_rows(t, s, count), round_up(s, WIDE), min(s, MAX_DEPTH)
    blocks = -(-t // rows)
    stripe_blocks = -(-blocks // min(blocks, max(1, WANTED_ITEMS // count)))
    stripes = -(-blocks // stripe_blocks)
    to_k, to_v = ([low.temp(x.dtype, (stripes, x.numel)) for x in (dk, dv)] if stripes > 1 else (dk, dv))
    size, p = q.dtype.itemsize, pointer(q.dtype)
    block = rows * pitch * size
    panel = max(round_up(e, 16), round_up(d, 16), depth, rows) * PANEL_COLUMNS * size
    values = {"scratch_stride": ("scratch_stride",)} | {"scale": float(low.node.attr("scale"))} | dict(zip(
        ("causal", "count", "inner", "sq0", "sq1", "sk0", "sk1", "sv0", "sv1", "sg0", "sg1", "q_row", "k_row", "v_row",
         "g_row", "t", "s", "e", "d", "rows", "pitch", "depth", "stripes", "stripe_rows"),
        (int(low.node.attr("causal")), count, batch[1], *strides, *[x.strides[-2] for x in (q, k, v, g)], t, s, e, d,
         rows, pitch, depth, stripes, stripe_blocks * rows)))
    low.call(attend_stripes, [*((name, p, x.arg) for name, x in zip(
        ("q", "k", "v", "g", "sums", "delta", "dq", "dk", "dv"), (q, k, v, g, sums, delta, dq, to_k, to_v))),
                              ("weights", p, ("scratch",)), ("slopes", p, ("scratch", block)),
                              ("panel", p, ("scratch", 2 * block)),
                              *((name, "f" if name == "scale" else "i", value) for name, value in values.items())],
             count * stripes, grain_of(stripe_blocks * rows * s * ((6 * e + 4 * d) / FLOPS_PER_NS + 0.4)),
             2 * block + panel, holes={"SIZE": str(size), "WIDE": str(WIDE), "T": conversion(q.dtype)})
    for parts, out in ((to_k, dk), (to_v, dv)) if stripes > 1 else ():
        low.call(add_parts, [("parts", p, parts.arg), ("out", p, out.arg), ("number", "i", stripes),
                             ("size", "i", out.numel)], out.numel, grain_of(0.2 * stripes))
