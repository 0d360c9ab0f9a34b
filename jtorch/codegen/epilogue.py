"""Elementwise groups that finish a library kernel's result block by block, while the block is in cache.

A group is an epilogue of a node if it maps the node's result element by element, and everything else that it reads
exists before the node runs. The kernel hands over blocks [batch, r0:r1, c0:c1] of the result; the group's nest is
printed over these bounds (`library.Epilogue`).
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from jtorch.codegen import library
from jtorch.codegen.body import Read
from jtorch.codegen.cpu import POINTERS, Level, Writer, indent
from jtorch.codegen.loops import Binding, Nest
from jtorch.codegen.lower import body_of
from jtorch.codegen.partition import Group
from jtorch.codegen.schedule import structure
from jtorch.ir.graph import Value

_NAMES = re.compile(r"\b(?:[pnskvr]\d+|o[vw]\d+_\d+|d\d*|i)\b")


def find_epilogues(groups: list[Group]) -> dict[Value, Group]:
    """Library node -> the group that can be its epilogue."""
    home: dict[Value, int] = {}
    for g in groups:
        for v in g.library.siblings if g.library is not None else g.home:
            home[v] = g.number
    found: dict[Value, Group] = {}
    for g in groups:
        if g.library is not None or g.reduced is not None:
            continue
        node = max((r for r in g.loads if r in home), key=lambda r: home[r], default=None)
        if node is None or node.op.name not in library.FUSES or node in found or len(node.siblings) != 1:
            continue
        if sum(home.get(r, -1) == home[node] for r in g.loads) == 1 and _numel(g.shape) == node.type.numel:
            found[node] = g
    return found


def readers(groups: list[Group]) -> dict[Value, int]:
    """How many groups read each value."""
    counts: dict[Value, int] = {}
    for g in groups:
        for r in g.loads:
            counts[r] = counts.get(r, 0) + 1
    return counts


def _numel(shape: Any) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


@dataclass
class Attached:
    """A group as an epilogue: the nest it became, and the values behind its pointer arguments."""

    group: Group
    result: Value
    nest: Nest | None = None
    binding: Binding | None = None

    def __call__(self, batch: int, rows: int, columns: int) -> library.Epilogue | None:
        """Lines for blocks of the result seen as [batch, rows, columns]; None if the group does not fit."""
        group = self.group
        if rows == 1 or columns == 1 or batch * rows * columns != self.result.type.numel:
            return None
        shape = (batch, rows, columns) if batch > 1 else (rows, columns)
        assert group.shape is not None
        forms = group.axes.reshape(group.point, group.shape, shape)
        if forms is None:
            return None
        body = body_of(group)
        loops = []
        accesses = [a.strides for a in body.accesses()]
        for _, terms in forms:
            axes = [a for a, _ in terms]
            size = body.extents[axes[-1]]
            for outer, inner in zip(reversed(axes[:-1]), reversed(axes[1:])):
                if any(s.get(outer, 0) != s.get(inner, 0) * body.extents[inner] for s in accesses):
                    return None
                size *= body.extents[outer]
            loops.append((axes[-1], size))
        dense = [rows * columns, columns, 1][-len(shape):]
        for s in body.statements:
            if isinstance(s, Read) and s.source is self.result:
                if s.offset or [s.strides.get(a, 0) for a, _ in loops] != dense:
                    return None
        self.nest, self.binding = structure(body, loops, [], "map", False)
        return None if self.binding.fails else self._print(batch)

    def _print(self, batch: int) -> library.Epilogue:
        nest, binding = self.nest, self.binding
        assert nest is not None and binding is not None
        w = Writer(nest)
        chain = [Level(frozenset(range(n))) for n in range(nest.parallel + 1)]
        w.place([s.value for s in nest.stores], chain)
        for j in range(len(nest.stores)):
            w.store(j, chain)
        for level in chain:
            level.lines = [_NAMES.sub(lambda m: "e_" + m[0], line) for line in level.lines]
        row = nest.parallel - 2
        lines = list(chain[0].lines)
        if row:
            lines += ["e_r0 = batch", *chain[1].lines]
        lines += [f"for e_r{row} in range(r0, r1):",
                  *indent([*chain[row + 1].lines, "for e_i in range(c0, c1):", *indent(chain[row + 2].lines)])]
        params = [(f"e_p{i}", POINTERS.get(d, f"p:{d}")) for i, d in enumerate(nest.buffers)]
        args: list[Any] = [("epilogue", i, offset * source.dtype.itemsize)
                           for i, (source, offset) in enumerate(binding.buffers)]
        params += [(f"e_n{i}", "i") for i in range(nest.parallel)]
        params += [(f"e_s{i}", "i") for i in range(w.strides)]
        params += [(f"e_{name}", nest.values[i].kind) for i, name in w.constants.items()]
        args += [*binding.extents, *binding.strides, *binding.constants]
        return library.Epilogue("\n".join(lines), tuple(params), tuple(args))

    @property
    def reads(self) -> list[Any]:
        written = self.writes
        assert self.binding is not None
        return [v for v, _ in self.binding.buffers if v not in written and v is not self.result]

    @property
    def writes(self) -> list[Any]:
        assert self.nest is not None and self.binding is not None
        return [self.binding.buffers[s.buffer][0] for s in self.nest.stores]
