"""Clocks and memory marks of one worker process."""

import gc
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

WARM_UP_SECONDS = 0.5
WARM_UP_CALLS = 5
SAMPLE_SECONDS = 0.001
SECONDS = 1.5
SAMPLES = 5


class Samples:
    """Times of a call in many short samples, without garbage collection in between.

    A sample is a loop just long enough for the clock, so that a stall spoils one sample and not the median. The
    warm-up is long enough for compilers that wait for a repetition before they start, and goes on while `compiling()`
    says that kernels are compiled in the background.
    """

    def __init__(self, step: Callable[[], Any], warm_up_seconds: float = WARM_UP_SECONDS,
                 compiling: Callable[[], int] = int) -> None:
        self.step, self.count = step, 1
        self.seconds: list[float] = []
        start, calls = time.perf_counter(), 0
        while calls < WARM_UP_CALLS or time.perf_counter() - start < warm_up_seconds or compiling():
            step()
            calls += 1
        gc.collect()
        gc.disable()
        try:
            while min(_loop(step, self.count) for _ in range(3)) < SAMPLE_SECONDS:
                self.count *= 2
        finally:
            gc.enable()

    def take(self, seconds: float, least: int = 1) -> None:
        """Samples for so many seconds, and so many at least."""
        gc.disable()
        try:
            deadline = time.perf_counter() + seconds
            while least > 0 or time.perf_counter() < deadline:
                self.seconds.append(_loop(self.step, self.count) / self.count)
                least -= 1
        finally:
            gc.enable()

    @property
    def median(self) -> float:
        """Seconds of a call."""
        return statistics.median(self.seconds)


def seconds_per_call(
    step: Callable[[], Any],
    seconds: float = SECONDS,
    warm_up_seconds: float = WARM_UP_SECONDS,
    compiling: Callable[[], int] = int,
) -> float:
    """Median time of a call, all samples taken at once."""
    samples = Samples(step, warm_up_seconds, compiling)
    samples.take(seconds, SAMPLES)
    return samples.median


def _loop(step: Callable[[], Any], count: int) -> float:
    repeats = range(count)
    start = time.perf_counter()
    for _ in repeats:
        step()
    return time.perf_counter() - start


class MemoryMark:
    """Resident memory at one moment, against which the later peak is read (Linux only, else None)."""

    def __init__(self) -> None:
        self.resident = _status("VmRSS")
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak begins anew here
        except OSError:
            pass

    def peak(self) -> dict[str, float | None]:
        """The peak since the mark in MiB, in total and above what was resident at the mark."""
        peak = _status("VmHWM")
        if peak is None or self.resident is None:
            return {"peak_mib": None, "peak_above_import_mib": None}
        return {"peak_mib": peak, "peak_above_import_mib": peak - self.resident}


def _status(field: str) -> float | None:
    try:
        with open("/proc/self/status") as file:
            match = re.search(rf"^{field}:\s+(\d+) kB", file.read(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) / 1024 if match else None
