"""Normalisation layers. The derivatives are written out: they read the input and two statistics, by the formulas of the
body, so that both share them in the graph.

Optional operands come last: a weight, then a bias.
"""
from __future__ import annotations

import functools
from math import prod
from typing import Any

from jtorch.ir.arith import maximum
from jtorch.ir.composites.define import REQUIRED, along, composite, mean_over, same_type, sum_over
from jtorch.ir.composites.statistics import vector_norm
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import abs_, cast_to, expand, pow_, rsqrt, sqrt
from jtorch.ir.prims.movement import pad, permute_to, reshape_to, slice_axis
from jtorch.ir.prims.reduce import keep_axes
from jtorch.ir.prims.window import avg_pool

Axes = tuple[int, ...]


def statistics(x: Value, axes: Axes) -> tuple[Value, Value]:
    """(mean, biased variance) over axes."""
    mean = mean_over(x, axes)
    c = x - keep_axes(mean, x, axes)
    return mean, mean_over(c * c, axes)


def normalized(x: Value, axes: Axes, eps: float) -> tuple[Value, Value]:
    """(x - mean) / sqrt(var + eps), and 1 / sqrt(var + eps), both in x's shape."""
    mean, variance = statistics(x, axes)
    scale = keep_axes(rsqrt(variance + eps), x, axes)
    return (x - keep_axes(mean, x, axes)) * scale, scale


def _affine(y: Value, affine: tuple[Value, ...], axis: int | None) -> Value:
    """y * weight + bias, along `axis` or (None) over the trailing axes."""
    for i, v in enumerate(affine):
        wide = expand(v if axis is None else along(v, axis, y.ndim), y.shape)
        y = y + wide if i else y * wide
    return y


def _affine_grads(g: Value, normal: Value, affine: tuple[Value, ...], axes: Axes, shape: Axes) -> list[Value]:
    grads = [sum_over(g * normal, axes), sum_over(g, axes)]
    return [reshape_to(v, shape) for v, _ in zip(grads, affine)]


def _through(g: Value, normal: Value, scale: Value, axes: Axes) -> Value:
    """The cotangent in front of `normalized`: what the mean and the variance took away."""
    return scale * (g - mean_over(g, axes, keep=True) - normal * mean_over(g * normal, axes, keep=True))


# --- over the trailing axes ------------------------------------------------------------------------------------------

def _norm_infer(x: Type, *affine: Type, ndim: int, eps: float) -> Type:
    shape = x.shape[x.ndim - ndim:]
    for v in affine:
        if v.shape != shape:
            raise RuntimeError(f"Given normalized_shape={list(v.shape)}, expected input with shape "
                               f"[*, {', '.join(map(str, v.shape))}], but got input of size{list(x.shape)}")
    return x


def _trailing(x: Value, ndim: int) -> Axes:
    return tuple(range(x.ndim - ndim, x.ndim))


def _layer_norm(b: Builder, x: Value, *affine: Value, ndim: int, eps: float) -> Value:
    return _affine(normalized(x, _trailing(x, ndim), eps)[0], affine, None)


def _layer_norm_vjp(g: Value, y: Value, x: Value, *affine: Value, ndim: int, eps: float) -> tuple:
    axes = _trailing(x, ndim)
    normal, scale = normalized(x, axes, eps)
    weighted = g * expand(affine[0], x.shape) if affine else g
    lead = tuple(range(x.ndim - ndim))
    return (_through(weighted, normal, scale, axes), *_affine_grads(g, normal, affine, lead, x.shape[x.ndim - ndim:]))


layer_norm = composite("layer_norm", _layer_norm, _layer_norm_vjp, infer=_norm_infer,
                       attrs={"ndim": REQUIRED, "eps": 1e-5}, domain="layer_norm")
"""layer_norm(x[, weight[, bias]]): over the last `ndim` axes."""


def _root(x: Value, axes: Axes, eps: float) -> Value:
    return keep_axes(rsqrt(mean_over(x * x, axes) + eps), x, axes)


def _rms_norm(b: Builder, x: Value, *affine: Value, ndim: int, eps: float) -> Value:
    return _affine(x * _root(x, _trailing(x, ndim), eps), affine, None)


def _rms_norm_vjp(g: Value, y: Value, x: Value, *affine: Value, ndim: int, eps: float) -> tuple:
    axes = _trailing(x, ndim)
    scale = _root(x, axes, eps)
    normal = x * scale
    weighted = g * expand(affine[0], x.shape) if affine else g
    lead = tuple(range(x.ndim - ndim))
    of_x = scale * (weighted - normal * mean_over(weighted * normal, axes, keep=True))
    return (of_x, *_affine_grads(g, normal, affine, lead, x.shape[x.ndim - ndim:]))


rms_norm = composite("rms_norm", _rms_norm, _rms_norm_vjp, infer=_norm_infer, attrs={"ndim": REQUIRED, "eps": 1e-6},
                     domain="rms_norm")
"""rms_norm(x[, weight]): x / sqrt(mean(x**2) + eps) over the last `ndim` axes."""


# --- over the batch --------------------------------------------------------------------------------------------------

def _other_axes(x: Value, axis: int = 1) -> Axes:
    return tuple(a for a in range(x.ndim) if a != axis)


def _train_infer(x: Type, *affine: Type, eps: float) -> tuple[Type, Type, Type]:
    if prod(x.shape) == x.shape[1]:
        raise ValueError("Expected more than 1 value per channel when training, got input size "
                         f"torch.Size({list(x.shape)})")
    statistic = Type(affine[0].dtype if affine else x.dtype, (x.shape[1],))
    return x, statistic, statistic


def _batch_norm_train(b: Builder, x: Value, *affine: Value, eps: float) -> tuple:
    axes = _other_axes(x)
    mean, variance = statistics(x, axes)
    return _affine(normalized(x, axes, eps)[0], affine, 1), mean, variance


def _batch_norm_train_vjp(g: tuple, y: tuple, x: Value, *affine: Value, eps: float) -> tuple:
    axes = _other_axes(x)
    normal, scale = normalized(x, axes, eps)
    of_x: Any = None
    of_affine: list[Value | None] = [None] * len(affine)
    if g[0] is not None:
        weighted = g[0] * expand(along(affine[0], 1, x.ndim), x.shape) if affine else g[0]
        of_x = _through(weighted, normal, scale, axes)
        of_affine = list(_affine_grads(g[0], normal, affine, axes, (x.shape[1],)))
    n = x.type.numel // max(x.shape[1], 1)
    if g[1] is not None:
        share = keep_axes(g[1] / n, x, axes)
        of_x = share if of_x is None else of_x + share
    if g[2] is not None:
        share = keep_axes(g[2] * (2.0 / n), x, axes) * (x - mean_over(x, axes, keep=True))
        of_x = share if of_x is None else of_x + share
    return (of_x, *of_affine)


batch_norm_train = composite("batch_norm_train", _batch_norm_train, _batch_norm_train_vjp, infer=_train_infer,
                             attrs={"eps": 1e-5}, domain="batch_norm_train")
"""batch_norm_train(x[N, C, ...][, weight[, bias]]) -> (y, mean, biased variance of the batch)."""


def _batch_norm(b: Builder, x: Value, mean: Value, variance: Value, *affine: Value, eps: float) -> Value:
    """x * scale + shift with two numbers for each channel, in PyTorch's order."""
    scale = rsqrt(variance + eps)
    scale = scale * affine[0] if affine else scale
    shift = -mean * scale if len(affine) < 2 else affine[1] - mean * scale
    return x * expand(along(scale, 1, x.ndim), x.shape) + expand(along(shift, 1, x.ndim), x.shape)


def _batch_norm_infer(x: Type, mean: Type, variance: Type, *affine: Type, eps: float) -> Type:
    for v in (mean, variance, *affine):
        if v.shape != (x.shape[1],):
            raise RuntimeError(f"running_mean should contain {x.shape[1]} elements not {v.numel}")
    return x


batch_norm = composite("batch_norm", _batch_norm, infer=_batch_norm_infer, attrs={"eps": 1e-5}, domain="batch_norm")
"""batch_norm(x[N, C, ...], mean, variance[, weight[, bias]]) with given statistics."""


# --- over groups of channels -----------------------------------------------------------------------------------------

def _group_norm(b: Builder, x: Value, *affine: Value, groups: int, eps: float) -> Value:
    rows = reshape_to(x, (x.shape[0], groups, prod(x.shape[1:]) // groups))
    return _affine(reshape_to(layer_norm(rows, ndim=1, eps=eps), x.shape), affine, 1)


def _group_norm_infer(x: Type, *affine: Type, groups: int, eps: float) -> Type:
    if x.shape[1] % groups:
        raise RuntimeError("Expected number of channels in input to be divisible by num_groups, but got input of shape "
                           f"{list(x.shape)} and num_groups={groups}")
    return x


group_norm = composite("group_norm", _group_norm, infer=_group_norm_infer, attrs={"groups": REQUIRED, "eps": 1e-5},
                       domain="group_norm")
"""group_norm(x[N, C, ...][, weight[, bias]])"""

instance_norm = composite("instance_norm",
                          lambda b, x, *affine, eps: group_norm(x, *affine, groups=max(x.shape[1], 1), eps=eps),
                          infer=same_type, attrs={"eps": 1e-5}, domain="instance_norm")
"""instance_norm(x[N, C, ...][, weight[, bias]]): each channel of each example by its own statistics."""


FEW_NEIGHBOURS = 16
"""Channels whose squares are added slice by slice, in one loop."""


def _neighbours(squares: Value, size: int) -> Value:
    """The mean over `size` neighbouring channels, those outside counting as 0."""
    zero, (front, behind) = constant(squares.builder, 0, squares.dtype), (size // 2, (size - 1) // 2)
    if size <= FEW_NEIGHBOURS:
        widths = tuple((front, behind, 0) if a == 1 else (0, 0, 0) for a in range(squares.ndim))
        wide, n = pad(squares, zero, widths=widths), squares.shape[1]
        total = slice_axis(wide, 1, 0, n)
        for k in range(1, size):
            total = total + slice_axis(wide, 1, k, k + n)
        return total / size
    last = permute_to(squares, (0, *range(2, squares.ndim), 1))
    padded = pad(last, zero, widths=(*[(0, 0, 0)] * (squares.ndim - 1), (front, behind, 0)))
    pooled = avg_pool(padded, kernel=(size,), stride=(1,), padding=(0,))
    return permute_to(pooled, (0, squares.ndim - 1, *range(1, squares.ndim - 1)))


def _local_response_norm(b: Builder, x: Value, size: int, alpha: float, beta: float, k: float) -> Value:
    return x / _power(_neighbours(x * x, size) * alpha + k, beta)


def _power(x: Value, p: float) -> Value:
    """x ** p of what is not negative; a small multiple of a quarter is a product of roots, each rounded once."""
    quarters = 4 * p
    if quarters not in range(1, 9):
        return pow_(x, constant(x.builder, p, x.dtype, x.shape))
    root = sqrt(x)
    whole, rest = divmod(int(quarters), 4)
    return functools.reduce(lambda a, b: a * b, [x] * whole + [root] * (rest // 2) + [sqrt(root)] * (rest % 2))


local_response_norm = composite("local_response_norm", _local_response_norm, infer=same_type, domain="images",
                                attrs={"size": REQUIRED, "alpha": 1e-4, "beta": 0.75, "k": 1.0})


def _normalize(b: Builder, x: Value, p: float, axis: int, eps: float) -> Value:
    size = vector_norm(abs_(x) if x.dtype.is_complex else x, axes=(axis,), p=p)
    return x / keep_axes(cast_to(maximum(size, eps), x.dtype), x, (axis,))


normalize = composite("normalize", _normalize, infer=same_type, attrs={"p": 2.0, "axis": REQUIRED, "eps": 1e-12},
                      domain="axis float",
                      batch=lambda self, b, n, m, x, p, axis, eps: self(x, p=p, axis=axis + 1, eps=eps))
