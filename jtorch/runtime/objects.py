"""The built-in functions of the eager path (`objects_ir`), and where instances keep what is in their slots."""
from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import native
from .layout import WORD, ConfWords, WatchWords

_DESCRIBED = 5
"""Words of a slot's descriptor before the address of what describes it: name, type, and the offset (PyMemberDef)."""


def offset(cls: type, name: str) -> int:
    """Bytes from an instance's beginning to the slot of this name. LookupError if that is not to be found."""
    word = ctypes.c_int64.from_address
    described = word(id(cls.__dict__[name]) + _DESCRIBED * WORD).value
    if ctypes.string_at(word(described).value) != name.encode():
        raise LookupError(name)
    found = word(described + 2 * WORD).value
    if not 2 * WORD <= found < cls.__basicsize__:
        raise LookupError(name)
    return found


class Configuration:
    """What the functions work with: the words of `ConfWords`, and the objects whose addresses are among them."""

    def __init__(self, objects: Mapping[int, Any], slots: Mapping[int, tuple[type, str]], words: Mapping[int, int]):
        self.objects = tuple(objects.values())  # kept alive
        self.words = (ctypes.c_int64 * ConfWords.SIZE)()
        for places in ({w: id(o) for w, o in objects.items()}, {w: offset(*s) for w, s in slots.items()}, words):
            for index, word in places.items():
                self.words[index] = word

    def function(self, name: str) -> Callable[..., Any]:
        """One of the functions. The configuration has to live as long as it."""
        return native.load().builtin(name, ctypes.addressof(self.words))


def configuration(objects: Mapping[int, Any], slots: Mapping[int, tuple[type, str]], words: Mapping[int, int]
                  ) -> Configuration | None:
    """None where instances are kept in another way than the functions expect: not CPython, or without its lock."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None
    try:
        return Configuration(objects, slots, words)
    except LookupError:
        return None


class Watch:
    """Words of memory, among them those of objects, that should not change."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.memory: Any = None

    def word(self, address: int, expected: int, mask: int = -1) -> None:
        row = [0] * WatchWords.SIZE
        row[WatchWords.PLACE], row[WatchWords.MASK], row[WatchWords.EXPECTED] = address, mask, expected
        self.rows += row

    def type(self, item: Any) -> None:
        """What is where this object is now is an instance of its type."""
        self.word(id(item) + WORD, id(type(item)))

    def count(self, item: Any, references: int) -> None:
        """There are so many references to it (newer Pythons keep flags above the count)."""
        self.word(id(item), references, 0xFFFFFFFF)

    def build(self) -> Callable[[], int]:
        """A built-in function that looks at the words in the order in which they were given, up to the first that is
        another: 1 if there is none, else 0. This object has to live as long as it."""
        self.memory = words([len(self.rows) // WatchWords.SIZE, *self.rows])
        return native.load().builtin("jt_unchanged", addressof(self.memory))


def words(items: Sequence[int]) -> Any:
    """Words in memory; `addressof` says where."""
    return (ctypes.c_int64 * len(items))(*items)


addressof = ctypes.addressof
