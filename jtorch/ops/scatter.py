"""Reading and writing along one dimension: gather, scatter, index_select, index_add and their family."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch._tensor import Tensor, from_array
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import indexing, movement
from jtorch.ir.prims.create import constant
from jtorch.ops.arguments import out_of_range, shape_of, wrap_dim
from jtorch.ops.attach import FUNCTIONS, define, expose, wrap_public
from jtorch.ops.direct import refuse_misfit
from jtorch.views import type_name

# --- along one dimension ---------------------------------------------------------------------------------------------

def _long(index: Value, name: str) -> Value:
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    return ew.cast_to(index, dtypes.int64)


def _at_least_1(v: Value) -> Value:
    return v if v.ndim else movement.reshape_to(v, (1,))


def _index_select_value(input: Value, dim: int, index: Value) -> Value:
    axis = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    picked = indexing.take(_at_least_1(input), _at_least_1(_long(index, "index_select")), axis=axis)
    return picked if input.ndim else movement.reshape_to(picked, ())


_index_select_value.__name__ = "index_select"
define(out="typed apart")(_index_select_value)


def _outside(name: str, input: Tensor, d: int, bad: int) -> Exception:
    """PyTorch's error of operator `name` for index `bad`, which is outside of dimension d."""
    if name in ("take", "put"):
        return IndexError(f"out of range: tried to access index {bad} on a tensor of {input.numel()} elements.")
    if name == "index_reduce" or name == "index_select" and (d == 0 or input.ndim == 1):
        return IndexError("index out of range in self")
    if name == "index_select":
        return RuntimeError(f"INDICES element is out of DATA bounds, id={bad} axis_dim={input.shape[d]}")
    text = f"index {bad} is out of bounds for dimension {d} with size {input.shape[d]}"
    if name == "index_copy":
        return IndexError(f"index_copy_(): {text}")
    return IndexError(text) if name == "index_fill" else RuntimeError(text)


def _checked(function: Any, name: str) -> Any:
    """An indexing function that looks at indices which are at hand, so that the error comes at the user's line."""
    of_all_elements = name in ("take", "put")
    from_end = of_all_elements or name == "index_fill"
    any_rank = of_all_elements or name.startswith("index_")  # else another rank than the input's is the error

    def check(input: Tensor, index: Any, d: int, n: int) -> None:
        if isinstance(index, Tensor) and index.dtype.category == dtypes.INT and (any_rank or index.ndim == input.ndim):
            bad = out_of_range(index, -n if from_end else 0, n)
            if bad is not None:
                raise _outside(name, input, d, bad)

    @functools.wraps(function)
    def of_all(input: Tensor, index: Any, *args: Any, **kwargs: Any) -> Any:
        check(input, index, 0, input.numel())
        return function(input, index, *args, **kwargs)

    @functools.wraps(function)
    def along_dim(input: Tensor, dim: Any, index: Any, *args: Any, **kwargs: Any) -> Any:
        if input.ndim:
            d = wrap_dim(dim, input.ndim)
            check(input, index, d, input.shape[d])
        return function(input, dim, index, *args, **kwargs)

    return of_all if of_all_elements else along_dim


@define(out="typed apart")
def gather(input: Value, dim: int, index: Value, *, sparse_grad: bool = False) -> Value:
    axis = wrap_dim(dim, input.ndim)
    if index.type.numel == 0:
        shape = index.shape if index.ndim == input.ndim else (0,) * input.ndim
        nothing = constant(input.builder, 0, dtypes.int64, shape)
        return movement.reshape_to(indexing.gather(input, nothing, axis=axis), index.shape)
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError("gather(): Expected dtype int32/int64 for index")
    if max(input.ndim, 1) != max(index.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    x, i = _at_least_1(input), _at_least_1(_long(index, "gather"))
    return movement.reshape_to(indexing.gather(x, i, axis=axis), index.shape)


@define("take_along_dim")
def take_along_dim(input: Value, indices: Value, dim: int | None = None) -> Value:
    if indices.dtype is not dtypes.int64:
        raise RuntimeError("torch.take_along_dim(): dtype of indices should be Long but got "
                           f"{type_name(indices.dtype)}")
    if dim is None:
        flat, index = (movement.reshape_to(v, (v.type.numel,)) for v in (input, indices))
        return indexing.gather(flat, _wrapped(index, input.type.numel), axis=0)
    if input.ndim != indices.ndim:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but "
                           "got "
                           f"{input.ndim} dimensions for input, and {indices.ndim} dimensions for indices")
    axis = wrap_dim(dim, input.ndim)
    rest = arith.broadcast_shapes(*[tuple([1 if a == axis else n for a, n in enumerate(v.shape)]) for v in (input,
                                                                                                            indices)])
    x, i = (movement.expand_to(v, tuple([v.shape[axis] if a == axis else n for a, n in enumerate(rest)]))
            for v in (input, indices))
    return indexing.gather(x, _wrapped(i, input.shape[axis]), axis=axis)


def _wrapped(index: Value, n: int) -> Value:
    return arith.where(index < 0, index + n, index)


@define(out="typed apart")
def take(input: Value, index: Value) -> Value:
    if index.dtype is not dtypes.int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {type_name(index.dtype)}")
    return indexing.take(movement.reshape_to(input, (input.type.numel,)), index, axis=0)


@define(inplace=True, out=False)
def put(input: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    if index.dtype is not dtypes.int64:
        raise RuntimeError(f"put_(): Expected a long tensor for index, but got {type_name(index.dtype)}")
    if source.dtype is not input.dtype:
        raise RuntimeError("put_(): self and source expected to have the same dtype, but got self.dtype = "
                           f"{type_name(input.dtype)} and source.dtype = {type_name(source.dtype)}")
    flat, i, src = (movement.reshape_to(v, (v.type.numel,)) for v in (input, index, source))
    return movement.reshape_to((indexing.put_add if accumulate else indexing.put)(flat, i, src, axis=0), input.shape)


def _source(input: Value, index: Value, source: Value, axis: int, name: str) -> tuple[Value, Value, Value]:
    if index.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, but got dim: {index.ndim} with type: "
                         f"{type_name(index.dtype)} and size: {list(index.shape)}")
    if source.dtype is not input.dtype:
        raise RuntimeError(f"{name}(): self and source expected to have the same dtype, but got (self) "
                           f"{type_name(input.dtype)} and (source) {type_name(source.dtype)}")
    x, i, s = _at_least_1(input), _at_least_1(_long(index, name)), _at_least_1(source)
    if s.ndim != x.ndim or any(n != m for a, (n, m) in enumerate(zip(s.shape, x.shape)) if a != axis):
        raise RuntimeError(f"{name}(): self and source must have the same shape apart from dimension {axis}, but got "
                           f"{list(x.shape)} and {list(source.shape)}")
    if s.shape[axis] != i.shape[0]:
        raise IndexError(f"{name}(): Number of indices ({i.shape[0]}) should be equal to source.size(dim): "
                         f"({s.shape[axis]}), for dim: {axis}")
    return x, i, s


@define(inplace=True)
def index_add(input: Value, dim: int, index: Value, source: Value, *, alpha: Operand = 1) -> Value:
    axis = wrap_dim(dim, input.ndim)
    x, i, s = _source(input, index, source, axis, "index_add")
    if isinstance(alpha, Value) or alpha != 1:
        s = arith.mul(s, arith.as_value(s.builder, alpha, s.dtype))
    return movement.reshape_to(indexing.put_add(x, i, s, axis=axis), input.shape)


@define(inplace=True)
def index_copy(input: Value, dim: int, index: Value, source: Value) -> Value:
    axis = wrap_dim(dim, input.ndim)
    x, i, s = _source(input, index, source, axis, "index_copy_")
    return movement.reshape_to(indexing.put(x, i, s, axis=axis), input.shape)


@define(inplace=True, out=False)
def index_fill(input: Value, dim: int, index: Value, value: Operand) -> Value:
    axis = wrap_dim(dim, input.ndim)
    if isinstance(value, Value) and value.ndim:
        raise RuntimeError(f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} "
                           "dimension(s).")
    if index.dtype is not dtypes.int64:
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    x, i = _at_least_1(input), _at_least_1(index)
    hit = indexing.put(constant(x.builder, False, dtypes.bool_, x.shape), i, constant(
        x.builder, True, dtypes.bool_, (*x.shape[:axis], i.shape[0], *x.shape[axis + 1:])), axis=axis)
    filled = movement.expand_to(arith.as_value(x.builder, value, x.dtype), x.shape)
    return movement.reshape_to(ew.where(hit, filled, x), input.shape)


# --- scatter ---------------------------------------------------------------------------------------------------------

def _scattered(input: Value, dim: int, index: Value, src: Operand, mode: str, name: str) -> Value:
    axis = wrap_dim(dim, input.ndim)
    if index.type.numel == 0:
        return input
    if index.dtype is not dtypes.int64 and index.dtype is not dtypes.int32:
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    x, i = _at_least_1(input), _at_least_1(ew.cast_to(index, dtypes.int64))
    if isinstance(src, Value) and not (arith.is_scalar(src) or (src.ndim == 0 and index.ndim > 1)):
        if src.dtype is not input.dtype:
            raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
        s = _at_least_1(src)
        if s.ndim != x.ndim or i.ndim != x.ndim:
            raise RuntimeError("Index tensor must have the same number of dimensions as "
                               f"{'self' if i.ndim != x.ndim else 'src'} tensor")
        for a, n in enumerate(i.shape):
            if n > s.shape[a] or (a != axis and n > x.shape[a]):
                raise RuntimeError(f"Expected index {list(i.shape)} to be no larger than self {list(x.shape)} apart "
                                   "from "
                                   f"dimension {axis} and to be no larger size than src {list(s.shape)}")
        if s.shape != i.shape:
            s = movement.slice_(s, starts=(0,) * s.ndim, stops=i.shape, steps=(1,) * s.ndim)
    else:
        if i.ndim != x.ndim:
            raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
        s = movement.expand_to(arith.as_value(x.builder, src, x.dtype), i.shape)
    return movement.reshape_to(indexing.scatter(x, i, s, axis=axis, mode=mode), input.shape)


_REDUCE = {"add": "add", "multiply": "prod"}


@define(inplace=True)
def scatter(input: Value, dim: int, index: Value, src: Operand | None = None, *, reduce: str | None = None,
            value: Operand | None = None) -> Value:
    if reduce is not None and reduce not in _REDUCE:
        raise RuntimeError("reduce argument must be either add or multiply.")
    return _scattered(input, dim, index, src if value is None else value, _REDUCE[reduce] if reduce else "set",  # type: ignore
                      "scatter")


@define(inplace=True)
def scatter_add(input: Value, dim: int, index: Value, src: Value) -> Value:
    return _scattered(input, dim, index, src, "add", "scatter")


def _excluded(x: Value, dim: int, index: Value, fill: float) -> Value:
    """x with the places that are written replaced by the neutral element."""
    return _scattered(x, dim, index, fill, "set", "scatter_reduce")


def _neutral(mode: str, d: dtypes.dtype) -> float:
    if mode in ("sum", "mean"):
        return 0
    if mode == "prod":
        return 1
    if d.is_floating_point:
        return float("-inf") if mode == "amax" else float("inf")
    if d is dtypes.bool_:
        return mode == "amin"
    info = np.iinfo(d.numpy)
    return int(info.min if mode == "amax" else info.max)


_MODES = {"sum": "add", "mean": "add", "prod": "prod", "amax": "amax", "amin": "amin"}


@define(inplace=True)
def scatter_reduce(input: Value, dim: int, index: Value, src: Value, reduce: str, *,
                   include_self: bool = True) -> Value:
    if reduce not in _MODES:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    x = input if include_self else _excluded(input, dim, index, _neutral(reduce, input.dtype))
    y = _scattered(x, dim, index, src, _MODES[reduce], "scatter")
    if reduce != "mean" or index.type.numel == 0:
        return y
    ones = constant(x.builder, 1, x.dtype, index.shape)
    base = constant(x.builder, 1, x.dtype, x.shape)
    if not include_self:
        base = _excluded(base, dim, index, 0)
    count = _scattered(base, dim, index, ones, "add", "scatter")
    count = arith.where(count < 1, 1, count)
    return arith.floor_divide(y, count) if y.dtype.category <= dtypes.INT else y / count


@define(inplace=True)
def index_reduce(input: Value, dim: int, index: Value, source: Value, reduce: str, *,
                 include_self: bool = True) -> Value:
    axis = wrap_dim(dim, input.ndim)
    x, i, s = _source(input, index, source, axis, "index_reduce")
    wide = movement.expand_to(movement.reshape_to(i, tuple([i.shape[0] if a == axis else 1
                                                            for a in range(x.ndim)])), s.shape)
    body = scatter_reduce.function.body
    return movement.reshape_to(body(x, axis, wide, s, {"mean": "mean", "prod": "prod", "amax": "amax",
                                                       "amin": "amin"}[reduce], include_self=include_self), input.shape)


for _name in ("take", "put", "gather", "scatter", "scatter_add", "scatter_reduce", "index_select", "index_add",
              "index_copy", "index_fill", "index_reduce"):
    wrap_public(functools.partial(_checked, name=_name), _name, _name + "_")
wrap_public(refuse_misfit, "index_fill", "index_fill_")


# --- repeats ---------------------------------------------------------------------------------------------------------

SIDE_BY_SIDE = 16
"""So many copies of each element are joined in registers; more are a loop over each."""


@expose("repeat_interleave")
def repeat_interleave(input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
                      ) -> Tensor:
    """Each element `repeats` times, one after another."""
    if repeats is None:
        counts = input._array()
        return from_array(np.repeat(np.arange(len(counts)), counts).astype(np.int64))
    if dim is None:
        input, dim = input.reshape(-1), 0
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        input = input.reshape(1)
    if isinstance(repeats, Tensor) and repeats.numel() == 1:
        repeats = repeats.item()
    if isinstance(repeats, int):
        if repeats < 0:
            raise RuntimeError("Repeats must be non-negative")
        shape = input.shape
        if shape and d == len(shape) - 1 and 1 < repeats <= SIDE_BY_SIDE:
            return FUNCTIONS["stack"]([input] * repeats, -1).reshape(*shape[:d], shape[d] * repeats)
        wide = input.unsqueeze(d + 1).expand(*shape[:d + 1], repeats, *shape[d + 1:])
        return FUNCTIONS["clone"](wide.reshape(*shape[:d], shape[d] * repeats, *shape[d + 1:]))
    counts = repeats._array() if isinstance(repeats, Tensor) else np.asarray(repeats)
    if counts.ndim > 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    if len(counts) != input.shape[d]:
        raise RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                           f"{len(counts)} and input.size({d}) = {input.shape[d]}")
    places = from_array(np.repeat(np.arange(input.shape[d]), counts).astype(np.int64))
    return FUNCTIONS["index_select"](input, d, places)


@expose("unravel_index", method=False)
def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    found = np.unravel_index(indices._array(), shape_of((shape,)))
    return tuple([from_array(np.asarray(i, np.int64)) for i in found])
