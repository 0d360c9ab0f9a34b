"""Data continued beyond its edges: what PyTorch's padding modes 'reflect', 'replicate' and 'circular' do."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op, op
from jtorch.ir.prims.movement import flip, pad, slice_axis, slice_update

MODES = ("reflect", "replicate", "circular")
Widths = tuple[tuple[int, int], ...]


def _infer(t: Type, widths: Widths, mode: str) -> Type:
    limit = {"reflect": -1, "replicate": 1 << 62, "circular": 0}[mode]
    for n, pair in zip(t.shape, widths, strict=True):
        if min(pair) < 0 or max(pair) > (n + limit if max(pair) else 0):
            raise AssertionError(f"extend: {t} by {widths}, {mode}")
    return Type(t.dtype, [lo + n + hi for n, (lo, hi) in zip(t.shape, widths)])


def _source(n: int, lo: int, hi: int, mode: str) -> np.ndarray:
    """Which of n elements stands at each place of the result."""
    place = np.arange(-lo, n + hi)
    if mode == "replicate":
        return np.clip(place, 0, n - 1)
    if mode == "circular":
        return place % n
    return (n - 1) - np.abs((n - 1) - np.abs(place))


def _numpy(a: np.ndarray, widths: Widths, mode: str) -> np.ndarray:
    for axis, (lo, hi) in enumerate(widths):
        if lo or hi:
            a = np.take(a, _source(a.shape[axis], lo, hi, mode), axis)
    return a


def _added(v: Value, axis: int, start: int, part: Value) -> Value:
    """v with `part` added from `start` on."""
    stop = start + part.shape[axis]
    where = {"starts": tuple(start if a == axis else 0 for a in range(v.ndim)),
             "stops": tuple(stop if a == axis else n for a, n in enumerate(v.shape)), "steps": (1,) * v.ndim}
    return slice_update(v, slice_axis(v, axis, start, stop) + part, **where)


def _vjp(g: Value, y: Value, x: Value, widths: Widths, mode: str) -> tuple:
    """The borders, folded back onto what they repeat."""
    for axis in reversed(range(x.ndim)):
        (lo, hi), n = widths[axis], x.shape[axis]
        front, inside, back = (slice_axis(g, axis, *ends) for ends in ((0, lo), (lo, lo + n), (lo + n, lo + n + hi)))
        for part, width, starts in ((front, lo, (1, 0, n - lo)), (back, hi, (n - 1 - hi, n - 1, 0))):
            if width:
                if mode == "reflect":
                    part = flip(part, axes=(axis,))
                elif mode == "replicate" and width > 1:
                    shape = tuple(1 if a == axis else s for a, s in enumerate(part.shape))
                    part = op("reshape")(op("sum")(part, axes=(axis,)), shape=shape)
                inside = _added(inside, axis, starts[MODES.index(mode)], part)
        g = inside
    return (g,)


def _batch(self: Op, b: Builder, n: int, m: tuple, x: Value, widths: Widths, **more: Any) -> Value:
    return self(x, widths=((0, 0), *widths), **more)


extend = Op("extend", "index", _infer, _numpy, _vjp, attr_names=("widths", "mode"), linear=True, batch=_batch)
"""`widths` per axis: how many elements (before, after) repeat those inside. 'reflect': mirrored at the outermost
element, which is not repeated; 'replicate': the outermost one; 'circular': those at the other end."""


def padded(x: Value, widths: Widths, mode: str, fill: Value | None = None) -> Value:
    """`pad` with `fill`, or `extend`; a negative width takes elements away.

    For 'circular' what is left is what is repeated, for the others the whole of x.
    """
    def cut(v: Value, sizes: Widths) -> Value:
        for axis, (lo, hi) in enumerate(sizes):
            v = slice_axis(v, axis, max(-lo, 0), v.shape[axis] - max(-hi, 0))
        return v

    outward = tuple((max(lo, 0), max(hi, 0)) for lo, hi in widths)
    first = mode in ("constant", "circular")
    x = cut(x, widths) if first else x
    if any(map(any, outward)):
        x = extend(x, widths=outward, mode=mode) if fill is None else \
            pad(x, fill, widths=tuple((lo, hi, 0) for lo, hi in outward))
    return x if first else cut(x, widths)
