"""Context managers that set a backend's switches for a while."""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


def flags_of(module: str, **defaults: Any) -> Callable[..., AbstractContextManager[None]]:
    """`flags(enabled=..., ...)` of a backend: sets the module's attributes of these names, and puts them back.

    As in PyTorch an argument that is left out is set to its default, and does not stay as it was.
    """
    names = tuple(defaults)

    @contextmanager
    def flags(*args: Any, **given: Any) -> Iterator[None]:
        unknown = set(given) - set(names)
        if unknown or len(args) > len(names):
            raise TypeError(f"flags() takes {', '.join(names)}" + (f", not {', '.join(unknown)}" if unknown else ""))
        owner = sys.modules[module]
        before = {name: getattr(owner, name) for name in names}
        for name, value in {**defaults, **dict(zip(names, args)), **given}.items():
            setattr(owner, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(owner, name, value)
    return flags
