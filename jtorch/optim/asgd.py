"""ASGD."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.optimizer import counter
from jtorch.optim.rule import RuleOptimizer, check_lr, check_not_negative, hyperparameters


class ASGD(RuleOptimizer):
    """Averaged stochastic gradient descent."""

    rule = steps.asgd_step
    buffers = ("ax", "eta", "mu")
    scalars = ("lr", "lambd", "alpha", "t0")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_lr(lr)
        check_not_negative(weight_decay=weight_decay)
        super().__init__(params, hyperparameters(locals()))

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        first = {"eta": group["lr"], "mu": 1.0}
        return counter(float(first[name])) if name in first else super().init_buffer(name, group, p)
