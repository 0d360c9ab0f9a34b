"""`torch.cpu`: the CPU through the interface that devices have."""
from __future__ import annotations

from typing import Any

from jtorch.capture.record import current
from jtorch.cpu import amp


def is_available() -> bool:
    return True


def is_initialized() -> bool:
    return True


def device_count() -> int:
    return 1


def current_device() -> str:
    return "cpu"


def set_device(device: Any) -> None:
    """There is one CPU: nothing to select."""


def synchronize(device: Any = None) -> None:
    """Compute everything that is pending."""
    current.recorder.flush()


class Stream:
    """A queue of work: the CPU's work is done in the order in which it is asked for."""

    def __init__(self, priority: int = -1) -> None:
        self.priority = priority

    def wait_stream(self, stream: Any) -> None:
        """Work that was asked for before is done before."""

    def synchronize(self) -> None:
        synchronize()


_default_stream = Stream()


def current_stream(device: Any = None) -> Stream:
    return _default_stream


class stream:
    """`with torch.cpu.stream(s)`: all streams are one."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: Any) -> None:
        return None


StreamContext = stream

__all__ = ["Stream", "StreamContext", "amp", "current_device", "current_stream", "device_count", "is_available",
           "is_initialized", "set_device", "stream", "synchronize"]
