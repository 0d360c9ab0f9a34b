"""Compiled graphs agree with the interpreter; kernels are shared between sizes; memory is planned."""
import platform
import sys

import numpy as np
import pytest
from random_graphs import random_graph

from jtorch import driver, dtypes
from jtorch.codegen import schedule
from jtorch.ir import prims  # noqa: F401
from jtorch.ir.graph import Builder, Graph, Type
from jtorch.ir.interpret import interpret
from jtorch.ir.primitive import op
from jtorch.ir.prims.create import constant, make_leaf
from jtorch.ir.prims.movement import expand_to, permute_to, reshape_to, slice_axis
from jtorch.runtime import compile


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
    exe = driver.compile_graph(graph, in_place)
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


@pytest.mark.parametrize("seed", [5059, 50108, 50127, 50144, 50168, *range(100, 130)])
def test_larger_random_graphs(seed):
    graph, arrays = random_graph(np.random.default_rng(seed), 50)
    check(graph, arrays, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_with_pads(seed):
    graph, arrays = random_graph(np.random.default_rng(seed), 20, pads=True)
    check(graph, arrays, rtol=1e-4, atol=1e-4)


# --- shapes ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(), (1,), (0,), (5,), (3, 0), (1, 7), (4, 1), (3, 5, 7)])
def test_elementwise_of_every_shape(shape):
    check(build([(F, shape), (F, ())], lambda x, s: op("tanh")(x * x + 1) * s), floats(shape, ()))


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(3, 4, 5), (20, 30, 40), (1, 6, 1), (64, 3, 300)])
def test_sums_over_every_axis(axes, shape):
    check(build([(F, shape)], lambda x: [op("sum")(x * 2, axes=axes), op("max")(x, axes=axes)]), floats(shape),
          atol=1e-3)


def test_reductions_over_nothing():
    check(build([(F, (3, 0))], lambda x: [op("sum")(x, axes=(1,)), op("prod")(x, axes=(1,)), op("sum")(x, axes=(0,))]),
          floats((3, 0)))


@pytest.mark.parametrize("shape", [(40, 300), (1, 100_000), (2, 70_000), (100_000, 3), (40, 1)])
def test_softmax(shape):
    check(build([(F, shape)], softmax), floats(shape))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_rows_with_what_is_no_number(name, axis):
    """A NaN spoils its row and no other; so do nothing but -inf, and inf."""
    x = floats((67, 67))[0]
    x[3, 5], x[8, 8], x[20, 66], x[21, :], x[:, 21], x[40, 2] = np.nan, -np.inf, np.inf, np.nan, -np.inf, np.nan
    x[66, :30], x[50, :], x[:, 51] = np.nan, -np.inf, -np.inf
    over = {"axes": (axis,)} if name == "logsumexp" else {"axis": axis}
    check(build([(F, x.shape)], lambda v: op(name)(v, **over)), [x])


@pytest.mark.parametrize("n", [1, 9, 100, 1000, 3000])
@pytest.mark.parametrize("name,attrs", [("softmax", {"axis": 1}), ("log_softmax", {"axis": 1}),
                                        ("layer_norm", {"ndim": 1})])
def test_a_row_has_the_same_bits_whatever_rows_are_beside_it(name, attrs, n):
    """Rows go through the phases of a kernel in groups, whose length depends on theirs."""
    def run(x, **options):
        graph = build([(F, x.shape)], lambda p: op(name)(p, **attrs))
        return execute(driver.compile_graph(graph, *options.values()), graph, [x], **options)[0], graph

    [x] = floats((2 + 60_000 // n, n))
    whole, graph = run(x)
    [expected] = interpret(graph, [x])
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-5)
    for first, last in [(0, 1), (1, 2), (3, 20), (0, len(x) - 1)]:
        np.testing.assert_array_equal(run(x[first:last].copy())[0], whole[first:last])
    np.testing.assert_array_equal(run(x.copy(), in_place={0: 0})[0], whole)


@pytest.mark.parametrize("d", [F, dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.int64, dtypes.int16,
                               dtypes.uint8])
@pytest.mark.parametrize("shape", [(70_001,), (33, 1031), (64, 1024), (300, 7)])
def test_results_stored_past_the_caches(monkeypatch, d, shape):
    """Larger results are, whether their rows are aligned or not, and are the same; but not over what is just read."""
    def run(**options):
        graph = build([(d, shape)], lambda x: [x + x, permute_to(x, range(x.ndim)[::-1]) + 1])
        exe = driver.compile_graph(graph, *options.values())
        return execute(exe, graph, [x.copy()], **options), "".join(e.kernel.source for e in exe.entries)

    x = (10 * floats(shape)[0]).astype(d.numpy)
    usual, text = run()
    assert "store_past" not in text
    monkeypatch.setattr(schedule, "PAST_BYTES", 0)
    past, text = run()
    assert ("store_past" in text) == (d is not dtypes.uint8)
    for found, wanted in zip(past, usual):
        np.testing.assert_array_equal(found, wanted)
    graph = build([(d, shape)], lambda x: x + x)
    exe = driver.compile_graph(graph, {0: 0})
    assert "store_past" not in exe.entries[0].kernel.source
    np.testing.assert_array_equal(execute(exe, graph, [x.copy()], {0: 0})[0], usual[0])


@pytest.mark.parametrize("n", [9, 1000, 3000])
@pytest.mark.parametrize("name,attrs", [("softmax", {"axis": 1}), ("log_softmax", {"axis": 1}),
                                        ("layer_norm", {"ndim": 1})])
def test_rows_stored_past_the_caches_have_the_same_bits(monkeypatch, name, attrs, n):
    graph = build([(F, (2 + 20_000 // n, n))], lambda p: op(name)(p, **attrs))
    arrays = floats((2 + 20_000 // n, n))
    [usual] = execute(check(graph, arrays), graph, arrays)
    monkeypatch.setattr(schedule, "PAST_BYTES", 0)
    exe = check(graph, arrays)
    assert any("store_past" in e.kernel.source for e in exe.entries) == (4 * n % schedule.PAST_ALIGNMENT == 0)
    np.testing.assert_array_equal(execute(exe, graph, arrays)[0], usual)


def test_softmax_over_columns():
    def f(x):
        e = op("exp")(x - expand_to(op("max")(x, axes=(0,)), x.shape))
        return e / expand_to(op("sum")(e, axes=(0,)), x.shape)
    check(build([(F, (50, 700))], f), floats((50, 700)))
    check(build([(F, (5000, 70))], f), floats((5000, 70)))


@pytest.mark.parametrize("shape,axes", [((300_000,), (0,)), ((512, 700), (0, 1)), ((20_000, 6), (0,)),
                                        ((3, 40_000), (1,)), ((20_000, 2, 8), (0,)), ((4, 300, 400), (0, 1, 2))])
def test_reductions_split_into_chunks(shape, axes):
    def f(x):
        y = x * x
        return [y, op("sum")(y, axes=axes) * 2 + 1, op("max")(x, axes=axes)]
    exe = check(build([(F, shape)], f), floats(shape), rtol=1e-5, atol=1e-2)
    assert len(exe.kernels) == 2


def test_argmax():
    for shape, axis in [((5, 70), 1), ((70, 5), 0), ((3, 4, 5), 1), ((100_000,), 0)]:
        check(build([(F, shape)], lambda x, axis=axis: [op("argmax")(x, axis=axis), op("argmin")(x, axis=axis)]),
              floats(shape))
    check(build([(F, (3,))], lambda x: op("argmax")(x, axis=0)), [np.array([1, np.nan, 2], np.float32)])


# --- views -----------------------------------------------------------------------------------------------------------

def test_views_of_a_parameter_are_loads():
    def f(x, y):
        t = permute_to(x, (1, 0))
        part = op("slice")(x, starts=(1, 0), stops=(5, 6), steps=(2, 3))
        return [t + y, part * 2, op("flip")(x, axes=(0, 1)) + x, reshape_to(x, (3, 10)) - 1]
    exe = check(build([(F, (5, 6)), (F, (6, 5))], f), floats((5, 6), (6, 5)))
    assert not exe.host_calls


def test_a_reshape_that_strides_cannot_express():
    check(build([(F, (5, 6))], lambda x: reshape_to(permute_to(x * 2, (1, 0)), (30,)) + 1), floats((5, 6)))


def test_outputs_that_are_parameters_views_or_twice_the_same():
    def f(x):
        y = x + 1
        return [x, y, y, reshape_to(y, (6,)), permute_to(y, (1, 0)), permute_to(x, (1, 0))]
    check(build([(F, (2, 3))], f), floats((2, 3)))


def test_one_value_along_two_axes():
    def f(x):
        y = op("tanh")(x)
        return expand_to(reshape_to(y, (5, 1)), (5, 5)) * 2 + expand_to(reshape_to(y, (1, 5)), (5, 5))
    check(build([(F, (5,))], f), floats((5,)))


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.int32], ids=lambda d: d.name)
def test_transpositions_go_by_tiles(dtype):
    for shape in ((130, 100), (37, 65), (70, 2), (3, 64)):
        def function(x, y):
            turned = [permute_to(op("flip")(x, axes=(axis,)), (1, 0)) for axis in (0, 1)]
            return [permute_to(x, (1, 0)) - y, turned[1] * y, turned[0]]
        rng = np.random.default_rng(0)
        arrays = [rng.integers(-9, 9, s).astype(dtype.numpy) for s in (shape, shape[::-1])]
        exe = check(build([(dtype, a.shape) for a in arrays], function), arrays)
        assert min(shape) < 8 or any(k.nest is not None and k.nest.schedule == "tile" for k in exe.kernels)


def test_a_value_and_its_transpose():
    def f(x):
        y = op("tanh")(x)
        return [permute_to(y, (1, 0)) - y, y - permute_to(y, (1, 0)) * 2]
    check(build([(F, (5, 5))], f), floats((5, 5)))


def test_heads_split_in_one_kernel():
    def f(x, scale):
        y = reshape_to(x * 2, (4, 10, 2, 8))
        return permute_to(y * expand_to(scale, (4, 10, 2, 8)), (0, 2, 1, 3)) + 1
    exe = check(build([(F, (40, 16)), (F, (8,))], f), floats((40, 16), (8,)))
    assert len(exe.kernels) == 1


# --- dtypes ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("d", [dtypes.float16, dtypes.bfloat16, dtypes.float64, dtypes.int8, dtypes.int32, dtypes.int64,
                               dtypes.uint8])
def test_dtypes(d):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-5 if d.is_signed else 0, 6, (6, 70)).astype(d.numpy) for _ in range(2)]

    def f(x, y):
        z = op("maximum")(x * y, x) + y
        return [z, op("max")(z, axes=(1,)), op("sum")(x, axes=(0,)), op("cast")(z, dtype=F), op("lt")(x, y),
                op("abs")(x), op("sign")(y)]
    check(build([(d, (6, 70))] * 2, f), arrays, rtol=1e-2)


def test_booleans():
    x = np.array([[True, False, True], [False, False, False]])

    def f(x):
        return [op("logical_not")(x), op("any")(x, axes=(1,)), op("all")(x, axes=(0,)), op("cast")(x, dtype=F),
                op("bitwise_not")(x), op("where")(x, op("cast")(x, dtype=F), op("cast")(x, dtype=F) - 1)]
    check(build([(dtypes.bool_, (2, 3))], f), [x])


def test_complex_numbers_are_two_real_ones():
    x = (np.arange(6) + 1j).astype(np.complex64).reshape(2, 3)
    graph = build([(dtypes.complex64, (2, 3))], lambda x: permute_to(x, (1, 0)) * 2)
    expected = interpret(graph, [x])
    exe = driver.compile_graph(graph)
    np.testing.assert_allclose(execute(exe, graph, [x])[0], expected[0])
    assert not exe.host_calls


def test_integer_division_by_zero_raises_at_the_operation():
    graph = build([(dtypes.int64, (4,))] * 2, lambda x, y: op("floor_divide")(x, y))
    a = np.arange(4)
    check(graph, [a, a + 1])
    exe = driver.compile_graph(graph)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        execute(exe, graph, [a, a])


# --- other operations ------------------------------------------------------------------------------------------------

def test_matmul_with_transposed_operands_bias_and_activation():
    def f(x, w, b):
        h = op("relu")(op("matmul")(x, permute_to(w, (1, 0))) + expand_to(b, (20, 40)))
        return [h, op("matmul")(permute_to(h, (1, 0)), x)]
    check(build([(F, (20, 30)), (F, (40, 30)), (F, (40,))], f), floats((20, 30), (40, 30), (40,)), atol=1e-4)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_epilogue_of_a_matmul(batch):
    def f(x, w, b, r):
        y = op("matmul")(x, w)
        return op("tanh")(y + expand_to(b, y.shape)) + r
    shapes = (*batch, 20, 30), (*batch, 30, 40), (40,), (*batch, 20, 40)
    exe = check(build([(F, s) for s in shapes], f), floats(*shapes), atol=1e-4)
    assert len(exe.kernels) == 1 and exe.kernels[0].ops[-1] == "add"
    assert exe.arena_size == 0  # the product is written where the result will be


def test_epilogue_whose_operand_is_also_a_result():
    def f(x, w):
        y = op("matmul")(x, w)
        return [op("exp")(y), y, op("sum")(op("exp")(y), axes=(0,))]
    check(build([(F, (20, 30)), (F, (30, 40))], f), floats((20, 30), (30, 40)), rtol=1e-3, atol=1e-3)


def test_epilogue_that_updates_in_place():
    def f(w, x, g):
        return w - op("matmul")(permute_to(x, (1, 0)), g) * 0.01
    exe = check(build([(F, (30, 40)), (F, (20, 30)), (F, (20, 40))], f), floats((30, 40), (20, 30), (20, 40)),
                in_place={0: 0}, atol=1e-4)
    assert len(exe.kernels) == 1

    def h(w, x):  # the product reads w itself
        return w - op("matmul")(x, w) * 0.01
    check(build([(F, (30, 30)), (F, (30, 30))], h), floats((30, 30), (30, 30)), in_place={0: 0}, atol=1e-4)


def test_a_sum_over_rows_joins_the_loop_over_them_where_a_loop_over_columns_had_its_operand():
    """As in the gradient of a normalisation: the products that sums over rows are of were first read for a sum over
    columns, but are computed again with the rows of x. What is computed there is no more of the other loop."""
    def spread(v):
        return expand_to(reshape_to(v, (64, 1)), (64, 300))

    def body(x, g, w):
        y = x - spread(op("sum")(x, axes=(1,)))
        bias = op("sum")(g, axes=(0,))
        grad = g * expand_to(w, (64, 300))
        scale = op("sum")(g * y, axes=(0,))
        first, second = [spread(op("sum")(v, axes=(1,))) for v in (grad, grad * y)]
        return [bias, scale, y, (grad - first) - y * second]

    exe = check(build([(F, (64, 300)), (F, (64, 300)), (F, (300,))], body), floats((64, 300), (64, 300), (300,)),
                atol=1e-1, rtol=1e-3)
    assert len(exe.kernels) == 3


@pytest.mark.skipif(platform.machine() != "x86_64", reason="looks for instructions of x86")
def test_every_other_element_of_a_row_is_read_without_gathers():
    """As real parts, or the halves of rotary embeddings: whole vectors are read and every other element is taken."""
    def body(x, y):
        return expand_to(reshape_to(slice_axis(x, 2, 1, 2), (8, 1, 300)), (8, 3, 300)) * y + 1

    exe = check(build([(F, (8, 300, 2)), (F, (8, 3, 300))], body), floats((8, 300, 2), (8, 3, 300)))
    kernel, = exe.kernels
    assert "load_from(" in kernel.source
    assert "gather" not in compile.assembly(kernel.source, kernel.params, cpu="x86-64-v4", features="")


def test_concatenate_and_pad():
    def f(x, y):
        c = op("concatenate")(x * 2, y, axis=1)
        zero = op("sum")(x, axes=(0, 1)) * 0
        return [c + 1, op("pad")(x + 1, zero, widths=((1, 0, 0), (0, 2, 1)))]
    check(build([(F, (4, 3)), (F, (4, 5))], f), floats((4, 3), (4, 5)))


def widths_around(start, stop, size):
    return (start, size - stop, 0)


def test_the_gradient_of_differences_is_one_kernel():
    """Pads, each of another part, computed on the way, added up: nothing but the operand is read, and it in place."""
    def f(g):
        low, high = (op("slice")(g, starts=(0, i), stops=(40, 29 + i), steps=(1, 1)) for i in (0, 1))
        zero = constant(g.builder, 0.0, F, ())
        pads = [op("pad")(v, zero, widths=((0, 0, 0), widths_around(i, i + 29, 30)))
                for i, v in enumerate((op("neg")(low), high))]
        return pads[0] + pads[1]
    graph = build([(F, (40, 30))], f)
    exe = check(graph, floats((40, 30)))
    assert len(exe.kernels) == 1 and "load_if" in exe.kernels[0].source


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_reductions_of_pads(axes, value):
    def f(x, y):
        number = constant(x.builder, value, F, ())
        wide = op("pad")(op("exp")(x), number, widths=((1, 2, 0), (0, 3, 0)))
        return op("sum")(wide * y, axes=axes), op("max")(wide - 1.0, axes=axes)
    check(build([(F, (500, 90)), (F, (503, 93))], f), floats((500, 90), (503, 93)), rtol=1e-4, atol=2e-3)


def test_what_a_pad_reads_goes_on_elsewhere():
    """The padded value itself is read again, in its own shape and in another pad."""
    def f(x, y):
        e = op("exp")(x)
        zero = constant(x.builder, 0.0, F, ())
        above, below = (op("pad")(e, zero, widths=(w, (0, 0, 0))) for w in ((2, 0, 0), (0, 2, 0)))
        return above * y + below, e + 1.0
    check(build([(F, (50, 7)), (F, (52, 7))], f), floats((50, 7), (52, 7)))


def test_iota_and_constants():
    def f(x):
        i = op("iota")(length=6, dtype=F) if False else x.builder.apply(op("iota"), length=6, dtype=F)
        return [i, expand_to(i, (5, 6)) * x, x.builder.apply(op("full"), shape=(3,), value=2.5, dtype=F)]
    check(build([(F, (5, 6))], f), floats((5, 6)))


def test_complex_constants():
    """One that is a result, and one that a kernel reads."""
    def f(x):
        one = x.builder.apply(op("full"), shape=(3,), value=2.5 - 1j, dtype=dtypes.complex64)
        return [one, x * one]
    graph = build([(dtypes.complex64, (3,))], f)
    x = np.arange(3).astype(np.complex64) * (1 + 2j)
    exe = driver.compile_graph(graph)
    for found, wanted in zip(execute(exe, graph, [x]), interpret(graph, [x])):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


# --- memory ----------------------------------------------------------------------------------------------------------

def test_in_place_update():
    graph = build([(F, (1000,)), (F, (1000,))], lambda p, g: p - g * 0.1)
    exe = check(graph, floats((1000,), (1000,)), in_place={0: 0})
    assert len(exe.kernels) == 1


def test_in_place_where_the_parameter_is_still_read():
    def f(p, w):
        q = p + 1
        return [q, op("matmul")(p, w), permute_to(p, (1, 0)) + p]
    check(build([(F, (8, 8)), (F, (8, 8))], f), floats((8, 8), (8, 8)), in_place={0: 0})
    check(build([(F, (8, 8))], lambda p: permute_to(p, (1, 0)) * 2), floats((8, 8)), in_place={0: 0})
    check(build([(F, (8, 8))], lambda p: p - expand_to(reshape_to(op("sum")(p, axes=(1,)), (8, 1)), (8, 8))),
          floats((8, 8)), in_place={0: 0})
    check(build([(F, (8,)), (F, (8,))], lambda a, b: [b + 1, a * 2]), floats((8,), (8,)), in_place={0: 0, 1: 1})


def test_rows_in_place():
    """Of a row that is read in several phases, and whose exp may wait for its sum in the place of the result."""
    def along(x, f):
        return expand_to(reshape_to(op(f)(x, axes=(1,)), (x.shape[0], 1)), x.shape)

    def twice(x, y):
        e = op("exp")(y - along(y, "max"))
        return e * along(e * x, "sum")
    shape = (5, 3000)
    check(build([(F, shape)], softmax), floats(shape), in_place={0: 0})
    check(build([(F, shape)], lambda x: softmax(x) + x), floats(shape), in_place={0: 0})
    for param in (0, 1):
        check(build([(F, shape), (F, shape)], twice), floats(shape, shape), in_place={0: param})


def test_updates_wait_for_the_last_reader():
    def f(x, g, w1, w2):
        gw2 = op("matmul")(permute_to(x, (1, 0)), g)
        new2 = w2 - gw2 * 0.1
        g1 = op("matmul")(g, permute_to(w2, (1, 0)))  # reads w2 after its update is known
        return [new2, w1 - op("matmul")(permute_to(x, (1, 0)), g1) * 0.1]
    shapes = (8, 6), (8, 6), (6, 6), (6, 6)
    exe = check(build([(F, s) for s in shapes], f), floats(*shapes), in_place={0: 3, 1: 2})
    assert len(exe.kernels) == 3  # no copies


def test_intermediate_memory_is_reused():
    def f(x, w):
        for _ in range(30):
            x = op("matmul")(op("tanh")(x), w)
        return x
    exe = check(build([(F, (64, 64)), (F, (64, 64))], f), [a * 0.1 for a in floats((64, 64), (64, 64))])
    assert exe.arena_size <= 3 * 64 * 64 * 4


# --- size and sharing ------------------------------------------------------------------------------------------------

def layer(x, w, b):
    return op("tanh")(op("matmul")(x, w) + expand_to(b, x.shape[:1] + b.shape))


def test_kernels_are_shared_between_sizes_and_layers():
    def net(x, w, b):
        for _ in range(5):
            x = softmax(layer(x, w, b)) * 3
        return op("sum")(x, axes=(0, 1)) / x.type.numel
    sources = set()
    for batch, width in [(8, 16), (9, 17), (64, 32)]:
        graph = build([(F, (batch, width)), (F, (width, width)), (F, (width,))], net)
        exe = check(graph, floats((batch, width), (width, width), (width,)))
        found = {k.source for k in exe.kernels if "gemm" not in k.name}
        assert len(found) <= 3
        sources |= found
    assert len(sources) <= 3


def test_a_chain_of_ten_thousand_nodes():
    """No recursion, and the work grows linearly: counted in function calls, which do not depend on the machine."""
    def chain(length):
        def f(x):
            x = op("abs")(x)
            for i in range(length):
                x = op("sqrt")(x + float(i % 7))
            return x
        return build([(F, (50,))], f)

    def calls(length):
        count, before = 0, sys.getprofile()

        def on_event(frame, event, arg):
            nonlocal count
            count += event == "call"
        graph = chain(length)
        try:
            sys.setprofile(on_event)
            driver.compile_graph(graph)
        finally:
            sys.setprofile(before)
        return count

    check(chain(5000), floats((50,)), rtol=1e-2, atol=1e-2)
    assert calls(1000) < 2.5 * calls(500)


def test_async_compilation():
    graph = build([(F, (10,))], lambda x: op("exp")(x) * 0.123)
    handle = driver.compile_async(graph)
    exe = handle.result()
    assert handle.ready()
    x = floats((10,))
    np.testing.assert_allclose(execute(exe, graph, x)[0], np.exp(x[0]) * np.float32(0.123), rtol=1e-5)


def test_explanation_names_kernels_and_reasons():
    graph = build([(F, (20, 30)), (F, (30, 40))], lambda x, w: op("exp")(op("sum")(op("matmul")(op("tanh")(x), w),
                                                                                              axes=(1,))))
    text = driver.compile_graph(graph).explain(sources=True)
    assert "matmul is a library kernel" in text and "def kernel" in text and "arena" in text


def test_calls_beside_one_another_wait_for_what_the_first_of_them_waits_for():
    """The copies of a sort's two results: the second need not wait for the first, but both do for the sort."""
    graph = build([(dtypes.float64, (4, 3))], lambda x: op("sort")(x, axis=0, descending=False, stable=True, part=None))
    exe = driver.compile_graph(graph)
    regions = [e.region for e in exe.entries]
    assert len(regions) == 4, "rows are made, sorted, and copied twice"
    assert regions[0] < regions[1] < regions[2] == regions[3]
