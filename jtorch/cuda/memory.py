"""Statistics of the GPU's memory: of no device, so all are zero."""
from __future__ import annotations

from collections import OrderedDict
from typing import Any, NoReturn

from jtorch.devices import NO_CUDA


def memory_allocated(device: Any = None) -> int:
    """Bytes in tensors on the device."""
    return 0


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that tensors on the device took."""
    return 0


def memory_reserved(device: Any = None) -> int:
    """Bytes that the caching allocator holds."""
    return 0


def max_memory_reserved(device: Any = None) -> int:
    """The most bytes that the caching allocator held."""
    return 0


memory_cached, max_memory_cached = memory_reserved, max_memory_reserved  # their names of old


def memory_stats(device: Any = None) -> OrderedDict[str, Any]:
    """Counters of the caching allocator."""
    return OrderedDict()


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """The counters as text."""
    return "No CUDA device, no CUDA memory."


def empty_cache() -> None:
    """Give the memory that the caching allocator holds back to the device: it holds none."""


def reset_peak_memory_stats(device: Any = None) -> None:
    """Let the maxima begin anew: they are zero."""


reset_max_memory_allocated = reset_max_memory_cached = reset_accumulated_memory_stats = reset_peak_memory_stats


def mem_get_info(device: Any = None) -> NoReturn:
    """Free and total bytes of a device. AssertionError: there is none."""
    raise AssertionError(NO_CUDA)


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> NoReturn:
    """Bound the memory taken on a device. AssertionError: there is none."""
    raise AssertionError(NO_CUDA)


def caching_allocator_alloc(size: int, device: Any = None, stream: Any = None) -> NoReturn:
    """Memory on a device. AssertionError: there is none."""
    raise AssertionError(NO_CUDA)
