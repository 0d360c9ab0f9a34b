"""Decide where data moves: put a `copy` wherever a view cannot stand for the data.

After this pass
- every movement operation is a strided view of a parameter or of a computed value (`View` gives it);
- every output is the whole data of a computed value, and no two outputs share one.

>>> # before: y = reshape(permute(x, perm=(1, 0)), shape=(6,));  return y, x
>>> # after:  y = copy(reshape...) ;                              return y, copy(x)
"""
from __future__ import annotations

from jtorch.codegen.views import View, is_move, move, whole
from jtorch.ir.graph import Builder, Graph, Value, rewrite
from jtorch.ir.primitive import Op

copy = Op("copy", "elementwise", lambda t, number: t, lambda a, number: a, no_grad="it exists in compiled graphs only",
          attr_names=("number",), attr_defaults={"number": -1}, expr="a")
"""The operand's elements in fresh contiguous memory. `number` keeps copies for different outputs apart."""


class Placed:
    """A graph after `place`, and the view of every movement value and root in it."""

    __slots__ = ("graph", "views")

    def __init__(self, graph: Graph, views: dict[Value, View]) -> None:
        self.graph, self.views = graph, views

    def root(self, v: Value) -> Value:
        return self.views[v].root

    def view(self, v: Value) -> View:
        return self.views[v]


def place(graph: Graph) -> Placed:
    views: dict[Value, View] = {}

    def view(v: Value) -> View:
        found = views.get(v)
        if found is None:
            found = views[v] = whole(v)
        return found

    def rule(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Value | None:
        if not is_move(node):
            return None
        result = b.intern(node.op, inputs, node.attrs, node.loc)
        if result in views:
            return result
        found = move(view(inputs[0]), result)
        if found is None:
            fresh = b.intern(copy, inputs, (-1,), node.loc)
            result = b.intern(node.op, (fresh,), node.attrs, node.loc)
            found = move(view(fresh), result)
            assert found is not None
        views[result] = found
        return result

    placed = rewrite(graph, rule)
    taken: set[Value] = set()
    outputs = []
    for number, v in enumerate(placed.outputs):
        found = view(v)
        if not found.is_whole or found.root in taken or found.root.op.kind == "leaf":
            v = v.builder.intern(copy, (v,), (number,), v.loc)
            found = view(v)
        taken.add(found.root)
        outputs.append(v)
    placed = Graph(placed.params, outputs, graph.name)
    for node in placed.nodes:
        for v in node.siblings:
            view(v)
    for p in placed.params:
        view(p)
    return Placed(placed, views)


