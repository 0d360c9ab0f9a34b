"""Graphs for the CUDA emitter, at any size. `python -m tests.cuda_cases` prints a table of their compiled kernels."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import jtorch.ir  # noqa: F401  registers the operations
from jtorch import driver, dtypes
from jtorch.codegen.cuda_program import Program, cuda_program
from jtorch.ir.graph import Builder, Graph, Type, Value
from jtorch.ir.passes.autodiff import gradients
from jtorch.ir.primitive import op
from jtorch.ir.prims.create import constant, make_leaf, variable
from jtorch.ir.prims.elementwise import cast_to
from jtorch.ir.prims.movement import expand_to

F32, F64, I32, I64, U8, BOOL = dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.uint8, dtypes.bool_
F16, BF16 = dtypes.float16, dtypes.bfloat16


@dataclass
class Case:
    """`types(n, m)`: the parameters' (dtype, shape)s; `small` and `other` are sizes that give the same kernels."""

    types: Callable[[int, int], list]
    function: Callable[..., Any]
    small: tuple[int, int] = (5, 71)
    other: tuple[int, int] = (6, 79)


CASES: dict[str, Case] = {}


def case(name: str, types: Callable[[int, int], list], **sizes: Any) -> Callable:
    def register(function: Callable) -> Callable:
        CASES[name] = Case(types, function, **sizes)
        return function
    return register


def matrix(n: int, m: int) -> list:
    return [(F32, (n, m))]


@case("chain", lambda n, m: [(F32, (n, m)), (F32, (m,)), (F32, (m, n)), (F32, ())])
def chain(x: Value, row: Value, turned: Value, scale: Value) -> Any:
    """Broadcasting, a transposed view, a row twice, constants."""
    y = op("tanh")(x * expand_to(row, x.shape) + 0.3) * op("permute")(turned, perm=(1, 0))
    return op("sigmoid")(y) * expand_to(scale, y.shape) - op("exp")(-y) / 7.0, op("relu")(y)


@case("views", lambda n, m: [(F32, (2 * n, m)), (F32, (n, m))])
def views(x: Value, y: Value) -> Any:
    """Every second row, reversed columns."""
    every_second = op("slice")(x, starts=(1, 0), stops=x.shape, steps=(2, 1))
    return every_second * 2.0 + op("flip")(y, axes=(1,)), op("flip")(op("permute")(y, perm=(1, 0)), axes=(0,))


@case("pads", lambda n, m: [(F32, (n, m)), (BOOL, (n, m)), (F16, (n + 3, m + 1))])
def pads(x: Value, b: Value, h: Value) -> Any:
    """Of a computed value, a boolean one and a half, at different places and under a sum."""
    zero, one = constant(x.builder, 0.0, F32, ()), constant(x.builder, True, BOOL, ())
    up = op("pad")(op("exp")(x), zero, widths=((0, 3, 0), (1, 0, 0)))
    down = op("pad")(x, constant(x.builder, 1.5, F32, ()), widths=((3, 0, 0), (0, 1, 0)))
    mask = op("pad")(b, one, widths=((1, 2, 0), (0, 1, 0)))
    both = op("where")(mask, up, down) + cast_to(h, F32)
    tall = op("pad")(h, constant(x.builder, 0.0, F16, ()), widths=((0, 2, 0), (0, 0, 0)))
    return both, op("sum")(up - down, axes=(1,)), cast_to(tall, F32) * 2.0


@case("where and casts", lambda n, m: [(F32, (n, m)), (I32, (n, m)), (BOOL, (n, m)), (U8, (n, m))])
def casts(x: Value, i: Value, b: Value, u: Value) -> Any:
    bigger = op("gt")(x, cast_to(i, F32) * 0.1)
    picked = op("where")(op("bitwise_and")(bigger, b), x, op("neg")(x))
    return bigger, picked, cast_to(x * 40.0, I32) + i, cast_to(b, U8) + u * u, cast_to(x * 100.0, U8), cast_to(x, BOOL)


@case("integers", lambda n, m: [(I64, (n, m)), (I32, (n, m)), (I32, (n, m))])
def integers(a: Value, b: Value, c: Value) -> Any:
    d = op("maximum")(op("abs")(c), op("cast")(a, dtype=I32) * 0 + 3)
    found = [op(name)(b, d) for name in ("floor_divide", "remainder", "trunc_divide", "fmod", "minimum")]
    return (*found, op("left_shift")(a, a), op("right_shift")(a, a), a * a * 1000003)


@case("float64", lambda n, m: [(F64, (n, m)), (F64, (n, m))])
def doubles(x: Value, y: Value) -> Any:
    return op("exp")(x) * op("tanh")(y) + op("floor_divide")(x, y), op("remainder")(x, y), op("sum")(x * y, axes=(1,))


@case("halves", lambda n, m: [(F16, (n, m)), (BF16, (n, m)), (F32, (n, m))])
def halves(x: Value, y: Value, z: Value) -> Any:
    wide = cast_to(x, F32) * cast_to(y, F32)
    return wide, cast_to(wide, F16), cast_to(wide + z, BF16), op("softmax")(x * x, axis=1), op("sum")(y, axes=(0,))


@case("scalars only", lambda n, m: [(F32, ()), (F32, ())])
def scalars(x: Value, y: Value) -> Any:
    return op("exp")(x) * y + 1.0


for _axes, _where in (((1,), "last"), ((0,), "first"), ((0, 1), "all")):
    def reductions(x: Value, axes: tuple[int, ...] = _axes) -> Any:
        return op("sum")(x * x, axes=axes), op("max")(x, axes=axes), op("mean")(op("exp")(x), axes=axes)

    case(f"sum, max, mean over {_where}", matrix)(reductions)

for _axis, _where in ((1, "last"), (0, "first")):
    case(f"argmax, argmin over {_where}", lambda n, m: [(F32, (n, m)), (I32, (n, m))])(
        lambda x, i, axis=_axis: (op("argmax")(x, axis=axis), op("argmin")(i, axis=axis)))
    for _name in ("softmax", "log_softmax"):
        case(f"{_name} over {_where}", matrix)(lambda x, name=_name, axis=_axis: op(name)(x, axis=axis))

        def backward_of(x: Value, g: Value, name: str = _name, axis: int = _axis) -> Any:
            x = variable(x, number=0)
            return gradients([op(name)(x * 1.5, axis=axis)], [g], [x])[x]

        case(f"{_name} backward over {_where}", lambda n, m: [(F32, (n, m)), (F32, (n, m))])(backward_of)

case("middle axis", lambda n, m: [(F32, (n, 3, m))])(lambda x: (op("sum")(x, axes=(1,)), op("argmax")(x, axis=1)))
case("outer axes", lambda n, m: [(F32, (n, 3, m))])(lambda x: op("sum")(op("exp")(x), axes=(0, 2)))
case("any, all, bool sums", lambda n, m: [(BOOL, (n, m))])(
    lambda b: (op("any")(b, axes=(1,)), op("all")(b, axes=(0,)), op("max")(b, axes=(0, 1)),
               op("sum")(b, axes=(1,))))
case("narrow sums", lambda n, m: [(dtypes.int8, (n, m)), (I64, (n, m))])(
    lambda a, b: (op("sum")(a, axes=(1,)), op("max")(a, axes=(0,)), op("prod")(b, axes=(1,)),
                  op("min")(a, axes=(1,))))


def affine(n: int, m: int) -> list:
    return [(F32, (n, m)), (F32, (m,)), (F32, (m,))]


case("layer_norm", affine)(lambda x, w, b: op("layer_norm")(x, w, b, ndim=1, eps=1e-5))


def layer_norm_backward(x: Value, w: Value, b: Value, g: Value) -> Any:
    x, w, b = (variable(v, number=i) for i, v in enumerate((x, w, b)))
    found = gradients([op("layer_norm")(x, w, b, ndim=1, eps=1e-5)], [g], [x, w, b])
    return found[x], found[w], found[b]


case("layer_norm backward", lambda n, m: [*affine(n, m), (F32, (n, m))])(layer_norm_backward)

LONG = {"small": (3, 700), "other": (4, 1100)}  # a block for each row
case("long rows", affine, **LONG)(
    lambda x, w, b: (op("layer_norm")(x, w, b, ndim=1, eps=1e-5), op("argmax")(x, axis=1)))
case("one row", matrix, small=(1, 300), other=(1, 500))(lambda x: op("softmax")(x, axis=1))
SPLIT = {"small": (5, 7001), "other": (4, 9003)}  # few rows of many elements: folded in chunks
case("chunked", matrix, **SPLIT)(lambda x: (op("sum")(x * x, axes=(0, 1)), op("max")(x, axes=(0, 1))))
case("chunked rows", matrix, **SPLIT)(lambda x: op("mean")(op("exp")(x), axes=(1,)))
case("chunked columns", lambda n, m: [(F32, (m, n))], **SPLIT)(lambda x: op("sum")(x, axes=(0,)))
case("chunked views", lambda n, m: [(F32, (m, n, 2))], small=(9, 2001), other=(9, 3001))(
    lambda x: op("sum")(op("slice")(x, starts=(0, 0, 1), stops=x.shape, steps=(1, 2, 1)), axes=(0, 1, 2)))
case("more items than blocks", lambda n, m: [(F32, (n,))], small=(3_000_000, 0), other=(2_000_000, 0))(
    lambda x: op("exp")(x))


def build(name: str, sizes: tuple[int, int] | None = None) -> Graph:
    """The graph of a case, in primitives."""
    found = CASES[name]
    builder = Builder()
    params = [make_leaf(builder, i, Type(d, s)) for i, (d, s) in enumerate(found.types(*(sizes or found.small)))]
    outputs = found.function(*params)
    graph = Graph(params, outputs if isinstance(outputs, tuple | list) else (outputs,))
    for step in driver.PASSES:
        graph = step(graph)
    return graph


def program(name: str, sizes: tuple[int, int] | None = None) -> Program:
    return cuda_program(build(name, sizes))


def arrays_for(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = []
    for p in graph.params:
        if p.dtype.is_floating_point:
            arrays.append(rng.standard_normal(p.shape).astype(p.dtype.numpy))
        else:
            low, high = (0, 2) if p.dtype is BOOL else (0 if p.dtype is U8 else -9, 100)
            arrays.append(rng.integers(low, high, p.shape).astype(p.dtype.numpy))
    return arrays


def main() -> None:
    from jtorch.runtime.cuda_compile import compile_kernel
    print("| graph | kernel | threads per block | registers | spilled bytes |\n| --- | --- | --- | --- | --- |")
    for name in CASES:
        for launch in program(name).launches:
            built = compile_kernel(launch.kernel.source, launch.kernel.params)
            kind = launch.nest.schedule + (", chunked" if launch.nest.chunked else "")
            print(f"| {name} | {kind} | {launch.threads} | {built.registers} | {built.spilled} |")


if __name__ == "__main__":
    main()
