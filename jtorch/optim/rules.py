"""The optimizers that go from gradient to parameter in one operation per parameter."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.ir.composites import optimizer as steps
from jtorch.optim.optimizer import Optimizer, check, counter, plain, update, zeros_like


class _RuleOptimizer(Optimizer):
    """An optimizer whose step treats each group on its own."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients. A `closure` computes the loss (and the gradients) first."""
        loss = self.run_closure(closure)
        with jtorch.no_grad():
            for index, group, found in self.updates():
                self.update_group(index, group, found)
        return loss

    def update_group(
        self, index: int, group: dict[str, Any], found: list[tuple[Tensor, Tensor, dict[str, Any]]]
    ) -> None:
        raise NotImplementedError

    def scalars(self, index: int, *names: Any) -> list[Any]:
        """Hyperparameters as values; a name may be a pair (name, place in the tuple)."""
        return [self.scalar(index, n) if isinstance(n, str) else self.scalar(index, *n) for n in names]

    def decay(self, index: int, group: dict[str, Any]) -> list[Any]:
        return self.scalars(index, "weight_decay") if group["weight_decay"] != 0 else []


def _check_lr(lr: Any) -> None:
    check(not isinstance(lr, Tensor) or lr.numel() == 1, "Tensor lr must be 1-element")
    check(isinstance(lr, Tensor) or lr >= 0.0, f"Invalid learning rate: {lr}")


def _check_adam(lr: Any, betas: Any, eps: float, weight_decay: float) -> None:
    _check_lr(lr)
    check(eps >= 0.0, f"Invalid epsilon value: {eps}")
    check(0.0 <= betas[0] < 1.0, f"Invalid beta parameter at index 0: {betas[0]}")
    check(0.0 <= betas[1] < 1.0, f"Invalid beta parameter at index 1: {betas[1]}")
    check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")


_BETAS = ("lr", ("betas", 0), ("betas", 1), "eps")


class SGD(_RuleOptimizer):
    """Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay."""

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
        check(momentum >= 0.0, f"Invalid momentum value: {momentum}")
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        check(
            not nesterov or (momentum > 0 and dampening == 0),
            "Nesterov momentum requires a momentum and zero dampening",
        )
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        if group["momentum"] != 0:
            state["momentum_buffer"] = None

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        momentum, wd = group["momentum"] != 0, group["weight_decay"] != 0
        more = self.scalars(index, "lr", *(("momentum", "dampening") if momentum else ())) + self.decay(index, group)
        for p, g, state in found:
            targets, first = [p], False
            if momentum:
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = zeros_like(p)
                    first = group["dampening"] != 0  # otherwise the general rule gives the same
                targets.append(state["momentum_buffer"])
            update(
                steps.sgd_step, targets, (plain(g), *more), (momentum, wd, group["nesterov"], group["maximize"], first)
            )


class Adam(_RuleOptimizer):
    """Adam; with `decoupled_weight_decay` AdamW."""

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
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(betas),
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("amsgrad", False)
            group.setdefault("maximize", False)
            group.setdefault("decoupled_weight_decay", self._decoupled)

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        state["exp_avg"] = zeros_like(p)
        state["exp_avg_sq"] = zeros_like(p)
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_like(p)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        amsgrad = group["amsgrad"]
        attrs = (amsgrad, group["weight_decay"] != 0, group["decoupled_weight_decay"], group["maximize"])
        more = self.scalars(index, *_BETAS) + self.decay(index, group)
        for p, g, s in found:
            targets = [p, s["exp_avg"], s["exp_avg_sq"], s["step"]]
            if amsgrad:
                targets.insert(3, s["max_exp_avg_sq"])
            update(steps.adam_step, targets, (plain(g), *more), attrs)


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
        check(eps >= 0.0, f"Invalid epsilon value: {eps}")
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
                                      "capturable": capturable, "foreach": foreach, "differentiable": differentiable})

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        state["square_avg"] = zeros_like(p)
        state["acc_delta"] = zeros_like(p)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        more = self.scalars(index, "lr", "rho", "eps") + self.decay(index, group)
        for p, g, s in found:
            update(steps.adadelta_step, [p, s["square_avg"], s["acc_delta"], s["step"]], (plain(g), *more),
                   (group["weight_decay"] != 0, group["maximize"]))


class Adagrad(_RuleOptimizer):
    """Adagrad."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        _check_lr(lr)
        check(lr_decay >= 0.0, f"Invalid lr_decay value: {lr_decay}")
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        check(initial_accumulator_value >= 0.0, f"Invalid initial_accumulator_value value: {initial_accumulator_value}")
        check(eps >= 0.0, f"Invalid epsilon value: {eps}")
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused})
        for group in self.param_groups:
            for p in group["params"]:
                self.init_state(group, p, self.state[p])

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        state["sum"] = jtorch.full(tuple(p.shape), float(group["initial_accumulator_value"]), dtype=p.dtype)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        more = self.scalars(index, "lr", "lr_decay", "eps") + self.decay(index, group)
        for p, g, s in found:
            update(steps.adagrad_step, [p, s["sum"], s["step"]], (plain(g), *more),
                   (group["weight_decay"] != 0, group["maximize"]))


class RMSprop(_RuleOptimizer):
    """RMSprop, centered or with momentum."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        _check_lr(lr)
        check(eps >= 0.0, f"Invalid epsilon value: {eps}")
        check(momentum >= 0.0, f"Invalid momentum value: {momentum}")
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        check(alpha >= 0.0, f"Invalid alpha value: {alpha}")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "capturable": capturable,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
            },
        )

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        state["square_avg"] = zeros_like(p)
        if group["momentum"] > 0:
            state["momentum_buffer"] = zeros_like(p)
        if group["centered"]:
            state["grad_avg"] = zeros_like(p)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        momentum = group["momentum"] > 0
        attrs = (momentum, group["centered"], group["weight_decay"] != 0, group["maximize"])
        more = self.scalars(index, "lr", "alpha", "eps", *(("momentum",) if momentum else ())) + self.decay(
            index, group
        )
        for p, g, s in found:
            state = [s[k] for k in ("momentum_buffer", "grad_avg") if k in s]
            update(steps.rmsprop_step, [p, s["square_avg"], *state, s["step"]], (plain(g), *more), attrs)


class Adamax(_RuleOptimizer):
    """Adamax: Adam with the infinity norm."""

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
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "capturable": capturable,
            },
        )

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        state["exp_avg"] = zeros_like(p)
        state["exp_inf"] = zeros_like(p)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        more = self.scalars(index, *_BETAS) + self.decay(index, group)
        for p, g, s in found:
            update(steps.adamax_step, [p, s["exp_avg"], s["exp_inf"], s["step"]], (plain(g), *more),
                   (group["weight_decay"] != 0, group["maximize"]))


class NAdam(_RuleOptimizer):
    """Adam with Nesterov's momentum."""

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
        check(momentum_decay >= 0.0, f"Invalid momentum_decay value: {momentum_decay}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
            },
        )

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        state["mu_product"] = counter(1.0)
        state["exp_avg"] = zeros_like(p)
        state["exp_avg_sq"] = zeros_like(p)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        more = self.scalars(index, *_BETAS, "momentum_decay") + self.decay(index, group)
        for p, g, s in found:
            update(steps.nadam_step, [p, s["exp_avg"], s["exp_avg_sq"], s["mu_product"], s["step"]], (plain(g), *more),
                   (group["weight_decay"] != 0, group["decoupled_weight_decay"], group["maximize"]))


class RAdam(_RuleOptimizer):
    """Rectified Adam."""

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
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "decoupled_weight_decay": decoupled_weight_decay,
                "differentiable": differentiable,
            },
        )

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        state["exp_avg"] = zeros_like(p)
        state["exp_avg_sq"] = zeros_like(p)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        more = self.scalars(index, *_BETAS) + self.decay(index, group)
        for p, g, s in found:
            update(steps.radam_step, [p, s["exp_avg"], s["exp_avg_sq"], s["step"]], (plain(g), *more),
                   (group["weight_decay"] != 0, group["decoupled_weight_decay"], group["maximize"]))


class Rprop(_RuleOptimizer):
    """Resilient backpropagation."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        _check_lr(lr)
        check(0.0 < etas[0] < 1.0 < etas[1], f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(
            params,
            {
                "lr": lr,
                "etas": etas,
                "step_sizes": step_sizes,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "capturable": capturable,
            },
        )

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        state["prev"] = zeros_like(p)
        state["step_size"] = jtorch.full(tuple(p.shape), float(group["lr"]), dtype=p.dtype)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        more = self.scalars(index, ("etas", 0), ("etas", 1), ("step_sizes", 0), ("step_sizes", 1))
        for p, g, s in found:
            update(steps.rprop_step, [p, s["prev"], s["step_size"], s["step"]], (plain(g), *more), (group["maximize"],))


class ASGD(_RuleOptimizer):
    """Averaged stochastic gradient descent."""

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
        check(weight_decay >= 0.0, f"Invalid weight_decay value: {weight_decay}")
        super().__init__(
            params,
            {
                "lr": lr,
                "lambd": lambd,
                "alpha": alpha,
                "t0": t0,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "capturable": capturable,
            },
        )

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = counter()
        state["eta"] = counter(float(group["lr"]))
        state["mu"] = counter(1.0)
        state["ax"] = zeros_like(p)

    def update_group(self, index: int, group: dict[str, Any], found: Any) -> None:
        more = self.scalars(index, "lr", "lambd", "alpha", "t0") + self.decay(index, group)
        for p, g, s in found:
            update(steps.asgd_step, [p, s["ax"], s["eta"], s["mu"], s["step"]], (plain(g), *more),
                   (group["weight_decay"] != 0, group["maximize"]))
