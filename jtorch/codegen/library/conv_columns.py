"""The lines by which convolutions unroll windows into columns and multiply them, for the holes of kernels.

Columns: for each channel c, place e of the window along the width, slice a of its depth, and input row modulo the
stride, the input elements that e meets, output row after output row of them. What a row b of the window meets is then
a contiguous piece, `ow` elements per output row, that begins at some row: no element is copied for each b.
"""
from __future__ import annotations

from jtorch.codegen.library.conv_window import Window
from jtorch.codegen.library.gemm_layout import round_up

STRIPS = """\
SPLIT
for e in range(kw):
    shift = e * dw - pw
    lo = min(ow, max(0, (sw - 1 - shift) // sw))
    hi = max(lo, min(ow, (width - 1 - shift) // sw + 1))
    for a in range(kd):
        iz = z * sd - pd + a * dd
        for r in range(residues):
            for q in range(strips):
                iy = (y0 + q) * sh + r - ph
                if (iz >= 0) & (iz < depth) & (iy >= 0) & (iy < height):
                    source = SOURCE
                    for j in range(line, line + lo):
                        col[j] = T(0.0)
                    for j in range(lo, hi):
                        col[line + j] = ELEMENTS
                    for j in range(line + hi, line + ow):
                        col[j] = T(0.0)
                else:
                    for j in range(line, line + ow):
                        col[j] = T(0.0)
                line += ow"""

WHOLE = {"SPLIT": "pass", "SOURCE": "i * xn + c * xc + iz * xd + iy * xh + shift * xw", "ELEMENTS": "x[source + SX]"}


def split_by(stride: int) -> dict[str, str]:
    """What `STRIPS` reads at a stride along the width: a channel's rows are split by the remainder of the column first,
    so that the elements of an output row are contiguous. All remainders are read at once, which LLVM does by shuffles;
    to read every other element it would gather."""
    lines = [f"    split[here + {k} * half + j] = x[source + j * {stride} + {k}]" for k in range(stride)]
    split = f"""\
top = max(0, y0 * sh - ph)
half = index_div(width + {stride - 1}, {stride})
whole = index_div(width, {stride})
for iy in range(top, min(height, (y0 + strips - 1) * sh + residues - ph)):
    source = i * xn + c * xc + iy * xh
    here = apart + (iy - top) * {stride} * half
    for j in range(whole):
    {{}}
    for j in range(width - whole * {stride}):
        split[here + j * half + whole] = x[source + whole * {stride} + j]"""
    return {"SPLIT": split.format("\n    ".join(lines)), "ELEMENTS": "split[source + j]",
            "SOURCE": f"apart + ((iy - top) * {stride} + shift % {stride}) * half + shift // {stride}"}


LINE_STRIPS = """\
for r in range(residues):
    lo = min(strips, max(0, (ph - r + sh - 1) // sh - y0))
    hi = max(lo, min(strips, (height - 1 - r + ph) // sh + 1 - y0))
    source = i * xn + c * xc + (y0 * sh + r - ph) * xh
    for j in range(line, line + lo):
        col[j] = T(0.0)
    for j in range(lo, hi):
        col[line + j] = x[source + SX]
    for j in range(line + hi, line + strips):
        col[j] = T(0.0)
    line += strips"""
"""`STRIPS` where an output row is one element."""

OFFSETS_LINES = """\
for c in range(cg):
    for a in range(kd):
        for b in range(kh):
            for e in range(kw):
                b0 = index_mod(b * dh, sh)
                b1 = index_div(b * dh, sh)
                offsets[at] = ((((c * kw + e) * kd + a) * residues + b0) * strips + b1) * ow
                at += 1"""

TILES = """\
for p in range(p0, p1, tile_columns(y)):
    for o in range(o0, o1, tile_rows(y)):
        product_tile(shifted(w, (g * og + o) * k), k, shifted(col, base + p), shifted(offsets, FIRST), k,
                     shifted(y, result + o * od * plane + p), od * plane, min(tile_rows(y), o1 - o),
                     min(tile_columns(y), p1 - p), False)
batch = i * groups + g
r0 = o0
r1 = o1
c0 = COLUMN + p0
c1 = COLUMN + p1
EPILOGUE"""


def split_size(v: Window, strips: int, residues: int) -> int:
    """Elements of a channel's rows for so many strips, split by `split_by`."""
    return min(v.spatial[1], (strips - 1) * v.stride[1] + residues) * round_up(v.spatial[2], v.stride[2])
