"""What a group computes, with concrete axes: the step between a fusion group and a loop nest.

A `Body` is a list of statements over axes with known extents; every access is `{axis: stride in elements}` with an
offset. `lower.body_of(group)` makes it, `schedule` orders its axes into loops and separates structure from sizes.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jtorch.dtypes import dtype

Strides = dict[int, int]


@dataclass(slots=True)
class Temporary:
    """Memory between the two kernels of a split reduction."""

    dtype: dtype
    numel: int


@dataclass(slots=True)
class Read:
    dtype: dtype
    source: Any  # a root Value or a Temporary
    offset: int
    strides: Strides
    guard: int | None = None  # the statement that says where there is an element; 0 stands where there is none
    part: int | None = None  # of a complex element: 0 the real one, 1 the imaginary one


@dataclass(slots=True)
class Number:
    dtype: dtype
    value: Any


@dataclass(slots=True)
class Position:
    """offset + sum(axis * stride), as a number."""

    dtype: dtype
    offset: int
    strides: Strides


@dataclass(slots=True)
class Compute:
    dtype: dtype
    text: str
    args: tuple[int, ...]
    cost: int
    fails: str | None = None
    node: Any = None


@dataclass(slots=True)
class Reduce:
    dtype: dtype
    op: Any
    arg: int
    node: Any = None


@dataclass(slots=True)
class Write:
    value: int
    target: Any
    offset: int
    strides: Strides
    part: int | None = None


@dataclass(slots=True)
class Body:
    extents: dict[int, int]
    outer: list[int]  # axes that stay
    inner: list[int]  # axes that are reduced
    statements: list[Any] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)

    def operands(self, s: Any) -> tuple[int, ...]:
        """The statements that a statement computes from."""
        if isinstance(s, Compute):
            return s.args
        return (s.guard,) if isinstance(s, Read) and s.guard is not None else ()

    def accesses(self) -> list[Any]:
        """Everything that has strides."""
        found = [s for s in self.statements if getattr(s, "strides", None) is not None]
        return found + self.writes

    def axes_of(self) -> list[frozenset[int]]:
        """The axes over which each statement varies."""
        result: list[frozenset[int]] = []
        outer = frozenset(self.outer)
        for s in self.statements:
            if isinstance(s, Read | Position):
                guard = getattr(s, "guard", None)
                result.append(frozenset(s.strides) | (frozenset() if guard is None else result[guard]))
            elif isinstance(s, Compute):
                result.append(frozenset().union(*[result[a] for a in s.args]))
            elif isinstance(s, Reduce):
                result.append(result[s.arg] & outer)
            else:
                result.append(frozenset())
        return result

    def phases(self) -> list[int]:
        result: list[int] = []
        for s in self.statements:
            if isinstance(s, Compute):
                result.append(max([result[a] for a in s.args], default=0))
            elif isinstance(s, Reduce):
                result.append(result[s.arg] + 1)
            else:
                result.append(0)
        return result
