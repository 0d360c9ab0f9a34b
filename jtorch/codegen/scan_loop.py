"""A scan whose body is a program: a loop over addresses, with no data in Python.

>>> loop = ScanLoop(node, views)            # a host function; `loop.body` is the graph of one step
>>> loop.run_rows = driver.compile_graph(loop.body).run_rows
"""
from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import numpy as np

from jtorch.codegen.views import View
from jtorch.ir.graph import Graph, Type, Value


class ScanLoop:
    """Called with the addresses of the operands' roots, then of the results. `run_rows` takes a row of addresses for
    each step, of the body's parameters and results, and is given later."""

    run_rows: Callable[[np.ndarray], None]

    def __init__(self, node: Value, views: Sequence[View]) -> None:
        self.body: Graph = node.attr("body")
        self.views, self.types = views, [v.type for v in node.inputs]
        self.consts, self.carried, self.length = node.attr("n_consts"), node.attr("n_carry"), node.attr("length")
        self.reverse: bool = node.attr("reverse")
        self.results = [v.type for v in node.siblings]
        self.__name__ = "loop_scan"

    def __call__(self, *addresses: int) -> None:
        kept: list[np.ndarray] = []
        given = [self._contiguous(view, address, kept) for view, address in zip(self.views, addresses)]
        results = list(addresses[len(self.views):])
        head = self.consts + self.carried
        consts, carry = given[:self.consts], given[self.consts:head]
        types = self.results[:self.carried]
        if not self.length:
            for target, source, t in zip(results, carry, types):
                ctypes.memmove(target, source, t.nbytes)
            return
        rows = [*zip(given[head:], map(_row_bytes, self.types[head:])),
                *zip(results[self.carried:], map(_row_bytes, self.results[self.carried:]))]
        number, read = np.arange(self.length)[:, None], head + len(given[head:])
        moving = np.array([a for a, _ in rows], np.int64) + np.array([n for _, n in rows], np.int64) * (
            number[::-1] if self.reverse else number)
        following = np.empty((self.length, self.carried), np.int64)
        for parity in range(2):
            following[parity::2] = [_room(t, kept) for t in types]
        following[-1] = results[:self.carried]
        table = np.empty((self.length, len(given) + len(results)), np.int64)
        table[:, :self.consts] = consts
        table[0, self.consts:head], table[1:, self.consts:head] = carry, following[:-1]
        table[:, head:read] = moving[:, :read - head]
        table[:, read:read + self.carried] = following
        table[:, read + self.carried:] = moving[:, read - head:]
        self.run_rows(table)

    @staticmethod
    def _contiguous(view: View, address: int, kept: list[np.ndarray]) -> int:
        d = view.root.dtype.numpy
        if view.is_contiguous:
            return address + view.offset * d.itemsize
        memory = (ctypes.c_char * max(view.root.type.nbytes, 1)).from_address(address)
        strides = tuple(s * d.itemsize for s in view.strides)
        array = np.ndarray(view.shape, d, memory, view.offset * d.itemsize, strides)
        kept.append(np.ascontiguousarray(array))
        return kept[-1].ctypes.data


def _room(t: Type, kept: list[np.ndarray]) -> int:
    kept.append(np.empty(max(t.nbytes, 1), np.uint8))
    return kept[-1].ctypes.data


def _row_bytes(t: Type) -> int:
    return t.nbytes // t.shape[0] if t.shape[0] else 0
