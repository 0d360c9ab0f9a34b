"""Compiles, caches and loads the native loop; gives its functions as ctypes callables.

The first use in a process costs some 7 ms (object code from the disk cache) or some 80 ms (compiled), and
llvmlite's import.
llvmlite is imported here and not before.
"""

import ctypes
import functools
import hashlib
import platform
from pathlib import Path

from . import cache
from .layout import PYTHON_API

METH_FASTCALL = 0x0080
"""CPython's flag for functions that take (self, array of arguments, count)."""


class MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class Native:
    """The loaded native loop. Its functions release the GIL while they run.

    `call(header address, *slots) -> status` is a built-in function, not a ctypes one: a call costs 0.1 µs.
    """

    def __init__(self, engine):
        self._engine = engine
        word = ctypes.c_int64
        self.run = self._function("jt_run", word, word, word)
        self.worker = self._function("jt_worker", None, word, word, word)
        self.wake = self._function("jt_wake", None, word)
        self.spin = self._function("jt_spin", None, word)
        self.try_lock = self._function("jt_try_lock", ctypes.c_bool, word)
        self._method = MethodDef(b"run_program", engine.get_function_address("jt_call"), METH_FASTCALL, None)
        new_function = ctypes.pythonapi.PyCFunction_NewEx
        new_function.restype = ctypes.py_object
        self.call = new_function(ctypes.byref(self._method), None, None)

    def _function(self, name, result, *params):
        return ctypes.CFUNCTYPE(result, *params)(self._engine.get_function_address(name))


@functools.cache
def load():
    """The process's native loop, built at the first call."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    key = _cache_key(llvm)
    code = cache.get_blob(key)
    if code is None:
        code = _compile(llvm)
        cache.put_blob(key, code)
    target = llvm.Target.from_default_triple().create_target_machine(jit=True)
    for name in PYTHON_API:
        llvm.add_symbol(name, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return Native(engine)


def _cache_key(llvm):
    """Hash of all that the object code depends on."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for source in ("layout.py", "native_ir.py", "native.py"):
        digest.update((here / source).read_bytes())
    digest.update(repr((llvm.llvm_version_info, llvm.get_process_triple())).encode())
    return "runtime-" + digest.hexdigest()


def _compile(llvm):
    """Object code for the baseline CPU of this architecture (the loop gains nothing from newer ones)."""
    from . import native_ir

    module = llvm.parse_assembly(native_ir.build(platform.machine()))
    module.triple = llvm.get_process_triple()
    module.verify()
    target = llvm.Target.from_triple(module.triple).create_target_machine(opt=2, reloc="pic", codemodel="jitdefault")
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    return target.emit_object(module)
