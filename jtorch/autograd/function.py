"""`autograd.Function`: operations with a derivative of the user's own."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.autograd.modes import no_grad
from jtorch.capture.record import current
from jtorch.ir.graph import Value
from jtorch.ir.prims import function as custom
from jtorch.ir.prims.create import constant


class FunctionCtx:
    """What `forward` leaves for `backward`."""

    def __init__(self, function: type[Function], needs: tuple[bool, ...]) -> None:
        self._function = function
        self.needs_input_grad = needs
        self._saved: tuple[Any, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self.materialize_grads = True

    def save_for_backward(self, *tensors: Any) -> None:
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self._saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Nothing to do: values are immutable, so an in-place forward cannot spoil what others saved."""

    def set_materialize_grads(self, value: bool) -> None:
        self.materialize_grads = value


class Function:
    """Base of custom functions: static `forward(ctx, ...)` and `backward(ctx, *grads)`; call with `apply`."""

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError("You must implement either the backward or vjp method for your custom "
                                  "autograd.Function to use it with backward mode AD.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise NotImplementedError("setup_context is not implemented.")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        recorder = current.recorder
        needs = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        ctx = FunctionCtx(cls, needs)
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
        if not any(needs) or not recorder.grad_enabled:
            return result
        outputs = result if isinstance(result, tuple) else (result,)
        places = [i for i, o in enumerate(outputs) if isinstance(o, Tensor)
                  and not any(o is n for n in ctx._non_differentiable)]
        inputs = [a for a in args if isinstance(a, Tensor)]
        number = len(recorder.epoch.functions)
        recorder.epoch.functions.append((ctx, args))
        values = recorder.builder.intern(
            custom.custom_function,
            tuple([recorder.value(outputs[i]) for i in places] + [recorder.value(t) for t in inputs]),
            (len(places), number))
        final = list(outputs)
        for i, v in zip(places, values):
            final[i] = wrap(recorder, v)
            ctx._saved = tuple(final[i] if s is outputs[i] else s for s in ctx._saved)
        return tuple(final) if isinstance(result, tuple) else final[0]


def _custom_derivative(number: int, g: tuple[Value | None, ...], out: tuple[Value, ...],
                       inputs: tuple[Value, ...]) -> list[Value | None]:
    recorder = current.recorder
    ctx, args = recorder.epoch.functions[number]
    grads = []
    for cotangent, o in zip(g, out):
        if cotangent is None and ctx.materialize_grads:
            cotangent = constant(recorder.builder, 0, o.dtype, o.shape)
        grads.append(None if cotangent is None else wrap(recorder, cotangent))
    result = ctx._function.backward(ctx, *grads)
    result = result if isinstance(result, tuple) else (result,)
    if len(result) < len(args):
        raise RuntimeError(f"function {ctx._function.__name__}Backward returned an incorrect number of gradients "
                           f"(expected {len(args)}, got {len(result)})")
    return [None if r is None else recorder.value(r) for r, a in zip(result, args) if isinstance(a, Tensor)]


custom.derivative.append(_custom_derivative)


def once_differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a `backward` that cannot be differentiated again: its results do not require grad."""
    @functools.wraps(function)
    def wrapper(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            return function(ctx, *grads)
    return wrapper
