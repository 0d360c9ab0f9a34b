"""Batching: what a function of one example computes, for all examples at once, as more Values in the same builder.

A function that is mapped runs once, on placeholders of one example's type. Its results are then rebuilt with the real
values, which have the mapped axis in front, in the place of the placeholders.

>>> # per example: y = x @ w;  with x: [4] for xs: [n, 4]
>>> # -> y: [n, k] = xs @ w
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jtorch.ir.graph import Builder, Value, operands_first, topological
from jtorch.ir.passes.decompose import expand_body
from jtorch.ir.prims.create import constant, placeholder
from jtorch.ir.prims.elementwise import expand
from jtorch.ir.prims.movement import concatenate, reshape_to, slice_axis

Mapped = tuple[Value, bool]  # a value, and whether it carries the mapped axis in front


def all_examples(found: Mapped, size: int) -> Value:
    """The value with the mapped axis in front."""
    v, mapped = found
    return v if mapped else expand(v, (size, *v.shape))


def dependents(values: Sequence[Value]) -> set[Value]:
    """First siblings of the nodes behind `values` that depend on a placeholder."""
    found: set[Value] = set()
    for node in topological(values):
        if node.op is placeholder or any(i.siblings[0] in found for i in node.inputs):
            found.add(node)
    return found


class Batching:
    """Rebuilds values of one example for `size` examples. `env` begins with the placeholders' values."""

    def __init__(self, builder: Builder, size: int) -> None:
        self.builder, self.size = builder, size
        self.env: dict[Value, Mapped] = {}

    def bind(self, stand_in: Value, examples: Value) -> None:
        self.env[stand_in] = (examples, True)

    def run(self, values: Sequence[Value]) -> list[Mapped]:
        operands_first(values, self.env, self.step)
        return [self.env[v] for v in values]

    def step(self, v: Value) -> list[Value]:
        env = self.env
        missing = [i for i in v.inputs if i not in env]
        if missing:
            return missing
        found = self.node(v)
        if found is None:  # a composite that has to be opened: its body comes first
            body = opened(v)
            missing = [r for r in body if r not in env]
            if missing:
                return missing
            found = [env[r] for r in body]
        env.update(zip(v.siblings, found))
        return []

    def node(self, v: Value) -> Sequence[Mapped] | None:
        """The results of one node, whose operands are known; None for a composite without a rule."""
        given = [self.env[i] for i in v.inputs]
        op, inputs = v.op, tuple([g for g, _ in given])
        if not any(mapped for _, mapped in given):
            if inputs == v.inputs:
                return [(s, False) for s in v.siblings]
            return [(r, False) for r in listed(self.builder.intern(op, inputs, v.attrs, v.loc))]
        flags = tuple([mapped for _, mapped in given])
        if op.batch is not None:
            result = op.batch(op, self.builder, self.size, flags, *inputs, **v.kwargs)
        elif op.kind == "marker" and len(inputs) == 1:
            result = self.builder.intern(op, inputs, v.attrs, v.loc)
        elif op.body is not None:
            return None
        else:
            result = self.one_by_one(v, given)
        return [(r, True) for r in listed(result)]

    def one_by_one(self, v: Value, given: Sequence[Mapped]) -> tuple[Value, ...]:
        """An operation without a batching rule: applied to each example."""
        rows = []
        for i in range(self.size):
            example = [reshape_to(slice_axis(x, 0, i, i + 1), x.shape[1:]) if mapped else x for x, mapped in given]
            rows.append(listed(self.builder.intern(v.op, tuple(example), v.attrs, v.loc)))
        if not rows:
            return tuple([constant(self.builder, 0, s.dtype, (0, *s.shape)) for s in v.siblings])
        return tuple([concatenate(*[reshape_to(r, (1, *r.shape)) for r in column], axis=0) for column in zip(*rows)])


def opened(v: Value) -> tuple[Value, ...]:
    """A composite's results as its body gives them."""
    return listed(expand_body(v.builder, v, v.inputs))


def listed(result: Any) -> tuple[Value, ...]:
    return result if isinstance(result, tuple) else (result,)
