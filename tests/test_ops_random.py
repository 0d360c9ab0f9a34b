"""Every operation of the registry on random shapes (zero sizes too), layouts and dtypes: compiled against its NumPy
meaning, first and second derivatives against finite differences, `vmap` against a loop over the examples.

JTORCH_EXAMPLES=50 tries more of each than the few that every run of the tests does.
"""
from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from directional import DIFFERENTIABLE, FIRST_ORDER_ONLY, Directional, float64_samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_samples import Sample, samples

import jtorch
from jtorch import driver, dtypes
from jtorch.ir.graph import Builder, Graph, Type, Value
from jtorch.ir.interpret import interpret
from jtorch.ir.primitive import REGISTRY, Op
from jtorch.ir.prims.create import make_leaf

EXAMPLES = int(os.environ.get("JTORCH_EXAMPLES", "2"))
few = settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
               suppress_health_check=list(HealthCheck))
TOLERANCE = {dtypes.float64: 1e-9, dtypes.float32: 1e-4, dtypes.float16: 2e-2, dtypes.bfloat16: 5e-2}
REFUSALS = (RuntimeError, IndexError, TypeError, ValueError, AssertionError, np.linalg.LinAlgError)
NOT_RESIZED = {"as_strided", "as_strided_scatter"}  # they name elements of a storage that is large enough
OPS = [op for op in REGISTRY.values() if op.kind not in ("leaf", "control", "random") and samples(op)]


# --- another shape ----------------------------------------------------------------------------------------------------

def fitted(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The elements of `a`, again and again; those of floating arrays are set a little apart, lest they tie."""
    n = int(np.prod(shape))
    flat = np.resize(a.ravel(), n) if a.size else np.ones(n, a.dtype)
    if a.dtype.kind in "fc":
        flat = flat + 0.002 * (np.arange(n) // max(a.size, 1))
    return flat.reshape(shape)


def resized(s: Sample, sizes: dict[int, int]) -> Sample:
    """The sample with other sizes for those that it has: equal ones stay equal."""
    def other(v: Any) -> Any:
        return sizes.get(v, v)
    arrays = tuple(a if i in s.fixed and a.dtype.kind == "f" else fitted(a, tuple(map(other, a.shape)))
                   for i, a in enumerate(s.arrays))
    attrs = {k: tuple(map(other, v)) if k in ("shape", "stops") else v for k, v in s.attrs.items()}
    return replace(s, arrays=arrays, attrs=attrs)


def sizes_of(s: Sample) -> list[int]:
    return sorted({n for a in s.arrays for n in a.shape})


# --- another layout ---------------------------------------------------------------------------------------------------

class Laid:
    """Operands as views of leaves. `arrays`: what the leaves hold; `values`: what the views read."""

    def __init__(self, data: st.DataObject, arrays: tuple[np.ndarray, ...]) -> None:
        self.b = Builder()
        self.b.default_float = dtypes.float64
        self.leaves: list[Value] = []
        self.arrays: list[np.ndarray] = []
        self.operands: list[Value] = []
        self.values: list[np.ndarray] = []
        for a in arrays:
            steps = data.draw(st.lists(st.sampled_from(("transposed", "stepped", "offset", "expanded")), max_size=2))
            for step in steps:
                if step == "expanded" and a.ndim and a.dtype.kind == "f":
                    a = np.broadcast_to(a[:1], a.shape)
            base, chain = a, []
            for step in steps if a.ndim else ():
                base, inverse = getattr(self, step)(base)
                chain.append(inverse)
            leaf = make_leaf(self.b, len(self.leaves), Type(dtypes.from_numpy(a.dtype), base.shape))
            view = leaf
            for name, attrs in reversed(chain):
                view = REGISTRY[name](view, **attrs)
            self.leaves.append(leaf)
            self.arrays.append(np.ascontiguousarray(base).reshape(base.shape))
            self.operands.append(view)
            self.values.append(a)

    @staticmethod
    def transposed(a: np.ndarray) -> tuple[np.ndarray, tuple[str, dict]]:
        order = (a.ndim - 1, *range(a.ndim - 1))
        return a.transpose(order), ("permute", {"perm": tuple(np.argsort(order).tolist())})

    @staticmethod
    def stepped(a: np.ndarray) -> tuple[np.ndarray, tuple[str, dict]]:
        base = np.repeat(a, 2, -1)
        return base, Laid.slice(base, -1, min(1, a.shape[-1]), 2)

    @staticmethod
    def offset(a: np.ndarray) -> tuple[np.ndarray, tuple[str, dict]]:
        base = np.concatenate([a[-1:], a]) if a.size else a
        return base, Laid.slice(base, 0, len(base) - len(a), 1)

    @staticmethod
    def expanded(a: np.ndarray) -> tuple[np.ndarray, tuple[str, dict]]:
        if a.dtype.kind == "f" and a.shape[0] and (a == a[:1]).all():
            return a[:1], ("expand", {"shape": a.shape})
        return Laid.transposed(a)

    @staticmethod
    def slice(base: np.ndarray, axis: int, start: int, step: int) -> tuple[str, dict]:
        axis %= base.ndim
        return "slice", {"starts": tuple(start if i == axis else 0 for i in range(base.ndim)), "stops": base.shape,
                         "steps": tuple(step if i == axis else 1 for i in range(base.ndim))}


# --- compiled ---------------------------------------------------------------------------------------------------------

def meaning(op: Op, arrays: list[np.ndarray], attrs: dict[str, Any]) -> list[np.ndarray]:
    b = Builder()
    b.default_float = dtypes.float64
    leaves = [make_leaf(b, i, Type(dtypes.from_numpy(a.dtype), a.shape)) for i, a in enumerate(arrays)]
    result = b.apply(op, *leaves, **attrs)
    return interpret(Graph(leaves, result if isinstance(result, tuple) else (result,)), list(arrays))


def drawn(data: st.DataObject, op: Op) -> tuple[Laid, dict[str, Any], dtypes.dtype, list[np.ndarray]]:
    """Operands, attributes, the dtype of what was float64, and the result. What the operation refuses is made plainer:
    first its dtype, then its shapes, then its layout."""
    s = data.draw(st.sampled_from(samples(op)), "sample")
    sizes = {n: data.draw(st.integers(0, 5), f"size for {n}") for n in sizes_of(s)}
    d = data.draw(st.sampled_from((dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16)), "dtype")
    other = s if op.name in NOT_RESIZED else resized(s, sizes)
    for sample, to in ((other, d), (other, dtypes.float64), (s, d), (s, dtypes.float64)):
        attrs = {k: to if v is dtypes.float64 else v for k, v in sample.attrs.items()}
        arrays = tuple(a.astype(to.numpy) if a.dtype == np.float64 else a for a in sample.arrays)
        laid = Laid(data, arrays)
        try:
            return laid, attrs, to, meaning(op, laid.values, attrs)
        except REFUSALS:
            continue
    raise AssertionError(f"{op.name} refuses its own sample")


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_compiled(op: Op) -> None:
    @few
    @given(st.data())
    def check(data: st.DataObject) -> None:
        laid, attrs, d, expected = drawn(data, op)
        result = laid.b.apply(op, *laid.operands, **attrs)
        graph = Graph(laid.leaves, result if isinstance(result, tuple) else (result,), op.name)
        outputs = [np.empty(o.shape, o.dtype.numpy) for o in graph.outputs]
        driver.compile_graph(graph).run([a.ctypes.data for a in laid.arrays] + [o.ctypes.data for o in outputs])
        for found, wanted in zip(outputs, expected):
            same(found, wanted, TOLERANCE[d])
    check()


def same(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    if wanted.dtype.kind in "biu":
        np.testing.assert_array_equal(found, wanted)
        return
    wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
    found, wanted = found.astype(wide), wanted.astype(wide)
    scale = np.max(np.abs(wanted[np.isfinite(wanted)]), initial=1.0)
    np.testing.assert_allclose(found, wanted, tolerance, tolerance * scale)


# --- derivatives ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives(name: str) -> None:
    """Of first and second order against finite differences, and compiled against NumPy."""
    op = REGISTRY[name]

    @few
    @given(st.data())
    def check(data: st.DataObject) -> None:
        s = data.draw(st.sampled_from(float64_samples(op)), "sample")
        sizes = {n: data.draw(st.integers(1, 4), f"size for {n}") for n in sizes_of(s)}
        rng = np.random.default_rng(data.draw(st.integers(0, 99), "seed"))
        try:
            d = Directional(op, s if name in NOT_RESIZED else resized(s, sizes), rng)
            assert all(np.isfinite(v).all() for v in d.at([d.f, *d.gradient(d.f)], d.s.arrays))
        except REFUSALS:  # or of one element only, say, which has no variance
            d = Directional(op, s, rng)
        if not d.f.requires_grad:
            return
        d.check(d.f, "first order")
        wanted = first = [g for g in d.gradient(d.f) if g.op.name != "full"]
        again = [g for g in first if g.requires_grad]
        if again and name not in FIRST_ORDER_ONLY:
            f = d.inner(d.f.builder, again)
            d.check(f, "second order")
            wanted = [*first, *[g for g in d.gradient(f) if g.op.name != "full"]]
        params = [*d.leaves, *d.data]
        arrays = [np.ascontiguousarray(a) for a in (*d.s.arrays, *d.data.values())]
        outputs = [np.empty(g.shape, g.dtype.numpy) for g in wanted]
        driver.compile_graph(Graph(params, wanted)).run([a.ctypes.data for a in (*arrays, *outputs)])
        for found, expected in zip(outputs, d.at(wanted, d.s.arrays)):
            same(found, expected, TOLERANCE[dtypes.float64])
    check()


# --- vmap -------------------------------------------------------------------------------------------------------------

def mapped(a: np.ndarray, k: int) -> np.ndarray:
    """Example number `k`, much like `a`."""
    return a + 0.01 * k if a.dtype.kind in "fc" else np.roll(a.ravel(), k).reshape(a.shape)


@pytest.mark.parametrize("name", [op.name for op in OPS if any(s.reference for s in samples(op))])
def test_vmap(name: str) -> None:
    """PyTorch's function for the operation, mapped over some axes of some operands, against a loop."""
    op = REGISTRY[name]

    @few
    @given(st.data())
    def check(data: st.DataObject) -> None:
        s = data.draw(st.sampled_from([s for s in samples(op) if s.reference]), "sample")
        in_dims = [data.draw(st.sampled_from((0, -1, None)), f"in_dims[{i}]") for i in range(len(s.arrays))]
        if all(d is None for d in in_dims):
            in_dims[0] = 0
        out_dims = data.draw(st.sampled_from((0, -1)), "out_dims")

        def function(*x: Any) -> Any:
            return s.reference(jtorch, *x)
        examples = [[a if d is None else mapped(a, k) for a, d in zip(s.arrays, in_dims)] for k in range(3)]
        stacks = [a if d is None else np.stack([e[i] for e in examples], d)
                  for i, (a, d) in enumerate(zip(s.arrays, in_dims))]
        got = jtorch.func.vmap(function, tuple(in_dims), out_dims)(*[jtorch.tensor(a) for a in stacks])
        one = [function(*[jtorch.tensor(a) for a in e]) for e in examples]
        got, one = (got, one) if isinstance(got, tuple) else ((got,), [(o,) for o in one])
        for found, expected in zip(got, zip(*one)):
            same(found.resolve_conj().numpy(), np.stack([e.resolve_conj().numpy() for e in expected], out_dims), 1e-9)
    check()
