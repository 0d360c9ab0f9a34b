"""`jtorch.jit`: capture a function, a module or a whole training step as one compiled program."""
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from jtorch.capture.record import current
from jtorch.capture.trace import Traced
from jtorch.errors import TraceError

__all__ = ["TraceError", "TracedModule", "ignore", "is_tracing", "trace"]


class TracedModule:
    """Mixed into the class of a traced module: `forward` runs as compiled programs.

    The traced module shares parameters, buffers and submodules with the original, under the same names.
    """

    _traced: Traced

    @property
    def graph(self) -> Any:
        return self._traced.graph

    @property
    def code(self) -> str:
        return self._traced.code

    @property
    def kernels(self) -> Any:
        return self._traced.kernels

    def explain(self) -> str:
        return self._traced.explain()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._traced(*args, **kwargs)


def trace(func: Any = None, example_inputs: Any = None, **options: Any) -> Any:
    """Compile what `func` does: `@jit.trace`, `@jit.trace(...)`, or `jit.trace(function_or_module, example_inputs)`.

    Programs are made per signature of the call (structure, dtypes and shapes of tensors, values of other arguments,
    grad mode); kernels hold no sizes, so another size makes no new kernel. Everything the function reads and writes is
    captured: parameters, buffers, `.grad`, optimizer state, the random generator. With `example_inputs` (a tensor or a
    tuple) the function is called once at once. PyTorch's options (`check_trace`, `strict`, ...) are accepted; a jtorch
    trace needs none of them.

    Raises TraceError where the function needs a tensor's value (`if x.sum() > 0:`), with the line.
    """
    unknown = set(options) - {"optimize", "check_trace", "check_inputs", "check_tolerance", "strict", "name",
                              "example_kwarg_inputs", "_force_outplace", "_module_class", "_compilation_unit",
                              "_store_inputs"}
    if unknown:
        raise TypeError(f"trace() got an unexpected keyword argument '{sorted(unknown)[0]}'")
    if func is None:
        return lambda f: trace(f, example_inputs, **options)
    traced = traced_module(func, Traced) if hasattr(func, "forward") and hasattr(func, "state_dict") else Traced(
        func, options.get("name"))
    if example_inputs is not None:
        traced(*(example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)))
    return traced


def traced_module(module: Any, made: Callable[..., Traced]) -> Any:
    """A module like this one, with the same parameters, whose forward runs as `made(forward, name)`."""
    kind = type(module)
    result = copy.copy(module)
    result.__class__ = type(kind.__name__, (TracedModule, kind), {"__module__": kind.__module__})
    object.__setattr__(result, "_traced", made(_Forward(result, kind), kind.__name__))
    return result


class _Forward:
    """What the forward of a traced module does: the original class's `forward`, with the traced module's flags."""

    def __init__(self, module: Any, kind: type) -> None:
        self.module = module
        self.forward = module.__dict__.get("forward") or kind.forward.__get__(module)  # type: ignore[attr-defined]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tracing = current.recorder.tracing
        if tracing is not None:
            tracing.saw_module(self.module)
        return self.forward(*args, **kwargs)


def is_tracing() -> bool:
    """Is the code that asks being traced?"""
    return current.recorder.tracing is not None


def ignore(function: Callable[..., Any]) -> Callable[..., Any]:
    """Accepted for PyTorch's sake; a trace follows whatever runs."""
    return function
