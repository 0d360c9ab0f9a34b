"""RMSprop."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.rule import RuleOptimizer, check_lr, check_not_negative, hyperparameters


class RMSprop(RuleOptimizer):
    """RMSprop, centered or with momentum."""

    rule = steps.rmsprop_step
    scalars = ("lr", "alpha", "eps")
    optional = ("momentum", "weight_decay")
    flags = ("momentum", "centered", "weight_decay", "maximize")

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        check_not_negative(eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, hyperparameters(locals()))

    def buffers_of(self, group: dict[str, Any], p: Tensor) -> tuple[str, ...]:
        return ("square_avg", *(("momentum_buffer",) if group["momentum"] != 0 else ()),
                *(("grad_avg",) if group["centered"] else ()))
