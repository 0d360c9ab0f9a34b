"""Elementwise primitives. Strict: operands have one shape and (where not said otherwise) one dtype.

The torch-shaped faces (`Value.arith`, `jtorch.ops`) insert the casts and expansions.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.dtypes import dtype, type_name
from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op, op
from jtorch.ir.prims.create import constant

REAL = "real"  # domains for generated tests
FLOAT = "float"
POSITIVE = "positive"
UNIT = "unit"  # open (-1, 1)
INTEGER = "integer"
BOOLEAN = "boolean"
NONZERO = "nonzero"
ABOVE_ONE = "above one"


def infer_same(name: str) -> Callable[..., Type]:
    def infer(*types: Type, **attrs: Any) -> Type:
        first = types[0]
        for t in types[1:]:
            if t is not first and t != first:
                raise AssertionError(f"{name}: operands differ: {types}")
        return first
    return infer


def infer_bool(name: str) -> Callable[..., Type]:
    same = infer_same(name)
    return lambda *types, **attrs: Type(dtypes.bool_, same(*types).shape)


REAL_ONLY = frozenset("""floor ceil trunc round relu erf erfc atan2 maximum minimum fmod remainder floor_divide
    lgamma digamma erfinv trunc_divide copysign nextafter lt le gt ge""".split())
"""Operations that complex numbers do not have, most of them for want of an order."""


def _infer_for(name: str, integers: bool, infer: Callable[..., Type]) -> Callable[..., Type]:
    """`infer`, for the dtypes that the operation has."""
    def checked(*types: Type, **attrs: Any) -> Type:
        d = types[0].dtype
        if d.is_complex and name in REAL_ONLY:
            raise NotImplementedError(f'"{name}_cpu" not implemented for \'{type_name(d)}\'')
        if not integers:
            dtypes.require(d, dtypes.FLOAT, f"{name}_cpu")
        return infer(*types, **attrs)
    return checked


def elementwise(name: str, expr: Any, numpy: Callable, vjp: Callable | None = None, *, to_bool: bool = False,
                no_grad: str | None = None, domain: str = REAL, cost: int = 1, commutative: bool = False,
                infer: Callable[..., Type] | None = None, integers: bool | None = None, **more: Any) -> Op:
    """`integers`: are there any among the operands? By default, where the domain has some."""
    if vjp is None and no_grad is None:
        no_grad = "the result is boolean" if to_bool else "piecewise constant"
    infer = infer or (infer_bool(name) if to_bool else infer_same(name))
    integers = domain in (REAL, INTEGER, BOOLEAN, NONZERO) if integers is None else integers
    infer = _infer_for(name, integers, infer)
    return Op(name, "elementwise", infer, numpy, vjp, no_grad, expr=expr, domain=domain, cost=cost,
              commutative=commutative, batch=batch_elementwise, **more)


def batch_elementwise(self: Op, builder: Any, size: int, batched: tuple[bool, ...], *inputs: Value,
                      **attrs: Any) -> Value:
    """Operands without the mapped axis are expanded along it."""
    inputs = tuple(v if m else expand(v, (size, *v.shape)) for v, m in zip(inputs, batched))
    return builder.apply(self, *inputs, **attrs)


def expand(v: Value, shape: tuple[int, ...]) -> Value:
    return v if v.shape == shape else op("expand")(v, shape=shape)


# --- one operand -----------------------------------------------------------------------------------------------------

neg = elementwise("neg", "-a", np.negative, lambda g, y, x: (-g,))


def _abs_jvp(t: tuple, y: Value, x: Value) -> Value:
    """For complex x, the part of the tangent along x: Re(t / sign(x))."""
    if not x.dtype.is_complex:
        return t[0] * sign(x)
    hole = is_zero(y)
    along = cast_to(t[0] / where(hole, ones_like(x), sign(x)), y.dtype)
    return where(hole, zeros_like(y), along)


def _sign_vjp(g: Value, y: Value, x: Value) -> tuple:
    """Of a complex number x / |x|: what of g turns it, over the length of x."""
    if not x.dtype.is_complex:
        return (zeros_like(g),)
    hole = is_zero(x)
    unit, length = where(hole, ones_like(x), y), cast_to(where(hole, ones_like(x), cast_to(abs_(x), x.dtype)), x.dtype)
    along = cast_to(cast_to(g / unit, x.dtype.to_real()), x.dtype)
    return (where(hole, zeros_like(x), (g - along * unit) / length),)


abs_ = elementwise("abs", "abs_(a)", np.abs, lambda g, y, x: (g * sign(x),), jvp=_abs_jvp, wirtinger=True,
                   infer=lambda t: Type(t.dtype.to_real(), t.shape))
sign = elementwise("sign", "sign(a)", np.sign, _sign_vjp, wirtinger=True)
"""x / |x| for complex numbers."""
exp = elementwise("exp", "exp(a)", np.exp, lambda g, y, x: (g * y,), domain=FLOAT, cost=10)
exp2 = elementwise("exp2", "exp2(a)", lambda a: np.exp(a * math.log(2)) if a.dtype.kind == "c" else np.exp2(a),
                   lambda g, y, x: (g * y * math.log(2),), domain=FLOAT, cost=10)
expm1 = elementwise("expm1", "expm1(a)", np.expm1, lambda g, y, x: (g * (y + 1),), domain=FLOAT, cost=12)
log = elementwise("log", "log(a)", np.log, lambda g, y, x: (g / x,), domain=POSITIVE, cost=12)
log2 = elementwise("log2", "log2(a)", np.log2, lambda g, y, x: (g / (x * math.log(2)),), domain=POSITIVE, cost=12)
log10 = elementwise("log10", "log10(a)", np.log10, lambda g, y, x: (g / (x * math.log(10)),), domain=POSITIVE, cost=12)
log1p = elementwise("log1p", "log1p(a)", np.log1p, lambda g, y, x: (g / (x + 1),), domain=POSITIVE, cost=14)
sqrt = elementwise("sqrt", "sqrt(a)", np.sqrt, lambda g, y, x: (g / (2 * y),), domain=POSITIVE, cost=4)
rsqrt = elementwise("rsqrt", "rsqrt(a)", lambda a: (1 / np.sqrt(a)).astype(a.dtype),
                    lambda g, y, x: (g * (y * y * y) * -0.5,), domain=POSITIVE, cost=6)
reciprocal = elementwise("reciprocal", "T(1) / a", lambda a: (1 / a).astype(a.dtype),
                         lambda g, y, x: (-g * (y * y),), domain=NONZERO, cost=4)
sin = elementwise("sin", "sin(a)", np.sin, lambda g, y, x: (g * cos(x),), domain=FLOAT, cost=14)
cos = elementwise("cos", "cos(a)", np.cos, lambda g, y, x: (-g * sin(x),), domain=FLOAT, cost=14)
tan = elementwise("tan", "tan(a)", np.tan, lambda g, y, x: (g * (1 + y * y),), domain=UNIT, cost=20)
asin = elementwise("asin", "asin(a)", np.arcsin, lambda g, y, x: (g * rsqrt(1 - x * x),), domain=UNIT, cost=20)
acos = elementwise("acos", "acos(a)", np.arccos, lambda g, y, x: (-g * rsqrt(1 - x * x),), domain=UNIT, cost=20)
atan = elementwise("atan", "atan(a)", np.arctan, lambda g, y, x: (g / (1 + x * x),), domain=FLOAT, cost=20)
sinh = elementwise("sinh", "sinh(a)", np.sinh, lambda g, y, x: (g * cosh(x),), domain=FLOAT, cost=20)
cosh = elementwise("cosh", "cosh(a)", np.cosh, lambda g, y, x: (g * sinh(x),), domain=FLOAT, cost=20)
tanh = elementwise("tanh", "tanh(a)", np.tanh, lambda g, y, x: (g * (1 - y * y),), domain=FLOAT, cost=14)
asinh = elementwise("asinh", "asinh(a)", np.arcsinh, lambda g, y, x: (g * rsqrt(x * x + 1),), domain=FLOAT, cost=30)
acosh = elementwise("acosh", "acosh(a)", np.arccosh, lambda g, y, x: (g * (rsqrt(x - 1) * rsqrt(x + 1)),),
                    domain=ABOVE_ONE, cost=30)
atanh = elementwise("atanh", "atanh(a)", np.arctanh, lambda g, y, x: (g / (1 - x * x),), domain=UNIT, cost=30)


def _sigmoid(a: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "c":
        return 1 / (1 + np.exp(-a))
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1 / (1 + e), e / (1 + e)).astype(a.dtype)


sigmoid = elementwise("sigmoid", "sigmoid(a)", _sigmoid, lambda g, y, x: (g * (y * (1 - y)),), domain=FLOAT, cost=14)
relu = elementwise("relu", "maximum(a, T(0))", lambda a: np.maximum(a, a.dtype.type(0)),
                   lambda g, y, x: (where(y > 0, g, zeros_like(g)),))


def _vectorized(fn: Callable[[float], float]) -> Callable:
    """A math function of one float, over arrays; values outside its domain give NaN."""
    def scalar(x: float) -> float:
        try:
            return fn(x)
        except (ValueError, OverflowError):
            return math.inf if x > 0 else math.nan

    def run(a: np.ndarray) -> np.ndarray:
        flat = [scalar(float(x)) for x in np.asarray(a, np.float64).ravel()]
        return np.array(flat, dtype=a.dtype).reshape(a.shape)
    return run


erf = elementwise("erf", "erf(a)", _vectorized(math.erf),
                  lambda g, y, x: (g * (exp(-(x * x)) * (2 / math.sqrt(math.pi))),), domain=FLOAT, cost=16)
erfc = elementwise("erfc", "erfc(a)", _vectorized(math.erfc),
                   lambda g, y, x: (-g * (exp(-(x * x)) * (2 / math.sqrt(math.pi))),), domain=FLOAT, cost=20)
floor = elementwise("floor", "floor(a)", np.floor, lambda g, y, x: (zeros_like(g),))
ceil = elementwise("ceil", "ceil(a)", np.ceil, lambda g, y, x: (zeros_like(g),))
trunc = elementwise("trunc", "trunc(a)", np.trunc, lambda g, y, x: (zeros_like(g),))
round_ = elementwise("round", "rint(a)", np.rint, lambda g, y, x: (zeros_like(g),))
isnan = elementwise("isnan", "isnan(a)", np.isnan, to_bool=True)
isinf = elementwise("isinf", "isinf(a)", np.isinf, to_bool=True)
isfinite = elementwise("isfinite", "isfinite(a)", np.isfinite, to_bool=True)
logical_not = elementwise("logical_not", "a == T(0)", np.logical_not, to_bool=True)
bitwise_not = elementwise("bitwise_not", lambda ins, out, attrs: "a == False" if ins[0] is dtypes.bool_ else "~a",
                          np.invert, no_grad="integers", domain=INTEGER)


def _cast_numpy(a: np.ndarray, dtype: dtype) -> np.ndarray:
    with np.errstate(all="ignore"):
        return (a.real if a.dtype.kind == "c" and not dtype.is_complex and dtype is not dtypes.bool_ else a).astype(
            dtype.numpy)


def _cast_vjp(g: Value, y: Value, x: Value, dtype: dtype) -> tuple:
    return (cast_to(g, x.dtype),)


cast = Op("cast", "elementwise", lambda t, dtype: Type(dtype, t.shape), _cast_numpy, _cast_vjp,
          attr_names=("dtype",), expr="O(a)", batch=batch_elementwise, linear=True, domain=REAL)


def cast_to(v: Value, d: dtype) -> Value:
    return v if v.dtype is d else cast(v, dtype=d)


# --- two operands ----------------------------------------------------------------------------------------------------

add = elementwise("add", lambda ins, out, attrs: "a | b" if out is dtypes.bool_ else "a + b", np.add,
                  lambda g, y, a, b: (g, g), commutative=True)
sub = elementwise("sub", "a - b", np.subtract, lambda g, y, a, b: (g, -g))
mul = elementwise("mul", lambda ins, out, attrs: "a & b" if out is dtypes.bool_ else "a * b", np.multiply,
                  lambda g, y, a, b: (g * b, g * a), commutative=True)
div = elementwise("div", "a / b", np.divide, lambda g, y, a, b: (g / b, -g * (y / b)), domain=NONZERO, cost=4)


def _pow_numpy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind in "iu":  # a negative integer exponent truncates 1/a^|b|
        magnitude = np.power(a, np.maximum(b, 0))
        negative = np.where(a == 1, 1, np.where(a == -1, np.where(b % 2 == 0, 1, -1), 0))
        return np.where(b < 0, negative, magnitude).astype(a.dtype)
    return np.power(a, b)


def _pow_vjp(g: Value, y: Value, a: Value, b: Value) -> tuple:
    zero = zeros_like(a)
    at_zero_exponent = where(is_zero(b), zero, b * pow_(a, b - 1))
    log_a = where(is_zero(a) & (cast_to(b, b.dtype.to_real()) >= 0), zero, log(a))
    return g * at_zero_exponent, g * (y * log_a)


pow_ = elementwise("pow", "pow(a, b)", _pow_numpy, _pow_vjp, domain=POSITIVE, cost=30, integers=True)
atan2 = elementwise("atan2", "atan2(a, b)", np.arctan2,
                    lambda g, y, a, b: (g * b / (a * a + b * b), -g * a / (a * a + b * b)), domain=NONZERO, cost=30)


def _select_larger(g: Value, y: Value, a: Value, b: Value) -> tuple:
    """Ties share the gradient equally, as in PyTorch."""
    half = where(eq(a, b), g * 0.5, g)
    zero = zeros_like(g)
    return where(b > a, zero, half), where(a > b, zero, half)


def _select_smaller(g: Value, y: Value, a: Value, b: Value) -> tuple:
    half = where(eq(a, b), g * 0.5, g)
    zero = zeros_like(g)
    return where(a > b, zero, half), where(b > a, zero, half)


def _logical(name: str) -> Callable:
    of_bools = {"maximum": "a | b", "minimum": "a & b"}[name]
    return lambda ins, out, attrs: of_bools if out is dtypes.bool_ else f"{name}(a, b)"


maximum = elementwise("maximum", _logical("maximum"), np.maximum, _select_larger, commutative=True)
minimum = elementwise("minimum", _logical("minimum"), np.minimum, _select_smaller, commutative=True)
fmod = elementwise("fmod", "fmod(a, b)", np.fmod, lambda g, y, a, b: (g, -g * trunc(a / b)), domain=NONZERO, cost=20,
                   fails="b == 0", error=(RuntimeError, "ZeroDivisionError"))
remainder = elementwise("remainder", "remainder(a, b)", np.remainder, lambda g, y, a, b: (g, -g * floor(a / b)),
                        domain=NONZERO, cost=20, fails="b == 0", error=(RuntimeError, "ZeroDivisionError"))
floor_divide = elementwise("floor_divide", "floor_divide(a, b)", np.floor_divide, no_grad="piecewise constant",
                           domain=NONZERO, cost=10, fails="b == 0", error=(RuntimeError, "ZeroDivisionError"))


def _trunc_divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind in "iu":
        q = np.floor_divide(a, b)
        return (q + ((q < 0) & (q * b != a))).astype(a.dtype)
    return np.trunc(a / b)


trunc_divide = elementwise("trunc_divide", "trunc_divide(a, b)", _trunc_divide, no_grad="piecewise constant",
                           domain=NONZERO, cost=10, fails="b == 0", error=(RuntimeError, "ZeroDivisionError"))
bitwise_and = elementwise("bitwise_and", "a & b", np.bitwise_and, no_grad="integers", domain=INTEGER, commutative=True)
bitwise_or = elementwise("bitwise_or", "a | b", np.bitwise_or, no_grad="integers", domain=INTEGER, commutative=True)
bitwise_xor = elementwise("bitwise_xor", "a ^ b", np.bitwise_xor, no_grad="integers", domain=INTEGER, commutative=True)
left_shift = elementwise("left_shift", "a << b", np.left_shift, no_grad="integers", domain=INTEGER)
right_shift = elementwise("right_shift", "a >> b", np.right_shift, no_grad="integers", domain=INTEGER)
eq = elementwise("eq", "a == b", np.equal, to_bool=True, commutative=True)
ne = elementwise("ne", "a != b", np.not_equal, to_bool=True, commutative=True)
lt = elementwise("lt", "a < b", np.less, to_bool=True)
le = elementwise("le", "a <= b", np.less_equal, to_bool=True)
gt = elementwise("gt", "a > b", np.greater, to_bool=True)
ge = elementwise("ge", "a >= b", np.greater_equal, to_bool=True)
copysign = elementwise("copysign", "copysign(a, b)", np.copysign,
                       lambda g, y, a, b: (g * where(is_zero(a), zeros_like(a), sign(a) * sign(y)), zeros_like(g)),
                       domain=FLOAT)
nextafter = elementwise("nextafter", "nextafter(a, b)", np.nextafter,
                        lambda g, y, a, b: (where(eq(a, b), zeros_like(g), g), zeros_like(g)), domain=FLOAT)


# --- three operands --------------------------------------------------------------------------------------------------

def _where_infer(c: Type, a: Type, b: Type) -> Type:
    if c.dtype is not dtypes.bool_ or a != b or c.shape != a.shape:
        raise AssertionError(f"where: {c}, {a}, {b}")
    return a


where = Op("where", "elementwise", _where_infer, np.where,
           lambda g, y, c, a, b: (None, where(c, g, zeros_like(g)), where(c, zeros_like(g), g)),
           expr="select(a, b, c)", batch=batch_elementwise, domain=BOOLEAN)


def zeros_like(v: Value) -> Value:
    return constant(v.builder, 0, v.dtype, v.shape)


def ones_like(v: Value) -> Value:
    return constant(v.builder, 1, v.dtype, v.shape)


def is_zero(v: Value) -> Value:
    """v == 0, element by element. (The operator `==` of a Value is identity: Values are keys of tables.)"""
    return eq(v, zeros_like(v))
