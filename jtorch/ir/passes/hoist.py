"""What is the same in every step of a scan is computed in front of it, and what no step reads is not handed to it.

>>> # before: scan(w, h, xs):  h = xs[i] + h @ permute(w)          after: scan(permute(w), h, xs):  h = xs[i] + h @ w
>>> # the transposed weights of a recurrent layer then lie as the product reads them: one copy instead of one per step
"""
from __future__ import annotations

from collections.abc import Container

from jtorch.ir.graph import Builder, Graph, Value, rewrite
from jtorch.ir.passes.decompose import decompose
from jtorch.ir.passes.simplify import simplify
from jtorch.ir.prims.control import inline, region, scan
from jtorch.ir.prims.create import make_leaf

Split = tuple[Graph, Graph, list[int]]
"""What is computed in front of the loop, from its constants; the body, which has that as further constants; and the
numbers of the operands, with those, that it reads."""

_splits: dict[tuple[Graph, int, int], Split | None] = {}  # bodies are interned
LIMIT = 1_000

_FREE = frozenset({"reshape", "slice", "expand"})  # views that a kernel reads as well as what they are views of


def hoist(graph: Graph) -> Graph:
    """Rewrite the scans of a graph, where that takes something out of their bodies."""
    return rewrite(graph, hoist_node) if any(node.op is scan for node in graph.nodes) else graph


def hoist_node(b: Builder, node: Value, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if node.op is not scan or not node.attr("length"):
        return None
    n, carried = node.attr("n_consts"), node.attr("n_carry")
    found = split(node.attr("body"), n, carried)
    if found is None:
        return None
    before, body, read = found
    values = inline(before, b, inputs[:n])
    operands = [*inputs[:n], *values, *inputs[n:]]
    constants = sum(i < n + len(values) for i in read)
    return scan(*[operands[i] for i in read], **node.kwargs | {"body": body, "n_consts": constants})


def split(body: Graph, constants: int, carried: int) -> Split | None:
    """None where nothing is worth it."""
    key = (body, constants, carried)
    if key not in _splits:
        if len(_splits) >= LIMIT:
            _splits.clear()
        _splits[key] = _split(simplify(decompose(body)), constants, carried)
    return _splits[key]


def _split(body: Graph, constants: int, carried: int) -> Split | None:
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
    old = [*body.params[:constants], *hoisted, *body.params[constants:]]
    state = body.params[constants:constants + carried]
    used = {*state, *body.outputs}.union(*[node.inputs for node in _live(body, hoisted)])
    read = [i for i, v in enumerate(old) if v in used]
    if not hoisted and len(read) == len(old):
        return None
    before = Graph(body.params[:constants], tuple(hoisted), f"{body.name}_constants")
    b = Builder()
    b.default_float = body.outputs[0].builder.default_float
    new = {old[i]: make_leaf(b, place, old[i].type) for place, i in enumerate(read)}
    params = list(new.values())
    for node in _live(body, hoisted):
        result = b.intern(node.op, tuple([new[i] for i in node.inputs]), node.attrs, node.loc)
        for v, replacement in zip(node.siblings, (result,) if isinstance(result, Value) else result):
            new.setdefault(v, replacement)
    return before, region(Graph(params, [new[o] for o in body.outputs], body.name)), read


def _live(body: Graph, hoisted: Container[Value]) -> list[Value]:
    """The nodes that are left in the body."""
    wanted, nodes = set(body.outputs), []
    for node in reversed(body.nodes):
        if any(v in wanted and v not in hoisted for v in node.siblings):
            nodes.append(node)
            wanted.update(node.inputs)
    return nodes[::-1]
