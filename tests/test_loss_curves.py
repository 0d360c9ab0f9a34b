"""Loss curves over 100 steps follow PyTorch's, eager and traced: within 1e-4 relative, or no farther from PyTorch's
float64 curve than twice what PyTorch's own float32 curve is."""
from __future__ import annotations

import math

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

STEPS = 100


def mlp(t):
    nn = t.nn
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 5))


def cnn(t):
    nn = t.nn
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(4, 8, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def gpt(t, vocabulary: int = 11, width: int = 16, heads: int = 2, length: int = 8, layers: int = 2):
    nn, F = t.nn, t.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            n, s, _ = x.shape
            q, k, v = (p.reshape(n, s, heads, width // heads).transpose(1, 2)
                       for p in self.qkv(self.norm1(x)).chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(n, s, width))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
            self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

        def forward(self, index):
            x = self.tokens(index) + self.places(t.arange(index.shape[1]))
            return self.head(self.norm(self.blocks(x))).reshape(-1, vocabulary)
    return GPT()


def batches(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    r = np.random.default_rng(1)
    found = []
    for _ in range(5):
        if name == "gpt":
            start, step = r.integers(0, 11, (6, 1)), r.integers(1, 4, (6, 1))
            tokens = (start + step * np.arange(9)) % 11
            found.append((tokens[:, :-1].copy(), tokens[:, 1:].copy().reshape(-1)))
        else:
            shape = (16, 20) if name == "mlp" else (8, 1, 8, 8)
            x = r.standard_normal(shape).astype(np.float32)
            found.append((x, (np.abs(x).reshape(len(x), -1)[:, :5]).argmax(1)))
    return found


MODELS = {
    "mlp": (mlp, lambda t, ps: t.optim.SGD(ps, lr=0.1, momentum=0.9)),
    "cnn": (cnn, lambda t, ps: t.optim.Adam(ps, lr=0.01)),
    "gpt": (gpt, lambda t, ps: t.optim.AdamW(ps, lr=0.003)),
}


def curve(t, name: str, dtype: str = "float32", trace: bool = False) -> np.ndarray:
    make, optimizer = MODELS[name]
    t.manual_seed(0)
    model = make(t)
    start = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.load_state_dict(start)
    model.to(getattr(t, dtype))
    opt = optimizer(t, model.parameters())

    def step(x, y):
        opt.zero_grad()
        loss = t.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss
    if trace:
        step = jtorch.jit.trace(step)
    data = []
    for x, y in batches(name):
        x = t.tensor(x)
        data.append((x.to(getattr(t, dtype)) if x.is_floating_point() else x, t.tensor(y)))
    return np.array([step(*data[i % len(data)]).item() for i in range(STEPS)], np.float64)


@pytest.fixture(scope="module")
def references() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (curve(torch, name), curve(torch, name, "float64")) for name in MODELS}


@pytest.mark.parametrize("trace", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize("name", MODELS)
def test_loss_curve(name: str, trace: bool, references) -> None:
    single, double = references[name]
    ours = curve(jtorch, name, trace=trace)
    assert ours[-1] < 0.8 * ours[0], "it learns"
    relative = np.abs(ours - single) / np.abs(single)
    if relative.max() <= 1e-4:
        return
    own = np.abs(single - double)
    distance = np.abs(ours - double)
    # how far float32 has come away from float64 up to each step
    allowed = 2 * np.maximum.accumulate(own)
    late = np.flatnonzero((relative > 1e-4) & (distance > allowed))
    assert not len(late), (f"step {late[0]}: {ours[late[0]]} against {single[late[0]]} (float64: {double[late[0]]}); "
                           f"largest distance {distance.max()}, PyTorch's {own.max()}")
    assert math.isfinite(ours[-1])
