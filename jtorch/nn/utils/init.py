"""Modules whose parameters are not initialised."""
from __future__ import annotations

import inspect
from typing import Any

import jtorch
from jtorch.nn.modules.module import Module


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """A module with parameters of the right shapes and no particular contents, and without a draw from the generator:
    for those that are going to be loaded."""
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    state = jtorch.random.get_rng_state()
    try:
        return module_cls(*args, **kwargs).to_empty(device=kwargs.get("device", "cpu"))
    finally:
        jtorch.random.set_rng_state(state)
