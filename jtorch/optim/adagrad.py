"""Adagrad."""
from __future__ import annotations

from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.rule import RuleOptimizer, check_implementation, check_lr, check_not_negative, hyperparameters


class Adagrad(RuleOptimizer):
    """Adagrad."""

    rule = steps.adagrad_step
    buffers = ("sum",)
    scalars = ("lr", "lr_decay", "eps")

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        check_lr(lr)
        check_not_negative(lr_decay=lr_decay, weight_decay=weight_decay,
                            initial_accumulator_value=initial_accumulator_value, eps=eps)
        check_implementation(foreach, fused, differentiable)
        super().__init__(params, hyperparameters(locals()))
        for group in self.param_groups:
            for p in group["params"]:
                self.init_state(group, p, self.state[p])

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        return jtorch.full(tuple(p.shape), float(group["initial_accumulator_value"]), dtype=p.dtype)
