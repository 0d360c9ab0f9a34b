"""Local rewrites: markers away, movements composed, arithmetic that is exact.

A rule takes (builder, node, inputs) and returns the value that stands for the node, or None. Rules are found by the
operation's name and tried in order; the first that answers wins.

>>> # before: y = reshape(reshape(x, shape=(6,)), shape=(3, 2)) * 1
>>> # after:  y = reshape(x, shape=(3, 2))
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir.graph import Builder, Graph, Value, rewrite
from jtorch.ir.prims.complex import imag_part, real_part, view_as_real
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import cast_to, mul, neg
from jtorch.ir.prims.movement import expand_to, permute_to, reshape_to
from jtorch.ir.prims.reduce import sum_

Rule = Callable[[Builder, Value, tuple[Value, ...]], Any]
RULES: dict[str, list[Rule]] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        for name in names:
            RULES.setdefault(name, []).append(function)
        return function
    return register


def simplify(graph: Graph) -> Graph:
    return rewrite(graph, simplify_node)


def simplify_node(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Any:
    for r in RULES.get(node.op.name, ()):
        found = r(b, node, inputs)
        if found is not None:
            return found
    return None


def number(v: Value) -> Any:
    """The Python number that all elements of `v` are, or None."""
    while v.op.name in ("reshape", "expand", "permute", "slice", "flip"):
        v = v.inputs[0]
    return v.attrs[1] if v.op.name == "full" else None


# --- markers ---------------------------------------------------------------------------------------------------------

@rule("variable", "detach", "graft")
def drop_marker(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value:
    """detach(x) -> x: gradients have been taken."""
    return inputs[0]


@rule("custom_function")
def drop_custom_function(b: Builder, node: Value, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
    """custom_function(y, x) -> y: its derivative has been taken."""
    return inputs[:node.attr("results")]


# --- movement --------------------------------------------------------------------------------------------------------

@rule("reshape", "expand", "permute", "slice", "flip", "as_strided")
def move_constant(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """A movement of a constant is a constant."""
    x = inputs[0]
    return constant(b, x.attrs[1], x.dtype, node.shape) if x.op.name == "full" else None


@rule("reshape", "expand", "permute", "slice", "cast")
def drop_identity(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """A reshape to the same shape, an identical permutation, a whole slice, a cast to the same dtype."""
    x = inputs[0]
    if x.type != node.type:
        return None
    if node.op.name == "permute" and node.attrs[0] != tuple(range(node.ndim)):
        return None
    return x


@rule("reshape")
def compose_reshapes(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """reshape(reshape(x)) -> reshape(x)"""
    x = inputs[0]
    return reshape_to(x.inputs[0], node.shape) if x.op.name == "reshape" else None


@rule("permute")
def compose_permutes(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """permute(permute(x, p), q) -> permute(x, p[q]); one that only moves axes of size 1 -> reshape"""
    x, perm = inputs[0], node.attrs[0]
    if x.op.name == "permute":
        return permute_to(x.inputs[0], tuple([x.attrs[0][p] for p in perm]))
    kept = [p for p in perm if x.shape[p] != 1]
    return reshape_to(x, node.shape) if kept == sorted(kept) else None


@rule("expand")
def compose_expands(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """expand(expand(x)) -> expand(x)"""
    x = inputs[0]
    if x.op.name == "expand":
        return expand_to(x.inputs[0], node.shape)
    if node.type.numel == x.type.numel:
        return reshape_to(x, node.shape)
    return None


@rule("slice")
def compose_slices(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """slice(slice(x)) -> slice(x)"""
    x = inputs[0]
    if x.op.name != "slice" or node.type.numel == 0:
        return None
    starts, stops, steps = [], [], []
    for s0, t0, s1, t1 in zip(x.attrs[0], x.attrs[2], node.attrs[0], node.attrs[2]):
        starts.append(s0 + s1 * t0)
        steps.append(t0 * t1)
    for start, step, n in zip(starts, steps, node.shape):
        stops.append(start + (n - 1) * step + 1)
    return node.op(x.inputs[0], starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


@rule("slice_update")
def drop_whole_update(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """All places replaced: what they are replaced by"""
    return inputs[1] if inputs[1].type == node.type else None


@rule("slice")
def part_of_pairs(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """view_as_real(x)[..., 0:1] -> the real parts of x, [..., 1:2] -> the imaginary parts"""
    x = inputs[0]
    if x.op is not view_as_real or node.shape[-1] != 1:
        return None
    starts, stops, steps = node.attrs
    part = (imag_part if starts[-1] else real_part)(x.inputs[0])
    found = node.op(part, starts=starts[:-1], stops=stops[:-1], steps=steps[:-1]) if part.ndim else part
    return reshape_to(found, node.shape)


@rule("concatenate")
def drop_empty_pieces(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """Pieces without elements; a concatenation of one."""
    pieces = tuple([x for x in inputs if x.type.numel])
    if len(pieces) == 1 and pieces[0].type == node.type:
        return pieces[0]
    return b.intern(node.op, pieces, node.attrs, node.loc) if pieces and len(pieces) < len(inputs) else None


@rule("pad")
def drop_empty_pad(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    return inputs[0] if inputs[0].type == node.type else None


# --- casts -----------------------------------------------------------------------------------------------------------

@rule("cast")
def compose_casts(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """cast(cast(x, wide), d) -> cast(x, d) where `wide` holds every value of x; a cast constant is a constant"""
    x = inputs[0]
    value = number(x)
    if value is not None and x.op.name == "full":
        return constant(b, _converted(value, x.dtype, node.dtype), node.dtype, node.shape)
    if x.op.name == "cast" and _holds(x.dtype, x.inputs[0].dtype):
        return cast_to(x.inputs[0], node.dtype)
    return None


def _converted(value: Any, source: dtypes.dtype, target: dtypes.dtype) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(value, source.numpy).astype(target.numpy).item()


def _holds(wide: dtypes.dtype, narrow: dtypes.dtype) -> bool:
    """Can `wide` represent every value of `narrow`?"""
    if narrow is wide or narrow is dtypes.bool_:
        return True
    if wide.is_floating_point and narrow.is_floating_point:
        return wide.itemsize > narrow.itemsize
    if wide.category == narrow.category == dtypes.INT:
        return wide.itemsize > narrow.itemsize and (wide.is_signed or not narrow.is_signed)
    return wide is dtypes.float64 and narrow.category == dtypes.INT and narrow.itemsize <= 4


# --- arithmetic ------------------------------------------------------------------------------------------------------

@rule("mul")
def multiply_by_one(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """x * 1 -> x; x * -1 -> -x"""
    for x, y in (inputs, inputs[::-1]):
        value = number(y)
        if value is None or isinstance(value, complex) or node.dtype is dtypes.bool_:
            continue
        if value == 1:
            return x
        if value == -1 and node.dtype.is_floating_point:
            return neg(x)
    return None


@rule("div")
def divide_by_one(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """x / 1 -> x"""
    return inputs[0] if number(inputs[1]) == 1 else None


@rule("add")
def add_zero(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """x + 0 -> x

    x + 0.0 turns -0.0 into 0.0; that difference is only visible to 1 / x and signbit, and PyTorch's own gradient
    accumulation starts from the first term, not from 0. So it is dropped for floats, too.
    """
    for x, y in (inputs, inputs[::-1]):
        if number(y) == 0:
            return x
    return None


@rule("sub")
def subtract_zero(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """x - 0 -> x"""
    return inputs[0] if number(inputs[1]) == 0 else None


@rule("neg")
def double_negation(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """-(-x) -> x"""
    return inputs[0].inputs[0] if inputs[0].op.name == "neg" else None


@rule("where")
def same_branches(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """where(c, x, x) -> x; where(constant, x, y) -> one of them"""
    condition, x, y = inputs
    if x is y:
        return x
    value = number(condition)
    return None if value is None else x if value else y


# --- reductions ------------------------------------------------------------------------------------------------------

@rule("sum", "prod", "max", "max_number", "min", "any", "all")
def reduce_single(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """Axes of size 1 are dropped, not folded; the fold of nothing is its start."""
    x, axes = inputs[0], node.attrs[0]
    if node.op.name in ("any", "all") and x.dtype is not dtypes.bool_:
        return None
    if node.type.numel and x.type.numel == 0:
        return constant(b, node.op.reduction.identity, node.dtype, node.shape)
    ones = [a for a in axes if x.shape[a] == 1]
    if not ones:
        return None
    shape = tuple([n for i, n in enumerate(x.shape) if i not in ones])
    left = tuple([a - sum(o < a for o in ones) for a in axes if a not in ones])
    x = reshape_to(x, shape)
    return b.intern(node.op, (x,), (left,), node.loc) if left else x


@rule("argmax", "argmin")
def position_of_single(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    return constant(b, 0, node.dtype, node.shape) if inputs[0].shape[node.attrs[0]] == 1 else None


@rule("sum")
def sum_of_sum(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """sum(sum(x, A), B) -> sum(x, A and B) for floats and integers"""
    x = inputs[0]
    if x.op.name != "sum" or node.dtype is dtypes.bool_:
        return None
    source, first = x.inputs[0], x.attrs[0]
    kept = [i for i in range(source.ndim) if i not in first]
    axes = tuple(sorted((*first, *[kept[a] for a in node.attrs[0]])))
    return b.intern(node.op, (source,), (axes,), node.loc)


@rule("matmul")
def empty_product(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """A product over an axis of size 0 is zero."""
    return constant(b, 0, node.dtype, node.shape) if inputs[0].shape[-1] == 0 and node.type.numel else None


@rule("matmul")
def product_of_vectors(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
    """A column times a row -> their product, broadcast; a row times a column -> the sum of their product: both fuse."""
    x, y = inputs
    if x.dtype not in (dtypes.float32, dtypes.float64):
        return None
    if x.shape[-1] == 1:
        return mul(expand_to(x, node.shape), expand_to(y, node.shape))
    if node.shape[-2:] == (1, 1):
        shape = x.shape[:-2] + x.shape[-1:]
        total = sum_(mul(reshape_to(x, shape), reshape_to(y, shape)), axes=(len(shape) - 1,))
        return reshape_to(total, node.shape)
    return None
