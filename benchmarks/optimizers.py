"""`python -m benchmarks.optimizers`: one step of each optimizer, on a model of a million parameters in six tensors and
on one of 208,000 parameters in a hundred, in PyTorch (as it is, with `foreach` and with `fused`) and in jtorch.

The gradients are there before. Each side runs in a process of its own; a figure is the median of a calibrated number of
calls after warming up. SparseAdam's gradients are sparse in PyTorch (all of their rows are present); LBFGS runs two
iterations of a closure whose loss is a sum of squares.
"""

import argparse
import contextlib
import importlib
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .implementations import THREADS, prepare_environment
from .machine import describe
from .measure import seconds_per_call
from .report import table

SIDES = ("torch", "foreach", "fused", "jtorch", "traced")
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 1e-3}, "SGD momentum": {"lr": 1e-3, "momentum": 0.9}, "Adam": {}, "AdamW": {}, "Adadelta": {},
    "Adagrad": {}, "RMSprop": {}, "Adamax": {}, "NAdam": {}, "RAdam": {}, "Rprop": {}, "ASGD": {}, "SparseAdam": {},
    "Adafactor": {}, "Muon": {}, "LBFGS": {"max_iter": 2},
}
MODELS = {
    "1M": [(1000, 784), (1000,), (200, 1000), (200,), (10, 200), (10,)],
    "100 tensors": [(64, 64), (64,)] * 50,
}


def step_of(side: str, name: str, model: str) -> Any:
    """The step to call over and over; raises where this side has no such step."""
    torch = importlib.import_module("torch" if side in ("torch", "foreach", "fused") else "jtorch")
    chooser = np.random.default_rng(0)
    params = []
    for shape in MODELS[model]:
        if name == "Muon" and len(shape) != 2:
            continue
        p = torch.nn.Parameter(torch.tensor(0.1 * chooser.standard_normal(shape, np.float32)))
        p.grad = torch.tensor(0.01 * chooser.standard_normal(shape, np.float32))
        if name == "SparseAdam" and torch.__name__ == "torch":
            p.grad = p.grad.to_sparse(1)
        params.append(p)
    options = OPTIMIZERS[name] | ({side: True} if side in ("foreach", "fused") else {})
    optimizer = getattr(torch.optim, name.split()[0])(params, **options)
    if name != "LBFGS":
        return torch.jit.trace(lambda: optimizer.step()) if side == "traced" else optimizer.step
    if side == "traced":
        raise TypeError("LBFGS looks at values in the middle of a step")

    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum((p * p).sum() for p in params)
        loss.backward()
        return loss

    return lambda: optimizer.step(closure)


def measure_side(side: str, names: list[str]) -> dict[str, float | None]:
    """Seconds of each step, None where this side has none."""
    prepare_environment()
    warnings.simplefilter("ignore")
    if side in ("torch", "foreach", "fused"):
        import torch

        torch.set_num_threads(THREADS)
    else:
        from jtorch.config import config

        config.eager_compile = "sync"  # the warm-up compiles, whatever its length
    found: dict[str, float | None] = {}
    for model in MODELS:
        for name in names:
            found[f"{name}, {model}"] = None
            with contextlib.suppress(TypeError, RuntimeError):
                found[f"{name}, {model}"] = seconds_per_call(step_of(side, name, model))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizers", description=__doc__)
    parser.add_argument("--optimizers", default="", metavar="REGEX", help="only those whose name matches")
    parser.add_argument("--side", choices=SIDES, help="only this side, in this process; prints JSON")
    options = parser.parse_args()
    names = [name for name in OPTIMIZERS if re.search(options.optimizers, name)]
    if options.side:
        print(json.dumps(measure_side(options.side, names)))
        return
    results: dict[str, dict[str, float | None]] = {}
    for side in SIDES:
        command = [sys.executable, "-m", "benchmarks.optimizers", "--side", side, "--optimizers", options.optimizers]
        done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
        results[side] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
        if done.returncode:
            print(f"{side}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    machine = describe()
    print(f"{machine['processor']}, {machine['threads']} threads. Microseconds a step:\n")
    rows = []
    for key in [f"{name}, {model}" for model in MODELS for name in names]:
        seconds = [results[side].get(key) for side in SIDES]
        theirs, ours = ([s for s in part if s] for part in (seconds[:3], seconds[3:]))
        ratio = f"{min(theirs) / min(ours):.2f}×" if theirs and ours else ""
        rows.append([key, *("" if s is None else f"{s * 1e6:,.0f}" for s in seconds), ratio])
    heads = ["PyTorch", "PyTorch foreach", "PyTorch fused", "jtorch eager", "jtorch traced", "best PyTorch / jtorch"]
    print(table(["step", *heads], rows))


if __name__ == "__main__":
    main()
