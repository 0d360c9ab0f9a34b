"""`Compare`: measurements as a table."""
from __future__ import annotations

from collections.abc import Iterable

from jtorch.utils.benchmark.timer import Measurement


class Compare:
    """Rows are sub-labels (or statements) and numbers of threads, columns descriptions; times are medians in us."""

    def __init__(self, results: Iterable[Measurement]) -> None:
        self._results = list(results)

    def extend_results(self, results: Iterable[Measurement]) -> None:
        self._results.extend(results)

    def trim_significant_figures(self) -> None:
        """Accepted; four digits are printed."""

    def colorize(self, rowwise: bool = False) -> None:
        """Accepted; the table has no colours."""

    def highlight_warnings(self) -> None:
        """Accepted."""

    def print(self) -> None:
        print(str(self))

    def __str__(self) -> str:
        text = []
        for label in dict.fromkeys(m.task_spec.label or "" for m in self._results):
            group = [m for m in self._results if (m.task_spec.label or "") == label]
            columns = list(dict.fromkeys(m.task_spec.description or "" for m in group))
            cells: dict[tuple[str, int], dict[str, str]] = {}
            for m in group:
                row = (m.task_spec.sub_label or m.task_spec.stmt, m.num_threads)
                cells.setdefault(row, {})[m.task_spec.description or ""] = f"{m.median * 1e6:.4g}"
            rows = [("", *columns)] + [(f"{name} ({threads} thread{'s' * (threads > 1)})", *[
                found.get(c, "") for c in columns]) for (name, threads), found in cells.items()]
            widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
            text += [f"[ {label} ]", *["  ".join(c.rjust(w) for c, w in zip(r, widths)) for r in rows],
                     "Times are in microseconds (us).", ""]
        return "\n".join(text)
