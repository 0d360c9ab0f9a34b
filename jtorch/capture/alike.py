"""Pending values that are the same computation on different data, as the samples of a batch are: computed for all of
them at once. As they are recorded, a batch is a graph that is as many times as large as one sample's, with as many
parameters; as one computation on the samples' data side by side it is planned and run in a fraction of the time.
"""
from __future__ import annotations

from collections.abc import Sequence
from ctypes import memmove
from typing import Any

import numpy as np

from jtorch.capture.cell import Cell, Epoch
from jtorch.capture.execute import buffer_of
from jtorch.capture.record import Recorder
from jtorch.ir.graph import Type, Value, kind_of
from jtorch.ir.passes.batch import Batching, all_examples
from jtorch.ir.prims.create import is_scalar
from jtorch.ir.prims.movement import concatenate
from jtorch.runtime.memory import allocator

KINDS = frozenset(["elementwise", "movement", "create", "leaf"])
"""What gives the same bits for one sample and for many."""

RUNS = 3
"""Runs of values that are alike. The first operation of a loop may have been computed already, so there is often one
sample that differs from the others; more of them are a computation of their own each."""

DATA = 4 << 20
"""Bytes of data that is put side by side; to copy more takes longer than a larger graph."""


class Run:
    """Consecutive values that are the same computation as `pattern`. `leaves`: for each leaf of the pattern that is not
    the same one in all of them, the numbers of their leaves."""

    __slots__ = ("pattern", "size", "leaves")

    def __init__(self, pattern: Value, members: Sequence[dict[Value, Value]]) -> None:
        self.pattern, self.size = pattern, 1 + len(members)
        self.leaves = [(v, [v.attrs[0], *[m[v].attrs[0] for m in members]]) for v in members[0] if v.op.kind == "leaf"
                       and any(m[v] is not v for m in members)] if members else []

    def value(self, recorder: Recorder) -> Value:
        """The results of all of them, one after the other along a new first axis."""
        together = []
        for v, numbers in self.leaves:
            data = side_by_side(recorder.epoch, v, numbers)
            if data is not None:
                together.append((v, recorder.leaf(data)))
        key = ("alike", self.pattern, self.size, tuple(together))
        found = recorder.calls.get(key)
        if found is None:
            batching = Batching(recorder.builder, self.size)
            for v, examples in together:
                batching.bind(v, examples)
            found = recorder.calls[key] = all_examples(batching.run([self.pattern])[0], self.size)
        return found


def side_by_side(epoch: Epoch, v: Value, numbers: Sequence[int]) -> Cell | None:
    """The data of leaves of one type as one cell; None for Python numbers that are all the same."""
    kind = Type(v.dtype, (len(numbers), *v.shape))
    if is_scalar(v):
        given = [epoch.scalars[-n - 1] for n in numbers]
        if given[0] and given.count(given[0]) == len(given):  # not zeros, which are equal whatever their signs
            return None
        return Cell(kind, None, None, buffer_of(np.array(given, v.dtype.numpy)))
    joined = allocator.alloc(kind.nbytes)
    at, step, leaves = joined.ptr, v.type.nbytes, epoch.leaves
    for n in numbers:
        memmove(at, leaves[n].buffer.ptr, step)
        at += step
    return Cell(kind, None, None, joined)


def same_work(pattern: Value, v: Value) -> dict[Value, Value] | None:
    """What stands in `v`'s computation for each value of the pattern's; None if they differ in more than leaves."""
    found: dict[Value, Value] = {}
    stack = [(pattern, v)]
    while stack:
        a, b = stack.pop()
        known = found.get(a)
        if known is not None:
            if known is not b:
                return None
            continue
        op = a.op
        if op is not b.op or a.type is not b.type or op.kind not in KINDS:
            return None
        if op.batch is None and a.inputs:  # the mapped computation would be one of each sample again
            return None
        if op.kind == "leaf":
            if a is not b and is_scalar(a) is not is_scalar(b):
                return None
        elif len(a.inputs) != len(b.inputs) or a.attrs != b.attrs or kind_of(a.attrs) != kind_of(b.attrs):
            return None
        found[a] = b
        stack += zip(a.inputs, b.inputs)
    return found


def runs_of(values: Sequence[Value]) -> tuple[Run, ...]:
    """The values as few runs; none where that is not to be had, or not worth it."""
    runs: list[Run] = []
    pattern, members = values[0], []
    for v in values[1:]:
        same = same_work(pattern, v)
        if same is not None:
            members.append(same)
            continue
        runs.append(Run(pattern, members))
        pattern, members = v, []
        if len(runs) == RUNS:
            return ()
    runs.append(Run(pattern, members))
    copied = sum([len(numbers) * v.type.nbytes for run in runs for v, numbers in run.leaves])
    return tuple(runs) if copied <= DATA else ()


def stacked(recorder: Recorder, values: tuple[Value, ...]) -> Value | None:
    """Values of one type along a new first axis, computed together; None if they are not alike, or have a history."""
    key: tuple[Any, ...] = ("runs", values)
    runs = recorder.calls.get(key)
    if runs is None:
        if any(v.requires_grad for v in values):
            return None
        runs = recorder.calls[key] = runs_of(values)
    if not runs:
        return None
    parts = [run.value(recorder) for run in runs]
    return concatenate(*parts, axis=0) if len(parts) > 1 else parts[0]
