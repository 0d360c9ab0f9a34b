"""Averaged models and their schedule against PyTorch's."""
from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

X = np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32)

AVERAGES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "mean": lambda swa: {},
    "mean of pairs": lambda swa: {"avg_fn": swa.get_swa_avg_fn()},
    "mean of lists": lambda swa: {"multi_avg_fn": swa.get_swa_multi_avg_fn()},
    "exponential": lambda swa: {"avg_fn": swa.get_ema_avg_fn(0.9)},
    "exponential of lists": lambda swa: {"multi_avg_fn": swa.get_ema_multi_avg_fn(0.9), "use_buffers": True},
}


def swa_of(t: Any) -> Any:
    return importlib.import_module(f"{t.__name__}.optim.swa_utils")


@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_model(name: str, monkeypatch) -> None:
    monkeypatch.setattr(jtorch.config.config, "eager_compile", "never")
    states = []
    for t in (jtorch, torch):
        swa = swa_of(t)
        t.manual_seed(0)
        model = t.nn.Sequential(t.nn.Linear(4, 3), t.nn.BatchNorm1d(3))
        averaged = swa.AveragedModel(model, **AVERAGES[name](swa))
        opt = t.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            opt.zero_grad()
            ((model(t.tensor(X)) - 1) ** 2).mean().backward()
            opt.step()
            averaged.update_parameters(model)
        before = {k: v.numpy().copy() for k, v in averaged.state_dict().items()}
        swa.update_bn([t.tensor(X[:8]), [t.tensor(X[8:])]], averaged)
        assert averaged.training
        states.append((before, {k: v.numpy() for k, v in averaged.state_dict().items()}))
    for ours, theirs in zip(*states):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert ours[key].dtype == value.dtype
            np.testing.assert_allclose(ours[key], value, rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("options", [{}, {"anneal_epochs": 5, "anneal_strategy": "linear"}, {"anneal_epochs": 0}])
def test_swalr(options: dict[str, Any]) -> None:
    rates = []
    for t in (jtorch, torch):
        parameters = [t.nn.Parameter(t.ones(2)), t.nn.Parameter(t.ones(3))]
        opt = t.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.4}], lr=0.1)
        schedule = swa_of(t).SWALR(opt, [0.01, 0.05], **options)
        seen = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(15):
                opt.step()
                schedule.step()
                seen.append(schedule.get_last_lr())
        rates.append(seen)
    np.testing.assert_allclose(*rates, rtol=1e-12)


@pytest.mark.parametrize("make", [
    lambda t: swa_of(t).get_ema_avg_fn(1.5),
    lambda t: swa_of(t).AveragedModel(t.nn.Linear(1, 1), avg_fn=len, multi_avg_fn=len),
    lambda t: swa_of(t).SWALR(t.optim.SGD([t.ones(1)], lr=1.0), 0.1, anneal_strategy="x"),
    lambda t: swa_of(t).SWALR(t.optim.SGD([t.ones(1)], lr=1.0), 0.1, anneal_epochs=-1),
])
def test_errors(make: Callable[[Any], Any]) -> None:
    texts = []
    for t in (jtorch, torch):
        with pytest.raises((ValueError, AssertionError)) as error:
            make(t)
        texts.append((type(error.value), str(error.value)))
    assert texts[0] == texts[1]
