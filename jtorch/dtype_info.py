"""`finfo` and `iinfo`: the limits of a dtype."""
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from jtorch.capture.record import current
from jtorch.dtypes import dtype


class finfo:
    """Limits of a floating point dtype."""

    def __init__(self, type: dtype | None = None) -> None:
        d = type or current.recorder.builder.default_float
        if not (d.is_floating_point or d.is_complex):
            raise TypeError("torch.finfo() requires a floating point input type. Use torch.iinfo to handle "
                            "'torch.finfo'")
        info = ml_dtypes.finfo(d.to_real().numpy)
        self.bits = int(info.bits)
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = float(info.resolution)
        self.dtype = d.to_real().name

    def __repr__(self) -> str:
        def short(x: Any) -> str:
            return f"{x:g}"
        return (f"finfo(resolution={short(self.resolution)}, min={short(self.min)}, max={short(self.max)}, "
                f"eps={short(self.eps)}, smallest_normal={short(self.tiny)}, tiny={short(self.tiny)}, "
                f"dtype={self.dtype})")


class iinfo:
    """Limits of an integer dtype."""

    def __init__(self, type: dtype) -> None:
        if type.is_floating_point or type.is_complex or type.name == "bool":
            raise TypeError("torch.iinfo() requires an integer input type. Use torch.finfo to handle 'torch.iinfo'")
        info = np.iinfo(type.numpy)
        self.bits, self.max, self.min, self.dtype = info.bits, int(info.max), int(info.min), type.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
