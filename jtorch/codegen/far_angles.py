"""Angles beyond `FAR` modulo pi/2, which take a table: a path for sin, cos and tan that most loops never enter.

A gather from the table for every element would be most of the time of a sine. A loop with a branch, on the other hand,
is not vectorised. So the reduction of a far angle is a call of a function that is pure as far as LLVM knows, and has
vector forms (`runtime/variants.py`), in which a vector without a far angle returns at once.

    far_angle_high(x)    the rest in -pi/4 .. pi/4; the last two bits are the quadrant
    far_angle_low(x)     what that leaves of the rest

The method is Payne & Hanek, *Radian reduction for trigonometric functions*.
"""
from __future__ import annotations

from fractions import Fraction

from llvmlite import ir

from jtorch.codegen.irmath import F64, I64, Expr, bits, fabs, fma, from_bits, rint, select, two_product, two_sum

FAR = 2.0**20
HIGH, LOW = "jt.far_angle_high", "jt.far_angle_low"
PI_2_HIGH, PI_2_LOW, PI_2_LOWEST = 1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33
TABLE_ROWS, TABLE_WORDS = 61, 4


def two_over_pi_table() -> list[float]:
    """Row i: 2**(16 i) * 2/pi modulo 4, as a sum of four doubles; the largest double needs row 60."""
    precision = 1400

    def arctan_inverse(n):  # arctan(1/n) in fixed point
        term = total = (1 << precision) // n
        k = 1
        while term:
            term //= -n * n
            k += 2
            total += term // k
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))  # Machin
    two_over_pi = Fraction(2 << precision, pi)
    table = []
    for row in range(TABLE_ROWS):
        rest = two_over_pi * (1 << 16 * row) % 4
        for _ in range(TABLE_WORDS):
            word = float(rest)
            table.append(word)
            rest -= Fraction(word)
    return table


def table_pointer(module: ir.Module) -> ir.GlobalVariable:
    table = module.globals.get("jt.two_over_pi")
    if table is None:
        words = two_over_pi_table()
        type_ = ir.ArrayType(F64, len(words))
        table = ir.GlobalVariable(module, type_, "jt.two_over_pi")
        table.initializer = ir.Constant(type_, words)
        table.linkage, table.global_constant = "internal", True
    return table


def quarter_turns(x):
    """x as an integer of less than 2**70 times 2**(16 row), and a reader of that row of 2/pi."""
    exponent = (bits(fabs(x)) >> 52) - 1023
    row = (exponent - 52) >> 4
    row = select(row < 0, 0, row)
    row = select(row > TABLE_ROWS - 1, TABLE_ROWS - 1, row)  # infinity and NaN
    scaled = x * from_bits((1023 - (row << 4)) << 52)
    builder = x.builder
    table = table_pointer(builder.module)

    def word(i):
        zero = ir.Constant(I64, 0)
        return Expr(builder, builder.load(builder.gep(table, [zero, (row * TABLE_WORDS + i).value], inbounds=True)))
    return scaled, word


def modulo_4(x):
    return x - rint(x * 0.25) * 4.0


def reduce_far(x):
    """The quadrant, and the rest in two words."""
    scaled, word = quarter_turns(x)
    a, b = two_product(scaled, word(0))
    c, d = two_product(scaled, word(1))
    e, f = two_product(scaled, word(2))
    high, low1 = two_sum(modulo_4(a), modulo_4(b))
    high, low2 = two_sum(high, modulo_4(c))
    k = rint(high)
    low, rest1 = two_sum(low1, low2)
    small, rest2 = two_sum(d, e)
    low, rest3 = two_sum(low, small)
    high, low = two_sum(high - k, low)
    low = low + (rest1 + rest3 + (rest2 + f + scaled * word(3)))
    r, r_low = two_product(high, PI_2_HIGH)
    return quadrant(k), r, r_low + fma(high, PI_2_LOW, low * PI_2_HIGH)


def quadrant(k):
    """The integer k modulo 4, in the low bits of an integer."""
    return bits(modulo_4(k) + 1.5 * 2.0**52)


def pack(x):
    """`far_angle_high` and `far_angle_low`."""
    q, r, r_low = reduce_far(x)
    packed = from_bits((bits(r) & -4) | (q & 3))
    return packed, r_low + (r - packed)


def slow_paths() -> str:
    """The functions for one number, as LLVM IR."""
    module = ir.Module()
    for which, name in enumerate((HIGH, LOW)):
        function = ir.Function(module, ir.FunctionType(F64, [F64]), f"{name}.slow")
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        body = ir.IRBuilder(function.append_basic_block())
        body.ret(pack(Expr(body, function.args[0]))[which].value)
    return "\n".join(map(str, module.globals.values()))


def body(name: str, lanes: int) -> list[str]:
    """The function of a vector (a number, if `lanes` is 0): 0, unless some element is far."""
    type_, logical = (f"<{lanes} x double>", f"<{lanes} x i1>") if lanes else ("double", "i1")
    suffix = f"v{lanes}f64" if lanes else "f64"
    limit = f"<{', '.join([f'double {FAR!r}'] * lanes)}>" if lanes else repr(FAR)
    lines = [f"%a = call {type_} @llvm.fabs.{suffix}({type_} %x)", f"%far = fcmp oge {type_} %a, {limit}"]
    lines += [f"%any = call i1 @llvm.vector.reduce.or.v{lanes}i1({logical} %far)"] if lanes else []
    lines += [f"br i1 %{'any' if lanes else 'far'}, label %slow, label %done, !prof !0", "slow:"]
    if lanes:
        lines += [f"%result = call {type_} @\"{name}.slow.{lanes}\"({type_} %x)"]
    else:
        lines += [f"%result = call double @\"{name}.slow\"(double %x)"]
    return [*lines, "br label %done", "done:",
            f"%y = phi {type_} [ zeroinitializer, %entry ], [ %result, %slow ]", f"ret {type_} %y"]


def support(lanes: tuple[int, ...]) -> str:
    """What the bodies call."""
    lines = ["!0 = !{!\"branch_weights\", i32 1, i32 1000000}"]
    for n in lanes:
        type_ = f"<{n} x double>"
        lines += [f"declare {type_} @llvm.fabs.v{n}f64({type_})",
                  f"declare i1 @llvm.vector.reduce.or.v{n}i1(<{n} x i1>)"]
        for name in (HIGH, LOW):
            lines.append(f"define linkonce_odr {type_} @\"{name}.slow.{n}\"({type_} %x0) noinline {{")
            for i in range(n):
                before = f"%y{i - 1}" if i else "zeroinitializer"
                lines += [f"%e{i} = extractelement {type_} %x0, i64 {i}",
                          f"%r{i} = call double @\"{name}.slow\"(double %e{i})",
                          f"%y{i} = insertelement {type_} {before}, double %r{i}, i64 {i}"]
            lines += [f"ret {type_} %y{n - 1}", "}"]
    return "\n".join([slow_paths(), *lines])
