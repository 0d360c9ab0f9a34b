"""Loss scaling: gradients in float16 lose what is small, so the loss is multiplied by a large factor, gradients are
divided by it, and a step whose gradients overflowed is left out."""
from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from typing import Any

import jtorch
from jtorch import dtypes
from jtorch._tensor import Tensor


class OptState(Enum):
    """Where an optimizer is between two updates of the scale."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


class _Optimizer:
    """What the scaler knows of an optimizer since the last update: `found_inf` is 1 if a gradient was not finite."""

    def __init__(self) -> None:
        self.stage = OptState.READY
        self.found_inf: Tensor | None = None


class GradScaler:
    """`scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()`.

    `update` multiplies the scale by `backoff_factor` after a step with an infinite or NaN gradient, and by
    `growth_factor` after `growth_interval` steps without one. `step` reads a value, so it cannot stand in a traced
    function.
    """

    def __init__(self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0,
                 backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True) -> None:
        self._device, self._enabled = device, enabled
        if device == "cuda" and enabled:
            warnings.warn("torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.", stacklevel=2)
            self._enabled = False
        if not self._enabled:
            return
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._init_scale, self._init_growth_tracker = init_scale, 0
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        self._scale: Tensor | None = None  # made when `scale` is first called
        self._growth_tracker: Tensor | None = None  # finite steps since the scale last changed
        self._optimizers: defaultdict[int, _Optimizer] = defaultdict(_Optimizer)

    def scale(self, outputs: Any) -> Any:
        """The tensor, or the tensors of an iterable, times the scale."""
        if not self._enabled:
            return outputs
        if self._scale is None:
            self._scale = jtorch.full((), self._init_scale, dtype=dtypes.float32)
            self._growth_tracker = jtorch.full((), self._init_growth_tracker, dtype=dtypes.int32)
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, (list, tuple)):
            return type(outputs)(self.scale(x) for x in outputs)
        if isinstance(outputs, Iterable):
            return map(self.scale, outputs)
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of the optimizer's parameters by the scale, in place; for clipping between `backward`
        and `step`, which otherwise does it. RuntimeError if it was done already, ValueError for float16 gradients."""
        if not self._enabled:
            return
        scale, _ = self._made("unscale_")
        state = self._optimizers[id(optimizer)]
        if state.stage is OptState.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if state.stage is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        inverse = scale.double().reciprocal().float()
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if any(g.dtype is dtypes.float16 for g in gradients):
            raise ValueError("Attempting to unscale FP16 gradients.")
        with jtorch.no_grad():
            for g in gradients:
                finite = g.isfinite().all()
                state.found_inf = ~finite if state.found_inf is None else state.found_inf | ~finite
                g.mul_(inverse)
        state.stage = OptState.UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step(...)` unless a gradient is infinite or NaN."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._made("step")
        state = self._optimizers[id(optimizer)]
        if state.stage is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if state.stage is OptState.READY:
            self.unscale_(optimizer)
        if state.found_inf is None:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        result = None if state.found_inf.item() else optimizer.step(*args, **kwargs)
        state.stage = OptState.STEPPED
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapt the scale to what `step` found, or set it; begins the next iteration."""
        if not self._enabled:
            return
        scale, tracker = self._made("update")
        with jtorch.no_grad():
            if isinstance(new_scale, Tensor):
                if new_scale.numel() != 1 or new_scale.requires_grad:
                    raise AssertionError("new_scale should be a float or a 1-element torch.cuda.FloatTensor or "
                                         "torch.FloatTensor with requires_grad=False.")
                scale.copy_(new_scale.reshape(()))
            elif new_scale is not None:
                scale.fill_(new_scale)
            else:
                found = [s.found_inf for s in self._optimizers.values() if s.found_inf is not None]
                if not found:
                    raise AssertionError("No inf checks were recorded prior to update.")
                self._adapt(scale, tracker, any(f.item() for f in found))
        self._optimizers = defaultdict(_Optimizer)

    def _adapt(self, scale: Tensor, tracker: Tensor, overflowed: bool) -> None:
        if overflowed:
            scale.mul_(self._backoff_factor)
            tracker.fill_(0)
            return
        steps = int(tracker.item()) + 1
        if steps == self._growth_interval:
            grown = scale * self._growth_factor
            if grown.isfinite().item():
                scale.copy_(grown)
            steps = 0
        tracker.fill_(steps)

    def _made(self, caller: str) -> tuple[Tensor, Tensor]:
        if self._scale is None or self._growth_tracker is None:
            raise AssertionError(f"Attempted {caller} but _scale is None.  This may indicate your script did not use "
                                 "scaler.scale(loss or outputs) earlier in the iteration.")
        return self._scale, self._growth_tracker

    def is_enabled(self) -> bool:
        return self._enabled

    def get_scale(self) -> float:
        """The scale as a number; 1.0 if disabled."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else int(self._growth_tracker.item())

    def get_growth_factor(self) -> float:
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors and counter as numbers; empty if disabled."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor,
                "backoff_factor": self._backoff_factor, "growth_interval": self._growth_interval,
                "_growth_tracker": self._get_growth_tracker()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where `state_dict` was made. RuntimeError for the empty state of a disabled scaler."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance "
                               "of GradScaler.")
        self._init_scale, self._init_growth_tracker = state_dict["scale"], state_dict["_growth_tracker"]
        self._scale = self._growth_tracker = None
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]

    def __getstate__(self) -> dict[str, Any]:
        if not self._enabled:
            return dict(self.__dict__)
        if self._optimizers:
            raise AssertionError("A GradScaler instance may only be pickled at the beginning of an iteration, or at "
                                 "the end after scaler.update().")
        return {**self.__dict__, "_init_scale": self.get_scale(), "_scale": None,
                "_init_growth_tracker": self._get_growth_tracker(), "_growth_tracker": None}
