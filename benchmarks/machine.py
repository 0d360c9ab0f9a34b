"""What the machine itself can do, and what runs on it."""

import importlib.metadata
import platform
import threading
import time
from typing import Any

import numpy as np

from .implementations import THREADS

PACKAGES = ("jtorch", "numpy", "numba", "llvmlite", "torch", "jax", "onnxruntime")


def copy_seconds(traffic: int) -> float:
    """The least time in which all threads together move so many bytes: copies of half of it onto the other half."""
    numel = traffic // 8 // THREADS
    pairs = [(np.ones(numel, np.float32), np.zeros(numel, np.float32)) for _ in range(THREADS)]
    repeats = max(3, int(2e9 / traffic))
    starts, ends = [0.0] * THREADS, [0.0] * THREADS
    gate = threading.Barrier(THREADS)

    def work(index: int) -> None:
        source, target = pairs[index]
        np.copyto(target, source)
        gate.wait()
        starts[index] = time.perf_counter()
        for _ in range(repeats):
            np.copyto(target, source)
        ends[index] = time.perf_counter()

    best = float("inf")
    for _ in range(5):
        threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = min(best, (max(ends) - min(starts)) / repeats)
    return best


def describe() -> dict[str, Any]:
    """Processor, Python and package versions."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"processor": _processor(), "threads": THREADS, "python": platform.python_version(), "versions": versions}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            fields = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return platform.processor()
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = fields.get("flags", "").split()
    model, family = fields.get("model name", platform.machine()), f"family {fields.get('cpu family')}"
    vectors = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    return f"{model} ({family}, model {fields.get('model')}), {vectors}"
