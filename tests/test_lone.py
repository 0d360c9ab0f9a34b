"""The built-in functions of the eager path (`capture.lone`) do as Python does, and nothing is lost or leaked."""

import gc
import operator
import threading

import numpy as np
import pytest

import jtorch
from jtorch.capture.record import current, not_ready
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


def in_python(run):
    """What `run` returns without the built-in functions."""
    recorder = current.recorder
    kept = {name: getattr(recorder, name) for name in ("look_up", "record", "write", "assign", "flush_ready")}
    for name in kept:
        setattr(recorder, name, lambda *args: None)  # not what `equip` would replace
    try:
        return run()
    finally:
        for name, function in kept.items():
            setattr(recorder, name, function)


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
    wanted = in_python(lambda: repeat(lambda: STEPS[name](t), 1)[0])
    assert current.recorder.flush_ready is not not_ready
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


def test_zeros_are_told_apart():
    t, i = jtorch.tensor(x), jtorch.arange(3)
    for again in range(4):
        for number in (0.0, -0.0, 0, False):
            np.testing.assert_array_equal(np.signbit(jtorch.mul(t, number).numpy()), np.signbit(x * float(number)))
            assert (i * number).dtype == (jtorch.float32 if type(number) is float else jtorch.int64)
            jtorch.synchronize()
            found = current.recorder.record(current.recorder, jtorch.mul.function, t, number)
            assert again < 2 or found is not None  # without Python
    assert (t > 0).tolist() == (x > 0).tolist()


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
            for y in (t + t, t * 2.5, t * 9, t * 0.0, t > 0, t.sum(0), jtorch.cat([t, t]), t[i], t.add_(0),
                      t.reshape(4, 4)[1:] + 1,
                      t[2:].mul_(1), t.reshape(4, 4).T.sum(0), t.reshape(4, 4).max(1), t[i].add_(t[i])):
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
            seen.append(type(error))
        seen.append((t + 1).tolist())
    bad = t.take(jtorch.tensor([1, 2]) * 9)
    thread = threading.Thread(target=work, args=(bad,))
    thread.start()
    thread.join()
    assert issubclass(seen[0], IndexError)
    assert seen[1] == [1.0, 2.0, 3.0, 4.0]


WRITES = {
    "number": lambda t, u: t.add_(1.5),
    "constant": lambda t, u: t.mul_(2),
    "tensor": lambda t, u: t.sub_(u),
    "function": lambda t, u: t.sigmoid_(),
    "keyword": lambda t, u: t.clamp_(min=-0.5, max=1.25),
    "fill": lambda t, u: t.fill_(u[0, 0]),
    "copy of another dtype": lambda t, u: t.copy_(u.float()),
    "copy of what is pending": lambda t, u: t.copy_(u * 3),
    "row": lambda t, u: t[1].add_(u[2]),
    "column": lambda t, u: t[:, 2].mul_(3.5),
    "transposed": lambda t, u: t.T.add_(u.T),
    "expanded": lambda t, u: t.view(4, 1, 6).expand(4, 1, 6).add_(1),
    "index": lambda t, u: t.__setitem__(jtorch.tensor([0, 3]), u[1]),
    "mask": lambda t, u: t.__setitem__(u > 0, 0.25),
    "twice": lambda t, u: t.add_(u).mul_(u),
    "two tensors": lambda t, u: (t.add_(1), u.mul_(0.5)),
    "what was read before": lambda t, u: (u.copy_(t * t), t.zero_()),
    "operator": lambda t, u: operator.iadd(t, u),
    "out": lambda t, u: jtorch.add(t, u, out=t),
    "under no_grad": lambda t, u: jtorch.no_grad()(lambda: t.add_(u))(),
    "several results": lambda t, u: (t.copy_(t.sort(1)[0]), u.add_(t.max(1, keepdim=True)[0])),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("held", [False, True])
def test_writes_as_in_python(name, held):
    """Contents that somebody else holds stay as they are, others are written over."""
    def run():
        t, u = jtorch.tensor(x), jtorch.tensor(x[::-1].copy())
        states, copies = [], []
        jtorch.synchronize()
        for _ in range(6):
            if held:
                copies.append((t.clone(), u.clone()))
                jtorch.synchronize()
            WRITES[name](t, u)
            jtorch.synchronize()
            states.append((t.tolist(), u.tolist()))
        return states, [(c.tolist(), d.tolist()) for c, d in copies]

    run()  # the first time it is interpreted
    states, copies = run()
    assert (states, copies) == in_python(run)
    assert copies[1:] == (states[:-1] if held else [])


def test_memory_is_written_over():
    t, u = jtorch.ones(1000), jtorch.ones(1000)
    for _ in range(6):
        t.add_(u)
        jtorch.synchronize()
    place = t.data_ptr()
    for _ in range(6):
        t.add_(u)
        assert current.recorder.flush_ready(current.recorder)
        assert t.data_ptr() == place
    assert t.tolist() == [13.0] * 1000


def test_what_is_flushed_together():
    """Several results, some of which nobody wants, in any order."""
    t = jtorch.tensor(x)
    for k in range(8):
        a = t + k
        b = (t * 2.5).sum(1)
        jtorch.exp(t)
        c, d = t.max(1)
        if k % 2:
            del a
        jtorch.synchronize()
        if not k % 2:
            np.testing.assert_array_equal(a.numpy(), x + k)
        np.testing.assert_allclose(b.numpy(), (x * 2.5).sum(1), rtol=1e-14)
        np.testing.assert_array_equal(c.numpy(), x.max(1))
        np.testing.assert_array_equal(d.numpy(), x.argmax(1))
    for n in (15, 16, 17, 40):
        for _ in range(4):
            many = [t + k for k in range(n)]
            jtorch.synchronize()
            for k in (0, n // 2, n - 1):
                np.testing.assert_array_equal(many[k].numpy(), x + k)


def test_views_are_entered_anew():
    t = jtorch.tensor(x)
    for k in range(6):
        for part, wanted in ((t[:, 2], x[:, 2]), (t.T, x.T), (t[1], x[1]), (t[1:3, ::2], x[1:3, ::2]),
                             (t.view(2, 12)[:, 3:5], x.reshape(2, 12)[:, 3:5])):
            np.testing.assert_array_equal((part * 2).numpy(), (wanted + k) * 2)
        y = t + 1  # what is pending is viewed too
        np.testing.assert_array_equal((y.T * 2).numpy(), (x + k + 1).T * 2)
        t.add_(1)
    p = jtorch.tensor(x, requires_grad=True)
    for _ in range(4):
        (grad,) = jtorch.autograd.grad((p[:, 1] * 3).sum(), p)
        assert grad[:, 1].tolist() == [3.0] * 4 and grad.sum().item() == 12
        with pytest.raises(RuntimeError, match="leaf Variable"):
            p[:, 1].add_(1)


def test_refused_writes_leave_the_tensor():
    t, whole = jtorch.ones(3), jtorch.ones(3, dtype=jtorch.int64)
    for _ in range(4):
        t.add_(1)
        jtorch.synchronize()
        with pytest.raises(RuntimeError):
            t.add_(jtorch.ones(2, 3))
        with pytest.raises(RuntimeError):
            whole.add_(0.5)
        with pytest.raises(RuntimeError):
            jtorch.ones(1).expand(3).add_(t)
    assert t.tolist() == [5.0] * 3 and whole.tolist() == [1] * 3


def test_a_lock_that_another_thread_holds_is_waited_for():
    t = jtorch.ones(8)
    for _ in range(4):
        t.add_(1)
        jtorch.synchronize()
    recorder, order = current.recorder, []
    held, done = threading.Event(), threading.Event()

    def hold():
        with recorder.lock:
            held.set()
            done.wait(0.05)
            order.append("released")
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    t.add_(1)
    jtorch.synchronize()
    order.append("flushed")
    thread.join()
    assert order == ["released", "flushed"] and t.tolist() == [6.0] * 8
