"""Runs the kernel calls of a library lowering on NumPy arrays: call by call in odd chunks, or as a program."""
from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable, Sequence

import numpy as np

from jtorch.codegen import library
from jtorch.codegen.library.call import KernelCall, Lowering, Operand
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import op
from jtorch.ir.prims.create import make_leaf
from jtorch.runtime import blas, kernels
from jtorch.runtime.program import ERROR, SCRATCH, Launch, Program

ENTRY = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)
WORKERS = 3


def make_node(name: str, types: Sequence[Type], **attrs: object) -> Value:
    """The node of operation `name` on leaves of these types."""
    builder = Builder()
    leaves = [make_leaf(builder, i, t) for i, t in enumerate(types)]
    result = builder.apply(op(name), *leaves, **attrs)
    return result if isinstance(result, Value) else result[0]


def lower(node: Value, arrays: Sequence[np.ndarray], **options: object) -> Lowering | None:
    """Its lowering for operands with the arrays' strides."""
    inputs = [Operand(("in", i), v.dtype, v.shape, tuple(s // a.itemsize for s in a.strides))
              for i, (v, a) in enumerate(zip(node.inputs, arrays))]
    return library.lower(node, inputs, **options)


def aligned(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Uninitialised memory that begins at a cache line, filled with a pattern."""
    n = int(np.prod(shape)) * dtype.itemsize
    memory = np.full(n + 64, 0xAB, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start:start + n].view(dtype).reshape(shape)


class Places:
    """Addresses of what arguments name."""

    def __init__(self, low: Lowering, arrays: Sequence[np.ndarray]) -> None:
        self.outs = [aligned(v.shape, v.dtype.numpy) for v in low.node.siblings]
        if low.in_place is not None:
            self.outs[0] = arrays[low.in_place]
        self.temps = [aligned((n,), np.dtype(np.uint8)) for n in low.temps]
        self.lists = {"in": arrays, "out": self.outs, "temp": self.temps}
        self.scratch = max([c.scratch for c in low.calls], default=0) + 63 & ~63
        self.codes: list[tuple] = []

    def code(self, arg: tuple) -> int:
        self.codes.append(arg)
        return len(self.codes)


def run(node: Value, arrays: Sequence[np.ndarray], seed: int | None = 0, **options: object) -> list[np.ndarray]:
    """Results of the node's kernels, whose items are run in random chunks and random order. Raises what they report."""
    low = lower(node, arrays, **options)
    assert low is not None, f"no library kernel for {node!r}"
    places = Places(low, arrays)
    scratch = aligned((WORKERS * places.scratch + 1,), np.dtype(np.uint8))
    error = np.zeros(1, np.int64)
    shuffled = random.Random(seed)
    for call in low.calls:
        words = [_word(a, places, scratch, error) for a in call.args]
        table = np.array(words, np.int64)
        entry = ENTRY(kernels.load(call.source, call.params).address)
        for begin, end in _chunks(call.total, call.grain, shuffled):
            entry(table.ctypes.data, begin, end, shuffled.randrange(WORKERS))
        if error[0]:
            _, exception, message = places.codes[error[0] - 1]
            raise exception(message)
    return places.outs


def _chunks(total: int, grain: int, shuffled: random.Random) -> list[tuple[int, int]]:
    if total <= 1:
        return [(0, total)]
    cuts = sorted({0, total, *[shuffled.randrange(total) for _ in range(4)]})
    pieces = list(zip(cuts, cuts[1:]))
    shuffled.shuffle(pieces)
    return pieces


def _word(arg: object, places: Places, scratch: np.ndarray, error: np.ndarray) -> int:
    if isinstance(arg, float):
        return struct.unpack("q", struct.pack("d", arg))[0]
    if not isinstance(arg, tuple):
        return int(arg)  # type: ignore[call-overload]
    kind = arg[0]
    if kind in places.lists:
        return places.lists[kind][arg[1]].ctypes.data + arg[2]
    return {"symbol": lambda: blas.load().address[arg[1]], "scratch": lambda: scratch.ctypes.data + sum(arg[1:]),
            "scratch_stride": lambda: places.scratch, "error": lambda: error.ctypes.data,
            "code": lambda: places.code(arg)}[kind]()


def program(node: Value, arrays: Sequence[np.ndarray], **options: object) -> tuple[Callable[[], None],
                                                                                   list[np.ndarray]]:
    """(function that runs the node's kernels on the pool, results that it writes)."""
    low = lower(node, arrays, **options)
    assert low is not None
    places = Places(low, arrays)
    buffers = [*arrays, *places.outs, *places.temps]
    first = {"in": 0, "out": len(arrays), "temp": len(arrays) + len(places.outs)}

    def argument(arg: object) -> object:
        if not isinstance(arg, tuple):
            return arg
        kind = arg[0]
        if kind in first:
            return ("buf", first[kind] + arg[1], arg[2])
        return {"symbol": lambda: blas.load().address[arg[1]], "scratch": lambda: ("buf", SCRATCH, sum(arg[1:])),
                "scratch_stride": lambda: places.scratch, "error": lambda: ("buf", ERROR, 0),
                "code": lambda: places.code(arg)}[kind]()

    def launch(call: KernelCall) -> Launch:
        kernel = kernels.load(call.source, call.params)
        return Launch(kernel.address, [argument(a) for a in call.args], call.total, call.grain, call.barrier)

    made = Program([launch(c) for c in low.calls], len(buffers), scratch_size=places.scratch)

    def run_program() -> None:
        made.run([b.ctypes.data for b in buffers])  # the closure keeps the buffers alive

    return run_program, places.outs
