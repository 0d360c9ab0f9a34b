"""Optimizers against PyTorch's: 50 steps of a small network from the same weights."""
from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import jtorch
from jtorch import optim

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

CASES = {
    "SGD": ("SGD", {"lr": 0.1}), "SGD momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "SGD nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "SGD dampening": ("SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.02}),
    "SGD maximize": ("SGD", {"lr": 0.001, "maximize": True}),
    "Adam": ("Adam", {}), "Adam decay": ("Adam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}),
    "Adam amsgrad": ("Adam", {"lr": 0.05, "amsgrad": True, "maximize": False}),
    "AdamW": ("AdamW", {"lr": 0.01}), "AdamW amsgrad": ("AdamW", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.3}),
    "Adadelta": ("Adadelta", {}), "Adadelta decay": ("Adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1}),
    "Adagrad": ("Adagrad", {}), "Adagrad decay": ("Adagrad", {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.1,
                                                             "initial_accumulator_value": 0.2}),
    "RMSprop": ("RMSprop", {}), "RMSprop centered": ("RMSprop", {"centered": True, "momentum": 0.5, "lr": 0.003}),
    "RMSprop momentum": ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1, "lr": 0.001}),
    "Adamax": ("Adamax", {}), "Adamax decay": ("Adamax", {"lr": 0.01, "weight_decay": 0.1}),
    "NAdam": ("NAdam", {}), "NAdam decoupled": ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "RAdam": ("RAdam", {"lr": 0.01}), "RAdam decay": ("RAdam", {"lr": 0.01, "weight_decay": 0.1}),
    "Adafactor": ("Adafactor", {}),
    "Adafactor options": ("Adafactor", {"lr": 0.1, "eps": (1e-4, 1e-2), "weight_decay": 0.1, "d": 1.5}),
    "Rprop": ("Rprop", {}), "ASGD": ("ASGD", {"t0": 20, "lr": 0.05}),
    "ASGD decay": ("ASGD", {"weight_decay": 0.1, "lambd": 0.01}),
}


def arrays() -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(0)
    return r.standard_normal((16, 4)).astype(np.float32), r.standard_normal((16, 3)).astype(np.float32)


def network(t, dtype: str = "float32"):
    t.manual_seed(0)
    return t.nn.Sequential(t.nn.Linear(4, 8), t.nn.Tanh(), t.nn.Linear(8, 3)).to(getattr(t, dtype))


def train(t, make, steps: int = 50, dtype: str = "float32", each=None):
    x, y = (t.tensor(a).to(getattr(t, dtype)) for a in arrays())
    model = network(t, dtype)
    opt = make(t.optim, model)
    losses = []
    for i in range(steps):
        opt.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        opt.step()
        losses.append(loss.detach())
        if each is not None:
            each(t, opt, i)
    return model, opt, [float(v) for v in losses]


def compare(ours, theirs, rtol=1e-5, atol=1e-5) -> None:
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=rtol, atol=atol, err_msg=name)


def compare_state(ours, theirs, rtol=1e-4, atol=1e-5) -> None:
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a["state"]) == list(b["state"])
    for number in b["state"]:
        assert set(a["state"][number]) == set(b["state"][number])
        for key, value in b["state"][number].items():
            mine = a["state"][number][key]
            if isinstance(value, torch.Tensor):
                assert str(mine.dtype) == str(value.dtype)
                np.testing.assert_allclose(mine.numpy(), value.numpy(), rtol=rtol, atol=atol, err_msg=f"{number} {key}")
            else:
                assert mine == value, key
    assert a["param_groups"] == b["param_groups"]


@pytest.mark.parametrize("name", CASES)
def test_fifty_steps(name: str) -> None:
    kind, options = CASES[name]
    ours, opt, _ = train(jtorch, lambda o, m: getattr(o, kind)(m.parameters(), **options))
    theirs, reference, _ = train(torch, lambda o, m: getattr(o, kind)(m.parameters(), **options))
    if kind == "Rprop":  # the sign of a tiny gradient decides: followed while rounding cannot turn it
        compare(ours, theirs, atol=1e-3)
    else:
        compare(ours, theirs)
        compare_state(opt, reference)
    assert repr(opt) == repr(reference)


@pytest.mark.parametrize("options,size", [
    ({}, 1e-3 * 2 ** 0.5), ({"lr": 0.02, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, 0.004 * 8 ** 0.5)])
def test_muon(options, size: float) -> None:
    """The direction, of singular values near 1, is a bfloat16: where a sum is rounded the other way, an entry of one of
    the 50 updates of this `size` is off by its last place, 2**-8."""
    def make(o, m):
        return o.Muon([p for p in m.parameters() if p.ndim == 2], **options)
    ours, opt, _ = train(jtorch, make)
    theirs, reference, _ = train(torch, make)
    compare(ours, theirs, atol=50 * size * 2 ** -8)
    compare_state(opt, reference, rtol=0, atol=0.01)
    assert repr(opt) == repr(reference)


def test_sparse_adam_moves_only_what_was_looked_up() -> None:
    def run(t):
        t.manual_seed(0)
        table = t.nn.Embedding(10, 4, sparse=True)
        opt = t.optim.SparseAdam(list(table.parameters()), lr=0.1)
        r = np.random.default_rng(0)
        for _ in range(50):
            opt.zero_grad()
            (table(t.tensor(r.integers(0, 10, 3))) ** 3).sum().backward()
            opt.step()
        state = opt.state_dict()["state"][0]
        return table.weight.detach().numpy(), {k: float(v) if k == "step" else v.numpy() for k, v in state.items()}
    (a, state), (b, reference) = run(jtorch), run(torch)
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert set(state) == set(reference)
    for key, value in reference.items():
        np.testing.assert_allclose(state[key], value, rtol=1e-4, atol=1e-5, err_msg=key)


CROSSINGS = {
    "SGD": ({"lr": 0.01}, {3: {"momentum": 0.9}, 5: {"weight_decay": 0.1}, 7: {"momentum": 0.0},
                           8: {"maximize": True}}),
    "Adam": ({}, {3: {"lr": 0.1}, 5: {"weight_decay": 0.9}, 7: {"weight_decay": 0}, 8: {"maximize": True}}),
    "RMSprop": ({"momentum": 0.5}, {3: {"weight_decay": 0.5}, 6: {"momentum": 0}}),
}


@pytest.mark.parametrize("kind", CROSSINGS)
def test_traced_steps_follow_hyperparameters(kind: str) -> None:
    """One that becomes zero, or stops being zero, changes what a step does."""
    options, changes = CROSSINGS[kind]

    def run(t):
        x, y = (t.tensor(a) for a in arrays())
        model = network(t)
        opt = getattr(t.optim, kind)(model.parameters(), **options)

        def step():
            opt.zero_grad()
            ((model(x) - y) ** 2).mean().backward()
            opt.step()
        call = jtorch.jit.trace(step) if t is jtorch else step
        for i in range(10):
            opt.param_groups[0].update(changes.get(i, {}))
            call()
        return model
    compare(run(jtorch), run(torch))


def test_traced_step_of_an_own_optimizer_follows_its_numbers() -> None:
    class Plain(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @jtorch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad, alpha=-group["lr"])
    p = jtorch.zeros(2, requires_grad=True)
    p.grad = jtorch.ones(2)
    opt = Plain([p], 1.0)
    step = jtorch.jit.trace(lambda: opt.step())
    for lr in (1.0, 1.0, 10.0, 100.0):
        opt.param_groups[0]["lr"] = lr
        step()
    assert p.tolist() == [-112.0, -112.0]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_float64(kind: str) -> None:
    def make(o, m):
        return getattr(o, kind)(m.parameters(), lr=0.05)
    ours, _, _ = train(jtorch, make, dtype="float64")
    theirs, _, _ = train(torch, make, dtype="float64")
    compare(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs(search) -> None:
    def run(t):
        x, y = (t.tensor(a).to(t.float64) for a in arrays())
        model = network(t, "float64")
        opt = t.optim.LBFGS(model.parameters(), lr=0.5, max_iter=7, history_size=5, line_search_fn=search)

        def closure():
            opt.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            return loss
        losses = [float(opt.step(closure)) for _ in range(6)]
        return losses, opt.state_dict()["state"][0]
    (a, state), (b, reference) = run(jtorch), run(torch)
    np.testing.assert_allclose(a, b, rtol=1e-7)
    assert (state["func_evals"], state["n_iter"]) == (reference["func_evals"], reference["n_iter"])


def test_groups_and_changing_rates() -> None:
    def make(o, m):
        return o.AdamW([{"params": m[0].parameters(), "lr": 0.02}, {"params": m[2].parameters(), "weight_decay": 0.0}],
                       lr=0.005)

    def each(t, opt, i):
        opt.param_groups[0]["lr"] *= 0.95
        opt.param_groups[1]["betas"] = (0.9 - 0.001 * i, 0.999)
        if i == 20:
            for p in opt.param_groups[1]["params"]:
                p.requires_grad_(False)
                p.grad = None
    ours, opt, _ = train(jtorch, make, each=each)
    theirs, reference, _ = train(torch, make, each=each)
    compare(ours, theirs)
    compare_state(opt, reference)
    assert repr(opt) == repr(reference)


def test_scheduler_changes_no_program() -> None:
    """Another learning rate is another number, not another program."""
    sizes = []

    def each(t, opt, i):
        opt.param_groups[0]["lr"] *= 0.9
        sizes.append(len(jtorch.capture.record.current.recorder.programs))
    import jtorch.capture.record
    train(jtorch, lambda o, m: o.Adam(m.parameters(), lr=0.01), steps=8, each=each)
    assert sizes[2] == sizes[-1]


def test_state_dict_is_interchangeable() -> None:
    def make(o, m):
        return o.Adam(m.parameters(), lr=0.02)
    theirs, reference, _ = train(torch, make, steps=10)
    saved = reference.state_dict()
    state = {k: {n: jtorch.tensor(v.numpy()) for n, v in s.items()} for k, s in saved["state"].items()}
    x, y = arrays()
    ours = network(jtorch)
    ours.load_state_dict({k: jtorch.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    opt = make(optim, ours)
    opt.load_state_dict({"state": state, "param_groups": saved["param_groups"]})
    for model, o, t in ((ours, opt, jtorch), (theirs, reference, torch)):
        for _ in range(10):
            o.zero_grad()
            ((model(t.tensor(x)) - t.tensor(y)) ** 2).mean().backward()
            o.step()
    compare(ours, theirs)
    compare_state(opt, reference)
    before = opt.state[ours[0].weight]["exp_avg"]
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert opt.state[ours[0].weight]["exp_avg"] is before
    again = pickle.loads(pickle.dumps(opt))
    assert again.param_groups[0]["lr"] == 0.02
    assert len(again.state) == 4


def test_hooks_and_closure() -> None:
    model = network(jtorch)
    opt = optim.SGD(model.parameters(), lr=0.1)
    calls = []
    opt.register_step_pre_hook(lambda o, args, kwargs: calls.append("pre"))
    handle = opt.register_step_post_hook(lambda o, args, kwargs: calls.append("post"))

    def closure():
        opt.zero_grad()
        loss = model(jtorch.ones(1, 4)).sum()
        loss.backward()
        return loss
    loss = opt.step(closure)
    handle.remove()
    opt.step()
    assert calls == ["pre", "post", "pre"]
    assert loss.requires_grad


def test_own_optimizer() -> None:
    class Plain(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @jtorch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad, alpha=-group["lr"])
    ours, _, _ = train(jtorch, lambda o, m: Plain(m.parameters(), 0.1))
    theirs, _, _ = train(torch, lambda o, m: o.SGD(m.parameters(), 0.1))
    compare(ours, theirs)


ERRORS = {
    "no parameters": lambda t: t.optim.SGD([]),
    "a tensor": lambda t: t.optim.SGD(t.ones(1)),
    "not tensors": lambda t: t.optim.SGD([1, 2]),
    "lr": lambda t: t.optim.SGD([t.ones(1)], lr=-1),
    "nesterov": lambda t: t.optim.SGD([t.ones(1)], nesterov=True),
    "betas": lambda t: t.optim.Adam([t.ones(1)], betas=(1.0, 0.9)),
    "twice": lambda t: (lambda p: t.optim.SGD([{"params": [p]}, {"params": [p]}]))(t.ones(1)),
    "fused and foreach": lambda t: t.optim.Adam([t.ones(1)], fused=True, foreach=True),
    "fused and differentiable": lambda t: t.optim.SGD([t.ones(1)], fused=True, differentiable=True),
    "Muon of a vector": lambda t: t.optim.Muon([t.ones(1)]),
    "Adafactor's d": lambda t: t.optim.Adafactor([t.ones(1)], d=0.5),
    "SparseAdam's lr": lambda t: t.optim.SparseAdam([t.ones(1)], lr=0.0),
    "a set": lambda t: t.optim.SGD([{"params": {t.ones(1)}}]),
    "not a leaf": lambda t: t.optim.SGD([t.ones(1, requires_grad=True) * 2]),
    "other parameters": lambda t: t.optim.SGD([t.ones(1)]).load_state_dict(
        {"state": {}, "param_groups": [{"params": [0, 1], "lr": 0.1}]}),
    "not a closure": lambda t: t.optim.LBFGS([t.ones(1)]).step(),
    "other groups": lambda t: t.optim.SGD([t.ones(1)]).load_state_dict({"state": {}, "param_groups": []}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    texts = []
    for t in (jtorch, torch):
        with pytest.raises(Exception) as error:
            ERRORS[name](t)
        texts.append((type(error.value), str(error.value)))
    assert texts[0] == texts[1]
