"""Distances between vectors."""
from __future__ import annotations

from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.ir import arith
from jtorch.ir.composites import distances, losses
from jtorch.ir.graph import Value
from jtorch.ir.prims import movement
from jtorch.nn.functional.arguments import axis_of, vector_of

__all__ = ["cosine_similarity", "pairwise_distance", "pdist"]


@operator
def cosine_similarity(x1: Value, x2: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    a, b = arith.promote(x1, x2)
    y = losses.cosine_similarity(vector_of(a), vector_of(b), axis=axis_of(dim, a.ndim), eps=float(eps))
    return y if a.ndim else movement.reshape_to(y, ())


@operator
def _pairwise_distance(x1: Value, x2: Value, p: float, eps: float, keepdim: bool) -> Value:
    dtypes.require(x1.dtype, dtypes.INT, "sub_cpu")
    a, b = arith.promote(x1, x2, float_result=True)
    y = losses.pairwise_distance(a, b, p=float(p), eps=float(eps))
    return movement.reshape_to(y, (*y.shape, 1)) if keepdim else y


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of the rows' difference."""
    return _pairwise_distance(x1, x2, p, eps, keepdim)


@operator
def pdist(input: Value, p: float = 2.0) -> Value:
    """The p-norm distances between every two rows of [N, M], in the order (0, 1), (0, 2), ..., (N - 2, N - 1)."""
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if not input.dtype.is_floating_point:
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    return distances.pdist(input, p=float(p))
