"""Losses over classes: cross_entropy and nll_loss. Classes are on axis 1 (axis 0 of a single example).

The body of `cross_entropy` is logsumexp(x) - x[target]: it reads the scores twice and writes one number an example. The
derivative, (softmax - one hot) * coefficient, is one elementwise pass.
"""
from __future__ import annotations

from collections.abc import Sequence

from jtorch import dtypes
from jtorch.ir.arith import where
from jtorch.ir.composites.define import add_axis, along, composite, numbers, reduce_as, sum_over
from jtorch.ir.composites.softmax import log_softmax, logsumexp
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import cast_to, eq, exp, expand, ne, zeros_like
from jtorch.ir.prims.indexing import gather, take
from jtorch.ir.prims.movement import reshape_to
from jtorch.ir.prims.reduce import keep_axes

ATTRS = {"ignore_index": -100, "reduction": "mean"}


def class_axis(x: Value | Type) -> int:
    return 1 if x.ndim > 1 else 0


def _infer(x: Type, target: Type, *weight: Type, reduction: str, **attrs: float) -> Type:
    axis = class_axis(x)
    shape = (*x.shape[:axis], *x.shape[axis + 1:])
    if target.shape != shape:
        if x.shape[:axis] != target.shape[:axis]:
            raise ValueError(f"Expected input batch_size ({x.shape[0]}) to match target batch_size "
                             f"({target.shape[0] if target.shape else 1}).")
        raise RuntimeError(f"Expected target size {list(shape)}, got {list(target.shape)}")
    if target.dtype not in dtypes.INTS:
        raise RuntimeError(f"expected scalar type Long but found {target.dtype.name}")
    if weight and weight[0].shape != (x.shape[axis],):
        raise RuntimeError(f"weight tensor should be defined either for all {x.shape[axis]} classes or no classes but "
                           f"got weight tensor of shape: {list(weight[0].shape)}")
    return Type(x.dtype, shape if reduction == "none" else ())


class Targets:
    """The pieces that value and derivative share."""

    def __init__(self, x: Value, target: Value, weight: Sequence[Value], ignore_index: int) -> None:
        self.axis = class_axis(x)
        self.x, self.weight = x, weight[0] if weight else None
        self.target = cast_to(target, dtypes.int64)
        self.valid = ne(self.target, constant(x.builder, ignore_index, dtypes.int64, target.shape))
        self.safe = where(self.valid, self.target, zeros_like(self.target))
        chosen = cast_to(self.valid, x.dtype)
        self.chosen = chosen  # 1, or 0 where ignored
        self.factor = chosen if self.weight is None else take(self.weight, self.safe, axis=0) * chosen

    def pick(self, v: Value) -> Value:
        """v at the class of each example."""
        return reshape_to(gather(v, add_axis(self.safe, self.axis), axis=self.axis), self.target.shape)

    def over_classes(self, v: Value) -> Value:
        return keep_axes(v, self.x, (self.axis,))

    def one_hot(self) -> Value:
        return eq(numbers(self.x.builder, self.x.shape, self.axis), self.over_classes(self.target))

    def class_weights(self) -> Value:
        """Over x's shape."""
        if self.weight is None:
            return constant(self.x.builder, 1, self.x.dtype, self.x.shape)
        return expand(along(self.weight, self.axis, self.x.ndim), self.x.shape)

    def reduce(self, values: Value, reduction: str) -> Value:
        """The mean is weighted by `factor`."""
        if reduction != "mean":
            return reduce_as(values, reduction)
        return reduce_as(values, "sum") / reduce_as(self.factor, "sum")

    def spread(self, g: Value, reduction: str) -> Value:
        """The cotangent of each example's value."""
        if reduction == "mean":
            g = g / reduce_as(self.factor, "sum")
        return expand(g, self.target.shape)


# --- nll_loss --------------------------------------------------------------------------------------------------------

def _nll(b: Builder, x: Value, target: Value, *weight: Value, ignore_index: int, reduction: str) -> Value:
    t = Targets(x, target, weight, ignore_index)
    return t.reduce(where(t.valid, -t.pick(x) * t.factor, zeros_like(t.factor)), reduction)


def _nll_vjp(g: Value, y: Value, x: Value, target: Value, *weight: Value, ignore_index: int, reduction: str) -> tuple:
    t = Targets(x, target, weight, ignore_index)
    each = t.over_classes(-t.spread(g, reduction) * t.factor)
    return (where(t.one_hot(), each, zeros_like(each)), None, *[None] * len(weight))


nll_loss = composite("nll_loss", _nll, _nll_vjp, infer=_infer, attrs=ATTRS, domain="nll_loss")
"""nll_loss(log-probabilities[N, C, ...], target[N, ...][, class weights])"""


# --- cross_entropy ---------------------------------------------------------------------------------------------------

def _cross_entropy(b: Builder, x: Value, target: Value, *weight: Value, ignore_index: int, label_smoothing: float,
                   reduction: str) -> Value:
    t = Targets(x, target, weight, ignore_index)
    total = logsumexp(x, axes=(t.axis,))
    each = (total - t.pick(x)) * t.factor
    if label_smoothing:
        weights = t.class_weights()
        smooth = total * sum_over(weights, (t.axis,)) - sum_over(x * weights, (t.axis,))
        each = each * (1 - label_smoothing) + smooth * t.chosen * (label_smoothing / x.shape[t.axis])
    return t.reduce(where(t.valid, each, zeros_like(each)), reduction)


def _cross_entropy_vjp(g: Value, y: Value, x: Value, target: Value, *weight: Value, ignore_index: int,
                       label_smoothing: float, reduction: str) -> tuple:
    t = Targets(x, target, weight, ignore_index)
    probability = exp(x - t.over_classes(logsumexp(x, axes=(t.axis,))))
    each = t.spread(g, reduction)
    of_x = t.over_classes(each * t.factor * (1 - label_smoothing)) * (probability - cast_to(t.one_hot(), x.dtype))
    if label_smoothing:
        weights = t.class_weights()
        smooth = probability * sum_over(weights, (t.axis,), keep=True) - weights
        of_x = of_x + t.over_classes(each * t.chosen * (label_smoothing / x.shape[t.axis])) * smooth
    return (of_x, None, *[None] * len(weight))


cross_entropy = composite("cross_entropy", _cross_entropy, _cross_entropy_vjp, infer=_infer,
                          attrs={"ignore_index": -100, "label_smoothing": 0.0, "reduction": "mean"},
                          domain="cross_entropy")
"""cross_entropy(scores[N, C, ...], target[N, ...][, class weights]) with class numbers."""


def _soft_infer(x: Type, target: Type, *weight: Type, label_smoothing: float, reduction: str) -> Type:
    if x.shape != target.shape:
        raise RuntimeError(f"Expected floating point target with class probabilities of shape {list(x.shape)}, got "
                           f"{list(target.shape)}")
    axis = class_axis(x)
    return Type(x.dtype, (*x.shape[:axis], *x.shape[axis + 1:]) if reduction == "none" else ())


def _soft_cross_entropy(b: Builder, x: Value, target: Value, *weight: Value, label_smoothing: float,
                        reduction: str) -> Value:
    axis = class_axis(x)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / max(x.shape[axis], 1)
    each = log_softmax(x, axis=axis) * target
    if weight:
        each = each * expand(along(weight[0], axis, x.ndim), x.shape)
    return reduce_as(-sum_over(each, (axis,)), reduction)


soft_cross_entropy = composite("soft_cross_entropy", _soft_cross_entropy, infer=_soft_infer,
                               attrs={"label_smoothing": 0.0, "reduction": "mean"}, domain="soft_cross_entropy")
"""cross_entropy(scores[N, C, ...], probabilities of the same shape[, class weights])"""
