"""Padding."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.nn import functional as F
from jtorch.nn.modules.module import Module
from jtorch.nn.modules.utils import _ntuple


class _Pad(Module):
    _n = 0
    _mode = "constant"

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = _ntuple(2 * self._n)(padding)

    def forward(self, input: Tensor) -> Tensor:
        if self._mode == "circular" and input.ndim not in (self._n + 1, self._n + 2):
            raise ValueError(f"expected {self._n + 1}D or {self._n + 2}D input (got {input.ndim}D input)")
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


def _classes(prefix: str, base: type, mode: str) -> list[type]:
    return [type(f"{prefix}Pad{n}d", (base,), {"_n": n, "_mode": mode, "__module__": __name__,
                                               "__doc__": f"Padding of the last {n} axes: {prefix.lower()}."})
            for n in (1, 2, 3)]


ConstantPad1d, ConstantPad2d, ConstantPad3d = _classes("Constant", _ConstantPad, "constant")
ZeroPad1d, ZeroPad2d, ZeroPad3d = _classes("Zero", _ZeroPad, "constant")
ReflectionPad1d, ReflectionPad2d, ReflectionPad3d = _classes("Reflection", _Pad, "reflect")
ReplicationPad1d, ReplicationPad2d, ReplicationPad3d = _classes("Replication", _Pad, "replicate")
CircularPad1d, CircularPad2d, CircularPad3d = _classes("Circular", _Pad, "circular")
