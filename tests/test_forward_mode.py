"""Tangents of operators with several results, some of them not differentiable, against finite differences."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jtorch

R = np.random.default_rng(4)
A = R.standard_normal((3, 3)) + 3 * np.eye(3)
F = jtorch.nn.functional

OPERATORS: dict[str, tuple[Callable[[Any], Any], np.ndarray]] = {
    "inv": (jtorch.linalg.inv, A),
    "det": (jtorch.linalg.det, A),
    "slogdet": (lambda x: jtorch.linalg.slogdet(x)[1], A),
    "solve": (lambda x: jtorch.linalg.solve(x, x.sum(0)), A),
    "cholesky": (lambda x: jtorch.linalg.cholesky(x @ x.mT), A),
    "eigvalsh": (lambda x: jtorch.linalg.eigvalsh(x + x.mT), A),
    "svdvals": (jtorch.linalg.svdvals, A),
    "matrix_power": (lambda x: jtorch.linalg.matrix_power(x, -2), A),
    "sort": (lambda x: x.sort(1).values, 1.0 * R.permutation(12).reshape(3, 4)),
    "topk": (lambda x: x.topk(2, 1).values, 1.0 * R.permutation(12).reshape(3, 4)),
    "cummax": (lambda x: x.cummax(1).values, 1.0 * R.permutation(12).reshape(3, 4)),
    "adaptive_max_pool1d": (lambda x: F.adaptive_max_pool1d(x, 2), 1.0 * R.permutation(12).reshape(1, 2, 6)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], 1.0 * R.permutation(16).reshape(1, 1, 4, 4)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_tangent(name: str) -> None:
    f, x = OPERATORS[name]
    direction, step = np.random.default_rng(1).standard_normal(x.shape), 1e-6

    def at(s: float) -> np.ndarray:
        return f(jtorch.tensor(x + s * direction)).numpy()
    value, tangent = jtorch.func.jvp(f, (jtorch.tensor(x),), (jtorch.tensor(direction),))
    np.testing.assert_allclose(value.numpy(), at(0), 1e-12)
    np.testing.assert_allclose(tangent.numpy(), (at(step) - at(-step)) / (2 * step), 1e-5, 1e-6)
    assert np.abs(tangent.numpy()).max() > 0.01
