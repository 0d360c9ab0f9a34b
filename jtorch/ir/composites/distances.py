"""Distances between all pairs of rows."""
from __future__ import annotations

import math
from typing import Any

from jtorch.ir.arith import broadcast_shapes, maximum, where
from jtorch.ir.composites.define import add_axis, composite, sum_over
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.contract import matmul, transpose_last
from jtorch.ir.prims.elementwise import expand, sqrt
from jtorch.ir.prims.matrices import eye_mask
from jtorch.ir.prims.pairs import condensed, distances, distances_vjp, expanded


def _infer(x: Type, y: Type, p: float, product: bool) -> Type:
    return Type(x.dtype, (*x.shape[:-1], y.shape[-2]))


def _cdist(b: Builder, x: Value, y: Value, p: float, product: bool) -> Value:
    """`product`: |x|**2 + |y|**2 - 2 x.y, a matrix product; less exact for rows close to each other."""
    if not product:
        return distances(x, y, p=p)
    last = (x.ndim - 1,)
    shape = (*x.shape[:-1], y.shape[-2])
    of_x = expand(add_axis(sum_over(x * x, last), x.ndim - 1), shape)
    of_y = expand(add_axis(sum_over(y * y, last), x.ndim - 2), shape)
    return sqrt(maximum(of_x + of_y - matmul(x, transpose_last(y)) * 2.0, 0.0))


def _cdist_vjp(g: Value, d: Value, x: Value, y: Value, p: float, product: bool) -> tuple:
    return distances_vjp(g, d, x, y, p)


def _pdist(b: Builder, x: Value, p: float) -> Value:
    return condensed(distances(x, x, p=p))


def _pdist_vjp(g: Value, d: Value, x: Value, p: float) -> tuple:
    upper, both = (expanded(v, size=x.shape[-2]) for v in (g, d))
    if p != 2:
        both = both + transpose_last(both)
        both = both if math.isinf(p) else where(eye_mask(both), 1.0, both)  # a slope there is finite, and is not used
    first, second = distances_vjp(upper, both, x, x, p)
    return (first + second,)


pdist = composite("pdist", _pdist, _pdist_vjp, attrs={"p": 2.0}, domain="pdist")
"""[..., N, M] -> the p-norms of the differences of every two rows, (0, 1), (0, 2), ..., [..., N (N - 1) / 2]."""


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
