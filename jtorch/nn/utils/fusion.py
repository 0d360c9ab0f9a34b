"""Folding batch normalisation into the layer before it."""
from __future__ import annotations

import copy
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn.parameter import Parameter


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of the convolution that does both."""
    with jtorch.no_grad():
        b = jtorch.zeros_like(bn_rm) if conv_b is None else conv_b
        w = jtorch.ones_like(bn_rm) if bn_w is None else bn_w
        shift = jtorch.zeros_like(bn_rm) if bn_b is None else bn_b
        scale = w * jtorch.rsqrt(bn_rv + bn_eps)
        shape = [1, -1] if transpose else [-1, 1]
        weight = conv_w * scale.reshape(shape + [1] * (conv_w.ndim - 2))
        bias = (b - bn_rm) * scale + shift
        return (
            Parameter(weight.to(conv_w.dtype), conv_w.requires_grad),
            Parameter(bias.to(conv_w.dtype), b.requires_grad),
        )


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of `conv` that does what `conv` and `bn` do in evaluation mode."""
    if conv.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps,
                                                    bn.weight, bn.bias, transpose)
    return fused


def fuse_linear_bn_weights(linear_w: Tensor, linear_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float,
                           bn_w: Tensor, bn_b: Tensor) -> tuple[Parameter, Parameter]:
    """Weight and bias of the linear layer that does both."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of `linear` that does what `linear` and `bn` do in evaluation mode."""
    return fuse_conv_bn_eval(linear, bn)
