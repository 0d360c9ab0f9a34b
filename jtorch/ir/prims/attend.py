"""Attention as one operation: softmax(scale * q @ k.T) @ v, whose weights exist a block of rows at a time.

The derivative computes the weights again from the logarithm of their sums: T. Dao et al., "FlashAttention" (2022).
"""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.elementwise import exp, expand
from jtorch.ir.prims.matrices import lower, matmul, per_row, transpose_last
from jtorch.ir.prims.reduce import sum_


def _attend_infer(q: Type, k: Type, v: Type, causal: bool, scale: float) -> tuple[Type, Type]:
    if not (q.dtype is k.dtype is v.dtype and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
            and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]):
        raise AssertionError(f"attend: {q}, {k}, {v}")
    return Type(q.dtype, (*q.shape[:-1], v.shape[-1])), Type(q.dtype, q.shape[:-1])


def _scores(q: np.ndarray, k: np.ndarray, causal: bool, scale: float) -> np.ndarray:
    s = np.matmul(q, k.swapaxes(-1, -2)) * q.dtype.type(scale)
    return np.where(np.tri(*s.shape[-2:], dtype=bool), s, q.dtype.type(-np.inf)) if causal else s


def _attend_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool, scale: float) -> tuple:
    s = _scores(q, k, causal, scale)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(s - top)
    total = weights.sum(-1, keepdims=True)
    return np.matmul(weights / total, v), (top + np.log(total))[..., 0]


def _attend_vjp(g: tuple, out: tuple, q: Value, k: Value, v: Value, causal: bool, scale: float) -> tuple:
    (g_y, g_sums), (y, sums) = g, out
    if g_y is None:
        g_y = y * 0
    delta = sum_(g_y * y, axes=(y.ndim - 1,))
    if g_sums is not None:
        delta = delta - g_sums
    return attend_grad(q, k, v, g_y, sums, delta, causal=causal, scale=scale)


def _batch(self: Op, b: Builder, n: int, mapped: tuple, *inputs: Value, **attrs: Any) -> Any:
    return self(*[v if m else expand(v, (n, *v.shape)) for v, m in zip(inputs, mapped)], **attrs)


attend = Op("attend", "contract", _attend_infer, _attend_numpy, _attend_vjp, batch=_batch,
            attr_names=("causal", "scale"))
"""q[..., T, E], k[..., S, E], v[..., S, D] with equal leading axes -> y[..., T, D], and the logarithms of the sums
[..., T] that the weights were divided by. `causal`: row i sees the columns up to i."""


def _grad_infer(q: Type, k: Type, v: Type, g: Type, sums: Type, delta: Type, causal: bool, scale: float) -> tuple:
    if _attend_infer(q, k, v, causal, scale) != (g, sums) or delta != sums:
        raise AssertionError(f"attend_grad: {q}, {k}, {v}, {g}, {sums}, {delta}")
    return q, k, v


def _grad_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, sums: np.ndarray, delta: np.ndarray,
                causal: bool, scale: float) -> tuple:
    weights = np.exp(_scores(q, k, causal, scale) - sums[..., None])
    slopes = weights * (np.matmul(g, v.swapaxes(-1, -2)) - delta[..., None]) * q.dtype.type(scale)
    return (np.matmul(slopes, k), np.matmul(slopes.swapaxes(-1, -2), q), np.matmul(weights.swapaxes(-1, -2), g))


def _grad_vjp(c: tuple, out: tuple, q: Value, k: Value, v: Value, g: Value, sums: Value, delta: Value, causal: bool,
              scale: float) -> tuple:
    """With weights w, x = g v' - delta and slopes w x: what depends on x gets w m, what depends on the scores
    w (x m + n); m and n are what the results' cotangents make of slopes and weights."""
    a, b, d = [x * 0 if one is None else one for one, x in zip(c, (q, k, v))]
    scores = matmul(q, transpose_last(k)) * scale
    w = exp(scores - per_row(sums, scores))
    w = lower(w) if causal else w
    x = matmul(g, transpose_last(v)) - per_row(delta, scores)
    m = (matmul(a, transpose_last(k)) + matmul(q, transpose_last(b))) * scale
    of_x = w * m
    of_scores = w * (x * m + matmul(g, transpose_last(d)))
    slopes = w * x
    last = (scores.ndim - 1,)
    return ((matmul(of_scores, k) + matmul(slopes, b)) * scale,
            (matmul(transpose_last(of_scores), q) + matmul(transpose_last(slopes), a)) * scale,
            matmul(transpose_last(of_x), g),
            matmul(of_x, v) + matmul(w, d),
            -sum_(of_scores, axes=last), -sum_(of_x, axes=last))


attend_grad = Op("attend_grad", "contract", _grad_infer, _grad_numpy, _grad_vjp, batch=_batch,
                 attr_names=("causal", "scale"))
"""Cotangents of q, k and v, given that of y, the logarithms of the sums, and delta = sum of (cotangent * y) over the
columns less the cotangent of the logarithms."""
