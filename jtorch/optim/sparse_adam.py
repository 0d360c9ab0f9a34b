"""SparseAdam: Adam that leaves alone what has no gradient."""
from __future__ import annotations

from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.optimizer import check, counter
from jtorch.optim.rule import ADAM, RuleOptimizer, hyperparameters


class SparseAdam(RuleOptimizer):
    """Adam for the rows (entries of the first axis) that a step has a gradient for; the moments of other rows stay as
    they are. Gradients are dense here, also those of `Embedding(sparse=True)`: a row takes part if its gradient is not
    all zero."""

    rule = steps.sparse_adam_step
    elementwise = False
    buffers = ("exp_avg", "exp_avg_sq")
    scalars = ADAM
    optional = ()
    flags = ("maximize",)

    def __init__(self, params: Any, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, maximize: bool = False) -> None:
        check(not isinstance(lr, Tensor) or lr.numel() == 1, "Tensor lr must be 1-element")
        check(isinstance(lr, Tensor) or lr > 0.0, f"Invalid learning rate: {lr}")
        check(eps > 0.0, f"Invalid epsilon: {eps}")
        check(0.0 <= betas[0] < 1.0, f"Invalid beta parameter at index 0: {betas[0]}")
        check(0.0 <= betas[1] < 1.0, f"Invalid beta parameter at index 1: {betas[1]}")
        super().__init__(params, hyperparameters(locals()))
        wrong = [[i, j] for i, group in enumerate(self.param_groups) for j, p in enumerate(group["params"])
                 if p.is_complex()]
        check(not wrong, f"Complex params at indices {wrong}: SparseAdam does not support complex parameters")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for kept in self.state.values():
            if not isinstance(kept.get("step", 0.0), Tensor):  # PyTorch's is a number
                kept["step"] = counter(float(kept["step"]))
