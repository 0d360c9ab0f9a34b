"""Where programs run, and who watches: the profiler puts its sink here. Nobody watching costs one comparison a run."""
from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple


class Observation(NamedTuple):
    """One operation, kernel or named range: when it began and ended (time.perf_counter_ns), in which thread."""

    name: str
    start: int
    end: int
    thread: int
    kind: str  # "kernel", "interpreted" or "user"
    location: tuple[str, int] | None  # the user's line
    shapes: tuple[tuple[int, ...], ...]


sinks: list[list[Observation]] = []
"""Lists that want every observation."""


def record(name: str, start: int, end: int, kind: str, location: Any = None,
           shapes: tuple[tuple[int, ...], ...] = ()) -> None:
    seen = Observation(name, start, end, threading.get_ident(), kind, location, shapes)
    for sink in sinks:
        sink.append(seen)


def run(executable: Any, ptrs: Sequence[int]) -> None:
    """Run a compiled program; watched, kernel by kernel, with a barrier between them."""
    if not sinks:
        executable.run(ptrs)
        return
    start = time.perf_counter_ns()
    times = executable.profile(ptrs)
    kernels = executable.kernels
    if len(times) != len(kernels):  # control flow: parts run any number of times
        record(executable.graph.name, start, time.perf_counter_ns(), "kernel")
        return
    for kernel, spent in zip(kernels, times):
        record("+".join(dict.fromkeys(kernel.ops)), start, start + spent, "kernel",
               kernel.lines[0] if kernel.lines else None)
        start += spent


def watch_node(node: Any, start: int, end: int) -> None:
    """The interpreter ran one operation."""
    record(node.op.name, start, end, "interpreted", node.loc, tuple([i.type.shape for i in node.inputs]))
