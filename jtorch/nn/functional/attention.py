"""Scaled dot-product and multi-head attention."""
from __future__ import annotations

import math
from typing import Any

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.ir.composites import attention
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.nn.functional.activation import softmax
from jtorch.nn.functional.affine import linear
from jtorch.nn.functional.dropouts import check_probability, dropout
from jtorch.ops.padding import pad

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


@operator
def _attention(query: Value, key: Value, value: Value, attn_mask: Value | None, is_causal: bool,
               scale: float | None) -> Value:
    dtypes.require(query.dtype, dtypes.FLOAT, "softmax_lastdim_kernel_impl")
    mask = () if attn_mask is None else (attn_mask if attn_mask.dtype is dtypes.bool_
                                         else ew.cast_to(attn_mask, query.dtype),)
    return attention.attention(query, key, value, *mask, is_causal=bool(is_causal),
                               scale=None if scale is None else float(scale))


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(q @ k.T * scale + mask) @ v"""
    if is_causal and attn_mask is not None:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(repeats, -3) for t in (key, value))
    if not dropout_p:
        return _attention(query, key, value, attn_mask, is_causal, scale)
    check_probability(dropout_p)
    factor = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = jtorch.ones(scores.shape[-2], scores.shape[-1], dtype=dtypes.bool_).tril()
    if attn_mask is not None:
        scores = (scores.masked_fill(attn_mask.logical_not(), -math.inf) if attn_mask.dtype is dtypes.bool_
                  else scores + attn_mask)
    return dropout(softmax(scores, -1), dropout_p) @ value


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention over [T, N, E] (or [T, E]) inputs."""
    single = query.ndim == 2
    if single:
        query, key, value = (t.unsqueeze(1) for t in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    t, n, e = query.shape
    if e != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {e}")
    head = e // num_heads
    if head * num_heads != e:
        raise AssertionError(f"embed_dim {e} not divisible by num_heads {num_heads}")
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    q, k, v = _project(query, key, value, e, in_proj_weight, in_proj_bias, use_separate_proj_weight, q_proj_weight,
                       k_proj_weight, v_proj_weight)
    mask = _merged_mask(attn_mask, key_padding_mask, q.dtype, n, num_heads)
    if bias_k is not None and bias_v is not None:
        k = jtorch.cat([k, bias_k.expand(1, n, e)])
        v = jtorch.cat([v, bias_v.expand(1, n, e)])
        mask = None if mask is None else pad(mask, (0, 1))
    q = q.reshape(t, n, num_heads, head).permute(1, 2, 0, 3)
    k = k.reshape(k.shape[0], n, num_heads, head).permute(1, 2, 0, 3) if static_k is None else static_k.reshape(
        n, num_heads, -1, head)
    v = v.reshape(v.shape[0], n, num_heads, head).permute(1, 2, 0, 3) if static_v is None else static_v.reshape(
        n, num_heads, -1, head)
    if add_zero_attn:
        zero = jtorch.zeros(n, num_heads, 1, head, dtype=k.dtype)
        k, v = jtorch.cat([k, zero], 2), jtorch.cat([v, zero], 2)
        mask = None if mask is None else pad(mask, (0, 1))
    weights = None
    if need_weights:
        scores = (q * math.sqrt(1.0 / head)) @ k.transpose(-2, -1)
        scores = scores if mask is None else scores + mask
        weights = softmax(scores, -1)
        if dropout_p > 0.0 and training:
            weights = dropout(weights, dropout_p)
        y = weights @ v
        if average_attn_weights:
            weights = weights.mean(1)
        weights = weights[0] if single else weights
    else:
        y = scaled_dot_product_attention(q, k, v, mask, dropout_p if training else 0.0)
    y = linear(y.permute(2, 0, 1, 3).reshape(t * n, e), out_proj_weight, out_proj_bias).reshape(t, n, e)
    return (y[:, 0] if single else y), weights


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    e: int,
    weight: Tensor | None,
    bias: Tensor | None,
    separate: bool,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    v_weight: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The projections of the three inputs; one product where they are the same."""
    if separate:
        parts = (None, None, None) if bias is None else tuple(bias.chunk(3))
        return (linear(query, q_weight, parts[0]), linear(key, k_weight, parts[1]), linear(value, v_weight, parts[2]))
    if query is key and key is value:
        q, k, v = linear(query, weight, bias).chunk(3, -1)
        return q, k, v
    parts = (None, None, None) if bias is None else tuple(bias.chunk(3))
    return tuple(linear(x, w, b) for x, w, b in zip((query, key, value), weight.chunk(3), parts))  # type: ignore


def _merged_mask(attn_mask: Tensor | None, key_padding_mask: Tensor | None, dtype: Any, n: int,
                 heads: int) -> Tensor | None:
    """Both masks as one that is added to [N, heads, T, S]."""
    def added(mask: Tensor) -> Tensor:
        if mask.dtype is not dtypes.bool_:
            return mask.to(dtype)
        return jtorch.zeros(tuple(mask.shape), dtype=dtype).masked_fill(mask, -math.inf)
    mask = None
    if attn_mask is not None:
        mask = added(attn_mask)
        mask = mask.reshape(n, heads, *mask.shape[1:]) if mask.ndim == 3 else mask
    if key_padding_mask is not None:
        keys = added(key_padding_mask).reshape(n, 1, 1, -1)
        mask = keys if mask is None else mask + keys
    return mask
