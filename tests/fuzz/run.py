"""Run a random program eagerly cold, eagerly warm, traced, and in PyTorch where that is installed, and compare.

    python -m tests.fuzz.run --programs 2000 [--start SEED] [--keep DIR]
"""
from __future__ import annotations

import argparse
import contextlib
import sys
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import menu
from tests.fuzz.generate import generate

try:
    import torch as pytorch
except ImportError:
    pytorch = None

import jtorch
from jtorch.capture.record import current
from jtorch.config import config


def _hooked(t: Any) -> Any:
    """A tensor whose gradient a hook changes."""
    if t.requires_grad:
        t.register_hook(lambda g: g * 2)
    return t


def _second(torch: Any, y: Any, x: Any) -> Any:
    """Something that has a gradient in it."""
    if y.requires_grad and x.requires_grad:
        g, = torch.autograd.grad(y.square().sum(), x, create_graph=True, allow_unused=True)
        if g is not None:
            return g.square().sum().to(torch.float64)
    return y.sum().to(torch.float64)


def _early(torch: Any, t: Any) -> Any:
    """`t`, after a backward of its own."""
    if t.requires_grad:
        t.sum().backward(retain_graph=True)
    return t


def _loss(torch: Any, *tensors: Any) -> Any:
    """A weighted sum of all elements: put together first, so that programs share its kernels."""
    flat = torch.cat([t.reshape(-1).to(torch.float64) for t in tensors])
    return (flat * (torch.arange(flat.shape[0], dtype=torch.float64) * 0.01 + 0.3)).sum()


def load(source: str, shift: int = 0) -> dict[str, Any]:
    """The program's functions. Another `shift` makes other leaves."""
    def _random(torch: Any, shape: tuple[int, ...], seed: int, dtype: Any) -> Any:
        """Normal numbers, the same in single and double precision."""
        data = np.random.default_rng(seed + shift).standard_normal(shape)
        return torch.tensor(data.astype(np.float32).astype(np.float64), dtype=dtype)

    def _integers(torch: Any, shape: tuple[int, ...], seed: int, dtype: Any) -> Any:
        return torch.tensor(np.random.default_rng(seed + shift).integers(0, 5, shape), dtype=dtype)

    scope: dict[str, Any] = {"_random": _random, "_integers": _integers, "_hooked": _hooked, "_second": _second,
                             "_early": _early, "_loss": _loss, "_sampled": menu.sampled,
                             "_applied": menu.applied}
    exec(compile(source, "<fuzz>", "exec"), scope)
    return scope


def stepper(torch: Any, scope: dict[str, Any], detach: bool) -> Any:
    def step(*leaves: Any) -> Any:
        loss, results = scope["run"](torch, *leaves)
        if loss.requires_grad:
            loss.backward()
        return [t.detach() if detach else t for t in [loss, *results]]
    return step


def once(torch: Any, scope: dict[str, Any], step: Any = None) -> dict[str, np.ndarray]:
    """Run on fresh leaves: results, the leaves afterwards, and their gradients, as arrays."""
    leaves = scope["make"](torch)
    grads = [t for t in leaves if t.requires_grad]
    results = (step or stepper(torch, scope, False))(*leaves)
    found = {f"result {i}": r.detach().numpy() for i, r in enumerate(results)}
    found |= {f"leaf {i}": t.detach().numpy() for i, t in enumerate(leaves)}
    found |= {f"grad {i}": t.grad.detach().numpy() for i, t in enumerate(grads) if t.grad is not None}
    return {k: np.array(v) for k, v in found.items()}


class Judge:
    """Equal up to rounding. Where PyTorch is inaccurate, both are judged by their distance from float64."""

    def __init__(self, source: str) -> None:
        self.single = "float32" in source
        self.half = "float16" in source
        self.gamma = "gamma" in source  # PyTorch's trigamma is right to 5e-10
        self.source = source.replace("float32", "float64")
        self.exact: dict[int, dict[str, np.ndarray]] = {}

    def exact_results(self, shift: int) -> dict[str, np.ndarray]:
        if shift not in self.exact:
            self.exact[shift] = {}
            if pytorch is not None and self.single:
                with contextlib.suppress(Exception):
                    pytorch.set_default_dtype(pytorch.float64)
                    self.exact[shift] = once(pytorch, load(self.source, shift))
                pytorch.set_default_dtype(pytorch.float32)
        return self.exact[shift]

    def close(self, a: np.ndarray, b: np.ndarray, key: str, shift: int) -> bool:
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.dtype.kind != "f":
            return bool(np.array_equal(a, b))
        tight = 2e-2 if self.half else 2e-5 if self.single else 1e-8 if self.gamma else 1e-10
        scale = np.max(np.abs(b[np.isfinite(b)]), initial=1.0)
        if np.allclose(a, b, tight, tight * scale, equal_nan=True):
            return True
        exact = self.exact_results(shift).get(key)
        if exact is None or exact.shape != a.shape:
            return False
        with np.errstate(all="ignore"):
            ours, theirs = np.abs(a - exact), np.abs(b - exact)
        return bool(np.nanmax(ours, initial=0) <= 8 * np.nanmax(theirs, initial=0) + 1e-4 * scale)

    def compare(self, name: str, got: dict, want: dict, shift: int) -> Iterator[str]:
        for one, other in ((got, want), (want, got)):  # no gradient is a gradient of zeros
            one |= {k: np.zeros_like(other[k]) for k in set(other) - set(one) if k.startswith("grad")}
        if set(got) != set(want):
            yield f"{name}: has {sorted(set(got) ^ set(want))} on one side only"
            return
        self.single = self.single or any(a.dtype == np.float32 for a in want.values())
        for k in want:
            if not self.close(got[k], want[k], k, shift):
                yield (f"{name}{' (second call)' * bool(shift)}: {k}: {got[k].dtype} {got[k].tolist()} against "
                       f"{want[k].dtype} {want[k].tolist()}")


TOLERATED = ("modified by an inplace operation", "leaf Variable", "is not implemented",
             "a view was created in no_grad mode",
             "refer to a single memory location", "view was created inside a no_grad block",
             "output of a function that returns",
             "does not support automatic differentiation", "doesn't support automatic differentiation",
             "is a view and is being modified inplace", "deriving out of place")
"""PyTorch refuses these programs for reasons that do not hold here: values are immutable."""


def check(source: str) -> list[str]:
    """Differences between the ways of running a program; empty if all agree."""
    if len(current.recorder.builder.table) > 20_000:
        current.recorder.reset()
    scopes = [load(source), load(source, 1)]
    judge = Judge(source)
    wanted: list[Any] = [None, None]
    if pytorch is not None:
        try:
            wanted[0] = once(pytorch, scopes[0])
        except Exception as error:
            return [] if any(text in str(error) for text in TOLERATED) else expect_error(scopes[0], error)
        with contextlib.suppress(Exception):
            wanted[1] = once(pytorch, scopes[1])
    problems: list[str] = []
    configured = config.eager_compile, config.compile_after
    try:
        config.eager_compile, config.compile_after = "never", 2
        cold = [once(jtorch, scope) for scope in scopes]
        for shift in (0, 1):
            if wanted[shift] is not None:
                problems += judge.compare("cold against PyTorch", cold[shift], wanted[shift], shift)
        config.eager_compile, config.compile_after = "sync", 1
        for shift in (0, 1):
            problems += judge.compare("warm against cold", once(jtorch, scopes[shift]), cold[shift], shift)
        if any(f"'{name}'" in source for name in menu.NOT_TRACED):
            return problems
        traced = jtorch.jit.trace(stepper(jtorch, scopes[0], bool(zlib.crc32(source.encode()) & 1)))
        for shift in (0, 1) if "_random" not in source.split("def run")[1] else (0,):
            problems += judge.compare("traced against cold", once(jtorch, scopes[shift], traced), cold[shift], shift)
    except jtorch.jit.TraceError as error:
        if not str(error).startswith("<fuzz>:"):  # else: indexing with a mask needs its value, as the message says
            raise
    finally:
        config.eager_compile, config.compile_after = configured
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
    failures = count = 0
    for seed in range(options.start, options.start + options.programs):
        source = generate(seed, options.length)
        count += 1
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
    print(f"{count} programs, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
