"""Adam."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.rule import ADAM, RuleOptimizer, check_adam, check_implementation, hyperparameters


class Adam(RuleOptimizer):
    """Adam; with `decoupled_weight_decay` AdamW."""

    rule = steps.adam_step
    buffers = ("exp_avg", "exp_avg_sq")
    scalars = ADAM
    flags = ("amsgrad", "weight_decay", "decoupled_weight_decay", "maximize")
    _decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_adam(lr, betas, eps, weight_decay)
        check_implementation(foreach, fused, differentiable)
        betas = (betas[0], betas[1])
        super().__init__(params, hyperparameters(locals()))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("amsgrad", False)
            group.setdefault("maximize", False)
            group.setdefault("decoupled_weight_decay", self._decoupled)

    def buffers_of(self, group: dict[str, Any], p: Tensor) -> tuple[str, ...]:
        return (*self.buffers, "max_exp_avg_sq") if group["amsgrad"] else self.buffers
