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
    ((2, 3, 5, 6), (-1, 2, 1, -2)), ((2, 3, 4, 5, 6), (1, 2, 3, 1, 0, 3)), ((1, 20000), (7, 3))])
def test_pad(mode: str, shape: tuple, widths: tuple) -> None:
    same(lambda t, x: t.nn.functional.pad(x, widths, mode=mode), normal(*shape))


@pytest.mark.parametrize("mode, padding, align, spatial", [
    ("nearest", "reflection", False, (7, 5)), ("bilinear", "border", True, (7, 5)), ("bicubic", "zeros", False, (7, 5)),
    ("bilinear", "reflection", True, (3, 4, 5))])
def test_grid_sample(mode: str, padding: str, align: bool, spatial: tuple) -> None:
    grid = np.random.default_rng(2).uniform(-1.4, 1.4, (2, *spatial, len(spatial))).astype(np.float32)
    same(lambda t, x, g: t.nn.functional.grid_sample(x, g, mode, padding, align) + 0 * g.sum(),
         normal(2, 3, *spatial), grid, atol=1e-4)


def test_grid_sample_of_places_that_are_no_numbers() -> None:
    x = jtorch.arange(12.0).reshape(1, 1, 3, 4)
    grid = jtorch.tensor([[[[float("nan"), 0.0], [float("inf"), 0.0], [1e30, 1e30], [-1.0, -1.0]]]])
    for padding in ("border", "zeros"):
        expected = torch.nn.functional.grid_sample(torch.from_numpy(x.numpy()), torch.from_numpy(grid.numpy()),
                                                   mode="nearest", padding_mode=padding, align_corners=True)
        for _ in range(2):
            y = jtorch.nn.functional.grid_sample(x, grid, mode="nearest", padding_mode=padding, align_corners=True)
            np.testing.assert_array_equal(y.numpy(), expected.numpy())


@pytest.mark.parametrize("shape, call", [
    ((2, 3, 50), {"size": 7, "mode": "linear", "align_corners": True}),
    ((2, 3, 5, 6), {"scale_factor": (1.7, 0.6), "mode": "bicubic"}),
    ((2, 3, 100, 7), {"size": (3, 9), "mode": "bicubic", "antialias": True}),
    ((1, 2, 3, 4, 5), {"size": (5, 2, 9), "mode": "trilinear"})])
def test_interpolate(shape: tuple, call: dict) -> None:
    same(lambda t, x: t.nn.functional.interpolate(x, **call), normal(*shape))


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("most", [0, 1, 5, 9])
def test_multilabel_margin_loss(most: int, traced: bool) -> None:
    """However many labels a row has; what follows its first negative number does not count."""
    chooser = np.random.default_rng(most)
    target = np.full((6, 9), -1)
    for row in target:
        n = chooser.integers(0, most + 1)
        row[:n] = chooser.permutation(9)[:n]
        row[n + 1:] = 3

    def loss(t: Any, x: Any) -> Any:
        return t.nn.functional.multilabel_margin_loss(x, t.tensor(target), reduction="none")
    if traced:
        compiled = jtorch.jit.trace(lambda x: loss(jtorch, x))
        same(lambda t, x: compiled(x) if t is jtorch else loss(t, x), normal(6, 9))
    else:
        same(loss, normal(6, 9))


@pytest.mark.parametrize("d", ["int8", "uint8", "int64", "bool"])
@pytest.mark.parametrize("name", """relu relu6 hardtanh threshold softsign tanhshrink hardswish hardsigmoid elu
    leaky_relu softplus mish silu gelu logsigmoid softshrink hardshrink celu selu mse_loss l1_loss smooth_l1_loss
    huber_loss kl_div soft_margin_loss hinge_embedding_loss binary_cross_entropy binary_cross_entropy_with_logits
    multilabel_soft_margin_loss layer_norm rms_norm cross_entropy poisson_nll_loss pairwise_distance glu normalize
    adaptive_avg_pool1d adaptive_max_pool1d avg_pool1d""".split())
def test_integers(name: str, d: str) -> None:
    """Of the same dtype and values, or refused with the same kind of error."""
    more: Any = {"layer_norm": ((3,),), "rms_norm": ((3,),), "adaptive_avg_pool1d": (2,), "adaptive_max_pool1d": (2,),
                 "avg_pool1d": (2,), "max_pool1d": (2,), "hardtanh": (-1.7, 2.9), "threshold": (1.5, 9.7)}.get(name, ())
    found = []
    for module in (torch, jtorch):
        x = module.tensor([[[3, 1, 0, 2]], [[7, 100, 5, 0]]], dtype=getattr(module, d))
        if "pool" not in name and name != "glu":
            x = x[..., :3]
        if name == "pairwise_distance" and d == "uint8":
            x = x[:1]  # PyTorch's differences wrap
        if name == "cross_entropy":
            x, more = x[:, 0], (module.tensor([0, 1]),)
        elif name.endswith("_loss") or "entropy" in name or name in ("kl_div", "pairwise_distance"):
            more = (x.flip(0),)
        try:
            y = getattr(module.nn.functional, name)(x, *more)
            found.append((str(y.dtype), y.tolist()))
        except RuntimeError as error:
            found.append(type(error))
    if isinstance(found[0], type):
        assert isinstance(found[1], type) and issubclass(found[1], RuntimeError), found
    else:
        assert found[0][0] == found[1][0]
        np.testing.assert_allclose(np.array(found[1][1]), np.array(found[0][1]), rtol=1e-5)


@pytest.mark.parametrize("tier", ["never", "sync"])
def test_embeddings_refuse_rows_that_are_not_there(tier, monkeypatch):
    """Also a negative number: it does not count from the end."""
    monkeypatch.setattr(jtorch.config.config, "eager_compile", tier)
    monkeypatch.setattr(jtorch.config.config, "compile_after", 1)
    functional, table = jtorch.nn.functional, jtorch.ones(3, 2)
    for number in (-1, 3):
        for look_up in (lambda i: functional.embedding(i, table), lambda i: functional.embedding_bag(i, table),
                        lambda i: functional.embedding_bag(i, table, mode="max"),
                        lambda i: functional.embedding_bag(i[0], table, jtorch.tensor([0]))):
            with pytest.raises(IndexError):
                look_up(jtorch.tensor([[0, number]])).tolist()
    assert functional.embedding(jtorch.tensor([2]), table).tolist() == [[1, 1]]
