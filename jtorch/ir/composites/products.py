"""The derivative of a product over axes, as an operation with a derivative of its own: where factors are zero, that of
the formula would be wrong."""
from __future__ import annotations

from jtorch import dtypes
from jtorch.ir.arith import eq, where
from jtorch.ir.composites.define import REQUIRED, composite, same_type, sum_over
from jtorch.ir.graph import Builder, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.elementwise import cast_to, is_zero, ones_like, zeros_like
from jtorch.ir.prims.reduce import keep_axes, prod

Axes = tuple[int, ...]


def _filled(x: Value, axes: Axes) -> tuple[Value, Value, Value, Value]:
    """Where x is zero, how many zeros there are, x with ones in their place, and the product of that."""
    hole = is_zero(x)
    zeros = sum_over(cast_to(hole, dtypes.int64), axes, keep=True)
    filled = where(hole, ones_like(x), x)
    return hole, zeros, filled, keep_axes(prod(filled, axes=axes), x, axes)


def _others(b: Builder, x: Value, axes: Axes) -> Value:
    hole, zeros, filled, whole = _filled(x, axes)
    return where(is_zero(zeros), whole / filled, where(hole & eq(zeros, 1), whole, zeros_like(x)))


def _others_vjp(g: Value, y: Value, x: Value, axes: Axes) -> tuple:
    """d x_m = sum over k != m of g_k times the product of all but x_k and x_m. A term lives while every zero is left
    out of its product."""
    hole, zeros, filled, whole = _filled(x, axes)
    zero = zeros_like(x)
    slopes = where(hole, zero, g / filled)
    at_zeros = sum_over(where(hole, g, zero), axes, keep=True)
    total = sum_over(slopes, axes, keep=True)
    none = whole * (total - slopes) / filled
    one = where(hole, whole * total, whole * at_zeros / filled)
    two = where(hole, whole * (at_zeros - g), zero)
    return (where(is_zero(zeros), none, where(eq(zeros, 1), one, where(eq(zeros, 2), two, zero))),)


def _batch(self: Op, b: Builder, n: int, m: tuple, x: Value, axes: Axes) -> Value:
    return self(x, axes=tuple(a + 1 for a in axes))


product_of_others = composite("product_of_others", _others, _others_vjp, infer=same_type, attrs={"axes": REQUIRED},
                              batch=_batch, jvp=lambda t, y, x, axes: _others_vjp(t[0], y, x, axes)[0],
                              domain="axes float")
"""For each element, the product of the others along the axes."""
