"""Traced steps that find their state as they left it, and what users do to that state between two calls."""
from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest

import jtorch
from jtorch.capture.lone import configuration
from jtorch.capture.variant import Variant

pytorch = pytest.importorskip("torch", reason="PyTorch is the oracle here")


class Training:
    """A small model with a step that may be traced; buffers, gradients and the optimizer's state are captured."""

    def __init__(self, torch, trace=lambda f: f):
        self.torch, nn = torch, torch.nn
        self.model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()
        draw = np.random.default_rng(0)
        with torch.no_grad():
            for p in self.model.parameters():
                p.copy_(torch.tensor(draw.standard_normal(tuple(p.shape))))
        self.x = torch.tensor(draw.standard_normal((8, 3)))
        self.y = torch.tensor(draw.standard_normal((8, 1)))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, betas=(0.8, 0.9))
        self.held = []
        self.trace = trace
        self.step = trace(self._step)

    def _step(self, x, y):
        self.optimizer.zero_grad()
        loss = ((self.model(x) - y) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        return loss

    @property
    def weight(self):
        return self.model[0].weight


def write_in_place(m):
    with m.torch.no_grad():
        m.weight.mul_(0.9)


def replace_data(m):
    m.weight.data = m.weight.detach() * 1.1


def view_through_numpy(m):
    m.held.append(m.weight.detach().numpy())


def write_through_numpy(m):
    m.weight.detach().numpy()[0] += 0.25


def hold_copy(m):
    m.held.append(m.weight.detach().clone())


def hold_alias(m):
    m.held.append(m.weight.detach())


def hold_gradient(m):
    m.held.append(m.weight.grad)


def drop_gradient(m):
    m.model[3].weight.grad = None


def set_gradient(m):
    m.weight.grad = m.torch.ones_like(m.weight)


def change_rate(m):
    m.optimizer.param_groups[0]["lr"] *= 0.5


def change_flags(m):
    m.optimizer.param_groups[0]["weight_decay"] = 0.1


def evaluate(m):
    m.model.eval()
    with m.torch.no_grad():
        m.held.append(m.model(m.x))
    m.model.train(len(m.held) % 2 == 0)


def load(m):
    m.model.load_state_dict(copy.deepcopy(m.model.state_dict()))
    m.optimizer.load_state_dict(copy.deepcopy(m.optimizer.state_dict()))


def reset_buffer(m):
    m.model[1].running_mean = m.torch.zeros(4, dtype=m.torch.float64)


def look(m):
    m.held.append([p.detach().clone() for p in m.model.parameters()])
    m.weight.sum().item()


ACTIONS = [write_in_place, replace_data, view_through_numpy, write_through_numpy, hold_copy, hold_alias, hold_gradient,
           drop_gradient, set_gradient, change_rate, change_flags, evaluate, load, reset_buffer, look]


def numbers(items):
    for item in items:
        if isinstance(item, list):
            yield from numbers(item)
        elif isinstance(item, np.ndarray):
            yield item
        else:
            yield item.detach().numpy()


def compare(ours, theirs):
    state = [[*m.model.state_dict().values(), *m.held, *[p.grad for p in m.model.parameters() if p.grad is not None]]
             for m in (ours, theirs)]
    for a, b in zip(*map(numbers, state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def count_steady(monkeypatch):
    runs, run = [], Variant.run_again
    monkeypatch.setattr(Variant, "run_again", lambda self, args: runs.append(self) or run(self, args))
    return runs


@pytest.mark.parametrize("action", ACTIONS, ids=lambda f: f.__name__)
def test_state_that_changes_between_steps(monkeypatch, action):
    """What the user did is seen, what he holds stays, and steps are steady again afterwards."""
    runs = count_steady(monkeypatch)
    ours, theirs = Training(jtorch, jtorch.jit.trace), Training(pytorch)
    for round in range(4):
        for _ in range(6):
            losses = [m.step(m.x, m.y) for m in (ours, theirs)]
            np.testing.assert_allclose(losses[0].item(), losses[1].item(), rtol=1e-9)
        action(ours), action(theirs)
        if round == 2:
            compare(ours, theirs)
    for m in (ours, theirs):
        m.step(m.x, m.y)
    compare(ours, theirs)
    if configuration() is not None:
        assert runs


@pytest.mark.parametrize("seed", range(4))
def test_state_that_changes_at_random(seed):
    draw = random.Random(seed)
    ours, theirs = Training(jtorch, jtorch.jit.trace), Training(pytorch)
    for _ in range(40):
        for m in (ours, theirs):
            m.step(m.x, m.y)
        if draw.random() < 0.4:
            action = draw.choice(ACTIONS)
            action(ours), action(theirs)
        if draw.random() < 0.2:
            ours.held.clear(), theirs.held.clear()
    compare(ours, theirs)


@pytest.mark.skipif(configuration() is None, reason="this Python keeps instances in another way")
def test_a_state_that_is_never_left_alone_is_looked_for_less_and_less(monkeypatch):
    from jtorch.capture import variant

    looked = []
    monkeypatch.setattr(variant, "steady_state", lambda v, look=variant.steady_state: looked.append(v) or look(v))
    m = Training(jtorch, jtorch.jit.trace)
    for _ in range(100):
        m.step(m.x, m.y)
        replace_data(m)
    assert len(looked) < 10
    runs = count_steady(monkeypatch)
    for _ in range(400):
        m.step(m.x, m.y)
    assert len(runs) > 200


def test_programs_that_only_read_state(monkeypatch):
    runs = count_steady(monkeypatch)
    found = []
    for torch, trace in ((jtorch, jtorch.jit.trace), (pytorch, lambda f: f)):
        m = Training(torch)
        m.model.eval()
        predict = trace(lambda x, m=m: m.model(x))
        with torch.no_grad():
            for k in range(12):
                found.append(predict(m.x * k).numpy())
                if k == 6:
                    m.weight.mul_(2)
    np.testing.assert_allclose(found[:12], found[12:], rtol=1e-9)
    assert len(runs) >= 4 or configuration() is None


def new_head(m):
    m.model[3] = m.torch.nn.Linear(4, 1).double()
    with m.torch.no_grad():
        for p in m.model[3].parameters():
            p.fill_(0.25)


def new_parameter(m):
    m.weight_before = m.weight
    m.model[0].weight = m.torch.nn.Parameter(m.weight.detach() * 0.5)


def new_buffers(m):
    m.model[1].running_var = m.torch.full((4,), 3.0, dtype=m.torch.float64)


def inserted(m):
    m.model.insert(2, m.torch.nn.Sigmoid())


def appended(m):
    m.model.append(m.torch.nn.Tanh())


def removed(m):
    del m.model[2]


def assigned(m):
    state = {name: t.clone() * 0.75 for name, t in m.model.state_dict().items() if t.is_floating_point()}
    m.model.load_state_dict(state, strict=False, assign=True)


def removed_bias(m):
    m.model[3].bias = None


def in_table(m):
    m.model[3]._parameters["bias"] = m.torch.nn.Parameter(m.torch.ones(1, dtype=m.torch.float64))


@pytest.mark.parametrize("change", [new_head, new_parameter, new_buffers, inserted, appended, removed, assigned,
                                    removed_bias, in_table], ids=lambda f: f.__name__)
@pytest.mark.parametrize("train", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("plain", [False, True], ids=["noted", "plain"])
def test_members_of_modules_that_are_replaced(change, train, plain):
    """A trace is of the modules that there are, not of those that there were; also where dicts note nothing."""
    def work(torch, trace):
        m = Training(torch)
        m.model.train(train)
        if plain:
            for module in m.model.modules():
                for table in ("_parameters", "_buffers", "_modules"):
                    module.__dict__[table] = dict(module.__dict__[table])
        with torch.no_grad():
            predict = trace(lambda x: m.model(x))
            found = [predict(m.x).clone() for _ in range(3)]
            change(m)
            return found + [predict(m.x).clone() for _ in range(3)]

    for ours, theirs in zip(work(jtorch, jtorch.jit.trace), work(pytorch, lambda f: f), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9)


def test_members_that_are_replaced_in_every_call_are_not_traced_for_ever():
    m = Training(jtorch)
    predict = jtorch.jit.trace(lambda x: m.model(x))
    with jtorch.no_grad():
        for _ in range(12):
            new_parameter(m)
            np.testing.assert_allclose(predict(m.x).numpy(), m.model(m.x).numpy(), rtol=1e-12)
    assert "runs eagerly from now on" in predict.explain()
    assert sum(map(len, predict.variants.values())) == 1


@pytest.mark.parametrize("given", [lambda w: w, lambda w: w.detach(), lambda w: w[:3]], ids=["it", "alias", "part"])
def test_captured_state_that_is_given_as_an_argument(given):
    """What is read and written by two names, in the middle of calls with other arguments."""
    def work(torch, trace):
        w, found = torch.arange(4, dtype=torch.float64) + 1, []

        def halve(x):
            w.mul_(0.5)
            return x[:3] + w[:3]

        step = trace(halve)
        for k in range(14):
            x = given(w) if k in (5, 9, 10) else torch.full_like(given(w), k)
            found += [step(x).clone(), w.clone()]
        return found

    for ours, theirs in zip(work(jtorch, jtorch.jit.trace), work(pytorch, lambda f: f), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_members_are_copied_and_pickled():
    model = Training(jtorch).model
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        predict = jtorch.jit.trace(lambda x, other=other: other(x))
        x = jtorch.ones(2, 3, dtype=jtorch.float64)
        with jtorch.no_grad():
            before = predict(x).numpy()
            other.eval()[3].bias = jtorch.nn.Parameter(jtorch.ones(1, dtype=jtorch.float64) * 9)
            assert (predict(x).numpy() != before).all()
    assert type(pickle.loads(pickle.dumps(model._parameters))) is dict
