"""Rprop."""
from __future__ import annotations

from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.optimizer import check
from jtorch.optim.rule import RuleOptimizer, check_lr, hyperparameters


class Rprop(RuleOptimizer):
    """Resilient backpropagation."""

    rule = steps.rprop_step
    buffers = ("prev", "step_size")
    scalars = (("etas", 0), ("etas", 1), ("step_sizes", 0), ("step_sizes", 1))
    optional = ()
    flags = ("maximize",)

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        check(0.0 < etas[0] < 1.0 < etas[1], f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, hyperparameters(locals()))

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        if name == "prev":
            return super().init_buffer(name, group, p)
        return jtorch.full(tuple(p.shape), float(group["lr"]), dtype=p.dtype)
