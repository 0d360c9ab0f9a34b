"""Prefetches inside vectorised loops.

    x = load_ahead(p[i], p, n, i)       # p[i]; p[n + i] will be read soon

is a call of a function that returns its first argument. Its vector forms (`variants.py`) prefetch every cache line that
the vector covers. A loop that stays scalar has no prefetch.
"""
from __future__ import annotations

BYTES = {"float": 4, "double": 8}
CACHE_LINE = 64
DECLARATION = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"


def symbol(scalar: str) -> str:
    """The function for the LLVM type `scalar`."""
    return f"jt.ahead.{scalar}"


def body(scalar: str, lanes: int) -> list[str]:
    """What it does with a vector of `lanes`; 0 is one number, for which it does nothing."""
    lines = [f"%q = getelementptr {scalar}, ptr %p, i64 %i"] if lanes else []
    for at in range(0, lanes * BYTES[scalar], CACHE_LINE):
        lines += [f"%q{at} = getelementptr i8, ptr %q, i64 {at}",
                  f"call void @llvm.prefetch.p0(ptr %q{at}, i32 0, i32 3, i32 1)"]
    return [*lines, f"ret <{lanes} x {scalar}> %x" if lanes else f"ret {scalar} %x"]
