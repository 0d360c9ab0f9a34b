"""`make_tensor`: random tensors of any dtype for tests."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import jtorch as torch
from jtorch import Tensor

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)


def make_tensor(*shape: Any, dtype: Any, device: Any = "cpu", low: float | None = None, high: float | None = None,
                requires_grad: bool = False, noncontiguous: bool = False, exclude_zero: bool = False,
                memory_format: Any = None) -> Tensor:
    """Numbers uniform in [low, high): by default [-9, 9), for integers [-9, 10), for uint8 [0, 10), for bool both.

    Bounds are clamped to the dtype's range. `noncontiguous` gives every other element of a larger tensor,
    `exclude_zero` the smallest positive number in place of zeros. Raises ValueError for an empty range, for NaN as a
    bound, and for `requires_grad` on integers; TypeError for another dtype.
    """
    if len(shape) == 1 and isinstance(shape[0], Sequence):
        shape = tuple(shape[0])
    if noncontiguous and memory_format is not None:
        raise ValueError("The parameters `noncontiguous` and `memory_format` are mutually exclusive, but got "
                         f"{noncontiguous=} and {memory_format=}")
    whole = dtype is torch.bool or dtype in INTEGERS
    if requires_grad and whole:
        raise ValueError(f"`requires_grad=True` is not supported for boolean and integral dtypes, but got {dtype=}")
    if not whole and dtype not in FLOATS + COMPLEX:
        raise TypeError(f"The requested dtype '{dtype}' is not supported by torch.testing.make_tensor(). To request "
                        "support, file an issue at: https://github.com/pytorch/pytorch/issues")
    noncontiguous = noncontiguous and math.prod(shape) > 1
    if noncontiguous:
        shape = (*shape[:-1], 2 * shape[-1])
    low, high = _bounds(dtype, low, high)
    if whole:
        result = torch.randint(math.ceil(low), math.ceil(high), shape, dtype=dtype, device=device)
    else:
        result = torch.empty(shape, dtype=dtype, device=device)
        _fill(torch.view_as_real(result) if dtype in COMPLEX else result, low, high)
    if noncontiguous:
        result = result[..., 1::2]  # from 1: offsets are tested too
    elif memory_format is not None:
        result = result.clone(memory_format=memory_format)
    if exclude_zero:
        result[result == 0] = 1 if whole else torch.finfo(dtype).tiny
    if not whole:
        result.requires_grad = requires_grad
    return result


def _bounds(dtype: Any, low: float | None, high: float | None) -> tuple[float, float]:
    lowest: float
    highest: float
    if dtype is torch.bool:
        lowest, highest, default = 0, 2, (0, 2)
    elif dtype in INTEGERS:
        info = torch.iinfo(dtype)
        lowest, highest, default = info.min, info.max + (dtype is not torch.int64), (-9, 10)
    else:
        lowest, highest, default = torch.finfo(dtype).min, torch.finfo(dtype).max, (-9, 9)
    low, high = default[0] if low is None else low, default[1] if high is None else high
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"`low` and `high` cannot be NaN, but got {low=} and {high=}")
    if low == high and dtype in FLOATS + COMPLEX:
        warnings.warn("Passing `low==high` to `torch.testing.make_tensor` for floating or complex types is deprecated "
                      "since 2.1 and will be removed in 2.3. Use `torch.full(...)` instead.", FutureWarning,
                      stacklevel=3)
    elif low >= high:
        raise ValueError(f"`low` must be less than `high`, but got {low} >= {high}")
    elif high < lowest or low >= highest:
        raise ValueError(f"The value interval specified by `low` and `high` is [{low}, {high}), but {dtype} only "
                         f"supports [{lowest}, {highest})")
    return min(max(low, lowest), highest), min(max(high, lowest), highest)


def _fill(t: Tensor, low: float, high: float) -> None:
    if high - low >= torch.finfo(t.dtype).max:  # the width itself would overflow
        t.uniform_(low / 2, high / 2).mul_(2)
    else:
        t.uniform_(low, high)
