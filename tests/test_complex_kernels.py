"""Loops over complex numbers against NumPy: fused, strided, folded, in place."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jtorch as torch

CASES: dict[str, Callable[..., Any]] = {
    "chain": lambda m, a, b: a * b + a - b * (2 - 1j),
    "quotient": lambda m, a, b: a / (b + 0.5),
    "parts": lambda m, a, b: a.real * b.imag + (a * b).real,
    "mixed": lambda m, a, b: a.real * b,
    "transposed": lambda m, a, b: a.T * 1j + b[0],
    "slices": lambda m, a, b: a[::2, 1:7] * b[1::2, 2:8],
    "exponential": lambda m, a, b: m.exp(a) - m.exp(-b),
    "angle": lambda m, a, b: m.angle(a * b),
    "absolute": lambda m, a, b: abs(a - b),
    "columns": lambda m, a, b: (a * b).sum(0),
    "rows": lambda m, a, b: a * b.sum(1)[:, None],
    "all": lambda m, a, b: (a.conj() * b).sum(),
    "equal": lambda m, a, b: (a == b) | (a.real == a.imag),
    "chosen": lambda m, a, b: m.where(a.real > 0, a, b),
}


def inputs(dtype: type) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((8, 8)) + 1j * rng.standard_normal((8, 8))).astype(dtype) for _ in range(2)]


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("name", CASES)
def test_loops(name: str, dtype: type) -> None:
    a, b = inputs(dtype)
    want = CASES[name](np, a, b)
    traced = torch.jit.trace(lambda a, b: CASES[name](torch, a, b))
    got = traced(torch.from_numpy(a), torch.from_numpy(b))
    assert "in NumPy" not in traced.explain()
    tolerance = 3e-6 if dtype is np.complex64 else 1e-14
    np.testing.assert_allclose(got.numpy(), want, rtol=tolerance, atol=tolerance)
    assert got.numpy().dtype == want.dtype


def test_long_sum_is_split() -> None:
    z = np.tile(inputs(np.complex64)[0].ravel(), 2000)
    got = torch.jit.trace(lambda z: (z * 2).sum())(torch.from_numpy(z))
    np.testing.assert_allclose(got.numpy(), (z.astype(complex) * 2).sum(), rtol=1e-5)


def test_quotients_at_the_edges() -> None:
    """What neither overflows nor has a zero below it is exact to rounding; what has is as in NumPy."""
    a = np.array([1e300 + 1e300j, 1e-300 + 1e-300j, 1 + 1j, 0j, 3 - 4j, -2j])
    b = np.array([1e300 - 1e300j, 1e-300 - 1e-300j, 0j, 0j, 5e-324 + 1j, 2 + 0j])
    with np.errstate(all="ignore"):
        want = a / b
    got = torch.jit.trace(lambda a, b: a / b)(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_in_place() -> None:
    a, b = inputs(np.complex64)
    x, y = torch.from_numpy(a.copy()), torch.from_numpy(b)

    @torch.jit.trace
    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        x.mul_(y).add_(x.real.T * 1j)
    want = a
    for _ in range(3):
        step(x, y)
        want = want * b
        want = want + want.real.T * 1j
    np.testing.assert_allclose(x.numpy(), want, rtol=1e-5, atol=1e-5)


def test_gradient() -> None:
    a, b = (torch.from_numpy(v).requires_grad_() for v in inputs(np.complex128))
    loss = (torch.exp(a * b.conj()).imag * (a / (b + 3)).real).sum()
    found = torch.autograd.grad(loss, (a, b))
    step = 1e-6
    for x, g in zip((a, b), found):
        for direction in (step, 1j * step):
            values = []
            for sign in (1, -1):
                moved = [v.detach().clone() for v in (a, b)]
                moved[0 if x is a else 1][2, 3] += sign * direction
                p, q = moved
                values.append(float((torch.exp(p * q.conj()).imag * (p / (q + 3)).real).sum()))
            want = (values[0] - values[1]) / (2 * step)
            here = complex(g[2, 3].item())
            np.testing.assert_allclose(here.real if direction == step else here.imag, want, rtol=1e-5, atol=1e-5)


def test_in_place_through_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel whose two stores may not share the operand's memory writes elsewhere, and all of it is copied back."""
    monkeypatch.setattr(torch.config.config, "eager_compile", "sync")
    want = np.arange(48).astype(np.complex64)
    x = torch.from_numpy(want.copy()).clone()
    for _ in range(3):
        x.add_(1j)
        want = want + np.complex64(1j)
        assert x.tolist() == want.tolist()


def test_part_of_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.config.config, "eager_compile", "sync")
    row = np.arange(3) + 2j
    for _ in range(3):
        x = torch.zeros(3, 3, dtype=torch.complex128)
        x[1] = torch.from_numpy(row)
        np.testing.assert_array_equal(x.numpy(), np.outer([0, 1, 0], row))
