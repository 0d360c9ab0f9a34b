"""Kernels with folds: which threads share an item, and how they exchange what each has folded.

A *team* takes one item at a time; its threads share the item's reduce loops.

- `Warp`: the 32 threads of a warp, for short rows; exchange by shuffles alone.
- `Block`: all threads of a block; shuffles within each warp, then over the warps' results in shared memory.
- `Column`: for folds over rows of contiguous columns: lane l of every warp has column l of 32, the warps share the
  rows; exchange through shared memory.

After an exchange all threads of a team (of a column) hold the same result, bit by bit, so that each can compute what
follows from it. Exchanges combine in a fixed tree: the result does not depend on timing.
"""
from __future__ import annotations

from jtorch.codegen.cuda import Kernel, Level, Writer, indent
from jtorch.codegen.loops import DENSE, Access, Nest
from jtorch.codegen.scalar import CONVERSIONS
from jtorch.dtypes import by_name

COLUMN_WARPS = 8


def carrier(dtype: str) -> str:
    """The type in which an accumulator is exchanged: shuffles take 32 and 64 bits."""
    d = by_name(dtype).compute
    return CONVERSIONS[d.name] if d.is_floating_point else "i64" if d.itemsize == 8 else "i32"


def converted(text: str, source: str, target: str) -> str:
    return text if source == target else f"{target}({text})"


class Team:
    """Text of one way to share an item."""

    items, grid = "cuda.blockIdx.x", "cuda.gridDim.x"  # this team's number, and how many there are
    first, step = "thread", "width"  # the positions t of the reduce loops that a thread takes
    leader = "thread == 0"  # who stores what there is one of per item
    guard = ""  # who stores points
    shared = 0  # elements of shared memory per fold

    def __init__(self, w: Writer) -> None:
        self.w = w

    def types(self, f: int) -> tuple[str, str]:
        """A fold's own type, and the one in which it travels between threads."""
        dtype = self.w.folds[f].dtype
        return CONVERSIONS[dtype], carrier(dtype)

    def setup(self) -> list[str]:
        w, index = self.w, self.w.index_type
        lines = [f"item = {index}({self.items})", f"teams = {index}({self.grid})",
                 f"thread = {index}(cuda.threadIdx.x)", f"lane = {w.i('thread & 31')}"]
        if self.shared:
            lines.append(f"warp = {w.i('thread >> 5')}")
            lines += [f"sh{f} = cuda.shared.array({self.shared}, {self.types(f)[1]})" for f in w.folds]
        return lines

    def counters(self) -> list[str]:
        return self.w.counters(self.w.outer, "item")

    def exchange(self, folds: list[int]) -> list[str]:
        raise NotImplementedError

    def butterfly(self, folds: list[int]) -> list[str]:
        """Every lane gets the fold over its warp."""
        lines = []
        for f in folds:
            own, kind = self.types(f)
            got = f"cuda.shfl_xor_sync(0xffffffff, {converted(f'a{f}', own, kind)}, k)"
            lines += [f"b{f} = {converted(got, kind, own)}", self.w.combine(f, f"b{f}")]
        return ["k = 16", "while k:", *indent([*lines, "k >>= 1"])]


class Warp(Team):
    first, step = "lane", "32"
    leader = "lane == 0"
    items, grid = "cuda.grid(1) >> 5", "cuda.gridsize(1) >> 5"

    def exchange(self, folds: list[int]) -> list[str]:
        return self.butterfly(folds)


class Block(Team):
    shared = 32

    def setup(self) -> list[str]:
        return [*super().setup(), f"width = {self.w.index_type}(cuda.blockDim.x)",
                f"warps = {self.w.i('width >> 5')}"]

    def exchange(self, folds: list[int]) -> list[str]:
        write, read = [], []
        for f in folds:
            own, kind = self.types(f)
            write.append(f"sh{f}[warp] = {converted(f'a{f}', own, kind)}")
            read.append(f"a{f} = {converted(f'sh{f}[lane]', kind, own)}")
        neutral = [self.w.start(f) for f in folds]
        return [*self.butterfly(folds), "if lane == 0:", *indent(write), "cuda.syncthreads()",
                "if lane < warps:", *indent(read), "else:", *indent(neutral), *self.butterfly(folds)]


class Column(Team):
    first, step = "warp", str(COLUMN_WARPS)
    leader, guard = "live & (warp == 0)", "live"
    shared = 32 * COLUMN_WARPS

    def counters(self) -> list[str]:
        """The last parallel loop is the columns'; threads beyond the last column repeat it, and store nothing."""
        w = self.w
        last, column = w.outer[-1], w.counter[w.outer[-1]]
        lines = [f"{column} = {w.i('item % blocks * 32 + lane')}",
                 f"live = {column} < n{last}",
                 f"{column} = {column} if live else {w.i(f'n{last} - 1')}"]
        if len(w.outer) > 1:
            lines += [f"row = {w.i('item // blocks')}", *w.counters(w.outer[:-1], "row")]
        return lines

    def exchange(self, folds: list[int]) -> list[str]:
        write, first, others = [], [], []
        for f in folds:
            own, kind = self.types(f)
            write.append(f"sh{f}[thread] = {converted(f'a{f}', own, kind)}")
            first.append(f"a{f} = {converted(f'sh{f}[lane]', kind, own)}")
            others += [f"b{f} = {converted(f'sh{f}[k + lane]', kind, own)}", self.w.combine(f, f"b{f}")]
        return [*write, "cuda.syncthreads()", *first,
                "k = 32", f"while k < {self.shared}:", *indent([*others, "k += 32"])]


TEAMS = {"warp": Warp, "block": Block, "column": Column}


def emit_folds(nest: Nest, index: str, team_name: str) -> Kernel:
    w = Writer(nest, index)
    team = TEAMS[team_name](w)
    item = Level(frozenset(w.outer))
    inner = frozenset(w.inner)
    point_stores, item_stores = sort_stores(nest)
    for phase in range(nest.last_phase + 1):
        folds = [f for f, v in w.folds.items() if nest.phase_of[v.arg] == phase]
        stores = point_stores.get(phase, [])
        if not folds and not stores:
            continue
        point = Level(item.loops | inner)
        chain = [w.top, item, point]
        w.place([nest.values[f].arg for f in folds] + [nest.stores[j].value for j in stores], chain)
        for f in folds:
            item.lines.append(w.start(f))
            point.lines.append(w.combine(f, f"v{nest.values[f].arg}"))
        stored = [w.store(j, chain) for j in stores]
        if stored and team.guard:
            stored = [f"if {team.guard}:", *indent(stored)]
        where = w.counters(w.inner, "t", "begin" if nest.chunked else "")
        item.lines += [f"t = {w.i(team.first)}", "while t < inner:",
                       *indent([*where, *point.lines, *stored, f"t = {w.i(f't + {team.step}')}"])]
        item.lines += team.exchange(folds) if folds else []
        item.lines += [f"v{f} = a{f}" for f in folds]
        item.have.update(folds)
    if item_stores:
        once = Level(item.loops)  # the threads that do not store need not load either
        once.have = item.have
        w.place([nest.stores[j].value for j in item_stores], [w.top, once])
        stored = [w.store(j, [w.top, once]) for j in item_stores]
        item.lines += [f"if {team.leader}:", *indent(once.lines + stored)]
    sizes = ["items"] + (["blocks"] if team_name == "column" else [])
    sizes += ["chunk", "rest"] if nest.chunked else ["inner"]
    if nest.chunked:
        w.used.add(0)
    head = team.counters() + (chunk_bounds(w) if nest.chunked else [])
    barrier = ["cuda.syncthreads()"] if team.shared else []  # before the next item overwrites the exchange
    loop = [*head, *item.lines, *barrier, f"item = {w.i('item + teams')}"]
    body = [*team.setup(), "while item < items:", *indent(loop)]
    return w.kernel(body, sizes)


def chunk_bounds(w: Writer) -> list[str]:
    """Parallel loop 0 numbers chunks of the outermost reduce loop; `rest` is the size of the others."""
    n = f"n{w.inner[0]}"
    return [f"begin = {w.i('r0 * chunk')}",
            f"left = {w.i(f'{n} - begin')}",
            f"inner = {w.i('(left if left < chunk else chunk) * rest')}"]


def sort_stores(nest: Nest) -> tuple[dict[int, list[int]], list[int]]:
    """The stores of each phase that are made at every point, and those made once per item."""
    reduce = set(range(nest.parallel, nest.parallel + nest.reduce))
    points: dict[int, list[int]] = {}
    items: list[int] = []
    for j, s in enumerate(nest.stores):
        if nest.loops_of[s.value] & reduce or varies(s.access, reduce):
            points.setdefault(nest.phase_of[s.value], []).append(j)
        else:
            items.append(j)
    return points, items


def varies(access: Access, loops: set[int]) -> bool:
    return access == DENSE or any(access[n] != 0 for n in loops)
