# ruff: noqa: B018  the kernels have holes, and what is filled in uses the names
"""Numbers that are drawn until one is accepted, one after another: Poisson and binomial counts.

`jtorch/ir/random_samplers.py` has their meaning and where the algorithms come from.
"""
from __future__ import annotations

from jtorch.codegen.library.call import Lowering, pointer
from jtorch.codegen.library.copy import contiguous
from jtorch.codegen.library.language import (
    TAIL_COUNT,
    TAIL_FOUND,
    TAIL_MODE,
    TAIL_REST,
    UNIFORM,
    Pointer,
    ceil,
    exp,
    f64,
    floor,
    i64,
    isinf,
    lgamma,
    log,
    log1p,
    select,
    sqrt,
    u32,
    uniform,
)
from jtorch.ir.random_samplers import TAILS

ONE_DRAW = """\
bits = u64(0)
for half in range(2):
    if position >= 624:
        for j in range(227):
            y = (after[j] & u32(0x80000000)) | (after[j + 1] & u32(0x7FFFFFFF))
            after[j] = after[j + 397] ^ (y >> u32(1)) ^ select((y & u32(1)) == u32(0), u32(0), u32(0x9908B0DF))
        for j in range(227, 623):
            y = (after[j] & u32(0x80000000)) | (after[j + 1] & u32(0x7FFFFFFF))
            after[j] = after[j - 227] ^ (y >> u32(1)) ^ select((y & u32(1)) == u32(0), u32(0), u32(0x9908B0DF))
        y = (after[623] & u32(0x80000000)) | (after[0] & u32(0x7FFFFFFF))
        after[623] = after[396] ^ (y >> u32(1)) ^ select((y & u32(1)) == u32(0), u32(0), u32(0x9908B0DF))
        position = i64(0)
    y = after[position]
    position = position + 1
    y ^= y >> u32(11)
    y ^= (y << u32(7)) & u32(0x9D2C5680)
    y ^= (y << u32(15)) & u32(0xEFC60000)
    y ^= y >> u32(18)
    bits = (bits << u64(32)) | u64(y)
uniform = f64(bits & u64(0x1FFFFFFFFFFFFF)) * f64(1.1102230246251565e-16)"""
"""The next float64 number below 1, of 53 bits."""


def poisson_counts(state: Pointer, rates: Pointer, values: Pointer, after: Pointer, count: int, words: int, begin: int,
                   end: int, worker: int) -> None:
    for i in range(words):
        after[i] = state[i]
    position = i64(after[624])
    for i in range(count):
        rate = f64(rates[i])
        found = f64(0)
        going = rate > 0 and not isinf(rate)
        if going and rate < 10:
            limit = exp(-rate)
            product = f64(1)
            while going:
                UNIFORM
                product = product * uniform
                going = product > limit
                if going:
                    found = found + f64(1)
        elif going:
            log_rate = log(rate)
            b = f64(0.931) + f64(2.53) * sqrt(rate)
            a = f64(-0.059) + f64(0.02483) * b
            inverse = log(f64(1.1239) + f64(1.1328) / (b - f64(3.4)))
            ratio = f64(0.9277) - f64(3.6224) / (b - f64(2))
            while going:
                UNIFORM
                u = uniform - f64(0.5)
                UNIFORM
                us = f64(0.5) - abs(u)
                found = select(us > 0, floor((f64(2) * a / us + b) * u + rate + f64(0.43)), f64(-1))
                if us >= 0.07 and uniform <= ratio:
                    going = False
                elif not (found < 0 or (us < 0.013 and uniform > us)):
                    score = log(uniform) + inverse - log(a / (us * us) + b)
                    going = not score <= -rate + found * log_rate - lgamma(found + f64(1))
        values[i] = found
    after[624] = u32(position)


def binomial_counts(state: Pointer, totals: Pointer, chances: Pointer, values: Pointer, after: Pointer, count: int,
                    words: int, begin: int, end: int, worker: int) -> None:
    for i in range(words):
        after[i] = state[i]
    position = i64(after[624])
    for i in range(count):
        total = f64(totals[i])
        chance = f64(chances[i])
        p = min(chance, f64(1) - chance)
        found = f64(0)
        going = True
        if total != total or chance != chance:
            found = total + chance
            p = f64(0)
            going = False
        elif total <= 0 or chance <= 0:
            going = False
        elif chance >= 1:
            found = total
            going = False
        sampled = going
        if going and total * p < 10:
            scale = log1p(-p)
            waited = f64(0)
            while going:
                UNIFORM
                waited = waited + ceil(log(uniform) / scale)
                going = waited <= total
                if going:
                    found = found + f64(1)
        elif going:
            deviation = sqrt(total * p * (f64(1) - p))
            b = f64(1.15) + f64(2.53) * deviation
            a = f64(-0.0873) + f64(0.0248) * b + f64(0.01) * p
            center = total * p + f64(0.5)
            ratio = f64(0.92) - f64(4.2) / b
            odds = p / (f64(1) - p)
            alpha = (f64(2.83) + f64(5.1) / b) * deviation
            mode = floor((total + f64(1)) * p)
            rest = total - mode
            peak = (mode + f64(0.5)) * log((mode + f64(1)) / (odds * (rest + f64(1)))) + TAIL_MODE + TAIL_REST
            while going:
                UNIFORM
                u = uniform - f64(0.5)
                UNIFORM
                us = f64(0.5) - abs(u)
                found = select(us > 0, floor((f64(2) * a / us + b) * u + center), f64(-1))
                left = total - found
                if found >= 0 and left >= 0:
                    if us >= 0.07 and uniform <= ratio:
                        going = False
                    else:
                        bound = (peak + (total + f64(1)) * log((rest + f64(1)) / (left + f64(1)))
                                 + (found + f64(0.5)) * log(odds * (left + f64(1)) / (found + f64(1)))
                                 - TAIL_FOUND - TAIL_COUNT)
                        going = not log(uniform * alpha / (a / (us * us) + b)) <= bound
        if sampled and chance > 0.5:
            found = total - found
        values[i] = found
    after[624] = u32(position)


def tail(k: str) -> str:
    """log k! less Stirling's approximation of it, as an expression."""
    text = f"((f64(1 / 12) - (f64(1 / 360) - f64(1 / 1260) / (({k} + f64(1)) * ({k} + f64(1)))) " \
           f"/ (({k} + f64(1)) * ({k} + f64(1)))) / ({k} + f64(1)))"
    for i, value in enumerate(TAILS):
        text = f"select({k} == {i}, f64({value!r}), {text})"
    return text


HOLES = {"UNIFORM": ONE_DRAW, "TAIL_MODE": tail("mode"), "TAIL_REST": tail("rest"), "TAIL_FOUND": tail("found"),
         "TAIL_COUNT": tail("left")}


def counts(low: Lowering) -> None:
    state, *parameters = [contiguous(low, x) for x in low.inputs]
    values, after = low.outputs
    if parameters[0].dtype.itemsize == 2:
        raise NotImplementedError("half types")
    poisson = low.node.op.name == "poisson_draws"
    names = ("rates",) if poisson else ("totals", "chances")
    low.call(poisson_counts if poisson else binomial_counts, [
        ("state", "p:uint32", state.arg), *[(n, pointer(x.dtype), x.arg) for n, x in zip(names, parameters)],
        ("values", "p:float64", values.arg), ("after", "p:uint32", after.arg), ("count", "i", values.numel),
        ("words", "i", after.numel)], 1, holes=HOLES)
