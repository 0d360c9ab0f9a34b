"""What is recorded and flushed over and over, as in a notebook or a loop that looks at each result. Recording what was
recorded before, and the flush of what is compiled, are built-in functions (`runtime.objects_ir`); here is what they go
by. Loaded when the first compiled program ran."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from jtorch._tensor import Tensor
from jtorch.capture import observe
from jtorch.capture.cell import Cell, Epoch, serials
from jtorch.capture.dispatch import CONSTANTS, OPERAND, Function
from jtorch.capture.execute import Plan, Program, ProgramTable
from jtorch.capture.record import VIEWED, WRITTEN, Recorder
from jtorch.ir.graph import Type, Value
from jtorch.runtime import objects
from jtorch.runtime.layout import ConfWords as W
from jtorch.runtime.layout import ReadyWords
from jtorch.runtime.memory import OBJECT_FIELDS, Buffer, allocator
from jtorch.storage import Storage


class Ready:
    """A compiled program that computes what a flush wants, each result in new memory or over contents that it replaces
    (`over`: where, in the words of `ReadyWords`); no gradient is wanted."""

    __slots__ = ("executable", "memory", "row", "homes", "sizes", "over")

    def __init__(self, executable: Any, scalars: Sequence[int], data: Sequence[int], sizes: Sequence[int],
                 over: Sequence[int]) -> None:
        places = [*[-n - 1 for n in scalars], *data]
        self.executable = executable  # its words are at the header
        self.memory = objects.words([executable.header, len(scalars), len(places), *places, *[0] * len(scalars), *over])
        self.row = objects.addressof(self.memory)
        self.homes, self.sizes, self.over = tuple([allocator.size_class(n) for n in sizes]), tuple(sizes), over


def note(epoch: Epoch, table: ProgramTable, plan: Plan, program: Program, computed: Sequence[Buffer],
         donors: Sequence[Cell | None] | None) -> None:
    """Note for the built-in flush how the results of a plan came about."""
    known, over = table.ready if donors is None else table.renewing, [ReadyWords.FRESH] * len(computed)
    for i, donor in enumerate(donors or ()):
        if donor is not None:
            if computed[i] is not donor.buffer:
                return
            leaf = epoch.leaf_values.get(donor)
            over[i] = ReadyWords.UNREAD if leaf is None else leaf.attrs[0]
    found = known.get(plan.key)
    if len(over) <= ReadyWords.MOST_RESULTS and (found is None or found.over != over):
        known[plan.key] = Ready(program.executable, program.scalars, program.data, program.sizes, over)


def equip(recorder: Recorder) -> None:
    """Let a recorder use the built-in functions."""
    known = configuration()
    if known is not None:
        recorder.look_up, recorder.record = known.function("jt_look_up"), known.function("jt_record")
        recorder.write, recorder.assign = known.function("jt_write"), known.function("jt_assign")
        recorder.flush_ready = known.function("jt_flush")


@functools.cache
def configuration() -> objects.Configuration | None:
    """The objects and slots that the functions deal with; None where Python has others than they expect."""
    slots = {
        **_slots(Value, ("type", "requires_grad"), (W.VALUE_TYPE, W.VALUE_REQUIRES_GRAD)),
        **_slots(Cell, ("type", "value", "epoch", "buffer", "previous", "range", "home", "before"),
                 range(W.CELL_TYPE, W.CELL_BEFORE + 1)),
        **_slots(Storage, ("cell", "version", "settled", "exports"), range(W.STORAGE_CELL, W.STORAGE_EXPORTS + 1)),
        **_slots(Tensor, ("_storage", "_type", "_view", "_geometry", "_value", "_version", "_epoch", "_requires_grad",
                          "_grad"), range(W.TENSOR_STORAGE, W.TENSOR_GRAD + 1)),
        **_slots(Recorder, ("epoch", "calls", "leaf_table", "tracing", "grad_enabled", "lock", "holding", "levels",
                            "programs"), range(W.RECORDER_EPOCH, W.RECORDER_PROGRAMS + 1)),
        **_slots(Epoch, ("serial", "flush_now"), (W.EPOCH_SERIAL, W.EPOCH_FLUSH_NOW)),
        **_slots(Epoch, ("recorder", "leaves", "leaf_values", "scalars", "pending", "variables", "variable_values",
                         "saved", "spent", "spent_before", "hooks", "functions", "mapped", "lasting"),
                 W.EPOCH_SHARED),
        **_slots(Buffer, ("ptr", "nbytes", "_home"), range(W.BUFFER_PTR, W.BUFFER_HOME + 1)),
        **_slots(Ready, ("row", "homes", "sizes"), range(W.READY_ROW, W.READY_SIZES + 1)),
        **_slots(ProgramTable, ("ready", "renewing"), (W.PROGRAMS_READY, W.PROGRAMS_RENEWING)),
        **_slots(Function, ("kinds",), (W.FUNCTION_KINDS,)),
        **_slots(Type, ("nbytes", "strides"), (W.TYPE_NBYTES, W.TYPE_STRIDES)),
    }
    known = {
        W.NONE: None, W.FALSE: False, W.TRUE: True, W.ZERO: 0, W.INT: int, W.BOOL: bool, W.FLOAT: float, W.STR: str,
        W.TUPLE: tuple, W.LIST: list, W.VALUE: Value, W.CELL: Cell, W.STORAGE: Storage, W.TENSOR: Tensor,
        W.EPOCH: Epoch, W.BUFFER: Buffer, W.RECORDER_ENTER: Recorder.enter, W.SERIALS: serials,
        W.SINKS: observe.sinks, W.VIEWED: VIEWED, W.WRITTEN: WRITTEN, W.ACQUIRE: "acquire", W.RELEASE: "release",
        W.OPERAND: OPERAND, W.CONSTANTS: CONSTANTS,
    }
    return objects.configuration(known, slots, {W.FLOAT_DATA: OBJECT_FIELDS})


def _slots(cls: type, names: Sequence[str], words: Sequence[int]) -> dict[int, tuple[type, str]]:
    return {word: (cls, name) for name, word in zip(names, words, strict=True)}
