"""DataParallel without devices to spread over: the module itself, as in a CPU build of PyTorch."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jtorch.nn.modules.module import Module


class DataParallel(Module):
    """The wrapped module, with the prefix `module.` in its `state_dict`. There are no devices to split a batch over: a
    forward uses all cores already. Device arguments are accepted and not used."""

    def __init__(self, module: Module, device_ids: Sequence[Any] | None = None, output_device: Any = None,
                 dim: int = 0) -> None:
        super().__init__()
        self.module = module
        self.device_ids: list[Any] = []

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


def data_parallel(module: Module, inputs: Any, device_ids: Sequence[Any] | None = None, output_device: Any = None,
                  dim: int = 0, module_kwargs: dict[str, Any] | None = None) -> Any:
    """`module(*inputs, **module_kwargs)`."""
    return module(*(inputs if isinstance(inputs, tuple) else (inputs,)), **(module_kwargs or {}))
