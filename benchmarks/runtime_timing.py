"""Timing of parts of the runtime on a noisy machine: the least of many runs."""

import time


def least_ns(function, budget_s=0.5, repeats=1):
    """The least nanoseconds of one call of `function`, over about `budget_s` seconds of calls.

    `repeats` calls are timed together, for functions near the clock's resolution.
    """
    function()
    least, until = float("inf"), time.perf_counter() + budget_s
    while time.perf_counter() < until:
        start = time.perf_counter_ns()
        for _ in range(repeats):
            function()
        least = min(least, (time.perf_counter_ns() - start) / repeats)
    return least
