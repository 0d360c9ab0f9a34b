"""Complex numbers in loops: every complex value is two values of real numbers, its parts.

`parts(node)` gives kernel text of each part of an operation's result over {ar}, {ai}, {br}, … (the parts of its
operands; of real ones {ar}, …). Memory keeps the parts side by side, so a load or a store of a part has an access that
counts complex elements and the number of the part (`loops.Load`).
"""
from __future__ import annotations

import re
from functools import cache

from jtorch.codegen.scalar import CONVERSIONS
from jtorch.dtypes import dtype
from jtorch.ir.graph import Value
from jtorch.ir.primitive import Op

_SMITH = ("select(abs({br}) >= abs({bi}), ({x} + {y} * ({bi} / {br})) / ({br} + {bi} * ({bi} / {br})), "
          "({x} * ({br} / {bi}) + {y}) / ({bi} + {br} * ({br} / {bi})))")
"""A part of a / b by the algorithm of R. Smith, "Algorithm 116: complex division", 1962, which overflows nowhere."""


def _quotient(x: str, y: str) -> str:
    zero = "({br} == T(0)) & ({bi} == T(0))"
    return f"select({zero}, {x} / abs({{br}}), {_SMITH.replace('{x}', x).replace('{y}', y)})"


BOTH: dict[str, tuple[str, ...]] = {
    "add": ("{ar} + {br}", "{ai} + {bi}"),
    "sub": ("{ar} - {br}", "{ai} - {bi}"),
    "mul": ("{ar} * {br} - {ai} * {bi}", "{ar} * {bi} + {ai} * {br}"),
    "neg": ("-{ar}", "-{ai}"),
    "conj": ("{ar}", "-{ai}"),
    "copy": ("{ar}", "{ai}"),
    "where": ("select({ar}, {br}, {cr})", "select({ar}, {bi}, {ci})"),
    "eq": ("({ar} == {br}) & ({ai} == {bi})",),
    "ne": ("({ar} != {br}) | ({ai} != {bi})",),
    "real_part": ("{ar}",),
    "imag_part": ("{ai}",),
    "make_complex": ("{ar}", "{br}"),
    "exp": ("select({ai} == T(0), exp({ar}), exp({ar}) * cos({ai}))",
            "select({ai} == T(0), {ai}, exp({ar}) * sin({ai}))"),
    "div": (_quotient("{ar}", "{ai}"), _quotient("{ai}", "-{ar}")),
}
"""Operation -> text of each part of its result."""

ABSOLUTE = {
    "float32": ("select(isinf({ar}) | isinf({ai}), f32(1e999), "
                "f32(sqrt(f64({ar}) * f64({ar}) + f64({ai}) * f64({ai}))))",),
    "float64": ("hypot({ar}, {ai})",),
}
"""By the result's dtype: float64 holds the squares of float32."""

COSTS = {"abs": 10, "exp": 60, "div": 20, "mul": 2}


@cache
def parts(op: Op, ins: tuple[dtype, ...], out: dtype, attrs: tuple) -> tuple[str, ...] | None:
    """Kernel text of the parts of `op` over {0}, {1}, …, which are the parts of its operands one after the other; None
    where it has none."""
    if op.name == "cast":
        found = _cast(ins[0], out)
    elif op.name == "abs":
        found = ABSOLUTE.get(out.name)
    elif op.name == "copy" and not ins[0].is_complex:
        return None
    else:
        found = BOTH.get(op.name)
    if found is None:
        return None
    names = []
    for letter, d in zip("abc", ins):
        names += [f"{letter}r", f"{letter}i"] if d.is_complex else [f"{letter}r"]
    real = next((d for d in (out, *ins) if d.is_complex), out).to_real()
    wanted = set(re.findall(r"{(\w+)}", "".join(found)))
    if not wanted <= set(names):
        return None  # of operands that are not both complex
    slots = {name: f"{{{i}}}" for i, name in enumerate(names)}
    return tuple([re.sub(r"\bT\(", CONVERSIONS[real.name] + "(", t.format(**slots)) for t in found])


def _cast(source: dtype, target: dtype) -> tuple[str, ...] | None:
    if not target.is_complex:
        return None
    if source.itemsize == 2 and source.is_floating_point:
        return None
    real = CONVERSIONS[target.to_real().name]
    return (f"{real}({{ar}})", f"{real}({{ai}})" if source.is_complex else f"{real}(0)")


def parts_of(node: Value) -> tuple[str, ...] | None:
    """`parts` of a node."""
    return parts(node.op, tuple([v.dtype for v in node.inputs]), node.dtype, node.attrs)
