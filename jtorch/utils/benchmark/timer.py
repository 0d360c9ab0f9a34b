"""`Timer` and what it measures."""
from __future__ import annotations

import dataclasses
import statistics
import time
import timeit
from collections.abc import Callable
from typing import Any

from jtorch.ops.settings import get_num_threads, set_num_threads, synchronize

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def timer() -> float:
    """Seconds, when everything recorded so far has been computed."""
    synchronize()
    return time.perf_counter()


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """What was measured."""

    stmt: str
    setup: str
    label: str | None = None
    sub_label: str | None = None
    description: str | None = None
    env: str | None = None
    num_threads: int = 1

    @property
    def title(self) -> str:
        if self.label is not None:
            return self.label + (f": {self.sub_label}" if self.sub_label else "")
        return self.stmt

    def summarize(self) -> str:
        return "\n".join(x for x in (self.title, self.description, self.setup and f"setup: {self.setup}") if x)


@dataclasses.dataclass
class Measurement:
    """Times of blocks of runs; all figures are seconds of one run."""

    number_per_run: int
    raw_times: list[float]
    task_spec: TaskSpec
    metadata: dict[Any, Any] | None = None

    @property
    def times(self) -> list[float]:
        return [t / self.number_per_run for t in self.raw_times]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.times)

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def iqr(self) -> float:
        """Between the quarters of the times."""
        if len(self.times) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return high - low

    @property
    def title(self) -> str:
        return self.task_spec.title

    @property
    def num_threads(self) -> int:
        return self.task_spec.num_threads

    def __repr__(self) -> str:
        scale, unit = next((u for u in _UNITS if self.median >= u[0]), _UNITS[-1])
        lines = [f"<{__name__}.{type(self).__name__}>", self.task_spec.summarize()]
        if len(self.raw_times) > 1:
            lines += [f"  Median: {self.median / scale:.2f} {unit}", f"  IQR:    {self.iqr / scale:.2f} {unit}"]
        else:
            lines.append(f"  {self.median / scale:.2f} {unit}")
        threads = f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}"
        return "\n".join([*lines, f"  {len(self.raw_times)} measurement{'s' if len(self.raw_times) > 1 else ''}, "
                                  f"{self.number_per_run} runs per measurement, {threads}"])


class Timer:
    """Times a statement as timeit does, with `num_threads` threads (1 unless told).

    The names in `globals` are the statement's. What a run leaves pending is computed before the clock stops. Only
    Python statements can be timed: NotImplementedError for language='c++'.
    """

    def __init__(self, stmt: str = "pass", setup: str = "pass", global_setup: str = "",
                 timer: Callable[[], float] = timer, globals: dict[str, Any] | None = None, label: str | None = None,
                 sub_label: str | None = None, description: str | None = None, env: str | None = None,
                 num_threads: int = 1, language: Any = "python") -> None:
        if str(language).lower() not in ("python", "py"):
            raise NotImplementedError("only Python statements can be timed")
        self._timer = timeit.Timer(stmt, setup, timer, globals=dict(globals or {}))
        self._task = TaskSpec(stmt, "" if setup == "pass" else setup, label, sub_label, description, env, num_threads)

    def _run(self, number: int) -> float:
        threads = get_num_threads()
        set_num_threads(self._task.num_threads)
        try:
            return self._timer.timeit(number)
        finally:
            set_num_threads(threads)

    def timeit(self, number: int = 1_000_000) -> Measurement:
        """One block of `number` runs, after a few to warm up."""
        self._run(max(number // 100, 2))
        return Measurement(number, [self._run(number)], self._task)

    def blocked_autorange(self, callback: Any = None, min_run_time: float = 0.2) -> Measurement:
        """Blocks long enough to measure well, until `min_run_time` seconds have been measured."""
        number = self._block_size(min_run_time)
        times: list[float] = []
        while sum(times) < min_run_time:
            times.append(self._run(number))
            if callback is not None:
                callback(number, times[-1])
        return Measurement(number, times, self._task)

    def adaptive_autorange(self, threshold: float = 0.1, *, min_run_time: float = 0.01, max_run_time: float = 10.0,
                           callback: Any = None) -> Measurement:
        """Blocks until their spread is below `threshold` of the median, or `max_run_time` seconds have gone by."""
        number = self._block_size(0.05)
        times: list[float] = []
        while sum(times) < max_run_time:
            times.append(self._run(number))
            if callback is not None:
                callback(number, times[-1])
            found = Measurement(number, times, self._task)
            if len(times) > 3 and sum(times) > min_run_time and found.iqr / found.median < threshold:
                break
        return Measurement(number, times, self._task)

    def _block_size(self, min_run_time: float) -> int:
        """Runs that take a thousandth of the time or more, so that reading the clock does not matter."""
        self._run(2)
        number = 1
        while self._run(number) < min_run_time / 1000:
            number *= 10
        return number
