"""What a lowering is made of: operands and kernel calls."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jtorch import dtypes
from jtorch.codegen.library.kernel_text import text
from jtorch.dtypes import dtype
from jtorch.ir.graph import Shape, Value

Arg = Any
"""An argument of a kernel call:

    int, float                    themselves
    ('in', i, bytes)              address of operand i's data, plus an offset
    ('out', i, bytes)             address of result i
    ('temp', i, bytes)            address of temporary i of the lowering
    ('symbol', name)              address of a routine of BLAS ('sgemm', see runtime/blas.py) or LAPACK ('sgetrf')
    ('scratch',)                  address of the scratch memory, or of the byte ('scratch', offset) of it;
                                  ('scratch_stride',) its bytes per worker
    ('error',)                    address of the error word
    ('code', exception, message)  a number below 2**20 for `store_error` that makes the program raise this. `message` is
                                  the text, or makes it from two numbers in the bits above, from 20 and 42 on
"""

GRAIN_NS = 4_000
"""Nanoseconds of work that a chunk should be worth."""


@dataclass(frozen=True, slots=True)
class KernelCall:
    """A kernel over `total` work items, in chunks of `grain` or multiples of it.

    `scratch` is bytes per worker. Without a `barrier` the call may run beside those before it, back to the
    last one with a barrier.
    """

    name: str
    source: str
    params: tuple[str, ...]
    args: tuple[Arg, ...]
    total: int
    grain: int = 1
    scratch: int = 0
    barrier: bool = True


@dataclass(frozen=True, slots=True)
class Operand:
    """Strided data: element `index` is element `offset + sum(index * strides)` of what `place` names."""

    place: tuple[str, int]
    dtype: dtype
    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def arg(self) -> Arg:
        return (*self.place, self.offset * self.dtype.itemsize)

    @property
    def is_contiguous(self) -> bool:
        return self.has_contiguous(0)

    def has_contiguous(self, first: int) -> bool:
        """Are the axes from `first` on laid out as contiguous data (whatever the strides before them)?"""
        expected = 1
        for n, s in zip(reversed(self.shape[first:]), reversed(self.strides[first:])):
            if n != 1 and s != expected:
                return False
            expected *= n
        return True

    def permuted(self, perm: Sequence[int]) -> Operand:
        return Operand(self.place, self.dtype, tuple(self.shape[p] for p in perm), tuple(self.strides[p] for p in perm),
                       self.offset)

    def reshaped(self, shape: Sequence[int]) -> Operand:
        """Contiguous data with another shape."""
        assert self.is_contiguous and math.prod(shape) == self.numel
        return Operand(self.place, self.dtype, tuple(shape), row_major(shape), self.offset)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    strides, n = [], 1
    for s in reversed(shape):
        strides.append(n)
        n *= s
    return tuple(reversed(strides))


def whole(place: tuple[str, int], d: dtype, shape: Sequence[int]) -> Operand:
    return Operand(place, d, tuple(shape), row_major(shape))


@dataclass(frozen=True, slots=True)
class Epilogue:
    """Lines that finish a block of the result while it is in cache.

    The result's data, which is contiguous, is seen as [batch, rows, columns]. `lines` may use the int64 variables
    `batch`, `r0`, `r1`,
    `c0`, `c1` (the block is one batch, rows r0..r1 and columns c0..c1), `worker`, and the names of `params`: pairs
    (name, kind), whose values are `args`. The block has been stored to the result's memory before the lines run.
    Names that begin with `e_` are theirs.
    """

    lines: str
    params: tuple[tuple[str, str], ...] = ()
    args: tuple[Arg, ...] = ()


@dataclass(slots=True)
class Lowering:
    """The kernel calls of one node, as they are collected.

    `epilogue` is None or a function (batch, rows, columns) -> Epilogue | None: asked for lines that finish blocks of
    the result seen with these extents. If the lowering takes them, `took_epilogue` becomes true.
    `in_place` says that result 0 has the memory of this operand (which is dead, whole and contiguous).
    `wanted` are the numbers of the results that somebody reads; the others need not be computed.
    """

    node: Value
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    epilogue: Callable[[int, int, int], Epilogue | None] | None = None
    in_place: int | None = None
    calls: list[KernelCall] = field(default_factory=list)
    temps: list[int] = field(default_factory=list)
    took_epilogue: bool = False
    wanted: frozenset[int] = frozenset(range(8))

    def temp(self, d: dtype, shape: Sequence[int]) -> Operand:
        self.temps.append(max(1, math.prod(shape)) * d.itemsize)
        return whole(("temp", len(self.temps) - 1), d, shape)

    def fuse(self, batch: int, rows: int, columns: int) -> Epilogue | None:
        """The lines that finish blocks of the result, if there are any for these extents."""
        found = self.epilogue(batch, rows, columns) if self.epilogue else None
        self.took_epilogue = found is not None
        return found

    def call(self, function: Callable, args: Sequence[tuple[str, str, Arg]], total: int, grain: int = 1,
             scratch: int = 0, barrier: bool = True, holes: dict[str, str] | None = None,
             epilogue: Epilogue | None = None) -> None:
        """Add a call of `function`; `args` has (parameter name, kind, argument) for each parameter."""
        names = tuple(name for name, _, _ in args)
        if total <= 0:
            return
        filled = dict(holes or {})
        filled["EPILOGUE"] = epilogue.lines if epilogue else "pass"
        if epilogue:
            names += tuple(name for name, _ in epilogue.params)
            args = [*args, *((n, kind, a) for (n, kind), a in zip(epilogue.params, epilogue.args))]
        source = text(function, names, tuple(filled.items()))
        self.calls.append(KernelCall(function.__name__, source, tuple(kind for _, kind, _ in args),
                                     tuple(a for _, _, a in args), total, grain, scratch, barrier))


STORAGE = {dtypes.float16: "uint16", dtypes.bfloat16: "uint16"}
"""How a kernel sees elements that are no type of the kernel language: by their bits."""

_WORDS = {1: "uint8", 2: "uint16", 4: "int32", 8: "int64", 16: "complex128"}


def pointer(d: dtype) -> str:
    """The kind of a pointer to elements of `d`."""
    return "p:" + STORAGE.get(d, d.name)


def raw_pointer(d: dtype) -> str:
    """The kind of a pointer for kernels that only move elements: one kernel serves all dtypes of a size."""
    return "p:" + raw_name(d)


def raw_name(d: dtype) -> str:
    return _WORDS[d.itemsize]


_SHORT = {"float32": "f32", "float64": "f64", "bool": "b8", "int8": "i8", "int16": "i16", "int32": "i32",
          "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32"}


def conversion(d: dtype) -> str:
    """The function of the kernel language that converts to the compute type of `d`."""
    return _SHORT[d.compute.name]


def loader(d: dtype) -> str:
    """The function that makes a loaded element a number of the compute type."""
    return {dtypes.float16: "f16_to_f32", dtypes.bfloat16: "bf16_to_f32"}.get(d) or _SHORT[d.name]


def storer(d: dtype) -> str:
    """The function that makes a number of the compute type an element to be stored."""
    return {dtypes.float16: "f32_to_f16", dtypes.bfloat16: "f32_to_bf16"}.get(d) or _SHORT[d.name]


def grain_of(ns_per_item: float) -> int:
    return max(1, math.ceil(GRAIN_NS / max(ns_per_item, 1e-3)))


def merge_axes(shape: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Shape and strides with size-1 axes dropped and neighbouring axes merged where all operands allow it."""
    sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        here = [s[axis] for s in strides]
        if sizes and all(m[-1] == s * n for m, s in zip(merged, here)):
            sizes[-1] *= n
            for m, s in zip(merged, here):
                m[-1] = s
        else:
            sizes.append(n)
            for m, s in zip(merged, here):
                m.append(s)
    return sizes, merged
