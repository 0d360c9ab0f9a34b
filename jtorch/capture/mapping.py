"""A mapped function that is running: what it sees of each example, and what that is for all of them.

The function runs once, on placeholders (`ir.passes.batch`). While it runs, a `Map` is the innermost of the recorder's
levels: whatever draws random numbers, or brings a mapping of its own, asks it for the values of all examples (`lift`)
and hands results back to the function as examples (`bind`).
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jtorch._tensor import Tensor, from_array, wrap
from jtorch.capture.record import Recorder
from jtorch.ir.graph import Type, Value
from jtorch.ir.passes.batch import Batching, Mapped, all_examples, dependents
from jtorch.ir.prims.create import placeholder
from jtorch.ir.prims.movement import permute_to

_NUMBERS = 1 << 50  # placeholders are numbered from here: by depth, then in order
_PER_LEVEL = 1 << 20

RANDOM_REFUSED = ("vmap: called random operation while in randomness error mode. Please either use the 'same' or "
                  "'different' randomness flags on vmap or perform the randomness operation out of vmap")
WRITE_REFUSED = ("vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor `other` in "
                 "extra_args that has more elements than `self`. This happened due to `other` being vmapped over but "
                 "`self` not being vmapped over in a vmap. Please try to use out-of-place operators instead of inplace "
                 "arithmetic, or pass the written tensor as a mapped argument.")


class Map:
    """One mapped function that is running over `size` examples."""

    def __init__(self, recorder: Recorder, size: int, randomness: str, derivative: bool = False) -> None:
        self.recorder, self.size, self.randomness = recorder, size, randomness
        self.first = _NUMBERS + (2 * len(recorder.levels) + derivative) * _PER_LEVEL
        self.batching = Batching(recorder.builder, size)
        self.bound: list[tuple[Value, Value]] = []
        self.start = len(recorder.epoch.pending)

    def bind(self, examples: Value) -> Value:
        """What the function sees of a value that has the mapped axis in front."""
        recorder = self.recorder
        recorder.epoch.mapped = True
        number = self.first + len(self.bound)
        v = recorder.builder.intern(placeholder, (), (number, Type(examples.dtype, examples.shape[1:])))
        if examples.requires_grad:
            v = recorder.variable(_owner(v.type), v)
        self.bound.append((v, examples))
        self.batching.bind(v, examples)
        return v

    def example(self, t: Tensor, axis: int) -> Tensor:
        """What the function sees of a tensor that is mapped along `axis`."""
        return wrap(self.recorder, self.bind(to_front(self.recorder.value(t), axis)))

    def lift(self, values: Sequence[Value]) -> list[Mapped]:
        """The values for all examples. What depends on no example stays as it is."""
        if self.recorder.epoch.functions:  # their numbers belong to this epoch
            return self.batching.run(values)
        key = ("lift", tuple(values), tuple(self.bound))
        calls = self.recorder.calls
        found = calls.get(key)
        if found is None:
            found = calls[key] = self.batching.run(values)
        return found

    def lift_whole(self, v: Value) -> Value:
        """The value for all examples, with the mapped axis in front in any case."""
        return all_examples(self.lift([v])[0], self.size)

    def is_mapped(self, v: Value) -> bool:
        return self.lift([v])[0][1]

    @contextmanager
    def outside(self) -> Iterator[None]:
        """For work on all examples at once: this level and those within are not there."""
        levels = self.recorder.levels
        place = levels.index(self)
        inner = levels[place:]
        del levels[place:]
        self.recorder.holding += 1
        try:
            yield
        finally:
            self.recorder.holding -= 1
            levels.extend(inner)

    def check_write(self, cell: Any, new: Value) -> None:
        """Refuse to write examples to a tensor that was there before the function began."""
        pending = self.recorder.epoch.pending
        if not any(c is cell for c in pending[self.start:]) and dependents([new]):
            raise RuntimeError(WRITE_REFUSED)


def _owner(type: Type) -> Tensor:
    """Stands for a value outside that requires grad; nothing is ever accumulated into it."""
    return from_array(np.zeros((), type.dtype.numpy), requires_grad=True)


def to_front(v: Value, axis: int) -> Value:
    return permute_to(v, (axis, *[a for a in range(v.ndim) if a != axis]))


def from_front(v: Value, axis: int) -> Value:
    order = list(range(1, v.ndim))
    order.insert(axis, 0)
    return permute_to(v, tuple(order))
