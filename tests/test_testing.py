"""torch.testing against PyTorch's: what is accepted, the errors' classes and texts, the tensors that are made."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

GOOD = [
    lambda T: ((T.ones(3), T.ones(3) + 1e-6), {}),
    lambda T: ((1.0, 1.0 + 1e-9), {}),
    lambda T: ((1, 1.0), {"check_dtype": False}),
    lambda T: ((None, None), {}),
    lambda T: (([T.ones(2), {"a": 1, "b": T.zeros(1)}], [T.ones(2), {"b": T.zeros(1), "a": 1}]), {}),
    lambda T: ((T.tensor([float("nan"), float("inf")]), T.tensor([float("nan"), float("inf")])), {"equal_nan": True}),
    lambda T: ((T.ones(2), T.ones(2, dtype=T.float64)), {"check_dtype": False}),
    lambda T: ((np.ones(3), np.ones(3)), {}),
    lambda T: ((T.zeros(0, 3), T.zeros(0, 3)), {}),
    lambda T: ((True, np.bool_(True)), {}),
    lambda T: ((T.ones(2, 3).t(), T.ones(3, 2)), {}),
]

BAD = [
    lambda T: ((T.tensor([1.0, 2.0, 3.0]), T.tensor([1.0, 2.5, 3.0])), {}),
    lambda T: ((T.tensor([[1, 2], [3, 4]]), T.tensor([[1, 2], [0, 9]])), {}),
    lambda T: ((T.tensor([1.0, 2.0]), T.tensor([0.0, 2.0])), {"rtol": 0, "atol": 0}),
    lambda T: ((T.tensor(1.0), T.tensor(2.0)), {}),
    lambda T: ((T.tensor(1), T.tensor(0)), {}),
    lambda T: ((1.0, 2.0), {}),
    lambda T: ((1, 1.0), {}),
    lambda T: ((float("nan"), float("nan")), {}),
    lambda T: ((T.ones(2), T.ones(3)), {}),
    lambda T: ((T.ones(2), T.ones(2, dtype=T.float64)), {}),
    lambda T: ((T.ones(2, 3).t(), T.ones(3, 2)), {"check_stride": True}),
    lambda T: ((None, 1), {}),
    lambda T: ((True, False), {}),
    lambda T: (([1, 2], [1, 2, 3]), {}),
    lambda T: (([T.ones(2), [T.ones(2)]], [T.ones(2), [T.zeros(2)]]), {}),
    lambda T: (({"a": 1, "b": 2}, {"a": 1, "c": 2}), {}),
    lambda T: (({"a": {"x": T.ones(1)}}, {"a": {"x": T.zeros(1)}}), {}),
    lambda T: (("a", "a"), {}),
    lambda T: ((T.ones(2), [1.0, 1.0]), {}),
    lambda T: ((T.ones(2), np.ones(2)), {}),
    lambda T: ((T.ones(2), T.ones(2)), {"rtol": 0.1}),
    lambda T: ((T.ones(2), T.zeros(2)), {"msg": "mine"}),
    lambda T: ((T.ones(2), T.zeros(2)), {"msg": lambda text: "mine: " + text}),
    lambda T: ((T.tensor([True, False]), T.tensor([True, True])), {}),
    lambda T: ((T.tensor([float("nan"), 1.0]), T.tensor([0.0, 2.0])), {}),
    lambda T: ((T.tensor([1 + 2j, 3j]), T.tensor([1 + 2j, 4j])), {}),
]


@pytest.mark.parametrize("i", range(len(GOOD)))
def test_close(i: int) -> None:
    for T in (jtorch, torch):
        args, options = GOOD[i](T)
        T.testing.assert_close(*args, **options)


@pytest.mark.parametrize("i", range(len(BAD)))
def test_not_close(i: int) -> None:
    found = []
    for T in (torch, jtorch):
        args, options = BAD[i](T)
        with pytest.raises(Exception) as caught:
            T.testing.assert_close(*args, **options)
        found.append((caught.type, str(caught.value).replace("jtorch.", "torch.")))
    assert found[0] == found[1]


def test_default_tolerances() -> None:
    for name in ("float16", "bfloat16", "float32", "float64", "int64", "bool", "complex64"):
        ours, theirs = (T.testing._comparison.default_tolerances(getattr(T, name)) if T is torch else
                        T.testing.default_tolerances(getattr(T, name)) for T in (jtorch, torch))
        assert ours == theirs


MADE: list[dict[str, Any]] = [
    {}, {"low": -1, "high": 1}, {"noncontiguous": True}, {"exclude_zero": True, "low": 0, "high": 2},
]


@pytest.mark.parametrize("options", MADE, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool", "complex64"])
def test_make_tensor(dtype: str, options: dict[str, Any]) -> None:
    """The same numbers as PyTorch's for the same seed, with the same strides."""
    if dtype in ("bool", "uint8") and options.get("low") == -1:
        options = {"low": 0, "high": 1}
    found = []
    for T in (jtorch, torch):
        T.manual_seed(2)
        t = T.testing.make_tensor((3, 4), dtype=getattr(T, dtype), device="cpu", **options)
        found.append((t.float() if dtype == "bfloat16" else t, tuple(t.stride()), t.storage_offset()))
    (a, *place), (b, *expected) = found
    assert place == expected and str(a.dtype) == str(b.dtype)
    np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-6)


WRONG: list[dict[str, Any]] = [
    {"dtype": "int64", "requires_grad": True}, {"dtype": "float32", "low": 3, "high": 1},
    {"dtype": "float32", "low": float("nan")}, {"dtype": "uint8", "low": 300, "high": 400},
]


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_make_tensor_refuses(options: dict[str, Any]) -> None:
    found = []
    for T in (torch, jtorch):
        with pytest.raises(ValueError) as caught:
            T.testing.make_tensor(3, device="cpu", **{**options, "dtype": getattr(T, options["dtype"])})
        found.append(str(caught.value))
    assert found[0] == found[1]


def test_requires_grad() -> None:
    assert jtorch.testing.make_tensor(2, 3, dtype=jtorch.float64, device="cpu", requires_grad=True).requires_grad
