"""unique, unique_consecutive, bincount, histc and bags against PyTorch: what is counted, and what is sorted."""
import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch")


def same(found, wanted):
    found, wanted = (x if isinstance(x, tuple) else (x,) for x in (found, wanted))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert str(a.dtype) == str(b.dtype)


@pytest.mark.parametrize("name", ["unique", "unique_consecutive"])
@pytest.mark.parametrize("kind", ["int64", "uint8", "int8", "far apart", "bool", "float32"])
def test_unique(name, kind):
    x = np.random.default_rng(0).integers(-5, 40, (50, 3))
    x = x * 10**12 if kind == "far apart" else x > 3 if kind == "bool" else x.astype(kind)
    for kwargs in ({}, {"return_inverse": True}, {"return_counts": True},
                   {"return_inverse": True, "return_counts": True}, {"return_inverse": True, "dim": 1}):
        for array in (x, x[:0]) if "dim" not in kwargs else (x,):
            same(getattr(jtorch.tensor(array), name)(**kwargs), getattr(torch.tensor(array), name)(**kwargs))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_histc(dtype):
    rng = np.random.default_rng(1)
    for scale in (1, 100, 1e-3):
        x = (rng.standard_normal(5000) * scale).astype(dtype)
        for given in ((100,), (7, -1, 1), (13, 0.1, 0.7), (64, -3, 3), (5, 3, 3)):
            same(jtorch.tensor(x).histc(*given), torch.tensor(x).histc(*given))
    x[3] = np.nan
    same(jtorch.tensor(x).histc(5, 0, 1), torch.tensor(x).histc(5, 0, 1))
    for given in ((5,), (5, 3, 2)):
        with pytest.raises(RuntimeError, match="histc"):
            jtorch.tensor(x).histc(*given)


def test_bincount():
    for args in (([3, 1, 3],), ([3, 1, 3], [1, 2, 4]), ([],), ([1, 1], None, 7)):
        arguments = [[lib.tensor(a, dtype=lib.int64) if isinstance(a, list) else a for a in args]
                     for lib in (jtorch, torch)]
        same(jtorch.bincount(*arguments[0]), torch.bincount(*arguments[1]))
    for bad in ([-1, 2], [[1, 2]]):
        with pytest.raises(RuntimeError, match="non-negative"):
            jtorch.bincount(jtorch.tensor(bad))
    with pytest.raises(RuntimeError, match="same length"):
        jtorch.bincount(jtorch.tensor([1, 2]), jtorch.tensor([1.0]))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_one_size(mode):
    rng = np.random.default_rng(0)
    numbers, table = rng.integers(0, 9, (5, 4)), rng.standard_normal((9, 3)).astype(np.float32)
    for kwargs in ({}, {"padding_idx": 2}):
        results = []
        for lib in (jtorch, torch):
            w = lib.tensor(table).requires_grad_()
            y = lib.nn.functional.embedding_bag(lib.tensor(numbers), w, mode=mode, **kwargs)
            (y * y).sum().backward()
            results.append((y.detach(), w.grad))
        for found, wanted in zip(*results):
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-6)
