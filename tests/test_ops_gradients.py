"""Derivative rules of every operation against finite differences along random directions: VJPs of first and second
order, JVPs; and batching rules against a loop."""
from __future__ import annotations

import numpy as np
import pytest
from directional import (
    DIFFERENTIABLE,
    FIRST_ORDER_ONLY,
    NOT_DIFFERENTIATED,
    STEP,
    WIDE,
    Directional,
    direction_for,
    float64_samples,
)
from op_samples import applied, samples

from jtorch import dtypes
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.interpret import evaluate
from jtorch.ir.primitive import REGISTRY
from jtorch.ir.prims.create import make_leaf, variable


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_vjp(name: str) -> None:
    op, rng = REGISTRY[name], np.random.default_rng(7)
    for s in float64_samples(op):
        d = Directional(op, s, rng)
        if d.f.requires_grad:
            d.check(d.f, "first order")


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if n not in FIRST_ORDER_ONLY])
def test_second_order(name: str) -> None:
    op, rng = REGISTRY[name], np.random.default_rng(8)
    for s in float64_samples(op)[:4]:
        d = Directional(op, s, rng)
        first = [g for g in d.gradient(d.f) if g.requires_grad] if d.f.requires_grad else []
        if first:
            d.check(d.inner(d.f.builder, first), "second order")


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if REGISTRY[n].jvp or REGISTRY[n].linear])
def test_jvp(name: str) -> None:
    """The tangent along a direction against the central difference of the results."""
    op, rng = REGISTRY[name], np.random.default_rng(9)
    for s in float64_samples(op):
        leaves, operands, results = applied(op, s.arrays, s.attrs)
        b = results[0].builder
        skip = NOT_DIFFERENTIATED.get(name, ())
        floating = [i for i, v in enumerate(operands) if v.dtype in WIDE and i not in skip]
        tangents: list[Value | None] = [None] * len(operands)
        data = dict(zip(leaves, s.arrays))
        for i in floating:
            tangents[i] = make_leaf(b, 500 + i, operands[i].type)
            data[tangents[i]] = direction_for(rng, s.arrays[i])
        if op.jvp is not None:
            found = op.jvp(tuple(tangents), results if len(results) > 1 else results[0], *operands,
                           **{**op.attr_defaults, **s.attrs})
        else:
            found = b.apply(op, *[v if t is None else t for v, t in zip(operands, tangents)], **s.attrs)
        found = found if isinstance(found, tuple) else (found,)
        sides = []
        for sign in (STEP, -STEP):
            env = dict(data)
            for i in floating:
                env[leaves[i]] = s.arrays[i] + sign * data[tangents[i]]
            sides.append(evaluate(results, env))
        for t, high, low, r in zip(found, *sides, results):
            if t is not None and r.dtype in WIDE:
                np.testing.assert_allclose(evaluate([t], data)[0], (high - low) / (2 * STEP), 1e-4, 1e-5,
                                           err_msg=f"{name} {s.attrs}")


BATCHED = [n for n, o in REGISTRY.items() if o.batch is not None and any(s.arrays for s in samples(o))]


def masks(n: int) -> list[tuple[bool, ...]]:
    every = [tuple(bool(k >> i & 1) for i in range(n)) for k in range(1, 1 << n)]
    return every if n <= 3 else [every[-1], every[0], every[1]]


@pytest.mark.parametrize("name", BATCHED)
def test_batching_rule(name: str) -> None:
    """Each choice of mapped operands against a loop over examples."""
    op, rng = REGISTRY[name], np.random.default_rng(10)
    for s in samples(op)[:5]:
        for mapped in masks(len(s.arrays)):
            stacks = [np.stack([a if i == 0 else rng.permutation(a.ravel()).reshape(a.shape) for i in range(3)])
                      for a in s.arrays]
            if name == "searchsorted":
                stacks[0] = np.sort(stacks[0])
            if name == "pad" and mapped[1]:
                continue  # it refuses
            given = [st if m else a for st, a, m in zip(stacks, s.arrays, mapped)]
            b = Builder()
            b.default_float = dtypes.float64
            leaves = [make_leaf(b, i, Type(dtypes.from_numpy(a.dtype), a.shape)) for i, a in enumerate(given)]
            result = op.batch(op, b, 3, mapped, *leaves, **{**op.attr_defaults, **s.attrs})
            result = result if isinstance(result, tuple) else (result,)
            got = evaluate(result, dict(zip(leaves, given)))
            for i in range(3):
                one = tuple(st[i] if m else a for st, a, m in zip(stacks, s.arrays, mapped))
                singles, _, expected = applied(op, one, s.attrs)
                for g, e in zip(got, evaluate(expected, dict(zip(singles, one)))):
                    assert g.shape == (3, *e.shape), f"{name} {mapped} {s.attrs}"
                    np.testing.assert_allclose(g[i], e, 1e-9, 1e-12, err_msg=f"{name} {mapped} {s.attrs}")


def test_markers() -> None:
    b = Builder()
    x = variable(make_leaf(b, 0, Type(dtypes.float64, (2,))), number=0)
    assert x.requires_grad and (x * 2).requires_grad and not REGISTRY["detach"](x * 2).requires_grad
