"""Functions of nn.functional beside PyTorch's: values and gradients, by the kernels and by NumPy."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")


def same(call: Callable[..., Any], *arrays: np.ndarray, atol: float = 1e-5) -> None:
    """`call(torch module, *tensors)` and its gradients with respect to all floating operands agree. The second run
    is compiled."""
    cotangent: Any = None
    expected: Any = None
    for module in (torch, jtorch, jtorch):
        leaves = [module.from_numpy(a).clone().requires_grad_(a.dtype.kind == "f") for a in arrays]
        y = call(module, *leaves)
        if cotangent is None:
            cotangent = np.random.default_rng(1).standard_normal(tuple(y.shape)).astype(y.detach().numpy().dtype)
        y.backward(module.from_numpy(cotangent))
        found = [y.detach().numpy(), *[v.grad.numpy() for v in leaves if v.requires_grad]]
        if expected is None:
            expected = found
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jtorch.config.config, "eager_compile", "sync")


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("shape, widths", [
    ((2, 3, 5, 6), (1, 2, 3, 4)), ((2, 3, 5, 6), (-1, 2, 1, -2)), ((2, 3, 4, 5, 6), (1, 2, 3, 1, 0, 3)),
    ((1, 20000), (7, 3))])
def test_pad(mode: str, shape: tuple, widths: tuple) -> None:
    same(lambda t, x: t.nn.functional.pad(x, widths, mode=mode), normal(*shape))
