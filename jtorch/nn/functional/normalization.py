"""Normalisation by batch, instance, layer, group and vector."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import Function, evaluate, operator, wrap_result
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.composites import normalization
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims.create import constant, detach
from jtorch.ir.prims.movement import reshape_to
from jtorch.nn.functional.arguments import affine_operands, axis_of, vector_of
from jtorch.views import assign

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm"]


def _nothing(input: Value) -> Value:
    """What PyTorch lets pass as an input without channels: one without elements."""
    if input.type.numel:
        raise RuntimeError(f"batch_norm expects at least 2 dimensions (N, C), but got input of size "
                           f"{list(input.shape)}")
    return input


def _batch_norm_train(
    input: Value,
    mean: Value | None,
    variance: Value | None,
    weight: Value | None,
    bias: Value | None,
    momentum: Operand,
    eps: float,
) -> tuple[Value, ...]:
    """The output, and the running statistics moved towards the batch's."""
    if input.ndim < 2:
        return (_nothing(input),) if mean is None else (_nothing(input), mean, variance)  # type: ignore[return-value]
    y, m, v = normalization.batch_norm_train(input, *affine_operands(input, (input.shape[1],), weight, bias),
                                             eps=float(eps))
    if mean is None:
        return (y,)
    n = input.type.numel // input.shape[1]
    m, v = detach(m) if m.requires_grad else m, detach(v) if v.requires_grad else v
    # In float64 whatever the statistics are: numbers among themselves would be of the default dtype.
    keep = ew.sub(constant(input.builder, 1.0, dtypes.float64),
                  arith.as_value(input.builder, momentum, dtypes.float64))
    unbiased = v * (n / (n - 1))
    return (y, *[ew.cast_to(arith.add(arith.mul(new, momentum), arith.mul(old, keep)), old.dtype)
                 for new, old in ((m, mean), (unbiased, variance)) if old is not None])


_batch_norm_training = Function(_batch_norm_train)


@operator
def _batch_norm_eval(input: Value, running_mean: Value, running_var: Value, weight: Value | None, bias: Value | None,
                     eps: float) -> Value:
    if input.ndim < 2:
        return _nothing(input)
    affine = affine_operands(input, (input.shape[1],), weight, bias)
    return normalization.batch_norm(input, running_mean, running_var, *affine, eps=float(eps))


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Normalise every channel by the batch's statistics (in training) or by the running ones."""
    if not training:
        return _batch_norm_eval(input, running_mean, running_var, weight, bias, eps)
    y, *moved = wrap_result(evaluate(_batch_norm_training, (input, running_mean, running_var, weight, bias, momentum,
                                                            eps)))
    for statistic, new in zip((running_mean, running_var), moved):
        assign(statistic, current.recorder.value(new))  # type: ignore[arg-type]
    return y


@operator
def _instance_norm(input: Value, weight: Value | None, bias: Value | None, eps: float) -> Value:
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size torch.Size({list(input.shape)})"
        )
    return normalization.instance_norm(input, *affine_operands(input, (input.shape[1],), weight, bias), eps=float(eps))


def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                  weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Normalise every channel of every example by its own statistics."""
    if not use_input_stats:
        return _batch_norm_eval(input, running_mean, running_var, weight, bias, eps)
    y = _instance_norm(input, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        with jtorch.no_grad():
            axes = tuple(range(2, input.ndim))
            running_mean.lerp_(input.mean(axes).mean(0), momentum)
            running_var.lerp_(input.var(axes).mean(0), momentum)
    return y


@operator
def _layer_norm(input: Value, normalized_shape: tuple[int, ...], weight: Value | None, bias: Value | None,
                eps: float) -> Value:
    shape = tuple(normalized_shape)
    if input.shape[input.ndim - len(shape):] != shape or not shape:
        raise RuntimeError(f"Given normalized_shape={list(shape)}, expected input with shape "
                           f"[*, {', '.join(map(str, shape))}], but got input of size{list(input.shape)}")
    return normalization.layer_norm(input, *affine_operands(input, shape, weight, bias), ndim=len(shape),
                                    eps=float(eps))


def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """Normalise over the last axes."""
    return _layer_norm(input, normalized_shape, weight, bias, eps)


@operator
def _rms_norm(input: Value, normalized_shape: tuple[int, ...], weight: Value | None, eps: float | None) -> Value:
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError("Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one "
                           "element, but got normalized_shape = []")
    if input.shape[input.ndim - len(shape):] != shape:
        raise RuntimeError(f"Given normalized_shape={list(shape)}, expected input with shape "
                           f"[*, {', '.join(map(str, shape))}], but got input of size{list(input.shape)}")
    wide = np.float64 if input.dtype is dtypes.float64 else np.float32
    return normalization.rms_norm(input, *(() if weight is None else (weight,)), ndim=len(shape),
                                  eps=float(np.finfo(wide).eps) if eps is None else float(eps))


def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
             eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x**2) + eps) over the last axes."""
    return _rms_norm(input, normalized_shape, weight, eps)


@operator
def group_norm(input: Value, num_groups: int, weight: Value | None = None, bias: Value | None = None,
               eps: float = 1e-5) -> Value:
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    return normalization.group_norm(input, *affine_operands(input, (input.shape[1],), weight, bias), groups=num_groups,
                                    eps=float(eps))


@operator
def local_response_norm(input: Value, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Value:
    if input.ndim < 3:
        raise ValueError(
            f"Expected 3D or higher dimensionality                          input (got {input.ndim} dimensions)"
        )
    x = arith.as_float(input) if input.dtype is dtypes.int64 else input
    return normalization.local_response_norm(x, size=size, alpha=float(alpha), beta=float(beta), k=float(k))


@operator
def _normalize(input: Value, p: float, dim: int, eps: float) -> Value:
    y = normalization.normalize(vector_of(input), p=float(p), axis=axis_of(dim, input.ndim), eps=float(eps))
    return reshape_to(y, input.shape)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """x / max(norm(x), eps) along `dim`."""
    y = _normalize(input, p, dim, eps)
    return y if out is None else out.copy_(y)
