"""Fractional max pooling: maxima of windows whose places are drawn (Graham, Fractional Max-Pooling, 2014)."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.nn.functional.arguments import tuple_of

__all__ = ["fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
           "fractional_max_pool3d_with_indices"]


def _first_places(sample: Tensor, size: int, kernel: int, count: int) -> Tensor:
    """[N, C, count]: where the windows along an axis begin, given one draw for each plane. The last one ends at the
    axis's end."""
    if count == 1:
        return jtorch.full((*sample.shape, 1), size - kernel)
    step = (size - kernel) / (count - 1)
    drawn = sample.unsqueeze(-1)
    begins = ((jtorch.arange(count - 1) + drawn) * step).long() - (drawn * step).long()
    return jtorch.cat([begins, jtorch.full((*sample.shape, 1), size - kernel)], -1)


def _checked(name: str, n: int, x: Tensor, kernel: tuple[int, ...], count: tuple[int, ...], samples: Tensor) -> None:
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}(): Expected {n + 1}D or {n + 2}D tensor, but got: {list(x.shape)}")
    for d in range(x.ndim - n - 1, x.ndim):
        if not x.shape[d]:
            raise RuntimeError(f"{name}(): Expected input to have non-zero size for non-batch dimensions, but got"
                               f"{list(x.shape)} with dimension {d} being empty.")
    for what, k, m, size in zip(("time", "height", "width")[3 - n:], kernel, count, x.shape[-n:]):
        if m + k - 1 > size:
            raise RuntimeError(f"{name}(): pool {what} {k} too large relative to input {what} {size}")
    if samples.ndim != 3:
        raise RuntimeError(f"Expect _random_samples to have 3 dimensions, got {samples.ndim}")
    if samples.shape[-1] != n or samples.shape[1] != x.shape[-n - 1]:
        raise RuntimeError(f"{name}(): Expect _random_samples of shape [N, {x.shape[-n - 1]}, {n}], got "
                           f"{list(samples.shape)}")


def _fractional(n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    name = f"fractional_max_pool{n}d"

    def with_indices(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
                     return_indices: bool = False, _random_samples: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maxima of `output_size` windows of `kernel_size` along each axis, and their places in a plane.

        input: floating [N, C, *n axes] or [C, *n axes]. `output_ratio` gives their number as a part of each axis.
        `_random_samples[N, C, n]`, from 0 to 1, draws the places; by default the generator does. ValueError if neither
        size nor ratio is given, RuntimeError where windows do not fit.
        """
        if output_size is None and output_ratio is None:
            raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
        dtypes.require(input.dtype, dtypes.FLOAT, name)
        kernel, sizes = tuple_of(kernel_size, n), input.shape[input.ndim - n:]
        if output_size is None:
            ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * n
            output_size = tuple(int(size * r) for size, r in zip(sizes, ratios))
        count = tuple_of(output_size, n)
        x = input if input.ndim == n + 2 else input.unsqueeze(0)
        samples = jtorch.rand(*x.shape[:2], n, dtype=x.dtype) if _random_samples is None else _random_samples
        _checked(name, n, input, kernel, count, samples)
        flat: Any = 0
        for a in range(n):
            drawn = samples[:, :, a if n == 3 else 1 - a]  # in two dimensions the width's draw comes first
            places = _first_places(drawn, sizes[a], kernel[a], count[a]).unsqueeze(-1) + jtorch.arange(kernel[a])
            shape = [1] * (2 * n)
            shape[a], shape[n + a] = count[a], kernel[a]
            flat = flat * sizes[a] + places.reshape(*x.shape[:2], *shape)
        window = x.flatten(2).gather(2, flat.flatten(2)).reshape(*x.shape[:2], *count, math.prod(kernel))
        found, place = window.max(-1)
        index = flat.reshape(window.shape).gather(-1, place.unsqueeze(-1)).squeeze(-1)
        return (found, index) if input.ndim == n + 2 else (found.squeeze(0), index.squeeze(0))

    def pool(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
             return_indices: bool = False, _random_samples: Tensor | None = None) -> Any:
        found = with_indices(input, kernel_size, output_size, output_ratio, True, _random_samples)
        return found if return_indices else found[0]
    with_indices.__name__ = with_indices.__qualname__ = f"{name}_with_indices"
    pool.__name__ = pool.__qualname__ = name
    pool.__doc__ = f"`{name}_with_indices`, the places only if `return_indices`."
    return pool, with_indices


fractional_max_pool2d, fractional_max_pool2d_with_indices = _fractional(2)
fractional_max_pool3d, fractional_max_pool3d_with_indices = _fractional(3)
