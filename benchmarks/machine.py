"""What the machine itself can do, and what runs on it."""

import importlib.metadata
import platform
import sys
import threading
from typing import Any

import numpy as np

from .implementations import THREADS, prepare_environment
from .measure import Samples
from .turns import answer, serve

PACKAGES = ("jtorch", "numpy", "numba", "llvmlite", "torch", "jax", "onnxruntime")


class Copies:
    """All threads together move so many bytes: a call makes `times` copies of one half of them onto the other."""

    def __init__(self, traffic: int) -> None:
        self.times = max(10, int(4e8 / traffic))
        numel = traffic // 8 // THREADS
        self.pairs = [(np.ones(numel, np.float32), np.zeros(numel, np.float32)) for _ in range(THREADS)]
        self.gate = threading.Barrier(THREADS)
        for index in range(1, THREADS):
            threading.Thread(target=self._serve, args=(index,), daemon=True).start()

    def __call__(self) -> None:
        self._copy(0)

    def _serve(self, index: int) -> None:
        while True:
            self._copy(index)

    def _copy(self, index: int) -> None:
        source, target = self.pairs[index]
        self.gate.wait()
        for _ in range(self.times):
            np.copyto(target, source)
        self.gate.wait()


def main() -> None:
    """Seconds of one copy, in turn with what else is measured: `python -m benchmarks.machine BYTES`."""
    prepare_environment()
    copies = Copies(int(sys.argv[1]))
    samples = Samples(copies)
    serve(samples.take)
    answer({"seconds": samples.median / copies.times})


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


if __name__ == "__main__":
    main()
