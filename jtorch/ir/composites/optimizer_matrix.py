"""Updates that look at a parameter as a whole: its norm, its rows and columns, its singular vectors."""
from __future__ import annotations

from collections.abc import Iterator

from jtorch import dtypes
from jtorch.ir.arith import maximum, minimum
from jtorch.ir.composites.define import REQUIRED
from jtorch.ir.composites.optimizer import blend, counted, gradient, step_op, take, times
from jtorch.ir.graph import Value
from jtorch.ir.prims.contract import matmul, transpose_last
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import cast_to, rsqrt, sqrt
from jtorch.ir.prims.movement import reshape_to
from jtorch.ir.prims.reduce import sum_


def _root_mean_square(x: Value) -> Value:
    """As float64, which hyperparameters are in too."""
    wide = cast_to(x, dtypes.float32) if x.dtype.itemsize < 4 else x
    total = sum_(wide * wide, axes=tuple(range(x.ndim)))
    return sqrt(cast_to(total, dtypes.float64) / max(1, x.type.numel))


def _mean(x: Value, axis: int) -> Value:
    """Over one axis, which stays with size 1."""
    shape = list(x.shape)
    n, shape[axis] = shape[axis], 1
    return reshape_to(sum_(x, axes=(axis % x.ndim,)) / n, tuple(shape))


@step_op("adafactor_step", lambda factored, **_: 4 if factored else 3,
         {"decay": False, "maximize": False, "factored": REQUIRED, "least": None})
def adafactor_step(inputs: Iterator[Value], n: int, decay: bool, maximize: bool, factored: bool,
                   least: float | None) -> tuple[Value, ...]:
    """p, row_var and col_var or else variance, step, g, lr, beta2_decay, eps2, d, [weight_decay], [eps1]; `least` is
    there instead of eps1."""
    p, *state, step = take(inputs, n)
    g, lr, beta2_decay, eps2, d = take(inputs, 5)
    wd = next(inputs) if decay else None
    smallest = next(inputs) if least is None else constant(lr.builder, least, dtypes.float64)
    step, t = counted(step)
    g = gradient(p, g, None, maximize)
    weight = t ** beta2_decay
    size = maximum(eps2, _root_mean_square(p)) * minimum(lr, rsqrt(t))
    if wd is not None:
        p = times(p, 1 - lr * wd)
    square = g * g
    if factored:
        row, column = state = [blend(old, _mean(square, axis), weight) for old, axis in zip(state, (-1, -2))]
        variance = row * column / maximum(_mean(row, -2), cast_to(smallest, p.dtype))
    else:
        state = [blend(state[0], square, weight)]
        variance = state[0]
    change = rsqrt(maximum(variance, cast_to(smallest * smallest, p.dtype))) * g
    clipped = size / maximum(1.0, _root_mean_square(change) / d)
    return (p - times(change, clipped), *state, step)


def _combined(a: float, x: Value, b: float, y: Value, z: Value) -> Value:
    """a x + b (y @ z) in bfloat16, rounded once."""
    return cast_to(cast_to(x, dtypes.float32) * a + matmul(y, z, wide=True) * b, dtypes.bfloat16)


def orthogonalized(g: Value, eps: Value, coefficients: tuple[float, float, float], steps: int) -> Value:
    """About U V' of g = U S V': a quintic Newton-Schulz iteration that brings all singular values near 1."""
    a, b, c = coefficients
    x = cast_to(g, dtypes.bfloat16)
    tall = g.shape[0] > g.shape[1]
    x = transpose_last(x) if tall else x
    wide = cast_to(x, dtypes.float32)
    norm = cast_to(sqrt(sum_(wide * wide, axes=(0, 1))), dtypes.bfloat16)
    # in float32 and rounded once: a compiled chain of bfloat16 operations would not round between them
    x = cast_to(wide / cast_to(maximum(norm, cast_to(eps, dtypes.bfloat16)), dtypes.float32), dtypes.bfloat16)
    for _ in range(steps):
        gram = matmul(x, transpose_last(x))
        x = _combined(a, x, 1.0, _combined(b, gram, c, gram, gram), x)
    return transpose_last(x) if tall else x


@step_op("muon_step", lambda **_: 2,
         {"nesterov": REQUIRED, "coefficients": REQUIRED, "steps": REQUIRED, "ratio": REQUIRED})
def muon_step(inputs: Iterator[Value], n: int, nesterov: bool, coefficients: tuple[float, float, float], steps: int,
              ratio: float) -> tuple[Value, ...]:
    """p, momentum_buffer, g, lr, weight_decay, momentum, eps; `ratio` adjusts lr to the shape."""
    p, buffer = take(inputs, n)
    g, lr, wd, momentum, eps = take(inputs, 5)
    g = gradient(p, g, None, False)
    buffer = blend(buffer, g, 1 - momentum)
    direction = orthogonalized(blend(g, buffer, momentum) if nesterov else buffer, eps, coefficients, steps)
    p = times(p, 1 - lr * wd)
    return p - times(cast_to(direction, p.dtype), lr * ratio), buffer
