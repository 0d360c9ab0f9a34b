"""Which memory a value's elements are in: strided views over the values that are computed.

`view_of(v)` follows movement operations down to the parameter or computed value `root` that holds the data. The data of
a root is always contiguous. A movement that strides cannot express (a reshape of a transposed matrix) is no view:
`passes.place` puts a `copy` under it.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jtorch.codegen.axes import row_major
from jtorch.ir.graph import Shape, Value


@dataclass(frozen=True, slots=True)
class View:
    """Element `index` of the view is element `offset + sum(index * strides)` of `root`'s data."""

    root: Value
    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def is_whole(self) -> bool:
        """Are these exactly the root's bytes, in order?"""
        return self.offset == 0 and self.is_contiguous and self.numel == self.root.type.numel

    @property
    def numel(self) -> int:
        n = 1
        for s in self.shape:
            n *= s
        return n

    @property
    def is_contiguous(self) -> bool:
        expected = 1
        for n, s in zip(reversed(self.shape), reversed(self.strides)):
            if n != 1:
                if s != expected:
                    return False
                expected *= n
        return True


def whole(v: Value) -> View:
    return View(v, v.shape, row_major(v.shape))


def _reshape(view: View, node: Value) -> View | None:
    strides = reshape_strides(view.shape, view.strides, node.shape)
    return None if strides is None else View(view.root, node.shape, strides, view.offset)


def _permute(view: View, node: Value) -> View:
    return View(view.root, node.shape, tuple([view.strides[p] for p in node.attrs[0]]), view.offset)


def _expand(view: View, node: Value) -> View:
    lead = node.ndim - len(view.shape)
    strides = [0] * lead + [0 if n == 1 else s for n, s in zip(view.shape, view.strides)]
    return View(view.root, node.shape, tuple(strides), view.offset)


def _slice(view: View, node: Value) -> View:
    starts, _, steps = node.attrs
    offset = view.offset + sum(a * s for a, s in zip(starts, view.strides))
    return View(view.root, node.shape, tuple([a * s for a, s in zip(steps, view.strides)]), offset)


def _flip(view: View, node: Value) -> View:
    strides, offset = list(view.strides), view.offset
    for axis in node.attrs[0]:
        offset += (view.shape[axis] - 1) * strides[axis]
        strides[axis] = -strides[axis]
    return View(view.root, node.shape, tuple(strides), offset)


def _as_strided(view: View, node: Value) -> View | None:
    shape, strides, offset = node.attrs
    if not view.is_whole:
        return None
    return View(view.root, tuple(shape), tuple(strides), offset)


MOVES: dict[str, Callable[[View, Value], View | None]] = {
    "reshape": _reshape, "permute": _permute, "expand": _expand, "slice": _slice, "flip": _flip,
    "as_strided": _as_strided,
}
"""Operations that are index maps and nothing else."""


def is_move(node: Value) -> bool:
    return node.op.name in MOVES


def move(view: View, node: Value) -> View | None:
    """The view after movement `node`; None if strides cannot express it."""
    return MOVES[node.op.name](view, node)


def reshape_strides(shape: Shape, strides: tuple[int, ...], new: Shape) -> tuple[int, ...] | None:
    """Strides of a reshaped view, or None. Each run of old axes that are contiguous with each other may be cut anew.

    >>> reshape_strides((4, 6), (6, 1), (2, 2, 6))
    (12, 6, 1)
    >>> reshape_strides((4, 6), (1, 4), (24,)) is None
    True
    """
    if 0 in new:
        return row_major(new)
    runs: list[list[int]] = []  # [elements, stride of the innermost], merged
    for n, s in zip(shape, strides):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * s:
            runs[-1] = [runs[-1][0] * n, s]
        else:
            runs.append([n, s])
    result: list[int] = []
    position = len(runs) - 1
    left = runs[position][0] if runs else 1
    stride = runs[position][1] if runs else 1
    for n in reversed(new):
        if n == 1:
            result.append(0)
            continue
        if left == 1:
            position -= 1
            if position < 0:
                return None
            left, stride = runs[position]
        if left % n:
            return None
        result.append(stride)
        stride *= n
        left //= n
    return tuple(reversed(result))
