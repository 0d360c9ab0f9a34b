"""What object code depends on besides its text: the compilers' versions and the CPU. Known without importing LLVM, so
that a process finds its kernels in the disk cache without it."""
from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

COMPILERS = ("numba", "llvmlite")
CPU_FIELDS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags",
              "CPU implementer", "CPU part", "CPU variant", "Features")


@lru_cache
def fingerprint(*sources: Path) -> str:
    """Names the compilers, the CPU, and the files of ours that take part."""
    digest = hashlib.sha256()
    for path in (*_versions(), *sources):
        digest.update(path.read_bytes())
    digest.update(cpu().encode())
    return digest.hexdigest()


def _versions() -> list[Path]:
    found = []
    for name in COMPILERS:
        spec = find_spec(name)  # does not import it
        if spec is None or spec.origin is None:
            raise ImportError(f"jtorch compiles with {name}, which is not installed")
        found.append(Path(spec.origin).parent / "_version.py")
    return found


@lru_cache
def cpu() -> str:
    """What tells one kind of CPU from another."""
    try:
        with open("/proc/cpuinfo") as file:
            block = []
            for line in file:
                if not line.strip():
                    break
                block.append(line)
    except OSError:
        return _from_llvm()
    fields = dict(line.split(":", 1) for line in block if ":" in line)
    found = [f"{name.strip()}:{value.strip()}" for name, value in fields.items() if name.strip() in CPU_FIELDS]
    return "\n".join([platform.machine(), *found]) if found else _from_llvm()


def _from_llvm() -> str:
    import llvmlite.binding as llvm

    return f"{platform.machine()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
