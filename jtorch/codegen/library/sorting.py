# ruff: noqa: B007  the kernels have holes, and what is filled in uses the names
"""Sorting rows, or finding a part of their order: stable radix sorts of keys whose unsigned order is that of elements.

Method: least-significant-digit radix sort (Knuth, The Art of Computer Programming 3, 5.2.5). Where a part of the order
is asked for, a histogram of the leading digits first leaves out the elements that cannot be in it.
"""
from __future__ import annotations

from math import prod

from jtorch.codegen.library.call import Lowering, Operand, grain_of, pointer
from jtorch.codegen.library.copy import contiguous, copy
from jtorch.codegen.library.kernel_text import inline
from jtorch.codegen.library.language import (
    BITS,
    FIRST,
    KEY,
    LAST,
    PASSES,
    SIZE,
    WORST,
    Pointer,
    i64,
    index_div,
    u32,
    u64,
)
from jtorch.codegen.library.sorting_keys import Key, key_of
from jtorch.codegen.library.sorting_long import Part, part_of, sort_long_rows

INSERTION = 40
"""Rows that are no longer are sorted by insertion."""

LONG = 1 << 15
"""Rows that are no shorter are sorted by all threads at once, where there are few."""

FEW_ROWS = 8
"""So many rows are few. More of them keep the threads busy, and a thread's scratch is nearer than memory for all."""

FEW = 32
"""So many of the first elements are kept in order while a row is read once."""

DIGIT = 8
"""Bits of a digit. The counts of 256 stay in the first-level cache, and so do the lines that words are moved to."""

LEADING = 11
"""Bits of the digit that narrows a search for a part of the order."""


@inline
def narrow(x: Pointer, row: int, counts: Pointer, count_of: int, n: int, first: int, last: int, low: int
           ) -> tuple[int, int, int]:
    """The least and the greatest leading digit of the elements first .. last - 1 of a row's order, and how many
    elements are below. `low` is the bits below that digit."""
    lowest = i64(0)
    highest = i64((1 << LEADING) - 1)
    below = i64(0)
    if last - first < n:
        for c in range(1 << LEADING):
            counts[count_of + c] = 0
        for i in range(n):
            counts[count_of + i64(KEY >> low)] += 1
        seen = counts[count_of]
        while seen <= first:
            below = seen
            lowest += 1
            seen += counts[count_of + lowest]
        highest = lowest
        while seen < last:
            highest += 1
            seen += counts[count_of + highest]
    return lowest, highest, below


def sort_packed(x: Pointer, values: Pointer, places: Pointer, words: Pointer, counts: Pointer, scratch_stride: int,
                n: int, begin: int, end: int, worker: int) -> None:
    """values, places = the elements FIRST .. LAST - 1 of the order of each row of x; an item is a row.

    A word is a key of 32 bits and, below it, the place.
    """
    base = index_div(worker * scratch_stride, 8)
    count_of = base + 2 * n
    for r in range(begin, end):
        row = r * n
        first = FIRST
        last = LAST
        out = r * (last - first)
        source = base
        m = n
        below = i64(0)
        if n <= INSERTION:
            for i in range(n):
                word = (u64(KEY) << u64(32)) | u64(i)
                j = i
                while j > 0 and words[source + j - 1] > word:
                    words[source + j] = words[source + j - 1]
                    j -= 1
                words[source + j] = word
        else:
            lowest, highest, below = narrow(x, row, counts, count_of, n, first, last, u32(21))
            for c in range(PASSES << BITS):
                counts[count_of + c] = 0
            m = i64(0)
            for i in range(n):
                key = KEY
                leading = i64(key >> u32(21))
                if (leading >= lowest) & (leading <= highest):
                    words[source + m] = (u64(key) << u64(32)) | u64(i)
                    m += 1
                    for p in range(PASSES):
                        counts[count_of + (p << BITS) + i64((key >> u32(p * BITS)) & u32((1 << BITS) - 1))] += 1
            target = base + n
            for p in range(PASSES):
                digits = count_of + (p << BITS)
                shift = u64(32 + p * BITS)
                if m > 0 and counts[digits + i64((words[source] >> shift) & u64((1 << BITS) - 1))] < m:
                    before = i64(0)
                    for c in range(1 << BITS):
                        here = counts[digits + c]
                        counts[digits + c] = before
                        before += here
                    for i in range(m):
                        moved = words[source + i]
                        digit = digits + i64((moved >> shift) & u64((1 << BITS) - 1))
                        to = counts[digit]
                        counts[digit] = to + 1
                        words[target + to] = moved
                    swapped = source
                    source = target
                    target = swapped
        for j in range(last - first):
            place = i64(words[source + first - below + j] & u64(0xFFFFFFFF))
            places[out + j] = place
            values[out + j] = x[row + place]


def sort_wide(x: Pointer, values: Pointer, places: Pointer, words: Pointer, counts: Pointer, scratch_stride: int,
              n: int, begin: int, end: int, worker: int) -> None:
    """`sort_packed` for keys of 64 bits, which leave no room for the place: it moves beside them."""
    base = index_div(worker * scratch_stride, 8)
    count_of = base + 4 * n
    for r in range(begin, end):
        row = r * n
        first = FIRST
        last = LAST
        out = r * (last - first)
        source = base
        m = n
        below = i64(0)
        if n <= INSERTION:
            for i in range(n):
                key = KEY
                j = i
                while j > 0 and words[source + j - 1] > key:
                    words[source + j] = words[source + j - 1]
                    words[source + 2 * n + j] = words[source + 2 * n + j - 1]
                    j -= 1
                words[source + j] = key
                words[source + 2 * n + j] = u64(i)
        else:
            lowest, highest, below = narrow(x, row, counts, count_of, n, first, last, u64(53))
            for c in range(PASSES << BITS):
                counts[count_of + c] = 0
            m = i64(0)
            for i in range(n):
                key = KEY
                leading = i64(key >> u64(53))
                if (leading >= lowest) & (leading <= highest):
                    words[source + m] = key
                    words[source + 2 * n + m] = u64(i)
                    m += 1
                    for p in range(PASSES):
                        counts[count_of + (p << BITS) + i64((key >> u64(p * BITS)) & u64((1 << BITS) - 1))] += 1
            target = base + n
            for p in range(PASSES):
                digits = count_of + (p << BITS)
                shift = u64(p * BITS)
                if m > 0 and counts[digits + i64((words[source] >> shift) & u64((1 << BITS) - 1))] < m:
                    before = i64(0)
                    for c in range(1 << BITS):
                        here = counts[digits + c]
                        counts[digits + c] = before
                        before += here
                    for i in range(m):
                        moved = words[source + i]
                        digit = digits + i64((moved >> shift) & u64((1 << BITS) - 1))
                        to = counts[digit]
                        counts[digit] = to + 1
                        words[target + to] = moved
                        words[target + 2 * n + to] = words[source + 2 * n + i]
                    swapped = source
                    source = target
                    target = swapped
        for j in range(last - first):
            place = i64(words[source + 2 * n + first - below + j])
            places[out + j] = place
            values[out + j] = x[row + place]


def first_of_rows(x: Pointer, values: Pointer, places: Pointer, keys: Pointer, scratch_stride: int, n: int, k: int,
                  begin: int, end: int, worker: int) -> None:
    """values, places = the first k of the order of each row of x; an item is a row. The best so far are kept in order;
    blocks that have nothing better are passed over."""
    base = worker * index_div(scratch_stride, SIZE)
    for r in range(begin, end):
        row = r * n
        out = r * k
        kept = i64(0)
        for start in range(0, n, 64):
            stop = min(start + 64, n)
            useful = kept < k
            if not useful:
                least = WORST
                for i in range(start, stop):
                    least = min(least, KEY)
                useful = least < keys[base + k - 1]
            if useful:
                for i in range(start, stop):
                    key = KEY
                    if (kept < k) or (key < keys[base + k - 1]):
                        j = min(kept, k - 1)
                        while j > 0 and keys[base + j - 1] > key:
                            keys[base + j] = keys[base + j - 1]
                            places[out + j] = places[out + j - 1]
                            j -= 1
                        keys[base + j] = key
                        places[out + j] = i
                        kept = min(kept + 1, k)
        for j in range(k):
            values[out + j] = x[row + places[out + j]]


def sort(low: Lowering) -> None:
    """Rows one after another; another axis is brought to the end and back."""
    node, x = low.node, low.inputs[0]
    axis, part = node.attr("axis"), node.attr("part")
    if not low.outputs[0].numel:
        return
    key = key_of(x.dtype, node.attr("descending"))
    bounds = part_of(*(part or (0, x.shape[axis])))
    if axis == len(x.shape) - 1:
        sort_rows(low, contiguous(low, x), low.outputs[0], low.outputs[1], bounds, key)
        return
    order = (*[a for a in range(len(x.shape)) if a != axis], axis)
    back = tuple(order.index(a) for a in range(len(order)))
    rows = contiguous(low, x.permuted(order))
    found = [low.temp(o.dtype, o.permuted(order).shape) for o in low.outputs]
    sort_rows(low, rows, found[0], found[1], bounds, key)
    copy(low, found[0].permuted(back), low.outputs[0])
    copy(low, found[1].permuted(back), low.outputs[1], barrier=False)


def nth(low: Lowering) -> None:
    x, ranks = low.inputs
    axis = low.node.attr("axis")
    values, places = low.outputs
    if values.numel:
        rows = contiguous(low, x.permuted((*[a for a in range(len(x.shape)) if a != axis], axis)))
        part = Part("ranks[r]", "ranks[r] + 1", 1, (("ranks", "p:int64", contiguous(low, ranks).arg),))
        sort_rows(low, rows, values, places, part, key_of(x.dtype, False))


def sort_rows(low: Lowering, x: Operand, values: Operand, places: Operand, part: Part, key: Key) -> None:
    n = x.shape[-1]
    if n >= 1 << 31:
        raise NotImplementedError("rows of more than 2**31 elements")
    rows = prod(x.shape[:-1])
    operands = [("x", pointer(x.dtype), x.arg), ("values", pointer(x.dtype), values.arg),
                ("places", "p:int64", places.arg)]
    stride = ("scratch_stride", "i", ("scratch_stride",))
    if part.begins and part.size <= min(FEW, n // 8):
        low.call(first_of_rows, [*operands, ("keys", f"p:uint{key.bits}", ("scratch",)), stride, ("n", "i", n),
                                 ("k", "i", part.size)], rows, grain_of(n * 0.5), scratch=part.size * key.bits // 8,
                 holes={"KEY": key.text, "WORST": f"~u{key.bits}(0)", "SIZE": str(key.bits // 8)})
        return
    if n >= LONG and rows <= FEW_ROWS:
        sort_long_rows(low, x, values, places, part, key)
        return
    passes = key.bits // DIGIT
    wide = key.bits == 64
    scratch = 8 * ((4 if wide else 2) * n + max(passes << DIGIT, 1 << LEADING))
    low.call(sort_wide if wide else sort_packed,
             [*operands, ("words", "p:uint64", ("scratch",)), ("counts", "p:int64", ("scratch",)), stride,
              ("n", "i", n), *part.params], rows, grain_of(n * 8.0), scratch=scratch,
             holes={"KEY": key.text, "INSERTION": str(INSERTION), "PASSES": str(passes), "BITS": str(DIGIT),
                    "LEADING": str(LEADING), "FIRST": part.first, "LAST": part.last})
