"""The continuous Bernoulli distribution."""
from __future__ import annotations

import math
from typing import Any

import jtorch as torch
import jtorch.nn.functional as F
from jtorch import Size, Tensor
from jtorch.distributions import constraints
from jtorch.distributions.exp_family import ExponentialFamily
from jtorch.distributions.utils import ProbsAndLogits, broadcast_all, clamp_probs, lazy_property, logits_to_probs

__all__ = ["ContinuousBernoulli"]


class ContinuousBernoulli(ProbsAndLogits, ExponentialFamily):
    """On [0, 1], with density proportional to p^x (1 - p)^(1 - x) (Loaiza-Ganem and Cunningham, The continuous
    Bernoulli, 2019). Within `lims` around p = 1/2 the formulas are Taylor series, where the exact ones cancel."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support: Any = constraints.unit_interval
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501),
                 validate_args: bool | None = None) -> None:
        name, value = self._take(probs, logits)
        (parameter,) = broadcast_all(value)
        if validate_args is not None and name == "probs" and not constraints.unit_interval.check(parameter).all():
            raise ValueError("The parameter probs has invalid values")
        setattr(self, name, clamp_probs(parameter) if name == "probs" else parameter)
        self._lims = lims
        super().__init__(parameter.shape, validate_args=validate_args)

    @lazy_property
    def probs(self) -> Tensor:
        return clamp_probs(logits_to_probs(self.logits, is_binary=True))

    @property
    def param_shape(self) -> Size:
        return self._param.size()

    def _exact(self) -> tuple[Tensor, Tensor]:
        """Where the exact formulas hold, and p with some safe value elsewhere."""
        outside = (self.probs <= self._lims[0]) | (self.probs > self._lims[1])
        return outside, torch.where(outside, self.probs, self._lims[0])

    def _log_norm(self) -> Tensor:
        outside, p = self._exact()
        below, above = torch.where(p <= 0.5, p, 0.0), torch.where(p >= 0.5, p, 1.0)
        exact = torch.log(torch.abs(torch.log1p(-p) - torch.log(p))) - torch.where(
            p <= 0.5, torch.log1p(-2.0 * below), torch.log(2.0 * above - 1.0))
        x = (self.probs - 0.5) ** 2
        return torch.where(outside, exact, math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x)

    @property
    def mean(self) -> Tensor:
        outside, p = self._exact()
        exact = p / (2.0 * p - 1.0) + 1.0 / (torch.log1p(-p) - torch.log(p))
        x = self.probs - 0.5
        return torch.where(outside, exact, 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x ** 2) * x)

    @property
    def variance(self) -> Tensor:
        outside, p = self._exact()
        exact = p * (p - 1.0) / (1.0 - 2.0 * p) ** 2 + 1.0 / (torch.log1p(-p) - torch.log(p)) ** 2
        x = (self.probs - 0.5) ** 2
        return torch.where(outside, exact, 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(torch.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none") + self._log_norm()

    def cdf(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        outside, p = self._exact()
        exact = (p ** value * (1.0 - p) ** (1.0 - value) + p - 1.0) / (2.0 * p - 1.0)
        return torch.where(outside, exact, value).masked_fill(value <= 0.0, 0.0).masked_fill(value >= 1.0, 1.0)

    def icdf(self, value: Tensor) -> Tensor:
        outside, p = self._exact()
        exact = (torch.log1p(-p + value * (2.0 * p - 1.0)) - torch.log1p(-p)) / (torch.log(p) - torch.log1p(-p))
        return torch.where(outside, exact, value)

    def entropy(self) -> Tensor:
        zero, one = torch.log1p(-self.probs), torch.log(self.probs)
        return self.mean * (zero - one) - self._log_norm() - zero

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return (self.logits,)

    def _log_normalizer(self, x: Tensor) -> Tensor:  # type: ignore[override]
        outside = (x <= self._lims[0] - 0.5) | (x > self._lims[1] - 0.5)
        safe = torch.where(outside, x, self._lims[0] - 0.5)
        exact = torch.log(torch.abs(torch.expm1(safe))) - torch.log(torch.abs(safe))
        return torch.where(outside, exact, 0.5 * x + x ** 2 / 24.0 - x ** 4 / 2880.0)
