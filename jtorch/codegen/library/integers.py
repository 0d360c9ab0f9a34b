"""Greatest common divisors and least common multiples."""
from __future__ import annotations

from jtorch.codegen.library.call import Lowering, conversion, grain_of, pointer
from jtorch.codegen.library.copy import contiguous
from jtorch.codegen.library.language import VALUE, Pointer, T, i64, index_div, index_mod, select  # noqa: F401

BLOCK = 1024


def euclid(x: Pointer, y: Pointer, out: Pointer, n: int, block: int, begin: int, end: int, worker: int) -> None:
    """Euclid's algorithm on the magnitudes `first` and `second`, which leaves the divisor in `a`."""
    for item in range(begin, end):
        for i in range(item * block, min(item * block + block, n)):
            first = select(i64(x[i]) < 0, -i64(x[i]), i64(x[i]))
            second = select(i64(y[i]) < 0, -i64(y[i]), i64(y[i]))
            a = first
            b = second
            while b != 0:
                rest = index_mod(a, b)
                a = b
                b = rest
            out[i] = T(VALUE)


def _pairs(low: Lowering, value: str) -> None:
    x, y = (contiguous(low, v) for v in low.inputs)
    out = low.outputs[0]
    p = pointer(out.dtype)
    low.call(euclid, [("x", p, x.arg), ("y", p, y.arg), ("out", p, out.arg), ("n", "i", out.numel),
                      ("block", "i", BLOCK)],
             -(-out.numel // BLOCK), grain_of(BLOCK * 20), holes={"T": conversion(out.dtype), "VALUE": value})


def gcd(low: Lowering) -> None:
    _pairs(low, "a")


def lcm(low: Lowering) -> None:
    _pairs(low, "select(a == 0, 0, index_div(first, select(a == 0, 1, a)) * second)")
