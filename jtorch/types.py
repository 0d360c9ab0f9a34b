"""`torch.types`: names for annotations."""
from __future__ import annotations

import builtins
import os
from typing import IO, Any

from jtorch._tensor import Size, Tensor
from jtorch.devices import device as _device
from jtorch.dtypes import Layout as _layout
from jtorch.dtypes import dtype as _dtype

Number = int | float | bool
Device = _device | str | int | None
FileLike = str | os.PathLike[str] | IO[bytes]
_TensorOrTensors = Tensor | tuple[Tensor, ...]
_size = Size | list[int] | tuple[int, ...]
_int, _float, _bool, _complex = builtins.int, builtins.float, builtins.bool, builtins.complex
_str, _bytes = builtins.str, builtins.bytes
_Number = (builtins.int, builtins.float, builtins.bool)
BoolLikeType, IntLikeType, FloatLikeType = builtins.bool, builtins.int, builtins.float
SymInt, SymFloat, SymBool = builtins.int, builtins.float, builtins.bool
PySymType = Any

__all__ = ["BoolLikeType", "Device", "FileLike", "FloatLikeType", "IntLikeType", "Number", "Size", "Tensor", "_device",
           "_dtype", "_layout"]
