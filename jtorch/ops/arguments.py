"""Arguments as PyTorch's users write them, brought into one form; results that have names."""
from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from jtorch._tensor import Size, Tensor
from jtorch.capture.execute import array_of
from jtorch.capture.record import current, is_data
from jtorch.dtypes import dtype
from jtorch.ir.graph import Value, contiguous_strides, user_location
from jtorch.views import type_name


def wrap_dim(dim: Any, ndim: int) -> int:
    """A dimension counted from 0; IndexError with PyTorch's text."""
    n = ndim or 1
    try:
        dim = operator.index(dim)
    except TypeError:
        raise TypeError(f"argument 'dim' must be int, not {type(dim).__name__}") from None
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


LOOKED_AT = 1 << 20
"""Bytes of data that is looked at as a whole where a part of it is asked about: the next part needs no look."""


def out_of_range(x: Tensor, lowest: int, size: int) -> int | None:
    """An element of the integers `x` that is not lowest <= i < size, where the elements are at hand; kernels look for
    themselves, but this error comes at the user's line. What was seen is remembered with the data: should it change
    where memory is shared, the kernel will find it."""
    storage = x._storage
    cell, kind, whole = storage.cell, x._type, x._view is None
    if cell.buffer is None or not kind.numel or not current.recorder.knows_values:
        return None
    if whole or kind.dtype is cell.type.dtype and is_data(x):
        if cell.range is None and (whole or cell.type.nbytes <= LOOKED_AT and storage.settled == storage.version):
            cell.range = _limits(array_of(cell.buffer, cell.type))
        if cell.range is not None and lowest <= cell.range[0] and cell.range[1] < size:
            return None
    low, high = cell.range if whole else _limits(x._array())  # type: ignore[misc]
    return high if high >= size else low if low < lowest else None


def _limits(numbers: np.ndarray) -> tuple[int, int]:
    """The greatest of some integers, and the least one, or 0 where none is negative."""
    if numbers.dtype == np.int64 and numbers.flags.c_contiguous:
        high = int(np.maximum.reduce(numbers.view(np.uint64), None))  # one pass for both
        if high < 1 << 63:
            return 0, high
    return int(numbers.min()), int(numbers.max())


def wrap_dims(dims: Any, ndim: int) -> tuple[int, ...]:
    """Dimensions counted from 0, in the given order; RuntimeError where one comes twice."""
    if not isinstance(dims, (tuple, list)):
        dims = (dims,)
    found = tuple([wrap_dim(d, ndim) for d in dims])
    if len(set(found)) != len(found):
        twice = next(d for d in found if found.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return found


def reduction_axes(dim: Any, ndim: int, empty_is_all: bool = True) -> tuple[int, ...]:
    """Axes of a reduction, sorted: all of them for None (and for an empty tuple)."""
    if dim is None or (empty_is_all and isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    axes = tuple(sorted(wrap_dims(dim, ndim)))
    return axes if ndim else ()


def shape_of(args: Sequence[Any]) -> tuple[int, ...]:
    """A shape given as `f(2, 3)` or `f((2, 3))`."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = args[0]
    try:
        return tuple([operator.index(n) for n in args])
    except TypeError:
        bad = next((i, n) for i, n in enumerate(args) if not hasattr(n, "__index__"))
        raise TypeError(f"size must be a tuple of ints, but got element of type {type(bad[1]).__name__} at pos "
                        f"{bad[0]}") from None


def check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape to create: no negative size."""
    for n in shape:
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(shape)}")
    return shape


def scalar_type(d: dtype) -> str:
    """PyTorch's C++ name of a dtype, which its error texts use."""
    return type_name(d)


class NamedResult(tuple):
    """A named tuple that prints as PyTorch's structured results do."""

    _fields: tuple[str, ...] = ()

    def __new__(cls, *items: Any) -> NamedResult:
        return tuple.__new__(cls, items)

    def __repr__(self) -> str:
        return f"torch.return_types.{type(self).__name__}(\n" + ",\n".join(
            f"{n}={v!r}" for n, v in zip(self._fields, self)) + ")"

    def __reduce__(self) -> tuple:
        return (_rebuild_named, (type(self).__name__, self._fields, tuple(self)))


RESULTS: dict[str, type[NamedResult]] = {}


def named(name: str, fields: str) -> Any:
    """The class of an operator's named results: `named("max", "values indices")`."""
    found = RESULTS.get(name)
    if found is None:
        names = tuple(fields.split())
        places = {n: property(operator.itemgetter(i)) for i, n in enumerate(names)}
        found = RESULTS[name] = type(name, (NamedResult,), {**places, "_fields": names, "n_fields": len(names),
                                                            "n_sequence_fields": len(names), "__module__": __name__})
    return found


def _rebuild_named(name: str, fields: tuple[str, ...], items: tuple[Any, ...]) -> Any:
    return named(name, " ".join(fields))(*items)


def warn_user(message: str) -> None:
    """A UserWarning at the user's line."""
    file, line = user_location() or ("<jtorch>", 0)
    warnings.warn_explicit(message, UserWarning, file, line)


def value_of(t: Tensor) -> Value:
    return current.recorder.value(t)


def default_float() -> dtype:
    return current.recorder.builder.default_float


__all__ = ["NamedResult", "RESULTS", "Size", "check_shape", "default_float", "named", "reduction_axes",
           "scalar_type", "shape_of", "value_of", "warn_user", "wrap_dim", "wrap_dims"]


def memory_order(t: Tensor) -> tuple[int, ...] | None:
    """The axes from the slowest to the fastest in memory, for a tensor that is a permutation of a contiguous one and
    not contiguous itself; else None. Random numbers for such a tensor are drawn in this order."""
    if t._geometry is None or t.is_contiguous():
        return None
    strides = t.stride()
    axes = tuple(sorted(range(t.ndim), key=lambda d: (-strides[d], d)))
    dense = contiguous_strides(tuple([t._type.shape[d] for d in axes]))
    return axes if tuple([strides[d] for d in axes]) == dense else None
