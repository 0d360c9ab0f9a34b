"""Functions of the namespace that are about dtypes, defaults and the process rather than about a tensor's elements."""
from __future__ import annotations

import os
from typing import Any

from jtorch import devices, dtypes
from jtorch._tensor import Tensor, attach, legacy_constructor
from jtorch.capture.record import current
from jtorch.config import config
from jtorch.ops.attach import FUNCTIONS, expose
from jtorch.ops.conversion import TYPE_NAMES


def set_default_dtype(d: dtypes.dtype) -> None:
    if not isinstance(d, dtypes.dtype):
        raise TypeError("invalid dtype object: only floating-point types are supported as the default type")
    if not d.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    recorder = current.recorder
    if recorder.builder.default_float is not d:
        recorder.flush()
        recorder.reset()  # interned calls were promoted with the old default
        recorder.builder.default_float = d


def get_default_dtype() -> dtypes.dtype:
    return current.recorder.builder.default_float


def set_default_tensor_type(t: Any) -> None:
    set_default_dtype(TYPE_NAMES[t] if isinstance(t, str) else t.tensor_dtype)


def synchronize() -> None:
    """Compute everything that is pending."""
    current.recorder.flush()


def set_default_device(device: Any) -> None:
    """Where tensors are made. Only the CPU has a place for them: raises, for another device, as making one would."""
    devices.check(device)


def get_default_device() -> devices.device:
    return devices.cpu


def set_num_threads(n: int) -> None:
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"set_num_threads expects an int, but got {type(n).__name__}")
    if n <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")
    from jtorch.runtime import threads
    threads.set_num_threads(n)


def get_num_threads() -> int:
    from jtorch.runtime import threads
    return threads.get_num_threads()


def get_num_interop_threads() -> int:
    return os.cpu_count() or 1


def promote_types(type1: dtypes.dtype, type2: dtypes.dtype) -> dtypes.dtype:
    return dtypes.promote_types(type1, type2)


def can_cast(from_: dtypes.dtype, to: dtypes.dtype) -> bool:
    return dtypes.can_cast(from_, to)


def result_type(*operands: Any) -> dtypes.dtype:
    """The dtype that an operation on the operands gives."""
    default = get_default_dtype()
    kinds = [(x.dtype, 2 if x.ndim else 1) if isinstance(x, Tensor) else (dtypes.of_scalar(x, default), 0)
             for x in operands]
    return dtypes.result_type(kinds, default)


FUNCTIONS.update(set_default_device=set_default_device, get_default_device=get_default_device)
FUNCTIONS.update(set_default_dtype=set_default_dtype, get_default_dtype=get_default_dtype, result_type=result_type,
                 set_default_tensor_type=set_default_tensor_type, synchronize=synchronize, can_cast=can_cast,
                 set_num_threads=set_num_threads, get_num_threads=get_num_threads, promote_types=promote_types,
                 get_num_interop_threads=get_num_interop_threads)


@expose("typename", method=False)
def typename(obj: Any) -> str:
    if isinstance(obj, Tensor):
        return obj.type()
    module = getattr(obj, "__module__", "")
    name = getattr(obj, "__qualname__", type(obj).__name__)
    return name if module in ("", "builtins", None) else f"{module}.{name}"


class _TypedConstructor(type):
    """`FloatTensor` and its kin: they make tensors of one dtype, and `isinstance` asks for that dtype."""

    tensor_dtype: dtypes.dtype

    def __call__(cls, *args: Any, **kwargs: Any) -> Tensor:
        return legacy_constructor(Tensor, cls.tensor_dtype, *args, **kwargs)

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, Tensor) and x.dtype is cls.tensor_dtype


CONSTRUCTORS: dict[str, Any] = {
    name.removeprefix("torch."): _TypedConstructor(name.removeprefix("torch."), (),
                                                   {"tensor_dtype": d, "__module__": "torch"})
    for name, d in TYPE_NAMES.items()}


def deterministic(mode: bool, *, warn_only: bool = False) -> None:
    """Results do not depend on thread counts in any case; this pins the tier as well."""
    config.deterministic = bool(mode)


def is_deterministic() -> bool:
    return config.deterministic


_precision = "highest"


def set_float32_matmul_precision(precision: str) -> None:
    global _precision
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"Unrecognized float32 matmul precision: {precision}")
    _precision = precision


def get_float32_matmul_precision() -> str:
    return _precision


FUNCTIONS.update(use_deterministic_algorithms=deterministic, are_deterministic_algorithms_enabled=is_deterministic,
                 set_float32_matmul_precision=set_float32_matmul_precision,
                 get_float32_matmul_precision=get_float32_matmul_precision)


attach(layout=property(lambda self: dtypes.LAYOUTS[0]))
