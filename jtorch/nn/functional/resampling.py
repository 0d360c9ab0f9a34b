"""Resampling of images and signals: `interpolate`, `grid_sample`, `affine_grid`."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

__all__ = ["affine_grid", "grid_sample", "interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]

_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}


def _sizes(input: Tensor, size: Any, scale_factor: Any, recompute: bool | None) -> tuple[list[int], list[float | None]]:
    n = input.ndim - 2
    if (size is None) == (scale_factor is None):
        raise ValueError("either size or scale_factor should be defined" if size is None
                         else "only one of size or scale_factor should be defined")
    if size is not None:
        sizes = list(size) if isinstance(size, (tuple, list)) else [size] * n
        if len(sizes) != n:
            raise ValueError(
                "Input and output must have the same number of spatial dimensions, but got input with spatial "
                f"dimensions of {list(input.shape[2:])} and output size of {size}. Please provide input tensor "
                "in (N, C, d1, d2, ...,dK) format and output size in (o1, o2, ...,oK) format."
            )
        return [int(s) for s in sizes], [None] * n
    scales = list(scale_factor) if isinstance(scale_factor, (tuple, list)) else [scale_factor] * n
    if len(scales) != n:
        raise ValueError(
            "Input and scale_factor must have the same number of spatial dimensions, but got input with spatial "
            f"dimensions of {list(input.shape[2:])} and scale_factor of shape {scale_factor}. Please provide "
            "input tensor in (N, C, d1, d2, ...,dK) format and scale_factor in (s1, s2, ...,sK) format."
        )
    sizes = [math.floor(float(s * f)) for s, f in zip(input.shape[2:], scales)]
    return sizes, [None] * n if recompute else [float(f) for f in scales]


def _ratio(n: int, m: int, scale: float | None, align_corners: bool) -> float:
    if align_corners:
        return (n - 1) / (m - 1) if m > 1 else 0.0
    return 1.0 / scale if scale is not None and scale > 0 else n / m


def _source(n: int, m: int, scale: float | None, align_corners: bool, cubic: bool = False) -> Tensor:
    """Where each of m output places lies among n input places, as float64."""
    place = jtorch.arange(m, dtype=jtorch.float64)
    ratio = _ratio(n, m, scale, align_corners)
    if align_corners:
        return place * ratio
    at = (place + 0.5) * ratio - 0.5
    return at if cubic else at.clamp(min=0.0)


def _along(v: Tensor, axis: int, ndim: int) -> Tensor:
    return v.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _linear_axis(x: Tensor, axis: int, m: int, scale: float | None, align_corners: bool) -> Tensor:
    n = x.shape[axis]
    at = _source(n, m, scale, align_corners)
    low = at.floor().clamp(max=n - 1).to(jtorch.int64)
    high = (low + 1).clamp(max=n - 1)
    w = _along((at - low.to(jtorch.float64)).to(x.dtype), axis, x.ndim)
    return jtorch.index_select(x, axis, low) * (1 - w) + jtorch.index_select(x, axis, high) * w


def _cubic_weights(t: Tensor, a: float = -0.75) -> list[Tensor]:
    def near(x: Tensor) -> Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Tensor) -> Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _cubic_axis(x: Tensor, axis: int, m: int, scale: float | None, align_corners: bool) -> Tensor:
    n = x.shape[axis]
    at = _source(n, m, scale, align_corners, cubic=True)
    base = at.floor()
    weights = _cubic_weights(at - base)
    first = base.to(jtorch.int64) - 1
    y: Any = None
    for i, w in enumerate(weights):
        rows = jtorch.index_select(x, axis, (first + i).clamp(0, n - 1)) * _along(w.to(x.dtype), axis, x.ndim)
        y = rows if y is None else y + rows
    return y


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _keys(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """The cubic kernel of Keys (1981)."""
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_FILTERS = {"bilinear": (_triangle, 1.0), "bicubic": (_keys, 2.0)}


def _filtered_axis(x: Tensor, axis: int, m: int, scale: float | None, align_corners: bool, mode: str) -> Tensor:
    """A product with the matrix of weights: the kernel, as wide as the pixels that one of the output covers."""
    n = x.shape[axis]
    kernel, reach = _FILTERS[mode]
    ratio = _ratio(n, m, scale, align_corners)
    wide = max(ratio, 1.0)
    centre = ratio * (np.arange(m) + 0.5)
    first = np.maximum((centre - reach * wide + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach * wide + 0.5).astype(np.int64), n)
    place = np.arange(n)
    weights = kernel((place + 0.5 - centre[:, None]) / wide)
    weights = np.where((place >= first[:, None]) & (place < last[:, None]), weights, 0.0)
    weights /= weights.sum(1, keepdims=True)
    matrix = jtorch.tensor(weights, dtype=x.dtype)
    return (x.movedim(axis, -1) @ matrix.t()).movedim(-1, axis)


def _nearest_axis(x: Tensor, axis: int, m: int, scale: float | None, exact: bool) -> Tensor:
    n = x.shape[axis]
    ratio = _ratio(n, m, scale, False)
    place = jtorch.arange(m, dtype=jtorch.float32)
    at = ((place + (0.5 if exact else 0.0)) * ratio).floor().to(jtorch.int64).clamp(max=n - 1)
    return jtorch.index_select(x, axis, at)


def interpolate(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Tensor:
    """Resample the spatial axes to a size, or by a factor."""
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError(
                "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic "
                "| trilinear"
            )
    elif align_corners is None:
        align_corners = False
    if antialias and not (mode in ("bilinear", "bicubic") and input.ndim == 4):
        raise ValueError("Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as "
                         "input")
    sizes, scales = _sizes(input, size, scale_factor, recompute_scale_factor)
    n = input.ndim - 2
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[n - 1](input, tuple(sizes))
    if mode in _LINEAR and _LINEAR[mode] != n or mode == "bicubic" and n != 2:
        raise NotImplementedError(f"Got {input.ndim}D input, but {mode} mode needs "
                                  f"{_LINEAR.get(mode, 2) + 2}D input")
    if any(s <= 0 for s in (*sizes, *input.shape[2:])):
        raise RuntimeError("Input and output sizes should be greater than 0, but got input size "
                           f"{tuple(input.shape[2:])} and output size {tuple(sizes)}")
    smooth = mode in _LINEAR or mode == "bicubic"
    if smooth and not (input.is_floating_point() or input.dtype is jtorch.uint8):
        raise NotImplementedError(f'"upsample_{mode}" not implemented for {input.dtype}')
    if smooth and input.dtype is jtorch.uint8:  # the last axis first, rounded after each
        y = input
        for axis in reversed(range(2, input.ndim)):
            one = [m if a == axis else y.shape[a] for a, m in enumerate(sizes, 2)]
            factors = [s if a == axis else None for a, s in enumerate(scales, 2)]
            values = _resampled(y.float(), one, factors, mode, bool(align_corners), antialias)
            y = (values + 0.5).floor().clamp(0, 255).to(jtorch.uint8)
        return y
    return _resampled(input, sizes, scales, mode, bool(align_corners), antialias)


def _resampled(input: Tensor, sizes: list[int], scales: list[float | None], mode: str, align_corners: bool,
               antialias: bool) -> Tensor:
    """One axis after the other."""
    y = input
    for axis, (m, scale) in enumerate(zip(sizes, scales), 2):
        if (m == y.shape[axis] and scale is None) or not y.numel():
            y = y if m == y.shape[axis] else y.new_zeros([m if a == axis else k for a, k in enumerate(y.shape)])
        elif antialias:
            y = _filtered_axis(y, axis, m, scale, align_corners, mode)
        elif mode in _LINEAR:
            y = _linear_axis(y, axis, m, scale, align_corners)
        elif mode == "bicubic":
            y = _cubic_axis(y, axis, m, scale, align_corners)
        elif mode in ("nearest", "nearest-exact"):
            y = _nearest_axis(y, axis, m, scale, mode == "nearest-exact")
        else:
            raise NotImplementedError(
                f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the "
                "modes: nearest | linear | bilinear | bicubic | trilinear | area | nearest-exact "
                f"(got {mode})"
            )
    return y


def upsample(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
             align_corners: bool | None = None) -> Tensor:
    """The older name of `interpolate`."""
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate(mode='nearest')`."""
    warnings.warn(
        "`nn.functional.upsample_nearest` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2
    )
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate(mode='bilinear', align_corners=True)`."""
    warnings.warn(
        "`nn.functional.upsample_bilinear` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2
    )
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Sampling places of an affine map: [N, 2, 3] -> [N, H, W, 2], or [N, 3, 4] -> [N, D, H, W, 3]."""
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    *spatial, = tuple(size)[2:]
    n = len(spatial)

    def line(m: int) -> Tensor:
        if m == 1:
            return jtorch.zeros(1, dtype=theta.dtype)
        x = jtorch.linspace(-1, 1, m, dtype=theta.dtype)
        return x if align_corners else x * ((m - 1) / m)
    axes = [line(m).reshape([-1 if i == a else 1 for i in range(n)]).expand(*spatial) for a, m in enumerate(spatial)]
    base = jtorch.stack([*reversed(axes), jtorch.ones(*spatial, dtype=theta.dtype)], -1).reshape(1, -1, n + 1)
    return (base @ theta.transpose(1, 2)).reshape(theta.shape[0], *spatial, n)


def _unnormalised(x: Tensor, n: int, align_corners: bool) -> Tensor:
    return (x + 1) / 2 * (n - 1) if align_corners else ((x + 1) * n - 1) / 2


def _reflected(x: Tensor, low: float, high: float) -> Tensor:
    if low == high:
        return jtorch.zeros_like(x)
    span = high - low
    x = jtorch.abs(x - low)
    rest = jtorch.remainder(x, 2 * span)
    return jtorch.where(rest > span, 2 * span - rest, rest) + low


def grid_sample(input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Tensor:
    """Sample images at the places of a grid in [-1, 1]."""
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(
            f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'"
        )
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but "
            f"got: '{padding_mode}'"
        )
    align = bool(align_corners)
    spatial = tuple(input.shape[2:])
    n = len(spatial)
    places = [_unnormalised(grid[..., n - 1 - a], spatial[a], align) for a in range(n)]
    if mode == "bicubic":
        return _bicubic_sample(input, places, padding_mode, align)
    places = [_bounded(p, m, padding_mode, align) for p, m in zip(places, spatial)]
    if mode == "nearest":
        return _pick(input, [p.round() for p in places])
    low = [p.floor() for p in places]
    y: Any = None
    for corner in range(1 << n):
        weight: Any = None
        index = []
        for a in range(n):
            up = corner >> a & 1
            index.append(low[a] + up)
            part = places[a] - low[a] if up else 1 - (places[a] - low[a])
            weight = part if weight is None else weight * part
        term = _pick(input, index) * weight.unsqueeze(1)
        y = term if y is None else y + term
    return y


def _bounded(p: Tensor, m: int, padding_mode: str, align: bool) -> Tensor:
    if padding_mode == "zeros":
        return p
    if padding_mode == "reflection":
        p = _reflected(p, 0.0, float(m - 1)) if align else _reflected(p, -0.5, m - 0.5)
    return p.clamp(0, m - 1)


def _pick(input: Tensor, index: list[Tensor]) -> Tensor:
    """Elements at integer places [N, *out]; 0 outside."""
    spatial = tuple(input.shape[2:])
    inside: Any = None
    flat: Any = None
    for i, m in zip(index, spatial):
        ok = (i >= 0) & (i <= m - 1)
        inside = ok if inside is None else inside & ok
        safe = i.clamp(0, m - 1).to(jtorch.int64)
        flat = safe if flat is None else flat * m + safe
    n, c = input.shape[:2]
    out = tuple(flat.shape[1:])
    rows = input.reshape(n, c, -1)
    picked = jtorch.gather(rows, 2, flat.reshape(n, 1, -1).expand(n, c, math.prod(out))).reshape(n, c, *out)
    return picked * inside.unsqueeze(1).to(input.dtype)


def _bicubic_sample(input: Tensor, places: list[Tensor], padding_mode: str, align: bool) -> Tensor:
    (y, x), (h, w) = places, tuple(input.shape[2:])
    y0, x0 = y.floor(), x.floor()
    total: Any = None
    for i, wy in enumerate(_cubic_weights(y - y0)):
        row: Any = None
        for j, wx in enumerate(_cubic_weights(x - x0)):
            at = [_bounded(y0 - 1 + i, h, padding_mode, align), _bounded(x0 - 1 + j, w, padding_mode, align)]
            term = _pick(input, at) * wx.unsqueeze(1)
            row = term if row is None else row + term
        row = row * wy.unsqueeze(1)
        total = row if total is None else total + row
    return total
