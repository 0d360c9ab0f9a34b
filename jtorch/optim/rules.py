"""The optimizers that go from gradient to parameter in one operation per parameter."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.ir.primitive import Op
from jtorch.optim.optimizer import Optimizer, check, counter, plain, update, zeros_like

Scalars = tuple[str | tuple[str, int], ...]


class _RuleOptimizer(Optimizer):
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

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients. A `closure` computes the loss (and the gradients) first."""
        loss = self.run_closure(closure)
        with jtorch.no_grad():
            for index, group, found in self.updates():
                self.update_group(index, group, found)
        return loss

    def buffers_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The buffers that parameters of a group have."""
        return self.buffers

    def scalars_of(self, group: dict[str, Any]) -> Scalars:
        """The scalars that take part in updates of a group."""
        return (*self.scalars, *[s for s in self.optional if group[s] != 0])

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        for name in self.buffers_of(group):
            state[name] = self.init_buffer(name, group, p)

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        """The first contents of a buffer."""
        return zeros_like(p)

    def static_facts(self) -> list[Any]:
        """Which scalars take part, and the flags; the scalars themselves are read when the program runs."""
        return [(len(g["params"]), self.scalars_of(g), self.read_flags(g), id(g["lr"]) if isinstance(g["lr"], Tensor)
                 else None) for g in self.param_groups]

    def read_scalars(self, index: int, group: dict[str, Any]) -> list[Any]:
        return [self.scalar(index, s) if isinstance(s, str) else self.scalar(index, *s) for s in self.scalars_of(group)]

    def read_flags(self, group: dict[str, Any]) -> tuple[bool, ...]:
        return tuple([bool(group[f]) for f in self.flags])

    def update_group(
        self, index: int, group: dict[str, Any], found: list[tuple[Tensor, Tensor, dict[str, Any]]]
    ) -> None:
        scalars, flags = self.read_scalars(index, group), self.read_flags(group)
        names = (*self.buffers_of(group), "step")
        for p, g, state in found:
            update(self.rule, [p, *[state[n] for n in names]], (plain(g), *scalars), flags)


def _hyperparameters(arguments: dict[str, Any]) -> dict[str, Any]:
    """The defaults of parameter groups: all arguments of a constructor, but for the parameters."""
    return {k: v for k, v in arguments.items() if k not in ("self", "params", "__class__")}


def _check_lr(lr: Any) -> None:
    check(not isinstance(lr, Tensor) or lr.numel() == 1, "Tensor lr must be 1-element")
    check(isinstance(lr, Tensor) or lr >= 0.0, f"Invalid learning rate: {lr}")


def _check_not_negative(**values: Any) -> None:
    for name, value in values.items():
        check(value >= 0.0, f"Invalid {'epsilon' if name == 'eps' else name} value: {value}")


def _check_adam(lr: Any, betas: Any, eps: float, weight_decay: float) -> None:
    _check_lr(lr)
    _check_not_negative(eps=eps)
    check(0.0 <= betas[0] < 1.0, f"Invalid beta parameter at index 0: {betas[0]}")
    check(0.0 <= betas[1] < 1.0, f"Invalid beta parameter at index 1: {betas[1]}")
    _check_not_negative(weight_decay=weight_decay)


_ADAM: Scalars = ("lr", ("betas", 0), ("betas", 1), "eps")


class SGD(_RuleOptimizer):
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
        _check_lr(lr)
        _check_not_negative(momentum=momentum, weight_decay=weight_decay)
        check(
            not nesterov or (momentum > 0 and dampening == 0),
            "Nesterov momentum requires a momentum and zero dampening",
        )
        super().__init__(params, _hyperparameters(locals()))

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        if group["momentum"] != 0:
            state["momentum_buffer"] = None

    def scalars_of(self, group: dict[str, Any]) -> Scalars:
        first, *decay = super().scalars_of(group)
        return (first, "momentum", "dampening", *decay) if group["momentum"] != 0 else (first, *decay)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        scalars, flags = self.read_scalars(index, group), self.read_flags(group)
        for p, g, state in found:
            targets, first = [p], False
            if group["momentum"] != 0:
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = zeros_like(p)
                    first = group["dampening"] != 0  # otherwise the general rule gives the same
                targets.append(state["momentum_buffer"])
            update(self.rule, targets, (plain(g), *scalars), (*flags, first))


class Adam(_RuleOptimizer):
    """Adam; with `decoupled_weight_decay` AdamW."""

    rule = steps.adam_step
    buffers = ("exp_avg", "exp_avg_sq")
    scalars = _ADAM
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
        _check_adam(lr, betas, eps, weight_decay)
        betas = (betas[0], betas[1])
        super().__init__(params, _hyperparameters(locals()))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("amsgrad", False)
            group.setdefault("maximize", False)
            group.setdefault("decoupled_weight_decay", self._decoupled)

    def buffers_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        return (*self.buffers, "max_exp_avg_sq") if group["amsgrad"] else self.buffers


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    _decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused, decoupled_weight_decay=True)


class Adadelta(_RuleOptimizer):
    """Adadelta."""

    rule = steps.adadelta_step
    buffers = ("square_avg", "acc_delta")
    scalars = ("lr", "rho", "eps")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        _check_lr(lr)
        check(0.0 <= rho <= 1.0, f"Invalid rho value: {rho}")
        _check_not_negative(eps=eps, weight_decay=weight_decay)
        super().__init__(params, _hyperparameters(locals()))


class Adagrad(_RuleOptimizer):
    """Adagrad."""

    rule = steps.adagrad_step
    buffers = ("sum",)
    scalars = ("lr", "lr_decay", "eps")

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        _check_lr(lr)
        _check_not_negative(lr_decay=lr_decay, weight_decay=weight_decay,
                            initial_accumulator_value=initial_accumulator_value, eps=eps)
        super().__init__(params, _hyperparameters(locals()))
        for group in self.param_groups:
            for p in group["params"]:
                self.init_state(group, p, self.state[p])

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        return jtorch.full(tuple(p.shape), float(group["initial_accumulator_value"]), dtype=p.dtype)


class RMSprop(_RuleOptimizer):
    """RMSprop, centered or with momentum."""

    rule = steps.rmsprop_step
    scalars = ("lr", "alpha", "eps")
    optional = ("momentum", "weight_decay")
    flags = ("momentum", "centered", "weight_decay", "maximize")

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        _check_lr(lr)
        _check_not_negative(eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, _hyperparameters(locals()))

    def buffers_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("square_avg", *(("momentum_buffer",) if group["momentum"] != 0 else ()),
                *(("grad_avg",) if group["centered"] else ()))


class Adamax(_RuleOptimizer):
    """Adamax: Adam with the infinity norm."""

    rule = steps.adamax_step
    buffers = ("exp_avg", "exp_inf")
    scalars = _ADAM

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        _check_adam(lr, betas, eps, weight_decay)
        super().__init__(params, _hyperparameters(locals()))


class NAdam(_RuleOptimizer):
    """Adam with Nesterov's momentum."""

    rule = steps.nadam_step
    buffers = ("exp_avg", "exp_avg_sq", "mu_product")
    scalars = (*_ADAM, "momentum_decay")
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
        _check_adam(lr, betas, eps, weight_decay)
        _check_not_negative(momentum_decay=momentum_decay)
        super().__init__(params, _hyperparameters(locals()))

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        return counter(1.0) if name == "mu_product" else super().init_buffer(name, group, p)


class RAdam(_RuleOptimizer):
    """Rectified Adam."""

    rule = steps.radam_step
    buffers = ("exp_avg", "exp_avg_sq")
    scalars = _ADAM
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
        _check_adam(lr, betas, eps, weight_decay)
        super().__init__(params, _hyperparameters(locals()))


class Rprop(_RuleOptimizer):
    """Resilient backpropagation."""

    rule = steps.rprop_step
    buffers = ("prev", "step_size")
    scalars = (("etas", 0), ("etas", 1), ("step_sizes", 0), ("step_sizes", 1))
    optional = ()
    flags = ("maximize",)

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        _check_lr(lr)
        check(0.0 < etas[0] < 1.0 < etas[1], f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, _hyperparameters(locals()))

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        if name == "prev":
            return super().init_buffer(name, group, p)
        return jtorch.full(tuple(p.shape), float(group["lr"]), dtype=p.dtype)


class ASGD(_RuleOptimizer):
    """Averaged stochastic gradient descent."""

    rule = steps.asgd_step
    buffers = ("ax", "eta", "mu")
    scalars = ("lr", "lambd", "alpha", "t0")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        _check_lr(lr)
        _check_not_negative(weight_decay=weight_decay)
        super().__init__(params, _hyperparameters(locals()))

    def init_buffer(self, name: str, group: dict[str, Any], p: Tensor) -> Tensor:
        first = {"eta": group["lr"], "mu": 1.0}
        return counter(float(first[name])) if name in first else super().init_buffer(name, group, p)
