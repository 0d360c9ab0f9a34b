"""The kernel IR: one loop nest over run-time extents, device-neutral.

    Nest     := parallel loops, reduce loops, buffers, values, stores, schedule, chunked
    loop     := a number; the parallel loops come first, outermost first, then the reduce loops, outermost first
    value    := Load(dtype, buffer, access, guard)    an element, converted to its compute dtype; 0 where not `guard`
              | Constant(dtype, kind)                 run-time number: the next of the nest's constants
              | Literal(dtype, text)                  0, 1, inf...: the few numbers that structure depends on
              | Iota(dtype, access)                   the number  sum(loop * stride)
              | Apply(dtype, text, args, cost, fails) scalar expression over {0}, {1}, ...
              | Fold(dtype, op, arg)                  arg folded over all reduce loops
    store    := Store(value, buffer, access)
    access   := per loop 0 (does not vary), 1 (contiguous), -1 (the same, reversed), 's' (run-time stride); or DENSE:
                all loops in order, row-major, so that no stride need be passed
    schedule := 'map'     no reduce loops; the last parallel loop is the vector
              | 'tile'    the same, in tiles of the last two loops: some access is contiguous in the last but one
              | 'row'     the last reduce loop is the vector; one work item per index of the parallel loops
              | 'column'  the last parallel loop is the vector, the reduce loops run outside it

A value depends on the loops of its loads. A Fold does not depend on the reduce loops any more; a value that reads a
Fold and depends on reduce loops belongs to a later *phase*: the reduce loops run once for every phase. `chunked`
nests split the outermost reduce loop: parallel loop 0 numbers its chunks, and the folds are partial. The results of
`past` nests are stored past the caches.

Nests are hashable and contain no sizes, names or addresses: equal nests are the same kernel. What differs between two
uses of a kernel (addresses, extents, strides, constants) is in the `Binding`.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

DENSE = "dense"
Access = tuple | str


@dataclass(frozen=True, slots=True)
class Load:
    dtype: str
    buffer: int
    access: Access
    guard: int | None = None
    part: int | None = None  # 0 or 1: of a complex element, whose access counts pairs

    @property
    def args(self) -> tuple[int, ...]:
        return () if self.guard is None else (self.guard,)


@dataclass(frozen=True, slots=True)
class Constant:
    dtype: str
    kind: str  # 'f' | 'i'


@dataclass(frozen=True, slots=True)
class Literal:
    dtype: str
    text: str


@dataclass(frozen=True, slots=True)
class Iota:
    dtype: str
    access: Access


@dataclass(frozen=True, slots=True)
class Apply:
    dtype: str
    text: str
    args: tuple[int, ...]
    cost: int = 1
    fails: str | None = None


@dataclass(frozen=True, slots=True)
class Fold:
    dtype: str
    op: str
    arg: int
    access: Access | None = None  # of a fold that keeps positions: none is made today, argmax is two folds


@dataclass(frozen=True, slots=True)
class Store:
    value: int
    buffer: int
    access: Access
    part: int | None = None


@dataclass(frozen=True, eq=True)
class Nest:
    parallel: int
    reduce: int
    buffers: tuple[str, ...]  # dtype names
    values: tuple[Any, ...]
    stores: tuple[Store, ...]
    schedule: str = "map"
    chunked: bool = False
    past: bool = False

    @cached_property
    def hashed(self) -> int:
        return hash((self.parallel, self.reduce, self.buffers, self.values, self.stores, self.schedule, self.chunked,
                     self.past))

    def __hash__(self) -> int:
        return self.hashed

    def cone(self, targets: Iterable[int], stop: set[int]) -> list[int]:
        """The numbers of the values that the targets need and `stop` does not have, operands first."""
        found: set[int] = set()
        stack = [t for t in targets if t not in stop]
        while stack:
            i = stack.pop()
            if i not in found:
                found.add(i)
                stack += [a for a in getattr(self.values[i], "args", ()) if a not in stop]
        return sorted(found)

    @cached_property
    def loops_of(self) -> list[frozenset[int]]:
        """The loops that each value depends on."""
        every = frozenset(range(self.parallel + self.reduce))
        outer = frozenset(range(self.parallel))
        result: list[frozenset[int]] = []
        for v in self.values:
            if isinstance(v, Load | Iota):
                own = every if v.access == DENSE else frozenset(i for i, s in enumerate(v.access) if s != 0)
                result.append(own.union(*[result[a] for a in getattr(v, "args", ())]))
            elif isinstance(v, Apply):
                result.append(frozenset().union(*[result[a] for a in v.args]))
            elif isinstance(v, Fold):
                result.append(result[v.arg] & outer | (frozenset((0,)) if self.chunked else frozenset()))
            else:
                result.append(frozenset())
        return result

    @cached_property
    def phase_of(self) -> list[int]:
        """How many folds lie one behind the other below each value."""
        result: list[int] = []
        for v in self.values:
            if isinstance(v, Apply):
                result.append(max([result[a] for a in v.args], default=0))
            elif isinstance(v, Fold):
                result.append(result[v.arg] + 1)
            else:
                result.append(0)
        return result

    def using(self, i: int) -> set[int]:
        """The values computed from value `i` without a fold in between, itself included."""
        found = {i}
        for j, v in enumerate(self.values):
            if isinstance(v, Apply) and not found.isdisjoint(v.args):
                found.add(j)
        return found

    @property
    def last_phase(self) -> int:
        return max((self.phase_of[i] for i, v in enumerate(self.values) if isinstance(v, Fold)), default=0)

    def __str__(self) -> str:
        return show(self)


@dataclass
class Binding:
    """What one launch of a nest is given: the run-time side, in the order in which the kernel takes it."""

    buffers: list[tuple[Any, int]] = field(default_factory=list)  # (value or temporary, offset in elements)
    extents: list[int] = field(default_factory=list)
    strides: list[int] = field(default_factory=list)  # of every 's', in order of appearance
    constants: list[int | float] = field(default_factory=list)
    chunk: int = 0  # length of a chunk of the outermost reduce loop
    fails: list[Any] = field(default_factory=list)  # nodes that can fail, in order
    nodes: list[Any] = field(default_factory=list)  # per value of the nest, the graph's node that it computes, or None


def show(nest: Nest) -> str:
    """One line per loop, value and store."""
    names = [f"r{i}" for i in range(nest.parallel)] + [f"c{i}" for i in range(nest.reduce)]

    def at(access: Access) -> str:
        if access == DENSE:
            return ", ".join(names)
        return " + ".join([{1: n, -1: f"-{n}"}.get(s, f"{n}*s") for n, s in zip(names, access) if s != 0]) or "0"

    kind = nest.schedule + " chunked" * nest.chunked + " past" * nest.past
    lines = [f"nest {kind} over ({', '.join(names)}), buffers ({', '.join(nest.buffers)}):"]
    for i, v in enumerate(nest.values):
        if isinstance(v, Load):
            text = f"b{v.buffer}[{at(v.access)}]" + (f" where v{v.guard}" if v.guard is not None else "")
        elif isinstance(v, Constant):
            text = f"constant {v.kind}"
        elif isinstance(v, Literal):
            text = v.text
        elif isinstance(v, Iota):
            text = f"iota {at(v.access)}"
        elif isinstance(v, Apply):
            text = v.text.format(*[f"v{a}" for a in v.args])
        else:
            text = f"{v.op} over c of v{v.arg}"
        lines.append(f"    v{i}: {v.dtype} = {text}    # phase {nest.phase_of[i]}")
    lines += [f"    b{s.buffer}[{at(s.access)}] = v{s.value}" for s in nest.stores]
    return "\n".join(lines)


def verify(nest: Nest) -> None:
    """Raise AssertionError where a nest is not well formed."""
    loops = nest.parallel + nest.reduce
    for i, v in enumerate(nest.values):
        for a in getattr(v, "args", ()) or ((v.arg,) if isinstance(v, Fold) else ()):
            assert 0 <= a < i, f"v{i} reads v{a}, which comes later"
        access = getattr(v, "access", None)
        assert access is None or access == DENSE or len(access) == loops, f"v{i}: access {access}, {loops} loops"
        if isinstance(v, Load):
            assert 0 <= v.buffer < len(nest.buffers)
    for s in nest.stores:
        assert 0 <= s.value < len(nest.values) and 0 <= s.buffer < len(nest.buffers)
        stored = range(loops) if s.access == DENSE else [i for i, x in enumerate(s.access) if x != 0]
        assert nest.loops_of[s.value] <= set(stored), f"v{s.value} varies over loops that its store does not"
    if nest.schedule in ("map", "tile"):
        assert nest.reduce == 0 and not any(isinstance(v, Fold) for v in nest.values)
