"""Automatic mixed precision: `autocast` and `GradScaler`."""
from jtorch.amp.autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available
from jtorch.amp.grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
