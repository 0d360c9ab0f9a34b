"""A tiny expression language over llvmlite's IR builder.

`codegen/vecmath.py` writes its algorithms on `Expr`, so that they read like the formulas they are, and
come out as LLVM instructions:

    y = fma(k, -LN2_LO, fma(k, -LN2_HI, x))     # two llvm.fma calls
    select(x < 0, 1 - y, y)                     # fcmp, fsub, select

Python numbers are lifted to constants of the other operand's type. Nothing here branches: every function
written on `Expr` is straight-line code, which LLVM's loop vectoriser widens to whatever the machine has.
"""

from llvmlite import ir

F32, F64 = ir.FloatType(), ir.DoubleType()
I32, I64, I1 = ir.IntType(32), ir.IntType(64), ir.IntType(1)
INTEGER_OF = {F32: I32, F64: I64}
FLOAT_OF = {I32: F32, I64: F64}


def vector(scalar: ir.Type, lanes: int) -> ir.VectorType:
    """The type of a vector, on which an `Expr` may be written as well."""
    return ir.VectorType(scalar, lanes)


for _lanes in (8, 16):
    INTEGER_OF[vector(F32, _lanes)] = vector(I32, _lanes)
    FLOAT_OF[vector(I32, _lanes)] = vector(F32, _lanes)


class Expr:
    """An LLVM value with Python's operators. Integers are signed; `>>` is an arithmetic shift."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value):
        self.builder, self.value = builder, value

    @property
    def type(self):
        return self.value.type

    @property
    def is_float(self) -> bool:
        return self.type in INTEGER_OF

    def lift(self, other) -> "Expr":
        """`other` itself, or a constant of this expression's type."""
        if isinstance(other, Expr):
            return other
        n = getattr(self.type, "count", 0)
        return Expr(self.builder, ir.Constant(self.type, [other] * n if n else other))

    def _binary(self, other, float_op, int_op, swap=False):
        a, b = self, self.lift(other)
        if swap:
            a, b = b, a
        return Expr(self.builder, getattr(self.builder, float_op if self.is_float else int_op)(a.value, b.value))

    def __add__(self, other):
        return self._binary(other, "fadd", "add")

    def __radd__(self, other):
        return self._binary(other, "fadd", "add", swap=True)

    def __sub__(self, other):
        return self._binary(other, "fsub", "sub")

    def __rsub__(self, other):
        return self._binary(other, "fsub", "sub", swap=True)

    def __mul__(self, other):
        return self._binary(other, "fmul", "mul")

    def __rmul__(self, other):
        return self._binary(other, "fmul", "mul", swap=True)

    def __truediv__(self, other):
        return self._binary(other, "fdiv", "sdiv")

    def __rtruediv__(self, other):
        return self._binary(other, "fdiv", "sdiv", swap=True)

    def __neg__(self):
        return Expr(self.builder, self.builder.fneg(self.value) if self.is_float else self.builder.neg(self.value))

    def __and__(self, other):
        return Expr(self.builder, self.builder.and_(self.value, self.lift(other).value))

    def __or__(self, other):
        return Expr(self.builder, self.builder.or_(self.value, self.lift(other).value))

    def __xor__(self, other):
        return Expr(self.builder, self.builder.xor(self.value, self.lift(other).value))

    def __invert__(self):
        return Expr(self.builder, self.builder.not_(self.value))

    def __lshift__(self, other):
        return Expr(self.builder, self.builder.shl(self.value, self.lift(other).value))

    def __rshift__(self, other):
        return Expr(self.builder, self.builder.ashr(self.value, self.lift(other).value))

    def shift_right_unsigned(self, other):
        return Expr(self.builder, self.builder.lshr(self.value, self.lift(other).value))

    def _compare(self, op, other):
        compare = self.builder.fcmp_ordered if self.is_float else self.builder.icmp_signed
        return Expr(self.builder, compare(op, self.value, self.lift(other).value))

    def __lt__(self, other):
        return self._compare("<", other)

    def __le__(self, other):
        return self._compare("<=", other)

    def __gt__(self, other):
        return self._compare(">", other)

    def __ge__(self, other):
        return self._compare(">=", other)

    def equals(self, other):
        return self._compare("==", other)

    def is_nan(self):
        return Expr(self.builder, self.builder.fcmp_unordered("uno", self.value, self.value))


def call_llvm(builder: ir.IRBuilder, name: str, *values: ir.Value, result=None) -> ir.Value:
    """Call the LLVM intrinsic `llvm.<name>`, overloaded on its first operand's type."""
    first = values[0].type
    n, element = getattr(first, "count", 0), getattr(first, "element", first)
    suffix = (f"v{n}" if n else "") + ({F32: "f32", F64: "f64"}.get(element) or f"i{element.width}")
    full_name = f"llvm.{name}.{suffix}"
    module = builder.module
    function = module.globals.get(full_name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(result or first, [v.type for v in values]), full_name)
    return builder.call(function, values)


def _call(name, *args):
    first = next(a for a in args if isinstance(a, Expr))
    values = [first.lift(a).value for a in args]
    return Expr(first.builder, call_llvm(first.builder, name, *values))


def fma(a, b, c):
    """a * b + c, rounded once."""
    return _call("fma", a, b, c)


def sqrt(x):
    return _call("sqrt", x)


def fabs(x):
    return _call("fabs", x)


def rint(x):
    """Nearest integer, ties to even."""
    return _call("rint", x)


def floor(x):
    return _call("floor", x)


def trunc(x):
    return _call("trunc", x)


def copysign(magnitude, sign):
    return _call("copysign", magnitude, sign)


def select(condition: Expr, a, b) -> Expr:
    """a where the condition holds, else b; both are computed."""
    if isinstance(a, Expr):
        b = a.lift(b)
    elif isinstance(b, Expr):
        a = b.lift(a)
    else:
        raise TypeError("select needs at least one expression")
    return Expr(condition.builder, condition.builder.select(condition.value, a.value, b.value))


def bits(x: Expr) -> Expr:
    """The bit pattern of a float, as an integer of the same width."""
    return Expr(x.builder, x.builder.bitcast(x.value, INTEGER_OF[x.type]))


def from_bits(x: Expr) -> Expr:
    return Expr(x.builder, x.builder.bitcast(x.value, FLOAT_OF[x.type]))


def f64(x: Expr) -> Expr:
    return Expr(x.builder, x.builder.fpext(x.value, F64))


def f32(x: Expr) -> Expr:
    return Expr(x.builder, x.builder.fptrunc(x.value, F32))


def low_word(x: Expr) -> Expr:
    """The low 32 bits of an integer of 64."""
    return Expr(x.builder, x.builder.trunc(x.value, I32))


def to_float(x: Expr) -> Expr:
    """A signed integer as a float of the same width."""
    return Expr(x.builder, x.builder.sitofp(x.value, FLOAT_OF[x.type]))


def scale(x: Expr, k: Expr) -> Expr:
    """The float x * 2**k by `llvm.ldexp`: one instruction with AVX-512, slow elsewhere."""
    module = x.builder.module
    name = "llvm.ldexp.f32.i32"
    function = module.globals.get(name) or ir.Function(module, ir.FunctionType(F32, [F32, I32]), name)
    return Expr(x.builder, x.builder.call(function, [x.value, k.value]))


def two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """a + b rounded, and what the rounding lost (Knuth)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def two_product(a: Expr, b) -> tuple[Expr, Expr]:
    """a * b rounded, and what the rounding lost."""
    product = a * b
    return product, fma(a, b, -product)


def poly(x: Expr, *coefficients: float) -> Expr:
    """A polynomial by Horner's rule with fma; the highest power comes first."""
    result = x.lift(coefficients[0])
    for c in coefficients[1:]:
        result = fma(result, x, c)
    return result
