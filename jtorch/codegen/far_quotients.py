"""Quotients beyond `FAR` in fmod: a path that most loops never enter.

A step of x - trunc(x / y) * y takes 50 bits off a quotient, and one of two float32 numbers has up to 277. So the first
steps are a call of a function that is pure as far as LLVM knows and has vector forms (`runtime/variants.py`), in which
a vector without a far quotient returns at once.

    near_quotient(x, y)    x >= 0 less a multiple of y > 0, so that at most FAR * y are left
"""
from __future__ import annotations

from llvmlite import ir

from jtorch.codegen.irmath import F64, Expr

FAR = 2.0**50
NAME = "jt.near_quotient"
STEPS = 6


def near_quotient(x: Expr, y: Expr) -> Expr:
    module = x.builder.module
    function = module.globals.get(NAME) or ir.Function(module, ir.FunctionType(F64, [F64, F64]), NAME)
    return Expr(x.builder, x.builder.call(function, [x.value, y.value]))


def body(lanes: int) -> list[str]:
    """The function of vectors %x and %p (of numbers, if `lanes` is 0)."""
    n = lanes or 1
    type_ = f"<{n} x double>"

    def splat(number: float) -> str:
        return f"<{', '.join([f'double {number!r}'] * n)}>"
    source = type_ if lanes else "double"
    lines = [f"%a = bitcast {source} %x to {type_}", f"%b = bitcast {source} %p to {type_}",
             f"%limit = fmul {type_} %b, {splat(FAR)}", f"%far = fcmp oge {type_} %a, %limit",
             f"%mask = bitcast <{n} x i1> %far to i{n}", f"%any = icmp ne i{n} %mask, 0",
             "br i1 %any, label %slow, label %done, !prof !2", "slow:", f"%inverse = fdiv {type_} {splat(1.0)}, %b"]
    rest = "%a"
    for i in range(STEPS):
        lines += [f"%q{i} = fmul {type_} {rest}, %inverse",
                  f"%t{i} = call {type_} @llvm.trunc.v{n}f64({type_} %q{i})", f"%m{i} = fneg {type_} %t{i}",
                  f"%r{i} = call {type_} @llvm.fma.v{n}f64({type_} %m{i}, {type_} %b, {type_} {rest})"]
        rest = f"%r{i}"
    lines += ["br label %done", "done:", f"%y = phi {type_} [ %a, %entry ], [ {rest}, %slow ]"]
    return [*lines, f"ret {type_} %y"] if lanes else [*lines, f"%z = bitcast {type_} %y to double", "ret double %z"]


def support(lanes: tuple[int, ...]) -> str:
    """What the bodies call."""
    lines = ["!2 = !{!\"branch_weights\", i32 1, i32 1000000}"]
    for n in (1, *lanes):
        type_ = f"<{n} x double>"
        lines += [f"declare {type_} @llvm.trunc.v{n}f64({type_})",
                  f"declare {type_} @llvm.fma.v{n}f64({type_}, {type_}, {type_})"]
    return "\n".join(lines)
