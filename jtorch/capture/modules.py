"""What a traced program takes for granted of the modules that its function called: their mode, and who their members
are. (The contents of parameters and buffers are read when the program runs.)"""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from itertools import chain
from operator import is_
from typing import Any


def _noted(name: str) -> Callable[..., Any]:
    """A method of dict that changes it."""
    method = getattr(dict, name)

    @functools.wraps(method)
    def change(self: Members, *args: Any, **kwargs: Any) -> Any:
        Members.changes += 1
        return method(self, *args, **kwargs)
    return change


class Members(dict[str, Any]):
    """A module's parameters, buffers or submodules by name. All such dicts together count how often one was changed, so
    that nobody has to look through them to see that none was. Pickled it is a plain dict."""

    __slots__ = ()
    changes = 0

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (dict(self),)


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(Members, _name, _noted(_name))


class Modules:
    """Modules that were called, with the training flags that they had, and everything below them as it is now."""

    __slots__ = ("modes", "tables", "lengths", "members", "seen")

    def __init__(self, modes: Iterable[tuple[Any, bool]]) -> None:
        self.modes = list(modes)
        found: dict[int, Any] = {}
        below = [module for module, _ in self.modes]
        while below:
            module = below.pop()
            if module is not None and id(module) not in found:
                found[id(module)] = module
                below += module._modules.values()
        self.tables = [table for m in found.values() for table in (m._parameters, m._buffers, m._modules)]
        self.lengths = list(map(len, self.tables))
        self.members = list(self._present())
        self.seen = -1  # the count of changes at which they were looked through

    def _present(self) -> Iterable[Any]:
        return chain.from_iterable([table.values() for table in self.tables])

    def replaced(self) -> bool:
        """Is a parameter, a buffer or a submodule another object now?"""
        changes = Members.changes
        if self.seen == changes:
            return False
        if list(map(len, self.tables)) != self.lengths or not all(map(is_, self._present(), self.members)):
            return True
        if all(type(table) is Members for table in self.tables):
            self.seen = changes
        return False

    def changed(self) -> str | None:
        """Why the program does not stand for a call now, or None if it does."""
        for module, training in self.modes:
            if module.training is not training:
                return f"{type(module).__name__}.training changed to {module.training}"
        if self.replaced():
            return "a parameter, a buffer or a submodule was replaced"
        return None
