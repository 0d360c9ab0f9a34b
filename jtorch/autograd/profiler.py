"""`torch.autograd.profiler`: named ranges, and a profile of everything that runs inside of a block.

Operations are recorded first and run later, fused, so what a profile sees is not one event per call: it sees each
operation where the interpreter runs it, and each kernel of a compiled program under the names of the operations fused
into it, with a barrier between kernels. The end of a named range computes what is pending, so that a range holds the
work that it caused. While a profiler watches, and only then, results that nobody keeps are computed too.
"""
from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from jtorch.autograd.profiler_util import EventList, events_of
from jtorch.capture import observe
from jtorch.capture.record import current

__all__ = ["profile", "record_function"]


def compute_pending() -> None:
    recorder = current.recorder
    if recorder.tracing is None:
        recorder.flush()


class record_function:
    """A named range of a profile: context manager, or decorator."""

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name, self.args = name, args
        self.start = 0

    def __enter__(self) -> record_function:
        if observe.sinks:
            compute_pending()
        self.start = time.perf_counter_ns()
        return self

    def __exit__(self, *exc: Any) -> None:
        if observe.sinks:
            compute_pending()
            observe.record(self.name, self.start, time.perf_counter_ns(), "user")

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name, self.args):
                return function(*args, **kwargs)
        return wrapper


class profile:
    """Watch what runs inside of the block. `enabled=False` watches nothing; PyTorch's other options are accepted."""

    def __init__(self, enabled: bool = True, **options: Any) -> None:
        self.enabled = enabled
        self.function_events: EventList | None = None
        self._seen: list[observe.Observation] = []
        self._start = 0

    def start(self) -> None:
        if self.enabled:
            compute_pending()
            self.function_events = None
            self._seen = []
            self._start = time.perf_counter_ns()
            observe.sinks.append(self._seen)

    def stop(self) -> None:
        if self.enabled:
            compute_pending()
            observe.sinks[:] = [s for s in observe.sinks if s is not self._seen]
            self.function_events = events_of(self._seen, self._start)

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.stop()

    def _events(self) -> EventList:
        if self.function_events is None:
            raise RuntimeError("Profiler didn't finish running")
        return self.function_events

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0, **other: Any) -> EventList:
        return self._events().key_averages(group_by_input_shape)

    def table(self, *args: Any, **kwargs: Any) -> str:
        return self._events().table(*args, **kwargs)

    def total_average(self) -> Any:
        return self._events().total_average()

    @property
    def self_cpu_time_total(self) -> float:
        return self._events().self_cpu_time_total

    def export_chrome_trace(self, path: str) -> None:
        self._events().export_chrome_trace(path)

    def __str__(self) -> str:
        return "<unfinished torch.autograd.profile>" if self.function_events is None else str(self.function_events)

    __repr__ = __str__
