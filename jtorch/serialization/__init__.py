"""Checkpoints: PyTorch's files, read and written."""
from jtorch.serialization.loading import get_unsafe_globals_in_checkpoint, load
from jtorch.serialization.restricted import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals
from jtorch.serialization.saving import save

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "get_unsafe_globals_in_checkpoint", "load",
           "safe_globals", "save"]
