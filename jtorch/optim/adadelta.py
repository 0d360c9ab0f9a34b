"""Adadelta."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.optimizer import check
from jtorch.optim.rule import RuleOptimizer, check_lr, check_not_negative, hyperparameters


class Adadelta(RuleOptimizer):
    """Adadelta."""

    rule = steps.adadelta_step
    buffers = ("square_avg", "acc_delta")
    scalars = ("lr", "rho", "eps")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        check(0.0 <= rho <= 1.0, f"Invalid rho value: {rho}")
        check_not_negative(eps=eps, weight_decay=weight_decay)
        super().__init__(params, hyperparameters(locals()))
