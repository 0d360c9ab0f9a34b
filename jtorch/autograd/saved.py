"""Hooks on tensors that are saved for the backward (`autograd.graph.saved_tensors_hooks`).

The derivatives of operators keep no tensors: what they need is a question of the graph. So the hooks see what custom
functions save.
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor


class _Hooks(threading.local):
    def __init__(self) -> None:
        self.stack: list[tuple[Callable[[Tensor], Any], Callable[[Any], Any]]] = []
        self.refused: list[str] = []


hooks = _Hooks()


class Packed:
    """What a hook made of a saved tensor, and the hook that makes a tensor of it again."""

    __slots__ = ("data", "unpack_hook")

    def __init__(self, data: Any, unpack_hook: Callable[[Any], Any]) -> None:
        self.data, self.unpack_hook = data, unpack_hook

    def unpack(self) -> Tensor:
        t = self.unpack_hook(self.data)
        if not isinstance(t, Tensor):
            raise TypeError(f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                            f"{type(t).__name__}")
        return t


def pack(t: Tensor) -> Packed | None:
    """The tensor as the innermost hooks keep it; None without hooks."""
    if not hooks.stack:
        return None
    pack_hook, unpack_hook = hooks.stack[-1]
    return Packed(pack_hook(t), unpack_hook)
