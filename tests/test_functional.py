"""Functions and forms of calls that no sample of operations or of PyTorch's database reaches, against PyTorch."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jtorch

try:
    import torch
except ImportError:
    torch = None

with_torch = pytest.mark.skipif(torch is None, reason="compares with PyTorch")
R = np.random.default_rng(5)
X = R.standard_normal((2, 3, 9, 12)).astype(np.float32)
BYTES = R.integers(0, 256, (2, 3, 9, 12)).astype(np.uint8)


def both(function: Callable[[Any], Any]) -> tuple[np.ndarray, np.ndarray]:
    """The function's result by jtorch and by PyTorch."""
    return tuple(np.asarray(function(m).detach().numpy()) for m in (jtorch, torch))  # type: ignore[return-value]


def agree(function: Callable[[Any], Any], tolerance: float = 1e-5) -> None:
    ours, theirs = both(function)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), tolerance, tolerance)


# --- resampling ------------------------------------------------------------------------------------------------------

SIZES = [{"size": (4, 5)}, {"size": (20, 7)}, {"size": (9, 12)}, {"scale_factor": (0.4, 1.7)}]


@with_torch
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_antialiased(size: dict[str, Any], mode: str, align_corners: bool) -> None:
    attrs = {**size, "mode": mode, "align_corners": align_corners, "antialias": True}
    agree(lambda T: T.nn.functional.interpolate(T.tensor(X), **attrs))
    agree(lambda T: T.nn.functional.interpolate(T.tensor(BYTES), **attrs).int(), 1)  # its weights have 16 bits


@with_torch
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest", "nearest-exact"])
def test_resampled_bytes(mode: str) -> None:
    agree(lambda T: T.nn.functional.interpolate(T.tensor(BYTES), size=(5, 20), mode=mode).int(), 1)


def test_antialias_is_for_images() -> None:
    with pytest.raises(ValueError, match="bilinear and bicubic"):
        jtorch.nn.functional.interpolate(jtorch.ones(1, 1, 4), size=2, mode="linear", antialias=True)


# --- bags ------------------------------------------------------------------------------------------------------------

@with_torch
@pytest.mark.parametrize("padding_idx", [None, 2, -1])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(mode: str, padding_idx: int | None) -> None:
    weight = R.standard_normal((6, 4)).astype(np.float32)
    index, offsets = np.array([1, 2, 4, 5, 2, 3]), np.array([0, 2, 2, 5])  # the second bag is empty

    def gradient(T: Any) -> Any:
        w = T.tensor(weight, requires_grad=True)
        y = T.nn.functional.embedding_bag(T.tensor(index), w, T.tensor(offsets), mode=mode, padding_idx=padding_idx)
        (y * T.arange(16.0).reshape(4, 4)).sum().backward()
        return T.cat((y.detach(), w.grad))
    agree(gradient)
    agree(lambda T: T.nn.functional.embedding_bag(T.tensor(index.reshape(2, 3)), T.tensor(weight), mode=mode))


@with_torch
def test_weighted_bags() -> None:
    weight, share = R.standard_normal((6, 4)).astype(np.float32), R.standard_normal(5).astype(np.float32)
    agree(lambda T: T.nn.functional.embedding_bag(
        T.tensor([1, 2, 4, 5, 4]), T.tensor(weight), T.tensor([0, 3, 5]), mode="sum", include_last_offset=True,
        per_sample_weights=T.tensor(share)))


# --- alignments, distances, derivatives ------------------------------------------------------------------------------

@with_torch
@pytest.mark.parametrize("apart", [False, True], ids=["padded", "in one row"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_ctc_loss(reduction: str, apart: bool) -> None:
    scores, labels = R.standard_normal((8, 3, 5)), R.integers(1, 5, (3, 4))
    labels[0, :2] = 3
    sizes = [4, 2, 3]

    def run(T: Any) -> Any:
        x = T.tensor(scores, requires_grad=True)
        y = T.tensor(labels)
        if apart:
            y = T.cat([y[i, :n] for i, n in enumerate(sizes)])
        loss = T.nn.functional.ctc_loss(x.log_softmax(2), y, T.tensor([8, 7, 2]), T.tensor(sizes), reduction=reduction,
                                        zero_infinity=True)  # the last target does not fit into its 2 steps
        loss.sum().backward()
        return T.cat((loss.detach().reshape(-1), x.grad.reshape(-1)))
    agree(run, 1e-9)


@with_torch
@pytest.mark.parametrize("attrs", [{}, {"edge_order": 2}, {"spacing": 0.5}, {"dim": 1}, {"spacing": [0.5, 2.0]}],
                         ids=str)
def test_gradient(attrs: dict[str, Any]) -> None:
    agree(lambda T: T.stack(list(T.gradient(T.tensor(X[0, 0]), **attrs))))


@with_torch
@pytest.mark.parametrize("edge_order", [1, 2])
def test_gradient_of_uneven_samples(edge_order: int) -> None:
    places = np.cumsum(R.uniform(0.5, 1.5, 9)).astype(np.float32)
    agree(lambda T: T.gradient(T.tensor(X[0, 0]), spacing=[T.tensor(places)], dim=[0], edge_order=edge_order)[0])


@with_torch
def test_distances_of_many_rows() -> None:
    a, b = R.standard_normal((40, 6)), R.standard_normal((30, 6))
    agree(lambda T: T.cdist(T.tensor(a), T.tensor(b)), 1e-9)  # as a matrix product
    agree(lambda T: T.nn.functional.pdist(T.tensor(a), 1.5), 1e-9)


@with_torch
def test_output_padding_beyond_the_stride() -> None:
    w = R.standard_normal((3, 2, 2, 3)).astype(np.float32)
    agree(lambda T: T.nn.functional.conv_transpose2d(T.tensor(X), T.tensor(w), stride=(1, 2), padding=1,
                                                     output_padding=(2, 3), dilation=(3, 4)), 1e-4)


# --- the torch namespace's own forms ---------------------------------------------------------------------------------

@with_torch
@pytest.mark.parametrize("call", [
    lambda T, x, v: T.batch_norm(x, v, v, v, v * v, False, 0.1, 1e-5, True),
    lambda T, x, v: T.instance_norm(x, v, v, None, None, True, 0.1, 1e-5, True),
    lambda T, x, v: T.layer_norm(x, (12,), None, None, 1e-5, True),
    lambda T, x, v: T.group_norm(x, 3, v, v),
    lambda T, x, v: T.embedding(x[0, 0], T.tensor([1, 3])),
    lambda T, x, v: T.kl_div(x, x * x, 1),
    lambda T, x, v: T.constant_pad_nd(x, (1, 2), 3.0),
    lambda T, x, v: T.conv_tbc(x[0], T.ones(3, 12, 2), T.zeros(2), 1),
    lambda T, x, v: T.adaptive_max_pool1d(x[0], 5)[1],
    lambda T, x, v: T.grid_sampler(x, T.linspace(-1, 1, 40).reshape(2, 2, 5, 2), 0, 1, False),
    lambda T, x, v: T.triplet_margin_loss(x, x * 2, x - 1, 1.0, 2.0, 1e-6, False, 2),
    lambda T, x, v: T.dropout(x, 0.5, False),
    lambda T, x, v: T.native_layer_norm(x, (12,), None, None, 1e-5)[2],
], ids=lambda f: "-".join(f.__code__.co_names[:1]))
def test_native(call: Callable[..., Any]) -> None:
    agree(lambda T: call(T, T.tensor(X), T.tensor([0.5, 2.0, -1.0])), 1e-4)


# --- out= ------------------------------------------------------------------------------------------------------------

def test_out_has_the_dtype_of_the_result() -> None:
    x, i = jtorch.ones(2, 2), jtorch.zeros(2, 2, dtype=jtorch.int64)
    with pytest.raises(RuntimeError, match="dtype"):
        jtorch.gather(x, 0, i, out=jtorch.zeros(2, 2, dtype=jtorch.float64))
    assert jtorch.add(x, x, out=jtorch.zeros(2, 2, dtype=jtorch.float64)).tolist() == [[2, 2], [2, 2]]


def test_out_is_not_an_operand() -> None:
    x = jtorch.ones(4)
    with pytest.raises(RuntimeError, match="single memory location"):
        jtorch.cat((x, x), out=x)
    with pytest.raises(RuntimeError, match="single memory location"):
        jtorch.take(x, jtorch.tensor([1, 2]), out=x[:2])
    assert jtorch.mul(x, 3, out=x) is x and x.tolist() == [3, 3, 3, 3]


def test_out_of_several_results() -> None:
    values, places = jtorch.zeros(0), jtorch.zeros(0, dtype=jtorch.int64)
    jtorch.max(jtorch.tensor([[1.0, 5.0], [7.0, 2.0]]), 1, out=(values, places))
    assert values.tolist() == [5, 7] and places.tolist() == [1, 0]
    with pytest.raises(TypeError, match="tuple of 2"):
        jtorch.max(jtorch.ones(2, 2), 1, out=values)


def test_out_takes_no_part_in_derivatives() -> None:
    with pytest.raises(RuntimeError, match="automatic differentiation"):
        jtorch.exp(jtorch.ones(2), out=jtorch.ones(2, requires_grad=True))


def test_running_statistics_in_shared_memory() -> None:
    """Writing them flushes, between the layer's result and what the user does with it."""
    mean, variance = np.zeros(3, np.float32), np.ones(3, np.float32)
    x = jtorch.tensor(X, requires_grad=True)
    y = jtorch.nn.functional.batch_norm(x, jtorch.from_numpy(mean), jtorch.from_numpy(variance), training=True)
    (y * y).sum().backward()
    np.testing.assert_allclose(mean, 0.1 * X.mean((0, 2, 3)), 1e-4, 1e-6)
    assert x.grad is not None and x.grad.shape == x.shape


@with_torch
def test_logcumsumexp_of_complex_numbers() -> None:
    z = (X[0] + 1j * X[1]).astype(np.complex128)

    def value_and_gradient(T: Any) -> Any:
        x = T.tensor(z.tolist(), dtype=T.complex128).requires_grad_()
        y = T.logcumsumexp(x, 1)
        (y.real * y.imag).sum().backward()
        return T.view_as_real(T.stack((y.detach(), x.grad)))
    agree(value_and_gradient, 1e-10)


# --- integers ---------------------------------------------------------------------------------------------------------

@with_torch
@pytest.mark.parametrize("call", [
    lambda T, u: u * -1, lambda T, u: u + 300, lambda T, u: T.add(u, u, alpha=-1), lambda T, u: u == -1,
    lambda T, u: u.masked_fill(u > 5, -1), lambda T, u: T.where(u > 5, -1, u),
    lambda T, u: T.full((2,), -1, dtype=u.dtype),
    lambda T, u: u.index_fill(0, T.tensor([0]), -2), lambda T, u: T.index_add(u, 0, T.tensor([0]), u[:1], alpha=-1),
    lambda T, u: T.tensor([-1, 7], dtype=u.dtype), lambda T, u: T.full((2,), 300, dtype=u.dtype),
    lambda T, u: T.tensor([1, 300], dtype=u.dtype), lambda T, u: T.tensor(300, dtype=u.dtype),
    lambda T, u: T.tensor([1.5, 300.7], dtype=u.dtype), lambda T, u: T.tensor([1 << 40], dtype=T.int32),
    lambda T, u: u.reshape(1, 3).sum_to_size(1, 1), lambda T, u: T.histc(u.half(), 4),
    lambda T, u: T.cov(u.half(), aweights=T.tensor([0.5, 1.0, 0.5]), correction=0)])
def test_narrow_integers_wrap(call: Any) -> None:
    """As C converts them; numbers that a new tensor cannot hold are refused."""
    found = []
    for T in (torch, jtorch):
        try:
            y = call(T, T.tensor([3, 200, 255], dtype=T.uint8))
            found.append((str(y.dtype), y.tolist()))
        except RuntimeError as error:
            found.append("without overflow" in str(error))
    if isinstance(found[0], tuple):
        assert found[0][0] == found[1][0]
        np.testing.assert_allclose(np.array(found[1][1]), np.array(found[0][1]), rtol=1e-6)
    else:
        assert found[0] is found[1]


@with_torch
@pytest.mark.parametrize("channels", [3, 24])
def test_what_follows_a_resampling_is_computed_with_it(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jtorch.config.config, "eager_compile", "sync")
    monkeypatch.setattr(jtorch.config.config, "compile_after", 1)
    x = R.standard_normal((2, channels, 9, 7)).astype(np.float32)
    bias = R.standard_normal((channels, 1, 1)).astype(np.float32)
    grid = R.uniform(-1.1, 1.1, (2, 3, 70, 2)).astype(np.float32)

    def at(T: Any, places: int) -> Any:
        y = T.nn.functional.grid_sample(T.tensor(x), T.tensor(grid[:, :, :places]), align_corners=False)
        return T.relu(y + T.tensor(bias))

    agree(lambda T: at(T, 2))
    agree(lambda T: at(T, 70))
    agree(lambda T: T.nn.functional.interpolate(T.tensor(x), scale_factor=2, mode="bilinear") * 2 + T.tensor(bias))
