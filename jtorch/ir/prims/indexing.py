"""Indexing primitives: reading and writing at places that other values name. Indices are int64.

`take`, `put` and `put_add` move whole rows along one axis; `gather` and `scatter` move single elements. Reading and
adding are each other's derivatives.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.errors import IndexOutOfBoundsError
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import iota
from jtorch.ir.prims.elementwise import INTEGER, cast_to, elementwise, eq, expand, is_zero, ones_like, where, zeros_like
from jtorch.ir.prims.movement import inverse_permutation, permute_to, reshape_to

Shape = tuple[int, ...]


def check_bounds(index: np.ndarray, axis: int, size: int, lowest: int) -> None:
    """An error with PyTorch's text unless lowest <= index < size everywhere."""
    if index.size:
        low, high = int(index.min()), int(index.max())
        if low < lowest or high >= size:
            bad = high if high >= size else low
            raise IndexOutOfBoundsError(f"index {bad} is out of bounds for dimension {axis} with size {size}")


def _wrapped(index: np.ndarray, axis: int, size: int) -> np.ndarray:
    check_bounds(index, axis, size, -size)
    return np.where(index < 0, index + size, index)


within = elementwise("within", "a", lambda a, b: a, no_grad="an index", domain=INTEGER,
                     fails="(a < 0) | (a >= b)", error=(IndexOutOfBoundsError, "index out of range in self"))
"""a, where all of it is 0 <= a < b; an error otherwise."""


# --- rows ------------------------------------------------------------------------------------------------------------

def _take_infer(x: Type, index: Type, axis: int) -> Type:
    if index.dtype is not dtypes.int64 or not 0 <= axis < x.ndim:
        raise AssertionError(f"take: {x}, {index}, axis {axis}")
    return Type(x.dtype, (*x.shape[:axis], *index.shape, *x.shape[axis + 1:]))


def _take_numpy(x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    return np.take(x, _wrapped(index, axis, x.shape[axis]), axis)


def _fold(index: Value, rows: int) -> Value:
    """Per-element row numbers [n, ...] as rows of the n stacked operands; out of range stays out of range."""
    n = index.shape[0]
    offset = reshape_to(index.builder.apply(iota, length=n, dtype=dtypes.int64) * rows, (n, *[1] * (index.ndim - 1)))
    inside = (index >= -rows) & (index < rows)
    return where(inside, where(index < 0, index + rows, index) + offset, zeros_like(index) + n * rows)


def picked_first(ndim: int, axis: int, index_ndim: int) -> tuple[int, ...]:
    """Permutation that brings the `index_ndim` axes from `axis` on of a mapped operand right behind the mapped one."""
    picked = range(1 + axis, 1 + axis + index_ndim)
    return (0, *picked, *[a for a in range(1, ndim) if a not in picked])


def _take_batch(self: Op, b: Builder, n: int, m: tuple, x: Value, index: Value, axis: int) -> Value:
    if not m[1]:
        return self(x, index, axis=axis + 1)
    if not m[0]:
        y = self(x, index, axis=axis)
        return permute_to(y, (axis, *[a for a in range(y.ndim) if a != axis]))
    rows = x.shape[axis + 1]
    front = permute_to(x, picked_first(x.ndim, axis, 1))
    y = self(reshape_to(front, (n * rows, *front.shape[2:])), _fold(index, rows), axis=0)
    return permute_to(y, inverse_permutation(picked_first(y.ndim, axis, index.ndim - 1)))


take = Op("take", "index", _take_infer, _take_numpy,
          lambda g, y, x, index, axis: (put_add(zeros_like(x), index, g, axis=axis), None),
          jvp=lambda t, y, x, index, axis: take(t[0], index, axis=axis),
          attr_names=("axis",), batch=_take_batch, domain="index")
"""x.shape[:axis] + index.shape + x.shape[axis+1:]; a negative index counts from the end."""


def _put_infer(x: Type, index: Type, src: Type, axis: int) -> Type:
    if _take_infer(x, index, axis) != src:
        raise AssertionError(f"put: {src} at {index} of {x}, axis {axis}")
    return x


def _put_numpy(x: np.ndarray, index: np.ndarray, src: np.ndarray, axis: int) -> np.ndarray:
    def assign(rows: np.ndarray, flat: np.ndarray, values: np.ndarray) -> None:
        rows[flat] = values  # NumPy assigns in order: the last one stays

    return _renew_rows(x, index, src, axis, assign)


def _put_add_numpy(x: np.ndarray, index: np.ndarray, src: np.ndarray, axis: int) -> np.ndarray:
    def add(rows: np.ndarray, flat: np.ndarray, values: np.ndarray) -> None:
        rest = rows.shape[1]
        places = (flat[:, None] * rest + np.arange(rest)).ravel()  # the one-dimensional ufunc.at is the fast one
        np.add.at(rows.reshape(-1), places, values.ravel())

    return _renew_rows(x, index, src, axis, add)


def _renew_rows(x: np.ndarray, index: np.ndarray, src: np.ndarray, axis: int,
                renew: Callable[[np.ndarray, np.ndarray, np.ndarray], None]) -> np.ndarray:
    """`renew(x as [rows, rest], the flat index, src as [index, rest])`."""
    index = _wrapped(index, axis, x.shape[axis])
    if src.size:
        front = np.moveaxis(x, axis, 0)
        src = np.moveaxis(src, range(axis, axis + index.ndim), range(index.ndim))
        rows = np.ascontiguousarray(front.reshape(len(front), -1))
        renew(rows, index.ravel(), src.reshape(index.size, -1))
        if not np.may_share_memory(rows, x):
            front[...] = rows.reshape(front.shape)
    return x


def _put_batch(self: Op, b: Builder, n: int, m: tuple, x: Value, index: Value, src: Value, axis: int) -> Value:
    x = x if m[0] else expand(x, (n, *x.shape))
    src = src if m[2] else expand(src, (n, *src.shape))
    if not m[1]:
        return self(x, index, src, axis=axis + 1)
    perm = picked_first(x.ndim, axis, 1)
    front = permute_to(x, perm)
    values = permute_to(src, picked_first(src.ndim, axis, index.ndim - 1))
    rows = x.shape[axis + 1]
    y = self(reshape_to(front, (n * rows, *front.shape[2:])), _fold(index, rows), values, axis=0)
    return permute_to(reshape_to(y, front.shape), inverse_permutation(perm))


put_add = Op("put_add", "index", _put_infer, _put_add_numpy,
             lambda g, y, x, index, src, axis: (g, None, take(g, index, axis=axis)),
             jvp=lambda t, y, x, index, src, axis: put_add(tangent(t[0], x), index, tangent(t[2], src), axis=axis),
             attr_names=("axis",), updates=True, batch=_put_batch, domain="index")
"""x with the rows of src added at `index`; rows named twice add twice."""

put = Op("put", "index", _put_infer, _put_numpy,
         lambda g, y, x, index, src, axis: (put(g, index, zeros_like(src), axis=axis), None, take(g, index, axis=axis)),
         jvp=lambda t, y, x, index, src, axis: put(tangent(t[0], x), index, tangent(t[2], src), axis=axis),
         attr_names=("axis",), updates=True, batch=_put_batch, domain="index")
"""x with its rows at `index` replaced by those of src; of rows named twice the last one stays. As in PyTorch, the
derivative gives every one of them the gradient of the place."""


def tangent(t: Value | None, of: Value) -> Value:
    return zeros_like(of) if t is None else t


# --- elements --------------------------------------------------------------------------------------------------------

def _gather_infer(x: Type, index: Type, axis: int) -> Type:
    if index.dtype is not dtypes.int64:
        raise RuntimeError("gather(): Expected dtype int64 for index")
    if x.ndim != index.ndim:
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for a, (n, k) in enumerate(zip(x.shape, index.shape)):
        if a != axis and k > n:
            raise RuntimeError(f"Size does not match at dimension {a} expected index {list(index.shape)} to be no "
                               f"larger than self {list(x.shape)} apart from dimension {axis}")
    return Type(x.dtype, index.shape)


def _places(index: np.ndarray, axis: int, size: int) -> tuple[np.ndarray, ...]:
    check_bounds(index, axis, size, 0)
    return tuple(index if a == axis else np.arange(n).reshape([-1 if a == i else 1 for i in range(index.ndim)])
                 for a, n in enumerate(index.shape))


def _gather_numpy(x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    return x[_places(index, axis, x.shape[axis])] if index.size else np.empty(index.shape, x.dtype)


def _gather_batch(self: Op, b: Builder, n: int, m: tuple, *inputs: Value, axis: int, **attrs: Any) -> Value:
    inputs = tuple(v if mapped else expand(v, (n, *v.shape)) for v, mapped in zip(inputs, m))
    return b.apply(self, *inputs, axis=axis + 1, **attrs)


gather = Op("gather", "index", _gather_infer, _gather_numpy,
            lambda g, y, x, index, axis: (scatter(zeros_like(x), index, g, axis=axis, mode="add"), None),
            jvp=lambda t, y, x, index, axis: gather(t[0], index, axis=axis),
            attr_names=("axis",), batch=_gather_batch, domain="index")
"""out[i, j] = x[index[i, j], j] along `axis`; index may be smaller than x along the other axes."""

SCATTER = {"add": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _scatter_infer(x: Type, index: Type, src: Type, axis: int, mode: str) -> Type:
    if mode != "set" and mode not in SCATTER:
        raise AssertionError(f"scatter mode {mode!r}")
    if _gather_infer(x, index, axis).shape != src.shape or src.dtype is not x.dtype:
        raise AssertionError(f"scatter: {src} at {index} of {x}, axis {axis}")
    return x


def _scatter_numpy(x: np.ndarray, index: np.ndarray, src: np.ndarray, axis: int, mode: str) -> np.ndarray:
    if not index.size:
        return x
    places = _places(index, axis, x.shape[axis])
    if mode == "set":
        x[places] = src
    else:
        flat = np.ravel_multi_index(np.broadcast_arrays(*places), x.shape)
        SCATTER[mode].at(x.reshape(-1), flat.ravel(), src.ravel())
    return x


def _scatter_vjp(g: Value, y: Value, x: Value, index: Value, src: Value, axis: int, mode: str) -> tuple:
    def pick(v: Value) -> Value:
        return gather(v, index, axis=axis)

    def count(self: Value, picked: Value) -> Value:
        return scatter(cast_to(self, g.dtype), index, cast_to(picked, g.dtype), axis=axis, mode="add")

    if mode == "set":
        return scatter(g, index, zeros_like(src), axis=axis, mode="set"), None, pick(g)
    if mode == "add":
        return g, None, pick(g)
    if mode == "prod":  # y / x where that makes sense; at a lone zero, the product of the others
        x_filled = where(is_zero(x), ones_like(x), x)
        without_x = scatter(x_filled, index, src, axis=axis, mode="prod") / x_filled
        holes = is_zero(src)
        counted = pick(count(zeros_like(x), holes))
        lone = holes & eq(counted, ones_like(counted))
        without_hole = scatter(x, index, where(lone, ones_like(src), src), axis=axis, mode="prod")
        of_src = where(lone, pick(g * without_hole), pick(g * y) / where(holes, ones_like(src), src))
        return g * without_x, None, of_src
    from_x, from_src = eq(x, y), eq(src, pick(y))  # amax, amin: equal extrema share
    share = g / count(from_x, from_src)
    return where(from_x, share, zeros_like(g)), None, where(from_src, pick(share), zeros_like(src))


def _scatter_jvp(t: tuple, y: Value, x: Value, index: Value, src: Value, axis: int, mode: str) -> Value:
    tx, ts = tangent(t[0], x), tangent(t[2], src)
    if mode in ("set", "add"):
        return scatter(tx, index, ts, axis=axis, mode=mode)
    dx, _, ds = _scatter_vjp(ones_like(y), y, x, index, src, axis, mode)  # the Jacobian is zero or one per source
    return scatter(tx * dx, index, ts * ds, axis=axis, mode="add")


scatter = Op("scatter", "index", _scatter_infer, _scatter_numpy, _scatter_vjp, jvp=_scatter_jvp,
             attr_names=("axis", "mode"), updates=True, batch=_gather_batch, domain="index")
"""x with src put at `index` along `axis`, element by element. `mode`: 'set' (the last one stays), 'add', 'prod',
'amax', 'amin' (these include x itself)."""


def _searchsorted_infer(edges: Type, x: Type, right: bool) -> Type:
    if edges.dtype is not x.dtype or edges.shape[:-1] not in ((), x.shape[:-1]):
        raise AssertionError(f"searchsorted: {edges}, {x}")
    return Type(dtypes.int64, x.shape)


def _searchsorted_numpy(edges: np.ndarray, x: np.ndarray, right: bool) -> np.ndarray:
    side = "right" if right else "left"
    if edges.ndim == 1:
        return np.searchsorted(edges, x, side).astype(np.int64)
    count = math.prod(x.shape[:-1])
    rows = zip(edges.reshape(count, edges.shape[-1]), x.reshape(count, x.shape[-1]))
    return np.array([np.searchsorted(e, v, side) for e, v in rows], np.int64).reshape(x.shape)


def _searchsorted_batch(self: Op, b: Builder, n: int, m: tuple, edges: Value, x: Value, right: bool) -> Value:
    if not m[0] and edges.ndim == 1:
        return self(edges, x, right=right)
    edges = edges if m[0] else expand(edges, (n, *edges.shape))
    x = x if m[1] else expand(x, (n, *x.shape))
    if edges.ndim == 2:  # one row of edges for all of an example's values
        return reshape_to(self(edges, reshape_to(x, (n, x.type.numel // max(n, 1))), right=right), x.shape)
    return self(edges, x, right=right)


searchsorted = Op("searchsorted", "index", _searchsorted_infer, _searchsorted_numpy, no_grad="an index",
                  attr_names=("right",), batch=_searchsorted_batch, domain="sorted")
"""Where each x would be inserted into the ascending last axis of edges: before (or behind) equal ones."""

