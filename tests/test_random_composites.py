"""The random functions as graph values give what the NumPy streams give: the same numbers and the same next state."""
import numpy as np
import pytest

from jtorch import dtypes
from jtorch.ir import mt19937
from jtorch.ir import random_streams as streams
from jtorch.ir.composites import random as rnd
from jtorch.ir.graph import Builder
from jtorch.ir.interpret import evaluate
from jtorch.ir.prims.create import make_leaf
from jtorch.ir.prims.random import STATE

SIZES = [0, 1, 5, 15, 16, 17, 40, 700]


def run(function, *args):
    b = Builder()
    state = make_leaf(b, 0, STATE)
    return evaluate(function(b, state, *args), {state: mt19937.seed(5)})


def check(got, expected, tolerance=0.0):
    values, state = expected
    np.testing.assert_array_equal(got[1], state)
    assert got[0].dtype == values.dtype
    np.testing.assert_allclose(got[0].astype(np.float64).ravel(), values.astype(np.float64).ravel(), tolerance, 1e-30)


@pytest.mark.parametrize("d", dtypes.FLOATS, ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_continuous(n, d):
    s, t = mt19937.seed(5), d.numpy
    check(run(rnd.rand, (n,), d), streams.uniform(s, n, t))
    check(run(rnd.uniform, (n,), d, -1.5, 3.25), streams.uniform(s, n, t, -1.5, 3.25))
    check(run(rnd.randn, (n,), d), streams.normal(s, n, t), 1e-6)
    check(run(rnd.normal, (n,), d, 1.5, 0.1), streams.normal(s, n, t, 1.5, 0.1), 1e-6)
    check(run(rnd.log_normal, (n,), d), streams.log_normal(s, n, t), 1e-6)
    check(run(rnd.exponential, (n,), d, 2.0), streams.exponential(s, n, t, 2.0), 1e-6)
    check(run(rnd.cauchy, (n,), d), streams.cauchy(s, n, t), 1e-6)
    check(run(rnd.geometric, (n,), d, 0.3), streams.geometric(s, n, t, 0.3))
    check(run(rnd.bernoulli, (n,), 0.3, d), streams.bernoulli(s, n, 0.3, t))
    check(run(rnd.random, (n,), d), streams.random(s, n, t))


BOUNDS = [(0, 10), (-7, 300), (0, 1 << 28), (-(1 << 40), 1 << 41), (-(1 << 63), (1 << 63) - 1)]


@pytest.mark.parametrize("low,high", BOUNDS)
def test_integers(low, high):
    s = mt19937.seed(5)
    check(run(rnd.randint, (33,), low, high), streams.randint(s, 33, low, high, np.dtype(np.int64)))


@pytest.mark.parametrize("d", [dtypes.bool_, *dtypes.INTS], ids=repr)
def test_random_of_integers(d):
    check(run(rnd.random, (33,), d), streams.random(mt19937.seed(5), 33, d.numpy))


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_permutation(n):
    check(run(rnd.randperm, n), streams.randperm(mt19937.seed(5), n, np.dtype(np.int64)))


@pytest.mark.parametrize("samples,replacement", [(1, False), (4, False), (1, True), (9, True)])
def test_multinomial(samples, replacement):
    weights = np.random.default_rng(0).random((3, 6)).astype(np.float32)
    b = Builder()
    state, w = make_leaf(b, 0, STATE), make_leaf(b, 1, rnd.op("full").infer((3, 6), 0, dtypes.float32))
    got = evaluate(rnd.multinomial(b, state, w, samples, replacement), {state: mt19937.seed(5), w: weights})
    values, after = streams.multinomial(mt19937.seed(5), weights, samples, replacement)
    np.testing.assert_array_equal(got[1], after)
    np.testing.assert_array_equal(got[0], values)
