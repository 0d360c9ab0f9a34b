"""Layers against PyTorch's, with the same seed: initial weights, printing, state_dict keys, outputs and gradients."""
from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import jtorch
from jtorch import nn

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

F32 = np.float32


def floats(*shape: int, seed: int = 0, positive: bool = False) -> np.ndarray:
    a = np.random.default_rng(seed).standard_normal(shape).astype(F32)
    return np.abs(a) + F32(0.1) if positive else a


def ints(high: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape)


X2, X3, X4, X5 = floats(4, 6), floats(3, 4, 8), floats(2, 4, 8, 8), floats(2, 4, 5, 6, 6)

# name -> (constructor of either library, inputs)
LAYERS = {
    "AdaptiveLogSoftmaxWithLoss": (lambda n: n.AdaptiveLogSoftmaxWithLoss(16, 50, [10, 20, 35], div_value=2.0),
                                   [floats(12, 16), ints(50, 12)]),
    "AdaptiveLogSoftmaxWithLoss one": (lambda n: n.AdaptiveLogSoftmaxWithLoss(8, 9, [2, 5], head_bias=True),
                                       [floats(8), np.asarray(3)]),
    "Identity": (lambda n: n.Identity(), [X2]),
    "Linear": (lambda n: n.Linear(6, 3), [X2]),
    "Linear 3d no bias": (lambda n: n.Linear(8, 3, bias=False), [X3]),
    "Bilinear": (lambda n: n.Bilinear(6, 5, 3), [X2, floats(4, 5, seed=1)]),
    "Conv1d": (lambda n: n.Conv1d(4, 6, 3, padding=1, stride=2), [X3]),
    "Conv2d": (lambda n: n.Conv2d(4, 6, 3), [X4]),
    "Conv2d groups": (
        lambda n: n.Conv2d(4, 8, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2), groups=2, bias=False),
        [X4],
    ),
    "Conv2d same": (lambda n: n.Conv2d(4, 6, 4, padding="same"), [X4]),
    "Conv2d reflect": (lambda n: n.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), [X4]),
    "Conv2d circular": (lambda n: n.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="circular"), [X4]),
    "Conv2d unbatched": (lambda n: n.Conv2d(4, 6, 3), [floats(4, 8, 8)]),
    "Conv3d": (lambda n: n.Conv3d(4, 3, 3, padding=1), [X5]),
    "ConvTranspose1d": (lambda n: n.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1), [X3]),
    "ConvTranspose2d": (lambda n: n.ConvTranspose2d(4, 6, 3, stride=2, groups=2, dilation=2), [X4]),
    "ConvTranspose3d": (lambda n: n.ConvTranspose3d(4, 2, 2), [X5]),
    "BatchNorm1d": (lambda n: n.BatchNorm1d(6), [X2]),
    "BatchNorm1d sequences": (lambda n: n.BatchNorm1d(4, momentum=None), [X3]),
    "BatchNorm2d": (lambda n: n.BatchNorm2d(4), [X4]),
    "BatchNorm2d plain": (lambda n: n.BatchNorm2d(4, affine=False, track_running_stats=False), [X4]),
    "BatchNorm3d": (lambda n: n.BatchNorm3d(4), [X5]),
    "InstanceNorm1d": (lambda n: n.InstanceNorm1d(4), [X3]),
    "InstanceNorm2d": (lambda n: n.InstanceNorm2d(4, affine=True, track_running_stats=True), [X4]),
    "LayerNorm": (lambda n: n.LayerNorm(8), [X3]),
    "LayerNorm 2 axes": (lambda n: n.LayerNorm((8, 8), bias=False), [X4]),
    "LayerNorm plain": (lambda n: n.LayerNorm(8, elementwise_affine=False), [X3]),
    "RMSNorm": (lambda n: n.RMSNorm(8), [X3]),
    "GroupNorm": (lambda n: n.GroupNorm(2, 4), [X4]),
    "LocalResponseNorm": (lambda n: n.LocalResponseNorm(3), [X4]),
    "Embedding": (lambda n: n.Embedding(10, 5), [ints(10, 3, 4)]),
    "Embedding padding": (lambda n: n.Embedding(10, 5, padding_idx=-1), [ints(10, 3, 4)]),
    "Flatten": (lambda n: n.Flatten(), [X4]),
    "Unflatten": (lambda n: n.Unflatten(1, (2, 3)), [X2]),
    "MaxPool1d": (lambda n: n.MaxPool1d(2), [X3]),
    "MaxPool2d": (lambda n: n.MaxPool2d(3, stride=2, padding=1), [X4]),
    "MaxPool2d ceil": (lambda n: n.MaxPool2d((3, 2), ceil_mode=True, dilation=(1, 2)), [X4]),
    "MaxPool3d": (lambda n: n.MaxPool3d(2), [X5]),
    "AvgPool1d": (lambda n: n.AvgPool1d(3, padding=1), [X3]),
    "AvgPool2d": (lambda n: n.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), [X4]),
    "AvgPool3d": (lambda n: n.AvgPool3d(2), [X5]),
    "LPPool2d": (lambda n: n.LPPool2d(2, 3), [X4]),
    "AdaptiveAvgPool1d": (lambda n: n.AdaptiveAvgPool1d(3), [X3]),
    "AdaptiveAvgPool2d": (lambda n: n.AdaptiveAvgPool2d((4, None)), [X4]),
    "AdaptiveAvgPool2d 1": (lambda n: n.AdaptiveAvgPool2d(1), [X4]),
    "AdaptiveMaxPool2d": (lambda n: n.AdaptiveMaxPool2d((3, 5)), [X4]),
    "ConstantPad2d": (lambda n: n.ConstantPad2d((1, 2, 0, -1), 3.5), [X4]),
    "ZeroPad2d": (lambda n: n.ZeroPad2d(2), [X4]),
    "ReflectionPad1d": (lambda n: n.ReflectionPad1d(2), [X3]),
    "ReflectionPad2d": (lambda n: n.ReflectionPad2d((1, 2, 3, 0)), [X4]),
    "ReplicationPad2d": (lambda n: n.ReplicationPad2d(2), [X4]),
    "CircularPad2d": (lambda n: n.CircularPad2d((1, 2, 1, 1)), [X4]),
    "PixelShuffle": (lambda n: n.PixelShuffle(2), [X4]),
    "PixelUnshuffle": (lambda n: n.PixelUnshuffle(2), [X4]),
    "ChannelShuffle": (lambda n: n.ChannelShuffle(2), [X4]),
    "Unfold": (lambda n: n.Unfold((2, 3), stride=2, padding=1), [X4]),
    "Fold": (lambda n: n.Fold((5, 5), 2, stride=1), [floats(2, 12, 16)]),
    "Upsample nearest": (lambda n: n.Upsample(scale_factor=2), [X4]),
    "Upsample bilinear": (lambda n: n.Upsample(size=(5, 11), mode="bilinear"), [X4]),
    "Upsample bicubic": (lambda n: n.Upsample(scale_factor=1.7, mode="bicubic", align_corners=True), [X4]),
    "Upsample linear": (lambda n: n.Upsample(size=5, mode="linear"), [X3]),
    "UpsamplingBilinear2d": (lambda n: n.UpsamplingBilinear2d(scale_factor=2), [X4]),
    "PairwiseDistance": (lambda n: n.PairwiseDistance(), [X2, floats(4, 6, seed=1)]),
    "CosineSimilarity": (lambda n: n.CosineSimilarity(), [X2, floats(4, 6, seed=1)]),
    "RNN": (lambda n: n.RNN(8, 5, 2), [X3]),
    "RNN relu": (lambda n: n.RNN(8, 5, nonlinearity="relu", bias=False), [X3]),
    "LSTM": (lambda n: n.LSTM(8, 5), [X3]),
    "LSTM stacked": (lambda n: n.LSTM(8, 5, num_layers=2, batch_first=True, bidirectional=True), [X3]),
    "LSTM projected": (lambda n: n.LSTM(8, 5, proj_size=3), [X3]),
    "GRU": (lambda n: n.GRU(8, 5, 2, bidirectional=True), [X3]),
    "LSTMCell": (lambda n: n.LSTMCell(6, 5), [X2]),
    "GRUCell": (lambda n: n.GRUCell(6, 5), [X2]),
    "RNNCell": (lambda n: n.RNNCell(6, 5), [X2]),
    "MultiheadAttention": (lambda n: n.MultiheadAttention(8, 2), [X3, X3 + 1, X3 - 1]),
    "MultiheadAttention kdim": (
        lambda n: n.MultiheadAttention(8, 2, kdim=6, vdim=5, batch_first=True, add_bias_kv=True),
        [X3, floats(3, 7, 6), floats(3, 7, 5)],
    ),
    "TransformerEncoderLayer": (lambda n: n.TransformerEncoderLayer(8, 2, 16, dropout=0.0), [X3]),
    "TransformerEncoder": (
        lambda n: n.TransformerEncoder(
            n.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True),
            2,
            n.LayerNorm(8),
            enable_nested_tensor=False,
        ),
        [X3],
    ),
    "TransformerDecoderLayer": (lambda n: n.TransformerDecoderLayer(8, 2, 16, dropout=0.0), [X3, X3 + 1]),
    "Transformer": (lambda n: n.Transformer(8, 2, 1, 1, 16, dropout=0.0), [X3, X3 + 1]),
    "Sequential": (lambda n: n.Sequential(n.Linear(6, 4), n.Tanh(), n.Sequential(n.Linear(4, 2), n.ReLU())), [X2]),
}
for _name in (
    "ReLU",
    "ReLU6",
    "SiLU",
    "Mish",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Sigmoid",
    "Tanh",
    "LogSigmoid",
    "Tanhshrink",
    "Softsign",
    "Hardtanh",
    "ELU",
    "CELU",
    "LeakyReLU",
    "GELU",
    "GLU",
    "Hardshrink",
    "Softshrink",
    "Softplus",
    "PReLU",
):
    LAYERS[_name] = (lambda n, name=_name: getattr(n, name)(), [X2])
LAYERS["EmbeddingBag"] = (lambda n: n.EmbeddingBag(10, 5), [ints(10, 3, 4)])
LAYERS["EmbeddingBag sum"] = (
    lambda n: n.EmbeddingBag(10, 5, mode="sum", padding_idx=2), [ints(10, 9), np.array([0, 4, 4])])
LAYERS["EmbeddingBag max"] = (lambda n: n.EmbeddingBag(10, 5, mode="max"), [ints(10, 3, 4)])
LAYERS["Embedding by frequency"] = (lambda n: n.Embedding(10, 5, scale_grad_by_freq=True), [ints(10, 3, 4)])
LAYERS["DataParallel"] = (lambda n: n.DataParallel(n.Linear(6, 3)), [X2])
LAYERS["GELU tanh"] = (lambda n: n.GELU(approximate="tanh"), [X2])
LAYERS["Threshold"] = (lambda n: n.Threshold(0.1, 20), [X2])
LAYERS["RReLU"] = (lambda n: n.RReLU().eval(), [X2])
LAYERS["Softmax"] = (lambda n: n.Softmax(dim=1), [X2])
LAYERS["LogSoftmax"] = (lambda n: n.LogSoftmax(dim=-1), [X3])
LAYERS["Softmin"] = (lambda n: n.Softmin(dim=0), [X2])
LAYERS["Softmax2d"] = (lambda n: n.Softmax2d(), [X4])
LAYERS["ReLU inplace"] = (lambda n: n.Sequential(n.Linear(6, 4), n.ReLU(inplace=True)), [X2])

LAYERS |= {
    "AdaptiveAvgPool3d": (lambda n: n.AdaptiveAvgPool3d((2, None, 3)), [X5]),
    "AdaptiveMaxPool1d": (lambda n: n.AdaptiveMaxPool1d(3), [X3]),
    "AdaptiveMaxPool3d": (lambda n: n.AdaptiveMaxPool3d(2), [X5]),
    "CircularPad1d": (lambda n: n.CircularPad1d((1, 2)), [X3]),
    "CircularPad3d": (lambda n: n.CircularPad3d(1), [X5]),
    "ConstantPad1d": (lambda n: n.ConstantPad1d((2, -1), 0.5), [X3]),
    "ConstantPad3d": (lambda n: n.ConstantPad3d(1, 2.0), [X5]),
    "InstanceNorm3d": (lambda n: n.InstanceNorm3d(4), [X5]),
    "LPPool1d": (lambda n: n.LPPool1d(2, 3), [X3]),
    "LPPool3d": (lambda n: n.LPPool3d(2, 2), [X5]),
    "MaxUnpool1d": (lambda n: n.MaxUnpool1d(2), [floats(2, 3, 4), ints(4, 2, 3, 4) // 2 + 2 * np.arange(4)]),
    "MaxUnpool2d": (lambda n: n.MaxUnpool2d(2), [floats(1, 1, 2, 2), np.array([[[[0, 3], [9, 14]]]])]),
    "MaxUnpool3d": (lambda n: n.MaxUnpool3d(2), [floats(1, 1, 1, 1, 2), np.array([[[[[5, 11]]]]])]),
    "ReflectionPad3d": (lambda n: n.ReflectionPad3d(1), [X5]),
    "ReplicationPad1d": (lambda n: n.ReplicationPad1d((3, 1)), [X3]),
    "ReplicationPad3d": (lambda n: n.ReplicationPad3d(1), [X5]),
    "SyncBatchNorm": (lambda n: n.SyncBatchNorm(4).eval(), [X4]),
    "TransformerDecoder": (
        lambda n: n.TransformerDecoder(n.TransformerDecoderLayer(8, 2, 16, 0.0), 2, n.LayerNorm(8)), [X3, X3 + 1]),
    "UpsamplingNearest2d": (lambda n: n.UpsamplingNearest2d(size=(5, 11)), [X4]),
    "ZeroPad1d": (lambda n: n.ZeroPad1d(2), [X3]),
    "ZeroPad3d": (lambda n: n.ZeroPad3d((1, 0, 2, 1, 0, 1)), [X5]),
}

P = floats(4, 6, positive=True)
UNIT = (1 / (1 + np.exp(-floats(4, 6, seed=3)))).astype(F32)
SIGNS = np.where(floats(4, seed=5) > 0, 1, -1).astype(F32)
LOSSES = {
    "L1Loss": (lambda n: n.L1Loss(), [X2, floats(4, 6, seed=1)]),
    "MSELoss": (lambda n: n.MSELoss(), [X2, floats(4, 6, seed=1)]),
    "MSELoss sum": (lambda n: n.MSELoss(reduction="sum"), [X2, floats(4, 6, seed=1)]),
    "SmoothL1Loss": (lambda n: n.SmoothL1Loss(beta=0.5), [X2, floats(4, 6, seed=1)]),
    "HuberLoss": (lambda n: n.HuberLoss(), [X2, floats(4, 6, seed=1)]),
    "CrossEntropyLoss": (lambda n: n.CrossEntropyLoss(), [X2, ints(6, 4)]),
    "CrossEntropyLoss smooth": (lambda n: n.CrossEntropyLoss(label_smoothing=0.1, ignore_index=2), [X2, ints(6, 4)]),
    "CrossEntropyLoss images": (lambda n: n.CrossEntropyLoss(reduction="none"), [X4, ints(4, 2, 8, 8)]),
    "CrossEntropyLoss soft": (lambda n: n.CrossEntropyLoss(), [X2, UNIT]),
    "NLLLoss": (lambda n: n.NLLLoss(), [X2, ints(6, 4)]),
    "BCELoss": (lambda n: n.BCELoss(), [UNIT, (X2 > 0).astype(F32)]),
    "BCEWithLogitsLoss": (lambda n: n.BCEWithLogitsLoss(), [X2, UNIT]),
    "KLDivLoss": (lambda n: n.KLDivLoss(reduction="batchmean"), [X2, UNIT]),
    "PoissonNLLLoss": (lambda n: n.PoissonNLLLoss(full=True), [X2, P]),
    "GaussianNLLLoss": (lambda n: n.GaussianNLLLoss(), [X2, floats(4, 6, seed=1), P]),
    "HingeEmbeddingLoss": (lambda n: n.HingeEmbeddingLoss(), [X2, np.sign(floats(4, 6, seed=1))]),
    "SoftMarginLoss": (lambda n: n.SoftMarginLoss(), [X2, np.sign(floats(4, 6, seed=1))]),
    "MultiLabelSoftMarginLoss": (lambda n: n.MultiLabelSoftMarginLoss(), [X2, (X2 > 0).astype(F32)]),
    "MultiMarginLoss": (lambda n: n.MultiMarginLoss(), [X2, ints(6, 4)]),
    "MarginRankingLoss": (lambda n: n.MarginRankingLoss(0.3), [floats(4), floats(4, seed=1), SIGNS]),
    "CosineEmbeddingLoss": (lambda n: n.CosineEmbeddingLoss(), [X2, floats(4, 6, seed=1), SIGNS]),
    "MultiLabelMarginLoss": (lambda n: n.MultiLabelMarginLoss(), [X2, np.array([[3, 0, -1, 1, 2, 5]] * 4)]),
    "CTCLoss": (lambda n: n.CTCLoss(zero_infinity=True), [
        np.log(np.random.default_rng(0).dirichlet(np.ones(6), (8, 3))).astype(F32), ints(5, 3, 4) + 1,
        np.array([8, 8, 6]), np.array([4, 2, 3])]),
    "TripletMarginLoss": (lambda n: n.TripletMarginLoss(), [X2, floats(4, 6, seed=1), floats(4, 6, seed=2)]),
    "TripletMarginWithDistanceLoss": (
        lambda n: n.TripletMarginWithDistanceLoss(margin=0.5, swap=True),
        [X2, floats(4, 6, seed=1), floats(4, 6, seed=2)]),
    "NLLLoss2d": (lambda n: n.NLLLoss2d(), [X4, ints(4, 2, 8, 8)]),
}


def build(make, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        theirs = make(torch.nn)
        jtorch.manual_seed(seed)
        return make(nn), theirs


def flat(result) -> list:
    if isinstance(result, (tuple, list)):
        return [t for r in result for t in flat(r)]
    return [] if result is None else [result]


def close(ours, theirs, name="", rtol=2e-5, atol=1e-5) -> None:
    a, b = ours.detach().numpy(), theirs.detach().numpy()
    assert a.shape == b.shape, name
    assert a.dtype == b.dtype, name
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * max(1.0, float(np.abs(b).max(initial=0))), err_msg=name)


def run_both(ours, theirs, arrays) -> None:
    """Outputs, then the gradients of the weighted sum of all outputs."""
    xs, ts = [], []
    for i, a in enumerate(arrays):
        x, t = jtorch.tensor(a), torch.tensor(a)
        if a.dtype == F32 and i == 0:
            x.requires_grad_()
            t.requires_grad_()
        xs.append(x)
        ts.append(t)
    ys, us = flat(ours(*xs)), flat(theirs(*ts))
    assert len(ys) == len(us)
    loss, reference = 0.0, 0.0
    for y, u in zip(ys, us):
        close(y, u, "output")
        if u.requires_grad:
            assert y.requires_grad
            w = floats(*u.shape, seed=9)
            loss = loss + (y * jtorch.tensor(w)).sum()
            reference = reference + (u * torch.tensor(w)).sum()
    if isinstance(reference, float):
        return
    loss.backward()
    reference.backward()
    for x, t in zip(xs, ts):
        if t.grad is not None:
            close(x.grad, t.grad, "gradient of the input", rtol=1e-4, atol=3e-5)
    for (name, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters()):
        assert name == other
        assert (p.grad is None) == (q.grad is None), name
        if q.grad is not None:
            close(p.grad, q.grad, name, rtol=1e-4, atol=3e-5)
    for (name, p), (_, q) in zip(ours.named_buffers(), theirs.named_buffers()):
        close(p, q, name)


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    make, arrays = LAYERS[name]
    ours, theirs = build(make)
    assert repr(ours) == repr(theirs)
    mine, reference = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(reference)
    for key in reference:
        # normal numbers go through logarithm and cosine, whose last place differs between libraries
        tolerance = 1e-6 if name.startswith("Embedding") else 0
        np.testing.assert_allclose(
            mine[key].numpy(), reference[key].numpy(), rtol=tolerance, atol=tolerance, err_msg=key
        )
    # the other library's state, shifted, loads
    swapped = {key: v.numpy() + np.asarray(0.125).astype(v.numpy().dtype) for key, v in reference.items()}
    for layer, t in ((ours, jtorch), (theirs, torch)):
        assert repr(layer.load_state_dict({k: t.tensor(a) for k, a in swapped.items()})) == (
            "<All keys matched successfully>")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_both(ours, theirs, arrays)
        ours.eval()
        theirs.eval()
        for y, u in zip(flat(ours(*map(jtorch.tensor, arrays))), flat(theirs(*map(torch.tensor, arrays)))):
            close(y, u, "in evaluation mode")


ELSEWHERE = {
    "Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Container", "RNNBase", "RNNCellBase",
    "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout",  # random
    "FractionalMaxPool2d", "FractionalMaxPool3d", "CrossMapLRN2d",
}


def test_every_layer_is_in_the_tables() -> None:
    """All that PyTorch and jtorch have in common; lazy layers, containers and random ones have tests of their own."""
    def is_layer(c: object, base: type) -> bool:
        return isinstance(c, type) and issubclass(c, base)
    both = {k for k, c in vars(torch.nn).items() if is_layer(c, torch.nn.Module) and is_layer(getattr(nn, k, None),
                                                                                           nn.Module)}
    tables = {key.split()[0] for key in (*LAYERS, *LOSSES)}
    assert {k for k in both if not k.startswith("Lazy")} - tables - ELSEWHERE == set()


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str) -> None:
    make, arrays = LOSSES[name]
    ours, theirs = build(make)
    assert repr(ours) == repr(theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_both(ours, theirs, arrays)


def test_weighted_losses() -> None:
    w = floats(6, positive=True)
    for name, target in (("CrossEntropyLoss", ints(6, 4)), ("NLLLoss", ints(6, 4)), ("BCEWithLogitsLoss", UNIT),
                         ("MultiMarginLoss", ints(6, 4))):
        run_both(
            getattr(nn, name)(weight=jtorch.tensor(w)), getattr(torch.nn, name)(weight=torch.tensor(w)), [X2, target]
        )


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout",
                                  "FeatureAlphaDropout"])
def test_dropout_statistics(name: str) -> None:
    jtorch.manual_seed(0)
    layer = getattr(nn, name)(0.25)
    assert repr(layer) == repr(getattr(torch.nn, name)(0.25))
    x = jtorch.ones(50, 40, 5, 2, 2) if name == "Dropout3d" else jtorch.ones(50, 40, 10)
    y = layer(x).numpy()
    if "Alpha" not in name:
        assert set(np.unique(y).tolist()) == {0.0, float(F32(1) / F32(0.75))}
        assert abs(float((y == 0).mean()) - 0.25) < 0.05
    layer.eval()
    assert layer(x) is x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.named = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.ReLU()})
        self.scale = nn.Parameter(jtorch.ones(2))
        self.register_buffer("seen", jtorch.zeros(1))
        self.register_buffer("scratch", jtorch.zeros(2), persistent=False)

    def forward(self, x):
        x = self.first(x)
        for b in self.blocks:
            x = b(x).relu()
        return self.named["a"](x) * self.scale


class TorchNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(3)])
        self.named = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 2), "b": torch.nn.ReLU()})
        self.scale = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


TorchNet.__name__ = "Net"


def test_module_tree() -> None:
    ours, theirs = Net(), TorchNet()
    assert repr(ours) == repr(theirs)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert dict(ours.state_dict()._metadata) == dict(theirs.state_dict()._metadata)
    assert ours.get_submodule("blocks.1") is ours.blocks[1]
    assert ours.get_parameter("blocks.1.weight") is ours.blocks[1].weight
    assert not ours.eval().blocks[2].training
    assert ours.train().blocks[2].training
    ours.double()
    assert ours.first.weight.dtype is jtorch.float64
    assert ours.seen.dtype is jtorch.float64
    ours.requires_grad_(False)
    assert not any(p.requires_grad for p in ours.parameters())


ERRORS = {
    "not a parameter": lambda t, m: setattr(m, "scale", t.ones(2)),
    "not a module": lambda t, m: setattr(m, "first", 3),
    "not a buffer": lambda t, m: setattr(m, "seen", 3),
    "missing attribute": lambda t, m: m.nothing,
    "taken name": lambda t, m: m.register_parameter("first", t.nn.Parameter(t.ones(1))),
    "dotted name": lambda t, m: m.register_buffer("a.b", t.ones(1)),
    "empty name": lambda t, m: m.add_module("", t.nn.ReLU()),
    "name of another type": lambda t, m: m.register_parameter(3, None),
    "buffer of another type": lambda t, m: m.register_buffer("x", 3),
    "add_module of another type": lambda t, m: m.add_module("x", 3),
    "no submodule": lambda t, m: m.get_submodule("first.x"),
    "no parameter": lambda t, m: m.get_parameter("first"),
    "bad mode": lambda t, m: m.train(1),
    "bad dtype": lambda t, m: m.to(t.int64),
    "load a list": lambda t, m: m.load_state_dict([]),
    "load too little": lambda t, m: m.load_state_dict({"scale": t.ones(2)}),
    "load too much": lambda t, m: m.load_state_dict({**m.state_dict(), "extra.w": t.ones(2), "first.q": t.ones(1)}),
    "load another shape": lambda t, m: m.load_state_dict({**m.state_dict(), "scale": t.ones(3)}),
    "load another type": lambda t, m: m.load_state_dict({**m.state_dict(), "scale": 3}),
    "no forward": lambda t, m: t.nn.Module()(1),
    "dropout": lambda t, m: t.nn.Dropout(2),
    "groups": lambda t, m: t.nn.Conv2d(3, 4, 1, groups=2),
    "heads": lambda t, m: t.nn.MultiheadAttention(7, 2),
    "index": lambda t, m: m.blocks[7],
    "unexpected argument": lambda t, m: t.nn.Module(x=1),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    act = ERRORS[name]
    with pytest.raises(Exception) as ours:
        act(jtorch, Net())
    with pytest.raises(Exception) as theirs:
        act(torch, TorchNet())
    assert type(ours.value) is type(theirs.value)
    assert str(ours.value) == str(theirs.value).replace("TorchNet", "Net")


def test_assignment_rules() -> None:
    m = nn.Linear(2, 2)
    m.bias = None
    assert m.bias is None
    assert "bias" in m._parameters
    m.bias = nn.Parameter(jtorch.zeros(2))
    m.extra = nn.ReLU()
    assert "extra" in m._modules
    m.extra = None
    assert m._modules["extra"] is None
    del m.extra
    assert not hasattr(m, "extra")
    m.state = nn.Buffer(jtorch.ones(1), persistent=False)
    assert "state" in m._buffers
    assert "state" not in m.state_dict()
    m.state = jtorch.zeros(3)
    assert m._buffers["state"].shape == (3,)
    with pytest.raises(AttributeError, match="cannot assign parameters before Module.__init__"):
        class Early(nn.Module):
            def __init__(self) -> None:
                self.w = nn.Parameter(jtorch.ones(1))
        Early()


def test_load_state_dict_round_trip() -> None:
    a, b = Net(), Net()
    result = b.load_state_dict(a.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    x = jtorch.tensor(floats(5, 3))
    np.testing.assert_array_equal(a(x).detach().numpy(), b(x).detach().numpy())
    keys = b.load_state_dict({"scale": jtorch.zeros(2), "odd": jtorch.zeros(1)}, strict=False)
    assert keys.unexpected_keys == ["odd"]
    assert "first.weight" in keys.missing_keys
    c = Net()
    c.load_state_dict(a.state_dict(), assign=True)
    assert isinstance(c.first.weight, nn.Parameter)


def test_copies() -> None:
    m = Net()
    x = jtorch.tensor(floats(5, 3))
    y = m(x).detach().numpy()
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert other.first.weight is not m.first.weight
        assert other.first.weight.requires_grad
        np.testing.assert_array_equal(other(x).detach().numpy(), y)
    with jtorch.no_grad():
        m.first.weight.zero_()
    np.testing.assert_array_equal(other(x).detach().numpy(), y)


def test_forward_hooks() -> None:
    m = nn.Linear(2, 2)
    calls = []
    with m.register_forward_pre_hook(lambda mod, args: (args[0] * 0,)):
        h = m.register_forward_hook(lambda mod, args, out: calls.append(float(args[0].sum())) or out + 1)
        y = m(jtorch.ones(1, 2))
        np.testing.assert_allclose(y.detach().numpy(), m.bias.detach().numpy()[None] + 1)
        h.remove()
    m(jtorch.ones(1, 2))
    assert calls == [0.0]
    with m.register_forward_pre_hook(lambda mod, args, kwargs: ((), {"input": args[0] + kwargs.pop("shift")}),
                                     with_kwargs=True):
        m(jtorch.ones(1, 2), shift=1)


def test_backward_hooks() -> None:
    def run(t):
        t.manual_seed(0)
        m = t.nn.Sequential(t.nn.Linear(3, 4), t.nn.Tanh(), t.nn.Linear(4, 2))
        seen = []
        m[1].register_full_backward_hook(
            lambda mod, gi, go: seen.extend([gi[0].clone(), go[0].clone()]) or (gi[0] * 2,)
        )
        m[2].register_full_backward_pre_hook(lambda mod, go: (go[0] * 3,))
        m[0].register_full_backward_hook(lambda mod, gi, go: seen.append(go[0].clone()))
        x = t.tensor(floats(5, 3))
        m(x).sum().backward()
        return [s.detach().numpy() for s in seen] + [p.grad.numpy() for p in m.parameters()]
    for a, b in zip(run(jtorch), run(torch)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_state_dict_hooks() -> None:
    m = nn.Linear(2, 2)
    m.register_state_dict_post_hook(lambda mod, d, prefix, meta: d.update(extra=1))
    assert m.state_dict()["extra"] == 1
    seen = []
    m.register_load_state_dict_pre_hook(lambda mod, d, *rest: d.pop("extra", None))
    m.register_load_state_dict_post_hook(lambda mod, keys: seen.append(keys))
    m.load_state_dict(m.state_dict())
    assert len(seen) == 1


@pytest.mark.parametrize("make, shape", [
    (lambda n: n.LazyLinear(5), (4, 7)), (lambda n: n.LazyConv2d(5, 3), (2, 3, 6, 6)),
    (lambda n: n.Sequential(n.LazyConv1d(4, 3), n.LazyBatchNorm1d()), (2, 3, 6)),
    (lambda n: n.Sequential(n.LazyConv3d(4, 3), n.LazyBatchNorm3d()), (2, 3, 5, 5, 5)),
    (lambda n: n.Sequential(n.LazyConv2d(4, 3), n.LazyBatchNorm2d(), n.Flatten(), n.LazyLinear(2)), (2, 3, 6, 6))])
def test_lazy_modules(make, shape) -> None:
    torch.manual_seed(0)
    theirs = make(torch.nn)
    u = theirs(torch.tensor(floats(*shape)))
    jtorch.manual_seed(0)
    ours = make(nn)
    y = ours(jtorch.tensor(floats(*shape)))
    close(y, u)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())


INITS = ["uniform_", "normal_", "ones_", "zeros_", "eye_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_",
         "kaiming_normal_", "trunc_normal_", "dirac_"]


@pytest.mark.parametrize("name", INITS)
def test_init(name: str) -> None:
    shape = (5, 4, 3) if name == "dirac_" else (5, 7)
    torch.manual_seed(3)
    jtorch.manual_seed(3)
    a = getattr(nn.init, name)(jtorch.empty(*shape))
    b = getattr(torch.nn.init, name)(torch.empty(*shape))
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7)


def test_clip_and_vectors() -> None:
    def run(t):
        t.manual_seed(0)
        m = t.nn.Linear(3, 2)
        (m(t.tensor(floats(4, 3))) * 10).sum().backward()
        norm = t.nn.utils.clip_grad_norm_(m.parameters(), 1.5)
        grads = [p.grad.clone().numpy() for p in m.parameters()]
        t.nn.utils.clip_grad_value_(m.parameters(), 0.2)
        v = t.nn.utils.parameters_to_vector(m.parameters())
        t.nn.utils.vector_to_parameters(v * 2, m.parameters())
        return [norm.numpy(), *grads, *[p.grad.numpy() for p in m.parameters()], m.weight.detach().numpy()]
    for a, b in zip(run(jtorch), run(torch)):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_dropout_between_layers_of_packed_sequences() -> None:
    """Drawn for the packed data, as PyTorch does: the same numbers, and as many."""
    def run(t):
        rows = [t.tensor(floats(n, 3, seed=n)) for n in (2, 5, 3)]
        t.manual_seed(0)
        rnn = t.nn.GRU(3, 4, num_layers=3, bidirectional=True, dropout=0.5)
        out, h = rnn(t.nn.utils.rnn.pack_sequence(rows, enforce_sorted=False))
        return [a.detach().numpy() for a in (out.data, h, t.rand(3))]
    for ours, theirs in zip(run(jtorch), run(torch)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_packed_sequences() -> None:
    lengths = [5, 2, 4]

    def run(t):
        t.manual_seed(0)
        rnn = t.nn.LSTM(3, 4, bidirectional=True)
        rows = [t.tensor(floats(n, 3, seed=n)) for n in lengths]
        packed = t.nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
        out, (h, c) = rnn(packed)
        y, n = t.nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
        return [y.detach().numpy(), n.numpy(), h.detach().numpy(), c.detach().numpy()]
    for a, b in zip(run(jtorch), run(torch)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_and_its_derivatives(causal: bool) -> None:
    """Long enough for blocks of rows; a cotangent of the gradient too."""
    arrays = [floats(2, 2, n, 6, seed=i) for i, n in enumerate((70, 90, 90, 70))]

    def run(t: Any) -> list[Any]:
        q, k, v = [t.tensor(a, requires_grad=True) for a in arrays[:3]]
        if t is jtorch:
            y = t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        else:  # whose own has no second derivative
            scores = q @ k.mT / 6 ** 0.5
            y = t.softmax(scores.masked_fill(~t.ones(70, 90).tril().bool(), -t.inf) if causal else scores, -1) @ v
        first = t.autograd.grad((y * t.tensor(arrays[3])).sum(), (q, k, v), create_graph=True)
        second = t.autograd.grad(sum((g * g).sum() for g in first), (q, k, v))
        return [x.detach().numpy() for x in (y, *first, *second)]
    expected = run(torch)
    for _ in range(3):  # interpreted, then compiled
        for a, b in zip(run(jtorch), expected):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_attention_masks() -> None:
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(8, 2)
    jtorch.manual_seed(0)
    ours = nn.MultiheadAttention(8, 2)
    padding = np.array([[False, False, True]] * 4)
    for mask in (np.triu(np.ones((3, 3), bool), 1), floats(3, 3)):
        for weights in (True, False):
            y = ours(*[jtorch.tensor(X3)] * 3, key_padding_mask=jtorch.tensor(padding), attn_mask=jtorch.tensor(mask),
                     need_weights=weights)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                u = theirs(
                    *[torch.tensor(X3)] * 3,
                    key_padding_mask=torch.tensor(padding),
                    attn_mask=torch.tensor(mask),
                    need_weights=weights,
                )
            for a, b in zip(flat(y), flat(u)):
                close(a, b)


@pytest.mark.parametrize("name", ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "InstanceNorm1d",
                                  "InstanceNorm2d", "InstanceNorm3d"])
def test_more_lazy_modules(name: str) -> None:
    spatial = (6, 5, 4)[:int(name[-2])]
    shape = (2, 4, *spatial)
    arguments = (6, 3) if "Conv" in name else ()
    ours, theirs = build(lambda n: getattr(n, "Lazy" + name)(*arguments))
    assert repr(ours) == repr(theirs)
    x = floats(*shape)
    jtorch.manual_seed(1)
    torch.manual_seed(1)
    close(ours(jtorch.tensor(x)), theirs(torch.tensor(x)))
    assert type(ours).__name__ == name
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_bags_divide_gradients_by_frequency() -> None:
    """As Embedding does. (PyTorch 2.13 divides by the frequency of another row.)"""
    numbers = jtorch.tensor(ints(10, 3, 4))
    w = jtorch.tensor(floats(3, 5))
    gradients = []
    for bag in (False, True):
        table = jtorch.tensor(floats(10, 5), requires_grad=True)
        y = (nn.functional.embedding_bag(numbers, table, mode="mean", scale_grad_by_freq=True) if bag
             else nn.functional.embedding(numbers, table, scale_grad_by_freq=True).mean(1))
        (y * w).sum().backward()
        gradients.append(table.grad)
    close(*gradients)


def test_attention_kernel_choice_is_accepted() -> None:
    backend = nn.attention.SDPBackend
    q = jtorch.tensor(floats(2, 4, 8))
    plain = nn.functional.scaled_dot_product_attention(q, q, q)
    with nn.attention.sdpa_kernel([backend.MATH, backend.FLASH_ATTENTION]):
        assert nn.functional.scaled_dot_product_attention(q, q, q).tolist() == plain.tolist()
    assert [(b.name, int(b)) for b in backend] == [
        (k, int(v)) for k, v in torch.nn.attention.SDPBackend.__members__.items()]
    with pytest.raises(AssertionError, match="Backend must be an instance of SDPBackend"), \
            nn.attention.sdpa_kernel("math"):  # type: ignore[arg-type]
        pass


def test_adaptive_softmax_gives_all_classes() -> None:
    x = floats(12, 16)
    ours, theirs = build(lambda n: n.AdaptiveLogSoftmaxWithLoss(16, 50, [10, 20, 35]))
    close(ours.log_prob(jtorch.tensor(x)), theirs.log_prob(torch.tensor(x)))
    close(ours.predict(jtorch.tensor(x)), theirs.predict(torch.tensor(x)))
    near = x * 0
    near[:, 0] = 1  # all at the head's own classes
    for layer in (ours, theirs):
        layer.head.weight.detach()[0, 0] = 50
    close(ours.predict(jtorch.tensor(near)), theirs.predict(torch.tensor(near)))


@pytest.mark.parametrize("case", [
    lambda t: t.nn.AdaptiveLogSoftmaxWithLoss(4, 10, []),
    lambda t: t.nn.AdaptiveLogSoftmaxWithLoss(4, 10, [5, 5]),
    lambda t: t.nn.AdaptiveLogSoftmaxWithLoss(4, 10, [5])(t.ones(2, 4), t.tensor([1, 10])),
    lambda t: t.nn.AdaptiveLogSoftmaxWithLoss(4, 10, [5])(t.ones(2, 4), t.tensor([1])),
    lambda t: t.nn.AdaptiveLogSoftmaxWithLoss(4, 10, [5])(t.ones(2, 4), t.tensor(1)),
    lambda t: t.nn.AdaptiveLogSoftmaxWithLoss(4, 10, [5])(t.ones(2, 4), t.tensor([[1]])),
    lambda t: t.nn.CrossMapLRN2d(3)(t.ones(2, 3)),
    lambda t: t.nn.FractionalMaxPool2d(2),
    lambda t: t.nn.FractionalMaxPool2d(2, output_size=2, output_ratio=0.4),
    lambda t: t.nn.FractionalMaxPool3d(2, output_ratio=1.4),
    lambda t: t.nn.functional.fractional_max_pool2d(t.ones(1, 1, 4, 4), 2),
    lambda t: t.nn.functional.fractional_max_pool2d(t.ones(1, 1, 4, 4), 4, output_size=2),
    lambda t: t.nn.functional.fractional_max_pool2d(t.ones(1, 0, 4, 4), 2, output_size=2),
    lambda t: t.vander(t.ones(2, 2)),
    lambda t: t.vander(t.ones(2), -1),
])
def test_rare_layers_refuse_what_pytorch_refuses(case) -> None:
    with pytest.raises((ValueError, RuntimeError)) as theirs:
        case(torch)
    with pytest.raises(theirs.type) as ours:
        case(jtorch)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_cross_map_normalization(size: int) -> None:
    """Values as PyTorch's. Its gradient is of another window than its values; ours is theirs."""
    ours, theirs = build(lambda n: n.CrossMapLRN2d(size, 0.1, 0.6, 2.0))
    assert repr(ours) == repr(theirs)
    close(ours(jtorch.tensor(X4)), theirs(torch.tensor(X4)))
    x = jtorch.tensor(X4[:1, :, :2, :2].astype(np.float64), requires_grad=True)
    assert jtorch.autograd.gradcheck(ours, (x,))


@pytest.mark.parametrize("n, arguments", [
    (2, {"output_size": (4, 5)}), (2, {"output_ratio": (0.5, 0.7)}), (2, {"output_size": 1}), (3, {"output_size": 3}),
    (3, {"output_ratio": (0.5, 0.4, 0.6)}),
], ids=str)
def test_fractional_max_pool_draws_the_same_windows(n: int, arguments: dict[str, Any]) -> None:
    shape = (2, 3, 9, 11) if n == 2 else (2, 3, 7, 8, 9)
    found = []
    for t in (jtorch, torch):
        x = t.tensor(floats(*shape), requires_grad=True)
        t.manual_seed(3)
        layer = getattr(t.nn, f"FractionalMaxPool{n}d")((3, 2, 2)[:n], return_indices=True, **arguments)
        y, index = layer(x)
        (y ** 2).sum().backward()
        single = layer(x[0].detach())[0]
        found.append([y.detach().numpy(), index.numpy(), x.grad.numpy(), single.numpy()])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_warnings_of_defaults() -> None:
    def messages(library: Any) -> list[tuple[type, str, str]]:
        n = library.nn
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            n.TransformerEncoder(n.TransformerEncoderLayer(4, 2, 8), 1)
            n.TransformerEncoder(n.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1)
            n.TransformerEncoder(n.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True), 1)
            n.TransformerEncoder(n.TransformerEncoderLayer(4, 2, 8, 0.1, "gelu", batch_first=True, bias=False), 1)
            n.TransformerEncoder(n.TransformerEncoderLayer(4, 1, 8, batch_first=True), 1)
            n.TransformerEncoder(n.TransformerEncoderLayer(4, 1, 8), 1, enable_nested_tensor=False)
            grid = n.functional.affine_grid(library.ones(1, 2, 3), (1, 1, 3, 3))
            n.functional.grid_sample(library.ones(1, 1, 3, 3), grid)
        return [(w.category, str(w.message), w.filename) for w in seen]
    assert messages(jtorch) == messages(torch)


def test_prefix_of_keys_is_stripped() -> None:
    for library in (jtorch, torch):
        state = library.nn.Sequential(library.nn.Linear(2, 2)).state_dict(prefix="module.")
        library.nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
        assert list(state) == ["0.weight", "0.bias"] and list(state._metadata) == ["", "0"]


def test_numbers_that_are_out_of_range_are_refused_at_once() -> None:
    calls = {
        "embedding": lambda t: t.nn.Embedding(3, 2)(t.tensor([0, 5])),
        "negative": lambda t: t.nn.functional.embedding(t.tensor([-1]), t.ones(3, 2)),
        "cross_entropy": lambda t: t.nn.functional.cross_entropy(t.ones(2, 3), t.tensor([0, 5])),
        "images": lambda t: t.nn.functional.cross_entropy(t.ones(1, 3, 2, 2), t.tensor([[[0, 1], [4, 0]]])),
        "nll_loss": lambda t: t.nn.functional.nll_loss(t.ones(2, 3), t.tensor([-100, -3])),
    }
    for name, call in calls.items():
        messages = []
        for library in (jtorch, torch):
            with pytest.raises(IndexError) as error:  # though nobody looks at the result
                call(library)
            messages.append(str(error.value))
        assert messages[0] == messages[1], name
    ignored = nn.functional.cross_entropy(jtorch.ones(2, 3), jtorch.tensor([-100, 1]))
    np.testing.assert_allclose(ignored.item(), np.log(3), rtol=1e-6)


def test_sequential_keeps_names_before_an_inserted_module() -> None:
    printed = []
    for n in (nn, torch.nn):
        layers = n.Sequential()
        layers.add_module("first", n.Linear(1, 2))
        layers.append(n.ReLU()).insert(1, n.Tanh()).insert(-1, n.Sigmoid())
        printed.append(repr(layers))
    assert printed[0] == printed[1]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("momentum", [0.1, 1, None])
def test_running_statistics_move_as_in_pytorch(dtype, momentum):
    draw = np.random.default_rng(0).standard_normal((3, 8, 4))
    found = []
    for module in (jtorch, torch):
        norm = module.nn.BatchNorm1d(4, momentum=momentum).to(getattr(module, dtype))
        for batch in draw:
            norm(module.tensor(batch, dtype=getattr(module, dtype)))
        found.append([norm.running_mean.double().numpy(), norm.running_var.double().numpy()])
    rtol = {"float64": 1e-14, "float32": 1e-6, "bfloat16": 1e-2}[dtype]
    np.testing.assert_allclose(found[0], found[1], rtol=rtol, atol=rtol / 10)
