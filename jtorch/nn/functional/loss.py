"""Losses."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.composites import classification, ctc, losses
from jtorch.ir.composites.define import numbers, reduce_as, sum_over
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import movement
from jtorch.ir.prims.create import detach
from jtorch.nn.functional.activation import relu
from jtorch.nn.functional.arguments import reduction_of
from jtorch.nn.functional.distance import pairwise_distance
from jtorch.nn.functional.embeddings import one_hot
from jtorch.ops.arguments import out_of_range
from jtorch.ops.padding import pad

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy",
           "ctc_loss", "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss",
           "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss",
           "multilabel_soft_margin_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss",
           "triplet_margin_loss", "triplet_margin_with_distance_loss"]


def _warn_broadcast(input: Tensor, target: Tensor) -> None:
    if target._type.shape != input._type.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will "
            "likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=3,
        )


def _weighted(op: Any, operands: tuple[Value, ...], weight: Value | None, reduction: str, **attrs: Any) -> Value:
    if weight is None:
        return op(*operands, reduction=reduction, **attrs)
    return reduce_as(arith.mul(op(*operands, reduction="none", **attrs), weight), reduction)


def _weighted_mean(op: Any, operands: tuple[Value, ...], weight: Value | None, reduction: str) -> Value:
    """Like `_weighted`, but the mean is over the weights."""
    if weight is None or reduction != "mean":
        return _weighted(op, operands, weight, reduction)
    values = arith.mul(op(*operands, reduction="none"), weight)
    total = reduce_as(ew.expand(ew.cast_to(weight, values.dtype), values.shape), "sum")
    return reduce_as(values, "sum") / total


@operator
def _mse_loss(input: Value, target: Value, weight: Value | None, reduction: str) -> Value:
    return _weighted_mean(losses.mse_loss, arith.promote(input, target), weight, reduction)


@operator
def _l1_loss(input: Value, target: Value, weight: Value | None, reduction: str) -> Value:
    return _weighted_mean(losses.l1_loss, arith.promote(input, target), weight, reduction)


def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
             reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """The squared difference."""
    _warn_broadcast(input, target)
    return _mse_loss(input, target, weight, reduction_of(reduction, size_average, reduce))


def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
            reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """The absolute difference."""
    _warn_broadcast(input, target)
    return _l1_loss(input, target, weight, reduction_of(reduction, size_average, reduce))


@operator
def _smooth_l1_loss(input: Value, target: Value, reduction: str, beta: float) -> Value:
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    return losses.smooth_l1_loss(*arith.promote(input, target), beta=float(beta), reduction=reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                   reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Squared below `beta`, absolute above."""
    _warn_broadcast(input, target)
    return _smooth_l1_loss(input, target, reduction_of(reduction, size_average, reduce), beta)


@operator
def _huber_loss(input: Value, target: Value, weight: Value | None, reduction: str, delta: float) -> Value:
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    return _weighted(losses.huber_loss, arith.promote(input, target), weight, reduction, delta=float(delta))


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Tensor | None = None) -> Tensor:
    """Squared below `delta`, linear above."""
    _warn_broadcast(input, target)
    return _huber_loss(input, target, weight, reduction, delta)


@operator
def _cross_entropy(input: Value, target: Value, weight: Value | None, ignore_index: int, reduction: str,
                   label_smoothing: float) -> Value:
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    weights = () if weight is None else (weight,)
    smoothing = float(label_smoothing)
    if target.dtype.is_floating_point and (target.shape == input.shape or target.ndim == input.ndim):
        return classification.soft_cross_entropy(
            input, target, *weights, label_smoothing=smoothing, reduction=reduction
        )
    return classification.cross_entropy(input, target, *weights, ignore_index=ignore_index, label_smoothing=smoothing,
                                        reduction=reduction)


def _check_classes(input: Tensor, target: Tensor, ignore_index: int) -> None:
    """IndexError at the user's line for a class that there is not, where the classes are at hand."""
    if not input.ndim or target.dtype is not dtypes.int64:
        return
    classes = input.shape[1 if input.ndim > 1 else 0]
    if out_of_range(target, 0, classes) is None:
        return
    numbers = target._array()
    wrong = numbers[(numbers != ignore_index) & ((numbers < 0) | (numbers >= classes))]
    if wrong.size:
        raise IndexError(f"Target {wrong[0]} is out of bounds.")


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                  ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(scores) at the target class, or against target probabilities."""
    _check_classes(input, target, ignore_index)
    return _cross_entropy(
        input, target, weight, ignore_index, reduction_of(reduction, size_average, reduce), label_smoothing
    )


@operator
def _ctc_loss(log_probs: Value, targets: Value, input_lengths: Value, target_lengths: Value, blank: int,
              reduction: str, zero_infinity: bool) -> Value:
    """With PyTorch's convention for the gradient: that of probabilities which sum to 1 at each step."""
    inside = numbers(targets.builder, targets.shape, 1) < ew.expand(
        movement.reshape_to(target_lengths, (targets.shape[0], 1)), targets.shape)
    each = ctc.ctc_loss(log_probs, arith.where(inside, targets, blank), input_lengths, target_lengths, blank=blank)
    impossible = ew.isinf(each)
    if log_probs.requires_grad:
        sums = sum_over(ctc.counted_steps(ew.exp(log_probs), input_lengths), (0, 2))
        each = each + (sums - detach(sums))
    if zero_infinity:
        each = arith.where(impossible, 0.0, each)
    if reduction == "mean":
        each = each / ew.cast_to(arith.maximum(target_lengths, 1), each.dtype)
    return reduce_as(each, reduction)


def _lengths(name: str, given: Any, n: int) -> Tensor:
    lengths = given if isinstance(given, Tensor) else jtorch.tensor(list(given), dtype=jtorch.int64)
    if lengths.dtype.is_floating_point:
        raise RuntimeError(f"{name} must be integral")
    if lengths.numel() != n:
        raise RuntimeError(f"{name} must be of size batch_size ({n}), but has {lengths.numel()} elements")
    return lengths.reshape(n).to(jtorch.int64)


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
             reduction: str = "mean", zero_infinity: bool = False) -> Tensor:
    """-log of the probability of the targets over all their alignments: log_probs [T, N, C] or [T, C], targets [N, S]
    or one after another in one dimension."""
    dtypes.require(log_probs.dtype, dtypes.FLOAT, "ctc_loss_cpu")
    if targets.dtype not in (jtorch.int64, jtorch.int32):
        raise RuntimeError(f"ctc_loss expects targets of dtype torch.int64 or torch.int32, but got {targets.dtype}")
    single = log_probs.ndim == 2
    x = log_probs.unsqueeze(1) if single else log_probs
    if x.ndim != 3:
        raise RuntimeError(f"ctc_loss expects log_probs of size [T, N, C] or [T, C], but got {list(log_probs.shape)}")
    if not x.shape[0]:
        raise RuntimeError("ctc_loss: log_probs tensor must not be empty")
    n, classes = x.shape[1:]
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    steps = _lengths("input_lengths", [input_lengths] if isinstance(input_lengths, int) else input_lengths, n)
    sizes = _lengths("target_lengths", [target_lengths] if isinstance(target_lengths, int) else target_lengths, n)
    if current.recorder.knows_values:
        if n and (int(steps.max()) > x.shape[0] or int(steps.min()) < 0):
            raise RuntimeError(f"Expected input_lengths to have value at least 0 and at most {x.shape[0]}, but got "
                               f"{steps.tolist()}")
        if n and targets.ndim == 2 and not single and int(sizes.max()) > targets.shape[1]:
            raise RuntimeError(f"Expected tensor to have size at least {int(sizes.max())} at dimension 1, but got size "
                               f"{targets.shape[1]} for argument #2 'targets'")
    rows = targets.to(jtorch.int64)
    if single:
        rows = rows.reshape(1, -1)
    elif rows.ndim == 1:
        parts = rows.split([int(k) for k in sizes.tolist()])
        longest = max((len(p) for p in parts), default=0)
        rows = jtorch.stack([pad(p, (0, longest - len(p)), value=blank) for p in parts])
    y = _ctc_loss(x, rows, steps, sizes, blank, reduction, bool(zero_infinity))
    return y[0] if single and reduction == "none" else y


@operator
def _nll_loss(input: Value, target: Value, weight: Value | None, ignore_index: int, reduction: str) -> Value:
    return classification.nll_loss(input, target, *(() if weight is None else (weight,)), ignore_index=ignore_index,
                                   reduction=reduction)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
             ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """-input at the target class."""
    _check_classes(input, target, ignore_index)
    return _nll_loss(input, target, weight, ignore_index, reduction_of(reduction, size_average, reduce))


@operator
def _binary_cross_entropy(input: Value, target: Value, weight: Value | None, reduction: str) -> Value:
    if input.shape != target.shape:
        raise ValueError(f"Using a target size (torch.Size({list(target.shape)})) that is different to the input size "
                         f"(torch.Size({list(input.shape)})) is deprecated. Please ensure they have the same size.")
    return _weighted(losses.binary_cross_entropy, (input, target), weight, reduction)


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Cross entropy of probabilities."""
    return _binary_cross_entropy(input, target, weight, reduction_of(reduction, size_average, reduce))


@operator
def _bce_with_logits(
    input: Value, target: Value, weight: Value | None, reduction: str, pos_weight: Value | None
) -> Value:
    if input.shape != target.shape:
        raise ValueError(f"Target size (torch.Size({list(target.shape)})) must be the same as input size "
                         f"(torch.Size({list(input.shape)}))")
    operands = arith.promote(input, target)
    return _weighted(
        losses.bce_with_logits, operands if pos_weight is None else (*operands, pos_weight), weight, reduction
    )


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Cross entropy of sigmoid(input)."""
    return _bce_with_logits(input, target, weight, reduction_of(reduction, size_average, reduce), pos_weight)


@operator
def _kl_div(input: Value, target: Value, reduction: str, log_target: bool) -> Value:
    if reduction == "batchmean":
        total = losses.kl_div(*arith.promote(input, target), log_target=bool(log_target), reduction="sum")
        return total / input.shape[0] if input.ndim else total
    return losses.kl_div(*arith.promote(input, target), log_target=bool(log_target), reduction=reduction)


def kl_div(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
           reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence; the input is log-probabilities."""
    reduction = reduction_of(reduction, size_average, reduce)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size.'batchmean' "
            "divides only by the batch size, and aligns with the KL div math definition.'mean' will be changed to "
            "behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    return _kl_div(input, target, reduction, log_target)


@operator
def _poisson_nll_loss(input: Value, target: Value, log_input: bool, full: bool, eps: float, reduction: str) -> Value:
    dtypes.require(input.dtype, dtypes.INT, "sub_cpu")
    return losses.poisson_nll_loss(*arith.promote(input, target, float_result=True), log_input=bool(log_input),
                                   full=bool(full), eps=float(eps), reduction=reduction)


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False,
                     size_average: bool | None = None, eps: float = 1e-8, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """Negative log likelihood of a Poisson distribution."""
    return _poisson_nll_loss(input, target, log_input, full, eps, reduction_of(reduction, size_average, reduce))


@operator
def _gaussian_nll_loss(input: Value, target: Value, var: Value, full: bool, eps: float, reduction: str) -> Value:
    if var.shape != input.shape and input.shape[:-1] == var.shape:
        var = movement.reshape_to(var, (*var.shape, 1))
    x, t = arith.promote(input, target)
    return losses.gaussian_nll_loss(x, t, var, full=bool(full), eps=float(eps), reduction=reduction)


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Tensor:
    """Negative log likelihood of a normal distribution."""
    if not isinstance(var, Tensor):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = jtorch.full(tuple(input.shape), float(var), dtype=input.dtype)
    elif current.recorder.knows_values and bool((var < 0).any()):
        raise ValueError("var has negative entry/entries")
    return _gaussian_nll_loss(input, target, var, full, eps, reduction)


@operator
def _hinge_embedding_loss(input: Value, target: Value, margin: float, reduction: str) -> Value:
    return losses.hinge_embedding_loss(*arith.promote(input, target), margin=float(margin), reduction=reduction)


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    return _hinge_embedding_loss(input, target, margin, reduction_of(reduction, size_average, reduce))


@operator
def _margin_ranking_loss(input1: Value, input2: Value, target: Value, margin: float, reduction: str) -> Value:
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError("margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
                           f"torch.Size({list(input1.shape)}), input2: torch.Size({list(input2.shape)}), target: "
                           f"torch.Size({list(target.shape)}) ")
    return losses.margin_ranking_loss(*arith.promote(input1, input2, target, float_result=True), margin=float(margin),
                                      reduction=reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -y * (x1 - x2) + margin)"""
    return _margin_ranking_loss(input1, input2, target, margin, reduction_of(reduction, size_average, reduce))


@operator
def _soft_margin_loss(input: Value, target: Value, reduction: str) -> Value:
    return losses.soft_margin_loss(*arith.promote(input, target), reduction=reduction)


def soft_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """log(1 + exp(-y * x))"""
    return _soft_margin_loss(input, target, reduction_of(reduction, size_average, reduce))


@operator
def _multilabel_soft_margin_loss(input: Value, target: Value, weight: Value | None, reduction: str) -> Value:
    return losses.multilabel_soft_margin_loss(*arith.promote(input, target), *(() if weight is None else (weight,)),
                                              reduction=reduction)


def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                size_average: bool | None = None, reduce: bool | None = None,
                                reduction: str = "mean") -> Tensor:
    """One-against-all over many labels."""
    return _multilabel_soft_margin_loss(input, target, weight, reduction_of(reduction, size_average, reduce))


def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None,
                      size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """sum_i max(0, margin - x[y] + x[i])**p / size"""
    reduction = reduction_of(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if input.ndim > 2 or 0 in input.shape[-1:]:
        raise RuntimeError("Expected non-empty vector or matrix with optional 0-dim batch size, but got: "
                           f"{list(input.shape)}")
    if target.numel() != (input.shape[0] if input.ndim == 2 else 1):
        raise RuntimeError(f"inconsistent target size, got: {list(target.shape)}")
    if weight is not None and weight.shape != input.shape[-1:]:
        raise RuntimeError(f"inconsistent weight size, got: {list(weight.shape)}")
    single = input.ndim < 2 and target.ndim == 0
    x, y = input.reshape(-1, input.shape[-1] if input.ndim else 1), target.reshape(-1)
    gap = relu(margin - x.gather(1, y.unsqueeze(1)) + x)
    gap = gap if p == 1 else gap * gap
    if weight is not None:
        gap = gap * weight[y].unsqueeze(1)
    keep = 1 - one_hot(y, x.shape[1]).to(x.dtype)
    each = (gap * keep).sum(1) / x.shape[1]
    if reduction == "none":
        return each[0] if single else each
    return each.sum() if reduction == "sum" else each.mean()


def multilabel_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                           reduction: str = "mean") -> Tensor:
    """sum max(0, 1 - x[y_j] + x[i]) / C over labels y_j (up to the first -1) and classes i that are no label.

    The work is the classes times the labels of the row that has the most; in a trace, which sees no values, times the
    classes."""
    reduction = reduction_of(reduction, size_average, reduce)
    if input.ndim > 2 or input.shape != target.shape:
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    x, y = (t.reshape(-1, input.shape[-1] if input.ndim else 1) for t in (input, target))
    n, classes = x.shape
    given = (y < 0).cumsum(1) == 0
    none = jtorch.zeros_like(y)
    if current.recorder.knows_values and y.numel():  # a power of two, so that few programs serve
        most = min(1 << max(int(given.sum(1).max()) - 1, 0).bit_length(), classes)
        y, given = y[:, :most], given[:, :most]
    labels = jtorch.where(given, y, 0)
    has_label = none.scatter_add(1, labels, given.to(y.dtype)) > 0
    gaps = relu(1 - x.gather(1, labels).unsqueeze(2) + x.unsqueeze(1))
    counted = given.unsqueeze(2) & has_label.logical_not().unsqueeze(1)
    each = jtorch.where(counted, gaps, 0.0).sum((1, 2)) / classes
    if reduction == "none":
        return each[0] if input.ndim < 2 else each
    return each.sum() if reduction == "sum" else each.mean()


@operator
def _triplet_margin_loss(
    anchor: Value, positive: Value, negative: Value, margin: float, p: float, eps: float, swap: bool, reduction: str
) -> Value:
    return losses.triplet_margin_loss(*arith.promote(anchor, positive, negative, float_result=True),
                                      margin=float(margin), p=float(p), eps=float(eps), swap=bool(swap),
                                      reduction=reduction)


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
                        eps: float = 1e-6, swap: bool = False, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin)"""
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    return _triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap,
                                reduction_of(reduction, size_average, reduce))


def triplet_margin_with_distance_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *,
                                      distance_function: Callable[..., Tensor] | None = None, margin: float = 1.0,
                                      swap: bool = False, reduction: str = "mean") -> Tensor:
    """The triplet loss with a distance of one's own."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = jtorch.minimum(far, distance(positive, negative))
    loss = relu(margin + near - far)
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


@operator
def _cosine_embedding_loss(input1: Value, input2: Value, target: Value, margin: float, reduction: str) -> Value:
    x, y = arith.promote(input1, input2, float_result=True)
    return losses.cosine_embedding_loss(x, y, ew.cast_to(target, x.dtype), margin=float(margin), reduction=reduction)


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
                          size_average: bool | None = None, reduce: bool | None = None,
                          reduction: str = "mean") -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""
    return _cosine_embedding_loss(input1, input2, target, margin, reduction_of(reduction, size_average, reduce))
