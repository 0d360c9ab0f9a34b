"""What autograd adds to a tensor: `backward`, `grad`, `grad_fn`, hooks."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor, attach
from jtorch.autograd.backward import backward
from jtorch.autograd.node import RetainGrad, ValueHook, grad_fn
from jtorch.capture.cell import Epoch
from jtorch.capture.record import SPENT, current
from jtorch.ir.prims.create import variable

_GRAD_OF_NO_LEAF = (
    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be "
    "populated during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, "
    "use .retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you access the "
    "leaf Tensor instead.")


class RemovableHandle:
    """What `register_hook` returns; `remove()` takes the hook away."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self.id = max(hooks, default=-1) + 1
        self.hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        self.hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


def _register_hook(self: Tensor, hook: Callable[[Tensor], Any]) -> RemovableHandle | ValueHook:
    """Call `hook(grad)` whenever the gradient of this tensor is computed; it may return a replacement."""
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if self._requires_grad:
        return RemovableHandle(self.__dict__.setdefault("_backward_hooks", {}), hook)
    return ValueHook(_hooks_of(self), hook)


def _hooks_of(t: Tensor) -> list[Any]:
    recorder = current.recorder
    v = recorder.value(t)
    cell = t._storage.cell
    if v.op is variable and cell.epoch is not SPENT and isinstance(cell.epoch, Epoch):
        return cell.epoch.hooks.setdefault(cell.value, [])  # type: ignore[arg-type]
    return recorder.epoch.hooks.setdefault(v, [])


def _register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], None]) -> RemovableHandle:
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if not self._requires_grad:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    return RemovableHandle(self.__dict__.setdefault("_post_accumulate_hooks", {}), hook)


def _retain_grad(self: Tensor) -> None:
    """Keep the gradient of a tensor that is no leaf in its `.grad`."""
    if not self.requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if self._requires_grad or self.__dict__.get("_retains_grad"):
        return
    self.__dict__["_retains_grad"] = True
    _hooks_of(self).append(RetainGrad(self))


def _tensor_backward(self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
                     create_graph: bool = False, inputs: Any = None) -> None:
    """`Tensor.backward`."""
    backward(self, None if gradient is None else (gradient,), retain_graph, create_graph, inputs)


def _get_grad(self: Tensor) -> Tensor | None:
    tracing = current.recorder.tracing
    if tracing is not None:
        tracing.saw_grad(self)
    elif self._grad is None and not self._requires_grad and self.requires_grad and not self.__dict__.get(
            "_retains_grad"):
        warnings.warn(_GRAD_OF_NO_LEAF, stacklevel=2)
    return self._grad


def _set_grad(self: Tensor, g: Tensor | None) -> None:
    if g is not None:
        if not isinstance(g, Tensor):
            raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(g).__name__}")
        if g.dtype is not self.dtype:
            raise RuntimeError(f"assigned grad has data of a different type: expected {self.dtype}, got {g.dtype}")
        if g.shape != self.shape:
            raise RuntimeError("assigned grad has data of a different size")
    tracing = current.recorder.tracing
    if tracing is not None:
        tracing.saw_grad(self, read=False)
    self._grad = g


def _del_grad(self: Tensor) -> None:
    _set_grad(self, None)


attach(grad=property(_get_grad, _set_grad, _del_grad))
attach(grad_fn=property(grad_fn))
attach(backward=_tensor_backward)
attach(register_hook=_register_hook)
attach(register_post_accumulate_grad_hook=_register_post_accumulate_grad_hook)
attach(retain_grad=_retain_grad)
attach(retains_grad=property(lambda self: self.__dict__.get("_retains_grad", False)))
