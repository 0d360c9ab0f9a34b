"""`torch.cuda` as a build of PyTorch without CUDA has it: there is no device, and what needs one says so.

What scripts call unconditionally (`is_available`, `device_count`, `manual_seed`, `empty_cache`, memory statistics)
answers for no devices; what needs a device raises what PyTorch's CPU build raises.
"""
from __future__ import annotations

from typing import Any, NoReturn

from jtorch.cuda import amp
from jtorch.cuda.memory import (
    caching_allocator_alloc,
    empty_cache,
    max_memory_allocated,
    max_memory_cached,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_cached,
    memory_reserved,
    memory_stats,
    memory_summary,
    reset_accumulated_memory_stats,
    reset_max_memory_allocated,
    reset_max_memory_cached,
    reset_peak_memory_stats,
    set_per_process_memory_fraction,
)
from jtorch.devices import NO_CUDA
from jtorch.devices import device as _device
from jtorch.errors import OutOfMemoryError

has_half = True
has_magma = False
default_generators: tuple[Any, ...] = ()


def is_available() -> bool:
    return False


def device_count() -> int:
    return 0


def is_initialized() -> bool:
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    return False


def is_tf32_supported() -> bool:
    return False


def get_arch_list() -> list[str]:
    return []


def get_gencode_flags() -> str:
    return ""


def _needs_device(name: str, text: str) -> Any:
    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(NO_CUDA)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{text} AssertionError: there is no CUDA device."
    return function


init = _needs_device("init", "Initialise CUDA.")
synchronize = _needs_device("synchronize", "Wait for a device.")
current_device = _needs_device("current_device", "The index of the selected device.")
current_stream = _needs_device("current_stream", "The stream that work goes to.")
default_stream = _needs_device("default_stream", "A device's default stream.")
current_blas_handle = _needs_device("current_blas_handle", "The cuBLAS handle.")
get_device_name = _needs_device("get_device_name", "A device's name.")
get_device_capability = _needs_device("get_device_capability", "A device's compute capability.")
get_device_properties = _needs_device("get_device_properties", "A device's properties.")
can_device_access_peer = _needs_device("can_device_access_peer", "Whether a device reads another's memory.")
get_rng_state = _needs_device("get_rng_state", "The state of a device's generator.")
initial_seed = _needs_device("initial_seed", "The seed of a device's generator.")
ipc_collect = _needs_device("ipc_collect", "Free memory shared with other processes.")
cudart = _needs_device("cudart", "The CUDA runtime.")


def set_device(device: Any) -> None:
    """Select a device: a negative index selects none.

    Raises ValueError for a device that is not CUDA's, AssertionError for one that is."""
    if isinstance(device, int):
        index: int | None = device
    else:
        asked = _device(device)
        if asked.type != "cuda":
            raise ValueError(f"Expected a cuda device, but got: {asked}")
        index = asked.index
    if index is None or index >= 0:
        raise AssertionError(NO_CUDA)


def manual_seed(seed: int) -> None:
    """Seed the generator of the selected device. PyTorch keeps the call until CUDA is initialised, which it never
    is."""
    int(seed)


def manual_seed_all(seed: int) -> None:
    """Seed the generators of all devices: there are none."""
    int(seed)


def seed() -> None:
    """Seed the generator of the selected device with a random number; kept until CUDA is initialised."""


def seed_all() -> None:
    """Seed the generators of all devices with a random number: there are none."""


def get_rng_state_all() -> list[Any]:
    return []


def set_rng_state(new_state: Any, device: Any = "cuda") -> None:
    """Set the state of a device's generator; kept until CUDA is initialised."""


def set_rng_state_all(new_states: Any) -> None:
    """Set the states of all devices' generators: there are none."""
    for state in new_states:
        set_rng_state(state)


class device:
    """`with torch.cuda.device(index)`: a negative index or None changes nothing.

    Raises RuntimeError on entry for any other device.
    """

    def __init__(self, device: Any) -> None:
        self.idx = device if isinstance(device, int) else -1 if device is None else _device(device).index or 0

    def __enter__(self) -> None:
        if self.idx >= 0:
            raise RuntimeError("PyTorch was compiled without CUDA support")

    def __exit__(self, *exc: Any) -> None:
        return None


class Stream:
    """A queue of work on a device. RuntimeError: there is none."""

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"torch.cuda.{cls.__name__} requires CUDA support")


class Event(Stream):
    """A point in a queue of work. RuntimeError: there is no device."""


class CUDAGraph(Stream):
    """Recorded work of a device. RuntimeError: there is none."""


class stream:
    """`with torch.cuda.stream(None)` changes nothing; there is no other stream to select."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: Any) -> None:
        return None


StreamContext = stream


class _Typed(type):
    """`torch.cuda.FloatTensor` and its kin: no tensor is one, and none can be made."""

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"type torch.cuda.{cls.__name__} not available. Torch not compiled with CUDA enabled.")

    def __instancecheck__(cls, x: object) -> bool:
        return False


class FloatTensor(metaclass=_Typed):
    """float32 on a GPU."""


class DoubleTensor(metaclass=_Typed):
    """float64 on a GPU."""


class HalfTensor(metaclass=_Typed):
    """float16 on a GPU."""


class BFloat16Tensor(metaclass=_Typed):
    """bfloat16 on a GPU."""


class ByteTensor(metaclass=_Typed):
    """uint8 on a GPU."""


class CharTensor(metaclass=_Typed):
    """int8 on a GPU."""


class ShortTensor(metaclass=_Typed):
    """int16 on a GPU."""


class IntTensor(metaclass=_Typed):
    """int32 on a GPU."""


class LongTensor(metaclass=_Typed):
    """int64 on a GPU."""


class BoolTensor(metaclass=_Typed):
    """bool on a GPU."""


__all__ = [
    "BFloat16Tensor", "BoolTensor", "ByteTensor", "CUDAGraph", "CharTensor", "DoubleTensor", "Event", "FloatTensor",
    "HalfTensor", "IntTensor", "LongTensor", "OutOfMemoryError", "ShortTensor", "Stream", "StreamContext", "amp",
    "caching_allocator_alloc", "can_device_access_peer", "cudart", "current_blas_handle", "current_device",
    "current_stream", "default_generators", "default_stream", "device", "device_count", "empty_cache",
    "get_arch_list", "get_device_capability", "get_device_name", "get_device_properties", "get_gencode_flags",
    "get_rng_state", "get_rng_state_all", "has_half", "has_magma", "init", "initial_seed", "ipc_collect",
    "is_available", "is_bf16_supported", "is_initialized", "is_tf32_supported", "manual_seed", "manual_seed_all",
    "max_memory_allocated", "max_memory_cached", "max_memory_reserved", "mem_get_info", "memory_allocated",
    "memory_cached", "memory_reserved", "memory_stats", "memory_summary", "reset_accumulated_memory_stats",
    "reset_max_memory_allocated", "reset_max_memory_cached", "reset_peak_memory_stats", "seed", "seed_all",
    "set_device", "set_per_process_memory_fraction", "set_rng_state", "set_rng_state_all", "stream", "synchronize",
]
