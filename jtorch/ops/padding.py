"""Padding by a constant, by reflection, replication or wrapping around."""
from __future__ import annotations

from collections.abc import Sequence

from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.ir.arith import Operand
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import movement
from jtorch.ir.prims.create import constant
from jtorch.ops.attach import FUNCTIONS

__all__ = ["pad"]


@operator
def _pad_constant(input: Value, pad: tuple[int, ...], value: Operand = 0.0) -> Value:
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(pad) // 2 > input.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got padding "
            f"length {len(pad)} and input of dimension {input.ndim}"
        )
    widths = [(0, 0)] * input.ndim
    for i in range(len(pad) // 2):
        widths[input.ndim - 1 - i] = (pad[2 * i], pad[2 * i + 1])
    x = input
    for axis, (lo, hi) in enumerate(widths):
        n = x.shape[axis]
        if lo < 0 or hi < 0:
            start, stop = max(-lo, 0), n - max(-hi, 0)
            if stop < start:
                raise RuntimeError(
                    f"The input size {n}, plus negative padding {lo} and {hi} resulted in a negative output "
                    f"size, which is invalid. Check dimension {axis} of your input."
                )
            x = movement.slice_axis(x, axis, start, stop)
    fill = ew.cast_to(value, x.dtype) if isinstance(value, Value) else constant(x.builder, value or 0, x.dtype)
    full = tuple((max(lo, 0), max(hi, 0), 0) for lo, hi in widths)
    return movement.pad(x, fill, widths=full) if any(lo or hi for lo, hi, _ in full) else x


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Add elements around the last axes: `pad` is (before, after) of the last axis, then of the one before it, ..."""
    if mode == "constant":
        return _pad_constant(input, tuple(pad), 0.0 if value is None else value)
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if len(pad) // 2 not in (input.ndim - 1, input.ndim - 2) or len(pad) % 2:
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    for i in range(len(pad) // 2):
        axis = input.ndim - 1 - i
        n, lo, hi = input.shape[axis], pad[2 * i], pad[2 * i + 1]
        if (lo, hi) == (0, 0):
            continue
        place = FUNCTIONS["arange"](-lo, n + hi)
        if -lo >= n + hi:
            raise RuntimeError(f"The input size {n}, plus negative padding {lo} and {hi} resulted in an empty or "
                               f"negative output size, which is invalid. Check dimension {axis} of your input.")
        if mode == "replicate":
            place = place.clamp(0, n - 1)
        elif mode == "circular":
            if lo > n or hi > n:
                raise RuntimeError("Padding value causes wrapping around more than once.")
            first, last = max(-lo, 0), n - max(-hi, 0)  # what negative widths leave is what is repeated
            place = FUNCTIONS["remainder"](place - first, last - first) + first
        else:
            if lo >= n or hi >= n:
                raise RuntimeError(
                    "Padding size should be less than the corresponding input dimension, but got: padding "
                    f"({lo}, {hi}) at dimension {axis} of input {list(input.shape)}"
                )
            place = (n - 1) - ((n - 1) - place.abs()).abs()
        input = FUNCTIONS["index_select"](input, axis, place)
    return input
