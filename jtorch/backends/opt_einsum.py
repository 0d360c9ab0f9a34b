"""The order in which `einsum` contracts. jtorch chooses it itself, with and without the package opt_einsum."""
from __future__ import annotations

from typing import Any

enabled = False
strategy: str | None = None


def is_available() -> bool:
    """Whether `einsum` asks the package opt_einsum."""
    return False


def get_opt_einsum() -> Any:
    return None
