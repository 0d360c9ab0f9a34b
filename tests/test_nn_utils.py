"""Tools around modules against PyTorch's: parametrizations, older normalisations, pruning, calls with other tensors."""
from __future__ import annotations

import copy
import importlib
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

IMAGES = np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)
ROWS = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)


def tool(t: Any, name: str) -> Any:
    return importlib.import_module(f"{t.__name__}.nn.utils.{name}")


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """What is compiled here is compiled elsewhere too."""
    monkeypatch.setattr(jtorch.config.config, "eager_compile", "never")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the older forms are deprecated
        yield


def described(t: Any, module: Any, x: np.ndarray) -> list[Any]:
    """All that can be seen of a module: printing, keys, two training forwards, gradients, evaluation."""
    x = t.tensor(x)
    seen: list[Any] = [repr(module), list(module.state_dict()), [n for n, _ in module.named_parameters()]]
    for _ in range(2):
        y = module(x)
        y.sum().backward()
        seen.append(y.detach().numpy())
    seen += [p.grad.numpy() for p in module.parameters()]
    module.eval()
    return [*seen, module(x).detach().numpy()]


def compare(run: Callable[[Any], list[Any]]) -> None:
    found = []
    for t in (jtorch, torch):
        t.manual_seed(3)
        found.append(run(t))
    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found):
        if isinstance(theirs, np.ndarray):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        else:
            assert ours == theirs


LAYERS: dict[str, Callable[[Any], Any]] = {
    "Linear": lambda t: t.nn.Linear(6, 4), "Conv2d": lambda t: t.nn.Conv2d(3, 5, 3),
    "ConvTranspose2d": lambda t: t.nn.ConvTranspose2d(3, 5, 3)}
NORMS: dict[str, Callable[[Any, Any], Any]] = {
    "weight_norm": lambda t, m: tool(t, "parametrizations").weight_norm(m),
    "weight_norm whole": lambda t, m: tool(t, "parametrizations").weight_norm(m, dim=None),
    "spectral_norm": lambda t, m: tool(t, "parametrizations").spectral_norm(m, n_power_iterations=2),
    "older weight_norm": lambda t, m: t.nn.utils.weight_norm(m, dim=1),
    "older spectral_norm": lambda t, m: t.nn.utils.spectral_norm(m),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("norm", NORMS)
def test_norms(norm: str, layer: str) -> None:
    compare(lambda t: described(t, NORMS[norm](t, LAYERS[layer](t)), ROWS if layer == "Linear" else IMAGES))


@pytest.mark.parametrize("kind", ["weight", "spectral"])
def test_older_norms_are_taken_off(kind: str) -> None:
    def run(t: Any) -> list[Any]:
        module = getattr(t.nn.utils, f"{kind}_norm")(t.nn.Linear(6, 4))
        return described(t, getattr(t.nn.utils, f"remove_{kind}_norm")(module), ROWS)
    compare(run)


def test_weight_norm_reads_older_checkpoints() -> None:
    def run(t: Any) -> list[Any]:
        old = t.nn.utils.weight_norm(t.nn.Linear(6, 4)).state_dict()
        module = tool(t, "parametrizations").weight_norm(t.nn.Linear(6, 4))
        return [str(module.load_state_dict(old)), *described(t, module, ROWS)]
    compare(run)


def parametrized(t: Any) -> tuple[Any, Any]:
    class Symmetric(t.nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).transpose(-1, -2)

        def right_inverse(self, a):
            return a.triu()

    class Scaled(t.nn.Module):
        def forward(self, size, direction):
            return size * direction

        def right_inverse(self, w):
            return w.norm(), w / w.norm()
    return Symmetric(), Scaled()


def test_parametrize() -> None:
    def run(t: Any) -> list[Any]:
        p = tool(t, "parametrize")
        symmetric, scaled = parametrized(t)
        module = t.nn.Linear(6, 6)
        p.register_parametrization(module, "weight", symmetric)
        p.register_parametrization(module, "bias", scaled)
        seen = described(t, module, ROWS)
        seen += [p.is_parametrized(module), p.is_parametrized(module, "bias"), p.type_before_parametrizations(module) is
                 t.nn.Linear]
        other = p.transfer_parametrizations_and_params(module, t.nn.Linear(6, 6))
        seen += [other.weight.detach().numpy(), list(other.state_dict())]
        with p.cached():
            seen.append(module.weight is module.weight)
        module.weight = t.ones(6, 6)
        seen.append(module.weight.detach().numpy())
        p.remove_parametrizations(module, "weight", leave_parametrized=False)
        seen += described(t, module, ROWS)
        p.remove_parametrizations(module, "bias")
        return seen + described(t, module, ROWS) + [type(module).__name__]
    compare(run)


@pytest.mark.parametrize("trivial", [True, False])
@pytest.mark.parametrize("form", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
def test_orthogonal(shape: tuple[int, int], form: str, trivial: bool) -> None:
    square = shape[0] == shape[1]

    def run(t: Any) -> list[Any]:
        module = t.nn.Linear(*shape).double()
        tool(t, "parametrizations").orthogonal(module, orthogonal_map=form, use_trivialization=trivial)
        opt = t.optim.SGD(module.parameters(), lr=0.1)
        seen: list[Any] = [repr(module), list(module.state_dict())]
        for _ in range(2):
            opt.zero_grad()
            (module(t.ones(2, shape[0], dtype=t.float64)) ** 2 * t.arange(1, shape[1] + 1)).sum().backward()
            opt.step()
            w = module.weight.detach()
            if square or not trivial:  # otherwise the missing columns are drawn, and chosen by a factorization
                seen += [w.numpy(), module.parametrizations.weight.original.grad.numpy()]
            w = w.mT if shape[0] > shape[1] else w
            np.testing.assert_allclose((w.mT @ w).numpy(), np.eye(w.shape[1]), atol=1e-10)
        if trivial or form == "householder":
            module.weight = t.nn.init.orthogonal_(t.empty(shape[1], shape[0], dtype=t.float64))
            seen.append(module.weight.detach().numpy())
        return seen
    compare(run)


def test_parametrized_copies_are_independent() -> None:
    p = tool(jtorch, "parametrize")
    module = jtorch.nn.Linear(6, 6)
    p.register_parametrization(module, "weight", parametrized(jtorch)[0])
    replica = copy.deepcopy(module)
    p.remove_parametrizations(module, "weight")
    np.testing.assert_array_equal(replica.weight.detach().numpy(), module.weight.detach().numpy())
    with jtorch.no_grad():
        module.weight.zero_()
    assert replica.weight.abs().sum() > 0
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(replica)


PRUNED: dict[str, Callable[[Any, Any], Any]] = {
    "l1": lambda pr, m: pr.l1_unstructured(m, "weight", 0.3),
    "l1 by importance": lambda pr, m: pr.l1_unstructured(
        m, "weight", 7, importance_scores=m.weight.detach().neg().exp()),
    "random": lambda pr, m: pr.random_unstructured(m, "weight", 5),
    "ln": lambda pr, m: pr.ln_structured(m, "weight", 2, 2, 0),
    "random channels": lambda pr, m: pr.random_structured(m, "weight", 0.4, 1),
    "identity": lambda pr, m: pr.identity(m, "weight"),
    "mask": lambda pr, m: pr.custom_from_mask(m, "weight", (m.weight > 0).float()),
    "one after another": lambda pr, m: pr.l1_unstructured(
        pr.ln_structured(pr.random_unstructured(m, "weight", 0.2), "weight", 0.5, 1, -1), "weight", 3),
    "global": lambda pr, m: (pr.global_unstructured([(m, "weight"), (m, "bias")], pr.L1Unstructured, amount=0.4), m)[1],
}


@pytest.mark.parametrize("name", PRUNED)
def test_prune(name: str) -> None:
    def run(t: Any) -> list[Any]:
        prune = tool(t, "prune")
        module = PRUNED[name](prune, t.nn.Linear(6, 4))
        seen = [*described(t, module, ROWS), prune.is_pruned(module)]
        prune.remove(module, "weight")
        return [*seen, *described(t, module, ROWS)]
    compare(run)


def _with_module(t: Any, f: Callable[[Any, Any], Any]) -> Any:
    return f(t, t.nn.Linear(6, 4))


def _bad(t: Any, change: Callable[[Any], Any]) -> Any:
    return type("Bad", (t.nn.Module,), {"forward": lambda self, x: change(x)})()


ERRORS: dict[str, Callable[[Any, Any], Any]] = {
    "prune: not pruned": lambda t, m: tool(t, "prune").remove(m, "weight"),
    "prune: fraction": lambda t, m: tool(t, "prune").l1_unstructured(m, "weight", 1.5),
    "prune: type": lambda t, m: tool(t, "prune").l1_unstructured(m, "weight", "x"),
    "prune: vector": lambda t, m: tool(t, "prune").ln_structured(m, "bias", 1, 1, 0),
    "prune: too many": lambda t, m: tool(t, "prune").random_unstructured(m, "weight", 1000),
    "weight_norm: not there": lambda t, m: t.nn.utils.remove_weight_norm(m),
    "spectral_norm: not there": lambda t, m: t.nn.utils.remove_spectral_norm(m),
    "weight_norm: twice": lambda t, m: t.nn.utils.weight_norm(t.nn.utils.weight_norm(m)),
    "spectral_norm: iterations": lambda t, m: t.nn.utils.spectral_norm(m, n_power_iterations=0),
    "spectral_norm: name": lambda t, m: tool(t, "parametrizations").spectral_norm(m, "nope"),
    "orthogonal: vector": lambda t, m: tool(t, "parametrizations").orthogonal(m, "bias"),
    "orthogonal: map": lambda t, m: tool(t, "parametrizations").orthogonal(m, "weight", "x"),
    "parametrize: name": lambda t, m: tool(t, "parametrize").register_parametrization(m, "nope", t.nn.ReLU()),
    "parametrize: dtype": lambda t, m: tool(t, "parametrize").register_parametrization(
        m, "weight", _bad(t, lambda x: x.double())),
    "parametrize: shape": lambda t, m: tool(t, "parametrize").register_parametrization(
        m, "weight", _bad(t, lambda x: x[:1])),
    "parametrize: no tensor": lambda t, m: tool(t, "parametrize").register_parametrization(
        m, "weight", _bad(t, lambda x: 1)),
    "parametrize: not there": lambda t, m: tool(t, "parametrize").remove_parametrizations(m, "weight"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    texts = []
    for t in (jtorch, torch):
        with pytest.raises((RuntimeError, ValueError, TypeError)) as error:
            _with_module(t, ERRORS[name])
        texts.append((type(error.value), str(error.value)))
    assert texts[0] == texts[1]


def test_skip_init_draws_nothing() -> None:
    compare(lambda t: [list(t.nn.utils.skip_init(t.nn.Linear, 3, 4).state_dict()), t.rand(3).numpy()])


def test_functional_call() -> None:
    def run(t: Any) -> list[Any]:
        call = tool(t, "stateless").functional_call
        module = t.nn.Sequential(t.nn.Linear(6, 6), t.nn.BatchNorm1d(6))
        module[0].bias = module[1].bias  # tied
        w = t.full((6, 6), 0.5, requires_grad=True)
        mean = t.zeros(6)
        y = call(module, {"0.weight": w, "1.running_mean": mean, "1.bias": t.ones(6)}, t.tensor(ROWS))
        (y * t.tensor(ROWS)).sum().backward()
        return [y.detach().numpy(), w.grad.numpy(), mean.numpy(), module[1].running_mean.numpy(),
                module[0].weight.grad is None]
    compare(run)
    with pytest.raises(RuntimeError, match="Missing key"):
        tool(jtorch, "stateless").functional_call(jtorch.nn.Linear(2, 2), {}, jtorch.ones(1, 2), strict=True)
