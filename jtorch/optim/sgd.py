"""Stochastic gradient descent."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.optimizer import check, zeros_like
from jtorch.optim.rule import (
    Found,
    RuleOptimizer,
    Scalars,
    check_implementation,
    check_lr,
    check_not_negative,
    hyperparameters,
)


class SGD(RuleOptimizer):
    """Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay."""

    rule = steps.sgd_step
    flags = ("momentum", "weight_decay", "nesterov", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_not_negative(momentum=momentum, weight_decay=weight_decay)
        check(
            not nesterov or (momentum > 0 and dampening == 0),
            "Nesterov momentum requires a momentum and zero dampening",
        )
        check_implementation(foreach, fused, differentiable)
        super().__init__(params, hyperparameters(locals()))

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        if group["momentum"] != 0:
            state["momentum_buffer"] = None

    def has_state(self, group: dict[str, Any], state: dict[str, Any]) -> bool:
        return group["momentum"] == 0 or state.get("momentum_buffer") is not None

    def scalars_of(self, group: dict[str, Any]) -> Scalars:
        first, *decay = super().scalars_of(group)
        return (first, "momentum", "dampening", *decay) if group["momentum"] != 0 else (first, *decay)

    def targets(self, group: dict[str, Any], found: Found) -> Iterator[tuple[list[Tensor], Tensor, tuple[Any, ...]]]:
        flags = self.flags_of(group)
        for p, g, state in found:
            targets, first = [p], False
            if group["momentum"] != 0:
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = zeros_like(p)
                    first = group["dampening"] != 0  # otherwise the general rule gives the same
                targets.append(state["momentum_buffer"])
            yield targets, g, (*flags, first)
