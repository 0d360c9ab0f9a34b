"""The derivative of a running product, with a derivative of its own that is right where there are zeros."""
from __future__ import annotations

from typing import Any

from jtorch import dtypes
from jtorch.ir.arith import where
from jtorch.ir.composites.define import REQUIRED, composite
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.elementwise import cast_to, eq, expand, is_zero, ones_like, zeros_like
from jtorch.ir.prims.library import cumprod, cumprod_tangent, cumsum, reverse_cumsum


def _count(hole: Value, axis: int) -> Value:
    return cumsum(cast_to(hole, dtypes.int32), axis=axis)


def _gradient(b: Builder, g: Value, x: Value, axis: int) -> Value:
    """d x_k = sum_{i >= k} g_i prod_{j <= i, j != k} x_j. Up to the first zero that is y_i / x_k; at the first zero,
    the products with that zero left out; behind it, nothing."""
    y, hole = cumprod(x, axis=axis), is_zero(x)
    holes = _count(hole, axis)
    first = hole & eq(holes, ones_like(holes))
    filled = where(first, ones_like(x), x)
    at_first = reverse_cumsum(g * cumprod(filled, axis=axis), axis)
    before = reverse_cumsum(g * y, axis) / where(hole, ones_like(x), x)
    return where(is_zero(holes), before, where(first, at_first, zeros_like(x)))


def _second(h: Value, y: Value, g: Value, x: Value, axis: int) -> tuple:
    """The gradient of h . d x, which is g . (the tangent of the product along h):

    d x_l = sum_i g_i sum_{k != l} h_k prod_{j <= i, j != k, l} x_j. With P the products of what is not zero and c the
    number of zeros so far, only those terms count that leave out all zeros: any k if c = 0, the zero if c = 1 (any k
    for l the zero itself), the other zero if c = 2.
    """
    hole, zero, one = is_zero(x), zeros_like(x), ones_like(x)
    c = _count(hole, axis)
    filled = where(hole, one, x)
    p = g * cumprod(filled, axis=axis)
    share = where(hole, zero, h / filled)
    others, at_holes = cumsum(share, axis=axis), cumsum(where(hole, h, zero), axis=axis)

    def where_count(n: int, v: Value) -> Value:
        return where(eq(c, ones_like(c) * n) if n else is_zero(c), v, zero)

    none = where_count(0, p)
    plain = reverse_cumsum(none * others + where_count(1, p * at_holes), axis)
    of_plain = (plain - share * reverse_cumsum(none, axis)) / filled
    both = where_count(2, p)
    of_hole = reverse_cumsum(where_count(1, p * others) + both * at_holes, axis) - h * reverse_cumsum(both, axis)
    return cumprod_tangent(h, x, axis), where(hole, of_hole, of_plain)


def _batch(self: Op, b: Builder, n: int, m: tuple, *operands: Value, axis: int) -> Value:
    return self(*[v if mapped else expand(v, (n, *v.shape)) for v, mapped in zip(operands, m)], axis=axis + 1)


def _infer(g: Type, x: Type, **attrs: Any) -> Type:
    return x


cumprod_gradient = composite("cumprod_gradient", _gradient, _second, infer=_infer, attrs={"axis": REQUIRED},
                             batch=_batch)
"""The gradient of x in g . cumprod(x)."""
