"""Scalar kernel text of one operation: its record's `expr` with the operands as {0}, {1}, ... and literals typed."""
from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

from jtorch import dtypes
from jtorch.dtypes import dtype
from jtorch.ir.primitive import Op

CONVERSIONS = {"bool": "b8", "uint8": "u8", "int8": "i8", "int16": "i16", "int32": "i32", "uint32": "u32",
               "int64": "i64", "float16": "f32", "bfloat16": "f32", "float32": "f32", "float64": "f64"}
"""dtype -> the kernel function that converts to its compute dtype."""

ROUND = {"float16": "f16_to_f32(f32_to_f16(f32({0})))", "bfloat16": "bf16_to_f32(f32_to_bf16(f32({0})))"}
"""A cast to a half type rounds, though fused values are kept in float32."""

SPELLING = {"abs_(": "abs(",
            "sign(a)": "select(a > T(0), T(1), select(a < T(0), T(-1), a))"}
"""Kernel text of names that the kernel language spells otherwise."""

_TOKEN = re.compile(r"\b(T|O)\(|\b([abcdef])\b(?!\()")
_LITERALS = (0, 1, -1, 2, 0.5)


@cache
def expression(op: Op, ins: tuple[dtype, ...], out: dtype, attrs: tuple) -> str:
    """Kernel text of `op` over {0}, {1}, ...

    >>> from jtorch.ir.primitive import op
    >>> expression(op("relu"), (dtypes.float32,), dtypes.float32, ())
    'maximum({0}, f32(0))'
    """
    if op.name == "cast" and out.name in ROUND and ins[0] is not out:
        return ROUND[out.name]
    text = op.expr if isinstance(op.expr, str) else op.expr(ins, out, dict(zip(op.attr_names, attrs)))  # type: ignore
    for name, kernel_text in SPELLING.items():
        text = text.replace(name, kernel_text)
    return substitute(text, ins[0] if ins else out, out)


@cache
def failure(op: Op, ins: tuple[dtype, ...]) -> str | None:
    """The condition under which the operation reports its error; only integers can fail."""
    if op.fails is None or ins[0].category != dtypes.INT:
        return None
    return substitute(op.fails, ins[0], ins[0])


def substitute(text: str, operand: dtype, out: dtype) -> str:
    def replace(match: re.Match) -> str:
        if match[1]:
            return CONVERSIONS[(operand if match[1] == "T" else out).name] + "("
        return "{" + str("abcdef".index(match[2])) + "}"
    return _TOKEN.sub(replace, text)


def literal(value: Any, d: dtype) -> str | None:
    """Text of a number that may stand in a kernel; None for those that are passed at run time.

    Most constants of a program are sizes, rates and scales: they must not be part of the kernel's text.
    """
    if d is dtypes.bool_:
        return f"b8({int(bool(value))})"
    if value in _LITERALS and not (value == 0 and math.copysign(1, value) < 0):
        number = repr(float(value)) if d.is_floating_point else repr(int(value))
        return f"{CONVERSIONS[d.name]}({number})"
    return None


def identity(value: Any, d: dtype) -> str:
    """Text of a reduction's start."""
    convert = CONVERSIONS[d.name]
    if value in ("lowest", "highest"):
        sign = "-" if value == "lowest" else ""
        if d.is_floating_point:
            return f"{convert}({sign}1e999)"
        if d is dtypes.bool_:
            return f"b8({int(value == 'highest')})"
        bits = d.itemsize * 8 - (1 if d.is_signed else 0)
        if value == "highest":
            return f"{convert}({2**bits - 1})"
        return f"{convert}({-2**bits})" if d.is_signed else f"{convert}(0)"
    return f"{convert}({float(value)!r})" if d.is_floating_point else f"{convert}({int(value)})"
