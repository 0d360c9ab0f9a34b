"""Kernel text -> PTX -> cubin for a device that need not be there: numba-cuda compiles, nvJitLink assembles.

    built = compile_kernel(source, params, cc=(9, 0))
    built.ptx, built.cubin, built.registers, built.spilled

Imports nothing of CUDA until it is called, and needs no driver. numba-cuda is only ever used as a compiler (it is in
maintenance mode; its successor takes the same text).
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

SCALARS = {"b8": "bool", "u8": "uint8", "u16": "uint16", "u32": "uint32", "i8": "int8", "i16": "int16", "i32": "int32",
           "i64": "int64", "f16": "float16", "f32": "float32", "f64": "float64"}
"""Conversions of kernel text -> Numba's types."""

LIBRARIES = ("nvvm", "nvrtc", "nvJitLink")


class ToolkitMissing(RuntimeError):
    """What compiling for CUDA needs is not installed; the message names it."""


@dataclass(frozen=True, slots=True)
class Compiled:
    ptx: str
    cubin: bytes
    registers: int
    spilled: int  # bytes stored and loaded again for want of registers


@lru_cache(maxsize=1)
def toolkit() -> SimpleNamespace:
    """The imports, or ToolkitMissing."""
    try:
        import cuda.core as core
        from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib
        from numba import cuda, types
    except ImportError as e:
        raise ToolkitMissing(f"compiling for CUDA needs jtorch[cuda]: {e}") from None
    if getattr(cuda, "implementation", "") != "NVIDIA":
        raise ToolkitMissing("compiling for CUDA needs jtorch[cuda]: numba-cuda is not installed")
    for name in LIBRARIES:
        try:
            load_nvidia_dynamic_lib(name)
        except DynamicLibNotFoundError:
            raise ToolkitMissing(f"compiling for CUDA needs jtorch[cuda]: lib{name.lower()} was not found") from None
    from numba.cuda import libdevice
    return SimpleNamespace(core=core, cuda=cuda, types=types, libdevice=libdevice)


def signature(params: tuple[str, ...]) -> Any:
    types = toolkit().types
    return types.void(*[types.CPointer(getattr(types, p[2:])) if p[:2] == "p:" else getattr(types, p) for p in params])


def to_ptx(source: str, params: tuple[str, ...], cc: tuple[int, int] = (9, 0)) -> str:
    t = toolkit()
    names = {short: getattr(t.types, name) for short, name in SCALARS.items()}
    names |= {"cuda": t.cuda, "libdevice": t.libdevice, "b8": bool}
    exec(compile(source, "<kernel>", "exec"), names)
    return t.cuda.compile(names["kernel"].py_func, signature(params), cc=cc, device=False, abi="numba", output="ptx")[0]


def to_cubin(ptx: str, cc: tuple[int, int] = (9, 0)) -> tuple[bytes, str]:
    """Machine code, and the assembler's report."""
    core = toolkit().core
    options = core.LinkerOptions(arch=f"sm_{cc[0]}{cc[1]}", ptxas_options=["-v"])
    linker = core.Linker(core.ObjectCode.from_ptx(ptx.encode()), options=options)
    cubin = bytes(linker.link("cubin").code)  # a copy: printing or hashing an ObjectCode without a driver can hang
    return cubin, linker.get_info_log()


def compile_kernel(source: str, params: tuple[str, ...], cc: tuple[int, int] = (9, 0)) -> Compiled:
    ptx = to_ptx(source, params, cc)
    cubin, report = to_cubin(ptx, cc)

    def figure(pattern: str) -> int:
        return sum(int(n) for n in re.findall(pattern, report))

    return Compiled(ptx, cubin, figure(r"Used (\d+) registers"), figure(r"(\d+) bytes spill (?:stores|loads)"))
