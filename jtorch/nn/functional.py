"""`torch.nn.functional`: layers as functions, with PyTorch's signatures and defaults.

Most are value functions: they validate and apply one operation of `ir`, and their Python runs once per distinct call.
"""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import Function, evaluate, operator, wrap_result
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.composites import activations, attention, classification, losses, normalization, pooling
from jtorch.ir.composites import softmax as softmaxes
from jtorch.ir.composites.define import along, reduce_as
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import movement, window
from jtorch.ir.prims.create import constant, detach
from jtorch.ir.prims.indexing import take
from jtorch.nn.resample import (  # noqa: F401  part of this namespace
    affine_grid,
    grid_sample,
    interpolate,
    upsample,
    upsample_bilinear,
    upsample_nearest,
)
from jtorch.ops.attach import in_place
from jtorch.views import assign

# --- arguments -------------------------------------------------------------------------------------------------------


def _tuple(x: Any, n: int) -> tuple[int, ...]:
    """An int, or a sequence, as n ints."""
    if isinstance(x, (tuple, list)):
        return tuple(int(i) for i in x) * (n if len(x) == 1 else 1)
    return (int(x),) * n


def _axis(dim: int, ndim: int) -> int:
    n = ndim or 1
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


def _softmax_dim(name: str, ndim: int, stacklevel: int = 3) -> int:
    warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an "
                  "argument.", stacklevel=stacklevel)
    return 0 if ndim in (0, 1, 3) else 1


def legacy_reduction(size_average: bool | None, reduce: bool | None) -> str:
    """What `reduction=` replaced."""
    size_average, reduce = size_average is not False, reduce is not False
    warnings.warn("size_average and reduce args will be deprecated, please use reduction="
                  f"'{'mean' if size_average and reduce else 'sum' if reduce else 'none'}' instead.", stacklevel=3)
    return "mean" if size_average and reduce else "sum" if reduce else "none"


def _reduction(reduction: str, size_average: Any, reduce: Any) -> str:
    if size_average is not None or reduce is not None:
        return legacy_reduction(size_average, reduce)
    return reduction


def _affine(x: Value, n: tuple[int, ...], weight: Value | None, bias: Value | None) -> tuple[Value, ...]:
    """(weight, bias) as trailing operands; a missing weight in front of a bias is made of ones."""
    if bias is None:
        return () if weight is None else (weight,)
    return (constant(x.builder, 1, x.dtype, n) if weight is None else weight, bias)


def _check_floating(name: str, x: Value) -> Value:
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        raise RuntimeError(f'"{name}" not implemented for \'{_scalar_name(x)}\'')
    return x


def _scalar_name(x: Value) -> str:
    from jtorch.views import type_name
    return type_name(x.dtype)


# --- linear ----------------------------------------------------------------------------------------------------------

@operator
def linear(input: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight.ndim == 1:
        product = arith.mul(input, weight)
        y = ew_sum(product, (product.ndim - 1,))
        return y if bias is None else arith.add(y, bias)
    return attention.linear(input, weight) if bias is None else attention.linear(input, weight, bias)


def ew_sum(x: Value, axes: tuple[int, ...]) -> Value:
    from jtorch.ir.prims.reduce import sum_
    return sum_(x, axes=axes) if axes else x


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1 @ W[k] @ x2 + b[k] for every output k."""
    out, n1, n2 = weight.shape
    lead = tuple(input1.shape[:-1])
    a, b = input1.reshape(-1, n1), input2.reshape(-1, n2)
    y = ((a @ weight.permute(1, 0, 2).reshape(n1, out * n2)).reshape(-1, out, n2) * b.unsqueeze(1)).sum(-1)
    y = y.reshape(*lead, out)
    return y if bias is None else y + bias


# --- activations -----------------------------------------------------------------------------------------------------

def _unary(name: str, op: Callable[[Value], Value]) -> Callable[..., Tensor]:
    """A function of one tensor, with an in-place form where it is asked for (`inplace=True`)."""
    def body(input: Value) -> Value:
        return op(input)
    body.__name__ = name
    return operator(body)


def _with_inplace(public: Callable[..., Any], name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(`name(input, ..., inplace=False)`, `name_(input, ...)`) of an operator."""
    written = in_place(public, name)
    import functools

    @functools.wraps(public)
    def function(input: Tensor, *args: Any, inplace: bool = False, **kwargs: Any) -> Tensor:
        if args and len(args) == extra + 1:
            *args, inplace = args  # type: ignore[assignment]
        return written(input, *args, **kwargs) if inplace else public(input, *args, **kwargs)
    extra = len(public.function.kinds) - 1  # type: ignore[attr-defined]
    function.__name__ = function.__qualname__ = name
    return function, written


relu, relu_ = _with_inplace(_unary("relu", ew.relu), "relu")
relu6, _ = _with_inplace(_unary("relu6", activations.relu6), "relu6")
silu, _ = _with_inplace(_unary("silu", activations.silu), "silu")
mish, _ = _with_inplace(_unary("mish", activations.mish), "mish")
selu, selu_ = _with_inplace(_unary("selu", activations.selu), "selu")
hardsigmoid, _ = _with_inplace(_unary("hardsigmoid", activations.hardsigmoid), "hardsigmoid")
hardswish, _ = _with_inplace(_unary("hardswish", activations.hardswish), "hardswish")
sigmoid = _unary("sigmoid", ew.sigmoid)
tanh = _unary("tanh", ew.tanh)
logsigmoid = _unary("logsigmoid", activations.logsigmoid)
tanhshrink = _unary("tanhshrink", activations.tanhshrink)
softsign = _unary("softsign", activations.softsign)


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
    return activations.hardtanh(input, low=float(min_val), high=float(max_val))


@operator
def _threshold(input: Value, threshold: float, value: float) -> Value:
    return activations.threshold(input, bound=float(threshold), value=float(value))


elu, elu_ = _with_inplace(_elu, "elu")
celu, celu_ = _with_inplace(_celu, "celu")
leaky_relu, leaky_relu_ = _with_inplace(_leaky_relu, "leaky_relu")
hardtanh, hardtanh_ = _with_inplace(_hardtanh, "hardtanh")
threshold, threshold_ = _with_inplace(_threshold, "threshold")


@operator
def softplus(input: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    return activations.softplus(input, beta=float(beta), threshold=float(threshold))


@operator
def softshrink(input: Value, lambd: float = 0.5) -> Value:
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return activations.softshrink(input, bound=float(lambd))


@operator
def hardshrink(input: Value, lambd: float = 0.5) -> Value:
    return activations.hardshrink(input, bound=float(lambd))


@operator
def prelu(input: Value, weight: Value) -> Value:
    return activations.prelu(input, weight)


@operator
def glu(input: Value, dim: int = -1) -> Value:
    return activations.glu(input, axis=_axis(dim, input.ndim))


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False,
          inplace: bool = False) -> Tensor:
    """A leaky relu whose slope is random in training."""
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace=inplace)
    with jtorch.no_grad():
        slope = jtorch.empty_like(input).uniform_(lower, upper)
    y = jtorch.where(input <= 0, input * slope, input)
    return input.copy_(y) if inplace else y


@operator
def _softmax(input: Value, dim: int, dtype: Any = None) -> Value:
    x = input if dtype is None else ew.cast_to(input, dtype)
    return softmaxes.softmax(_check_floating("softmax_lastdim_kernel_impl", x), axis=_axis(dim, x.ndim))


@operator
def _log_softmax(input: Value, dim: int, dtype: Any = None) -> Value:
    x = input if dtype is None else ew.cast_to(input, dtype)
    return softmaxes.log_softmax(_check_floating("log_softmax_lastdim_kernel_impl", x), axis=_axis(dim, x.ndim))


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`."""
    return _softmax(input, _softmax_dim("softmax", input.ndim, _stacklevel) if dim is None else dim, dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along `dim`."""
    return _log_softmax(input, _softmax_dim("log_softmax", input.ndim, _stacklevel) if dim is None else dim, dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x) along `dim`."""
    return _softmax(-input, _softmax_dim("softmin", input.ndim, _stacklevel) if dim is None else dim, dtype)


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


# --- dropout ---------------------------------------------------------------------------------------------------------

def _check_p(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _noise(input: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """Zeros with probability p, else 1 / (1 - p)."""
    with jtorch.no_grad():
        keep = jtorch.empty(tuple(shape), dtype=input.dtype).bernoulli_(1 - p)
        return keep.div_(1 - p) if p < 1 else keep


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zero elements with probability p and scale the rest."""
    _check_p(p)
    if not training or p == 0:
        return input
    noise = _noise(input, input.shape, p)
    return input.mul_(noise) if inplace else input * noise


def _feature_dropout(name: str, input: Tensor, p: float, training: bool, inplace: bool, ndim: int | None) -> Tensor:
    _check_p(p)
    if ndim is not None and input.ndim not in (ndim + 1, ndim + 2):
        warnings.warn(
            f"{name}: Received a {input.ndim}-D input to {name}, which is deprecated and will result in an error in "
            "a future release.",
            stacklevel=3,
        )
    if not training or p == 0:
        return input
    batched = ndim is None or input.ndim != ndim + 1
    shape = ((input.shape[0], input.shape[1], *[1] * (input.ndim - 2)) if batched
             else (input.shape[0], *[1] * (input.ndim - 1)))
    noise = _noise(input, shape, p)
    return input.mul_(noise) if inplace else input * noise


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of sequences."""
    return _feature_dropout("dropout1d", input, p, training, inplace, 1)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of images."""
    return _feature_dropout("dropout2d", input, p, training, inplace, None)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of volumes."""
    return _feature_dropout("dropout3d", input, p, training, inplace, 3)


def _alpha_dropout(input: Tensor, p: float, training: bool, inplace: bool, shape: Sequence[int]) -> Tensor:
    _check_p(p)
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0
    alpha = 1.7580993408473766
    a = 1.0 / math.sqrt((alpha * alpha * p + 1) * (1 - p))
    with jtorch.no_grad():
        keep = jtorch.empty(tuple(shape), dtype=input.dtype).bernoulli_(1 - p)
        shift = keep.sub(1).mul_(alpha * a).add_(alpha * a * p)
        keep.mul_(a)
    y = input * keep + shift
    return input.copy_(y) if inplace else y


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout that keeps the mean and variance of what SELU gives."""
    return _alpha_dropout(input, p, training, inplace, input.shape)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Alpha dropout of whole channels."""
    return _alpha_dropout(input, p, training, inplace, (*input.shape[:2], *[1] * (input.ndim - 2)))


# --- embedding -------------------------------------------------------------------------------------------------------

@operator
def _embedding(input: Value, weight: Value, padding_idx: int | None) -> Value:
    index = ew.cast_to(input, dtypes.int64)
    rows = take(weight, index, axis=0)
    if padding_idx is None:
        return rows
    is_padding = movement.reshape_to(arith.eq(index, padding_idx), (*index.shape, 1))
    return arith.where(is_padding, detach(rows), rows)


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """Rows of a table by number."""
    if input.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
            f"but got {jtorch.typename(input)} instead (while checking arguments for embedding)"
        )
    if padding_idx is not None:
        n = weight.shape[0]
        if not -n <= padding_idx < n:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= n
    if max_norm is not None:
        _renorm_rows(weight, input, max_norm, norm_type)
    return _embedding(input, weight, padding_idx)


def _renorm_rows(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    with jtorch.no_grad():
        index = input.reshape(-1)
        rows = weight[index]
        norm = rows.norm(norm_type, dim=-1, keepdim=True)
        weight[index] = jtorch.where(norm > max_norm, rows * (max_norm / (norm + 1e-7)), rows)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A last axis with a 1 at the place of each class."""
    if tensor.dtype is not dtypes.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if num_classes == -1:
        if not tensor.numel():
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        num_classes = int(tensor.max()) + 1
    return (tensor.unsqueeze(-1) == jtorch.arange(num_classes)).to(dtypes.int64)


# --- normalisation ---------------------------------------------------------------------------------------------------

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
    y, m, v = normalization.batch_norm_train(input, *_affine(input, (input.shape[1],), weight, bias), eps=float(eps))
    if mean is None:
        return (y,)
    n = input.type.numel // input.shape[1]
    m, v = detach(m) if m.requires_grad else m, detach(v) if v.requires_grad else v
    keep = 1.0 - momentum
    unbiased = v * (n / (n - 1))
    return (y, *[ew.cast_to(arith.add(arith.mul(new, momentum), arith.mul(old, keep)), old.dtype)
                 for new, old in ((m, mean), (unbiased, variance)) if old is not None])


_batch_norm_training = Function(_batch_norm_train)


@operator
def _batch_norm_eval(input: Value, running_mean: Value, running_var: Value, weight: Value | None, bias: Value | None,
                     eps: float) -> Value:
    if input.ndim < 2:
        raise IndexError("Dimension out of range (expected to be in range of [-1, 0], but got 1)")
    return normalization.batch_norm(input, running_mean, running_var, *_affine(input, (input.shape[1],), weight, bias),
                                    eps=float(eps))


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Normalise every channel by the batch's statistics (in training) or by the running ones."""
    if not training:
        return _batch_norm_eval(input, running_mean, running_var, weight, bias, eps)
    values = evaluate(_batch_norm_training, (input, running_mean, running_var, weight, bias, momentum, eps))
    if running_mean is not None:
        assign(running_mean, values[1])
        assign(running_var, values[2])  # type: ignore[arg-type]
    return wrap_result(values[0])


@operator
def instance_norm_plain(input: Value, weight: Value | None, bias: Value | None, eps: float) -> Value:
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size torch.Size({list(input.shape)})"
        )
    return normalization.instance_norm(input, *_affine(input, (input.shape[1],), weight, bias), eps=float(eps))


def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                  weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Normalise every channel of every example by its own statistics."""
    if not use_input_stats:
        return _batch_norm_eval(input, running_mean, running_var, weight, bias, eps)
    y = instance_norm_plain(input, weight, bias, eps)
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
    return normalization.layer_norm(input, *_affine(input, shape, weight, bias), ndim=len(shape), eps=float(eps))


def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """Normalise over the last axes."""
    return _layer_norm(input, normalized_shape, weight, bias, eps)


@operator
def _rms_norm(input: Value, normalized_shape: tuple[int, ...], weight: Value | None, eps: float | None) -> Value:
    shape = tuple(normalized_shape)
    if input.shape[input.ndim - len(shape):] != shape:
        raise RuntimeError(f"Given normalized_shape={list(shape)}, expected input with shape "
                           f"[*, {', '.join(map(str, shape))}], but got input of size{list(input.shape)}")
    import numpy as np
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
    return normalization.group_norm(input, *_affine(input, (input.shape[1],), weight, bias), groups=num_groups,
                                    eps=float(eps))


@operator
def local_response_norm(input: Value, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Value:
    if input.ndim < 3:
        raise ValueError(
            f"Expected 3D or higher dimensionality                          input (got {input.ndim} dimensions)"
        )
    return normalization.local_response_norm(input, size=size, alpha=float(alpha), beta=float(beta), k=float(k))


@operator
def _normalize(input: Value, p: float, dim: int, eps: float) -> Value:
    return normalization.normalize(input, p=float(p), axis=_axis(dim, input.ndim), eps=float(eps))


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """x / max(norm(x), eps) along `dim`."""
    y = _normalize(input, p, dim, eps)
    return y if out is None else out.copy_(y)


# --- convolution -----------------------------------------------------------------------------------------------------

def _batched(x: Value, n: int, name: str) -> tuple[Value, bool]:
    """[N, C, *S], and whether the batch axis was missing."""
    if x.ndim == n + 1:
        return movement.reshape_to(x, (1, *x.shape)), True
    if x.ndim != n + 2:
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: "
            f"{list(x.shape)}"
        )
    return x, False


def _add_bias(y: Value, bias: Value | None) -> Value:
    return y if bias is None else y + ew.expand(along(bias, 1, y.ndim), y.shape)


def _unbatched(y: Value, was: bool) -> Value:
    return movement.reshape_to(y, y.shape[1:]) if was else y


def _conv(n: int) -> Callable[..., Any]:
    name = f"conv{n}d"

    def body(
        input: Value,
        weight: Value,
        bias: Value | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Value:
        x, single = _batched(input, n, name)
        stride, dilation = _tuple(stride, n), _tuple(dilation, n)
        pads: Any
        if padding == "valid":
            pads = ((0, 0),) * n
        elif padding == "same":
            if any(s != 1 for s in stride):
                raise RuntimeError("padding='same' is not supported for strided convolutions")
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
            pads = tuple((t // 2, t - t // 2) for t in total)
        else:
            pads = tuple((p, p) for p in _tuple(padding, n))
            if any(p < 0 for p, _ in pads):
                raise RuntimeError("negative padding is not supported")
        y = window.convolution(x, weight, stride=stride, padding=pads, dilation=dilation, groups=groups)
        return _unbatched(_add_bias(y, bias), single)
    body.__name__ = name
    return operator(body)


conv1d, conv2d, conv3d = _conv(1), _conv(2), _conv(3)


def _conv_transpose(n: int) -> Callable[..., Any]:
    name = f"conv_transpose{n}d"

    def body(input: Value, weight: Value, bias: Value | None = None, stride: Any = 1, padding: Any = 0,
             output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Value:
        x, single = _batched(input, n, name)
        s, p, extra, d = _tuple(stride, n), _tuple(padding, n), _tuple(output_padding, n), _tuple(dilation, n)
        if x.shape[1] != weight.shape[0]:
            raise RuntimeError(
                f"Given transposed=1, weight of size {list(weight.shape)}, expected input{list(x.shape)} to "
                f"have {weight.shape[0]} channels, but got {x.shape[1]} channels instead"
            )
        kernel = weight.shape[2:]
        out = tuple((x.shape[2 + i] - 1) * s[i] - 2 * p[i] + d[i] * (kernel[i] - 1) + extra[i] + 1 for i in range(n))
        y = window.conv_input_grad(x, weight, input_spatial=out, stride=s, padding=tuple((i, i) for i in p), dilation=d,
                                   groups=groups)
        return _unbatched(_add_bias(y, bias), single)
    body.__name__ = name
    return operator(body)


conv_transpose1d, conv_transpose2d, conv_transpose3d = _conv_transpose(1), _conv_transpose(2), _conv_transpose(3)


# --- pooling ---------------------------------------------------------------------------------------------------------

def _pool_arguments(n: int, kernel_size: Any, stride: Any, padding: Any) -> tuple[Any, Any, Any]:
    kernel = _tuple(kernel_size, n)
    steps = kernel if stride is None or stride == () else _tuple(stride, n)
    pads = _tuple(padding, n)
    if any(2 * p > k for p, k in zip(pads, kernel)):
        raise RuntimeError("pad should be at most half of effective kernel size, but got pad="
                           f"{max(pads)}, kernel_size={max(kernel)} and dilation=1")
    return kernel, steps, pads


def _max_pool(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def body(input: Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
        if input.ndim not in (n + 1, n + 2):
            raise RuntimeError(f"max_pool{n}d: Expected {n + 1}D or {n + 2}D input, but got {list(input.shape)}")
        kernel, steps, pads = _pool_arguments(n, kernel_size, stride, padding)
        return window.max_pool(input, kernel=kernel, stride=steps, padding=pads, dilation=_tuple(dilation, n),
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


@operator
def avg_pool2d(input: Value, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Value:
    return _avg_pool_of(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


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
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    kernel, steps, pads = _pool_arguments(n, kernel_size, stride, padding)
    return window.avg_pool(x, kernel=kernel, stride=steps, padding=pads, ceil_mode=bool(ceil_mode),
                           count_include_pad=bool(count_include_pad), divisor_override=divisor_override)


def _target_size(x: Value, n: int, output_size: Any, name: str) -> tuple[int, ...]:
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}: Expected {n + 1}D or {n + 2}D tensor, but got {list(x.shape)}")
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * n
    spatial = x.shape[x.ndim - n:]
    return tuple(s if m is None else m for m, s in zip(sizes, spatial))


def _adaptive_avg_pool(n: int) -> Callable[..., Any]:
    def body(input: Value, output_size: Any) -> Value:
        return pooling.adaptive_avg_pool(input, output=_target_size(input, n, output_size, f"adaptive_avg_pool{n}d"))
    body.__name__ = f"adaptive_avg_pool{n}d"
    return operator(body)


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = map(_adaptive_avg_pool, (1, 2, 3))


def _adaptive_max_pool(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def body(input: Value, output_size: Any) -> Any:
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
        count = math.prod(_tuple(kernel_size, n))
        mean = average(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
        return (jtorch.sign(mean) * relu(jtorch.abs(mean))).mul(count).pow(1.0 / norm_type)
    pool.__name__ = pool.__qualname__ = f"lp_pool{n}d"
    return pool


lp_pool1d, lp_pool2d, lp_pool3d = map(_lp_pool, (1, 2, 3))


def _max_unpool(n: int) -> Callable[..., Any]:
    def unpool(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               output_size: Any = None) -> Tensor:
        kernel, steps, pads = _pool_arguments(n, kernel_size, stride, padding)
        spatial = tuple((input.shape[input.ndim - n + i] - 1) * steps[i] + kernel[i] - 2 * pads[i] for i in range(n))
        if output_size is not None:
            spatial = tuple(output_size)[-n:]
        lead = tuple(input.shape[:input.ndim - n])
        flat = jtorch.zeros((*lead, math.prod(spatial)), dtype=input.dtype)
        return flat.scatter(-1, indices.reshape(*lead, -1), input.reshape(*lead, -1)).reshape(*lead, *spatial)
    unpool.__name__ = unpool.__qualname__ = f"max_unpool{n}d"
    return unpool


max_unpool1d, max_unpool2d, max_unpool3d = map(_max_unpool, (1, 2, 3))


# --- padding and rearranging -----------------------------------------------------------------------------------------

@operator
def _pad_constant(input: Value, pad: tuple[int, ...], value: Operand = 0.0) -> Value:
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(pad) // 2 > input.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got padding "
            f"length {len(pad)} and input of dimension {input.ndim}"
        )
    widths = [(0, 0)] * input.ndim
    for i in range(len(pad) // 2):
        widths[input.ndim - 1 - i] = (pad[2 * i], pad[2 * i + 1])
    x = input
    for axis, (lo, hi) in enumerate(widths):
        n = x.shape[axis]
        if lo < 0 or hi < 0:
            start, stop = max(-lo, 0), n - max(-hi, 0)
            if stop < start:
                raise RuntimeError(
                    f"The input size {n}, plus negative padding {lo} and {hi} resulted in a negative output "
                    f"size, which is invalid. Check dimension {axis} of your input."
                )
            x = movement.slice_axis(x, axis, start, stop)
    fill = ew.cast_to(value, x.dtype) if isinstance(value, Value) else constant(x.builder, value or 0, x.dtype)
    full = tuple((max(lo, 0), max(hi, 0), 0) for lo, hi in widths)
    return movement.pad(x, fill, widths=full) if any(lo or hi for lo, hi, _ in full) else x


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Add elements around the last axes: `pad` is (before, after) of the last axis, then of the one before it, ..."""
    if mode == "constant":
        return _pad_constant(input, tuple(pad), 0.0 if value is None else value)
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if len(pad) // 2 not in (input.ndim - 1, input.ndim - 2) or len(pad) % 2:
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    for i in range(len(pad) // 2):
        axis = input.ndim - 1 - i
        n, lo, hi = input.shape[axis], pad[2 * i], pad[2 * i + 1]
        if (lo, hi) == (0, 0):
            continue
        place = jtorch.arange(-lo, n + hi)
        if mode == "replicate":
            place = place.clamp(0, n - 1)
        elif mode == "circular":
            if lo > n or hi > n:
                raise RuntimeError("Padding value causes wrapping around more than once.")
            place = jtorch.remainder(place, n)
        else:
            if lo >= n or hi >= n:
                raise RuntimeError(
                    "Padding size should be less than the corresponding input dimension, but got: padding "
                    f"({lo}, {hi}) at dimension {axis} of input {list(input.shape)}"
                )
            place = jtorch.abs(place)
            place = (n - 1) - jtorch.abs((n - 1) - place)
        input = jtorch.index_select(input, axis, place)
    return input


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """[*, C * r * r, H, W] -> [*, C, H * r, W * r]"""
    *lead, c, h, w = input.shape
    r = upscale_factor
    if c % (r * r):
        raise RuntimeError("pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
                           f"upscale_factor, but input.size(-3)={c} is not divisible by {r * r}")
    n = len(lead)
    x = input.reshape(*lead, c // (r * r), r, r, h, w)
    return x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*lead, c // (r * r), h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """[*, C, H * r, W * r] -> [*, C * r * r, H, W]"""
    *lead, c, h, w = input.shape
    r = downscale_factor
    if h % r or w % r:
        raise RuntimeError(
            f"pixel_unshuffle expects height to be divisible by downscale_factor, but input.size(-2)={h} is "
            f"not divisible by {r}"
        )
    n = len(lead)
    x = input.reshape(*lead, c, h // r, r, w // r, r)
    return x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*lead, c * r * r, h // r, w // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Interleave groups of channels."""
    n, c, *rest = input.shape
    return input.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(n, c, *rest)


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Windows of images as columns: [N, C, H, W] -> [N, C * kh * kw, L]."""
    (kh, kw), (dh, dw), (sh, sw) = _tuple(kernel_size, 2), _tuple(dilation, 2), _tuple(stride, 2)
    ph, pw = _tuple(padding, 2)
    single = input.ndim == 3
    x = pad(input.unsqueeze(0) if single else input, (pw, pw, ph, ph))
    n, c, h, w = x.shape
    oh, ow = (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1
    parts = [x[:, :, i * dh:i * dh + (oh - 1) * sh + 1:sh, j * dw:j * dw + (ow - 1) * sw + 1:sw]
             for i in range(kh) for j in range(kw)]
    y = jtorch.stack(parts, 2).reshape(n, c * kh * kw, oh * ow)
    return y[0] if single else y


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The transpose of `unfold`: columns added into images."""
    (kh, kw), (dh, dw), (sh, sw) = _tuple(kernel_size, 2), _tuple(dilation, 2), _tuple(stride, 2)
    (ph, pw), (h, w) = _tuple(padding, 2), _tuple(output_size, 2)
    single = input.ndim == 2
    x = input.unsqueeze(0) if single else input
    full_h, full_w = h + 2 * ph, w + 2 * pw
    oh, ow = (full_h - dh * (kh - 1) - 1) // sh + 1, (full_w - dw * (kw - 1) - 1) // sw + 1
    n, c = x.shape[0], x.shape[1] // (kh * kw)
    if x.shape[2] != oh * ow:
        raise RuntimeError(
            f"Given output_size={(h, w)}, kernel_size={(kh, kw)}, dilation={(dh, dw)}, padding={(ph, pw)}, "
            f"stride={(sh, sw)}, expected size of input's dimension 2 to match the calculated number of "
            f"sliding blocks {oh} * {ow} = {oh * ow}, but got input.size(2)={x.shape[2]}."
        )
    parts = x.reshape(n, c, kh, kw, oh, ow)
    y = jtorch.zeros(n, c, full_h, full_w, dtype=x.dtype)
    for i in range(kh):
        for j in range(kw):
            y[:, :, i * dh:i * dh + (oh - 1) * sh + 1:sh, j * dw:j * dw + (ow - 1) * sw + 1:sw] += parts[:, :, i, j]
    y = y[:, :, ph:ph + h, pw:pw + w]
    return y[0] if single else y


# --- losses ----------------------------------------------------------------------------------------------------------

def _pair_of(x: Value, t: Value) -> tuple[Value, ...]:
    return arith.promote(x, t)


def _warn_broadcast(input: Tensor, target: Tensor) -> None:
    if target._type.shape != input._type.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will "
            "likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=3,
        )


def _weighted(op: Any, operands: tuple[Value, ...], weight: Value | None, reduction: str, **attrs: Any) -> Value:
    if weight is None:
        return op(*operands, reduction=reduction, **attrs)
    return reduce_as(arith.mul(op(*operands, reduction="none", **attrs), weight), reduction)


@operator
def _mse_loss(input: Value, target: Value, weight: Value | None, reduction: str) -> Value:
    if weight is None:
        return losses.mse_loss(*_pair_of(input, target), reduction=reduction)
    values = arith.mul(losses.mse_loss(*_pair_of(input, target), reduction="none"), weight)
    if reduction == "mean":
        return reduce_as(values, "sum") / reduce_as(ew.expand(ew.cast_to(weight, values.dtype), values.shape), "sum")
    return reduce_as(values, reduction)


@operator
def _l1_loss(input: Value, target: Value, weight: Value | None, reduction: str) -> Value:
    if weight is None:
        return losses.l1_loss(*_pair_of(input, target), reduction=reduction)
    values = arith.mul(losses.l1_loss(*_pair_of(input, target), reduction="none"), weight)
    if reduction == "mean":
        return reduce_as(values, "sum") / reduce_as(ew.expand(ew.cast_to(weight, values.dtype), values.shape), "sum")
    return reduce_as(values, reduction)


def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
             reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """The squared difference."""
    _warn_broadcast(input, target)
    return _mse_loss(input, target, weight, _reduction(reduction, size_average, reduce))


def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
            reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """The absolute difference."""
    _warn_broadcast(input, target)
    return _l1_loss(input, target, weight, _reduction(reduction, size_average, reduce))


@operator
def _smooth_l1_loss(input: Value, target: Value, reduction: str, beta: float) -> Value:
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    return losses.smooth_l1_loss(*_pair_of(input, target), beta=float(beta), reduction=reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                   reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Squared below `beta`, absolute above."""
    _warn_broadcast(input, target)
    return _smooth_l1_loss(input, target, _reduction(reduction, size_average, reduce), beta)


@operator
def _huber_loss(input: Value, target: Value, weight: Value | None, reduction: str, delta: float) -> Value:
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    return _weighted(losses.huber_loss, _pair_of(input, target), weight, reduction, delta=float(delta))


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Tensor | None = None) -> Tensor:
    """Squared below `delta`, linear above."""
    _warn_broadcast(input, target)
    return _huber_loss(input, target, weight, reduction, delta)


@operator
def _cross_entropy(input: Value, target: Value, weight: Value | None, ignore_index: int, reduction: str,
                   label_smoothing: float) -> Value:
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    weights = () if weight is None else (weight,)
    smoothing = float(label_smoothing)
    if target.dtype.is_floating_point and (target.shape == input.shape or target.ndim == input.ndim):
        return classification.soft_cross_entropy(
            input, target, *weights, label_smoothing=smoothing, reduction=reduction
        )
    return classification.cross_entropy(input, target, *weights, ignore_index=ignore_index, label_smoothing=smoothing,
                                        reduction=reduction)


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                  ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(scores) at the target class, or against target probabilities."""
    return _cross_entropy(
        input, target, weight, ignore_index, _reduction(reduction, size_average, reduce), label_smoothing
    )


@operator
def _nll_loss(input: Value, target: Value, weight: Value | None, ignore_index: int, reduction: str) -> Value:
    return classification.nll_loss(input, target, *(() if weight is None else (weight,)), ignore_index=ignore_index,
                                   reduction=reduction)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
             ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """-input at the target class."""
    return _nll_loss(input, target, weight, ignore_index, _reduction(reduction, size_average, reduce))


@operator
def _binary_cross_entropy(input: Value, target: Value, weight: Value | None, reduction: str) -> Value:
    if input.shape != target.shape:
        raise ValueError(f"Using a target size (torch.Size({list(target.shape)})) that is different to the input size "
                         f"(torch.Size({list(input.shape)})) is deprecated. Please ensure they have the same size.")
    return _weighted(losses.binary_cross_entropy, (input, target), weight, reduction)


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Cross entropy of probabilities."""
    return _binary_cross_entropy(input, target, weight, _reduction(reduction, size_average, reduce))


@operator
def _bce_with_logits(
    input: Value, target: Value, weight: Value | None, reduction: str, pos_weight: Value | None
) -> Value:
    if input.shape != target.shape:
        raise ValueError(f"Target size (torch.Size({list(target.shape)})) must be the same as input size "
                         f"(torch.Size({list(input.shape)}))")
    operands = _pair_of(input, target)
    return _weighted(
        losses.bce_with_logits, operands if pos_weight is None else (*operands, pos_weight), weight, reduction
    )


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Cross entropy of sigmoid(input)."""
    return _bce_with_logits(input, target, weight, _reduction(reduction, size_average, reduce), pos_weight)


@operator
def _kl_div(input: Value, target: Value, reduction: str, log_target: bool) -> Value:
    if reduction == "batchmean":
        total = losses.kl_div(*_pair_of(input, target), log_target=bool(log_target), reduction="sum")
        return total / input.shape[0] if input.ndim else total
    return losses.kl_div(*_pair_of(input, target), log_target=bool(log_target), reduction=reduction)


def kl_div(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
           reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence; the input is log-probabilities."""
    reduction = _reduction(reduction, size_average, reduce)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size.'batchmean' "
            "divides only by the batch size, and aligns with the KL div math definition.'mean' will be changed to "
            "behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    return _kl_div(input, target, reduction, log_target)


@operator
def _poisson_nll_loss(input: Value, target: Value, log_input: bool, full: bool, eps: float, reduction: str) -> Value:
    return losses.poisson_nll_loss(*_pair_of(input, target), log_input=bool(log_input), full=bool(full), eps=float(eps),
                                   reduction=reduction)


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False,
                     size_average: bool | None = None, eps: float = 1e-8, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """Negative log likelihood of a Poisson distribution."""
    return _poisson_nll_loss(input, target, log_input, full, eps, _reduction(reduction, size_average, reduce))


@operator
def _gaussian_nll_loss(input: Value, target: Value, var: Value, full: bool, eps: float, reduction: str) -> Value:
    if var.shape != input.shape and input.shape[:-1] == var.shape:
        var = movement.reshape_to(var, (*var.shape, 1))
    x, t = _pair_of(input, target)
    return losses.gaussian_nll_loss(x, t, var, full=bool(full), eps=float(eps), reduction=reduction)


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Tensor:
    """Negative log likelihood of a normal distribution."""
    if not isinstance(var, Tensor):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = jtorch.full(tuple(input.shape), float(var), dtype=input.dtype)
    elif current.recorder.tracing is None and bool((var < 0).any()):
        raise ValueError("var has negative entry/entries")
    return _gaussian_nll_loss(input, target, var, full, eps, reduction)


@operator
def _hinge_embedding_loss(input: Value, target: Value, margin: float, reduction: str) -> Value:
    return losses.hinge_embedding_loss(*_pair_of(input, target), margin=float(margin), reduction=reduction)


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    return _hinge_embedding_loss(input, target, margin, _reduction(reduction, size_average, reduce))


@operator
def _margin_ranking_loss(input1: Value, input2: Value, target: Value, margin: float, reduction: str) -> Value:
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError("margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
                           f"torch.Size({list(input1.shape)}), input2: torch.Size({list(input2.shape)}), target: "
                           f"torch.Size({list(target.shape)}) ")
    return losses.margin_ranking_loss(*arith.promote(input1, input2, target), margin=float(margin), reduction=reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -y * (x1 - x2) + margin)"""
    return _margin_ranking_loss(input1, input2, target, margin, _reduction(reduction, size_average, reduce))


@operator
def _soft_margin_loss(input: Value, target: Value, reduction: str) -> Value:
    return losses.soft_margin_loss(*_pair_of(input, target), reduction=reduction)


def soft_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """log(1 + exp(-y * x))"""
    return _soft_margin_loss(input, target, _reduction(reduction, size_average, reduce))


@operator
def _multilabel_soft_margin_loss(input: Value, target: Value, weight: Value | None, reduction: str) -> Value:
    return losses.multilabel_soft_margin_loss(*_pair_of(input, target), *(() if weight is None else (weight,)),
                                              reduction=reduction)


def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                size_average: bool | None = None, reduce: bool | None = None,
                                reduction: str = "mean") -> Tensor:
    """One-against-all over many labels."""
    return _multilabel_soft_margin_loss(input, target, weight, _reduction(reduction, size_average, reduce))


def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None,
                      size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """sum_i max(0, margin - x[y] + x[i])**p / size"""
    reduction = _reduction(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    single = input.ndim == 1
    x, y = (input.unsqueeze(0), target.reshape(1)) if single else (input, target)
    gap = relu(margin - x.gather(1, y.unsqueeze(1)) + x)
    gap = gap if p == 1 else gap * gap
    if weight is not None:
        gap = gap * weight[y].unsqueeze(1)
    keep = 1 - one_hot(y, x.shape[1]).to(x.dtype)
    each = (gap * keep).sum(1) / x.shape[1]
    if reduction == "none":
        return each[0] if single else each
    return each.sum() if reduction == "sum" else each.mean()


@operator
def _triplet_margin_loss(
    anchor: Value, positive: Value, negative: Value, margin: float, p: float, eps: float, swap: bool, reduction: str
) -> Value:
    return losses.triplet_margin_loss(*arith.promote(anchor, positive, negative), margin=float(margin), p=float(p),
                                      eps=float(eps), swap=bool(swap), reduction=reduction)


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
                        eps: float = 1e-6, swap: bool = False, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin)"""
    return _triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap,
                                _reduction(reduction, size_average, reduce))


def triplet_margin_with_distance_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *,
                                      distance_function: Callable[..., Tensor] | None = None, margin: float = 1.0,
                                      swap: bool = False, reduction: str = "mean") -> Tensor:
    """The triplet loss with a distance of one's own."""
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = jtorch.minimum(far, distance(positive, negative))
    loss = relu(margin + near - far)
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


@operator
def _cosine_embedding_loss(input1: Value, input2: Value, target: Value, margin: float, reduction: str) -> Value:
    x, y = arith.promote(input1, input2)
    return losses.cosine_embedding_loss(x, y, ew.cast_to(target, x.dtype), margin=float(margin), reduction=reduction)


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
                          size_average: bool | None = None, reduce: bool | None = None,
                          reduction: str = "mean") -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""
    return _cosine_embedding_loss(input1, input2, target, margin, _reduction(reduction, size_average, reduce))


@operator
def cosine_similarity(x1: Value, x2: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    a, b = arith.promote(x1, x2)
    return losses.cosine_similarity(a, b, axis=_axis(dim, a.ndim), eps=float(eps))


@operator
def _pairwise_distance(x1: Value, x2: Value, p: float, eps: float, keepdim: bool) -> Value:
    a, b = arith.promote(x1, x2)
    y = losses.pairwise_distance(a, b, p=float(p), eps=float(eps))
    return movement.reshape_to(y, (*y.shape, 1)) if keepdim else y


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of the rows' difference."""
    return _pairwise_distance(x1, x2, p, eps, keepdim)


# --- attention -------------------------------------------------------------------------------------------------------

@operator
def _attention(query: Value, key: Value, value: Value, attn_mask: Value | None, is_causal: bool,
               scale: float | None) -> Value:
    mask = () if attn_mask is None else (attn_mask if attn_mask.dtype is dtypes.bool_
                                         else ew.cast_to(attn_mask, query.dtype),)
    return attention.attention(query, key, value, *mask, is_causal=bool(is_causal),
                               scale=None if scale is None else float(scale))


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(q @ k.T * scale + mask) @ v"""
    if is_causal and attn_mask is not None:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(repeats, -3) for t in (key, value))
    if not dropout_p:
        return _attention(query, key, value, attn_mask, is_causal, scale)
    _check_p(dropout_p)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = jtorch.ones(scores.shape[-2], scores.shape[-1], dtype=dtypes.bool_).tril()
    if attn_mask is not None:
        scores = (scores.masked_fill(attn_mask.logical_not(), -math.inf) if attn_mask.dtype is dtypes.bool_
                  else scores + attn_mask)
    return dropout(softmax(scores, -1), dropout_p) @ value


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention over [T, N, E] (or [T, E]) inputs."""
    single = query.ndim == 2
    if single:
        query, key, value = (t.unsqueeze(1) for t in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    t, n, e = query.shape
    if e != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {e}")
    head = e // num_heads
    if head * num_heads != e:
        raise AssertionError(f"embed_dim {e} not divisible by num_heads {num_heads}")
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    q, k, v = _project(query, key, value, e, in_proj_weight, in_proj_bias, use_separate_proj_weight, q_proj_weight,
                       k_proj_weight, v_proj_weight)
    mask = _merged_mask(attn_mask, key_padding_mask, q.dtype, n, num_heads)
    if bias_k is not None and bias_v is not None:
        k = jtorch.cat([k, bias_k.expand(1, n, e)])
        v = jtorch.cat([v, bias_v.expand(1, n, e)])
        mask = None if mask is None else pad(mask, (0, 1))
    q = q.reshape(t, n, num_heads, head).permute(1, 2, 0, 3)
    k = k.reshape(k.shape[0], n, num_heads, head).permute(1, 2, 0, 3) if static_k is None else static_k.reshape(
        n, num_heads, -1, head)
    v = v.reshape(v.shape[0], n, num_heads, head).permute(1, 2, 0, 3) if static_v is None else static_v.reshape(
        n, num_heads, -1, head)
    if add_zero_attn:
        zero = jtorch.zeros(n, num_heads, 1, head, dtype=k.dtype)
        k, v = jtorch.cat([k, zero], 2), jtorch.cat([v, zero], 2)
        mask = None if mask is None else pad(mask, (0, 1))
    weights = None
    if need_weights:
        scores = (q * math.sqrt(1.0 / head)) @ k.transpose(-2, -1)
        scores = scores if mask is None else scores + mask
        weights = softmax(scores, -1)
        if dropout_p > 0.0 and training:
            weights = dropout(weights, dropout_p)
        y = weights @ v
        if average_attn_weights:
            weights = weights.mean(1)
        weights = weights[0] if single else weights
    else:
        y = scaled_dot_product_attention(q, k, v, mask, dropout_p if training else 0.0)
    y = linear(y.permute(2, 0, 1, 3).reshape(t * n, e), out_proj_weight, out_proj_bias).reshape(t, n, e)
    return (y[:, 0] if single else y), weights


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    e: int,
    weight: Tensor | None,
    bias: Tensor | None,
    separate: bool,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    v_weight: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The projections of the three inputs; one product where they are the same."""
    if separate:
        parts = (None, None, None) if bias is None else tuple(bias.chunk(3))
        return (linear(query, q_weight, parts[0]), linear(key, k_weight, parts[1]), linear(value, v_weight, parts[2]))
    if query is key and key is value:
        q, k, v = linear(query, weight, bias).chunk(3, -1)
        return q, k, v
    parts = (None, None, None) if bias is None else tuple(bias.chunk(3))
    return tuple(linear(x, w, b) for x, w, b in zip((query, key, value), weight.chunk(3), parts))  # type: ignore


def _merged_mask(attn_mask: Tensor | None, key_padding_mask: Tensor | None, dtype: Any, n: int,
                 heads: int) -> Tensor | None:
    """Both masks as one that is added to [N, heads, T, S]."""
    def added(mask: Tensor) -> Tensor:
        if mask.dtype is not dtypes.bool_:
            return mask.to(dtype)
        return jtorch.zeros(tuple(mask.shape), dtype=dtype).masked_fill(mask, -math.inf)
    mask = None
    if attn_mask is not None:
        mask = added(attn_mask)
        mask = mask.reshape(n, heads, *mask.shape[1:]) if mask.ndim == 3 else mask
    if key_padding_mask is not None:
        keys = added(key_padding_mask).reshape(n, 1, 1, -1)
        mask = keys if mask is None else mask + keys
    return mask



__all__ = sorted(n for n, f in list(globals().items())
                 if callable(f) and not n.startswith("_") and getattr(f, "__module__", "").startswith("jtorch.nn")
                 and n not in ("ew_sum", "legacy_reduction", "instance_norm_plain"))
