"""Operations that are algorithms rather than loops over elements: sorting and running reductions."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op, op
from jtorch.ir.prims.elementwise import (
    batch_elementwise,
    cast_to,
    eq,
    exp,
    expand,
    is_zero,
    log,
    ne,
    ones_like,
    where,
    zeros_like,
)
from jtorch.ir.prims.indexing import gather, scatter
from jtorch.ir.prims.movement import flip, reshape_to


def _axis_batch(self: Op, b: Builder, n: int, m: tuple, x: Value, axis: int, **attrs: Any) -> Any:
    return self(x, axis=axis + 1, **attrs)


# --- sorting ---------------------------------------------------------------------------------------------------------

Part = tuple[int, int] | None


def _sort_infer(x: Type, axis: int, descending: bool, stable: bool, part: Part) -> tuple[Type, Type]:
    if not 0 <= axis < x.ndim or (part and not 0 <= part[0] <= part[1] <= x.shape[axis]):
        raise AssertionError(f"sort: {x}, axis {axis}, part {part}")
    n = part[1] - part[0] if part else x.shape[axis]
    shape = (*x.shape[:axis], n, *x.shape[axis + 1:])
    return Type(x.dtype, shape), Type(dtypes.int64, shape)


def _sort_numpy(x: np.ndarray, axis: int, descending: bool, stable: bool, part: Part) -> tuple[np.ndarray, np.ndarray]:
    """NaN counts as the largest. Descending is ascending seen backwards, so that equal elements keep their order."""
    seen = np.flip(x, axis) if descending else x
    order = np.argsort(seen, axis=axis, kind="stable")
    if descending:
        order = x.shape[axis] - 1 - np.flip(order, axis)
    if part:
        order = np.moveaxis(np.moveaxis(order, axis, 0)[part[0]:part[1]], 0, axis)
    return np.take_along_axis(x, order, axis), order


sort = Op("sort", "library", _sort_infer, _sort_numpy,
          lambda g, y, x, axis, descending, stable, part: (scatter(zeros_like(x), y[1], g[0], axis=axis, mode="set"),),
          jvp=lambda t, y, x, axis, descending, stable, part: (gather(t[0], y[1], axis=axis), None),
          attr_names=("axis", "descending", "stable", "part"),
          attr_defaults={"descending": False, "stable": True, "part": None},
          batch=_axis_batch, domain="distinct")
"""(values, indices) along `axis`. Always stable here; `stable` says whether a kernel has to be. `part` = (first, last):
only the elements first .. last - 1 of the order."""


def _nth_infer(x: Type, rank: Type, axis: int) -> tuple[Type, Type]:
    shape = (*x.shape[:axis], *x.shape[axis + 1:])
    if rank != Type(dtypes.int64, shape) or not 0 <= axis < x.ndim:
        raise AssertionError(f"nth: {x}, {rank}, axis {axis}")
    return Type(x.dtype, shape), rank


def _nth_numpy(x: np.ndarray, rank: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(x, axis=axis, kind="stable")
    place = np.take_along_axis(order, np.expand_dims(rank, axis), axis)
    return np.take_along_axis(x, place, axis).squeeze(axis), place.squeeze(axis)


def _nth_vjp(g: tuple, y: tuple, x: Value, rank: Value, axis: int) -> tuple:
    at, cotangent = (reshape_to(v, (*v.shape[:axis], 1, *v.shape[axis:])) for v in (y[1], g[0]))
    return scatter(zeros_like(x), at, cotangent, axis=axis, mode="set"), None


def _nth_jvp(t: tuple, y: tuple, x: Value, rank: Value, axis: int) -> tuple:
    at = reshape_to(y[1], (*y[1].shape[:axis], 1, *y[1].shape[axis:]))
    return reshape_to(gather(t[0], at, axis=axis), y[1].shape), None


def _nth_batch(self: Op, b: Builder, n: int, m: tuple, x: Value, rank: Value, axis: int) -> Any:
    x, rank = (v if mapped else expand(v, (n, *v.shape)) for v, mapped in zip((x, rank), m))
    return self(x, rank, axis=axis + 1)


nth = Op("nth", "library", _nth_infer, _nth_numpy, _nth_vjp, jvp=_nth_jvp, attr_names=("axis",), batch=_nth_batch,
         domain="distinct")
"""(value, index) of the element of that rank along `axis`, which is removed: rank 0 is the smallest, NaN the largest.
Equal elements are ranked by index."""


# --- counting --------------------------------------------------------------------------------------------------------

def _bincount_infer(x: Type, size: int) -> Type:
    if x.dtype.category != dtypes.INT or not x.ndim:
        raise AssertionError(f"bincount: {x}")
    return Type(dtypes.int64, (*x.shape[:-1], size))


def _bincount_numpy(x: np.ndarray, size: int) -> np.ndarray:
    counts = [np.bincount(row, minlength=size) for row in x.reshape(math.prod(x.shape[:-1]), x.shape[-1])]
    return np.array(counts, np.int64).reshape(*x.shape[:-1], size)


bincount = Op("bincount", "library", _bincount_infer, _bincount_numpy, no_grad="integers", attr_names=("size",),
              batch=lambda self, b, n, m, x, size: self(x, size=size), domain="places")
"""How often 0, 1, ... size - 1 are in each row of x, which has no other numbers."""


def _row_places_numpy(first: np.ndarray, ends: np.ndarray, total: int) -> np.ndarray:
    counts = np.diff(ends, prepend=0)
    return np.stack([np.repeat(np.arange(len(ends)), counts),
                     np.arange(total) - np.repeat(ends - counts - first, counts)])


row_places = Op("row_places", "library", lambda first, ends, total: Type(dtypes.int64, (2, total)), _row_places_numpy,
                no_grad="integers", attr_names=("total",), domain="places")
"""[2, total]: rows and columns of places, row after row. Those of row r end before column ends[r] of the result, and
have the columns first[r], first[r] + 1, ..."""


# --- running reductions ----------------------------------------------------------------------------------------------

def _same_infer(x: Type, axis: int) -> Type:
    if not 0 <= axis < x.ndim:
        raise AssertionError(f"running reduction: {x}, axis {axis}")
    return x


def reverse_cumsum(g: Value, axis: int) -> Value:
    """out[i] = g[i] + g[i+1] + ..."""
    return flip(cumsum(flip(g, axes=(axis,)), axis=axis), axes=(axis,))


cumsum = Op("cumsum", "scan", _same_infer, lambda x, axis: np.cumsum(x, axis, dtype=x.dtype),
            lambda g, y, x, axis: (reverse_cumsum(g, axis),), attr_names=("axis",), linear=True, batch=_axis_batch,
            domain="axis")


cumprod = Op("cumprod", "scan", _same_infer, lambda x, axis: np.cumprod(x, axis, dtype=x.dtype),
             lambda g, y, x, axis: (op("cumprod_gradient")(g, x, axis=axis),),
             jvp=lambda t, y, x, axis: cumprod_tangent(t[0], x, axis),
             attr_names=("axis",), batch=_axis_batch, domain="axis")


def cumprod_tangent(t: Value, x: Value, axis: int) -> Value:
    """The tangent of a running product, y_i * sum_{k <= i} t_k / x_k; a lone zero leaves one term of the sum."""
    hole = is_zero(x)
    holes = cumsum(cast_to(hole, dtypes.int64), axis=axis)
    filled = where(hole, ones_like(x), x)
    others = cumprod(filled, axis=axis)
    zero = zeros_like(x)
    none = others * cumsum(where(hole, zero, t / filled), axis=axis)
    one = others * cumsum(where(hole, t, zero), axis=axis)
    return where(is_zero(holes), none, where(eq(holes, ones_like(holes)), one, zero))


def _extremum_infer(x: Type, axis: int) -> tuple[Type, Type]:
    return _same_infer(x, axis), Type(dtypes.int64, x.shape)


def _running(better: np.ufunc) -> Any:
    def run(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Later equal elements replace earlier ones, and NaN stays."""
        rows = np.moveaxis(x, axis, 0)
        values, places = rows.copy(), np.zeros(rows.shape, np.int64)
        for i in range(1, len(rows)):
            take = better(rows[i], values[i - 1]) | (rows[i] != rows[i])
            values[i] = np.where(take, rows[i], values[i - 1])
            places[i] = np.where(take, i, places[i - 1])
        return np.moveaxis(values, 0, axis), np.moveaxis(places, 0, axis)
    return run


def _running_extremum(name: str, better: np.ufunc) -> Op:
    return Op(name, "scan", _extremum_infer, _running(better),
              lambda g, y, x, axis: (scatter(zeros_like(x), y[1], g[0], axis=axis, mode="add"),),
              jvp=lambda t, y, x, axis: (gather(t[0], y[1], axis=axis), None),
              attr_names=("axis",), batch=_axis_batch, domain="distinct")


cummax = _running_extremum("cummax", np.greater_equal)
"""(values, indices) of the largest element so far along `axis`."""
cummin = _running_extremum("cummin", np.less_equal)


def _logcumsumexp_vjp(g: Value, y: Value, x: Value, axis: int) -> tuple:
    """exp(x + logsumexp of (log g - y) from here on); real g in two parts, where it is positive and where negative."""
    def part(v: Value) -> Value:
        shifted = flip(log_of(v) - y, axes=(axis,))
        return exp(flip(logcumsumexp(shifted, axis=axis), axes=(axis,)) + x)

    def log_of(v: Value) -> Value:
        has_log = ne(v, zeros_like(v)) if v.dtype.is_complex else v > 0
        lowest = zeros_like(v) - 1e30  # as good as -inf, and it has derivatives
        return where(has_log, log(where(has_log, v, ones_like(v))), lowest)

    return (part(g) if g.dtype.is_complex else part(g) - part(-g),)


def _logcumsumexp_numpy(x: np.ndarray, axis: int) -> np.ndarray:
    if x.dtype.kind != "c":
        return np.logaddexp.accumulate(x, axis) if x.shape[axis] else x.copy()
    out = x.copy()
    rows = np.moveaxis(out, axis, 0)
    for i in range(1, len(rows)):
        largest = np.maximum(rows[i - 1].real, rows[i].real)
        largest = np.where(np.isfinite(largest), largest, 0)
        with np.errstate(divide="ignore"):
            rows[i] = np.log(np.exp(rows[i - 1] - largest) + np.exp(rows[i] - largest)) + largest
    return out


logcumsumexp = Op("logcumsumexp", "scan", _same_infer, _logcumsumexp_numpy, _logcumsumexp_vjp,
                  jvp=lambda t, y, x, axis: exp(-y) * cumsum(exp(x) * t[0], axis=axis),
                  attr_names=("axis",), batch=_axis_batch, domain="axis float")


# --- the parts of numbers --------------------------------------------------------------------------------------------

def _of_integers(name: str, function: np.ufunc) -> Op:
    def infer(a: Type, b: Type) -> Type:
        if a != b or a.dtype.category != dtypes.INT:
            raise AssertionError(f"{name}: {a}, {b}")
        return a
    return Op(name, "library", infer, function, no_grad="integers", batch=batch_elementwise, domain="integer pair")


gcd = _of_integers("gcd", np.gcd)
lcm = _of_integers("lcm", np.lcm)


def _frexp_numpy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mantissa, exponent = np.frexp(x)
    return mantissa.astype(x.dtype), exponent.astype(np.int32)


def _frexp_slope(g: Value, y: tuple) -> Value:
    """g / 2**exponent"""
    return g * exp(cast_to(-y[1], g.dtype) * math.log(2))


frexp = Op("frexp", "library", lambda x: (x, Type(dtypes.int32, x.shape)), _frexp_numpy,
           lambda g, y, x: (_frexp_slope(g[0], y),), jvp=lambda t, y, x: (_frexp_slope(t[0], y), None),
           batch=batch_elementwise, domain="float")
"""(mantissa, exponent): x = mantissa * 2**exponent with 0.5 <= |mantissa| < 1, or both 0."""
