"""Apple's GPUs."""
from jtorch.backends.absent import is_available, is_built

__all__ = ["is_available", "is_built"]
