"""exp, tanh and erf of float32 by tables in vector registers, for processors with AVX-512.

A permutation of 16 lanes looks up 16 numbers in a cycle. So 2**(i/16) shortens the polynomial of exp, and tanh and erf
are polynomials on 16 intervals, which costs less than a division. LLVM does not know how to make a scalar look-up a
permutation; so the vector forms of these functions are written here, on `irmath.Expr` over vectors of 8 and 16, and
given to its loop vectoriser (`runtime/variants.py`). The form for one number is one lane of 8: the same bits.

Elsewhere the formulas of `vecmath` hold. Look-ups in registers are as in P. T. P. Tang, *Table-lookup algorithms for
elementary functions*; coefficients are minimax fits made for this file, rounded to float32 one after the other.
"""
from __future__ import annotations

from llvmlite import ir

from jtorch.codegen.irmath import F32, I32, Expr, bits, copysign, fabs, fma, from_bits, poly, select, vector

LANES = (8, 16)
POWERS_OF_2 = (1.0, 1.0442737, 1.0905077, 1.1387886, 1.1892071, 1.2418578, 1.2968396, 1.3542556, 1.4142135, 1.4768262,
               1.5422108, 1.6104903, 1.6817929, 1.7562522, 1.8340081, 1.9152066)  # 2**(i/16)
EXP = (0.16667051613330840, 0.5000162124633789, 1.0)  # (exp(r) - 1) / r on |r| <= ln(2)/32
SIXTEENTHS = 1.5 * 2.0**19  # adding it rounds to multiples of 1/16, their number in the low bits
LOG2E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 0.693145751953125, 1.42860677e-06
TANH = (
    (0.015639804, 0.0024302457, -0.00064305123, -0.00077457185, -0.00015015028, -1.373562e-05, 2.5051247e-06,
     2.6557284e-06, -5.2436004e-08, 0.0, 0.0, 0.0, -0.036977373, -0.07425501, -0.013021463, -0.0015481282),
    (-0.043211307, -0.00020414333, 0.004932104, 0.0031053883, 0.0009390749, 0.00010730304, 3.6205904e-07,
     -7.4832287e-06, 4.001823e-07, 0.0, 0.0, 0.0, 0.14308444, 0.07492302, -0.045180142, -0.056573965),
    (0.026723048, -0.02557399, -0.017891174, -0.008237652, -0.0029843198, -0.00038360033, -3.428877e-05,
     4.77769e-06, -1.3257435e-06, 0.0, 0.0, 0.0, -0.0011837501, 0.13879366, 0.16896519, 0.096807815),
    (0.10372651, 0.08787294, 0.042097922, 0.017083304, 0.0064084916, 0.0008622571, 0.00010624469, 8.727526e-06,
     2.629664e-06, 0.0, 0.0, 0.0, -0.3332702, -0.2568075, -0.09474289, 0.0422884),
    (-0.31985116, -0.16356431, -0.06810692, -0.026245825, -0.009803455, -0.0013324321, -0.00017740745,
     -2.2362881e-05, -3.611367e-06, 0.0, 0.0, 0.0, -1.0973582e-06, -0.23023817, -0.3633962, -0.37895694),
    (0.4199737, 0.18070611, 0.070650645, 0.026592843, 0.009864874, 0.0013400851, 0.00018107508, 2.4301376e-05,
     3.4040313e-06, 0.0, 0.0, 0.0, 1.0, 0.9400152, 0.78644675, 0.59658694),
    (0.7615942, 0.90514827, 0.9640276, 0.9866143, 0.9950548, 0.9993293, 0.9999092, 0.9999877, 0.99999833, 1.0, 1.0,
     1.0, 0.0, 0.24491866, 0.46211717, 0.63514894),
)  # tanh(start + d) by powers of d, the highest first
ERF = (
    (0.10560801, 0.047250543, -0.02697193, -0.068501495, -0.059975397, -0.032053266, -0.0040667416, 0.009803905,
     0.01057573, 0.0027735939, 0.0004030171, -5.849198e-05, 0.0, 0.0, 0.0, 0.0),
    (0.0021802096, 0.13584964, 0.1923672, 0.15507248, 0.0657507, -0.009862656, -0.046729572, -0.048196726,
     -0.032568224, -0.006874673, -0.0008248047, 6.7546185e-05, 0.0, 0.0, 0.0, 0.0),
    (-0.37635455, -0.3102183, -0.14764641, 0.02611516, 0.13892928, 0.1678998, 0.1388698, 0.09003269, 0.047685683,
     0.007902621, 0.0007638045, -1.821703e-05, 0.0, 0.0, 0.0, 0.0),
    (8.02637e-06, -0.26495197, -0.43932196, -0.48214504, -0.41515073, -0.2956605, -0.17838654, -0.0923354,
     -0.041267697, -0.0053912373, -0.00042036583, -6.25887e-06, 0.0, 0.0, 0.0, 0.0),
    (0.12837912, 0.06001341, -0.12121897, -0.3570708, -0.5848911, -0.7634793, -0.8810707, -0.9472261, -0.97933596,
     -0.9978244, -0.9998601, -0.9999957, -1.0, -1.0, -1.0, -1.0),
    (0.0, 0.2763264, 0.5204999, 0.71115565, 0.8427008, 0.92290014, 0.96610516, 0.9866717, 0.9953223, 0.9995931,
     0.9999779, 0.9999993, 1.0, 1.0, 1.0, 1.0),
)  # erf(start + d) - d


def intrinsic(x: Expr, name: str, *args: ir.Value) -> Expr:
    """Call an instruction that only x86 has; x and the result have one type."""
    module = x.builder.module
    name = f"llvm.x86.avx512.{name}"
    function = module.globals.get(name) or ir.Function(module, ir.FunctionType(x.type, [a.type for a in args]), name)
    return Expr(x.builder, x.builder.call(function, args))


def masked(x: Expr, name: str, *args: ir.Value) -> Expr:
    """Likewise for those that LLVM has with a mask only, and for 16 lanes with a rounding mode."""
    n = x.type.count
    every = [x.value, ir.Constant(ir.IntType(n), -1)]
    return intrinsic(x, f"mask.{name}.ps.{32 * n}", *args, *every, *([ir.Constant(I32, 4)] if n == 16 else []))


def look_up(table: tuple[float, ...], index: Expr) -> Expr:
    """table[index & 15]"""
    n = index.type.count
    type_ = vector(F32, n)
    halves = [ir.Constant(type_, table[i:i + n]) for i in range(0, 16, n)]
    x = Expr(index.builder, halves[0])
    if n == 16:
        return intrinsic(x, "permvar.sf.512", halves[0], index.value)
    return intrinsic(x, "vpermi2var.ps.256", halves[0], index.value, halves[1])


def scaled(x: Expr, k: Expr) -> Expr:
    """x * 2**floor(k) rounded once; NaN if k is."""
    return masked(x, "scalef", x.value, k.value)


def limited(x: Expr, limit: float) -> Expr:
    """x within -limit..limit; limit for NaN."""
    return masked(x, "range", x.value, x.lift(limit).value, ir.Constant(I32, 2))  # the less in magnitude, sign of x


def exp(x: Expr) -> Expr:
    """2**k exp(r), x = k ln2 + r, k in sixteenths. What is far out of range gives 0 or infinity by k alone."""
    shifted = fma(x, LOG2E, SIXTEENTHS)
    k = shifted - SIXTEENTHS
    r = limited(fma(k, -LN2_LOW, fma(k, -LN2_HIGH, x)), 0.03125)
    power = look_up(POWERS_OF_2, bits(shifted))
    return scaled(fma(power * r, poly(r, *EXP), power), k)


def interval(x: Expr, offset: float, digits: int, last: float) -> tuple[Expr, Expr]:
    """The index of |x|'s interval, and how far it is from its start: |x| + offset with so many binary digits."""
    a = fabs(x)
    a = select(a > last, last, a)
    y = bits(a + offset)
    start = from_bits(y & (-1 << (23 - digits)))
    return y.shift_right_unsigned(23 - digits), a - (start - offset)


def tanh(x: Expr) -> Expr:
    """A polynomial on intervals from 1/4 (at 0) to 2 (at 9) long."""
    index, d = interval(x, 1.0, 2, 10.0)
    return copysign(poly(d, *[look_up(c, index) for c in TANH]), x)


def erf(x: Expr) -> Expr:
    """A polynomial on intervals of 1/4 and 1/2. Its first power loses least as d + (erf - d)."""
    index, d = interval(x, 2.0, 3, 4.25)
    return copysign(d + poly(d, *[look_up(c, index) for c in ERF]), x)


FUNCTIONS = {"exp": exp, "tanh": tanh, "erf": erf}


def symbol(name: str) -> str:
    """The function of one number, which the loop vectoriser replaces."""
    return f"jt.wide.{name}"


def body(name: str, lanes: int) -> list[str]:
    """The function of a vector %x of `lanes` (a number, if 0): by vectors of 8 or 16."""
    if lanes in LANES:
        return [f'%y = call <{lanes} x float> @"{symbol(name)}.in.{lanes}"(<{lanes} x float> %x)',
                f"ret <{lanes} x float> %y"]
    if not lanes:
        return ["%v = insertelement <8 x float> poison, float %x, i64 0",
                f'%w = call <8 x float> @"{symbol(name)}.in.8"(<8 x float> %v)',
                "%y = extractelement <8 x float> %w, i64 0", "ret float %y"]
    pieces = max(lanes // 16, 1)
    width = 16 if lanes > 16 else 8
    lines = []
    for i in range(pieces):
        lines += [_shuffle(f"v{i}", ("%x", "%x"), lanes, [i * width + j if j < lanes else None for j in range(width)]),
                  f'%w{i} = call <{width} x float> @"{symbol(name)}.in.{width}"(<{width} x float> %v{i})']
    joined = ("%w0", "%w1") if pieces == 2 else ("%w0", "%w0")
    return [*lines, _shuffle("y", joined, width, list(range(lanes))), f"ret <{lanes} x float> %y"]


def _shuffle(result: str, sources: tuple[str, str], lanes: int, order: list[int | None]) -> str:
    mask = ", ".join([f"i32 {'poison' if j is None else j}" for j in order])
    operands = ", ".join([f"<{lanes} x float> {s}" for s in sources])
    return f"%{result} = shufflevector {operands}, <{len(order)} x i32> <{mask}>"


def support(names: list[str]) -> str:
    """What the bodies of these functions call, as LLVM IR."""
    module = ir.Module()
    for name in names:
        for n in LANES:
            type_ = vector(F32, n)
            function = ir.Function(module, ir.FunctionType(type_, [type_]), f"{symbol(name)}.in.{n}")
            function.linkage = "internal"
            function.attributes.add("alwaysinline")
            builder = ir.IRBuilder(function.append_basic_block())
            builder.ret(FUNCTIONS[name](Expr(builder, function.args[0])).value)
    return "\n".join(map(str, module.globals.values()))
