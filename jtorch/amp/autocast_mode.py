"""`torch.autocast`, and the state that it sets.

What autocast does to an operator stands in `capture.autocast`: PyTorch's lists for the CPU. The state belongs to a
thread. A weight that several operators use is converted once in any case (equal expressions are one value), so
`cache_enabled` is kept and changes nothing.
"""
from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.autocast import HALVES
from jtorch.capture.record import current
from jtorch.devices import TYPES
from jtorch.dtypes import dtype

AVAILABLE = ("cpu", "cuda")


class _State(threading.local):
    """For each kind of device: whether autocast is on (the CPU's is the recorder's), and its dtype."""

    def __init__(self) -> None:
        self.dtype = {"cpu": dtypes.bfloat16, "cuda": dtypes.float16}
        self.cuda_enabled = False
        self.cache_enabled = True


_state = _State()


def is_autocast_available(device_type: str) -> bool:
    """Whether `autocast(device_type)` can be asked for; for 'cuda' it can, and warns that there is no device."""
    _check_type(device_type)
    return device_type in AVAILABLE


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether operators on the device are autocast now."""
    _check_type(device_type)
    return current.recorder.autocast is not None if device_type == "cpu" else _state.cuda_enabled


def set_autocast_enabled(device_type: str | bool, enabled: bool | None = None) -> None:
    """Switch autocast for a kind of device; `set_autocast_enabled(flag)` is CUDA's, from older releases."""
    kind, flag = ("cuda", device_type) if isinstance(device_type, bool) else (device_type, enabled)
    _check_type(kind)
    if kind == "cpu":
        current.recorder.set_autocast(_state.dtype["cpu"] if flag else None)
    else:
        _state.cuda_enabled = bool(flag)


def get_autocast_dtype(device_type: str) -> dtype:
    """What autocast lowers to on the device. RuntimeError if it knows no autocast."""
    _check_type(device_type)
    if device_type not in _state.dtype:
        raise RuntimeError(f"unsupported scalarType for autocast on device '{device_type}'")
    return _state.dtype[device_type]


def set_autocast_dtype(device_type: str, dtype: dtype) -> None:
    """Choose what autocast lowers to on the device."""
    get_autocast_dtype(device_type)
    _state.dtype[device_type] = dtype
    if device_type == "cpu" and current.recorder.autocast is not None:
        current.recorder.set_autocast(dtype)


def is_autocast_cpu_enabled() -> bool:
    return is_autocast_enabled("cpu")


def set_autocast_cpu_enabled(enabled: bool) -> None:
    set_autocast_enabled("cpu", enabled)


def get_autocast_cpu_dtype() -> dtype:
    return get_autocast_dtype("cpu")


def set_autocast_cpu_dtype(dtype: dtype) -> None:
    set_autocast_dtype("cpu", dtype)


def get_autocast_gpu_dtype() -> dtype:
    return get_autocast_dtype("cuda")


def set_autocast_gpu_dtype(dtype: dtype) -> None:
    set_autocast_dtype("cuda", dtype)


def is_autocast_cache_enabled() -> bool:
    return _state.cache_enabled


def set_autocast_cache_enabled(enabled: bool) -> None:
    _state.cache_enabled = enabled


def clear_autocast_cache() -> None:
    """Forget converted weights: none are kept beyond a program."""


class autocast:
    """Context manager and decorator: operators run in the precision that PyTorch's lists give them.

    Warns, and does nothing, for a dtype that is not bfloat16 or float16, and for 'cuda' (there is no device).
    RuntimeError for a kind of device that knows no autocast.
    """

    def __init__(self, device_type: str, dtype: dtype | None = None, enabled: bool = True,
                 cache_enabled: bool | None = None) -> None:
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if not is_autocast_available(device_type):
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        self.device = device_type
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = is_autocast_cache_enabled() if cache_enabled is None else cache_enabled
        if enabled and device_type == "cuda":
            warnings.warn("CUDA is not available or torch_xla is imported. Disabling autocast.", stacklevel=2)
            enabled = False
        elif enabled and self.fast_dtype not in HALVES:
            warnings.warn("In CPU autocast, but the target dtype is not supported. Disabling autocast.\nCPU Autocast "
                          "only supports dtypes of torch.bfloat16, torch.float16 currently.", stacklevel=2)
            enabled = False
        self._enabled = enabled
        self._before: list[tuple[bool, Any, bool]] = []

    def __enter__(self) -> autocast:
        self._before.append((is_autocast_enabled(self.device), get_autocast_dtype(self.device),
                             is_autocast_cache_enabled()))
        set_autocast_dtype(self.device, self.fast_dtype)
        set_autocast_enabled(self.device, self._enabled)
        set_autocast_cache_enabled(self._cache_enabled)
        return self

    def __exit__(self, *exc: Any) -> None:
        enabled, before, cached = self._before.pop()
        set_autocast_dtype(self.device, before)
        set_autocast_enabled(self.device, enabled)
        set_autocast_cache_enabled(cached)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def autocast_function(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)
        return autocast_function


def custom_fwd(fwd: Callable[..., Any] | None = None, *, device_type: str, cast_inputs: dtype | None = None) -> Any:
    """Decorator of an `autograd.Function`'s forward: it runs under the caller's autocast, or, with `cast_inputs`,
    without it and with its floating point arguments (float64 excepted) converted."""
    _check_str(device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        enabled = is_autocast_enabled(device_type)
        ctx._dtype = get_autocast_dtype(device_type)
        ctx._fwd_used_autocast = enabled and cast_inputs is None
        if cast_inputs is None or not enabled:
            return fwd(ctx, *args, **kwargs)
        with autocast(device_type, enabled=False):
            return fwd(ctx, *_converted(args, cast_inputs), **_converted(kwargs, cast_inputs))
    return decorated


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str) -> Any:
    """Decorator of an `autograd.Function`'s backward: it runs under the autocast that its forward ran under."""
    _check_str(device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, dtype=ctx._dtype, enabled=ctx._fwd_used_autocast):
            return bwd(ctx, *args, **kwargs)
    return decorated


def _converted(x: Any, target: dtype) -> Any:
    """Floating point tensors in nested containers as `target`; float64 stays."""
    if isinstance(x, Tensor):
        return x.to(target) if x.is_floating_point() and x.dtype is not dtypes.float64 else x
    if isinstance(x, dict):
        return {key: _converted(value, target) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(_converted(item, target) for item in x)
    return x


def _check_str(device_type: object) -> None:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")


def _check_type(device_type: str) -> None:
    if device_type not in TYPES:
        raise RuntimeError(f"Expected one of {', '.join(TYPES)} device type at start of device string: {device_type}")


STATE_FUNCTIONS = {f.__name__: f for f in (
    is_autocast_enabled, set_autocast_enabled, get_autocast_dtype, set_autocast_dtype, is_autocast_cpu_enabled,
    set_autocast_cpu_enabled, get_autocast_cpu_dtype, set_autocast_cpu_dtype, get_autocast_gpu_dtype,
    set_autocast_gpu_dtype, is_autocast_cache_enabled, set_autocast_cache_enabled, clear_autocast_cache)}
"""What the namespace `torch` has of these."""
