"""The exponential of matrices and its derivative in a direction, by Taylor polynomials with scaling and squaring.

Source: P. Bader, S. Blanes, F. Casas, "Computing the matrix exponential with an optimized Taylor polynomial
approximation", Mathematics 7, 2019: polynomials of degree 1, 2, 4, 8, 12 and 18 in as few products as possible, each
for norms up to a bound. PyTorch computes it so too.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray
Product = Callable[[Array, Array], Array]

BOUNDS = {
    4: (1.192092800768788e-07, 5.978858893805233e-04, 5.116619363445086e-02, 5.800524627688768e-01,
        1.461661507209034e+00, 3.010066362817634e+00),
    8: (2.220446049250313e-16, 2.580956802971767e-08, 3.397168839976962e-04, 4.991228871115323e-02,
        2.996158913811580e-01, 1.090863719290036e+00)}
"""By the bytes of a real number: norms up to which each polynomial is good to the last digit."""

ROOT = math.sqrt(177)
X3 = 2 / 3
DEGREE_8 = (X3 * (1 + ROOT) / 88, X3 * (1 + ROOT) / 352, X3, (-271 + 29 * ROOT) / (315 * X3),
            (-11 + 11 * ROOT) / (1260 * X3), (-99 + 11 * ROOT) / (5040 * X3), (89 - ROOT) / (5040 * X3**2),
            (857 - 58 * ROOT) / 630)
"""x1 ... x7, y2 of the paper's equation for degree 8."""

DEGREE_12 = np.array([
    [9.0198e-16, 0.46932117595418237389, -0.20099424927047284052, -0.04623946134063071740],
    [5.31597895759871264183, 1.19926790417132231573, 0.01179296240992997031, 0.01108844528519167989],
    [0.18188869982170434744, 0.05502798439925399070, 0.09351590770535414968, 0.00610700528898058230],
    [-2.0861320e-13, -0.13181061013830184015, -0.02027855540589259079, -0.00675951846863086359]])
DEGREE_18 = np.array([
    [0., -1.00365581030144618291e-01, -8.02924648241156932449e-03, -8.92138498045729985177e-04, 0.],
    [0., 3.97849749499645077844e-01, 1.36783778460411720168e+00, 4.98289622525382669416e-01,
     -6.37898194594723280150e-04],
    [-1.09676396052962061844e+01, 1.68015813878906206114e+00, 5.71779846478865511061e-02, -6.98210122488052056106e-03,
     3.34975017086070470649e-05],
    [-9.04316832390810593223e-02, -6.76404519071381882256e-02, 6.75961301770459654925e-02, 2.95552570429315521194e-02,
     -1.39180257516060693404e-05],
    [0., 0., -9.23364619367118555360e-02, -1.69364939002081722752e-02, -1.40086798182036094347e-05]])


def _sums(rows: Array, *terms: Array) -> Sequence[Array]:
    """For each row its numbers times the terms, summed."""
    flat = np.stack(terms).reshape(len(terms), -1)
    return (rows.astype(flat.real.dtype) @ flat).reshape(len(rows), *terms[0].shape)


def _degree_1(one: Array, a: Array, times: Product) -> Array:
    return one + a


def _degree_2(one: Array, a: Array, times: Product) -> Array:
    return one + a + times(a, a) / 2


def _degree_4(one: Array, a: Array, times: Product) -> Array:
    a2 = times(a, a)
    return one + a + times(a2, one / 2 + a / 6 + a2 / 24)


def _degree_8(one: Array, a: Array, times: Product) -> Array:
    x1, x2, x3, x4, x5, x6, x7, y2 = DEGREE_8
    a2 = times(a, a)
    a4 = times(a2, x1 * a + x2 * a2)
    a8 = times(x3 * a2 + a4, x4 * one + x5 * a + x6 * a2 + x7 * a4)
    return one + a + y2 * a2 + a8


def _degree_12(one: Array, a: Array, times: Product) -> Array:
    a2 = times(a, a)
    q1, q2, q3, q4 = _sums(DEGREE_12, one, a, a2, times(a2, a))
    a6 = q3 + times(q4, q4)
    return q1 + times(q2 + a6, a6)


def _degree_18(one: Array, a: Array, times: Product) -> Array:
    a2 = times(a, a)
    a3 = times(a2, a)
    q1, q2, q3, q4, q5 = _sums(DEGREE_18, one, a, a2, a3, times(a3, a3))
    a9 = times(q1, q5) + q4
    return q2 + times(q3 + a9, a9)


POLYNOMIALS = (_degree_1, _degree_2, _degree_4, _degree_8, _degree_12, _degree_18)


def _by_norm(a: Array, norm: Array, one: Array, times: Product) -> Array:
    """exp of a[:, i], with polynomial and scale by norm[i]. The first axis is that of the numbers `times` is for."""
    bounds = BOUNDS[a.real.dtype.itemsize]
    result = np.full_like(a, np.nan)
    degree = np.searchsorted(bounds, norm)
    scale = np.zeros(len(norm), np.int64)
    far = np.isfinite(norm) & (norm > bounds[-1])
    scale[far] = np.ceil(np.log2(norm[far] / bounds[-1]))
    degree = np.minimum(degree, len(bounds) - 1)
    for d, s in sorted({*zip(degree[np.isfinite(norm)].tolist(), scale[np.isfinite(norm)].tolist())}):
        chosen = np.flatnonzero((degree == d) & (scale == s) & np.isfinite(norm))
        whole = len(chosen) == len(norm)
        y = a if whole else a[:, chosen]
        y = POLYNOMIALS[d](np.broadcast_to(one, y.shape), np.ldexp(1.0, -s).astype(a.real.dtype) * y if s else y, times)
        for _ in range(s):
            y = times(y, y)
        if whole:
            return y
        result[:, chosen] = y
    return result


def _norms(a: Array) -> Array:
    """The largest sum of a column's magnitudes."""
    with np.errstate(all="ignore"):
        return np.abs(a).sum(-2).max(-1)


def exponential(a: Array) -> Array:
    """exp of the matrices [..., n, n]. Of matrices with infinities or NaNs: NaN."""
    if a.shape[-1] < 2:
        return np.exp(a)
    flat = a.reshape(1, math.prod(a.shape[:-2]), *a.shape[-2:])
    with np.errstate(all="ignore"):
        return _by_norm(flat, _norms(flat[0]), np.eye(a.shape[-1], dtype=a.dtype), np.matmul).reshape(a.shape)


def derivative(a: Array, e: Array) -> Array:
    """The derivative of exp at `a` in the direction `e`: polynomials of pairs (x, dx), where x dy + dx y goes with x y.
    That is three products, where [[a, e], [0, a]] takes eight. The norm has to be somewhat smaller for it (A. Al-Mohy,
    N. Higham, "Computing the Frechet derivative of the matrix exponential", 2009)."""
    if a.shape[-1] < 2:
        return np.exp(a) * e
    pairs = np.stack([a, e]).reshape(2, math.prod(a.shape[:-2]), *a.shape[-2:])
    one = np.zeros((2, 1, *a.shape[-2:]), a.dtype)
    one[0] = np.eye(a.shape[-1], dtype=a.dtype)

    def times(x: Array, y: Array) -> Array:
        product = np.empty_like(x)
        np.matmul(x[0], y[0], out=product[0])
        np.matmul(x[0], y[1], out=product[1])
        product[1] += x[1] @ y[0]
        return product

    with np.errstate(all="ignore"):
        return _by_norm(pairs, _norms(pairs[0]) * 1.2, one, times)[1].reshape(a.shape)
