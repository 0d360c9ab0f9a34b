"""A lone operation: recorded, flushed, used, as in a notebook or a loop that looks at each result. A flush of one that is
compiled is a built-in function, `Recorder.flush_lone`; here is what that goes by."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jtorch.capture.cell import Cell, Epoch, serials
from jtorch.lazy import lazy_module
from jtorch.runtime.layout import ConfWords as W
from jtorch.runtime.memory import Buffer, allocator

if TYPE_CHECKING:
    from jtorch.runtime import objects
else:
    objects = lazy_module("jtorch.runtime.objects")


class Lone:
    """A compiled program whose one result is a new one: nothing is written in place, no gradient is wanted."""

    __slots__ = ("executable", "memory", "row", "home", "nbytes")

    def __init__(self, executable: Any, scalars: Sequence[int], data: Sequence[int], nbytes: int) -> None:
        places = [*[-n - 1 for n in scalars], *data]
        self.executable = executable  # its segment is at the header
        self.memory = objects.row([executable.header, len(scalars), len(places), *places, *[0] * len(scalars)])
        self.row = objects.addressof(self.memory)
        self.home, self.nbytes = allocator.size_class(nbytes), nbytes


class LoneTable(dict):
    """Value -> Lone. `flush(recorder, epoch, table)` is `Recorder.flush` for what is in it, where it returns True;
    None as long as nothing is, and where Python keeps its objects in another way."""

    flush: Callable[..., bool] | None = None

    def add(self, value: Any, executable: Any, scalars: Sequence[int], data: Sequence[int], nbytes: int) -> None:
        if executable.header and value not in self:
            known = configuration()
            if known is not None:
                self.flush = known.function("jt_flush")
                self[value] = Lone(executable, scalars, data, nbytes)


@functools.cache
def configuration() -> Any:
    """The slots and objects that the built-in functions deal with. None if they cannot."""
    if not objects.usable():
        return None
    shared = ("recorder", "leaves", "leaf_values", "scalars", "pending", "variables", "variable_values", "saved", "spent",
              "spent_before", "hooks", "functions", "mapped")
    return objects.Configuration(
        {W.NONE: None, W.FALSE: False, W.TRUE: True, W.INT: int, W.BOOL: bool, W.BUFFER: Buffer, W.EPOCH: Epoch,
         W.EPOCH_NAME: "epoch", W.SERIALS: serials},
        {W.CELL_VALUE: (Cell, "value"), W.CELL_EPOCH: (Cell, "epoch"), W.CELL_BUFFER: (Cell, "buffer"),
         W.CELL_PREVIOUS: (Cell, "previous"), W.BUFFER_PTR: (Buffer, "ptr"), W.BUFFER_NBYTES: (Buffer, "nbytes"),
         W.BUFFER_HOME: (Buffer, "_home"), W.LONE_ROW: (Lone, "row"), W.LONE_HOME: (Lone, "home"),
         W.LONE_NBYTES: (Lone, "nbytes"), W.EPOCH_SERIAL: (Epoch, "serial"), W.EPOCH_FLUSH_NOW: (Epoch, "flush_now"),
         **{w: (Epoch, name) for w, name in zip(W.EPOCH_SHARED, shared, strict=True)}},
        {W.FLOAT_DATA: object.__basicsize__})
