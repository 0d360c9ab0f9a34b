"""Parameter and Buffer: tensors that a Module registers when they are assigned to it."""
from __future__ import annotations

from collections import OrderedDict
from typing import Any

from jtorch._tensor import Tensor, set_requires_grad
from jtorch.capture.record import current


def alias(cls: type, data: Tensor, requires_grad: bool) -> Any:
    """A leaf of class `cls` on the memory of `data`, without its history."""
    recorder = current.recorder
    if data._view is not None or data.requires_grad:
        enabled, recorder.grad_enabled = recorder.grad_enabled, False
        try:
            data = data.detach()
        finally:
            recorder.grad_enabled = enabled
    t: Any = object.__new__(cls)
    t._storage, t._type, t._view, t._geometry = data._storage, data._type, data._view, data._geometry
    t._value, t._version, t._epoch, t._requires_grad, t._grad = None, -1, None, False, None
    if requires_grad:
        set_requires_grad(t, True)
    return t


class Parameter(Tensor):
    """A tensor that is a module's parameter: it appears in `parameters()` once assigned to a module."""

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            import jtorch
            data = jtorch.empty(0)
        if not isinstance(data, Tensor):
            raise TypeError("data must be a Tensor or None")
        return alias(cls, data, requires_grad)

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) in memo:
            return memo[id(self)]
        copy = type(self)(self.detach().clone(), self.requires_grad)
        memo[id(self)] = copy
        if self.grad is not None:
            copy.grad = self.grad.detach().clone()
        return copy

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _rebuild_parameter, (self.detach(), self.requires_grad, OrderedDict())


def _rebuild_parameter(data: Tensor, requires_grad: bool, backward_hooks: Any) -> Parameter:
    return Parameter(data, requires_grad)


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not trained; `persistent` ones are in the `state_dict`."""

    __slots__ = ()
    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        if data is None:
            import jtorch
            data = jtorch.empty(0)
        t = alias(cls, data, data.requires_grad)
        t.persistent = persistent
        return t

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        if id(self) not in memo:
            memo[id(self)] = Buffer(self.detach().clone(), persistent=self.persistent)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _rebuild_buffer, (self.detach(), self.persistent)


def _rebuild_buffer(data: Tensor, persistent: bool) -> Buffer:
    return Buffer(data, persistent=persistent)


def is_lazy(param: Any) -> bool:
    """Is this a parameter whose shape is not known yet?"""
    return isinstance(param, (UninitializedParameter, UninitializedBuffer))


class UninitializedParameter(Parameter):
    """A parameter of a lazy module: `materialize(shape)` gives it memory."""

    __slots__ = ()

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> UninitializedParameter:
        import jtorch
        return alias(cls, jtorch.empty(0, dtype=dtype), requires_grad)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        import jtorch
        self.data = jtorch.empty(tuple(shape), dtype=dtype or self.dtype)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]

    cls_to_become = Parameter

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, dtype=self.dtype)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return type(self), (self.requires_grad, None, self.dtype)


class UninitializedBuffer(Tensor):
    """A buffer of a lazy module."""

    __slots__ = ()
    persistent: bool
    cls_to_become = Tensor

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None,
                persistent: bool = True) -> UninitializedBuffer:
        import jtorch
        t = alias(cls, jtorch.empty(0, dtype=dtype), requires_grad)
        t.persistent = persistent
        return t

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    materialize = UninitializedParameter.materialize
    __repr__ = UninitializedParameter.__repr__

