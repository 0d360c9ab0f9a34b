"""Libraries that jtorch does not use."""
from __future__ import annotations


def is_available() -> bool:
    """Whether operators of this process can use the library: they cannot."""
    return False


def is_built() -> bool:
    """Whether jtorch was made for the library: it was not."""
    return False
