"""Optimizers whose step is one operation per parameter: from gradient, state and hyperparameters to what is new."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.capture.record import current
from jtorch.ir.primitive import Op
from jtorch.optim.optimizer import Optimizer, check, compute_shared, counter, plain, update, zeros_like
from jtorch.optim.plan import Plan, all_params

Scalars = tuple[str | tuple[str, int], ...]
Found = list[tuple[Tensor, Tensor, dict[str, Any]]]

PLANS = 8
"""How many plans an optimizer keeps: a network that uses its parts in turn has one for each combination of them."""


class RuleOptimizer(Optimizer):
    """An optimizer whose step is one operation per parameter:
    `rule(parameter, *buffers, step, gradient, *scalars)`, with the flags as attributes."""

    rule: Op
    buffers: tuple[str, ...] = ()
    """State in the order of the operation, without the step counter."""
    scalars: Scalars = ("lr",)
    """Hyperparameters that are read at run time; (name, place) is one of a tuple."""
    optional: tuple[str, ...] = ("weight_decay",)
    """Further scalars, which take part where they are not zero."""
    flags: tuple[str, ...] = ("weight_decay", "maximize")
    """Hyperparameters of which only matters whether they are zero."""

    elementwise = True
    """Does the operation treat every element of a parameter alike?"""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients. A `closure` computes the loss (and the gradients) first.

        A first step is recorded, together with the state that comes into being; later ones are one program that is
        not recorded (`Plan`). In a trace, or with a tensor as `lr`, every step is recorded.
        """
        loss = self.run_closure(closure)
        if current.recorder.tracing is not None or not self.run_plan():
            self.record_step()
        return loss

    def run_plan(self) -> bool:
        """Do the step by a plan, unless it is the first of its kind or cannot be planned."""
        plans: dict[tuple[bool, ...], Plan | None] = self.__dict__.setdefault("_plans", {})
        key = tuple([p._grad is None for p in all_params(self)])
        if key not in plans:
            if len(plans) >= PLANS:
                plans.clear()
            plans[key] = None
            return False
        plan = plans[key]
        if plan is None or not plan.holds(self):
            plan = plans[key] = Plan.of(self)
        return plan is not None and plan.run(self)

    def record_step(self) -> None:
        recorder, shared = current.recorder, []
        with jtorch.no_grad():
            recorder.holding += 1  # a flush would leave Values behind in the old epoch
            try:
                for index, group, found in self.updates():
                    scalars = self.read_scalars(index, group)
                    for targets, g, attrs in self.targets(group, found):
                        shared += update(self.rule, targets, (plain(g), *scalars), attrs)
            finally:
                recorder.holding -= 1
            compute_shared(shared)

    def has_state(self, group: dict[str, Any], state: dict[str, Any]) -> bool:
        """Is this the state of a parameter that was updated before?"""
        return bool(state)

    def buffers_of(self, group: dict[str, Any], p: Tensor) -> tuple[str, ...]:
        """The buffers that a parameter of a group has."""
        return self.buffers

    def scalars_of(self, group: dict[str, Any]) -> Scalars:
        """The scalars that take part in updates of a group."""
        return (*self.scalars, *[s for s in self.optional if group[s] != 0])

    def flags_of(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """The attributes of the operation."""
        return tuple([bool(group[f]) for f in self.flags])

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        for name in self.buffers_of(group, p):
            state[name] = self.init_buffer(name, group, p)

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        """The first contents of a buffer."""
        return zeros_like(p)

    def static_facts(self) -> list[Any]:
        """Which scalars take part, and the flags; the scalars themselves are read when the program runs."""
        return [(len(g["params"]), self.scalars_of(g), self.flags_of(g), id(g["lr"]) if isinstance(g["lr"], Tensor)
                 else None) for g in self.param_groups]

    def read_scalars(self, index: int, group: dict[str, Any]) -> list[Any]:
        return [self.scalar(index, s) if isinstance(s, str) else self.scalar(index, *s) for s in self.scalars_of(group)]

    def targets(self, group: dict[str, Any], found: Found) -> Iterator[tuple[list[Tensor], Tensor, tuple[Any, ...]]]:
        """(what the operation renews, the gradient, the attributes) for each parameter."""
        flags = self.flags_of(group)
        for p, g, state in found:
            yield [p, *[state[n] for n in self.buffers_of(group, p)], state["step"]], g, flags


def hyperparameters(arguments: dict[str, Any]) -> dict[str, Any]:
    """The defaults of parameter groups: all arguments of a constructor, but for the parameters."""
    return {k: v for k, v in arguments.items() if k not in ("self", "params", "__class__")}


def check_lr(lr: Any) -> None:
    check(not isinstance(lr, Tensor) or lr.numel() == 1, "Tensor lr must be 1-element")
    check(isinstance(lr, Tensor) or lr >= 0.0, f"Invalid learning rate: {lr}")


def check_not_negative(**values: Any) -> None:
    for name, value in values.items():
        check(value >= 0.0, f"Invalid {'epsilon' if name == 'eps' else name} value: {value}")


def check_adam(lr: Any, betas: Any, eps: float, weight_decay: float) -> None:
    check_lr(lr)
    check_not_negative(eps=eps)
    check(0.0 <= betas[0] < 1.0, f"Invalid beta parameter at index 0: {betas[0]}")
    check(0.0 <= betas[1] < 1.0, f"Invalid beta parameter at index 1: {betas[1]}")
    check_not_negative(weight_decay=weight_decay)


def check_implementation(foreach: bool | None, fused: bool | None, differentiable: bool) -> None:
    """The choice between PyTorch's implementations is accepted; there is one here, which does what `fused` does."""
    if fused:
        if differentiable:
            raise RuntimeError("`fused` does not support `differentiable`")
        if foreach:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


ADAM: Scalars = ("lr", ("betas", 0), ("betas", 1), "eps")
