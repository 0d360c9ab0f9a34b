"""Memory shared with other array libraries: DLPack (https://dmlc.github.io/dlpack) and NumPy's array interface.

NumPy carries both ways: it knows how capsules are made, read and freed. So bfloat16, which NumPy has not, does not
travel.
"""
from __future__ import annotations

import enum
from typing import Any

import numpy as np

from jtorch import devices, dtypes
from jtorch._tensor import Tensor, attach
from jtorch.ops.attach import FUNCTIONS, expose
from jtorch.ops.creation import from_numpy


class DLDeviceType(enum.IntEnum):
    """Where memory lives, in DLPack's numbers."""

    kDLCPU = 1
    kDLCUDA = 2


CPU = (DLDeviceType.kDLCPU, 0)


def _dlpack(self: Tensor, *, stream: Any = None, max_version: Any = None, dl_device: Any = None,
            copy: bool | None = None) -> Any:
    """A capsule with this tensor's memory, which lives as long as somebody holds it.

    BufferError where the tensor requires grad, is bfloat16, or another device is asked for.
    """
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if self.dtype is dtypes.bfloat16:
        raise BufferError("jtorch cannot export bfloat16 tensors through DLPack: use tensor.view(torch.int16) or "
                          "tensor.float()")
    if stream not in (None, -1):
        raise BufferError(f"a CPU tensor has no stream, but got stream={stream}")
    if dl_device is not None and tuple(dl_device) != CPU:
        raise BufferError(f"a CPU tensor cannot be exported to device {tuple(dl_device)}")
    options = {} if max_version is None else {"max_version": max_version}
    return (self.clone() if copy else self).numpy().__dlpack__(**options)


class Capsule:
    """A capsule as an object of the protocol."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU


class Writable:
    """An array's memory for writing: the older protocol does not tell, and NumPy then forbids it."""

    def __init__(self, array: np.ndarray) -> None:
        address, _ = array.__array_interface__["data"]
        self.array, self.__array_interface__ = array, {**array.__array_interface__, "data": (address, False)}


@expose("from_dlpack", method=False)
def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of an object with `__dlpack__`, or of a capsule; its own memory with `copy=True`.

    Memory that must not be written is copied. BufferError for memory of another device and for bfloat16.
    """
    devices.check(device)
    if type(ext_tensor).__name__ == "PyCapsule":
        t = from_numpy(np.asarray(Writable(np.from_dlpack(Capsule(ext_tensor)))))
        return t.clone() if copy else t
    if not hasattr(ext_tensor, "__dlpack__"):
        raise AttributeError(f"'{type(ext_tensor).__name__}' object has no attribute '__dlpack__'")
    t = from_numpy(np.from_dlpack(ext_tensor))
    return t.clone() if copy else t


def to_dlpack(tensor: Tensor) -> Any:
    """A capsule of the older protocol."""
    return _dlpack(tensor)


FUNCTIONS["to_dlpack"] = to_dlpack


def _array_interface(self: Tensor) -> dict[str, Any]:
    """NumPy's description of the memory. It is the tensor that keeps it alive."""
    if self.dtype is dtypes.bfloat16:
        raise AttributeError("NumPy has no bfloat16, so the tensor has no '__array_interface__'")
    return self.numpy().__array_interface__


attach(__dlpack__=_dlpack)
attach(__dlpack_device__=lambda self: CPU)
attach(__array_interface__=property(_array_interface))
