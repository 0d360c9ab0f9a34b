"""What a step of an optimizer is to the machine: how many launches, in whose memory, by which program."""
from __future__ import annotations

import inspect

import numpy as np
import pytest

import jtorch
from jtorch.optim.rule import RuleOptimizer

OPTIONS = {
    "SGD": {"lr": 0.1}, "Adam": {"weight_decay": 0.1}, "AdamW": {"amsgrad": True}, "Adadelta": {}, "Adagrad": {},
    "RMSprop": {"centered": True, "momentum": 0.5}, "Adamax": {}, "NAdam": {}, "RAdam": {}, "Rprop": {}, "ASGD": {},
}
BY_ROWS = ["SparseAdam", "Adafactor", "Muon"]  # these look at rows or whole matrices


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch):
    monkeypatch.setattr(jtorch.config.config, "eager_compile", "sync")
    monkeypatch.setattr(jtorch.config.config, "compile_after", 1)


def tensors(n: int, seed: int = 0) -> list[jtorch.nn.Parameter]:
    r = np.random.default_rng(seed)
    shapes = [[(3, 5), (7,), (2, 3, 4), (15,)][i % 4] for i in range(n)]
    return [jtorch.nn.Parameter(jtorch.tensor(r.standard_normal(s).astype(np.float32))) for s in shapes]


def give_gradients(params, seed: int = 1) -> None:
    r = np.random.default_rng(seed)
    for p in params:
        p.grad = jtorch.tensor(r.standard_normal(p.shape).astype(np.float32))


def contents(params) -> list[np.ndarray]:
    return [jtorch.clone(p.detach()).numpy() for p in params]


def plan_of(opt):
    (plan,) = opt._plans.values()
    return plan


def test_every_optimizer_is_in_the_table() -> None:
    found = {name for name, c in vars(jtorch.optim).items() if inspect.isclass(c) and issubclass(c, RuleOptimizer)}
    assert found == {*OPTIONS, *BY_ROWS}
    assert {name for name in found if not getattr(jtorch.optim, name).elementwise} == set(BY_ROWS)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_is_one_launch(name: str) -> None:
    """The kernels of all parameters are handed over together, in the first region. What may follow are single numbers,
    above all the step counters, which have to wait until the update has read them."""
    params = tensors(100)
    opt = getattr(jtorch.optim, name)(params, **OPTIONS[name])
    give_gradients(params)
    for _ in range(3):
        opt.step()
    first, *later = plan_of(opt).update.launches
    assert sorted(n for n in first if n > 1) == sorted(p.numel() for p in params)
    assert {n for region in later for n in region} <= {1}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_traced_step_is_one_launch(name: str) -> None:
    params = tensors(12)
    opt = getattr(jtorch.optim, name)(params, **OPTIONS[name])
    give_gradients(params)
    opt.step()
    step = jtorch.jit.trace(lambda: opt.step())
    step()
    kernels = [k for k in step.kernels if k.total > 1]
    assert sorted(k.total for k in kernels) == sorted(p.numel() for p in params)
    assert {k.region for k in kernels} == {0}


@pytest.mark.parametrize("name", [*OPTIONS, *BY_ROWS])
def test_planned_steps_are_recorded_steps(name: str) -> None:
    """Bit for bit what the recorded operations give (in float64: in a larger program, chains of products may be
    contracted otherwise), while hyperparameters change and some gradients are missing."""
    def run(planned: bool):
        params = [p for p in tensors(8) if p.ndim == 2 or name != "Muon"]
        for p in params:
            p.data = p.data.double()
        opt = getattr(jtorch.optim, name)(params, **OPTIONS.get(name, {}))
        for i in range(8):
            r = np.random.default_rng(i)
            for k, p in enumerate(params):
                p.grad = None if i % 3 == 1 and k == 1 else jtorch.tensor(r.standard_normal(p.shape))
            if i == 5:
                opt.param_groups[0]["lr"] *= 0.5
            opt.step() if planned else opt.record_step()
        return contents(params), opt
    (a, opt), (b, _) = run(True), run(False)
    assert any(plan is not None and plan.update.program is not None for plan in opt._plans.values())
    for x, y in zip(a, b):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-3 if name == "Muon" else 1e-13)


def planned_adam(params):
    opt = jtorch.optim.Adam(params, lr=0.1)
    give_gradients(params)
    for _ in range(3):
        opt.step()
    return opt, plan_of(opt)


def test_memory_that_numpy_sees_is_written_in_place() -> None:
    params = tensors(4)
    opt, plan = planned_adam(params)
    seen = [p.detach().numpy() for p in params]
    before = [a.copy() for a in seen]
    opt.step()
    for p, a, b in zip(params, seen, before):
        assert (a != b).all()
        np.testing.assert_array_equal(a, contents([p])[0])
    assert plan_of(opt) is plan


def test_what_others_hold_keeps_its_contents() -> None:
    params = tensors(4)
    opt, plan = planned_adam(params)
    copies = [jtorch.clone(p.detach()) for p in params]
    moments = [jtorch.clone(opt.state[p]["exp_avg"]) for p in params]
    x = jtorch.ones(3, 5, requires_grad=True)
    y = (x * params[0]).sum()  # its derivative needs the parameter as it is now
    float(y.detach())
    before, before_moments = contents(params), contents(moments)
    opt.step()
    assert all((p.detach().numpy() != b).all() for p, b in zip(params, before))
    for kept, b in zip((*copies, *moments), (*before, *before_moments)):
        np.testing.assert_array_equal(kept.numpy(), b)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), before[0])
    assert plan_of(opt) is plan


def test_replaced_tensors_are_noticed() -> None:
    params = tensors(4)
    opt, _ = planned_adam(params)
    opt.state[params[0]]["exp_avg"] = jtorch.zeros(3, 5)
    opt.state[params[0]]["exp_avg_sq"].zero_()
    opt.state[params[0]]["step"].zero_()
    params[1].data = jtorch.zeros(7)
    saved = opt.state_dict()
    opt.step()
    assert (np.abs(opt.state[params[0]]["exp_avg"].numpy()) > 0).all()
    assert float(opt.state[params[0]]["step"]) == 1.0
    assert (np.abs(params[1].detach().numpy()) > 0).all()
    opt.load_state_dict(saved)
    extra = tensors(1)
    opt.add_param_group({"params": extra, "lr": 0.2})
    give_gradients(extra)
    before = contents([*params, *extra])
    for _ in range(3):
        opt.step()
    assert all((a != b).all() for a, b in zip(contents([*params, *extra]), before))


def test_hyperparameters_change_no_plan() -> None:
    params = tensors(4)
    opt, plan = planned_adam(params)
    before = contents(params)
    opt.param_groups[0]["lr"] = 0.0
    opt.step()
    assert plan_of(opt) is plan
    for a, b in zip(contents(params), before):
        np.testing.assert_array_equal(a, b)
    opt.param_groups[0]["maximize"] = True  # this is another step
    opt.step()
    assert plan_of(opt) is not plan


def test_a_parameter_that_is_a_view_is_recorded() -> None:
    whole = jtorch.zeros(10)
    halves = [whole[:5], whole[5:]]
    for h in halves:
        h.requires_grad_()
        h.grad = jtorch.ones(5)
    opt = jtorch.optim.SGD(halves, lr=1.0)
    for _ in range(3):
        opt.step()
    assert whole.tolist() == [-3.0] * 10
