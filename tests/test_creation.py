"""Making tensors, and what they are made into: against PyTorch."""

import copy
import pickle

import numpy as np
import pytest

import jtorch
from jtorch.capture import alike

torch = pytest.importorskip("torch")


def same(a, b):
    assert tuple(a.shape) == tuple(b.shape)
    assert str(a.dtype) == str(b.dtype)
    if b.dtype is torch.bfloat16:
        a, b = a.float(), b.float()
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6, atol=1e-7)


DATA = [
    1,
    1.5,
    True,
    2 + 3j,
    [],
    [1, 2],
    [1, 2.5],
    [True, False],
    [[1, 2], [3, 4]],
    [[]],
    (1, 2),
    np.float64(3),
    np.int32(3),
    np.arange(3),
    np.arange(3, dtype=np.float32),
    [np.arange(2), np.arange(2)],
    np.array(5),
    [1 + 2j, 3],
    [True, 2],
    np.array([True]),
    [np.float64(1.0)],
    range(3),
    [[[1.0]]],
    np.ones((2, 0)),
]


@pytest.mark.parametrize("data", DATA, ids=repr)
def test_tensor(data):
    same(jtorch.tensor(data), torch.tensor(data))
    same(
        jtorch.tensor(data, dtype=jtorch.float64) if not np.iscomplexobj(data) else jtorch.tensor(data),
        torch.tensor(data, dtype=torch.float64) if not np.iscomplexobj(data) else torch.tensor(data),
    )


MAKERS = [
    lambda m: m.zeros(2, 3),
    lambda m: m.zeros((2, 3)),
    lambda m: m.ones([2], dtype=m.int32),
    lambda m: m.zeros(()),
    lambda m: m.full((2, 2), 7),
    lambda m: m.full((2,), 1.5),
    lambda m: m.full((2,), True),
    lambda m: m.full((1,), 3, dtype=m.half),
    lambda m: m.arange(5),
    lambda m: m.arange(2, 9, 3),
    lambda m: m.arange(0.0, 1.0, 0.25),
    lambda m: m.arange(5, 0, -2),
    lambda m: m.arange(3, dtype=m.float64),
    lambda m: m.arange(1, 4.5),
    lambda m: m.arange(0),
    lambda m: m.linspace(0, 1, 5),
    lambda m: m.linspace(3, -3, 7, dtype=m.float64),
    lambda m: m.linspace(0, 10, 1),
    lambda m: m.logspace(0, 2, 3),
    lambda m: m.eye(3),
    lambda m: m.eye(2, 4, dtype=m.int64),
    lambda m: m.zeros_like(m.ones(2, dtype=m.int8)),
    lambda m: m.ones_like(m.zeros(2), dtype=m.bool),
    lambda m: m.full_like(m.zeros(2, 2), 3),
    lambda m: m.tensor([1]).new_zeros(3),
    lambda m: m.zeros(1).new_full((2,), 4),
    lambda m: m.zeros(1).new_ones(2, 2),
    lambda m: m.zeros(1).new_tensor([1, 2]),
    lambda m: m.tril_indices(3, 3),
    lambda m: m.triu_indices(3, 4, 1),
    lambda m: m.scalar_tensor(3),
    lambda m: m.empty(0, 3),
    lambda m: m.hann_window(6),
    lambda m: m.hamming_window(5, False),
    lambda m: m.complex(m.ones(2), m.zeros(2)),
    lambda m: m.as_tensor([1, 2]),
    lambda m: m.FloatTensor([1, 2]),
    lambda m: m.LongTensor([[1], [2]]),
    lambda m: m.Tensor([3]),
    lambda m: m.tensor(3.7).int(),
    lambda m: m.tensor([1.7, -1.7]).long(),
    lambda m: m.tensor([0.0, 2.0]).bool(),
    lambda m: m.tensor([300]).byte(),
    lambda m: m.tensor([1, 2]).to(m.float64),
    lambda m: m.tensor([1.0]).type(m.int16),
    lambda m: m.tensor([1.0]).type("torch.LongTensor"),
    lambda m: m.tensor([1.0]).half(),
    lambda m: m.tensor([1.0]).bfloat16(),
    lambda m: m.cartesian_prod(m.arange(2), m.arange(2)),
    lambda m: m.bartlett_window(4),
    lambda m: m.blackman_window(4),
]


@pytest.mark.parametrize("index", range(len(MAKERS)))
def test_makers(index):
    same(MAKERS[index](jtorch), MAKERS[index](torch))


def test_sharing_with_numpy_both_ways():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = jtorch.from_numpy(array)
    array[0, 0] = 10
    assert t[0, 0].item() == 10
    t[1, 2] = -1
    assert array[1, 2] == -1
    t.mul_(2)
    assert array[0, 0] == 20
    u = jtorch.zeros(4)
    back = u.numpy()
    back[1] = 3
    assert u[1].item() == 3
    u.add_(1)
    assert back.tolist() == [1, 4, 1, 1]
    v = u[2:]
    v.fill_(9)
    assert back.tolist() == [1, 4, 9, 9]
    w = v.numpy()
    w[0] = 0
    assert u.tolist() == [1, 4, 0, 9]


def test_sharing_is_not_spread_by_copies():
    x = jtorch.ones(3)
    y = x.clone()
    array = x.numpy()
    array[0] = 5
    assert y.tolist() == [1, 1, 1] and x.tolist() == [5, 1, 1]
    z = x.clone()
    array[1] = 6
    assert z.tolist() == [5, 1, 1] and x.tolist() == [5, 6, 1]
    pending = x + 1
    array[:] = 0
    assert pending.tolist() == [6, 7, 2]


def test_strided_arrays():
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (base.T, base[:, ::2], base[1:, 1:], base[::2].T, np.asfortranarray(base)):
        t, expected = jtorch.from_numpy(view), torch.from_numpy(view)
        assert tuple(t.stride()) == tuple(expected.stride())
        same(t, expected)
        t[0, 0] = 50
        assert view[0, 0] == 50
    with pytest.raises(ValueError, match="negative"):
        jtorch.from_numpy(base[::-1])


def test_a_dropped_array_no_longer_flushes():
    t = jtorch.from_numpy(np.ones(3, np.float32))
    assert not t._storage.exported()
    array = np.ones(3, np.float32)
    t = jtorch.from_numpy(array)
    assert t._storage.exported()
    part = array[1:]
    del array
    assert t._storage.exported()
    part[0] = 4
    assert t.tolist() == [1, 4, 1]
    del part
    assert not t._storage.exported()
    n = t.numpy()
    assert t._storage.exported()
    del n
    assert not t._storage.exported()


def test_python_conversions():
    assert jtorch.tensor(3).item() == 3 and isinstance(jtorch.tensor(3).item(), int)
    assert isinstance(jtorch.tensor(True).item(), bool) and isinstance(jtorch.tensor(1.0).item(), float)
    assert float(jtorch.tensor([2.5])) == 2.5 and int(jtorch.tensor(2.7)) == 2 and complex(jtorch.tensor(1.0)) == 1
    assert bool(jtorch.tensor([[1]])) and not jtorch.tensor(0.0)
    assert list(range(5))[jtorch.tensor(2)] == 2
    assert len(jtorch.zeros(4, 2)) == 4
    assert f"{jtorch.tensor(3.14159):.2f}" == "3.14"
    assert jtorch.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert np.asarray(jtorch.ones(2)).dtype == np.float32
    assert isinstance(np.exp(jtorch.zeros(2)), jtorch.Tensor)
    assert repr(jtorch.arange(3)) == repr(torch.arange(3))
    assert repr(jtorch.ones(2, requires_grad=True)) == repr(torch.ones(2, requires_grad=True))


def test_copies():
    x = jtorch.arange(4.0)
    x.requires_grad_()
    y = copy.deepcopy(x)
    assert y.requires_grad and y.tolist() == x.tolist()
    with jtorch.no_grad():
        y.zero_()
    assert x.sum().item() == 6
    z = pickle.loads(pickle.dumps(x))
    assert z.requires_grad and z.tolist() == x.tolist()
    shared = [x.detach(), x.detach()[1:]]
    first, second = copy.deepcopy(shared)
    first.zero_()
    assert second.tolist() == [0, 0, 0]
    d = x.detach()
    d[0] = 9
    assert x[0].item() == 9 and not d.requires_grad
    x.data = jtorch.zeros(2)
    assert x.shape == (2,) and x.requires_grad
    x.data.add_(1)
    assert x.tolist() == [1, 1]


def test_resize_and_set():
    a, b = jtorch.arange(6), torch.arange(6)
    same(a.resize_(2, 2), b.resize_(2, 2))
    c = jtorch.zeros(3)
    c.set_(jtorch.arange(4.0))
    assert c.tolist() == [0, 1, 2, 3]
    out = jtorch.empty(0)
    assert jtorch.add(jtorch.ones(2), 1, out=out) is out and out.tolist() == [2, 2]


def test_random_numbers_are_those_of_pytorch():
    for f in (
        lambda m: m.rand(5),
        lambda m: m.randn(3),
        lambda m: m.randn(20),
        lambda m: m.randn(37, dtype=m.float64),
        lambda m: m.randint(0, 10, (7,)),
        lambda m: m.randperm(10),
        lambda m: m.empty(5).uniform_(-2, 3),
        lambda m: m.empty(17).normal_(1, 2),
        lambda m: m.normal(0.0, m.ones(3)),
        lambda m: m.empty(4).random_(100),
        lambda m: m.bernoulli(m.full((9,), 0.3)),
        lambda m: m.multinomial(m.ones(6), 3),
        lambda m: m.rand_like(m.ones(2, 2)),
        lambda m: m.multinomial(m.tensor([0.1, 0.9]), 8, True),
        lambda m: m.empty(5, dtype=m.int64).random_(),
        lambda m: m.randint(3, (2, 2)),
        lambda m: m.empty(3, 4).t().normal_(),
        lambda m: m.empty(4).geometric_(0.4),
    ):
        jtorch.manual_seed(7)
        torch.manual_seed(7)
        for _ in range(3):
            same(f(jtorch), f(torch))


def test_generators():
    g, h = jtorch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    same(jtorch.rand(4, generator=g), torch.rand(4, generator=h))
    state = g.get_state()
    x = jtorch.randn(5, generator=g)
    g.set_state(state)
    assert jtorch.equal(x, jtorch.randn(5, generator=g))
    state = jtorch.get_rng_state()
    x = jtorch.rand(2)
    jtorch.set_rng_state(state)
    assert jtorch.equal(x, jtorch.rand(2))
    assert g.initial_seed() == 3
    jtorch.manual_seed(0)
    assert jtorch.initial_seed() == 0


def test_memory_of_numpy_is_read_when_an_operation_is_called() -> None:
    """Small arrays are copied by what reads them, large ones read at once: either way later writes come too late."""
    for size in (4, 100_000):
        array = np.ones(size, np.float32)
        t = jtorch.from_numpy(array)
        before = t * 2 + t[1:].sum()
        array[:] = 5
        after = t * 2 + t[1:].sum()
        assert before[0].item() == 2 + size - 1 and after[0].item() == 10 + 5 * (size - 1)
        t.add_(1)
        assert array[0] == 6
        array[0] = 7
        assert (t + 0)[0].item() == 7 and t[0].item() == 7
        a, b = t[0], t.flip(0)
        array[0] = 8
        assert a.item() == 8 and b[-1].item() == 7


def test_numpy_memory_with_a_gradient() -> None:
    array = np.array([1.0, 2.0], np.float32)
    t = jtorch.from_numpy(array).requires_grad_()
    y = t * t + t
    array[:] = 3
    y.sum().backward()
    assert y.tolist() == [2.0, 6.0]
    assert t.grad.shape == (2,)


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8",
                                  "uint8", "bool", "complex64"])
def test_one_number_of_a_tensor(name) -> None:
    data = [[0, 1, 0], [1, 1, 0]] if name == "bool" else [[1, 2, 3], [4, 5, 100]]
    a, b = jtorch.tensor(data, dtype=getattr(jtorch, name)), torch.tensor(data, dtype=getattr(torch, name))
    for place in ((0, 1), (1, 2)):
        for x, y in ((a, b), (a.t().t(), b), (a[:, 1:].t(), b[:, 1:].t())):
            i, j = [min(p, n - 1) for p, n in zip(place, y.shape)]
            assert x[i, j].item() == y[i, j].item() and type(x[i, j].item()) is type(y[i, j].item())
    if name == "complex64":
        assert (a * (1 + 1j)).conj().imag[0, 0].item() == (b * (1 + 1j)).conj().imag[0, 0].item() == -1


def _samples(t, n=10, shape=(3, 4)):
    return [t.from_numpy(np.random.RandomState(i).rand(*shape).astype("f4")) for i in range(n)]


@pytest.mark.parametrize("join", [
    lambda t: t.stack(_samples(t)),
    lambda t: t.stack(_samples(t), dim=0),
    lambda t: t.stack(_samples(t), 1),
    lambda t: t.stack([x + 1 for x in _samples(t)]),
    lambda t: t.stack([x.T for x in _samples(t, shape=(3, 3))]),
    lambda t: t.stack([x[1, 2] for x in _samples(t)]),
    lambda t: t.stack([*_samples(t), t.ones(3, 4, dtype=t.float64)]),
    lambda t: t.stack([t.nn.Parameter(x) for x in _samples(t)]),
    lambda t: t.stack([t.ones(2, dtype=t.complex64).mul(1j).conj()] * 9),
    lambda t: t.cat(_samples(t)),
    lambda t: t.cat([x[:i % 3] for i, x in enumerate(_samples(t))]),
    lambda t: t.cat([x.T for x in _samples(t, shape=(3, 3))]),
    lambda t: t.concat([*_samples(t), t.ones(0)], dim=0),
    lambda t: t.cat(_samples(t), out=t.ones(30, 4)),
    lambda t: t.func.vmap(lambda x: t.stack([x] * 10))(t.ones(3)),
])
def test_many_samples_joined(join) -> None:
    """Also where they are copied at once, and not recorded."""
    ours, theirs = join(jtorch), join(torch)
    assert ours.requires_grad == theirs.requires_grad
    same(ours.resolve_conj() if ours.is_complex() else ours, theirs.resolve_conj() if theirs.is_complex() else theirs)


def test_joined_samples_are_a_copy_and_errors_are_pytorchs() -> None:
    xs = _samples(jtorch)
    whole = jtorch.stack(xs)
    xs[0].fill_(9)
    same(whole, torch.stack(_samples(torch)))
    x = jtorch.ones(3, requires_grad=True)
    jtorch.stack([x] * 9 + [jtorch.zeros(3)]).sum().backward()
    assert x.grad.tolist() == [9, 9, 9]
    with pytest.raises(RuntimeError, match=r"stack expects each tensor to be equal size, but got \[3, 4\] at entry 0 "
                                           r"and \[3, 5\] at entry 10"):
        jtorch.stack([*xs, jtorch.ones(3, 5)])
    with pytest.raises(RuntimeError, match="zero-dimensional tensor .at position 0. cannot be concatenated"):
        jtorch.cat([x[0, 0] for x in xs])


def _rows(t, n=12, shape=(3, 4), dtype="float32"):
    data = t.tensor(np.random.RandomState(0).randn(n, *shape) * 9).to(getattr(t, dtype))
    data[0].sum().item()  # it is there
    return [data[i] for i in range(n)]


def _written(t):
    rows = _rows(t)
    for i, x in enumerate(rows):
        rows[i] = x.sub(0.5).div_(0.31)
    return rows


def _erased(t) -> list:
    rows = [x.clone() for x in _rows(t)]
    for i, x in enumerate(rows):
        x[1:, :2] = 0.0
        x[0] = i + 0.5
    return rows


ALIKE = [
    lambda t: [(x - 0.13) / 0.31 for x in _rows(t)],
    lambda t: [x * (i + 5) + (i + 4) / 7.3 for i, x in enumerate(_rows(t))],  # numbers of their own
    lambda t: [x * complex(0.0, 0.0 if i % 2 else -0.0) for i, x in enumerate(_rows(t))],
    lambda t: [x * float("nan") for x in _rows(t)],
    lambda t: [x.float() / 255 for x in _rows(t, dtype="uint8")],
    lambda t: [(x.half() * 4).float() for x in _rows(t)],  # exact: a compiled chain of half types rounds at its end
    lambda t: [x * m + m for m in [t.full((4,), 1.5)] for x in _rows(t)],  # a tensor that all share
    lambda t: [t.where(x > 0, x, t.zeros(3, 4)).flip(1).t()[1:] for x in _rows(t)],
    lambda t: [x[0, 1] * 2 for x in _rows(t)],
    lambda t: [t.ones(3, 4) * 2 for _ in range(9)],  # the same value
    lambda t: [x // (i + 4) for i, x in enumerate(_rows(t, dtype="int64"))],
    lambda t: [x + 1 if i != 5 else x - 2 for i, x in enumerate(_rows(t))],  # three runs
    lambda t: [x[1:, i % 2:i % 2 + 3] / 2 for i, x in enumerate(_rows(t))],  # other places of each
    lambda t: [(x.flip(i % 2) - 1) / 4 for i, x in enumerate(_rows(t))],
    lambda t: [t.nn.functional.pad(x, (i, 12 - i)) * 5 for i, x in enumerate(_rows(t))],
    lambda t: [x.t().reshape(4, 3) * 0.1 for x in _rows(t)],
    lambda t: [x[:1].expand(3, 4) + x for x in _rows(t)],
    lambda t: [x * (0.0 if i % 2 else -0.0) for i, x in enumerate(_rows(t))],
    lambda t: [x - (i % 3) / 2 for i, x in enumerate(_rows(t))],  # some of them constants
    lambda t: [x * 2j + 1 for x in _rows(t, dtype="complex64")],
    _written,
    _erased,
]


@pytest.mark.parametrize("number", range(len(ALIKE)))
def test_samples_that_are_pending_in_the_same_way_are_computed_at_once(number, monkeypatch) -> None:
    found = []
    stacked = alike.stacked
    monkeypatch.setattr(alike, "stacked", lambda *args: found.append(stacked(*args)) or found[-1])
    theirs = torch.stack(ALIKE[number](torch))
    for _ in range(3):  # interpreted, and compiled
        samples = ALIKE[number](jtorch)
        ours = jtorch.stack(samples)
        same(ours, theirs)
        assert np.array_equal(np.signbit(ours.real.numpy()), np.signbit(theirs.real.numpy()))
        same(samples[3], theirs[3])
    assert len(found) == 3 and None not in found


@pytest.mark.parametrize("samples", [
    lambda t: [x + 1 if i % 2 else x - 2 for i, x in enumerate(_rows(t))],
    lambda t: [(x - x.mean()) / x.std() for x in _rows(t)],
    lambda t: [t.softmax(x, 0) for x in _rows(t)],
    lambda t: [x.cummax(1)[0] for x in _rows(t)],
    lambda t: [x * p for p in [t.nn.Parameter(t.full((4,), 2.0))] for x in _rows(t)],
    lambda t: [t.manual_seed(i) and x + t.rand(3, 4) for i, x in enumerate(_rows(t))],
])
def test_samples_that_are_pending_in_other_ways(samples) -> None:
    theirs = torch.stack(samples(torch))
    for _ in range(3):
        ours = jtorch.stack(samples(jtorch))
        assert ours.requires_grad == theirs.requires_grad
        same(ours, theirs)


def test_pending_samples_keep_what_they_were_made_of() -> None:
    data = jtorch.arange(48.0).reshape(12, 4).clone()
    before = data.numpy().copy()
    samples = [data[i] * 2 for i in range(12)]
    whole = jtorch.stack(samples)
    data.zero_()
    samples[1].add_(1)
    assert np.array_equal(whole.numpy(), before * 2) and np.array_equal(samples[1].numpy(), before[1] * 2 + 1)
    samples = [jtorch.arange(4) // jtorch.tensor(i - 3) for i in range(12)]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        jtorch.stack(samples).numpy()
    whole = jtorch.func.vmap(lambda x: jtorch.stack([x * 2] * 9))(jtorch.ones(3))
    assert whole.shape == (3, 9)
    traced = jtorch.jit.trace(lambda x: jtorch.stack([x[i] * 2 for i in range(12)]))
    for _ in range(2):
        assert np.array_equal(traced(jtorch.tensor(before)).numpy(), before * 2)


@pytest.mark.parametrize("case", [
    lambda t: t.vander(t.tensor([1.0, 2, 3])), lambda t: t.vander(t.tensor([1, 2, 3], dtype=t.int32), 4, True),
    lambda t: t.vander(t.tensor([True, False])), lambda t: t.vander(t.ones(2), 0), lambda t: t.vander(t.ones(2), N=1),
    lambda t: t.vander(t.ones(0)), lambda t: t.vander(t.ones(0), 3),
])
def test_vander(case) -> None:
    same(case(jtorch), case(torch))
