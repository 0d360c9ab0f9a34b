"""Immutable arrays and the epochs that they belong to."""
from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from jtorch.ir.graph import Type, Value

if TYPE_CHECKING:
    from jtorch.capture.record import Recorder

_serial = itertools.count()


class Cell:
    """An immutable array: pending (`value` in `epoch`), materialised (`buffer`), or both.

    A materialised cell that still has `value` and `epoch` requires grad: they are its history. `previous` is the
    materialised cell whose Storage this one took over by an in-place operation; if nobody else holds that
    one when this one is computed, its memory is written in place.
    """

    __slots__ = ("value", "epoch", "buffer", "previous", "type", "__weakref__")
    value: Value | None
    epoch: Epoch | None
    buffer: Any
    previous: Cell | None
    type: Type

    def __init__(self, type: Type, value: Value | None, epoch: Epoch | None, buffer: Any = None) -> None:
        self.type, self.value, self.epoch, self.buffer, self.previous = type, value, epoch, buffer, None


class Epoch:
    """The time between two flushes: what its leaves, variables and pending cells are.

    Leaves are numbered by first use. `variables[j]` is the tensor, or the materialised cell with a history, behind
    `variable(..., number=j)`. `saved` holds residuals that the flush kept for a later backward; `spent` the nodes that a
    backward without `retain_graph` went through. `hooks` maps values to gradient hooks, `functions` holds the contexts of
    custom autograd functions by number.
    """

    __slots__ = ("recorder", "serial", "leaves", "leaf_values", "scalars", "variables", "variable_values", "pending",
                 "saved", "spent", "hooks", "flush_now", "functions", "__weakref__")

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.serial = next(_serial)
        self.leaves: list[Cell] = []
        self.leaf_values: dict[Cell, Value] = {}
        self.scalars: list[bool | int | float | complex] = []
        self.variables: list[Any] = []
        self.variable_values: dict[tuple[int, Value], Value] = {}
        self.pending: list[Cell] = []
        self.saved: dict[Value, Cell] = {}
        self.spent: set[Value] = set()
        self.hooks: dict[Value, list[Any]] = {}
        self.functions: list[Any] = []
        self.flush_now = False
