"""Order: sort, topk, median, unique, counting."""
from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch._tensor import Tensor, from_array
from jtorch.ir import arith
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import indexing, library
from jtorch.ir.prims.create import constant, iota
from jtorch.ir.prims.movement import concatenate, expand_to, permute_to, reshape_to, slice_axis
from jtorch.ir.prims.reduce import any_, argmax, sum_
from jtorch.ops.arguments import named, wrap_dim
from jtorch.ops.attach import FUNCTIONS, define, expose

FEW_TESTS = 16
"""So many elements are compared one by one in `isin`."""


def _sorted(v: Value, axis: int, descending: bool, part: tuple[int, int] | None = None) -> tuple[Value, Value]:
    if v.ndim == 0:
        return v, constant(v.builder, 0, dtypes.int64)
    part = None if part == (0, v.shape[axis]) else part
    return library.sort(v, axis=axis, descending=descending, stable=True, part=part)


@define(out="typed")
def sort(input: Value, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    return named("sort", "values indices")(*_sorted(input, wrap_dim(dim, input.ndim), descending))


@define(out="typed")
def argsort(input: Value, dim: int = -1, descending: bool = False, stable: bool = False) -> Value:
    return _sorted(input, wrap_dim(dim, input.ndim), descending)[1]


@define()
def msort(input: Value) -> Value:
    return _sorted(input, 0, False)[0]


@define(out="typed")
def topk(input: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    axis = wrap_dim(dim, input.ndim)
    n = input.shape[axis] if input.ndim else 1
    if not 0 <= k <= n:
        raise RuntimeError("selected index k out of range")
    return named("topk", "values indices")(*_sorted(input, axis, largest, (0, k)))


@define(out="typed apart")
def kthvalue(input: Value, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    dtypes.require(input.dtype, dtypes.INT, "kthvalue_cpu")
    axis = wrap_dim(dim, input.ndim)
    n = input.shape[axis] if input.ndim else 1
    if not 1 <= k <= n:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {axis}")
    return named("kthvalue", "values indices")(*_nth(input, axis, k - 1, keepdim))


def _nth(v: Value, axis: int, k: int, keepdim: bool) -> tuple[Value, Value]:
    values, places = _sorted(v, axis, False, (k, k + 1))
    if v.ndim and not keepdim:
        shape = v.shape[:axis] + v.shape[axis + 1:]
        values, places = reshape_to(values, shape), reshape_to(places, shape)
    return values, places


def _median(name: str, input: Value, dim: int | None, keepdim: bool, ignore: bool) -> Any:
    dtypes.require(input.dtype, dtypes.INT, "median_cpu")
    if dim is None:
        flat = reshape_to(input, (input.type.numel,))
        if not input.type.numel:
            return constant(input.builder, math.nan, input.dtype)
        return reshape_to(_median_along(flat, 0, False, ignore)[0], ())
    axis = wrap_dim(dim, input.ndim)
    if input.ndim and input.shape[axis] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")
    return named(name, "values indices")(*_median_along(input, axis, keepdim, ignore))


def _with_axis(v: Value, like: Value, axis: int) -> Value:
    """A value that was reduced over `axis`, with that axis as one of size 1."""
    return reshape_to(v, (*like.shape[:axis], 1, *like.shape[axis + 1:]))


def _median_along(v: Value, axis: int, keepdim: bool, ignore: bool) -> tuple[Value, Value]:
    """The lower of the two middle elements. NaN sorts last: it is the median if there is one (unless ignored)."""
    if not v.ndim:
        return v, constant(v.builder, 0, dtypes.int64)
    n = v.shape[axis]
    if not v.dtype.is_floating_point:
        return _nth(v, axis, (n - 1) // 2, keepdim)
    missing = ew.isnan(v)
    if ignore:
        left = n - 1 - sum_(ew.cast_to(missing, dtypes.int64), axes=(axis,))
        middle = arith.where(left < 0, 0, arith.floor_divide(left, 2))
        values, places = library.nth(v, middle, axis=axis)
        return (_with_axis(values, v, axis), _with_axis(places, v, axis)) if keepdim else (values, places)
    first = argmax(ew.cast_to(missing, dtypes.uint8), axis=axis)
    middle = _nth(v, axis, (n - 1) // 2, False)[1]
    places = _with_axis(arith.where(any_(missing, axes=(axis,)), first, middle), v, axis)
    values = indexing.gather(v, places, axis=axis)
    if not keepdim:
        shape = v.shape[:axis] + v.shape[axis + 1:]
        values, places = reshape_to(values, shape), reshape_to(places, shape)
    return values, places


@define(out="typed apart")
def median(input: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    return _median("median", input, dim, keepdim, False)


@define(out="typed apart")
def nanmedian(input: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    return _median("nanmedian", input, dim, keepdim, True)


def _quantile(name: str, input: Value, q: Any, dim: int | None, keepdim: bool, interpolation: str) -> Value:
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got "
                           f"{interpolation}")
    if isinstance(q, Value) and q.dtype is not input.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
    b = input.builder
    at = q if isinstance(q, Value) else constant(b, float(q), input.dtype)
    if at.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
    x = reshape_to(input, (input.type.numel,)) if dim is None else input
    axis = 0 if dim is None else wrap_dim(dim, x.ndim)
    x = x if x.ndim else reshape_to(x, (1,))
    n = x.shape[axis]
    if n == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    order = (*[a for a in range(x.ndim) if a != axis], axis)
    rows, _ = _sorted(permute_to(x, order), x.ndim - 1, False)
    lead = rows.shape[:-1]
    count = at.type.numel
    missing = expand_to(reshape_to(sum_(ew.cast_to(ew.isnan(rows), x.dtype), axes=(x.ndim - 1,)), (*lead, 1)),
                        (*lead, count))
    wide = expand_to(reshape_to(at, (1,) * len(lead) + (count,)), (*lead, count))
    if name == "nanquantile":
        last = arith.where(missing >= n, 0.0, (n - 1) - missing)
        place = wide * last
    else:
        place = arith.where(missing > 0, float(n - 1), wide * float(n - 1))
    low = ew.floor(place)
    if interpolation == "lower":
        place = low
    elif interpolation == "higher":
        place = ew.ceil(place)
    elif interpolation == "nearest":
        place = ew.round_(place)
    low, high = ew.floor(place), ew.ceil(place)
    first, last_ = (indexing.gather(rows, ew.cast_to(v, dtypes.int64), axis=rows.ndim - 1) for v in (low, high))
    share = place - low if interpolation != "midpoint" else arith.where(place > low, 0.5, place - low)
    y = arith.where(ew.eq(low, high), first, first + share * (last_ - first))
    y = permute_to(y, (y.ndim - 1, *range(y.ndim - 1)))  # the quantiles come first
    shape = tuple(y.shape[1:])
    if keepdim:
        shape = (1,) * input.ndim if dim is None else tuple([1 if a == axis else m for a, m in enumerate(input.shape)])
    return reshape_to(y, ((count,) if at.ndim else ()) + shape)


@define()
def quantile(input: Value, q: Any, dim: int | None = None, keepdim: bool = False, *,
             interpolation: str = "linear") -> Value:
    return _quantile("quantile", input, q, dim, keepdim, interpolation)


@define()
def nanquantile(input: Value, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
                ) -> Value:
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation)


@define(out="typed apart")
def mode(input: Value, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent value (the smallest of equals) and the last place of it: where in the sorted elements the
    longest run of equals ends."""
    axis, b = wrap_dim(dim, input.ndim), input.builder
    if not input.ndim:
        return named("mode", "values indices")(input, constant(b, 0, dtypes.int64))
    n = input.shape[axis]
    if n == 0:
        raise IndexError(f"mode(): Expected reduction dim {axis} to have non-zero size.")
    values, places = _sorted(input, axis, False)
    at = reshape_to(b.apply(iota, length=n, dtype=dtypes.int64), (n,) + (1,) * (input.ndim - 1 - axis))
    at = expand_to(at, input.shape)
    begins = ew.ne(slice_axis(values, axis, 1, n), slice_axis(values, axis, 0, n - 1))
    starts = concatenate(slice_axis(at, axis, 0, 1), arith.where(begins, slice_axis(at, axis, 1, n), 0), axis=axis)
    start, _ = library.cummax(starts, axis=axis)
    end = _with_axis(argmax(at - start, axis=axis), input, axis)
    index = indexing.gather(places, end, axis=axis)
    value = indexing.gather(input, index, axis=axis)
    if not keepdim:
        shape = input.shape[:axis] + input.shape[axis + 1:]
        value, index = reshape_to(value, shape), reshape_to(index, shape)
    return named("mode", "values indices")(value, index)


# --- what depends on the data: computed at once ----------------------------------------------------------------------

@expose("unique")
def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:
    array = input.detach()._array()
    if dim is None and not input.dtype.is_complex:
        flat = array.reshape(-1)
        low = _narrow_range(flat)
        found = _unique_sorted(input, return_inverse) if low is None else _unique_counted(flat, low, return_inverse)
        values, inverse, counts = found
    elif dim is None:
        values, inverse, counts = np.unique(array.reshape(-1), return_inverse=True, return_counts=True)
    else:
        axis = wrap_dim(dim, input.ndim)
        values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, axis=axis)
    inverse = inverse.reshape(array.shape if dim is None and return_inverse else -1)
    return _unique_result(values, inverse, counts, return_inverse, return_counts)


def _unique_sorted(input: Tensor, return_inverse: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ordered, places = (t._array() for t in FUNCTIONS["sort"](input.detach().reshape(-1)))
    changed = _changes(ordered)
    starts = np.flatnonzero(changed)
    inverse = np.empty(len(ordered) if return_inverse else 0, np.int64)
    if return_inverse:
        inverse[places] = np.cumsum(changed) - 1
    return ordered[starts], inverse, np.diff(starts, append=len(ordered))


def _narrow_range(flat: np.ndarray) -> int | None:
    """The smallest of integers that lie so close together that it is cheaper to count them than to sort them."""
    if flat.dtype.kind not in "iu" or not flat.size:
        return None
    low = int(flat.min())
    return low if int(flat.max()) - low < max(1024, flat.size // 2) else None


def _unique_counted(flat: np.ndarray, low: int, return_inverse: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    places = flat.astype(np.int64) - low if low or flat.dtype == np.uint64 else flat
    counts = np.bincount(places)
    present = counts > 0
    values = np.flatnonzero(present)
    inverse = (np.cumsum(present) - 1)[places] if return_inverse else np.empty(0, np.int64)
    return (values + low).astype(flat.dtype), inverse, counts[values]


def _unique_result(values: Any, inverse: Any, counts: Any, return_inverse: bool, return_counts: bool) -> Any:
    result = [from_array(np.array(values))]
    if return_inverse:
        result.append(from_array(np.array(inverse, np.int64)))
    if return_counts:
        result.append(from_array(np.array(counts, np.int64)))
    return tuple(result) if len(result) > 1 else result[0]


def _changes(rows: Any) -> Any:
    """Where a row differs from the one before it; the first one counts as different."""
    changed = np.ones(len(rows), bool)
    if rows.ndim == 1:
        np.not_equal(rows[1:], rows[:-1], out=changed[1:])
    else:
        changed[1:] = (rows[1:] != rows[:-1]).any(tuple(range(1, rows.ndim)))
    return changed


@expose("unique_consecutive")
def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
                       ) -> Any:
    array = input.detach()._array()
    axis = 0 if dim is None else wrap_dim(dim, input.ndim)
    rows = array.reshape(-1) if dim is None else np.moveaxis(array, axis, 0)
    if len(rows) == 0:
        inverse = np.zeros(array.shape if dim is None else 0)
        return _unique_result(rows if dim is None else array, inverse, np.zeros(0), return_inverse, return_counts)
    changed = _changes(rows)
    starts = np.flatnonzero(changed)
    values = rows[starts] if dim is None else np.moveaxis(rows[starts], 0, axis)
    inverse = np.cumsum(changed) - 1 if return_inverse else np.empty(0, np.int64)
    if dim is None and return_inverse:
        inverse = inverse.reshape(array.shape)
    return _unique_result(np.ascontiguousarray(values), inverse, np.diff(starts, append=len(rows)), return_inverse,
                          return_counts)


@define(method=False, function=False)
def _counts(input: Value, size: int) -> Value:
    return library.bincount(input, size=size)


@expose("bincount")
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if weights is not None and input.ndim == 1 and weights.shape != input.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    empty = not input.numel()
    least, most = (0, -1) if empty or input.dtype.category != dtypes.INT else map(int, FUNCTIONS["aminmax"](input))
    if input.ndim != 1 or input.dtype.category != dtypes.INT or least < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    size = max(most + 1, minlength)
    if weights is None:
        return _counts(input, size)
    w = weights.detach()._array()
    counts = np.bincount(input._array(), w.astype(np.float64), minlength)
    return from_array(counts.astype(np.float32 if w.dtype == np.float32 else np.float64, copy=False))


@expose("histc")
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0, *, out: Any = None) -> Tensor:
    array = input.detach()._array().reshape(-1)
    dtypes.require(input.dtype, dtypes.FLOAT, "histogram_cpu")
    if bins <= 0:
        raise RuntimeError("bins must be > 0")
    d = array.dtype.type
    given = min != max or not array.size
    low, high = (d(min), d(max)) if given else (array.min(), array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RuntimeError(f"torch.histc: range of [{low}, {high}] is not finite")
    if low == high:
        low, high = low - d(1), high + d(1)
    if not low < high:
        raise RuntimeError("torch.histc: max must be larger than min")
    if given:
        array = array[(array >= low) & (array <= high)]
    places = ((array - low) * d(bins) / (high - low)).astype(np.int64)  # the last edge is in the last bin
    counts = np.bincount(np.minimum(places, bins - 1, out=places), minlength=bins)
    result = from_array(counts.astype(array.dtype))
    return result if out is None else out.resize_(result.shape).copy_(result)


@expose("histogram")
def histogram(input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None,
              density: bool = False) -> Any:
    array = input.detach()._array()
    edges = bins._array() if isinstance(bins, Tensor) else bins
    w = None if weight is None else weight._array().reshape(-1)
    counts, places = np.histogram(array.reshape(-1), edges, range, density, w)
    return named("histogram", "hist bin_edges")(from_array(counts.astype(array.dtype)),
                                                from_array(places.astype(array.dtype)))


@expose("histogramdd", method=False)
def histogramdd(input: Tensor, bins: Any, range: Any = None, weight: Tensor | None = None,
                density: bool = False) -> Any:
    """Counts of the rows of [..., D] in a grid of D axes; `bins` are counts of bins or their edges."""
    if input.ndim < 2:
        raise RuntimeError("torch.histogramdd(): input tensor should have at least 2 dimensions, but got "
                           f"{input.ndim}")
    array = input.detach()._array()
    rows = array.reshape(-1, array.shape[-1])
    edges = [b._array() if isinstance(b, Tensor) else b for b in bins] if isinstance(bins, (tuple, list)) else bins
    limits = None if range is None else [(range[2 * i], range[2 * i + 1]) for i in builtins.range(len(range) // 2)]
    w = None if weight is None else weight._array().reshape(-1)
    counts, places = np.histogramdd(rows, edges, limits, density, w)
    return named("histogramdd", "hist bin_edges")(from_array(counts.astype(array.dtype)),
                                                  tuple([from_array(p.astype(array.dtype)) for p in places]))


@define(method=False)
def searchsorted(sorted_sequence: Value, input: Any, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Value | None = None) -> Value:
    b = sorted_sequence.builder
    x = input if isinstance(input, Value) else constant(b, input,
                                                        sorted_sequence.dtype if not isinstance(input, float) or
                                                         sorted_sequence.dtype.is_floating_point else b.default_float)
    if sorter is not None:
        sorted_sequence = indexing.gather(sorted_sequence, sorter, axis=sorted_sequence.ndim - 1)
    if x.dtype is not sorted_sequence.dtype:
        d = dtypes.promote_types(x.dtype, sorted_sequence.dtype)
        x, sorted_sequence = ew.cast_to(x, d), ew.cast_to(sorted_sequence, d)
    if sorted_sequence.ndim > 1 and sorted_sequence.shape[:-1] != x.shape[:-1]:
        raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 "
                           "dimensions of "
                           f"boundaries tensor and input value tensor must match, but we got boundaries tensor "
                           f"{list(sorted_sequence.shape)} and input value tensor {list(x.shape)}")
    if x.type.numel == 0:
        return constant(b, 0, dtypes.int32 if out_int32 else dtypes.int64, x.shape)
    places = indexing.searchsorted(sorted_sequence, x, right=right or side == "right")
    return ew.cast_to(places, dtypes.int32) if out_int32 else places


@define(method=False)
def bucketize(input: Any, boundaries: Value, *, out_int32: bool = False, right: bool = False) -> Value:
    if boundaries.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return searchsorted.function.body(boundaries, input, out_int32=out_int32, right=right)


@define(method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Value:
    """Each element is looked up in the sorted `test_elements`, or compared with each where they are few."""
    b = arith.builder_of((elements, test_elements))
    d = arith.result_dtype(b, (elements, test_elements))
    x, tests = arith.as_value(b, elements, d), arith.as_value(b, test_elements, d)
    n = tests.type.numel
    tests = reshape_to(tests, (n,))
    if n > FEW_TESTS and d is not dtypes.bool_ and not d.is_complex:
        ordered, _ = _sorted(tests, 0, False)
        place = indexing.searchsorted(ordered, x, right=False)
        nearest = indexing.take(ordered, arith.minimum(place, n - 1), axis=0)
        found = ew.eq(nearest, x)
    else:
        wide = (*x.shape, n)
        found = any_(ew.eq(expand_to(reshape_to(x, (*x.shape, 1)), wide), expand_to(tests, wide)), axes=(x.ndim,))
    return ew.logical_not(found) if invert else found
