"""Adafactor: second moments as the product of a row's and a column's mean (Shazeer and Stern, 2018)."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer_matrix as steps
from jtorch.optim.optimizer import check
from jtorch.optim.rule import Found, RuleOptimizer, Scalars, hyperparameters


class Adafactor(RuleOptimizer):
    """Adafactor, with PyTorch's reading of it: `lr` is the bound of the relative step size, and the decoupled weight
    decay is multiplied by it."""

    rule = steps.adafactor_step
    elementwise = False
    scalars = ("lr", "beta2_decay", ("eps", 1), "d")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        check(not isinstance(lr, Tensor) or lr.numel() == 1, "Tensor lr must be 1-element")
        check(isinstance(lr, Tensor) or lr >= 0.0, f"Learning rate should be >= 0 but is: {lr}")
        check(beta2_decay <= 0.0, f"beta2_decay should be <= 0 but is: {beta2_decay}")
        check(eps[0] is None or eps[0] >= 0.0, f"epsilon1 should be >= 0 but is: {eps[0]}")
        check(eps[1] >= 0.0, f"epsilon2 should be >= 0 but is: {eps[1]}")
        check(d >= 1.0, f"Clipping threshold d should be >= 1 but is: {d}")
        check(weight_decay >= 0.0, f"weight_decay should be >= 0 but is: {weight_decay}")
        super().__init__(params, hyperparameters(locals()))

    def buffers_of(self, group: dict[str, Any], p: Tensor) -> tuple[str, ...]:
        return ("row_var", "col_var") if p.ndim > 1 else ("variance",)

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        shape = list(p.shape)
        if name != "variance":
            shape[-1 if name == "row_var" else -2] = 1
        return jtorch.zeros(shape, dtype=p.dtype)

    def scalars_of(self, group: dict[str, Any]) -> Scalars:
        own = () if group["eps"][0] is None else (("eps", 0),)
        return (*super().scalars_of(group), *own)

    def targets(self, group: dict[str, Any], found: Found) -> Iterator[tuple[list[Tensor], Tensor, tuple[Any, ...]]]:
        own = group["eps"][0] is not None
        for (targets, g, flags), (p, _, _) in zip(super().targets(group, found), found):
            if p.is_complex():
                raise RuntimeError("Adafactor does not support complex parameters")
            yield targets, g, (*flags, p.ndim > 1, None if own else jtorch.finfo(p.dtype).eps)
