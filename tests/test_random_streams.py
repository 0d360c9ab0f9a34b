"""The random streams against values recorded from PyTorch and, where it is installed, against PyTorch itself."""

import importlib.util

import ml_dtypes
import numpy as np
import pytest

from jtorch.ir import mt19937
from jtorch.ir import random_streams as streams

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="compares with PyTorch, which is not installed")

FLOAT16, FLOAT32, FLOAT64 = (np.dtype(t) for t in (np.float16, np.float32, np.float64))
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
INT64 = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)
FLOATS = [FLOAT16, BFLOAT16, FLOAT32, FLOAT64]
SIZES = [0, 1, 2, 5, 15, 16, 17, 20, 31, 32, 100, 623, 624, 625, 5000]
SEEDS = [0, 1, 12345, 2**32 - 1, 2**40 + 7]

# Transcendental functions of PyTorch and NumPy differ in the last place, so what goes through log, cos, ... is
# compared within a few ulp; everything else exactly.
TOLERANCE = {FLOAT16: 2e-3, BFLOAT16: 1.6e-2, FLOAT32: 1e-6, FLOAT64: 1e-14}


# What PyTorch 2.13 gives after manual_seed(0).
RECORDED = {
    "rand": (
        lambda s: streams.uniform(s, 5, FLOAT32),
        [0.49625658988952637, 0.7682217955589294, 0.08847743272781372, 0.13203048706054688, 0.30742281675338745],
    ),
    "rand float64": (
        lambda s: streams.uniform(s, 3, FLOAT64),
        [0.970053, 0.70781986, 0.45938294],
    ),
    "uniform_": (
        lambda s: streams.uniform(s, 3, FLOAT32, -1.0, 1.0),
        [-0.0074868202, 0.53644359, -0.82304513],
    ),
    "randn": (
        lambda s: streams.normal(s, 3, FLOAT32),
        [1.5409961, -0.2934289, -2.1787894],
    ),
    "randn(20)": (
        lambda s: streams.normal(s, 20, FLOAT32),
        [
            -1.1258398,
            -1.1523602,
            -0.25057858,
            -0.43387881,
            0.59883946,
            -1.5550951,
            -0.34136039,
            1.8530061,
            0.46809641,
            -0.15771244,
            1.4436601,
            0.26604941,
            1.3893661,
            1.5863342,
            0.94629836,
            -0.84367675,
            0.93182659,
            1.2590092,
            2.0049806,
            0.053736903,
        ],
    ),
    "randn(17) float64": (
        lambda s: streams.normal(s, 17, FLOAT64),
        [
            -2.3104118,
            -0.63327461,
            -1.2609247,
            -0.72695106,
            -0.019964751,
            0.21029989,
            0.17718935,
            -0.83051005,
            0.23871806,
            -0.24267938,
            -0.77301128,
            -1.5951815,
            -0.68700369,
            1.4880743,
            -0.4484158,
            -0.89100304,
            0.67485754,
        ],
    ),
    "randint": (
        lambda s: streams.randint(s, 6, 0, 100, INT64),
        [44, 39, 33, 60, 63, 79],
    ),
    "randint, wide": (
        lambda s: streams.randint(s, 3, 0, 2**40, INT64),
        [741280623151, 506137267392, 291447657211],
    ),
    "randperm": (
        lambda s: streams.randperm(s, 10, INT64),
        [4, 1, 7, 5, 3, 9, 0, 8, 6, 2],
    ),
    "bernoulli_": (
        lambda s: streams.bernoulli(s, 12, 0.5, FLOAT32),
        [0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 1, 1],
    ),
    "exponential_": (
        lambda s: streams.exponential(s, 3, FLOAT32),
        [3.5083263, 1.2303847, 0.61504412],
    ),
    "cauchy_": (
        lambda s: streams.cauchy(s, 3, FLOAT64),
        [10.597729, 0.76476726, -0.12829934],
    ),
    "multinomial": (
        lambda s: streams.multinomial(s, np.array([[0.1, 0.2, 0.3, 0.4]]), 6, True),
        [3, 3, 2, 3, 3, 3],
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_values(name):
    sample, expected = RECORDED[name]
    values, _ = sample(mt19937.seed(0))
    np.testing.assert_allclose(np.asarray(values, np.float64).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 623, 624, 625, 2000])
def test_draws_join_up(count):
    state = mt19937.seed(7)
    whole, after = mt19937.draw(state, count + 10)
    first, middle = mt19937.draw(state, count)
    second, end = mt19937.draw(middle, 10)
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))
    np.testing.assert_array_equal(after, end)
    np.testing.assert_array_equal(state, mt19937.seed(7))


def test_engine_is_the_standard_mt19937():
    draws, _ = mt19937.draw(mt19937.seed(5489), 10000)
    assert draws[-1] == 4123659995  # the value that the C++ standard asks of std::mt19937


def test_state_survives_pytorch_bytes():
    _, state = streams.normal(mt19937.seed(3), 5, FLOAT32)
    restored, initial_seed = mt19937.from_torch_bytes(mt19937.to_torch_bytes(state, 3))
    assert initial_seed == 3
    np.testing.assert_array_equal(restored, state)
    with pytest.raises(RuntimeError, match="5056 bytes"):
        mt19937.from_torch_bytes(np.zeros(10, np.uint8))
    with pytest.raises(RuntimeError, match="Invalid mt19937 state"):
        mt19937.from_torch_bytes(np.zeros(5056, np.uint8))


def torch_dtype(dtype):
    import torch

    return getattr(torch, dtype.name)


# Each makes (a function of torch, a function of our state, whether the values must be equal to the bit).
def calls(n, dtype):
    import torch

    t = torch_dtype(dtype)
    p = np.linspace(0, 1, n).astype(dtype)
    tp = torch.linspace(0, 1, n, dtype=torch.float64).to(t)
    weights = (np.arange(3 * max(n, 1)) % 7 + 0.5).reshape(3, -1).astype(dtype)
    tw = (torch.arange(3 * max(n, 1)) % 7 + 0.5).reshape(3, -1).to(t)
    draw = min(weights.shape[1], 4)
    return {
        "rand": (lambda: torch.rand(n, dtype=t), lambda s: streams.uniform(s, n, dtype), True),
        "uniform_": (
            lambda: torch.empty(n, dtype=t).uniform_(-0.3, 0.75),
            lambda s: streams.uniform(s, n, dtype, -0.3, 0.75),
            dtype != FLOAT64,
        ),
        "randn": (lambda: torch.randn(n, dtype=t), lambda s: streams.normal(s, n, dtype), False),
        "normal_": (
            lambda: torch.empty(n, dtype=t).normal_(1.5, 3.0),
            lambda s: streams.normal(s, n, dtype, 1.5, 3.0),
            False,
        ),
        "log_normal_": (
            lambda: torch.empty(n, dtype=t).log_normal_(0.0, 0.5),
            lambda s: streams.log_normal(s, n, dtype, 0.0, 0.5),
            False,
        ),
        "bernoulli(p)": (lambda: torch.bernoulli(tp), lambda s: streams.bernoulli(s, n, p, dtype), True),
        "bernoulli_(number)": (
            lambda: torch.empty(n, dtype=t).bernoulli_(0.3),
            lambda s: streams.bernoulli(s, n, 0.3, dtype),
            True,
        ),
        "exponential_": (
            lambda: torch.empty(n, dtype=t).exponential_(2.0),
            lambda s: streams.exponential(s, n, dtype, 2.0),
            False,
        ),
        "geometric_": (
            lambda: torch.empty(n, dtype=t).geometric_(0.3),
            lambda s: streams.geometric(s, n, dtype, 0.3),
            True,
        ),
        "random_": (lambda: torch.empty(n, dtype=t).random_(), lambda s: streams.random(s, n, dtype), True),
        "randint": (lambda: torch.randint(-3, 9, (n,)), lambda s: streams.randint(s, n, -3, 9, INT64), True),
        "randint 2**28 - 1": (
            lambda: torch.randint(2**28 - 1, (n,)),
            lambda s: streams.randint(s, n, 0, 2**28 - 1, INT64),
            True,
        ),
        "randint 2**28": (
            lambda: torch.randint(2**28, (n,)),
            lambda s: streams.randint(s, n, 0, 2**28, INT64),
            True,
        ),
        "randint of all int64": (
            lambda: torch.empty(n, dtype=torch.int64).random_(-(2**63), None),
            lambda s: streams.randint(s, n, -(2**63), 2**63, INT64),
            True,
        ),
        "random_ int32": (
            lambda: torch.empty(n, dtype=torch.int32).random_(),
            lambda s: streams.random(s, n, np.dtype(np.int32)),
            True,
        ),
        "random_ int64": (
            lambda: torch.empty(n, dtype=torch.int64).random_(),
            lambda s: streams.random(s, n, INT64),
            True,
        ),
        "random_ bool": (
            lambda: torch.empty(n, dtype=torch.bool).random_(),
            lambda s: streams.random(s, n, BOOL),
            True,
        ),
        "randperm": (lambda: torch.randperm(n), lambda s: streams.randperm(s, n, INT64), True),
        "multinomial": (
            lambda: torch.multinomial(tw, draw),
            lambda s: streams.multinomial(s, weights, draw, False),
            True,
        ),
        "multinomial of one": (
            lambda: torch.multinomial(tw, 1, True),
            lambda s: streams.multinomial(s, weights, 1, True),
            True,
        ),
        "multinomial with replacement": (
            lambda: torch.multinomial(tw, 50, True),
            lambda s: streams.multinomial(s, weights, 50, True),
            True,
        ),
    }


CALLS = [
    "rand",
    "uniform_",
    "randn",
    "normal_",
    "log_normal_",
    "bernoulli(p)",
    "bernoulli_(number)",
    "exponential_",
    "geometric_",
    "random_",
    "randint",
    "randint 2**28 - 1",
    "randint 2**28",
    "randint of all int64",
    "random_ int32",
    "random_ int64",
    "random_ bool",
    "randperm",
    "multinomial",
    "multinomial of one",
    "multinomial with replacement",
]


def compare(name, n, dtype, state):
    """Make one call on both sides; our new state."""
    import torch

    torch_call, our_call, exact = calls(n, dtype)[name]
    expected = torch_call()
    values, state = our_call(state)
    assert values.dtype.name == str(expected.dtype).removeprefix("torch.")
    expected = expected.to(torch.float64).numpy() if expected.is_floating_point() else expected.numpy()
    assert values.shape == expected.shape
    if name == "multinomial" and dtype.itemsize == 2:  # scores that round to the same number come in any order
        values, expected = np.sort(values), np.sort(expected)
    if exact:
        np.testing.assert_array_equal(values.astype(expected.dtype), expected)
    else:
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(values.astype(np.float64), expected, rtol=tolerance, atol=3 * tolerance)
    assert_same_state(state)
    return state


def assert_same_state(state):
    """Our state is where PyTorch's default generator is; the waiting sample is equal within rounding."""
    import torch

    theirs, _ = mt19937.from_torch_bytes(torch.get_rng_state().numpy())
    np.testing.assert_array_equal(state[: mt19937.HAS_NORMAL + 1], theirs[: mt19937.HAS_NORMAL + 1])
    ours, waiting = mt19937.waiting_normal(state), mt19937.waiting_normal(theirs)
    assert ours == waiting or ours == pytest.approx(waiting, rel=1e-12)


@needs_torch
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
def test_equals_pytorch(name, dtype):
    import torch

    for n in SIZES:
        for seed in SEEDS[:2] if n > 1000 else SEEDS:
            torch.manual_seed(seed)
            compare(name, n, dtype, mt19937.seed(seed))


@needs_torch
@pytest.mark.parametrize("seed", range(40))
def test_mixed_calls_equal_pytorch(seed):
    import torch

    chooser = np.random.default_rng(seed)
    torch.manual_seed(seed)
    state = mt19937.seed(seed)
    for _ in range(25):
        n = int(chooser.integers(40)) if chooser.random() < 0.8 else int(chooser.integers(2000))
        state = compare(CALLS[chooser.integers(len(CALLS))], n, FLOATS[chooser.integers(len(FLOATS))], state)


@needs_torch
def test_dropout_mask_equals_pytorch():
    import torch

    torch.manual_seed(5)
    expected = torch.nn.functional.dropout(torch.ones(1000), 0.2).numpy()
    kept, state = streams.bernoulli(mt19937.seed(5), 1000, 1 - 0.2, FLOAT32)
    np.testing.assert_array_equal(kept / np.float32(1 - 0.2), expected)
    assert_same_state(state)


@needs_torch
@pytest.mark.parametrize("draw", [
    lambda T, x: T.nn.functional.dropout(x, 0.5), lambda T, x: T.rand_like(x), lambda T, x: T.randn_like(x),
    lambda T, x: T.nn.functional.dropout(x[:, 1:], 0.5)], ids=["dropout", "rand_like", "randn_like", "not dense"])
def test_permuted_tensors_draw_in_the_order_of_memory(draw):
    import torch

    import jtorch
    found = []
    for T in (jtorch, torch):
        T.manual_seed(3)
        y = draw(T, T.ones(4, 5, 6).permute(2, 0, 1))
        found.append(y.numpy())
    np.testing.assert_allclose(*found, rtol=1e-6)


@needs_torch
def test_non_contiguous_normal_goes_sample_by_sample():
    import torch

    torch.manual_seed(5)
    expected = torch.empty(8, 5).t().normal_()  # dense: filled in memory order
    values, state = streams.normal(mt19937.seed(5), 40, FLOAT32, contiguous=False)
    np.testing.assert_allclose(values.reshape(8, 5).T, expected.numpy(), rtol=1e-6)
    assert_same_state(state)


@needs_torch
def test_state_bytes_are_pytorchs():
    import torch

    torch.manual_seed(11)
    np.testing.assert_array_equal(mt19937.to_torch_bytes(mt19937.seed(11), 11), torch.get_rng_state().numpy())
    torch.randn(5)
    torch.set_rng_state(torch.from_numpy(mt19937.to_torch_bytes(mt19937.seed(2), 2)))
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(2)))


@needs_torch
@pytest.mark.parametrize("d", ["complex64", "complex128"])
@pytest.mark.parametrize("count", [2, 40])
def test_complex(count, d):
    """Two real numbers for each complex one."""
    import torch

    import jtorch
    found = []
    for T in (torch, jtorch):
        T.manual_seed(3)
        kind = getattr(T, d)
        z = T.zeros(count, dtype=kind)
        drawn = [T.randn(count, dtype=kind), T.rand(count, dtype=kind), T.randn_like(z), T.rand_like(z),
                 z.clone().normal_(1, 2), z.clone().uniform_(-1, 3)]
        found.append([t.numpy() for t in drawn])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6)
