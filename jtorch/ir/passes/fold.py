"""Constant folding: a node whose inputs are all constants of one repeated number becomes a constant itself.

Only such constants are made (`full`): a graph holds no arrays.

>>> # before: y = exp(full(shape=(4,), value=0.0)) + x
>>> # after:  y = full(shape=(4,), value=1.0) + x
"""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch.ir.graph import Builder, Graph, Value, rewrite
from jtorch.ir.interpret import run_op
from jtorch.ir.prims.create import constant


def fold(graph: Graph) -> Graph:
    return rewrite(graph, fold_node)


def fold_node(b: Builder, node: Value, inputs: tuple[Value, ...]) -> Any:
    if node.type.numel == 0 and len(node.siblings) == 1 and node.op.name not in ("full", "leaf"):
        return constant(b, 0, node.dtype, node.shape)  # nothing to compute
    if node.op.kind != "elementwise" or not inputs or node.op.fails is not None or node.dtype.is_complex:
        return None
    if any(v.op.name != "full" or v.dtype.is_complex for v in inputs):
        return None
    arrays = [np.full((), v.attrs[1], v.dtype.numpy) for v in inputs]
    with np.errstate(all="ignore"):
        result = run_op(node.op, arrays, node.kwargs, [node.type])[0]
    return constant(b, result.item(), node.dtype, node.shape)
