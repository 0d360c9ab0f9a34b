"""jit.trace: captured state, guards, retracing, differentiable calls, errors."""
from __future__ import annotations

import numpy as np
import pytest

import jtorch as torch
from jtorch import jit


def test_function_and_call_form():
    @jit.trace
    def f(x, y):
        return x * y + 1, {"sum": (x + y).sum()}

    for n in (3, 5):
        x, y = torch.rand(n), torch.rand(n)
        product, rest = f(x, y)
        np.testing.assert_allclose(product.numpy(), x.numpy() * y.numpy() + 1, rtol=1e-6)
        np.testing.assert_allclose(rest["sum"].item(), (x.numpy() + y.numpy()).sum(), rtol=1e-6)
    g = jit.trace(lambda x: x.exp(), torch.rand(3))
    x = torch.rand(3)
    np.testing.assert_allclose(g(x).numpy(), np.exp(x.numpy()), rtol=1e-6)


def test_another_size_compiles_no_kernel():
    from jtorch.runtime import kernels

    @jit.trace
    def f(x, w):
        return torch.softmax(torch.relu(x @ w), -1)

    w = torch.rand(8, 16)
    f(torch.rand(4, 8), w).numpy()
    before = len(kernels._loaded)
    for n in (6, 9, 33):
        x = torch.rand(n, 8)
        h = np.maximum(x.numpy() @ w.numpy(), 0)
        e = np.exp(h - h.max(1, keepdims=True))
        np.testing.assert_allclose(f(x, w).numpy(), e / e.sum(1, keepdims=True), rtol=1e-5)
    assert len(kernels._loaded) == before


def test_views_of_what_the_call_computes_do_not_live_on():
    """The last tensor that was looked at is a view that nobody else holds: the call is a program all the same."""
    x = torch.rand(4, 6)
    for view in (lambda y: y.reshape(2, 12), lambda y: y.T, lambda y: y[1:], lambda y: y.flatten()):
        f = jit.trace(lambda x, view=view: view(x * 2) + 1)
        for _ in range(2):
            np.testing.assert_array_equal(f(x).numpy(), view(x.numpy() * 2) + 1)
        assert f.explain().startswith("<lambda>: 1 programs") and "eagerly" not in f.explain()


def test_state_of_an_inner_traced_function_is_read_anew():
    weight, other = torch.ones(3), torch.full((3,), 5.0)
    inner = jit.trace(lambda x: x * weight)
    outer = jit.trace(lambda x: inner(x + other) + other)
    x = torch.zeros(3)
    for _ in range(2):
        assert outer(x).tolist() == [10.0] * 3
    weight.fill_(2)
    assert outer(x).tolist() == [15.0] * 3
    weight.mul_(2)
    other.fill_(1)
    assert outer(x).tolist() == [5.0] * 3


def train(step_of, steps=5):
    torch.manual_seed(0)
    w = torch.rand(4, 3, requires_grad=True)
    b = torch.zeros(3, requires_grad=True)
    momentum = [torch.zeros_like(w), torch.zeros_like(b)]

    def step(x, y):
        for p in (w, b):
            p.grad = None
        loss = ((torch.tanh(x @ w + b) - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p, m in zip((w, b), momentum):
                m.mul_(0.9).add_(p.grad)
                p.sub_(m, alpha=0.1)
        return loss

    step = step_of(step)
    losses = []
    for _ in range(steps):
        losses.append(step(torch.rand(7, 4), torch.rand(7, 3)).item())
    return losses, [t.detach().numpy().copy() for t in (w, b, w.grad, *momentum)]


def test_training_step_is_one_program():
    eager, traced = train(lambda f: f), train(jit.trace)
    np.testing.assert_allclose(traced[0], eager[0], rtol=1e-5)
    for a, b in zip(traced[1], eager[1]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_state_is_written_where_it_lives():
    counter = torch.zeros(3)
    alias = counter.view(3, 1)

    @jit.trace
    def f(x):
        counter.add_(x)
        return counter * 2

    address = counter.data_ptr()
    for i in range(1, 4):
        assert f(torch.ones(3)).tolist() == [2.0 * i] * 3
        assert counter.tolist() == [float(i)] * 3 and alias.tolist() == [[float(i)]] * 3
    assert counter.data_ptr() == address


def test_arguments_are_written():
    @jit.trace
    def f(x):
        x += 1
        return x

    for _ in range(3):
        x = torch.zeros(2)
        assert f(x) is x and x.tolist() == [1.0, 1.0]


def test_saved_copies_do_not_change():
    w = torch.ones(3)

    @jit.trace
    def f():
        w.mul_(2)
        return w.sum()

    f()
    before = w.clone()
    f()
    assert before.tolist() == [2.0] * 3 and w.tolist() == [4.0] * 3


def test_results_may_be_differentiated_outside():
    w = torch.rand(3, 2, requires_grad=True)

    @jit.trace
    def f(x):
        return torch.tanh(x @ w)

    x = torch.rand(5, 3, requires_grad=True)
    want = torch.autograd.grad(torch.tanh(x @ w).sum(), (x, w))
    for _ in range(3):
        got = torch.autograd.grad(f(x).sum(), (x, w))
        for a, b in zip(got, want):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5)


def test_branch_on_a_value_is_refused_with_the_line():
    @jit.trace
    def f(x):
        if x.sum() > 0:  # the line
            return x
        return -x

    with pytest.raises(jit.TraceError, match=r"test_trace\.py:\d+: a traced function needs the value of a tensor"):
        f(torch.rand(3))


def test_branch_on_captured_state_is_refused():
    flag = torch.ones(())

    @jit.trace
    def f(x):
        return x * 2 if flag.item() > 0 else x

    with pytest.raises(jit.TraceError):
        f(torch.rand(3))


def test_failed_trace_leaves_no_trace():
    w = torch.ones(3)

    @jit.trace
    def f(x):
        w.add_(x)
        return bool(w.sum() > 0)

    with pytest.raises(jit.TraceError):
        f(torch.ones(3))
    assert w.tolist() == [1.0] * 3


def test_random_numbers_go_on():
    torch.manual_seed(3)
    want = [torch.rand(4).tolist() for _ in range(4)]
    f = jit.trace(lambda x: x + torch.rand(4))
    torch.manual_seed(3)
    got = [f(torch.zeros(4)).tolist() for _ in range(4)]
    assert got == want


def test_views_as_arguments():
    data = torch.arange(24, dtype=torch.float32).reshape(6, 4)
    f = jit.trace(lambda x: x * 2)
    for i in range(3):
        assert f(data[i * 2:i * 2 + 2]).tolist() == (data.numpy()[i * 2:i * 2 + 2] * 2).tolist()
    assert f(data.t()).tolist() == (data.numpy().T * 2).tolist()
    assert sum(map(len, f.variants.values())) == 2


def test_views_as_arguments_of_a_call_that_makes_state():
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.1)
    losses = []

    @torch.jit.trace
    def step(x, count):
        optimizer.zero_grad()
        loss = (weight * x).sum()
        loss.backward()
        optimizer.step()
        count += 1
        return loss, count

    data, counts = torch.arange(24.0).reshape(4, 6), torch.zeros(4, 2)
    for i in range(4):
        loss, count = step(data[i, ::2], counts[i])
        losses.append(loss.item())
        assert count.tolist() == [1, 1]
    assert counts.tolist() == [[1, 1]] * 4
    weight.data.fill_(1)
    optimizer = torch.optim.Adam([weight], lr=0.1)
    for i in range(4):
        optimizer.zero_grad()
        loss = (weight * data[i, ::2]).sum()
        loss.backward()
        optimizer.step()
        assert abs(loss.item() - losses[i]) < 1e-4


def test_python_arguments_are_part_of_the_signature():
    f = jit.trace(lambda x, k: x * k)
    x = torch.ones(2)
    assert f(x, 2).tolist() == [2.0, 2.0] and f(x, 3).tolist() == [3.0, 3.0] and f(x, 2.5).tolist() == [2.5, 2.5]


def test_module_keeps_its_names():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(4, 2)
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(self.fc(x))

    net = Net()
    traced = jit.trace(net)
    assert isinstance(traced, Net) and list(traced.state_dict()) == ["fc.weight", "fc.bias"]
    x = torch.rand(3, 4)
    traced.eval()
    with torch.no_grad():
        np.testing.assert_allclose(traced(x).numpy(), net.eval()(x).numpy(), rtol=1e-6)
        traced.train()
        assert (traced(x) == 0).any()  # dropout is on again: the trace noticed
    traced.eval()
    traced(x).sum().backward()
    assert net.fc.weight.grad is not None


def test_optimizer_state_and_scheduler():
    def run(wrap):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        opt = torch.optim.Adam(net.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)

        def step(x, y):
            opt.zero_grad()
            loss = torch.nn.functional.mse_loss(net(x), y)
            loss.backward()
            opt.step()
            return loss

        step = wrap(step)
        losses = []
        for _ in range(6):
            losses.append(step(torch.rand(5, 4), torch.rand(5, 1)).item())
            schedule.step()
        return losses, step

    eager, _ = run(lambda f: f)
    traced, step = run(jit.trace)
    np.testing.assert_allclose(traced, eager, rtol=1e-4)
    assert sum(map(len, step.variants.values())) == 1  # one program: neither lr nor the state made another


def test_explain_graph_kernels():
    f = jit.trace(lambda x: (x * 2).exp().sum())
    with pytest.raises(RuntimeError, match="not been called"):
        _ = f.graph
    f(torch.rand(3))
    f(torch.rand(3, 4))
    assert "a new signature" in f.explain() and "exp" in str(f.graph)
    assert any("exp" in k.source for k in f.kernels)


def test_pending_arguments_and_threads():
    import threading
    f = jit.trace(lambda x: x * 2 + 1)
    results = {}

    def work(i):
        x = torch.full((50,), float(i)) + 1
        for _ in range(30):
            y = f(x)
        results[i] = y.tolist()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {i: [2.0 * (i + 1) + 1] * 50 for i in range(4)}


def test_gradients_of_an_eager_backward_reach_a_traced_update():
    w = torch.ones(3, requires_grad=True)

    @jit.trace
    def update():
        with torch.no_grad():
            w.sub_(w.grad)

    for k in range(4):
        w.grad = None
        (w * k).sum().backward()
        g = w.grad
        update()
        assert w.grad is g and g.tolist() == [float(k)] * 3
    assert w.tolist() == [1.0 - 6] * 3 and sum(map(len, update.variants.values())) == 1


def test_gradients_that_somebody_keeps_do_not_change():
    w = torch.ones(2, requires_grad=True)

    @jit.trace
    def step(x):
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return loss

    kept = []
    for k in range(4):
        step(torch.tensor([1.0, 2.0]) * k)
        kept.append(w.grad)
    assert [g.tolist() for g in kept] == [[float(k), 2.0 * k] for k in range(4)]
    del kept
    g = w.grad.data_ptr()
    step(torch.ones(2))
    step(torch.ones(2))
    assert w.grad.data_ptr() == g  # nobody keeps them: the same memory


def test_data_that_is_replaced():
    w = torch.ones(2, requires_grad=True)

    @jit.trace
    def f(x):
        with torch.no_grad():
            w.mul_(2)
            return w * x

    x = torch.ones(2)
    assert f(x).tolist() == [2.0, 2.0]
    w.data = torch.full((2,), 5.0)
    assert f(x).tolist() == [10.0, 10.0] and w.tolist() == [10.0, 10.0]
    w.data = torch.ones(2, dtype=torch.float64)
    assert f(x).dtype is torch.float64 and w.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("held", [False, True, "numpy"])
def test_the_first_run_takes_over_the_memory_of_gradients(held: bool | str) -> None:
    """Where nobody else has them, the gradients of the call before are replaced in their memory; what is held stays."""
    p = torch.nn.Parameter(torch.arange(6.0))
    optimizer = torch.optim.SGD([p], lr=0.5, momentum=0.9)

    def step(x):
        optimizer.zero_grad()
        (p * x).sum().backward()
        optimizer.step()
    traced, first = jit.trace(step), torch.arange(6.0) + 1
    traced(first)  # eagerly: it makes the optimizer's state
    kept = p.grad.numpy() if held == "numpy" else p.grad if held else None
    before = p.grad._storage.cell.buffer.ptr
    for k in (2, 3):
        traced(first * k)
        np.testing.assert_array_equal(p.grad.numpy(), first.numpy() * k)
    if kept is None:
        assert p.grad._storage.cell.buffer.ptr == before
    else:
        np.testing.assert_array_equal(np.asarray(kept), first.numpy())
