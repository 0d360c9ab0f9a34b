"""Gamma, Poisson and binomial numbers as PyTorch's CPU kernels draw them: one element after another, each taking as
many draws of the generator as its rejections need. So these are loops, unlike the formulas of `random_streams`.

Every function is `(state, *parameters, ...) -> (float64 numbers, new state)` on flat arrays in the order of memory.

- Gamma: Marsaglia and Tsang, A simple method for generating gamma variables, 2000.
- Poisson from 10 on: Hörmann's PTRS, The transformed rejection method for generating Poisson random variables, 1993;
  below, products of uniforms.
- Binomial from an expectation of 10 on: Hörmann's BTRS, The generation of binomial random variates, 1993; below, sums
  of geometric waiting times. Both for p <= 0.5, else of 1 - p.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from . import mt19937
from .mt19937 import join64

Sampled = tuple[np.ndarray, np.ndarray]


class Draws:
    """Uniform and normal float64 numbers one by one from a generator's state."""

    def __init__(self, state: np.ndarray, expected: int) -> None:
        self.begin, self.waiting = state, mt19937.waiting_normal(state)
        self.chunk, self.ahead = max(expected, 16), state
        self.numbers: list[float] = []
        self.place = self.taken = 0

    def uniform(self) -> float:
        """In [0, 1), of 53 bits."""
        if self.place == len(self.numbers):
            raw, self.ahead = mt19937.draw(self.ahead, 2 * self.chunk)
            self.numbers = ((join64(raw) & np.uint64((1 << 53) - 1)).astype(np.float64) * 2.0**-53).tolist()
            self.place = 0
        self.place += 1
        self.taken += 1
        return self.numbers[self.place - 1]

    def normal(self) -> float:
        """They are made two at a time; the second one waits for the next call."""
        if self.waiting is not None:
            sample, self.waiting = self.waiting, None
            return sample
        theta, radius = 2 * math.pi * self.uniform(), math.sqrt(-2 * math.log1p(-self.uniform()))
        self.waiting = radius * math.sin(theta)
        return radius * math.cos(theta)

    def after(self) -> np.ndarray:
        """The generator's state behind what was taken."""
        _, state = mt19937.draw(self.begin, 2 * self.taken)
        return mt19937.with_waiting_normal(state, self.waiting)


def _sampled(state: np.ndarray, expected: int, one: Callable[..., float], *parameters: np.ndarray) -> Sampled:
    draws = Draws(state, expected * len(parameters[0]))
    values = [one(draws, *p) for p in zip(*[a.tolist() for a in parameters])]
    return np.array(values, np.float64), draws.after()


# gamma

THIRD = float(np.float32(1) / np.float32(3))  # PyTorch's kernel has float32 constants here
SQUEEZE = float(np.float32(0.0331))


def standard_gamma(state: np.ndarray, shapes: np.ndarray) -> Sampled:
    """Gamma numbers of rate 1. float32 shapes are rounded to float32 where PyTorch rounds."""
    narrow = shapes.dtype == np.float32

    def rounded(x: float) -> float:
        return float(np.float32(x)) if narrow else x

    def one(draws: Draws, alpha: float) -> float:
        scale = 1.0
        if alpha < 1:
            if alpha == 0:
                return 0.0
            scale = _power(1 - draws.uniform(), rounded(1 / alpha))
            alpha = rounded(alpha + 1)
        d = rounded(alpha - THIRD)
        c = 1 / math.sqrt(9 * d) if d > 0 else math.nan
        while True:
            x = draws.normal()
            y = 1 + c * x
            while y <= 0:
                x = draws.normal()
                y = 1 + c * x
            v = y * y * y
            u = 1 - draws.uniform()
            square = x * x
            if v != v or u < 1 - SQUEEZE * square * square:
                return scale * d * v
            if math.log(u) < 0.5 * square + d * (1 - v + math.log(v)):
                return scale * d * v
    return _sampled(state, 3, one, shapes)


def _power(base: float, exponent: float) -> float:
    try:
        return base ** exponent
    except OverflowError:
        return math.inf


# Poisson


def poisson(state: np.ndarray, rates: np.ndarray) -> Sampled:
    """Counts of a Poisson process."""
    return _sampled(state, 3, _poisson, rates)


def _poisson(draws: Draws, rate: float) -> float:
    if not rate > 0:
        return 0.0
    if rate < 10:
        limit, product, count = math.exp(-rate), 1.0, 0
        while True:
            product *= draws.uniform()
            if product <= limit:
                return float(count)
            count += 1
    root, log_rate = math.sqrt(rate), math.log(rate)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse = 1.1239 + 1.1328 / (b - 3.4)
    ratio = 0.9277 - 3.6224 / (b - 2)
    while True:
        u, v = draws.uniform() - 0.5, draws.uniform()
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + rate + 0.43) if us else -1
        if us >= 0.07 and v <= ratio:
            return float(k)
        if k < 0 or (us < 0.013 and v > us):
            continue
        score = _log(v) + math.log(inverse) - math.log(a / (us * us) + b)
        if score <= -rate + k * log_rate - math.lgamma(k + 1):
            return float(k)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


# binomial

TAILS = (0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.0207906721037650, 0.0166446911898211,
         0.0138761288230707, 0.0118967099458917, 0.0104112652619720, 0.00925546218271273, 0.00833056343336287)


def binomial(state: np.ndarray, counts: np.ndarray, probabilities: np.ndarray) -> Sampled:
    """Successes in so many trials."""
    return _sampled(state, 3, _binomial, counts, probabilities)


def _binomial(draws: Draws, count: float, p: float) -> float:
    if count <= 0 or p <= 0:
        return 0.0
    if p >= 1:
        return count
    if p != p or count != count:
        return math.nan
    small = min(p, 1 - p)
    found = (_transformed if count * small >= 10 else _waiting)(draws, count, small)
    return found if p <= 0.5 else count - found


def _waiting(draws: Draws, count: float, p: float) -> float:
    total, found, scale = 0.0, 0, math.log1p(-p)
    while True:
        u = draws.uniform()
        total += math.ceil(math.log(u) / scale) if u else math.inf
        if total > count:
            return float(found)
        found += 1


def _transformed(draws: Draws, count: float, p: float) -> float:
    deviation = math.sqrt(count * p * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    c = count * p + 0.5
    ratio = 0.92 - 4.2 / b
    odds = p / (1 - p)
    alpha = (2.83 + 5.1 / b) * deviation
    mode = math.floor((count + 1) * p)
    while True:
        u, v = draws.uniform() - 0.5, draws.uniform()
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + c) if us else -1
        if not 0 <= k <= count:
            continue
        if us >= 0.07 and v <= ratio:
            return float(k)
        bound = ((mode + 0.5) * math.log((mode + 1) / (odds * (count - mode + 1)))
                 + (count + 1) * math.log((count - mode + 1) / (count - k + 1))
                 + (k + 0.5) * math.log(odds * (count - k + 1) / (k + 1))
                 + stirling_tail(mode) + stirling_tail(count - mode) - stirling_tail(k) - stirling_tail(count - k))
        if _log(v * alpha / (a / (us * us) + b)) <= bound:
            return float(k)


def stirling_tail(k: float) -> float:
    """log k! less Stirling's approximation of it."""
    if k <= 9:
        return TAILS[int(k)]
    square = (k + 1) * (k + 1)
    return (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)
