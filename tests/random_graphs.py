"""Random graphs for tests: small programs of primitives over a few shapes that broadcast, reduce and move."""
from __future__ import annotations

import numpy as np

from jtorch import dtypes
from jtorch.ir import prims  # noqa: F401  registers the operations
from jtorch.ir.graph import Builder, Graph, Type, Value
from jtorch.ir.primitive import op
from jtorch.ir.prims.create import constant, make_leaf
from jtorch.ir.prims.movement import expand_to, reshape_to

UNARY = ("neg", "abs", "exp", "tanh", "sigmoid", "relu", "sqrt_abs", "sin")
BINARY = ("add", "sub", "mul", "maximum", "minimum", "where")


def random_graph(rng: np.random.Generator, nodes: int = 12, pads: bool = False) -> tuple[Graph, list[np.ndarray]]:
    """A graph and arrays for its parameters. `pads`: with slices that are padded to the shape of something else."""
    b = Builder()
    sizes = rng.choice([1, 2, 3, 4, 6, 8, 33], size=3)
    if rng.random() < 0.3:
        sizes[:] = sizes[0]
    rank = int(rng.integers(1, 4))
    base = tuple(int(n) for n in sizes[:rank])
    params, arrays = [], []

    def param(shape: tuple[int, ...]) -> Value:
        v = make_leaf(b, len(params), Type(dtypes.float32, shape))
        params.append(v)
        arrays.append(rng.standard_normal(shape).astype(np.float32))
        return v

    pool = [param(base), param(base), param(()), param(base[-1:])]
    for _ in range(nodes):
        pool.append(random_pad(rng, b, pool) if pads and rng.random() < 0.3 else random_node(rng, b, pool))
    count = int(rng.integers(1, 4))
    outputs = [pool[-1]] + [pool[int(rng.integers(0, len(pool)))] for _ in range(count - 1)]
    return Graph(params, outputs), arrays


def random_node(rng: np.random.Generator, b: Builder, pool: list[Value]) -> Value:
    recent = pool[-5:] if rng.random() < 0.7 else pool
    x = recent[int(rng.integers(0, len(recent)))]
    kind = rng.random()
    if kind < 0.25:
        name = UNARY[int(rng.integers(0, len(UNARY)))]
        if name == "sqrt_abs":
            return op("sqrt")(op("abs")(x))
        return op("tanh")(x) if name == "exp" else op(name)(x)
    if kind < 0.6:
        y = partner(rng, b, pool, x.shape)
        name = BINARY[int(rng.integers(0, len(BINARY)))]
        if name == "where":
            return op("where")(op("gt")(x, y), x, y * 0.5)
        return op(name)(x, y)
    if kind < 0.75 and x.ndim:
        axes = tuple(i for i in range(x.ndim) if rng.random() < 0.5) or (x.ndim - 1,)
        name = ("sum", "max", "min")[int(rng.integers(0, 3))]
        r = op(name)(x, axes=axes)
        if rng.random() < 0.5:
            kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
            return op("sub")(x, expand_to(reshape_to(r, kept), x.shape))
        return r
    return random_move(rng, x)


def random_pad(rng: np.random.Generator, b: Builder, pool: list[Value]) -> Value:
    """A value, or a part of it, padded to the shape of another or a little more."""
    x = pool[int(rng.integers(0, len(pool)))]
    if rng.random() < 0.7:
        starts = tuple(int(rng.integers(0, max(1, n // 2))) for n in x.shape)
        x = op("slice")(x, starts=starts, stops=x.shape, steps=(1,) * x.ndim)
    larger = [v.shape for v in pool if v.ndim == x.ndim and all(n <= m for n, m in zip(x.shape, v.shape))]
    shape = larger[int(rng.integers(0, len(larger)))] if larger else tuple(n + int(rng.integers(0, 3)) for n in x.shape)
    widths = []
    for n, m in zip(x.shape, shape):
        before = int(rng.integers(0, m - n + 1))
        widths.append((before, m - n - before, 0))
    value = constant(b, float(rng.integers(0, 3)) / 2, dtypes.float32, ())
    return op("pad")(x, value, widths=tuple(widths))


def random_move(rng: np.random.Generator, x: Value) -> Value:
    kind = rng.random()
    if kind < 0.3 and x.ndim > 1:
        return op("permute")(x, perm=tuple(int(i) for i in rng.permutation(x.ndim)))
    if kind < 0.5:
        n = x.type.numel
        return reshape_to(x, (n,)) if rng.random() < 0.5 or n % 2 else reshape_to(x, (2, n // 2))
    if kind < 0.7 and x.ndim:
        starts = tuple(int(rng.integers(0, max(1, n // 2))) for n in x.shape)
        steps = tuple(int(rng.integers(1, 3)) for _ in x.shape)
        return op("slice")(x, starts=starts, stops=x.shape, steps=steps)
    if kind < 0.8 and x.ndim:
        return op("flip")(x, axes=(int(rng.integers(0, x.ndim)),))
    if x.ndim == 1 and rng.random() < 0.7:
        n = x.type.numel
        across = expand_to(reshape_to(x, (n, 1)), (n, n))
        return op("add")(across, expand_to(x, (n, n))) if rng.random() < 0.5 else across
    if x.ndim < 3:
        return expand_to(x, (int(rng.integers(1, 4)), *x.shape))
    return reshape_to(x, (*x.shape[:1], x.shape[1] * x.shape[2]))


def partner(rng: np.random.Generator, b: Builder, pool: list[Value], shape: tuple[int, ...]) -> Value:
    """Something of this shape: an earlier value as it is or broadcast, or a constant."""
    fitting = [v for v in pool if v.shape == shape]
    if fitting and rng.random() < 0.6:
        return fitting[int(rng.integers(0, len(fitting)))]
    for i in rng.permutation(len(pool)):
        v = pool[int(i)]
        if v.ndim <= len(shape) and all(m in (1, n) for m, n in zip(v.shape, shape[len(shape) - v.ndim:])):
            return expand_to(v, shape)
    return constant(b, float(rng.integers(-2, 3)) / 2 + 0.25, dtypes.float32, shape)
