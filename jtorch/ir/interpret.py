"""The NumPy meaning of a graph: the oracle for compiled code, and how cold graphs run."""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from jtorch.ir.graph import Graph, Value, topological
from jtorch.ir.passes.decompose import body_graph
from jtorch.ir.primitive import Op
from jtorch.runtime.memory import CHECKED, allocator


def run_op(op: Op, arrays: Sequence[np.ndarray], attrs: dict[str, Any], types: Sequence[Any],
           in_place: bool = False) -> tuple[np.ndarray, ...]:
    """One primitive on arrays. Half types are computed in float32 and rounded once. An update writes into its first
    array where `in_place` says so, else into a copy of it."""
    assert op.numpy is not None, f"{op.name} has no NumPy meaning"
    if op.updates and not in_place:
        arrays = [arrays[0].copy(order="C"), *arrays[1:]]
    if op.kind not in ("movement", "marker", "index"):
        arrays = [a.astype(np.float32) if a.dtype.itemsize == 2 and a.dtype.kind in "fV" else a for a in arrays]
    result = op.numpy(*arrays, **attrs)
    if not isinstance(result, tuple):
        result = (result,)
    return tuple([np.asarray(r, dtype=t.dtype.numpy) for r, t in zip(result, types)])


def interpret(graph: Graph, arrays: Sequence[np.ndarray], watch: Callable[[Value, int, int], None] | None = None,
              spare: Collection[Value] = ()) -> list[np.ndarray]:
    """Values of the graph's outputs, each C-contiguous. Composites are run through their decomposition. `watch` is told
    of every operation when it began and ended, in nanoseconds. The arrays of the parameters `spare` may be written
    where nothing else but `arrays` holds them, see `settles`."""
    env: dict[Value, np.ndarray] = dict(zip(graph.params, arrays))
    given = set(spare)  # values that are in memory of `arrays`
    remaining: dict[Value, int] = {}
    for node in graph.nodes:
        for i in node.inputs:
            remaining[i] = remaining.get(i, 0) + 1
    for o in graph.outputs:
        remaining[o] = remaining.get(o, 0) + 1
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            inputs = [env[i] for i in node.inputs]
            in_place = node.op.updates and remaining[node.inputs[0]] == 1 and (
                sys.getrefcount(inputs[0]) <= _UNSHARED + 1 if node.inputs[0] in given else
                sys.getrefcount(inputs[0]) <= _UNSHARED and inputs[0].base is None)
            if in_place and node.inputs[0] in given:
                given.add(node)
            start = time.perf_counter_ns() if watch is not None else 0
            try:
                results = run_node(node, inputs, in_place)
            except Exception as error:
                if node.loc is not None and not hasattr(error, "__notes__"):
                    error.add_note(f"recorded at {node.loc[0]}:{node.loc[1]}")
                raise
            if watch is not None:
                watch(node, start, time.perf_counter_ns())
            env.update(zip(node.siblings, results))
            del results
            for i in node.inputs:
                remaining[i] -= 1
                if not remaining[i]:
                    del env[i]
    return [np.ascontiguousarray(env[o]) if env[o].ndim else env[o] for o in graph.outputs]


def settles(graph: Graph) -> bool:
    """Can nothing fail any more once the first update has written? Then parameters may be given up to be written."""
    updated = False
    for n in graph.nodes:
        checks = n.op.fails is not None or n.op.kind not in _PLAIN and not (n.op.updates and len(n.inputs) == 2)
        if updated and (checks or n.type.nbytes >= CHECKED and not n.op.updates):
            return False
        updated = updated or n.op.updates
    return True


_PLAIN = frozenset({"elementwise", "movement", "marker", "create", "reduce"})


def _unshared() -> int:
    """The count of references to an array of `interpret` that has no views: `env`, `inputs` and the question itself."""
    inputs = [np.empty(0)]
    env = {0: inputs[0]}
    found = sys.getrefcount(inputs[0])
    del env
    return found


_UNSHARED = _unshared()


def run_node(node: Value, inputs: Sequence[np.ndarray], in_place: bool = False) -> tuple[np.ndarray, ...]:
    if node.op.numpy is None:
        return tuple(interpret(body_graph(node), inputs))
    check_failure(node, inputs)
    if node.op.kind not in ("movement", "marker"):  # those are views of what is there
        for v in node.siblings:
            if v.type.nbytes >= CHECKED:
                allocator.ensure(v.type.nbytes)
    return run_op(node.op, inputs, node.kwargs, [s.type for s in node.siblings], in_place)


def check_failure(node: Value, inputs: Sequence[np.ndarray]) -> None:
    """Raise the operation's error where its failure condition holds (integer division by zero)."""
    if node.op.fails is not None and inputs[0].dtype.kind in "iu":
        names = dict(zip("abc", inputs))
        if np.any(eval(node.op.fails, {"__builtins__": {}}, names)):
            kind, message = node.op.error  # type: ignore[misc]
            raise kind(message)


def evaluate(outputs: Sequence[Value], leaves: dict[Value, np.ndarray]) -> list[np.ndarray]:
    """Interpret the values that `outputs` reach, given arrays for the leaves among them."""
    params = [v for v in topological(outputs) if v.op.kind == "leaf"]
    return interpret(Graph(params, outputs), [leaves[p] for p in params])
