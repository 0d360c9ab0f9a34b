"""Exponential families: p(x; theta) = exp(<t(x), theta> - F(theta) + k(x))."""
from __future__ import annotations

from typing import Any

import jtorch as torch
from jtorch import Tensor
from jtorch.distributions.distribution import Distribution

__all__ = ["ExponentialFamily"]


class ExponentialFamily(Distribution):
    """A family that is given by its natural parameters and their log normalizer F. The entropy follows from them
    (Nielsen and Nock, Entropies and cross-entropies of exponential families, 2010)."""

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> Any:
        """The expectation of k(x)."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """F(theta) - <theta, grad F(theta)> - E[k(x)]"""
        result = -self._mean_carrier_measure
        params = [p.detach().requires_grad_() for p in self._natural_params]
        normalizer = self._log_normalizer(*params)
        slopes = torch.autograd.grad(normalizer.sum(), params, create_graph=True)
        result = result + normalizer
        for p, slope in zip(params, slopes):
            result = result - (p * slope).reshape((*self._batch_shape, -1)).sum(-1)
        return result
