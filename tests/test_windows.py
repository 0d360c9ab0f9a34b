"""Window functions: `torch.signal.windows` against SciPy's, and the older ones against them."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.signal import windows as scipy_windows

import jtorch

ARGUMENTS: dict[str, dict[str, Any]] = {
    "bartlett": {}, "blackman": {}, "cosine": {}, "exponential": {"tau": 2.5}, "gaussian": {"std": 1.7},
    "general_cosine": {"a": [0.4, 0.3, 0.2, 0.1]}, "general_hamming": {"alpha": 0.6}, "hamming": {}, "hann": {},
    "kaiser": {"beta": 5.0}, "nuttall": {},
}


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_against_scipy(name: str, sym: bool) -> None:
    for length in (0, 1, 2, 9, 10):
        got = getattr(jtorch.signal.windows, name)(length, sym=sym, dtype=jtorch.float64, **ARGUMENTS[name])
        expected = getattr(scipy_windows, name)(length, sym=sym, **ARGUMENTS[name])
        np.testing.assert_allclose(got.numpy(), expected, 1e-12, 1e-15)


@pytest.mark.parametrize("name", ["bartlett", "blackman", "hamming", "hann", "kaiser"])
def test_older_names(name: str) -> None:
    older, newer = getattr(jtorch, name + "_window"), getattr(jtorch.signal.windows, name)
    for periodic in (True, False):
        np.testing.assert_allclose(older(9, periodic).numpy(), newer(9, sym=not periodic).numpy(), 1e-6, 1e-7)


def test_what_is_refused() -> None:
    windows = jtorch.signal.windows
    for call in (lambda: windows.hann(-1), lambda: windows.hann(3, dtype=jtorch.int64),
                 lambda: windows.gaussian(3, std=0), lambda: windows.exponential(3, tau=0),
                 lambda: windows.exponential(3, center=1.0),
                 lambda: windows.kaiser(3, beta=-1.0), lambda: windows.general_cosine(3, a=[])):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(TypeError):
        windows.general_cosine(3, a=0.5)
    with pytest.raises(RuntimeError, match="non-negative"):
        jtorch.hann_window(-1)
