"""A digest of a graph's structure: equal graphs have equal digests, in every process."""
from __future__ import annotations

import hashlib

from jtorch.ir.graph import Graph, Value


def fingerprint(graph: Graph) -> str:
    """Hexadecimal digest of operations, attributes, types and wiring; numbers of values and locations do not matter."""
    numbers: dict[Value, str] = {p: f"p{i}" for i, p in enumerate(graph.params)}
    digest = hashlib.sha256()
    digest.update(repr([p.type for p in graph.params]).encode())
    for n, node in enumerate(graph.nodes):
        for i, v in enumerate(node.siblings):
            numbers[v] = f"{n}.{i}"
        attrs = [fingerprint(a) if isinstance(a, Graph) else a for a in node.attrs]
        digest.update(f"{node.op.name}{[numbers[v] for v in node.inputs]}{attrs}{node.type}\n".encode())
    digest.update(repr([numbers[o] for o in graph.outputs]).encode())
    return digest.hexdigest()
