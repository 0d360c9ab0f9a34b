"""exp, log, sin, erf, … as straight-line code that LLVM's loop vectoriser widens.

Each function is written once, on `irmath.Expr`, and added to a kernel's module when the kernel calls it. All hold
over the whole range of their argument: NaN, infinities, zeros, denormals and huge angles included. Errors are
below 2 ulp (pow: 4; digamma: 8, of 1 near its root); `tests/test_vecmath.py` measures them against mpmath.

float32 is computed in float32 where that is accurate and fast (exp, log, tanh, erf: twice the lanes); where it would
need two-word arithmetic (pow, sin, erfc) it is computed in float64 and rounded. With AVX-512, exp, tanh and erf of
float32 are those of `vecmath_wide`.

Polynomials are minimax fits made for this file by Remez exchange in 50-digit arithmetic. The reductions are classic:
Cody & Waite, *Software Manual for the Elementary Functions* (exp); the substitution s = f/(2+f) of fdlibm's
`e_log.c` (log); k pi/2 in two or three words, and for large angles `far_angles` (sin, cos, tan); two-word arithmetic
after Dekker and Knuth, with fma; erfc through exp(x*x) * erfc(x) * (1 + 2x) as a polynomial in (x-4)/(x+4), after
Shepherd & Laframboise.
"""
from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from jtorch.codegen import vecmath_wide
from jtorch.codegen.far_angles import FAR, HIGH, LOW, PI_2_HIGH, PI_2_LOW, PI_2_LOWEST
from jtorch.codegen.irmath import (
    F32,
    F64,
    Expr,
    bits,
    copysign,
    f32,
    f64,
    fabs,
    floor,
    fma,
    from_bits,
    low_word,
    poly,
    rint,
    scale,
    select,
    sqrt,
    to_float,
    two_product,
    two_sum,
)

INF, NAN = float("inf"), float("nan")
FUNCTIONS: dict[tuple[str, ir.Type], object] = {}
ARITY: dict[str, int] = {}


def define(*types: ir.Type, arity: int = 1):
    """Decorator: this is the vector function of its name, for these types."""
    def register(function):
        name = function.__name__.removesuffix("_f32").removesuffix("_f64")
        FUNCTIONS.update({(name, t): function for t in types})
        ARITY[name] = arity
        return function
    return register


def call(builder: ir.IRBuilder, name: str, *args: ir.Value) -> ir.Value:
    """Call function `name` on float or double values, adding its definition to the module if it is not there."""
    type_ = args[0].type
    module = builder.module
    symbol = f"jt.{name}.{'f32' if type_ == F32 else 'f64'}"
    function = module.globals.get(symbol)
    if function is None:
        function = ir.Function(module, ir.FunctionType(type_, [type_] * len(args)), symbol)
        function.linkage = "internal"
        function.attributes.add("alwaysinline")
        body = ir.IRBuilder(function.append_basic_block())
        body.ret(FUNCTIONS[name, type_](*[Expr(body, a) for a in function.args]).value)
    return builder.call(function, args)


def wide(name: str, x: Expr) -> Expr | None:
    """Function `name` of `vecmath_wide`, where the type and the processor have it."""
    module = x.builder.module
    if x.type != F32 or not getattr(module, "has_wide", False):
        return None
    symbol = vecmath_wide.symbol(name)
    function = module.globals.get(symbol) or ir.Function(module, ir.FunctionType(F32, [F32]), symbol)
    return Expr(x.builder, x.builder.call(function, [x.value]))


# ---------------------------------------------------------------- formats and constants

@dataclass(frozen=True)
class Format:
    """What the algorithms need to know about a floating-point type."""

    bytes: int
    mantissa: int  # explicit bits
    bias: int
    shifter: float  # 1.5 * 2**mantissa: adding it rounds to an integer, left in the low bits
    smallest_normal: float
    sqrt_half: int  # the bit pattern of sqrt(1/2)
    ln2_high: float  # short enough for k * ln2_high to be exact where log needs that
    ln2_low: float
    exp_low: float  # exp(x) is 0 below
    exp_high: float  # exp(x) is infinite above
    exp2_low: float
    expm1_low: float  # expm1(x) is -1 below
    exp_q: tuple  # (exp(r) - 1 - r) / r**2 on |r| <= ln(2)/2
    exp2_p: tuple  # (2**r - 1) / r on |r| <= 1/2
    log_r: tuple  # ((log((1+s)/(1-s)) / s) - 2) / z, z = s**2, s up to 3 - sqrt(8)


LN2, LOG2E = 0.6931471805599453, 1.4426950408889634
LOG2E_LOW = 2.0355273740931033e-17
LOG2E_WORDS = {F32: (1.4426950216293335, 1.9259629911266175e-08), F64: (LOG2E, LOG2E_LOW)}
LOG10E_WORDS = {F32: (0.4342944920063019, -1.0103050118726668e-08), F64: (0.4342944819032518, 1.098319650216765e-17)}
LOG10_2_WORDS = {F32: (0.301025390625, 4.605038981195214e-06), F64: (0.30102999566361177, 3.694239077158931e-13)}
TWO_OVER_PI, SHIFTER = 0.6366197723675814, 1.5 * 2.0**52

FORMATS = {
    F32: Format(
        bytes=4, mantissa=23, bias=127, shifter=1.5 * 2**23, smallest_normal=2.0**-126, sqrt_half=0x3F3504F3,
        ln2_high=0.693145751953125, ln2_low=1.42860677e-06,
        exp_low=-104.0, exp_high=89.0, exp2_low=-151.0, expm1_low=-18.0,
        exp_q=(0.001395059038465099, 0.008368889660433889, 0.041666204108482395, 0.16666518837799843,
               0.5000000095787765),
        exp2_p=(1.5314949385400024e-05, 0.00015467134819396996, 0.001333343076406044, 0.009618036841373854,
                0.05550410962631705, 0.24022651076264287, 0.6931471805416201),
        log_r=(0.23579777955511946, 0.28537461057256713, 0.4000033214883804, 0.6666666566369425)),
    F64: Format(
        bytes=8, mantissa=52, bias=1023, shifter=1.5 * 2**52, smallest_normal=2.0**-1022, sqrt_half=0x3FE6A09E667F3BCD,
        ln2_high=0.6931471803691238, ln2_low=1.9082149292705877e-10,
        exp_low=-746.0, exp_high=710.0, exp2_low=-1076.0, expm1_low=-40.0,
        exp_q=(2.0926871380320064e-09, 2.511223946851893e-08, 2.7557233592168304e-07, 2.7557234239004177e-06,
               2.4801587373455333e-05, 0.00019841269897055117, 0.0013888888888858614, 0.00833333333331674,
               0.04166666666666673, 0.16666666666666685, 0.5),
        exp2_p=(2.574184173895168e-11, 4.4566746371369093e-10, 7.054888226354428e-09, 1.0178051203625247e-07,
                1.3215486833125019e-06, 1.5252733856248748e-05, 0.0001540353039334101, 0.001333355814639043,
                0.009618129107628496, 0.0555041086648217, 0.24022650695910072, 0.6931471805599453),
        log_r=(0.14792719610430444, 0.15314406913294198, 0.18183548785582662, 0.22222198911861782,
               0.285714287385651, 0.39999999999435315, 0.6666666666666731)),
}

# The float64 polynomials again, as short as a float32 result needs them.
EXP2_P_SHORT = FORMATS[F32].exp2_p
LOG_R_SHORT = (0.1681681885821395, 0.1812392832221651, 0.22223361421849838, 0.2857141730080351, 0.40000000050983425,
               0.666666666665906)


def clamp(x, low, high):
    """x within low..high; a NaN stays."""
    x = select(x < low, low, x)  # each is one instruction: the second operand of maxps or minps is the one that stays
    return select(x > high, high, x)


def round_to_integer(x, fmt):
    """x rounded, as a float and as an integer; |x| must be below 2**(mantissa-1)."""
    shifted = x + fmt.shifter
    return shifted - fmt.shifter, bits(shifted) - bits(x.lift(fmt.shifter))


def times_power_of_two(x, k, fmt):
    """x * 2**k rounded once, for results that overflow or are denormal; |k| up to twice the largest exponent."""
    if x.type == F32 and getattr(x.builder.module, "has_scalef", False):
        return scale(x, k)
    half = k >> 1
    rest = k - half
    return x * from_bits((half + fmt.bias) << fmt.mantissa) * from_bits((rest + fmt.bias) << fmt.mantissa)


# ---------------------------------------------------------------- exp

def reduce_exp(x, fmt):
    """x = k ln2 + r, |r| <= ln2/2: k as an integer, and p = exp(r) - 1."""
    k, ki = round_to_integer(x * LOG2E, fmt)
    r = fma(k, -fmt.ln2_low, fma(k, -fmt.ln2_high, x))
    return ki, fma(r * r, poly(r, *fmt.exp_q), r)


def reduce_exp_low(x, fmt):
    """`reduce_exp`, and what the last rounding of p lost."""
    k, ki = round_to_integer(x * LOG2E, fmt)
    r = fma(k, -fmt.ln2_low, fma(k, -fmt.ln2_high, x))
    t = r * r * poly(r, *fmt.exp_q)
    p = r + t
    return ki, p, (r - p) + t


@define(F32, F64)
def exp(x):
    if (found := wide("exp", x)) is not None:
        return found
    fmt = FORMATS[x.type]
    x = clamp(x, fmt.exp_low, fmt.exp_high)
    shifted = fma(x, LOG2E, fmt.shifter)  # as reduce_exp, with fewer operations: p is not needed by itself
    k = shifted - fmt.shifter
    r = fma(k, -fmt.ln2_low, fma(k, -fmt.ln2_high, x))
    return times_power_of_two(poly(r, *fmt.exp_q, 1.0, 1.0), bits(shifted) - bits(x.lift(fmt.shifter)), fmt)


@define(F32, F64)
def exp2(x):
    fmt = FORMATS[x.type]
    x = clamp(x, fmt.exp2_low, float(fmt.bias + 2))
    k, ki = round_to_integer(x, fmt)
    r = x - k
    return times_power_of_two(fma(r, poly(r, *fmt.exp2_p), 1.0), ki, fmt)


@define(F32, F64)
def expm1(x):
    """2**k (1 + p) - 1 = 2 (s p + (s - 1/2)) with s = 2**(k-1), which does not overflow early."""
    fmt = FORMATS[x.type]
    k, p = reduce_exp(clamp(x, fmt.expm1_low, fmt.exp_high), fmt)
    s = from_bits((k + (fmt.bias - 1)) << fmt.mantissa)
    tiny = fabs(x) < 2.0 ** -(fmt.mantissa + 2)
    return select(tiny, x, fma(s, p, s - 0.5) * 2.0)


@define(F32, F64)
def sigmoid(x):
    """1 / (1 + exp(-x)), from exp(-|x|), so that neither tail loses its digits."""
    e = exp(-fabs(x))
    d = e + 1.0
    n = select(x < 0.0, e, 1.0)
    reciprocal = 1.0 / d
    q = n * reciprocal
    return fma(reciprocal, fma(-q, d, n) - q * (e - (d - 1.0)), q)  # one step of division, with d in two words


# (tanh(x) / x - 1) / x**2, in x**2, for |x| <= 0.55
TANH = {
    F32: (-0.006281840894230535, 0.021077345107516132, -0.05385376636090049, 0.13332600902448777, -0.3333331802551514),
    F64: (-1.9517117418472013e-05, 8.335395679199233e-05, -0.0002334086248833561, 0.0005884555027074747,
          -0.0014555456253358588, 0.0035920924796781456, -0.008863232647863838, 0.021869488388823927,
          -0.05396825396386973, 0.1333333333332682, -0.333333333333333),
}


@define(F32, F64)
def tanh(x):
    """e / (e + 2) with e = expm1(2|x|); near 0, where that loses a bit, a polynomial."""
    if (found := wide("tanh", x)) is not None:
        return found
    fmt = FORMATS[x.type]
    a = fabs(x)
    doubled = a + a
    doubled = select(doubled > 44.0, 44.0, doubled)
    k, p = reduce_exp(doubled, fmt)
    s = from_bits((k + fmt.bias) << fmt.mantissa)
    e = fma(s, p, s - 1.0)
    z = a * a
    return copysign(select(a < 0.55, fma(a * z, poly(z, *TANH[x.type]), a), e / (e + 2.0)), x)


def quarter_exp(x, fmt):
    """exp(|x|) = 4 s (1 + p + p_low), s = 2**(k-2), within range where sinh and cosh are."""
    a = fabs(x)
    a = select(a > fmt.exp_high + 0.5, fmt.exp_high + 0.5, a)
    k, p, p_low = reduce_exp_low(a, fmt)
    return from_bits((k + (fmt.bias - 2)) << fmt.mantissa), p, p_low


@define(F32, F64)
def sinh(x):
    """(e + e / (e + 1)) / 2 with e = expm1(|x|) = 4h."""
    fmt = FORMATS[x.type]
    s, p, p_low = quarter_exp(x, fmt)
    h = fma(s, p, s - 0.25)
    result = (h + fma(s, p_low * 2.0, h / fma(h, 4.0, 1.0))) * 2.0
    return copysign(select(fabs(x) < 2.0 ** -(fmt.mantissa // 2 + 2), x, result), x)


@define(F32, F64)
def cosh(x):
    """(e + 1/e) / 2 with e = exp(|x|) = 4q."""
    s, p, _ = quarter_exp(x, FORMATS[x.type])
    q = fma(s, p, s)
    return (q + 0.0625 / q) * 2.0


# ---------------------------------------------------------------- log

def split(x, fmt):
    """x = 2**k m with sqrt(1/2) <= m < sqrt(2), for x > 0: k as a float, m - 1, and the integer k."""
    denormal = x < fmt.smallest_normal
    x = select(denormal, x * 2.0**fmt.mantissa, x)
    pattern = bits(x)
    k = (pattern - fmt.sqrt_half) >> fmt.mantissa
    m = from_bits(pattern - (k << fmt.mantissa))
    k = k - select(denormal, k.lift(fmt.mantissa), 0)
    return to_float(k), m - 1.0, k


def log_tail(f, coefficients):
    """t and h with log(1+f) = f - (h - t), h = f*f/2."""
    s = f / (f + 2.0)
    z = s * s
    h = f * f * 0.5
    return s * fma(z, poly(z, *coefficients), h), h


def log_special(x, result):
    """The logarithm's values at 0, infinity, and where it has none."""
    result = select(x < INF, result, x)  # infinity and NaN
    return select(x > 0.0, result, select(x.equals(0.0), -INF, x.lift(NAN)))


@define(F32, F64)
def log(x):
    fmt = FORMATS[x.type]
    k, f, _ = split(x, fmt)
    t, h = log_tail(f, fmt.log_r)
    result = fma(k, fmt.ln2_high, f - (h - fma(k, fmt.ln2_low, t)))
    return log_special(x, result)


@define(F32, F64)
def log1p(x):
    """log(u) with u = 1 + x rounded, plus what the rounding lost, over u."""
    fmt = FORMATS[x.type]
    u = x + 1.0
    k, f, ki = split(u, fmt)
    lost = select(x > 1.0, 1.0 - (u - x), x - (u - 1.0)) / u
    exact = ki.equals(0)
    f = select(exact, x, f)
    lost = select(exact, 0.0, lost)
    t, h = log_tail(f, fmt.log_r)
    result = fma(k, fmt.ln2_high, f - (h - (fma(k, fmt.ln2_low, lost) + t)))
    result = select(fabs(x) < 2.0 ** -(fmt.mantissa + 2), x, result)
    return log_special(u, result)


def log_in_base(x, multiplier, multiplier_low, step_high, step_low):
    """k * step + log(m) * multiplier, log(m) and the multiplier in two words; k * step_high is exact."""
    fmt = FORMATS[x.type]
    k, f, _ = split(x, fmt)
    t, h = log_tail(f, fmt.log_r)
    high = f - h
    low = ((f - high) - h) + t
    product = high * multiplier
    rest = fma(high, multiplier, -product) + fma(low, multiplier, high * multiplier_low)
    base = k * step_high
    total, error = two_sum(base, product)
    return log_special(x, total + (error + fma(k, step_low, rest)))


@define(F32, F64)
def log2(x):
    return log_in_base(x, *LOG2E_WORDS[x.type], 1.0, 0.0)


@define(F32, F64)
def log10(x):
    return log_in_base(x, *LOG10E_WORDS[x.type], *LOG10_2_WORDS[x.type])


def log_of_float(x):
    """The logarithm of a double that was a float32, to some 2**-50: k and log(m)."""
    k, f, _ = split(x, FORMATS[F64])
    t, h = log_tail(f, LOG_R_SHORT)
    return k, f - (h - t)


# ---------------------------------------------------------------- pow

# (((log((1+s)/(1-s)) / s) - 2) / z - 2/3) / z, z = s**2
POW_TAIL = (0.1319690963194538, 0.13256757628352556, 0.15386759795137264, 0.18181784316536193, 0.22222222520462187,
            0.28571428570096824, 0.4000000000000226)


def pow_special(x, y, magnitude):
    """C's table of special cases around |x|**y."""
    ax, ay = fabs(x), fabs(y)
    whole = floor(y).equals(y)
    half = y * 0.5
    odd = whole & ~floor(half).equals(half) & (ay < INF)
    grows = y > 0.0
    magnitude = select(ax.equals(0.0), select(grows, x.lift(0.0), INF), magnitude)
    magnitude = select(ax.equals(INF), select(grows, x.lift(INF), 0.0), magnitude)
    towards_infinity = (grows & (ax > 1.0)) | (~grows & (ax < 1.0))
    limit = select(ax.equals(1.0), x.lift(1.0), select(towards_infinity, x.lift(INF), 0.0))
    magnitude = select(ay.equals(INF), limit, magnitude)
    signed = select(odd, copysign(magnitude, x), magnitude)
    signed = select((x < 0.0) & ~whole & (ax < INF), NAN, signed)
    signed = select(x.is_nan() | y.is_nan(), x + y, signed)
    return select(y.equals(0.0) | x.equals(1.0), 1.0, signed)


@define(F32, arity=2)
def pow_f32(x, y):
    wide = f64(y)
    k, log_m = log_of_float(f64(fabs(x)))
    exponent = clamp(wide * fma(log_m, LOG2E, k), -200.0, 200.0)
    n, ni = round_to_integer(exponent, FORMATS[F64])
    r = exponent - n
    power = fma(r, poly(r, *EXP2_P_SHORT), 1.0)
    return pow_special(x, y, f32(power * from_bits((ni + 1023) << 52)))


@define(F64, arity=2)
def pow_f64(x, y):
    """2**(y log2|x|), the logarithm and the product in two words.

    log(m) = 2s + 2/3 s**3 + s**5 P(s**2), s = f / (2+f); all but the last term carry two words.
    """
    fmt = FORMATS[F64]
    k, f, _ = split(fabs(x), fmt)
    d = f + 2.0
    d_low = f - (d - 2.0)
    s = f / d
    s_low = (fma(-s, d, f) - s * d_low) / d
    z = s * s
    z_low = fma(s, s, -z) + (s + s) * s_low
    cube = z * s
    cube_low = fma(z, s, -cube) + fma(z, s_low, z_low * s)
    third = 0.6666666666666666
    third_low = 3.700743415417188e-17
    term = cube * third
    term_low = fma(cube, third, -term) + fma(cube, third_low, cube_low * third)
    tail = cube * z * poly(z, *POW_TAIL)
    log_high, log_low = two_sum(s + s, term)
    log_high, tail_low = two_sum(log_high, tail)
    log_low = log_low + ((s_low + s_low) + term_low + tail_low)
    product, product_low = two_product(log_high, LOG2E)
    product_low = product_low + fma(log_high, LOG2E_LOW, log_low * LOG2E)
    high, low = two_sum(k, product)
    low = low + product_low
    e, e_low = two_product(y, high)
    e_low = fma(y, low, e_low)
    in_range = fabs(e) < 1100.0
    e_low = select(in_range, e_low, 0.0)
    e = clamp(e, -1100.0, 1100.0)
    n, ni = round_to_integer(e, fmt)
    r = e - n
    power = fma(r, poly(r, *fmt.exp2_p), 1.0)
    power = fma(power * LN2, e_low, power)
    return pow_special(x, y, times_power_of_two(power, ni, fmt))


# ---------------------------------------------------------------- sin, cos, tan

SIN = (-7.578701457673234e-13, 1.6058366720561718e-10, -2.505210491252647e-08, 2.7557319214195106e-06,
       -0.0001984126984125508, 0.008333333333333323, -0.16666666666666666)  # (sin(r) - r) / r**3, in r**2
COS = (-1.1359654541919689e-11, 2.0875723632524558e-09, -2.755731435701612e-07, 2.4801587289507246e-05,
       -0.0013888888888874183, 0.0416666666666666)  # (cos(r) - 1 + r**2 / 2) / r**4, in r**2
SIN_SHORT = (2.718278760271844e-06, -0.00019839331597077176, 0.008333329376748041, -0.16666666641561378)
COS_SHORT = (-2.721004860193528e-07, 2.4799518074479032e-05, -0.0013888883747882595, 0.0416666666227936)

def reduce_float(x):
    """A float32 angle, given as double: the quadrant in the low bits of an integer, and the rest as one double."""
    shifted = fma(x, TWO_OVER_PI, SHIFTER)
    k = shifted - SHIFTER
    near = fma(k, -PI_2_LOW, fma(k, -PI_2_HIGH, x))
    return choose_reduction(x, shifted, near)


def reduce_double(x):
    """A float64 angle: the quadrant, and the rest in two words; k pi/2 has three."""
    shifted = fma(x, TWO_OVER_PI, SHIFTER)
    k = shifted - SHIFTER
    a, a_low = two_product(k, PI_2_HIGH)
    b, b_low = two_product(k, PI_2_LOW)
    rest, lost1 = two_sum(x - a, -a_low)
    rest, lost2 = two_sum(rest, -b)
    low = (lost1 + lost2) - fma(k, PI_2_LOWEST, b_low)
    near = rest + low
    q, high = choose_reduction(x, shifted, near)
    return q, high, select(fabs(x) >= FAR, far_angle(LOW, x), (rest - near) + low)


def choose_reduction(x, shifted, near):
    """Quadrant and rest, those of a far angle being one word (`far_angles`)."""
    far, high = fabs(x) >= FAR, far_angle(HIGH, x)
    return bits(select(far, high, shifted)), select(far, high, near)


def far_angle(name, x):
    """Call `far_angles.HIGH` or `LOW`."""
    module = x.builder.module
    function = module.globals.get(name) or ir.Function(module, ir.FunctionType(F64, [F64]), name)
    return Expr(x.builder, x.builder.call(function, [x.value]))


def sin_cos_float(x):
    q, r = reduce_float(f64(x))
    return sin_cos_short(low_word(q), f32(r))


def sin_cos_short(q, r):
    """Quadrant, and sine and cosine of the rest as precise as a float32."""
    z = r * r
    return q, fma(r * z, poly(z, *SIN_SHORT), r), fma(z * z, poly(z, *COS_SHORT), fma(z, -0.5, 1.0))


def sin_cos_double(x):
    q, r, low = reduce_double(x)
    z = r * r
    sine = r + fma(r * z, poly(z, *SIN), low * fma(z, -0.5, 1.0))
    half = z * 0.5
    w = 1.0 - half
    cosine = w + (((1.0 - w) - half) + fma(z * z, poly(z, *COS), -(r * low)))
    return q, sine, cosine


def by_quadrant(q, sine, cosine):
    """sin of (quadrant, rest)."""
    value = select((q & 1).equals(0), sine, cosine)
    return from_bits(bits(value) ^ ((q & 2) << (q.type.width - 2)))


@define(F32)
def sin_f32(x):
    return select(fabs(x) < 2.0**-13, x, by_quadrant(*sin_cos_float(x)))


@define(F64)
def sin_f64(x):
    return select(fabs(x) < 2.0**-27, x, by_quadrant(*sin_cos_double(x)))


@define(F32)
def cos_f32(x):
    q, sine, cosine = sin_cos_float(x)
    return by_quadrant(q + 1, sine, cosine)


@define(F64)
def cos_f64(x):
    q, sine, cosine = sin_cos_double(x)
    return by_quadrant(q + 1, sine, cosine)


def tan_of(q, sine, cosine):
    even = (q & 1).equals(0)
    return select(even, sine, -cosine) / select(even, cosine, sine)


@define(F32)
def tan_f32(x):
    return select(fabs(x) < 2.0**-13, x, f32(tan_of(*sin_cos_short(*reduce_float(f64(x))))))


@define(F64)
def tan_f64(x):
    return select(fabs(x) < 2.0**-27, x, tan_of(*sin_cos_double(x)))


# (atan(t) / t - 1) / t**2, in t**2, for |t| <= sqrt(2) - 1
ATAN = {
    F32: (-0.060813848208221936, 0.10595277621488361, -0.1424376611328112, 0.1999848605912856, -0.33333315468959707),
    F64: (0.015196261747727789, -0.033475632720554684, 0.045036040071799205, -0.052184189560401495,
          0.05877024267719877, -0.06666227034680079, 0.07692282779518132, -0.09090908145567211, 0.11111111088210843,
          -0.14285714285388634, 0.19999999999997675, -0.33333333333333326),
}
PI_2_PARTS = {F32: (1.57079637050628662109375, -4.37113900018624283e-8), F64: (PI_2_HIGH, PI_2_LOW)}
SQRT_2 = 1.4142135623730951


@define(F32, F64)
def atan(x):
    """atan(a) = atan(t) + 0, pi/4 or pi/2, with t = a, (a-1)/(a+1) or -1/a, whichever is small."""
    a = fabs(x)
    high, low = PI_2_PARTS[x.type]
    near, far = a > SQRT_2 - 1, a > SQRT_2 + 1
    t = select(far, -1.0, select(near, a - 1.0, a)) / select(far, a, select(near, a + 1.0, 1.0))
    base = select(far, high, select(near, x.lift(high / 2), 0.0))
    rest = select(far, low, select(near, x.lift(low / 2), 0.0))
    z = t * t
    return copysign(base + (t + fma(t * z, poly(z, *ATAN[x.type]), rest)), x)


# ---------------------------------------------------------------- erf, erfc

ERF_SMALL_F32 = (8.345225383524751e-05, -0.0008137440383380078, 0.0052006345915938525, -0.026859271232355205,
                 0.11283693955962636, -0.3761263369860283, 1.128379166642588)  # erf(x) / x, in x**2, to 0.93
ERF_LOG_F32 = (2.1161898869598416e-05, -0.0004352187774113662, 0.0041746424252582445, -0.02512862289937804,
               0.10829394390181242, 0.6333346555347205, 1.1295208220911803,
               -0.00017587430875313945)  # -log(erfc(x)), 0.92 to 4
ERF_SMALL_F64 = (-4.23312952867958e-12, 8.710465336650472e-11, -1.216496861716556e-09, 1.479246964452013e-08,
                 -1.636464955146516e-07, 1.646204598055763e-06, -1.4925647594497853e-05, 0.000120553329038126,
                 -0.0008548327021956025, 0.005223977625423611, -0.026866170645129868, 0.1128379167095512,
                 -0.37612638903183754, 1.1283791670955126)  # erf(x) / x, in x**2, to 1


def odd_series(a, z, coefficients):
    """a * poly(z), the leading term rounded only with the sum."""
    return fma(a, coefficients[-1], a * (z * poly(z, *coefficients[:-1])))


@define(F32)
def erf_f32(x):
    if (found := wide("erf", x)) is not None:
        return found
    a = fabs(x)
    z = a * a
    small = odd_series(a, z, ERF_SMALL_F32)
    big = 1.0 - exp(-poly(select(a > 4.0, 4.0, a), *ERF_LOG_F32))
    return copysign(select(a < 0.925, small, select(x.is_nan(), x, big)), x)


# exp(x*x) * erfc(x) * (1 + 2x) in t = (x-4) / (x+4): for x to 27.3, and to 10.1 (in float64, for float32 results)
ERFC_F64 = (2.8480158593078293e-10, 2.0898223903380466e-09, 1.7082063190020574e-09, -1.6546220686642533e-08,
            -1.9120689930596542e-08, 1.1316768335811554e-07, 7.701458591624535e-08, -8.276513213664475e-07,
            2.9168513258635084e-07, 5.710707716617668e-06, -1.1220932919081924e-05, -2.4399483192319047e-05,
            0.00015062132486394128, -0.00019925664803822175, -0.0007577732179801978, 0.005031969972970638,
            -0.016197734066559593, 0.03716751553781342, -0.06633036581158558, 0.09373283499833654,
            -0.10103906603632774, 0.06809705425469297, 0.015379652102620081, -0.13962111684056253,
            1.2329951186255526)
ERFC_F32 = (7.654555094567222e-05, -0.0003860534867480274, -0.0008625734175675689, 0.005079212414643357,
            -0.01613845407729734, 0.03717077668541293, -0.06634084173908815, 0.09373113041774864, -0.1010382950376628,
            0.06809718343875777, 0.015379630530536315, -0.13962111905184646, 1.2329951187350452)


def erfc_positive(a, coefficients):
    """erfc(a) for a >= 0: exp(-a*a), its argument in two words, times the fitted factor."""
    t = (a - 4.0) / (a + 4.0)
    factor = poly(t, *coefficients)
    denominator = fma(a, 2.0, 1.0)
    ratio = factor / denominator
    ratio_low = fma(-ratio, denominator, factor) / denominator
    square, square_low = two_product(a, a)
    fmt = FORMATS[F64]
    k, p = reduce_exp(-square, fmt)
    correction = (ratio_low - ratio * square_low) * (p + 1.0)
    return times_power_of_two(ratio + fma(ratio, p, correction), k, fmt)


@define(F64)
def erfc_f64(x):
    a = fabs(x)
    tail = erfc_positive(select(a > 27.5, 27.5, a), ERFC_F64)
    near_zero = 1.0 - odd_series(x, x * x, ERF_SMALL_F64)
    return select(a < 0.6, near_zero, select(x < 0.0, 2.0 - tail, tail))


@define(F32)
def erfc_f32(x):
    a = f64(fabs(x))
    tail = erfc_positive(select(a > 10.2, 10.2, a), ERFC_F32)
    return f32(select(f64(x) < 0.0, 2.0 - tail, tail))


@define(F64)
def erf_f64(x):
    a = fabs(x)
    small = odd_series(a, a * a, ERF_SMALL_F64)
    big = 1.0 - erfc_positive(select(a > 6.0, 6.0, a), ERFC_F64)
    return copysign(select(a < 1.0, small, big), x)


# ---------------------------------------------------------------- digamma, inverse of erf

# Bernoulli terms of psi(x) ~ log(x) - 1/(2x) - sum B[2n] / (2n x**2n), highest first
DIGAMMA_SERIES = (-1 / 12, 691 / 32760, -1 / 132, 1 / 240, -1 / 252, 1 / 120, -1 / 12)
DIGAMMA_FROM = 10  # where the series is good to a double
PI = 3.141592653589793


@define(F64)
def digamma_f64(x):
    """psi(x), raised to the series' range by psi(x) = psi(x+1) - 1/x, reflected for x < 1/2.

    Near the root at 1.4616 the error is small against 1, not against the result.
    """
    below = x < 0.5
    t = select(below, 1.0 - x, x)
    shift = t.lift(0.0)
    for _ in range(DIGAMMA_FROM):
        small = t < float(DIGAMMA_FROM)
        shift = shift + select(small, 1.0 / t, 0.0)
        t = t + select(small, t.lift(1.0), 0.0)
    z = 1.0 / (t * t)
    large = log(t) - 0.5 / t + select(t < 1e17, z * poly(z, *DIGAMMA_SERIES), 0.0) - shift
    fraction = x - rint(x)
    reflected = large - PI / tan_f64(fraction * PI)
    result = select(below, reflected, large)
    result = select(below & fraction.equals(0.0), NAN, result)
    return select(x.equals(0.0), copysign(x.lift(INF), -x), result)


@define(F32)
def digamma_f32(x):
    return f32(digamma_f64(f64(x)))


# erfinv(x) / x, from w = -log(1 - x*x): in w to 5, in sqrt(w) from there. For float64 a rough guess.
ERFINV_CENTRE = (2.8539466264747888e-08, -2.270634265125033e-07, -4.549725563987926e-06, 6.86791403454259e-05,
                 -0.00016721225772659102, -0.0022978788046024595, 0.011532145052374045, 0.23201664957346804,
                 0.886226842519427)
ERFINV_TAIL = (0.00019971079087014197, -0.005318421453500281, 0.05844093782248048, -0.3397769897917279,
               1.105444140125153, -0.9054749143731978, 1.1874163452891544)
# For float32 in w to 3, in sqrt(w) - 2.75 from there; without the constants.
ERFINV_CENTRE_F32 = (1.0787034199211121e-07, -1.3913434031564975e-06, 2.456884658386116e-06, 4.658093530451879e-05,
                     -0.00012849185441154987, -0.0023346622474491596, 0.01154918223619461, 0.23201368749141693,
                     -2.6998430158187148e-08)
ERFINV_TAIL_F32 = (-3.862810990540311e-05, 0.00011792271106969565, 7.510225259466097e-05, -0.0007512969896197319,
                   0.0009798211976885796, 0.0009435881511308253, -0.005647337529808283, 0.0115050058811903,
                   -0.016012942418456078, 0.017953723669052124, 0.9950854778289795, -1.0566754582441718e-07)
ERFINV_CONSTANTS_F32 = (0.8862269520759583, 2.583293914794922)
HALF_SQRT_PI = 0.886226925452758


def erfinv_at_ends(x, rest, y):
    y = select(rest > 0.0, y, select(rest.equals(0.0), y.lift(INF), NAN))
    return copysign(select(x.is_nan(), x, y), x)


@define(F64)
def erfinv_f64(x):
    """Two steps of Halley's method on erf(y) = |x|, or where that loses digits on erfc(y) = 1 - |x|."""
    a = fabs(x)
    rest = 1.0 - a
    w = -log(rest * (a + 1.0))
    y = a * select(w < 5.0, poly(w, *ERFINV_CENTRE), poly(sqrt(w), *ERFINV_TAIL))
    for _ in range(2):
        square = y * y
        excess = select(a < 0.5, odd_series(y, square, ERF_SMALL_F64) - a, rest - erfc_positive(y, ERFC_F64))
        error = excess * HALF_SQRT_PI * exp(square)
        y = y - error / fma(y, error, 1.0)
    return erfinv_at_ends(x, rest, y)


@define(F32)
def erfinv_f32(x):
    """The logarithm, its root, and x times the constant carry two words; the rest of the polynomial is smaller."""
    fmt = FORMATS[F32]
    a = fabs(x)
    k, f, _ = split(fma(-a, a, 1.0), fmt)
    t, h = log_tail(f, fmt.log_r)
    whole, part = k * -fmt.ln2_high, (h - fma(k, fmt.ln2_low, t)) - f
    w = whole + part
    near, root = w < 3.0, sqrt(w)
    place = (root - 2.75) + (fma(-root, root, w) + (part - (w - whole))) / (root + root)
    rest = select(near, poly(w, *ERFINV_CENTRE_F32), poly(place, *ERFINV_TAIL_F32))
    constant, low = two_product(a, select(near, *map(a.lift, ERFINV_CONSTANTS_F32)))
    return erfinv_at_ends(x, 1.0 - a, constant + fma(a, rest, low))
