"""What `python -m jtorch info` and `python -m jtorch cache` print."""
from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

from jtorch import version
from jtorch.runtime import blas, cache, compile, threads

PACKAGES = ("numpy", "numba", "llvmlite", "ml_dtypes", "scipy-openblas32", "scipy")
FEATURES = ("sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni",
            "avx512bf16", "avx512fp16", "amx-bf16", "amx-int8", "neon", "sve")
"""What matters to kernels, by LLVM's names."""


def size_text(n: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"


def table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def parallel_info() -> str:
    """The threads of this process."""
    return table([("threads", f"{threads.get_num_threads()} of {os.cpu_count()} CPUs"),
                  ("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "not set"))])


def info() -> str:
    """Versions, CPU, BLAS, threads and cache of this process, a line each."""
    llvm_name, llvm_features = compile.host()
    present = {f[1:] for f in llvm_features.split(",") if f.startswith("+")}
    try:
        library = blas.load()
        kernels = f"OpenBLAS, {library.core} kernels, {blas.library_path().name}"
    except (ImportError, OSError) as error:
        kernels = f"none: {error}"
    return table([
        ("jtorch", f"{version.__version__}, interface of PyTorch {version.pytorch}"),
        ("Python", f"{platform.python_version()}, {sys.executable}"),
        ("system", platform.platform()),
        *((name, package_version(name)) for name in PACKAGES),
        ("CPU", f"{blas.cpu_info().get('model name', platform.processor() or platform.machine())} ({llvm_name})"),
        ("CPU features", " ".join(f for f in FEATURES if f in present)),
        ("BLAS", kernels),
        ("threads", f"{threads.get_num_threads()} of {os.cpu_count()} CPUs"),
        ("CUDA", "no: tensors live on the CPU"),
        *cache_rows(),
    ])


def cache_rows() -> list[tuple[str, str]]:
    kept = cache.default()
    if kept.directory is None:
        return [("cache", "none (JTORCH_CACHE_DIR is empty, or there is no home directory)")]
    entries, size = kept.usage()
    return [("cache", str(kept.directory)),
            ("cache size", f"{size_text(size)} in {entries} entries, at most {size_text(kept.limit)}")]


def cache_text() -> str:
    return table(cache_rows())
