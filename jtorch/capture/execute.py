"""Running recorded values: the tiers. A graph's first appearance is interpreted in NumPy at once; when it comes back
it is compiled, in the background where nobody needs to wait."""
from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jtorch.capture import observe
from jtorch.capture.cell import Cell, Epoch
from jtorch.capture.structure import REMEMBERED, UNMEASURED, Structure, Structures
from jtorch.config import config
from jtorch.errors import CompileError, OutOfMemoryError
from jtorch.ir.graph import Graph, Value, topological
from jtorch.ir.interpret import interpret, settles
from jtorch.ir.passes.batch import dependents
from jtorch.ir.prims.create import graft, leaf
from jtorch.lazy import lazy_module
from jtorch.runtime.memory import ALIGNMENT, OBJECT_FIELDS, Buffer, allocator
from jtorch.storage import SharedBuffer

if TYPE_CHECKING:
    from jtorch import driver
    from jtorch.capture import lone
else:
    driver = lazy_module("jtorch.driver")
    lone = lazy_module("jtorch.capture.lone")

def _donor_references() -> int:
    """The count of a donor that is nobody else's: it is in `Epoch.leaves`, a key of `Epoch.leaf_values`,
    `Cell.previous` of its successor, the list of donors, and a local variable. Versions of Python count differently."""
    donor = object()
    holders = [donor], {donor: 0}, (donor,), [donor]
    count = sys.getrefcount(donor)
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

    __slots__ = ("graph", "leaves", "scalars", "data", "in_place", "wanted_in_place", "runs", "executable", "handle",
                 "sizes", "failed", "ambiguous", "spare", "reads", "structure")

    def __init__(self, outputs: tuple[Value, ...], in_place: tuple[tuple[int, int], ...],
                 structures: Structures | None = None) -> None:
        params = sorted((v for v in topological(outputs) if v.op.kind == "leaf"), key=lambda v: v.attrs[0])
        self.graph = Graph(params, outputs, "eager")
        self.leaves = [p.attrs[0] for p in params]  # sorted: scalars have negative numbers
        self.scalars = [n for n in self.leaves if n < 0]
        self.data = [n for n in self.leaves if n >= 0]
        self.reads = frozenset(self.data)
        place = {number: i for i, number in enumerate(self.leaves)}
        self.in_place = {out: place[number] for out, number in in_place if number in place}
        self.wanted_in_place = frozenset([out for out, _ in in_place])
        self.sizes = [o.type.nbytes for o in outputs]
        written = [params[i] for i in self.in_place.values()]
        self.spare = frozenset(written) if written and settles(self.graph) else frozenset()
        self.structure = Structure(0) if structures is None else structures.find(self.graph)
        self.runs = 0
        self.executable: Any = None
        self.handle: Any = None
        self.failed = False
        self.ambiguous = config.eager_compile != "never" and any(n.op.ambiguous for n in self.graph.nodes)

    def prepare(self) -> Any:
        """The executable if it is this program's turn to have one, else None."""
        if self.executable is not None or self.failed:
            return self.executable
        at_once = config.eager_compile == "sync" or config.deterministic or self.ambiguous
        try:
            if self.handle is not None:
                if at_once or self.handle.ready():
                    self.take()
            elif self.is_due():
                if at_once:
                    self.executable = driver.compile_graph(self.graph, self.in_place)
                elif config.eager_compile == "async":
                    self.request()
                if self.comes_back() and self.structure.programs <= REMEMBERED:
                    driver.remember(self.graph)
            if self.in_place and self.executable is not None and self.executable.may_stop:
                self.in_place = {}  # a run that stops half way leaves its inputs as they were
                self.executable = driver.compile_graph(self.graph, self.in_place)
        except CompileError:
            statistics["fallbacks"] += 1
            self.failed = True
        return self.executable

    def comes_back(self) -> bool:
        return self.runs >= config.compile_after or config.deterministic or self.ambiguous

    def is_due(self) -> bool:
        """Is it worth a plan: has it come back, here or in an earlier process, or is a plan cheaper than a run?"""
        if self.runs > 1 or self.comes_back() or config.eager_compile == "never":
            return self.comes_back()
        structure = self.structure
        if structure.interpreting or structure.programs > UNMEASURED:
            return config.eager_compile == "async" and structure.plan_at_once
        return driver.is_known(self.graph)

    def request(self) -> None:
        """Make the plan, and take it if no kernel has to be compiled for it."""
        start = time.perf_counter()
        self.handle = driver.compile_async(self.graph, self.in_place)
        if self.handle.ready():
            self.take()
        self.structure.planned(time.perf_counter() - start)

    def take(self) -> None:
        """The executable from its handle, which waits for kernels that are still compiling."""
        self.executable, self.handle = self.handle.result(), None


class Plan:
    """How the results of a tuple of values come about: some are leaves, the others one program computes."""

    __slots__ = ("key", "results", "outputs", "program", "direct", "differentiable", "shared", "given", "renewing")

    def __init__(self, values: Sequence[Value], table: ProgramTable) -> None:
        outputs: dict[Value, int] = {}
        self.key = values[0] if len(values) == 1 else tuple(values)
        self.results: list[int] = []  # a place among the program's outputs, or ~number of a leaf
        for v in values:
            source = strip_markers(v)
            is_data = source.op is leaf and source.attrs[0] >= 0
            self.results.append(~source.attrs[0] if is_data else outputs.setdefault(source, len(outputs)))
        self.outputs = tuple(outputs)
        self.direct = self.results == list(range(len(outputs)))  # is each value one output of its own?
        self.shared = frozenset([r for r, n in Counter(self.results).items() if n > 1])
        self.given = frozenset([~r for r in self.results if r < 0])  # leaves that are results themselves
        self.differentiable = any(v.requires_grad for v in values)
        self.program = table.find(self.outputs, ()) if outputs else None
        self.renewing: dict[tuple[tuple[int, int], ...], Program] = {}  # the same work, by what it does in place

    def in_place(self, pairs: tuple[tuple[int, int], ...], table: ProgramTable) -> Program:
        found = self.renewing.get(pairs)
        if found is None:
            found = self.renewing[pairs] = table.find(self.outputs, pairs)
        return found

    def distribute(self, epoch: Epoch, computed: list[Any]) -> list[Any]:
        """A buffer for each value, from those that the program computed."""
        return [computed[r] if r >= 0 else data_of(epoch.leaves[~r]) for r in self.results]


class ProgramTable(dict):
    """(outputs, in-place pairs) -> Program, and the plans that lead there. `ready` and `renewing` are what the built-in
    flush knows, by the Value or Values that are wanted: where all are in new memory, and where some may be written over
    contents that they replace."""

    __slots__ = ("structures", "plans", "ready", "renewing")

    def __init__(self, structures: Structures | None = None) -> None:
        self.structures = structures
        self.plans: dict[tuple[Value, ...], Plan] = {}
        self.ready: dict[Value | tuple[Value, ...], lone.Ready] = {}
        self.renewing: dict[Value | tuple[Value, ...], lone.Ready] = {}

    def find(self, outputs: tuple[Value, ...], in_place: tuple[tuple[int, int], ...]) -> Program:
        key = (outputs, in_place)
        found = self.get(key)
        if found is None:
            found = self[key] = Program(outputs, in_place, self.structures)
        return found

    def plan(self, values: tuple[Value, ...]) -> Plan:
        found = self.plans.get(values)
        if found is None:
            found = self.plans[values] = Plan(values, self)
        return found


def strip_markers(v: Value) -> Value:
    while v.op.kind == "marker" and (len(v.inputs) == 1 or v.op is graft):
        v = v.inputs[0]
    return v


def compute(epoch: Epoch, table: ProgramTable, plan: Plan, donors: Sequence[Cell | None] | None = None) -> list[Any]:
    """Buffers of a plan's values. `donors[i]` is the cell whose memory result i may take over if nobody else has it."""
    if epoch.mapped and dependents(plan.outputs):
        raise RuntimeError(MAPPED)
    program, taken = plan.program, None
    if program is None:
        return plan.distribute(epoch, [])
    if donors is not None:
        pairs, taken = takeovers(epoch, plan, donors)
        if pairs:
            program = plan.in_place(pairs, table)
    program.runs += 1
    executable = program.executable or program.prepare()
    if executable is None:
        computed = interpreted(epoch, program)
    else:
        statistics["compiled"] += 1
        leaves = epoch.leaves
        ptrs, boxes = addresses(epoch, program.scalars) if program.scalars else ([], None)
        for n in program.data:
            ptrs.append(leaves[n].buffer.ptr)
        computed = []
        for size in program.sizes:
            buffer = allocator.alloc(size) if taken is None else target(program, taken, len(computed), size)
            computed.append(buffer)
            ptrs.append(buffer.ptr)
        if observe.sinks:
            observe.run(executable, ptrs)
        else:
            executable.run(ptrs)
            if plan.direct and executable.header and not plan.differentiable:
                lone.note(epoch, table, plan, program, computed, donors)
    return computed if plan.direct else plan.distribute(epoch, computed)


def target(program: Program, taken: dict[int, Any], i: int, size: int) -> Any:
    """The buffer of output i: one that was taken over for it, or a new one."""
    if i in taken and (i in program.in_place or i not in program.wanted_in_place):
        return taken[i]
    return allocator.alloc(size)


def compute_once(epoch: Epoch, values: Sequence[Value]) -> list[Any]:
    """Buffers of an epoch's values, interpreted: what will hardly be asked again."""
    plan = ProgramTable().plan(tuple(values))
    if epoch.mapped and dependents(plan.outputs):
        raise RuntimeError(MAPPED)
    return plan.distribute(epoch, interpreted(epoch, plan.program) if plan.program is not None else [])


def data_of(leaf: Cell) -> Any:
    """The memory of a leaf that a result is equal to; a copy if the outside looks at it."""
    buffer = leaf.buffer
    return buffer.copy() if type(buffer) is SharedBuffer else buffer


def takeovers(epoch: Epoch, plan: Plan, donors: Sequence[Cell | None]) -> tuple[tuple[tuple[int, int], ...], dict]:
    """What the donors that nobody else holds are good for: pairs (output, leaf) to be computed in place, and the memory
    of each output that is given one."""
    known, program, results = epoch.leaf_values, plan.program, plan.results
    in_place, taken = [], {}
    for i in range(len(donors)):
        donor, place = donors[i], results[i]
        if donor is None or place < 0 or sys.getrefcount(donor.buffer) > 2 or place in plan.shared:
            continue
        leaf = known.get(donor)
        if leaf is None:
            if sys.getrefcount(donor) <= _DONOR_REFERENCES - 2:
                taken[place] = donor.buffer
        # What may be differentiated later needs the leaves as they are: nothing is written over beside it. And a result
        # that is a leaf itself (a clone of what was there) is that memory.
        elif not epoch.lasting and leaf.attrs[0] not in plan.given and sys.getrefcount(donor) <= _DONOR_REFERENCES:
            taken[place] = donor.buffer
            if program is not None and leaf.attrs[0] in program.reads:
                in_place.append((place, leaf.attrs[0]))
    return tuple(in_place), taken


def interpreted(epoch: Epoch, program: Program) -> list[Any]:
    statistics["interpreted"] += 1
    start = time.perf_counter()
    arrays = []
    for p, number in zip(program.graph.params, program.leaves):
        if number >= 0:
            arrays.append(array_of(epoch.leaves[number].buffer, p.type))
        else:
            arrays.append(np.asarray(epoch.scalars[-number - 1], p.type.dtype.numpy))
    try:
        results = interpret(program.graph, arrays, observe.watch_node if observe.sinks else None, program.spare)
    except MemoryError as error:
        raise OutOfMemoryError(f"not enough memory: {error}") from None
    buffers: list[Any] = []
    copied = 0
    results.reverse()
    while results:  # each is let go once its contents have a place, so that not all of them are there twice
        a, source = results.pop(), program.in_place.get(len(buffers))
        copied += a.nbytes
        if copied >= LEFT_TO_MALLOC:
            allocator.trim_malloc()
            copied = 0
        kept = source is not None and a.ctypes.data == arrays[source].ctypes.data
        buffers.append(epoch.leaves[program.leaves[source]].buffer if kept else buffer_of(a))  # type: ignore[index]
    program.structure.interpreted(time.perf_counter() - start)
    return buffers


LEFT_TO_MALLOC = 32 << 20
"""Bytes of NumPy's memory that may lie idle after an interpreted run: its results are copied out of it."""


def addresses(epoch: Epoch, numbers: Sequence[int]) -> tuple[list[int], Any]:
    """The addresses of run-time scalars, and what keeps the numbers there."""
    boxes = [boxed(epoch.scalars[-n - 1]) for n in numbers]
    return [address for address, _ in boxes], boxes


def boxed(x: bool | int | float | complex) -> tuple[int, Any]:
    """The address of a number in memory as kernels read it, and what keeps it there."""
    if type(x) is float or type(x) is complex:
        return id(x) + OBJECT_FIELDS, x
    buffer = scalar_buffer(x)
    return buffer.ptr, buffer


def scalar_buffer(x: bool | int | float | complex) -> Any:
    kind = np.bool_ if type(x) is bool else np.int64 if type(x) is int else np.float64 if type(x) is float else complex
    return buffer_of(np.array(x, kind))


def array_of(buffer: Any, type: Any) -> np.ndarray:
    return buffer.numpy(type.dtype.numpy, type.shape)


ALIGNED = range(16 << 10, 64 << 20)
"""Bytes of arrays that are worth a copy to where kernels are fastest: NumPy's memory may begin within a cache line, so
that each vector spans two. Below it costs more than it gains, above the memory is what a kernel waits for."""


def buffer_of(array: np.ndarray) -> Any:
    """A Buffer of the array's contents: its own memory if that is nobody else's, contiguous, and lies well."""
    if array.nbytes not in ALIGNED:
        if array.base is not None or not array.flags.c_contiguous or not array.flags.writeable:
            array = array.copy(order="C")
        return Buffer.from_numpy(array)
    if array.base is None and array.flags.c_contiguous and array.flags.writeable:
        buffer = Buffer.from_numpy(array)
        if buffer.ptr % ALIGNMENT == 0:
            return buffer
    buffer = allocator.alloc(array.nbytes)
    buffer.numpy(array.dtype, array.shape)[...] = array
    return buffer
