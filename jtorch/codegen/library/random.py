
"""PyTorch's generator: raw draws of the Mersenne twister. The state's layout is that of `jtorch/ir/mt19937.py`."""
from __future__ import annotations

from jtorch.codegen.library.call import Lowering, Operand
from jtorch.codegen.library.copy import contiguous
from jtorch.codegen.library.language import Pointer, i64, select, u32


def mersenne_draws(state: Pointer, draws: Pointer, after: Pointer, count: int, words: int, begin: int, end: int,
                   worker: int) -> None:
    """The next `count` draws, and the state after them: `words` words, of which 0..623 are the twister and 624 is the
    position. New words depend on words 227 places back or 397 ahead, so the loops vectorise."""
    for i in range(words):
        after[i] = state[i]
    position = i64(after[624])
    done = i64(0)
    while done < count:
        if position >= 624:
            for i in range(227):
                y = (after[i] & u32(0x80000000)) | (after[i + 1] & u32(0x7FFFFFFF))
                after[i] = after[i + 397] ^ (y >> u32(1)) ^ select((y & u32(1)) == u32(0), u32(0), u32(0x9908B0DF))
            for i in range(227, 623):
                y = (after[i] & u32(0x80000000)) | (after[i + 1] & u32(0x7FFFFFFF))
                after[i] = after[i - 227] ^ (y >> u32(1)) ^ select((y & u32(1)) == u32(0), u32(0), u32(0x9908B0DF))
            y = (after[623] & u32(0x80000000)) | (after[0] & u32(0x7FFFFFFF))
            after[623] = after[396] ^ (y >> u32(1)) ^ select((y & u32(1)) == u32(0), u32(0), u32(0x9908B0DF))
            position = i64(0)
        n = min(624 - position, count - done)
        for i in range(n):
            y = after[position + i]
            y ^= y >> u32(11)
            y ^= (y << u32(7)) & u32(0x9D2C5680)
            y ^= (y << u32(15)) & u32(0xEFC60000)
            y ^= y >> u32(18)
            draws[done + i] = y
        done += n
        position += n
    after[624] = u32(position)


def shuffle_in_order(offsets: Pointer, out: Pointer, n: int, begin: int, end: int, worker: int) -> None:
    """out = 0 .. n - 1, place i swapped with place i + offsets[i], one after another."""
    for i in range(n):
        out[i] = i
    for i in range(n - 1):
        other = i + offsets[i]
        kept = out[i]
        out[i] = out[other]
        out[other] = kept


def mt19937(low: Lowering) -> None:
    state = contiguous(low, low.inputs[0])
    draws, after = low.outputs
    low.call(mersenne_draws, [("state", "p:uint32", state.arg), ("draws", "p:uint32", draws.arg),
                              ("after", "p:uint32", after.arg), ("count", "i", draws.numel), ("words", "i",
                                                                                              after.numel)], 1)


def shuffle(low: Lowering) -> None:
    offsets: Operand = contiguous(low, low.inputs[0])
    out = low.outputs[0]
    low.call(shuffle_in_order, [("offsets", "p:int64", offsets.arg), ("out", "p:int64", out.arg), ("n", "i",
                                                                                                   out.numel)], 1)
