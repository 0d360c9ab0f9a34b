"""Every operation's meaning, value and gradient, against PyTorch where that is installed; and its half types and shape
rule against itself."""
from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from op_samples import Sample, applied, differentiable, samples

from jtorch import dtypes
from jtorch.ir.graph import Builder, Graph, Type
from jtorch.ir.interpret import evaluate
from jtorch.ir.passes.autodiff import gradients
from jtorch.ir.primitive import REGISTRY, Op
from jtorch.ir.prims.create import make_leaf
from jtorch.ir.verify import verify

torch = pytest.importorskip("torch") if importlib.util.find_spec("torch") else None
needs_torch = pytest.mark.skipif(torch is None, reason="compares with PyTorch, which is not installed")

NAMES = [name for name, op in REGISTRY.items() if samples(op)]

def close(got: np.ndarray, expected: np.ndarray, what: str, tolerance: float = 1e-9) -> None:
    assert got.shape == expected.shape, what
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, expected, what)
    else:
        wide = np.complex128 if got.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(got.astype(wide), expected.astype(wide), tolerance, tolerance, err_msg=what)


@pytest.mark.parametrize("name", NAMES)
def test_types_and_structure(name: str) -> None:
    """The meaning gives what the shape rule says, and the graph is well formed, gradient included."""
    op = REGISTRY[name]
    for s in samples(op):
        leaves, operands, results = applied(op, s.arrays, s.attrs, mark=True)
        values = evaluate(results, dict(zip(leaves, s.arrays)))
        for v, r in zip(values, results):
            assert v.shape == r.shape and v.dtype == r.dtype.numpy
        pairs, grads = pulled_back(op, operands, results) if results[0].requires_grad else ([], [])
        verify(Graph([*leaves, *[c for c, _ in pairs]], [*results, *[g for g in grads if g is not None]]))


def pulled_back(op: Op, operands: list, results: tuple) -> tuple[list, list]:
    """Fixed cotangents of the floating results, and the gradients of the floating operands."""
    outs = [r for r in results if differentiable(r)]
    rng = np.random.default_rng(0)
    b = results[0].builder
    cotangents = [make_leaf(b, 100 + i, r.type) for i, r in enumerate(outs)]
    data = [rng.standard_normal(r.shape).astype(r.dtype.numpy) for r in outs]
    floating = [v for v in operands if differentiable(v)]
    found = gradients(outs, cotangents, floating)
    return [(c, d) for c, d in zip(cotangents, data)], [found.get(v) for v in floating]


@needs_torch
@pytest.mark.parametrize("name", [n for n in NAMES if any(s.reference for s in samples(REGISTRY[n]))])
def test_against_torch(name: str) -> None:
    op = REGISTRY[name]
    for i, s in enumerate(samples(op)):
        if s.reference is None:
            continue
        what = f"{name}, sample {i}, {s.attrs}"
        tensors = [torch.tensor(a) for a in s.arrays]
        for n, t in enumerate(tensors):
            if (t.is_floating_point() or t.is_complex()) and n not in s.fixed:
                t.requires_grad_()
        expected = s.reference(torch, *tensors)
        expected = expected if isinstance(expected, tuple) else (expected,)
        leaves, operands, results = applied(op, s.arrays, s.attrs, mark=True)
        env = dict(zip(leaves, s.arrays))
        for v, e in zip(evaluate(results, env), expected):
            close(v, e.detach().numpy(), what)
        if not results[0].requires_grad or not any(t.requires_grad for t in tensors):
            continue
        operands = [v for n, v in enumerate(operands) if n not in s.fixed]
        pairs, found = pulled_back(op, operands, results)
        env.update(pairs)
        smooth = [e for e in expected if e.is_floating_point() or e.is_complex()]
        outs = [e for e in smooth if e.requires_grad]
        sure = [d for (_, d), r in zip(pairs, smooth) if r.requires_grad]
        floating = [t for t in tensors if t.requires_grad]
        theirs = torch.autograd.grad(outs, floating, [torch.tensor(d) for d in sure], allow_unused=True)
        theirs = [None if t is None else t.resolve_conj() for t in theirs]
        for n, (g, t) in enumerate(zip(found, theirs)):
            if g is None or t is None:  # a missing gradient is a zero one
                rest = t.numpy() if g is None and t is not None else None if g is None else evaluate([g], env)[0]
                assert rest is None or not rest.any(), f"{what}: one side has no gradient of operand {n}"
            else:
                close(evaluate([g], env)[0], t.numpy(), f"{what}, gradient of operand {n}", 1e-8)


HALVES = {dtypes.float32: 2e-5, dtypes.float16: 4e-3, dtypes.bfloat16: 3e-2}
COARSE = {
    "cond": "its regions have dtypes", "scan": "its regions have dtypes", "while_loop": "its regions have dtypes",
    "dropout": "the scale is rounded first", "cumprod": "errors multiply", "prod": "errors multiply",
    "tan": "steep", "searchsorted": "rounding moves edges", "floor_divide": "discontinuous", "fmod": "discontinuous",
    "remainder": "discontinuous", "trunc_divide": "discontinuous", "cast": "has one dtype by its attribute",
    "nadam_step": "many roundings", "pow": "steep", "cumsum": "every sum is rounded", "logcumsumexp": "likewise",
    "view_dtype": "reads bytes",
}


@pytest.mark.parametrize("d", HALVES, ids=lambda d: d.name)
@pytest.mark.parametrize("name", [n for n in NAMES if n not in COARSE and not n.endswith("_step")])
def test_narrow_floats(name: str, d: dtypes.dtype) -> None:
    """Results in a narrow type are near those of its operands in float64."""
    op = REGISTRY[name]
    for s in samples(op):
        floating = [a.dtype == np.float64 for a in s.arrays]
        if not any(floating) or op.kind == "random":
            continue
        narrow = tuple(a.astype(d.numpy) if f else a for a, f in zip(s.arrays, floating))
        leaves, _, results = applied(op, narrow, s.attrs)
        got = evaluate(results, dict(zip(leaves, narrow)))
        wide = tuple(a.astype(np.float64) if f else a for a, f in zip(narrow, floating))
        leaves, _, exact = applied(op, wide, s.attrs)
        scale = max(1.0, *[float(np.nanmax(np.abs(a), initial=0, where=np.isfinite(a))) for a in wide])
        for r, v, e in zip(results, got, evaluate(exact, dict(zip(leaves, wide)))):
            if r.dtype.is_floating_point and s.smooth:
                assert r.dtype is d, f"{name}: {r.dtype} of {d}"
                np.testing.assert_allclose(v.astype(np.float64), e, HALVES[d] * 4, HALVES[d] * 4 * scale, err_msg=name)


BAD = [  # (operation, operand types, attributes, error, its text)
    ("take", ("float32[3]", "int64[2]"), {"axis": 0}, IndexError,
     "index 7 is out of bounds for dimension 0 with size 3"),
    ("convolution", ("float32[1,3,4,4]", "float32[2,4,3,3]"),
     {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}, RuntimeError,
     "expected input[1, 3, 4, 4] to have 4 channels, but got 3 channels instead"),
    ("convolution", ("float32[1,3,2,2]", "float32[2,3,3,3]"),
     {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}, RuntimeError,
     "Kernel size can't be greater than actual input size"),
    ("linear", ("float32[2,3]", "float32[4,5]"), {}, RuntimeError,
     "mat1 and mat2 shapes cannot be multiplied (2x3 and 5x4)"),
    ("max", ("float32[2,0]",), {"axes": (1,)}, IndexError, "to have non-zero size"),
    ("glu", ("float32[3]",), {"axis": 0}, RuntimeError, "Halving dimension must be even"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda c: c[0])
def test_errors(case: tuple) -> None:
    name, types, attrs, error, text = case
    b = Builder()
    leaves = []
    for i, t in enumerate(types):
        d, _, shape = t.rstrip("]").partition("[")
        leaves.append(make_leaf(b, i, Type(dtypes.by_name(d), tuple(map(int, shape.split(","))))))
    with pytest.raises(error) as caught:
        result = b.apply(REGISTRY[name], *leaves, **attrs)
        evaluate([result], {v: np.full(v.shape, 7, v.dtype.numpy) for v in leaves})
    assert text in str(caught.value)


def test_a_sample_is_the_same_each_time() -> None:
    first, second = samples(REGISTRY["softmax"]), samples(REGISTRY["softmax"])
    assert all((a.arrays[0] == b.arrays[0]).all() for a, b in zip(first, second))
    assert isinstance(first[0], Sample)
