"""Convolutions and their transposes."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jtorch import dtypes
from jtorch.capture.dispatch import operator
from jtorch.ir.composites.define import along
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import movement, window
from jtorch.ir.prims.create import constant
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


def _check_operands(x: Value, weight: Value, bias: Value | None, stride: Sequence[int], dilation: Sequence[int],
                    groups: int, transposed: bool) -> None:
    if x.dtype is not weight.dtype:
        raise RuntimeError(f"Input type ({x.dtype}) and weight type ({weight.dtype}) should be the same")
    if bias is not None and bias.dtype is not x.dtype:
        raise RuntimeError(f"Input type ({x.dtype}) and bias type ({bias.dtype}) should be the same")
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if any(s <= 0 for s in stride):
        raise RuntimeError("non-positive stride is not supported")
    if any(d <= 0 for d in dilation):
        raise RuntimeError("dilation should be greater than zero")
    if weight.ndim != x.ndim:
        raise RuntimeError(f"Expected {x.ndim}-dimensional weight for {x.ndim}-dimensional input, but got weight of "
                           f"size {list(weight.shape)}")
    out = weight.shape[1] * groups if transposed else weight.shape[0]
    if bias is not None and bias.shape != (out,):
        raise RuntimeError(f"Given {'transposed=1, ' if transposed else ''}weight of size {list(weight.shape)}, "
                           f"expected bias to be 1-dimensional with {out} elements, but got bias of size "
                           f"{list(bias.shape)} instead")


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
        dtypes.require(input.dtype, dtypes.INT, f"slow_conv{n}d_cpu")
        x, single = _batched(input, n, name)
        stride, dilation = tuple_of(stride, n), tuple_of(dilation, n)
        _check_operands(x, weight, bias, stride, dilation, groups, False)
        pads: Any
        if padding == "valid":
            pads = ((0, 0),) * n
        elif padding == "same":
            if any(s != 1 for s in stride):
                raise RuntimeError("padding='same' is not supported for strided convolutions")
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
            pads = tuple((t // 2, t - t // 2) for t in total)
        elif isinstance(padding, str):
            raise RuntimeError(f"Invalid padding string: '{padding}'")
        else:
            pads = tuple((p, p) for p in tuple_of(padding, n))
            if any(p < 0 for p, _ in pads):
                raise RuntimeError("negative padding is not supported")
        y = window.convolution(x, weight, stride=stride, padding=pads, dilation=dilation, groups=groups)
        return _unbatched(_add_bias(y, bias), single)
    body.__name__ = name
    return operator(body)


conv1d, conv2d, conv3d = _conv(1), _conv(2), _conv(3)


def _whole_transpose(x: Value, weight: Value, out: tuple[int, ...], pads: Any, **attrs: Any) -> Value:
    """The transposed convolution without padding, cut at the start and cut or filled up to `out` at the end."""
    n = len(out)
    whole = tuple((m - 1) * s + d * (k - 1) + 1
                  for m, s, d, k in zip(x.shape[2:], attrs["stride"], attrs["dilation"], weight.shape[2:]))
    y = window.conv_input_grad(x, weight, input_spatial=whole, padding=((0, 0),) * n, **attrs)
    widths = [(0, 0, 0), (0, 0, 0)]
    for axis, (size, have, (cut, _)) in enumerate(zip(out, whole, pads), 2):
        y = movement.slice_axis(y, axis, cut, min(have, cut + size))
        widths.append((0, max(0, cut + size - have), 0))
    return movement.pad(y, constant(y.builder, 0, y.dtype), widths=tuple(widths))


def _conv_transpose(n: int) -> Callable[..., Any]:
    name = f"conv_transpose{n}d"

    def body(input: Value, weight: Value, bias: Value | None = None, stride: Any = 1, padding: Any = 0,
             output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Value:
        dtypes.require(input.dtype, dtypes.INT, f"slow_conv{n}d_cpu")
        x, single = _batched(input, n, name)
        s, p, extra, d = tuple_of(stride, n), tuple_of(padding, n), tuple_of(output_padding, n), tuple_of(dilation, n)
        _check_operands(x, weight, bias, s, d, groups, True)
        if x.shape[1] != weight.shape[0]:
            raise RuntimeError(
                f"Given transposed=1, weight of size {list(weight.shape)}, expected input{list(x.shape)} to "
                f"have {weight.shape[0]} channels, but got {x.shape[1]} channels instead"
            )
        kernel = weight.shape[2:]
        if any(e < 0 or e >= max(s[i], d[i]) for i, e in enumerate(extra)):
            raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got output padding "
                               f"{extra}, stride {s} and dilation {d}")
        out = tuple((x.shape[2 + i] - 1) * s[i] - 2 * p[i] + d[i] * (kernel[i] - 1) + extra[i] + 1 for i in range(n))
        pads = tuple((i, i) for i in p)
        if all(e < step for e, step in zip(extra, s)):
            y = window.conv_input_grad(x, weight, input_spatial=out, stride=s, padding=pads, dilation=d, groups=groups)
        else:  # more at the end than a convolution of that stride leaves unread: of the whole result, then zeros
            y = _whole_transpose(x, weight, out, pads, stride=s, dilation=d, groups=groups)
        return _unbatched(_add_bias(y, bias), single)
    body.__name__ = name
    return operator(body)


conv_transpose1d, conv_transpose2d, conv_transpose3d = _conv_transpose(1), _conv_transpose(2), _conv_transpose(3)
