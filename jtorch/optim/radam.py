"""RAdam."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.rule import ADAM, RuleOptimizer, check_adam, hyperparameters


class RAdam(RuleOptimizer):
    """Rectified Adam."""

    rule = steps.radam_step
    buffers = ("exp_avg", "exp_avg_sq")
    scalars = ADAM
    flags = ("weight_decay", "decoupled_weight_decay", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_adam(lr, betas, eps, weight_decay)
        super().__init__(params, hyperparameters(locals()))
