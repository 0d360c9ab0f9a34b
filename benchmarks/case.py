"""What a benchmark case is."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Program:
    """One step of work: `fn(*inputs)`, over and over with the same inputs."""

    fn: Callable[..., Any]
    inputs: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Case:
    """A piece of work that every implementation does.

    Attributes:
        name: its row in the table; `--cases` matches it.
        build: the work written against the torch API; takes the torch-like module.
        build_jax: the same in JAX, by hand: a step that takes nothing and returns when its result is there.
        exportable: inference only, so that ONNX Runtime can take part.
        measure: "call" (steady state), "first" (build, trace, compile and run once) or "import".
        eager_only: the case is about eager overhead; compilers take no part.
        operations: a call's time is divided by this, for cases that are about one operation out of many.
        traffic: bytes that memory has to move at least in a call, for cases that memory bounds.
    """

    name: str
    build: Callable[[Any], Program]
    build_jax: Callable[[], Callable[[], Any]] | None = None
    exportable: bool = False
    measure: str = "call"
    eager_only: bool = False
    operations: int = 1
    traffic: int | None = None
