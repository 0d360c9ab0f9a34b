"""Pending values that are the same computation on different data, as the samples of a batch are: computed for all of
them at once. As they are recorded, a batch is a graph that is as many times as large as one sample's, with as many
parameters; as one computation on the samples' data side by side it is planned and run in a fraction of the time.
"""
from __future__ import annotations

from collections.abc import Sequence
from ctypes import memmove

import numpy as np

from jtorch.capture.cell import Cell, Epoch
from jtorch.capture.execute import array_of, buffer_of
from jtorch.capture.record import Recorder
from jtorch.dtypes import float32, float64
from jtorch.ir.graph import Type, Value, kind_of
from jtorch.ir.passes.batch import Batching, all_examples
from jtorch.ir.prims.create import full, is_scalar, leaf
from jtorch.ir.prims.elementwise import cast
from jtorch.ir.prims.movement import concatenate, expand, slice_update
from jtorch.runtime.memory import allocator

KINDS = frozenset(["elementwise", "movement", "create"])
"""What gives the same bits for one sample and for many; of what writes by index, a slice does."""

RUNS = 3
"""Runs of values that are alike. The first operation of a loop may have been computed already, so there is often one
sample that differs from the others; more of them are a computation of their own each."""

DATA = 4 << 20
"""Bytes of data that is put side by side; to copy more takes longer than a larger graph."""


class Form:
    """How a value is computed, but for what it is computed of: `work` is equal for values that are alike, and `given`
    stands in the places that it leaves open. `work` is None where results may differ if all are computed at once."""

    __slots__ = ("work", "given")

    def __init__(self, v: Value) -> None:
        places: dict[Value, int] = {}
        rows: list[tuple] = []
        given: list[Value] = []
        stack = [v]
        while stack:
            v = stack[-1]
            waiting = () if v in places or is_given(v) else [i for i in v.inputs if i not in places]
            if waiting:
                stack += waiting
                continue
            stack.pop()
            if v in places:
                continue
            places[v] = len(places)
            if is_given(v):
                given.append(v)
                rows.append((v.type,))
                continue
            op = v.op
            if op.kind not in KINDS and op is not slice_update or op.batch is None and v.inputs:
                rows.clear()
                break
            rows.append((op, tuple([places[i] for i in v.inputs]), v.attrs, kind_of(v.attrs)))
        self.work, self.given = tuple(rows) or None, given


def is_given(v: Value) -> bool:
    """Is this a number, or data, moved or not: to be had without a computation?"""
    op = v.op
    if op is cast:  # numbers that are rounded once
        return is_scalar(v.inputs[0]) and v.inputs[0].dtype is float64 and v.dtype in (float32, float64)
    return op is leaf or op is full and not v.shape or is_moved_data(v)


def is_moved_data(v: Value) -> bool:
    if v.op.kind != "movement":
        return v.op is leaf and v.attrs[0] >= 0
    return v.op is not expand and v.op is not concatenate and is_moved_data(v.inputs[0])


def together(recorder: Recorder, pattern: Value, forms: Sequence[Form]) -> Value:
    """The results of values that are alike, one after the other along a new first axis; `pattern` is the first."""
    bound = []
    for column in zip(*[form.given for form in forms]):
        if any(v is not column[0] for v in column):
            data = side_by_side(recorder.epoch, column)
            if data is not None:
                bound.append((column[0], recorder.leaf(data)))
    key = ("alike", pattern, len(forms), tuple(bound))
    found = recorder.calls.get(key)
    if found is None:
        batching = Batching(recorder.builder, len(forms))
        for v, examples in bound:
            batching.bind(v, examples)
        found = recorder.calls[key] = all_examples(batching.run([pattern])[0], len(forms))
    return found


def side_by_side(epoch: Epoch, values: Sequence[Value]) -> Cell | None:
    """What is given, of one type, as one cell; None for numbers that are all the same."""
    kind = Type(values[0].dtype, (len(values), *values[0].shape))
    if not kind.shape[1:] and not any(map(is_moved_data, values)):
        numbers = [number_of(epoch, v) for v in values]
        if numbers[0] and numbers.count(numbers[0]) == len(numbers):  # not zeros: they are equal whatever their signs
            return None
        return Cell(kind, None, None, buffer_of(np.array(numbers, kind.dtype.numpy)))
    joined = allocator.alloc(kind.nbytes)
    at, step, leaves, rows = joined.ptr, values[0].type.nbytes, epoch.leaves, None
    for i, v in enumerate(values):
        if v.op is leaf and v.attrs[0] >= 0:
            memmove(at + i * step, leaves[v.attrs[0]].buffer.ptr, step)
        else:
            if rows is None:
                rows = joined.numpy(kind.dtype.numpy, kind.shape)
            rows[i] = array_of_given(epoch, v)
    return Cell(kind, None, None, joined)


def number_of(epoch: Epoch, v: Value) -> bool | int | float | complex:
    """The number that a 0-d value is given as."""
    if v.op is full:
        return v.attrs[1]
    return epoch.scalars[-(v if v.op is leaf else v.inputs[0]).attrs[0] - 1]


def array_of_given(epoch: Epoch, v: Value) -> np.ndarray:
    """What `is_given`, as an array."""
    if v.op is leaf and v.attrs[0] >= 0:
        return array_of(epoch.leaves[v.attrs[0]].buffer, v.type)
    if is_moved_data(v):
        return v.op.numpy(*[array_of_given(epoch, i) for i in v.inputs], **v.kwargs)  # type: ignore[misc]
    return np.array(number_of(epoch, v), v.dtype.numpy)


def stacked(recorder: Recorder, values: tuple[Value, ...]) -> Value | None:
    """Values of one type along a new first axis, computed together; None if they are not alike, or have a history."""
    forms = []
    for v in values:
        form = recorder.forms.get(v)
        if form is None:
            form = recorder.forms[v] = Form(v)
        if form.work is None or v.requires_grad:
            return None
        forms.append(form)
    starts = [i for i, form in enumerate(forms) if not i or form.work != forms[i - 1].work]
    if len(starts) > RUNS or sum([g.type.nbytes for form in forms for g in form.given]) > DATA:
        return None
    parts = [together(recorder, values[a], forms[a:b]) for a, b in zip(starts, [*starts[1:], len(forms)])]
    return concatenate(*parts, axis=0) if len(parts) > 1 else parts[0]
