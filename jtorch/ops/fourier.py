"""Discrete Fourier transforms: `torch.fft`."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch._tensor import Tensor, from_array
from jtorch.ir.graph import Value
from jtorch.ir.prims import fourier
from jtorch.ir.prims.complex import conjugated
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import cast_to
from jtorch.ir.prims.movement import pad, slice_axis
from jtorch.ops.arguments import default_float, wrap_dim
from jtorch.ops.attach import FUNCTIONS, define, with_out
from jtorch.ops.creation import as_dtype
from jtorch.views import type_name

_public = define(method=False, function=False)


def _floating(x: Value) -> Value:
    if x.dtype.itemsize == 2 and x.dtype.is_floating_point:
        raise RuntimeError(f"Unsupported dtype {type_name(x.dtype)}")
    return cast_to(x, x.builder.default_float) if x.dtype.category < dtypes.FLOAT else x


def _complex(x: Value) -> Value:
    x = _floating(x)
    return cast_to(x, x.dtype.to_complex())


def _real(name: str, x: Value) -> Value:
    if x.dtype.is_complex:
        raise RuntimeError(f"{name} expects a real input tensor, but got {type_name(x.dtype)}")
    return _floating(x)


def resized(x: Value, axis: int, n: int) -> Value:
    """The first n elements along the axis; zeros behind if there are fewer."""
    if n < 1:
        raise RuntimeError(f"Invalid number of data points ({n}) specified")
    have = x.shape[axis]
    if n <= have:
        return slice_axis(x, axis, 0, n)
    widths = tuple([(0, n - have, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])
    return pad(x, constant(x.builder, 0, x.dtype), widths=widths)


def scale_of(norm: str | None, n: int, forward: bool) -> float:
    if norm not in (None, "backward", "ortho", "forward"):
        raise RuntimeError(f'Invalid normalization mode: "{norm}"')
    if norm == "ortho":
        return 1 / math.sqrt(n)
    return 1 / n if (norm == "forward") == forward else 1.0


def _one(x: Value, n: int | None, dim: int, halved: bool = False) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(axes, sizes) of a transform along one dimension. `halved`: x is half of a spectrum."""
    axis = wrap_dim(dim, x.ndim)
    if x.ndim == 0:
        raise IndexError("Dimension specified as -1 but tensor has no dimensions")
    have = x.shape[axis]
    size = (2 * (have - 1) if halved else have) if n is None else n
    if size < 1:
        raise RuntimeError(f"Invalid number of data points ({size}) specified")
    return (axis,), (size,)


def _many(x: Value, s: Any, dim: Any, halved: bool = False) -> tuple[tuple[int, ...], tuple[int, ...]]:
    s = (s,) if isinstance(s, int) else s
    dim = (dim,) if isinstance(dim, int) else dim
    if dim is not None:
        axes = tuple([wrap_dim(d, x.ndim) for d in dim])
        if len(set(axes)) != len(axes):
            raise RuntimeError("FFT dims must be unique")
        if s is not None and len(s) != len(axes):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif s is not None:
        if len(s) > x.ndim:
            raise RuntimeError(f"Got shape with {len(s)} values but input tensor only has {x.ndim} dimensions.")
        axes = tuple(range(x.ndim - len(s), x.ndim))
    else:
        axes = tuple(range(x.ndim))
    sizes = [x.shape[a] for a in axes]
    if halved and axes:
        sizes[-1] = 2 * (sizes[-1] - 1)
    if s is not None:
        sizes = [have if n == -1 else n for n, have in zip(s, sizes)]
    for n in sizes:
        if n < 1:
            raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return axes, tuple(sizes)


Place = tuple[tuple[int, ...], tuple[int, ...]]
Transform = Callable[[Value, Place, Any], Value]


def _full(name: str, forward: bool) -> Transform:
    def run(x: Value, place: Place, norm: Any) -> Value:
        x = _floating(x)
        axes, sizes = place
        if not axes:
            return _complex(x)
        for a, n in zip(axes, sizes):
            x = resized(x, a, n)
        return fourier.fft(x, axes=axes, forward=forward, scale=scale_of(norm, math.prod(sizes), forward))
    return run


def _to_half(name: str, conjugate: bool) -> Transform:
    """rfft; ihfft is its conjugate with the scale of a backward transform."""
    def run(x: Value, place: Place, norm: Any) -> Value:
        x = _real(name, x)
        axes, sizes = place
        if not axes:
            raise RuntimeError(f"{name} must transform at least one axis")
        for a, n in zip(axes, sizes):
            x = resized(x, a, n)
        y = fourier.rfft(x, axes=axes, scale=scale_of(norm, math.prod(sizes), not conjugate))
        return conjugated(y) if conjugate else y
    return run


def _from_half(name: str, conjugate: bool) -> Transform:
    """irfft; hfft is that of the conjugate with the scale of a forward transform."""
    def run(x: Value, place: Place, norm: Any) -> Value:
        x = _complex(x)
        axes, sizes = place
        if not axes:
            raise RuntimeError(f"{name} must transform at least one axis")
        for a, n in zip(axes, (*sizes[:-1], sizes[-1] // 2 + 1)):
            x = resized(x, a, n)
        x = conjugated(x) if conjugate else x
        return fourier.irfft(x, axes=axes, size=sizes[-1], scale=scale_of(norm, math.prod(sizes), conjugate))
    return run


def _family(name: str, transform: Callable[[str], Transform], halved: bool = False) -> list[Callable[..., Any]]:
    """The functions `name`, `name`2 and `name`n."""
    def one(input: Value, n: int | None = None, dim: int = -1, norm: str | None = None) -> Value:
        return transform(name)(input, _one(input, n, dim, halved), norm)

    def two(input: Value, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Value:
        return transform(name + "2")(input, _many(input, s, dim, halved), norm)

    def many(input: Value, s: Any = None, dim: Any = None, norm: str | None = None) -> Value:
        return transform(name + "n")(input, _many(input, s, dim, halved), norm)

    found = []
    for body, suffix in ((one, ""), (two, "2"), (many, "n")):
        body.__name__ = f"fft_{name}{suffix}"
        found.append(with_out(_public(body)))
    return found


fft, fft2, fftn = _family("fft", lambda name: _full(name, True))
ifft, ifft2, ifftn = _family("ifft", lambda name: _full(name, False))
rfft, rfft2, rfftn = _family("rfft", lambda name: _to_half(name, False))
ihfft, ihfft2, ihfftn = _family("ihfft", lambda name: _to_half(name, True))
irfft, irfft2, irfftn = _family("irfft", lambda name: _from_half(name, False), True)
hfft, hfft2, hfftn = _family("hfft", lambda name: _from_half(name, True), True)


def _shift(input: Tensor, dim: int | Sequence[int] | None, by: Callable[[int], int]) -> Tensor:
    axes = tuple(range(input.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    return FUNCTIONS["roll"](input, tuple([by(input.shape[a]) for a in axes]), axes) if axes else input.clone()


def fftshift(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """The zero frequency in the middle."""
    return _shift(input, dim, lambda n: n // 2)


def ifftshift(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    return _shift(input, dim, lambda n: (n + 1) // 2)


def _frequencies(formula: Callable[..., np.ndarray]) -> Callable[..., Tensor]:
    def frequencies(n: int, d: float = 1.0, *, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
                    device: Any = None, requires_grad: bool = False) -> Tensor:
        given = as_dtype(dtype)
        t = from_array(formula(n, d).astype((default_float() if given is None else given).numpy))
        if out is not None:
            return out.resize_(t.shape).copy_(t)
        return t.requires_grad_() if requires_grad else t
    frequencies.__name__ = formula.__name__
    return frequencies


fftfreq, rfftfreq = _frequencies(np.fft.fftfreq), _frequencies(np.fft.rfftfreq)
