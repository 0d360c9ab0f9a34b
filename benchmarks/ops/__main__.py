"""`python -m benchmarks.ops`: PyTorch and jtorch, each in a process of its own, take turns at every operator.

The second calls compile; their kernels are kept in the disk cache, so it is worth running this twice on a machine where
something else may get in the way.
"""

import argparse
import json
import os
import re
import selectors
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.report import table

from .cases import OPERATORS

SIDES = ("torch", "jtorch")
SLOWER = 1.3
OUT = Path(__file__).parent.parent / "out"
NAMESPACES = ("", "linalg.", "fft.", "special.", "nn.functional.", "Tensor.")


class Worker:
    """A process of one implementation, started anew where it died or hung."""

    def __init__(self, side: str, timeout: float) -> None:
        self.side, self.timeout = side, timeout
        self.process: subprocess.Popen[str] | None = None

    def measure(self, name: str) -> dict[str, Any]:
        process = self.process or self.start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(name + "\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(self.timeout) else ""
        if line:
            return json.loads(line)
        process.kill()
        code, self.process = process.wait(), None
        return {"unavailable": f"no answer within {self.timeout:.0f} s" if code == -9 else f"exit code {code}"}

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.ops.worker", self.side]
        environment = os.environ | {"JTORCH_EAGER_COMPILE": "sync"}  # the warm-up compiles, whatever its length
        root = Path(__file__).parent.parent.parent
        self.process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self.process

    def close(self) -> None:
        if self.process is not None:
            self.process.communicate()


def measure(name: str, workers: list[Worker], rounds: int) -> dict[str, Any]:
    """One operator, the sides in turn; of a side's rounds, whose figures are medians, the least."""
    results: dict[str, list[float]] = {w.side: [] for w in workers}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for worker in workers:
            if worker.side not in failed:
                answer = worker.measure(name)
                if "unavailable" in answer:
                    failed[worker.side] = answer["unavailable"]
                else:
                    results[worker.side].append(answer["seconds"])
    row: dict[str, Any] = {"operator": name, "failed": failed}
    return row | {side: min(found) for side, found in results.items() if found and side not in failed}


def ratio(row: dict[str, Any]) -> float | None:
    """jtorch's time over PyTorch's: above 1, jtorch is slower."""
    return row["jtorch"] / row["torch"] if "torch" in row and "jtorch" in row else None


def markdown(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The table sorted by ratio, the slowest first, and what it says in a line."""
    known = sorted(((r, row) for row in rows if (r := ratio(row)) is not None), key=lambda pair: -pair[0])
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [f"{machine['processor']}, {machine['threads']} threads. Python {machine['python']}, {versions}."]
    if known:
        ratios = [r for r, _ in known]
        slower = sum(r > SLOWER for r in ratios)
        parts.append(
            f"{len(known)} operators: median of jtorch / PyTorch {statistics.median(ratios):.2f}, "
            f"{slower} beyond {SLOWER}, {sum(r > 1 for r in ratios)} beyond 1."
        )
        lines = [
            [row["operator"], f"{row['torch'] * 1e6:,.0f}", f"{row['jtorch'] * 1e6:,.0f}", f"{r:.2f}"]
            for r, row in known
        ]
        parts.append(table(["operator", "PyTorch µs", "jtorch µs", "jtorch / PyTorch"], lines))
    failures = [f"- {row['operator']}: {side}: {why}" for row in rows for side, why in row["failed"].items()]
    if failures:
        parts.append("\n".join(["Unavailable:", "", *failures]))
    return "\n\n".join(parts) + "\n"


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The latest result of either side for every operator in a file of lines."""
    rows: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        new = json.loads(line)
        row = rows.setdefault(new["operator"], {"operator": new["operator"], "failed": {}})
        for side in SIDES:
            if side in new or side in new["failed"]:
                row.pop(side, None)
                row["failed"].pop(side, None)
        row |= new | {"failed": row["failed"] | new["failed"]}
    return rows


def measured(row: dict[str, Any], sides: list[str]) -> bool:
    return all(side in row or side in row["failed"] for side in sides)


def missing() -> list[str]:
    """Public operators of both libraries without a case, in-place forms left out."""
    import torch

    import jtorch

    covered = {o.covers for o in OPERATORS.values()}
    found = []
    for space in NAMESPACES:
        ours, theirs = jtorch, torch
        for part in filter(None, space.split(".")):
            ours, theirs = getattr(ours, part), getattr(theirs, part)
        for name in dir(ours):
            present = callable(getattr(ours, name)) and hasattr(theirs, name) and not name.startswith("_")
            plain = not isinstance(getattr(ours, name), type) and not name.endswith("_")
            if present and plain and name not in covered and space + name not in covered:
                found.append(space + name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ops", description=__doc__)
    parser.add_argument("--ops", default="", metavar="REGEX", help="only the operators whose name matches")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--append", type=Path, metavar="FILE", help="add results to this file of JSON lines")
    parser.add_argument("--new", action="store_true", help="only operators that are not in that file yet")
    parser.add_argument("--slower", type=float, metavar="RATIO", help="only operators beyond that ratio in that file")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no operator after so long")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one measurement")
    parser.add_argument("--only", choices=SIDES, help="one side alone")
    parser.add_argument("--report", action="store_true", help="measure nothing, show what the file says")
    parser.add_argument("--missing", action="store_true", help="list the public operators without a case")
    options = parser.parse_args()
    if options.missing:
        print("\n".join(missing()))
        return

    path = options.append or OUT / "ops.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if options.append is None and not options.report:
        path.unlink(missing_ok=True)
    before, start = read(path), time.monotonic()
    names = [name for name in OPERATORS if re.search(options.ops, name)]
    sides = [side for side in SIDES if options.only in (None, side)]
    if options.new:
        names = [name for name in names if name not in before or not measured(before[name], sides)]
    if options.slower is not None:
        names = [name for name in names if name in before and (ratio(before[name]) or 0) > options.slower]
    workers = [Worker(side, options.timeout) for side in sides]
    for name in [] if options.report else names:
        if time.monotonic() - start > options.seconds:
            break
        row = measure(name, workers, options.rounds)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        times = "   ".join(f"{side} {row[side] * 1e6:10,.0f} µs" for side in SIDES if side in row)
        value = ratio(row)
        print(f"{name:50} {times}   {'' if value is None else f'{value:.2f}'} {row['failed'] or ''}", flush=True)
    for worker in workers:
        worker.close()
    rows = [row for name, row in read(path).items() if re.search(options.ops, name) and name in OPERATORS]
    text = markdown(rows, describe())
    path.with_suffix(".md").write_text(text)
    if options.report or options.append is None:
        print(f"\n{text}")
    print(f"written to {path} and {path.with_suffix('.md')}")


if __name__ == "__main__":
    main()
