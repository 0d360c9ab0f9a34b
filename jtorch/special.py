"""`torch.special`: functions of mathematical physics and of statistics."""
from jtorch.ops.special import SPECIAL as _SPECIAL

globals().update(_SPECIAL)
__all__ = sorted(_SPECIAL)
