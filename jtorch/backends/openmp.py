"""OpenMP: jtorch's threads are its own."""
from jtorch.backends.absent import is_available

__all__ = ["is_available"]
