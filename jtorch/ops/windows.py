"""Window functions: `torch.hann_window` and its like, and those of `torch.signal.windows`."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch._tensor import Tensor, from_array
from jtorch.ops.arguments import default_float
from jtorch.ops.attach import FUNCTIONS
from jtorch.ops.creation import as_dtype

STRIDED = dtypes.LAYOUTS[0]
WINDOWS: dict[str, Callable[..., Tensor]] = {}
"""The functions of `torch.signal.windows` by name."""


@dataclass(frozen=True, slots=True)
class Cosines:
    """a[0] - a[1] cos(x) + a[2] cos(2 x) - ..., x going once round in n steps, at `length` places."""

    length: int
    n: float
    coefficients: Sequence[float]

    def tensor(self, d: dtypes.dtype) -> Tensor:
        """From the middle, where x is pi: an angle that was rounded to `d` is near the ends off by a second-order
        effect only."""
        i = FUNCTIONS["arange"](self.length, dtype=dtypes.float64)
        x = i * (2 * math.pi / self.n) - math.pi
        compute = d.compute
        total = FUNCTIONS["full"]((self.length,), self.coefficients[0], dtype=compute)
        for k, a in enumerate(self.coefficients[1:], 1):
            total = total + a * FUNCTIONS["cos"]((x * k).to(compute))
        return total.to(d)


Values = np.ndarray | Cosines


def _made(values: Values, dtype: Any, requires_grad: bool) -> Tensor:
    d = as_dtype(dtype) or default_float()
    t = values.tensor(d) if isinstance(values, Cosines) else from_array(values.astype(d.numpy))
    return t.requires_grad_() if requires_grad else t


def cosines(i: np.ndarray, n: float, coefficients: Sequence[float]) -> Cosines:
    return Cosines(len(i), n, coefficients)


def _kaiser(i: np.ndarray, n: float, beta: float) -> np.ndarray:
    return np.i0(beta * np.sqrt(np.maximum(1 - (2 * i / n - 1) ** 2, 0))) / np.i0(beta)


def _triangle(i: np.ndarray, n: float) -> np.ndarray:
    return 1 - np.abs(2 * i / n - 1)


# --- in the namespace of torch ---------------------------------------------------------------------------------------

def _window(name: str, formula: Callable[..., Values]) -> None:
    def window(window_length: int, periodic: bool = True, *args: float, dtype: Any = None, layout: Any = None,
               device: Any = None, pin_memory: bool = False, requires_grad: bool = False, **kwargs: float) -> Tensor:
        if window_length < 0:
            raise RuntimeError(f"{name} requires non-negative window_length, got window_length={window_length}")
        d = as_dtype(dtype) or default_float()
        if not d.is_floating_point:
            raise RuntimeError(f"{name} expects floating point dtypes, got: {d}")
        n = window_length if periodic else window_length - 1
        values = (np.ones(window_length) if window_length <= 1 else
                  formula(np.arange(window_length), n, *args, **kwargs))
        return _made(values, d, requires_grad)
    window.__name__ = name
    FUNCTIONS[name] = window


_window("hann_window", lambda i, n: cosines(i, n, (0.5, 0.5)))
_window("hamming_window", lambda i, n, alpha=0.54, beta=0.46: cosines(i, n, (alpha, beta)))
_window("blackman_window", lambda i, n: cosines(i, n, (0.42, 0.5, 0.08)))
_window("kaiser_window", lambda i, n, beta=12.0: _kaiser(i, n, beta))
_window("bartlett_window", _triangle)


# --- torch.signal.windows --------------------------------------------------------------------------------------------

def _checked(name: str, M: int, dtype: Any, layout: Any) -> dtypes.dtype:
    if M < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={M}")
    if layout is not STRIDED:
        raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    d = as_dtype(dtype) or default_float()
    if d not in (dtypes.float32, dtypes.float64):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {d}")
    return d


def _signal_window(formula: Callable[..., Values]) -> Callable[..., Values]:
    """Make `formula(i, n, ...)` public: i is the place of each of M samples, n how many steps the window has from end
    to end: M - 1 for one that closes (`sym`), M for one that does with the next sample."""
    name = formula.__name__

    def window(M: int, *args: Any, sym: bool = True, dtype: Any = None, layout: Any = STRIDED,
               device: Any = None, requires_grad: bool = False, **kwargs: Any) -> Tensor:
        d = _checked(name, M, dtype, layout)
        values = formula(np.arange(M), max(M - 1 if sym else M, 1), *args, **kwargs)
        return _made(np.ones(M) if M == 1 else values, d, requires_grad)
    window.__name__, window.__doc__ = name, formula.__doc__
    WINDOWS[name] = window
    return formula


@_signal_window
def bartlett(i: np.ndarray, n: float) -> np.ndarray:
    """A triangle from 0 to 1 and back."""
    return _triangle(i, n)


@_signal_window
def blackman(i: np.ndarray, n: float) -> Cosines:
    """0.42 - 0.5 cos(x) + 0.08 cos(2 x)"""
    return cosines(i, n, (0.42, 0.5, 0.08))


@_signal_window
def nuttall(i: np.ndarray, n: float) -> Cosines:
    """The four-term window of least side lobes (A. Nuttall, "Some windows with very good sidelobe behavior", 1981)."""
    return cosines(i, n, (0.3635819, 0.4891775, 0.1365995, 0.0106411))


@_signal_window
def hann(i: np.ndarray, n: float) -> Cosines:
    """0.5 - 0.5 cos(x)"""
    return cosines(i, n, (0.5, 0.5))


@_signal_window
def general_hamming(i: np.ndarray, n: float, *, alpha: float = 0.54) -> Cosines:
    """alpha - (1 - alpha) cos(x)"""
    return cosines(i, n, (alpha, 1 - alpha))


@_signal_window
def hamming(i: np.ndarray, n: float) -> Cosines:
    """0.54 - 0.46 cos(x)"""
    return cosines(i, n, (0.54, 0.46))


@_signal_window
def general_cosine(i: np.ndarray, n: float, *, a: Sequence[float]) -> Cosines:
    """a[0] - a[1] cos(x) + a[2] cos(2 x) - ..."""
    if not isinstance(a, (list, tuple)):
        raise TypeError("Coefficients must be a list/tuple")
    if not a:
        raise ValueError("Coefficients cannot be empty")
    return cosines(i, n, a)


@_signal_window
def cosine(i: np.ndarray, n: float) -> np.ndarray:
    """Half a wave; its ends lie half a step beyond the samples."""
    return np.sin(np.pi * (i + 0.5) / (n + 1))


@_signal_window
def gaussian(i: np.ndarray, n: float, *, std: float = 1.0) -> np.ndarray:
    """exp(-(i - n/2)**2 / (2 std**2))"""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    return np.exp(-(((i - n / 2) / std) ** 2) / 2)


@_signal_window
def kaiser(i: np.ndarray, n: float, *, beta: float = 12.0) -> np.ndarray:
    """i0(beta sqrt(1 - (2 i / n - 1)**2)) / i0(beta)"""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return _kaiser(i, n, beta)


def exponential(M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, dtype: Any = None,
                layout: Any = STRIDED, device: Any = None, requires_grad: bool = False) -> Tensor:
    """exp(-|i - center| / tau)"""
    d = _checked("exponential", M, dtype, layout)
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    if center is None:
        center = (M - 1 if sym or M <= 1 else M) / 2
    return _made(np.exp(-np.abs(np.arange(M) - center) / tau), d, requires_grad)


WINDOWS["exponential"] = exponential
