"""Modules that are imported when something in them is first asked for.

    if TYPE_CHECKING:
        from jtorch import driver
    else:
        driver = lazy_module("jtorch.driver")

For what a process may never need and what would make `import jtorch` slow.
"""
from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """Stands for the module `name`. Holds nothing of it, so that what is replaced in the module is replaced here."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)

    def __repr__(self) -> str:
        return f"<lazy module {self._name}>"


def lazy_module(name: str) -> Any:
    """The module `name`, imported when its first attribute is read."""
    return LazyModule(name)
