"""Norms of vectors and matrices, and products of several matrices."""
from __future__ import annotations

import functools
import math
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor, attach
from jtorch.ir import arith
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import reduce
from jtorch.ir.prims.complex import conjugated
from jtorch.ir.prims.movement import reshape_to
from jtorch.ops import matmul as products
from jtorch.ops import reduction, shape
from jtorch.ops.arguments import wrap_dim, wrap_dims
from jtorch.ops.attach import FUNCTIONS, define, with_out
from jtorch.views import type_name

_public = define(method=False, function=False)


def _floating(name: str, x: Value, dtype: Any) -> Value:
    if dtype is not None:
        x = ew.cast_to(x, dtype)
    if x.dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"linalg.{name}: Expected a floating point or complex tensor as input. Got "
                           f"{type_name(x.dtype)}")
    return x


def _vector_norm(x: Value, ord: float, dim: Any, keepdim: bool) -> Value:
    if ord in (math.inf, -math.inf) or ord < 0:
        axes = range(x.ndim) if dim is None else wrap_dims(dim, x.ndim)
        if x.ndim and any(x.shape[a] == 0 for a in axes):
            raise RuntimeError(f"linalg.vector_norm cannot compute the {ord:g} norm on an empty tensor because the "
                               "operation "
                               "does not have an identity")
    return reduction.vector_norm(x, float(ord), dim, keepdim)


def _matrix_norm(x: Value, ord: Any, dim: Any, keepdim: bool) -> Value:
    if x.ndim < 2:
        raise RuntimeError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    a, b = wrap_dims(dim, x.ndim)
    if ord == "fro":
        return reduction.vector_norm(x, 2.0, (a, b), keepdim)
    if isinstance(ord, str):
        if ord == "nuc":
            return reduction.singular_norm(x, a, b, lambda s, axes: reduce.sum_(s, axes=axes), keepdim)
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    if abs(ord) == 2:
        fold = reduce.max_ if ord > 0 else reduce.min_
        return reduction.singular_norm(x, a, b, lambda s, axes: fold(s, axes=axes), keepdim)
    if abs(ord) not in (1, math.inf):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    if not x.shape[a if math.isinf(ord) else b] and ord > 0:
        return reduction.no_norm(x, a, b, keepdim)
    summed, kept = (b, a) if math.isinf(ord) else (a, b)
    rows = reduce.sum_(ew.abs_(x), axes=(summed,))
    place = kept - (1 if summed < kept else 0)
    y = (reduce.max_ if ord > 0 else reduce.min_)(rows, axes=(place,))
    return reshape_to(y, tuple([1 if i in (a, b) else n for i, n in enumerate(x.shape)])) if keepdim else y


@_public
def _norm(input: Value, ord: Any = None, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    x = _floating("norm", input, dtype)
    if dim is None and ord is None:
        flat = reshape_to(x, (x.type.numel,))
        y = _vector_norm(flat, 2.0, None, False)
        return reshape_to(y, (1,) * x.ndim) if keepdim else y
    if dim is None and x.ndim not in (1, 2):
        raise RuntimeError("linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
                           f"{x.ndim}D.")
    dims = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if ord is not None and len(dims) == 2:
        return _matrix_norm(x, ord, dims, keepdim)
    if isinstance(ord, str):
        raise RuntimeError("linalg.norm: If ord is a string, dim must specify two dimensions")
    return _vector_norm(x, 2.0 if ord is None else ord, dims, keepdim)


@_public
def _vector(input: Value, ord: float, dim: Any, keepdim: bool, dtype: Any) -> Value:
    return _vector_norm(_floating("vector_norm", input, dtype), ord, dim, keepdim)


@_public
def _matrix(input: Value, ord: Any, dim: Any, keepdim: bool, dtype: Any) -> Value:
    return _matrix_norm(_floating("matrix_norm", input, dtype), ord, dim, keepdim)


_norm_out, _vector_out, _matrix_out = with_out(_norm), with_out(_vector), with_out(_matrix)


def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, out: Any = None,
         dtype: Any = None) -> Tensor:
    return _norm_out(A, ord, dim, keepdim, dtype, out=out)


def vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: Any = None
                ) -> Tensor:
    return _vector_out(x, ord, dim, keepdim, dtype, out=out)


def matrix_norm(A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None,
                out: Any = None) -> Tensor:
    return _matrix_out(A, ord, dim, keepdim, dtype, out=out)


@_public
def _cross_value(input: Value, other: Value, dim: int) -> Value:
    if input.ndim != other.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    place = wrap_dim(dim, input.ndim)
    if input.shape[place] != 3 or other.shape[place] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[place]} and "
                           f"{other.shape[place]}")
    return products.cross.function.body(input, other, dim)


def cross(input: Tensor, other: Tensor, *, dim: int = -1, out: Any = None) -> Tensor:
    return with_out(_cross_value)(input, other, dim, out=out)


@_public
def _vecdot(x: Value, y: Value, dim: int) -> Value:
    for v in (x, y):
        if not v.ndim:
            raise IndexError("Dimension specified as -1 but tensor has no dimensions")
    product = arith.mul(conjugated(x), y)
    return reduce.sum_(product, axes=(wrap_dim(dim, product.ndim),))


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1, out: Any = None) -> Tensor:
    """sum(conj(x) * y)"""
    return with_out(_vecdot)(x, y, dim, out=out)


def matmul(input: Tensor, other: Tensor, *, out: Any = None) -> Tensor:
    return FUNCTIONS["matmul"](input, other, out=out)


def multi_dot(tensors: Any, *, out: Any = None) -> Tensor:
    """The product of several matrices (the first and last may be vectors), in the cheapest order."""
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    items = list(tensors)
    sizes = [1 if items[0].ndim == 1 else items[0].shape[0], *[x.shape[0] for x in items[1:]],
             1 if items[-1].ndim == 1 else items[-1].shape[-1]]
    if items[0].ndim == 1:
        sizes[0] = 1

    @functools.cache
    def best(i: int, j: int) -> tuple[int, int]:
        """(cost, where to cut) of the product of items i..j."""
        if i == j:
            return 0, i
        return min((best(i, k)[0] + best(k + 1, j)[0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j))

    def multiplied(i: int, j: int) -> Tensor:
        if i == j:
            return items[i]
        k = best(i, j)[1]
        return multiplied(i, k) @ multiplied(k + 1, j)
    y = multiplied(0, len(items) - 1)
    return y if out is None else out.resize_(y.shape).copy_(y)


def matrix_power(A: Tensor, n: int, *, out: Any = None) -> Tensor:
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise RuntimeError(f"linalg.matrix_power: A must be batches of square matrices, but they are {A.shape[-2]} by "
                           f"{A.shape[-1]} matrices" if A.ndim > 1 else
                           "linalg.matrix_power: The input tensor A must have at least 2 dimensions.")
    if n < 0:
        return matrix_power(FUNCTIONS["inverse"](A), -n, out=out)
    result, square = None, A
    while n:
        if n & 1:
            result = square if result is None else result @ square
        n >>= 1
        square = square @ square if n else square
    if result is None:
        eye = FUNCTIONS["eye"](A.shape[-1], dtype=A.dtype).expand(A.shape)
        result = FUNCTIONS["where"](FUNCTIONS["ones_like"](A, dtype=dtypes.bool_), eye, A)  # of a zero derivative
    return result if out is None else out.resize_(result.shape).copy_(result)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    return shape.diagonal(A, offset, dim1, dim2)


def nuclear_norm(A: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum of the singular values."""
    return matrix_norm(A, "nuc", (-2, -1) if dim is None else dim, keepdim)


FUNCTIONS["nuclear_norm"] = nuclear_norm
FUNCTIONS["matrix_power"] = matrix_power
attach(matrix_power=matrix_power)
