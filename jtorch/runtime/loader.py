"""Puts object code into this process: by our own loader where that can, so that no LLVM is needed to run what the
disk cache holds; elsewhere by LLVM's."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from jtorch.runtime import elf


class Loader(Protocol):
    """Keeps what it loads for the life of the process."""

    def add(self, code: bytes) -> Mapping[str, int]:
        """The addresses of the object's symbols."""


class _Addresses(dict):
    def __init__(self, engine):
        super().__init__()
        self.engine = engine

    def __missing__(self, name):
        return self.engine.get_function_address(name)


class LlvmLoader:
    """MCJIT."""

    def __init__(self, outside: Mapping[str, int]):
        import llvmlite.binding as llvm

        self.llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        for name, address in outside.items():
            llvm.add_symbol(name, address)
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True)
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)

    def add(self, code: bytes) -> Mapping[str, int]:
        self.engine.add_object_file(self.llvm.object_file.ObjectFileRef.from_data(code))
        self.engine.finalize_object()
        return _Addresses(self.engine)


def make_loader(outside: Mapping[str, int] | None = None) -> Loader:
    """A loader of objects that may call the functions `outside` (name -> address) and those of the C library."""
    return elf.Loader(outside) if elf.supported() else LlvmLoader(outside or {})
