"""torch.masked against PyTorch: values, shapes, gradients, whole rows that are masked out."""
from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

import jtorch
from jtorch import masked

torch = pytest.importorskip("torch") if importlib.util.find_spec("torch") else None
needs_torch = pytest.mark.skipif(torch is None, reason="compares with PyTorch, which is not installed")
R = np.random.default_rng(3)
X, MASK = R.standard_normal((3, 4)), R.random((3, 4)) > 0.4
REDUCTIONS: list[tuple[str, tuple]] = [
    ("sum", ()), ("sum", (1,)), ("prod", ((0, 1),)), ("amax", (1,)), ("amin", (0,)), ("argmax", (1,)), ("argmin", (1,)),
    ("mean", (1,)), ("mean", ()), ("median", (1,)), ("norm", (2.0, 1)), ("norm", (-np.inf, 1)), ("var", (1,)),
    ("std", (0,)), ("logsumexp", (1,))]
OTHERS: list[tuple[str, tuple]] = [
    ("softmax", (1,)), ("log_softmax", (0,)), ("softmin", (1,)), ("normalize", (2.0, 1)), ("cumsum", (1,)),
    ("cumprod", (0,))]


@needs_torch
@pytest.mark.parametrize("rows", ["some", "none of a row", "broadcast"])
@pytest.mark.parametrize("name, arguments", [*REDUCTIONS, *OTHERS], ids=lambda v: str(v))
def test_against_torch(name: str, arguments: tuple, rows: str) -> None:
    mask = MASK[1] if rows == "broadcast" else MASK.copy()
    if rows == "none of a row":
        mask[0] = False

    def run(T: Any, function: Any, keepdim: dict[str, bool]) -> list[np.ndarray]:
        x = T.from_numpy(X.copy()).requires_grad_()
        y = function(x, *arguments, mask=T.from_numpy(mask.copy()), **keepdim)
        if not y.requires_grad or rows == "none of a row":
            return [y.detach().numpy()]
        (g,) = T.autograd.grad(y.sum(), x)
        return [y.detach().numpy(), g.numpy()]
    for keepdim in ({}, {"keepdim": True}) if (name, arguments) in REDUCTIONS else ({},):
        got, expected = (run(T, getattr(T.masked, name), keepdim) for T in (jtorch, torch))
        assert len(got) == len(expected)
        for a, b in zip(got, expected):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, 1e-10, 1e-12)


def test_against_numpy() -> None:
    hidden = np.ma.array(X, mask=~MASK)
    x, mask = jtorch.from_numpy(X.copy()), jtorch.from_numpy(MASK.copy())
    np.testing.assert_allclose(masked.mean(x, 1, mask=mask).numpy(), hidden.mean(1))
    np.testing.assert_allclose(masked.var(x, 1, unbiased=False, mask=mask).numpy(), hidden.var(1))
    np.testing.assert_allclose(masked.amax(x, 0, mask=mask).numpy(), hidden.max(0).filled(-np.inf))
    np.testing.assert_allclose(masked.logaddexp(x, x, input_mask=mask, other_mask=mask).numpy(),
                               np.where(MASK, np.logaddexp(X, X), -np.inf))


def test_what_is_refused() -> None:
    x = jtorch.from_numpy(X.copy())
    with pytest.raises(IndexError, match="higher than of the input"):
        masked.sum(x, mask=jtorch.ones(1, 1, 1, dtype=jtorch.bool))
    with pytest.raises(RuntimeError, match="appears multiple times"):
        masked.sum(x, (0, 0))
    with pytest.raises(IndexError, match="out of range"):
        masked.sum(x, 2)
    with pytest.raises(ValueError, match="fully masked out"):
        masked.median(x.long(), 1, mask=jtorch.zeros(3, 4, dtype=jtorch.bool))
