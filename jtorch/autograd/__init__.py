"""Automatic differentiation as PyTorch's users know it.

There is no tape. Values are a pure graph, so the gradient of a loss is a function of the loss's Value: it is
generated once (`ir.passes.autodiff`), remembered under that Value, and found again by the next iteration.
"""
import importlib as _importlib
from typing import Any as _Any

from jtorch.autograd.anomaly_mode import detect_anomaly, set_detect_anomaly
from jtorch.autograd.backward import backward, grad
from jtorch.autograd.function import Function, FunctionCtx, once_differentiable
from jtorch.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from jtorch.autograd.hooks import RemovableHandle
from jtorch.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from jtorch.autograd.variable import Variable

__all__ = [
    "Function", "FunctionCtx", "GradcheckError", "RemovableHandle", "Variable", "backward", "detect_anomaly",
    "enable_grad", "grad", "gradcheck", "gradgradcheck", "inference_mode", "is_grad_enabled",
    "is_inference_mode_enabled", "no_grad", "once_differentiable", "set_detect_anomaly", "set_grad_enabled",
]


def __getattr__(name: str) -> _Any:
    """Modules that few programs need are imported when they are first named."""
    if name in ("profiler", "profiler_util", "forward_ad", "functional", "graph"):
        return _importlib.import_module(f"jtorch.autograd.{name}")
    raise AttributeError(f"module 'jtorch.autograd' has no attribute '{name}'")
