"""Run a random program eagerly cold, eagerly warm, traced, and in PyTorch where that is installed, and compare.

    python -m tests.fuzz.run --programs 2000 [--start SEED] [--keep DIR]
"""
from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.generate import generate

try:
    import torch as pytorch
except ImportError:
    pytorch = None

import jtorch
from jtorch.config import config


def _random(torch: Any, shape: tuple[int, ...], seed: int, dtype: Any) -> Any:
    data = np.random.default_rng(seed).standard_normal(shape)
    return torch.tensor(data.tolist(), dtype=torch.float64).reshape(shape).to(dtype)


def _integers(torch: Any, shape: tuple[int, ...], seed: int, dtype: Any) -> Any:
    data = np.random.default_rng(seed).integers(0, 5, shape)
    return torch.tensor(data.tolist(), dtype=torch.int64).reshape(shape).to(dtype)


def load(source: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"_random": _random, "_integers": _integers}
    exec(compile(source, "<fuzz>", "exec"), scope)
    return scope


def once(torch: Any, scope: dict[str, Any], wrap: Any = None) -> dict[str, np.ndarray]:
    """Run on fresh leaves: results, the leaves afterwards, and their gradients, as arrays."""
    leaves = scope["make"](torch)
    grads = [t for t in leaves if t.requires_grad]

    def step(*leaves: Any) -> Any:
        loss, results = scope["run"](torch, *leaves)
        if loss.requires_grad:
            loss.backward()
        return [loss, *results]

    results = (wrap(step) if wrap else step)(*leaves)
    found = {f"result {i}": r.detach().numpy() for i, r in enumerate(results)}
    found |= {f"leaf {i}": t.detach().numpy() for i, t in enumerate(leaves)}
    found |= {f"grad {i}": t.grad.numpy() for i, t in enumerate(grads) if t.grad is not None}
    return {k: np.array(v) for k, v in found.items()}


def close(a: np.ndarray, b: np.ndarray, exact: np.ndarray | None = None) -> bool:
    """Equal up to rounding. Given the float64 result, both are judged by their distance from it."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    tight = 1e-10 if a.dtype == np.float64 else 2e-5
    scale = np.max(np.abs(b[np.isfinite(b)]), initial=1.0)
    if np.allclose(a, b, tight, tight * scale, equal_nan=True):
        return True
    if exact is None or exact.shape != a.shape:
        return False
    with np.errstate(all="ignore"):
        ours, theirs = np.abs(a - exact), np.abs(b - exact)
    return bool(np.nanmax(ours, initial=0) <= 8 * np.nanmax(theirs, initial=0) + 1e-4 * scale)


def compare(name: str, got: dict, want: dict, exact: dict | None) -> list[str]:
    if set(got) != set(want):
        return [f"{name}: has {sorted(set(got) ^ set(want))} on one side only"]
    return [f"{name}: {k}: {got[k].tolist()} against {want[k].tolist()}" for k in want
            if not close(got[k], want[k], exact.get(k) if exact else None)]


def check(source: str) -> list[str]:
    """Differences between the ways of running a program; empty if all agree."""
    scope = load(source)
    want = exact = None
    if pytorch is not None:
        try:
            want = once(pytorch, scope)
        except RuntimeError as error:
            if "modified by an inplace operation" in str(error) or "leaf Variable" in str(error):
                return []  # PyTorch refuses what a pure graph can do
            return expect_error(scope, error)
        except Exception as error:
            return expect_error(scope, error)
        if "float32" in source:
            try:
                exact = once(pytorch, load(source.replace("float32", "float64")))
            except Exception:
                exact = None
    config.eager_compile, config.compile_after = "never", 2
    cold = once(jtorch, scope)
    config.eager_compile, config.compile_after = "sync", 1
    warm = once(jtorch, scope)
    problems = []
    if want is not None:
        problems += compare("cold against PyTorch", cold, want, exact)
    problems += compare("warm against cold", warm, cold, exact)
    problems += compare("traced against cold", once(jtorch, scope, jtorch.jit.trace), cold, exact)
    return problems


def expect_error(scope: dict[str, Any], error: Exception) -> list[str]:
    config.eager_compile = "never"
    try:
        once(jtorch, scope)
    except Exception as ours:
        if isinstance(ours, type(error)) or isinstance(error, type(ours)):
            return []
        return [f"PyTorch raises {type(error).__name__}: {error}; jtorch raises {type(ours).__name__}: {ours}"]
    return [f"PyTorch raises {type(error).__name__}: {error}; jtorch accepts it"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--length", type=int, default=12)
    parser.add_argument("--keep", type=Path, help="write failing programs into this folder")
    parser.add_argument("--stop", type=int, default=20, help="stop after so many failures")
    options = parser.parse_args()
    failures = 0
    for seed in range(options.start, options.start + options.programs):
        source = generate(seed, options.length)
        try:
            problems = check(source)
        except Exception:
            problems = [traceback.format_exc(limit=-6)]
        if problems:
            failures += 1
            print(f"--- seed {seed}\n{source}\n" + "\n".join(p[:1500] for p in problems[:3]), flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"seed_{seed}.py").write_text(source)
            if failures >= options.stop:
                break
    print(f"{options.programs} programs, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
