"""Dropout in its forms."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.nn import functional as F
from jtorch.nn.modules.module import Module


class _DropoutNd(Module):
    __constants__ = ["p", "inplace"]
    function: Any = None

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if p < 0 or p > 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.p, self.training, self.inplace)


class Dropout(_DropoutNd):
    """Zero elements at random in training."""

    function = staticmethod(F.dropout)


class Dropout1d(_DropoutNd):
    """Zero channels of sequences at random in training."""

    function = staticmethod(F.dropout1d)


class Dropout2d(_DropoutNd):
    """Zero channels of images at random in training."""

    function = staticmethod(F.dropout2d)


class Dropout3d(_DropoutNd):
    """Zero channels of volumes at random in training."""

    function = staticmethod(F.dropout3d)


class AlphaDropout(_DropoutNd):
    """Dropout that keeps mean and variance after SELU."""

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_DropoutNd):
    """Alpha dropout of whole channels."""

    function = staticmethod(F.feature_alpha_dropout)
