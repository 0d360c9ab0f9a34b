"""Learning rate schedules against PyTorch's."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

SCHEDULES = {
    "StepLR": lambda s, o: s.StepLR(o, 7, 0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [3, 9, 9, 20]),
    "ConstantLR": lambda s, o: s.ConstantLR(o, 0.25, 6),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.1, 0.9, 12),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 20, 2.0),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 11, 0.01),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 2, 0.001),
    "LambdaLR": lambda s, o: s.LambdaLR(o, [lambda e: 0.95 ** e, lambda e: 1 / (1 + e)]),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.9 + 0.001 * e),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 0.3, total_steps=60),
    "OneCycleLR three phases": lambda s, o: s.OneCycleLR(o, [0.3, 0.1], epochs=6, steps_per_epoch=10, three_phase=True,
                                                         anneal_strategy="linear"),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 4, 7),
    "CyclicLR triangular2": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 4, mode="triangular2"),
    "CyclicLR exp_range": lambda s, o: s.CyclicLR(o, 0.01, [0.1, 0.2], 4, mode="exp_range", gamma=0.97,
                                                  cycle_momentum=False),
    "SequentialLR": lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 10),
                                                    s.ExponentialLR(o, 0.8)], [5, 15]),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 4), s.ExponentialLR(o, 0.9)]),
}


def optimizer(t):
    ps = [t.nn.Parameter(t.ones(2)), t.nn.Parameter(t.ones(3))]
    for p in ps:
        p.grad = t.zeros_like(p)
    return t.optim.SGD([{"params": ps[:1]}, {"params": ps[1:], "lr": 0.4}], lr=0.1, momentum=0.9)


def rates(t, make, steps: int, scheduler=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opt = optimizer(t)
        schedule = make(t.optim.lr_scheduler, opt)
        seen = []
        for _ in range(steps):
            seen.append([(g["lr"], g["momentum"]) for g in opt.param_groups])
            opt.step()
            schedule.step()
        return np.array(seen), schedule, opt


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    ours, schedule, opt = rates(jtorch, SCHEDULES[name], 38)
    theirs, reference, _ = rates(torch, SCHEDULES[name], 38)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(schedule.get_last_lr(), reference.get_last_lr(), rtol=1e-12)
    saved = schedule.state_dict()
    if name not in ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"):
        assert set(saved) - {"_get_lr_called_within_step", "_is_initial"} <= set(reference.state_dict()) | {
            "_scale_fn_custom", "base_momentums", "max_momentums"}
    _, fresh, other = rates(jtorch, SCHEDULES[name], 0)
    fresh.load_state_dict(saved)
    other.load_state_dict(opt.state_dict())
    for s, o in ((schedule, opt), (fresh, other)):
        o.step()
        if name.startswith("OneCycle"):
            continue
        s.step()
    np.testing.assert_allclose([g["lr"] for g in other.param_groups], [g["lr"] for g in opt.param_groups], rtol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_fifty_scheduled_steps(name: str) -> None:
    """The parameters of a small regression after 50 steps whose rates (and momenta) the schedule sets."""
    def run(t):
        r = np.random.default_rng(0)
        x, y = (t.tensor(r.standard_normal(shape).astype(np.float32)) for shape in ((16, 4), (16, 3)))
        t.manual_seed(0)
        model = t.nn.Linear(4, 3)
        opt = t.optim.SGD([{"params": [model.weight]}, {"params": [model.bias], "lr": 0.05}], lr=0.1, momentum=0.9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schedule = SCHEDULES[name](t.optim.lr_scheduler, opt)
            for _ in range(50):
                opt.zero_grad()
                ((model(x) - y) ** 2).mean().backward()
                opt.step()
                schedule.step()
        return [p.detach().numpy() for p in model.parameters()]
    for a, b in zip(run(jtorch), run(torch)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"mode": "max", "factor": 0.5, "patience": 1, "cooldown": 2},
        {"threshold_mode": "abs", "threshold": 0.1, "patience": 0, "min_lr": [0.01, 0.02]},
    ],
)
def test_plateau(options) -> None:
    metrics = np.abs(np.sin(np.arange(30)) + np.linspace(2, 0, 30))
    seen = []
    for t in (jtorch, torch):
        opt = optimizer(t)
        schedule = t.optim.lr_scheduler.ReduceLROnPlateau(opt, **options)
        lrs = []
        for m in metrics:
            opt.step()
            schedule.step(t.tensor(m))
            lrs.append(schedule.get_last_lr())
        seen.append(lrs)
    np.testing.assert_allclose(*seen, rtol=1e-12)


def test_order_is_checked() -> None:
    opt = optimizer(jtorch)
    schedule = jtorch.optim.lr_scheduler.StepLR(opt, 2)
    with pytest.warns(UserWarning, match="Detected call of `lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`"):
        schedule.step()
    with pytest.raises(TypeError, match="is not an Optimizer"):
        jtorch.optim.lr_scheduler.StepLR(3, 2)
