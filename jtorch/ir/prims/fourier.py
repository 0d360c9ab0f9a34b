"""Fourier transforms without a scale, over any axes; NumPy's pocketfft computes them."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.complex import real
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.movement import concatenate, slice_axis

Axes = tuple[int, ...]


def _axes_batch(self: Op, b: Any, n: int, m: tuple, x: Value, axes: Axes, **attrs: Any) -> Value:
    return self(x, axes=tuple([a + 1 for a in axes]), **attrs)


def _fft_infer(t: Type, axes: Axes, forward: bool) -> Type:
    if not t.dtype.is_complex or not axes:
        raise AssertionError(f"fft of {t} over {axes}")
    return t


def _fft_numpy(x: np.ndarray, axes: Axes, forward: bool) -> np.ndarray:
    if not x.size:
        return x
    return np.fft.fftn(x, axes=axes) if forward else np.fft.ifftn(x, axes=axes, norm="forward")


fft = Op("fft", "library", _fft_infer, _fft_numpy,
         lambda g, y, x, axes, forward: (fft(g, axes=axes, forward=forward),),  # the matrix is its own transpose
         linear=True, attr_names=("axes", "forward"), batch=_axes_batch, domain="complex")
"""sum over j of x[j] exp(-+ 2 pi i j k / n), minus for `forward`"""


def _rfft_infer(t: Type, axes: Axes) -> Type:
    if not t.dtype.is_floating_point or not axes:
        raise AssertionError(f"rfft of {t} over {axes}")
    last = axes[-1]
    return Type(t.dtype.to_complex(), tuple([n // 2 + 1 if a == last else n for a, n in enumerate(t.shape)]))


def _rfft_numpy(x: np.ndarray, axes: Axes) -> np.ndarray:
    if not x.size:
        last = axes[-1]
        shape = [n // 2 + 1 if a == last else n for a, n in enumerate(x.shape)]
        return np.zeros(shape, np.result_type(x.dtype, np.complex64))
    return np.fft.rfftn(x, axes=axes)


def _rfft_vjp(g: Value, y: Value, x: Value, axes: Axes) -> tuple:
    last = axes[-1]
    missing = (*g.shape[:last], x.shape[last] - g.shape[last], *g.shape[last + 1:])
    whole = concatenate(g, constant(g.builder, 0, g.dtype, missing), axis=last)
    return (real(fft(whole, axes=axes, forward=False)),)


rfft = Op("rfft", "library", _rfft_infer, _rfft_numpy, _rfft_vjp, linear=True, wirtinger=True, attr_names=("axes",),
          batch=_axes_batch, domain="axes float")
"""`fft` of real numbers; of the last of the axes, only the first n // 2 + 1 frequencies."""


def _irfft_infer(t: Type, axes: Axes, size: int) -> Type:
    last = axes[-1]
    if not t.dtype.is_complex or t.shape[last] != size // 2 + 1:
        raise AssertionError(f"irfft of {t} to {size}")
    return Type(t.dtype.to_real(), tuple([size if a == last else n for a, n in enumerate(t.shape)]))


def _irfft_numpy(x: np.ndarray, axes: Axes, size: int) -> np.ndarray:
    sizes = [x.shape[a] for a in axes[:-1]] + [size]
    if not x.size:
        return np.zeros([size if a == axes[-1] else n for a, n in enumerate(x.shape)], x.real.dtype)
    return np.fft.irfftn(x, s=sizes, axes=axes, norm="forward")


def _irfft_vjp(g: Value, y: Value, x: Value, axes: Axes, size: int) -> tuple:
    """Every frequency that stands for its mirror image too counts twice."""
    last = axes[-1]
    spectrum = rfft(g, axes=axes)
    once, twice = 1, (size + 1) // 2
    parts = [slice_axis(spectrum, last, 0, once), slice_axis(spectrum, last, once, twice) * 2,
             slice_axis(spectrum, last, max(once, twice), spectrum.shape[last])]
    return (concatenate(*[p for p in parts if p.shape[last]], axis=last),)


irfft = Op("irfft", "library", _irfft_infer, _irfft_numpy, _irfft_vjp, linear=True, wirtinger=True,
           attr_names=("axes", "size"), batch=_axes_batch, domain="complex")
"""The backward `fft` of half a spectrum, as `rfft` gives it, whose other half is the mirror image: real."""
