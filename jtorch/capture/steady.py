"""A training loop runs the same program on the same state over and over. All that `Variant.stale` and `Variant.run`
look for then (each tensor has the storage that it had, each storage its cell, each cell memory that nobody else holds)
are words in memory that are as the last run left them. A built-in function looks at those of sixteen tensors in the
time that Python takes for one."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jtorch._tensor import Tensor
from jtorch.capture.lone import configuration
from jtorch.runtime.layout import ConfWords
from jtorch.runtime.memory import Buffer
from jtorch.runtime.objects import Watch
from jtorch.storage import Storage

if TYPE_CHECKING:
    from jtorch.capture.variant import Variant

LONG = 64
"""Runs after which the effort to look for a steady state has paid."""


class Steady:
    """The state that a program reads and writes besides its arguments, as its last run left it.

    `ptrs` are the addresses for the next run, but for arguments and new results: (output, its place there, bytes) of
    these are in `fresh`.
    """

    __slots__ = ("ptrs", "fresh", "watch", "unchanged", "runs")

    def __init__(self, variant: Variant, watch: Watch) -> None:
        where = len(variant.sources)
        self.ptrs = variant.fixed[:]
        self.fresh = []
        for storage, i, out in variant.owned:
            self.ptrs[i] = self.ptrs[out] = storage.cell.buffer.ptr
        for storage, i in variant.read_only:
            self.ptrs[i] = storage.cell.buffer.ptr
        for out, size, entry in variant.fresh:
            if entry is None:
                self.fresh.append((out, where + out, size))
            else:
                self.ptrs[where + out] = entry[1]._storage.cell.buffer.ptr
        self.watch = watch
        self.unchanged = watch.build()  # not 0: as it was
        self.runs = 0


def steady_state(variant: Variant) -> Steady | None:
    """What a variant has just left behind; None where it has to be looked for again in each run."""
    known = configuration()
    own = [entry for _, _, entry in variant.fresh if entry is not None]
    if (known is None or variant.differentiable or variant.written_arguments or variant.moved
            or len(own) < len(variant.grads)):
        return None
    watch = StateWatch(known.words)
    for t, is_grad, storage in variant.anchors:
        holder = t._grad if is_grad else t
        if is_grad:
            watch.slot(t, ConfWords.TENSOR_GRAD, holder)
        watch.slot(holder, ConfWords.TENSOR_STORAGE, storage)
    for t, _ in variant.guarded_grads:
        watch.slot(t, ConfWords.TENSOR_GRAD, t._grad)
    for storage, _, _ in variant.state:
        watch.contents(storage)
    for storage, _, _ in variant.owned:
        watch.sole(storage)
    for t, g, _ in own:
        watch.gradient(t, g)
    if watch.foreign:
        return None
    return Steady(variant, watch)


class StateWatch(Watch):
    """A watch over slots of tensors, storages, cells and buffers. What is looked at is alive if all that was looked at
    before it is as it was. `ptr`s are kept by the watch, so that no other number is ever where one of them is."""

    def __init__(self, offsets: Any) -> None:
        super().__init__()
        self.offsets = offsets
        self.foreign = False  # is there memory that is not ours?
        self.kept: list[Any] = []

    def slot(self, owner: Any, slot: int, item: Any) -> None:
        self.word(id(owner) + self.offsets[slot], id(item))

    def contents(self, storage: Storage) -> None:
        """It has this cell, of this type, in this memory."""
        cell = storage.cell
        buffer = cell.buffer
        if type(buffer) is not Buffer:
            self.foreign = True
            return
        self.slot(storage, ConfWords.STORAGE_CELL, cell)
        self.slot(cell, ConfWords.CELL_TYPE, cell.type)
        self.slot(cell, ConfWords.CELL_BUFFER, buffer)
        self.type(buffer)
        self.slot(buffer, ConfWords.BUFFER_PTR, buffer.ptr)
        self.kept += (cell.type, buffer.ptr)

    def sole(self, storage: Storage) -> None:
        """Nobody else holds its cell, nor the memory."""
        self.count(storage.cell, 1)
        self.count(storage.cell.buffer, 1)

    def gradient(self, t: Tensor, g: Tensor) -> None:
        """It is the tensor's gradient, and held by the tensor and the variant only."""
        self.slot(t, ConfWords.TENSOR_GRAD, g)
        self.count(g, 2)
        self.slot(g, ConfWords.TENSOR_STORAGE, g._storage)
        self.count(g._storage, 1)
        self.contents(g._storage)
        self.sole(g._storage)
