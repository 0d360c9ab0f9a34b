"""The binomial distribution."""
from __future__ import annotations

from typing import Any

import jtorch as torch
from jtorch import Size, Tensor
from jtorch.distributions import constraints
from jtorch.distributions.distribution import Distribution
from jtorch.distributions.utils import ProbsAndLogits, broadcast_all

__all__ = ["Binomial"]


class Binomial(ProbsAndLogits, Distribution):
    """Successes in `total_count` trials."""

    arg_constraints = {"total_count": constraints.nonnegative_integer, "probs": constraints.unit_interval,
                       "logits": constraints.real}
    has_enumerate_support = True

    def __init__(self, total_count: Any = 1, probs: Any = None, logits: Any = None,
                 validate_args: bool | None = None) -> None:
        name, value = self._take(probs, logits)
        count, parameter = broadcast_all(total_count, value)
        self.total_count = count.type_as(parameter)
        setattr(self, name, parameter)
        super().__init__(parameter.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    @property
    def param_shape(self) -> Size:
        return self._param.size()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            return torch.binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """The choices by log gamma, and k logits - n log(1 + exp(logits)) without overflow."""
        if self._validate_args:
            self._validate_sample(value)
        choices = (torch.lgamma(self.total_count + 1) - torch.lgamma(value + 1)
                   - torch.lgamma(self.total_count - value + 1))
        positive = (self.logits.clamp(min=0) + self.logits - self.logits.clamp(max=0)) / 2
        norm = self.total_count * (positive + torch.log1p(torch.exp(-torch.abs(self.logits))))
        return value * self.logits + choices - norm

    def entropy(self) -> Tensor:
        total = int(self.total_count.max())
        if not bool(self.total_count.min() == total):
            raise NotImplementedError("Inhomogeneous total count not supported by `entropy`.")
        log_prob = self.log_prob(self.enumerate_support(False))
        return -(torch.exp(log_prob) * log_prob).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        total = int(self.total_count.max())
        if not bool(self.total_count.min() == total):
            raise NotImplementedError("Inhomogeneous total count not supported by `enumerate_support`.")
        return self._enumerated(torch.arange(1 + total, dtype=self._param.dtype), expand)
