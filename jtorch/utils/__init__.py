"""Tools around training (`data`, `checkpoint`, `tensorboard`), memory (`dlpack`) and measuring (`benchmark`)."""
import importlib as _importlib
from types import ModuleType as _ModuleType

from jtorch.utils import data, dlpack, hooks

__all__ = ["data", "dlpack", "hooks"]

_LATER = {"benchmark", "checkpoint", "model_zoo", "tensorboard", "_pytree"}


def __getattr__(name: str) -> _ModuleType:
    """Modules that few programs need are imported when they are first named."""
    if name in _LATER:
        return _importlib.import_module(f"jtorch.utils.{name}")
    raise AttributeError(f"module 'jtorch.utils' has no attribute '{name}'")
