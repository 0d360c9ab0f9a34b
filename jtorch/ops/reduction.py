"""Reductions and scans along dimensions."""
from __future__ import annotations

import math
from typing import Any

from jtorch import dtypes
from jtorch.ir import arith
from jtorch.ir.composites import softmax as softmax_ops
from jtorch.ir.composites import statistics
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import factor, indexing, library, reduce
from jtorch.ir.prims.complex import complex_of, imag, real
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.movement import permute_to, reshape_to, slice_axis
from jtorch.ops.arguments import named, reduction_axes, warn_user, wrap_dim, wrap_dims
from jtorch.ops.attach import define
from jtorch.views import type_name


def finished(v: Value, like: Value, axes: tuple[int, ...], keepdim: bool) -> Value:
    """The result with size-1 dimensions in place of the reduced ones if wanted."""
    return reshape_to(v, tuple([1 if i in axes else n for i, n in enumerate(like.shape)])) if keepdim else v


def along(op: Any, v: Value, dim: Any, keepdim: bool, **attrs: Any) -> Value:
    axes = reduction_axes(dim, v.ndim)
    return finished(op(v, axes=axes, **attrs) if axes or attrs else v, v, axes, keepdim)


def _summed_dtype(v: Value, dtype: Any) -> Value:
    if dtype is not None:
        return ew.cast_to(v, dtype)
    return ew.cast_to(v, dtypes.int64) if v.dtype.category <= dtypes.INT else v


def _wide(v: Value) -> Value:
    return ew.cast_to(v, dtypes.float32) if v.dtype.itemsize == 2 and v.dtype.is_floating_point else v


@define()
def sum(input: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return along(reduce.sum_, _summed_dtype(input, dtype), dim, keepdim)


@define()
def nansum(input: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    x = input
    if x.dtype.category >= dtypes.FLOAT:
        x = arith.where(ew.isnan(x), 0.0, x)
    return along(reduce.sum_, _summed_dtype(x, dtype), dim, keepdim)


def _float_input(name: str, input: Value, dtype: Any) -> Value:
    if dtype is None and input.dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"{name}(): could not infer output dtype. Input dtype must be either a floating point or "
                           "complex "
                           f"dtype. Got: {type_name(input.dtype)}")
    if dtype is not None and dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"{name}(): could not infer output dtype. Optional dtype must be either a floating point or "
                           f"complex dtype. Got: {type_name(dtype)}")
    return input if dtype is None else ew.cast_to(input, dtype)


@define()
def mean(input: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return along(statistics.mean, _float_input("mean", input, dtype), dim, keepdim)


@define()
def nanmean(input: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    x = _float_input("nanmean", input, dtype)
    missing = ew.isnan(x)
    total = along(reduce.sum_, arith.where(missing, 0.0, x), dim, keepdim)
    count = along(reduce.sum_, ew.cast_to(ew.logical_not(missing), x.dtype), dim, keepdim)
    return total / count


@define()
def prod(input: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    if isinstance(dim, tuple):
        raise TypeError(f"prod(): argument 'dim' must be int, not {type(dim).__name__}")
    return along(reduce.prod, _summed_dtype(input, dtype), dim, keepdim)


# --- extrema ---------------------------------------------------------------------------------------------------------

def _not_empty(name: str, v: Value) -> None:
    if v.type.numel == 0:
        raise RuntimeError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
                           "reduction "
                           "dim with the 'dim' argument.")


def _picked(name: str, arg: Any, extreme: Any, v: Value, dim: int, keepdim: bool) -> tuple[Value, Value]:
    """Values and places of the extrema along a dimension; the gradient goes to the picked element."""
    axis = wrap_dim(dim, v.ndim)
    if v.dtype.is_complex:
        raise RuntimeError(f"{name}(): does not support complex input")
    if v.ndim == 0:
        return v, constant(v.builder, 0, dtypes.int64)
    if v.shape[axis] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")
    places = finished(arg(v, axis=axis), v, (axis,), True)
    if v.requires_grad:
        values = indexing.gather(v, places, axis=axis)
    else:
        values = finished(extreme(v, axes=(axis,)), v, (axis,), True)
    if not keepdim:
        shape = v.shape[:axis] + v.shape[axis + 1:]
        values, places = reshape_to(values, shape), reshape_to(places, shape)
    return values, places


def _extremum(name: str, arg: Any, extreme: Any, binary: Any, input: Value, dim: Any, keepdim: bool, other: Any) -> Any:
    if isinstance(dim, Value):
        other, dim = dim, None
    if other is not None:
        return binary(input, other)
    if dim is None:
        _not_empty(name, input)
        return extreme(input, axes=tuple(range(input.ndim))) if input.ndim else input
    return named(name, "values indices")(*_picked(name, arg, extreme, input, dim, keepdim))


@define(out="typed")
def max(input: Value, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    return _extremum("max", reduce.argmax, reduce.max_, arith.maximum, input, dim, keepdim, other)


@define(out="typed")
def min(input: Value, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    return _extremum("min", reduce.argmin, reduce.min_, arith.minimum, input, dim, keepdim, other)


def _all_extreme(name: str, op: Any, input: Value, dim: Any, keepdim: bool) -> Value:
    axes = reduction_axes(dim, input.ndim)
    if input.type.numel == 0 and (dim is None or dim == ()):
        _not_empty(name, input)
    for a in axes:
        if input.shape[a] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {a} to have non-zero size.")
    return finished(op(input, axes=axes) if axes else input, input, axes, keepdim)


@define(out="typed")
def amax(input: Value, dim: Any = (), keepdim: bool = False) -> Value:
    return _all_extreme("amax", reduce.max_, input, dim, keepdim)


@define(out="typed")
def amin(input: Value, dim: Any = (), keepdim: bool = False) -> Value:
    return _all_extreme("amin", reduce.min_, input, dim, keepdim)


@define(out="typed")
def aminmax(input: Value, *, dim: Any = None, keepdim: bool = False) -> Any:
    both = [_all_extreme("aminmax", op, input, dim, keepdim) for op in (reduce.min_, reduce.max_)]
    return named("aminmax", "min max")(*both)


def _arg(name: str, op: Any, input: Value, dim: int | None, keepdim: bool) -> Value:
    if input.dtype.is_complex:
        raise RuntimeError(f"{name}(): does not support complex input")
    if input.dtype is dtypes.bool_:
        raise RuntimeError(f"{name}(): does not support bool input")
    if dim is None:
        if input.type.numel == 0:
            raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
                             "reduction dim with the 'dim' argument.")
        flat = op(reshape_to(input, (input.type.numel,)), axis=0)
        return reshape_to(flat, (1,) * input.ndim) if keepdim else flat
    axis = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return constant(input.builder, 0, dtypes.int64)
    if input.shape[axis] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")
    return finished(op(input, axis=axis), input, (axis,), keepdim)


@define(out="typed")
def argmax(input: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _arg("argmax", reduce.argmax, input, dim, keepdim)


@define(out="typed")
def argmin(input: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _arg("argmin", reduce.argmin, input, dim, keepdim)


# --- truth -----------------------------------------------------------------------------------------------------------

def _truths(op: Any, input: Value, dim: Any, keepdim: bool) -> Value:
    x = input if input.dtype is dtypes.bool_ else ew.logical_not(ew.logical_not(input))
    if isinstance(dim, tuple) and not dim:
        v = x
    else:
        v = along(op, x, dim, keepdim)
    return ew.cast_to(v, dtypes.uint8) if input.dtype is dtypes.uint8 else v


@define()
def any(input: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return _truths(reduce.any_, input, dim, keepdim)


@define()
def all(input: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return _truths(reduce.all_, input, dim, keepdim)


@define()
def count_nonzero(input: Value, dim: Any = None) -> Value:
    x = input if input.dtype is dtypes.bool_ else ew.logical_not(ew.logical_not(input))
    return along(reduce.sum_, ew.cast_to(x, dtypes.int64), dim, False)


# --- spread ----------------------------------------------------------------------------------------------------------

def _spread(name: str, op: Any, input: Value, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> Any:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    if input.dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"{'std and var' if name in ('std', 'var') else name} only support floating point and "
                           "complex dtypes")
    axes = reduction_axes(dim, input.ndim)
    _check_freedom(name, input, axes, correction)
    if input.dtype.is_complex:  # that of both parts
        return _complex_spread(op, input, axes, keepdim, correction)
    found = op(input, axes=axes, correction=correction)
    if isinstance(found, tuple):
        return tuple([finished(v, input, axes, keepdim) for v in found])
    return finished(found, input, axes, keepdim)


def _check_freedom(name: str, x: Value, axes: tuple[int, ...], correction: Any) -> None:
    """Warn where a result is of no more elements than are taken off for what is estimated. Like every check of a value
    function, it is made once for calls that are the same."""
    outputs = math.prod(n for a, n in enumerate(x.shape) if a not in axes)
    if (x.type.numel // outputs if outputs else 0) <= correction:
        warn_user(f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor "
                  "(input numel divided by output numel).")


def _complex_spread(op: Any, x: Value, axes: tuple[int, ...], keepdim: bool, correction: Any) -> Any:
    re, im = (statistics.var(part, axes=axes, correction=correction) for part in (real(x), imag(x)))
    spread = finished(ew.sqrt(re + im) if op is statistics.std else re + im, x, axes, keepdim)
    return (spread, finished(statistics.mean(x, axes=axes), x, axes, keepdim)) if op is statistics.var_mean else spread


@define()
def var(input: Value, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Value:
    return _spread("var", statistics.var, input, dim, unbiased, keepdim, correction)


@define()
def std(input: Value, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Value:
    return _spread("std", statistics.std, input, dim, unbiased, keepdim, correction)


@define(method=False, out=False)
def var_mean(input: Value, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
             correction: Any = None) -> Any:
    return _spread("var_mean", statistics.var_mean, input, dim, unbiased, keepdim, correction)


@define(method=False, out=False)
def std_mean(input: Value, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
             correction: Any = None) -> Any:
    spread = _spread("std_mean", statistics.std, input, dim, unbiased, keepdim, correction)
    if isinstance(dim, bool):
        dim = None
    return spread, along(statistics.mean, input, dim, keepdim)


# --- norms -----------------------------------------------------------------------------------------------------------

def vector_norm(x: Value, p: float, dim: Any, keepdim: bool) -> Value:
    axes = reduction_axes(dim, x.ndim)
    x = ew.abs_(x) if x.dtype.is_complex else x
    if not axes:
        return arith.ne(x, 0) * 1.0 if p == 0 else ew.abs_(x)
    return finished(statistics.vector_norm(x, axes=axes, p=float(p)), x, axes, keepdim)


def no_norm(x: Value, a: int, b: int, keepdim: bool) -> Value:
    """The norm of empty matrices, 0."""
    axes = tuple(sorted((a, b)))
    return finished(reduce.sum_(ew.abs_(x), axes=axes), x, axes, keepdim)


def singular_norm(x: Value, a: int, b: int, fold: Any, keepdim: bool) -> Value:
    """A norm that is a function of the singular values of the matrices in axes a and b."""
    rest = tuple([i for i in range(x.ndim) if i not in (a, b)])
    if not (x.shape[a] and x.shape[b]):
        return no_norm(x, a, b, keepdim)
    sizes = factor.svd(permute_to(x, (*rest, a, b)))[1]
    y = fold(sizes, (sizes.ndim - 1,))
    return reshape_to(y, tuple([1 if i in (a, b) else n for i, n in enumerate(x.shape)])) if keepdim else y


@define()
def norm(input: Value, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Value:
    x = input if dtype is None else ew.cast_to(input, dtype)
    if x.dtype.category < dtypes.FLOAT:
        raise RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
                           f"{type_name(x.dtype)}")
    if p is None or p == "fro":
        p = 2.0
    elif p == "inf":
        p = math.inf
    elif p == "nuc":
        a, b = wrap_dims((-2, -1) if dim is None else dim, x.ndim)
        return singular_norm(x, a, b, lambda s, axes: reduce.sum_(s, axes=axes), keepdim)
    elif isinstance(p, str):
        raise RuntimeError(f"only valid values are 'fro', 'nuc' and 'inf' for the order of a norm, got {p}")
    if isinstance(p, Value):
        raise TypeError("norm(): argument 'p' must be Number, not Tensor")
    return vector_norm(x, p, dim, keepdim)


@define(inplace=True)
def renorm(input: Value, p: float, dim: int, maxnorm: float) -> Value:
    """The slices along `dim` whose p-norm is above `maxnorm`, scaled down to it."""
    if input.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions")
    if p <= 0:
        raise RuntimeError("renorm: non-positive norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    axis = wrap_dim(dim, input.ndim)
    size = vector_norm(input, float(p), tuple([a for a in range(input.ndim) if a != axis]), True)
    return input * arith.where(size > maxnorm, maxnorm / (size + 1e-7), 1.0)


@define()
def dist(input: Value, other: Value, p: float = 2) -> Value:
    difference = arith.sub(input, other)
    return vector_norm(reshape_to(difference, (difference.type.numel,)), p, None, False)


@define()
def logsumexp(input: Value, dim: Any, keepdim: bool = False) -> Value:
    x = arith.as_float(input)
    axes = reduction_axes(dim, x.ndim)
    if not axes:
        return _turn(x) if x.dtype.is_complex else x
    return finished(softmax_ops.logsumexp(x, axes=axes), x, axes, keepdim)


def _turn(x: Value) -> Value:
    """log(exp(x)): the imaginary part in (-pi, pi]."""
    turn = imag(x)
    return complex_of(real(x), arith.atan2(ew.sin(turn), ew.cos(turn)))


# --- scans -----------------------------------------------------------------------------------------------------------

def _scanned(op: Any, input: Value, dim: int, dtype: Any) -> Value:
    axis = wrap_dim(dim, input.ndim)
    x = _summed_dtype(input, dtype)
    return op(x, axis=axis) if x.ndim else x


@define(inplace=True)
def cumsum(input: Value, dim: int, *, dtype: Any = None) -> Value:
    return _scanned(library.cumsum, input, dim, dtype)


@define(inplace=True)
def cumprod(input: Value, dim: int, *, dtype: Any = None) -> Value:
    return _scanned(library.cumprod, input, dim, dtype)


@define()
def logcumsumexp(input: Value, dim: int) -> Value:
    dtypes.require(input.dtype, dtypes.FLOAT, "logcumsumexp_out_cpu")
    axis = wrap_dim(dim, input.ndim)
    return library.logcumsumexp(input, axis=axis) if input.ndim else input


def _running(name: str, op: Any, input: Value, dim: int) -> Any:
    axis = wrap_dim(dim, input.ndim)
    if not input.ndim:
        return named(name, "values indices")(input, constant(input.builder, 0, dtypes.int64))
    return named(name, "values indices")(*op(input, axis=axis))


@define()
def cummax(input: Value, dim: int) -> Any:
    return _running("cummax", library.cummax, input, dim)


@define()
def cummin(input: Value, dim: int) -> Any:
    return _running("cummin", library.cummin, input, dim)


@define()
def trace(input: Value) -> Value:
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    rows, columns = input.shape
    n = rows if rows < columns else columns
    square = slice_axis(slice_axis(input, 0, 0, n), 1, 0, n)
    return reduce.sum_(_summed_dtype(slice_axis(reshape_to(square, (n * n,)), 0, 0, n * n, n + 1), None), axes=(0,))


def _softmax_dtype(input: Value, dtype: Any) -> Value:
    x = input if dtype is None else ew.cast_to(input, dtype)
    if x.dtype.category < dtypes.FLOAT:
        raise NotImplementedError(f'"softmax_lastdim_kernel_impl" not implemented for \'{type_name(x.dtype)}\'')
    return x


@define()
def softmax(input: Value, dim: int, dtype: Any = None) -> Value:
    return _row_function(softmax_ops.softmax, _softmax_dtype(input, dtype), dim)


@define()
def log_softmax(input: Value, dim: int, dtype: Any = None) -> Value:
    return _row_function(softmax_ops.log_softmax, _softmax_dtype(input, dtype), dim)


def _row_function(op: Any, x: Value, dim: int) -> Value:
    axis = wrap_dim(dim, x.ndim)
    return op(x, axis=axis) if x.ndim else reshape_to(op(reshape_to(x, (1,)), axis=0), ())
