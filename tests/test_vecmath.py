"""The vector math library against mpmath: errors in ulp over the whole range, and the special values."""
import platform
import re

import mpmath
import numpy as np
import pytest
from kernel_calls import call, elementwise, kinds, run

from jtorch.codegen import vecmath, vecmath_wide
from jtorch.runtime import compile, kernels
from jtorch.runtime.loader import make_loader

SAMPLES = 400
REFERENCE = {
    "exp": mpmath.exp, "exp2": lambda x: mpmath.power(2, x), "expm1": mpmath.expm1, "log": mpmath.log,
    "log2": lambda x: mpmath.log(x, 2), "log10": mpmath.log10, "log1p": mpmath.log1p, "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "erf": mpmath.erf, "erfc": mpmath.erfc, "sin": mpmath.sin,
    "cos": mpmath.cos, "tan": mpmath.tan, "pow": mpmath.power, "erfinv": mpmath.erfinv, "digamma": mpmath.digamma,
    "sinh": mpmath.sinh, "cosh": mpmath.cosh, "atan": mpmath.atan, "asin": mpmath.asin,
    "acos": mpmath.acos, "asinh": mpmath.asinh, "acosh": mpmath.acosh, "atanh": mpmath.atanh,
    "lgamma": lambda x: mpmath.loggamma(x).real,
}
SATURATES = {"exp", "exp2", "expm1", "sigmoid", "tanh", "erf", "erfc", "sinh", "cosh"}  # constant beyond +-2000
FINITE = {"exp": 104, "exp2": 150, "expm1": 89, "tanh": 20, "sigmoid": 104, "erf": 6, "erfc": 10.5,
          "sinh": 90, "cosh": 90}
LIMITS = {"pow": 4, "digamma": 8, "lgamma": 8}
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def ulps(got, exact, dtype, least=0) -> np.ndarray:
    """Errors in units of the last place of the exact value (or of `least`, if that is more)."""
    info = np.finfo(dtype)
    lowest = info.minexp - info.nmant
    errors = []
    for g, e in zip(got.astype(float), exact, strict=True):
        if abs(e) > float(info.max) * (1 + 2.0**-info.nmant):
            errors.append(0 if np.isinf(g) and (g > 0) == (e > 0) else np.inf)
        elif np.isfinite(g):
            place = max(mpmath.frexp(max(abs(e), least))[1] - info.nmant - 1, lowest)
            errors.append(float(abs(mpmath.mpf(g) - e) / mpmath.mpf(2)**place))
        else:
            errors.append(0 if abs(e) > float(info.max) * (1 - 2.0**-info.nmant) else np.inf)
    return np.array(errors)


def arguments(name, dtype, rng) -> np.ndarray:
    """Log-uniform over all floats, uniform where the function moves, and around 1."""
    info = np.finfo(dtype)
    exponent = rng.uniform(info.minexp - info.nmant, info.maxexp - 0.01, SAMPLES)
    reach = FINITE.get(name, 100) * (1 if dtype == np.float32 or name in ("erf", "tanh") else
                                     2.7 if name == "erfc" else 7.1)
    sign = rng.choice([-1, 1], SAMPLES)
    x = np.concatenate([sign * np.exp2(exponent), rng.uniform(-reach, reach, SAMPLES),
                        sign * rng.uniform(0.5, 2, SAMPLES)])
    if name in ("log", "log2", "log10"):
        x = np.abs(x)
    if name == "log1p":
        x = np.concatenate([x[x > -1], rng.uniform(-1, 1, SAMPLES)])
    if name == "erfinv":
        x = np.concatenate([np.copysign(np.exp2(-np.abs(exponent)), sign), rng.uniform(-1, 1, SAMPLES)])
        x = x[np.abs(x.astype(dtype)) < 1]
    if name in ("asin", "acos", "atanh"):
        x = np.concatenate([np.copysign(np.exp2(-np.abs(exponent)), sign), rng.uniform(-1, 1, SAMPLES)])
        x = x[np.abs(x.astype(dtype)) < 1]
    if name == "acosh":
        x = np.abs(x) + 1
    if name in ("digamma", "lgamma"):
        x = np.abs(x)
    return x.astype(dtype)


@FLOATS
@pytest.mark.parametrize("name", [n for n, arity in vecmath.ARITY.items() if arity == 1])
def test_accuracy(name, dtype, record_property):
    x = arguments(name, dtype, np.random.default_rng(1))
    got = elementwise(f"{name}(x)", dtype, x)
    with mpmath.workprec(1200 if name in ("sin", "cos", "tan") else 180):
        exact = [REFERENCE[name](mpmath.mpf(float(np.clip(v, -2000, 2000) if name in SATURATES else v))) for v in x]
        errors = ulps(got, exact, dtype, least=name in ("digamma", "lgamma"))
    worst = errors.argmax()
    record_property("max_ulp", float(errors[worst]))
    print(f"{name} {dtype.__name__}: {errors[worst]:.2f} ulp at {x[worst]!r}")
    assert errors[worst] <= LIMITS.get(name, 2), f"{name}({x[worst]!r}) = {got[worst]!r}"


@pytest.mark.parametrize("name", [n for n, arity in vecmath.ARITY.items() if arity == 1])
def test_float32_over_its_range(name):
    """Every 1999th float32, of both signs, against the float64 function."""
    x = np.arange(0, 2**32, 1999, dtype=np.uint64).astype(np.uint32).view(np.float32)
    got = elementwise(f"{name}(x)", np.float32, x)
    with np.errstate(over="ignore", invalid="ignore"):  # signalling NaN
        exact = elementwise(f"{name}(x)", np.float64, x.astype(np.float64))
        rounded = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(rounded))
    finite = np.isfinite(rounded)
    places = np.maximum(np.spacing(np.abs(rounded[finite])).astype(np.float64), 2.0**-149)
    assert (np.abs(got[finite].astype(np.float64) - exact[finite]) / places).max() <= 2


TABLES = list(vecmath_wide.FUNCTIONS)


@pytest.mark.parametrize("name", TABLES)
def test_same_bits_in_every_lane(name):
    """Whether an element is in a vector, in a shorter one or in the rest of a loop is not to be seen in its value."""
    x = arguments(name, np.float32, np.random.default_rng(5))
    whole = elementwise(f"{name}(x)", np.float32, x)
    for start, n in [(0, 1), (3, 7), (5, 8), (1, 23), (2, 77), (11, len(x) - 11)]:
        part = elementwise(f"{name}(x)", np.float32, x[start:start + n].copy())
        np.testing.assert_array_equal(part.view(np.int32), whole[start:start + n].view(np.int32))
    beside = np.empty(len(x), np.float64)  # a loop of fewer lanes
    run(f"def kernel(x, y, begin, end, worker):\n    for i in range(begin, end):\n        y[i] = f64({name}(x[i]))\n",
        x, beside, end=len(x))
    np.testing.assert_array_equal(beside, whole.astype(np.float64))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="it names an x86-64 processor")
@pytest.mark.parametrize("name", TABLES)
def test_without_wide_vectors(name):
    """The formulas for processors without AVX-512."""
    source = f"def kernel(x, y, begin, end, worker):\n    for i in range(begin, end):\n        y[i] = {name}(x[i])\n"
    params = ("p:float32", "p:float32")
    code = compile.compile_kernel(source, params, cpu="x86-64-v3", features="")
    x = arguments(name, np.float32, np.random.default_rng(6))
    got = np.empty_like(x)
    loader = make_loader()  # holds the code
    call(loader.add(code)[compile.entry_name(source, params)], x, got, end=len(x))
    exact = [REFERENCE[name](mpmath.mpf(float(np.clip(v, -2000, 2000)))) for v in x]
    assert ulps(got, exact, np.float32).max() <= 2


@FLOATS
def test_pow_accuracy(dtype):
    rng = np.random.default_rng(2)
    info = np.finfo(dtype)
    x = np.concatenate([np.exp2(rng.uniform(info.minexp - info.nmant, info.maxexp - 0.01, SAMPLES)),
                        rng.uniform(0.5, 2, SAMPLES)]).astype(dtype)
    x[x == 1] = 2
    y = (rng.uniform(-1.05, 1.05, x.size) * info.maxexp / np.log2(x.astype(float))).astype(dtype)
    got = elementwise("pow(x, y)", dtype, x, y)
    with mpmath.workprec(200):
        errors = ulps(got, [mpmath.power(float(a), float(b)) for a, b in zip(x, y, strict=True)], dtype)
    print(f"pow {dtype.__name__}: {errors.max():.2f} ulp")
    assert errors.max() <= LIMITS["pow"], (x[errors.argmax()], y[errors.argmax()])


@FLOATS
def test_angles_of_points(dtype):
    rng = np.random.default_rng(3)
    x, y = (np.concatenate([rng.standard_normal(SAMPLES), rng.choice([-1, 1], SAMPLES) * np.exp2(
        rng.uniform(-120, 120, SAMPLES))]).astype(dtype) for _ in range(2))
    got = elementwise("atan2(x, y)", dtype, x, y)
    with mpmath.workprec(200):
        exact = [mpmath.atan2(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    assert ulps(got, exact, dtype).max() <= 2
    ends = np.array([0.0, -0.0, np.inf, -np.inf, 1.0, -1.0, np.nan], dtype)
    y, x = (v.ravel() for v in np.meshgrid(ends, ends))
    got, exact = elementwise("atan2(x, y)", dtype, y, x), np.arctan2(y, x)
    np.testing.assert_allclose(got, exact, rtol=2 * np.finfo(dtype).eps)
    number = ~np.isnan(exact)
    np.testing.assert_array_equal(np.signbit(got)[number], np.signbit(exact)[number])


@FLOATS
@pytest.mark.parametrize("name,function", [("fmod", np.fmod), ("remainder", np.remainder), ("nextafter", np.nextafter)])
def test_exact_functions(name, function, dtype):
    """Equal to NumPy's in every bit, quotients of all sizes and the special values included."""
    rng = np.random.default_rng(4)
    info = np.finfo(dtype)
    numbers = np.exp2(rng.uniform(info.minexp, info.maxexp - 0.01, 4000)) * rng.choice([-1, 1], 4000)
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 3.0, info.max, info.tiny, -info.tiny]
    x = np.concatenate([numbers, rng.integers(-50, 50, 4000), np.repeat(ends, len(ends))]).astype(dtype)
    y = np.concatenate([rng.permutation(numbers), rng.integers(-50, 50, 4000), np.tile(ends, len(ends))]).astype(dtype)
    got = elementwise(f"{name}(x, y)", dtype, x, y)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, function(x, y))


@FLOATS
def test_huge_and_critical_angles(dtype):
    """Neighbours of multiples of pi/2, where nearly all digits cancel; the worst double of all (Kahan, Muller)."""
    x = np.array([6381956970095103.0 * 2.0**797, 5.319372648326541e255, 1e22, 2.0**100, np.pi]
                 + [k * np.pi / 2 for k in (1, 2, 3, 1000, 2**20 + 1, 2**50 + 1)])
    x = x[x < float(np.finfo(dtype).max)].astype(dtype)
    for name in ("sin", "cos", "tan"):
        got = elementwise(f"{name}(x)", dtype, x)
        with mpmath.workprec(1200):
            assert ulps(got, [REFERENCE[name](mpmath.mpf(float(v))) for v in x], dtype).max() <= 2


@FLOATS
def test_special_values(dtype):
    info = np.finfo(dtype)
    inf, nan, tiny = np.inf, np.nan, info.smallest_subnormal
    table = {
        "exp": [(0, 1), (-0.0, 1), (inf, inf), (-inf, 0), (info.max, inf), (tiny, 1)],
        "exp2": [(0, 1), (inf, inf), (-inf, 0), (10, 1024), (-1, 0.5)],
        "expm1": [(0, 0), (-0.0, -0.0), (inf, inf), (-inf, -1), (tiny, tiny), (-100, -1)],
        "log": [(0, -inf), (-0.0, -inf), (1, 0), (inf, inf), (-1, nan), (-inf, nan)],
        "log2": [(0, -inf), (1, 0), (inf, inf), (-1, nan), (8, 3), (0.25, -2)],
        "log10": [(0, -inf), (1, 0), (inf, inf), (-1, nan), (1000, 3)],
        "log1p": [(0, 0), (-0.0, -0.0), (-1, -inf), (inf, inf), (-2, nan), (tiny, tiny)],
        "tanh": [(0, 0), (-0.0, -0.0), (inf, 1), (-inf, -1), (1000, 1), (tiny, tiny), (-tiny, -tiny)],
        "sigmoid": [(0, 0.5), (inf, 1), (-inf, 0), (info.max, 1)],
        "erf": [(0, 0), (-0.0, -0.0), (inf, 1), (-inf, -1), (1000, 1)],
        "erfc": [(0, 1), (-0.0, 1), (inf, 0), (-inf, 2), (1000, 0), (-1000, 2)],
        "sin": [(0, 0), (-0.0, -0.0), (inf, nan), (-inf, nan), (tiny, tiny)],
        "cos": [(0, 1), (-0.0, 1), (inf, nan), (tiny, 1)],
        "tan": [(0, 0), (-0.0, -0.0), (inf, nan), (tiny, tiny)],
        "sinh": [(0, 0), (-0.0, -0.0), (inf, inf), (-inf, -inf), (tiny, tiny)],
        "cosh": [(0, 1), (inf, inf), (-inf, inf), (tiny, 1)],
        "atan": [(0, 0), (-0.0, -0.0), (inf, np.pi / 2), (-inf, -np.pi / 2), (tiny, tiny)],
        "erfinv": [(0, 0), (-0.0, -0.0), (1, inf), (-1, -inf), (1.5, nan), (-2, nan)],
        "digamma": [(0, -inf), (-1, nan), (inf, inf)],
    }
    for name, pairs in table.items():
        x, expected = np.array([*pairs, (nan, nan)], dtype).T.copy()
        got = elementwise(f"{name}(x)", dtype, x)
        np.testing.assert_array_equal(got, expected, name)
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(expected[known]), name)


@FLOATS
def test_pow_special_values(dtype):
    values = [0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-40]
    a, b = (m.ravel().copy() for m in np.meshgrid(*[np.array(values, dtype)] * 2))
    with np.errstate(all="ignore"):
        expected = np.power(a, b)
        got = elementwise("pow(x, y)", dtype, a, b)
        np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(expected[~np.isnan(got)]))


@FLOATS
@pytest.mark.parametrize("name", list(vecmath.ARITY))
def test_loops_with_it_are_vectorised(name, dtype):
    arity = vecmath.ARITY[name]
    names = ", ".join("xyz"[:arity])
    source = (f"def kernel({names}, out, begin, end, worker):\n    for i in range(begin, end):\n"
              f"        out[i] = {name}({', '.join(n + '[i]' for n in names.split(', '))})\n")
    assembly = kernels.asm(kernels.load(source, kinds([np.empty(0, dtype)] * (arity + 1))))
    assert re.search(r"vfmadd\w+p[sd].*[yz]mm", assembly)
    assert not re.search(r'callq?\t(?!kernel|jt.far_angle)', assembly)
