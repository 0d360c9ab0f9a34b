"""Short-time Fourier transforms against PyTorch, and there and back."""
from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch") if importlib.util.find_spec("torch") else None
needs_torch = pytest.mark.skipif(torch is None, reason="compares with PyTorch, which is not installed")
SIGNAL = np.random.default_rng(5).standard_normal((2, 45))
WINDOW = np.hanning(13)[1:]


@needs_torch
@pytest.mark.parametrize("options", [
    {"n_fft": 16}, {"n_fft": 15, "hop_length": 4}, {"n_fft": 16, "win_length": 12, "window": True, "hop_length": 3},
    {"n_fft": 16, "center": False}, {"n_fft": 16, "onesided": False, "normalized": True},
    {"n_fft": 16, "win_length": 12, "window": True, "center": False, "align_to_window": True},
    {"n_fft": 16, "return_complex": False}, {"n_fft": 16, "pad_mode": "constant"},
], ids=str)
def test_against_torch(options: dict[str, Any]) -> None:
    def run(T: Any, make: Any) -> Any:
        x = make(SIGNAL.copy()).requires_grad_()
        given: dict[str, Any] = {"return_complex": True, **options}
        if "window" in given:
            given["window"] = make(WINDOW.copy())
        y = T.stft(x, **given)
        weights = make(np.random.default_rng(1).standard_normal(tuple(y.shape)))
        (g,) = T.autograd.grad((y.abs() * weights).sum(), x)
        return y.detach(), g
    for got, expected in zip(run(jtorch, jtorch.from_numpy), run(torch, torch.from_numpy)):
        np.testing.assert_allclose(got.numpy(), expected.resolve_conj().numpy(), 1e-9, 1e-9)


@pytest.mark.parametrize("options", [{}, {"normalized": True}, {"onesided": False}, {"hop_length": 5}], ids=str)
def test_there_and_back(options: dict[str, Any]) -> None:
    x = jtorch.from_numpy(SIGNAL[0].copy())
    window = jtorch.hann_window(16, dtype=jtorch.float64)
    spectra = jtorch.stft(x, 16, window=window, return_complex=True, **options)
    back = jtorch.istft(spectra, 16, window=window, length=45, **options)
    whole = back.abs() > 0  # behind the last whole window there is nothing
    np.testing.assert_allclose(back[whole].numpy(), x[whole].numpy(), 1e-9, 1e-9)
    assert whole.sum() >= 40


@pytest.mark.parametrize("call, text", [
    (lambda x: jtorch.stft(x.long(), 8, return_complex=True), "floating point or complex"),
    (lambda x: jtorch.stft(x, 8), "requires the return_complex parameter"),
    (lambda x: jtorch.stft(x, 50, center=False, return_complex=True), "0 < n_fft <= 45"),
    (lambda x: jtorch.stft(x, 8, hop_length=0, return_complex=True), "hop_length > 0"),
    (lambda x: jtorch.stft(x, 8, win_length=9, return_complex=True), "win_length"),
    (lambda x: jtorch.stft(x, 8, window=jtorch.ones(6), return_complex=True), "size equal to win_length=8"),
    (lambda x: jtorch.stft(x + 0j, 8, onesided=True), "Cannot have onesided output"),
    (lambda x: jtorch.istft(x, 8), "complex-valued input"),
    (lambda x: jtorch.istft(jtorch.ones(3, 4) + 0j, 8), "frequency dimension"),
    (lambda x: jtorch.istft(jtorch.ones(5, 4) + 0j, 8, window=jtorch.zeros(8)), "window overlap add"),
])
def test_what_is_refused(call: Any, text: str) -> None:
    with pytest.raises(RuntimeError, match=text):
        call(jtorch.from_numpy(SIGNAL[0].copy()))
