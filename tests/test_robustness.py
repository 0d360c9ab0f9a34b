"""Bad input, trouble from outside, and company: a clear error, and nothing else is lost."""
from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback

import numpy as np
import pytest

import jtorch as torch
from jtorch.config import config


@pytest.fixture(params=["never", "sync"], ids=["interpreted", "compiled"])
def tier(request):
    before = config.eager_compile, config.compile_after
    config.eager_compile, config.compile_after = request.param, 1
    yield request.param
    config.eager_compile, config.compile_after = before


def script(text: str, **environment: str) -> str:
    """Run a program in a process of its own; its output."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **environment}, cwd=os.path.dirname(os.path.dirname(__file__)))
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- what the user did wrong -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong, kind, text", [
    (lambda: torch.ones(2, 3) + torch.ones(4), RuntimeError,
     r"size of tensor a \(3\) must match the size of tensor b \(4\)"),
    (lambda: torch.ones(2, 3) @ torch.ones(2, 3), RuntimeError, r"\(2x3 and 2x3\)"),
    (lambda: torch.ones(2, 3).view(4), RuntimeError, r"shape '\[4\]' is invalid for input of size 6"),
    (lambda: torch.ones(3, dtype=torch.float64) @ torch.ones(3), RuntimeError, "dtype"),
    (lambda: torch.ones(3, dtype=torch.int64).add_(0.5), RuntimeError, "can't be cast"),
    (lambda: torch.ones(3)[3], IndexError, "out of bounds"),
    (lambda: torch.ones(3)[torch.tensor([0, 3])], IndexError, "out of bounds"),
])
def test_errors_are_raised_at_the_users_line(wrong, kind, text):
    with pytest.raises(kind, match=text) as caught:
        wrong()
    frames = traceback.extract_tb(caught.value.__traceback__)
    mine = [f for f in frames if f.filename == __file__]
    assert mine and len(frames) - len(mine) <= 4  # this test, the lambda, and a few of the library


def test_late_errors_name_the_line(tier):
    table = torch.rand(5, 3)
    rows = torch.tensor([1, 6]) + 1  # pending, so that nobody can look at them yet
    bad = torch.nn.functional.embedding(rows, table)  # the line
    with pytest.raises(IndexError) as caught:
        bad.tolist()
    assert any("test_robustness.py" in note for note in caught.value.__notes__)


def test_index_out_of_range_in_a_traced_function():
    f = torch.jit.trace(lambda x, i: x[i] * 2)
    x = torch.arange(5.0)
    assert f(x, torch.tensor([0, 4])).tolist() == [0.0, 8.0]
    for bad in (5, -6, 2**40):
        with pytest.raises(IndexError, match="out of range"):
            f(x, torch.tensor([0, bad]))
    assert f(x, torch.tensor([1, -1])).tolist() == [2.0, 8.0]


@pytest.mark.parametrize("divide", [
    lambda a, b: a // b, lambda a, b: a % b, lambda a, b: torch.fmod(a, b),
    lambda a, b: torch.div(a, b, rounding_mode="trunc")])
def test_integer_division_by_zero(divide, tier):
    a, zero = torch.tensor([7, -7]), torch.tensor([2, 0])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        divide(a, zero).tolist()
    traced = torch.jit.trace(divide)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        traced(a, zero).tolist()
    assert traced(a, torch.tensor([2, 2])).tolist() == divide(a, torch.tensor([2, 2])).tolist()
    x = torch.tensor([1.0, -1.0, 0.0])
    assert str((x / 0).tolist()) == "[inf, -inf, nan]"


def test_a_failed_flush_loses_nothing_else(tier):
    x = torch.arange(4.0)
    x.tolist()
    w = torch.ones(4, requires_grad=True)
    y = (x * 2 * w).exp()
    bad = torch.nn.functional.embedding(torch.tensor([4]) * 2, torch.ones(3, 2))
    x.add_(10)
    z = x + 1
    with pytest.raises(IndexError):
        z.tolist()  # everything pending is computed together
    assert z.tolist() == [11.0, 12.0, 13.0, 14.0] and x.tolist() == [10.0, 11.0, 12.0, 13.0]
    np.testing.assert_allclose(y.tolist(), np.exp(np.arange(4.0) * 2), rtol=1e-6)
    y.sum().backward()
    np.testing.assert_allclose(w.grad.tolist(), np.arange(4.0) * 2 * np.exp(np.arange(4.0) * 2), rtol=1e-6)
    for _ in range(2):
        with pytest.raises(IndexError):
            bad.tolist()


def test_a_traced_step_that_fails_changes_nothing():
    w = torch.rand(5, 3, requires_grad=True)
    count = torch.zeros(1)

    @torch.jit.trace
    def step(i):
        w.grad = None
        count.add_(1)
        loss = (w[i] * torch.rand(3)).sum()
        loss.backward()
        with torch.no_grad():
            w.sub_(w.grad, alpha=0.1)
        return loss

    step(torch.tensor([0, 1]))
    before = w.tolist(), w.grad.tolist(), count.tolist(), torch.get_rng_state().tolist()
    with pytest.raises(IndexError):
        step(torch.tensor([0, 9]))
    assert (w.tolist(), w.grad.tolist(), count.tolist(), torch.get_rng_state().tolist()) == before
    step(torch.tensor([0, 1]))
    assert count.tolist() == [2.0]


@pytest.mark.parametrize("huge", [
    lambda: torch.zeros(2**62), lambda: torch.ones(10**13), lambda: torch.empty(10**7, 10**7),
    lambda: torch.rand(10**12), lambda: torch.ones(10**7, 1) * torch.ones(1, 10**7),
    lambda: torch.ones(10**4).repeat(10**9), lambda: torch.arange(10**13)])
def test_an_allocation_larger_than_memory(huge):
    with pytest.raises(RuntimeError, match="not enough memory"):
        huge()
    assert torch.rand(3).sum().item() > 0


def test_interpreted_steps_are_bounded_too():
    """A sum of pieces that each fit but not together."""
    from jtorch.runtime.memory import allocator
    with pytest.raises(torch.OutOfMemoryError):
        allocator.ensure(1 << 60)


# --- shapes and numbers at the edges ---------------------------------------------------------------------------------

def test_empty_tensors(tier):
    e = torch.zeros(0, 3)
    assert e.sum().item() == 0 and e.prod().item() == 1 and e.sum(0).tolist() == [0.0] * 3 and e.sum(1).tolist() == []
    assert math.isnan(e.mean().item()) and (e @ torch.ones(3, 2)).shape == (0, 2)
    assert (torch.ones(2, 0) @ torch.ones(0, 2)).tolist() == [[0.0, 0.0]] * 2
    assert torch.cat([e, torch.ones(1, 3)]).tolist() == [[1.0] * 3] and (e + 1).exp().shape == (0, 3)
    assert not e.any() and e.all() and torch.softmax(e, 0).shape == (0, 3) and e.sort(0)[0].shape == (0, 3)
    assert e.max(1)[0].shape == (0,) and e.argmax(1).tolist() == []
    assert e[torch.tensor([], dtype=torch.int64)].shape == (0, 3)
    for wrong in (lambda: e.max(), lambda: e.argmax(), lambda: e.max(0), lambda: e.argmin(0)):
        with pytest.raises((RuntimeError, IndexError)):
            wrong()
    x = torch.ones(0, 3, requires_grad=True)
    (x * 2).sum().backward()
    assert x.grad.shape == (0, 3)
    traced = torch.jit.trace(lambda a: (a * 2 + 1).sum(0))
    assert traced(e).tolist() == [0.0] * 3 and traced(torch.ones(2, 3)).tolist() == [6.0] * 3


def test_nan_and_infinity(tier):
    nan, inf = math.nan, math.inf
    x = torch.tensor([1.0, nan, -inf, inf, 2.0])
    for reduce in (torch.sum, torch.max, torch.min, torch.amax, torch.amin, torch.mean, torch.prod):
        assert math.isnan(reduce(x).item()), reduce
    assert x.argmax().item() == 1 and x.argmin().item() == 1 and x.max(0)[1].item() == 1
    assert str(x.sort()[0].tolist()) == "[-inf, 1.0, 2.0, inf, nan]" and x.sort()[1].tolist() == [2, 0, 4, 3, 1]
    assert str(x.sort(descending=True)[0].tolist()) == "[nan, inf, 2.0, 1.0, -inf]"
    assert (x > 0).tolist() == [True, False, False, True, True]
    assert (x != x).tolist() == [False, True, False, False, False]
    assert (x == inf).tolist() == [False, False, False, True, False] and (x <= nan).tolist() == [False] * 5
    assert str(x.clamp(-1, 1).tolist()) == "[1.0, nan, -1.0, 1.0, 1.0]"
    assert str(torch.relu(x).tolist()) == "[1.0, nan, 0.0, inf, 2.0]"
    assert str(torch.maximum(x, torch.zeros(5)).tolist()) == "[1.0, nan, 0.0, inf, 2.0]"
    assert torch.fmax(x, torch.zeros(5)).tolist() == [1.0, 0.0, 0.0, inf, 2.0]
    assert torch.isnan(x).tolist() == [False, True, False, False, False] and torch.nansum(x[:2]).item() == 1
    assert str(torch.cummax(x, 0)[0].tolist()) == "[1.0, nan, nan, nan, nan]"
    assert torch.logsumexp(torch.tensor([-inf, -inf]), 0).item() == -inf and math.isnan(torch.softmax(x, 0)[0].item())
    assert x.to(torch.float64).topk(1)[1].tolist() == [1] and bool(torch.tensor(nan)) and x.count_nonzero().item() == 5


def test_edges_traced_like_eager(monkeypatch):
    monkeypatch.setattr(config, "eager_compile", "sync")  # the interpreter, while it runs, does not flush denormals
    monkeypatch.setattr(config, "compile_after", 1)
    f = torch.jit.trace(lambda x: (x.max(), x.argmax(), x.sort()[0], x.clamp(-1, 1), x > 0, torch.relu(x)))
    for values in ([1.0, math.nan, -math.inf], [math.inf, -math.inf, 0.0], [-0.0, 0.0, 1e-45]):
        x = torch.tensor(values)
        want = (x.max(), x.argmax(), x.sort()[0], x.clamp(-1, 1), x > 0, torch.relu(x))
        assert [str(t.tolist()) for t in f(x)] == [str(t.tolist()) for t in want]


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------

def test_interrupted_compile(tmp_path):
    """SIGINT at many moments of a first call: KeyboardInterrupt, and the same call works afterwards."""
    out = script("""
        import signal, time, threading, os
        import jtorch as torch
        from jtorch.config import config
        config.eager_compile, config.compile_after = "sync", 1
        torch.ones(2).exp().tolist()
        interrupted = 0
        for k in range(8):
            x = torch.arange(6.0) + k
            w = torch.ones(6, requires_grad=True)
            f = torch.jit.trace(lambda a: torch.softmax(a * (k + 2), 0).cumsum(0) + k)
            timer = threading.Timer(0.01 + 0.03 * k, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                y = (torch.sin(x * w) * (k + 1.5)).logsumexp(0) if k % 2 else f(x)
                for _ in range(200):
                    y.tolist()
                    torch.linspace(0, 1, 50 + k).tanh().sum().item()
                time.sleep(1)
            except KeyboardInterrupt:
                interrupted += 1
            timer.join()
            a = f(x)
            b = torch.softmax(x * (k + 2), 0).cumsum(0) + k
            assert (a - b).abs().max().item() < 1e-5
            (w * x).sum().backward()
            assert w.grad.tolist() == x.tolist()
        print(interrupted)
    """, JTORCH_CACHE_DIR=str(tmp_path))
    assert int(out) == 8


def test_interrupted_run():
    """SIGINT in a long loop of training: the parameters are whole and training goes on."""
    out = script("""
        import signal, os, threading
        import jtorch as torch
        torch.manual_seed(0)
        w = torch.rand(300, 300, requires_grad=True)
        x = torch.rand(200, 300)

        def step():
            w.grad = None
            loss = (x @ w - 1).square().mean()
            loss.backward()
            with torch.no_grad():
                w.sub_(w.grad, alpha=0.01)
            return loss

        for f in (step, torch.jit.trace(step)):
            first = f().item()
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                while True:
                    f()
            except KeyboardInterrupt:
                pass
            assert w.isfinite().all() and w.shape == (300, 300)
            before = f().item()
            assert before <= first
            for _ in range(3):
                f()
            assert f().item() < before
        print("ok")
    """)
    assert out == "ok\n"


# --- threads ---------------------------------------------------------------------------------------------------------

def in_threads(work, n=4):
    errors = []

    def guarded(i):
        try:
            work(i)
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def test_threads_share_tensors(tier):
    x = torch.arange(1000.0)
    pending = x * 2 + 1  # recorded by this thread, read by the others
    w = torch.ones(1000, requires_grad=True)

    def work(i):
        for k in range(30):
            assert (pending + i).sum().item() == 1000_000 + i * 1000
            g, = torch.autograd.grad((w * x * (i + 1)).sum(), w)
            assert g[3].item() == 3 * (i + 1)
            y = torch.full((10,), float(k)) * x[:10]
            y.add_(i)
            assert y[2].item() == 2 * k + i
    in_threads(work)
    assert pending[1].item() == 3


def test_threads_share_a_traced_function():
    f = torch.jit.trace(lambda a, b: torch.softmax(a @ b, -1).sum(0))
    b = torch.rand(8, 8)

    def work(i):
        for n in (3, 5, 8):  # each thread may be the one that captures
            a = torch.full((n, 8), float(i))
            want = torch.softmax(a @ b, -1).sum(0)
            for _ in range(20):
                np.testing.assert_allclose(f(a, b).numpy(), want.numpy(), rtol=1e-5)
    in_threads(work)


def test_threads_train_their_own():
    def work(i):
        w = torch.zeros(3, requires_grad=True)
        target = torch.tensor([1.0, 2.0, float(i)])
        for _ in range(60):
            loss = ((w - target) ** 2).sum()
            w.grad = None
            loss.backward()
            with torch.no_grad():
                w.sub_(w.grad, alpha=0.1)
        np.testing.assert_allclose(w.tolist(), target.tolist(), atol=1e-3)
    in_threads(work)


# --- fork ------------------------------------------------------------------------------------------------------------

def train(steps=5):
    torch.manual_seed(0)
    w = torch.rand(64, 64, requires_grad=True)
    x = torch.rand(128, 64)
    for _ in range(steps):
        w.grad = None
        loss = torch.softmax(x @ w, -1).square().sum()
        loss.backward()
        with torch.no_grad():
            w.sub_(w.grad, alpha=0.01)
    return loss.item()


def _child(queue, shared):
    queue.put((train(), (shared * 3 + 1).exp().sum().item()))


def test_fork_after_use(tier):
    want = train()
    shared = torch.linspace(0, 1, 100)
    pending = shared * 3 + 1  # still pending when the child comes into being
    expected = pending.clone().exp().sum()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue, shared))
    child.start()
    found = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0 and found[0] == pytest.approx(want, rel=1e-4)
    assert found[1] == pytest.approx(expected.item(), rel=1e-5) and train() == pytest.approx(want, rel=1e-4)


def test_os_fork_with_a_traced_function():
    f = torch.jit.trace(lambda a: (a * 2).exp().sum())
    x = torch.rand(5000)
    want = f(x).item()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        try:
            g = torch.jit.trace(lambda a: (a - 7).cosh())
            g(x).tolist()
            os.write(write, repr(f(x).item()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answers:
        assert float(answers.read()) == pytest.approx(want, rel=1e-5)
    os.waitpid(pid, 0)
    assert f(x).item() == pytest.approx(want, rel=1e-5)


# --- the machinery ---------------------------------------------------------------------------------------------------

def test_a_killed_compile_process_is_replaced(tmp_path):
    out = script("""
        import os, signal
        import jtorch as torch
        from jtorch.runtime import compile_pool
        x = torch.linspace(0, 1, 50)

        def work(k):
            return (torch.sin(x * k).cumsum(0) * (x + k)).sum().item()

        want = work(1)
        for _ in range(3):
            work(1)  # compiles in the background
        pool = compile_pool.pool()
        for worker in pool.workers:
            while worker.process is None:
                pass
            os.kill(worker.process.pid, signal.SIGKILL)
        for _ in range(50):
            assert abs(work(1) - want) < 1e-4
        f = torch.jit.trace(lambda a: (a.cosh() * a.tan()).prod())
        assert abs(f(x).item() - (x.cosh() * x.tan()).prod().item()) < 1e-4
        print("ok")
    """, JTORCH_CACHE_DIR=str(tmp_path))
    assert out == "ok\n"


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/x", ""])
def test_no_cache_to_write(place):
    out = script("""
        import jtorch as torch
        f = torch.jit.trace(lambda a: (a * 2).exp().sum())
        print(round(f(torch.zeros(5)).item()))
    """, JTORCH_CACHE_DIR=place)
    assert out == "5\n"


def test_signals_reach_the_user():
    """The library leaves Python's handlers alone."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("call, error, text", [
    (lambda x, i: x.gather(1, i[None]), RuntimeError, "index 5 is out of bounds for dimension 1 with size 3"),
    (lambda x, i: x.gather(1, i), RuntimeError, "must have the same number of dimensions"),
    (lambda x, i: x.scatter_(1, i[None], 1.0), RuntimeError, "index 5 is out of bounds for dimension 1 with size 3"),
    (lambda x, i: x.index_add(1, i, torch.ones(2, 1)), RuntimeError, "index 5 is out of bounds for dimension 1"),
    (lambda x, i: x.index_fill(1, i, 1.0), IndexError, "index 5 is out of bounds for dimension 1 with size 3"),
    (lambda x, i: x.index_copy(1, i, torch.ones(2, 1)), IndexError, "index_copy_(): index 5 is out of bounds"),
    (lambda x, i: x.index_select(0, i), IndexError, "index out of range in self"),
    (lambda x, i: x.index_select(1, i), RuntimeError, "INDICES element is out of DATA bounds, id=5 axis_dim=3"),
    (lambda x, i: x.take(i + 5), IndexError, "out of "),
    (lambda x, i: x.put_(i + 5, torch.ones(1)), IndexError, "out of "),
    (lambda x, i: torch.nn.functional.nll_loss(x[:1], i), IndexError, "out of "),
    (lambda x, i: torch.nn.functional.one_hot(i, 5), RuntimeError, "Class values must be smaller than num_classes"),
    (lambda x, i: torch.nn.functional.one_hot(-i, 5), RuntimeError, "Class values must be non-negative"),
])
def test_indices_outside(call, error, text, tier):
    """The types that PyTorch raises, which are not the same for all operators."""
    with pytest.raises(error) as caught:
        call(torch.zeros(2, 3), torch.tensor([5])).tolist()
    assert text in str(caught.value)


@pytest.mark.parametrize("call", [
    lambda x: x.add_("x"),
    lambda x: x.sub_([1]),
    lambda x: x.add_(None),
    lambda x: torch.add(x, "x"),
    lambda x: torch.pow("a", x),
    lambda x: x.clamp(min=[1]),
    lambda x: torch.maximum(x, None),
    lambda x: torch.where(x > 0, "a", 1),
])
def test_operands_that_are_no_numbers(call):
    with pytest.raises(TypeError, match="must be Tensor"):
        call(torch.ones(3))
