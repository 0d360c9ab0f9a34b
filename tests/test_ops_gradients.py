"""Derivative rules of every operation against finite differences along random directions: VJPs of first and second
order, JVPs; and batching rules against a loop."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from op_samples import Sample, applied, samples

from jtorch import dtypes
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.interpret import evaluate
from jtorch.ir.passes.autodiff import gradients
from jtorch.ir.primitive import REGISTRY, Op
from jtorch.ir.prims.complex import view_as_real
from jtorch.ir.prims.create import constant, make_leaf, variable
from jtorch.ir.prims.elementwise import zeros_like
from jtorch.ir.prims.reduce import sum_

STEP = 1e-5
WIDE = (dtypes.float64, dtypes.complex128)
FIRST_ORDER_ONLY = {
    "while_loop": "its derivative is a loop with a loop in it; the second order takes minutes",
    "scatter": "ties of amax and amin, and quotients at zero for prod",
    "copysign": "the sign of the result enters as a constant",
}
NOT_BY_DIFFERENCES = {
    "put": "of rows named twice all get the gradient, as in PyTorch",
    "atan2": "samples may lie on the cut", "sign": "a step", "floor": "a step", "ceil": "a step", "trunc": "a step",
    "cholesky": "its operand is Hermitian: see test_linalg.py", "eigh": "likewise",
    "round": "a step", "cond": "tested against PyTorch",
    "gaussian_nll_loss": "its bound on the variance is no part of the derivative, as in PyTorch",
}
NOT_DIFFERENTIATED = {  # operands
    "cross_entropy": (1, 2), "nll_loss": (1, 2), "binary_cross_entropy": (), "gammainc": (0,),
    "gammaincc": (0,),
}


def float64_samples(op: Op) -> list[Sample]:
    return [s for s in samples(op) if s.smooth and any(a.dtype.char in "dD" and a.size for a in s.arrays)
            and not any(np.isinf(a).any() or (op.name in ("prod", "cumprod") and (a == 0).any())
                        for a in s.arrays if a.dtype == np.float64)]


DIFFERENTIABLE = [n for n, o in REGISTRY.items()
                  if o.no_grad is None and n not in NOT_BY_DIFFERENCES and float64_samples(o)]


def direction_for(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    d = rng.standard_normal(a.shape)
    return d + 1j * rng.standard_normal(a.shape) if a.dtype.kind == "c" else d


class Directional:
    """f(arrays) = <weights, op(arrays)>, its gradient, and the derivative of <u, gradient>, as one graph each."""

    def __init__(self, op: Op, s: Sample, rng: np.random.Generator) -> None:
        self.s, self.op = s, op
        self.leaves, self.operands, results = applied(op, s.arrays, s.attrs, mark=True)
        b = results[0].builder
        self.rng, self.data = rng, {}
        skip = NOT_DIFFERENTIATED.get(op.name, ())
        self.wrt = [i for i, v in enumerate(self.operands) if v.dtype in WIDE and i not in skip]
        self.f = self.inner(b, [r for r in results if r.requires_grad])

    def data_leaf(self, b: Builder, shape: tuple) -> Value:
        v = make_leaf(b, 1000 + len(self.data), Type(dtypes.float64, shape))
        self.data[v] = self.rng.standard_normal(shape)
        return v

    def inner(self, b: Builder, values: Sequence[Value]) -> Value:
        """The inner product with fixed random weights."""
        total: Value | None = None
        for v in values:
            if v.dtype.is_complex:
                v = view_as_real(v)
            weighted = v * self.data_leaf(b, v.shape)
            part = sum_(weighted, axes=tuple(range(v.ndim))) if v.ndim else weighted
            total = part if total is None else total + part
        assert total is not None
        return total

    def gradient(self, f: Value) -> list[Value]:
        one = constant(f.builder, 1.0, dtypes.float64)
        found = gradients([f], [one], [self.operands[i] for i in self.wrt]) if f.requires_grad else {}
        return [found.get(self.operands[i], zeros_like(self.operands[i])) for i in self.wrt]

    def at(self, values: Sequence[Value], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return evaluate(values, {**dict(zip(self.leaves, arrays)), **self.data})

    def check(self, f: Value, order: str) -> None:
        """<gradient, direction> against the central difference of f along the direction."""
        arrays = self.s.arrays
        directions = [direction_for(self.rng, arrays[i]) for i in self.wrt]
        directions = [d / max(1.0, np.linalg.norm(d)) for d in directions]

        def moved(by: float) -> list[np.ndarray]:
            new = list(arrays)
            for i, d in zip(self.wrt, directions):
                new[i] = arrays[i] + by * d
            return new
        slope = sum(float((g.conj() * d).sum().real) for g, d in zip(self.at(self.gradient(f), arrays), directions))
        difference = float(self.at([f], moved(STEP))[0] - self.at([f], moved(-STEP))[0]) / (2 * STEP)
        assert slope == pytest.approx(difference, rel=2e-5, abs=2e-6), f"{self.op.name} {self.s.attrs}: {order}"


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
            found = op.jvp(tuple(tangents), results if len(results) > 1 else results[0], *operands, **s.attrs)
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
            result = op.batch(op, b, 3, mapped, *leaves, **s.attrs)
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
