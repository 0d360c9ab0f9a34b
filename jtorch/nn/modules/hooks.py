"""Hooks: on every module, and on one module around its call."""
from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor
from jtorch.nn.utils.hooks import BackwardHook, RemovableHandle


class GlobalHooks:
    """Hooks on every module. `used` turns True with the first hook of any kind on any module: until then a call of a
    module is a call of its `forward`."""

    used = False

    def __init__(self) -> None:
        self.forward_pre: OrderedDict[int, Any] = OrderedDict()
        self.forward: OrderedDict[int, Any] = OrderedDict()
        self.forward_with_kwargs: dict[int, bool] = {}
        self.forward_always: dict[int, bool] = {}
        self.backward_pre: OrderedDict[int, Any] = OrderedDict()
        self.backward: OrderedDict[int, Any] = OrderedDict()
        self.buffer: OrderedDict[int, Any] = OrderedDict()
        self.module: OrderedDict[int, Any] = OrderedDict()
        self.parameter: OrderedDict[int, Any] = OrderedDict()


everywhere = GlobalHooks()


def add_hook(hooks: OrderedDict[int, Any], hook: Any, prepend: bool = False,
              flags: tuple[dict[int, bool], ...] = (), extra: Any = ()) -> RemovableHandle:
    everywhere.used = True
    handle = RemovableHandle(hooks, extra_dict=list(extra))
    hooks[handle.id] = hook
    for d in flags:
        d[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def register_module_buffer_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, buffer)` whenever a buffer is registered."""
    return add_hook(everywhere.buffer, hook)


def register_module_module_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, submodule)` whenever a module is registered."""
    return add_hook(everywhere.module, hook)


def register_module_parameter_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, name, parameter)` whenever a parameter is registered."""
    return add_hook(everywhere.parameter, hook)


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, args)` before the forward of every module."""
    return add_hook(everywhere.forward_pre, hook)


def register_module_forward_hook(hook: Callable[..., Any], *, with_kwargs: bool = False,
                                 always_call: bool = False) -> RemovableHandle:
    """Call `hook(module, args, output)` after the forward of every module."""
    flags = (((everywhere.forward_with_kwargs,) if with_kwargs else ())
             + ((everywhere.forward_always,) if always_call else ()))
    return add_hook(everywhere.forward, hook, False, flags, (everywhere.forward_with_kwargs, everywhere.forward_always))


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, grad_output)` before the backward of every module."""
    return add_hook(everywhere.backward_pre, hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(module, grad_input, grad_output)` after the backward of every module."""
    return add_hook(everywhere.backward, hook)


register_module_backward_hook = register_module_full_backward_hook


def changed_or(changed: Any, present: Any) -> Any:
    return present if changed is None else changed


class Hooked:
    """The part of a Module that keeps hooks and runs them around `forward`."""

    forward: Callable[..., Any]
    _backward_hooks: OrderedDict[int, Any]
    _backward_pre_hooks: OrderedDict[int, Any]
    _is_full_backward_hook: bool | None
    _forward_hooks: OrderedDict[int, Any]
    _forward_hooks_with_kwargs: OrderedDict[int, bool]
    _forward_hooks_always_called: OrderedDict[int, bool]
    _forward_pre_hooks: OrderedDict[int, Any]
    _forward_pre_hooks_with_kwargs: OrderedDict[int, bool]

    def _call_with_hooks(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        called: set[int] = set()
        result: Any = None
        try:
            for number, hook in (*everywhere.forward_pre.items(), *self._forward_pre_hooks.items()):
                if number in self._forward_pre_hooks_with_kwargs:
                    changed = hook(self, args, kwargs)
                    if changed is not None:
                        if not (isinstance(changed, tuple) and len(changed) == 2):
                            raise RuntimeError(
                                "forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                                f"but got {changed}."
                            )
                        args, kwargs = changed
                else:
                    changed = hook(self, args)
                    if changed is not None:
                        args = changed if isinstance(changed, tuple) else (changed,)
            after = [*everywhere.backward.values(), *self._backward_hooks.values()]
            before = [*everywhere.backward_pre.values(), *self._backward_pre_hooks.values()]
            backward = BackwardHook(self, after, before) if after or before else None
            if backward is not None:
                args = backward.setup_input_hook(args)
            result = self.forward(*args, **kwargs)
            for number, hook in (*everywhere.forward.items(), *self._forward_hooks.items()):
                if number in self._forward_hooks_always_called or number in everywhere.forward_always:
                    called.add(number)
                if number in self._forward_hooks_with_kwargs or number in everywhere.forward_with_kwargs:
                    result = changed_or(hook(self, args, kwargs, result), result)
                else:
                    result = changed_or(hook(self, args, result), result)
            if backward is not None:
                if not isinstance(result, (Tensor, tuple)):
                    warnings.warn(
                        "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors"
                        f" but received {type(result)}",
                        stacklevel=3,
                    )
                result = backward.setup_output_hook(result)
            return result
        except Exception:
            self._call_always_called(called, args, kwargs, result)
            raise

    def _call_always_called(self, called: set[int], args: tuple, kwargs: dict[str, Any], result: Any) -> None:
        """After an error in `forward`: hooks registered with `always_call` run still; their own errors are warnings."""
        for number, hook in (*everywhere.forward.items(), *self._forward_hooks.items()):
            always = number in self._forward_hooks_always_called or number in everywhere.forward_always
            if not always or number in called:
                continue
            try:
                if number in self._forward_hooks_with_kwargs or number in everywhere.forward_with_kwargs:
                    result = changed_or(hook(self, args, kwargs, result), result)
                else:
                    result = changed_or(hook(self, args, result), result)
            except Exception as e:
                warnings.warn("module forward hook with ``always_call=True`` raised an exception that was silenced as "
                              f"another error was raised in forward: {e}", stacklevel=3)

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False,
                                  with_kwargs: bool = False) -> RemovableHandle:
        """Call `hook(module, args)` (with `kwargs` too, if asked) before `forward`; it may return other arguments."""
        return add_hook(self._forward_pre_hooks, hook, prepend,
                         (self._forward_pre_hooks_with_kwargs,) if with_kwargs else (),
                         (self._forward_pre_hooks_with_kwargs,))

    def register_forward_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:
        """Call `hook(module, args, output)` after `forward`; it may return another output."""
        flags = ((self._forward_hooks_with_kwargs,) if with_kwargs else ()) + (
            (self._forward_hooks_always_called,) if always_call else ())
        return add_hook(self._forward_hooks, hook, prepend, flags,
                         (self._forward_hooks_with_kwargs, self._forward_hooks_always_called))

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` before the backward of this module."""
        return add_hook(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are known."""
        self._one_kind_of_backward_hook(True)
        return add_hook(self._backward_hooks, hook, prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The older form of `register_full_backward_hook`; the hook sees the module's inputs and outputs as a whole."""
        self._one_kind_of_backward_hook(False)
        return add_hook(self._backward_hooks, hook)

    def _one_kind_of_backward_hook(self, full: bool) -> None:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError(
                "Cannot use both regular backward hooks and full backward hooks on a single Module. Please "
                "use only one of them."
            )
        self._is_full_backward_hook = full
