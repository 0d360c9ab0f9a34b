"""Reverse-mode differentiation: the gradient as more Values in the same builder.

>>> # y = sum(exp(x), axes=(0,));  gradients([y], [one], [x])
>>> # -> [expand(one, x.shape) * exp(x)]
"""
from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

from jtorch.ir.graph import Value
from jtorch.ir.passes.decompose import expand_body
from jtorch.ir.prims.elementwise import cast_to
from jtorch.ir.prims.movement import sum_to

Hook = Callable[[Value], Value]


def gradients(outputs: Sequence[Value], cotangents: Sequence[Value], wrt: Sequence[Value] = (),
              hooks: Mapping[Value, Hook] | None = None, visited: list[Value] | None = None,
              stop_at_wrt: bool = False) -> dict[Value, Value]:
    """Cotangents of everything that `outputs` depend on through values that require grad.

    Returns a dictionary that holds the cotangent of each reached variable and of each value in `wrt`; a value that is
    missing from it has a zero gradient. `hooks[v]` may replace the complete cotangent of `v`. The nodes whose rules ran
    are appended to `visited`. With `stop_at_wrt` the walk does not go past the values in `wrt`.

    Reverse id order is a reverse topological order, so a heap of ids visits each node once, after all its users.
    """
    grads: dict[Value, Value] = {}
    heap: list[int] = []
    nodes: dict[int, Value] = {}
    wanted = set(wrt)

    def reach(v: Value, g: Value) -> None:
        if g.type != v.type:
            g = conform(g, v)
        present = grads.get(v)
        grads[v] = g if present is None else present + g
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
        for v, g in zip(node.inputs, input_cotangents(node, grads)):
            if g is not None and v.requires_grad:
                reach(v, g)
        for v in node.siblings:
            grads.pop(v, None)
    return kept


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
    if len(node.siblings) == 1:
        return op.vjp(grads[node], node, *node.inputs, **node.kwargs)
    return op.vjp(tuple([grads.get(v) for v in node.siblings]), node.siblings, *node.inputs, **node.kwargs)

