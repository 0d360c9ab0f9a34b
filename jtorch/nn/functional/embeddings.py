"""Rows of a table by number, and numbers as rows."""
from __future__ import annotations

import math

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import movement
from jtorch.ir.prims.create import constant, detach
from jtorch.ir.prims.indexing import put_add, scatter, take, within
from jtorch.ir.prims.reduce import max_, sum_
from jtorch.ir.prims.sample import sample
from jtorch.ops.arguments import out_of_range

__all__ = ["embedding", "embedding_bag", "one_hot"]


def _numbers(index: Value, rows: int) -> Value:
    """Row numbers, where a negative one does not count from the end: `take` refuses it."""
    return arith.where(arith.lt(index, 0), rows, index)


@operator
def _embedding(input: Value, weight: Value, padding_idx: int | None, by_frequency: bool) -> Value:
    if weight.ndim != 2:
        raise RuntimeError(f"'weight' must be 2-D, but has shape {list(weight.shape)}")
    index = _numbers(ew.cast_to(input, dtypes.int64), weight.shape[0])
    rows = take(weight, index, axis=0)
    if by_frequency:  # the value is that of `rows`, the gradient is divided by how often the row is asked for
        flat = movement.reshape_to(index, (index.type.numel,))
        ones = constant(rows.builder, 1, rows.dtype, flat.shape)
        counts = put_add(constant(rows.builder, 0, rows.dtype, weight.shape[:1]), flat, ones, axis=0)
        count = take(counts, index, axis=0)
        held = detach(rows)
        rows = held + (rows - held) / ew.expand(movement.reshape_to(count, (*index.shape, 1)), rows.shape)
    if padding_idx is None:
        return rows
    is_padding = movement.reshape_to(arith.eq(index, padding_idx), (*index.shape, 1))
    return arith.where(is_padding, detach(rows), rows)


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """Rows of a table by number."""
    if input.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
            f"but got {jtorch.typename(input)} instead (while checking arguments for embedding)"
        )
    if padding_idx is not None:
        n = weight.shape[0]
        if not -n <= padding_idx < n:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= n
    if out_of_range(input, 0, weight.shape[0]) is not None:
        raise IndexError("index out of range in self")
    if max_norm is not None:
        _renorm_rows(weight, input, max_norm, norm_type)
    return _embedding(input, weight, padding_idx, bool(scale_grad_by_freq))


def _renorm_rows(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    with jtorch.no_grad():
        index = input.reshape(-1)
        rows = weight[index]
        norm = rows.norm(norm_type, dim=-1, keepdim=True)
        weight[index] = jtorch.where(norm > max_norm, rows * (max_norm / (norm + 1e-7)), rows)


@operator
def _bags(rows: Value, weights: Value | None, kept: Value | None, bag: Value | None, bags: int, mode: str) -> Value:
    """Rows [n, D] reduced over those with the same number in `bag` [n], or in bags of one size where it is None; where
    `kept` is given, others do not count."""
    n, width = rows.shape

    def fold(v: Value) -> Value:
        """[n, ...] -> [bags, ...]"""
        if bag is None:
            split = movement.reshape_to(v, (bags, n // max(bags, 1), *v.shape[1:]))
            return max_(split, axes=(1,)) if mode == "max" and split.shape[1] else sum_(split, axes=(1,))
        if mode == "max":
            bottom = constant(v.builder, -math.inf, v.dtype, (bags, width))
            return scatter(bottom, ew.expand(movement.reshape_to(bag, (n, 1)), v.shape), v, axis=0, mode="amax")
        return put_add(constant(v.builder, 0, v.dtype, (bags, *v.shape[1:])), bag, v, axis=0)

    if mode == "max":
        y = fold(rows if kept is None else arith.where(movement.reshape_to(kept, (n, 1)), rows, -math.inf))
        return arith.where(arith.eq(y, -math.inf), 0.0, y)
    share = None if weights is None else ew.cast_to(weights, rows.dtype)
    if kept is not None:
        counted = ew.cast_to(kept, rows.dtype)
        share = counted if share is None else share * counted
    if share is not None:
        rows = rows * ew.expand(movement.reshape_to(share, (n, 1)), rows.shape)
    y = fold(rows)
    if mode == "sum":
        return y
    size = fold(constant(rows.builder, 1, rows.dtype, (n,)) if kept is None else ew.cast_to(kept, rows.dtype))
    return y / ew.expand(movement.reshape_to(arith.maximum(size, 1.0), (bags, 1)), y.shape)


@operator
def _even_bags(index: Value, table: Value, weights: Value | None, kept: Value | None, bags: int, mode: str) -> Value:
    """`_bags` of the rows of the table that `index` [n] names, in bags of one size: weighted sums of rows, which are
    not written out for it."""
    (n,), (size, width) = index.shape, table.shape
    count = n // bags

    def columns(v: Value) -> Value:
        """[n] -> [1, n / bags, bags]"""
        return movement.reshape_to(movement.permute_to(movement.reshape_to(v, (bags, count)), (1, 0)), (1, count, bags))
    place = within(index, constant(index.builder, size, dtypes.int64, index.shape))
    if kept is not None:
        place = arith.where(kept, place, -1)
    share = constant(table.builder, 1, table.dtype, (n,)) if weights is None else weights
    y = movement.reshape_to(sample(movement.reshape_to(table, (1, 1, size, width)), columns(place), columns(share)),
                            (bags, width))
    if mode == "sum":
        return y
    if kept is None:
        return y / float(count)
    counted = sum_(movement.reshape_to(ew.cast_to(kept, y.dtype), (bags, count)), axes=(1,))
    return y / ew.expand(movement.reshape_to(arith.maximum(counted, 1.0), (bags, 1)), y.shape)


def _check_bag_arguments(input: Tensor, weight: Tensor, offsets: Tensor | None, mode: str,
                         per_sample_weights: Tensor | None) -> None:
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    for name, t in (("indices", input), ("offsets", offsets)):
        if t is not None and t.dtype not in (dtypes.int64, dtypes.int32):
            raise RuntimeError(f"expected {name} to have one of the following scalar types: Long, Int; but got "
                               f"{t.dtype}")
    if offsets is not None and offsets.dtype is not input.dtype:
        raise RuntimeError("expected input and offsets to have the same scalar type, but got "
                           f"{input.dtype} and {offsets.dtype}")
    if weight.ndim != 2:
        raise RuntimeError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}")
    if per_sample_weights is not None:
        if mode != "sum":
            raise NotImplementedError("embedding_bag: per_sample_weights was not None. per_sample_weights is only "
                                      f"supported for mode='sum' (got mode='{mode}'). Please open a feature request on "
                                      "GitHub.")
        if per_sample_weights.shape != input.shape:
            raise ValueError(f"embedding_bag: If per_sample_weights ({list(per_sample_weights.shape)}) is not None, it "
                             f"must have the same shape as the input ({list(input.shape)})")
        if per_sample_weights.dtype is not weight.dtype:
            raise RuntimeError(f"expected weight and per_sample_weights to have the same dtype, but got {weight.dtype} "
                               f"and {per_sample_weights.dtype}")


def _bag_numbers(input: Tensor, offsets: Tensor | None, include_last_offset: bool) -> tuple[Tensor | None, int]:
    """(the number of the bag of each index, None where all bags have one size; the number of bags)"""
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch of "
                             f"fixed length sequences. However, found offsets of type {type(offsets)}")
        return None, input.shape[0]
    if input.ndim != 1:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    if offsets is None or offsets.ndim != 1:
        raise ValueError(f"offsets has to be a 1D Tensor but got {None if offsets is None else list(offsets.shape)}")
    starts = offsets.to(dtypes.int64)
    if current.recorder.tracing is None and len(starts):
        if int(starts[0]) != 0:
            raise RuntimeError("offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from "
                               f"position 0. However, got {int(starts[0])}")
        if int(starts[-1]) > input.shape[0]:
            raise RuntimeError("offsets[-1] can not be greater than input's length, but got offsets[-1] of "
                               f"{int(starts[-1])} and input's length of {input.shape[0]}")
    starts = starts[:-1] if include_last_offset else starts
    return jtorch.searchsorted(starts, jtorch.arange(input.shape[0]), right=True) - 1, starts.shape[0]


def embedding_bag(input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None,
                  norm_type: float = 2, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                  per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> Tensor:
    """Sums, means or maxima of the rows of a table by bags of numbers: the rows of `input` [B, N], or the parts of
    `input` [N] that begin at `offsets` [B]."""
    _check_bag_arguments(input, weight, offsets, mode, per_sample_weights)
    index = input.reshape(-1).to(dtypes.int64)
    bag, bags = _bag_numbers(input, offsets, include_last_offset)
    if max_norm is not None:
        _renorm_rows(weight, input, max_norm, norm_type)
    kept = None
    if padding_idx is not None:
        if not -weight.shape[0] <= padding_idx < weight.shape[0]:
            raise AssertionError("padding_idx must be within the number of embeddings")
        kept = index != padding_idx % weight.shape[0]
    weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    wide = weight.dtype in (dtypes.float32, dtypes.float64)
    if bag is None and mode != "max" and wide and index.numel() and not scale_grad_by_freq:
        return _even_bags(index, weight, weights, kept, bags, mode)
    rows = _embedding(index, weight, None, bool(scale_grad_by_freq))
    return _bags(rows, weights, kept, bag, bags, mode)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A last axis with a 1 at the place of each class."""
    if tensor.dtype is not dtypes.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if not tensor.numel():
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
    elif current.recorder.knows_values:
        classes = tensor.detach()._array()
        if classes.min() < 0:
            raise RuntimeError("Class values must be non-negative.")
        if num_classes == -1:
            num_classes = int(classes.max()) + 1
        elif num_classes <= classes.max():
            raise RuntimeError("Class values must be smaller than num_classes.")
    elif num_classes == -1:
        num_classes = int(tensor.max()) + 1  # a trace says that it knows no values
    return (tensor.unsqueeze(-1) == jtorch.arange(num_classes)).to(dtypes.int64)
