"""Compiled graphs agree with the interpreter; kernels are shared between sizes; memory is planned."""
import numpy as np
import pytest
from random_graphs import random_graph

from jtorch import compiler, dtypes
from jtorch.ir import prims  # noqa: F401
from jtorch.ir.graph import Builder, Graph, Type
from jtorch.ir.interpret import interpret
from jtorch.ir.primitive import op
from jtorch.ir.prims.create import make_leaf
from jtorch.ir.prims.movement import expand_to, permute_to, reshape_to


def build(types, function):
    """A graph over parameters of the given (dtype, shape)s."""
    b = Builder()
    params = [make_leaf(b, i, Type(d, s)) for i, (d, s) in enumerate(types)]
    outputs = function(*params)
    return Graph(params, outputs if isinstance(outputs, tuple | list) else (outputs,))


def execute(exe, graph, arrays, in_place=None):
    arrays = [np.ascontiguousarray(a) if a.ndim else a for a in arrays]
    outputs = [arrays[in_place[k]] if in_place and k in in_place else np.full(o.shape, 77, o.dtype.numpy)
               for k, o in enumerate(graph.outputs)]
    exe.run([a.ctypes.data for a in arrays] + [o.ctypes.data for o in outputs])
    return outputs


def check(graph, arrays, in_place=None, rtol=1e-5, atol=1e-5):
    expected = interpret(graph, [a.copy() for a in arrays])
    exe = compiler.compile_graph(graph, in_place)
    for found, wanted in zip(execute(exe, graph, arrays, in_place), expected):
        if wanted.dtype.kind in "biu":
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=atol)
    return exe


def floats(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


F = dtypes.float32


def softmax(x):
    kept = (*x.shape[:-1], 1)
    last = (x.ndim - 1,)
    e = op("exp")(x - expand_to(reshape_to(op("max")(x, axes=last), kept), x.shape))
    return e / expand_to(reshape_to(op("sum")(e, axes=last), kept), x.shape)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed):
    graph, arrays = random_graph(np.random.default_rng(seed))
    check(graph, arrays, rtol=1e-4, atol=1e-4)
