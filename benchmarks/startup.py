"""How long it takes until jtorch is there: `python benchmarks/startup.py [--runs N]`.

Every figure is taken in fresh processes with compiled bytecode: least and median of N runs, in seconds from before the
first import. On a busy machine, look at the column of processor time: that of the main thread, which does the work.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"numba", "llvmlite", "scipy", "torch"}

CLOCK = """
import time
def clock():
    return time.perf_counter(), time.thread_time()
def since(before):
    return [now - then for now, then in zip(clock(), before)]
seconds, start = {}, clock()
"""
IMPORT = CLOCK + """
import {module}
seconds["import {module}"] = since(start)
"""
# A chain of 12 operations as one traced function; `further` are others like it, one new kernel each.
CHAINS = CLOCK + """
import jtorch as torch

def chain(x, y):
    a = torch.tanh(x * y + 1)
    b = torch.exp(-a * a) - y
    return torch.sigmoid(b / 3).sqrt() * x.abs() + a

def further(k):
    functions = (torch.sin, torch.cos, torch.log1p, torch.erf, torch.expm1, torch.atan, torch.sinh, torch.rsqrt)
    def chain(x, y):
        a = functions[k](x * x + y.abs() + k)
        b = torch.exp(-a * a) - y
        return torch.sigmoid(b / 3).sqrt() * x.abs() + a
    return chain

def call(function):
    before = clock()
    torch.jit.trace(function)(x, y).numpy()
    return since(before)

x, y = torch.rand(64, 64), torch.rand(64, 64)
seconds["{title}"] = call(chain)
seconds["{title}, import included"] = since(start)
"""
FURTHER = """
times = [call(further(k)) for k in range(8)]
seconds["every further kernel"] = [sum(t) / len(times) for t in zip(*times)]
"""
REPORT = """
import json, sys
print(json.dumps([seconds, list(sys.modules)]))
"""
Figures = dict[str, list[list[float]]]  # wall and processor seconds of every run, by name


class Laboratory:
    """Processes with a directory for bytecode and kernels that is thrown away afterwards."""

    def __init__(self, directory: str, runs: int) -> None:
        self.directory, self.runs = Path(directory), runs

    def run(self, code: str, kernels: str) -> tuple[dict[str, list[float]], set[str]]:
        """What a fresh process with the kernel cache of that name measures, and the heavy packages it loaded."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(self.directory / "bytecode"),
                       "JTORCH_CACHE_DIR": str(self.directory / kernels)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run([sys.executable, "-c", code + REPORT], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        seconds, modules = json.loads(done.stdout.splitlines()[-1])
        return seconds, HEAVY.intersection(modules)

    def series(self, code: str, cold: bool = False) -> tuple[Figures, set[str]]:
        """Figures of the runs, after one that fills the caches (`cold`: that of bytecode only)."""
        found: Figures = {}
        _, heavy = self.run(code, "warm")
        for i in range(self.runs):
            seconds, heavy = self.run(code, f"cold{i}" if cold else "warm")
            for name, value in seconds.items():
                found.setdefault(name, []).append(value)
        return found, heavy


def chains(title: str) -> str:
    return CHAINS.replace("{title}", title)


def measure(runs: int) -> Figures:
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        laboratory = Laboratory(directory, runs)
        for module in ("numpy", "jtorch"):
            found, heavy = laboratory.series(IMPORT.replace("{module}", module))
            assert not heavy, f"import {module} loads {heavy}"
            figures |= found
        found, heavy = laboratory.series(chains("first traced result, kernels in the disk cache"))
        assert heavy <= {"llvmlite"}, f"a process that finds its kernels loads {heavy}"
        figures |= found
        figures |= laboratory.series(chains("first traced result, nothing cached") + FURTHER, cold=True)[0]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Import and start-up times, each in fresh processes.")
    parser.add_argument("--runs", type=int, default=10)
    figures = measure(parser.parse_args().runs)
    width = max(map(len, figures))
    print(f"{'seconds':{width}}   least  median  processor, least")
    for name, runs in figures.items():
        wall, processor = zip(*runs)
        print(f"{name:{width}}  {min(wall):6.3f}  {statistics.median(wall):6.3f}  {min(processor):16.3f}")


if __name__ == "__main__":
    main()
