"""Running recorded values: the tiers. A graph's first appearance is interpreted in NumPy at once; when it comes back
it is compiled, in the background where nobody needs to wait."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jtorch.capture import observe
from jtorch.capture.cell import Cell, Epoch
from jtorch.config import config
from jtorch.errors import CompileError, OutOfMemoryError
from jtorch.ir.graph import Graph, Value, topological
from jtorch.ir.interpret import interpret, settles
from jtorch.ir.passes.batch import dependents
from jtorch.ir.prims.create import graft
from jtorch.lazy import lazy_module
from jtorch.runtime.memory import Buffer, allocator
from jtorch.storage import SharedBuffer

if TYPE_CHECKING:
    from jtorch import driver
else:
    driver = lazy_module("jtorch.driver")

def _held(cell: Any) -> int:
    """How many references there are to a cell, its caller's and its own among them."""
    return sys.getrefcount(cell)


def _donor_references() -> int:
    """The count of a donor that is nobody else's: it is in `Epoch.leaves`, a key of `Epoch.leaf_values`,
    `Cell.previous` of its successor, the list of donors, and a local variable. Versions of Python count differently."""
    donor = object()
    holders = [donor], {donor: 0}, (donor,), [donor]
    count = _held(donor)
    del holders
    return count


_DONOR_REFERENCES = _donor_references()

MAPPED = ("vmap: the value of one example is needed, and there is none: the mapped function runs once for all of them. "
          "bool(), item(), numpy(), print and data-dependent control flow (a Python branch on a tensor) are not "
          "supported inside of it; use torch.where instead, and return what is needed outside.")

statistics = {"interpreted": 0, "compiled": 0, "fallbacks": 0}
"""Counts of graph executions per tier, and of graphs that could not be compiled. For `jit.explain` and tests."""


class Program:
    """A graph of recorded values and the means to run it."""

    __slots__ = ("graph", "leaves", "in_place", "runs", "executable", "handle", "sizes", "failed", "spare")

    def __init__(self, outputs: tuple[Value, ...], in_place: tuple[tuple[int, int], ...]) -> None:
        params = sorted((v for v in topological(outputs) if v.op.kind == "leaf"), key=lambda v: v.attrs[0])
        self.graph = Graph(params, outputs, "eager")
        self.leaves = [p.attrs[0] for p in params]
        place = {number: i for i, number in enumerate(self.leaves)}
        self.in_place = {out: place[number] for out, number in in_place if number in place}
        self.sizes = [o.type.nbytes for o in outputs]
        written = [params[i] for i in self.in_place.values()]
        self.spare = frozenset(written) if written and settles(self.graph) else frozenset()
        self.runs = 0
        self.executable: Any = None
        self.handle: Any = None
        self.failed = False

    def prepare(self) -> Any:
        """The executable if it is this program's turn to have one, else None."""
        if self.executable is not None or self.failed:
            return self.executable
        try:
            if self.handle is not None:
                if self.handle.ready():
                    self.executable, self.handle = self.handle.result(), None
            elif self.runs == 1 and config.eager_compile != "never" and driver.is_known(self.graph):
                self.executable = driver.compile_graph(self.graph, self.in_place)
            elif self.runs >= config.compile_after or config.deterministic:
                if config.eager_compile == "sync" or config.deterministic:
                    self.executable = driver.compile_graph(self.graph, self.in_place)
                elif config.eager_compile == "async":
                    self.handle = driver.compile_async(self.graph, self.in_place)
                driver.remember(self.graph)
            if self.in_place and self.executable is not None and self.executable.may_stop:
                self.in_place = {}  # a run that stops half way leaves its inputs as they were
                self.executable = driver.compile_graph(self.graph, self.in_place)
        except CompileError:
            statistics["fallbacks"] += 1
            self.failed = True
        return self.executable


class ProgramTable(dict):
    """(outputs, in-place pairs) -> Program."""

    def find(self, outputs: tuple[Value, ...], in_place: tuple[tuple[int, int], ...]) -> Program:
        key = (outputs, in_place)
        found = self.get(key)
        if found is None:
            found = self[key] = Program(outputs, in_place)
        return found


def strip_markers(v: Value) -> Value:
    while v.op.kind == "marker" and (len(v.inputs) == 1 or v.op is graft):
        v = v.inputs[0]
    return v


class Execution:
    """One run of some of an epoch's values."""

    def __init__(self, epoch: Epoch, programs: ProgramTable | None) -> None:
        self.epoch, self.programs = epoch, programs

    def run(self, values: Sequence[Value], donors: Sequence[Cell | None]) -> list[Any]:
        """Buffers of `values`. `donors[i]` is the cell whose memory result i may take over if nobody else has it."""
        if self.epoch.mapped and dependents(values):
            raise RuntimeError(MAPPED)
        results: list[Any] = [None] * len(values)
        todo: dict[Value, list[int]] = {}
        for i, v in enumerate(values):
            source = strip_markers(v)
            if source.op.kind == "leaf" and source.attrs[0] >= 0:
                buffer = self.epoch.leaves[source.attrs[0]].buffer
                results[i] = buffer.copy() if type(buffer) is SharedBuffer else buffer
            else:
                todo.setdefault(source, []).append(i)
        if not todo:
            return results
        outputs = tuple(todo)
        in_place = []
        # What may be differentiated later needs the leaves as they are: nothing is written over beside it.
        may_write = not self.epoch.variables and any(d is not None for d in donors)
        numbers = {id(c): n for n, c in enumerate(self.epoch.leaves)} if may_write else {}
        for place, indices in enumerate(todo.values()):
            donor = donors[indices[0]] if len(indices) == 1 and indices[0] < len(donors) else None
            if (donor is not None and id(donor) in numbers and _held(donor) <= _DONOR_REFERENCES
                    and sys.getrefcount(donor.buffer) <= 2):
                in_place.append((place, numbers[id(donor)]))
        buffers = self.run_program(outputs, tuple(in_place))
        for indices, buffer in zip(todo.values(), buffers):
            for i in indices:
                results[i] = buffer
        return results

    def run_program(self, outputs: tuple[Value, ...], in_place: tuple[tuple[int, int], ...]) -> list[Any]:
        program = Program(outputs, ()) if self.programs is None else self.programs.find(outputs, in_place)
        program.runs += 1
        executable = None if self.programs is None else program.prepare()
        if executable is None:
            statistics["interpreted"] += 1
            return self.interpret(program)
        statistics["compiled"] += 1
        return run_executable(executable, program, [self.pointer(n) for n in program.leaves])

    def pointer(self, number: int) -> Any:
        if number >= 0:
            return self.epoch.leaves[number].buffer
        return scalar_buffer(self.epoch.scalars[-number - 1])

    def interpret(self, program: Program) -> list[Any]:
        arrays = []
        for p, number in zip(program.graph.params, program.leaves):
            if number >= 0:
                arrays.append(array_of(self.epoch.leaves[number].buffer, p.type))
            else:
                arrays.append(np.asarray(self.epoch.scalars[-number - 1], p.type.dtype.numpy))
        try:
            results = interpret(program.graph, arrays, observe.watch_node if observe.sinks else None, program.spare)
        except MemoryError as error:
            raise OutOfMemoryError(f"not enough memory: {error}") from None
        buffers = []
        for i, a in enumerate(results):
            source = program.in_place.get(i)
            kept = source is not None and a.ctypes.data == arrays[source].ctypes.data
            buffers.append(self.pointer(program.leaves[source]) if kept else buffer_of(a))
        return buffers


def run_executable(executable: Any, program: Program, inputs: list[Any]) -> list[Any]:
    outputs = []
    for i, size in enumerate(program.sizes):
        source = program.in_place.get(i)
        outputs.append(allocator.alloc(size) if source is None else inputs[source])
    observe.run(executable, [b.ptr for b in inputs] + [b.ptr for b in outputs])
    return outputs


def scalar_buffer(x: bool | int | float | complex) -> Any:
    kind = np.bool_ if type(x) is bool else np.int64 if type(x) is int else np.float64 if type(x) is float else complex
    return buffer_of(np.array(x, kind))


def array_of(buffer: Any, type: Any) -> np.ndarray:
    return buffer.numpy(type.dtype.numpy, type.shape)


def buffer_of(array: np.ndarray) -> Any:
    """A Buffer with the array's contents; its memory is taken over if it is the array's own and contiguous."""
    if array.base is not None or not array.flags.c_contiguous or not array.flags.writeable:
        array = array.copy(order="C")
    return Buffer.from_numpy(array)
