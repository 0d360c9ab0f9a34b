"""Channels into pixels and back, windows into columns and back."""
from __future__ import annotations

from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn.functional.arguments import tuple_of
from jtorch.ops.padding import pad

__all__ = ["channel_shuffle", "fold", "pixel_shuffle", "pixel_unshuffle", "unfold"]


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
    (kh, kw), (dh, dw), (sh, sw) = tuple_of(kernel_size, 2), tuple_of(dilation, 2), tuple_of(stride, 2)
    ph, pw = tuple_of(padding, 2)
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
    (kh, kw), (dh, dw), (sh, sw) = tuple_of(kernel_size, 2), tuple_of(dilation, 2), tuple_of(stride, 2)
    (ph, pw), (h, w) = tuple_of(padding, 2), tuple_of(output_size, 2)
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
