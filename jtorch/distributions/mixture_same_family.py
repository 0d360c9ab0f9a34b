"""Mixtures of distributions of one family."""
from __future__ import annotations

from typing import Any

import jtorch as torch
from jtorch import Size, Tensor
from jtorch.distributions import constraints
from jtorch.distributions.categorical import Categorical
from jtorch.distributions.distribution import Distribution

__all__ = ["MixtureSameFamily"]


class MixtureSameFamily(Distribution):
    """Components along the last batch dimension of `component_distribution`, chosen by `mixture_distribution`."""

    arg_constraints: Any = {}
    has_rsample = False

    def __init__(self, mixture_distribution: Any, component_distribution: Any, validate_args: bool | None = None
                 ) -> None:
        mixture, component = mixture_distribution, component_distribution
        if not isinstance(mixture, Categorical):
            raise ValueError(" The Mixture distribution needs to be an  instance of torch.distributions.Categorical")
        if not isinstance(component, Distribution):
            raise ValueError("The Component distribution need to be an instance of torch.distributions.Distribution")
        batch = component.batch_shape[:-1]
        for a, b in zip(reversed(mixture.batch_shape), reversed(batch)):
            if 1 not in (a, b) and a != b:
                raise ValueError(f"`mixture_distribution.batch_shape` ({mixture.batch_shape}) is not compatible with "
                                 f"`component_distribution.batch_shape`({batch})")
        count, parts = mixture.logits.shape[-1], component.batch_shape[-1]
        if count != parts:
            raise ValueError(f"`mixture_distribution component` ({count}) does not equal "
                             f"`component_distribution.batch_shape[-1]` ({parts})")
        self._mixture_distribution, self._component_distribution = mixture, component
        self._num_component, self._event_ndims = parts, len(component.event_shape)
        super().__init__(batch, component.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(MixtureSameFamily, _instance)
        component = self._component_distribution.expand((*batch_shape, self._num_component))
        new.__dict__.update(self.__dict__, _batch_shape=Size(batch_shape), _component_distribution=component,
                            _mixture_distribution=self._mixture_distribution.expand(batch_shape))
        return new

    @constraints.dependent_property
    def support(self) -> Any:
        return constraints.MixtureSameFamilyConstraint(self._component_distribution.support)

    @property
    def mixture_distribution(self) -> Categorical:
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Distribution:
        return self._component_distribution

    def _average(self, values: Tensor) -> Tensor:
        """Weighted by the mixture, over the components."""
        return (self._mixture_probs() * values).sum(-1 - self._event_ndims)

    def _mixture_probs(self) -> Tensor:
        return self._pad_mixture_dimensions(self.mixture_distribution.probs)

    @property
    def mean(self) -> Tensor:
        return self._average(self.component_distribution.mean)

    @property
    def variance(self) -> Tensor:
        """The law of total variance."""
        gaps = self.component_distribution.mean - self._pad(self.mean)
        return self._average(self.component_distribution.variance) + self._average(gaps.pow(2.0))

    def cdf(self, x: Tensor) -> Tensor:
        return torch.sum(self.component_distribution.cdf(self._pad(x)) * self.mixture_distribution.probs, -1)

    def log_prob(self, x: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(x)
        parts = self.component_distribution.log_prob(self._pad(x))
        return torch.logsumexp(parts + torch.log_softmax(self.mixture_distribution.logits, -1), -1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            place = len(sample_shape) + len(self.batch_shape)
            chosen = self.mixture_distribution.sample(sample_shape)
            drawn = self.component_distribution.sample(sample_shape)
            chosen = chosen.reshape((*chosen.shape, *[1] * (self._event_ndims + 1)))
            chosen = chosen.expand((*chosen.shape[:place + 1], *self._event_shape))
            return drawn.gather(place, chosen).squeeze(place)

    def _pad(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1 - self._event_ndims)

    def _pad_mixture_dimensions(self, x: Tensor) -> Tensor:
        missing = len(self.batch_shape) - len(self.mixture_distribution.batch_shape)
        lead = 0 if len(self.mixture_distribution.batch_shape) == 0 else missing
        shape = x.shape
        return x.reshape((*shape[:-1], *[1] * lead, *shape[-1:], *[1] * self._event_ndims))

    def __repr__(self) -> str:
        return f"MixtureSameFamily(\n  {self.mixture_distribution!r},\n  {self.component_distribution!r})"
