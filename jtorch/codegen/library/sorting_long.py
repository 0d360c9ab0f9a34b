# ruff: noqa: B007, F841  the kernels have holes, and what is filled in uses the names
"""Sorting few long rows, or finding a part of their order, with every thread at each row: a radix sort of pieces.

Method: least-significant-digit radix sort, in which for each digit every piece of a row counts its elements, reads from
the counts of all pieces where they go, and moves them (Zagha and Blelloch, Radix sort for vector multiprocessors,
Supercomputing '91). Keys are numbered from the least one on, so as many bits are sorted by as the distance of the
least and the greatest has. A word is 32 bits of such a number and, below them, the place. Longer numbers are sorted by
their lower half first. Where a part of the order is asked for, the words are first narrowed down to the elements whose
leading digits are those of the part.
"""
from __future__ import annotations

from dataclasses import dataclass
from math import prod

from jtorch import dtypes
from jtorch.codegen.library.call import Arg, Lowering, Operand, grain_of, pointer
from jtorch.codegen.library.kernel_text import inline
from jtorch.codegen.library.language import ELEMENT, FIRST, KEY, LAST, WORD, Pointer, U, i64, index_div, index_mod, u64
from jtorch.codegen.library.sorting_keys import Key

LEADING = 11
"""Bits of the digit that narrows a search for a part of the order, and most bits that are sorted by at once."""

DIGIT = 9
"""Bits of a digit where there are several. Words go to as many places at once, which should be near in the
caches: moving them by eight bits takes a third of the time that eleven bits take. Fewer are slow too: adding to one
count again and again."""

PASSES = 4
"""Digits of 32 bits."""

PIECES = 8
"""Parts of a row that are counted and moved side by side."""

STATE = 10
"""Numbers that are known of a row: see `choose_digits`."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the order of row r that is asked for: kernel text of where it begins and ends, how long it is, and
    the parameters in the text."""

    first: str
    last: str
    size: int
    params: tuple[tuple[str, str, Arg], ...]

    @property
    def begins(self) -> bool:
        """Is it the beginning of the order?"""
        return ("part_first", "i", 0) in self.params


def part_of(first: int, last: int) -> Part:
    return Part("part_first", "part_last", last - first, (("part_first", "i", first), ("part_last", "i", last)))


def find_span(x: Pointer, spans: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """spans[row, piece] = the least and the greatest key; an item is a piece."""
    for item in range(begin, end):
        row = index_div(item, PIECES) * n
        piece = index_mod(item, PIECES)
        least = ~U(0)
        most = U(0)
        for i in range(index_div(piece * n, PIECES), index_div((piece + 1) * n, PIECES)):
            least = min(least, KEY)
            most = max(most, KEY)
        spans[2 * item] = u64(least)
        spans[2 * item + 1] = u64(most)


def choose_digits(spans: Pointer, state: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """state[row] = the least key, the bits below the leading digit, how many elements there are and how many are left
    out below them; of the lower and of the upper half of keys the width of a digit, the number of digits, and the bits
    below the last one, which overlaps the one before it. An item is a row."""
    for r in range(begin, end):
        least = ~u64(0)
        most = u64(0)
        for p in range(r * PIECES, (r + 1) * PIECES):
            least = min(least, spans[2 * p])
            most = max(most, spans[2 * p + 1])
        bits = i64(0)
        while bits < 64 and ((most - least) >> u64(bits)) > u64(0):
            bits += 1
        here = STATE * r
        state[here] = i64(least)
        state[here + 1] = max(bits - LEADING, 0)
        state[here + 2] = n
        state[here + 3] = 0
        for half in range(2):
            long = min(bits, 32)
            if half > 0:
                long = max(bits - 32, 0)
            passes = index_div(long + DIGIT - 1, DIGIT)
            if (long <= LEADING) & ((long > 0) | (half == 0)):
                passes = i64(1)
            width = max(index_div(long + passes - 1, max(passes, 1)), min(long, DIGIT - 1))
            state[here + 4 + 3 * half] = width
            state[here + 5 + 3 * half] = passes
            state[here + 6 + 3 * half] = long - width


@inline
def piece_of(item: int, state: Pointer, n: int) -> tuple[int, int, int, int]:
    """The row and the piece of it that an item is; where the row begins, and its least key."""
    r = index_div(item, PIECES)
    piece = index_mod(item, PIECES)
    row = r * n
    least = u64(state[STATE * r])
    return r, piece, row, least


@inline
def digit_of(state: Pointer, r: int, half: int, number: int) -> tuple[int, int, int, int]:
    """Of digit `number` of row r: which half of `words` is read, how many words there are, how far they are shifted to
    the right, and how many values the digit has."""
    width = state[STATE * r + 4 + 3 * half]
    parity = (half * state[STATE * r + 5] + number) & 1
    m = state[STATE * r + 2]
    shift = u64(32 + min(number * width, state[STATE * r + 6 + 3 * half]))
    size = i64(1) << width
    return parity, m, shift, size


def count_leading(x: Pointer, counts: Pointer, state: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """counts[row, piece, digit] of the leading digits; an item is a piece."""
    for item in range(begin, end):
        r, piece, row, least = piece_of(item, state, n)
        shift = u64(state[STATE * r + 1])
        base = item << LEADING
        for d in range(base, base + (1 << LEADING)):
            counts[d] = 0
        for i in range(index_div(piece * n, PIECES), index_div((piece + 1) * n, PIECES)):
            counts[base + i64((u64(KEY) - least) >> shift)] += 1


def narrow(x: Pointer, counts: Pointer, words: Pointer, state: Pointer, n: int, begin: int, end: int,
           worker: int) -> None:
    """words[row] = those of the elements whose leading digit is one of the elements FIRST .. LAST - 1 of the order."""
    for item in range(begin, end):
        r, piece, row, least = piece_of(item, state, n)
        shift = u64(state[STATE * r + 1])
        lowest = i64(-1)
        seen = i64(0)
        below = i64(0)
        while seen <= FIRST:
            lowest += 1
            below = seen
            for p in range(PIECES):
                seen += counts[((r * PIECES + p) << LEADING) + lowest]
        highest = lowest
        while seen < LAST:
            highest += 1
            for p in range(PIECES):
                seen += counts[((r * PIECES + p) << LEADING) + highest]
        to = 2 * row
        for p in range(piece):
            for d in range(lowest, highest + 1):
                to += counts[((r * PIECES + p) << LEADING) + d]
        low = u64(lowest)
        wide = u64(highest - lowest)
        for i in range(index_div(piece * n, PIECES), index_div((piece + 1) * n, PIECES)):
            key = u64(KEY) - least
            if (key >> shift) - low <= wide:
                words[to] = (key << u64(32)) | u64(i)
                to += 1
        if piece == 0:
            state[STATE * r + 2] = seen - below
            state[STATE * r + 3] = below


def count_digit(x: Pointer, words: Pointer, counts: Pointer, state: Pointer, n: int, half: int, number: int,
                begin: int, end: int, worker: int) -> None:
    """counts[row, piece, digit] of digit `number` of the words' upper halves; an item is a piece."""
    for item in range(begin, end):
        r, piece, row, least = piece_of(item, state, n)
        if number < state[STATE * r + 5 + 3 * half]:
            parity, m, shift, size = digit_of(state, r, half, number)
            source = 2 * row + n * parity
            mask = u64(size - 1)
            base = item << LEADING
            for d in range(base, base + size):
                counts[d] = 0
            for i in range(index_div(piece * m, PIECES), index_div((piece + 1) * m, PIECES)):
                counts[base + i64((WORD >> shift) & mask)] += 1


def move_by_digit(x: Pointer, words: Pointer, counts: Pointer, state: Pointer, places: Pointer, scratch_stride: int,
                  n: int, half: int, number: int, begin: int, end: int, worker: int) -> None:
    """Move the words of a piece to where the counts say, from one half of `words` to the other."""
    mine = worker * index_div(scratch_stride, 8)
    for item in range(begin, end):
        r, piece, row, least = piece_of(item, state, n)
        if number < state[STATE * r + 5 + 3 * half]:
            parity, m, shift, size = digit_of(state, r, half, number)
            source = 2 * row + n * parity
            mask = u64(size - 1)
            total = mine + (1 << LEADING)
            for d in range(size):
                places[mine + d] = 0
            for p in range(r * PIECES, r * PIECES + piece):
                for d in range(size):
                    places[mine + d] += counts[(p << LEADING) + d]
            for d in range(size):
                places[total + d] = places[mine + d]
            for p in range(r * PIECES + piece, (r + 1) * PIECES):
                for d in range(size):
                    places[total + d] += counts[(p << LEADING) + d]
            before = 2 * row + n * (1 - parity)
            for d in range(size):
                places[mine + d] += before
                before += places[total + d]
            for i in range(index_div(piece * m, PIECES), index_div((piece + 1) * m, PIECES)):
                word = WORD
                digit = mine + i64((word >> shift) & mask)
                to = places[digit]
                places[digit] = to + 1
                words[to] = word


def take_upper_half(x: Pointer, words: Pointer, state: Pointer, n: int, begin: int, end: int, worker: int
                    ) -> None:
    """Words of the lower half of a key become words of the upper half; an item is a piece."""
    for item in range(begin, end):
        r, piece, row, least = piece_of(item, state, n)
        m = state[STATE * r + 2]
        if state[STATE * r + 8] > 0:
            source = 2 * row + n * (state[STATE * r + 5] & 1)
            for j in range(source + index_div(piece * m, PIECES), source + index_div((piece + 1) * m, PIECES)):
                place = words[j] & u64(0xFFFFFFFF)
                i = i64(place)
                key = u64(KEY) - least
                words[j] = ((key >> u64(32)) << u64(32)) | place


def write_order(x: Pointer, words: Pointer, state: Pointer, values: Pointer, places: Pointer, n: int,
                begin: int, end: int, worker: int) -> None:
    """values, places = the elements FIRST .. LAST - 1 of the order of each row; an item is a piece of them."""
    for item in range(begin, end):
        r, piece, row, least = piece_of(item, state, n)
        size = LAST - FIRST
        out = r * size
        source = 2 * row + n * ((state[STATE * r + 5] + state[STATE * r + 8]) & 1) + FIRST - state[STATE * r + 3]
        if state[STATE * r + 8] > 0:
            for j in range(index_div(piece * size, PIECES), index_div((piece + 1) * size, PIECES)):
                place = i64(words[source + j] & u64(0xFFFFFFFF))
                places[out + j] = place
                values[out + j] = x[row + place]
        else:
            for j in range(index_div(piece * size, PIECES), index_div((piece + 1) * size, PIECES)):
                word = words[source + j]
                i = i64(word & u64(0xFFFFFFFF))
                key = (word >> u64(32)) + least
                places[out + j] = i
                values[out + j] = ELEMENT


def sort_long_rows(low: Lowering, x: Operand, values: Operand, places: Operand, part: Part, key: Key) -> None:
    n, rows = x.shape[-1], prod(x.shape[:-1])
    whole = part.size == n
    spans = low.temp(dtypes.int64, (rows, PIECES, 2))
    state = low.temp(dtypes.int64, (rows, STATE))
    counts = low.temp(dtypes.int64, (rows, PIECES, 1 << LEADING))
    words = low.temp(dtypes.int64, (rows, 2, n))
    row = ("x", pointer(x.dtype), x.arg)
    length = ("n", "i", n)
    to_spans, to_state = ("spans", "p:uint64", spans.arg), ("state", "p:int64", state.arg)
    to_counts, to_words = ("counts", "p:int64", counts.arg), ("words", "p:uint64", words.arg)
    total, grain = rows * PIECES, grain_of(n / PIECES)
    holes = {"KEY": key.text, "ELEMENT": key.element, "U": f"u{key.bits}", "FIRST": part.first, "LAST": part.last,
             "DIGIT": str(DIGIT), "LEADING": str(LEADING), "PIECES": str(PIECES), "STATE": str(STATE)}
    low.call(find_span, [row, to_spans, length], total, grain, holes=holes)
    low.call(choose_digits, [to_spans, to_state, length], rows, holes=holes)
    if not whole:
        low.call(count_leading, [row, to_counts, to_state, length], total, grain, holes=holes)
        low.call(narrow, [row, to_counts, to_words, to_state, length, *part.params], total, grain, holes=holes)
    for half in range(key.bits // 32):
        if half:
            low.call(take_upper_half, [row, to_words, to_state, length], total, grain, holes=holes)
        for number in range(PASSES):
            new = whole and not half and not number
            word = "((u64(KEY) - least) << u64(32)) | u64(i)" if new else "words[source + i]"
            digit = [length, ("half", "i", half), ("number", "i", number)]
            low.call(count_digit, [row, to_words, to_counts, to_state, *digit], total, grain,
                     holes={"WORD": f"({word})", **holes})
            low.call(move_by_digit, [row, to_words, to_counts, to_state, ("places", "p:int64", ("scratch",)),
                                     ("scratch_stride", "i", ("scratch_stride",)), *digit], total, grain,
                     scratch=16 << LEADING, holes={"WORD": f"({word})", **holes})
    low.call(write_order, [row, to_words, to_state, ("values", pointer(x.dtype), values.arg),
                           ("places", "p:int64", places.arg), length, *part.params], total, grain, holes=holes)
