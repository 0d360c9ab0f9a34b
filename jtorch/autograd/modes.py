"""Grad modes: `no_grad`, `enable_grad`, `set_grad_enabled`, `inference_mode`."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from jtorch.capture.record import current


class _GradMode:
    """Context manager and decorator that sets whether operations record gradients."""

    mode = True

    def __init__(self) -> None:
        self._previous: list[bool] = []

    def __enter__(self) -> Any:
        recorder = current.recorder
        self._previous.append(recorder.grad_enabled)
        recorder.grad_enabled = self.mode
        return None

    def __exit__(self, *exc: Any) -> None:
        current.recorder.grad_enabled = self._previous.pop()

    def clone(self) -> _GradMode:
        return type(self)()

    def __call__(self, function: Any) -> Any:
        if inspect.isclass(function):
            kind: Any = function
            kind.__init__ = self(kind.__init__)
            return function
        if inspect.isgeneratorfunction(function):
            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                with self.clone():
                    steps = function(*args, **kwargs)
                    try:
                        item = next(steps)
                    except StopIteration as stop:
                        return stop.value
                while True:
                    try:
                        sent = yield item
                        with self.clone():
                            item = steps.send(sent)
                    except StopIteration as stop:
                        return stop.value
            return generator

        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return function(*args, **kwargs)
        return inner


def _mode_or_decorated(cls: type, function: Callable[..., Any] | None) -> Any:
    """A mode; with a function (`@no_grad` without brackets) the function under that mode."""
    self: Any = object.__new__(cls)
    if function is None:
        return self
    self.__init__()
    return self(function)


class no_grad(_GradMode):
    """`torch.no_grad()`: results do not require grad."""

    mode = False

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return _mode_or_decorated(cls, function)


class enable_grad(_GradMode):
    """`torch.enable_grad()`."""

    mode = True

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return _mode_or_decorated(cls, function)


class set_grad_enabled(_GradMode):
    """`torch.set_grad_enabled(mode)`: acts at once; as a context manager it is undone at the end."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = bool(mode)
        recorder = current.recorder
        self._before = recorder.grad_enabled
        recorder.grad_enabled = self.mode

    def __enter__(self) -> None:
        self._previous.append(self._before)
        current.recorder.grad_enabled = self.mode

    def clone(self) -> _GradMode:
        return set_grad_enabled(self.mode)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        current.recorder.grad_enabled = self._before
        return super().__call__(function)


class inference_mode(_GradMode):
    """`torch.inference_mode()`: `no_grad` for code that will never need gradients."""

    def __init__(self, mode: bool | Callable[..., Any] = True) -> None:
        super().__init__()
        self.inference = bool(mode)
        self.mode = not self.inference and current.recorder.grad_enabled

    def __new__(cls, mode: bool | Callable[..., Any] = True) -> Any:
        return _mode_or_decorated(cls, mode if callable(mode) else None)

    def __enter__(self) -> None:
        super().__enter__()
        recorder = current.recorder
        self._before = recorder.inference
        recorder.inference = self.inference

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        current.recorder.inference = self._before

    def clone(self) -> _GradMode:
        return inference_mode(self.inference)


def is_grad_enabled() -> bool:
    return current.recorder.grad_enabled


def is_inference_mode_enabled() -> bool:
    return current.recorder.inference
