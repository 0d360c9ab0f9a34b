"""Object code is put into the process by our own loader, as LLVM's puts it there."""
from __future__ import annotations

import ctypes

import numpy as np
import pytest
from kernel_calls import call

from jtorch.runtime import compile, elf, loader

pytestmark = pytest.mark.skipif(not elf.supported(), reason="our loader is for x86-64 Linux; elsewhere LLVM's is used")

TEXT = """def kernel(x, y, begin, end, worker):
    for i in range(begin, end):
        y[i] = exp(x[i]) + exp(x[i] * x[i])
"""
PARAMS = ("p:float32", "p:float32")


def result_of(load):
    code = compile.compile_kernel(TEXT, PARAMS)
    x, y = np.linspace(-3, 3, 100, dtype=np.float32), np.zeros(100, np.float32)
    call(load.add(code)[compile.entry_name(TEXT, PARAMS)], x, y, end=100)
    np.testing.assert_allclose(y, np.exp(x) + np.exp(x * x), rtol=1e-6)
    return y


def test_both_loaders():
    np.testing.assert_array_equal(result_of(loader.make_loader()), result_of(loader.LlvmLoader({})))


def module(text):
    """Object code of LLVM IR."""
    import llvmlite.binding as llvm
    return compile.target_machine("x86-64", "").emit_object(llvm.parse_assembly(text))


def test_calls_and_constants():
    """Functions from outside, of the C library and of the object itself; a table of constants."""
    code = module("""
        @table = internal constant [4 x double] [double 1.0, double 2.0, double 4.0, double 8.0]
        declare i64 @given(i64)
        declare i64 @labs(i64)
        define internal i64 @twice(i64 %x) noinline { %y = add i64 %x, %x  ret i64 %y }
        define i64 @f(i64 %x) {
            %a = call i64 @given(i64 %x)
            %b = call i64 @labs(i64 %a)
            %c = call i64 @twice(i64 %b)
            %p = getelementptr [4 x double], ptr @table, i64 0, i64 %x
            %d = load double, ptr %p
            %e = fptosi double %d to i64
            %r = add i64 %c, %e
            ret i64 %r
        }""")
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    given = kind(lambda x: -10 * x)
    load = elf.Loader({"given": ctypes.cast(given, ctypes.c_void_p).value})
    for _ in range(2):
        assert kind(load.add(code)["f"])(3) == 2 * 30 + 8


def test_code_is_never_writable():
    load = elf.Loader()
    code = compile.compile_kernel(TEXT, PARAMS)
    addresses = [load.add(code)[compile.entry_name(TEXT, PARAMS)] for _ in range(3)]
    with open("/proc/self/maps") as file:
        maps = [(*(int(n, 16) for n in line.split()[0].split("-")), line.split()[1]) for line in file]
    for address in addresses:
        assert [rights for start, end, rights in maps if start <= address < end] == ["r-xp"]
    assert len(set(addresses)) == 3


def test_more_code_than_an_arena_holds(monkeypatch):
    monkeypatch.setattr(elf, "ARENA", 8192)
    load = elf.Loader()
    for _ in range(5):
        result_of(load)


@pytest.mark.parametrize("damage", [
    lambda code: b"", lambda code: code[:40], lambda code: code[:-200], lambda code: b"MZ" + code[2:],
    lambda code: code[:18] + b"\xb7" + code[19:], lambda code: code[:40] + b"\xff" * 8 + code[48:]])
def test_damaged_objects_are_refused(damage):
    with pytest.raises(elf.ElfError):
        elf.Loader().add(damage(compile.compile_kernel(TEXT, PARAMS)))


def test_what_our_compiler_does_not_make_is_refused():
    with pytest.raises(elf.ElfError, match="variables"):
        elf.Loader().add(module("@x = global i64 1\ndefine i64 @f() { %y = load i64, ptr @x ret i64 %y }"))
    with pytest.raises(elf.ElfError, match="nowhere"):
        elf.Loader().add(module("declare void @nowhere()\ndefine void @f() { call void @nowhere() ret void }"))
