"""Averages of weights along training: stochastic weight averaging (Izmailov et al., 2018) and exponential ones."""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn.modules.batchnorm import _BatchNorm
from jtorch.nn.modules.module import Module
from jtorch.optim.lr_scheduler.base import LRScheduler, per_group
from jtorch.optim.optimizer import Optimizer

__all__ = ["AveragedModel", "SWALR", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn",
           "get_swa_multi_avg_fn", "update_bn"]

Average = Callable[[Tensor, Tensor, Any], Tensor]
MultiAverage = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The exponential average, of two tensors."""
    _check_decay(decay)

    @jtorch.no_grad()
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param
    return ema_update


def get_swa_avg_fn() -> Average:
    """The mean of all weights so far, of two tensors."""
    @jtorch.no_grad()
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)
    return swa_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """The exponential average, of two lists of tensors, in place."""
    average = get_ema_avg_fn(decay)

    @jtorch.no_grad()
    def ema_update(ema_param_list: Sequence[Tensor], current_param_list: Sequence[Tensor], _: Any) -> None:
        for ours, theirs in zip(ema_param_list, current_param_list):
            if ours.is_floating_point() or ours.is_complex():
                ours.lerp_(theirs, 1 - decay)
            else:
                ours.copy_(average(ours, theirs, _))
    return ema_update


def get_swa_multi_avg_fn() -> MultiAverage:
    """The mean of all weights so far, of two lists of tensors, in place."""
    @jtorch.no_grad()
    def swa_update(averaged_param_list: Sequence[Tensor], current_param_list: Sequence[Tensor],
                   num_averaged: Any) -> None:
        for ours, theirs in zip(averaged_param_list, current_param_list):
            ours.copy_(ours + (theirs - ours) / (num_averaged + 1))
    return swa_update


class AveragedModel(Module):
    """A copy of a model whose parameters are an average of those that `update_parameters` has seen: their mean, or
    what `avg_fn(averaged, current, num_averaged)` or `multi_avg_fn(lists...)` make of them. Buffers are averaged with
    `use_buffers`, otherwise copied."""

    n_averaged: Tensor

    def __init__(self, model: Module, device: Any = None, avg_fn: Average | None = None,
                 multi_avg_fn: MultiAverage | None = None, use_buffers: bool = False) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", jtorch.tensor(0, dtype=jtorch.int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @jtorch.no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the present parameters of `model` into the average."""
        def tensors(m: Module) -> list[Tensor]:
            every = itertools.chain(m.parameters(), m.buffers()) if self.use_buffers else m.parameters()
            return [t.detach() for t in every]
        ours, theirs = tensors(self.module), tensors(model)
        if self.n_averaged == 0:
            for mine, current in zip(ours, theirs):
                mine.copy_(current)
        elif self.avg_fn is not None:
            for mine, current in zip(ours, theirs):
                mine.copy_(self.avg_fn(mine, current, self.n_averaged))
        else:
            average = self.multi_avg_fn or get_swa_multi_avg_fn()
            dtypes = dict.fromkeys(t.dtype for t in ours)  # one call per dtype, as in PyTorch
            for d in dtypes:
                pairs = [(a, b) for a, b in zip(ours, theirs) if a.dtype is d]
                average([a for a, _ in pairs], [b for _, b in pairs], self.n_averaged)
        if not self.use_buffers:
            for mine, current in zip(self.module.buffers(), model.buffers()):
                mine.detach().copy_(current.detach())
        self.n_averaged += 1


@jtorch.no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """The running statistics of batch normalisation anew, as the mean over one pass through `loader` (of which a batch
    that is a list or tuple gives its first entry)."""
    momenta = {}
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            momenta[module] = module.momentum
    if not momenta:
        return
    was_training = model.training
    model.train()
    for module in momenta:
        module.momentum = None
    for batch in loader:
        x = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(x if device is None else x.to(device))
    for module, momentum in momenta.items():
        module.momentum = momentum
    model.train(was_training)


def _linear(t: float) -> float:
    return t


def _cosine(t: float) -> float:
    return (1 - math.cos(math.pi * t)) / 2


class SWALR(LRScheduler):
    """Anneals the learning rate to `swa_lr` over `anneal_epochs`, along a cosine or a line, and stays there."""

    def __init__(self, optimizer: Optimizer, swa_lr: float | Sequence[float], anneal_epochs: int = 10,
                 anneal_strategy: str = "cos", last_epoch: int = -1) -> None:
        for rate, group in zip(per_group("swa_lr", optimizer, swa_lr), optimizer.param_groups):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self._anneal_strategy = anneal_strategy
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, t: float) -> float:
        """How far from the old rate to `swa_lr`, after a fraction `t` of the time."""
        return (_cosine if self._anneal_strategy == "cos" else _linear)(t)

    def get_lr(self) -> list[Any]:
        self._check_call()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        length = max(1, self.anneal_epochs)
        before = self.anneal_func(max(0, min(1, (step - 1) / length)))
        now = self.anneal_func(max(0, min(1, step / length)))
        rates = []
        for group in self.optimizer.param_groups:
            lr, target = group["lr"], group["swa_lr"]
            start = target if before == 1 else (lr - before * target) / (1 - before)
            rates.append(target * now + start * (1 - now))
        return rates
