"""Kernel text -> object code. One pure function, `compile_kernel`; nothing here is remembered between calls
but LLVM's target machines.

Numba and LLVM are imported inside the functions, so that a process which finds its kernels in the disk cache, or has
them compiled by another process, never pays for them.
"""
from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from jtorch.errors import CompileError
from jtorch.runtime import toolchain


@lru_cache
def host() -> tuple[str, str]:
    """LLVM's name for this CPU, and its feature string."""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def entry_name(source: str, params: tuple[str, ...]) -> str:
    """The symbol under which a kernel's object code exports its entry."""
    digest = hashlib.sha256("\0".join((*params, source)).encode()).hexdigest()
    return f"jtorch_{digest[:16]}"


def filename(name: str) -> str:
    """The file that a kernel's traceback names; `kernels` registers its text with linecache."""
    return f"<jtorch {name}>"


@lru_cache
def fingerprint() -> str:
    """Names everything but a kernel's text that its object code depends on: compiler versions, our code, the CPU."""
    runtime = Path(__file__).parent
    codegen = runtime.parent / "codegen"
    ours = [runtime / f"{name}.py" for name in ("compile", "frontend", "intrinsics", "kernel_ir", "kernel_types",
                                                   "prefetch", "streaming", "variants")]
    ours += [codegen / f"{name}.py" for name in ("far_angles", "far_quotients", "irmath", "vecmath",
                                                   "vecmath_inverse", "vecmath_wide")]
    return toolchain.fingerprint(*ours)


def compile_kernel(source: str, params: tuple[str, ...], *, cpu: str | None = None,
                   features: str | None = None) -> bytes:
    """Object code of the kernel in `source`, for the CPU named (this one if None).

    >>> text = "def kernel(x, y, begin, end, worker):\\n    for i in range(begin, end):\\n        y[i] = exp(x[i])"
    >>> code = compile_kernel(text, ("p:float32", "p:float32"))
    """
    module, machine = optimise(source, params, cpu, features)
    return machine.emit_object(module)


def assembly(source: str, params: tuple[str, ...], *, cpu: str | None = None, features: str | None = None) -> str:
    """What `compile_kernel` makes, as assembly text."""
    module, machine = optimise(source, params, cpu, features)
    return machine.emit_assembly(module)


def llvm_text(source: str, params: tuple[str, ...], features: str | None = None) -> str:
    """The kernel's LLVM IR as it comes from Numba's lowering, before optimisation."""
    from jtorch.runtime import frontend  # imports Numba

    name = entry_name(source, params)
    features = host()[1] if features is None else features
    try:
        return str(frontend.to_llvm(source, params, name, features))
    except Exception as error:
        raise CompileError(f"{type(error).__name__}: {error}\nin the kernel\n{source}", source) from error


def optimise(source, params, cpu, features):
    """The optimised LLVM module, and the target machine to emit it with."""
    import llvmlite.binding as llvm

    from jtorch.runtime import variants  # imports llvmlite

    if cpu is None:
        cpu, features = host()
    text = llvm_text(source, params, features)
    machine = target_machine(cpu, features or "")
    text, used = variants.declare(text)
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    if used:
        module.link_in(llvm.parse_assembly(variants.definitions(used)))
        for function in module.functions:
            if ".slow" in function.name:
                function.linkage = "internal"
        inliner = llvm.create_new_module_pass_manager()
        inliner.add_always_inliner_pass()
        inliner.run(module, builder)
    return module, machine


@lru_cache
def target_machine(cpu: str, features: str):
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default")
