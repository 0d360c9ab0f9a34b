"""Dropout of elements and of channels."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import jtorch
from jtorch._tensor import Tensor
from jtorch.ops.arguments import memory_order
from jtorch.ops.random import dropout_noise

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]


def check_probability(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _noise(input: Tensor, shape: tuple[int, ...], p: float, order: tuple[int, ...] | None = None) -> Tensor:
    """Zeros with probability p, else 1 / (1 - p); drawn in the given order of the axes, if not the usual one."""
    if order is None:
        return dropout_noise(shape, 1 - p, input.dtype)
    drawn = dropout_noise(tuple([shape[d] for d in order]), 1 - p, input.dtype)
    return drawn.permute(sorted(range(len(order)), key=order.__getitem__))


def _changes_nothing(input: Tensor, p: float, training: bool) -> bool:
    check_probability(p)
    return not training or p == 0 or not input.numel()


def _scaled(input: Tensor, noise: Tensor, inplace: bool) -> Tensor:
    return input.mul_(noise) if inplace else input * noise


def _zeroed(input: Tensor, inplace: bool) -> Tensor:
    """What remains where all is dropped: NaN where the input is not finite."""
    return _scaled(input, jtorch.zeros((), dtype=input.dtype), inplace)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zero elements with probability p and scale the rest."""
    if _changes_nothing(input, p, training):
        return input
    if p == 1:
        return _zeroed(input, inplace)
    return _scaled(input, _noise(input, input.shape, p, memory_order(input)), inplace)


def _feature_dropout(name: str, input: Tensor, p: float, training: bool, inplace: bool, ndim: int | None) -> Tensor:
    nothing = _changes_nothing(input, p, training)
    if ndim is not None and input.ndim not in (ndim + 1, ndim + 2):
        warnings.warn(
            f"{name}: Received a {input.ndim}-D input to {name}, which is deprecated and will result in an error in "
            "a future release.",
            stacklevel=3,
        )
    if nothing:
        return input
    if p == 1:
        return _zeroed(input, inplace)
    batched = ndim is None or input.ndim != ndim + 1
    shape = ((input.shape[0], input.shape[1], *[1] * (input.ndim - 2)) if batched
             else (input.shape[0], *[1] * (input.ndim - 1)))
    return _scaled(input, _noise(input, shape, p), inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of sequences."""
    return _feature_dropout("dropout1d", input, p, training, inplace, 1)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of images."""
    return _feature_dropout("dropout2d", input, p, training, inplace, None)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of volumes."""
    return _feature_dropout("dropout3d", input, p, training, inplace, 3)


def _alpha_dropout(input: Tensor, p: float, training: bool, inplace: bool, shape: Sequence[int]) -> Tensor:
    if _changes_nothing(input, p, training):
        return input
    if p == 1:
        return _zeroed(input, inplace)
    alpha = 1.7580993408473766
    a = 1.0 / math.sqrt((alpha * alpha * p + 1) * (1 - p))
    with jtorch.no_grad():
        keep = jtorch.empty(tuple(shape), dtype=input.dtype).bernoulli_(1 - p)
        shift = keep.sub(1).mul_(alpha * a).add_(alpha * a * p)
        keep.mul_(a)
    y = input * keep + shift
    return input.copy_(y) if inplace else y


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout that keeps the mean and variance of what SELU gives."""
    return _alpha_dropout(input, p, training, inplace, input.shape)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Alpha dropout of whole channels."""
    return _alpha_dropout(input, p, training, inplace, (*input.shape[:2], *[1] * (input.ndim - 2)))
