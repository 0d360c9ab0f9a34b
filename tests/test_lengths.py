"""Eager programs whose graphs differ from run to run: loops that look at a value in every step (many flushed epochs,
which a backward walks one by one), and sequences of other lengths."""
from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import jtorch
from jtorch import driver
from jtorch.capture import execute
from jtorch.capture.cell import Epoch
from jtorch.capture.structure import UNMEASURED, Structure, structure_key
from jtorch.config import config
from jtorch.ir.graph import Builder, Graph, Type
from jtorch.ir.prims.contract import matmul
from jtorch.ir.prims.create import make_leaf
from jtorch.ir.prims.elementwise import exp, tanh

pytorch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
STEPS = (3, 12, 20)  # within the present graph, and piece by piece


def parameters(torch, seed=0):
    draw = np.random.default_rng(seed)
    return [torch.tensor(draw.standard_normal(shape), requires_grad=True) for shape in ((4, 3), (4, 4), (4,))]


def states(torch, w, u, b, steps, each=lambda t, h: None):
    """A small recurrent network that is asked for a number in each step."""
    draw = np.random.default_rng(7)
    h = torch.zeros(2, 4, dtype=torch.float64)
    found = []
    for t in range(steps):
        h = torch.tanh(torch.tensor(draw.standard_normal((2, 3))) @ w.T + h @ u + b)
        each(t, h)
        h.sum().item()
        found.append(h)
    return found


def both(work, steps):
    ours, theirs = (work(torch, *parameters(torch), steps) for torch in (jtorch, pytorch))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10)


@pytest.mark.parametrize("steps", STEPS)
def test_sum_over_independent_steps(steps):
    def work(torch, w, u, b, steps):
        losses = []
        for t in range(steps):
            x = torch.full((5, 3), 0.1 * t, dtype=torch.float64)
            y = torch.log_softmax(torch.relu(x @ w.T + b) @ u, 1)
            y[0, 0].item()
            losses.append(y[t % 5, t % 4])
        (torch.stack(losses) * torch.arange(steps)).sum().backward()
        (w * w).sum().backward()  # adds to what is there
        return w.grad, u.grad, b.grad
    both(work, steps)


@pytest.mark.parametrize("steps", STEPS)
def test_chain_of_steps(steps):
    def work(torch, w, u, b, steps):
        found = states(torch, w, u, b, steps)
        loss = sum((h * h).mean() for h in found)
        loss.backward(retain_graph=True)
        first = [p.grad.clone() for p in (w, u, b)]
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()
        return *first, w.grad, u.grad, b.grad
    both(work, steps)


@pytest.mark.parametrize("steps", STEPS)
def test_gradients_of_states(steps):
    def work(torch, w, u, b, steps):
        found = states(torch, w, u, b, steps)
        return torch.autograd.grad(found[-1].sum() + found[1].exp().sum(), [found[0], found[1], u, found[-1]])
    both(work, steps)


@pytest.mark.parametrize("steps", STEPS)
def test_hooks_on_some_steps(steps):
    """Steps with hooks are made part of the present graph, the others are not."""
    def work(torch, w, u, b, steps):
        seen = []

        def each(t, h):
            if t in (2, 7):
                h.register_hook(lambda g: (seen.append(g.sum()), g * 2)[1])
        w.register_hook(lambda g: g + 1)
        states(torch, w, u, b, steps, each)[-1].sum().backward()
        return w.grad, u.grad, b.grad, *seen
    both(work, steps)


@pytest.mark.parametrize("steps", STEPS)
def test_second_derivative(steps):
    def work(torch, w, u, b, steps):
        loss = states(torch, w, u, b, steps)[-1].pow(2).sum()
        g, = torch.autograd.grad(loss, u, create_graph=True)
        return g, *torch.autograd.grad(g.pow(2).sum(), [w, u])
    both(work, steps)


@pytest.mark.parametrize("steps", STEPS)
def test_parameter_written_between_steps(steps):
    def work(torch, w, u, b, steps):
        losses = []
        for _ in range(steps):
            with torch.no_grad():
                b.add_(0.5)
            y = torch.sigmoid(w.sum(1) * b.detach().clone() + b)
            y.sum().item()
            losses.append(y.sum())
        sum(losses).backward()
        return w.grad, b.grad
    both(work, steps)


def test_another_number_of_steps_makes_no_new_pieces(monkeypatch):
    monkeypatch.setattr(config, "eager_compile", "sync")  # how much is interpreted is then no matter of time
    w, u, b = parameters(jtorch)
    for steps in (10, 11, 12, 13):
        sum(states(jtorch, w, u, b, steps)).sum().backward()
    recorder = jtorch.capture.record.current.recorder
    pieces = [key for key in recorder.backwards if key[0] == "piece"]
    before = dict(execute.statistics)
    for steps in (14, 15, 16):
        sum(states(jtorch, w, u, b, steps)).sum().backward()
    assert [key for key in recorder.backwards if key[0] == "piece"] == pieces
    assert execute.statistics["interpreted"] - before["interpreted"] <= 3


def test_what_is_compiled_at_once_waits_for_what_was_asked_for_before(monkeypatch):
    """A program whose kernels other processes are still compiling is not interpreted on and on."""
    monkeypatch.setattr(driver.Pending, "ready", lambda self: False)  # they have much to do
    x = jtorch.linspace(0, 1, 7, dtype=jtorch.float64)

    def run():
        before = dict(execute.statistics)
        np.testing.assert_allclose((x * 0.37 + x.cos()).numpy(), x.numpy() * 0.37 + np.cos(x.numpy()), rtol=1e-14)
        return [execute.statistics[kind] - before[kind] for kind in ("interpreted", "compiled")]

    monkeypatch.setattr(config, "eager_compile", "async")
    assert [run() for _ in range(4)] == [[1, 0]] * 4
    monkeypatch.setattr(config, "eager_compile", "sync")
    assert [run() for _ in range(2)] == [[0, 1]] * 2


RECURRENT = {"LSTM": ("LSTM", {}), "both ways, two layers": ("LSTM", {"num_layers": 2, "bidirectional": True}),
             "projected": ("LSTM", {"proj_size": 2}), "no bias": ("LSTM", {"bias": False}), "GRU": ("GRU", {}),
             "tanh": ("RNN", {}), "relu": ("RNN", {"nonlinearity": "relu", "bidirectional": True})}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_of_any_length(name):
    """Lengths that are loops, and lengths that are not; first and second derivatives."""
    kind, options = RECURRENT[name]

    def work(torch, length):
        draw = np.random.default_rng(3)
        layer = getattr(torch.nn, kind)(3, 4, **options).double()
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.tensor(draw.standard_normal(tuple(p.shape)) * 0.4))
        x = torch.tensor(draw.standard_normal((length, 2, 3)), requires_grad=True)
        y, last = layer(x)
        last = last if isinstance(last, tuple) else (last,)
        weights = list(layer.parameters())
        loss = (y ** 2).sum() + sum(s.sum() for s in last)
        first = torch.autograd.grad(loss, [x, *weights], create_graph=True)
        second = torch.autograd.grad(sum((g ** 2).sum() for g in first), [x, *weights])
        with torch.no_grad():
            plain = layer(x)[0]
        return y, *last, *first, *second, plain

    for length in (2, 7):
        for ours, theirs in zip(work(jtorch, length), work(pytorch, length), strict=True):
            np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_a_backward_lets_go_of_the_steps():
    """Each step holds what the one before left behind; what a backward went through must not hold it any longer."""
    w, u, b = parameters(jtorch)

    def held():
        return sum(type(o) is Epoch for o in gc.get_objects())

    counts = []
    for steps in (10, 14, 18, 22):
        logits, scores = None, []
        for t in range(steps):
            before, logits = logits, jtorch.tanh(jtorch.full((2, 3), 0.1 * t, dtype=jtorch.float64) @ w.T + b)
            logits.sum().item()
            if before is not None:
                scores.append((before @ u)[0, 0])
        jtorch.stack(scores).sum().backward()
        del before, logits, scores
        gc.collect()
        counts.append(held())
    assert counts[-1] <= counts[1]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_packed_batches_of_any_length(kind):
    def work(torch, lengths):
        draw = np.random.default_rng(5)
        layer = getattr(torch.nn, kind)(3, 4, bidirectional=True, batch_first=True).double()
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.tensor(draw.standard_normal(tuple(p.shape)) * 0.4))
        x = draw.standard_normal((len(lengths), max(lengths), 3))
        for row, n in zip(x, lengths):
            row[n:] = np.nan  # what is behind the end is nobody's business
        x = torch.tensor(x, requires_grad=True)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True,
                                                         enforce_sorted=False)
        out, last = layer(packed)
        y, n = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True, padding_value=-2.0, total_length=10)
        last = last if isinstance(last, tuple) else (last,)
        grads = torch.autograd.grad((y ** 2).sum() + sum(s.sum() for s in last), [x, *layer.parameters()])
        return packed.data, packed.batch_sizes, out.data, y, n, *last, *grads

    for lengths in ([9, 3, 7, 1], [2, 3, 1], [8, 8]):
        for ours, theirs in zip(work(jtorch, lengths), work(pytorch, lengths), strict=True):
            np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_programs_that_differ_in_sizes_have_one_structure():
    def graph(n, extra=False):
        b = Builder()
        x, w = make_leaf(b, 0, Type(jtorch.float32, (n, 3))), make_leaf(b, 1, Type(jtorch.float32, (3, n + 1)))
        y = matmul(tanh(x), exp(w)) if extra else matmul(exp(x), tanh(w))
        return Graph([x, w], [y])

    assert structure_key(graph(4)) == structure_key(graph(9))
    assert structure_key(graph(4)) != structure_key(graph(4, extra=True))


def test_a_plan_is_made_at_once_where_that_is_cheaper_than_a_run():
    structure = Structure(100)
    assert not structure.plan_at_once  # nothing is known
    structure.interpreted(0.5)
    assert structure.plan_at_once
    structure.planned(0.001)
    structure.interpreted(0.0005)
    assert not structure.plan_at_once
    structure.interpreted(0.5)  # held up
    assert not structure.plan_at_once
    structure.interpreted(0.5)
    assert structure.plan_at_once


def test_the_first_plan_is_measured_where_it_takes_longer_than_was_guessed():
    structure = Structure(1)
    structure.planned(0.01)
    structure.interpreted(0.001)
    assert not structure.plan_at_once
    structure.planned(0.0005)
    structure.planned(0.02)
    assert structure.plan_at_once


def test_work_of_ever_new_sizes_is_measured_whatever_earlier_processes_knew(monkeypatch):
    asked = []
    monkeypatch.setattr(driver, "is_known", lambda graph: asked.append(graph) or True)
    before = dict(execute.statistics)
    for n in range(2, 20):
        jtorch.ones(n, n).sin().cosh().numpy()
    assert len(asked) <= UNMEASURED
    assert execute.statistics["interpreted"] > before["interpreted"]


def test_packed_rows_that_somebody_looks_at_are_what_counts():
    """They may be written to, have hooks and gradients of their own, and be made into another packed batch."""
    lengths = [2, 5, 3]

    def work(torch):
        draw = np.random.default_rng(5)
        layer = torch.nn.GRU(3, 4).double()
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.tensor(draw.standard_normal(tuple(p.shape)) * 0.4))
        x = torch.tensor(draw.standard_normal((6, 3, 3)), requires_grad=True)
        utils = torch.nn.utils.rnn
        packed = utils.pack_padded_sequence(x * 2, lengths, enforce_sorted=False)
        seen = []
        with torch.no_grad():
            packed.data.sum().item()
        packed.data.register_hook(lambda g: seen.append(g) or g * 3)
        out, last = layer(packed)
        found = [*torch.autograd.grad(out.data.sum(), [x]), *seen]
        again = utils.PackedSequence(torch.tanh(packed.data), packed.batch_sizes, packed.sorted_indices,
                                     packed.unsorted_indices)
        found += [*layer(again)[0], *utils.pad_packed_sequence(again, total_length=7), *utils.unpack_sequence(out)]
        with torch.no_grad():
            packed.data.mul_(2)
            rows, sizes, order, back = layer(packed)[0]
            x.zero_()  # a packed batch is a copy
            return [*found, rows, sizes, order, back, packed[0], layer(packed)[1], last]

    for ours, theirs in zip(work(jtorch), work(pytorch), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_packed_batches_of_other_lengths_are_no_other_programs():
    layer, recorder = jtorch.nn.LSTM(3, 4), jtorch.capture.record.current.recorder
    x, counts = jtorch.randn(6, 4, 3), []
    for lengths in ([6, 2, 1, 1], [6, 5, 4, 2], [6, 6, 1, 1], [6, 3, 2, 1]):
        packed = jtorch.nn.utils.rnn.pack_padded_sequence(x, lengths)
        layer(packed)[1][0].sum().backward()
        layer.weight_hh_l0.grad.sum().item()
        counts.append(len(recorder.programs))
    assert counts[1:] == counts[1:2] * 3


def test_more_steps_than_there_are():
    with pytest.raises(RuntimeError, match="lengths of at most 3"):
        jtorch.nn.utils.rnn.pack_padded_sequence(jtorch.zeros(3, 2, 4), [5, 1])


@pytest.mark.parametrize("limit", [1, 40, 150])
def test_the_tables_start_afresh_in_the_middle_of_training(monkeypatch, limit):
    """Whatever has been interned when the recorder forgets it: pending history, views, in-place updates go on."""
    monkeypatch.setattr(config, "max_interned", limit)
    monkeypatch.setattr(config, "eager_compile", "sync")
    recorder = jtorch.capture.record.current.recorder
    tables = []

    def work(torch, w, u, b, steps):
        opt = torch.optim.Adam([w, u, b], lr=0.05)
        losses = []
        for n in steps:
            opt.zero_grad()
            found = states(torch, w, u, b, n)
            row = found[-1][0]
            loss = sum((h * h).mean() for h in found) + row.sum()
            loss.item()
            tables.append(id(recorder.builder))
            loss.backward()
            opt.step()
            with torch.no_grad():
                w[0] *= 0.99
            losses.append(loss)
        return *losses, w, u, b

    both(work, (3, 12, 12, 5, 12))
    assert len(set(tables)) > 1


@pytest.mark.parametrize("looks", [10_000, 7])
def test_updates_written_by_hand_are_the_same_program_in_each_round(monkeypatch, looks):
    """No optimizer steps and hardly anything is looked at: the graphs between the flushes neither grow nor change."""
    monkeypatch.setattr(config, "eager_compile", "never")
    recorder = jtorch.capture.record.current.recorder

    class Cubic(jtorch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 3 - x

        @staticmethod
        def backward(ctx, g):
            x, = ctx.saved_tensors
            return g * (3 * x ** 2 - 1)

    def work(torch, cubic, rounds):
        recorder.flush()
        x = torch.linspace(-1, 1, 50, dtype=torch.float64)
        y = torch.sin(3 * x)
        weights = [torch.full((), 0.1 * i, dtype=torch.float64, requires_grad=True) for i in range(3)]
        a, b, c = weights
        for t in range(rounds):
            loss = (a + b * cubic(x * c + 0.5) - y).pow(2).sum()
            if t % looks == looks - 1:
                loss.item()
            loss.backward()
            with torch.no_grad():
                for w in weights:
                    w -= 1e-3 * w.grad
                    w.grad = None
        return [w.detach().numpy() for w in weights]

    work(jtorch, Cubic.apply, 40)
    programs, values = len(recorder.programs), len(recorder.builder.table)
    np.testing.assert_allclose(work(jtorch, Cubic.apply, 200), work(pytorch, lambda x: x ** 3 - x, 200), rtol=1e-10)
    assert len(recorder.programs) - programs <= 4  # it takes a few rounds until the flushes lie where they stay
    assert len(recorder.builder.table) - values < 200


def fixed_point(torch, v, m):
    for _ in range(1000):
        v = m @ v + 1
        v = v / v.norm()
    return v


def heat(torch, v, m):
    u = v.clone()
    for _ in range(500):
        u[1:-1] += 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return u


def nested(torch, v, m):
    for _ in range(80):
        for _ in range(10):
            v = torch.sin(v) + 0.1
        for k in range(3):
            v = torch.roll(v, k + 1) * 0.9
    return v


def trajectory(torch, v, m):
    states = []
    for _ in range(400):
        v = v + 0.01 * torch.stack([v[1] - v[0], v[0] * v[2], v[2] - v[1]])
        states.append(v)
    return torch.stack(states)


def draws(torch, v, m):
    torch.manual_seed(3)
    for _ in range(500):
        v = 0.9 * v + 0.1 * torch.randn(v.shape, dtype=v.dtype)
    return v


@pytest.mark.parametrize("work", [fixed_point, heat, nested, trajectory, draws], ids=lambda f: f.__name__)
def test_a_loop_without_a_look_is_the_same_program_in_each_round(monkeypatch, work):
    monkeypatch.setattr(config, "eager_compile", "never")
    draw = np.random.default_rng(1)
    v, m = draw.standard_normal(3 if work is trajectory else 20), draw.standard_normal((20, 20))
    recorder = jtorch.capture.record.current.recorder
    before = len(recorder.programs)
    with jtorch.no_grad():
        ours = work(jtorch, jtorch.tensor(v), jtorch.tensor(m)).numpy()
    theirs = work(pytorch, pytorch.tensor(v), pytorch.tensor(m)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    # A generator's words come in blocks, so that draws stand at another place of theirs in the next round.
    assert len(recorder.programs) - before <= (10 if work is draws else 5)


def test_a_step_of_training_lets_go_of_what_was_before_it(monkeypatch):
    """Once a backward has gone through all of it, nothing needs the old weights: they are written over, also where
    gradients and the loss of that step are still held."""
    monkeypatch.setattr(config, "eager_compile", "sync")
    w, u, b = parameters(jtorch)
    x = jtorch.ones(2, 3, dtype=jtorch.float64)
    kept, places, before = [], set(), None
    for _ in range(6):
        w.grad = u.grad = b.grad = None
        loss = (jtorch.tanh(x @ w.T + b) @ u).sum()
        loss.backward()
        with jtorch.no_grad():
            for p in (w, u, b):
                p.sub_(0.1 * p.grad)
        loss.item()
        assert before is None or before() is None
        kept.append((loss, w.grad))
        before = weakref.ref(w._storage.cell)
        places.add(w._storage.cell.buffer.ptr)
    assert len(places) < 4 and len({g.sum().item() for _, g in kept}) == 6


def test_what_a_backward_may_still_go_through_is_not_written_over():
    def work(torch, w, u, b, steps):
        y = torch.tanh(w.sum(1) * u.sum(0) + b)
        z = (y * w.sum()).exp()
        y.sum().backward(retain_graph=True)
        with torch.no_grad():
            kept = [p.clone() for p in (w, u, b)]
        z.sum().item()
        with torch.no_grad():
            for p in (u, b):
                p.sub_(p.grad)
        z.sum().item()
        return y, z, w.grad, u.grad, b.grad, *kept, u, b
    both(work, 1)
