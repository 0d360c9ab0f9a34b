"""Activations, softmax and its relatives."""
from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.ir import arith
from jtorch.ir.composites import activations
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.nn.functional.arguments import axis_of
from jtorch.ops import pointwise, reduction
from jtorch.ops.attach import FUNCTIONS, in_place, with_out

__all__ = ["celu", "celu_", "elu", "elu_", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish",
           "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "log_softmax", "logsigmoid", "mish", "prelu", "relu",
           "relu6", "relu_", "rrelu", "selu", "selu_", "sigmoid", "silu", "softmax", "softmin", "softplus",
           "softshrink", "softsign", "tanh", "tanhshrink", "threshold", "threshold_"]


def _unary(name: str, op: Callable[[Value], Value]) -> Callable[..., Tensor]:
    """A function of one tensor, with an in-place form where it is asked for (`inplace=True`)."""
    def body(input: Value) -> Value:
        return op(input)
    body.__name__ = name
    return operator(body)


def _with_inplace(public: Callable[..., Any], name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(`name(input, ..., inplace=False)`, `name_(input, ...)`) of an operator."""
    written = in_place(public, name)

    @functools.wraps(public)
    def function(input: Tensor, *args: Any, inplace: bool = False, **kwargs: Any) -> Tensor:
        if args and len(args) == extra + 1:
            *args, inplace = args  # type: ignore[assignment]
        return written(input, *args, **kwargs) if inplace else public(input, *args, **kwargs)
    extra = len(public.function.kinds) - 1  # type: ignore[attr-defined]
    function.__name__ = function.__qualname__ = name
    return function, written


def _relu(x: Value) -> Value:
    if x.dtype is dtypes.bool_:
        raise RuntimeError("Boolean inputs not supported for relu")
    return ew.relu(x)


def _as_float(x: Value, kernel: str) -> Value:
    """Integers as floats; truth values are refused."""
    dtypes.require(x.dtype, dtypes.INT, kernel)
    return arith.as_float(x)


def _softsign(x: Value) -> Value:
    if x.dtype.is_complex:
        return arith.div(x, ew.abs_(x) + 1)
    return activations.softsign(_as_float(x, "abs_cpu"))


def _clipped(x: Value, low: float, high: float) -> Value:
    """`hardtanh`; the bounds of integers are integers."""
    if x.dtype.category >= dtypes.FLOAT:
        return activations.hardtanh(x, low=float(low), high=float(high))
    if x.dtype is dtypes.bool_:
        raise RuntimeError("Bool inputs not supported for hardtanh")
    if x.dtype is dtypes.uint8 and low < 0:
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    return activations.hardtanh(x, low=int(low), high=int(high))


def _relu6(x: Value) -> Value:
    return activations.relu6(x) if x.dtype.is_floating_point else _clipped(x, 0, 6)


relu, relu_ = _with_inplace(_unary("relu", _relu), "relu")
relu6, _ = _with_inplace(_unary("relu6", _relu6), "relu6")
silu, _ = _with_inplace(_unary("silu", activations.silu), "silu")
mish, _ = _with_inplace(_unary("mish", activations.mish), "mish")
selu, selu_ = _with_inplace(_unary("selu", activations.selu), "selu")
hardsigmoid, _ = _with_inplace(_unary("hardsigmoid", activations.hardsigmoid), "hardsigmoid")
hardswish, _ = _with_inplace(_unary("hardswish", activations.hardswish), "hardswish")
sigmoid = _unary("sigmoid", ew.sigmoid)
tanh = _unary("tanh", ew.tanh)
logsigmoid = with_out(_unary("logsigmoid", activations.logsigmoid))
tanhshrink = _unary("tanhshrink", lambda x: activations.tanhshrink(_as_float(x, "sub_cpu")))
softsign = _unary("softsign", _softsign)


@with_out
@operator
def gelu(input: Value, approximate: str = "none") -> Value:
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return (activations.gelu if approximate == "none" else activations.gelu_tanh)(input)


@operator
def _elu(input: Value, alpha: float = 1.0) -> Value:
    return activations.elu(input, alpha=float(alpha))


@operator
def _celu(input: Value, alpha: float = 1.0) -> Value:
    return activations.celu(input, alpha=float(alpha))


@operator
def _leaky_relu(input: Value, negative_slope: float = 0.01) -> Value:
    return activations.leaky_relu(input, slope=float(negative_slope))


@operator
def _hardtanh(input: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return _clipped(input, min_val, max_val)


@operator
def _threshold(input: Value, threshold: float, value: float) -> Value:
    number = float if input.dtype.category >= dtypes.FLOAT else int
    return activations.threshold(input, bound=number(threshold), value=number(value))


elu, elu_ = _with_inplace(_elu, "elu")
celu, celu_ = _with_inplace(_celu, "celu")
leaky_relu, leaky_relu_ = _with_inplace(_leaky_relu, "leaky_relu")
hardtanh, hardtanh_ = _with_inplace(_hardtanh, "hardtanh")
threshold, threshold_ = _with_inplace(_threshold, "threshold")


@with_out
@operator
def softplus(input: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    return activations.softplus(input, beta=float(beta), threshold=float(threshold))


@with_out
@operator
def softshrink(input: Value, lambd: float = 0.5) -> Value:
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return activations.softshrink(input, bound=float(lambd))


hardshrink, prelu = FUNCTIONS["hardshrink"], pointwise.prelu


@operator
def glu(input: Value, dim: int = -1) -> Value:
    return activations.glu(input, axis=axis_of(dim, input.ndim))


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False,
          inplace: bool = False) -> Tensor:
    """A leaky relu whose slope is random in training."""
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace=inplace)
    with jtorch.no_grad():
        slope = jtorch.empty_like(input).uniform_(lower, upper)
    y = jtorch.where(input <= 0, input * slope, input)
    return input.copy_(y) if inplace else y


def _softmax_dim(name: str, ndim: int, stacklevel: int = 3) -> int:
    warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an "
                  "argument.", stacklevel=stacklevel)
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`."""
    return reduction.softmax(input, _softmax_dim("softmax", input.ndim, _stacklevel) if dim is None else dim, dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along `dim`."""
    dim = _softmax_dim("log_softmax", input.ndim, _stacklevel) if dim is None else dim
    return reduction.log_softmax(input, dim, dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x) along `dim`."""
    return reduction.softmax(-input, _softmax_dim("softmin", input.ndim, _stacklevel) if dim is None else dim, dtype)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """A sample of the Gumbel-softmax distribution; `hard` makes it one-hot with the soft gradient."""
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    with jtorch.no_grad():
        noise = -jtorch.empty_like(logits).exponential_().log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    return jtorch.zeros_like(logits).scatter_(dim, index, 1.0) - soft.detach() + soft
