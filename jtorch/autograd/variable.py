"""`autograd.Variable`, from the days before 0.4: every tensor is one."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor


class _VariableMeta(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)

    def __call__(cls, data: Tensor, requires_grad: bool = False, volatile: bool = False) -> Tensor:
        """A tensor on the same memory without a history, that requires grad if asked to. `volatile` means nothing."""
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        result = data.detach()
        return result.requires_grad_() if requires_grad else result


class Variable(metaclass=_VariableMeta):
    """`Variable(t)` is a tensor like `t`; `isinstance(t, Variable)` is true of all tensors."""
