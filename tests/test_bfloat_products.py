"""Products of bfloat16 matrices against float64: exact products, sums in float32, one rounding at the end. On this
CPU, and as they are compiled for CPUs that have no instruction for them."""
from __future__ import annotations

import platform
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from library_runner import lower, make_node, run

import jtorch
from jtorch import dtypes
from jtorch.codegen.library.gemm_layout import DEPTH
from jtorch.ir.graph import Type
from jtorch.runtime import compile, kernels
from jtorch.runtime.loader import make_loader

BFLOAT = dtypes.bfloat16.numpy
LARGEST = float(np.array(0x7F7F, np.uint16).view(BFLOAT))
CPUS = ("host", "x86-64-v4", "x86-64-v3")


@pytest.fixture(params=CPUS)
def cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kernels are compiled for this CPU."""
    if request.param == "host":
        return "host"
    name, features = compile.host()
    if "x86" not in platform.machine() or request.param == "x86-64-v4" and "+avx512bw" not in features:
        pytest.skip(f"this CPU runs nothing that is compiled for {request.param}")
    monkeypatch.setattr(kernels, "load", partial(load, request.param))
    return str(request.param)


@lru_cache
def load(cpu: str, source: str, params: tuple[str, ...]) -> Any:
    code = compile.compile_kernel(source, params, cpu=cpu, features="+avx512f" if cpu == "x86-64-v4" else "")
    loader = make_loader()
    return SimpleNamespace(address=loader.add(code)[compile.entry_name(source, params)], loader=loader)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    node = make_node("matmul", [Type(dtypes.bfloat16, a.shape), Type(dtypes.bfloat16, b.shape)])
    return run(node, [a, b])[0].astype(np.float64)


def check(a: np.ndarray, b: np.ndarray) -> None:
    wide = a.astype(np.float64), b.astype(np.float64)
    exact, size = wide[0] @ wide[1], np.abs(wide[0]) @ np.abs(wide[1])
    bound = 2.0 ** -7.99 * np.abs(exact) + a.shape[-1] * 2.0 ** -24 * size  # half a unit of 8 digits, and the sums'
    assert (np.abs(product(a, b) - exact) <= bound).all()


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape).astype(np.float32).astype(BFLOAT))


def turned(x: np.ndarray) -> np.ndarray:
    """The same matrices, with contiguous columns."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def test_edges_of_tiles_and_odd_sums(cpu: str) -> None:
    rng = np.random.default_rng(0)
    for m, k, n in ((2, 1, 2), (7, 2, 15), (8, 3, 16), (9, 31, 17), (16, 33, 48), (17, 16, 49), (5, 70, 97)):
        a, b = normal(rng, m, k), normal(rng, k, n)
        for left in (a, turned(a)):
            for right in (b, turned(b)):
                check(left, right)
    check(normal(rng, 9, 60)[:, ::3], normal(rng, 20, 90)[:, ::-2])
    check(normal(rng, 9, 60)[::-1, 1:24], normal(rng, 50, 20).T[:, 1:].T[:23])
    check(normal(rng, 3, 9, 21), turned(normal(rng, 3, 21, 18)))
    check(normal(rng, 3, 9, 21), np.broadcast_to(normal(rng, 21, 18), (3, 21, 18)))


def test_a_product_with_its_own_transpose() -> None:
    """Half of it is computed; the other half is its mirror image."""
    rng = np.random.default_rng(3)
    for shape in ((300, 1001), (131, 7000), (2, 300, 1000)):
        for a in (normal(rng, *shape), turned(normal(rng, *shape))):
            check(a, a.swapaxes(-1, -2))


def test_sums_that_are_not_rounded() -> None:
    rng = np.random.default_rng(4)
    for half in (BFLOAT, np.dtype(np.float16)):
        for m, k, n in ((9, 33, 50), (300, 200, 1), (1, 200, 300), (3, 0, 2), (300, 1000, 300)):
            a = rng.standard_normal((m, k)).astype(half)
            b = a.T if m == n == 300 else rng.standard_normal((k, n)).astype(half)
            node = make_node("matmul", [Type(dtypes.from_numpy(half), x.shape) for x in (a, b)], wide=True)
            found = run(node, [a, b])[0]
            assert found.dtype == np.float32
            wide = a.astype(np.float64), b.astype(np.float64)
            assert (np.abs(found - wide[0] @ wide[1]) <= (k + 1) * 2.0 ** -24 * (abs(wide[0]) @ abs(wide[1]))).all()


@pytest.mark.parametrize("shape", [(7, 33, 50), (70, 65, 97), (1, 300, 40)])
def test_a_layer_of_bfloat16(shape: tuple[int, int, int]) -> None:
    """One rounding, with the bias; what follows a product finishes its blocks; gradients are products as well."""
    rng = np.random.default_rng(5)
    m, k, n = shape
    x, w, b, g = normal(rng, m, k), normal(rng, n, k), normal(rng, n), normal(rng, m, n)

    @jtorch.jit.trace
    def layer(x: Any, w: Any, b: Any, g: Any) -> Any:
        y = jtorch.nn.functional.linear(x, w, b).relu()
        return (y, *jtorch.autograd.grad(y, (x, w), g))

    def tensor(a: np.ndarray) -> Any:
        return jtorch.tensor(a.astype(np.float32)).bfloat16()
    operands = [tensor(a).requires_grad_() for a in (x, w, b)]
    xs, ws, bs, gs = (a.astype(np.float64) for a in (x, w, b, g))
    product, most = xs @ ws.T + bs, np.abs(xs) @ np.abs(ws.T) + np.abs(bs)
    bound = 2.0 ** -7.99 * np.abs(product) + 2.0 ** -24 * (k + 1) * most
    for _ in range(2):
        y, gx, gw = (v.detach().double().numpy() for v in layer(*operands, tensor(g)))
        assert (np.abs(y - np.maximum(product, 0)) <= bound).all()
        inner = np.where(y > 0, gs, 0)
        for found, left, right in ((gx, inner, ws), (gw, inner.T, xs)):
            exact, size = left @ right, np.abs(left) @ np.abs(right)
            assert (np.abs(found - exact) <= 2.0 ** -7.99 * np.abs(exact) + 2.0 ** -24 * len(right) * size).all()


def test_vectors() -> None:
    rng = np.random.default_rng(1)
    for a, b in ((normal(rng, 300, 201), normal(rng, 201, 1)), (normal(rng, 1, 201), normal(rng, 201, 300))):
        for right in (b, turned(b)):
            for left in (a, turned(a)):
                check(left, right)


def test_sums_in_parts() -> None:
    rng = np.random.default_rng(2)
    a, b = normal(rng, 11, 4 * DEPTH + 3), normal(rng, 4 * DEPTH + 3, 50)
    check(a, b)
    check(turned(a), turned(b))


def test_one_rounding(cpu: str) -> None:
    """Sums that bfloat16 cannot hold in between: 256 + 1 is 256, and 1 is lost."""
    a = np.ones((8, 513), BFLOAT)
    b = np.ones((513, 20), BFLOAT)
    a[:, 0], b[256:] = 256, -1
    assert (product(a, b) == 255 + 256 - 257).all()


def test_infinity_and_nan(cpu: str) -> None:
    """Where they are, and nowhere else: also in the last pair, which is half full where the sum is odd."""
    for k in (6, 7):
        a, b = np.ones((9, k), BFLOAT), np.ones((k, 20), BFLOAT)
        a[1, 0], a[2, k - 1], a[3, k - 1], b[k - 1, 5], b[0, 17] = np.inf, -np.inf, np.nan, np.nan, 0
        found = product(a, b)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(found, a.astype(np.float32) @ b.astype(np.float32))
        assert np.isnan(found[1, 17]) and np.isnan(found[0, 5]) and found[0, 4] == k
    large = np.full((2, 3), LARGEST, BFLOAT)
    assert np.isinf(product(large, large.T.copy())).all()


def test_denormals(cpu: str) -> None:
    """The instruction takes them for 0; elsewhere they are kept."""
    tiny = float(np.finfo(np.float32).tiny)
    a, b = np.full((2, 3), tiny / 2, BFLOAT), np.full((3, 2), 2.0, BFLOAT)
    kept = cpu != "host" or "+avx512bf16" not in compile.host()[1]
    assert (product(a, b) == (3 * tiny if kept else 0)).all()
    a[:] = tiny
    assert (product(a, b) == 6 * tiny).all()


def test_the_instruction_is_used() -> None:
    if "+avx512bf16" not in compile.host()[1]:
        pytest.skip("this CPU has no AVX512_BF16")
    a, b = np.zeros((8, 8), BFLOAT), np.zeros((8, 8), BFLOAT)
    low = lower(make_node("matmul", [Type(dtypes.bfloat16, (8, 8))] * 2), [a, b])
    assert low is not None
    call = low.calls[-1]
    text = compile.assembly(call.source, call.params)
    loop = text[text.index("vdpbf16ps") - 2000:]
    assert loop.count("vdpbf16ps") >= 8 * (1 + 2 + 3)
