"""The driver: graph -> passes -> fusion groups -> loop nests -> kernel text -> memory plan -> program.

    exe = compile_graph(graph, in_place={0: 2})   # output 0 has the memory of parameter 2
    exe.run([address of every parameter, then of every output])

Each step is named and timed (`exe.stages`), and what it made can be printed (`exe.explain()`).
"""
from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy

from jtorch.codegen import cpu
from jtorch.codegen.calls import host_entry, library_entries
from jtorch.codegen.epilogue import Attached, find_epilogues, readers
from jtorch.codegen.loops import Nest, show
from jtorch.codegen.lower import lower
from jtorch.codegen.partition import Group, partition
from jtorch.codegen.place import Placed, place
from jtorch.codegen.plan import (
    Entry,
    MemoryPlan,
    arguments,
    call_arguments,
    delay_updates,
    order_entries,
    plan_memory,
    redirect_unsafe,
    step_entry,
    store_past,
    substitute,
)
from jtorch.codegen.scan_loop import ScanLoop
from jtorch.codegen.updates import update_in_place
from jtorch.ir.fingerprint import fingerprint
from jtorch.ir.graph import Graph, Value
from jtorch.ir.passes.decompose import decompose
from jtorch.ir.passes.fold import fold
from jtorch.ir.passes.hoist import hoist
from jtorch.ir.passes.simplify import simplify
from jtorch.runtime import blas, cache, compile, kernels
from jtorch.runtime.program import ARENA, SCRATCH, HostCall, KernelError, Launch, Program, split_regions

PASSES: tuple[Callable[[Graph], Graph], ...] = (decompose, simplify, hoist, fold, simplify)

_COMPUTES = re.compile(r"\s*[va](\d+) = (?!p\d|q\d|a\d+$|[bifu]\d+\()")

_texts: dict[Nest, cpu.Kernel] = {}
TEXTS_LIMIT = 20_000

_steps: dict[Graph, Callable[[numpy.ndarray], None]] = {}  # the programs of bodies of scans, which are interned
STEPS_LIMIT = 1_000


@dataclass(slots=True)
class Stage:
    """One step of a compilation: its name, how long it took, and what it made (printed on demand)."""

    name: str
    seconds: float
    result: Any = None

    @property
    def text(self) -> str:
        return str(self.result)


def line_name(file: str, line: int) -> str:
    return f"{os.path.basename(file)}:{line}"


@dataclass(slots=True)
class KernelInfo:
    """One launch or host call of a program."""

    name: str
    source: str
    params: tuple[str, ...]
    ops: list[str]
    bytes: int
    flops: int
    lines: list[tuple[str, int]]
    reason: str
    nest: Nest | None = None
    total: int = 0
    grain: int = 0
    region: int = 0
    nodes: list[Any] = field(default_factory=list)  # per value v0, v1, ... of a generated kernel

    @property
    def annotated(self) -> str:
        """The source with the user's line beside each statement that computes one of their operations."""
        lines = []
        for line in self.source.splitlines():
            match = _COMPUTES.match(line)
            node = self.nodes[int(match[1])] if match and int(match[1]) < len(self.nodes) else None
            if node is not None:
                where = f"  {line_name(*node.loc)}" if node.loc else ""
                line = f"{line:<50}  # {node.op.name}{where}"
            lines.append(line)
        return "\n".join(lines)

    def __str__(self) -> str:
        where = ", ".join(line_name(file, line) for file, line in self.lines)
        head = f"{self.name}: {', '.join(self.ops)}" + (f"  ({where})" if where else "")
        work = f"    region {self.region}, {self.total} items of work, grain {self.grain}, {self.bytes} bytes, " \
               f"{self.flops} flops"
        return "\n".join([head, work, f"    ends because {self.reason}"])


@dataclass
class Executable:
    """A compiled graph. `run(ptrs)` takes the addresses of all parameters, then of all outputs."""

    graph: Graph
    program: Program | None
    entries: list[Entry]
    memory: MemoryPlan
    stages: list[Stage]
    codes: dict[int, Any]
    run: Callable[[Sequence[int]], None] = field(init=False)

    def __post_init__(self) -> None:
        if self.program is None:
            self.run = lambda ptrs: None
        elif self.codes:
            self.run = self._run_checked
        else:
            self.run = self.program.run

    @property
    def header(self) -> int:
        """The address of the program's words, if they are all that a run takes."""
        return 0 if self.program is None else self.program.header

    def _run_checked(self, ptrs: Sequence[int]) -> None:
        try:
            self.program.run(ptrs)  # type: ignore[union-attr]
        except KernelError as error:
            raise self._user_error(error) from None

    def run_rows(self, rows: numpy.ndarray) -> None:
        """Run once for each row of addresses, one after the other."""
        if self.program is not None:
            try:
                self.program.run_rows(rows)
            except KernelError as error:
                raise self._user_error(error) from None

    def _user_error(self, error: KernelError) -> Exception:
        node, kind, message = self.codes[error.code & 0xFFFFF]
        raised = kind(message(error.code >> 20 & 0x3FFFFF, error.code >> 42) if callable(message) else message)
        if node is not None and node.loc is not None:
            raised.add_note(f"recorded at {node.loc[0]}:{node.loc[1]}")
        return raised

    def profile(self, ptrs: Sequence[int]) -> list[int]:
        """Run with a barrier between all launches; nanoseconds of each of `entries`."""
        try:
            return [] if self.program is None else self.program.profile(ptrs)
        except KernelError as error:
            raise self._user_error(error) from None

    @property
    def may_stop(self) -> bool:
        """Can a run end, by an error that a kernel finds or in the Python between its parts, when it has begun to
        write over its parameters?"""
        first = min((e.region for e in self.entries if e.overwrites), default=None)
        return first is not None and any(e.region >= first for e in self.entries if e.may_fail or e.host is not None)

    @property
    def kernels(self) -> list[KernelInfo]:
        return [describe(i, e) for i, e in enumerate(self.entries)]

    @property
    def host_calls(self) -> list[str]:
        """Operations that go through Python: NumPy's, and scans, whose steps are programs."""
        return [e.group.library.op.name for e in self.entries if e.host is not None]  # type: ignore[union-attr]

    @property
    def arena_size(self) -> int:
        return self.memory.arena_size

    def explain(self, sources: bool = False) -> str:
        """What was made of the graph: steps with their times, kernels, memory."""
        regions = len({e.region for e in self.entries})
        lines = [f"{self.graph.name}: {len(self.entries)} launches in {regions} regions"]
        lines += [f"    {s.name:12} {s.seconds * 1e3:8.2f} ms" for s in self.stages]
        for info in self.kernels:
            lines.append(str(info))
            if sources:
                lines.append(info.annotated)
        if self.host_calls:
            lines.append(f"through Python: {', '.join(self.host_calls)}")
        return "\n".join([*lines, str(self.memory)])


def describe(i: int, e: Entry) -> KernelInfo:
    group = e.group
    nodes = [] if group is None else [group.library] if group.library is not None else group.nodes
    if e.epilogue is not None:
        nodes = [*nodes, *e.epilogue.group.nodes]
        reason = e.epilogue.group.reason
    lines = list(dict.fromkeys(v.loc for v in nodes if v is not None and v.loc is not None))
    ops = [v.op.name for v in nodes if v is not None] or ["copy"]
    if e.epilogue is None:
        reason = group.reason if group is not None else "it copies a finished output to its place"
    if e.step is not None and e.kernel is not None:
        return KernelInfo(f"kernel{i}", e.kernel.source, e.kernel.params, ops, e.step.bytes, e.step.flops, lines,
                          reason, e.step.nest, e.step.total, e.step.grain, e.region, e.step.binding.nodes)
    if e.call is not None:
        return KernelInfo(f"kernel{i} {e.call.name}", e.call.source, e.call.params, ops, 0, 0, lines, reason, None,
                          e.call.total, e.call.grain, e.region)
    return KernelInfo(f"host{i}", "", (), ops, 0, 0, lines, "it is run by NumPy", region=e.region)


def emit(nest: Nest) -> cpu.Kernel:
    """Kernel text of a nest; equal nests are printed once."""
    found = _texts.get(nest)
    if found is None:
        if len(_texts) >= TEXTS_LIMIT:
            _texts.clear()
        found = _texts[nest] = cpu.emit(nest)
    return found


class Compilation:
    """The steps in order. `sources` are needed before `link`; they can be compiled elsewhere in between."""

    def __init__(self, graph: Graph, in_place: dict[int, int] | None = None, keep: bool = True) -> None:
        self.graph, self.in_place, self.stages = graph, in_place or {}, []
        self.keep = keep  # what each step made, to be looked at
        self.loops: list[tuple[ScanLoop, Compilation]] = []  # with the programs of their bodies that there are not yet
        for step in PASSES:
            graph = self.timed(step.__name__, lambda step=step, graph=graph: step(graph))
        placed: Placed = self.timed("place", lambda: place(graph))
        self.placed = placed
        groups: list[Group] = self.timed("partition", lambda: partition(placed))
        self.entries: list[Entry] = self.timed("lower", lambda: self.lower(groups))
        self.memory: MemoryPlan = self.timed("plan", self.plan)

    def timed(self, name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = step()
        self.stages.append(Stage(name, time.perf_counter() - start, result if self.keep else None))
        return result

    def lower(self, groups: list[Group]) -> list[Entry]:
        entries: list[Entry] = []
        epilogues, counts = find_epilogues(groups), readers(groups)
        wanted = {self.placed.root(v) for v in self.placed.graph.outputs}.union(*[g.loads for g in groups])
        wanted.update([self.placed.root(v) for g in groups if g.library is not None for v in g.library.inputs])
        absorbed: set[int] = set()
        for group in groups:
            if group.number in absorbed:
                continue
            if group.library is not None:
                if any(v.type.numel for v in group.library.siblings):
                    found, took = self.lower_library(group, epilogues.get(group.library), counts, wanted)
                    entries += found
                    if took:
                        absorbed.add(epilogues[group.library].number)
            else:
                entries += [step_entry(group, step, emit(step.nest)) for step in lower(group, tiles=True) if
                step.elements]
        return entries

    def lower_library(self, group: Group, finisher: Group | None, counts: dict[Value, int], wanted: set[Value]
                      ) -> tuple[list[Entry], bool]:
        """Entries of a library node, and whether they take the group `finisher` along."""
        node = group.library
        assert node is not None
        attached: Attached | None = None
        spare: list[Value] = []
        if finisher is not None:
            attached = Attached(finisher, node)
            outputs = {self.placed.root(o): k for k, o in enumerate(self.placed.graph.outputs)}
            if counts[node] == 1 and node not in outputs:  # nobody else reads the node's own result
                spare = [v for v in finisher.home if v.type.nbytes == node.type.nbytes and v.dtype is node.dtype
                         and outputs.get(v) not in self.in_place]
        found, took = library_entries(self.placed, group, attached, spare, wanted=wanted)
        return found or [self.host_entry(group, node)], took

    def host_entry(self, group: Group, node: Value) -> Entry:
        """NumPy runs the node; the body of a scan is a program of its own."""
        entry = host_entry(self.placed, group)
        if node.op.name == "scan":
            entry.host = loop = ScanLoop(node, [self.placed.view(v) for v in node.inputs])
            step = _steps.get(loop.body)
            if step is not None:
                loop.run_rows = step
            else:
                self.loops.append((loop, Compilation(loop.body, keep=self.keep)))
        return entry

    def plan(self) -> MemoryPlan:
        graph, params = self.placed.graph, self.placed.graph.params
        fixed = {id(p): (i, 0) for i, p in enumerate(params)}
        outputs = {k: self.placed.root(o) for k, o in enumerate(graph.outputs)}
        self.entries = delay_updates(self.entries, outputs, params, self.in_place)
        self.entries = update_in_place(self.entries, self.placed, outputs, self.in_place,
                                       lambda group: library_entries(self.placed, group, in_place=True)[0])
        redirected = redirect_unsafe(self.entries, outputs, params, self.in_place, emit)
        aliases: dict[int, int] = {}
        for k, root in outputs.items():
            fixed[id(root)] = (len(params) + k, 0)
            if k in self.in_place:
                aliases[id(root)] = id(params[self.in_place[k]])
        temporaries = {id(outputs[k]): temporary for k, temporary in redirected.items()}
        for e in self.entries[:len(self.entries) - len(redirected)]:  # all but the last copies use the temporaries
            for v in (*e.reads, *e.writes) if temporaries else ():
                if id(v) in temporaries:
                    substitute(e, v, temporaries[id(v)])
        store_past(self.entries, aliases, emit)
        self.entries = order_entries(self.entries, aliases, frozenset(id(v) for v in outputs.values()))
        return plan_memory(self.entries, fixed)

    @property
    def sources(self) -> list[tuple[str, tuple[str, ...]]]:
        found = [(e.kernel.source, e.kernel.params) if e.kernel is not None else (e.call.source, e.call.params)
                 for e in self.entries if e.host is None]
        return list(dict.fromkeys([*found, *[source for _, body in self.loops for source in body.sources]]))

    def link(self) -> Executable:
        for loop, body in self.loops:
            if len(_steps) >= STEPS_LIMIT:
                _steps.clear()
            loop.run_rows = _steps[loop.body] = body.link().run_rows
        loaded = self.timed("compile", lambda: dict(zip(self.sources, kernels.load_many(self.sources))))
        codes: dict[int, Any] = {}
        program = self.timed("program", lambda: self.program(loaded, codes))
        return Executable(self.graph, program, self.entries, self.memory, self.stages, codes)

    def program(self, loaded: dict[tuple, kernels.Kernel], codes: dict[int, Any]) -> Program | None:
        launches: list[Any] = []
        memory = self.memory
        for e in self.entries:
            if e.host is not None:
                places = [memory.place(v) for v in (*e.reads, *e.writes)]
                launches.append(HostCall(e.host, [("buf", n, offset) for n, offset in places]))
            elif e.call is not None:
                kernel = loaded[e.call.source, e.call.params]
                launches.append(Launch(kernel.address, call_arguments(e, memory, symbol, codes), e.call.total,
                                       e.call.grain, e.barrier))
            else:
                assert e.kernel is not None and e.step is not None
                kernel = loaded[e.kernel.source, e.kernel.params]
                launches.append(Launch(kernel.address, arguments(e, memory, codes), e.step.total, e.step.grain,
                                       e.barrier))
        if not launches:
            return None
        buffers = len(self.graph.params) + len(self.graph.outputs)
        return Program(launches, buffers, memory.arena_size, memory.scratch_size)


def side_by_side(parts: Sequence[tuple[Executable, Sequence[int]]], n_buffers: int) -> Program:
    """One program of several that do not depend on each other: their first regions are one, and so on. With each comes
    the number of the buffer that stands for each of its own."""
    regions: list[list[Launch]] = []
    arena = scratch = 0
    for executable, numbers in parts:
        program = executable.program
        if program is None:
            continue
        base = arena

        def moved(a: Any, numbers: Sequence[int] = numbers, base: int = base) -> Any:
            if not isinstance(a, tuple) or a[1] == SCRATCH:
                return a
            return ("buf", ARENA, base + a[2]) if a[1] == ARENA else ("buf", numbers[a[1]], a[2])

        for i, region in enumerate(split_regions(program.launches)):
            if i == len(regions):
                regions.append([])
            regions[i] += [replace(e, args=[moved(a) for a in e.args], barrier=not regions[i] and not j)
                           for j, e in enumerate(region)]
        arena += program.arena_size
        scratch = max(scratch, program.scratch_size)
    return Program([e for region in regions for e in region], n_buffers, arena, scratch)


def symbol(name: str) -> int:
    """Address of a BLAS routine."""
    return blas.load().address[name]


def compile_graph(graph: Graph, in_place: dict[int, int] | None = None) -> Executable:
    """An executable of `graph`. `in_place` maps outputs to the parameters whose memory they are given."""
    return Compilation(graph, in_place).link()


def is_known(graph: Graph) -> bool:
    """Did some process compile this graph before, so that its kernels come from the disk cache?"""
    return cache.get_blob(_program_key(graph)) is not None


def remember(graph: Graph) -> None:
    """Let later processes know that this graph comes back."""
    cache.put_blob(_program_key(graph), b"compiled")


def _program_key(graph: Graph) -> str:
    return "\0".join(("program", compile.fingerprint(), fingerprint(graph)))


class Pending:
    """A compilation whose kernels are being compiled in other processes."""

    def __init__(self, compilation: Compilation) -> None:
        self.compilation = compilation
        self.handles = [kernels.request(*source) for source in compilation.sources]

    def ready(self) -> bool:
        return all(h.ready() for h in self.handles)

    def result(self) -> Executable:
        for h in self.handles:
            h.result()
        return self.compilation.link()


def compile_async(graph: Graph, in_place: dict[int, int] | None = None) -> Pending:
    """Like `compile_graph`, but kernels compile in the background. What the passes made is not kept."""
    return Pending(Compilation(graph, in_place, keep=False))


__all__ = ["Compilation", "Executable", "KernelInfo", "Pending", "compile_async", "compile_graph", "is_known",
           "remember", "show", "side_by_side", "split_regions"]
