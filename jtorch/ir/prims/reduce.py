"""Reductions over axes (removed from the shape). `axes` is a sorted tuple of non-negative axes."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op, Reduction, op
from jtorch.ir.prims.elementwise import cast_to, eq, ones_like, where, zeros_like
from jtorch.ir.prims.movement import expand_to, reshape_to


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(s for i, s in enumerate(shape) if i not in axes)


def keep_axes(v: Value, like: Value, axes: tuple[int, ...]) -> Value:
    """Put size-1 axes back and expand over `like`'s shape."""
    kept = tuple(1 if i in axes else s for i, s in enumerate(like.shape))
    return expand_to(reshape_to(v, kept), like.shape)


def _infer(name: str, empty_ok: bool) -> Callable[..., Type]:
    def infer(t: Type, axes: tuple[int, ...]) -> Type:
        if not empty_ok and any(t.shape[a] == 0 for a in axes):
            raise IndexError(f"{name}(): Expected reduction dim {axes[0]} to have non-zero size.")
        return Type(t.dtype, reduced_shape(t.shape, axes))
    return infer


def _batch(op: Op, b: Any, n: int, m: tuple, x: Value, axes: tuple[int, ...]) -> Value:
    return op(x, axes=tuple(a + 1 for a in axes))


def reduction(name: str, fold: Reduction, numpy: Callable, vjp: Callable | None, *, empty_ok: bool = True,
              **more: Any) -> Op:
    return Op(name, "reduce", _infer(name, empty_ok), numpy, vjp, attr_names=("axes",), reduction=fold, batch=_batch,
              **more)


def _sum_numpy(a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    if a.dtype.kind == "b":
        return np.any(a, axis=axes)
    return np.sum(a, axis=axes, dtype=a.dtype)


sum_ = reduction("sum", Reduction(0, "reassoc_add(acc, a)"), _sum_numpy,
                 lambda g, y, x, axes: (keep_axes(g, x, axes),), linear=True)


def _prod_vjp(g: Value, y: Value, x: Value, axes: tuple[int, ...]) -> tuple:
    return (keep_axes(g, x, axes) * op("product_of_others")(x, axes=axes),)


def _by_slope(vjp: Callable[..., tuple]) -> Callable[..., Value]:
    """The tangent of a reduction whose derivative, for a cotangent of one, is `vjp`: the sum of slope times tangent."""
    def jvp(t: tuple, y: Value, x: Value, axes: tuple[int, ...]) -> Value:
        return sum_(vjp(ones_like(y), y, x, axes)[0] * t[0], axes=axes)
    return jvp


prod = reduction("prod", Reduction(1, "reassoc_mul(acc, a)"),
                 lambda a, axes: np.prod(a, axis=axes, dtype=a.dtype), _prod_vjp, jvp=_by_slope(_prod_vjp))


def _extremum_vjp(g: Value, y: Value, x: Value, axes: tuple[int, ...]) -> tuple:
    """Equal extrema share the gradient evenly (PyTorch's amax/amin)."""
    hit = eq(x, keep_axes(y, x, axes))
    count = sum_(cast_to(hit, g.dtype), axes=axes)
    return (where(hit, keep_axes(g / count, x, axes), zeros_like(x)),)


max_ = reduction("max", Reduction("lowest", "max_nan(acc, a)"), lambda a, axes: np.max(a, axis=axes),
                 _extremum_vjp, jvp=_by_slope(_extremum_vjp), empty_ok=False)
min_ = reduction("min", Reduction("highest", "min_nan(acc, a)"), lambda a, axes: np.min(a, axis=axes),
                 _extremum_vjp, jvp=_by_slope(_extremum_vjp), empty_ok=False)
max_number = reduction("max_number", Reduction("lowest", "max_number(acc, a)"),
                       lambda a, axes: np.max(a, axis=axes), None, empty_ok=False, domain="axes float",
                       no_grad="it is subtracted where that changes nothing")
"""What keeps an exponential in range: the maximum, but NaN may win or not, which saves two instructions of three."""
any_ = reduction("any", Reduction(False, "acc | a"), lambda a, axes: np.any(a, axis=axes), None,
                 no_grad="the result is boolean")
all_ = reduction("all", Reduction(True, "acc & a"), lambda a, axes: np.all(a, axis=axes), None,
                 no_grad="the result is boolean")


def _arg_infer(t: Type, axis: int) -> Type:
    if t.shape[axis] == 0:
        raise IndexError(f"argmax(): Expected reduction dim {axis} to have non-zero size.")
    return Type(dtypes.int64, reduced_shape(t.shape, (axis,)))


def _arg_batch(op: Op, b: Any, n: int, m: tuple, x: Value, axis: int) -> Value:
    return op(x, axis=axis + 1)


argmax = Op("argmax", "reduce", _arg_infer, lambda a, axis: np.argmax(a, axis=axis).astype(np.int64),
            no_grad="an index", attr_names=("axis",), batch=_arg_batch,
            reduction=Reduction("lowest", "(a > acc) | ((a != a) & (acc == acc))", arg=True))
argmin = Op("argmin", "reduce", _arg_infer, lambda a, axis: np.argmin(a, axis=axis).astype(np.int64),
            no_grad="an index", attr_names=("axis",), batch=_arg_batch,
            reduction=Reduction("highest", "(a < acc) | ((a != a) & (acc == acc))", arg=True))
