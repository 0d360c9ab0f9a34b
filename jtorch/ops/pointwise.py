"""Elementwise arithmetic: the operators of tensors and their functions."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor, wrap
from jtorch.capture.dispatch import NUMBERS, Function, evaluate, wrap_result
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.graph import Value
from jtorch.ops.attach import FUNCTIONS, define
from jtorch.views import assign, check_result_dtype


def fast_binary(function: Function, reflected: bool = False) -> Callable[[Tensor, Any], Tensor]:
    """`a <op> b` for tensors: `evaluate` with everything unrolled, since notebooks are made of it."""
    def method(self: Tensor, other: Any) -> Any:
        recorder = current.recorder
        epoch = recorder.epoch
        a = self._value if self._epoch is epoch and self._version == self._storage.version else recorder.enter(self)
        if isinstance(other, Tensor):
            b = (other._value if other._epoch is epoch and other._version == other._storage.version
                 else recorder.enter(other))
            key = (function, b, a) if reflected else (function, a, b)
            v = recorder.calls.get(key)
            if v is not None:
                return wrap(recorder, v)
        elif type(other) not in NUMBERS:
            other = _number(other)
            if other is None:
                return NotImplemented
        return wrap_result(evaluate(function, (other, self) if reflected else (self, other)))
    return method


def _number(x: Any) -> Any:
    if isinstance(x, NUMBERS):
        return next(k for k in NUMBERS if isinstance(x, k))(x)
    item = getattr(x, "item", None)
    return item() if item is not None and getattr(x, "ndim", None) == 0 else None


def fast_inplace(function: Function) -> Callable[[Tensor, Any], Tensor]:
    def method(self: Tensor, other: Any) -> Tensor:
        v = evaluate(function, (self, other))
        if v.dtype is not self._type.dtype:
            check_result_dtype(v.dtype, self._type.dtype)
        return assign(self, v)
    return method


@define(inplace=True)
def add(input: Operand, other: Operand, *, alpha: Operand = 1) -> Value:
    return arith.add(input, other if _is_one(alpha) else _scaled(other, alpha))


@define("sub", "subtract", inplace=True)
def sub(input: Operand, other: Operand, *, alpha: Operand = 1) -> Value:
    return arith.sub(input, other if _is_one(alpha) else _scaled(other, alpha))


def _is_one(x: Any) -> bool:
    return not isinstance(x, Value) and x == 1


def _scaled(other: Operand, alpha: Operand) -> Operand:
    return other * alpha if isinstance(other, Value) else alpha * other


@define("mul", "multiply", inplace=True)
def mul(input: Operand, other: Operand) -> Value:
    return arith.mul(input, other)


@define("div", "divide", inplace=True)
def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return arith.div(input, other)
    x, y = arith.promote(input, other)
    if rounding_mode == "floor":
        return arith.floor_divide(x, y)
    if rounding_mode == "trunc":
        return arith.trunc_divide(x, y)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")


@define(inplace=True)
def pow(input: Operand, exponent: Operand) -> Value:
    return arith.pow_(input, exponent)


_ARITHMETIC: dict[str, Callable[..., Value]] = {
    "add": arith.add, "sub": arith.sub, "mul": arith.mul, "truediv": arith.div, "floordiv": arith.floor_divide,
    "mod": arith.remainder, "pow": arith.pow_, "and": arith.bitwise_and, "or": arith.bitwise_or,
    "xor": arith.bitwise_xor, "lt": arith.lt, "le": arith.le, "gt": arith.gt, "ge": arith.ge, "eq": arith.eq,
    "ne": arith.ne,
}


def _two_operands(formula: Callable[..., Value]) -> Function:
    def body(input: Operand, other: Operand) -> Value:
        return formula(input, other)
    body.__name__ = formula.__name__
    return Function(body)


for _name, _formula in _ARITHMETIC.items():
    _function = _two_operands(_formula)
    setattr(Tensor, f"__{_name}__", fast_binary(_function))
    if _name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Tensor, f"__r{_name}__", fast_binary(_function, reflected=True))
        setattr(Tensor, f"__i{_name}__", fast_inplace(_function))
