"""`python -m benchmarks.optimizers`: one step of each optimizer, on a model of a million parameters in six tensors and
on one of 208,000 parameters in a hundred, in PyTorch (as it is, with `foreach` and with `fused`) and in jtorch.

The gradients are there before. Each side runs in a process of its own, all of them measured in turn, a moment each; a
figure is the median of a calibrated number of calls after warming up. SparseAdam's gradients are sparse in PyTorch (all
of their rows are present); LBFGS runs two iterations of a closure whose loss is a sum of squares.
"""

import argparse
import contextlib
import importlib
import os
import re
import sys
import warnings
from typing import Any

import numpy as np

from .implementations import THREADS, prepare_environment
from .machine import describe
from .measure import Samples
from .report import table
from .turns import END, Peer, answer, take_turns

TIMEOUT = 300.0
"""Seconds for the preparation of a step."""

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


def serve(side: str) -> None:
    """Measure what the lines of the input ask for: the name and the model of a step begin a new one."""
    prepare_environment()
    warnings.simplefilter("ignore")
    if side in ("torch", "foreach", "fused"):
        import torch

        torch.set_num_threads(THREADS)
    else:
        from jtorch.config import config

        config.eager_compile = "sync"  # the warm-up compiles, whatever its length
    samples: Samples | None = None
    for line in sys.stdin:
        if line[0].isdigit() and samples is not None:
            samples.take(float(line))
            answer({})
        elif line.strip() == END:
            answer({} if samples is None else {"seconds": samples.median})
        else:
            samples = None
            with contextlib.suppress(TypeError, RuntimeError):
                samples = Samples(step_of(side, *line.strip().split(", ")))
            answer({} if samples is not None else {"unavailable": "no such step"})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizers", description=__doc__)
    parser.add_argument("--optimizers", default="", metavar="REGEX", help="only those whose name matches")
    parser.add_argument("--side", choices=SIDES, help="serve this side")
    options = parser.parse_args()
    if options.side:
        serve(options.side)
        return
    names = [name for name in OPTIMIZERS if re.search(options.optimizers, name)]
    steps = [f"{name}, {model}" for model in MODELS for name in names]
    command = [sys.executable, "-m", "benchmarks.optimizers", "--side"]
    peers = {side: Peer([*command, side], os.environ, TIMEOUT) for side in SIDES}
    results: dict[str, dict[str, float | None]] = {side: {} for side in SIDES}
    for step in steps:
        ready = {side: peer for side, peer in peers.items() if not peer.ask(step)}
        take_turns(list(ready.values()))
        for side, peer in ready.items():
            results[side][step] = peer.ask(END).get("seconds")
    for peer in peers.values():
        peer.end()
    machine = describe()
    print(f"{machine['processor']}, {machine['threads']} threads. Microseconds a step:\n")
    rows = []
    for key in steps:
        seconds = [results[side].get(key) for side in SIDES]
        theirs, ours = ([s for s in part if s] for part in (seconds[:3], seconds[3:]))
        ratio = f"{min(theirs) / min(ours):.2f}×" if theirs and ours else ""
        rows.append([key, *("" if s is None else f"{s * 1e6:,.0f}" for s in seconds), ratio])
    heads = ["PyTorch", "PyTorch foreach", "PyTorch fused", "jtorch eager", "jtorch traced", "best PyTorch / jtorch"]
    print(table(["step", *heads], rows))


if __name__ == "__main__":
    main()
