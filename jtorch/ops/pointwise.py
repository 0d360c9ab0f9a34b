"""Elementwise arithmetic: the operators of tensors and their functions."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch._tensor import Tensor, attach, wrap
from jtorch.capture.dispatch import CONSTANTS, NUMBERS, Function, evaluate, wrap_result
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.composites import activations
from jtorch.ir.composites import pointwise as composed
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import library
from jtorch.ir.prims.create import constant
from jtorch.ops.arguments import named
from jtorch.ops.attach import FUNCTIONS, define, expose
from jtorch.views import assign, check_result_dtype, type_name


def fast_binary(function: Function, reflected: bool = False) -> Callable[[Tensor, Any], Tensor]:
    """`a <op> b` for tensors: `evaluate` with everything unrolled, since notebooks are made of it."""
    def method(self: Tensor, other: Any) -> Any:
        recorder = current.recorder
        t = recorder.record(recorder, function, other, self) if reflected else (
            recorder.record(recorder, function, self, other))
        if t is not None:
            return t
        epoch = recorder.epoch
        try:
            a = (self._value if self._epoch is epoch and self._version == self._storage.version
                 else recorder.enter(self))
        except AttributeError:
            if isinstance(self, Tensor):
                raise
            raise TypeError(f"descriptor '{function.name}' of a tensor doesn't apply to a '{type(self).__name__}' "
                            "object") from None
        if isinstance(other, Tensor):
            b = (other._value if other._epoch is epoch and other._version == other._storage.version
                 else recorder.enter(other))
            key = (function, b, a) if reflected else (function, a, b)
            v = recorder.calls.get(key)
            if v is not None:
                return wrap(recorder, v)
        elif type(other) in NUMBERS:
            number: Any = (type(other), other)
            known = number in CONSTANTS
            if not known:
                number = recorder.scalar(other)
            elif not other:
                number = (type(other), str(other))
            v = recorder.calls.get((function, number, a) if reflected else (function, a, number))
            if v is not None:
                return wrap(recorder, v)
            if not known:
                epoch.scalars.pop()  # `evaluate` will enter it
        else:
            other = _number(other)
            if other is None:
                return NotImplemented
        return wrap_result(evaluate(function, (other, self) if reflected else (self, other)))
    return method


def _number(x: Any) -> Any:
    kind: Any = next((k for k in NUMBERS if isinstance(x, k)), None)
    if kind is not None:
        return kind(x)
    item = getattr(x, "item", None)
    return item() if item is not None and getattr(x, "ndim", None) == 0 else None


def fast_inplace(function: Function) -> Callable[[Tensor, Any], Tensor]:
    def method(self: Tensor, other: Any) -> Tensor:
        recorder = current.recorder
        done = recorder.write(recorder, function, self, self, other)
        if done is not None:
            return done
        v = evaluate(function, (self, other))
        if v.dtype is not self._type.dtype:
            check_result_dtype(v.dtype, self._type.dtype)
        return assign(self, v)
    return method


@define(inplace=True)
def add(input: Operand, other: Operand, *, alpha: Operand = 1) -> Value:
    return arith.add(input, other) if _is_one(alpha) else _with_multiple(arith.add, input, other, alpha)


@define("sub", "subtract", inplace=True)
def sub(input: Operand, other: Operand, *, alpha: Operand = 1) -> Value:
    return arith.sub(input, other) if _is_one(alpha) else _with_multiple(arith.sub, input, other, alpha)


def _is_one(x: Any) -> bool:
    return not isinstance(x, Value) and x == 1


def _with_multiple(op: Callable[..., Value], input: Operand, other: Operand, alpha: Operand) -> Value:
    """input + or - alpha * other. `alpha` takes the dtype of the result."""
    builder = arith.builder_of((input, other))
    d = arith.result_dtype(builder, (input, other))
    of_alpha = arith.result_dtype(builder, (alpha,))
    if of_alpha is dtypes.bool_ and d is not dtypes.bool_:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if of_alpha.category >= dtypes.FLOAT > d.category:
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    x, y, factor = (arith.as_value(builder, v, d) for v in (input, other, alpha))
    return arith.rounded_once(lambda x, y, factor: op(x, factor * y), x, y, factor)


@define("mul", "multiply", inplace=True)
def mul(input: Operand, other: Operand) -> Value:
    return arith.mul(input, other)


@define("div", "divide", "true_divide", inplace=True)
def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return arith.div(input, other)
    if rounding_mode in ("floor", "trunc"):
        result = (arith.floor_divide if rounding_mode == "floor" else arith.trunc_divide)(input, other)
        return _zero_gradient(result, input, other)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")


def _zero_gradient(result: Value, *operands: Operand) -> Value:
    """`result` as a differentiable function of the operands that is constant around every point."""
    for x in operands:
        if isinstance(x, Value) and x.requires_grad:
            always = constant(result.builder, True, dtypes.bool_, result.shape)
            result = ew.where(always, result, arith.broadcast((ew.cast_to(x, result.dtype), result))[0])
    return result


@define(inplace=True)
def pow(input: Operand, exponent: Operand) -> Value:
    return arith.pow_(input, exponent)


def _shift(op: Any) -> Callable[..., Value]:
    def shift(a: Operand, b: Operand) -> Value:
        x, y = arith.promote(a, b)
        if x.dtype.category >= dtypes.FLOAT:
            raise NotImplementedError(f'"{op.name.split("_")[0][0]}shift_cpu" not implemented for '
                                      f"'{type_name(x.dtype)}'")
        return op(x, y)
    shift.__name__ = op.name
    return shift


_ARITHMETIC: dict[str, Callable[..., Value]] = {
    "add": arith.add, "sub": arith.sub, "mul": arith.mul, "truediv": arith.div, "floordiv": arith.floor_divide,
    "mod": arith.remainder, "pow": arith.pow_, "and": arith.bitwise_and, "or": arith.bitwise_or,
    "xor": arith.bitwise_xor, "lshift": _shift(ew.left_shift), "rshift": _shift(ew.right_shift),
    "lt": arith.lt, "le": arith.le, "gt": arith.gt, "ge": arith.ge, "eq": arith.eq,
    "ne": arith.ne,
}


def _two_operands(formula: Callable[..., Value]) -> Function:
    def body(input: Operand, other: Operand) -> Value:
        return formula(input, other)
    body.__name__ = formula.__name__
    return Function(body)


def _over(number: Operand, x: Value) -> Value:
    """`number / x` is rounded twice, as in PyTorch."""
    return arith.mul(ew.reciprocal(arith.as_float(x)), number)


for _name, _formula in _ARITHMETIC.items():
    _function = _two_operands(_formula)
    setattr(Tensor, f"__{_name}__", fast_binary(_function))
    if _name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        _reflected = _two_operands(_over) if _name == "truediv" else _function
        setattr(Tensor, f"__r{_name}__", fast_binary(_reflected, reflected=True))
        setattr(Tensor, f"__i{_name}__", fast_inplace(_function))

attach(__div__=Tensor.__truediv__, __rdiv__=Tensor.__rtruediv__, __idiv__=Tensor.__itruediv__)


# --- one operand, from a table ---------------------------------------------------------------------------------------

def _unary(names: str, formula: Callable[[Value], Value], inplace: bool = True) -> None:
    first, *others = names.split()

    def body(input: Value) -> Value:
        return formula(input)
    body.__name__ = first
    define(first, *others, inplace=inplace)(body)


def _float_unary(names: str, formula: Callable[[Value], Value]) -> None:
    _unary(names, lambda v: formula(arith.as_float(v)))


for _names, _op in {
        "exp": ew.exp, "exp2": ew.exp2, "expm1": ew.expm1, "log": ew.log, "log2": ew.log2, "log10": ew.log10,
        "log1p": ew.log1p, "sqrt": ew.sqrt, "rsqrt": ew.rsqrt, "reciprocal": ew.reciprocal, "sin": ew.sin,
        "cos": ew.cos, "tan": ew.tan, "asin arcsin": ew.asin, "acos arccos": ew.acos, "atan arctan": ew.atan,
        "sinh": ew.sinh, "cosh": ew.cosh, "tanh": ew.tanh, "asinh arcsinh": ew.asinh, "acosh arccosh": ew.acosh,
        "atanh arctanh": ew.atanh, "sigmoid": ew.sigmoid, "erf": ew.erf, "erfc": ew.erfc}.items():
    _float_unary(_names, _op)


def _refuse_bool(name: str, v: Value, text: str | None = None) -> None:
    if v.dtype is dtypes.bool_:
        raise RuntimeError(text or f'"{name}_cpu" not implemented for \'Bool\'')


def _neg(v: Value) -> Value:
    _refuse_bool("neg", v, "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
                           "invert a "
                           "mask, use the `~` or `logical_not()` operator instead.")
    return ew.neg(v)


def _abs(v: Value) -> Value:
    return v if v.dtype is dtypes.bool_ else ew.abs_(v)


def _rounded(op: Any) -> Callable[[Value], Value]:
    return lambda v: op(v) if v.dtype.category >= dtypes.FLOAT else v


def _false(v: Value) -> Value:
    return constant(v.builder, False, dtypes.bool_, v.shape)


def _relu(v: Value) -> Value:
    _refuse_bool("relu", v, "Boolean inputs not supported for relu")
    return ew.relu(v)


_unary("neg negative", _neg)
_unary("abs absolute", _abs)
_unary("floor", _rounded(ew.floor))
_unary("ceil", _rounded(ew.ceil))
_unary("trunc fix", _rounded(ew.trunc))
_unary("relu", _relu)
_unary("isnan", lambda v: ew.isnan(v) if v.dtype.category >= dtypes.FLOAT else _false(v), False)
_unary("isinf", lambda v: ew.isinf(v) if v.dtype.category >= dtypes.FLOAT else _false(v), False)
_unary("isfinite", lambda v: ew.isfinite(v) if v.dtype.category >= dtypes.FLOAT else ew.logical_not(_false(v)), False)
_unary("isposinf", lambda v: arith.eq(v, float("inf")), False)
_unary("isneginf", lambda v: arith.eq(v, float("-inf")), False)
_unary("logical_not", ew.logical_not)
_unary("bitwise_not", lambda v: _integral("bitwise_not", ew.bitwise_not, v))
_unary("square", lambda v: arith.pow_(ew.cast_to(v, dtypes.int64) if v.dtype is dtypes.bool_ else v, 2))
_unary("frac", lambda v: _frac(v))
_unary("signbit", lambda v: _signbit(v), False)
_unary("deg2rad", lambda v: arith.as_float(v) * (math.pi / 180))
_unary("rad2deg", lambda v: arith.as_float(v) * (180 / math.pi))
_unary("sinc", lambda v: _sinc(arith.as_float(v)))


@expose("positive")
def positive(input: Tensor) -> Tensor:
    """The input itself."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def _integral(name: str, function: Any, v: Value) -> Value:
    if v.dtype.category >= dtypes.FLOAT:
        raise NotImplementedError(f'"{name}_cpu" not implemented for \'{type_name(v.dtype)}\'')
    return function(v)


def _signbit(v: Value) -> Value:
    if v.dtype.category < dtypes.FLOAT:
        return arith.lt(v, 0) if v.dtype is not dtypes.bool_ else _false(v)
    one = ew.zeros_like(v) + 1
    return arith.lt(ew.copysign(one, v), 0)


def _frac(v: Value) -> Value:
    if v.dtype.category < dtypes.FLOAT:
        raise NotImplementedError(f'"frac_cpu" not implemented for \'{type_name(v.dtype)}\'')
    return v - ew.trunc(v)


def _sinc(v: Value) -> Value:
    x = v * math.pi
    zero = ew.is_zero(v)
    safe = arith.where(zero, 1.0, x)
    return arith.where(zero, 1.0, ew.sin(safe) / safe)


attach(__neg__=Tensor.neg, __abs__=Tensor.abs, __pos__=Tensor.positive)
attach(__invert__=Tensor.bitwise_not)


@define("round", inplace=True)
def round_(input: Value, *, decimals: int = 0) -> Value:
    if input.dtype.category < dtypes.FLOAT:
        return input
    if decimals == 0:
        return ew.round_(input)
    scale = 10.0 ** abs(decimals)
    return ew.round_(input * scale) / scale if decimals > 0 else ew.round_(input / scale) * scale


@define(out="typed")
def frexp(input: Value) -> Any:
    """(mantissa, exponent): input = mantissa * 2**exponent with 0.5 <= |mantissa| < 1."""
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"torch.frexp() only supports floating-point dtypes, got {input.dtype}")
    return named("frexp", "mantissa exponent")(*library.frexp(input))


@define(inplace=True)
def logit(input: Value, eps: float | None = None) -> Value:
    x = arith.as_float(input)
    if eps is not None:
        x = arith.where(x < eps, eps, arith.where(x > 1 - eps, 1 - eps, x))
    return ew.log(x / (1 - x))


@define(inplace=True)
def nan_to_num(input: Value, nan: float | None = 0.0, posinf: float | None = None,
               neginf: float | None = None) -> Value:
    if input.dtype.category < dtypes.FLOAT:
        return input
    import ml_dtypes
    limits = ml_dtypes.finfo(input.dtype.numpy)
    x = arith.where(ew.isnan(input), 0.0 if nan is None else nan, input)
    x = arith.where(arith.eq(x, math.inf), float(limits.max) if posinf is None else posinf, x)
    return arith.where(arith.eq(x, -math.inf), float(limits.min) if neginf is None else neginf, x)


@define(method=True)
def hardshrink(input: Value, lambd: float = 0.5) -> Value:
    dtypes.require(input.dtype, dtypes.FLOAT, "hardshrink_cpu")
    return activations.hardshrink(input, bound=float(lambd))


@define(out=False)
def prelu(input: Value, weight: Value) -> Value:
    return activations.prelu(input, weight)


# --- two operands ----------------------------------------------------------------------------------------------------

def _binary(names: str, formula: Callable[[Any, Any], Value], inplace: bool = True, numbers: str = "other") -> None:
    """`numbers`: which operands may be Python numbers: 'both', 'other' or 'none'."""
    first, *others = names.split()

    def both(input: Operand, other: Operand) -> Value:
        return formula(input, other)

    def second(input: Value, other: Operand) -> Value:
        return formula(input, other)

    def neither(input: Value, other: Value) -> Value:
        return formula(input, other)
    body: Callable[..., Value] = {"both": both, "other": second, "none": neither}[numbers]
    body.__name__ = first
    define(first, *others, inplace=inplace)(body)


def _int_binary(name: str, formula: Callable[..., Value]) -> Callable[..., Value]:
    def apply(a: Operand, b: Operand) -> Value:
        d = arith.result_dtype(arith.builder_of((a, b)), (a, b))
        if d.category >= dtypes.FLOAT:
            raise NotImplementedError(f'"{name}_cpu" not implemented for \'{type_name(d)}\'')
        return formula(a, b)
    return apply


def _truth(x: Operand) -> Any:
    if isinstance(x, Value):
        return x if x.dtype is dtypes.bool_ else ew.logical_not(ew.logical_not(x))
    return bool(x)


def _logical_binary(op_: Any) -> Callable[..., Value]:
    def apply(a: Operand, b: Operand) -> Value:
        x, y = arith.promote(_truth(a), _truth(b))
        return op_(x, y)
    return apply


def _extreme(op_: Any) -> Callable[..., Value]:
    """fmax and fmin: NaN is ignored where the other operand is a number."""
    def apply(a: Operand, b: Operand) -> Value:
        x, y = arith.promote(a, b)
        if x.dtype.category < dtypes.FLOAT:
            return op_(x, y)
        return arith.where(ew.isnan(x), y, arith.where(ew.isnan(y), x, op_(x, y)))
    return apply


for _names, _formula in {"eq": arith.eq, "ne not_equal": arith.ne, "lt less": arith.lt, "le less_equal": arith.le,
                         "gt greater": arith.gt, "ge greater_equal": arith.ge}.items():
    _binary(_names, _formula)
for _names, _formula in {
        "maximum": arith.maximum, "minimum": arith.minimum, "fmax": _extreme(arith.maximum),
        "fmin": _extreme(arith.minimum)}.items():
    _binary(_names, _formula, inplace=False, numbers="none")
for _names, _formula in {
        "atan2 arctan2": arith.atan2, "logical_and": _logical_binary(ew.bitwise_and),
        "logical_or": _logical_binary(ew.bitwise_or), "logical_xor": _logical_binary(ew.bitwise_xor)}.items():
    _binary(_names, _formula, numbers="none")
_binary("fmod", arith.fmod)
for _names, _formula in {
        "remainder": arith.remainder, "floor_divide": arith.floor_divide,
        "bitwise_and": _int_binary("bitwise_and", arith.bitwise_and),
        "bitwise_or": _int_binary("bitwise_or", arith.bitwise_or),
        "bitwise_xor": _int_binary("bitwise_xor", arith.bitwise_xor),
        "bitwise_left_shift": _shift(ew.left_shift), "bitwise_right_shift": _shift(ew.right_shift)}.items():
    _binary(_names, _formula, numbers="both")


def _copysign(a: Operand, b: Operand) -> Value:
    return ew.copysign(*arith.promote(a, b, float_result=True))


def _heaviside(a: Operand, b: Operand) -> Value:
    x, y = arith.promote(a, b)
    zero = ew.zeros_like(x)
    return arith.where(ew.isnan(x) if x.dtype.is_floating_point else _false(x), x,
                       arith.where(arith.eq(x, 0), y, ew.cast_to(x > zero, x.dtype)))


def _ldexp(a: Operand, b: Operand) -> Value:
    return arith.mul(a, arith.pow_(2.0, b))


def _float_power(a: Operand, b: Operand) -> Value:
    return arith.pow_(*[ew.cast_to(v, dtypes.float64) for v in arith.promote(a, b)])


def _of_integers(name: str, function: Any) -> Callable[..., Value]:
    def apply(a: Operand, b: Operand) -> Value:
        x, y = arith.promote(a, b)
        if x.dtype.category != dtypes.INT:
            raise NotImplementedError(f'"{name}_cpu" not implemented for \'{type_name(x.dtype)}\'')
        return function(x, y)
    return apply


def _nextafter(a: Operand, b: Operand) -> Value:
    x, y = arith.promote(a, b)
    if not x.dtype.is_floating_point:
        raise NotImplementedError(f'"nextafter_cpu" not implemented for \'{type_name(x.dtype)}\'')
    return ew.nextafter(x, y)


def _composed(composite: Any) -> Callable[..., Value]:
    return lambda a, b: composite(*arith.promote(a, b, float_result=True))


_binary("copysign", _copysign)
_binary("gcd", _of_integers("gcd", library.gcd), numbers="none")
_binary("lcm", _of_integers("lcm", library.lcm), numbers="none")
_binary("nextafter", _nextafter, numbers="none")
_binary("heaviside", _heaviside, numbers="none")
_binary("xlogy", _composed(composed.xlogy), numbers="both")
_binary("hypot", _composed(composed.hypot), numbers="none")
_binary("logaddexp", _composed(composed.logaddexp), inplace=False, numbers="none")
_binary("logaddexp2", lambda a, b: composed.logaddexp(*[v * math.log(2) for v in arith.promote(a, b,
                                                                                               float_result=True)])
        / math.log(2), inplace=False, numbers="none")
_binary("ldexp", _ldexp)


@define(inplace=True)
def float_power(input: Operand, exponent: Operand) -> Value:
    return _float_power(input, exponent)


@define(method=False)
def rsub(input: Value, other: Operand, *, alpha: Operand = 1) -> Value:
    return arith.sub(other, input) if _is_one(alpha) else _with_multiple(arith.sub, other, input, alpha)


# --- three operands --------------------------------------------------------------------------------------------------

def _clamp(input: Value, low: Any, high: Any, name: str = "clamp") -> Value:
    if low is None and high is None:
        raise RuntimeError(f"torch.{name}: At least one of 'min' or 'max' must not be None")
    given = [x for x in (low, high) if x is not None]
    if input.dtype.is_complex:
        raise RuntimeError("clamp is not supported for complex types")
    d = arith.result_dtype(input.builder, [input, *given])
    operands = [arith.as_value(input.builder, x, d) for x in [input, *given]]
    x, *bounds = arith.broadcast(operands)
    places = dict(zip([n for n, v in (("low", low), ("high", high)) if v is not None], bounds))
    hidden = ew.cast_to(x, d)
    y = hidden
    if "low" in places:
        y = _bounded(y, places["low"], ew.maximum, ew.lt)
    if "high" in places:
        y = _bounded(y, places["high"], ew.minimum, ew.gt)
    return y


def _bounded(x: Value, bound: Value, extreme: Any, beyond: Any) -> Value:
    """The gradient at the bound itself goes to x, so this is a choice, not `maximum`; NaN in either stays."""
    if not (x.requires_grad or bound.requires_grad):
        return extreme(x, bound)
    outside = beyond(x, bound)
    if x.dtype.is_floating_point:
        outside = ew.bitwise_or(outside, ew.isnan(bound))
    return ew.where(outside, bound, x)


@define("clamp", "clip", inplace=True)
def clamp(input: Value, min: Operand | None = None, max: Operand | None = None) -> Value:
    return _clamp(input, min, max)


@define(inplace=True)
def clamp_min(input: Value, min: Operand) -> Value:
    return _clamp(input, min, None)


@define(inplace=True)
def clamp_max(input: Value, max: Operand) -> Value:
    return _clamp(input, None, max)


@define(inplace=True)
def lerp(input: Value, end: Value, weight: Operand) -> Value:
    if end.dtype is not input.dtype:
        raise RuntimeError(f"expected dtype {input.dtype.name} for `end` but got dtype {end.dtype.name}")
    if isinstance(weight, Value) and not arith.is_scalar(weight) and weight.dtype is not input.dtype:
        raise RuntimeError(f"expected dtype {input.dtype.name} for `weight` but got dtype {weight.dtype.name}")
    return arith.rounded_once(_lerp, input, end, weight)


def _lerp(input: Value, end: Value, weight: Operand) -> Value:
    w = arith.as_value(input.builder, weight, input.dtype)
    near = input + w * (end - input)
    far = end - (end - input) * (1 - w)
    return arith.where(ew.abs_(w) < 0.5, near, far)


@define(inplace=True)
def addcmul(input: Value, tensor1: Operand, tensor2: Operand, *, value: Operand = 1) -> Value:
    if _is_one(value):
        return arith.rounded_once(lambda x, a, b: x + arith.mul(a, b), input, tensor1, tensor2)
    return arith.rounded_once(lambda x, a, b, c: x + arith.mul(arith.mul(c, a), b), input, tensor1, tensor2, value)


@define(inplace=True)
def addcdiv(input: Value, tensor1: Operand, tensor2: Operand, *, value: Operand = 1) -> Value:
    if all(isinstance(t, Value) and t.dtype.category < dtypes.FLOAT for t in (tensor1, tensor2)):
        raise RuntimeError("Integer division with addcdiv is no longer supported, and in a future  release addcdiv "
                           "will "
                           "perform a true division of tensor1 and tensor2. The historic addcdiv behavior can be "
                           "implemented as (input + value * torch.trunc(tensor1 / tensor2)).to(input.dtype) for "
                           "integer "
                           "inputs and as (input + value * tensor1 / tensor2) for float inputs. The future addcdiv "
                           "behavior "
                           "is just the latter implementation: (input + value * tensor1 / tensor2), for all dtypes.")
    if _is_one(value):
        return arith.rounded_once(lambda x, a, b: x + arith.div(a, b), input, tensor1, tensor2)
    return arith.rounded_once(lambda x, a, b, c: x + arith.div(arith.mul(c, a), b), input, tensor1, tensor2, value)


@define("where", method=False)
def where_(condition: Value, input: Operand | None = None, other: Operand | None = None) -> Value:
    if condition.dtype is dtypes.uint8:
        condition = ew.cast_to(condition, dtypes.bool_)
    if condition.dtype is not dtypes.bool_:
        raise RuntimeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype "
                           f"{type_name(condition.dtype)}")
    return arith.where(condition, input, other)  # type: ignore[arg-type]


def _where(condition: Any, input: Any = None, other: Any = None, *, out: Any = None) -> Any:
    if input is None and other is None:
        return FUNCTIONS["nonzero"](condition, as_tuple=True)
    if isinstance(input, np.ndarray) or isinstance(other, np.ndarray):
        raise TypeError("where(): argument must be Tensor or Number, not numpy.ndarray")
    return where_(condition, input, other) if out is None else _where_out(condition, input, other, out=out)


_where_out, FUNCTIONS["where"] = FUNCTIONS["where"], _where
attach(where=lambda self, condition, other: where_(condition, self, other))


def _close(a: Value, b: Value, rtol: float, atol: float, equal_nan: bool) -> Value:
    x, y = arith.promote(a, b)
    same = ew.eq(x, y)
    if equal_nan and x.dtype.category >= dtypes.FLOAT:
        same = ew.bitwise_or(same, ew.bitwise_and(ew.isnan(x), ew.isnan(y)))
    if rtol == 0 and atol == 0:
        return same
    d = x.dtype if x.dtype.category >= dtypes.FLOAT else x.builder.default_float
    x, y = ew.cast_to(x, d), ew.cast_to(y, d)
    gap = ew.abs_(x - y)
    near = ew.bitwise_and(ew.isfinite(gap), arith.le(gap, atol + ew.abs_(rtol * y)))
    return ew.bitwise_or(same, near)


def _same_dtype(input: Value, other: Value) -> None:
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{type_name(input.dtype)} did not match {type_name(other.dtype)}")


@define(out=False)
def isclose(input: Value, other: Value, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Value:
    _same_dtype(input, other)
    if rtol < 0 or atol < 0:
        name, x = ("rtol", rtol) if rtol < 0 else ("atol", atol)
        raise RuntimeError(f"{name} must be greater than or equal to zero, but got {x:g}")
    return _close(input, other, rtol, atol, equal_nan)


@expose("allclose")
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@expose("equal")
def equal(input: Tensor, other: Tensor) -> bool:
    """Same shape and same elements."""
    if input.shape != other.shape:
        return False
    return bool(FUNCTIONS["eq"](input, other).all())
