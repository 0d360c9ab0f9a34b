"""Runs the text of a `@cuda.jit` kernel, unchanged, without a GPU and without Numba.

Threads are generators: the calls at which threads meet (`syncthreads`, `shfl_*_sync`, `ballot_sync`...) are rewritten
into `yield`, and a scheduler runs the warps of a block one after another, each until it waits at a barrier. That is
deterministic; `reverse=True` runs warps and lanes in the opposite order, so that a race shows as a different result.

Errors, not undefined behaviour: a warp operation that not all lanes reach, a barrier that not all threads of the block
reach, an access outside a buffer. Numbers are NumPy scalars, so float32 rounds and uint32 wraps as on the device.

It lives with the tests because nothing that is installed uses it.
"""
from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.special

WARP = 32
TYPES = {"b8": np.bool_, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "i8": np.int8, "i16": np.int16,
         "i32": np.int32, "i64": np.int64, "f16": np.float16, "f32": np.float32, "f64": np.float64}
MEETINGS = {"syncthreads", "syncwarp", "ballot_sync", "any_sync", "all_sync", "shfl_sync", "shfl_up_sync",
            "shfl_down_sync", "shfl_xor_sync"}


class Divergence(AssertionError):
    """Threads that should meet do not."""


class Pointer:
    """p[i] relative to an offset, inside the buffer only."""

    def __init__(self, array: np.ndarray, offset: int = 0) -> None:
        self.array, self.offset = array.reshape(-1), offset

    def place(self, index: Any) -> int:
        place = self.offset + int(index)
        if not 0 <= place < self.array.size:
            raise IndexError(f"element {place} of a buffer of {self.array.size}")
        return place

    def __getitem__(self, index: Any) -> Any:
        return self.array[self.place(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[self.place(index)] = value


class Libdevice:
    """libdevice's functions by NumPy, or where it has none by `math`, in the operand's own type."""

    NUMPY = {"acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan",
             "atanh": "arctanh", "atan2": "arctan2"}
    MATH = {"tgamma": math.gamma, "erf": math.erf, "erfc": math.erfc, "lgamma": math.lgamma,
            "erfinv": scipy.special.erfinv}

    def __getattr__(self, name: str) -> Any:
        if name in ("int_as_float", "float_as_int"):
            kind = {"int_as_float": np.float32, "float_as_int": np.int32}[name]
            return lambda x: np.asarray(x).view(kind)[()]
        base = name[:-1] if name.endswith("f") and name != "erf" else name
        found = getattr(np, self.NUMPY.get(base, base), None)
        if found is not None:
            return found
        if base == "rsqrt":
            return lambda x: type(x)(1) / np.sqrt(x)
        return lambda x: type(x)(self.MATH[base](float(x)))


class Rewrite(ast.NodeTransformer):
    """The kernel as a generator that takes its thread's `cuda` first."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.args.args.insert(0, ast.arg("cuda"))
        node.decorator_list = []
        node.body.append(ast.parse("yield None").body[0])  # a generator even where no threads meet
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in MEETINGS:
            event = ast.Tuple([ast.Constant(node.func.attr), ast.Constant(node.lineno), *node.args], ast.Load())
            return ast.Yield(event)
        return node


@lru_cache(maxsize=256)
def rewritten(source: str) -> Any:
    tree = ast.fix_missing_locations(Rewrite().visit(ast.parse(source)))
    names = dict(TYPES, libdevice=Libdevice())
    exec(compile(tree, "<kernel>", "exec"), names)
    return names["kernel"]


class Thread:
    """What one thread sees as `cuda`."""

    def __init__(self, thread: int, block: int, threads: int, blocks: int, arrays: list[Pointer]) -> None:
        x = {"threadIdx": thread, "blockIdx": block, "blockDim": threads, "gridDim": blocks}
        for name, value in x.items():
            setattr(self, name, SimpleNamespace(x=value))
        self.grid, self.gridsize = lambda ndim: block * threads + thread, lambda ndim: blocks * threads
        self.arrays, self.declared = arrays, 0
        self.shared = SimpleNamespace(array=self.shared_array)

    def shared_array(self, size: int, dtype: type) -> Pointer:
        """The n-th declaration is one array for the whole block; it starts as rubbish."""
        self.declared += 1
        if self.declared > len(self.arrays):
            self.arrays.append(Pointer(np.full(size, 99, dtype)))
        return self.arrays[self.declared - 1]


class Warp:
    """Up to 32 threads that run from meeting to meeting. `waits`: the barrier's line, None once all have returned."""

    def __init__(self, threads: Sequence[Any], reverse: bool) -> None:
        self.threads = list(threads)
        self.order = range(len(self.threads))[::-1] if reverse else range(len(self.threads))
        self.answers: list[Any] = [None] * len(self.threads)
        self.waits: int | None = None

    def run(self) -> None:
        """Up to the next barrier."""
        while True:
            events = {}
            for lane in self.order:
                try:
                    events[lane] = self.threads[lane].send(self.answers[lane])
                except StopIteration:
                    events[lane] = None
            kinds = {e and e[:2] for e in events.values()}
            if len(kinds) != 1:
                raise Divergence(f"lanes of a warp wait at different places: {sorted(map(str, kinds))}")
            (kind,) = kinds
            if kind is None or kind[0] == "syncthreads":
                self.waits = kind and kind[1]
                self.answers = [None] * len(self.threads)
                return
            self.answers = meet(kind[0], [events[lane][2:] for lane in range(len(self.threads))])


def meet(name: str, operands: list[tuple]) -> list[Any]:
    """What each lane gets from a warp operation."""
    masks = {int(o[0]) for o in operands} if operands[0] else {0xffffffff}
    if masks != {0xffffffff} or len(operands) != WARP:
        raise Divergence(f"{name}: masks {sorted(masks)} over {len(operands)} lanes")
    if name == "syncwarp":
        return [None] * WARP
    values = [o[1] for o in operands]
    if name.startswith("shfl"):
        move = {"shfl_sync": lambda lane, k: k % WARP, "shfl_up_sync": lambda lane, k: lane - k,
                "shfl_down_sync": lambda lane, k: lane + k, "shfl_xor_sync": lambda lane, k: lane ^ k}[name]
        sources = [move(lane, int(o[2])) for lane, o in enumerate(operands)]
        return [values[s if 0 <= s < WARP else lane] for lane, s in enumerate(sources)]
    result = {"ballot_sync": sum(bool(v) << lane for lane, v in enumerate(values)), "any_sync": any(values),
              "all_sync": all(values)}[name]
    return [result] * WARP


def launch(source: str, blocks: int, threads: int, args: Sequence[Any], reverse: bool = False) -> None:
    """Run a kernel's text over a grid. `args`: `Pointer`s and NumPy scalars."""
    kernel = rewritten(source)
    with np.errstate(all="ignore"):
        for block in range(blocks)[::-1] if reverse else range(blocks):
            run_block(kernel, block, blocks, threads, args, reverse)


def run_block(kernel: Any, block: int, blocks: int, threads: int, args: Sequence[Any], reverse: bool) -> None:
    arrays: list[Pointer] = []
    generators = [kernel(Thread(t, block, threads, blocks, arrays), *args) for t in range(threads)]
    warps = [Warp(generators[t:t + WARP], reverse) for t in range(0, threads, WARP)]
    while True:
        for warp in warps[::-1] if reverse else warps:
            warp.run()
        waits = {warp.waits for warp in warps}
        if len(waits) != 1:
            raise Divergence(f"warps of a block wait at barriers of different lines: {sorted(map(str, waits))}")
        if waits == {None}:
            return
