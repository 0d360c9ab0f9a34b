"""Well-formedness of graphs, and structural equality.

`verify` runs every shape rule again and looks at how values hang together; tests call it after each pass. A fault is
shown with the few lines around it.
"""
from __future__ import annotations

from typing import Any

from jtorch.ir.graph import Graph, Type, Value, postorder


class Malformed(AssertionError):
    """A graph breaks an invariant of the IR."""


def verify(graph: Graph) -> Graph:
    """Raise `Malformed` unless the graph is well formed; returns it, so that calls nest."""
    defined: set[Value] = set()
    for p in graph.params:
        if p.op.kind != "leaf":
            raise Malformed(f"parameter {p!r} of {graph.name} is not a leaf")
        if p in defined:
            raise Malformed(f"{p!r} is a parameter of {graph.name} twice")
        defined.add(p)
    for node in graph.nodes:
        fault = fault_of(node, defined, graph)
        if fault is not None:
            raise Malformed(f"{fault}\n{neighbourhood(graph, node)}")
        defined.update(node.siblings)
        for a in node.attrs:
            if isinstance(a, Graph):
                verify(a)
    for o in graph.outputs:
        if o not in defined:
            raise Malformed(f"output {o!r} of {graph.name} is not defined by it")
    return graph


def fault_of(node: Value, defined: set[Value], graph: Graph) -> str | None:
    op = node.op
    for v in node.inputs:
        if v.builder is not node.builder:
            return f"{op.name} reads {v!r}, which belongs to another builder"
        if v not in defined:
            kind = "a leaf that is no parameter" if v.op.kind == "leaf" else "not defined before"
            return f"{op.name} reads {v!r}, which is {kind}"
    if len(node.attrs) != len(op.attr_names):
        return f"{op.name} has {len(node.attrs)} attributes for {op.attr_names}"
    try:
        hash(node.attrs)
        types = op.infer(*[v.type for v in node.inputs], **node.kwargs)
    except Exception as error:  # a rule may raise what the user would see
        return f"{op.name}: {type(error).__name__}: {error}"
    expected = (types,) if isinstance(types, Type) else tuple(types)
    if expected != tuple(s.type for s in node.siblings):
        return f"{op.name} has types {[s.type for s in node.siblings]}, its rule says {list(expected)}"
    for i, s in enumerate(node.siblings):
        if s.index != i or s.siblings is not node.siblings:
            return f"result {i} of {op.name} does not know its place"
        if s.requires_grad and not (s.dtype.is_floating_point or s.dtype.is_complex):
            return f"{s!r} requires grad but is not floating"
        if s.requires_grad != (op.grad_of_output(node.inputs) and s.dtype.category >= 2):
            return f"{s!r} has requires_grad={s.requires_grad}, its inputs say otherwise"
    return None


def neighbourhood(graph: Graph, node: Value, lines: int = 3) -> str:
    """A few nodes before and after, the faulty one marked."""
    at = graph.nodes.index(node)
    shown = []
    for i in range(max(0, at - lines), min(len(graph.nodes), at + lines + 1)):
        n = graph.nodes[i]
        results = ", ".join(f"%{s.id}: {s.type!r}" for s in n.siblings)
        operands = ", ".join(f"%{v.id}: {v.type!r}" for v in n.inputs)
        attrs = "".join(f", {k}={v!r}" for k, v in n.kwargs.items())
        where = f"   # {n.loc[0]}:{n.loc[1]}" if n.loc else ""
        shown.append(f"{'>>' if n is node else '  '} {results} = {n.op.name}({operands}{attrs}){where}")
    return "\n".join(shown)


def structure(graph: Graph) -> tuple:
    """A hashable that equal graphs share: rows (operation, inputs as row and result, attributes) in the order in which
    a walk from the outputs finishes them. Names, ids and the order of independent nodes do not matter."""
    place: dict[Value, tuple] = {p: (-1, i) for i, p in enumerate(graph.params)}
    rows: list[tuple] = []
    for v in postorder(graph.outputs):
        if v in place:
            continue
        operands = tuple([place[i] for i in v.inputs])
        rows.append((v.op.name, operands, tuple([attribute_key(a) for a in v.attrs])))
        for s in v.siblings:
            place[s] = (len(rows) - 1, s.index)
    return tuple([p.type for p in graph.params]), tuple(rows), tuple([place[o] for o in graph.outputs])


def attribute_key(a: Any) -> Any:
    """Attributes compare with their types (1, 1.0 and True differ), floats by their bits (nan is nan, 0.0 not -0.0)."""
    if isinstance(a, Graph):
        return structure(a)
    if isinstance(a, tuple):
        return tuple([attribute_key(x) for x in a])
    if isinstance(a, float):
        return "float", a.hex()
    if isinstance(a, complex):
        return "complex", a.real.hex(), a.imag.hex()
    return type(a).__name__, a


def same_graph(a: Graph, b: Graph) -> bool:
    """Do the graphs compute the same things in the same way? Names do not matter."""
    return structure(a) == structure(b)
