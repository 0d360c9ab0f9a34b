"""`torch.compiler` and `torch.compile`: a function traced where it can be, run as it is where it cannot.

The compiler itself, from a graph to something that runs, is `jtorch.driver`.
"""
from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from jtorch.capture.record import current
from jtorch.capture.signature import Leaf, unflatten
from jtorch.capture.trace import Traced
from jtorch.errors import TraceError
from jtorch.jit import traced_module

__all__ = ["allow_in_graph", "assume_constant_result", "compile", "cudagraph_mark_step_begin", "disable",
           "is_compiling", "is_dynamo_compiling", "is_exporting", "list_backends", "reset", "set_stance"]

_RETRACES = 64
"""Programs of one function after which new kinds of calls run eagerly: some argument changes all the time."""


class Compiled(Traced):
    """A traced function that runs eagerly for calls that cannot be traced; `explain()` tells which and why."""

    alive: weakref.WeakSet[Compiled] = weakref.WeakSet()
    stance = "default"

    def __init__(self, function: Callable[..., Any], name: str | None = None, fullgraph: bool = False) -> None:
        super().__init__(function, name)
        self.fullgraph = fullgraph
        self.eager: set[Any] = set()  # signatures of calls that run eagerly
        Compiled.alive.add(self)

    def bind(self, instance: Any, owner: type | None) -> Traced:
        return Compiled(self.function.__get__(instance, owner), self.name, self.fullgraph)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if Compiled.stance == "force_eager":
            return self.function(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def _capture(self, signature: Any, flat: list[Any], structure: Any, leaves: list[Leaf], keywords: bool) -> Any:
        if Compiled.stance == "fail_on_recompile" and self.variants:
            raise RuntimeError("Detected recompile when torch.compile stance is 'fail_on_recompile': "
                               f"{self.name}, {self.events[-1]}")
        if Compiled.stance == "eager_on_recompile" and self.variants:
            return self._eagerly(flat, structure, keywords)
        if signature in self.eager:
            self.events.pop()
            return self._eagerly(flat, structure, keywords)
        if not self.fullgraph and sum(map(len, self.variants.values())) >= _RETRACES:
            self.events.pop()
            return self._eagerly(flat, structure, keywords)
        try:
            return super()._capture(signature, flat, structure, leaves, keywords)
        except TraceError as error:
            if self.fullgraph:
                raise
            self.eager.add(signature)
            self.events.append(f"runs eagerly: {error}")
        return self._eagerly(flat, structure, keywords)

    def _eagerly(self, flat: list[Any], structure: Any, keywords: bool) -> Any:
        arguments = unflatten(structure, flat)
        args, kwargs = arguments if keywords else (arguments, {})
        return self.function(*args, **kwargs)

    def forget(self) -> None:
        self.variants.clear()
        self.plain.clear()
        self.eager.clear()
        self.aliasing.clear()
        self.failures, self.latest = 0, None


def compile(model: Any = None, *, fullgraph: bool = False, dynamic: bool | None = None, backend: Any = "inductor",
            mode: str | None = None, options: dict[str, Any] | None = None, disable: bool = False) -> Any:
    """`jit.trace` for any function or module: a call that cannot be traced as a whole runs eagerly.

    There are no graph breaks: a call is one program or none. `fullgraph` makes the reason (a Python branch on a
    tensor's value, say) a TraceError instead, raised where a program would otherwise have been made. A module comes
    back as one that shares its parameters under the same names. `dynamic`, `mode` and `options` are accepted: sizes
    compile nothing anyway. `backend` is one of `list_backends()`, or 'eager' for none.
    """
    if model is None:
        return lambda m: compile(m, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options,
                                 disable=disable)
    if mode is not None and options is not None:
        raise RuntimeError("Either mode or options can be specified, but both can't be specified at the same time.")
    if mode not in (None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"):
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: default, reduce-overhead, max-autotune, "
                           "max-autotune-no-cudagraphs")
    if callable(backend):
        raise NotImplementedError("torch.compile(backend=function): there is no torch.fx graph to hand to it")
    if backend not in (*list_backends(), "eager", "aot_eager"):
        raise RuntimeError(f"Invalid backend: {backend!r}, see torch.compiler.list_backends() for available backends.")
    if not callable(model):
        raise TypeError(f"torch.compile expects a function or a module, not {type(model).__name__}")
    if disable or backend in ("eager", "aot_eager"):
        return model
    made = functools.partial(Compiled, fullgraph=fullgraph)
    if hasattr(model, "forward") and hasattr(model, "state_dict"):
        return traced_module(model, made)
    return made(model)


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """`fn`, not compiled by itself. Called from a function that is traced it is part of that trace."""
    if fn is None:
        return lambda f: disable(f, recursive, reason=reason)
    return fn.function if isinstance(fn, Compiled) else fn


def reset() -> None:
    """Forget all programs of compiled functions."""
    for compiled in list(Compiled.alive):
        compiled.forget()
    recorder = current.recorder
    if recorder.knows_values:
        recorder.flush()
        recorder.reset()


def is_compiling() -> bool:
    """Is the code that asks being traced?"""
    return current.recorder.tracing is not None


def is_dynamo_compiling() -> bool:
    """As `is_compiling`."""
    return is_compiling()


def is_exporting() -> bool:
    """Is the code that asks being traced for an export? It is traced in the one way there is, so no."""
    return False


def list_backends(exclude_tags: Any = ("debug", "experimental")) -> list[str]:
    """The names that `compile(backend=)` takes: PyTorch's default, which means jtorch's compiler here."""
    return ["inductor"]


def allow_in_graph(fn: Any) -> Any:
    """`fn`: a trace follows whatever runs."""
    return fn


def assume_constant_result(fn: Any) -> Any:
    """`fn`: what it returns during a trace, other than tensors, is a constant of the program anyway."""
    return fn


def cudagraph_mark_step_begin() -> None:
    """Nothing: programs own no memory between calls."""


class set_stance:
    """What compiled functions do: 'default', 'force_eager' (run as they are), 'eager_on_recompile' or
    'fail_on_recompile' (of a call that would make another program). Acts at once; as a context manager or decorator it
    is undone at the end."""

    def __init__(self, stance: str = "default", *, skip_guard_eval_unsafe: bool = False,
                 force_backend: Any = None) -> None:
        if stance not in ("default", "force_eager", "eager_on_recompile", "fail_on_recompile"):
            raise RuntimeError(f"invalid torch.compile stance '{stance}'")
        self.stance, self.before = stance, Compiled.stance
        Compiled.stance = stance

    def __enter__(self) -> None:
        Compiled.stance = self.stance

    def __exit__(self, *exc: Any) -> None:
        Compiled.stance = self.before

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        Compiled.stance = self.before

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with set_stance(self.stance):
                return fn(*args, **kwargs)
        return wrapper
