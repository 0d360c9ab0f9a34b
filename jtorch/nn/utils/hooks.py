"""Handles of registered hooks, and the hooks that a module puts on its backward."""
from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from jtorch._tensor import Tensor
from jtorch.autograd import Function

_numbers = itertools.count()


class RemovableHandle:
    """What `register_*_hook` returns; `remove()` takes the hook away. Also a context manager."""

    def __init__(self, hooks_dict: Any, *, extra_dict: Any = None) -> None:
        self.hooks_dict_ref = weakref.ref(hooks_dict)
        self.id = next(_numbers)
        extra = extra_dict if isinstance(extra_dict, list) else [] if extra_dict is None else [extra_dict]
        self.extra_dict = tuple([d for d in extra if d is not None])

    def remove(self) -> None:
        """Take the hook away. Doing so twice is fine."""
        hooks = self.hooks_dict_ref()
        for d in (hooks, *self.extra_dict):
            if d is not None and self.id in d:
                del d[self.id]

    def __getstate__(self) -> tuple:
        return self.hooks_dict_ref(), self.id, self.extra_dict

    def __setstate__(self, state: tuple) -> None:
        from collections import OrderedDict
        hooks, self.id, self.extra_dict = state
        self.hooks_dict_ref = weakref.ref(OrderedDict() if hooks is None else hooks)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


class BackwardHook:
    """Runs a module's backward hooks: two identities, one around its inputs and one around its outputs."""

    def __init__(
        self, module: Any, hooks: Sequence[Callable[..., Any]], pre_hooks: Sequence[Callable[..., Any]]
    ) -> None:
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.grad_outputs: tuple | None = None
        self.inputs_need_grad = False

    def setup_input_hook(self, args: tuple) -> tuple:
        places = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        self.inputs_need_grad = bool(places)
        if not places:
            return args
        count = len(args)

        def after(grads: tuple) -> tuple:
            full: list[Any] = [None] * count
            for i, g in zip(places, grads):
                full[i] = g
            given = tuple(full)
            for hook in self.hooks:
                changed = hook(self.module, given, self.grad_outputs)
                if changed is not None:
                    given = changed if isinstance(changed, tuple) else (changed,)
                    if len(given) != count:
                        raise RuntimeError("Backward hook returned an invalid number of grad_input, "
                                           f"got {len(given)}, but expected {count}")
            return tuple([given[i] for i in places])

        replaced = _identity(tuple([args[i] for i in places]), after)
        result = list(args)
        for i, t in zip(places, replaced):
            result[i] = t
        return tuple(result)

    def setup_output_hook(self, result: Any) -> Any:
        items = result if isinstance(result, tuple) else (result,)
        places = [i for i, a in enumerate(items) if isinstance(a, Tensor) and a.requires_grad]
        if not places:
            return result
        count = len(items)

        def before(grads: tuple) -> tuple:
            full: list[Any] = [None] * count
            for i, g in zip(places, grads):
                full[i] = g
            given = tuple(full)
            for hook in self.pre_hooks:
                changed = hook(self.module, given)
                if changed is not None:
                    given = changed if isinstance(changed, tuple) else (changed,)
                    if len(given) != count:
                        raise RuntimeError("Backward pre hook returned an invalid number of grad_output, "
                                           f"got {len(given)}, but expected {count}")
            self.grad_outputs = given
            if not self.inputs_need_grad:
                for hook in self.hooks:
                    changed = hook(self.module, (), given)
                    if changed is not None and not (isinstance(changed, tuple) and not changed):
                        raise RuntimeError("Backward hook for Modules where no input requires gradient should always "
                                           "return None or None for all gradients.")
            return tuple([given[i] for i in places])

        replaced = _identity(tuple([items[i] for i in places]), before)
        out = list(items)
        for i, t in zip(places, replaced):
            out[i] = t
        if not isinstance(result, tuple):
            return out[0]
        return type(result)(*out) if hasattr(result, "_fields") else tuple(out)


def _identity(tensors: tuple[Tensor, ...], on_gradients: Callable[[tuple], tuple]) -> tuple[Tensor, ...]:
    """The tensors unchanged, as results of one function whose backward passes their gradients through a callback."""
    class Identity(Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            return tuple([t.view_as(t) for t in inputs])

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return on_gradients(grads)

    result = Identity.apply(*tensors)
    return result if isinstance(result, tuple) else (result,)
