# ruff: noqa: B018, F841  the kernel has holes, and what is filled in uses the names
"""The incomplete gamma functions P(a, x) and Q(a, x), computed in float64.

A block's elements are sorted by method, and each method goes over its own, all of them at once: of one element alone it
would be a loop that waits for itself. Sources: NIST Digital Library of Mathematical Functions 8.11.4 (the series),
8.9.2 (the continued fraction), 8.7.1 (the series for small a), 8.12 (N. Temme's uniform expansion for large a); C.
Lanczos, "A precision approximation of the gamma function", 1964, with P. Godfrey's coefficients.
"""
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from jtorch import dtypes
from jtorch.codegen.library.call import Lowering, grain_of, loader, pointer, storer
from jtorch.codegen.library.copy import contiguous
from jtorch.codegen.library.language import (
    EXPANSION,
    FACTOR,
    LOG_GAMMA,
    STEPS,
    TOLERANCE,
    Pointer,
    erfc,
    exp,
    expm1,
    f64,
    fma,
    i64,
    index_div,
    load,
    log,
    log1p,
    max_number,
    select,
    sqrt,
    store,
)

BLOCK = 256

LANCZOS_OVER = (0.9999999999998099, 60.45833333334203, 1599.0425347220457, 24165.510665029535, 228235.2154997145,
                1379496.2658786708, 5210869.017760832, 11246929.484659927, 10619610.099075994)
LANCZOS_UNDER = (1.0, 36.0, 546.0, 4536.0, 22449.0, 67284.0, 118124.0, 109584.0, 40320.0)
"""gamma(1 + a) = sqrt(2 pi t) (t / e)**a / exp(7.5) * the first over the second polynomial, with t = a + 7.5."""

LOG_GAMMA_1P = (-0.0019063835610750456, 0.010153045278653747, -0.02663318495612038, 0.04709138943135492,
                -0.06539820745258526, 0.07912917581932445, -0.08976429495525075, 0.0998435956128985,
                -0.11129269142619333, 0.12550464913071976, -0.14404945716269785, 0.1695571500757378,
                -0.2073855499361632, 0.27058080840077436, -0.40068563438617866, 0.8224670334241114,
                -0.5772156649015329)
"""log(gamma(1 + a)) / a for 0 <= a <= 1/2: a minimax fit made for this file."""


def incomplete_gamma(a: Pointer, x: Pointer, out: Pointer, rows: Pointer, places: Pointer, scratch_stride: int, n: int,
                     upper: int, begin: int, end: int, worker: int) -> None:
    """out = P(a, x), or Q(a, x) if `upper`; an item is a block of BLOCK elements.

    Scratch: five rows of numbers, and a list of places for each of the four methods.
    """
    base = index_div(worker * scratch_stride, 8)
    lists = base + 5 * BLOCK
    counts = lists + 4 * BLOCK
    infinite = f64(1e999)
    for item in range(begin, end):
        for kind in range(4):
            places[counts + kind] = 0
        for i in range(item * BLOCK, min(item * BLOCK + BLOCK, n)):
            p = f64(load(a[i]))
            v = f64(load(x[i]))
            if (p > 0) & (v > 0) & (p < infinite) & (v < infinite):
                chosen = i64(0)  # the series
                if (p > 20) & (abs(v - p) < 0.3 * p):
                    chosen = i64(3)  # the uniform expansion
                elif v > max(p, f64(4)):
                    chosen = i64(1)  # the continued fraction
                elif (p < 0.5) & (upper != 0):
                    chosen = i64(2)  # the series for small a, where 1 - P would lose digits
                m = places[counts + chosen]
                places[lists + chosen * BLOCK + m] = i
                places[counts + chosen] = m + 1
            else:
                lowest = infinite - infinite
                if (p == 0) & (v > 0):
                    lowest = f64(1)
                elif (p > 0) & (v == 0):
                    lowest = f64(0)
                elif (p > 0) & (v > 0) & ((p < infinite) | (v < infinite)):
                    lowest = select(p < infinite, f64(1), f64(0))
                out[i] = store(select(upper != 0, f64(1) - lowest, lowest))
        for kind in range(4):
            m = places[counts + kind]
            list_of = lists + kind * BLOCK
            for j in range(m):
                i = places[list_of + j]
                rows[base + j] = f64(load(a[i]))
                rows[base + BLOCK + j] = f64(load(x[i]))
            if kind < 2:
                for j in range(m):
                    p = rows[base + j]
                    v = rows[base + BLOCK + j]
                    t = p + 7.5
                    z = min(p, f64(10000))  # from there on the exponential is 0
                    rows[base + 2 * BLOCK + j] = exp(fma(p, log(v / t), t - v)) * FACTOR / sqrt(t * 6.283185307179586)
            if kind == 0:  # P = x**a exp(-x) / gamma(a + 1) * sum of x**k / ((a + 1) ... (a + k))
                for j in range(m):
                    rows[base + 3 * BLOCK + j] = f64(1)
                    rows[base + 4 * BLOCK + j] = f64(1)
                k = f64(0)
                going = m > 0
                while going:
                    worst = f64(-1)
                    for j in range(m):
                        p = rows[base + j] + k
                        v = rows[base + BLOCK + j]
                        term = rows[base + 3 * BLOCK + j]
                        total = rows[base + 4 * BLOCK + j]
                        for step in range(1, 5):
                            term = term * (v / (p + f64(step)))
                            total = total + term
                        rows[base + 3 * BLOCK + j] = term
                        rows[base + 4 * BLOCK + j] = total
                        worst = max_number(worst, term - total * TOLERANCE)
                    k = k + 4
                    going = worst > 0
                for j in range(m):
                    rows[base + 4 * BLOCK + j] = rows[base + 4 * BLOCK + j] * rows[base + 2 * BLOCK + j]
            elif kind == 1:  # Q = x**a exp(-x) / gamma(a) / (x + 1 - a - 1 (1 - a) / (x + 3 - a - 2 (2 - a) / ...))
                for j in range(m):
                    rows[base + 4 * BLOCK + j] = rows[base + BLOCK + j] - rows[base + j] + f64(2 * STEPS + 1)
                for last in range(STEPS, 0, -4):
                    for j in range(m):
                        p = rows[base + j]
                        gap = rows[base + BLOCK + j] - p
                        f = rows[base + 4 * BLOCK + j]
                        for step in range(4):
                            k = f64(last - step)
                            f = gap + (2 * k - 1) - k * (k - p) / f
                        rows[base + 4 * BLOCK + j] = f
                for j in range(m):
                    fraction = rows[base + 4 * BLOCK + j]
                    rows[base + 4 * BLOCK + j] = rows[base + 2 * BLOCK + j] * (rows[base + j] / fraction)
            elif kind == 2:  # Q = 1 - x**a / gamma(a + 1) * (1 + a * sum of (-x)**k / (k! (a + k)))
                for j in range(m):
                    rows[base + 3 * BLOCK + j] = f64(1)
                    rows[base + 4 * BLOCK + j] = f64(0)
                k = f64(0)
                going = m > 0
                while going:
                    worst = f64(-1)
                    for j in range(m):
                        p = rows[base + j]
                        v = rows[base + BLOCK + j]
                        term = rows[base + 3 * BLOCK + j]
                        total = rows[base + 4 * BLOCK + j]
                        for step in range(1, 5):
                            term = term * (-v / (k + f64(step)))
                            total = total + term / (p + (k + f64(step)))
                        rows[base + 3 * BLOCK + j] = term
                        rows[base + 4 * BLOCK + j] = total
                        worst = max_number(worst, abs(term) - v * TOLERANCE)
                    k = k + 4
                    going = worst > 0
                for j in range(m):
                    p = rows[base + j]
                    y = p * (log(rows[base + BLOCK + j]) - LOG_GAMMA)
                    rows[base + 4 * BLOCK + j] = -expm1(y) - exp(y) * p * rows[base + 4 * BLOCK + j]
            else:  # Q = erfc(eta sqrt(a / 2)) / 2 + exp(-a eta**2 / 2) / sqrt(2 pi a) * sum of c[k](eta) / a**k
                for j in range(m):
                    p = rows[base + j]
                    mu = (rows[base + BLOCK + j] - p) / p
                    near = mu * mu * fma(mu, fma(mu, fma(mu, fma(mu, fma(mu, -1 / 7, 1 / 6), -0.2), 0.25), -1 / 3), 0.5)
                    half = select(abs(mu) < 1e-3, near, mu - log1p(mu))  # of the square of eta
                    eta = select(mu < 0, -sqrt(half * 2), sqrt(half * 2))
                    inverse = 1 / p
                    total = f64(0)
                    EXPANSION
                    sign = select(upper != 0, f64(1), f64(-1))
                    rest = exp(-p * half) / sqrt(p * 6.283185307179586) * total
                    rows[base + 4 * BLOCK + j] = erfc(sign * eta * sqrt(p * 0.5)) * 0.5 + sign * rest
            other = (kind < 3) & ((kind == 0) == (upper != 0))
            for j in range(m):
                found = min(rows[base + 4 * BLOCK + j], f64(1))
                out[places[list_of + j]] = store(select(other, 1 - found, found))


@cache
def expansion(orders: int, powers: int) -> tuple[tuple[float, ...], ...]:
    """Coefficients of Temme's c[0], c[1], ... in powers of eta from the 0th on, by DLMF 8.12.11 to 8.12.13. The later,
    multiplied with 1 / a**k, have fewer."""
    count = powers + 2 * orders + 2
    mu = [Fraction(0), Fraction(1)]  # mu(eta), with mu mu' = eta (1 + mu)
    for m in range(2, count):
        mu.append((mu[m - 1] - sum(mu[i] * (m + 1 - i) * mu[m + 1 - i] for i in range(2, m))) / (m + 1))
    first = [Fraction(-1, 3), *[(i + 2) * mu[i + 2] for i in range(1, count - 2)]]
    stirling = _stirling(orders)
    rows = [first]
    for k in range(1, orders):
        before = rows[-1]
        rows.append([(i + 2) * before[i + 2] + (-1)**k * stirling[k] * first[i] for i in range(len(before) - 2)])
    return tuple([tuple([float(c) for c in row[:powers - 5 * k // 4]]) for k, row in enumerate(rows)])


def _stirling(count: int) -> list[Fraction]:
    """The coefficients of 1 / a**k in gamma(a) / (sqrt(2 pi / a) (a / e)**a): exp of Stirling's series."""
    bernoulli = [Fraction(1)]
    for m in range(1, count + 2):
        choose, total = 1, Fraction(0)
        for j in range(m):
            total += choose * bernoulli[j]
            choose = choose * (m + 1 - j) // (j + 1)
        bernoulli.append(-total / (m + 1))
    logs = [Fraction(0)] * (count + 1)
    for k in range(1, count + 1, 2):
        logs[k] = bernoulli[k + 1] / (k * (k + 1))
    found = [Fraction(1)]
    for n in range(1, count + 1):
        found.append(sum((k * logs[k] * found[n - k] for k in range(1, n + 1)), Fraction(0)) / n)
    return found


def horner(variable: str, coefficients: tuple[float, ...]) -> str:
    """Kernel text of a polynomial; the highest power comes first."""
    text = repr(coefficients[0])
    for c in coefficients[1:]:
        text = f"fma({text}, {variable}, {c!r})"
    return text


@dataclass(frozen=True, slots=True)
class Precision:
    """When a result is as good as its dtype."""

    tolerance: float  # of the series
    steps: int  # of the continued fraction, a multiple of 4
    orders: int  # of the uniform expansion
    powers: int

    def holes(self) -> dict[str, str]:
        rows = [horner("eta", row[::-1]) for row in expansion(self.orders, self.powers)]
        lines = [f"total = {rows[-1]}", *[f"total = fma(total, inverse, {row})" for row in rows[-2::-1]]]
        return {"TOLERANCE": repr(self.tolerance), "STEPS": str(self.steps), "EXPANSION": "\n".join(lines),
                "FACTOR": f"({horner('z', LANCZOS_UNDER)} / {horner('z', LANCZOS_OVER)})",
                "LOG_GAMMA": horner("p", LOG_GAMMA_1P)}


SINGLE, DOUBLE = Precision(1e-10, 16, 5, 10), Precision(1e-16, 28, 10, 18)


def incomplete(low: Lowering) -> None:
    a, x = (contiguous(low, v) for v in low.inputs)
    out, d = low.outputs[0], low.outputs[0].dtype
    kind, wide = pointer(d), d is dtypes.float64
    low.call(incomplete_gamma, [
        ("a", kind, a.arg), ("x", kind, x.arg), ("out", kind, out.arg), ("rows", "p:float64", ("scratch",)),
        ("places", "p:int64", ("scratch",)), ("scratch_stride", "i", ("scratch_stride",)), ("n", "i", out.numel),
        ("upper", "i", int(low.node.op.name == "gammaincc"))],
        -(-out.numel // BLOCK), grain_of(BLOCK * 20), scratch=8 * (9 * BLOCK + 4),
        holes={"BLOCK": str(BLOCK), "load": loader(d), "store": storer(d), **(DOUBLE if wide else SINGLE).holes()})
