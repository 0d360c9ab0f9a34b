"""Immutable arrays and the epochs that they belong to."""
from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from jtorch.ir.graph import Type, Value

if TYPE_CHECKING:
    from jtorch.capture.record import Recorder
    from jtorch.storage import Storage

serials = itertools.count()
"""Numbers of epochs, across threads."""
_new = object.__new__


class Cell:
    """An immutable array: pending (`value` in `epoch`), materialised (`buffer`), or both.

    A materialised cell that still has `value` and `epoch` requires grad: they are its history. `previous` is the
    materialised cell whose Storage this one took over by an in-place operation; if nobody else holds that
    one when this one is computed, its memory is written in place. `range` is the least and the greatest element, where
    somebody has looked for them. A cell that was written over another one refers to its Storage (`home`) and, where
    that one was pending itself, to its value (`before`): what to go back to if this one cannot be computed.
    """

    __slots__ = ("value", "epoch", "buffer", "previous", "type", "range", "home", "before", "__weakref__")
    value: Value | None
    epoch: Epoch | None
    buffer: Any
    previous: Cell | None
    type: Type
    range: tuple[int, int] | None
    home: weakref.ref[Storage] | None
    before: Value | None

    def __init__(self, type: Type, value: Value | None, epoch: Epoch | None, buffer: Any = None) -> None:
        self.type = type
        self.value = value
        self.epoch = epoch
        self.buffer = buffer
        self.previous = self.range = self.home = self.before = None


class Epoch:
    """The time between two flushes: what its leaves, variables and pending cells are.

    Leaves are numbered by first use. `variables[j]` is the tensor, or the materialised cell with a history, behind
    `variable(..., number=j)`. `saved` holds residuals that the flush kept for a later backward; `spent` the nodes that
    a backward without `retain_graph` went through. `hooks` maps values to gradient hooks, `functions` holds the
    contexts of custom autograd functions by number. `lasting`: may a backward still go through what the flush computes?
    """

    __slots__ = ("recorder", "serial", "leaves", "leaf_values", "scalars", "variables", "variable_values", "pending",
                 "saved", "spent", "spent_before", "hooks", "flush_now", "functions", "mapped", "lasting",
                 "__weakref__")

    leaves: list[Cell]
    leaf_values: dict[Cell, Value]
    scalars: list[bool | int | float | complex]
    variables: list[Any]
    variable_values: dict[tuple[int, Value], Value]
    pending: list[Cell]
    saved: dict[Value, Cell]
    spent: set[Value]
    spent_before: int  # how many cells were pending when something was last spent
    hooks: dict[Value, list[Any]]
    functions: list[Any]
    flush_now: bool
    mapped: bool  # are there placeholders of mapped functions among the values?
    lasting: bool

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.serial = next(serials)
        self.leaves, self.leaf_values, self.scalars, self.pending = [], {}, [], []
        self.variables, self.variable_values, self.saved = [], {}, {}
        self.spent, self.hooks, self.functions = set(), {}, []
        self.spent_before = 0
        self.flush_now = self.mapped = self.lasting = False

    def next(self) -> Epoch:
        """The epoch after this one, of which nothing will be asked. If it knew no gradients, its emptied containers
        serve the next one: a lone operation is an epoch, so that making it counts."""
        if self.mapped or self.spent or self.saved or self.hooks or self.functions:
            return Epoch(self.recorder)
        after = _new(Epoch)
        after.recorder = self.recorder
        after.serial = next(serials)
        after.leaves = self.leaves
        after.leaf_values = self.leaf_values
        after.scalars = self.scalars
        after.pending = self.pending
        after.variables = self.variables
        after.variable_values = self.variable_values
        after.saved = self.saved
        after.spent = self.spent
        after.hooks = self.hooks
        after.functions = self.functions
        after.spent_before = 0
        after.flush_now = after.mapped = after.lasting = False
        return after

    def forget(self) -> None:
        """Let go of all cells: nothing will be asked of this epoch again."""
        self.leaves.clear()
        self.leaf_values.clear()
        self.variables.clear()
        self.variable_values.clear()
        self.pending.clear()

    def leads_back(self, cell: Cell) -> bool:
        """May a backward go through this cell of the epoch?"""
        v = cell.value
        return v is not None and v.requires_grad and cell.epoch is self and v.siblings[0] not in self.spent

    def spend(self, nodes: Iterable[Value]) -> None:
        self.spent.update(nodes)
        self.spent_before = len(self.pending)

    def revive(self, v: Value) -> None:
        """`v` was computed anew: a graph that is given up and this one are the same Values, but this one may be used.

        What lies behind the values of earlier tensors was not computed anew.
        """
        if v.siblings[0] not in self.spent:
            return
        earlier = {c.value.siblings[0] for c in self.pending[:self.spent_before] if c.value is not None}
        stack = [v.siblings[0]]
        while stack:
            node = stack.pop()
            self.spent.discard(node)
            inputs = [i.siblings[0] for i in node.inputs]
            stack += [i for i in inputs if i in self.spent and i not in earlier]
