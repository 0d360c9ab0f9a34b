"""CUDA kernels: their text runs in the simulator as the interpreter says, holds no sizes, and compiles for sm_90."""
from __future__ import annotations

import re
import sys
from dataclasses import replace

import cuda_cases as cases
import cuda_simulator as simulator
import numpy as np
import pytest
from op_samples import REGISTRY, samples

from jtorch import dtypes
from jtorch.codegen import cuda_program as codegen
from jtorch.codegen.cuda_program import Program, cuda_program, cuda_source
from jtorch.codegen.cuda_scalar import NoCudaText
from jtorch.ir.graph import Builder, Graph, Type, Value
from jtorch.ir.interpret import interpret
from jtorch.ir.primitive import op
from jtorch.ir.prims.create import make_leaf
from jtorch.runtime import cuda_compile

TRIGONOMETRIC = ("libdevice.sinf", "libdevice.cosf", "libdevice.tanf")  # they reduce large angles in float64


def simulate(program: Program, arrays: list[np.ndarray], reverse: bool = False) -> list[np.ndarray]:
    """Launches one after another; what has not been written is 77."""
    memory = {id(p): np.ascontiguousarray(a) for p, a in zip(program.graph.params, arrays)}
    errors = np.zeros(1, np.int64)

    def array(value) -> np.ndarray:
        if id(value) not in memory:
            numel = value.type.numel if isinstance(value, Value) else value.numel
            memory[id(value)] = np.full(numel, 77).astype(value.dtype.numpy)
        return memory[id(value)]

    def pointer(value, offset: int, kind: str) -> simulator.Pointer:
        if isinstance(value, str):
            return simulator.Pointer(errors)
        return simulator.Pointer(array(value).view(kind), offset)

    for launch in program.launches:
        args = [pointer(*a, kind[2:]) if kind.startswith("p:") else np.dtype(kind).type(a)
                for kind, a in zip(launch.kernel.params, launch.args)]
        simulator.launch(launch.kernel.source, launch.blocks, launch.threads, args, reverse)
    if errors[0]:
        raise ZeroDivisionError(errors[0])
    return [array(v).reshape(o.shape) for v, o in zip(program.outputs, program.graph.outputs)]


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


@pytest.mark.parametrize("name", ["chain", "softmax over last", "argmax, argmin over first", "long rows"])
def test_any_grid_gives_the_same_result(name):
    graph = cases.build(name)
    arrays = cases.arrays_for(graph)
    program = cuda_program(graph)
    small = Program(program.graph, [replace(launch, blocks=1) for launch in program.launches], program.outputs)
    for a, b in zip(simulate(program, arrays), simulate(small, arrays)):
        assert a.tobytes() == b.tobytes()


WIDE = ["chain", "softmax over last", "long rows", "sum, max, mean over first", "chunked views"]


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setattr(codegen, "is_narrow", lambda step: False)


@pytest.mark.parametrize("name", WIDE)
def test_positions_of_64_bits(name, wide):
    graph = cases.build(name)
    arrays = cases.arrays_for(graph)
    program = cuda_program(graph)
    assert all("u32" not in launch.kernel.source for launch in program.launches)
    compare(simulate(program, arrays), interpret(graph, arrays))


def test_large_arrays_take_positions_of_64_bits():
    assert "u32" in cases.program("softmax over last", (1 << 15, 1 << 15)).launches[0].kernel.source
    assert "i64(cuda" in cases.program("softmax over last", (1 << 16, 1 << 15)).launches[0].kernel.source


@pytest.mark.parametrize("name", cases.CASES)
def test_texts_hold_no_sizes(name):
    first, second = (cases.program(name, sizes) for sizes in (cases.CASES[name].small, cases.CASES[name].other))
    assert [launch.kernel for launch in first.launches] == [launch.kernel for launch in second.launches]


def test_the_grid_is_bounded():
    (launch,) = cases.program("more items than blocks").launches
    assert launch.blocks * launch.threads < cases.CASES["more items than blocks"].small[0]


def test_short_rows_need_no_shared_memory():
    ((text, (blocks, threads)),) = cuda_source(cases.build("softmax over last"))
    assert "shfl_xor_sync" in text and "shared" not in text and (blocks, threads) == (2, 128)
    ((text, _),) = cuda_source(cases.build("softmax over last", (5, 2000)))
    assert text.count("cuda.syncthreads()") == 3  # one for each fold, one before the next row


def test_equal_extremes_and_nan():
    graph = cases.build("argmax, argmin over last", (4, 2000))
    rng = np.random.default_rng(0)
    ties = [rng.integers(0, 3, (4, 2000)).astype(np.float32), rng.integers(0, 3, (4, 2000)).astype(np.int32)]
    ties[0][1] = -np.inf
    ties[0][2, [70, 1500]] = np.nan
    compare(simulate(cuda_program(graph), ties), interpret(graph, ties))


def test_other_operations_are_refused():
    b = Builder()
    x = make_leaf(b, 0, Type(dtypes.float32, (3, 3)))
    with pytest.raises(NotImplementedError, match="matmul has no CUDA kernel"):
        cuda_program(Graph([x], [op("matmul")(x, x)]))


def test_errors_are_reported():
    graph = cases.build("integers")
    program = cuda_program(graph)
    assert [node.op.name for node in program.launches[0].fails] == ["floor_divide", "remainder", "trunc_divide", "fmod"]
    b = Builder()
    x, y = (make_leaf(b, i, Type(dtypes.int32, (4,))) for i in range(2))
    zero = [np.arange(4, dtype=np.int32)] * 2
    with pytest.raises(ZeroDivisionError):
        simulate(cuda_program(Graph([x, y], [op("remainder")(x, y)])), zero)


# --- every scalar function of the registry ----------------------------------------------------------------------------

NO_TEXT = {"digamma", "pow of integers"}
SCALAR = [name for name, o in REGISTRY.items() if o.kind == "elementwise" and o.domain is not None]


def scalar_graphs(name: str):
    """A graph for each sample, floats as float32 and as float64; with its arrays."""
    for sample in samples(REGISTRY[name]):
        if any(d.is_complex for d in sample.attrs.values() if isinstance(d, dtypes.dtype)) or any(
                np.iscomplexobj(a) for a in sample.arrays):
            continue  # complex numbers are computed by host calls
        for kind in (np.float32, np.float64):
            arrays = [a.astype(kind) if a.dtype.kind == "f" else a for a in map(np.asarray, sample.arrays)]
            b = Builder()
            params = [make_leaf(b, i, Type(dtypes.from_numpy(a.dtype), a.shape)) for i, a in enumerate(arrays)]
            yield Graph(params, [REGISTRY[name](*params, **sample.attrs)]), arrays
            if all(a.dtype.kind != "f" for a in arrays):
                break


@pytest.mark.parametrize("name", SCALAR)
def test_scalar_functions(name):
    for graph, arrays in scalar_graphs(name):
        try:
            program = cuda_program(graph)
        except NoCudaText:
            assert name in NO_TEXT or (f"{name} of integers" in NO_TEXT and arrays[0].dtype.kind in "iu")
            continue
        compare(simulate(program, arrays), interpret(graph, arrays))


# --- compiling --------------------------------------------------------------------------------------------------------

@pytest.fixture
def toolkit():
    try:
        return cuda_compile.toolkit()
    except cuda_compile.ToolkitMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", cases.CASES)
def test_compiles_for_sm_90(name, toolkit):
    for launch in cases.program(name).launches:
        source = launch.kernel.source
        built = cuda_compile.compile_kernel(source, launch.kernel.params, (9, 0))
        assert built.cubin[:4] == b"\x7fELF" and ".target sm_90" in built.ptx
        assert built.spilled == 0 and built.registers * launch.threads <= 65536
        if "f64" not in source:
            assert not re.search(r"\.f64\b", built.ptx), "float64 arithmetic in a kernel of float32"


@pytest.mark.parametrize("name", WIDE)
def test_positions_of_64_bits_compile(name, wide, toolkit):
    test_compiles_for_sm_90(name, toolkit)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_scalar_functions_compile(kind, toolkit):
    """A kernel for each."""
    for name in SCALAR:
        for graph, arrays in scalar_graphs(name):
            if not arrays[0].size or arrays[0].dtype != kind:
                continue
            try:
                (launch,) = cuda_program(graph).launches
            except NoCudaText:
                continue
            ptx = cuda_compile.to_ptx(launch.kernel.source, launch.kernel.params)
            source = launch.kernel.source
            if kind is np.float32 and "f64" not in source and not any(t in source for t in TRIGONOMETRIC):
                assert not re.search(r"\.f64\b", ptx), name
            break


def test_a_missing_toolkit_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(cuda_compile.ToolkitMissing, match=r"jtorch\[cuda\]"):
        cuda_compile.toolkit.__wrapped__()


# --- the simulator itself ---------------------------------------------------------------------------------------------

def run(body: str, threads: int = 64, size: int = 64) -> np.ndarray:
    out = np.zeros(size, np.int32)
    lines = ["@cuda.jit", "def kernel(p):", "    t = cuda.threadIdx.x", *[f"    {t}" for t in body.splitlines()]]
    text = "\n".join(lines)
    simulator.launch(text, 1, threads, [simulator.Pointer(out)])
    return out


def test_simulated_warp_operations():
    assert run("p[t] = cuda.shfl_down_sync(0xffffffff, t, 1)").tolist() == [*range(1, 32), 31, *range(33, 64), 63]
    assert run("p[t] = cuda.shfl_xor_sync(0xffffffff, t, 16)")[:3].tolist() == [16, 17, 18]
    assert run("p[t] = cuda.ballot_sync(0xffffffff, t % 32 == 3)").tolist() == [8] * 64


def test_simulated_shared_memory():
    found = run("s = cuda.shared.array(64, i32)\ns[t] = t\ncuda.syncthreads()\np[t] = s[63 - t]")
    assert found.tolist() == [*range(64)][::-1]


@pytest.mark.parametrize("body", [
    "if t < 7:\n    p[t] = cuda.shfl_xor_sync(0xffffffff, t, 1)",
    "if t < 7:\n    cuda.syncthreads()",
    "if t < 32:\n    cuda.syncthreads()",
    "if t < 32:\n    cuda.syncthreads()\nelse:\n    cuda.syncthreads()",
    "p[t] = cuda.shfl_xor_sync(0xffff, t, 1)",
])
def test_divergence_is_an_error(body):
    with pytest.raises(simulator.Divergence):
        run(body)


def test_access_outside_a_buffer_is_an_error():
    with pytest.raises(IndexError):
        run("p[t] = 1", size=63)


def test_a_missing_barrier_shows():
    """The order of threads changes what a race gives."""
    program = cases.program("long rows")
    arrays = cases.arrays_for(program.graph)

    def without_barriers(launch):
        source = launch.kernel.source.replace("cuda.syncthreads()", "pass")
        return replace(launch, kernel=replace(launch.kernel, source=source))

    broken = Program(program.graph, [without_barriers(launch) for launch in program.launches], program.outputs)
    with np.errstate(all="ignore"):
        found = [simulate(broken, arrays, reverse) for reverse in (False, True)]
    assert any(a.tobytes() != b.tobytes() for a, b in zip(*found))
