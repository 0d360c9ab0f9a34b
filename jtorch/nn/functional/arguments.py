"""Arguments that layers as functions have in common."""
from __future__ import annotations

import warnings
from typing import Any

from jtorch.ir.graph import Value
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.movement import reshape_to


def tuple_of(x: Any, n: int) -> tuple[int, ...]:
    """An int, or a sequence, as n ints."""
    if isinstance(x, (tuple, list)):
        return tuple(int(i) for i in x) * (n if len(x) == 1 else 1)
    return (int(x),) * n


def vector_of(x: Value) -> Value:
    """A 0-d operand as a vector of one element: what runs along an axis has none to run along there."""
    return x if x.ndim else reshape_to(x, (1,))


def axis_of(dim: int, ndim: int) -> int:
    n = ndim or 1
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


def legacy_reduction(size_average: bool | None, reduce: bool | None) -> str:
    """What `reduction=` replaced."""
    size_average, reduce = size_average is not False, reduce is not False
    warnings.warn("size_average and reduce args will be deprecated, please use reduction="
                  f"'{'mean' if size_average and reduce else 'sum' if reduce else 'none'}' instead.", stacklevel=3)
    return "mean" if size_average and reduce else "sum" if reduce else "none"


def reduction_of(reduction: str, size_average: Any, reduce: Any) -> str:
    if size_average is not None or reduce is not None:
        return legacy_reduction(size_average, reduce)
    return reduction


def affine_operands(x: Value, n: tuple[int, ...], weight: Value | None, bias: Value | None) -> tuple[Value, ...]:
    """(weight, bias) as trailing operands; a missing weight in front of a bias is made of ones."""
    if bias is None:
        return () if weight is None else (weight,)
    return (constant(x.builder, 1, x.dtype, n) if weight is None else weight, bias)
