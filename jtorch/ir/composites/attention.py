"""linear, dropout and attention."""
from __future__ import annotations

import math
from math import prod

from jtorch import dtypes
from jtorch.ir.arith import broadcast_shapes, where
from jtorch.ir.composites.define import HALVES, composite, wide
from jtorch.ir.composites.random import keep_mask
from jtorch.ir.composites.softmax import softmax
from jtorch.ir.graph import Builder, Shape, Type, Value
from jtorch.ir.prims.attend import attend
from jtorch.ir.prims.contract import matmul, transpose_last
from jtorch.ir.prims.create import constant, iota
from jtorch.ir.prims.elementwise import cast_to, expand, zeros_like
from jtorch.ir.prims.movement import permute_to, reshape_to
from jtorch.ir.prims.reduce import all_, keep_axes

# --- linear ----------------------------------------------------------------------------------------------------------


def _linear_infer(x: Type, w: Type, *bias: Type) -> Type:
    rows = prod(x.shape[:-1])
    if w.ndim != 2 or x.ndim < 1:
        raise AssertionError(f"linear: {x}, {w}")
    if x.shape[-1] != w.shape[1]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{x.shape[-1]} and "
                           f"{w.shape[1]}x{w.shape[0]})")
    if x.dtype is not w.dtype:
        raise RuntimeError(f"mat1 and mat2 must have the same dtype, but got {dtypes.type_name(x.dtype)} and "
                           f"{dtypes.type_name(w.dtype)}")
    return Type(x.dtype, (*x.shape[:-1], w.shape[0]))


def _linear(b: Builder, x: Value, w: Value, *bias: Value) -> Value:
    """All leading axes are rows of one matrix. Half types are multiplied as they are, and rounded once."""
    rows = reshape_to(x, (prod(x.shape[:-1]), x.shape[-1]))
    y = matmul(rows, permute_to(w, (1, 0)), wide=bool(bias) and x.dtype in HALVES)
    if bias:
        y = y + expand(wide(bias[0]), y.shape)
    return reshape_to(cast_to(y, x.dtype), (*x.shape[:-1], w.shape[0]))


linear = composite("linear", _linear, infer=_linear_infer, widen=False, domain="linear")
"""linear(x[..., K], w[O, K][, bias[O]]) = x @ w.T + bias"""


# --- dropout ---------------------------------------------------------------------------------------------------------

def _dropout_infer(x: Type, raw: Type, p: float) -> Type:
    if raw.dtype is not dtypes.uint32 or raw.shape != (2 * x.numel,):
        raise AssertionError(f"dropout: {x}, draws {raw}")
    return x


def _dropout(b: Builder, x: Value, raw: Value, p: float) -> Value:
    """x * (mask / (1 - p)), the mask drawn as `bernoulli_(1 - p)`."""
    keep = 1 - p
    if keep == 0:
        return x * 0.0
    return x * (cast_to(keep_mask(raw, keep, x.shape), x.dtype) / keep)


dropout = composite("dropout", _dropout, infer=_dropout_infer, attrs={"p": 0.5}, domain="dropout")
"""dropout(x, raw draws uint32[2 * numel])"""


# --- attention -------------------------------------------------------------------------------------------------------

def _attention_infer(q: Type, k: Type, v: Type, *mask: Type, is_causal: bool, scale: float | None) -> Type:
    if not (q.dtype is k.dtype is v.dtype):
        raise RuntimeError("Expected query, key, and value to have the same dtype, but got query.dtype: "
                           f"{q.dtype.name} key.dtype: {k.dtype.name} and value.dtype: {v.dtype.name} instead.")
    lead = broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise RuntimeError(f"scaled_dot_product_attention: query {list(q.shape)}, key {list(k.shape)} and value "
                           f"{list(v.shape)} do not fit")
    return Type(q.dtype, (*lead, q.shape[-2], v.shape[-1]))


def causal_mask(b: Builder, rows: int, columns: int) -> Value:
    """bool[rows, columns]: a row sees the columns up to its own number."""
    i, j = (b.apply(iota, length=n, dtype=dtypes.int64) for n in (rows, columns))
    return reshape_to(j, (1, columns)) <= reshape_to(i, (rows, 1))


MIN_ROWS = 8
"""Fewer queries or keys do not fill the tiles of the kernel for all of attention."""


def fills_tiles(q: Value, k: Value, v: Value) -> bool:
    return min(q.shape[-2], k.shape[-2]) >= MIN_ROWS and min(q.shape[-1], v.shape[-1]) > 0


def _attention(b: Builder, q: Value, k: Value, v: Value, *mask: Value, is_causal: bool, scale: float | None) -> Value:
    """softmax(q @ k.T * scale + mask) @ v. A row that sees nothing gives zeros."""
    lead: Shape = broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (expand(x, (*lead, *x.shape[-2:])) for x in (q, k, v))
    factor = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else scale  # of no elements, products are 0
    if not mask and q.dtype in (dtypes.float32, dtypes.float64) and fills_tiles(q, k, v):
        return attend(q, k, v, causal=is_causal, scale=float(factor))[0]
    scores = matmul(q * factor, transpose_last(k))
    lowest = constant(b, -math.inf, scores.dtype, scores.shape)
    if is_causal:
        scores = where(causal_mask(b, *scores.shape[-2:]), scores, lowest)
    if mask:
        m = expand(mask[0], scores.shape)
        scores = where(m, scores, lowest) if m.dtype is dtypes.bool_ else scores + m
    last = scores.ndim - 1
    weights = softmax(scores, axis=last)
    if mask:
        unseen = keep_axes(all_(scores <= lowest, axes=(last,)), scores, (last,))
        weights = where(unseen, zeros_like(weights), weights)
    return matmul(weights, v)


attention = composite("attention", _attention, infer=_attention_infer, attrs={"is_causal": False, "scale": None},
                      domain="attention")
"""attention(q[..., T, E], k[..., S, E], v[..., S, D][, mask, bool or added]), PyTorch's scaled_dot_product_attention"""
