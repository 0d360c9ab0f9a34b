"""Compiles, caches and loads the native loop; gives its functions as ctypes callables.

Its object code comes from the disk cache, or from a compile process.
"""

import ctypes
import functools
import platform
from pathlib import Path

from . import cache, compile_pool, toolchain
from .layout import OBJECTS_API, PLAIN_COUNTS, PYTHON_API
from .loader import make_loader

METH_FASTCALL = 0x0080
"""CPython's flag for functions that take (self, array of arguments, count)."""


METHODS = ("jt_call", "jt_unchanged", "jt_look_up", "jt_record", "jt_write", "jt_assign", "jt_flush")
"""Functions that become built-in ones."""


class MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class Native:
    """The loaded native loop. Its functions release the GIL while they run."""

    def __init__(self, addresses):
        self._addresses = addresses
        word = ctypes.c_int64
        self.run = self._function("jt_run", word, word, word)
        self.run_rows = self._function("jt_run_rows", word, word, word, word)
        self.worker = self._function("jt_worker", None, word, word, word)
        self.wake = self._function("jt_wake", None, word)
        self.spin = self._function("jt_spin", None, word)
        self.places = self._function("jt_places", None, *[word] * 7)
        self.select = self._function("jt_select", None, *[word] * 6)
        self.try_lock = self._function("jt_try_lock", ctypes.c_bool, word)
        self._methods = {name: MethodDef(name.encode(), addresses[name], METH_FASTCALL, None) for name in METHODS}
        self._new_function = ctypes.pythonapi.PyCFunction_NewEx
        self._new_function.restype = ctypes.py_object

    def builtin(self, name, address):
        """The METH_FASTCALL function of this name as a built-in one, whose `self` is the address of what it works on. A
        call costs 0.1 µs, a tenth of ctypes'."""
        return self._new_function(ctypes.byref(self._methods[name]), ctypes.py_object(address), None)

    def caller(self, header):
        """`call(*buffer addresses) -> status`, which runs the segment at the header's address. One at a time:
        `Status.TAKEN` where another thread is in it."""
        return self.builtin("jt_call", header)

    def _function(self, name, result, *params):
        return ctypes.CFUNCTYPE(result, *params)(self._addresses[name])


@functools.cache
def load():
    """The process's native loop, built at the first call."""
    key = _cache_key()
    code = cache.get_blob(key)
    if code is None:
        code = compile_pool.pool().submit(compile_native).result()
        cache.put_blob(key, code)
    outside = {name: ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
               for name in (*PYTHON_API, *OBJECTS_API)}
    return Native(make_loader(outside).add(code))


def _cache_key():
    """Names all that the object code depends on."""
    here = Path(__file__).parent
    sources = ("layout.py", "native_ir.py", "object_emitter.py", "record_ir.py", "flush_ir.py", "objects_ir.py",
               "selection_ir.py", "native.py")
    return f"runtime-{int(PLAIN_COUNTS)}-" + toolchain.fingerprint(*(here / name for name in sources))


def compile_native():
    """Object code for the baseline CPU of this architecture (the loop gains nothing from newer ones)."""
    import llvmlite.binding as llvm

    from . import objects_ir

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(objects_ir.build(platform.machine()))
    module.triple = llvm.get_process_triple()
    module.verify()
    target = llvm.Target.from_triple(module.triple).create_target_machine(opt=2, reloc="pic", codemodel="default")
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    return target.emit_object(module)
