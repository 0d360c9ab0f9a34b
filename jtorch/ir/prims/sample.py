"""Weighted sums of elements at named places: what resampling an image or a signal comes to.

    y[n, c, o, r] = sum over k of weight[n, k, o] * x[n, c, index[n, k, o], r]

A product with a sparse matrix of `k` entries per row, the same one for all channels c and trailing elements r. It is
linear in x and in the weights, and its two derivatives are operations of the same family: each of `sample`,
`sample_input_grad` and `sample_weight_grad` is expressed by the other two, so gradients of every order fall out.
A place outside of x adds nothing.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.elementwise import expand
from jtorch.ir.prims.movement import reshape_to


def _check(name: str, x: Type, index: Type, weight: Type | None, y: Type | None) -> None:
    n, k, o = index.shape
    fits = x.ndim == 4 and x.shape[0] == n and index.dtype is dtypes.int64
    if weight is not None:
        fits = fits and weight == Type(x.dtype, index.shape)
    if y is not None:
        fits = fits and y == Type(x.dtype, (n, x.shape[1], o, x.shape[3]))
    if not fits:
        raise AssertionError(f"{name}: {x}, {index}, {weight}, {y}")


def _sample_infer(x: Type, index: Type, weight: Type) -> Type:
    _check("sample", x, index, weight, None)
    return Type(x.dtype, (*x.shape[:2], index.shape[2], x.shape[3]))


def _input_grad_infer(g: Type, index: Type, weight: Type, size: int) -> Type:
    x = Type(g.dtype, (*g.shape[:2], size, g.shape[3]))
    _check("sample_input_grad", x, index, weight, g)
    return x


def _weight_grad_infer(x: Type, index: Type, g: Type) -> Type:
    _check("sample_weight_grad", x, index, None, g)
    return Type(x.dtype, index.shape)


def _wide(a: np.ndarray) -> np.ndarray:
    return a.astype(np.float32) if a.dtype.itemsize == 2 else a


def _picked(x: np.ndarray, place: np.ndarray) -> np.ndarray:
    """x[n, c, place[n, o], r]; 0 outside."""
    if not x.shape[2]:
        return np.zeros((*x.shape[:2], place.shape[1], x.shape[3]), x.dtype)
    inside = ((place >= 0) & (place < x.shape[2]))[:, None, :, None]
    return np.where(inside, np.take_along_axis(x, np.where(inside, place[:, None, :, None], 0), 2), 0)


def _sample_numpy(x: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    n, taps, o = index.shape
    y = np.zeros((n, x.shape[1], o, x.shape[3]), _wide(x).dtype)
    for k in range(taps):
        y += _picked(_wide(x), index[:, k]) * _wide(weight)[:, None, k, :, None]
    return y.astype(x.dtype)


def _input_grad_numpy(g: np.ndarray, index: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    x = np.zeros((*g.shape[:2], size, g.shape[3]), _wide(g).dtype)
    for i, places in enumerate(index):
        for k, place in enumerate(places):
            inside = (place >= 0) & (place < size)
            np.add.at(x[i], (slice(None), place[inside]), (_wide(g)[i] * _wide(weight)[i, k, :, None])[:, inside])
    return x.astype(g.dtype)


def _weight_grad_numpy(x: np.ndarray, index: np.ndarray, g: np.ndarray) -> np.ndarray:
    parts = [(_picked(_wide(x), index[:, k]) * _wide(g)).sum((1, 3)) for k in range(index.shape[1])]
    return np.stack(parts, 1).astype(x.dtype) if parts else np.zeros(index.shape, x.dtype)


def _batch(self: Op, b: Builder, n: int, m: tuple, *inputs: Value, **attrs: Any) -> Value:
    """The mapped axis is one with the first."""
    inputs = tuple(v if mapped else expand(v, (n, *v.shape)) for v, mapped in zip(inputs, m))
    y = self(*[reshape_to(v, (n * v.shape[1], *v.shape[2:])) for v in inputs], **attrs)
    return reshape_to(y, (n, y.shape[0] // n if n else inputs[0].shape[1], *y.shape[1:]))


def _both(first: Value | None, second: Value | None) -> Value | None:
    return second if first is None else first if second is None else first + second


sample = Op(
    "sample", "index", _sample_infer, _sample_numpy,
    lambda g, y, x, index, weight: (
        sample_input_grad(g, index, weight, size=x.shape[2]) if x.requires_grad else None, None,
        sample_weight_grad(x, index, g) if weight.requires_grad else None),
    jvp=lambda t, y, x, index, weight: _both(t[0] and sample(t[0], index, weight), t[2] and sample(x, index, t[2])),
    batch=_batch)
"""x[N, C, S, R], index[N, K, O], weight[N, K, O] -> [N, C, O, R]."""

sample_input_grad = Op(
    "sample_input_grad", "index", _input_grad_infer, _input_grad_numpy,
    lambda h, x, g, index, weight, size: (
        sample(h, index, weight) if g.requires_grad else None, None,
        sample_weight_grad(h, index, g) if weight.requires_grad else None),
    jvp=lambda t, y, g, index, weight, size: _both(t[0] and sample_input_grad(t[0], index, weight, size=size),
                                                   t[2] and sample_input_grad(g, index, t[2], size=size)),
    attr_names=("size",), batch=_batch)
"""The x-derivative of `sample`: g[N, C, O, R], index, weight -> [N, C, size, R]."""

sample_weight_grad = Op(
    "sample_weight_grad", "index", _weight_grad_infer, _weight_grad_numpy,
    lambda v, y, x, index, g: (
        sample_input_grad(g, index, v, size=x.shape[2]) if x.requires_grad else None, None,
        sample(x, index, v) if g.requires_grad else None),
    jvp=lambda t, y, x, index, g: _both(t[0] and sample_weight_grad(t[0], index, g),
                                        t[2] and sample_weight_grad(x, index, t[2])),
    batch=_batch)
"""The weight-derivative of `sample`: x[N, C, S, R], index, g[N, C, O, R] -> [N, K, O]."""
