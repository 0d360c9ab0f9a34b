"""Open composites into primitives.

>>> # before: y = softmax(x, axis=1)
>>> # after:  m = max(x, axes=(1,)); e = exp(x - expand(m)); y = e / expand(sum(e, axes=(1,)))
"""
from __future__ import annotations

from typing import Any

from jtorch.ir.graph import Builder, Graph, Value, rewrite
from jtorch.ir.prims.create import is_scalar, make_leaf


def body_graph(node: Value) -> Graph:
    """The decomposition (one level) of a composite node, its inputs as parameters."""
    b = Builder()
    b.default_float = node.builder.default_float
    # run-time scalars (leaves with negative numbers) promote as Python numbers in the body too
    params = [make_leaf(b, -i - 1 if is_scalar(v) else i, v.type) for i, v in enumerate(node.inputs)]
    result = expand_body(b, node, tuple(params))
    return Graph(params, result if isinstance(result, tuple) else (result,), node.op.name)


def expand_body(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Any:
    assert node.op.body is not None, f"{node.op.name} has neither a NumPy meaning nor a body"
    return node.op.body(b, *inputs, **node.kwargs)


def decompose(graph: Graph) -> Graph:
    """Open every composite, repeatedly, until only primitives are left."""
    while any(node.op.kind == "composite" for node in graph.nodes):
        graph = rewrite(graph, lambda b, node, inputs:
                        expand_body(b, node, inputs) if node.op.kind == "composite" else None)
    return graph
