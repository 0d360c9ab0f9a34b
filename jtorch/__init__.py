"""PyTorch's programming model on a tracing JIT: `import jtorch as torch`."""
import importlib as _importlib
import math as _math
from typing import TYPE_CHECKING

from jtorch import autograd, dtypes
from jtorch._tensor import Size, Tensor
from jtorch.amp.autocast_mode import STATE_FUNCTIONS as _AUTOCAST_STATE
from jtorch.amp.autocast_mode import autocast
from jtorch.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from jtorch.devices import device
from jtorch.dtype_info import finfo, iinfo
from jtorch.dtypes import Layout as layout
from jtorch.dtypes import dtype
from jtorch.errors import OutOfMemoryError
from jtorch.ops import FUNCTIONS as _FUNCTIONS
from jtorch.ops.random import Generator, default_generator
from jtorch.ops.settings import CONSTRUCTORS as _CONSTRUCTORS
from jtorch.printing import get_printoptions, printoptions, set_printoptions
from jtorch.version import __version__

bool, uint8, int8, int16, int32, int64 = (
    dtypes.bool_, dtypes.uint8, dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64)
float16, bfloat16, float32, float64 = dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64
complex64, complex128 = dtypes.complex64, dtypes.complex128
short, int, long, half, float, double = int16, int32, int64, float16, float32, float64
cfloat, cdouble = complex64, complex128

memory_format = layout
pi, e, inf, nan, newaxis = _math.pi, _math.e, _math.inf, _math.nan, None
strided, contiguous_format, preserve_format, channels_last, channels_last_3d = dtypes.LAYOUTS

if TYPE_CHECKING:
    from jtorch._functions import *  # noqa: F403  a stub: tools/stubs.py lists there what follows
    from jtorch.autograd.vmap import vmap as vmap
    from jtorch.compiler import compile as compile
    from jtorch.serialization import load as load
    from jtorch.serialization import save as save
globals().update(_FUNCTIONS)
globals().update(_CONSTRUCTORS)
globals().update(_AUTOCAST_STATE)

_SUBMODULES = frozenset(
    ["nn", "optim", "utils", "jit", "func", "fft", "linalg", "special", "random", "autograd", "cuda", "backends", "amp",
     "distributed", "distributions", "onnx", "hub", "vision", "profiler", "testing", "export", "compiler", "data",
     "return_types", "serialization", "multiprocessing", "version", "signal", "library", "config", "accelerator", "cpu",
     "types", "functional", "masked", "__config__"])


_LATER = {"save": "jtorch.serialization", "load": "jtorch.serialization", "vmap": "jtorch.autograd.vmap",
          "compile": "jtorch.compiler", "GradScaler": "jtorch.amp.grad_scaler"}


def __getattr__(name):
    """Submodules, and functions that few programs need, are imported when they are first named."""
    if name in _LATER:
        return getattr(_importlib.import_module(_LATER[name]), name)
    if name in _SUBMODULES:
        try:
            return _importlib.import_module(f"jtorch.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"jtorch.{name}":
                raise
    if not name.startswith("_"):
        layers = _importlib.import_module("jtorch.nn.functional.natives").NATIVES
        if name in layers:
            globals()[name] = layers[name]
            return layers[name]
    raise AttributeError(f"module 'jtorch' has no attribute '{name}'")


__all__ = [
    "Generator", "OutOfMemoryError", "Size", "Tensor", "autocast", "autograd", "default_generator", "device", "dtype",
    "enable_grad",
    "finfo", "get_printoptions", "iinfo", "inference_mode", "is_grad_enabled", "is_inference_mode_enabled", "no_grad",
    "__version__", "printoptions", "set_grad_enabled", "set_printoptions", *_FUNCTIONS, *_CONSTRUCTORS,
]
