"""Gamma and Dirichlet numbers, which are differentiable in their parameters though they are drawn by rejection.

A sample x of a distribution function F(x; a) moves with a as -(dF/da) / (dF/dx): the number stays at its quantile
(Figurnov, Mohamed and Mnih, Implicit reparameterization gradients, 2018). There is no closed form of dF/da here. The
approximations, their ranges and coefficients are PyTorch's, good to three digits: gradients agree with PyTorch's, and
finite differences of F come near them only.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir.arith import maximum, minimum, where
from jtorch.ir.composites.define import composite, filled, same_type, sum_over
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import op
from jtorch.ir.prims.elementwise import batch_elementwise, cast_to, exp, isnan, log, sqrt
from jtorch.ir.prims.random import gamma_draws

# --- gamma -----------------------------------------------------------------------------------------------------------

GAMMA_UV = ((0.16009398, -0.094634809, 0.025146376, -0.0030648343, 1, 0.32668115, 0.10406089, 0.0014179084),
            (0.53487893, 0.1298071, 0.065735949, -0.0015649758, 0.16639465, 0.020070113, -0.0035938915, -0.00058392623),
            (0.040121004, -0.0065914022, -0.0026286047, -0.0013441777, 0.017050642, -0.0021309326, 0.00085092367,
             -1.5247877e-07))


def digamma(x: Value) -> Value:
    return op("digamma")(x)


def polynomial(x: Value, coefficients: Any) -> Any:
    """c[0] + c[1] x + c[2] x^2 + ..."""
    total = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = x * total + c
    return total


def zero_for_nan(x: Value) -> Value:
    return where(isnan(x), 0.0, x)


def _gamma_series(alpha: Value, x: Value) -> Value:
    """Taylor's series of F in x, for small x."""
    term, denominator = filled(x, 1.0), alpha
    plain, squared = term / denominator, term / (denominator * denominator)
    for i in range(1, 6):
        term = term * (-x / i)
        denominator = denominator + 1
        plain = plain + term / denominator
        squared = squared + term / (denominator * denominator)
    power, density = x ** alpha, x ** (alpha - 1) * exp(-x)
    return zero_for_nan(-((log(x) - digamma(alpha)) * power * plain - power * squared) / density)


def _gamma_saddle_point(alpha: Value, x: Value) -> Value:
    """Rice's expansion for large alpha; near x = alpha, where it has a removable pole, a polynomial."""
    square = alpha * alpha
    near = ((1 + 24 * alpha * (1 + 12 * alpha))
            * (1440 * square + 6 * x * (53 - 120 * x) - 65 * x * x / alpha + alpha * (107 + 3600 * x))
            / (1244160 * square * square))
    root, gap, ratio = sqrt(8 * alpha), alpha - x, log(x / alpha)
    pole = (x - alpha - alpha * ratio) ** -1.5
    bend = ratio * (root / gap + where(x < alpha, -pole, pole)) - sqrt(2 / alpha) * (alpha + x) / (gap * gap)
    stirling = 1 + 1 / (12 * alpha) * (1 + 1 / (24 * alpha))
    return where((0.9 * alpha <= x) & (x <= 1.1 * alpha), near, -stirling * x * bend / root)


def _gamma_rational(alpha: Value, x: Value) -> Value:
    u, v = log(x / alpha), log(alpha)
    c = [polynomial(u, column) for column in zip(*GAMMA_UV)]
    return exp(polynomial(v, c[:4]) / polynomial(v, c[4:]))


def _gamma_slope(b: Builder, alpha: Value, x: Value) -> Value:
    large = where(alpha > 8.0, _gamma_saddle_point(alpha, x), _gamma_rational(alpha, x))
    return where(x < 0.8, _gamma_series(alpha, x), large)


gamma_slope = composite("gamma_slope", _gamma_slope, infer=same_type, batch=batch_elementwise, domain="positive pair")
"""How a gamma number x of shape alpha moves with alpha."""


def _standard_gamma(b: Builder, state: Value, alpha: Value) -> tuple[Value, Value]:
    drawn, state = gamma_draws(state, alpha)
    values = cast_to(drawn, alpha.dtype)
    return maximum(values, tiny(alpha)), state


def tiny(like: Value) -> float:
    return float(np.finfo(np.float32 if like.dtype.itemsize == 2 else like.dtype.numpy).tiny)


def _drawn_types(state: Type, alpha: Type) -> tuple[Type, Type]:
    return alpha, state


standard_gamma = composite(
    "standard_gamma", _standard_gamma, infer=_drawn_types,
    vjp=lambda g, y, state, alpha: (None, None if g[0] is None else g[0] * gamma_slope(alpha, y[0])),
    jvp=lambda t, y, state, alpha: (None if t[1] is None else t[1] * gamma_slope(alpha, y[0]), None))
"""(gamma numbers of shape alpha and rate 1, new state)."""

# --- Dirichlet -------------------------------------------------------------------------------------------------------

DIRICHLET = (
    (((1.003668233, -0.01061107488, -0.0657888334, 0.01201642863),
      (0.6336835991, -0.3557432599, 0.05486251648, -0.001465281033),
      (-0.03276231906, 0.004474107445, 0.002429354597, -0.0001557569013)),
     ((0.221950385, -0.3187676331, 0.01799915743, 0.01074823814),
      (-0.2951249643, 0.06219954479, 0.01535556598, 0.001550077057),
      (0.02155310298, 0.004170831599, 0.001292462449, 6.976601077e-05)),
     ((-0.05980841433, 0.008441916499, 0.01085618172, 0.002319392565),
      (0.02911413504, 0.01400243777, -0.002721828457, 0.000751041181),
      (0.005900514878, -0.001936558688, -9.495446725e-06, 5.385558597e-05))),
    (((1, -0.02924021934, -0.04438342661, 0.007285809825),
      (0.6357567472, -0.3473456711, 0.05454656494, -0.002407477521),
      (-0.03301322327, 0.004845219414, 0.00231480583, -0.0002307248149)),
     ((0.5925320577, -0.1757678135, 0.01505928619, 0.000564515273),
      (0.1014815858, -0.06589186703, 0.01272886114, -0.0007316646956),
      (-0.007258481865, 0.001096195486, 0.0003934994223, -4.12701925e-05)),
     ((0.06469649321, -0.0236701437, 0.002902096474, -5.896963079e-05),
      (0.001925008108, -0.002869809258, 0.0008000589141, -6.063713228e-05),
      (-0.0003477407336, 6.959756487e-05, 1.097287507e-05, -1.650964693e-06))))


def _beta_alpha_small(x: Value, alpha: Value, beta: Value) -> Value:
    """In alpha, Taylor's series for x near 0."""
    factor = digamma(alpha) - digamma(alpha + beta) - log(x)
    term: Value | float = 1.0
    series = (factor + 1 / alpha) / alpha
    for i in range(1, 11):
        term = term * ((i - beta) * x / i)
        series = series + term / (alpha + i) * (factor + 1 / (alpha + i))
    return zero_for_nan(x * (1 - x) ** -beta * series)


def _beta_beta_small(x: Value, alpha: Value, beta: Value) -> Value:
    """In beta, Taylor's series for x near 0."""
    factor = digamma(alpha + beta) - digamma(beta)
    term, product, slope = filled(x, 1.0), filled(x, 1.0), filled(x, 0.0)
    series = factor / alpha
    for i in range(1, 9):
        term = term * (-x / i)
        slope = slope * (beta - i) + product
        product = product * (beta - i)
        series = series + term / (alpha + i) * (slope + factor * product)
    return zero_for_nan(-((1 - x) ** (1 - beta)) * series)


def _beta_saddle_point(x: Value, alpha: Value, beta: Value) -> Value:
    """In alpha, Rice's expansion where both parameters are large, in float64."""
    wide = x.dtype
    x, alpha, beta = (cast_to(v, dtypes.float64) for v in (x, alpha, beta))
    total = alpha + beta
    mean = alpha / total
    deviation = sqrt(alpha * beta / (total + 1)) / total
    square = beta * beta
    poly = 47 * x * square * square + alpha * (
        (43 + 20 * (16 + 27 * beta) * x) * square * beta + alpha * (
            3 * (59 + 180 * beta - 90 * x) * square + alpha * (
                (453 + 1620 * beta * (1 - x) - 455 * x) * beta + alpha * (8 * (1 - x) * (135 * beta - 11)))))
    near = ((1 + 12 * alpha) * (1 + 12 * beta) / (total * total) / (1 - x) * poly
            / (12960 * alpha * alpha * alpha * square * (1 + 12 * total)))

    def stirling(v: Value) -> Value:
        return 1 + 1 / (12 * v) + 1 / (288 * v * v)
    gap = alpha * (x - 1) + beta * x
    first = ((2 * alpha * alpha * (x - 1) + alpha * beta * (x - 1) - x * square)
             / (sqrt(2 * alpha / beta) * total ** 1.5 * gap * gap))
    pole = (beta * log(beta / (total * (1 - x))) + alpha * log(alpha / (total * x))) ** -1.5
    rest = 0.5 * log(alpha / (total * x)) * (
        sqrt(8 * alpha * beta / total) / gap + where(x < mean, pole, -pole))
    far = (stirling(alpha) * stirling(beta) / stirling(total) * (-x / sqrt(2 * alpha * beta / total)) * (first + rest))
    inside = (mean - 0.1 * deviation <= x) & (x <= mean + 0.1 * deviation)
    return cast_to(where(inside, near, far), wide)


def _beta_rational(x: Value, alpha: Value, total: Value) -> Value:
    """In alpha: a rational correction of an analytic approximation."""
    u = log(x)
    a = log(alpha) - u
    b = log(total) - a
    over, under = (polynomial(u, [polynomial(a, [polynomial(b, c) for c in row]) for row in table])
                   for table in DIRICHLET)
    return over / under * (x * (digamma(total) - digamma(alpha)) / (total - alpha))


def _dirichlet_slope(b: Builder, x: Value, alpha: Value, total: Value) -> Value:
    beta = total - alpha
    boundary = total * x * (1 - x)
    inner = where((alpha > 6.0) & (beta > 6.0), _beta_saddle_point(x, alpha, beta), _beta_rational(x, alpha, total))
    inner = where((x >= 0.5) & (boundary < 0.75), -_beta_beta_small(1 - x, beta, alpha), inner)
    return where((x <= 0.5) & (boundary < 2.5), _beta_alpha_small(x, alpha, beta), inner)


dirichlet_slope = composite("dirichlet_slope", _dirichlet_slope, infer=same_type, batch=batch_elementwise,
                            domain="dirichlet")
"""How a number x of Beta(alpha, total - alpha) moves with alpha, divided by 1 - x."""


def _dirichlet(b: Builder, state: Value, alpha: Value) -> tuple[Value, Value]:
    """Gamma numbers divided by their sum, made in float64 and kept inside of (0, 1)."""
    values, state = standard_gamma(state, cast_to(alpha, dtypes.float64))
    values = cast_to(values / sum_over(values, (values.ndim - 1,), True), alpha.dtype)
    top = float(np.nextafter(np.ones((), np.float32 if alpha.dtype.itemsize == 2 else alpha.dtype.numpy), 0))
    return minimum(maximum(values, tiny(alpha)), top), state


def _tangent(t: Value, x: Value, alpha: Value) -> Value:
    slope = dirichlet_slope(x, alpha, sum_over(alpha, (alpha.ndim - 1,), True)) * t
    return slope - x * sum_over(slope, (x.ndim - 1,), True)


def _dirichlet_vjp(g: Any, y: Any, state: Value, alpha: Value) -> tuple:
    if g[0] is None:
        return None, None
    x, last = y[0], (alpha.ndim - 1,)
    slope = dirichlet_slope(x, alpha, sum_over(alpha, last, True))
    return None, slope * (g[0] - sum_over(x * g[0], last, True))


dirichlet = composite("dirichlet", _dirichlet, infer=_drawn_types, vjp=_dirichlet_vjp,
                      jvp=lambda t, y, state, alpha: (None if t[1] is None else _tangent(t[1], y[0], alpha), None))
"""(numbers of Dirichlet(alpha) over the last axis, new state)."""
