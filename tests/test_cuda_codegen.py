"""CUDA kernels: their text runs in the simulator as the interpreter says, holds no sizes, and compiles for sm_90."""
from __future__ import annotations

import re

import cuda_cases as cases
import cuda_simulator as simulator
import numpy as np
import pytest
from op_samples import REGISTRY, samples

from jtorch import compiler, dtypes
from jtorch.codegen.cuda_program import Program, cuda_program, cuda_source
from jtorch.codegen.cuda_scalar import NoCudaText
from jtorch.ir.graph import Builder, Graph, Type
from jtorch.ir.interpret import interpret
from jtorch.ir.primitive import op
from jtorch.ir.prims.create import make_leaf
from jtorch.runtime import cuda_compile

TRIGONOMETRIC = ("sinf(", "cosf(", "tanf(")  # libdevice reduces large angles in float64


def simulate(program: Program, arrays: list[np.ndarray], reverse: bool = False) -> list[np.ndarray]:
    """Launches one after another; what has not been written is 77."""
    memory = {id(p): np.ascontiguousarray(a) for p, a in zip(program.graph.params, arrays)}
    errors = np.zeros(1, np.int64)

    def pointer(value, offset: int, kind: str) -> simulator.Pointer:
        if value == "error":
            return simulator.Pointer(errors)
        if id(value) not in memory:
            numel = value.type.numel if hasattr(value, "type") else value.numel
            memory[id(value)] = np.full(max(numel, 1), 77).astype(value.dtype.numpy)
        return simulator.Pointer(memory[id(value)].view(kind), offset)

    for launch in program.launches:
        args = [pointer(*a, kind[2:]) if kind.startswith("p:") else np.dtype(kind).type(a)
                for kind, a in zip(launch.kernel.params, launch.args)]
        simulator.launch(launch.kernel.source, launch.blocks, launch.threads, args, reverse)
    if errors[0]:
        raise ZeroDivisionError(errors[0])
    return [memory[id(v)][:v.type.numel].reshape(o.shape) for v, o in zip(program.outputs, program.graph.outputs)]


def compare(found: list[np.ndarray], expected: list[np.ndarray], rtol: float = 2e-5) -> None:
    for f, e in zip(found, expected):
        if e.dtype.kind in "biu":
            np.testing.assert_array_equal(f, e)
        else:
            tolerance = {2: 1e-2}.get(e.dtype.itemsize, rtol)
            np.testing.assert_allclose(f.astype(np.float64), e.astype(np.float64), rtol=tolerance, atol=tolerance)


SIMULATED = [name for name in cases.CASES if name != "more items than blocks"]


@pytest.mark.parametrize("name", SIMULATED)
def test_kernels_in_the_simulator(name):
    graph = cases.build(name)
    arrays = cases.arrays_for(graph)
    program = cuda_program(graph)
    expected = interpret(graph, arrays)
    found = simulate(program, arrays)
    compare(found, expected)
    if "syncthreads" in "".join(launch.kernel.source for launch in program.launches):
        for a, b in zip(found, simulate(program, arrays, reverse=True)):  # threads in another order: the same bits
            assert a.tobytes() == b.tobytes()
