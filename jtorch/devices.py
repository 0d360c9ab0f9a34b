"""`torch.device`."""
from __future__ import annotations

from typing import Any


class device:
    """Where a tensor lives: a type ('cpu', 'cuda', 'meta') and an index."""

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __init__(self, type: Any, index: int | None = None) -> None:
        if isinstance(type, device):
            type, index = type.type, type.index
        if not isinstance(type, str):
            raise TypeError(f"device(): argument 'type' must be str, not {type.__class__.__name__}")
        name, _, number = type.partition(":")
        if name not in ("cpu", "cuda", "meta"):
            raise RuntimeError("Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, "
                               "maia, xla, "
                               "lazy, vulkan, mps, meta, hpu, mtia, privateuseone device type at start of device "
                               "string: "
                               f"{type}")
        if number:
            if index is not None:
                raise RuntimeError("type (string) must not include an index because index was passed explicitly: "
                                   f"{type}")
            if not number.isdigit():
                raise RuntimeError(f"Invalid device string: '{type}'")
            index = int(number)
        self.type, self.index = name, index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __repr__(self) -> str:
        return f"device(type='{self.type}'" + (f", index={self.index})" if self.index is not None else ")")

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


cpu = device("cpu")


def check(requested: Any) -> None:
    """RuntimeError if tensors cannot be made on the requested device."""
    if requested is not None and device(requested).type != "cpu":
        raise RuntimeError(f"jtorch was not built with a backend for device '{requested}': tensors live on 'cpu'")
