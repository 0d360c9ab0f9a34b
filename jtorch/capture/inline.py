"""A traced program recorded as one node of the enclosing graph, for calls whose results are differentiated outside."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jtorch._tensor import Tensor
from jtorch.capture.cell import Epoch
from jtorch.capture.record import Recorder
from jtorch.capture.signature import Leaf
from jtorch.ir.graph import Builder, Graph, Value, topological
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import detach, leaf, make_leaf, variable
from jtorch.ir.prims.function import custom_function


def _infer(*types: Any, graph: Graph) -> Any:
    return tuple([o.type for o in graph.outputs])


def inline(builder: Builder, *inputs: Value, graph: Graph) -> tuple[Value, ...]:
    """The graph's nodes in another builder, its parameters replaced by `inputs`."""
    env = dict(zip(graph.params, inputs))
    for node in topological(graph.outputs):
        if node in env:
            continue
        result = builder.intern(node.op, tuple([env[i] for i in node.inputs]), node.attrs, node.loc)
        env.update(zip(node.siblings, result if isinstance(result, tuple) else (result,)))
    return tuple([env[o] for o in graph.outputs])


call = Op("call", "composite", _infer, body=inline, attr_names=("graph",))
"""A captured function applied to values: its results, then the new contents of what it wrote."""


@dataclass(frozen=True, slots=True)
class Callable:
    """A captured function as a graph whose parameters include its variables. `sources[i]` tells where parameter i comes
    from: ('tensor', leaf tensor), ('argument', index), ('state', storage), ('data', cell), ('scalar', getter)."""

    graph: Graph
    sources: tuple[tuple[str, Any], ...]


def callable_graph(values: Sequence[Value], epoch: Epoch, trace: Any, leaves: Sequence[Leaf]) -> Callable:
    """The traced values as a `Callable`: differentiation passes through its variables to their owners outside."""
    arguments = {id(leaf.cell): i for i, leaf in enumerate(leaves)}
    tensors = {id(leaf.shown): i for i, leaf in enumerate(leaves)}

    def is_made_inside(node: Value) -> bool:
        """Is this a leaf tensor that the call itself made? Outside, it is a constant."""
        owner = epoch.variables[node.attrs[0]]
        return (isinstance(owner, Tensor) and owner._storage.cell.epoch is epoch and owner._storage not in trace.before)

    def source(node: Value) -> tuple[str, Any]:
        number = node.attrs[0]
        if node.op is variable:
            owner = epoch.variables[number]
            if isinstance(owner, Tensor):
                return ("argument", tensors[id(owner)]) if id(owner) in tensors else ("tensor", owner)
            cell = owner
        elif number < 0:
            number = -number - 1
            value = epoch.scalars[number]
            return ("scalar", trace.scalars.get(-number - 1, lambda: value))
        else:
            cell = epoch.leaves[number]
        if id(cell) in arguments:
            return ("argument", arguments[id(cell)])
        if id(cell) in trace.captured:
            return ("state", trace.captured[id(cell)])
        return ("data", cell)

    builder = Builder()
    builder.default_float = values[0].builder.default_float
    env: dict[Value, Value] = {}
    params, sources = [], []
    inside = {node for node in topological(values) if node.op is variable and is_made_inside(node)}
    for node in _topological(values, inside):
        if node in inside:
            env[node] = builder.intern(detach, (env[node.inputs[0]],), ())
            continue
        if node.op is variable or node.op is leaf:
            env[node] = make_leaf(builder, len(params), node.type)
            params.append(env[node])
            sources.append(source(node))
            continue
        attrs = node.attrs
        if node.op is custom_function and isinstance(attrs[1], int):  # numbers are the trace's own
            attrs = (attrs[0], epoch.functions[attrs[1]])
        result = builder.intern(node.op, tuple([env[i] for i in node.inputs]), attrs, node.loc)
        env.update(zip(node.siblings, result if isinstance(result, tuple) else (result,)))
    return Callable(Graph(params, [env[v] for v in values]), tuple(sources))


def _topological(outputs: Sequence[Value], inside: set[Value]) -> list[Value]:
    """As `topological`, but not looking behind variables other than those `inside`."""
    seen: dict[int, Value] = {}
    stack = [v.siblings[0] for v in outputs]
    while stack:
        v = stack.pop()
        if v.id not in seen:
            seen[v.id] = v
            if v.op is not variable or v in inside:
                stack += [i.siblings[0] for i in v.inputs]
    return [seen[i] for i in sorted(seen)]


def record_call(recorder: Recorder, function: Callable, leaves: Sequence[Leaf]) -> tuple[Value, ...]:
    """One `call` node in the recorder's graph."""
    inputs = []
    for kind, source in function.sources:
        if kind == "tensor":
            inputs.append(recorder.value(source))
        elif kind == "argument":
            inputs.append(recorder.value(leaves[source].tensor))
        elif kind == "state":
            inputs.append(recorder.contents(source))
        elif kind == "data":
            inputs.append(recorder.cell_value(source))
        else:
            inputs.append(recorder.scalar(source()))
    return recorder.builder.intern(call, tuple(inputs), (function.graph,))
