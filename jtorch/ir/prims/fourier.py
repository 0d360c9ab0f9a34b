"""Fourier transforms times a scale, over any axes; NumPy's pocketfft gives their meaning."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.complex import real
from jtorch.ir.prims.movement import concatenate, slice_axis

Axes = tuple[int, ...]


def _axes_batch(self: Op, b: Any, n: int, m: tuple, x: Value, axes: Axes, **attrs: Any) -> Value:
    return self(x, axes=tuple([a + 1 for a in axes]), **attrs)


def _scaled(y: np.ndarray, scale: float) -> np.ndarray:
    return y if scale == 1 else (y * scale).astype(y.dtype)


def _fft_infer(t: Type, axes: Axes, forward: bool, scale: float) -> Type:
    if t.dtype.category < dtypes.FLOAT or not axes:
        raise AssertionError(f"fft of {t} over {axes}")
    return Type(t.dtype.to_complex(), t.shape)


def _fft_numpy(x: np.ndarray, axes: Axes, forward: bool, scale: float) -> np.ndarray:
    if not x.size:
        return x.astype(np.result_type(x.dtype, np.complex64))
    return _scaled(np.fft.fftn(x, axes=axes) if forward else np.fft.ifftn(x, axes=axes, norm="forward"), scale)


def _fft_vjp(g: Value, y: Value, x: Value, **attrs: Any) -> tuple:
    """The matrix is its own transpose."""
    found = fft(g, **attrs)
    return (found if x.dtype.is_complex else real(found),)


fft = Op("fft", "library", _fft_infer, _fft_numpy, _fft_vjp, linear=True, attr_names=("axes", "forward", "scale"),
         attr_defaults={"scale": 1.0}, batch=_axes_batch, domain="complex")
"""scale * the sum over j of x[j] exp(-+ 2 pi i j k / n), minus for `forward`; x may be real."""


def _rfft_infer(t: Type, axes: Axes, scale: float) -> Type:
    if not t.dtype.is_floating_point or not axes:
        raise AssertionError(f"rfft of {t} over {axes}")
    last = axes[-1]
    return Type(t.dtype.to_complex(), tuple([n // 2 + 1 if a == last else n for a, n in enumerate(t.shape)]))


def _rfft_numpy(x: np.ndarray, axes: Axes, scale: float) -> np.ndarray:
    if not x.size:
        last = axes[-1]
        shape = [n // 2 + 1 if a == last else n for a, n in enumerate(x.shape)]
        return np.zeros(shape, np.result_type(x.dtype, np.complex64))
    return _scaled(np.fft.rfftn(x, axes=axes), scale)


def _halved(v: Value, axis: int, size: int, by: float) -> Value:
    """Half a spectrum, of which the frequencies that stand for their mirror images too are multiplied `by`."""
    once, twice = 1, (size + 1) // 2
    parts = [slice_axis(v, axis, 0, once), slice_axis(v, axis, once, twice) * by,
             slice_axis(v, axis, max(once, twice), v.shape[axis])]
    return concatenate(*[p for p in parts if p.shape[axis]], axis=axis)


def _rfft_vjp(g: Value, y: Value, x: Value, axes: Axes, scale: float) -> tuple:
    """The real part of the backward transform of half a spectrum alone."""
    size = x.shape[axes[-1]]
    return (irfft(_halved(g, axes[-1], size, 0.5), axes=axes, size=size, scale=scale),)


rfft = Op("rfft", "library", _rfft_infer, _rfft_numpy, _rfft_vjp, linear=True, wirtinger=True,
          attr_names=("axes", "scale"), attr_defaults={"scale": 1.0}, batch=_axes_batch, domain="axes float")
"""`fft` of real numbers; of the last of the axes, only the first n // 2 + 1 frequencies."""


def _irfft_infer(t: Type, axes: Axes, size: int, scale: float) -> Type:
    last = axes[-1]
    if not t.dtype.is_complex or t.shape[last] != size // 2 + 1:
        raise AssertionError(f"irfft of {t} to {size}")
    return Type(t.dtype.to_real(), tuple([size if a == last else n for a, n in enumerate(t.shape)]))


def _irfft_numpy(x: np.ndarray, axes: Axes, size: int, scale: float) -> np.ndarray:
    sizes = [x.shape[a] for a in axes[:-1]] + [size]
    if not x.size:
        return np.zeros([size if a == axes[-1] else n for a, n in enumerate(x.shape)], x.real.dtype)
    return _scaled(np.fft.irfftn(x, s=sizes, axes=axes, norm="forward"), scale)


def _irfft_vjp(g: Value, y: Value, x: Value, axes: Axes, size: int, scale: float) -> tuple:
    return (_halved(rfft(g, axes=axes, scale=scale), axes[-1], size, 2.0),)


irfft = Op("irfft", "library", _irfft_infer, _irfft_numpy, _irfft_vjp, linear=True, wirtinger=True,
           attr_names=("axes", "size", "scale"), attr_defaults={"scale": 1.0}, batch=_axes_batch, domain="complex")
"""The backward `fft` of half a spectrum, as `rfft` gives it, whose other half is the mirror image: real."""
