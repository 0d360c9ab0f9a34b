"""Reverse-mode differentiation: the gradient as more Values in the same builder.

>>> # y = sum(exp(x), axes=(0,));  gradients([y], [one], [x])
>>> # -> [expand(one, x.shape) * exp(x)]
"""
from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

from jtorch.ir.graph import Value
from jtorch.ir.passes.decompose import expand_body
from jtorch.ir.prims.complex import conjugated
from jtorch.ir.prims.create import constant, full
from jtorch.ir.prims.elementwise import cast_to
from jtorch.ir.prims.movement import concatenate, pad, sum_to

Hook = Callable[[Value], Value]


def gradients(outputs: Sequence[Value], cotangents: Sequence[Value], wrt: Sequence[Value] = (),
              hooks: Mapping[Value, Hook] | None = None, visited: list[Value] | None = None,
              stop_at_wrt: bool = False,
              steps: list[tuple[Value, Sequence[Value | None]]] | None = None) -> dict[Value, Value]:
    """Cotangents of everything that `outputs` depend on through values that require grad.

    Returns a dictionary that holds the cotangent of each reached variable and of each value in `wrt`; a value that is
    missing from it has a zero gradient. `hooks[v]` may replace the complete cotangent of `v`. The nodes whose rules ran
    are appended to `visited`, and together with what the rules gave to `steps`. With `stop_at_wrt` the walk does not go
    past the values in `wrt`.

    Reverse id order is a reverse topological order, so a heap of ids visits each node once, after all its users.
    """
    parts: dict[Value, list[Value]] = {}  # what each value's users contribute to its cotangent
    grads: dict[Value, Value] = {}
    heap: list[int] = []
    nodes: dict[int, Value] = {}
    wanted = set(wrt)

    def reach(v: Value, g: Value) -> None:
        if g.type != v.type:
            g = conform(g, v)
        parts.setdefault(v, []).append(g)
        first = v.siblings[0]
        if first.id not in nodes:
            nodes[first.id] = first
            heapq.heappush(heap, -first.id)

    for v, g in zip(outputs, cotangents):
        if v.requires_grad:
            reach(v, g)
    kept: dict[Value, Value] = {}
    while heap:
        node = nodes[-heapq.heappop(heap)]
        for v in node.siblings:
            if v in parts:
                grads[v] = total(parts.pop(v))
        if hooks:
            for v in node.siblings:
                if v in hooks and v in grads:
                    grads[v] = hooks[v](grads[v])
        for v in node.siblings:
            if v in grads and (v in wanted or node.op.name == "variable"):
                kept[v] = grads[v]
        if node.op.name == "variable" or (stop_at_wrt and any(v in wanted for v in node.siblings)):
            continue
        if visited is not None:
            visited.append(node)
        found = input_cotangents(node, grads)
        if steps is not None:
            steps.append((node, found))
        for v, g in zip(node.inputs, found):
            if g is not None and v.requires_grad:
                reach(v, g)
        for v in node.siblings:
            grads.pop(v, None)
    return kept


def total(parts: list[Value]) -> Value:
    """The sum of the contributions. Those of slices are padded with zeros: where slices are disjoint their sum is a
    concatenation, so that a value cut into n pieces costs one pass and not n."""
    if len(parts) > 1:
        parts = join_pieces(parts)
    result = parts[0]
    for g in parts[1:]:
        result = result + g
    return result


def join_pieces(parts: list[Value]) -> list[Value]:
    """`parts` with disjoint zero-padded pieces along one axis concatenated."""
    pieces: dict[int, list[tuple[int, int, Value]]] = {}
    rest = []
    for g in parts:
        axis = padded_axis(g)
        if axis is None:
            rest.append(g)
        else:
            start = g.attr("widths")[axis][0]
            pieces.setdefault(axis, []).append((start, start + g.inputs[0].shape[axis], g))
    for axis, found in pieces.items():
        found.sort(key=lambda piece: piece[:2])
        disjoint = all(a[1] <= b[0] for a, b in zip(found, found[1:]))
        rest += [concatenation(axis, found)] if disjoint and len(found) > 1 else [g for _, _, g in found]
    return rest


def padded_axis(g: Value) -> int | None:
    """The only axis that a value was padded along with zeros, or None."""
    if g.op is not pad or g.inputs[1].op is not full or g.inputs[1].attr("value") != 0:
        return None
    axes = [i for i, width in enumerate(g.attr("widths")) if width != (0, 0, 0)]
    return axes[0] if len(axes) == 1 and g.attr("widths")[axes[0]][2] == 0 else None


def concatenation(axis: int, pieces: list[tuple[int, int, Value]]) -> Value:
    """The pieces side by side, zeros between them."""
    shape = pieces[0][2].shape
    result, place = [], 0
    for start, stop, g in [*pieces, (shape[axis], shape[axis], None)]:
        if start > place:
            gap = (*shape[:axis], start - place, *shape[axis + 1:])
            result.append(constant(pieces[0][2].builder, 0, pieces[0][2].dtype, gap))
        if g is not None:
            result.append(g.inputs[0])
        place = stop
    return concatenate(*result, axis=axis)


def conform(g: Value, v: Value) -> Value:
    """A cotangent cast and summed to the type of its value."""
    if g.shape != v.shape:
        g = sum_to(g, v.shape)
    if g.dtype is not v.dtype:
        g = cast_to(g, v.dtype)
    return g


def input_cotangents(node: Value, grads: Mapping[Value, Value]) -> Sequence[Value | None]:
    """Apply the node's rule; a composite without one is differentiated through its body."""
    op = node.op
    if op.vjp is None:
        if op.body is None:
            raise NotImplementedError(f"derivative for {op.name} is not implemented")
        result = expand_body(node.builder, node, node.inputs)
        results = result if isinstance(result, tuple) else (result,)
        pairs = [(r, grads[v]) for r, v in zip(results, node.siblings) if v in grads]
        inner = gradients([r for r, _ in pairs], [g for _, g in pairs], node.inputs, stop_at_wrt=True)
        return [inner.pop(v, None) for v in node.inputs]  # an input given twice gets its total once
    cotangents = [grads.get(v) for v in node.siblings]
    conjugate = not op.wirtinger and any(v.dtype.is_complex for v in (*node.inputs, *node.siblings))
    if conjugate:
        cotangents = [None if g is None else conjugated(g) for g in cotangents]
    if len(node.siblings) == 1:
        found = op.vjp(cotangents[0], node, *node.inputs, **node.kwargs)
    else:
        found = op.vjp(tuple(cotangents), node.siblings, *node.inputs, **node.kwargs)
    return [None if g is None else conjugated(g) for g in found] if conjugate else found

