"""Losses that compare element by element, or whole rows; `reduction` is 'none', 'sum' or 'mean'.

The first two operands are predictions and targets of one shape. Weights of elements are the caller's multiplication.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jtorch.ir.arith import eq, maximum, minimum, where
from jtorch.ir.composites.activations import logsigmoid
from jtorch.ir.composites.define import REQUIRED, composite, mean_over, reduce_as, sum_over
from jtorch.ir.composites.pointwise import xlogy
from jtorch.ir.composites.statistics import vector_norm
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import detach
from jtorch.ir.prims.elementwise import abs_, exp, expand, log, log1p, sigmoid, sqrt, zeros_like


def loss(name: str, values: Callable[..., Value], slope: Callable[..., tuple] | None = None, *,
         attrs: dict[str, Any] | None = None, domain: str = "pair", of_complex: bool = False,
         kernel: str | None = None) -> Op:
    """A loss from its values before reduction; `slope(g, x, t, ...)` gives the cotangents for a cotangent of those."""
    def body(b: Builder, *inputs: Value, reduction: str, **given: Any) -> Value:
        return reduce_as(values(*inputs, **given), reduction)

    def infer(x: Type, *rest: Type, reduction: str, **given: Any) -> Type:
        if x.dtype.is_complex and not of_complex:
            raise NotImplementedError(f'"{name}_cpu" not implemented for \'{x.dtype}\'')
        return Type(x.dtype.to_real(), x.shape if reduction == "none" else ())

    def vjp(g: Value, y: Value, x: Value, *rest: Value, reduction: str, **given: Any) -> tuple:
        if reduction == "mean":
            g = g / x.type.numel if x.type.numel else g * math.nan
        assert slope is not None
        return slope(expand(g, x.shape), x, *rest, **given)

    return composite(name, body, vjp if slope is not None else None, infer=infer,
                     attrs={**(attrs or {}), "reduction": "mean"}, domain=domain, kernel=kernel)


# --- distances -------------------------------------------------------------------------------------------------------

def _mse_slope(g: Value, x: Value, t: Value) -> tuple:
    s = g * ((x - t) * 2.0)
    return s, -s


mse_loss = loss("mse_loss", lambda x, t: (x - t) * (x - t), _mse_slope, kernel="mse_cpu")
l1_loss = loss("l1_loss", lambda x, t: abs_(x - t), of_complex=True)


def _smooth_l1(x: Value, t: Value, beta: float) -> Value:
    d = abs_(x - t)
    return d if beta == 0 else where(d < beta, d * d * 0.5 / beta, d - 0.5 * beta)


def _smooth_l1_slope(g: Value, x: Value, t: Value, beta: float) -> tuple:
    d = x - t
    one = zeros_like(d) + 1.0
    s = g * (where(d > 0, one, where(d < 0, -one, zeros_like(d))) if beta == 0 else
             where(d <= -beta, -one, where(d >= beta, one, d / beta)))
    return s, -s


smooth_l1_loss = loss("smooth_l1_loss", _smooth_l1, _smooth_l1_slope, attrs={"beta": 1.0}, kernel="smooth_l1_cpu")


def _huber(x: Value, t: Value, delta: float) -> Value:
    d = abs_(x - t)
    return where(d <= delta, d * d * 0.5, (d - 0.5 * delta) * delta)


def _huber_slope(g: Value, x: Value, t: Value, delta: float) -> tuple:
    s = g * minimum(maximum(x - t, -delta), delta)
    return s, -s


huber_loss = loss("huber_loss", _huber, _huber_slope, attrs={"delta": 1.0}, kernel="huber_cpu")


# --- probabilities ---------------------------------------------------------------------------------------------------

def _bce(x: Value, t: Value) -> Value:
    """Logarithms are cut off at -100."""
    return (t - 1) * maximum(log1p(-x), -100.0) - t * maximum(log(x), -100.0)


def _bce_slope(g: Value, x: Value, t: Value) -> tuple:
    return g * (x - t) / maximum((1 - x) * x, 1e-12), g * (log1p(-x) - log(x))


binary_cross_entropy = loss("binary_cross_entropy", _bce, _bce_slope, domain="probability pair")


def _bce_with_logits(x: Value, t: Value, *pos_weight: Value) -> Value:
    scale = logsigmoid(x)
    if pos_weight:
        scale = scale * (t * (expand(pos_weight[0], t.shape) - 1) + 1)
    return (1 - t) * x - scale


def _bce_with_logits_slope(g: Value, x: Value, t: Value, *pos_weight: Value) -> tuple:
    if not pos_weight:
        return g * (sigmoid(x) - t), -g * x
    p = expand(pos_weight[0], t.shape)
    scale = t * (p - 1) + 1
    smooth = logsigmoid(x)
    return g * ((1 - t) - scale * sigmoid(-x)), -g * (x + (p - 1) * smooth), -g * t * smooth


bce_with_logits = loss("bce_with_logits", _bce_with_logits, _bce_with_logits_slope, domain="logit pair")
"""bce_with_logits(x, t[, pos_weight])"""


def _kl_div(x: Value, t: Value, log_target: bool) -> Value:
    return exp(t) * (t - x) if log_target else xlogy(t, t) - t * x


kl_div = loss("kl_div", _kl_div, attrs={"log_target": False}, domain="positive pair")


def _poisson_nll(x: Value, t: Value, log_input: bool, full: bool, eps: float) -> Value:
    values = exp(x) - t * x if log_input else x - t * log(x + eps)
    if full:  # Stirling's formula for log(t!)
        stirling = xlogy(t, t) - t + log(maximum(t, 1e-30) * (2 * math.pi)) * 0.5
        values = values + where(t <= 1, zeros_like(t), stirling)
    return values


poisson_nll_loss = loss("poisson_nll_loss", _poisson_nll, attrs={"log_input": True, "full": False, "eps": 1e-8},
                        domain="positive pair")


def _gaussian_nll(x: Value, t: Value, variance: Value, full: bool, eps: float) -> Value:
    """The bound on the variance lets its gradient through, as in PyTorch."""
    v = expand(variance, x.shape)
    v = v + detach(maximum(v, eps) - v)
    values = (log(v) + (x - t) * (x - t) / v) * 0.5
    return values + 0.5 * math.log(2 * math.pi) if full else values


gaussian_nll_loss = loss("gaussian_nll_loss", _gaussian_nll, attrs={"full": False, "eps": 1e-6},
                         domain="positive triple")


# --- margins ---------------------------------------------------------------------------------------------------------

hinge_embedding_loss = loss(
    "hinge_embedding_loss",
    lambda x, t, margin: where(eq(t, -1), 0.0, x) + where(eq(t, 1), 0.0, maximum(margin - x, 0.0)),
    attrs={"margin": 1.0}, domain="sign pair")
"""PyTorch's formula: a target that is neither 1 nor -1 gets both terms."""
margin_ranking_loss = loss(
    "margin_ranking_loss", lambda x, other, t, margin: maximum(-t * (x - other) + margin, 0.0), attrs={"margin": 0.0},
    domain="sign triple")
soft_margin_loss = loss("soft_margin_loss", lambda x, t: -logsigmoid(x * t), domain="sign pair")


def _rows(name: str, body: Callable[..., Value], *, attrs: dict[str, Any], domain: str) -> Op:
    """A loss of whole rows (the last axis)."""
    def infer(x: Type, *rest: Type, reduction: str, **given: Any) -> Type:
        return Type(x.dtype.to_real(), x.shape[:-1] if reduction == "none" else ())

    return composite(name, lambda b, *inputs, reduction, **given: reduce_as(body(*inputs, **given), reduction),
                     infer=infer, attrs={**attrs, "reduction": "mean"}, domain=domain)


def _multilabel_soft_margin(x: Value, t: Value, *weight: Value) -> Value:
    values = -(t * logsigmoid(x) + (1 - t) * logsigmoid(-x))
    if weight:
        values = values * expand(weight[0], values.shape)
    return mean_over(values, (x.ndim - 1,))


multilabel_soft_margin_loss = _rows("multilabel_soft_margin_loss", _multilabel_soft_margin, attrs={},
                                    domain="logit rows")


def _distance(a: Value, b: Value, p: float, eps: float) -> Value:
    d = a - b + eps
    return vector_norm(abs_(d) if d.dtype.is_complex else d, axes=(a.ndim - 1,), p=p)


def _triplet_margin(anchor: Value, positive: Value, negative: Value, margin: float, p: float, eps: float,
                    swap: bool) -> Value:
    near, far = _distance(anchor, positive, p, eps), _distance(anchor, negative, p, eps)
    if swap:
        far = minimum(far, _distance(positive, negative, p, eps))
    return maximum(near - far + margin, 0.0)


triplet_margin_loss = _rows("triplet_margin_loss", _triplet_margin, domain="triple rows",
                            attrs={"margin": 1.0, "p": 2.0, "eps": 1e-6, "swap": False})


# --- angles ----------------------------------------------------------------------------------------------------------

def _reduced(x: Type, axis: int) -> Type:
    return Type(x.dtype.to_real(), (*x.shape[:axis], *x.shape[axis + 1:]))


def _cosine_similarity(b: Builder, x: Value, y: Value, axis: int, eps: float) -> Value:
    sizes = [maximum(vector_norm(v, axes=(axis,), p=2.0), eps) for v in (x, y)]
    return sum_over(x * y, (axis,)) / (sizes[0] * sizes[1])


cosine_similarity = composite("cosine_similarity", _cosine_similarity, infer=lambda x, y, axis, eps: _reduced(x, axis),
                              attrs={"axis": REQUIRED, "eps": 1e-8}, domain="axis pair")
pairwise_distance = composite("pairwise_distance", lambda b, x, y, p, eps: _distance(x, y, p, eps),
                              infer=lambda x, y, p, eps: _reduced(x, x.ndim - 1), attrs={"p": 2.0, "eps": 1e-6},
                              domain="pair rows")


def _cosine_embedding(b: Builder, x: Value, y: Value, target: Value, margin: float, reduction: str) -> Value:
    """PyTorch adds a tiny number to the squares here, and clamps nothing."""
    axes = (x.ndim - 1,)
    tiny = 1e-12
    squares = (sum_over(x * x, axes) + tiny) * (sum_over(y * y, axes) + tiny)
    cosine = sum_over(x * y, axes) / sqrt(squares)
    values = where(target > 0, 1 - cosine, maximum(cosine - margin, 0.0))
    return reduce_as(values, reduction)


cosine_embedding_loss = composite(
    "cosine_embedding_loss", _cosine_embedding, attrs={"margin": 0.0, "reduction": "mean"}, domain="pair rows sign",
    infer=lambda x, y, t, margin, reduction: Type(x.dtype, t.shape if reduction == "none" else ()))
