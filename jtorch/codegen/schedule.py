"""Body -> loop nest: the order of the loops, which of them merge, which is the vector, how work is cut into items."""
from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

from jtorch.codegen import scalar
from jtorch.codegen.body import Body, Compute, Number, Position, Read, Reduce, Strides, Write
from jtorch.codegen.loops import DENSE, Access, Apply, Binding, Constant, Fold, Iota, Literal, Load, Nest, Store
from jtorch.dtypes import by_name

CHUNK_ELEMENTS = 1 << 14  # what one chunk of a split reduction folds
MAX_CHUNKS = 512
MAP_BLOCK = 1 << 13  # longest piece of a row that is one work item
COLUMN_BLOCK = 512  # columns that a reduction over rows folds at once: its sums stay in the first-level cache
LEAST_COLUMNS, COLUMN_ITEMS = 64, max(4, os.cpu_count() or 1)  # or fewer, where there are not so many blocks of them
VECTOR = 16  # columns of which a block has a multiple
TILE = 32  # side of a tile where rows are read as columns: a tile of both fits the first-level cache
READ_AHEAD = 1 << 14  # elements of a row up to which the next row is asked for: more would push out the row itself
GROUP, GROUP_ELEMENTS = 16, 1 << 11  # rows that go through the phases of a kernel together: so many, or so long in all
FAR_ELEMENTS = 1 << 9  # the same for what comes from memory, which is better read in order, and unasked
NEAR_BYTES = 16 << 20  # traffic up to which it comes from a cache
PAST_BYTES = 16 << 20  # results that fill a cache, together with what they are made of
PAST_ALIGNMENT = 32  # bytes, of which their rows have a multiple (`runtime.streaming.ALIGNMENT`)
SHORT = 8  # below that a loop is not worth a vector
ITEM_NANOSECONDS = 8_000  # work that is worth handing to another thread


@dataclass(slots=True)
class Step:
    """One launch to be: a nest, what it is given, and how its work is counted."""

    nest: Nest
    binding: Binding
    total: int
    grain: int
    block: int = 0  # 'map' over several loops, 'tile', 'column': vector elements per item
    blocks: int = 1
    tile: int = 0
    tiles: int = 1
    group: int = 1  # 'row': how many go through the phases together
    ahead: int = 0  # 'row': how far the row that follows is, or 0 if it is not to be asked for
    elements: int = 0
    bytes: int = 0
    written: int = 0  # of these
    flops: int = 0

    def stored_past(self) -> Step | None:
        """The same with its results stored past the caches, or None where that is of no use: they fit, little is read
        for them (what is only filled is as fast as it was), or rows begin within half a cache line: a line that is
        stored in both ways takes several times as long."""
        nest = self.nest
        if self.written < PAST_BYTES or self.bytes < 1.5 * self.written or nest.schedule == "column":
            return None
        line = self.binding.extents[-1] if len(self.binding.extents) > 1 else PAST_ALIGNMENT
        if any(line * by_name(nest.buffers[s.buffer]).itemsize % PAST_ALIGNMENT for s in nest.stores):
            return None
        step = replace(self, nest=replace(nest, past=True))
        if nest.schedule == "row":
            row = math.prod(self.binding.extents[nest.parallel:])
            step.group, step.ahead = group_of(row, GROUP_ELEMENTS), ahead_of(row)
        return step


def group_of(row: int, elements: int) -> int:
    return max(1, min(GROUP, elements // max(row, 1)))


def ahead_of(row: int) -> int:
    return row if row <= READ_AHEAD else 0


def order_axes(axes: list[int], accesses: list[Strides]) -> list[int]:
    """Outermost first: larger strides of the first access that has an axis go outside."""
    ordered: list[int] = []
    for strides in accesses:
        new = sorted([a for a in strides if a in axes and a not in ordered], key=lambda a: -abs(strides[a]))
        ordered = [a for a in new if a not in ordered] + ordered if ordered else new
    return [a for a in axes if a not in ordered] + ordered


def merge_axes(ordered: list[int], extents: dict[int, int], accesses: list[Strides]) -> list[tuple[int, int]]:
    """(innermost axis, extent) of each loop, neighbours merged where every access allows it."""
    loops: list[tuple[int, int]] = []
    for a in ordered:
        n = extents[a]
        if loops:
            outer, size = loops[-1]
            if all(s.get(outer, 0) == s.get(a, 0) * n for s in accesses):
                loops[-1] = (a, size * n)
                continue
        loops.append((a, n))
    return loops


def by_weight(body: Body) -> list[Strides]:
    """Strides of all accesses, those that decide the order of loops first: many axes, writes before reads."""
    found = [w.strides for w in body.writes] + [s.strides for s in body.statements
                                               if isinstance(s, Read | Position) and s.strides]
    return sorted(found, key=lambda s: -len(s))


def is_column(body: Body) -> bool:
    """Is the contiguous axis of most elements one that stays?"""
    votes = 0
    inner = set(body.inner)
    for strides in [a.strides for a in body.accesses() if not isinstance(a, Position)]:
        if not inner & set(strides):
            continue
        unit = next((a for a, s in strides.items() if abs(s) == 1), None)
        if unit is not None:
            elements = math.prod([body.extents[a] for a in strides])
            votes += elements if unit in inner else -elements
    return votes < 0


def chunk_length(body: Body) -> int:
    """How much of the outermost reduced axis one chunk folds; 0 if it is all one chunk. Orders `body.inner`."""
    weights = by_weight(body)
    body.inner = order_axes(body.inner, weights)
    merged = merge_axes(body.inner, body.extents, [a.strides for a in body.accesses()])
    if len(merged) == 1 and len(body.inner) > 1:  # one axis in place of several
        _fuse_inner(body, merged[0])
    first = body.extents[body.inner[0]]
    rest = 1
    for a in body.outer + body.inner[1:]:
        rest *= body.extents[a]
    length = max(1, CHUNK_ELEMENTS // rest, -(-first // MAX_CHUNKS))
    return 0 if length >= first else length


def _fuse_inner(body: Body, loop: tuple[int, int]) -> None:
    axis, size = loop
    gone = [a for a in body.inner if a != axis]
    for access in body.accesses():
        for a in gone:
            access.strides.pop(a, None)
    for a in gone:
        del body.extents[a]
    body.extents[axis] = size
    body.inner = [axis]


def schedule(body: Body, chunk: int = 0, tiles: bool = False) -> Step:
    """The nest of a body; `tiles`: may transpositions become tiles? With `chunk`, outer axis 0 numbers chunks of that
    length of the first inner axis."""
    weights = by_weight(body)
    column = bool(body.inner) and bool(body.outer[1 if chunk else 0:]) and is_column(body)
    accesses = [a.strides for a in body.accesses()]
    chunk_axes = body.outer[:1] if chunk else []
    point = [s for s in weights if set(s) & set(body.inner)] or weights
    outer = order_axes([a for a in body.outer if a not in chunk_axes], point + weights)
    inner = order_axes(body.inner, weights)
    if column and not any(abs(s.get(outer[-1], 0)) == 1 for s in point):
        column = False
    if chunk:
        assert inner[0] == body.inner[0]
        parallel = [(chunk_axes[0], body.extents[chunk_axes[0]])] + merge_axes(outer, body.extents, accesses)
        reduce = [(inner[0], body.extents[inner[0]])] + merge_axes(inner[1:], body.extents, accesses)
    else:
        parallel = merge_axes(outer, body.extents, accesses)
        reduce = merge_axes(inner, body.extents, accesses)
    kind = "column" if column else "row" if body.inner else "map"
    side = crossing_loop(body, parallel) if kind == "map" and tiles else None
    if side is not None:
        parallel = [loop for loop in parallel[:-1] if loop is not side] + [side, parallel[-1]]
        kind = "tile"
    elif kind == "map" and tiles:
        parallel = lengthened(parallel, accesses)
    nest, binding = structure(body, parallel, reduce, kind, bool(chunk))
    binding.chunk = chunk
    return size_up(nest, binding, body, [n for _, n in parallel], [n for _, n in reduce], chunk)


def crossing_loop(body: Body, parallel: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The loop along which some read is contiguous while it strides along the last loop: a transposition."""
    if len(parallel) < 2 or parallel[-1][1] < TILE // 2:
        return None
    last = parallel[-1][0]
    for s in body.statements:
        if isinstance(s, Read) and s.guard is None and s.part is None and abs(s.strides.get(last, 0)) > 1:
            for loop in parallel[:-1]:
                if abs(s.strides.get(loop[0], 0)) == 1 and loop[1] >= TILE // 4:
                    return loop
    return None


def lengthened(parallel: list[tuple[int, int]], accesses: list[Strides]) -> list[tuple[int, int]]:
    """The loops with a long one last, where the last is too short to be a vector: of the long ones, the nearest."""
    if len(parallel) < 2 or parallel[-1][1] >= SHORT:
        return parallel
    longer = [loop for loop in parallel[:-1] if loop[1] >= 2 * SHORT]
    if not longer:
        return parallel
    best = min(longer, key=lambda loop: sum(abs(s.get(loop[0], 0)) for s in accesses))
    return [loop for loop in parallel if loop is not best] + [best]


PRODUCT, SUMMED_PRODUCT = "{0} * {1}", "reassoc_mul({0}, {1})"


def summed_products(body: Body) -> set[int]:
    """The products of floats that nothing but sums reads: a product and its sum may be one rounding."""
    sums = {s.arg for s in body.statements if isinstance(s, Reduce) and s.op.name == "sum"}
    others = {a for s in body.statements for a in ((s.arg,) if isinstance(s, Reduce) and s.op.name != "sum"
                                                   else body.operands(s))} | {w.value for w in body.writes}
    return {i for i in sums - others if isinstance(body.statements[i], Compute)
            and body.statements[i].text == PRODUCT and body.statements[i].dtype.is_floating_point}


def structure(body: Body, parallel: list[tuple[int, int]], reduce: list[tuple[int, int]], kind: str,
              chunked: bool) -> tuple[Nest, Binding]:
    """Separate what the kernel's text depends on from what it is given at run time."""
    loops = [a for a, _ in parallel + reduce]
    extents = [n for _, n in parallel + reduce]
    binding = Binding(extents=extents)
    dense: tuple[int, ...] = ()
    if kind in ("map", "row") and not chunked and len(loops) > 1:
        strides, n = [], 1
        for extent in reversed(extents):
            strides.append(n)
            n *= extent
        dense = tuple(reversed(strides))
    buffers: list[str] = []
    numbers: dict[tuple, int] = {}

    def buffer(source: Any, offset: int, written: bool) -> int:
        key = (source, offset, written) if not hasattr(source, "numel") else (id(source), offset, written)
        found = numbers.get(key)
        if found is None:
            found = numbers[key] = len(buffers)
            buffers.append(source.dtype.name)
            binding.buffers.append((source, offset))
        return found

    def access(strides: Strides, pairs: bool = False) -> Access:
        """`pairs`: 2 along the last loop is part of the text as well. LLVM loads vectors and takes every second
        element; of a stride that it is not told it supposes that it is 1, and has no vectors where it is not."""
        found = tuple([strides.get(a, 0) for a in loops])
        if dense and found == dense:
            return DENSE
        result: list = []
        for a, s in zip(loops, found):
            if -1 <= s <= 1 or pairs and s == 2 and a == loops[-1]:
                result.append(s)
            else:
                result.append("s")
                binding.strides.append(s)
        return tuple(result)

    values: list[Any] = []
    summed = summed_products(body)
    for i, s in enumerate(body.statements):
        name = s.dtype.name
        binding.nodes.append(getattr(s, "node", None))
        if isinstance(s, Read):
            values.append(Load(name, buffer(s.source, s.offset, False), access(s.strides, pairs=True), s.guard, s.part))
        elif isinstance(s, Compute):
            if s.fails is not None:
                binding.fails.append(s.node)
            values.append(Apply(name, SUMMED_PRODUCT if i in summed else s.text, s.args, s.cost, s.fails))
        elif isinstance(s, Number):
            text = scalar.literal(s.value, s.dtype)
            if text is not None:
                values.append(Literal(name, text))
            else:
                kind_of = "f" if s.dtype.is_floating_point else "i"
                values.append(Constant(name, kind_of))
                binding.constants.append(float(s.value) if kind_of == "f" else int(s.value))
        elif isinstance(s, Position):
            assert s.offset == 0
            values.append(Iota(name, access(s.strides)))
        else:
            values.append(Fold(name, s.op.name, s.arg))
    stores = tuple([Store(w.value, buffer(w.target, w.offset, True), access(w.strides), w.part) for w in body.writes])
    return Nest(len(parallel), len(reduce), tuple(buffers), tuple(values), stores, kind, chunked), binding


def size_up(nest: Nest, binding: Binding, body: Body, parallel: list[int], reduce: list[int], chunk: int) -> Step:
    """Items, blocks and grain."""
    per_item = 1
    for n in reduce:
        per_item *= n
    if chunk:
        per_item = per_item // reduce[0] * min(chunk, reduce[0])
    rows = 1
    for n in parallel:
        rows *= n
    elements = rows * per_item
    axes = set(body.outer + body.inner)
    sizes = body.extents
    moved = written = 0
    for a in body.accesses():
        if isinstance(a, Read | Write):
            n = 1
            for x in a.strides:
                if x in axes:
                    n *= sizes[x]
            n *= (a.source if isinstance(a, Read) else a.target).dtype.itemsize
            moved += n
            written += n if isinstance(a, Write) else 0
    # scalars are computed once in a call of the kernel
    work = sum(s.cost for s, over in zip(body.statements, body.axes_of()) if isinstance(s, Compute) and over) + \
        sum(2 for s in body.statements if isinstance(s, Reduce))
    nanoseconds = moved / 20 + elements * work * 0.03 + rows * 2
    step = Step(nest, binding, 0, 1, elements=elements, bytes=moved, written=written, flops=elements * work)
    if nest.schedule == "map" and len(parallel) <= 1:
        step.total = rows
    elif nest.schedule == "row":
        step.total = rows
        near = moved <= NEAR_BYTES
        step.group = group_of(math.prod(reduce), GROUP_ELEMENTS if near else FAR_ELEMENTS)
        step.ahead = ahead_of(reduce[-1]) if near else 0
    else:
        last = parallel[-1]
        block = {"column": COLUMN_BLOCK, "map": MAP_BLOCK, "tile": 2 * TILE}[nest.schedule]
        if nest.schedule == "column" and last >= 2 * LEAST_COLUMNS:
            items = max(min(-(-COLUMN_ITEMS * last // rows), last // LEAST_COLUMNS), 1)
            block = min(block, -(-last // items // VECTOR) * VECTOR)
        step.block = min(block, max(last, 1))
        step.blocks = -(-last // step.block)
        step.total = rows // last * step.blocks
        if nest.schedule == "tile":
            step.tile, step.tiles = TILE, -(-parallel[-2] // TILE)
            step.total = step.total // parallel[-2] * step.tiles
    each = nanoseconds / max(step.total, 1)
    step.grain = max(1, int(ITEM_NANOSECONDS / max(each, 1e-3)))
    if nest.schedule == "map" and len(parallel) <= 1:
        step.grain = max(64, step.grain // 64 * 64)
    return step
