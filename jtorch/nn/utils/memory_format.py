"""Memory formats of weights. Tensors have one layout here; which one a kernel works in is the compiler's business."""
from __future__ import annotations

from typing import Any

from jtorch.nn.modules.module import Module


def convert_conv2d_weight_memory_format(module: Module, memory_format: Any) -> Module:
    """The module, unchanged: a weight in another memory format has the same values."""
    return module


def convert_conv3d_weight_memory_format(module: Module, memory_format: Any) -> Module:
    """The module, unchanged: a weight in another memory format has the same values."""
    return module
