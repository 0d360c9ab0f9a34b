"""`torch.utils.hooks`: the handles that `register_*_hook` of modules returns."""
from jtorch.nn.utils.hooks import BackwardHook, RemovableHandle

__all__ = ["BackwardHook", "RemovableHandle"]
