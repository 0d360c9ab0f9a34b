"""What is the same in every step of a scan is computed in front of it.

>>> # before: scan(w, h, xs):  h = xs[i] + h @ permute(w)          after: scan(permute(w), h, xs):  h = xs[i] + h @ w
>>> # the transposed weights of a recurrent layer then lie as the product reads them: one copy instead of one per step
"""
from __future__ import annotations

from jtorch.ir.graph import Builder, Graph, Value, rewrite
from jtorch.ir.passes.decompose import decompose
from jtorch.ir.passes.simplify import simplify
from jtorch.ir.prims.control import inline, region, scan
from jtorch.ir.prims.create import make_leaf

Split = tuple[Graph, Graph]
"""What is computed in front of the loop, from its constants; and the body, which has that as further constants."""

_splits: dict[tuple[Graph, int], Split | None] = {}  # bodies are interned
LIMIT = 1_000

_FREE = frozenset({"reshape", "slice", "expand"})  # views that a kernel reads as well as what they are views of


def hoist(graph: Graph) -> Graph:
    """Rewrite the scans of a graph, where that takes something out of their bodies."""
    return rewrite(graph, hoist_node) if any(node.op is scan for node in graph.nodes) else graph


def hoist_node(b: Builder, node: Value, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if node.op is not scan or not node.attr("length"):
        return None
    n = node.attr("n_consts")
    found = split(node.attr("body"), n)
    if found is None:
        return None
    before, body = found
    values = inline(before, b, inputs[:n])
    return scan(*inputs[:n], *values, *inputs[n:], **node.kwargs | {"body": body, "n_consts": n + len(values)})


def split(body: Graph, constants: int) -> Split | None:
    """None where nothing is worth it."""
    key = (body, constants)
    if key not in _splits:
        if len(_splits) >= LIMIT:
            _splits.clear()
        _splits[key] = _split(simplify(decompose(body)), constants)
    return _splits[key]


def _split(body: Graph, constants: int) -> Split | None:
    same = set(body.params[:constants])
    for node in body.nodes:
        if same.issuperset(node.inputs):  # also what has no inputs
            same.update(node.siblings)
    needed = [v for node in body.nodes if node not in same for v in node.inputs if v in same]
    needed += [v for v in body.outputs if v in same]
    hoisted: dict[Value, None] = {}
    while needed:
        v = needed.pop()
        if v.op.name in _FREE:
            needed += v.inputs
        elif v.inputs:
            hoisted[v] = None
    if not hoisted:
        return None
    before = Graph(body.params[:constants], tuple(hoisted), f"{body.name}_constants")
    b = Builder()
    b.default_float = body.outputs[0].builder.default_float
    old = [*body.params[:constants], *hoisted, *body.params[constants:]]
    new = {v: make_leaf(b, i, v.type) for i, v in enumerate(old)}
    params = list(new.values())
    for node in body.nodes:
        if node not in hoisted and all(i in new for i in node.inputs):
            result = b.intern(node.op, tuple([new[i] for i in node.inputs]), node.attrs, node.loc)
            for v, replacement in zip(node.siblings, (result,) if isinstance(result, Value) else result):
                new.setdefault(v, replacement)
    return before, region(Graph(params, [new[o] for o in body.outputs], body.name))
