"""Every operation of the registry, compiled alone in several dtypes, against its NumPy meaning."""
import numpy as np
import pytest
from op_samples import samples

from jtorch import driver, dtypes
from jtorch.ir.graph import Builder, Graph, Type
from jtorch.ir.interpret import interpret
from jtorch.ir.primitive import REGISTRY
from jtorch.ir.prims.create import make_leaf

OPS = [op for op in REGISTRY.values() if op.kind not in ("leaf", "control") and op.name != "copy"]
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}


def graph_of(op, arrays, attrs):
    b = Builder()
    params = [make_leaf(b, i, Type(dtypes.from_numpy(a.dtype), a.shape)) for i, a in enumerate(arrays)]
    result = b.apply(op, *params, **attrs)
    return Graph(params, result if isinstance(result, tuple) else (result,), op.name)


def cast(arrays, d):
    return [np.ascontiguousarray(np.asarray(a).astype(d.numpy)).reshape(np.shape(a))
            if np.asarray(a).dtype == np.float64 else np.asarray(a, order="C") for a in arrays]


@pytest.mark.parametrize("d", [dtypes.float64, dtypes.float32, dtypes.float16, dtypes.bfloat16], ids=lambda d: d.name)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_op(op, d):
    for sample in samples(op):
        arrays = cast(sample.arrays, d)
        attrs = {k: d if v is dtypes.float64 else v for k, v in sample.attrs.items()}
        try:
            graph = graph_of(op, arrays, attrs)
            expected = interpret(graph, [a.copy() for a in arrays])
        except (TypeError, AssertionError, RuntimeError, ValueError, np.linalg.LinAlgError) as error:
            pytest.skip(f"not for {d.name}: {error}")
        outputs = [np.empty(o.shape, o.dtype.numpy) for o in graph.outputs]
        exe = driver.compile_graph(graph)
        exe.run([a.ctypes.data for a in arrays] + [o.ctypes.data for o in outputs])
        tolerance = TOLERANCE[d.name]
        for found, wanted in zip(outputs, expected):
            if wanted.dtype.kind in "biu":
                np.testing.assert_array_equal(found, wanted)
            elif wanted.dtype.kind == "c":
                np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
            else:
                np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=tolerance,
                                           atol=tolerance)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("name", ["sum", "prod"])
def test_sums_over_strided_elements(name, stride):
    """Where no vector instruction reads them, four elements at a time have sums of their own; any length comes out."""
    rng = np.random.default_rng(0)
    for n in (1, 3, 4, 7, 8192, 20002):
        a = rng.standard_normal((2, n, stride)) / (1 if name == "sum" else n) + (name == "prod")
        b = Builder()
        x = make_leaf(b, 0, Type(dtypes.float64, a.shape))
        part = b.apply(REGISTRY["slice"], x, starts=(0, 0, 1), stops=(2, n, 2), steps=(1, 1, 1))
        exe = driver.compile_graph(Graph([x], (b.apply(REGISTRY[name], part, axes=(1, 2)),), name))
        assert n == 1 or ("whole = " in exe.kernels[0].source) == (stride == 3)
        out = np.empty(2)
        exe.run([a.ctypes.data, out.ctypes.data])
        np.testing.assert_allclose(out, getattr(a[..., 1], name)(1), rtol=1e-12, atol=1e-11)
