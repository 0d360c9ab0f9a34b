"""What a profile holds: events, their sums by name, and how they print."""
from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from jtorch.capture.observe import Observation

NANOSECONDS = 1000  # per microsecond, the unit of all times here


class FunctionEvent:
    """One run of an operation, a fused kernel or a named range. Times are microseconds."""

    def __init__(self, seen: Observation, start: int) -> None:
        self.name = self.key = seen.name
        self.thread = seen.thread
        self.kind = seen.kind
        self.location = seen.location
        self.input_shapes = [list(s) for s in seen.shapes]
        self.start = (seen.start - start) / NANOSECONDS
        self.end = (seen.end - start) / NANOSECONDS
        self.cpu_parent: FunctionEvent | None = None
        self.cpu_children: list[FunctionEvent] = []
        self.is_user_annotation = seen.kind == "user"

    @property
    def cpu_time_total(self) -> float:
        return self.end - self.start

    cpu_time = cpu_time_total

    @property
    def self_cpu_time_total(self) -> float:
        """Without the events inside of it."""
        return max(self.cpu_time_total - sum(c.cpu_time_total for c in self.cpu_children), 0.0)

    @property
    def count(self) -> int:
        return 1

    def __repr__(self) -> str:
        return f"<FunctionEvent name={self.name} cpu_time={time_text(self.cpu_time)} thread={self.thread}>"


class FunctionEventAvg:
    """All events of one name (and, where asked for, of the same shapes)."""

    def __init__(self, key: str, input_shapes: list[list[int]] | None) -> None:
        self.key, self.input_shapes = key, input_shapes
        self.count = 0
        self.cpu_time_total = self.self_cpu_time_total = 0.0
        self.is_user_annotation = False

    @property
    def cpu_time(self) -> float:
        return self.cpu_time_total / self.count if self.count else 0.0

    def add(self, event: FunctionEvent) -> FunctionEventAvg:
        self.count += 1
        self.cpu_time_total += event.cpu_time_total
        self.self_cpu_time_total += event.self_cpu_time_total
        self.is_user_annotation = event.is_user_annotation
        return self

    def __repr__(self) -> str:
        return f"<FunctionEventAvg key={self.key} self_cpu_time={time_text(self.self_cpu_time_total)} " \
               f"cpu_time={time_text(self.cpu_time)} count={self.count}>"


class EventList(list):
    """Events in the order of their starts, or sums of them; `table()` prints it."""

    def __str__(self) -> str:
        return self.table()

    @property
    def self_cpu_time_total(self) -> float:
        return sum(e.self_cpu_time_total for e in self)

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0, **other: Any) -> EventList:
        """Sums by name; with `group_by_input_shape` by name and shapes."""
        sums: dict[Any, FunctionEventAvg] = {}
        for event in self:
            shapes = event.input_shapes if group_by_input_shape else None
            key = (event.key, str(shapes))
            sums.setdefault(key, FunctionEventAvg(event.key, shapes)).add(event)
        return EventList(sums.values())

    def total_average(self) -> FunctionEventAvg:
        total = FunctionEventAvg("Total", None)
        for event in self:
            total.count += event.count
            total.cpu_time_total += event.self_cpu_time_total
            total.self_cpu_time_total += event.self_cpu_time_total
        return total

    def table(self, sort_by: str | None = None, row_limit: int = 100, max_src_column_width: int = 75,
              max_name_column_width: int = 55, max_shapes_column_width: int = 80, header: str | None = None,
              top_level_events_only: bool = False) -> str:
        """A text table, the largest `sort_by` (one of cpu_time, cpu_time_total, self_cpu_time_total, count) first.
        Times of devices that are not there count as 0, so sorting by them keeps the order."""
        rows = [e for e in self if not top_level_events_only or getattr(e, "cpu_parent", None) is None]
        if sort_by is not None:
            if not hasattr(FunctionEventAvg("", None), sort_by) and "cuda" not in sort_by and "device" not in sort_by \
                    and "memory" not in sort_by:
                raise AttributeError(f"'FunctionEventAvg' object has no attribute '{sort_by}'")
            rows.sort(key=lambda e: getattr(e, sort_by, 0), reverse=True)
        total = self.self_cpu_time_total or 1.0
        lines = [("Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg", "# of Calls")]
        for e in rows[:row_limit if row_limit >= 0 else None]:
            name = e.key if len(e.key) <= max_name_column_width else e.key[:max_name_column_width - 3] + "..."
            lines.append((name, f"{100 * e.self_cpu_time_total / total:.2f}%", time_text(e.self_cpu_time_total),
                          f"{100 * e.cpu_time_total / total:.2f}%", time_text(e.cpu_time_total),
                          time_text(e.cpu_time), str(e.count)))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        rule = "  ".join("-" * w for w in widths)
        text = ["  ".join(cell.rjust(w) for cell, w in zip(line, widths)) for line in lines]
        top = [] if header is None else [rule, header]
        return "\n".join([*top, rule, text[0], rule, *text[1:], rule,
                          f"Self CPU time total: {time_text(self.self_cpu_time_total)}", ""])

    def export_chrome_trace(self, path: str) -> None:
        """Write the events as a file for chrome://tracing or Perfetto; compressed if its name ends in .gz."""
        import gzip
        import json
        traced = [{"ph": "X", "cat": "user_annotation" if e.is_user_annotation else "cpu_op", "name": e.name,
                   "pid": os.getpid(), "tid": e.thread, "ts": e.start, "dur": e.cpu_time_total,
                   "args": {"Input Dims": e.input_shapes, **({"line": ":".join(map(str, e.location))}
                                                              if e.location else {})}} for e in self]
        with gzip.open(path, "wt") if path.endswith(".gz") else open(path, "w") as file:
            json.dump({"traceEvents": traced}, file)


def time_text(microseconds: float) -> str:
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:.3f}s"
    return f"{microseconds / 1e3:.3f}ms" if microseconds >= 1e3 else f"{microseconds:.3f}us"


def events_of(seen: Iterable[Observation], start: int) -> EventList:
    """Events in the order of their starts, each with the one that it ran inside of."""
    events = EventList(FunctionEvent(o, start) for o in sorted(seen, key=lambda o: (o.start, -o.end)))
    running: dict[int, list[FunctionEvent]] = {}
    for event in events:
        stack = running.setdefault(event.thread, [])
        while stack and stack[-1].end <= event.start:
            stack.pop()
        if stack:
            event.cpu_parent = stack[-1]
            stack[-1].cpu_children.append(event)
        stack.append(event)
    return events

