"""Kernel text -> object code -> address, and the meaning of the names that kernels may use."""
import ctypes
import os
import re
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kernel_calls import call, elementwise, kinds, run

from jtorch.errors import CompileError
from jtorch.runtime import compile, compile_pool, kernels

X = np.array([0.0, -0.0, 1.5, -2.5, 2.5, np.inf, -np.inf, np.nan, 1e-40, 3e9], np.float32)


def same(got, expected):
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


def program(text: str, *args, **environment) -> str:
    """Output of a fresh Python process."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment}
    return subprocess.run([sys.executable, "-c", textwrap.dedent(text), *args], env=env, check=True, text=True,
                          capture_output=True, timeout=60).stdout


# ---------------------------------------------------------------- compiling

CHAIN = """\
def kernel(x, y, n0, begin, end, worker):
    for i in range(begin, end):
        a = x[i]
        b = a * f32(0.5) + f32(1.5)
        c = b * a - f32(0.25)
        y[i] = maximum(c, f32(0.0)) / (fabs(a) + f32(1.0))
"""


def test_object_code_is_a_function_of_the_text():
    params = ("p:float32", "p:float32", "i")
    code = compile.compile_kernel(CHAIN, params)
    assert code[:4] == b"\x7fELF"
    assert code == compile.compile_kernel(CHAIN, params)
    assert compile.compile_kernel(CHAIN, params, cpu="x86-64", features="") != code


def test_elementwise_loops_are_vectorised():
    kernel = kernels.load(CHAIN, ("p:float32", "p:float32", "i"))
    assert re.search(r"vdivps.*[yz]mm", kernels.asm(kernel))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sines_of_near_angles_do_without_the_table(dtype):
    source = "def kernel(x, y, begin, end, worker):\n    for i in range(begin, end):\n        y[i] = sin(x[i])\n"
    x = np.linspace(-9, 9, 1003).astype(dtype)
    x[[0, 17, 500, 1001]] = 1e30, -3e9, np.inf, np.nan  # far ones are right beside near ones, and in the loop's tail
    y = np.zeros_like(x)
    text = kernels.asm(kernels.load(source, kinds((x, y))))
    hot = [block for block in re.split(r"\.LBB\S+:", text) if re.search(r"vfmadd\w+.*[yz]mm", block)]
    assert hot and not any("gather" in block for block in hot) and "slow" in text
    run(source, x, y, end=x.size)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(y, np.sin(x), rtol=3e-7, atol=1e-12)


@pytest.mark.parametrize("statement", [
    "acc = reassoc_add(acc, x[r * n + i])",
    "acc = reassoc_add(acc, reassoc_mul(x[r * n + i], x[r * n + i]))",
    "acc = max_nan(acc, x[r * n + i])",
    "acc = max_number(acc, x[r * n + i])",
    "acc = reassoc_add(acc, exp(x[r * n + i]))",
])
def test_reductions_are_vectorised(statement):
    source = f"""\
def kernel(x, y, n, begin, end, worker):
    for r in range(begin, end):
        acc = f32(0.0)
        for i in range(n):
            {statement}
        y[r] = acc
"""
    assert re.search(r"(vaddps|vfmadd\w+|vmaxps).*[yz]mm", kernels.asm(
        kernels.load(source, ("p:float32", "p:float32", "i"))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prefetches_leave_loops_vectorised(dtype):
    source = """\
def kernel(x, y, n, begin, end, worker):
    for r in range(begin, end):
        for i in range(n):
            y[r * n + i] = exp(load_ahead(x[r * n + i], x, r * n + n, i))
"""
    x = np.linspace(-5, 5, 7 * 83, dtype=dtype)
    y = np.zeros_like(x)
    text = kernels.asm(kernels.load(source, kinds((x, y, 83))))
    vectorised = [block for block in re.split(r"\.LBB\S+:", text) if re.search(r"vmovup[sd].*[yz]mm", block)]
    assert any(re.search(r"\tprefetch", block) for block in vectorised)
    assert "jt.ahead" not in text
    run(source, x, y, 83, end=7)
    np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.int64])
def test_stores_past_the_caches_leave_loops_vectorised(dtype):
    source = """\
def kernel(x, y, n, begin, end, worker):
    past = i32(0)
    for r in range(begin, end):
        for i in range(n):
            past = past | store_past(x[r * n + i] + x[r * n + i], y, r * n, i)
    drain(past)
"""
    for n in (64, 83):  # of all rows some are aligned, and of some none but the first
        x = np.arange(9 * n).astype(dtype)
        memory = np.zeros(x.nbytes + 128, np.uint8)
        for offset in (0, x.itemsize):
            start = -memory.ctypes.data % 64 + offset
            y = memory[start:start + x.nbytes].view(dtype)
            run(source, x, y, n, end=9)
            np.testing.assert_array_equal(y, x + x)
    text = kernels.asm(kernels.load(source, kinds((x, y, 83))))
    assert re.search(r"vmovnt\w+\s+%[yz]mm", text) and "sfence" in text and "jt.past" not in text


@pytest.mark.parametrize("text", ["maximum(x, f32(0))", "maximum(f32(0.0), x)", "minimum(x, f32(0))",
                                  "minimum(f32(0), x)"])
def test_extrema_with_a_constant_are_one_instruction(text):
    """NaN wins, and of two zeros the one that is not the constant, as in torch.clamp."""
    wins = np.greater if "maximum" in text else np.less
    same(elementwise(text, np.float32, X), np.where(wins(np.float32(0), X), np.float32(0), X))
    source = ("def kernel(p, q, begin, end, worker):\n    for i in range(begin, end):\n"
              f"        x = p[i]\n        q[i] = {text}\n")
    asm = kernels.asm(kernels.load(source, kinds((X, X))))
    assert re.search(r"v(max|min)ps.*[yz]mm", asm) and "vcmp" not in asm


def test_all_kinds_of_parameters():
    source = """\
def kernel(a, b, c, n, f, begin, end, worker):
    for i in range(begin, end):
        a[i] = b[i] + u8(n)
        c[i] = f32(f) * c[i] + f32(worker)
"""
    a, b, c = np.zeros(5, np.uint8), np.arange(5, dtype=np.uint8), np.arange(5, dtype=np.float32)
    kernel = kernels.load(source, ("p:uint8", "p:uint8", "p:float32", "i", "f"))
    call(kernel.address, a, b, c, 250, 0.5, begin=1, end=5, worker=3)
    assert a.tolist() == [0, 251, 252, 253, 254]
    assert c.tolist() == [0, 3.5, 4, 4.5, 5]


def test_loops():
    source = """\
def kernel(out, n, begin, end, worker):
    k = 0
    for i in range(n):
        for j in range(i, n, 2):
            if j == 3:
                continue
            k = k + i * 10 + j
    for i in range(n - 1, -1, -1):
        k = k * 3 + i
    while k > 1000:
        k = k // 2
    out[0] = k
"""
    out = np.zeros(1, np.int64)
    run(source, out, 5, end=1)
    k = sum(i * 10 + j for i in range(5) for j in range(i, 5, 2) if j != 3)
    for i in range(4, -1, -1):
        k = k * 3 + i
    while k > 1000:
        k //= 2
    assert out[0] == k


def test_an_output_may_be_an_input():
    x = np.arange(100, dtype=np.float32)
    run("def kernel(x, y, begin, end, worker):\n    for i in range(begin, end):\n        y[i] = x[i] * x[i] + x[i]\n",
        x, x, end=100)
    np.testing.assert_array_equal(x, np.arange(100) ** 2 + np.arange(100))


def test_augmented_assignment_and_builtins():
    source = """\
def kernel(out, x, begin, end, worker):
    total = 0
    for i in range(begin, end):
        total += max(abs(x[i]), i32(3)) * i32(2)
        total -= min(int(x[i]), 1)
    out[0] = total
    out[0] //= 2
"""
    x, out = np.array([-5, 2, 7], np.int32), np.zeros(1, np.int64)
    run(source, out, x, end=3)
    assert out[0] == (10 + 6 + 14 + 5 - 1 - 1) // 2


CONTROL = """\
def kernel(x, y, n, begin, end, worker):
    last = 0
    for i in range(begin, end):
        a = x[i]
        if i > begin:
            y[i] = before
        before = a * 2
        low = high = -3
        high = 2 ** 3 - 1
        found = n
        for j in range(n - 1, -1, -1):
            if j == a or not (j < a and a < high):
                continue
            k = j
            while True:
                k += 2
                if low < k <= 9 and k % 3 == 0:
                    break
                if k > 20:
                    k = k - 1 if a > 2 else k - (5 if a < 0 else 7)
                    break
                y[i] -= k
            found = k
            if found > 12:
                break
        else_ = found > a or a < 0
        y[i] += found + (10 if else_ and not a == 1 else 0) + (a > 0) + last
        if else_:
            last = i
        elif 0 < a < 3 < n:
            last = -i
"""


def test_control_flow_is_pythons():
    x = np.array([3, -1, 0, 5, 1, 2, 7, 8, 2, 4, 6])
    got, expected = np.zeros_like(x), np.zeros_like(x)
    run(CONTROL, x, got, 6, end=len(x))
    scope = {}
    exec(CONTROL, scope)
    scope["kernel"](x, expected, 6, 0, len(x), 0)
    same(got, expected)


def test_what_is_not_in_the_language_is_refused():
    for statement, message in [("a = (1, 2)", "cannot contain Tuple: line 3"), ("x.a = 1", "assign to Attribute"),
                               ("a = unknown(1)", "name 'unknown' is not defined"),
                               ("a = exp(1.0)\n    exp = a", "exp is a function, and then a variable: line 4"),
                               ("for a in x: pass", "only loop over range\\(\\): line 3"),
                               ("try: pass\n    finally: pass", "cannot contain Try: line 3")]:
        with pytest.raises(CompileError, match=message):
            kernels.load(f"def kernel(x, begin, end, worker):\n    a = 0\n    {statement}\n", ("p:float32",))


def test_conditions():
    np.testing.assert_array_equal(
        elementwise("x if x > f32(0.0) and not (x > f32(2.0) or isnan(x)) else f32(7.0)", np.float32, X),
        np.where((X > 0) & ~(X > 2), X, 7))
    np.testing.assert_array_equal(elementwise("(x < f32(1.0)) | isinf(x)", np.bool_, X), (X < 1) | np.isinf(X))


def test_errors_carry_the_source():
    for source in ("def kernel(x, begin, end, worker):\n    x[0] = nonsense(x[0])\n", "def kernel(:"):
        with pytest.raises(CompileError) as caught:
            kernels.load(source, ("p:float32",))
        assert caught.value.source == source
        with pytest.raises(CompileError) as caught:
            kernels.request(source, ("p:float32",)).result()
        assert caught.value.source == source


# ---------------------------------------------------------------- numbers

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_functions(dtype):
    x = X.astype(dtype)
    for name, reference in {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint, "fabs": np.abs,
                            "-": np.negative}.items():
        same(elementwise(f"{name}(x)", dtype, x), reference(x))
    a, b = (m.ravel().copy() for m in np.meshgrid(x, x))
    with np.errstate(all="ignore"):
        same(elementwise("copysign(x, y)", dtype, a, b), np.copysign(a, b))
        for name in ("maximum", "minimum", "fmax", "fmin"):
            np.testing.assert_array_equal(elementwise(f"{name}(x, y)", dtype, a, b), getattr(np, name)(a, b))
        np.testing.assert_array_equal(elementwise("x % y", dtype, a, b)[np.isfinite(b)],
                                      np.remainder(a, b)[np.isfinite(b)])
        np.testing.assert_array_equal(elementwise("fmod(x, y)", dtype, a, b), np.fmod(a, b))
        np.testing.assert_array_equal(elementwise("isfinite(x)", np.bool_, a), np.isfinite(a))
        np.testing.assert_array_equal(elementwise("signbit(x)", np.bool_, a), np.signbit(a))


def test_float_floor_divide():
    a, b = (m.ravel().copy() for m in np.meshgrid(np.linspace(-7, 7, 29), [-2.0, -0.3, 0.1, 0.7, 3.0]))
    np.testing.assert_array_equal(elementwise("x // y", np.float64, a, b), np.floor_divide(a, b))


def test_literals_and_functions_do_not_widen():
    source = """\
def kernel(x, begin, end, worker):
    for i in range(begin, end):
        x[i] = sigmoid(x[i]) * f32(0.1)
"""
    assert not re.search(r"\bv\w+pd\b", kernels.asm(kernels.load(source, ("p:float32",))))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64])
def test_integer_division(dtype):
    info = np.iinfo(dtype)
    values = np.array([info.min, info.min + 1, 0, 1, 2, 3, 7, info.max - 1, info.max], dtype)
    if info.min < 0:
        values = np.concatenate([values, np.array([-1, -2, -3, -7], dtype)])
    a, b = (m.ravel().copy() for m in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(elementwise("x // y", dtype, a, b), np.floor_divide(a, b))
        np.testing.assert_array_equal(elementwise("x % y", dtype, a, b), np.remainder(a, b))
        np.testing.assert_array_equal(elementwise("fmod(x, y)", dtype, a, b), np.fmod(a, b))
    fits = b != 0
    truncated = [abs(int(p)) // abs(int(q)) * (1 if (p < 0) == (q < 0) else -1) % 2**64
                 for p, q in zip(a[fits], b[fits], strict=True)]
    np.testing.assert_array_equal(elementwise("trunc_divide(x, y)", dtype, a, b)[fits],
                                  np.array(truncated, np.uint64).astype(dtype))


def test_integer_division_near_multiples():
    """Quotients of 64 bits go through float64, which does not hold all of them."""
    draw = np.random.default_rng(0)
    n = 20_000
    b = (draw.integers(1, 2**63, n, dtype=np.uint64) >> draw.integers(0, 63, n, dtype=np.uint64)).astype(np.int64) | 1
    many = draw.integers(0, 2**63 // b.astype(np.uint64), n, dtype=np.uint64).astype(np.int64)
    a = b * many + draw.integers(-2, 3, n)
    a, b = a * draw.choice([-1, 1], n), b * draw.choice([-1, 1], n)
    for text, of in (("x // y", np.floor_divide), ("x % y", np.remainder), ("fmod(x, y)", np.fmod)):
        np.testing.assert_array_equal(elementwise(text, np.int64, a, b), of(a, b))


def test_fmod_of_far_quotients():
    a, b = (np.random.default_rng(i).integers(1 << 23, 255 << 23, 20_000, np.int32).view(np.float32) for i in (1, 2))
    expected = np.fmod(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    normal = (expected == 0) | (np.abs(expected) > np.finfo(np.float32).tiny)  # the others are zeros in kernels
    np.testing.assert_array_equal(elementwise("fmod(x, y)", np.float32, a, b)[normal], expected[normal])
    wanted = np.sin(expected[:9].astype(np.float64))
    np.testing.assert_allclose(elementwise("sin(fmod(x, y))", np.float32, a[:9], b[:9]), wanted, 1e-6, 1e-37)


def test_shifts_and_powers():
    a, b = (m.ravel().copy() for m in np.meshgrid(np.array([1, -8, 77, -1], np.int32),
                                                  np.array([0, 1, 31, 32, 40, -1], np.int32)))
    inside = (b >= 0) & (b < 32)
    np.testing.assert_array_equal(elementwise("x << y", np.int32, a, b), np.where(inside, a << (b & 31), 0))
    np.testing.assert_array_equal(elementwise("x >> y", np.int32, a, b), np.where(inside, a >> (b & 31), a >> 31))
    a, b = (m.ravel().copy() for m in np.meshgrid(np.array([0, 1, -1, 2, -3, 7]), np.array([0, 1, 2, 5, 30])))
    np.testing.assert_array_equal(elementwise("x ** y", np.int64, a, b), a**b)
    np.testing.assert_array_equal(elementwise("x ** -y", np.int64, a, b)[b > 0],
                                  np.select([a == 1, a == -1], [1, (-1)**b], 0)[b > 0])


def test_conversions():
    x = np.array([-3.7, 0.0, 2.5, 300.9, 70000.2], np.float32)
    wide = x.astype(np.int64)
    for short, dtype in {"i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "u8": np.uint8}.items():
        np.testing.assert_array_equal(elementwise(f"{short}(x)", dtype, x), wide.astype(dtype))
    np.testing.assert_array_equal(elementwise("b8(x)", np.bool_, x), x != 0)
    big = np.array([1.0, 2.0**63, 1.5 * 2.0**63])
    np.testing.assert_array_equal(elementwise("u64(x)", np.uint64, big), big.astype(np.uint64))
    np.testing.assert_array_equal(elementwise("bits_to_float(float_to_bits(x) ^ i32(-2147483648))", np.float32, x), -x)


def test_half_precision():
    every = np.arange(65536, dtype=np.uint16)
    widened = elementwise("f16_to_f32(x)", np.float32, every)
    np.testing.assert_array_equal(widened, every.view(np.float16).astype(np.float32))
    rng = np.random.default_rng(0)
    x = np.concatenate([widened, rng.normal(size=9999) * 10.0 ** rng.uniform(-12, 12, 9999)]).astype(np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(elementwise("f32_to_f16(x)", np.uint16, x).view(np.float16), x.astype(np.float16))
    ml_dtypes = pytest.importorskip("ml_dtypes")
    np.testing.assert_array_equal(elementwise("bf16_to_f32(x)", np.float32, every),
                                  every.view(ml_dtypes.bfloat16).astype(np.float32))
    np.testing.assert_array_equal(elementwise("f32_to_bf16(x)", np.uint16, x).view(ml_dtypes.bfloat16).astype("f"),
                                  x.astype(ml_dtypes.bfloat16).astype("f"))


# ---------------------------------------------------------------- addresses

def test_kernel_calls_kernel_by_address():
    inner = kernels.load("def kernel(x, k, begin, end, worker):\n    for i in range(begin, end):\n"
                         "        x[i] = x[i] + f32(k + worker)\n", ("p:float32", "i"))
    outer = """\
def kernel(x, table, fn, begin, end, worker):
    table[0] = addr_of(x, 2)
    table[1] = 40
    call_kernel(fn, addr_of(table, 0), begin, end, 2)
"""
    x, table = np.zeros(6, np.float32), np.zeros(2, np.int64)
    run(outer, x, table, inner.address, end=3)
    assert x.tolist() == [0, 0, 42, 42, 42, 0]


@pytest.mark.parametrize(("dtype", "name", "real"), [(np.float32, "call_gemm_f32", ctypes.c_float),
                                                     (np.float64, "call_gemm_f64", ctypes.c_double)])
def test_gemm_by_address(dtype, name, real):
    i, p = ctypes.c_int, ctypes.c_void_p

    @ctypes.CFUNCTYPE(None, i, i, i, i, i, i, real, p, i, p, i, real, p, i)
    def cblas(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        seen.extend([order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc])

    seen, a = [], np.zeros(8, dtype)
    at = a.ctypes.data
    run(f"def kernel(a, fn, begin, end, worker):\n"
        f"    {name}(fn, 0, 1, 2, 3, 4, 0.5, addr_of(a, 0), 5, addr_of(a, 1), 6, 2.0, addr_of(a, 2), 7)\n",
        a, ctypes.cast(cblas, p).value, end=1)
    assert seen == [101, 111, 112, 2, 3, 4, 0.5, at, 5, at + a.itemsize, 6, 2.0, at + 2 * a.itemsize, 7]


def test_store_error_keeps_the_first():
    error = np.zeros(1, np.int64)
    source = "def kernel(e, begin, end, worker):\n    for i in range(begin, end):\n        store_error(e, i)\n"
    run(source, error, begin=3, end=9)
    assert error[0] == 3


# ---------------------------------------------------------------- processes

def text(k):
    return f"def kernel(x, begin, end, worker):\n    for i in range(begin, end):\n        x[i] = x[i] + f32({k}.0)\n"


def test_many_kernels_and_background(tmp_path):
    many = [(text(k), ("p:float32",)) for k in range(20)]
    loaded = kernels.load_many(many + many[:1])
    assert loaded[0] is loaded[-1] and len({k.address for k in loaded}) == 20
    x = np.zeros(4, np.float32)
    for kernel in loaded[:20]:
        call(kernel.address, x, end=4)
    assert x.tolist() == [190.0] * 4
    handle = kernels.request(text("1e3 + 77"), ("p:float32",))
    assert handle.result() is kernels.load(text("1e3 + 77"), ("p:float32",))
    assert handle.ready()


def test_a_dead_compile_process_is_reported_and_replaced():
    pool = compile_pool.pool()
    assert pool.submit(compile.compile_kernel, text("1e4 + 1"), ("p:float32",)).result()
    for worker in pool.workers:
        if worker.process is not None:
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
    assert pool.submit(compile.compile_kernel, text("1e4 + 2"), ("p:float32",)).result()


def test_the_users_process_does_not_import_the_compilers(tmp_path):
    use = """
        import sys
        from jtorch.runtime import compile_pool, kernels, native
        native.load()
        kernels.load("def kernel(x, begin, end, worker):\\n    x[begin] = asinh(x[end])\\n", ("p:float32",))
        print(len(compile_pool.pool().workers), *{"numba", "llvmlite"} & set(sys.modules))
    """
    environment = {"JTORCH_CACHE_DIR": str(tmp_path)}
    assert program(use, **environment).split() == ["1"]
    assert program(use, **environment).split() == ["0"]


def test_without_processes_kernels_are_compiled_here(tmp_path):
    use = """
        import sys
        from jtorch.runtime import kernels
        sys.executable = "/nowhere"
        kernels.load("def kernel(x, begin, end, worker):\\n    x[begin] = asinh(x[end])\\n", ("p:float32",))
        print("numba" in sys.modules)
    """
    assert program(use, JTORCH_CACHE_DIR=str(tmp_path)).split() == ["True"]


def test_an_idle_compile_process_leaves_and_another_comes(monkeypatch):
    pool = compile_pool.CompilePool()
    monkeypatch.setenv("JTORCH_COMPILE_IDLE", "0.1")
    assert pool.submit(compile.compile_kernel, text("1e4 + 3"), ("p:float32",)).result()
    pool.workers[0].process.wait(60)
    assert pool.submit(compile.compile_kernel, text("1e4 + 4"), ("p:float32",)).result()


def test_fork_keeps_kernels_and_compiles_more():
    use = """
        import os, sys
        from jtorch.runtime import kernels
        text = "def kernel(x, begin, end, worker):\\n    x[0] = f32({})\\n"
        kernels.request(text.format(1), ("p:float32",)).result()
        child = os.fork()
        if child == 0:
            kernels.request(text.format(2), ("p:float32",)).result()
            kernels.load(text.format(3), ("p:float32",))
            os._exit(0)
        print(os.waitpid(child, 0)[1])
    """
    assert program(use, JTORCH_CACHE_DIR="").split() == ["0"]


def test_threads_share_kernels():
    """Threads that ask for the same and for different kernels get one object per text."""
    with ThreadPoolExecutor(8) as threads:
        keys = [(text(f"2e3 + {k % 6}"), ("p:float32",)) for k in range(48)]
        loaded = list(threads.map(lambda key: kernels.load(*key), keys))
    assert len({id(k) for k in loaded}) == 6
