"""Loop nest -> kernel text for Numba, and the order of the kernel's arguments.

The text uses raw pointers and the names of `runtime/intrinsics.py`. Every statement stands in the outermost loop in
which it can: broadcast loads in the row, scalars before the loops. Each schedule is one function.

Names: p pointers, n extents, s strides, k constants, q per-worker scratch; v values, o offsets, r, c and i loop
counters.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from jtorch.codegen import scalar, summing_loops
from jtorch.codegen.library.kernel_text import TILES
from jtorch.codegen.loops import DENSE, Access, Apply, Constant, Fold, Iota, Literal, Load, Nest, Store
from jtorch.dtypes import by_name
from jtorch.ir.primitive import op as operation

POINTERS = {"float16": "p:uint16", "bfloat16": "p:uint16", "complex64": "p:float32", "complex128": "p:float64"}
LOADS = {"float16": "f16_to_f32({})", "bfloat16": "bf16_to_f32({})"}
STORES = {"float16": "f32_to_f16({})", "bfloat16": "f32_to_bf16({})"}
FOLDED_LINES = 24  # statements of an element up to which a reduction over rows takes several rows together
MANY_FOLDED_LINES = 3  # and many, if it is of sums: each statement is compiled as many times
KEEP_COST = 8  # a value of this cost that a later phase needs again is kept, not recomputed


@dataclass
class Kernel:
    """Text and parameters of a kernel.

    `scratch` are the element types of its per-worker arrays (`plan.scratch_length`).
    """

    source: str
    params: tuple[str, ...]
    scratch: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()  # what each parameter is: 'buffer', 'extent', 'stride', 'constant', ...


@dataclass
class Level:
    """One loop (or the top of the kernel): its statements, and what is already computed there."""

    loops: frozenset[int]  # loops whose counters exist here
    lines: list[str] = field(default_factory=list)
    have: set = field(default_factory=set)


class Writer:
    """Shared by the schedules: names, accesses, and placing statements in levels."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.loops = nest.parallel + nest.reduce
        self.vector = self.loops - 1 if nest.schedule == "row" else nest.parallel - 1  # -1: no loop at all
        self.counter = [f"r{i}" for i in range(nest.parallel)] + [f"c{i}" for i in range(nest.reduce)]
        if self.vector >= 0:
            self.counter[self.vector] = "i"
        self.stride_names: dict[tuple[str, int], list[str]] = {}
        self.strides = 0
        self.constants: dict[int, str] = {}
        self.scratch: list[str] = []
        self.codes: dict[int, str] = {}
        self.kept: dict[int, str] = {}  # value -> its scratch
        self.reads_ahead = False  # loads ask for the next row as well
        self.asked_ahead = False  # some load did
        self.stored_past = False  # some store went past the caches
        for i, v in enumerate(nest.values):
            if isinstance(v, Load | Iota):
                self._name_strides(("v", i), v.access)
            if isinstance(v, Constant):
                self.constants[i] = f"k{len(self.constants)}"
            if isinstance(v, Apply) and v.fails:
                self.codes[i] = f"e{len(self.codes)}"
        for j, s in enumerate(nest.stores):
            self._name_strides(("w", j), s.access)

    def _name_strides(self, key: tuple[str, int], access: Access) -> None:
        names = []
        for s in access if access != DENSE else ():
            names.append(f"s{self.strides}" if s == "s" else "")
            self.strides += s == "s"
        self.stride_names[key] = names

    # --- accesses ----------------------------------------------------------------------------------------------------

    def index(self, key: tuple[str, int], access: Access, chain: list[Level]) -> str:
        """Text of the element index; partial sums over outer loops are put into their levels once."""
        if access == DENSE:
            return self.dense_index(chain)
        names = self.stride_names[key]
        base = ""
        for level, previous in zip(chain[1:], chain):
            new = [n for n in sorted(level.loops - previous.loops) if access[n] != 0]
            if not new:
                continue
            terms = [base] if base else []
            terms += [self.counter[n] + ("" if access[n] == 1 else f" * {names[n] or access[n]}") for n in new
                      if access[n] != -1]
            text = " - ".join([" + ".join(terms) or "0", *[self.counter[n] for n in new if access[n] == -1]])
            if level is chain[-1] and self.vector in level.loops - previous.loops:
                return text
            if text.isidentifier():
                base = text
                continue
            base = f"o{key[0]}{key[1]}_{len(level.loops)}"
            if (base, "offset") not in level.have:
                level.have.add((base, "offset"))
                level.lines.append(f"{base} = {text}")
        return base or "0"

    def dense_index(self, chain: list[Level]) -> str:
        """Row-major position over all loops."""
        base = ""
        for level, previous in zip(chain[1:], chain):
            for n in sorted(level.loops - previous.loops):
                if n == self.vector:
                    return f"{base} + i" if base else "i"
                text = f"{base} * n{n} + {self.counter[n]}" if base and n else self.counter[n]
                base = f"d{n}"
                if (base, "dense") not in level.have:
                    level.have.add((base, "dense"))
                    level.lines.append(f"{base} = {text}")
            if self.vector in level.loops:
                break
            if level is not chain[-1]:
                following = sorted(chain[chain.index(level) + 1].loops - level.loops)
                if following == [self.vector]:
                    row = f"{base} * n{self.vector}"
                    base = "d"
                    if (base, "dense") not in level.have:
                        level.have.add((base, "dense"))
                        level.lines.append(f"{base} = {row}")
        return base

    # --- values ------------------------------------------------------------------------------------------------------

    def text(self, i: int, chain: list[Level]) -> str:
        v = self.nest.values[i]
        if isinstance(v, Load):
            place = self.index(("v", i), v.access, chain)
            if v.part is not None:
                return f"p{v.buffer}[{part_index(place, v.part)}]"
            start = place.removesuffix(" + i * 2")
            element = f"p{v.buffer}[{place}]" if start == place else f"load_from(p{v.buffer}, {start}, i * 2)"
            if v.guard is not None:
                element = f"load_if(v{v.guard}, p{v.buffer}, {place})"
            elif self.reads_ahead and v.access == DENSE and v.dtype in ("float32", "float64"):
                self.asked_ahead = True
                element = f"load_ahead({element}, p{v.buffer}, d + ahead, i)"
            return LOADS[v.dtype].format(element) if v.dtype in LOADS else element
        if isinstance(v, Constant):
            return f"{scalar.CONVERSIONS[v.dtype]}({self.constants[i]})"
        if isinstance(v, Literal):
            return v.text
        if isinstance(v, Iota):
            return f"{scalar.CONVERSIONS[v.dtype]}({self.index(('v', i), v.access, chain)})"
        assert isinstance(v, Apply)
        return v.text.format(*[f"v{a}" for a in v.args])

    def place(self, targets: Iterable[int], chain: list[Level]) -> None:
        """Write the statements that compute `targets`, each into the outermost level of the chain that has its
        loops."""
        have = set().union(*[level.have for level in chain])
        for i in self.nest.cone(targets, have):
            v = self.nest.values[i]
            assert not isinstance(v, Fold), f"v{i} is used before it is folded"
            needs = self.needs[i]
            depth = next(d for d, level in enumerate(chain) if needs <= level.loops)
            if self.nest.phase_of[i]:
                depth = max(depth, 1)  # folds exist within an item
            level = chain[depth]
            if isinstance(v, Apply) and v.fails:
                failed = v.fails.format(*[f"v{a}" for a in v.args])
                level.lines.append(f"bad{i} = bad{i} | ({failed})")  # reported behind the loops: these are vectors
            level.lines.append(f"v{i} = {self.text(i, chain[:depth + 1])}")
            level.have.add(i)

    @cached_property
    def needs(self) -> list[frozenset[int]]:
        """The loops that each value must stand in. Folds of a column nest live in scratch, one for each column."""
        nest = self.nest
        if nest.schedule != "column":
            return nest.loops_of
        return [loops | {self.vector} if phase else loops for loops, phase in zip(nest.loops_of, nest.phase_of)]

    def store(self, j: int, chain: list[Level]) -> None:
        s = self.nest.stores[j]
        dtype = self.nest.buffers[s.buffer]
        value = STORES[dtype].format(f"v{s.value}") if dtype in STORES else f"v{s.value}"
        place = self.index(("w", j), s.access, chain)
        if self.goes_past(s):
            self.stored_past = True
            start = place.removesuffix("i").removesuffix(" + ") or "0"
            chain[-1].lines.append(f"past = past | store_past({value}, p{s.buffer}, {start}, i)")
        else:
            chain[-1].lines.append(f"p{s.buffer}[{place if s.part is None else part_index(place, s.part)}] = {value}")

    def goes_past(self, s: Store) -> bool:
        """Is this the store of a whole vector, to be made past the caches?"""
        contiguous = s.access == DENSE or self.vector >= 0 and s.access[self.vector] == 1
        return self.nest.past and contiguous and s.part is None and by_name(self.nest.buffers[s.buffer]).itemsize > 1

    # --- folds -------------------------------------------------------------------------------------------------------

    def start(self, f: int) -> str:
        """Statement before the loop of a fold."""
        v = self.nest.values[f]
        return f"a{f} = {scalar.identity(operation(v.op).reduction.identity, by_name(v.dtype))}"

    def combine(self, f: int, acc: str, value: str) -> str:
        v = self.nest.values[f]
        if v.op == "sum" and v.dtype == "bool":
            return f"{acc} | {value}"
        text = operation(v.op).reduction.combine
        return scalar.substitute(text.replace("acc", "@"), by_name(v.dtype), by_name(v.dtype)) \
            .format(value).replace("@", acc)

    def fold(self, f: int, chain: list[Level]) -> None:
        """Statement in the loop of a fold into a local accumulator."""
        chain[-1].lines.append(f"a{f} = {self.combine(f, f'a{f}', f'v{self.nest.values[f].arg}')}")

    def is_sum(self, f: int) -> bool:
        """Does this fold gather rounding errors?"""
        v = self.nest.values[f]
        return v.op in ("sum", "prod") and by_name(v.dtype).is_floating_point

    def new_scratch(self, dtype: str) -> str:
        self.scratch.append(dtype)
        return f"q{len(self.scratch) - 1}"

    # --- the whole ---------------------------------------------------------------------------------------------------

    def kernel(self, top: list[str], body: list[str], extra: list[str]) -> Kernel:
        nest = self.nest
        params: list[tuple[str, str, str]] = []
        params += [(f"p{i}", POINTERS.get(d, f"p:{d}"), "buffer") for i, d in enumerate(nest.buffers)]
        params += [(f"n{i}", "i", "extent") for i in range(self.loops)]
        params += [(f"s{i}", "i", "stride") for i in range(self.strides)]
        params += [(name, nest.values[i].kind, "constant") for i, name in self.constants.items()]
        params += [(name, "i", name) for name in extra]
        params += [(f"q{i}", f"p:{d}", "scratch") for i, d in enumerate(self.scratch)]
        params += [(f"w{i}", "i", "scratch stride") for i in range(len(self.scratch))]
        if self.codes:
            params += [("err", "p:int64", "error")] + [(name, "i", "code") for name in self.codes.values()]
        head = f"def kernel({', '.join([p[0] for p in params])}{', ' if params else ''}begin, end, worker):"
        if self.stored_past:
            top, body = ["past = i32(0)", *top], [*body, "drain(past)"]
        imports = [TILES, ""] if any(t.lstrip().startswith("transpose(") for t in body) else []
        before = [f"bad{i} = False" for i in self.codes]
        after = [line for i, code in self.codes.items() for line in (f"if bad{i}:", f"    store_error(err, {code})")]
        lines = [*imports, head, *indent(before + top + body + after)]
        return Kernel("\n".join(lines) + "\n", tuple([p[1] for p in params]), tuple(self.scratch),
                      tuple([p[2] for p in params]))

    def rows(self, loops: range, item: str = "item") -> list[str]:
        """Counters of the parallel loops from the item's number."""
        lines = []
        left = item
        for n in reversed(loops):
            if n == loops[0]:
                lines.append(f"r{n} = {left}")
            else:
                lines.append(f"r{n} = index_mod({left}, n{n})")
                lines.append(f"m{n} = index_div({left}, n{n})")
                left = f"m{n}"
        return lines


def part_index(place: str, part: int) -> str:
    """The index of a part of complex element `place`, in memory that is seen as real numbers."""
    return f"2 * ({place}) + {part}"


def indent(lines: list[str]) -> list[str]:
    return ["    " + t for t in lines]


def emit(nest: Nest) -> Kernel:
    """The kernel text of a nest."""
    return {"map": emit_map, "tile": emit_tile, "row": emit_row, "column": emit_column}[nest.schedule](Writer(nest))


def emit_map(w: Writer) -> Kernel:
    """
        for item in range(begin, end):           # a piece of a row
            for i in range(lo, hi): ...
    or, over one loop, `for i in range(begin, end)`.
    """
    nest = w.nest
    everything = frozenset(range(nest.parallel))
    top = Level(frozenset())
    if nest.parallel <= 1:
        chain = [top, Level(everything)]
    else:
        chain = [top, Level(everything - {w.vector}), Level(everything)]
    w.place([s.value for s in nest.stores], chain)
    for j in range(len(nest.stores)):
        w.store(j, chain)
    if nest.parallel <= 1:
        counter = "i" if nest.parallel else "item"
        return w.kernel(top.lines, [f"for {counter} in range(begin, end):", *indent(chain[-1].lines)], [])
    last = w.vector
    row = [*_block(last), *w.rows(range(nest.parallel - 1), "row"), *chain[1].lines,
           "for i in range(lo, hi):", *indent(chain[2].lines)]
    return w.kernel(top.lines, ["for item in range(begin, end):", *indent(row)], ["block", "blocks"])


def emit_tile(w: Writer) -> Kernel:
    """
        for item in range(begin, end):           # a tile of the last two loops
            for i in range(lo, hi):              # contiguous along the other loop: staged row by row, so that
                for r in range(tlo, thi):        # every cache line is read once; floats through registers, which
                    q[(i - lo) * pitch + r - tlo] = ...                             # leave them transposed
            for r in range(tlo, thi):
                for i in range(lo, hi): ...
    """
    nest = w.nest
    everything = frozenset(range(nest.parallel))
    side = nest.parallel - 2
    top = Level(frozenset())
    chain = [top, Level(everything - {w.vector, side}), Level(everything - {w.vector}), Level(everything)]
    staging: list[str] = []
    for i, v in enumerate(nest.values):
        crosses = isinstance(v, Load) and v.access != DENSE and v.access[side] in (1, -1) and v.access[w.vector] == "s"
        if not crosses or v.guard is not None:
            continue
        q = w.new_scratch(_scratch_type(v.dtype))
        across = Level(chain[1].loops | {w.vector})
        along = Level(everything)
        element = w.text(i, [top, chain[1], across, along])
        if v.dtype in ("float32", "float64") and v.part is None:
            staging += _transposed(f"p{v.buffer}", element[element.index("[") + 1:-1], [*across.lines, *along.lines],
                                   q, f"r{side}", v.access[side])
            chain[1].lines.append(f"base{i} = worker * w{q[1:]} - lo")
            place = f"r{side} - tlo" if v.access[side] == 1 else f"thi - 1 - r{side}"
            chain[2].lines.append(f"z{i} = base{i} + ({place}) * 2 * pitch")
            chain[3].lines.append(f"v{i} = {q}[z{i} + i]")
        else:
            chain[1].lines.append(f"base{i} = worker * w{q[1:]} - tlo - lo * pitch")
            staging += ["for i in range(lo, hi):", *indent([*across.lines, f"for r{side} in range(tlo, thi):",
                        *indent([*along.lines, f"{q}[base{i} + i * pitch + r{side}] = {element}"])])]
            chain[2].lines.append(f"z{i} = base{i} + r{side}")
            chain[3].lines.append(f"v{i} = {q}[z{i} + i * pitch]")
        chain[3].have.add(i)
    w.place([s.value for s in nest.stores], chain)
    for j in range(len(nest.stores)):
        w.store(j, chain)
    tile = ["tlo = index_mod(row, tiles) * tile", f"thi = min(tlo + tile, n{side})"]
    if side:
        tile += ["outer = index_div(row, tiles)", *w.rows(range(side), "outer")]
    body = [*_block(w.vector), *tile, *chain[1].lines, *staging, f"for r{side} in range(tlo, thi):",
            *indent([*chain[2].lines, "for i in range(lo, hi):", *indent(chain[3].lines)])]
    return w.kernel(top.lines, ["for item in range(begin, end):", *indent(body)],
                    ["block", "blocks", "tile", "tiles", "pitch"])


def _transposed(pointer: str, index: str, lines: list[str], scratch: str, row: str, step: int) -> list[str]:
    """scratch[r, i] = pointer[index] for the elements (i, r) of a tile, where those of an i lie one after another,
    forwards or backwards. `lines` compute the index: of the tile's lowest address, and of the next i."""
    return [f"{row} = {'tlo' if step == 1 else 'thi - 1'}", "i = lo", *lines, f"first = {index}",
            "i = lo + 1", *lines, f"pace = {index} - first",
            f"transpose(shifted({pointer}, first), pace, shifted({scratch}, worker * w{scratch[1:]}), 2 * pitch, "
            "hi - lo, thi - tlo)"]


def _block(last: int) -> list[str]:
    return ["row = index_div(item, blocks)", "lo = index_mod(item, blocks) * block", f"hi = min(lo + block, n{last})"]


def emit_row(w: Writer) -> Kernel:
    """
        for item in range(begin, end):           # a row
            a = 0
            for i in range(n): a = a + ...       # phase 0
            ...
            for i in range(n): ...               # phase 1

    or, where there are three phases or more, each phase for a group of rows before the next one: what a phase begins
    with takes long to come from the fold of the phase before, and meanwhile there are other rows. (Of two phases, the
    processor itself begins the next row.)

        for first in range(begin, end, group):
            for item in range(first, last): ...  # phase 0, its folds kept in scratch
            for item in range(first, last): ...  # phase 1

    A row is often a page or less, and the processor's own prefetchers stop at its end. So the loop before the last
    (unless it is the first, which needs its row) asks for the next row (or group), `ahead` elements on.
    """
    nest = w.nest
    outer = frozenset(range(nest.parallel))
    top, item = Level(frozenset()), Level(outer)
    reduce = list(range(nest.parallel, w.loops))
    last = nest.last_phase
    phases = nest.phase_of
    point_stores = [[] for _ in range(last + 1)]
    row_stores = []
    for j, s in enumerate(nest.stores):
        if w.needs[s.value] & set(reduce) or _varies(s.access, reduce):
            point_stores[phases[s.value]].append(j)
        else:
            row_stores.append(j)
    folds = [[] for _ in range(last + 1)]
    for f, v in enumerate(nest.values):
        if isinstance(v, Fold):
            folds[phases[v.arg]].append(f)
    kept = _choose_kept(w, folds, point_stores, set(reduce)) if not nest.chunked else {}
    keep_at: dict[int, list[int]] = {}
    for i, phase in kept.items():
        keep_at.setdefault(phase, []).append(i)
    kept_in = _kept_in_result(w, kept, point_stores[last]) if last else {}
    w.kept = {i: w.new_scratch(_scratch_type(nest.values[i].dtype)) for i in kept if i not in kept_in}
    counted = bool(kept) and len(reduce) > 1
    prefetches = last > 0 and len(reduce) == 1 and nest.parallel > 0 and not nest.chunked
    run = [phase for phase in range(last + 1) if folds[phase] or point_stores[phase]]
    grouped = len(run) > 2 and nest.parallel > 0 and not nest.chunked and not w.kept
    cells: dict[int, str] = {}  # fold -> its place in scratch, where rows are grouped
    head = w.rows(range(nest.parallel)) if nest.parallel else []
    loops: list[str] = []
    for phase in run:
        if grouped:
            item = Level(outer)
            wanted = [nest.values[f].arg for f in folds[phase]] + [nest.stores[j].value for j in point_stores[phase]]
            wanted += [nest.stores[j].value for j in row_stores] if phase == run[-1] else []
            for i in w.nest.cone(wanted, top.have | {i for i, first in kept.items() if first < phase}):
                if i in cells:
                    item.lines.append(f"v{i} = {cells[i]}")
                    item.have.add(i)
        chain = [top, item]
        for n in reduce:
            chain.append(Level(chain[-1].loops | {n}))
        inner = chain[-1]
        position = "t" if counted else "i"

        def place_of(i: int, chain: list[Level] = chain, position: str = position) -> str:
            if i in w.kept:
                return f"{w.kept[i]}[base{i} + {position}]"
            return f"p{nest.stores[kept_in[i]].buffer}[{w.dense_index(chain)}]"

        for i, first in kept.items():
            if first < phase:
                inner.have.add(i)
                inner.lines.append(f"v{i} = {place_of(i)}")
        targets = [nest.values[f].arg for f in folds[phase]] + [nest.stores[j].value for j in point_stores[phase]]
        used = set(w.nest.cone(targets, top.have | item.have))
        inner.lines = [t for t in inner.lines if not t.startswith("v") or int(t[1:t.index(" ")]) in used]
        for f in folds[phase]:
            item.lines.append(w.start(f))
        w.reads_ahead = prefetches and phase == max(last - 1, 1)
        w.place(targets, chain)
        for f in folds[phase]:
            w.fold(f, chain)
        for j in point_stores[phase]:
            w.store(j, chain)
        for i in keep_at.get(phase, ()):
            inner.lines.append(f"{place_of(i)} = v{i}")
            if i in w.kept:
                item.lines.insert(0, f"base{i} = worker * w{w.kept[i][1:]}")
        lines = inner.lines
        for depth in reversed(range(len(reduce))):
            n = reduce[depth]
            innermost, outermost = depth == len(reduce) - 1, depth == 0 and nest.chunked
            low, high = ("clo", "chi") if outermost else ("0", f"n{n}")
            if counted and innermost:
                lines = ["t = t0 + i", *lines]
            if innermost and not nest.chunked and any(w.is_sum(f) for f in folds[phase]):
                block = summing_loops.blocked(w, folds[phase], lines, n)
            elif innermost:
                block = summing_loops.innermost(w, folds[phase], lines, low, high)
            else:
                block = [f"for {w.counter[n]} in range({low}, {high}):", *indent(lines)]
            if counted and innermost:
                block += [f"t0 = t0 + n{n}"]
            lines = (chain[depth + 1].lines if depth else []) + block
        item.lines += (["t0 = 0"] if counted else []) + lines
        for f in folds[phase]:
            item.lines.append(f"v{f} = a{f}")
            item.have.add(f)
        if grouped and phase != run[-1]:
            for f in folds[phase]:
                q = w.new_scratch(_scratch_type(nest.values[f].dtype))
                cells[f] = f"{q}[worker * w{q[1:]} + item - first]"
                item.lines.append(f"{cells[f]} = v{f}")
            loops += ["for item in range(first, last):", *indent(head + item.lines)]
    w.place([nest.stores[j].value for j in row_stores], [top, item])
    for j in row_stores:
        w.store(j, [top, item])
    if grouped:
        loops += ["for item in range(first, last):", *indent(head + item.lines)]
        body = ["for first in range(begin, end, group):", *indent(["last = min(first + group, end)", *loops])]
        return w.kernel(top.lines, body, ["group", "ahead"] if w.asked_ahead else ["group"])
    if nest.chunked:
        head += ["clo = r0 * chunk", f"chi = min(clo + chunk, n{reduce[0]})"]
    return w.kernel(top.lines, ["for item in range(begin, end):", *indent(head + item.lines)],
                    ["chunk"] if nest.chunked else ["ahead"] if w.asked_ahead else [])


def _varies(access: Access, loops: list[int]) -> bool:
    return access == DENSE or any(access[n] != 0 for n in loops)


def _scratch_type(dtype: str) -> str:
    return {"float16": "float32", "bfloat16": "float32"}.get(dtype, dtype)


def _choose_kept(w: Writer, folds: list[list[int]], stores: list[list[int]], reduce: set[int]) -> dict[int, int]:
    """Costly values at point level that a later phase needs again -> the phase that computes them first."""
    nest = w.nest
    first: dict[int, int] = {}
    kept: dict[int, int] = {}
    rows = {i for i in range(len(nest.values)) if not w.needs[i] & reduce}
    for phase in range(len(folds)):
        targets = [nest.values[f].arg for f in folds[phase]] + [nest.stores[j].value for j in stores[phase]]
        while True:
            cone = w.nest.cone(targets, rows | {i for i, p in kept.items() if p < phase})
            again = [i for i in cone if i in first and isinstance(nest.values[i], Apply)
                     and nest.values[i].cost >= KEEP_COST and w.vector in w.needs[i]]
            if not again:
                break
            kept[again[-1]] = first[again[-1]]
        for i in cone:
            first.setdefault(i, phase)
    return kept


def _kept_in_result(w: Writer, kept: dict[int, int], stores: list[int]) -> dict[int, int]:
    """Kept values that wait for the last phase where it will write its result, rather than in scratch -> the store.

    The result may have the memory of an operand (`plan`: in place). So all that is read along the row must be read for
    the kept value, before it is written, and not again.
    """
    nest = w.nest
    if len(kept) != 1 or len(stores) != 1 or w.loops - nest.parallel != 1 or w.goes_past(nest.stores[stores[0]]):
        return {}
    (value, phase), (j,) = *kept.items(), stores
    s = nest.stores[j]
    loads = {i for i, v in enumerate(nest.values) if isinstance(v, Load) and w.vector in w.needs[i]}
    if not loads <= set(w.nest.cone([value], set())) or loads & set(w.nest.cone([s.value], {value})):
        return {}
    same = nest.buffers[s.buffer] == nest.values[value].dtype in ("float32", "float64")
    return {value: j} if same and s.access == DENSE and phase == nest.last_phase - 1 else {}


def emit_column(w: Writer) -> Kernel:
    """
        for item in range(begin, end):           # a block of columns
            for i in range(lo, hi): q[i] = 0
            for c in range(n):                   # several at once, then the rest
                for i in range(lo, hi): q[i] = q[i] + ...
            for i in range(lo, hi): ... q[i] ...
    """
    nest = w.nest
    outer = frozenset(range(nest.parallel - 1))
    vector = w.vector
    top, item = Level(frozenset()), Level(outer)
    reduce = list(range(nest.parallel, w.loops))
    last = nest.last_phase
    phases = nest.phase_of
    point_stores = [[] for _ in range(last + 1)]
    row_stores = [[] for _ in range(last + 2)]
    for j, s in enumerate(nest.stores):
        if w.needs[s.value] & set(reduce) or _varies(s.access, reduce):
            point_stores[phases[s.value]].append(j)
        else:
            row_stores[phases[s.value]].append(j)
    folds = [[] for _ in range(last + 1)]
    for f, v in enumerate(nest.values):
        if isinstance(v, Fold):
            folds[phases[v.arg]].append(f)
    cells: dict[int, str] = {}  # fold or kept row value -> scratch

    def cell(i: int) -> str:
        if i not in cells:
            cells[i] = w.new_scratch(_scratch_type(nest.values[i].dtype))
            item.lines.insert(0, f"base{i} = worker * w{cells[i][1:]} - lo")
        return f"{cells[i]}[base{i} + i]"

    ready: set[int] = set()  # values at row level that depend on folds and are in scratch

    def row_loop(targets: list[int], stores: list[int], save: list[int]) -> None:
        level = Level(outer | {vector})
        chain = [top, item, level]
        _load_ready(targets + [nest.stores[j].value for j in stores], level)
        w.place(targets + [nest.stores[j].value for j in stores], chain)
        for j in stores:
            w.store(j, chain)
        for i in save:
            level.lines.append(f"{cell(i)} = v{i}")
        if level.lines:
            item.lines += ["for i in range(lo, hi):", *indent(level.lines)]

    def _load_ready(targets: list[int], level: Level) -> None:
        for i in w.nest.cone(targets, ready | top.have | item.have):
            v = nest.values[i]
            for a in v.args if isinstance(v, Apply) else ():
                if a in ready and a not in level.have:
                    level.have.add(a)
                    level.lines.append(_read(a))
        for i in targets:
            if i in ready and i not in level.have:
                level.have.add(i)
                level.lines.append(_read(i))

    def _read(i: int) -> str:
        return f"v{i} = {cell(i)}"

    for phase in range(last + 1):
        if folds[phase] or point_stores[phase]:
            targets = [nest.values[f].arg for f in folds[phase]] + [nest.stores[j].value for j in point_stores[phase]]
            # values at row level that depend on folds: computed once per column, not once per element
            edge = [i for i in _row_edge(w, targets, set(reduce), phases) if i not in ready]
            derived = [i for i in edge if not isinstance(nest.values[i], Fold)]
            if derived:
                row_loop(derived, [], derived)
                ready.update(derived)
            if folds[phase]:
                starts = [f"{cell(f)} = {w.start(f).split(' = ', 1)[1]}" for f in folds[phase]]
                item.lines += ["for i in range(lo, hi):", *indent(starts)]
            chain = [top, item]
            for n in reduce:
                chain.append(Level(chain[-1].loops | {n}))
            chain.append(Level(chain[-1].loops | {vector}))
            inner = chain[-1]
            _load_ready(targets, inner)
            w.place(targets, chain)
            for f in folds[phase]:
                w.fold(f, chain)
            for j in point_stores[phase]:
                w.store(j, chain)
            before = [f"a{f} = {cell(f)}" for f in folds[phase]]
            after = [f"{cell(f)} = a{f}" for f in folds[phase]]
            lines: list[str] = []
            for depth in reversed(range(len(reduce))):
                counter, level = w.counter[reduce[depth]], chain[depth + 2]
                first, stop = ("clo", "chi") if depth == 0 and nest.chunked else ("0", f"n{reduce[depth]}")
                if depth < len(reduce) - 1:
                    lines = [f"for {counter} in range({first}, {stop}):", *indent(level.lines + lines)]
                    continue
                rows, points = level.lines, inner.lines
                lines, begin = [], first
                for together in _rows_together(w, folds[phase], len(points)):
                    row_lines, point_lines = _copies(counter, rows, points, together)
                    end = f"upto{together}"
                    lines += [f"{end} = {stop} - index_mod({stop} - {begin}, {together})",
                              f"for {counter} in range({begin}, {end}, {together}):", *indent(row_lines),
                              "    for i in range(lo, hi):", *indent(indent(before + point_lines + after))]
                    begin = end
                lines += [f"for {counter} in range({begin}, {stop}):", *indent(rows),
                          "    for i in range(lo, hi):", *indent(indent(before + points + after))]
            item.lines += lines
            ready.update(folds[phase])
    every = [j for stores in row_stores for j in stores]
    row_loop([], every, [])
    head = [*_block(vector)]
    if nest.parallel > 1:
        head += w.rows(range(nest.parallel - 1), "row")
    if nest.chunked:
        head += ["clo = r0 * chunk", f"chi = min(clo + chunk, n{reduce[0]})"]
    return w.kernel(top.lines, ["for item in range(begin, end):", *indent(head + item.lines)],
                    ["block", "blocks"] + (["chunk"] if nest.chunked else []))


def _rows_together(w: Writer, folds: list[int], statements: int) -> tuple[int, ...]:
    """How many rows a reduction over rows takes at once, so that what it folds into is read and written once for all
    of them; then how many of those that are left."""
    if not folds or w.codes or statements > FOLDED_LINES:
        return ()
    sums = all(w.nest.values[f].op in ("sum", "prod") for f in folds)  # others wait for one another
    return (16, 4) if sums and statements <= MANY_FOLDED_LINES else (4,)


def _copies(counter: str, rows: list[str], points: list[str], together: int) -> tuple[list[str], list[str]]:
    """The statements of one row and of its elements, for so many rows from `counter` on: what depends on the row gets a
    name for each of them."""
    names = {counter}
    for line in rows + points:
        target, _, text = line.partition(" = ")
        if target[0] != "a" and not names.isdisjoint(re.findall(r"\w+", text)):
            names.add(target)
    copied: list[list[str]] = [list(rows), list(points)]
    for k in range(1, together):
        def renamed(match: re.Match, k: int = k) -> str:
            return f"{match[0]}_{k}" if match[0] in names else match[0]

        copied[0].append(f"{counter}_{k} = {counter} + {k}")
        for lines, found in zip((rows, points), copied):
            new = [re.sub(r"\w+", renamed, line) for line in lines]
            found += [new_line for line, new_line in zip(lines, new) if new_line != line or line[0] == "a"]
    return copied[0], copied[1]


def _row_edge(w: Writer, targets: list[int], reduce: set[int], phases: list[int]) -> list[int]:
    """The row-level values that depend on a fold and are read directly by point-level ones."""
    values = w.nest.values
    found: list[int] = []
    point = [t for t in targets if w.needs[t] & reduce]
    found += [t for t in targets if not w.needs[t] & reduce and phases[t]]
    seen = set(point)
    stack = list(point)
    while stack:
        v = values[stack.pop()]
        for a in v.args if isinstance(v, Apply) else ():
            if a in seen:
                continue
            seen.add(a)
            if w.needs[a] & reduce:
                stack.append(a)
            elif phases[a]:
                found.append(a)
    return sorted(set(found))
