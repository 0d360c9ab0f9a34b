"""`torch.version`: what this is, and which PyTorch's interface it follows."""
from __future__ import annotations

__version__ = "0.1.0"
pytorch = "2.13.0"
"""The release of PyTorch whose names, errors and random streams are followed."""

debug = False
cuda: str | None = None
hip: str | None = None
xpu: str | None = None
git_version = "Unknown"
