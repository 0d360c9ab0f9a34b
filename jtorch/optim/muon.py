"""Muon: momentum whose matrices are made orthogonal (K. Jordan, kellerjordan.github.io/posts/muon, 2024)."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer_matrix as steps
from jtorch.optim.optimizer import check, zeros_like
from jtorch.optim.rule import Found, RuleOptimizer, Scalars, hyperparameters


class Muon(RuleOptimizer):
    """Muon, for matrices: the update is the momentum made orthogonal by `ns_steps` Newton-Schulz iterations, which run
    in bfloat16 as in PyTorch. Vectors and embeddings belong to another optimizer."""

    rule = steps.muon_step
    elementwise = False
    scalars = ("lr", "weight_decay", "momentum", "eps")
    optional = ()

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        check(not isinstance(lr, Tensor) or lr.numel() == 1, "Tensor lr must be 1-element")
        check(isinstance(lr, Tensor) or lr >= 0.0, f"Learning rate should be >= 0 but is: {lr}")
        check(momentum >= 0.0, f"momentum should be >= 0 but is: {momentum}")
        check(weight_decay >= 0.0, f"weight decay should be >= 0 but is: {weight_decay}")
        check(adjust_lr_fn in (None, "original", "match_rms_adamw"),
              f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, hyperparameters(locals()))
        for group in self.param_groups:
            for p in group["params"]:
                check(p.ndim == 2,
                      f"Muon only supports 2D parameters whereas we found a parameter with size: {p.shape}")

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["momentum_buffer"] = zeros_like(p)

    def scalars_of(self, group: dict[str, Any]) -> Scalars:
        return self.scalars

    def flags_of(self, group: dict[str, Any]) -> tuple[Any, ...]:
        coefficients, n = tuple(group["ns_coefficients"]), group["ns_steps"]
        check(n < 100, "Number of steps must be less than 100 for computational efficiency")
        check(len(coefficients) == 3, "Coefficients must be a tuple of exactly 3 values")
        return bool(group["nesterov"]), coefficients, n, group["adjust_lr_fn"]

    def targets(self, group: dict[str, Any], found: Found) -> Iterator[tuple[list[Tensor], Tensor, tuple[Any, ...]]]:
        nesterov, coefficients, n, adjust = self.flags_of(group)
        for p, g, state in found:
            rows, columns = p.shape
            ratio = 0.2 * math.sqrt(max(rows, columns)) if adjust == "match_rms_adamw" else math.sqrt(
                max(1, rows / columns))
            yield [p, state["momentum_buffer"]], g, (nesterov, coefficients, n, ratio)
