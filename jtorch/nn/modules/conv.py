"""Convolutions."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn import functional as F
from jtorch.nn.modules.lazy import LazyModuleMixin
from jtorch.nn.modules.linear import reset_linear_map
from jtorch.nn.modules.module import Module
from jtorch.nn.modules.utils import _ntuple, _reverse_repeat_tuple
from jtorch.nn.parameter import Parameter, UninitializedParameter

_FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MODES = {"zeros", "reflect", "replicate", "circular"}


class _ConvNd(Module):
    __constants__ = ["stride", "padding", "dilation", "groups", "padding_mode", "output_padding", "in_channels",
                     "out_channels", "kernel_size"]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, ...], stride: tuple[int, ...],
                 padding: str | tuple[int, ...], dilation: tuple[int, ...], transposed: bool,
                 output_padding: tuple[int, ...], groups: int, bias: bool, padding_mode: str, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of { {'same', 'valid'} }")
            if padding == "same" and any(s != 1 for s in stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in _MODES:
            raise ValueError(f"padding_mode must be one of {_MODES}, but got padding_mode='{padding_mode}'")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.transposed, self.output_padding, self.groups = transposed, output_padding, groups
        self.padding_mode = padding_mode
        if not isinstance(padding, str):
            around = _reverse_repeat_tuple(padding, 2)
        else:
            totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel_size)]
            around = tuple(x for t in reversed(totals) for x in (t // 2, t - t // 2))
        self._reversed_padding_repeated_twice = around
        shape = ((in_channels, out_channels // groups) if transposed else (out_channels, in_channels // groups))
        self.weight = Parameter(jtorch.empty((*shape, *kernel_size), device=device, dtype=dtype))
        self.register_parameter(
            "bias", Parameter(jtorch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights."""
        reset_linear_map(self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * len(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        function = _FUNCTIONS[len(self.kernel_size)]
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            return function(input, weight, bias, self.stride, 0, self.dilation, self.groups)
        return function(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)


class _Conv(_ConvNd):
    _n = 0

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                 dtype: Any = None) -> None:
        spread = _ntuple(self._n)
        super().__init__(in_channels, out_channels, spread(kernel_size), spread(stride),
                         padding if isinstance(padding, str) else spread(padding), spread(dilation), False, spread(0),
                         groups, bias, padding_mode, device, dtype)


class Conv1d(_Conv):
    """Convolution over sequences [N, C, L]."""

    _n = 1


class Conv2d(_Conv):
    """Convolution over images [N, C, H, W]."""

    _n = 2


class Conv3d(_Conv):
    """Convolution over volumes [N, C, D, H, W]."""

    _n = 3


class _ConvTransposeNd(_ConvNd):
    _n = 0

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1,
                 padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        spread = _ntuple(self._n)
        super().__init__(
            in_channels,
            out_channels,
            spread(kernel_size),
            spread(stride),
            spread(padding),
            spread(dilation),
            True,
            spread(output_padding),
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def _output_padding(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        if output_size is None:
            return self.output_padding
        n = self._n
        lead = 2 if input.ndim == n + 2 else 1
        size = list(output_size)[lead:] if len(output_size) == lead + n else list(output_size)
        if len(size) != n:
            raise ValueError(
                f"ConvTranspose{n}D: for {input.ndim}D input, output_size must have {n} or {lead + n} elements "
                f"(got {len(size)})"
            )
        least = [(input.shape[lead + i] - 1) * self.stride[i] - 2 * int(self.padding[i])
                 + self.dilation[i] * (self.kernel_size[i] - 1) + 1 for i in range(n)]
        most = [m + s - 1 for m, s in zip(least, self.stride)]
        if any(not lo <= s <= hi for s, lo, hi in zip(size, least, most)):
            raise ValueError(
                f"requested an output size of {size}, but valid sizes range from {least} to {most} (for an "
                f"input of {input.shape[2:]})"
            )
        return tuple(s - lo for s, lo in zip(size, least))

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return _TRANSPOSED[self._n](input, self.weight, self.bias, self.stride, self.padding,
                                    self._output_padding(input, output_size), self.groups, self.dilation)


class ConvTranspose1d(_ConvTransposeNd):
    """Transposed convolution over sequences."""

    _n = 1


class ConvTranspose2d(_ConvTransposeNd):
    """Transposed convolution over images."""

    _n = 2


class ConvTranspose3d(_ConvTransposeNd):
    """Transposed convolution over volumes."""

    _n = 3


class _LazyConv(LazyModuleMixin):
    """Takes `in_channels` from the first input."""

    def __init__(self, out_channels: int, kernel_size: Any, *args: Any, bias: bool = True, **kwargs: Any) -> None:
        super().__init__(0, 0, kernel_size, *args, bias=False, **kwargs)
        self.weight = UninitializedParameter(dtype=kwargs.get("dtype"))
        self.out_channels = out_channels
        if bias:
            self.bias = UninitializedParameter(dtype=kwargs.get("dtype"))

    def reset_parameters(self) -> None:
        """Draw new initial weights, once the shapes are known."""
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Take the shapes from an input."""
        module: Any = self
        if not self.has_uninitialized_params():
            return
        lead = 2 if input.ndim == module._n + 2 else 1
        self.in_channels = input.shape[lead - 1]
        if self.in_channels % module.groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        pair = (self.in_channels, self.out_channels // module.groups) if module.transposed else (
            self.out_channels, self.in_channels // module.groups)
        self.weight.materialize((*pair, *module.kernel_size))
        if self.bias is not None:
            self.bias.materialize((self.out_channels,))
        self.reset_parameters()


class LazyConv1d(_LazyConv, Conv1d):  # type: ignore[misc]
    """A Conv1d whose `in_channels` come from its first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):  # type: ignore[misc]
    """A Conv2d whose `in_channels` come from its first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):  # type: ignore[misc]
    """A Conv3d whose `in_channels` come from its first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConv, ConvTranspose1d):  # type: ignore[misc]
    """A ConvTranspose1d whose `in_channels` come from its first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConv, ConvTranspose2d):  # type: ignore[misc]
    """A ConvTranspose2d whose `in_channels` come from its first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConv, ConvTranspose3d):  # type: ignore[misc]
    """A ConvTranspose3d whose `in_channels` come from its first input."""

    cls_to_become = ConvTranspose3d
