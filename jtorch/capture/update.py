"""Updates: operations that renew tensors in place, for many sets of tensors, run as one program and not recorded.

An optimizer's step is the same few operations for every parameter, time after time. Recording them costs microseconds
for each tensor, and a program of its own for each network. Here the graph of one parameter is compiled (of a flat one
where the operation works element by element, so that parameters of a size share it), the launches for all parameters
are put side by side, and a run is a call with the addresses of what exists.
"""
from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Sequence
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, NamedTuple

from jtorch import dtypes
from jtorch.capture.cell import Cell
from jtorch.capture.execute import Program, array_of, driver
from jtorch.capture.record import current
from jtorch.ir.graph import Builder, Type
from jtorch.ir.interpret import interpret
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import make_leaf
from jtorch.runtime.memory import Buffer, allocator
from jtorch.storage import SharedBuffer, Storage

if TYPE_CHECKING:
    from jtorch._tensor import Tensor

SCALAR = Type(dtypes.float64, ())


class Item(NamedTuple):
    """`op(*targets, source, *scalars)`, whose results are the new contents of `targets`; `scalars` are numbers of the
    run-time scalars that it reads."""

    op: Op
    attrs: tuple
    targets: Sequence[Tensor]
    source: Tensor
    scalars: tuple[int, ...]


class Part:
    """The graph of items that differ in nothing but the addresses of their tensors."""

    def __init__(self, item: Item, flat: bool) -> None:
        shape = item.targets[0]._type.shape
        builder = Builder()

        def given(t: Type) -> Type:
            return Type(t.dtype, (t.numel,)) if flat and t.shape == shape else t

        self.types = [given(t._type) for t in (*item.targets, item.source)] + [SCALAR] * len(item.scalars)
        values = tuple([make_leaf(builder, i, t) for i, t in enumerate(self.types)])
        results = builder.intern(item.op, values, item.attrs)
        outputs = results if isinstance(results, tuple) else (results,)
        self.program = Program(outputs, tuple((k, k) for k in range(len(outputs))))

    def renews_in_place(self, executable: Any) -> bool:
        return not executable.may_stop and len(self.program.in_place) == len(self.program.sizes)


class Update:
    """`items`, to be run again and again with whatever their tensors hold then."""

    def __init__(self, items: Sequence[Item], scalars: int, flat: bool) -> None:
        self.items = items
        self.targets = [t for item in items for t in item.targets]
        self.types = [item.source._type for item in items]
        self.scalars = (ctypes.c_double * scalars)()
        first = ctypes.addressof(self.scalars)
        self.scalar_buffers = [Buffer(first + 8 * i, 8, None) for i in range(scalars)]
        parts: dict[tuple, Part] = {}
        self.parts = []
        for item in items:
            key = (item.op, item.attrs, tuple([t._type for t in item.targets]), item.source._type, item.scalars)
            found = parts.get(key)
            if found is None:
                found = parts[key] = Part(item, flat)
            self.parts.append(found)
        self.distinct = list(parts.values())
        self.program: Any = None
        self.target_types = [t._type for t in self.targets]
        self.unfit = False  # does a part need what a run here cannot give?
        self.lock = threading.Lock()
        self.storages: list[Storage] = []
        self.cells: list[Cell] = []
        self.buffers: list[Any] = []
        self.addresses: list[int] = []

    @property
    def launches(self) -> list[list[int]]:
        """The work items of the kernels of each region, which run side by side; empty before the program exists."""
        launches = () if self.program is None else self.program.launches
        return [[launch.total for launch in region] for region in driver.split_regions(launches)]

    def run(self, sources: Sequence[Tensor], scalars: Sequence[float]) -> bool:
        """Renew the targets, reading `sources` where the items have theirs. False: nothing was done; record it."""
        recorder = current.recorder
        if self.unfit or recorder.tracing is not None or recorder.levels or recorder.holding:
            return False
        if any(t._view is not None for t in sources) or [t._type for t in sources] != self.types:
            return False
        recorder.flush()
        with self.lock:
            if not self.take_hold():
                return False
            given = [t._storage.cell for t in sources]
            for cell in given:
                if cell.buffer is None:
                    recorder.materialise(cell)
            self.scalars[:] = scalars
            if self.program is None:
                self.prepare()
            if self.unfit:
                return False
            if self.program is None:
                self.interpret(given)
            else:
                self.program.run([*self.addresses, *[c.buffer.ptr for c in given],
                                  *[b.ptr for b in self.scalar_buffers]])
            for storage in self.storages:
                storage.version += 1
        return True

    def prepare(self) -> None:
        """Make the program once every part is compiled."""
        executables = {}
        for part in self.distinct:
            part.program.runs += 1
            executable = executables[part] = part.program.prepare()
            if executable is not None and not part.renews_in_place(executable):
                self.unfit = True
        if self.unfit or None in executables.values():
            return
        n, m = len(self.targets), len(self.items)
        placed, start = [], 0
        for i, (item, part) in enumerate(zip(self.items, self.parts)):
            k = len(item.targets)
            own = [*range(start, start + k), n + i, *[n + m + s for s in item.scalars]]
            placed.append((executables[part], [own[j] for j in part.program.leaves] + own[:k]))
            start += k
        self.program = driver.side_by_side(placed, n + m + len(self.scalars))

    def interpret(self, given: Sequence[Cell]) -> None:
        start = 0
        for item, part, cell in zip(self.items, self.parts, given):
            own = self.buffers[start:start + len(item.targets)]
            start += len(own)
            all_of = [*own, cell.buffer, *[self.scalar_buffers[s] for s in item.scalars]]
            arrays = [array_of(all_of[j], part.types[j]) for j in part.program.leaves]
            results = [a.copy() for a in interpret(part.program.graph, arrays)]
            for result, buffer in zip(results, own):
                array_of(buffer, Type(dtypes.from_numpy(result.dtype), result.shape))[...] = result

    def take_hold(self) -> bool:
        """Have the memory of the targets ready to be written: nobody else's, but where it is shared on purpose."""
        storages = list(map(_STORAGE, self.targets))
        if not self.cells or not all(map(is_, map(_CELL, storages), self.cells)) \
                or not all(map(is_, map(_BUFFER, self.cells), self.buffers)):
            self.cells = []
            if [t._type for t in self.targets] != self.target_types or any(t._view is not None for t in self.targets):
                return False
            if len(set(storages)) < len(storages) or any(s.cell.value or s.cell.buffer is None for s in storages):
                return False
            self.note(storages)
        if max(map(sys.getrefcount, self.cells)) > _ALONE or max(map(sys.getrefcount, self.buffers)) > _ALONE:
            self.part_company()
        return True

    def note(self, storages: list[Storage]) -> None:
        self.storages = storages
        self.cells = list(map(_CELL, storages))
        self.buffers = list(map(_BUFFER, self.cells))
        self.addresses = [b.ptr for b in self.buffers]

    def part_company(self) -> None:
        """Copy what somebody else holds too: an earlier graph, or a tensor that shares memory until one is written."""
        holders = list(map(sys.getrefcount, self.cells)), list(map(sys.getrefcount, self.buffers))
        for storage, of_cell, of_buffer in zip(self.storages, *holders):
            cell = storage.cell
            if type(cell.buffer) is SharedBuffer or max(of_cell, of_buffer) <= _ALONE:
                continue
            fresh = allocator.alloc(cell.type.nbytes)
            fresh.copy_from(cell.buffer)
            if of_cell > _ALONE:
                storage.cell = Cell(cell.type, None, None, fresh)
            else:
                cell.buffer = fresh
        self.note(self.storages)


_STORAGE, _CELL, _BUFFER = attrgetter("_storage"), attrgetter("cell"), attrgetter("buffer")


def _references_of_one_holder() -> int:
    """What `getrefcount` says of the objects in a list that one other thing refers to."""
    holder = [object()]
    noted = [*holder]
    return max(map(sys.getrefcount, noted))


_ALONE = _references_of_one_holder()
