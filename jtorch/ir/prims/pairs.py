"""Pairs of rows: their distances, and symmetric matrices as vectors of what is above the diagonal."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op, op
from jtorch.ir.prims.contract import matmul, transpose_last
from jtorch.ir.prims.elementwise import expand, is_zero, where, zeros_like
from jtorch.ir.prims.movement import reshape_to
from jtorch.ir.prims.reduce import sum_


def _infer(x: Type, y: Type, p: float) -> Type:
    if x.ndim < 2 or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1] or x.dtype is not y.dtype:
        raise AssertionError(f"distances: {x}, {y}")
    return Type(x.dtype, (*x.shape[:-1], y.shape[-2]))


def _numpy(x: np.ndarray, y: np.ndarray, p: float) -> np.ndarray:
    out = np.empty((*x.shape[:-1], y.shape[-2]), x.dtype)
    for i in range(x.shape[-2]):
        size = np.abs(x[..., i, None, :] - y)
        if p == 2:
            out[..., i, :] = np.sqrt((size * size).sum(-1))
        elif math.isinf(p):
            out[..., i, :] = size.max(-1, initial=0)
        else:
            out[..., i, :] = (size != 0).sum(-1) if p == 0 else (size ** p).sum(-1) ** (1 / p)
    return out


def differences(x: Value, y: Value) -> Value:
    """[..., P, R, M]"""
    shape = (*x.shape[:-1], *y.shape[-2:])
    first = reshape_to(x, (*x.shape[:-1], 1, x.shape[-1]))
    second = reshape_to(y, (*y.shape[:-2], 1, *y.shape[-2:]))
    return expand(first, shape) - expand(second, shape)


def distances_vjp(g: Value, d: Value, x: Value, y: Value, p: float) -> tuple:
    """Where two rows are equal the distance has the derivative 0."""
    if p != 2:
        norm_vjp = op("vector_norm").vjp
        assert norm_vjp is not None
        each = norm_vjp(g, d, differences(x, y), axes=(x.ndim,), p=p)[0]
        return sum_(each, axes=(x.ndim - 1,)), -sum_(each, axes=(x.ndim - 2,))
    w = where(is_zero(d), zeros_like(d), g / d)

    def pulled(w: Value, at: Value, other: Value) -> Value:
        total = sum_(w, axes=(w.ndim - 1,))
        return expand(reshape_to(total, (*total.shape, 1)), at.shape) * at - matmul(w, other)
    return pulled(w, x, y), pulled(transpose_last(w), y, x)


def _jvp(t: tuple, d: Value, x: Value, y: Value, p: float) -> Value:
    norm_vjp = op("vector_norm").vjp
    assert norm_vjp is not None
    moved = differences(*[zeros_like(v) if c is None else c for c, v in zip(t, (x, y))])
    slope = norm_vjp(zeros_like(d) + 1.0, d, differences(x, y), axes=(x.ndim,), p=p)[0]
    return sum_(slope * moved, axes=(x.ndim,))


def _batch(self: Op, b: Builder, n: int, m: tuple, *inputs: Value, **attrs: Any) -> Value:
    return b.apply(self, *[v if mapped else expand(v, (n, *v.shape)) for v, mapped in zip(inputs, m)], **attrs)


distances = Op("distances", "contract", _infer, _numpy, distances_vjp, jvp=_jvp, attr_names=("p",), batch=_batch)
"""[..., P, M], [..., R, M] with equal leading axes -> the p-norms of the rows' differences, [..., P, R]."""


def _condensed_infer(x: Type) -> Type:
    n = x.shape[-1]
    if x.shape[-2] != n:
        raise AssertionError(f"condensed: {x}")
    return Type(x.dtype, (*x.shape[:-2], n * (n - 1) // 2))


def _expanded_infer(x: Type, size: int) -> Type:
    if x.shape[-1] != size * (size - 1) // 2:
        raise AssertionError(f"expanded: {x}, {size}")
    return Type(x.dtype, (*x.shape[:-1], size, size))


def _expanded_numpy(x: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros((*x.shape[:-1], size, size), x.dtype)
    out[(..., *np.triu_indices(size, 1))] = x
    return out


condensed = Op("condensed", "index", _condensed_infer, lambda x: x[(..., *np.triu_indices(x.shape[-1], 1))],
               lambda g, y, x: (expanded(g, size=x.shape[-1]),), linear=True, batch=_batch)
"""[..., N, N] -> [..., N (N - 1) / 2]: what is above the diagonal, row by row."""

expanded = Op("expanded", "index", _expanded_infer, _expanded_numpy, lambda g, y, x, size: (condensed(g),),
              attr_names=("size",), linear=True, batch=_batch)
"""The other way, with zeros on and below the diagonal."""
