"""When a loop that looks at no value is computed.

A flush has a reason as a rule: a value is needed, an optimizer steps. A simulation, an iteration towards a fixed point,
or an update of weights written by hand gives none for thousands of operations. They would be flushed somewhere in
the middle of a round, each time somewhere else, so that each flush is a large graph which is interpreted and never
comes back. Such loops are given flushes at the same place of each round:

- behind every second backward between two flushes (`Rhythm.walked`): the optimizer that steps in between is the user's
  own code;
- where nothing is differentiated, and the operations that are pending repeat themselves, after so many rounds
  (`Rhythm.ends_here`). What a loop looks like is kept, so that the next flushes are found without the long run-up.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jtorch.capture.cell import Cell, Epoch

if TYPE_CHECKING:
    from jtorch.capture.record import Recorder

STRETCH = 64
"""How often the recorder asks, and the least number of operations that are worth a flush. A power of 2."""
RUN_UP = 1024
"""Operations after which a loop is looked for: more than most forward passes have, whose layers are alike too."""
KEPT = 16
"""Loops that are kept."""


class Rhythm:
    """What one recorder knows of loops."""

    __slots__ = ("loops", "due", "due_in", "walked_in")

    def __init__(self) -> None:
        self.loops: dict[tuple, tuple] = {}  # the first operations of an epoch -> all up to its flush
        self.due: tuple | None = None  # the operations after which the epoch `due_in` ends
        self.due_in = self.walked_in = -1  # serial numbers of epochs

    def walked(self, recorder: Recorder) -> None:
        """A backward is complete, and its graph was given up."""
        if recorder.tracing is not None or recorder.levels or recorder.holding:
            return
        if self.walked_in == recorder.epoch.serial:
            recorder.flush()
        else:
            self.walked_in = recorder.epoch.serial

    def ends_here(self, epoch: Epoch) -> bool:
        """Is this the place in a loop's round where it is flushed?"""
        pending = epoch.pending
        n = len(pending)
        if epoch.variables or epoch.mapped:
            return False
        if n == STRETCH and self.loops:
            self.due = self.loops.get(tuple(map(kind, pending)))
            self.due_in = epoch.serial
            if self.due is not None and n < len(self.due):
                epoch.flush_now = True  # the recorder asks after every operation from now on: see `waits`
                return False
            return self.due is not None
        if n % RUN_UP:
            return False
        kinds = list(map(kind, pending))
        period = period_of(kinds[-n // 2:])
        if period:
            if len(self.loops) >= KEPT:
                self.loops.clear()
            rounds = -(-STRETCH // period)
            ops = tuple(kinds[-period:] * rounds)
            self.loops[ops[:STRETCH]] = ops
        return period > 0

    def waits(self, epoch: Epoch) -> bool:
        """Is `flush_now` set because a round is not yet complete?"""
        if self.due is None or self.due_in != epoch.serial:
            return False
        if len(epoch.pending) < len(self.due):
            return True
        complete = tuple(map(kind, epoch.pending)) == self.due
        self.due, epoch.flush_now = None, complete
        return not complete

    def interrupt(self) -> None:
        """`flush_now` is set for another reason."""
        self.due = None


def kind(c: Cell) -> Any:
    """What is the same for a pending operation in each round."""
    v = c.value
    return None if v is None else (v.op, v.type, v.attrs)


def period_of(items: list[Any]) -> int:
    """The least number of places by which a list is itself when shifted, at most half of it; 0 if there is none."""
    last = items[-1]
    for period in range(1, len(items) // 2 + 1):
        if items[-1 - period] == last and items[period:] == items[:-period]:
            return period
    return 0
