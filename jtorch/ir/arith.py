"""PyTorch-shaped arithmetic on Values: operands broadcast and promote, Python numbers are constants.

Primitives are strict; these functions insert the casts and expansions. Derivative rules, composites and the public
operators are all written with them.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jtorch import dtypes
from jtorch.dtypes import dtype
from jtorch.ir.graph import Builder, Shape, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims.create import constant, is_scalar
from jtorch.ir.prims.movement import expand_to

Operand = Value | bool | int | float | complex


def broadcast_shapes(*shapes: Shape) -> Shape:
    """`torch.broadcast_shapes`; RuntimeError with PyTorch's text."""
    if len(shapes) == 2 and shapes[0] == shapes[1]:
        return shapes[0]
    ndim = max(map(len, shapes), default=0)
    result = [1] * ndim
    for shape in shapes:
        for i in range(1, len(shape) + 1):
            n = shape[-i]
            if n != 1:
                if result[-i] not in (1, n):
                    raise RuntimeError(f"The size of tensor a ({result[-i]}) must match the size of tensor b ({n}) at "
                                       f"non-singleton dimension {ndim - i}")
                result[-i] = n
    return tuple(result)


def result_dtype(builder: Builder, operands: Sequence[Operand]) -> dtype:
    """The dtype PyTorch promotes the operands to. A scalar leaf (see `capture`) counts as a Python number."""
    kinds = []
    for x in operands:
        if isinstance(x, Value):
            kinds.append((x.dtype, 2 if x.type.shape else 0 if is_scalar(x) else 1))
        else:
            kinds.append((dtypes.of_scalar(x, builder.default_float), 0))
    return dtypes.result_type(kinds, builder.default_float)


def as_value(builder: Builder, x: Operand, d: dtype) -> Value:
    """`x` with dtype `d`; its shape stays."""
    if isinstance(x, Value):
        return ew.cast_to(x, d)
    if d.category <= dtypes.INT and isinstance(x, float):
        x = int(x)
    return constant(builder, bool(x) if d is dtypes.bool_ else x, d)


def builder_of(operands: Sequence[Any]) -> Builder:
    for x in operands:
        if isinstance(x, Value):
            return x.builder
    raise TypeError("no operand is a Value")


def broadcast(operands: Sequence[Value]) -> tuple[Value, ...]:
    first = operands[0].shape
    if all(x.shape == first for x in operands):
        return tuple(operands)
    shape = broadcast_shapes(*[x.shape for x in operands])
    return tuple([expand_to(x, shape) for x in operands])


def promote(*operands: Operand, to: dtype | None = None, float_result: bool = False) -> tuple[Value, ...]:
    """Operands cast to their common dtype (or `to`) and expanded to their common shape."""
    b = builder_of(operands)
    d = to or result_dtype(b, operands)
    if float_result and d.category < dtypes.FLOAT:
        d = b.default_float
    return broadcast([as_value(b, x, d) for x in operands])


def as_float(v: Value) -> Value:
    """Integers become the default float."""
    return v if v.dtype.category >= dtypes.FLOAT else ew.cast_to(v, v.builder.default_float)


def rounded_once(formula: Callable[..., Value], *operands: Operand) -> Value:
    """`formula(*operands)`; where that has a half type, it is computed in float32 and rounded at the end."""
    b = builder_of(operands)
    d = result_dtype(b, operands)
    if d.itemsize == 2 and d.is_floating_point:
        return ew.cast_to(formula(*[as_value(b, x, dtypes.float32) for x in operands]), d)
    return formula(*operands)


def _is_finer(x: Operand, d: dtype) -> bool:
    """Is `x` a number, or a tensor of no dimensions, that the half type `d` may have no place for?"""
    if isinstance(x, Value):
        return not x.type.shape and x.dtype is not d
    return d.numpy.type(x) != x


def _binary(op: Op, float_result: bool = False, reject_bool: str | None = None, wide: str = ""
            ) -> Callable[[Operand, Operand], Value]:
    """`wide`: operands of which a number that meets a tensor of a half type is taken as float32, the result rounded."""
    def apply(a: Operand, b: Operand) -> Value:
        if wide:
            d = result_dtype(builder_of((a, b)), (a, b))
            if d.itemsize == 2 and d.is_floating_point and (_is_finer(b, d) or wide == "ab" and _is_finer(a, d)):
                return ew.cast_to(op(*promote(a, b, to=dtypes.float32)), d)
        x, y = promote(a, b, float_result=float_result)
        if reject_bool is not None and x.dtype is dtypes.bool_:
            raise RuntimeError(reject_bool)
        return op(x, y)
    apply.__name__ = op.name
    return apply


_SUB_BOOL = ("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` "
             "operator instead.")
add = _binary(ew.add)
sub = _binary(ew.sub, reject_bool=_SUB_BOOL)
mul = _binary(ew.mul, wide="ab")
div = _binary(ew.div, float_result=True, wide="b")
bitwise_and = _binary(ew.bitwise_and)
bitwise_or = _binary(ew.bitwise_or)
bitwise_xor = _binary(ew.bitwise_xor)
eq, ne, lt, le, gt, ge = (_binary(op) for op in (ew.eq, ew.ne, ew.lt, ew.le, ew.gt, ew.ge))
maximum, minimum = _binary(ew.maximum), _binary(ew.minimum)
atan2 = _binary(ew.atan2, float_result=True)
fmod, remainder = _binary(ew.fmod), _binary(ew.remainder)
floor_divide, trunc_divide = (_binary(op, wide="b") for op in (ew.floor_divide, ew.trunc_divide))


def neg(a: Value) -> Value:
    return ew.neg(a)


def logical_not(a: Value) -> Value:
    return ew.logical_not(a)


def pow_(a: Operand, b: Operand) -> Value:
    """`torch.pow`: small constant exponents become products and roots."""
    if isinstance(b, (int, float)) and not isinstance(b, bool) and isinstance(a, Value):
        d = result_dtype(a.builder, (a, b))
        x = ew.cast_to(a, d)
        if d.category == dtypes.INT and b < 0:
            raise RuntimeError("Integers to negative integer powers are not allowed.")
        simple = _SMALL_POWERS.get(b) if d.category >= dtypes.FLOAT else _SMALL_INTEGER_POWERS.get(b)
        if simple is not None:
            return simple(x)
    x, y = promote(a, b)
    return ew.pow_(x, y)


_SMALL_INTEGER_POWERS: dict[float, Callable[[Value], Value]] = {
    0: lambda x: constant(x.builder, 1, x.dtype, x.shape), 1: lambda x: x, 2: lambda x: x * x, 3: lambda x: x * x * x}
_SMALL_POWERS = _SMALL_INTEGER_POWERS | {
    0.5: ew.sqrt, -0.5: ew.rsqrt, -1: ew.reciprocal, -2: lambda x: ew.reciprocal(x * x)}


def where(condition: Value, a: Operand, b: Operand) -> Value:
    if not isinstance(a, Value) and not isinstance(b, Value):
        builder = condition.builder
        d = dtypes.result_type([(dtypes.of_scalar(s, builder.default_float), 0) for s in (a, b)], builder.default_float)
        a, b = as_value(builder, a, d), as_value(builder, b, d)
    x, y = promote(a, b)
    c, x, y = broadcast((condition, x, y))
    return ew.where(c, x, y)


Value.arith = {
    "add": add, "sub": sub, "mul": mul, "div": div, "pow": pow_, "neg": neg, "logical_not": logical_not,
    "bitwise_and": bitwise_and, "bitwise_or": bitwise_or, "lt": lt, "le": le, "gt": gt, "ge": ge,
}
