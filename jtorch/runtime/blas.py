"""OpenBLAS, loaded for calls by address from inside kernels: one thread per call, split by our own pool.

The wheel's detection of AVX-512 CPUs is not to be relied on: it takes a Zen 5 for a Haswell and leaves half of
the machine unused, and a Zen 4 for a SkylakeX, which is slower there. The library reads the core type from the
environment when it is loaded, so it is set for just that moment, unless the user has set it. NumPy's and SciPy's
own copies of OpenBLAS are not affected: the library is loaded with local symbols from a path of its own.
"""
from __future__ import annotations

import ctypes
import functools
import importlib.util
import itertools
import os
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "scipy_openblas32"
PREFIX = "scipy_"

ROUTINES = ("sgemm", "dgemm", "sgemv", "dgemv", "sger", "dger", "sdot", "ddot", "saxpy", "daxpy")
"""What is called through CBLAS; integers are int32."""

AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}
"""What OpenBLAS's SkylakeX kernels need."""


class Addresses(dict):
    """Name -> address: CBLAS's routines of `ROUTINES` ('sgemm' is `cblas_sgemm`), LAPACK's and the others as Fortran
    knows them ('sgetrf'). Raises AttributeError for what the library has not."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def __missing__(self, name: str) -> int:
        symbol = "cblas_" + name if name in ROUTINES else name + "_"
        found = self[name] = ctypes.cast(getattr(self._library, PREFIX + symbol), ctypes.c_void_p).value or 0
        return found


class Blas:
    """The loaded library. `address['sgemm']` is the address of `cblas_sgemm`; `core` names its kernels."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        self._entry("openblas_set_num_threads")(1)
        corename = self._entry("openblas_get_corename")
        corename.restype = ctypes.c_char_p
        self.core: str = corename().decode()
        self.address = Addresses(library)

    def _entry(self, name: str):
        return getattr(self._library, PREFIX + name)


@functools.cache
def load() -> Blas:
    """The process's BLAS, loaded at the first call (about 10 ms). Raises ImportError without the wheel."""
    with environment(OPENBLAS_CORETYPE=core_type(), OPENBLAS_NUM_THREADS="1"):
        return Blas(ctypes.CDLL(str(library_path())))


def library_path() -> Path:
    """The shared library in the wheel, found without importing the package (its import loads the library)."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(f"jtorch needs the package {PACKAGE.replace('_', '-')}")
    found = sorted((Path(spec.origin).parent / "lib").glob("libscipy_openblas*"))
    if not found:
        raise ImportError(f"no OpenBLAS library in {Path(spec.origin).parent / 'lib'}")
    return found[0]


def core_type() -> str | None:
    """The core type to load with: the user's choice, else the fastest on AVX-512 CPUs, else None (OpenBLAS's own).

    AMD's Zen 4 (family 25) runs a 512-bit instruction as two halves: the AVX2 kernels are 5 to 8 % faster there
    on all but the smallest products.
    """
    chosen = os.environ.get("OPENBLAS_CORETYPE")
    if chosen:
        return chosen
    cpu = cpu_info()
    if not AVX512 <= set(cpu.get("flags", "").split()):
        return None
    half_width = (cpu.get("vendor_id"), cpu.get("cpu family")) == ("AuthenticAMD", "25")
    return "Zen" if half_width else "SkylakeX"


def cpu_info() -> dict[str, str]:
    """What Linux says about the first CPU; empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as file:
            first = itertools.takewhile(str.strip, file)
            return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first)}
    except OSError:
        return {}


@contextmanager
def environment(**variables: str | None):
    """Set environment variables (None leaves one alone) and put them back."""
    settings = {name: value for name, value in variables.items() if value is not None}
    changed = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in changed.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
