"""Resampling of images and signals: `interpolate`, `grid_sample`, `affine_grid`."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.ir.composites import resampling
from jtorch.ir.composites.resampling import ratio_of
from jtorch.ir.graph import Value
from jtorch.nn.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from jtorch.ops.arguments import warn_user

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


def _nearest_axis(x: Tensor, axis: int, m: int, scale: float | None, exact: bool) -> Tensor:
    n = x.shape[axis]
    ratio = ratio_of(n, m, scale, False)
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
    if not input.numel():
        return input.new_zeros([*input.shape[:2], *sizes])
    if mode in _LINEAR or mode == "bicubic":
        kind = "linear" if mode in _LINEAR else "cubic"
        return _interpolated(input, tuple(sizes), tuple(scales), kind, align_corners, antialias)
    if mode not in ("nearest", "nearest-exact"):
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the "
            "modes: nearest | linear | bilinear | bicubic | trilinear | area | nearest-exact "
            f"(got {mode})"
        )
    y, axes = input, list(enumerate(zip(sizes, scales), 2))
    grown = math.prod(sizes[:-1]) > math.prod(input.shape[2:-1])  # elements of the last axis are gathered one by one
    for axis, (m, scale) in reversed(axes) if grown else axes:
        if m != y.shape[axis] or scale is not None:
            y = _nearest_axis(y, axis, m, scale, mode == "nearest-exact")
    return y


@operator
def _interpolated(input: Value, sizes: tuple[int, ...], scales: tuple, kind: str, align_corners: bool,
                  antialias: bool) -> Value:
    return resampling.interpolate(input, sizes=sizes, scales=scales, kind=kind, align_corners=align_corners,
                                  antialias=antialias)


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


_ALIGNED = ("Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please "
            "specify align_corners=True if the old behavior is desired. See the documentation of grid_sample for "
            "details.")


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Sampling places of an affine map: [N, 2, 3] -> [N, H, W, 2], or [N, 3, 4] -> [N, D, H, W, 3]."""
    if align_corners is None:
        warn_user(_ALIGNED)
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


@operator
def grid_sample(input: Value, grid: Value, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Value:
    """Sample images at the places of a grid in [-1, 1]."""
    if align_corners is None:
        warn_user(_ALIGNED)
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(
            f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'"
        )
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but "
            f"got: '{padding_mode}'"
        )
    n = input.ndim - 2
    sizes = f"input with sizes {list(input.shape)} and grid with sizes {list(grid.shape)}"
    if n not in (2, 3) or grid.ndim != input.ndim:
        raise RuntimeError("grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got "
                           + sizes)
    if input.shape[0] != grid.shape[0]:
        raise RuntimeError(f"grid_sampler(): expected grid and input to have same batch size, but got {sizes}")
    if grid.shape[-1] != n:
        raise RuntimeError(f"grid_sampler(): expected grid to have size {n} in last dimension, but got grid with sizes "
                           f"{list(grid.shape)}")
    if 0 in input.shape[2:]:
        raise RuntimeError("grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
                           f"{list(input.shape)}")
    if mode == "bicubic" and n != 2:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if input.dtype is not grid.dtype:
        raise RuntimeError("grid_sampler(): expected input and grid to have same dtype, but input has "
                           f"{input.dtype.name} and grid has {grid.dtype.name}")
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f'"grid_sampler_{n}d_cpu" not implemented for \'{input.dtype.name}\'')
    return resampling.grid_sample(input, grid, mode=mode, padding_mode=padding_mode, align_corners=bool(align_corners))
