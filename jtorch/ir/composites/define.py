"""How composites are made.

A composite is an operation that is recorded under its own name and has a `body`, its meaning in primitives. It has a
derivative of its own only where differentiating the body would be poor: less stable, or more to compute or to keep.

Half types: PyTorch's kernels compute these operations in float32 and round the result once. The factory does the same
for bodies and derivatives: operands are cast up in front and results cast down behind.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from jtorch import dtypes
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import constant, iota, make_leaf
from jtorch.ir.prims.elementwise import batch_elementwise, cast_to, expand
from jtorch.ir.prims.movement import reshape_to
from jtorch.ir.prims.reduce import keep_axes, sum_

HALVES = (dtypes.float16, dtypes.bfloat16)


def composite(name: str, body: Callable[..., Any], vjp: Callable[..., Any] | None = None, *,
              infer: Callable[..., Any] | None = None, attrs: dict[str, Any] | None = None, widen: bool = True,
              kernel: str | None = None, **more: Any) -> Op:
    """Define a composite. `attrs` are the attribute names with their defaults (`REQUIRED` for none).

    The body runs once on each new signature, in a builder of its own: faults that only the body finds are raised where
    the operation is recorded. It gives the types where there is no `infer`, and has to agree with it where there is.
    Integers that it does not take, or makes floats of, are refused in the name of PyTorch's `kernel`, which has no case
    for them either.
    """
    attrs = attrs or {}

    def refuse_integers(types: Sequence[Type]) -> None:
        for t in types:
            dtypes.require(t.dtype, dtypes.FLOAT, kernel or f"{name}_cpu")

    def checked(*types: Type, **given: Any) -> Any:
        expected = None if infer is None else infer(*types, **given)
        try:
            found = _types_of_body(result, types, tuple(given.items()))
        except NotImplementedError:
            refuse_integers(types)
            raise
        if expected is not None and expected != found:
            refuse_integers(types)
            raise AssertionError(f"{name}: the rule says {expected}, the body gives {found}")
        return found

    result = Op(name, "composite", checked, None, vjp and _widened_vjp(vjp) if widen else vjp,
                body=_widened(body, infer) if widen else body, attr_names=tuple(attrs),
                attr_defaults={k: v for k, v in attrs.items() if v is not REQUIRED}, **more)
    return result


REQUIRED = object()


@lru_cache(maxsize=4096)
def _types_of_body(op: Op, types: tuple[Type, ...], attrs: tuple) -> Any:
    b = Builder()
    assert op.body is not None
    result = op.body(b, *[make_leaf(b, i, t) for i, t in enumerate(types)], **dict(attrs))
    return tuple([v.type for v in result]) if isinstance(result, tuple) else result.type


def wide(v: Value | None) -> Any:
    return cast_to(v, dtypes.float32) if v is not None and v.dtype in HALVES else v


def _listed(v: Any) -> tuple:
    return v if isinstance(v, tuple) else (v,)


def _any_half(values: Sequence[Value]) -> bool:
    return any(v.dtype in HALVES for v in values)


def _widened(body: Callable[..., Any], infer: Callable[..., Any] | None) -> Callable[..., Any]:
    """Half operands are computed in float32. Results have the dtypes that `infer` says, or else the operands' half type
    where all of them agree."""
    def run(b: Builder, *inputs: Value, **attrs: Any) -> Any:
        if not _any_half(inputs):
            return body(b, *inputs, **attrs)
        result = body(b, *map(wide, inputs), **attrs)
        if infer is not None:
            wanted = [t.dtype for t in _listed(infer(*[v.type for v in inputs], **attrs))]
        else:
            floating = {v.dtype for v in inputs if v.dtype.is_floating_point}
            half = floating.pop() if len(floating) == 1 else dtypes.float32
            wanted = [half if v.dtype is dtypes.float32 else v.dtype for v in _listed(result)]
        narrowed = tuple([cast_to(v, d) for v, d in zip(_listed(result), wanted)])
        return narrowed if isinstance(result, tuple) else narrowed[0]
    return run


def _widened_vjp(vjp: Callable[..., Any]) -> Callable[..., Any]:
    def run(g: Any, y: Any, *inputs: Value, **attrs: Any) -> Any:
        if not _any_half(inputs):
            return vjp(g, y, *inputs, **attrs)
        g, y = (tuple(map(wide, v)) if isinstance(v, tuple) else wide(v) for v in (g, y))
        found = vjp(g, y, *map(wide, inputs), **attrs)
        return tuple([None if c is None else cast_to(c, v.dtype) for c, v in zip(found, inputs)])
    return run


def same_type(x: Type, *rest: Type, **attrs: Any) -> Type:
    return x


def pointwise(name: str, body: Callable[..., Value], vjp: Callable[..., Any] | None = None, **more: Any) -> Op:
    """A composite of one operand, element by element: `body(x, **attrs)`."""
    more.setdefault("domain", "float")
    return composite(name, lambda b, *inputs, **attrs: body(*inputs, **attrs), vjp, infer=same_type,
                     batch=batch_elementwise, **more)


# --- shorthands for bodies -------------------------------------------------------------------------------------------

def filled(like: Value, value: float, shape: tuple[int, ...] | None = None) -> Value:
    return constant(like.builder, value, like.dtype, like.shape if shape is None else shape)


def sum_over(x: Value, axes: tuple[int, ...], keep: bool = False) -> Value:
    """Sum over axes; with `keep`, expanded over x's shape again."""
    s = sum_(x, axes=tuple(sorted(axes))) if axes else x
    return keep_axes(s, x, tuple(axes)) if keep and axes else s


def count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    n = 1
    for a in axes:
        n *= shape[a]
    return n


def mean_over(x: Value, axes: tuple[int, ...], keep: bool = False) -> Value:
    s = sum_(x, axes=tuple(sorted(axes))) if axes else x
    n = count(x.shape, axes)
    s = s / n if n else s * float("nan")  # the mean of nothing
    return keep_axes(s, x, tuple(axes)) if keep and axes else s


def numbers(b: Builder, shape: tuple[int, ...], axis: int) -> Value:
    """0, 1, ... along `axis`, expanded over `shape`."""
    line = b.apply(iota, length=shape[axis], dtype=dtypes.int64)
    return expand(reshape_to(line, tuple(n if a == axis else 1 for a, n in enumerate(shape))), shape)


def along(v: Value, axis: int, ndim: int) -> Value:
    """A vector as an operand of `ndim` axes that varies along `axis`."""
    return reshape_to(v, tuple(v.shape[0] if a == axis else 1 for a in range(ndim)))


def add_axis(v: Value, axis: int) -> Value:
    return reshape_to(v, (*v.shape[:axis], 1, *v.shape[axis:]))


def reduce_as(values: Value, reduction: str) -> Value:
    """`reduction` of a loss: 'none', 'sum' or 'mean'."""
    every = tuple(range(values.ndim))
    if reduction == "none":
        return values
    if reduction == "sum":
        return sum_over(values, every)
    if reduction == "mean":
        return mean_over(values, every)
    raise ValueError(f"{reduction} is not a valid value for reduction")
