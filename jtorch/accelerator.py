"""`torch.accelerator`: the GPU of the machine, whatever its kind. jtorch's tensors live on the CPU: there is none."""
from __future__ import annotations

from typing import Any, NoReturn

from jtorch.devices import device


def is_available() -> bool:
    return False


def device_count() -> int:
    return 0


def current_accelerator(check_available: bool = False) -> device | None:
    """The accelerator's device, None without one."""
    return None


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    """RuntimeError: there is no accelerator."""
    raise RuntimeError("Cannot access accelerator device when none is available.")


current_device_index = current_device_idx = set_device_index = set_device_idx = synchronize = _refuse
current_stream = set_stream = device_index = _refuse

__all__ = ["current_accelerator", "current_device_idx", "current_device_index", "current_stream", "device_count",
           "device_index", "is_available", "set_device_idx", "set_device_index", "set_stream", "synchronize"]
