"""Rows of a table by number, and numbers as rows."""
from __future__ import annotations

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.ir import arith
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import movement
from jtorch.ir.prims.create import detach
from jtorch.ir.prims.indexing import take

__all__ = ["embedding", "one_hot"]


@operator
def _embedding(input: Value, weight: Value, padding_idx: int | None) -> Value:
    if weight.ndim != 2:
        raise RuntimeError(f"'weight' must be 2-D, but has shape {list(weight.shape)}")
    index = ew.cast_to(input, dtypes.int64)
    rows = take(weight, index, axis=0)
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
    if max_norm is not None:
        _renorm_rows(weight, input, max_norm, norm_type)
    return _embedding(input, weight, padding_idx)


def _renorm_rows(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    with jtorch.no_grad():
        index = input.reshape(-1)
        rows = weight[index]
        norm = rows.norm(norm_type, dim=-1, keepdim=True)
        weight[index] = jtorch.where(norm > max_norm, rows * (max_norm / (norm + 1e-7)), rows)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A last axis with a 1 at the place of each class."""
    if tensor.dtype is not dtypes.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if num_classes == -1:
        if not tensor.numel():
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        num_classes = int(tensor.max()) + 1
    return (tensor.unsqueeze(-1) == jtorch.arange(num_classes)).to(dtypes.int64)
