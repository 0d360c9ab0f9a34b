"""cuDNN."""
from __future__ import annotations

from jtorch.backends.absent import is_available
from jtorch.backends.switches import flags_of

enabled = True
benchmark = False
benchmark_limit: int | None = None
deterministic = False
allow_tf32 = True

flags = flags_of(__name__, enabled=False, benchmark=False, benchmark_limit=10, deterministic=False, allow_tf32=True)


def version() -> int | None:
    """The library's version number: None without it."""
    return None


__all__ = ["flags", "is_available", "version"]
