"""Adamax."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.rule import ADAM, RuleOptimizer, check_adam, hyperparameters


class Adamax(RuleOptimizer):
    """Adamax: Adam with the infinity norm."""

    rule = steps.adamax_step
    buffers = ("exp_avg", "exp_inf")
    scalars = ADAM

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_adam(lr, betas, eps, weight_decay)
        super().__init__(params, hyperparameters(locals()))
