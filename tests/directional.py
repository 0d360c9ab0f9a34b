"""The derivatives of one operation along a direction, as graphs, and the finite differences to hold them against."""
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
from jtorch.ir.prims.create import constant, make_leaf
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
    "round": "a step", "nextafter": "a step beside the identity", "cond": "tested against PyTorch",
    "gaussian_nll_loss": "its bound on the variance is no part of the derivative, as in PyTorch",
}
NOT_DIFFERENTIATED = {  # operands
    "cross_entropy": (1, 2), "nll_loss": (1, 2), "binary_cross_entropy": (), "gammainc": (0,),
    "gammaincc": (0,), "zeta": (0,), "hinge_embedding_loss": (1,),  # its target is compared with 1 and -1
}


def float64_samples(op: Op) -> list[Sample]:
    return [s for s in samples(op) if s.smooth and any(a.dtype.char in "dD" and a.size for a in s.arrays)
            and not any(np.isinf(a).any() or (op.name in ("prod", "cumprod_gradient") and (a == 0).any())
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
