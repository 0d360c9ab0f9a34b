"""Pooling of windows: largest, average, adaptive, power means, and back."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import Function, evaluate, operator, wrap_result
from jtorch.ir.composites import pooling
from jtorch.ir.graph import Value
from jtorch.ir.prims import window
from jtorch.nn.functional.activation import relu
from jtorch.nn.functional.arguments import tuple_of
from jtorch.ops.attach import with_out

__all__ = ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
           "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices",
           "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d",
           "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool1d_with_indices", "max_pool2d",
           "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices", "max_unpool1d", "max_unpool2d",
           "max_unpool3d"]


def _pool_arguments(n: int, kernel_size: Any, stride: Any, padding: Any) -> tuple[Any, Any, Any]:
    kernel = tuple_of(kernel_size, n)
    steps = kernel if stride is None or stride == () else tuple_of(stride, n)
    pads = tuple_of(padding, n)
    if any(2 * p > k for p, k in zip(pads, kernel)):
        raise RuntimeError("pad should be at most half of effective kernel size, but got pad="
                           f"{max(pads)}, kernel_size={max(kernel)} and dilation=1")
    return kernel, steps, pads


def _max_pool(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def body(input: Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
        if input.ndim not in (n + 1, n + 2):
            raise RuntimeError(f"max_pool{n}d: Expected {n + 1}D or {n + 2}D input, but got {list(input.shape)}")
        if 0 in input.shape[input.ndim - n - 1:]:
            raise RuntimeError(f"max_pool{n}d: Expected input's non-batch dimensions to have positive length, but "
                               f"input has a shape of {list(input.shape)}")
        dtypes.require(input.dtype, dtypes.INT, f"max_pool{n}d")
        kernel, steps, pads = _pool_arguments(n, kernel_size, stride, padding)
        return window.max_pool(input, kernel=kernel, stride=steps, padding=pads, dilation=tuple_of(dilation, n),
                               ceil_mode=bool(ceil_mode))
    body.__name__ = f"max_pool{n}d"
    both = Function(body)

    def with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                     ceil_mode: bool = False, return_indices: bool = False) -> tuple[Tensor, Tensor]:
        return wrap_result(tuple(evaluate(both, (input, kernel_size, stride, padding, dilation, ceil_mode))))

    def max_pool(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                 ceil_mode: bool = False, return_indices: bool = False) -> Any:
        found = evaluate(both, (input, kernel_size, stride, padding, dilation, ceil_mode))
        return wrap_result(tuple(found)) if return_indices else wrap_result(found[0])
    max_pool.__name__ = max_pool.__qualname__ = f"max_pool{n}d"
    return max_pool, with_indices


max_pool1d, max_pool1d_with_indices = _max_pool(1)
max_pool2d, max_pool2d_with_indices = _max_pool(2)
max_pool3d, max_pool3d_with_indices = _max_pool(3)


@operator
def avg_pool1d(input: Value, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Value:
    return _avg_pool_of(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@with_out
@operator
def avg_pool2d(input: Value, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Value:
    return _avg_pool_of(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@with_out
@operator
def avg_pool3d(input: Value, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Value:
    return _avg_pool_of(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _avg_pool_of(
    n: int,
    x: Value,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Value:
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"avg_pool{n}d: Expected {n + 1}D or {n + 2}D input, but got {list(x.shape)}")
    if x.dtype is not dtypes.int64:
        dtypes.require(x.dtype, dtypes.FLOAT, f"avg_pool{n}d")
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    kernel, steps, pads = _pool_arguments(n, kernel_size, stride, padding)
    return window.avg_pool(x, kernel=kernel, stride=steps, padding=pads, ceil_mode=bool(ceil_mode),
                           count_include_pad=bool(count_include_pad), divisor_override=divisor_override)


def _target_size(x: Value, n: int, output_size: Any, name: str) -> tuple[int, ...]:
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}: Expected {n + 1}D or {n + 2}D tensor, but got {list(x.shape)}")
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * n
    sizes = sizes * n if len(sizes) == 1 else sizes
    if len(sizes) != n:
        raise RuntimeError(f"{name}: output_size must be {n}")
    if any(m is not None and m < 0 for m in sizes):
        raise RuntimeError(f"{name}: elements of output_size must be greater than or equal to 0 but received {sizes}")
    spatial = x.shape[x.ndim - n:]
    return tuple(s if m is None else m for m, s in zip(sizes, spatial))


def _adaptive_avg_pool(n: int) -> Callable[..., Any]:
    def body(input: Value, output_size: Any) -> Value:
        dtypes.require(input.dtype, dtypes.FLOAT, f"adaptive_avg_pool{n}d")
        return pooling.adaptive_avg_pool(input, output=_target_size(input, n, output_size, f"adaptive_avg_pool{n}d"))
    body.__name__ = f"adaptive_avg_pool{n}d"
    return operator(body)


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = map(_adaptive_avg_pool, (1, 2, 3))


def _adaptive_max_pool(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def body(input: Value, output_size: Any) -> Any:
        dtypes.require(input.dtype, dtypes.FLOAT, f"adaptive_max_pool{n}d")
        return pooling.adaptive_max_pool(input, output=_target_size(input, n, output_size, f"adaptive_max_pool{n}d"))
    body.__name__ = f"adaptive_max_pool{n}d"
    both = operator(body)

    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        found = both(input, output_size)
        return found if return_indices else found[0]
    pool.__name__ = pool.__qualname__ = body.__name__
    return pool, both


adaptive_max_pool1d, adaptive_max_pool1d_with_indices = _adaptive_max_pool(1)
adaptive_max_pool2d, adaptive_max_pool2d_with_indices = _adaptive_max_pool(2)
adaptive_max_pool3d, adaptive_max_pool3d_with_indices = _adaptive_max_pool(3)


def _lp_pool(n: int) -> Callable[..., Any]:
    average = (avg_pool1d, avg_pool2d, avg_pool3d)[n - 1]

    def pool(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
        count = math.prod(tuple_of(kernel_size, n))
        mean = average(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
        return (jtorch.sign(mean) * relu(jtorch.abs(mean))).mul(count).pow(1.0 / norm_type)
    pool.__name__ = pool.__qualname__ = f"lp_pool{n}d"
    return pool


lp_pool1d, lp_pool2d, lp_pool3d = map(_lp_pool, (1, 2, 3))


def _max_unpool(n: int) -> Callable[..., Any]:
    def unpool(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               output_size: Any = None) -> Tensor:
        kernel, steps, pads = _pool_arguments(n, kernel_size, stride, padding)
        if indices.dtype is not dtypes.int64:
            raise RuntimeError(f"elements in indices should be type int64 but got: {indices.dtype}")
        if indices.shape != input.shape:
            raise RuntimeError("Expected shape of indices to be same as that of the input tensor "
                               f"({list(input.shape)}) but got indices tensor with shape: {list(indices.shape)}")
        spatial = tuple((input.shape[input.ndim - n + i] - 1) * steps[i] + kernel[i] - 2 * pads[i] for i in range(n))
        if output_size is not None:
            wanted = tuple(output_size)[-n:]
            if any(not size - step < m < size + step for m, size, step in zip(wanted, spatial, steps)):
                raise ValueError(f'invalid output_size "{wanted}": it has to be within a stride of {spatial}')
            spatial = wanted
        lead = tuple(input.shape[:input.ndim - n])
        flat = jtorch.zeros((*lead, math.prod(spatial)), dtype=input.dtype)
        return flat.scatter(-1, indices.reshape(*lead, -1), input.reshape(*lead, -1)).reshape(*lead, *spatial)
    unpool.__name__ = unpool.__qualname__ = f"max_unpool{n}d"
    return unpool


max_unpool1d, max_unpool2d, max_unpool3d = map(_max_unpool, (1, 2, 3))
