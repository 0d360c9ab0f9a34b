"""Every library kernel against its operation's NumPy meaning, on random shapes, strides, dtypes and empty operands."""
from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from library_runner import lower, make_node, program, run

import jtorch
from jtorch import dtypes
from jtorch.codegen import library
from jtorch.codegen.library.call import Epilogue, Operand
from jtorch.codegen.library.copy import order_blocks
from jtorch.codegen.library.gemm_layout import DEPTH, blas_layout, block_size
from jtorch.ir import mt19937
from jtorch.ir.graph import Type
from jtorch.ir.interpret import run_op
from jtorch.ir.prims import library as _sorting  # noqa: F401  registers them
from jtorch.ir.prims.window import conv_output_spatial, pool_output_spatial
from jtorch.runtime.threads import pool

HALF = (np.dtype(np.float16), dtypes.bfloat16.numpy)
DTYPES = [d.numpy for d in (dtypes.float32, dtypes.float64, dtypes.int64, dtypes.int32, dtypes.uint8, dtypes.bool_,
                            dtypes.float16, dtypes.bfloat16)]


def node_of(name: str, arrays: list[np.ndarray], **attrs: Any) -> Any:
    return make_node(name, [Type(dtypes.from_numpy(a.dtype), a.shape) for a in arrays], **attrs)


def meaning(node: Any, arrays: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    with np.errstate(all="ignore"):
        return run_op(node.op, arrays, node.kwargs, [s.type for s in node.siblings])


def check(name: str, arrays: list[np.ndarray], tolerance: float = 1e-3, **attrs: Any) -> None:
    node = node_of(name, arrays, **attrs)
    for got, want in zip(run(node, arrays), meaning(node, arrays), strict=True):
        if want.dtype.kind in "fV":
            got, want = got.astype(np.float64), want.astype(np.float64)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


class Draw:
    """Random test data from a seed."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.rng = np.random.default_rng(seed)

    def array(self, shape: tuple[int, ...], dtype: Any, strided: bool = True) -> np.ndarray:
        dtype = np.dtype(dtype)
        values = np.asarray(self.rng.standard_normal(shape) * 3)
        values = np.asarray(np.abs(values) if dtype.kind in "ub" else values).astype(dtype)
        if strided and len(shape) > 1 and self.pick.random() < 0.4:
            order = self.pick.sample(range(len(shape)), len(shape))
            values = np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))
        return np.asarray(values)

    def indices(self, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
        return np.asarray(self.rng.integers(low, high, shape), np.int64)


# --- matrix products -------------------------------------------------------------------------------------------------

SIZES = [(5, 7, 9), (1, 5, 4), (4, 5, 1), (4, 1, 5), (3, 0, 2), (0, 3, 2), (130, 100, 70), (1, 200, 300), (300, 200, 1),
         (6, 40, 8), (9, 33, 50), (70, 20, 97)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)], ids=str)
def test_matmul(dtype: np.dtype, batch: tuple[int, ...]) -> None:
    draw = Draw(0)
    tolerance = 2e-2 if dtype.itemsize == 2 else 1e-3
    for m, k, n in SIZES:
        a, b = draw.array((*batch, m, k), dtype, False), draw.array((*batch, k, n), dtype, False)
        check("matmul", [a, b], tolerance)
        transposed = [np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) for x in (a, b)]
        check("matmul", transposed, tolerance)
        check("matmul", [a[..., ::2], b[..., ::2, :]], tolerance)
        if batch == (3,):
            check("matmul", [a, np.broadcast_to(b[:1], b.shape)], tolerance)
            check("matmul", [np.broadcast_to(a[:1], a.shape), b], tolerance)
        if batch == (2, 3):
            check("matmul", [np.ascontiguousarray(a.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3), b], tolerance)
            check("matmul", [np.broadcast_to(a[:1], a.shape), np.broadcast_to(b[:, :1], b.shape)], tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_summed_in_parts(dtype: type) -> None:
    """More rows of b than are packed at a time; negative and zero strides."""
    draw = Draw(4)
    a, b = draw.array((20, 2 * DEPTH + 5), dtype, False), draw.array((2 * DEPTH + 5, 60), dtype, False)
    repeated = [np.broadcast_to(a[:1], a.shape), np.broadcast_to(b[:, :1], b.shape)]
    for pair in ([a, b], [a[:, ::-1], b[::-1, ::-1]], repeated):
        node = node_of("matmul", pair)
        want = meaning(node, [x.astype(np.float64) for x in pair])[0]
        np.testing.assert_allclose(run(node, pair)[0], want, rtol=1e-3, atol=1e-2)


def test_a_contiguous_copy_runs_along_its_memory() -> None:
    """As one row: not as a column of single elements, which is right too and ten times slower."""
    x = Operand(("in", 0), dtypes.float32, (30, 1, 4000), (4000, 4000, 1))
    names, values, items, holes, _ = order_blocks(x, x)
    assert dict(zip(names, values))["cols"] == 120_000 and items < 10 and holes == {"SC": "c", "DC": "c"}


def test_blocks_do_not_depend_on_chunks() -> None:
    draw = Draw(1)
    a, b = draw.array((300, 200), np.float32), draw.array((200, 500), np.float32)
    assert block_size(300, 500, 200, 1) != (300, 500)
    node = node_of("matmul", [a, b])
    results = [run(node, [a, b], seed)[0] for seed in range(4)]
    assert all((r == results[0]).all() for r in results)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    draw = Draw(2)
    a, b = draw.array((300, 200), np.float32), draw.array((200, 500), np.float32)
    x, w = draw.array((8, 16, 20, 20), np.float32), draw.array((24, 16, 3, 3), np.float32)
    g = draw.array((8, 24, 18, 18), np.float32)
    conv: dict[str, Any] = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    cases = [("matmul", [a, b], {}), ("convolution", [x, w], conv),
             ("conv_weight_grad", [g, x], {"kernel_spatial": (3, 3), **conv})]
    before = pool.num_threads
    try:
        for name, arrays, attrs in cases:
            results = []
            for threads in (1, 2, 3):
                pool.resize(threads)
                go, outs = program(node_of(name, arrays, **attrs), arrays)
                go()
                results.append(outs[0].copy())
            assert (results[0] == results[1]).all() and (results[0] == results[2]).all()
    finally:
        pool.resize(before)


def test_blas_layouts() -> None:
    assert blas_layout((3, 5), (5, 1)) == (False, 5)
    assert blas_layout((3, 5), (1, 3)) == (True, 3)
    assert blas_layout((3, 5), (0, 1)) is None  # an expanded row overlaps itself
    assert blas_layout((3, 5), (-5, 1)) is None


EPILOGUE_LINES = """\
for e_r in range(r0, r1):
    for e_c in range(c0, c1):
        e_at = (batch * e_rows + e_r) * e_columns + e_c
        e_y[e_at] = e_y[e_at] * f32(2.0) + f32(e_c)"""


@pytest.mark.parametrize("name, shapes, attrs", [
    ("matmul", [(300, 70), (70, 500)], {}), ("matmul", [(4, 30, 7), (4, 7, 5)], {}), ("matmul", [(1, 300), (300, 400)],
                                                                                      {}),
    ("matmul", [(400, 300), (300, 1)], {}),
    ("convolution", [(3, 8, 20, 20), (40, 8, 3, 3)], {"padding": ((1, 1), (1, 1)), "groups": 1}),
    ("convolution", [(7, 8, 5, 5), (40, 8, 3, 3)], {"padding": ((1, 1), (1, 1)), "groups": 1}),
    ("convolution", [(3, 8, 9, 9), (40, 8, 1, 1)], {"padding": ((0, 0), (0, 0)), "groups": 1}),
    ("convolution", [(3, 8, 9, 9), (8, 1, 3, 3)], {"padding": ((1, 1), (1, 1)), "groups": 8}),
    ("conv_input_grad", [(1, 40, 5, 5), (40, 8, 3, 3)], {"padding": ((1, 1), (1, 1)), "groups": 1,
                                                         "input_spatial": (5, 5)}),
    ("conv_weight_grad", [(3, 40, 5, 5), (3, 16, 5, 5)], {"padding": ((1, 1), (1, 1)), "groups": 2,
                                                          "kernel_spatial": (3, 3)}),
])
def test_epilogue(name: str, shapes: list, attrs: dict) -> None:
    draw = Draw(3)
    arrays = [draw.array(s, np.float32, False) for s in shapes]
    if name != "matmul":
        attrs = {"stride": (1, 1), "dilation": (1, 1), **attrs}
    node = node_of(name, arrays, **attrs)
    asked = []

    def epilogue(batch: int, rows: int, columns: int) -> Epilogue:
        asked.append((batch, rows, columns))
        return Epilogue(EPILOGUE_LINES, (("e_y", "p:float32"), ("e_rows", "i"), ("e_columns", "i")),
                        (("out", 0, 0), rows, columns))

    low = lower(node, arrays, epilogue=epilogue)
    assert low is not None and low.took_epilogue
    got = run(node, arrays, epilogue=epilogue)[0]
    want = meaning(node, arrays)[0]
    columns = np.arange(want.size).reshape(want.shape) % asked[0][2]
    np.testing.assert_allclose(got, want * 2 + columns, rtol=1e-3, atol=1e-3)


# --- attention -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lead, t, s, e, d", [((2, 3), 64, 64, 32, 32), ((), 5, 7, 3, 2), ((1,), 200, 130, 40, 50),
                                              ((2, 2, 3), 17, 90, 16, 70), ((3,), 33, 8, 100, 1),
                                              ((2,), 130, 300, 8, 8), ((16,), 70, 70, 64, 64)])
def test_attention(dtype: Any, lead: tuple[int, ...], t: int, s: int, e: int, d: int) -> None:
    draw = Draw(t * s + e)
    tolerance = 1e-10 if dtype is np.float64 else 1e-3
    for causal in (False, True):
        q, k, v, g = (draw.array((*lead, *shape), dtype) / 3 for shape in ((t, e), (s, e), (s, d), (t, d)))
        attrs: dict[str, Any] = {"causal": causal, "scale": -0.4 if s == 90 else 0.4}
        check("attend", [q, k, v], tolerance, **attrs)
        y, sums = meaning(node_of("attend", [q, k, v], **attrs), [q, k, v])
        check("attend_grad", [q, k, v, g, sums, (g * y).sum(-1)], tolerance, **attrs)


# --- convolutions ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(12))
def test_convolution(seed: int) -> None:
    draw = Draw(seed)
    pick = draw.pick.choice
    done = 0
    while done < 10:
        axes = range(pick([1, 2, 2, 2, 3]))
        groups, cg, og, n = pick([1, 1, 2, 3]), pick([1, 2, 5, 40]), pick([1, 2, 7, 33]), pick([1, 1, 2, 5, 17])
        kernel, stride = tuple(pick([1, 2, 3, 5]) for _ in axes), tuple(pick([1, 1, 2, 3]) for _ in axes)
        dilation, padding = tuple(pick([1, 1, 2]) for _ in axes), tuple((pick([0, 1, 2, 6]), pick([0, 1,
                                                                                                   2])) for _ in axes)
        spatial = tuple(pick([1, 4, 7, 12, 19]) for _ in axes)
        dtype = pick([np.float32, np.float32, np.float64, np.float16])
        try:
            out = conv_output_spatial(spatial, kernel, stride, padding, dilation)
        except RuntimeError:
            continue
        done += 1
        attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        tolerance = 0.1 if dtype is np.float16 else 2e-3
        x = draw.array((n, groups * cg, *spatial), dtype)
        w, g = draw.array((groups * og, cg, *kernel), dtype), draw.array((n, groups * og, *out), dtype)
        check("convolution", [x, w / 8], tolerance, **attrs)
        check("conv_input_grad", [g, w / 8], tolerance, input_spatial=spatial, **attrs)
        if dtype is not np.float16:
            check("conv_weight_grad", [g, x], tolerance, kernel_spatial=kernel, **attrs)


@pytest.mark.parametrize("n, groups, cg, og, spatial, kernel, stride, dilation", [
    (17, 1, 40, 9, (12, 12), (3, 3), (1, 1), (1, 1)), (3, 2, 17, 33, (30, 19), (3, 2), (2, 1), (1, 2)),
    (2, 1, 8, 20, (9, 8, 10), (3, 3, 3), (1, 2, 1), (1, 1, 2)), (1, 1, 50, 70, (700,), (5,), (1,), (1,)),
    (1, 1, 64, 64, (28, 28), (3, 3), (1, 1), (1, 1)), (1, 1, 130, 20, (7, 7), (3, 3), (1, 1), (2, 2)),
    (4, 2, 70, 90, (4, 4), (3, 3), (2, 2), (1, 1)), (5, 1, 20, 50, (5, 3), (4, 3), (3, 2), (2, 1)),
    (6, 1, 17, 8, (7, 2), (1, 1), (2, 2), (1, 1)), (3, 1, 9, 16, (11,), (5,), (4,), (3,)),
    (17, 1, 6, 8, (700,), (5,), (2,), (3,)), (4, 1, 9, 8, (90, 41), (3, 3), (2, 2), (1, 1)),
])
def test_convolution_in_registers(n: int, groups: int, cg: int, og: int, spatial: tuple, kernel: tuple, stride: tuple,
                                  dilation: tuple) -> None:
    """Sizes at which the work is cut into several pieces along every axis."""
    draw = Draw(4)
    padding = tuple((1, 2) for _ in kernel)
    out = conv_output_spatial(spatial, kernel, stride, padding, dilation)
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, w = draw.array((n, groups * cg, *spatial), np.float32), draw.array((groups * og, cg, *kernel), np.float32) / 16
    g = draw.array((n, groups * og, *out), np.float32)
    check("convolution", [x, w], 5e-3, **attrs)
    check("conv_input_grad", [g, w], 5e-3, input_spatial=spatial, **attrs)
    check("conv_weight_grad", [g / 16, x], 5e-3, kernel_spatial=kernel, **attrs)


@pytest.mark.parametrize("kernel, n, groups, cg, og, spatial, padding", [
    ("winograd_output", 3, 1, 70, 64, (13, 15), ((1, 1), (1, 1))),
    ("winograd_output", 2, 2, 64, 65, (12, 9), ((0, 2), (2, 0))),
    ("winograd_output", 1, 1, 64, 66, (58, 42), ((1, 1), (0, 0))),
    ("winograd_output", 3, 1, 200, 64, (22, 22), ((1, 1), (1, 1))),
    ("winograd_output", 1, 1, 32, 40, (16, 18), ((3, 0), (1, 4))),
    ("winograd_strips", 16, 1, 33, 34, (15, 13), ((1, 0), (1, 2))),
    ("winograd_strips", 2, 2, 32, 70, (26, 61), ((0, 0), (2, 1))),
])
def test_winograd(kernel: str, n: int, groups: int, cg: int, og: int, spatial: tuple, padding: tuple) -> None:
    """Odd sizes, uneven padding, groups, images in several turns; as accurate as sums in float32 are."""
    draw = Draw(5)
    attrs: dict[str, Any] = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": groups}
    x, w = draw.array((n, groups * cg, *spatial), np.float32), draw.array((groups * og, cg, 3, 3), np.float32)
    node = node_of("convolution", [x, w], **attrs)
    assert kernel in [c.name for c in lower(node, [x, w]).calls]  # type: ignore[union-attr]
    want = meaning(node, [x.astype(np.float64), w.astype(np.float64)])[0]
    np.testing.assert_allclose(run(node, [x, w])[0], want, rtol=0, atol=1e-6 * np.abs(want).max())


def test_convolution_of_nothing() -> None:
    attrs: dict[str, Any] = {"stride": (1,), "padding": ((1, 1),), "dilation": (1,), "groups": 1}
    x, w, g = np.zeros((0, 2, 5), np.float32), np.ones((3, 2, 3), np.float32), np.zeros((0, 3, 5), np.float32)
    assert run(node_of("convolution", [x, w], **attrs), [x, w])[0].shape == (0, 3, 5)
    assert run(node_of("conv_input_grad", [g, w], input_spatial=(5,), **attrs), [g, w])[0].shape == (0, 2, 5)
    assert not run(node_of("conv_weight_grad", [g, x], kernel_spatial=(3,), **attrs), [g, x])[0].any()


# --- pooling ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(8))
def test_pooling(seed: int) -> None:
    draw = Draw(seed)
    pick = draw.pick.choice
    done = 0
    while done < 8:
        axes = range(pick([1, 2, 2, 3]))
        kernel, stride = tuple(pick([1, 2, 3, 4, 6]) for _ in axes), tuple(pick([1, 2, 3, 5]) for _ in axes)
        dilation, spatial = tuple(pick([1, 1, 2]) for _ in axes), tuple(pick([1, 5, 8, 17]) for _ in axes)
        padding = tuple(draw.pick.randint(0, k // 2) for k in kernel)
        ceil = draw.pick.random() < 0.3
        lead, dtype = pick([(), (3,), (2, 3), (0, 2)]), np.dtype(pick([np.float32, np.float64, np.int32, *HALF]))
        if any(d > 1 and n <= d * (k - 1) for d, n, k in zip(dilation, spatial, kernel)):
            continue  # windows without any element
        try:
            pool_output_spatial(spatial, kernel, stride, padding, dilation, ceil)
            out = pool_output_spatial(spatial, kernel, stride, padding, (1,) * len(kernel), ceil)
        except RuntimeError:
            continue
        done += 1
        tolerance = 6e-2 if dtype.itemsize == 2 else 1e-3
        x = draw.array((*lead, *spatial), dtype)
        if x.size and dtype.kind == "f":
            x[(0,) * x.ndim] = np.nan
        attrs: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil}
        check("max_pool", [x], tolerance, dilation=dilation, **attrs)
        node = node_of("max_pool", [x], dilation=dilation, **attrs)
        (got, _), (want, _) = run(node, [x], wanted=frozenset({0})), meaning(node, [x])
        np.testing.assert_array_equal(got, want)
        values, indices = meaning(node_of("max_pool", [x], dilation=dilation, **attrs), [x])
        grad_type = np.dtype(np.float32) if dtype.kind == "i" else dtype
        check("max_pool_grad", [draw.array(values.shape, grad_type), indices], tolerance, input_spatial=spatial)
        if dtype.kind != "i":
            attrs |= {"count_include_pad": draw.pick.random() < 0.5, "divisor_override": pick([None, None, 3])}
            check("avg_pool", [draw.array((*lead, *spatial), dtype)], tolerance, **attrs)
            check("avg_pool_grad", [draw.array((*lead, *out), dtype)], tolerance, input_spatial=spatial, **attrs)


@pytest.mark.parametrize("seed", range(12))
def test_adaptive_pooling(seed: int) -> None:
    draw = Draw(seed)
    pick = draw.pick.choice
    spatial = tuple(pick([1, 2, 7, 40]) for _ in range(pick([1, 2, 3])))
    x = draw.array((*pick([(), (2,), (2, 3)]), *spatial), np.dtype(pick(["f4", "f8", "f2", "i4", "u1"])))
    if x.dtype.kind == "f" and seed % 3 == 0:
        x[..., 0] = np.nan
    check("adaptive_max_pool", [x], output=tuple(pick([1, 2, 3, 9]) for _ in spatial))


# --- indexing --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(40))
def test_indexing(seed: int) -> None:
    draw = Draw(seed)
    pick = draw.pick.choice
    shape = tuple(pick([1, 2, 5, 9, 70]) for _ in range(pick([1, 2, 2, 3])))
    axis, dtype = draw.pick.randrange(len(shape)), np.dtype(pick(DTYPES))
    tolerance = 0.3 if dtype.itemsize == 2 else 1e-3  # NumPy's sums round at every step
    x = draw.array(shape, dtype)
    picked = tuple(pick([0, 1, 3, 8]) for _ in range(pick([0, 1, 2])))
    index = draw.indices(picked, -shape[axis], shape[axis])
    rows = draw.array((*shape[:axis], *picked, *shape[axis + 1:]), dtype)
    check("take", [x, index], tolerance, axis=axis)
    check("put", [x, index, rows], tolerance, axis=axis)
    check("put_add", [x, index, rows], tolerance, axis=axis)
    part = tuple(draw.pick.randint(1, n) if a != axis else pick([0, 1, 4, 90]) for a, n in enumerate(shape))
    places = draw.indices(part, 0, shape[axis])
    check("gather", [x, places], tolerance, axis=axis)
    for mode in ("set", "add", "amax", "amin", *(["prod"] if dtype.itemsize != 2 else [])):
        arrays = [x, places, draw.array(part, dtype)]
        if lower(node_of("scatter", arrays, axis=axis, mode=mode), arrays) is not None:
            check("scatter", arrays, tolerance, axis=axis, mode=mode)


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.0, float("inf")])
def test_distances(p: float) -> None:
    draw = Draw(0)
    for shape, others, dtype in (((2, 5, 7), 9, "f4"), ((30, 16), 1100, "f8"), ((3, 0), 4, "f4")):
        x, y = draw.array(shape, np.dtype(dtype)), draw.array((*shape[:-2], others, shape[-1]), np.dtype(dtype))
        check("distances", [x, y], 1e-3, p=p)
    square, line = draw.array((2, 7, 7), np.dtype("f2")), draw.array((2, 21), np.dtype("i4"))
    check("condensed", [square])
    check("expanded", [line], size=7)


@pytest.mark.parametrize("seed", range(20))
def test_samples(seed: int) -> None:
    draw = Draw(seed)
    pick = draw.pick.choice
    n, channels, size, inner = pick([1, 2]), pick([1, 4, 7, 40]), pick([1, 9, 70]), pick([1, 1, 3, 300])
    taps, count, dtype = pick([0, 1, 4, 17]), pick([0, 1, 5, 600]), np.dtype(pick([np.float32, np.float64]))
    x, out = draw.array((n, channels, size, inner), dtype), draw.array((n, channels, count, inner), dtype)
    index, weight = draw.indices((n, taps, count), pick([-1, 0]), size), draw.array((n, taps, count), dtype)
    layout = pick([(0, 1, 2), (0, 2, 1), (1, 0, 2)])
    index = np.ascontiguousarray(index.transpose(layout)).transpose(np.argsort(layout))
    weight = pick([weight, np.broadcast_to(dtype.type(0.5), weight.shape)])
    check("sample", [x, index, weight], 1e-3)
    check("sample_input_grad", [out, index, weight], 1e-3, size=size)
    check("sample_weight_grad", [x, index, out], 1e-2)


@pytest.mark.parametrize("seed", range(40))
def test_copies(seed: int) -> None:
    draw = Draw(seed)
    pick = draw.pick.choice
    shape = tuple(pick([0, 1, 2, 5, 9, 70]) for _ in range(pick([1, 2, 2, 3, 4])))
    axis, dtype = draw.pick.randrange(len(shape)), pick(DTYPES)
    x = draw.array(shape, dtype)
    starts = tuple(draw.pick.randint(0, n) for n in shape)
    stops = tuple(draw.pick.randint(a, n) for a, n in zip(starts, shape))
    steps = tuple(pick([1, 2]) for _ in shape)
    part = draw.array(tuple(-(-(b - a) // c) for a, b, c in zip(starts, stops, steps)), dtype)
    check("slice_update", [x, part], starts=starts, stops=stops, steps=steps)
    check("flip", [x], axes=tuple(sorted(draw.pick.sample(range(x.ndim), draw.pick.randint(0, x.ndim)))))
    check("pad", [x, np.array(3, dtype)], widths=tuple((pick([0, 1, 3]), pick([0, 2]), pick([0, 0, 1])) for _ in shape))
    check("pad", [x, np.array(3, dtype)], widths=tuple((pick([0, 1, 3]), pick([0, 0, 2]), 0) for _ in shape))
    mode = pick(["reflect", "replicate", "circular"])
    most = {"reflect": [n - 1 for n in shape], "replicate": [9 * n for n in shape], "circular": list(shape)}[mode]
    check("extend", [x], mode=mode, widths=tuple((min(pick([0, 0, 1, 3]), max(m, 0)), min(pick([0, 2, 8]), max(m, 0)))
                                                 for m in most))
    check("concatenate", [x, draw.array(shape, dtype), draw.array((*shape[:axis], 3, *shape[axis + 1:]), dtype)],
          axis=axis)
    check("permute", [x], perm=tuple(draw.pick.sample(range(x.ndim), x.ndim)))


@pytest.mark.parametrize("widths", [(1, 1), (1,) * 3, (1,) * 16, (1,) * 17, (3, 1), (2, 0, 5), (4,) * 8, (90, 1),
                                    (600, 7)], ids=str)
@pytest.mark.parametrize("dtype", [np.dtype(d) for d in ("bool", "float16", "float32", "int64", "complex128")], ids=str)
def test_narrow_parts(dtype: np.dtype, widths: tuple[int, ...]) -> None:
    """Parts that are side by side in rows of few cache lines, and of many."""
    draw = Draw(0)
    for rows in (1, 2, 5000):
        check("concatenate", [draw.array((rows, w), dtype) for w in widths], axis=1)
    check("concatenate", [draw.array((30, w, 2), dtype) for w in widths], axis=1)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "b"], ids=str)
def test_strided_scatter(dtype: np.dtype) -> None:
    draw = Draw(0)
    x, src = draw.array((40,), dtype), draw.array((3, 4), dtype)
    tolerance = 3e-2 if dtype.itemsize == 2 else 1e-3
    for strides in ((10, 2), (1, 3)):
        for accumulate in (False, True):
            check("as_strided_scatter", [x, src], tolerance, shape=(3, 4), strides=strides, offset=3,
                  accumulate=accumulate)
    if dtype.itemsize != 2:  # half sums over places that meet are left to NumPy
        check("as_strided_scatter", [x, src], shape=(3, 4), strides=(1, 2), offset=3, accumulate=True)


def test_update_in_place() -> None:
    draw = Draw(0)
    x, index, src = draw.array((50, 8), np.float32), draw.indices((20,), -50, 50), draw.array((20, 8), np.float32)
    node = node_of("put_add", [x, index, src], axis=0)
    want = meaning(node, [x, index, src])[0]
    got = run(node, [x, index, src], in_place=0)[0]
    assert got is x
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("name, index", [("take", [1, 5]), ("take", [-6]), ("gather", [1, -1]), ("gather", [5])])
def test_index_out_of_range(name: str, index: list[int]) -> None:
    arrays = [np.zeros(5, np.float32), np.array(index, np.int64)]
    with pytest.raises(IndexError, match="out of range"):
        run(node_of(name, arrays, axis=0), arrays)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind in "iu"], ids=str)
def test_common_divisors_and_multiples(dtype: np.dtype) -> None:
    """Of all magnitudes, with zeros and the smallest integer, whose magnitude is none of the type."""
    rng, info = np.random.default_rng(0), np.iinfo(dtype)
    x, y = (rng.integers(info.min, info.max, 3000, dtype, endpoint=True) for _ in range(2))
    x[:40], y[20:60], x[60:80], y[70:90] = info.min, info.min, 0, 0
    x[100:900], y[100:900] = rng.integers(1, 100, (2, 800))
    for name in ("gcd", "lcm"):
        check(name, [x, y])
        check(name, [x.reshape(60, 50).T, y.reshape(50, 60)])


def test_searchsorted() -> None:
    draw = Draw(0)
    edges, x = np.sort(draw.array((3, 17), np.float32, False), 1), draw.array((3, 50), np.float32)
    edges[:, 5] = edges[:, 6]
    x[:, 3], x[0, 7] = edges[:, 5], np.nan
    for right in (False, True):
        check("searchsorted", [edges, x], right=right)
        check("searchsorted", [edges[0].copy(), x], right=right)
        for n in (0, 1, 2, 16):
            check("searchsorted", [edges[:, :n], x], right=right)
        check("searchsorted", [edges[0].copy(), draw.array((3000,), np.float32)], right=right)


# --- random draws and running reductions -----------------------------------------------------------------------------

def test_draws() -> None:
    state = mt19937.seed(5)
    for count in (0, 1, 5, 623, 624, 625, 3000):
        check("mt19937", [state], count=count)
        _, state = mt19937.draw(state, count)


@pytest.mark.parametrize("used", [0, 1, 623])
def test_counts(used: int) -> None:
    """Poisson and binomial numbers and the state behind them, from any position of the twister: bit for bit."""
    draw = Draw(1)
    _, state = mt19937.draw(mt19937.seed(5), used)
    rates = np.concatenate([draw.rng.uniform(0.1, 3, 200), draw.rng.uniform(5, 300, 200), [0, -1, 1e6]])
    totals = np.concatenate([draw.rng.integers(0, 20, 200), draw.rng.integers(30, 1000, 200), [5, 5, 0, 9, np.nan]])
    chances = np.concatenate([draw.rng.uniform(0, 1, 400), [0, 1, 0.5, np.nan, 0.5]])
    for dtype in (np.float32, np.float64):
        for name, parameters in (("poisson_draws", [rates]), ("binomial_draws", [totals, chances])):
            arrays = [state, *[p.astype(dtype) for p in parameters]]
            node = node_of(name, arrays)
            for got, want in zip(run(node, arrays), meaning(node, arrays), strict=True):
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
def test_incomplete_gamma(name: str) -> None:
    """Every method, where one goes over into the other, and the ends."""
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.uniform(0, 3, 300), 10 ** rng.uniform(-6, 5, 600), rng.uniform(10, 300, 300)])
    near = np.abs(a + rng.normal(size=1200) * 0.4 * np.sqrt(a))
    x = np.where(np.arange(1200) % 2, near, 10 ** rng.uniform(-3, 1.5, 1200))
    ends = np.array([0.0, 1.0, np.inf, -1.0, np.nan, 3e38, 20.0])
    a, x = np.append(a, np.repeat(ends, 7)), np.append(x, np.tile(ends, 7))
    for dtype, tolerance in ((np.float32, 1.3e-7), (np.float64, 1e-12)):
        arrays = [v.astype(dtype) for v in (a, x)]
        node = node_of(name, arrays)
        (got,), (want,) = run(node, arrays), meaning(node, arrays)
        normal = np.isnan(want) | (want == 0) | (want > np.finfo(dtype).tiny)  # kernels have no denormals
        np.testing.assert_allclose(got[normal], want[normal], rtol=tolerance, atol=np.finfo(dtype).tiny)


def test_counts_and_places() -> None:
    rng = np.random.default_rng(0)
    for shape, size in (((5000,), 7), ((3, 400), 3), ((3, 40), 100), ((2, 0), 3), ((0,), 0)):
        for dtype in (np.int64, np.uint8):
            check("bincount", [rng.integers(0, max(size, 1), shape).astype(dtype)], size=size)
    for counts in ([3, 0, 2, 200], [], [0]):
        ends = np.cumsum(np.array(counts, np.int64))
        check("row_places", [rng.integers(0, 9, len(counts)), ends], total=sum(counts))


def test_shuffle() -> None:
    draw = Draw(0)
    for length in (0, 1, 2, 100):
        offsets = np.array([draw.rng.integers(0, length - i) for i in range(length - 1)], np.int64)
        check("shuffle", [offsets], length=length)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "b"], ids=str)
def test_running_reductions(dtype: np.dtype) -> None:
    draw = Draw(0)
    for shape in ((5,), (3, 4), (2, 3, 100), (0, 3), (3, 0)):
        for axis in range(len(shape)):
            x = np.abs(draw.array(shape, dtype)).astype(dtype)
            check("cumsum", [np.flip(x / 4 if dtype.kind in "fV" else x, axis)], 3e-2 if dtype.itemsize == 2 else 1e-3,
                  axis=axis)
            for name in ("cumsum", "cumprod"):
                check(name, [x / 4 if dtype.kind in "fV" else x], 3e-2 if dtype.itemsize == 2 else 1e-3, axis=axis)
            if x.size > 4 and dtype.kind == "f":
                x.flat[3] = np.nan
            for name in ("cummax", "cummin"):
                check(name, [x], axis=axis)


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64), dtypes.bfloat16.numpy], ids=str)
def test_logcumsumexp(dtype: np.dtype) -> None:
    draw = Draw(0)
    for shape in ((5,), (2, 300), (3, 140, 2), (0, 3), (3, 0)):
        for axis in range(len(shape)):
            x = (draw.array(shape, dtype).astype(np.float32) * 30).astype(dtype)
            check("logcumsumexp", [x], 2e-2 if dtype.itemsize == 2 else 1e-5, axis=axis)
            if x.size > 200:
                for end in (-np.inf, np.inf, np.nan):
                    y = x.copy()
                    y.flat[[0, 1, 2, 130]] = -np.inf, -np.inf, -300, end
                    check("logcumsumexp", [y], 2e-2 if dtype.itemsize == 2 else 1e-5, axis=axis)


@pytest.mark.parametrize("dtype,descending", [(d, i % 2 == 1) for i, d in enumerate(DTYPES) if d.name not in
                                              ("int32", "float16")], ids=str)
def test_sort(dtype: np.dtype, descending: bool) -> None:
    """Ties, signed zeros, NaN and infinities; rows for insertion and for both radices; parts of the order."""
    draw = Draw(3)
    for shape, axis in (((7,), 0), ((3, 40), 1), ((3, 41), 1), ((2, 700), 1), ((300, 3), 0), ((2, 50, 2), 1),
                        ((0, 3), 1), ((3, 0), 1), ((40_000,), 0)):
        x = draw.array(shape, dtype)
        if dtype.kind in "fV" and x.size > 50:
            x.flat[:50:5] = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 1, 1, -1, np.nan, 0], dtype)
        n = shape[axis]
        for part in {None, (0, n // 9), (n // 3, n // 3 + 1 if n else 0), (n // 2, n), (0, 0)}:
            node = node_of("sort", [x], axis=axis, descending=descending, part=part)
            for got, want in zip(run(node, [x]), meaning(node, [x]), strict=True):
                comparable = np.float64 if want.dtype.kind in "fV" else want.dtype
                np.testing.assert_array_equal(got.astype(comparable), want.astype(comparable))
        if n and axis == len(shape) - 1:
            check("nth", [x, draw.indices(shape[:axis], 0, n)], axis=axis)


@pytest.mark.parametrize("descending", [False, True])
def test_sort_of_long_rows(descending: bool) -> None:
    """Keys that differ in few bits, in all, in none, in the upper half only, and parts of their order."""
    rng = np.random.default_rng(0)
    n = 40_000
    rows = [rng.integers(-(1 << 63), (1 << 63) - 1, n), rng.integers(-5, 5, n), rng.integers(0, 1 << 12, n) << 40,
            np.full(n, 7), rng.integers(-(1 << 31), 1 << 31, n), rng.standard_normal(n),
            np.append(rng.standard_normal(n - 2), [np.nan, 1e-310]), rng.integers(0, 9, n) * 5e-324,
            rng.integers(-9, 9, n).astype(np.float32) * np.float32(1e-45), rng.integers(0, 1 << 11, n).astype(np.int32)]
    for x in rows:
        for part in (None, (17, 60), (n - 1, n), (n // 2, n)):
            check("sort", [x], 0, axis=0, descending=descending, part=part)
    check("sort", [np.stack(rows[:5])], 0, axis=1, descending=descending)
    check("nth", [np.stack(rows[:5]), rng.integers(0, n, 5)], 0, axis=1)
    check("nth", [np.stack(rows[5:8], 1), rng.integers(0, n, 3)], 0, axis=0)


def test_sort_of_subnormals() -> None:
    """They differ, also where arithmetic takes them for 0."""
    for dtype in (np.float64, np.float32, np.float16):
        least = float(np.finfo(dtype).smallest_subnormal)
        x = np.array([5, 3, -4, 0, 2, -1, 1] * 7, dtype) * dtype(least)
        for size in (7, 49):
            check("sort", [x[:size]], 0, axis=0, descending=False)
            check("sort", [x[:size]], 0, axis=0, descending=True, part=(0, 3))


# --- the interface ---------------------------------------------------------------------------------------------------

def test_sizes_are_arguments() -> None:
    """Another size is the same kernel."""
    def source(m: int, n: int) -> str:
        arrays = [np.zeros((m, 6), np.float32), np.zeros((6, n), np.float32)]
        return lower(node_of("matmul", arrays), arrays).calls[0].source  # type: ignore[union-attr]

    assert source(2, 3) == source(40, 50) == source(700, 900)


def test_no_kernel_for_complex_products() -> None:
    arrays = [np.zeros((2, 2), np.complex64)] * 2
    assert library.covers(node_of("matmul", arrays))
    assert lower(node_of("matmul", arrays), arrays) is None


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128], ids=["complex64", "complex128"])
def test_complex_numbers_are_moved(dtype: type) -> None:
    draw = Draw(0)
    x, y = (draw.array((3, 4), np.float64) + 1j * draw.array((3, 4), np.float64) for _ in range(2))
    x, y = x.astype(dtype), y.astype(dtype)
    check("concatenate", [x, y], axis=1)
    check("flip", [x], axes=(0, 1))
    check("take", [x, np.array([1, 0, -1])], axis=0)
    check("take", [x, np.array([1, 0, -1])], axis=1)
    check("gather", [x, np.array([[1, 0], [0, 1]])], axis=1)
    check("scatter", [x, np.array([[1, 0], [0, 1]]), y[:2, :2]], axis=1, mode="set")
    check("pad", [x, np.asarray(y[0, 0])], widths=((1, 0, 0), (0, 2, 0)))
    check("put", [x, np.array([1, 0]), y[:2]], axis=0)


def test_operand_layout() -> None:
    x = Operand(("in", 0), dtypes.float32, (2, 3, 4), (100, 4, 1), 5)
    assert x.has_contiguous(1) and not x.is_contiguous and x.arg == ("in", 0, 20)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_with_its_own_transpose(monkeypatch: pytest.MonkeyPatch, dtype: type) -> None:
    """Half of it is computed; the other half is its mirror image."""
    monkeypatch.setattr(jtorch.config.config, "eager_compile", "sync")
    draw = Draw(3)
    for shape in ((300, 1000), (131, 7000), (2, 2, 150, 3000)):
        array = draw.array(shape, dtype, False)
        expected = array.astype(np.float64) @ array.astype(np.float64).swapaxes(-1, -2)
        x = jtorch.tensor(array)
        rows = jtorch.tensor(np.ascontiguousarray(array.swapaxes(-1, -2)))
        for _ in range(3):
            for found in (x @ x.mT, rows.mT @ rows, 0.5 * (x @ x.mT) * 2):
                found = found.numpy()
                np.testing.assert_allclose(found, expected, rtol=1e-3 if dtype is np.float32 else 1e-10,
                                           atol=1e-4 * np.abs(expected).max() if dtype is np.float32 else 1e-10)
        assert (found == found.swapaxes(-1, -2)).all()
        other = x.clone()
        np.testing.assert_allclose((x @ other.mT).numpy(), found, rtol=1e-3, atol=1e-3)
