"""Forward mode by hand: a dual tensor is a tensor with a tangent, and so is what is computed from it.

    with forward_ad.dual_level():
        y = f(forward_ad.make_dual(x, t))
        y, tangent = forward_ad.unpack_dual(y)
"""
from __future__ import annotations

import threading
from typing import Any, NamedTuple

from jtorch._tensor import Tensor, wrap
from jtorch.autograd.modes import enable_grad
from jtorch.autograd.scope import Scope, conformed
from jtorch.autograd.transforms import left_values
from jtorch.capture.record import current
from jtorch.ir.graph import Value


class UnpackedDualTensor(NamedTuple):
    """A tensor without its tangent, and the tangent or None."""

    primal: Tensor
    tangent: Tensor | None


class _Level:
    """Dual tensors that were made between entering and leaving."""

    def __init__(self) -> None:
        self.scope = Scope()
        self.tangents: dict[Tensor, Tensor] = {}


class _Levels(threading.local):
    def __init__(self) -> None:
        self.stack: list[_Level] = []


_levels = _Levels()


def enter_dual_level() -> int:
    """Begin a level of forward mode; there may be one at a time. Returns its number."""
    if _levels.stack:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    _levels.stack.append(_Level())
    return len(_levels.stack) - 1


def exit_dual_level(*, level: int | None = None) -> None:
    """Leave the level: tangents are gone."""
    if not _levels.stack:
        raise RuntimeError("Trying to exit a forward AD level that was not the last one that was created. This is not "
                           "supported. (There is none.)")
    if level is not None and level != len(_levels.stack) - 1:
        raise RuntimeError("Trying to exit a forward AD level that was not the last one that was created. This is not "
                           "supported.")
    _levels.stack.pop()


class dual_level:
    """Context manager of a level of forward mode."""

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc: Any) -> None:
        exit_dual_level()


def _level(level: int | None, what: str) -> _Level | None:
    if not _levels.stack:
        return None
    if level is not None and not 0 <= level < len(_levels.stack):
        raise RuntimeError(f"{what}: there is no forward AD level {level}")
    return _levels.stack[-1 if level is None else level]


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """`tensor` with `tangent`, which has its shape and dtype. Raises RuntimeError outside of a dual level."""
    present = _level(level, "make_dual")
    if present is None:
        raise RuntimeError("Trying to create a dual Tensor for forward AD but no level exists, make sure to "
                           "enter_dual_level() first.")
    if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
        raise ValueError(f"Expected primal to be floating point or complex, but got: {tensor.dtype}")
    if not (tangent.dtype.is_floating_point or tangent.dtype.is_complex):
        raise ValueError(f"Expected tangent to be floating point or complex, but got: {tangent.dtype}")
    if tensor.shape != tangent.shape:
        raise RuntimeError(f"Trying to set a forward gradient that has a different size than that of the original "
                           f"Tensor, this is not supported. Tensor is of size {list(tensor.shape)} while the given "
                           f"forward gradient is of size {list(tangent.shape)}.")
    with enable_grad():
        leaf, shown = present.scope.stand_in(tensor)
    present.tangents[leaf] = tangent
    return shown


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """(tensor without tangent, tangent or None): see `UnpackedDualTensor`."""
    present = _level(level, "unpack_dual")
    if present is None or not tensor.requires_grad:
        return UnpackedDualTensor(tensor, None)
    recorder = current.recorder
    v = recorder.value(tensor)
    with enable_grad():
        seeds: dict[Tensor, Value] = {leaf: recorder.value(t) for leaf, t in present.tangents.items()}
        found = present.scope.tangents([v], seeds)[0]
    primal = wrap(recorder, present.scope.leave([v])[0])
    if found is None:
        return UnpackedDualTensor(primal, None)
    return UnpackedDualTensor(primal, left_values(present.scope, [conformed(found, v)], recorder.grad_enabled)[0])
