"""Sums over the steps of a loop, taken out of the loop.

The gradient of a weight that every step of a scan reads is a sum over steps of small matrix products h_t.T @ g_t. With
the h_t and g_t stacked that is one large product:

>>> # before: for t: dw += permute(h_t) @ g_t         after: dw = permute(rows(h)) @ rows(g)
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

from jtorch.ir.graph import Value
from jtorch.ir.primitive import op
from jtorch.ir.prims.contract import matmul, transpose_last
from jtorch.ir.prims.elementwise import neg
from jtorch.ir.prims.movement import permute, permute_to, reshape, reshape_to
from jtorch.ir.prims.reduce import sum_

Rows = Callable[[Value], Value]  # a value of the body -> its values in all steps, stacked


def _is_zero(v: Value) -> bool:
    return v.op.name == "full" and v.attr("value") == 0


def _is_product(v: Value) -> bool:
    return v.op is matmul and v.ndim == 2 and not v.attr("wide")


def _factors(v: Value) -> tuple[Value, Value, bool]:
    """The operands of a matrix product to stack, and whether the left one is read transposed."""
    a, b = v.inputs
    flipped = a.op is permute
    return (a.inputs[0] if flipped else a), b, flipped


def factors(values: Iterable[Value]) -> set[Value]:
    """The factors of all matrix products that are summed up in `values`."""
    found: set[Value] = set()
    stack = list(values)
    while stack:
        v = stack.pop()
        if _is_product(v):
            found.update(_factors(v)[:2])
        elif v.op in (permute, reshape, neg) or v.op.name == "add":
            stack.extend(v.inputs)
    return found


def separable(v: Value, stacked: set[Value]) -> bool:
    """Is the sum of v over all steps a function of the `stacked` values?"""
    if v.op.name == "add":
        return all(separable(i, stacked) for i in v.inputs)
    if v.op in (permute, reshape, neg):
        return separable(v.inputs[0], stacked)
    if v.op is sum_:
        return v.inputs[0] in stacked
    return _is_zero(v) or _is_product(v)


def total(v: Value, rows: Rows) -> Value:
    """The sum of a separable v over all steps."""
    if v.op.name == "add":
        return op("add")(total(v.inputs[0], rows), total(v.inputs[1], rows))
    if v.op in (permute, reshape, neg):
        inner = total(v.inputs[0], rows)
        return inner.builder.intern(v.op, (inner,), v.attrs)
    if v.op is sum_:
        return sum_(rows(v.inputs[0]), axes=(0, *[a + 1 for a in v.attr("axes")]))
    if _is_product(v):
        left, right, flipped = _factors(v)
        a, b = rows(left), rows(right)
        b = reshape_to(b, (b.shape[0] * b.shape[1], b.shape[2]))
        if flipped:
            a = transpose_last(reshape_to(a, (a.shape[0] * a.shape[1], a.shape[2])))
        else:
            a = reshape_to(permute_to(a, (1, 0, 2)), (a.shape[1], a.shape[0] * a.shape[2]))
        return matmul(a, b)
    assert _is_zero(v)
    return rows(v)
