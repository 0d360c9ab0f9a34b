"""Loop nest -> text of a `@cuda.jit` kernel.

The same nests as the CPU's, cut differently: threads take the place of vector lanes and of items.

- 'map', 'tile': one loop over the collapsed domain; thread t takes elements t, t + threads, ... of the whole grid.
- 'row', 'column': items are taken by blocks or warps (a *team*, see `cuda_teams`), whose threads share the reduce
  loops, collapsed into one; then the team exchanges its partial folds, and goes on with the next phase.

Every statement stands in the outermost of three levels in which it can: the kernel, an item, a point. Index arithmetic
is in one type, u32 where every position of a launch fits and i64 elsewhere. Values that a later phase needs again are
computed again: registers and the first-level cache are nearer than any scratch memory.

Names: p pointers, n extents, s strides, k constants; v values, o offsets, a the accumulator of a fold, b another
thread's; r and c loop counters, t the position in the reduce loops.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from jtorch.codegen import cuda_scalar, scalar
from jtorch.codegen.loops import DENSE, Access, Apply, Constant, Fold, Iota, Literal, Load, Nest
from jtorch.dtypes import by_name
from jtorch.ir.primitive import op as operation

LOADS = {"bool": "({0} != 0)", "float16": "f32({0})", "bfloat16": cuda_scalar.HALVES["bf16_to_f32"]}
STORES = {"bool": "u8({})", "float16": "f16({})", "bfloat16": "f32_to_bf16({})"}
POINTERS = {"bool": "uint8", "bfloat16": "uint16"}  # element types that this target reads as others
LOGIC = {"sum": "acc | a", "max": "acc | a", "prod": "acc & a", "min": "acc & a"}
"""What reductions of booleans come to."""


@dataclass
class Kernel:
    """`params`: 'p:<dtype>' of a pointer, or the dtype of a number; `arguments`: what each is given at launch."""

    source: str
    params: tuple[str, ...]
    arguments: tuple[str, ...]


@dataclass
class Level:
    """The kernel, an item or a point: its loops' counters exist here."""

    loops: frozenset[int]
    lines: list[str] = field(default_factory=list)
    have: set = field(default_factory=set)


def indent(lines: Iterable[str]) -> list[str]:
    return ["    " + t for t in lines]


class Writer:
    """Names, accesses, and placing statements in levels; what both kinds of kernel share."""

    def __init__(self, nest: Nest, index: str) -> None:
        self.nest, self.index_type = nest, index
        self.counter = [f"r{i}" for i in range(nest.parallel)] + [f"c{i}" for i in range(nest.reduce)]
        self.outer, self.inner = range(nest.parallel), range(nest.parallel, nest.parallel + nest.reduce)
        values = list(enumerate(nest.values))
        self.folds = {i: v for i, v in values if isinstance(v, Fold)}
        constants = [i for i, v in values if isinstance(v, Constant)]
        self.constants = {i: f"k{j}" for j, i in enumerate(constants)}
        can_fail = [i for i, v in values if isinstance(v, Apply) and v.fails]
        self.codes = {i: f"e{j}" for j, i in enumerate(can_fail)}
        self.stride_names: dict[str, list[str]] = {}
        self.strides = 0
        self.used: set[int] = set()  # loops whose counters are read
        for i, v in enumerate(nest.values):
            if isinstance(v, Load | Iota):
                self._name_strides(f"v{i}", v.access)
        for j, s in enumerate(nest.stores):
            self._name_strides(f"w{j}", s.access)
        self.top = Level(frozenset())

    def _name_strides(self, key: str, access: Access) -> None:
        if access == DENSE:
            return
        names = []
        for n, s in enumerate(access):
            names.append(f"s{self.strides}" if s == "s" else "")
            self.strides += s == "s"
            if s != 0:
                self.used.add(n)
        self.stride_names[key] = names

    # --- positions ---------------------------------------------------------------------------------------------------

    def i(self, text: str) -> str:
        """Index arithmetic, kept in the index type, its literals too: Numba widens narrow integers, and makes floats of
        signed with unsigned ones."""
        text = re.sub(r"\b\d+\b", lambda m: f"{self.index_type}({m[0]})", text)
        return text if text.isidentifier() else f"{self.index_type}({text})"

    def position(self, key: str, access: Access, chain: list[Level]) -> str:
        """Text of an element's index. What depends on an item only is put into the item's level."""
        if access == DENSE:
            return self.dense(chain)
        base = ""
        for level, outside in zip(chain[1:], chain):
            terms, reversed_terms = [base] if base else [], []
            for n in sorted(level.loops - outside.loops):
                if access[n] == -1:
                    reversed_terms.append(self.counter[n])
                elif access[n] != 0:
                    stride = self.stride_names[key][n] or access[n]
                    terms.append(self.counter[n] + (f" * {stride}" if stride != 1 else ""))
            if reversed_terms and not terms:
                terms.append("0")
            text = " - ".join([" + ".join(terms), *reversed_terms])
            if level is chain[-1] or text.isidentifier() or not text:
                base = text
                continue
            base = f"o{key}"
            if base not in level.have:
                level.have.add(base)
                level.lines.append(f"{base} = {self.i(text)}")
        return self.i(base) if base else "0"

    def dense(self, chain: list[Level]) -> str:
        """Position in row-major order over all loops."""
        if not self.nest.reduce:
            return "item"
        item = chain[1]
        if "d" not in item.have:
            item.have.add("d")
            item.lines.append(f"d = {self.i('item * inner')}")
        return self.i("d + t")

    def counters(self, loops: range, position: str, start: str = "") -> list[str]:
        """Counters of the loops at a position of their collapsed domain; the outermost counts from `start`."""
        lines = []
        for n in reversed(loops):
            if not any(m in self.used for m in range(loops[0], n + 1)):
                break
            if n == loops[0]:
                lines.append(f"{self.counter[n]} = {self.i(f'{start} + {position}' if start else position)}")
                break
            if n in self.used:
                lines.append(f"{self.counter[n]} = {self.i(f'{position} % n{n}')}")
            lines.append(f"m{n} = {self.i(f'{position} // n{n}')}")
            position = f"m{n}"
        return lines

    # --- values ------------------------------------------------------------------------------------------------------

    def typed(self, text: str, dtype: str) -> str:
        """Numba computes on integers in 64 bits: narrow ones are cut after each statement."""
        d = by_name(dtype)
        return text if d.is_floating_point or d.itemsize == 8 else f"{scalar.CONVERSIONS[dtype]}({text})"

    def text(self, i: int, chain: list[Level]) -> str:
        v = self.nest.values[i]
        if isinstance(v, Load):
            element = LOADS.get(v.dtype, "{0}").format(f"p{v.buffer}[{self.position(f'v{i}', v.access, chain)}]")
            return element if v.guard is None else f"({element} if v{v.guard} else {scalar.CONVERSIONS[v.dtype]}(0))"
        if isinstance(v, Constant):
            return self.constants[i]
        if isinstance(v, Literal):
            return v.text
        if isinstance(v, Iota):
            return f"{scalar.CONVERSIONS[v.dtype]}({self.position(f'v{i}', v.access, chain)})"
        assert isinstance(v, Apply)
        operand = self.nest.values[v.args[0]].dtype if v.args else v.dtype
        return self.typed(cuda_scalar.translate(v.text.format(*[f"v{a}" for a in v.args]), operand), v.dtype)

    def place(self, targets: Iterable[int], chain: list[Level]) -> None:
        """Write the statements that compute the targets, each into the outermost level of the chain that has its
        loops."""
        for i in self.nest.cone(targets, set().union(*[level.have for level in chain])):
            v = self.nest.values[i]
            depth = next(d for d, level in enumerate(chain) if self.nest.loops_of[i] <= level.loops)
            if self.nest.phase_of[i]:
                depth = max(depth, 1)  # folds exist within an item
            level = chain[depth]
            if i in self.codes:
                level.lines += [f"if {v.fails.format(*[f'v{a}' for a in v.args])}:", f"    err[0] = {self.codes[i]}"]
            level.lines.append(f"v{i} = {self.text(i, chain[:depth + 1])}")
            level.have.add(i)

    def store(self, j: int, chain: list[Level]) -> str:
        s = self.nest.stores[j]
        dtype = self.nest.buffers[s.buffer]
        value = cuda_scalar.translate(STORES.get(dtype, "{}").format(f"v{s.value}"), dtype)
        return f"p{s.buffer}[{self.position(f'w{j}', s.access, chain)}] = {value}"

    # --- folds -------------------------------------------------------------------------------------------------------

    def start(self, f: int) -> str:
        v = self.folds[f]
        return f"a{f} = {scalar.identity(operation(v.op).reduction.identity, by_name(v.dtype))}"

    def combine(self, f: int, value: str) -> str:
        """Fold one more value, a point's or another thread's, into this thread's accumulator."""
        v = self.folds[f]
        text = LOGIC.get(v.op) if v.dtype == "bool" else None
        names = {"acc": f"a{f}", "a": value}
        text = re.sub(r"\b(acc|a)\b", lambda m: names[m[1]], text or operation(v.op).reduction.combine)
        return f"a{f} = {self.typed(cuda_scalar.translate(text, v.dtype), v.dtype)}"

    # --- the whole ---------------------------------------------------------------------------------------------------

    def kernel(self, body: list[str], sizes: list[str]) -> Kernel:
        nest, index = self.nest, {"u32": "uint32", "i64": "int64"}[self.index_type]
        params = [(f"p{i}", f"p:{POINTERS.get(d, d)}", "buffer") for i, d in enumerate(nest.buffers)]
        params += [(f"n{i}", index, "extent") for i in range(nest.parallel + nest.reduce)]
        params += [(f"s{i}", index, "stride") for i in range(self.strides)]
        params += [(k, by_name(nest.values[i].dtype).compute.name, "constant") for i, k in self.constants.items()]
        params += [(name, index, name) for name in sizes]
        if self.codes:
            params += [("err", "p:int64", "error")] + [(name, "int64", "code") for name in self.codes.values()]
        head = ["@cuda.jit", f"def kernel({', '.join([p[0] for p in params])}):"]
        return Kernel("\n".join(head + indent(self.top.lines + body)) + "\n", tuple([p[1] for p in params]),
                      tuple([p[2] for p in params]))


def emit_map(nest: Nest, index: str) -> Kernel:
    w = Writer(nest, index)
    point = Level(frozenset(w.outer))
    chain = [w.top, point]
    w.place([s.value for s in nest.stores], chain)
    stores = [w.store(j, chain) for j in range(len(nest.stores))]
    body = [f"item = {index}(cuda.grid(1))",
            f"step = {index}(cuda.gridsize(1))",
            "while item < total:",
            *indent(w.counters(w.outer, "item") + point.lines + stores + [f"item = {w.i('item + step')}"])]
    return w.kernel(body, ["total"])
