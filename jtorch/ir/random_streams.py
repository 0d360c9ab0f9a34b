"""What PyTorch's CPU random functions compute, as NumPy formulas over raw draws of its generator.

Every algorithm comes in two halves, which become two graph operations:

  * `<name>_draws(n, ...)`: how many 32-bit draws it takes from the generator. It depends on the size, the dtype
    and (small normals only) on whether a sample is waiting; never on the values drawn.
  * `<name>_from_draws(draws, n, ...)`: the numbers, an elementwise function of those draws.

Draws taken for n elements ("wide" is float64; float16 and bfloat16 compute in float32 and round at the end):

    uniform, rand                       n          wide: 2n
    normal, n >= 16 and contiguous      n + 16*(n % 16 != 0)    wide: twice that    half: 16*ceil(n / 16)
    normal, else                        4*ceil((n - waiting) / 2), waiting is 0 or 1; every dtype
    log_normal                          as the line above, whatever n
    bernoulli(p tensor)                 n          p wide: 2n
    bernoulli_(p number), dropout       2n
    exponential, cauchy, geometric      2n
    randint, random_(from, to)          n          to - from >= 2**28: 2n
    random_()                           n          int64, float64: 2n
    randperm                            max(n - 1, 0)
    multinomial, one sample a row or without replacement      2 * (number of weights)
    multinomial, more samples with replacement                2 * (number of samples)

On Intel processors PyTorch takes `bernoulli_(p number)` and `exponential_` from a stream of Intel's MKL. The formulas
here are what it does on every other processor, and are the same everywhere.

The functions without a suffix put the halves together: `(state, n, ...) -> (values, new state)`. Arrays are flat;
elements are filled in the order of memory.
"""

from collections.abc import Callable

import numpy as np

from . import mt19937
from .mt19937 import join64

BLOCK = 16
"""Box-Muller works on blocks of 16 uniforms: 8 radii, then 8 angles."""

WIDE_RANGE = 1 << 28
"""`randint` over this many values or more uses 64-bit draws, to keep the skew of `%` small."""


def _is_wide(dtype: np.dtype) -> bool:
    return dtype == np.float64


def _is_half(dtype: np.dtype) -> bool:
    return dtype.itemsize == 2


def _unit(draws: np.ndarray, wide: bool) -> np.ndarray:
    """Uniform numbers in [0, 1): float32 from 24 low bits of a draw, or float64 from 53 low bits of two."""
    if wide:
        return (join64(draws) & np.uint64((1 << 53) - 1)).astype(np.float64) * 2.0**-53
    return (draws & np.uint32((1 << 24) - 1)).astype(np.float32) * np.float32(2.0**-24)


# uniform


def uniform_draws(n: int, dtype: np.dtype) -> int:
    """Draws that `uniform_` and `rand` take."""
    return 2 * n if _is_wide(dtype) else n


def uniform_from_draws(draws: np.ndarray, dtype: np.dtype, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """`uniform_(low, high)`. A value that rounds up to `high` becomes `low`.

    PyTorch fuses the multiplication and the addition. In float64 arithmetic that comes out the same for float32
    (the product is exact); float64 results differ from PyTorch's by an ulp at most.
    """
    unit = _unit(draws, _is_wide(dtype))
    start, stop = unit.dtype.type(low), unit.dtype.type(high)
    values = (unit.astype(np.float64) * np.float64(stop - start) + np.float64(start)).astype(unit.dtype).astype(dtype)
    return np.where(values == np.asarray(high, dtype), np.asarray(low, dtype), values)


def uniform(
    state: np.ndarray, n: int, dtype: np.dtype, low: float = 0.0, high: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """`empty(n).uniform_(low, high)`; with the defaults, `rand(n)`."""
    draws, state = mt19937.draw(state, uniform_draws(n, dtype))
    return uniform_from_draws(draws, dtype, low, high), state


# normal


def normal_is_blocked(n: int, contiguous: bool = True) -> bool:
    """Whether `normal_` takes the blocked path; otherwise it goes sample by sample (`normal_scalar_*`)."""
    return n >= BLOCK and contiguous


def normal_blocked_draws(n: int, dtype: np.dtype) -> int:
    """Draws that the blocked path takes."""
    if _is_half(dtype):
        return BLOCK * -(-n // BLOCK)
    count = n + (BLOCK if n % BLOCK else 0)
    return 2 * count if _is_wide(dtype) else count


def normal_blocked_from_draws(
    draws: np.ndarray, n: int, dtype: np.dtype, mean: float = 0.0, std: float = 1.0
) -> np.ndarray:
    """`normal_(mean, std)` on 16 or more elements. The last 16 are drawn anew where 16 does not divide `n`."""
    unit = _unit(draws, _is_wide(dtype))
    whole = n - n % BLOCK
    values = _box_muller(unit[:whole], mean, std)
    if n % BLOCK:
        values = np.concatenate([values[: n - BLOCK], _box_muller(unit[-BLOCK:], mean, std)])
    return values.astype(dtype)


def _box_muller(unit: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Blocks of 16 uniform numbers as normal ones: the first 8 of a block are radii, the last 8 angles.

    The functions are float64's, rounded once, whoever computes them; and PyTorch fuses the last two operations, which
    float64 does as well for float32 numbers.
    """
    real = unit.dtype.type
    pairs = unit.reshape(-1, 2, BLOCK // 2)
    radius = np.sqrt(real(-2.0) * np.log(real(1.0) - pairs[:, 0], dtype=np.float64).astype(real))
    theta = (real(2.0 * np.pi) * pairs[:, 1]).astype(np.float64)
    parts = [radius * turn(theta).astype(real) for turn in (np.cos, np.sin)]
    samples = np.stack(parts, axis=1).reshape(-1).astype(np.float64)
    return (samples * np.float64(real(std)) + np.float64(real(mean))).astype(real)


def normal_scalar_draws(n: int, waiting: bool) -> int:
    """Draws that the sample-by-sample path takes; every dtype computes in float64."""
    return 4 * -(-max(n - waiting, 0) // 2)


def normal_scalar_from_draws(draws: np.ndarray, n: int, waiting: float | None) -> tuple[np.ndarray, float | None]:
    """`n` standard normal float64 samples, and the sample that is left over for the next call."""
    unit = _unit(draws, wide=True).reshape(-1, 2)
    radius = np.sqrt(-2.0 * np.log1p(-unit[:, 1]))
    theta = 2.0 * np.pi * unit[:, 0]
    samples = np.stack([radius * np.cos(theta), radius * np.sin(theta)], axis=1).reshape(-1)
    if waiting is not None and n > 0:
        samples, waiting = np.concatenate([[waiting], samples]), None
    return samples[:n], float(samples[n]) if samples.size > n else waiting


def normal(
    state: np.ndarray, n: int, dtype: np.dtype, mean: float = 0.0, std: float = 1.0, contiguous: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """`empty(n).normal_(mean, std)`; with the defaults, `randn(n)`."""
    if normal_is_blocked(n, contiguous):
        draws, state = mt19937.draw(state, normal_blocked_draws(n, dtype))
        return normal_blocked_from_draws(draws, n, dtype, mean, std), state
    samples, state = _scalar_normals(state, n)
    return (samples * std + mean).astype(dtype), state


def log_normal(
    state: np.ndarray, n: int, dtype: np.dtype, mean: float = 1.0, std: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """`empty(n).log_normal_(mean, std)`."""
    samples, state = _scalar_normals(state, n)
    return np.exp(samples * std + mean).astype(dtype), state


def _scalar_normals(state: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    waiting = mt19937.waiting_normal(state)
    draws, state = mt19937.draw(state, normal_scalar_draws(n, waiting is not None))
    samples, left_over = normal_scalar_from_draws(draws, n, waiting)
    return samples, mt19937.with_waiting_normal(state, left_over)


# bernoulli


def bernoulli_draws(n: int, wide: bool) -> int:
    """Draws that `bernoulli` takes. `wide`: p is a float64 tensor or a Python number."""
    return 2 * n if wide else n


def bernoulli_from_draws(draws: np.ndarray, p: np.ndarray | float, dtype: np.dtype) -> np.ndarray:
    """1 where a uniform number is below p: float64 for a number or a float64 array, float32 for other arrays."""
    if isinstance(p, np.ndarray) and not _is_wide(p.dtype):
        return (_unit(draws, wide=False) < p.astype(np.float32)).astype(dtype)
    return (_unit(draws, wide=True) < p).astype(dtype)


def bernoulli(state: np.ndarray, n: int, p: np.ndarray | float, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """`bernoulli(p)` for a flat array of n probabilities, `empty(n).bernoulli_(p)` for a number."""
    wide = not isinstance(p, np.ndarray) or _is_wide(p.dtype)
    draws, state = mt19937.draw(state, bernoulli_draws(n, wide))
    return bernoulli_from_draws(draws, p, dtype), state


# exponential, cauchy, geometric: float64 formulas of one uniform number each


def exponential_from_draws(draws: np.ndarray, dtype: np.dtype, rate: float = 1.0) -> np.ndarray:
    """`exponential_(rate)`."""
    return (-1.0 / rate * np.log1p(-_unit(draws, wide=True))).astype(dtype)


def cauchy_from_draws(draws: np.ndarray, dtype: np.dtype, median: float = 0.0, sigma: float = 1.0) -> np.ndarray:
    """`cauchy_(median, sigma)`."""
    return (median + sigma * np.tan(np.pi * (_unit(draws, wide=True) - 0.5))).astype(dtype)


def geometric_from_draws(draws: np.ndarray, dtype: np.dtype, p: float) -> np.ndarray:
    """`geometric_(p)`: trials up to and including the first success."""
    with np.errstate(divide="ignore"):
        return np.ceil(np.log(_unit(draws, wide=True)) / np.log1p(-p)).astype(dtype)


def double_draws(n: int) -> int:
    """Draws that `exponential_`, `cauchy_` and `geometric_` take, whatever the dtype."""
    return 2 * n


def exponential(state: np.ndarray, n: int, dtype: np.dtype, rate: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """`empty(n).exponential_(rate)`."""
    return _doubles(state, n, lambda draws: exponential_from_draws(draws, dtype, rate))


def cauchy(
    state: np.ndarray, n: int, dtype: np.dtype, median: float = 0.0, sigma: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """`empty(n).cauchy_(median, sigma)`."""
    return _doubles(state, n, lambda draws: cauchy_from_draws(draws, dtype, median, sigma))


def geometric(state: np.ndarray, n: int, dtype: np.dtype, p: float) -> tuple[np.ndarray, np.ndarray]:
    """`empty(n).geometric_(p)`."""
    return _doubles(state, n, lambda draws: geometric_from_draws(draws, dtype, p))


def _doubles(state: np.ndarray, n: int, transform: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    draws, state = mt19937.draw(state, double_draws(n))
    return transform(draws), state


# integers


def randint_draws(n: int, span: int) -> int:
    """Draws that `randint` and `random_(from, to)` take; `span` is `to - from`."""
    return 2 * n if span >= WIDE_RANGE else n


def randint_from_draws(draws: np.ndarray, low: int, span: int, dtype: np.dtype) -> np.ndarray:
    """`randint(low, low + span)`: `draw % span + low`; over all of int64, the bits of the 64-bit draw."""
    values = join64(draws) if span >= WIDE_RANGE else draws.astype(np.uint64)
    if span < 1 << 64:
        values = values % np.uint64(span) + np.uint64(low & 0xFFFFFFFFFFFFFFFF)
    return values.view(np.int64).astype(dtype)


def randint(state: np.ndarray, n: int, low: int, high: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """`randint(low, high, (n,))`."""
    draws, state = mt19937.draw(state, randint_draws(n, high - low))
    return randint_from_draws(draws, low, high - low, dtype), state


def random_span(dtype: np.dtype) -> int:
    """How many values `random_()` without arguments chooses from: 0 .. maximum, or 0 .. 2**(mantissa bits)."""
    if dtype == np.bool_:
        return 2
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).max) + 1
    mantissa = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
    return (1 << mantissa) + 1


def random_draws(n: int, dtype: np.dtype) -> int:
    """Draws that `random_()` without arguments takes."""
    return 2 * n if dtype in (np.int64, np.float64) else n


def random_from_draws(draws: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`random_()` without arguments."""
    values = join64(draws) if dtype in (np.int64, np.float64) else draws.astype(np.uint64)
    return (values % np.uint64(random_span(dtype))).astype(dtype)


def random(state: np.ndarray, n: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """`empty(n).random_()`."""
    draws, state = mt19937.draw(state, random_draws(n, dtype))
    return random_from_draws(draws, dtype), state


# permutations


def randperm_draws(n: int) -> int:
    """Draws that `randperm` takes."""
    return max(n - 1, 0)


def randperm_offsets_from_draws(draws: np.ndarray, n: int) -> np.ndarray:
    """How far ahead of itself each of the first n - 1 places swaps: `draw % (n - i)`."""
    return (draws.astype(np.int64) % (n - np.arange(len(draws), dtype=np.int64))).astype(np.int64)


def randperm_from_offsets(offsets: np.ndarray, n: int, dtype: np.dtype) -> np.ndarray:
    """The swaps of a Fisher-Yates shuffle of 0 .. n - 1, one after another."""
    order = list(range(n))
    for i, offset in enumerate(offsets.tolist()):
        order[i], order[i + offset] = order[i + offset], order[i]
    return np.array(order, dtype)


def randperm(state: np.ndarray, n: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """`randperm(n)`."""
    draws, state = mt19937.draw(state, randperm_draws(n))
    return randperm_from_offsets(randperm_offsets_from_draws(draws, n), n, dtype), state


# multinomial


def multinomial_is_race(samples: int, replacement: bool) -> bool:
    """Whether `multinomial` takes the largest of weight / exponential; otherwise it inverts the distribution."""
    return samples == 1 or not replacement


def multinomial_draws(weights: np.ndarray, samples: int, replacement: bool) -> int:
    """Draws that `multinomial` takes on a (rows, categories) array of weights."""
    return 2 * (weights.size if multinomial_is_race(samples, replacement) else len(weights) * samples)


def multinomial_from_draws(draws: np.ndarray, weights: np.ndarray, samples: int, replacement: bool) -> np.ndarray:
    """`multinomial(weights, samples, replacement)`: int64 of shape (rows, samples). Ties go to the lower index."""
    if multinomial_is_race(samples, replacement):
        times = exponential_from_draws(draws, weights.dtype).reshape(weights.shape)
        with np.errstate(divide="ignore", over="ignore"):
            scores = weights / times
        return np.argsort(-scores, axis=1, kind="stable")[:, :samples].astype(np.int64)
    real = weights.dtype if weights.dtype.itemsize > 2 else np.dtype(np.float32)
    totals = np.cumsum(weights.astype(real), axis=1, dtype=real)
    totals = totals / totals[:, -1:]
    totals[:, -1] = 1
    unit = _unit(draws, wide=True).reshape(len(weights), samples)
    return np.stack([np.searchsorted(row.astype(np.float64), u) for row, u in zip(totals, unit, strict=True)])


def multinomial(
    state: np.ndarray, weights: np.ndarray, samples: int, replacement: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`multinomial(weights, samples, replacement)` on a (rows, categories) array of valid weights."""
    draws, state = mt19937.draw(state, multinomial_draws(weights, samples, replacement))
    return multinomial_from_draws(draws, weights, samples, replacement), state
