"""The text of the kernel that transforms blocks of lines.

`x` and `y` are the halves of a worker's scratch memory. In them element k of the lines is 2 x 16 numbers: the real
parts of 16 lines, then their imaginary parts. A block is loaded into x, goes from one half to the other in one pass per
factor of the length (the self-sorting algorithm of T. Stockham, "High-speed convolution and correlation", 1966), and is
stored from x.

Lines lie `along` memory that neighbours share (element k of 16 lines side by side) or `across` it (a line is
contiguous); then blocks are transposed in registers. 32 real lines are 16 complex ones: the second 16 are their
imaginary parts. A backward transform is a forward one with real and imaginary parts exchanged before and after it.
"""
from __future__ import annotations

import math
import re
from functools import cache

from jtorch.codegen.library.kernel_text import TILES

LANES = 16
WIDE = 2 * LANES
RADIX_BITS = 6

PARAMETERS = ("src", "dst", "table", "near", "x", "y", "stride", "n", "codes", "odd", "lines", "so", "sl", "sk", "do",
              "dl", "dk", "scale_", "unit", "sign")
"""`n` elements in each of `lines` lines per batch; `so`, `sl`, `sk`: how far batches, lines and elements of the source
are apart, `do`, `dl`, `dk` those of the destination. `codes`: the radices of the passes, the first in the lowest
bits; `odd`: there is an odd number of them. The result is multiplied by `scale_`, its imaginary part by `sign`."""


# --- butterflies: b0 .. = the transform of a0 ..; real parts are called ar0, br0, imaginary parts ai0, bi0 -----------

def butterfly(r: int) -> list[str]:
    if r == 2:
        return [f"b{c}{k} = a{c}0 {'+-'[k]} a{c}1" for k in (0, 1) for c in "ri"]
    if r == 3:
        half, side = "T(0.5)", f"T({math.sqrt(0.75)!r})"
        lines = []
        for c in "ri":
            lines += [f"s{c} = a{c}1 + a{c}2", f"b{c}0 = a{c}0 + s{c}", f"m{c} = a{c}0 - {half} * s{c}",
                      f"d{c} = {side} * (a{c}1 - a{c}2)"]
        return [*lines, "br1 = mr + di", "bi1 = mi - dr", "br2 = mr - di", "bi2 = mi + dr"]
    if r == 4:
        return four("a", (0, 1, 2, 3), "b", "")
    if r == 5:
        c1, c2 = (f"T({math.cos(2 * math.pi * k / 5)!r})" for k in (1, 2))
        s1, s2 = (f"T({math.sin(2 * math.pi * k / 5)!r})" for k in (1, 2))
        lines = []
        for c in "ri":
            lines += [f"s{c} = a{c}1 + a{c}4", f"t{c} = a{c}2 + a{c}3",
                      f"d{c} = a{c}1 - a{c}4", f"e{c} = a{c}2 - a{c}3",
                      f"b{c}0 = a{c}0 + s{c} + t{c}", f"m{c} = a{c}0 + {c1} * s{c} + {c2} * t{c}",
                      f"n{c} = a{c}0 + {c2} * s{c} + {c1} * t{c}", f"u{c} = {s1} * d{c} + {s2} * e{c}",
                      f"v{c} = {s2} * d{c} - {s1} * e{c}"]
        return [*lines, "br1 = mr + ui", "bi1 = mi - ur", "br4 = mr - ui", "bi4 = mi + ur", "br2 = nr + vi",
                "bi2 = ni - vr", "br3 = nr - vi", "bi3 = ni + vr"]
    assert r == 8
    h = f"T({math.sqrt(0.5)!r})"
    lines = four("a", (0, 2, 4, 6), "p", "p") + four("a", (1, 3, 5, 7), "q", "q")
    lines += [f"wr1 = {h} * (qr1 + qi1)", f"wi1 = {h} * (qi1 - qr1)", "wr2 = qi2", "wi2 = -qr2",
              f"wr3 = {h} * (qi3 - qr3)", f"wi3 = -{h} * (qi3 + qr3)"]
    for k in range(4):
        for c in "ri":
            q = f"w{c}{k}" if k else f"q{c}0"
            lines += [f"b{c}{k} = p{c}{k} + {q}", f"b{c}{k + 4} = p{c}{k} - {q}"]
    return lines


def four(a: str, i: tuple[int, ...], b: str, name: str) -> list[str]:
    """b0 .. b3 = the transform of the values number i of a."""
    lines = []
    for c in "ri":
        lines += [f"{name}s{c} = {a}{c}{i[0]} + {a}{c}{i[2]}", f"{name}d{c} = {a}{c}{i[0]} - {a}{c}{i[2]}",
                  f"{name}t{c} = {a}{c}{i[1]} + {a}{c}{i[3]}", f"{name}e{c} = {a}{c}{i[1]} - {a}{c}{i[3]}",
                  f"{b}{c}0 = {name}s{c} + {name}t{c}", f"{b}{c}2 = {name}s{c} - {name}t{c}"]
    return [*lines, f"{b}r1 = {name}dr + {name}ei", f"{b}i1 = {name}di - {name}er",
            f"{b}r3 = {name}dr - {name}ei", f"{b}i3 = {name}di + {name}er"]


# --- passes: y = a pass over x, of `s` groups of `radix` x `m` elements ----------------------------------------------

def fixed_pass(r: int, x: str, y: str) -> list[str]:
    lines = [f"if radix == {r}:", "    for p in range(m):"]
    for k in range(1, r):
        lines += [f"        vr{k} = table[2 * p * {k} * s]", f"        vi{k} = table[2 * p * {k} * s + 1]"]
    lines += ["        for q in range(s):", "            i0 = base + (p * s + q) * WIDE",
              f"            o0 = base + (p * s * {r} + q) * WIDE", "            for l in range(LANES):"]
    body = [f"a{c}{j} = {x}[i0 + {j} * m * s * WIDE + {at} + l]" for j in range(r) for c, at in (("r", "RE"),
                                                                                                 ("i", "IM"))]
    body += [*butterfly(r), f"{y}[o0 + RE + l] = br0", f"{y}[o0 + IM + l] = bi0"]
    for k in range(1, r):
        body += [f"{y}[o0 + {k} * s * WIDE + RE + l] = br{k} * vr{k} - bi{k} * vi{k}",
                 f"{y}[o0 + {k} * s * WIDE + IM + l] = br{k} * vi{k} + bi{k} * vr{k}"]
    return lines + [" " * 16 + line for line in body]


def any_pass(x: str, y: str) -> list[str]:
    """A pass of any radix, with as many products as its square."""
    return f"""
if radix > 5 and radix != 8:
    for p in range(m):
        for k in range(radix):
            for q in range(s):
                o0 = base + ((p * radix + k) * s + q) * WIDE
                for l in range(WIDE):
                    {y}[o0 + l] = T(0)
                for j in range(radix):
                    place = 2 * s * index_mod(k * (p + m * j), m * radix)
                    ur = table[place]
                    ui = table[place + 1]
                    i0 = base + ((p + m * j) * s + q) * WIDE
                    for l in range(LANES):
                        {y}[o0 + RE + l] = {y}[o0 + RE + l] + ({x}[i0 + RE + l] * ur - {x}[i0 + IM + l] * ui)
                        {y}[o0 + IM + l] = {y}[o0 + IM + l] + ({x}[i0 + RE + l] * ui + {x}[i0 + IM + l] * ur)
""".strip().splitlines()


def passes() -> list[str]:
    lines = []
    for x, y, flip in (("x", "y", 0), ("y", "x", 1)):
        lines.append(f"if flip == {flip}:")
        for part in [*[fixed_pass(r, x, y) for r in (8, 5, 4, 3, 2)], any_pass(x, y)]:
            lines += ["    " + line for line in part]
    return lines


# --- loads and stores ------------------------------------------------------------------------------------------------
# `a` and `b` are the elements of src and dst where the block's first line begins, `count` its lines, `first` those of
# them in the real parts and `second` those in the imaginary parts.

LOADS: dict[tuple[str, bool], str] = {
    ("complex", True): """
for k in range(n):
    for l in range(count):
        x[base + k * WIDE + l] = src[2 * (a + k * sk + l)]
        x[base + k * WIDE + LANES + l] = src[2 * (a + k * sk + l) + 1]
""",
    ("complex", False): """
transpose(shifted(src, 2 * a), 2 * sl, shifted(x, base), LANES, count, 2 * n)
""",
    ("real", True): """
for k in range(n):
    for l in range(count):
        x[base + k * WIDE + l] = src[a + k * sk + l]
    for l in range(count, WIDE):
        x[base + k * WIDE + l] = T(0)
""",
    ("real", False): """
transpose(shifted(src, a), sl, shifted(x, base), WIDE, first, n)
if second > 0:
    transpose(shifted(src, a + LANES * sl), sl, shifted(x, base + LANES), WIDE, second, n)
else:
    for k in range(n):
        for l in range(LANES):
            x[base + k * WIDE + LANES + l] = T(0)
""",
    ("half", True): """
for k in range(h):
    other = base + index_mod(n - k, n) * WIDE
    edge = select((k == 0) | (2 * k == n), T(0), T(1))
    for l in range(LANES):
        i = 2 * (a + k * sk + (l if l < first else 0))
        j = 2 * (a + k * sk + (l + LANES if l < second else 0))
        y[base + l] = src[i]
        y[base + LANES + l] = edge * src[i + 1]
        y[base + WIDE + l] = src[j]
        y[base + WIDE + LANES + l] = edge * src[j + 1]
    for l in range(LANES):
        COMBINE
""",
    ("half", False): """
transpose(shifted(src, 2 * a), 2 * sl, shifted(y, base), LANES, first, 2 * h)
if second > 0:
    transpose(shifted(src, 2 * (a + LANES * sl)), 2 * sl, shifted(y, base + h * WIDE), LANES, second, 2 * h)
else:
    for i in range(base + h * WIDE, base + 2 * h * WIDE):
        y[i] = T(0)
for k in range(h):
    other = base + index_mod(n - k, n) * WIDE
    edge = select((k == 0) | (2 * k == n), T(0), T(1))
    for l in range(LANES):
        ur = y[base + k * WIDE + l]
        ui = edge * y[base + k * WIDE + LANES + l]
        vr = y[base + (h + k) * WIDE + l]
        vi = edge * y[base + (h + k) * WIDE + LANES + l]
        x[other + l] = ur + vi
        x[other + LANES + l] = vr - ui
        x[base + k * WIDE + l] = ur - vi
        x[base + k * WIDE + LANES + l] = ui + vr
""",
}
LOADS["half", True] = LOADS["half", True].replace("        COMBINE\n", """\
        ur = y[base + l]
        ui = y[base + LANES + l]
        vr = y[base + WIDE + l]
        vi = y[base + WIDE + LANES + l]
        x[other + l] = ur + vi
        x[other + LANES + l] = vr - ui
        x[base + k * WIDE + l] = ur - vi
        x[base + k * WIDE + LANES + l] = ui + vr
""")
"""(what, along) -> lines. `half` are the first h = n // 2 + 1 frequencies of real lines."""

TURNED = """
for j in range(COUNT):
    for i in range(LENGTH):
        dst[START + j * STEP + i] = scale * FROM[base + j * PITCH + i]
"""
"""Transposed lines go to their places."""


def turned(count: str, length: str, start: str, step: str, pitch: str, source: str) -> str:
    text = TURNED
    for hole, value in (("COUNT", count), ("LENGTH", length), ("START", start), ("STEP", step), ("FROM", source),
                        ("PITCH", pitch)):
        text = text.replace(hole, value)
    return text


SEPARATE = """
for k in range(LIMIT):
    here = base + k * WIDE
    other = base + index_mod(n - k, n) * WIDE
    for l in range(LANES):
        FIRST_RE = T(0.5) * (x[here + l] + x[other + l])
        FIRST_IM = side * (x[here + LANES + l] - x[other + LANES + l])
        SECOND_RE = T(0.5) * (x[here + LANES + l] + x[other + LANES + l])
        SECOND_IM = side * (x[other + l] - x[here + l])
"""
"""The spectra of two real lines, from that of the complex line that they make."""


def separate(limit: str, along: bool) -> str:
    """In rows of y: of the first lines, then of the second ones; along, one element at a time."""
    text = SEPARATE.replace("LIMIT", limit)
    pitch = "1" if along else limit
    k = "0" if along else "k"
    for i, hole in enumerate(("FIRST_RE", "FIRST_IM", "SECOND_RE", "SECOND_IM")):
        text = text.replace(hole, f"y[base + (({i // 2} * ({pitch})) + {k}) * WIDE + {i % 2} * LANES + l]")
    if along:
        return text + """\
    for l in range(first):
        dst[2 * (b + k * dk + l)] = scale * y[base + l]
        dst[2 * (b + k * dk + l) + 1] = scale * y[base + LANES + l]
    for l in range(second):
        dst[2 * (b + k * dk + LANES + l)] = scale * y[base + WIDE + l]
        dst[2 * (b + k * dk + LANES + l) + 1] = scale * y[base + WIDE + LANES + l]
"""
    length = f"2 * ({limit})"
    lines = [text]
    for count, start, row in (("first", "2 * b", "0"), ("second", "2 * (b + LANES * dl)", limit)):
        lines.append(f"transpose(shifted(y, base + ({row}) * WIDE), LANES, shifted(x, base), {length} + LANES, "
                     f"{length}, LANES)" + turned(count, length, start, "2 * dl", f"({length} + LANES)", "x"))
    return "".join(lines)


STORES: dict[tuple[str, bool], str] = {
    ("complex", True): """
for k in range(n):
    for l in range(count):
        dst[2 * (b + k * dk + l)] = scale * x[base + k * WIDE + l]
        dst[2 * (b + k * dk + l) + 1] = scale * x[base + k * WIDE + LANES + l]
""",
    ("complex", False): "transpose(shifted(x, base), LANES, shifted(y, base), 2 * n + LANES, 2 * n, LANES)"
                        + turned("count", "2 * n", "2 * b", "2 * dl", "(2 * n + LANES)", "y"),
    ("twisted", True): """
for k in range(n):
    angle = f64(k) * (f64(l0) * unit)
    y[base + 2 * k] = T(cos(angle))
    y[base + 2 * k + 1] = T(sin(angle))
for k in range(n):
    fr = y[base + 2 * k]
    fi = y[base + 2 * k + 1]
    for l in range(LANES):
        ur = x[base + k * WIDE + RE + l]
        ui = x[base + k * WIDE + IM + l]
        wr = fr * near[k * WIDE + l] - fi * near[k * WIDE + LANES + l]
        wi = fr * near[k * WIDE + LANES + l] + fi * near[k * WIDE + l]
        x[base + k * WIDE + RE + l] = ur * wr - ui * wi
        x[base + k * WIDE + IM + l] = ur * wi + ui * wr
""",
    ("real", True): """
for k in range(n):
    for l in range(count):
        dst[b + k * dk + l] = scale * x[base + k * WIDE + l]
""",
    ("real", False): "".join(
        f"transpose(shifted(x, base + {c} * LANES), WIDE, shifted(y, base), n + LANES, n, LANES)"
        + turned(count, "n", f"b + {c} * LANES * dl", "dl", "(n + LANES)", "y")
        for c, count in enumerate(("first", "second"))),
    ("half", True): separate("h", True), ("half", False): separate("h", False),
    ("whole", True): separate("n", True), ("whole", False): separate("n", False),
}
STORES["twisted", True] += STORES["complex", True]


@cache
def text(load: str, load_along: bool, store: str, store_along: bool, backward: bool, conversion: str, size: int) -> str:
    """An item is a block of 16 complex or 32 real lines of one batch."""
    block = WIDE if "real" in (load, store) else LANES
    parts = [
        (0, f"def kernel({', '.join((*PARAMETERS, 'begin', 'end', 'worker'))}):"),
        (1, f"base = index_div(worker * stride, {size})"),
        (1, f"blocks = index_div(lines + {block - 1}, {block})"),
        (1, "scale = T(scale_)\nside = T(0.5 * sign)\nh = (n >> 1) + 1"),
        (1, "for item in range(begin, end):"),
        (2, "batch = index_div(item, blocks)"),
        (2, f"l0 = index_mod(item, blocks) * {block}"),
        (2, f"count = min({block}, lines - l0)\nfirst = min(count, LANES)\nsecond = count - first"),
        (2, "a = batch * so + l0 * sl\nb = batch * do + l0 * dl"),
        (2, LOADS[load, load_along]),
        (2, "s = i64(1)\nm = n\nrest = codes\nflip = odd\nif odd:"),
        (3, "for t in range(n * WIDE):\n    y[base + t] = x[base + t]"),
        (2, "while m > 1:"),
        (3, f"radix = rest & {(1 << RADIX_BITS) - 1}\nrest = rest >> {RADIX_BITS}\nm = index_div(m, radix)"),
        (3, "\n".join(passes())),
        (3, "flip = 1 - flip\ns = s * radix"),
        (2, STORES[store, store_along]),
    ]
    lines = ["    " * depth + line for depth, part in parts for line in part.splitlines() if line.strip()]
    found = "\n".join([TILES, "", *lines, ""])
    real, imaginary = (LANES, 0) if backward else (0, LANES)
    for hole, value in (("RE", real), ("IM", imaginary), ("WIDE", WIDE), ("LANES", LANES)):
        found = re.sub(rf"\b{hole}\b", str(value), found)
    return re.sub(r"\bT\(", conversion + "(", found)
