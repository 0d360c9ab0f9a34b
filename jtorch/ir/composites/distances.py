"""Distances between all pairs of rows."""
from __future__ import annotations

from typing import Any

from jtorch.ir.arith import broadcast_shapes, maximum, where
from jtorch.ir.composites.define import add_axis, composite, sum_over
from jtorch.ir.composites.statistics import vector_norm
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.contract import matmul, transpose_last
from jtorch.ir.prims.elementwise import expand, is_zero, sqrt, zeros_like


def _infer(x: Type, y: Type, p: float, product: bool) -> Type:
    return Type(x.dtype, (*x.shape[:-1], y.shape[-2]))


def _differences(x: Value, y: Value) -> Value:
    """[..., P, R, M]"""
    shape = (*x.shape[:-1], *y.shape[-2:])
    return expand(add_axis(x, x.ndim - 1), shape) - expand(add_axis(y, y.ndim - 2), shape)


def _cdist(b: Builder, x: Value, y: Value, p: float, product: bool) -> Value:
    """`product`: |x|**2 + |y|**2 - 2 x.y, a matrix product; less exact for rows close to each other."""
    if not product:
        return vector_norm(_differences(x, y), axes=(x.ndim,), p=p)
    last = (x.ndim - 1,)
    shape = (*x.shape[:-1], y.shape[-2])
    of_x = expand(add_axis(sum_over(x * x, last), x.ndim - 1), shape)
    of_y = expand(add_axis(sum_over(y * y, last), x.ndim - 2), shape)
    return sqrt(maximum(of_x + of_y - matmul(x, transpose_last(y)) * 2.0, 0.0))


def _cdist_vjp(g: Value, d: Value, x: Value, y: Value, p: float, product: bool) -> tuple:
    """Where two rows are equal the distance has the derivative 0."""
    if p != 2:
        difference = _differences(x, y)
        assert vector_norm.vjp is not None
        each = vector_norm.vjp(g, d, difference, axes=(x.ndim,), p=p)[0]
        return sum_over(each, (x.ndim - 1,)), -sum_over(each, (x.ndim - 2,))
    w = where(is_zero(d), zeros_like(d), g / d)
    turned = transpose_last(w)
    of_x = expand(add_axis(sum_over(w, (d.ndim - 1,)), x.ndim - 1), x.shape) * x - matmul(w, y)
    of_y = expand(add_axis(sum_over(w, (d.ndim - 2,)), y.ndim - 1), y.shape) * y - matmul(turned, x)
    return of_x, of_y


def _batch(self: Op, b: Builder, n: int, m: tuple, x: Value, y: Value, **attrs: Any) -> Value:
    x, y = (v if mapped else expand(v, (n, *v.shape)) for v, mapped in zip((x, y), m))
    return self(x, y, **attrs)


cdist = composite("cdist", _cdist, _cdist_vjp, infer=_infer, attrs={"p": 2.0, "product": False}, batch=_batch,
                  domain="cdist")
"""[..., P, M], [..., R, M] with equal leading axes -> the p-norms of the rows' differences, [..., P, R]."""


def all_pairs(x: Value, y: Value) -> tuple[Value, Value]:
    """The operands of `cdist`, expanded to common leading axes."""
    lead = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    return expand(x, (*lead, *x.shape[-2:])), expand(y, (*lead, *y.shape[-2:]))
