"""oneDNN."""
from jtorch.backends.absent import is_available
from jtorch.backends.switches import flags_of

enabled = True
deterministic = False
allow_tf32 = True

flags = flags_of(__name__, enabled=enabled, deterministic=deterministic, allow_tf32=allow_tf32)

__all__ = ["flags", "is_available"]
