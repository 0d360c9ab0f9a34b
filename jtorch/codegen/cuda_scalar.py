"""Scalar kernel text -> the same expression in the names that a `@cuda.jit` kernel knows.

Operators, literals and conversions are the CPU's. The tables below are everything in which this target differs: a name
is either a libdevice function, or an expression over {0}, {1}, ... in which {T} converts to the operands' type and {f}
is libdevice's suffix of it. Expressions may use names of the tables again.

>>> translate("select(v1 > f32(0), exp(v1), v2)", "float32")
'libdevice.expf(v1) if v1 > f32(0) else v2'
"""
from __future__ import annotations

import ast
from functools import lru_cache

from jtorch.codegen.scalar import CONVERSIONS
from jtorch.dtypes import by_name

LIBDEVICE = frozenset(
    "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc erfinv exp exp2 expm1 fabs floor fmax "
    "fmin fmod hypot lgamma log log10 log1p log2 nextafter pow rint rsqrt sin sinh sqrt tan tanh trunc".split())
"""Functions of floats that libdevice has under the same name, with `f` at the end for float32. (Through `math`, some of
them would give integers or compute in float64.)"""

EVERY = {
    "select": "({1} if {0} else {2})",
    "maximum": "({0} if ({0} > {1}) | ({0} != {0}) else {1})",
    "minimum": "({0} if ({0} < {1}) | ({0} != {0}) else {1})",
    "max_nan": "maximum({0}, {1})",
    "max_number": "({1} if {1} > {0} else {0})",
    "min_nan": "minimum({0}, {1})",
    "reassoc_add": "({0} + {1})",
    "reassoc_mul": "({0} * {1})",
}

FLOATS = {
    "sigmoid": "({T}(1) / ({T}(1) + exp(-{0})))",
    "isnan": "({0} != {0})",
    "isinf": "(abs({0}) == {T}(1e999))",
    "isfinite": "(abs({0}) < {T}(1e999))",
    "remainder": "select((fmod({0}, {1}) != {T}(0)) & ((fmod({0}, {1}) < {T}(0)) != ({1} < {T}(0))), "
                 "fmod({0}, {1}) + {1}, fmod({0}, {1}))",
    "floor_divide": "rint(({0} - remainder({0}, {1})) / {1})",
    "trunc_divide": "trunc({0} / {1})",
    "gamma": "libdevice.tgamma{f}({0})",
}

HALVES = {
    "f16_to_f32": "f32({0})",
    "f32_to_f16": "f16({0})",
    "bf16_to_f32": "libdevice.int_as_float(i32(i32({0}) << 16))",
    # to nearest even: half of the last kept bit's weight, less one if that bit is 0, carries into it
    "f32_to_bf16": "select({0} != {0}, u16(32704), u16((i64(libdevice.float_as_int({0})) + 32767 + "
                   "((libdevice.float_as_int({0}) >> 16) & 1)) >> 16))",
}

INTEGERS = {
    "isnan": "({0} != {0})",
    "isinf": "({0} != {0})",
    "isfinite": "({0} == {0})",
    "remainder": "({0} % {1})",
    "floor_divide": "({0} // {1})",
    "trunc_divide": "select((i64({0}) < 0) == (i64({1}) < 0), i64({0}) // i64({1}), -(-i64({0}) // i64({1})))",
    "fmod": "({0} - {1} * trunc_divide({0}, {1}))",
}

SHIFTS = {
    ast.LShift: "({0} << {1} if {1} < 64 else {T}(0))",
    ast.RShift: "({0} >> ({1} if {1} < 63 else {T}(63)))",
}
"""Too far gives 0 (or the sign), not whatever the hardware leaves."""

NARROW = frozenset(("i8", "i16", "u8"))

KNOWN = frozenset(CONVERSIONS.values()) | {"abs", "u16", "f16", "True", "False"}


class NoCudaText(NotImplementedError):
    """A scalar function that has no text for this target."""


@lru_cache(maxsize=4096)
def translate(text: str, dtype: str) -> str:
    """`text`, whose operands are of `dtype`, in this target's names."""
    return ast.unparse(_Translation(dtype).visit(ast.parse(text, mode="eval").body))


class _Translation(ast.NodeTransformer):
    def __init__(self, dtype: str) -> None:
        d = by_name(dtype).compute
        self.words = EVERY | (FLOATS if d.is_floating_point else INTEGERS) | HALVES
        self.is_float = d.is_floating_point
        self.types = {"T": CONVERSIONS[d.name], "f": "f" if d.name == "float32" else ""}

    def expand(self, text: str, *operands: ast.expr) -> ast.expr:
        """The table's text over operands that are not translated yet."""
        parsed = ast.parse(text.format(*[f"({ast.unparse(a)})" for a in operands], **self.types), mode="eval")
        return self.visit(parsed.body)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in self.words:
            return self.expand(self.words[name], *node.args)
        self.generic_visit(node)
        if name in LIBDEVICE and self.is_float:
            node.func = ast.parse(f"libdevice.{name}{self.types['f']}", mode="eval").body
        elif name in LIBDEVICE and name in ("floor", "ceil", "trunc", "rint"):
            return node.args[0]  # of an integer
        elif name in NARROW and self.is_float:  # a float is cut to 32 bits, then wraps
            node.args = [ast.Call(ast.Name("i32"), node.args, [])]
        elif name and name not in KNOWN:
            raise NoCudaText(f"{name} of {self.types['T']} has no CUDA text")
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        text = SHIFTS.get(type(node.op))
        if text is None or isinstance(node.right, ast.Constant):
            return node
        return ast.parse(text.format(ast.unparse(node.left), ast.unparse(node.right), **self.types), mode="eval").body
