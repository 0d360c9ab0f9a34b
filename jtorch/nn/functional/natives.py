"""Layers as the `torch` namespace has them: PyTorch's native functions, whose arguments come in an order of their own
and whose options may be numbers. `jtorch.__getattr__` finds them in `NATIVES`."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn import functional as F
from jtorch.nn.functional.arguments import tuple_of

NATIVES: dict[str, Callable[..., Any]] = {name: getattr(F, name) for name in (
    "adaptive_avg_pool1d", "avg_pool1d", "bilinear", "celu", "celu_", "channel_shuffle", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cosine_similarity", "max_pool1d",
    "max_pool1d_with_indices", "max_pool2d", "max_pool3d", "pairwise_distance", "pdist", "pixel_shuffle",
    "pixel_unshuffle", "rms_norm", "rrelu", "selu", "selu_", "threshold", "threshold_")}

_REDUCTIONS = ("none", "mean", "sum")
_SAMPLINGS = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def native(function: Callable[..., Any]) -> Callable[..., Any]:
    NATIVES[function.__name__] = function
    return function


def _option(names: Sequence[str], number: int, what: str) -> str:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(names):
        raise ValueError(f"{number!r} is not a valid value for {what}: it is 0 to {len(names) - 1}, for "
                         f"{', '.join(names)}")
    return names[number]


# --- normalisation and dropout ---------------------------------------------------------------------------------------

@native
def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5, cudnn_enable: bool = True) -> Tensor:
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


@native
def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5, cudnn_enabled: bool = True) -> Tensor:
    return F.group_norm(input, num_groups, weight, bias, eps)


@native
def batch_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
               running_var: Tensor | None, training: bool, momentum: float, eps: float, cudnn_enabled: bool) -> Tensor:
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


@native
def instance_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
                  running_var: Tensor | None, use_input_stats: bool, momentum: float, eps: float,
                  cudnn_enabled: bool) -> Tensor:
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def _dropout(name: str, function: Callable[..., Tensor]) -> None:
    def drop(input: Tensor, p: float, train: bool) -> Tensor:
        return function(input, p, train)

    def drop_in_place(input: Tensor, p: float, train: bool) -> Tensor:
        return function(input, p, train, True)
    for f, spelled in ((drop, name), (drop_in_place, name + "_")):
        f.__name__ = f.__qualname__ = spelled
        native(f)


_dropout("dropout", F.dropout)
_dropout("alpha_dropout", F.alpha_dropout)
_dropout("feature_dropout", F.dropout2d)
_dropout("feature_alpha_dropout", F.feature_alpha_dropout)


# --- tables, pools, grids --------------------------------------------------------------------------------------------

@native
def embedding(weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False,
              sparse: bool = False) -> Tensor:
    """Here a negative `padding_idx` means none."""
    return F.embedding(indices, weight, padding_idx if padding_idx >= 0 else None,
                       scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)


@native
def adaptive_max_pool1d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    return F.adaptive_max_pool1d_with_indices(input, output_size)


@native
def affine_grid_generator(theta: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    return F.affine_grid(theta, size, align_corners)


@native
def grid_sampler(input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int,
                 align_corners: bool) -> Tensor:
    return F.grid_sample(input, grid, _option(_SAMPLINGS, interpolation_mode, "interpolation_mode"),
                         _option(_PADDINGS, padding_mode, "padding_mode"), align_corners)


NATIVES["grid_sampler_2d"] = NATIVES["grid_sampler_3d"] = grid_sampler


@native
def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    return F.pad(input, pad, "constant", value)


@native
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """A convolution over sequences [T, N, C] with a weight [K, C, O]."""
    y = F.conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=tuple_of(pad, 1))
    return y.permute(2, 0, 1)


# --- losses, with the reduction as a number --------------------------------------------------------------------------

@native
def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                     pos_weight: Tensor | None = None, reduction: int = 1) -> Tensor:
    return F.binary_cross_entropy_with_logits(input, target, weight, pos_weight=pos_weight,
                                              reduction=_option(_REDUCTIONS, reduction, "reduction"))


@native
def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0,
                          reduction: int = 1) -> Tensor:
    return F.cosine_embedding_loss(input1, input2, target, margin,
                                   reduction=_option(_REDUCTIONS, reduction, "reduction"))


@native
def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
             reduction: int = 1, zero_infinity: bool = False) -> Tensor:
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank,
                      _option(_REDUCTIONS, reduction, "reduction"), zero_infinity)


@native
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = 1) -> Tensor:
    return F.hinge_embedding_loss(input, target, margin, reduction=_option(_REDUCTIONS, reduction, "reduction"))


@native
def kl_div(input: Tensor, target: Tensor, reduction: int = 1, *, log_target: bool = False) -> Tensor:
    each = F.kl_div(input, target, reduction="none", log_target=log_target)
    kind = _option(_REDUCTIONS, reduction, "reduction")
    return each if kind == "none" else each.mean() if kind == "mean" else each.sum()


@native
def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0,
                        reduction: int = 1) -> Tensor:
    return F.margin_ranking_loss(input1, input2, target, margin,
                                 reduction=_option(_REDUCTIONS, reduction, "reduction"))


@native
def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int) -> Tensor:
    return F.poisson_nll_loss(input, target, log_input, full, eps=eps,
                              reduction=_option(_REDUCTIONS, reduction, "reduction"))


@native
def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
                        eps: float = 1e-6, swap: bool = False, reduction: int = 1) -> Tensor:
    return F.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap,
                                 reduction=_option(_REDUCTIONS, reduction, "reduction"))


# --- layers that also give what their derivatives read ---------------------------------------------------------------

@native
def native_layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None,
                      eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(the output, the mean, 1 / the standard deviation)"""
    axes = tuple(range(input.ndim - len(normalized_shape), input.ndim))
    variance, mean = jtorch.var_mean(input, axes, correction=0, keepdim=True)
    return F.layer_norm(input, normalized_shape, weight, bias, eps), mean, (variance + eps).rsqrt()


@native
def native_group_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, N: int, C: int, HxW: int, group: int,
                      eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(the output, the mean and 1 / the standard deviation of each group)"""
    variance, mean = jtorch.var_mean(input.reshape(N, group, C // group * HxW), 2, correction=0)
    return F.group_norm(input, group, weight, bias, eps), mean, (variance + eps).rsqrt()


@native
def native_batch_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
                      running_var: Tensor | None, training: bool, momentum: float, eps: float
                      ) -> tuple[Tensor, Tensor, Tensor]:
    """(the output, the batch's mean and 1 / standard deviation, which are empty unless in training)"""
    if not training:
        nothing = input.new_empty(0)
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps), nothing, nothing
    variance, mean = jtorch.var_mean(input, [a for a in range(input.ndim) if a != 1], correction=0)
    return (F.batch_norm(input, running_mean, running_var, weight, bias, True, momentum, eps), mean,
            (variance + eps).rsqrt())


@native
def native_dropout(input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """(the output, the mask)"""
    if train is False or p == 0:
        return input.clone(), jtorch.ones(input.shape, dtype=jtorch.bool)
    with jtorch.no_grad():
        kept = jtorch.empty(input.shape, dtype=input.dtype).bernoulli_(1 - p)
    return input * kept * (1 / (1 - p) if p < 1 else 0.0), kept.to(jtorch.bool)
