"""Small writes that are done at once are what recorded ones are: nobody who counts on the old contents sees the new."""
from __future__ import annotations

import threading

import numpy as np
import pytest

import jtorch as torch
from jtorch.config import config
from jtorch.ops import direct


@pytest.fixture
def writes(monkeypatch):
    """How many writes were done at once."""
    done = []
    original = direct.written
    monkeypatch.setattr(direct, "written", lambda storage: done.append(storage) or original(storage))
    return done


def data(*shape: int) -> torch.Tensor:
    return torch.tensor(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


def test_random_writes(writes, monkeypatch) -> None:
    """Writes through views of all kinds, of numbers and of other parts, between reads that stay pending or do not."""
    monkeypatch.setattr(config, "eager_compile", "never")
    chooser = np.random.default_rng(0)
    parts = [lambda x: x[-2], lambda x: x[1:5:2], lambda x: x.T[2:4], lambda x: x.reshape(-1)[3:20],
             lambda x: x[2:4, 1:3]]

    def check(pairs):
        for found, wanted in pairs:
            np.testing.assert_array_equal(found.tolist(), wanted)
        pairs.clear()

    for _ in range(20):
        x, expected = data(6, 6), np.arange(36, dtype=np.float32).reshape(6, 6)
        kept = []
        for _ in range(12):
            part, action = parts[chooser.integers(len(parts))], int(chooser.integers(5))
            target, mirror = part(x), part(expected)
            if action == 0:
                number = float(chooser.standard_normal())
                target[...] = number
                mirror[...] = number
            elif action == 1:
                values = chooser.standard_normal(mirror.shape).astype(np.float32)
                target.copy_(torch.from_numpy(values))
                mirror[...] = values
            elif action == 2:  # from itself: as if what is read had been copied first
                target.copy_(x.flatten()[:mirror.size].reshape(mirror.shape))
                mirror[...] = expected.flatten()[:mirror.size].reshape(mirror.shape)
            elif action == 3:
                kept += [(x * 2, expected * 2), (x.clone(), expected.copy())]
            else:
                check(kept)
        check([*kept, (x, expected)])
    assert len(writes) > 20


def test_what_others_hold_stays(writes) -> None:
    x = data(4)
    pending, copy = x + 1, x.clone()
    x[0] = 7.0
    assert not writes and pending.tolist() == [1, 2, 3, 4] and copy.tolist() == [0, 1, 2, 3]
    x[1] = 8.0  # the copy may still have the same memory
    assert copy.tolist() == [0, 1, 2, 3] and x.tolist() == [7, 8, 2, 3]
    rows = data(4, 4)
    torch.synchronize()
    row = rows[1] * 2  # a part of settled data is a leaf of its own
    row = rows[1] * 2
    rows[1] = 0.0
    assert row.tolist() == [8, 10, 12, 14] and rows[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("flushed", [False, True])
def test_gradients_of_what_was_read(flushed: bool) -> None:
    w, x = torch.ones(4, requires_grad=True), data(4)
    loss = (w * x).sum()
    if flushed:
        torch.synchronize()
    x[0] = 100.0
    x[1:] = data(3)
    loss.backward()
    assert w.grad.tolist() == [0, 1, 2, 3] and x.tolist() == [100, 0, 1, 2]


def test_writes_that_are_recorded(writes) -> None:
    leaf = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        leaf[0] = 1.0
    with pytest.raises(RuntimeError, match="single memory location"):
        data(1).expand(3)[...] = 2.0
    target = torch.zeros(3)
    target[1] = leaf[0] * 2
    target.sum().backward()
    assert leaf.grad.tolist() == [2, 0, 0]
    with torch.no_grad():
        leaf[1] = 5.0
    assert leaf.tolist() == [1, 5, 1]
    large = torch.zeros(direct.MOST)
    large[:] = 1.0
    overlapping = data(4).as_strided((2, 2), (1, 1))
    overlapping.copy_(data(2, 2))
    assert not writes
    leaf.data[2] = 6.0
    assert len(writes) == 1 and leaf.tolist() == [1, 5, 6]


def test_numbers(writes) -> None:
    for d, numbers in ((torch.float32, (1.5, -2, float("inf"), float("nan"), 1e-42)), (torch.int64, (3, -1)),
                       (torch.bool, (True, False)), (torch.float64, (0.1, 3)), (torch.int8, (5,)),
                       (torch.bfloat16, (1.25,))):
        for number in numbers:
            one, more = torch.zeros(3, dtype=d), torch.zeros(3, 3, dtype=d)
            torch.synchronize()
            one[1], more[1] = number, number
            wanted = np.zeros(3, np.float64)
            wanted[1] = np.float32(number) if d is torch.float32 else number
            if number != 1e-42:  # kernels may take it for zero
                np.testing.assert_array_equal(one.to(torch.float64).numpy(), wanted)
                np.testing.assert_array_equal(more[1].to(torch.float64).numpy(), np.full(3, wanted[1]))
    assert writes
    x = torch.zeros(2, dtype=torch.int64)
    for write in (lambda: x.fill_(1 << 70), lambda: x.__setitem__(0, 1 << 70)):
        with pytest.raises(OverflowError, match="int too big"):
            write()
    for write in (lambda: x.fill_(1e300), lambda: torch.zeros(2).__setitem__(0, 1e300)):  # as PyTorch
        with pytest.raises(RuntimeError, match="without overflow"):
            write()
    assert x.tolist() == [0, 0]


def test_rows(writes) -> None:
    x, expected = data(4, 3), np.arange(12, dtype=np.float32).reshape(4, 3)
    torch.synchronize()
    for i, value in ((1, data(3)), (-1, data(6)[::2]), (2, data(1)), (0, data(1, 3)), (3, data(4, 3)[2]), (2, 8.0)):
        x[i] = value
        expected[i] = np.array(value.tolist() if isinstance(value, torch.Tensor) else value)
    assert x.tolist() == expected.tolist() and len(writes) == 6
    for i, value in ((4, 1.0), (-5, data(3)), (1, data(2))):
        with pytest.raises((IndexError, RuntimeError)):
            x[i] = value
    empty, scalar = torch.zeros(3, 0), torch.zeros(())
    empty[1] = torch.zeros(0)
    with pytest.raises(IndexError):
        scalar[0] = 1.0
    assert x.tolist() == expected.tolist()


def test_shared_memory(writes) -> None:
    array = np.zeros((2, 3), np.float32)
    x = torch.from_numpy(array)
    x[1] = data(3)
    assert len(writes) == 1 and array.tolist() == [[0, 0, 0], [0, 1, 2]]
    y = torch.zeros(3)
    seen, same = y.numpy(), y.detach()
    y[1] = 4.0
    assert seen.tolist() == same.tolist() == [0, 4, 0]


def test_indices_are_looked_at_again(writes) -> None:
    x, places = data(4), torch.tensor([0, 1])
    assert x[places].tolist() == [0, 1]
    places[1] = 9
    assert writes
    with pytest.raises(IndexError):
        x[places]


def test_in_traces_threads_and_profiles(writes) -> None:
    state = torch.zeros(3)

    @torch.jit.trace
    def step(x):
        state[0] = x[1]
        state[2] = 5.0
        return state + x

    for _ in range(3):
        assert step(data(3)).tolist() == [1, 1, 7]
    assert state.tolist() == [1, 0, 5]
    x, found, read, written = data(3), [], threading.Event(), threading.Event()

    def reader():
        y = x * 2
        read.set()
        written.wait()
        found.append(y.tolist())

    torch.synchronize()
    before = len(writes)
    thread = threading.Thread(target=reader)
    thread.start()
    read.wait()
    x[0] = 50.0
    written.set()
    thread.join()
    assert found == [[0, 2, 4]] and x.tolist() == [50, 1, 2] and len(writes) == before
    y = data(3)
    torch.synchronize()
    with torch.profiler.profile() as profile:
        y[0] = 3.0
        torch.synchronize()
    assert len(profile.events()) > 0 and len(writes) == before


def test_places(writes) -> None:
    """Elements that indices of all dimensions name; what is pending keeps the old ones, and a bad index writes none."""
    chooser = np.random.default_rng(1)
    x, expected = data(6, 7), np.arange(42, dtype=np.float32).reshape(6, 7)
    for k in range(8):
        before, wanted = x * 2, expected * 2
        i, j = chooser.integers(-6, 6, 5), chooser.integers(-7, 7, 5)
        values = chooser.standard_normal(5).astype(np.float32)
        if k % 2:
            x.index_put_((torch.tensor(i), torch.tensor(j)), torch.tensor(values))
        else:
            x[torch.tensor(i), torch.tensor(j)] = torch.tensor(values)
        expected[i, j] = values
        np.testing.assert_array_equal(before.tolist(), wanted)
        np.testing.assert_array_equal(x.tolist(), expected)
    assert not writes, "there was always something pending that reads the old elements"
    x[torch.tensor([1, 2]), torch.tensor([3, 4])] = 7.5
    x.T[torch.tensor([0]), torch.tensor([5])] = -1.0
    assert len(writes) == 2
    expected[[1, 2], [3, 4]], expected[5, 0] = 7.5, -1
    with pytest.raises(IndexError):
        x[torch.tensor([0, 6]), torch.tensor([0, 0])] = 9.0
    with pytest.raises(IndexError):
        x.index_put_((torch.tensor([0, -7]), torch.tensor([0, 0])), torch.ones(2))
    x[torch.tensor([0]), torch.tensor([0])] = x[1, :1]  # of its own memory
    expected[0, 0] = expected[1, 0]
    np.testing.assert_array_equal(x.tolist(), expected)
    assert len(writes) == 2
