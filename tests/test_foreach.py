"""`torch._foreach_*` against PyTorch: results, what is written in place, and what is refused."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import jtorch

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

NAMES = sorted(n for n in dir(jtorch) if n.startswith("_foreach"))
VALUES = np.random.default_rng(0).uniform(0.1, 0.9, (3, 3, 3, 3))
NUMBERS = ([1.0, 2.0, 3.0],), (2.0,), ("second",)
OPERANDS: dict[str, Any] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "maximum", "minimum", "clamp_min", "clamp_max", "pow"), NUMBERS),
    "lerp": (("second", 0.3), ("second", "third")), "mm": (("second",),), "copy": (("second",),), "norm": ((), (1,)),
    **dict.fromkeys(("addcmul", "addcdiv"), (("second", "third"), ("second", "third", 0.5),
                                             ("second", "third", [0.1, 0.2, 0.3]))),
}


def test_all_but_one_are_there() -> None:
    assert {n for n in dir(torch) if n.startswith("_foreach")} - set(NAMES) == {"_foreach_powsum"}


@pytest.mark.parametrize("name", NAMES)
def test_of_lists(name: str) -> None:
    for operands in OPERANDS.get(name.removeprefix("_foreach_").rstrip("_"), ((),)):
        found = []
        for t in (jtorch, torch):
            lists = dict(zip(("first", "second", "third"), [[t.from_numpy(x.copy()) for x in row] for row in VALUES]))
            result = getattr(t, name)(lists["first"], *[lists[x] if isinstance(x, str) else x for x in operands])
            found.append((type(result), [x.numpy() for x in result], [x.numpy() for x in lists["first"]]))
        (ours, *mine), (theirs, *reference) = found
        assert ours is theirs
        for a, b in zip(mine, reference, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("case", [
    lambda t: t._foreach_add([], 1),
    lambda t: t._foreach_add([t.ones(1)], [t.ones(1)] * 2),
    lambda t: t._foreach_add([t.ones(1)], [1.0, 2.0]),
    lambda t: t._foreach_add(t.ones(1), 1),
    lambda t: t._foreach_add_([t.ones(2)], [t.ones(2, 2)]),
])
def test_refused(case: Any) -> None:
    with pytest.raises((RuntimeError, TypeError)) as theirs:
        case(torch)
    with pytest.raises(theirs.type) as ours:
        case(jtorch)
    assert theirs.type is TypeError or str(ours.value) == str(theirs.value)


def test_gradients_go_through() -> None:
    grads = []
    for t in (jtorch, torch):
        first, second = [[t.tensor(x, requires_grad=True) for x in row] for row in VALUES[:2]]
        total = sum(x.sum() for x in t._foreach_addcmul(first, second, second, value=0.5))
        total.backward()
        grads.append([x.grad.numpy() for x in (*first, *second)])
    np.testing.assert_allclose(*grads, rtol=1e-12)
