"""Indexing against PyTorch: random indices to read and write, and the functions that index."""

import random

import numpy as np
import pytest

import jtorch
from jtorch.errors import TraceError

torch = pytest.importorskip("torch")


def pair(array):
    return jtorch.tensor(array), torch.tensor(array)


def same(a, b, context=""):
    assert tuple(a.shape) == tuple(b.shape), context
    assert str(a.dtype) == str(b.dtype), context
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), err_msg=str(context), rtol=1e-6)


def random_item(rng, n, lengths):
    """One item of an index for a dimension of size n: (kind, value), tensors as NumPy arrays."""
    kind = rng.choice(["int", "slice", "slice", "tensor", "list", "mask", "all"])
    if kind == "int":
        return rng.randint(-n, n - 1)
    if kind == "slice":
        return slice(
            rng.choice([None, rng.randint(-n, n)]), rng.choice([None, rng.randint(-n, n)]), rng.choice([None, 1, 2, 3])
        )
    if kind == "tensor":
        shape = lengths if rng.random() < 0.5 else lengths[-1:]
        return np.array([rng.randint(-n, n - 1) for _ in range(int(np.prod(shape)))], np.int64).reshape(shape)
    if kind == "list":
        return [rng.randint(-n, n - 1) for _ in range(lengths[-1])]
    if kind == "mask":
        mask = np.zeros(n, bool)
        mask[rng.sample(range(n), min(n, lengths[-1]))] = True
        return mask if mask.sum() == lengths[-1] else slice(None)
    return slice(None)


def random_index(rng, shape):
    lengths = (rng.randint(1, 2), rng.randint(1, 3))
    items = [random_item(rng, n, lengths) for n in shape[: rng.randint(1, len(shape))]]
    if rng.random() < 0.3:
        items.insert(rng.randint(0, len(items)), None)
    if rng.random() < 0.3:
        place = rng.randint(0, len(items))
        items = items[:place] + [Ellipsis] + items[place:]
    return items


def as_tensors(module, items):
    found = tuple(module.tensor(i) if isinstance(i, np.ndarray) else i for i in items)
    return found[0] if len(found) == 1 and not isinstance(found[0], list) else found


def outcome(call):
    try:
        return call(), None
    except Exception as error:
        return None, error


def test_random_reads():
    rng = random.Random(1)
    for trial in range(600):
        shape = tuple(rng.randint(1, 4) for _ in range(rng.randint(1, 4)))
        a, b = pair(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
        if rng.random() < 0.3 and len(shape) > 1:
            a, b = a.transpose(0, 1), b.transpose(0, 1)
        items = random_index(rng, tuple(a.shape))
        (x, problem), (y, expected) = (
            outcome(lambda t=t, m=m, i=items: t[as_tensors(m, i)]) for t, m in ((a, jtorch), (b, torch))
        )
        assert (problem is None) == (expected is None), (trial, shape, items, problem, expected)
        if expected is None:
            same(x, y, (trial, shape, items))


def test_random_writes():
    rng = random.Random(2)
    for trial in range(600):
        shape = tuple(rng.randint(1, 4) for _ in range(rng.randint(1, 4)))
        a, b = pair(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
        items = random_index(rng, tuple(a.shape))
        part, problem = outcome(lambda t=b, i=items: t[as_tensors(torch, i)])
        if problem is not None or not part.numel():
            continue
        if rng.random() < 0.4:
            x = y = rng.random()
        else:
            source = np.arange(part.numel(), dtype=np.float32).reshape(part.shape) + 100
            if source.ndim and rng.random() < 0.3:
                source = source[:1]
            x, y = pair(source)
        wants_last = any(isinstance(i, (np.ndarray, list)) for i in items) and not isinstance(x, float)
        if wants_last:  # places named twice: which one stays is not defined, so write one value
            x, y = 7.5, 7.5
        add = rng.random() < 0.3
        for t, m, v in ((a, jtorch, x), (b, torch, y)):
            index = as_tensors(m, items)
            if add:
                t[index] += v
            else:
                t[index] = v
        same(a, b, (trial, shape, items))


def test_masks():
    rng = np.random.default_rng(0)
    array = rng.standard_normal((3, 4)).astype(np.float32)
    mask = array > 0
    for write in (
        lambda x, m, lib: x.__setitem__(m, 0.0),
        lambda x, m, lib: x.__setitem__(m, lib.tensor(5.0)),
        lambda x, m, lib: x.__setitem__(m, x[m] * 2),
        lambda x, m, lib: x.__setitem__(m[:, 0], lib.arange(4.0)),
        lambda x, m, lib: x.__setitem__(~m, lib.arange(float((~m).sum()))),
        lambda x, m, lib: x.masked_fill_(m, 3),
        lambda x, m, lib: x[1:].__setitem__(m[1:], -1),
        lambda x, m, lib: x.masked_scatter_(m, lib.arange(12.0)),
    ):
        a, b = pair(array)
        ma, mb = pair(mask)
        write(a, ma, jtorch)
        write(b, mb, torch)
        same(a, b)
    a, b = pair(array)
    ma, mb = pair(mask)
    same(a[ma], b[mb])
    same(a[ma[:, 0]], b[mb[:, 0]])
    same(a[:, ma[0]], b[:, mb[0]])
    same(a.masked_select(ma), b.masked_select(mb))
    same(jtorch.nonzero(ma), torch.nonzero(mb))
    for x, y in zip(ma.nonzero(as_tuple=True), mb.nonzero(as_tuple=True)):
        same(x, y)
    same(jtorch.where(ma, a, 0.0), torch.where(mb, b, 0.0))
    same(a[True], b[True])
    same(a[None, False], b[None, False])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (8,), (9,), (1000,), (3, 0), (5, 3), (17, 23), (2, 3, 4, 19)])
@pytest.mark.parametrize("density", [0, 0.02, 0.5, 1])
def test_what_masks_select(shape, density):
    rng = np.random.default_rng(7)
    bits = rng.random(shape) < density
    for mask, of in ((bits, jtorch.tensor(bits)), (bits.T, jtorch.tensor(bits).permute(*range(bits.ndim)[::-1]))):
        found = np.argwhere(mask)
        np.testing.assert_array_equal(of.nonzero().numpy(), found, strict=True)
        for x, y in zip(of.nonzero(as_tuple=True), mask.reshape(mask.shape or 1).nonzero(), strict=True):
            np.testing.assert_array_equal(x.numpy(), y, strict=True)
        for dtype in ("bool", "int8", "float16", "float32", "int64", "complex128"):
            for rest in ((), (3,)):
                data = (rng.standard_normal((*mask.shape, *rest)) * 9).astype(dtype)
                np.testing.assert_array_equal(jtorch.tensor(data)[of].numpy(), data[mask], strict=True)
                np.testing.assert_array_equal(jtorch.tensor(data).nonzero().numpy(), np.argwhere(data), strict=True)


def test_selection_from_what_is_not_plain_memory():
    """A view, a pending value, a conjugate, bytes of a bool that are neither 0 nor 1, a value with gradients."""
    data = np.arange(24.0).reshape(4, 6)
    x, bits = jtorch.tensor(data), data.T % 3 == 0
    np.testing.assert_array_equal(x.T[jtorch.tensor(bits)].numpy(), data.T[bits])
    np.testing.assert_array_equal((x + 1)[x.exp() > 50].numpy(), data[data > 3.92] + 1)
    np.testing.assert_array_equal(x[1:, ::2][x[1:, ::2] > 9].numpy(), data[1:, ::2][data[1:, ::2] > 9])
    z = jtorch.tensor(data * 1j).conj()
    np.testing.assert_array_equal(z[z.imag < -5].resolve_conj().numpy(), (data * -1j)[data > 5])
    odd = jtorch.tensor([2, 0, 255, 1, 0, 128, 64, 3, 0], dtype=jtorch.uint8).view(jtorch.bool)
    assert odd.nonzero().flatten().tolist() == [0, 2, 3, 5, 6, 7]
    assert x.flatten()[:9][odd].tolist() == [0, 2, 3, 5, 6, 7]
    x.requires_grad_()
    x[x > 20].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), data > 20)
    with jtorch.no_grad():
        assert not x[x > 20].requires_grad


def test_a_trace_does_not_keep_what_a_mask_selected():
    """The mask is state of the function: it may be another one in the next call."""
    x, mask = jtorch.arange(3.0), jtorch.tensor([True, False, True])
    assert mask.nonzero().shape == (2, 1)
    for select in (lambda x: x[mask], lambda x: x + mask.nonzero().sum()):
        with pytest.raises(TraceError, match="needs the value of a tensor"):
            jtorch.jit.trace(select)(x)


def test_gradients():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    index = np.array([0, 2, 2])
    for f in (
        lambda x, i, m: x[i] ** 2,
        lambda x, i, m: x[i, i],
        lambda x, i, m: x[x > 4] * x[x > 4],
        lambda x, i, m: x.gather(0, i[None, :3]) * 2,
        lambda x, i, m: x.index_select(0, i) ** 2,
        lambda x, i, m: x.masked_select(x > 2) ** 2,
        lambda x, i, m: x[1:, ::2] ** 3,
        lambda x, i, m: x.max(1)[0] ** 2,
        lambda x, i, m: m.take(x, i) ** 2,
        lambda x, i, m: (x * 2).index_add(0, i, x * x),
        lambda x, i, m: x.scatter_add(0, i[None, :], x[:1, :3] * 2) * x,
        lambda x, i, m: x.clone().index_put_((i,), x[0] * 3, accumulate=True) ** 2,
    ):
        a, b = pair(array)
        ia, ib = pair(index)
        a.requires_grad_()
        b.requires_grad_()
        f(a, ia, jtorch).sum().backward()
        f(b, ib, torch).sum().backward()
        same(a.grad, b.grad)


def test_writes_are_differentiable():
    for write in (
        lambda y, x: y.__setitem__(0, x[1] * 2),
        lambda y, x: y[:, 1].mul_(3),
        lambda y, x: y.diagonal().add_(x[0, 0]),
        lambda y, x: y.__setitem__(y > 3, 0.0),
        lambda y, x: y.masked_fill_(x > 2, 1.0),
        lambda y, x: y.t()[1:].copy_(x.t()[:-1]),
    ):
        a, b = pair(np.arange(9, dtype=np.float32).reshape(3, 3))
        for x in (a, b):
            x.requires_grad_()
            y = x * 1.5
            write(y, x)
            (y * y).sum().backward()
        same(a.grad, b.grad)


FUNCTIONS = [
    lambda m, x, i: m.gather(x, 1, i),
    lambda m, x, i: m.take_along_dim(x, i, 1),
    lambda m, x, i: x.scatter(1, i, 5.0),
    lambda m, x, i: x.scatter(1, i[:, :1], x * 2),
    lambda m, x, i: x.scatter_add(1, i, x),
    lambda m, x, i: x.scatter_reduce(1, i, x, "amax"),
    lambda m, x, i: x.scatter_reduce(1, i, x, "mean", include_self=False),
    lambda m, x, i: x.scatter_reduce(1, i, x, "prod"),
    lambda m, x, i: x.index_select(1, i[0]),
    lambda m, x, i: x.index_add(1, i[0], x, alpha=2),
    lambda m, x, i: x.index_fill(0, i[:, 0] % 3, -1.0),
    lambda m, x, i: x.index_copy(0, m.tensor([2, 0, 1]), x * 3),
    lambda m, x, i: m.take(x, i),
    lambda m, x, i: x.put(i[0], x[0]),
    lambda m, x, i: x.index_put((i[:, 0] % 3, i[:, 1]), m.tensor(9.0)),
    lambda m, x, i: x.clone().fill_diagonal_(8),
    lambda m, x, i: m.searchsorted(m.tensor([1.0, 3.0, 5.0]), x),
    lambda m, x, i: m.bucketize(x, m.tensor([1.0, 3.0, 5.0]), right=True),
    lambda m, x, i: m.isin(i, m.tensor([1, 3])),
    lambda m, x, i: m.argwhere(x > 3),
    lambda m, x, i: x.repeat_interleave(m.tensor([1, 0, 2]), 0),
    lambda m, x, i: x.repeat_interleave(3, -1),
    lambda m, x, i: x.repeat_interleave(20, 1),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions(function):
    a, b = pair(np.arange(12, dtype=np.float32).reshape(3, 4))
    ia, ib = pair(np.array([[0, 3, 1, 2], [1, 1, 0, 3], [2, 0, 3, 1]]))
    same(function(jtorch, a, ia), function(torch, b, ib))


def test_numpy_and_scalar_indices():
    a, b = pair(np.arange(12.0).reshape(3, 4))
    for x, m in ((a, jtorch), (b, torch)):
        x[np.int64(1), 0] = 3
        x[m.tensor(2)] = m.arange(4)
        x[np.array([0, 1]), 1] = 5
    same(a, b)
    same(a[jtorch.tensor(1)], b[torch.tensor(1)])
    same(a[:, jtorch.tensor(1)], b[:, torch.tensor(1)])
    assert a[jtorch.tensor(1)]._storage is a._storage


def test_iteration_and_unpacking():
    a = jtorch.arange(6).reshape(3, 2)
    assert [r.tolist() for r in a] == [[0, 1], [2, 3], [4, 5]]
    first, *rest = a
    assert first.tolist() == [0, 1] and len(rest) == 2
    assert 4 in a and 9 not in a


@pytest.mark.parametrize("shape", [(), (4,), (20, 4)])
def test_scatter_in_place(shape, monkeypatch):
    """The kernel begins with what is there."""
    monkeypatch.setattr(jtorch.config.config, "eager_compile", "sync")
    monkeypatch.setattr(jtorch.config.config, "compile_after", 1)
    for reduce in ({}, {"reduce": "add"}, {"reduce": "multiply"}):
        found, wanted = [m.full(shape, 3.0) for m in (jtorch, torch)]
        jtorch.synchronize()
        found.scatter_(-1, jtorch.zeros(shape, dtype=jtorch.int64), 2.5, **reduce)
        wanted.scatter_(-1, torch.zeros(shape, dtype=torch.int64), 2.5, **reduce)
        assert found.tolist() == wanted.tolist()
