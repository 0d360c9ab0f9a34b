"""What calls of LAPACK's routines are made of: by address, one matrix a work item.

LAPACK goes along columns first, so a matrix goes in transposed and its factors come out so (`by_columns`).
"""
from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from jtorch import dtypes
from jtorch.codegen.library.call import KernelCall, Lowering, Operand, conversion, grain_of, pointer
from jtorch.codegen.library.copy import copy
from jtorch.codegen.library.language import Pointer
from jtorch.dtypes import dtype

LETTERS = {dtypes.float32: "s", dtypes.float64: "d", dtypes.complex64: "c", dtypes.complex128: "z"}
BLOCK = 64
"""What LAPACK's blocked routines may use as their block: it sizes their work space."""
COLUMNS = 128
"""Right-hand sides of a triangular system that one work item solves for."""
SLOT = 4
"""Words of 4 bytes that a constant takes in the block of constants."""
FLOPS_PER_NS = 25


@dataclass(frozen=True, slots=True)
class Work:
    """Scratch memory of so many bytes."""

    size: int


Argument = str | int | float | Operand | Work


def routine(low: Lowering, name: str, args: Sequence[Argument], count: int, flops: float) -> None:
    """Call LAPACK's `name` for each of `count` matrices: `flops` of work each.

    An argument is a letter, an integer, a number of the routine's real type, scratch memory, or a contiguous operand,
    of which the item's share is meant.
    """
    real = "d" if name[0] in "dz" else "f"
    params: list[tuple[str, str, Any]] = [("routine", "i", ("symbol", name))]
    fill, passed = [], []
    words = 0
    sizes = [SLOT * sum(not isinstance(a, Operand | Work) for a in args)]
    for a in args:
        i = len(passed)
        if isinstance(a, Operand):
            params += [(f"p{i}", "p:uint8", a.arg), (f"d{i}", "i", a.numel // count * a.dtype.itemsize)]
            passed.append(f"addr_of(p{i}, item * d{i})")
        elif isinstance(a, Work):
            params.append((f"w{i}", "i", sum(sizes)))
            sizes.append(-(-a.size // 64) * 16)
            passed.append(f"addr_of(words, at + w{i})")
        else:
            for j, word in enumerate(constant_words(a, real)):
                params.append((f"c{i}_{j}", "i", word))
                fill.append(f"    words[at + {words + j}] = i32(c{i}_{j})")
            passed.append(f"addr_of(words, at + {words})")
            words += SLOT
    passed += ["1"] * sum(isinstance(a, str) for a in args)  # Fortran's hidden lengths of letters
    params += [("words", "p:int32", ("scratch",)), ("stride", "i", ("scratch_stride",))]
    names = [n for n, _, _ in params]
    source = "\n".join([f"def kernel({', '.join([*names, 'begin', 'end', 'worker'])}):",
                        "    at = index_div(worker * stride, 4)", *fill, "    for item in range(begin, end):",
                        f"        call_routine(routine, {', '.join(passed)})", ""])
    low.calls.append(KernelCall(name, source, tuple([kind for _, kind, _ in params]), tuple([v for _, _, v in params]),
                                count, grain_of(flops / FLOPS_PER_NS + 1000), 4 * sum(sizes)))


def constant_words(value: Any, real: str) -> tuple[int, ...]:
    """A constant as LAPACK reads it from memory, in words of 4 bytes."""
    if isinstance(value, str):
        return (ord(value),)
    if isinstance(value, int):
        return (value,)
    return struct.unpack("<2i" if real == "d" else "<i", struct.pack("<" + real, value))


def scale_matrices(x: Pointer, scale: Pointer, size: int, begin: int, end: int, worker: int) -> None:
    for item in range(begin, end):
        s = scale[item]
        for i in range(item * size, item * size + size):
            x[i] = x[i] * s


def transposed(x: Operand) -> Operand:
    return x.permuted((*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2))


def by_columns(low: Lowering, x: Operand) -> Operand:
    """A contiguous copy of the transposed matrices, which LAPACK reads as x."""
    source = transposed(x)
    result = low.temp(x.dtype, source.shape)
    copy(low, source, result)
    return result


def batch(low: Lowering) -> int:
    """How many matrices there are. Only matrices with elements have kernels."""
    if not all(v.numel for v in (*low.inputs, *low.outputs)):
        raise NotImplementedError("empty matrices")
    return prod(low.inputs[0].shape[:-2])


def letter(x: Operand) -> str:
    if x.dtype not in LETTERS:
        raise NotImplementedError(f"matrices of {x.dtype}")
    return LETTERS[x.dtype]


def words_of(d: dtype) -> int:
    return 2 if d.is_complex else 1


def real_pointer(x: Operand) -> str:
    """The kind of a pointer to the real numbers that elements are made of."""
    return pointer(x.dtype.to_real())


def elements(low: Lowering, function: Any, operands: Sequence[tuple[str, Operand]], integers: dict[str, Any],
             total: int, work: float, **holes: str) -> None:
    """A call of one of the functions above; `work` is elements per item."""
    args = [(name, real_pointer(x) if x.dtype.category >= dtypes.FLOAT else pointer(x.dtype), x.arg)
            for name, x in operands]
    first = next(x for _, x in operands if x.dtype.category >= dtypes.FLOAT)
    low.call(function, [*args, *[(n, "f" if isinstance(v, float) else "i", v) for n, v in integers.items()]], total,
             grain_of(work * 0.3), holes={"T": conversion(first.dtype.to_real()), **holes})
