"""`torch.signal.windows`: window functions of M samples."""
from jtorch.ops.windows import WINDOWS as _WINDOWS

globals().update(_WINDOWS)
__all__ = sorted(_WINDOWS)
