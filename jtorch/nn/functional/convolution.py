"""Convolutions and their transposes."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch.capture.dispatch import operator
from jtorch.ir.composites.define import along
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import movement, window
from jtorch.nn.functional.arguments import tuple_of

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


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
        stride, dilation = tuple_of(stride, n), tuple_of(dilation, n)
        pads: Any
        if padding == "valid":
            pads = ((0, 0),) * n
        elif padding == "same":
            if any(s != 1 for s in stride):
                raise RuntimeError("padding='same' is not supported for strided convolutions")
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
            pads = tuple((t // 2, t - t // 2) for t in total)
        else:
            pads = tuple((p, p) for p in tuple_of(padding, n))
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
        s, p, extra, d = tuple_of(stride, n), tuple_of(padding, n), tuple_of(output_padding, n), tuple_of(dilation, n)
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
