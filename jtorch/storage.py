"""The mutable memory that tensors share."""
from __future__ import annotations

import weakref
from typing import Any

from jtorch.capture.cell import Cell


class Storage:
    """What `Tensor`s that alias each other have in common: the latest `Cell` of their contents.

    Contents have the shape in which they were made (contiguous); views are chains of operations on that. `version`
    counts writes. Where `exports` (NumPy arrays, DLPack capsules on the same memory) are alive, reads and
    writes happen at once, since the outside may look at any time.
    """

    __slots__ = ("cell", "version", "exports", "__weakref__")
    cell: Cell
    version: int
    exports: list[weakref.ref] | None

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.version = 0
        self.exports = None

    def write(self, cell: Cell) -> None:
        old = self.cell
        if old.buffer is not None:
            cell.previous = old
        elif old.previous is not None:
            cell.previous, old.previous = old.previous, None
        self.cell = cell
        self.version += 1

    def exported(self) -> bool:
        """Does memory outside jtorch alias this storage?"""
        if self.exports is None:
            return False
        self.exports = [r for r in self.exports if r() is not None] or None
        return self.exports is not None

    def export(self, owner: Any) -> None:
        """From now on `owner`, while alive, reads and writes this memory."""
        if self.exports is None:
            self.exports = []
        self.exports.append(weakref.ref(owner))
