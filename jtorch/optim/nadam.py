"""NAdam."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.optimizer import counter
from jtorch.optim.rule import ADAM, RuleOptimizer, check_adam, check_not_negative, hyperparameters


class NAdam(RuleOptimizer):
    """Adam with Nesterov's momentum."""

    rule = steps.nadam_step
    buffers = ("exp_avg", "exp_avg_sq", "mu_product")
    scalars = (*ADAM, "momentum_decay")
    flags = ("weight_decay", "decoupled_weight_decay", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_adam(lr, betas, eps, weight_decay)
        check_not_negative(momentum_decay=momentum_decay)
        super().__init__(params, hyperparameters(locals()))

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        return counter(1.0) if name == "mu_product" else super().init_buffer(name, group, p)
