"""Nodes that are no loop nests: library kernels, and NumPy for what has no kernel."""
from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from jtorch.codegen import library
from jtorch.codegen.body import Temporary
from jtorch.codegen.epilogue import Attached
from jtorch.codegen.loops import Load
from jtorch.codegen.partition import Group
from jtorch.codegen.place import Placed
from jtorch.codegen.plan import Entry, access_strides
from jtorch.codegen.views import View
from jtorch.dtypes import int8
from jtorch.ir.graph import Value
from jtorch.ir.interpret import run_op


def library_entries(placed: Placed, group: Group, epilogue: Attached | None = None,
                    spare: Sequence[Value] = (), *, in_place: bool = False, wanted: Collection[Value] | None = None
                    ) -> tuple[list[Entry] | None, bool]:
    """Entries of the library kernels for a node (None where there is none), and whether they run `epilogue`.

    `spare`: results of the epilogue whose memory the node's own result may use, if it is overwritten in order.
    `in_place`: the node is an update, and its result is where its first operand is.
    `wanted`: what is read later; all, where it is not given.
    """
    node = group.library
    assert node is not None
    if not library.covers(node):
        return None, False
    inputs, outputs = [], []
    read = [placed.root(v) for v in node.inputs]
    for v in node.inputs:
        view = placed.view(v)
        inputs.append(library.Operand(("in", read.index(view.root)), v.dtype, view.shape, view.strides, view.offset))
    for i, v in enumerate(node.siblings):
        outputs.append(library.whole(("out", i), v.dtype, v.shape))
    later = None if wanted is None else frozenset([i for i, v in enumerate(node.siblings) if v in wanted])
    lowering = library.lower(node, inputs, outputs, epilogue, 0 if in_place else None, later)
    if lowering is None:
        return None, False
    temporaries = [Temporary(int8, n) for n in lowering.temps]
    roots = {"in": read, "out": list(node.siblings), "temp": temporaries}
    if lowering.took_epilogue:
        assert epilogue is not None and epilogue.binding is not None
        roots["epilogue"] = [v for v, _ in epilogue.binding.buffers]
        over = next((v for v in spare if overwrites(epilogue, node, v)), None)
        if over is not None:
            roots["epilogue"] = [over if v is node else v for v in roots["epilogue"]]
            roots["out"] = [over]
    written = {id(v) for v in (*roots["out"], *temporaries, *(epilogue.writes if lowering.took_epilogue else ()))}
    entries = []
    run = object()
    for call in lowering.calls:
        run = object() if call.barrier else run
        places = [roots[a[0]][a[1]] for a in call.args if isinstance(a, tuple) and a[0] in roots]
        reads = [v for v in places if id(v) not in written]
        writes = [v for v in places if id(v) in written]
        args = [(roots[a[0]][a[1]], a[2]) if isinstance(a, tuple) and a[0] in roots else a for a in call.args]
        entries.append(Entry(reads, writes, group, call=call, call_args=args, scratch=call.scratch,
                             run=run, epilogue=epilogue if lowering.took_epilogue else None,
                             own_args=len(args) - _epilogue_args(call.args)))
    return entries, lowering.took_epilogue


def overwrites(epilogue: Attached, node: Value, result: Value) -> bool:
    """May the epilogue's `result` be in the memory of the node's? It is if it is computed from it, so that an element
    is loaded before it is overwritten, and each element is where the one is that it is computed from."""
    nest, binding = epilogue.nest, epilogue.binding
    assert nest is not None and binding is not None
    strides = access_strides(nest, binding)
    loads = [i for i, v in enumerate(nest.values) if isinstance(v, Load) and binding.buffers[v.buffer][0] is node]
    stores = [j for j, s in enumerate(nest.stores) if binding.buffers[s.buffer][0] is result]
    return bool(stores) and all(nest.stores[j].value in nest.using(i) and strides["w", j] == strides["v", i]
                                for i in loads for j in stores)


def _epilogue_args(args: tuple) -> int:
    """Arguments from the first pointer of an epilogue on."""
    first = next((i for i, a in enumerate(args) if isinstance(a, tuple) and a[0] == "epilogue"), len(args))
    return len(args) - first


def host_entry(placed: Placed, group: Group) -> Entry:
    """The node run by NumPy, on the memory of its operands."""
    node = group.library
    assert node is not None
    views = [placed.view(v) for v in node.inputs]
    reads = [view.root for view in views]
    return Entry(reads, list(node.siblings), group, host=host_function(node, views))


def host_function(node: Value, views: list[View]) -> Callable:
    """fn(*addresses of the inputs' roots, *addresses of the results)."""
    layouts = [(v.root.type.nbytes, v.root.dtype.numpy, v.shape,
                tuple([s * v.root.dtype.itemsize for s in v.strides]), v.offset * v.root.dtype.itemsize) for v in views]
    results = [(v.type.nbytes, v.dtype.numpy, v.shape) for v in node.siblings]
    types = [v.type for v in node.siblings]
    op, attrs, count = node.op, node.kwargs, len(views)

    def run(*addresses: int) -> None:
        arrays = [np.ndarray(shape, d, memory(address, size), offset, strides)
                  for address, (size, d, shape, strides, offset) in zip(addresses, layouts)]
        with np.errstate(all="ignore"):
            found = run_op(op, arrays, attrs, types)
        for address, (size, d, shape), array in zip(addresses[count:], results, found):
            np.ndarray(shape, d, memory(address, size))[...] = array

    run.__name__ = f"numpy_{op.name}"
    return run


def memory(address: int, size: int) -> Any:
    return (ctypes.c_char * max(size, 1)).from_address(address)
