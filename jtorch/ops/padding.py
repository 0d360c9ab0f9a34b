"""Padding by a constant, by reflection, replication or wrapping around."""
from __future__ import annotations

from collections.abc import Sequence

from jtorch._tensor import Tensor
from jtorch.capture.dispatch import operator
from jtorch.ir.arith import Operand
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims.border import padded
from jtorch.ir.prims.create import constant
from jtorch.ops.direct import check_fits

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
    widths = _widths(input.ndim, pad)
    for axis, (n, (lo, hi)) in enumerate(zip(input.shape, widths)):
        if n + min(lo, 0) + min(hi, 0) < 0:
            raise RuntimeError(
                f"The input size {n}, plus negative padding {lo} and {hi} resulted in a negative output "
                f"size, which is invalid. Check dimension {axis} of your input."
            )
    fill = ew.cast_to(value, input.dtype) if isinstance(value, Value) else \
        constant(input.builder, value, input.dtype)
    return padded(input, widths, "constant", fill)


def _widths(ndim: int, pad: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(before, after) per axis; `pad` begins with the last one."""
    given = [(int(lo), int(hi)) for lo, hi in zip(pad[::2], pad[1::2])]
    return (*[(0, 0)] * (ndim - len(given)), *reversed(given))


@operator
def _pad_inside(input: Value, pad: tuple[int, ...], mode: str) -> Value:
    widths = _widths(input.ndim, pad)
    for axis, (n, (lo, hi)) in reversed(list(enumerate(zip(input.shape, widths)))):
        if (lo, hi) == (0, 0):
            continue
        if n + lo + hi <= 0:
            raise RuntimeError(f"The input size {n}, plus negative padding {lo} and {hi} resulted in an empty or "
                               f"negative output size, which is invalid. Check dimension {axis} of your input.")
        if mode == "circular" and (lo > n or hi > n):
            raise RuntimeError("Padding value causes wrapping around more than once.")
        if mode == "reflect" and (lo >= n or hi >= n):
            raise RuntimeError(
                "Padding size should be less than the corresponding input dimension, but got: padding "
                f"({lo}, {hi}) at dimension {axis} of input {list(input.shape)}"
            )
    return padded(input, widths, mode)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Add elements around the last axes: `pad` is (before, after) of the last axis, then of the one before it, ..."""
    if mode == "constant":
        value = 0.0 if value is None else value
        check_fits(input.dtype, value)
        return _pad_constant(input, tuple(pad), value)
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if len(pad) // 2 not in (input.ndim - 1, input.ndim - 2) or len(pad) % 2:
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    return _pad_inside(input, tuple(pad), mode)
