"""More of `vecmath`: inverse circular and hyperbolic functions, lgamma, and what looks at a number's digits.

For float64, asinh, acosh, atanh, lgamma and fmod are the C library's. Sources: fdlibm's `e_asin.c` and `e_acos.c` (the
halving of the argument beyond 1/2); Stirling's series with the reflection formula (lgamma).
"""
from __future__ import annotations

from jtorch.codegen.far_quotients import near_quotient
from jtorch.codegen.irmath import (
    F32,
    F64,
    bits,
    copysign,
    f32,
    f64,
    fabs,
    fma,
    from_bits,
    poly,
    rint,
    select,
    sqrt,
    trunc,
)
from jtorch.codegen.vecmath import COS, FORMATS, INF, NAN, PI_2_PARTS, SIN, atan, define, log

# (asin(s) / s - 1) / s**2, in s**2, for |s| <= 1/2
ASIN = {
    F32: (0.03369084720283012, 0.017149238357677253, 0.03110066273549457, 0.04459940152851218, 0.07500094543497424,
          0.16666666337430908),
    F64: (0.028757851367421566, -0.014851887071247204, 0.01740087944269402, 0.005457506718640358, 0.01032281435018578,
          0.011479177415184906, 0.013971212973552933, 0.017352392720869973, 0.02237217294214989, 0.030381944138531247,
          0.04464285714635543, 0.07499999999998433, 0.16666666666666669),
}


def asin_reduced(x):
    """(far, s, t) with asin(s) = s + t: s = |x|, or beyond 1/2 sqrt((1 - |x|) / 2), whose sine's double is wanted."""
    a = fabs(x)
    far = a > 0.5
    half = (1.0 - a) * 0.5
    z = select(far, half, a * a)
    root = sqrt(z)
    s = select(far, root, a)
    lost = select(far, fma(-root, root, z) / (root + root), 0.0)  # what the root's rounding lost
    lost = select(root > 0.0, lost, 0.0)
    return far, s, fma(s * z, poly(z, *ASIN[x.type]), lost)


@define(F32, F64)
def asin(x):
    high, low = PI_2_PARTS[x.type]
    far, s, t = asin_reduced(x)
    return copysign(select(far, high - ((s + s) - (low - (t + t))), s + t), x)


@define(F32, F64)
def acos(x):
    """pi/2 - asin(x); 2 asin(s) near 1 and pi - 2 asin(s) near -1."""
    high, low = PI_2_PARTS[x.type]
    far, s, t = asin_reduced(x)
    negative = x < 0.0
    signed_s, signed_t = select(negative, -s, s), select(negative, -t, t)
    near = high - (signed_s - (low - signed_t))
    doubled = (s + t) * 2.0
    beyond = select(negative, high * 2.0 - ((s + s) - (low * 2.0 - (t + t))), doubled)
    return select(far, beyond, near)


@define(F32, F64, arity=2)
def atan2(y, x):
    """The angle of (x, y): atan of the smaller part over the larger, put into its octant."""
    high, low = PI_2_PARTS[x.type]
    a, b = fabs(x), fabs(y)
    steep = b > a
    larger, smaller = select(steep, b, a), select(steep, a, b)
    ratio = select(larger.equals(0.0), 0.0, select(smaller.equals(INF), 1.0, smaller / larger))
    r = atan(ratio)
    left = (bits(x) >> (8 * FORMATS[x.type].bytes - 1)).equals(-1)
    base = select(steep, high, select(left, x.lift(high * 2.0), 0.0))
    rest = select(steep, low, select(left, x.lift(low * 2.0), 0.0))
    r = base + (select(steep ^ left, -r, r) + rest)
    return copysign(select(x.is_nan() | y.is_nan(), NAN, r), y)


# (atanh(x) / x - 1) / x**2, in x**2, for |x| <= 1/2
ATANH = (0.17669146878075262, 0.0513580104836211, 0.11823737197296591, 0.1422276103871293, 0.2000251835611292,
         0.3333330006958315)


@define(F32)
def atanh(x):
    """A polynomial; beyond 1/2 half the logarithm of q = (1 + |x|) / (1 - |x|), and what q lost by rounding, over q."""
    a = fabs(x)
    z = a * a
    near = fma(a * z, poly(z, *ATANH), a)
    above, below = 1.0 + a, 1.0 - a  # the second one exactly
    q = above / below
    lost = fma(-q, below, above) + (a - (above - 1.0))
    inverse = fma(above, -1 / 3, 7 / 6)  # of 1 + |x|, to 2 %
    whole = log(q)
    far = select(a < 1.0, fma(lost, inverse, whole), whole) * 0.5
    return copysign(select(a > 0.5, far, near), x)


# ---------------------------------------------------------------- float32, computed in float64

@define(F32)
def asinh(x):
    a = fabs(f64(x))
    return f32(copysign(select(a < 1e-4, a, log(a + sqrt(fma(a, a, 1.0)))), f64(x)))


@define(F32)
def acosh(x):
    wide = f64(x)
    return f32(select(wide < 1.0, NAN, log(wide + sqrt((wide - 1.0) * (wide + 1.0)))))


LGAMMA_SERIES = (1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)  # in 1/t**2, times 1/t
LGAMMA_FROM = 8  # where the series is good to a float's root
HALF_LOG_2PI = 0.9189385332046728
PI = 3.141592653589793


@define(F32)
def lgamma(x):
    """Stirling's series for t >= 8, to which t is raised by log gamma(t) = log gamma(t + 1) - log t; reflected below
    1/2. Near the roots below 0 the error is small against 1, not against the result."""
    wide = f64(x)
    below = wide < 0.5
    t = select(below, 1.0 - wide, wide)
    product = t.lift(1.0)
    for _ in range(LGAMMA_FROM):
        small = t < float(LGAMMA_FROM)
        product = product * select(small, t, 1.0)
        t = t + select(small, t.lift(1.0), 0.0)
    inverse = 1.0 / t
    series = inverse * poly(inverse * inverse, *LGAMMA_SERIES)
    stirling = fma(t - 0.5, log(t), HALF_LOG_2PI - t) + series
    half_turn = (wide - rint(wide)) * (PI / 2)  # sin(pi x) = 2 sin cos of this
    z = half_turn * half_turn
    sine = fma(half_turn * z, poly(z, *SIN), half_turn)
    cosine = fma(z * z, poly(z, *COS), fma(z, -0.5, 1.0))
    correction = log(select(below, product * PI / fabs(sine * cosine * 2.0), product))
    result = select(below, correction - stirling, stirling - correction)
    return f32(select(fabs(wide).equals(INF), INF, result))


@define(F32, arity=2)
def fmod(a, b):
    """a - n b with the sign of a, exactly: a quotient of up to 50 bits is at most one too large or too small, and the
    float64 remainders are exact, since they are multiples of the last digit of a or b."""
    x, y = fabs(f64(a)), fabs(f64(b))
    x = near_quotient(x, y)
    x = fma(-trunc(x * (1.0 / y)), y, x)
    x = select(x < 0.0, x + y, x)
    x = select(x < y, x, x - y)
    x = select(y.equals(INF) & (fabs(f64(a)) < INF), fabs(f64(a)), x)
    return copysign(f32(x), a)


@define(F32, F64, arity=2)
def nextafter(x, y):
    """Floats in order are integers in order: one step of them towards y."""
    sign = -(1 << (8 * FORMATS[x.type].bytes - 1))
    place, target = (select(bits(v) < 0, sign - bits(v), bits(v)) for v in (x, y))
    moved = place + select(place < target, bits(x).lift(1), -1)
    result = from_bits(select(moved < 0, sign - moved, moved))
    result = select(moved.equals(0), copysign(result, x), result)
    return select(x.is_nan() | y.is_nan(), NAN, select(place.equals(target), y, result))
