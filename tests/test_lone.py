"""The built-in functions of the eager path (`capture.lone`) do as Python does, and nothing is lost or leaked."""

import gc
import operator
import threading

import numpy as np
import pytest

import jtorch
from jtorch.capture.record import current, not_at_once
from jtorch.config import config


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch):
    """The second run of a graph is compiled; a recorder that knows nothing yet."""
    monkeypatch.setattr(config, "eager_compile", "sync")
    monkeypatch.setattr(config, "compile_after", 2)
    jtorch.synchronize()
    current.recorder.reset()


def repeat(step, times=5):
    """The results of a step that is one epoch each time, as arrays."""
    jtorch.synchronize()
    return [step().numpy().copy() for _ in range(times)]


def in_python(step):
    """The same without the built-in functions."""
    recorder = current.recorder
    kept = recorder.record, recorder.flush_lone
    recorder.record, recorder.flush_lone = not_at_once, lambda *args: False
    recorder.record = lambda *args: None  # `equip` leaves it alone
    try:
        return repeat(step, 1)[0]
    finally:
        recorder.record, recorder.flush_lone = kept


x = np.linspace(-2, 3, 24).reshape(4, 6)

STEPS = {
    "tensors": lambda t: t + t,
    "constant": lambda t: t * 2,
    "reflected": lambda t: 1 - t,
    "zero": lambda t: t + 0,
    "negative zero": lambda t: t * -0.0,
    "float": lambda t: t * 2.75,
    "reflected float": lambda t: 2.75 - t,
    "int": lambda t: t * 7,
    "negative int": lambda t: t * -1000,
    "bool": lambda t: t + True,
    "two scalars": lambda t: jtorch.clamp(t, -0.7, 1.3),
    "one argument": lambda t: t.exp(),
    "ints": lambda t: t.sum(1),
    "tuple of ints": lambda t: t.sum((0, 1)),
    "list of ints": lambda t: t.sum([1]),
    "no dims": lambda t: t.mean(),
    "keyword": lambda t: t.sum(1, keepdim=True),
    "string": lambda t: jtorch.div(t, 0.7, rounding_mode="floor"),
    "list of tensors": lambda t: jtorch.cat([t, t]),
    "view": lambda t: t[1:3] + 1,
    "transposed": lambda t: t.T.contiguous(),
    "index": lambda t: t[jtorch.tensor([2, 0]), jtorch.tensor([1, 5])],
    "two operations": lambda t: (t + t) * t,
    "number": lambda t: jtorch.nn.functional.leaky_relu(t, 0.3),
}


@pytest.mark.parametrize("name", STEPS)
def test_as_in_python(name):
    t = jtorch.tensor(x)
    results = repeat(lambda: STEPS[name](t))[2:]  # the first ones are NumPy's
    wanted = in_python(lambda: STEPS[name](t))
    assert current.recorder.flush_lone is not None
    for r in results:
        assert r.dtype == wanted.dtype
        np.testing.assert_array_equal(r, wanted)


def test_run_time_scalars_are_not_baked_in():
    t = jtorch.tensor(x)
    for number in (3.5, 0.25, 17.0, 1e300, 7, 12, -9, 2**40, 2, 0, True, -0.0):
        np.testing.assert_array_equal((t * number).numpy(), x * number)
    with pytest.raises(OverflowError):
        t * 2**63
    np.testing.assert_array_equal((t * 7).numpy(), x * 7)


def test_other_data_sizes_and_dtypes():
    for shape in ((3,), (2, 5), (), (0, 4), (7, 1, 3)):
        for dtype in (np.float32, np.int64):
            for k in range(4):
                a = np.full(shape, k + 1, dtype)
                np.testing.assert_array_equal((jtorch.tensor(a) + jtorch.tensor(a)).numpy(), a + a)


def test_writes_between_the_calls_are_seen():
    t = jtorch.zeros(5)
    for k in range(6):
        np.testing.assert_array_equal((t + 1).numpy(), np.full(5, k + 1, np.float32))
        t += 1
    t.numpy()[:] = 40  # shared memory
    np.testing.assert_array_equal((t + 1).numpy(), np.full(5, 41, np.float32))


def test_gradients_and_their_modes():
    p = jtorch.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(5):
        p.grad = None
        y = p * p
        assert y.requires_grad
        y.sum().backward()
        np.testing.assert_array_equal(p.grad.numpy(), [2, 4])
        with jtorch.no_grad():
            assert not (p * p).requires_grad
        assert (p * p).requires_grad
        assert (p.detach() * 2).numpy().tolist() == [2, 4]


def test_errors_are_raised_each_time_and_leave_all_usable():
    t, i = jtorch.arange(4.0), jtorch.tensor([1, 2])
    for _ in range(4):
        t.take(i).numpy()
    far = jtorch.tensor([1, 9])
    for _ in range(3):
        with pytest.raises(IndexError):
            t.take(far).numpy()
        np.testing.assert_array_equal(t.take(i).numpy(), [1, 2])
    with pytest.raises(TypeError):
        operator.add(t, object())
    with pytest.raises(RuntimeError):
        t + jtorch.ones(3)
    np.testing.assert_array_equal((t + t).numpy(), [0, 2, 4, 6])


def test_subclasses_keep_going_through_python():
    p = jtorch.nn.Parameter(jtorch.ones(3))
    for _ in range(5):
        assert type(p + 1) is jtorch.Tensor
        np.testing.assert_array_equal((p + 1).detach().numpy(), [2, 2, 2])


def test_nothing_is_leaked():
    t, i = jtorch.ones(16), jtorch.tensor([3, 5])

    def work(times):
        for _ in range(times):
            for y in (t + t, t * 2.5, t * 9, t.sum(0), jtorch.cat([t, t]), t[i], t.reshape(4, 4)[1:] + 1):
                jtorch.synchronize()
                del y
    work(20)
    gc.collect()
    before = len(gc.get_objects())
    work(300)
    gc.collect()
    assert len(gc.get_objects()) < before + 200


def test_contents_of_other_threads():
    """Each thread has a recorder; what one has pending another may ask for."""
    t = jtorch.arange(8.0)
    wrong = []

    def work(k):
        for j in range(200):
            y = t * (k + 0.5) + j
            if y.sum().item() != 28 * (k + 0.5) + 8 * j:
                wrong.append((k, j))
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    made = []
    for k in range(20):
        y = t + k
        thread = threading.Thread(target=lambda y=y: made.append(y.numpy().copy()))
        thread.start()
        thread.join()
        np.testing.assert_array_equal(made[-1], np.arange(8.0) + k)
        np.testing.assert_array_equal(y.numpy(), made[-1])


def test_what_fails_in_python_is_raised():
    """An operand that another thread has pending is computed when it is entered; its error is the call's."""
    t = jtorch.arange(4.0)
    seen = []

    def work(bad):
        for _ in range(4):
            (t + 1).numpy()
        try:
            seen.append(bad + 1)
        except Exception as error:
            seen.append(error)
        seen.append((t + 1).tolist())
    bad = t.take(jtorch.tensor([1, 2]) * 9)
    thread = threading.Thread(target=work, args=(bad,))
    thread.start()
    thread.join()
    assert isinstance(seen[0], IndexError)
    assert seen[1] == [1.0, 2.0, 3.0, 4.0]
