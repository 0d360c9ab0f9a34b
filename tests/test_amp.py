"""autocast gives results the dtypes that PyTorch's lists give them, GradScaler the same scales and parameters;
torch.cuda and backends answer as a CPU build of PyTorch."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

EXPRESSIONS = """
    a @ a | a @ a[0] | a.mv(a[0]) | t.dot(a[0], a[0]) | t.mm(a, a) | t.addmm(a, a, a) | t.bmm(x, x.transpose(1, 2))
    t.inner(a, a) | t.outer(a[0], a[0]) | t.tensordot(a, a, 1) | t.einsum('ij,jk->ik', a, a) | F.linear(a, a)
    t.einsum('ij,ij->ij', a, a) | t.einsum('ij->i', a) | t.einsum('ij,jk', a, a) | F.conv1d(x, x) | F.conv2d(x[None], y)
    F.scaled_dot_product_attention(x, x, x) | F.prelu(a, a[0, :1]) | a.double() @ a.double() | a.half() @ a.half()
    b @ a | b + a | F.gelu(b) | F.softmax(b, 0) | F.log_softmax(b, 0) | F.layer_norm(b, (4,), t.ones(4)) | b.exp()
    b.sum() | b.prod() | b.prod(0) | b.trace() | b.cumsum(0) | b.norm() | F.mse_loss(b, a) | F.l1_loss(b, b)
    F.cross_entropy(b, t.tensor([0, 1, 2, 3])) | F.nll_loss(b, t.tensor([0, 1, 2, 3])) | F.smooth_l1_loss(b, a)
    F.binary_cross_entropy_with_logits(b, a) | F.binary_cross_entropy(b.sigmoid(), a.sigmoid()) | F.huber_loss(b, a)
    F.kl_div(b, a.abs()) | F.avg_pool2d(b[None], 2) | F.max_pool2d(b[None], 2) | F.avg_pool3d(b[None, None], 1)
    F.embedding(t.tensor([1]), a) | t.cat([a, b]) | t.stack([a, b]) | t.where(a > 0, a, b) | F.dropout(b)
    t.index_copy(a, 0, t.tensor([0]), b[:1]) | t.nn.RNN(8, 4)(x)[0] | t.nn.GRU(8, 4)(x)[0]
    t.nn.LSTMCell(8, 4)(x[0])[0] | t.nn.MultiheadAttention(8, 2)(x, x, x)[0] | t.nn.TransformerEncoderLayer(8, 2)(x)
    t.nn.BatchNorm1d(4)(b) | t.nn.GroupNorm(2, 4)(b) | F.normalize(b) | F.cosine_similarity(b, a)
    F.triplet_margin_loss(b, a, a)
"""


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtypes_of_results(dtype: str) -> None:
    def found(t, text):
        t.manual_seed(0)
        a, x = t.randn(4, 4), t.randn(5, 3, 8)
        scope = {"t": t, "y": t.randn(2, 5, 3, 3), "F": t.nn.functional, "a": a, "x": x,
                 "b": a.to(getattr(t, dtype))}
        with t.autocast("cpu", getattr(t, dtype)):
            result = eval(text, scope)
        return str(result.dtype), result.detach().double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text in EXPRESSIONS.replace("\n", "|").split("|"):
            if not text.strip():
                continue
            (ours, values), (theirs, expected) = found(jtorch, text.strip()), found(torch, text.strip())
            assert ours == theirs, text
            assert np.allclose(values, expected, rtol=0.05, atol=0.1), text


def test_lstm_runs_in_bfloat16() -> None:
    """PyTorch has no float16 LSTM on the CPU."""
    def found(t):
        t.manual_seed(0)
        layer, x = t.nn.LSTM(8, 4, num_layers=2, bidirectional=True), t.randn(5, 3, 8)
        with t.autocast("cpu"):
            y, (h, c) = layer(x)
        return [(str(v.dtype), v.detach().float().numpy()) for v in (y, h, c)]
    for (ours, values), (theirs, expected) in zip(found(jtorch), found(torch)):
        assert ours == theirs == "torch.bfloat16"
        np.testing.assert_allclose(values, expected, atol=0.01)


def train(t, dtype: str, steps: int = 8, overflow: int = 3) -> tuple[list[float], list[float], np.ndarray]:
    """Losses, scales and the weight of a small training run with loss scaling, one step of which overflows."""
    t.manual_seed(0)
    model = t.nn.Sequential(t.nn.Linear(6, 16), t.nn.ReLU(), t.nn.Linear(16, 3))
    optimizer = t.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = t.amp.GradScaler("cpu", init_scale=256.0, growth_interval=2)
    x, y = t.randn(12, 6), t.arange(12) % 3
    losses, scales = [], []
    for step in range(steps):
        optimizer.zero_grad()
        with t.autocast("cpu", getattr(t, dtype)):
            loss = t.nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss * (float("inf") if step == overflow else 1)).backward()
        scaler.unscale_(optimizer)
        t.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
        scales.append(scaler.get_scale())
    return losses, scales, model[0].weight.detach().numpy()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_with_a_scaler(dtype: str) -> None:
    ours, theirs = train(jtorch, dtype), train(torch, dtype)
    assert ours[1] == theirs[1] and len(set(ours[1])) >= 3, "the scale grows, and backs off at the overflow"
    assert np.allclose(ours[0], theirs[0], rtol=0.02) and ours[0][-1] < ours[0][0]
    assert np.allclose(ours[2], theirs[2], atol=0.02)


def test_scaler_s_state_and_misuse() -> None:
    for t in (jtorch, torch):
        scaler = t.amp.GradScaler("cpu", init_scale=8.0)
        optimizer = t.optim.SGD([t.nn.Parameter(t.ones(2))], lr=1.0)
        assert scaler.state_dict() == {"scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.5,
                                       "growth_interval": 2000, "_growth_tracker": 0}
        with pytest.raises(AssertionError, match="did not use scaler.scale"):
            scaler.step(optimizer)
        scaler.scale(optimizer.param_groups[0]["params"][0].sum()).backward()
        scaler.unscale_(optimizer)
        with pytest.raises(RuntimeError, match="already been called on this optimizer"):
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        with pytest.raises(RuntimeError, match="already been called since the last update"):
            scaler.step(optimizer)
        scaler.update(4.0)
        other = t.amp.GradScaler("cpu")
        other.load_state_dict(scaler.state_dict())
        assert other.get_scale() == 4.0


def test_autocast_is_a_state() -> None:
    for t in (jtorch, torch):
        a = t.ones(2, 2)
        assert not t.is_autocast_enabled("cpu") and t.get_autocast_dtype("cpu") is t.bfloat16
        with t.autocast("cpu", t.float16):
            assert t.is_autocast_enabled("cpu") and t.get_autocast_dtype("cpu") is t.float16
            with t.autocast("cpu", enabled=False):
                assert (a @ a).dtype is t.float32
            assert (a @ a).dtype is t.float16
        assert t.get_autocast_dtype("cpu") is t.bfloat16
        assert t.autocast("cpu")(t.mm)(a, a).dtype is t.bfloat16
        with pytest.warns(UserWarning, match="target dtype is not supported"), t.autocast("cpu", t.float64):
            assert (a @ a).dtype is t.float32
        with pytest.warns(UserWarning, match="CUDA is not available"), t.autocast("cuda"):
            assert (a @ a).dtype is t.float32


def test_a_traced_function_is_traced_for_autocast_too() -> None:
    a = jtorch.ones(4, 4)
    product = jtorch.jit.trace(lambda x: x @ x)
    for _ in range(2):
        assert product(a).dtype is jtorch.float32
        with jtorch.autocast("cpu"):
            assert product(a).dtype is jtorch.bfloat16


CALLS = """
    cuda.is_available() | cuda.device_count() | cuda.current_device() | cuda.synchronize() | cuda.get_device_name(0)
    cuda.memory_allocated() | cuda.manual_seed(1) | cuda.empty_cache() | cuda.set_device('cpu') | cuda.Stream()
    cuda.FloatTensor(2) | cuda.device(-1).__enter__() | zeros(2, device='cuda') | zeros(2).cuda() |
    zeros(2).to('cuda:0') nn.Linear(2, 2).to('cuda') | zeros(2, device='mps') | zeros(2, device='xpu') |
    device('nothing') | device(0) backends.cudnn.is_available() | backends.cudnn.version() |
    backends.mps.is_available() | backends.cuda.is_built() accelerator.is_available() |
    accelerator.current_accelerator() | accelerator.synchronize() | cpu.device_count()
    backends.cpu.get_cpu_capability() | cuda.get_rng_state_all() | cuda.is_bf16_supported() | autocast('nothing')
"""


@pytest.mark.parametrize("call", [c.strip() for c in CALLS.replace("\n", "|").split("|") if c.strip()])
def test_absent_devices_answer_as_in_a_cpu_build(call: str) -> None:
    def outcome(t):
        try:
            return eval("t." + call, {"t": t})
        except Exception as error:
            return type(error), str(error)
    ours, theirs = outcome(jtorch), outcome(torch)
    if isinstance(theirs, tuple):
        assert ours[0] is theirs[0]
        if len(theirs[1]) < 120 and theirs[0] is not NotImplementedError:
            assert theirs[1].rstrip(".") in ours[1]
    else:
        assert ours == theirs


def test_cudnn_s_switches_are_put_back() -> None:
    for t in (jtorch, torch):
        cudnn = t.backends.cudnn
        with cudnn.flags(enabled=True, benchmark=True):
            assert cudnn.benchmark is True
        assert cudnn.benchmark is False and cudnn.deterministic is False


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_that_meet_half_types(dtype):
    """A number is not rounded to the half type before it multiplies or divides."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    found = []
    for t in (jtorch, torch):
        x = t.from_numpy(values).to(getattr(t, dtype))
        found.append([y.float().numpy() for y in (x * 0.1, 0.1 * x, x // 0.3, 0.3 / x, x * t.tensor(0.1), x * 1e30 * 0,
                                                  t.tensor(0.3) / x, x - 0.1, x + 1000.7, x.clone().mul_(0.7))])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_formulas_of_half_types_are_rounded_once(dtype: str) -> None:
    """Sums with a multiple are float32's, rounded at the end. PyTorch's lerp and addcmul fuse a product and a sum,
    which is seen in a few bits of a thousand."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    values = np.random.default_rng(1).standard_normal((3, 4096)).astype(np.float32)
    exact, near = [], []
    for t in (jtorch, torch):
        a, b, c = [t.from_numpy(v).to(getattr(t, dtype)) for v in values]
        c = c.abs() + 1
        exact.append([a.add(b, alpha=0.3), a.sub(b, alpha=0.3), t.rsub(a, b, alpha=0.3), a.clone().add_(b, alpha=-0.3),
                      t.addcdiv(a, b, c, value=0.3), t.addcdiv(a, b, c), t.lerp(a, b, c / 10)])
        near.append([t.addcmul(a, b, c, value=0.3), t.addcmul(a, b, c), t.lerp(a, b, 0.3), t.lerp(a, b, 0.7)])
    for ours, theirs in zip(*exact, strict=True):
        np.testing.assert_array_equal(ours.float().numpy(), theirs.float().numpy())
    for ours, theirs in zip(*near, strict=True):
        assert (ours.float().numpy() != theirs.float().numpy()).mean() < 0.004
        np.testing.assert_allclose(ours.float().numpy(), theirs.float().numpy(),
                                   rtol=float(torch.finfo(theirs.dtype).eps), atol=1e-6)
