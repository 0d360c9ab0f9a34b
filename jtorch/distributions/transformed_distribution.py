"""The distribution of a transformed variable."""
from __future__ import annotations

from typing import Any

import jtorch as torch
from jtorch import Size, Tensor
from jtorch.distributions import constraints
from jtorch.distributions.distribution import Distribution
from jtorch.distributions.independent import Independent
from jtorch.distributions.transforms import ComposeTransform, Transform
from jtorch.distributions.utils import sum_rightmost

__all__ = ["TransformedDistribution"]


class TransformedDistribution(Distribution):
    """The distribution of t(x), where x is of `base_distribution` and t one transform or several, one after another."""

    arg_constraints: Any = {}

    def __init__(self, base_distribution: Any, transforms: Any, validate_args: bool | None = None) -> None:
        if isinstance(transforms, Transform):
            self.transforms = [transforms]
        elif isinstance(transforms, list):
            if not all(isinstance(t, Transform) for t in transforms):
                raise ValueError("transforms must be a Transform or a list of Transforms")
            self.transforms = transforms
        else:
            raise ValueError(f"transforms must be a Transform or list, but was {transforms}")
        base = base_distribution
        shape, base_dims = base.batch_shape + base.event_shape, len(base.event_shape)
        whole = ComposeTransform(self.transforms)
        if len(shape) < whole.domain.event_dim:
            raise ValueError(f"base_distribution needs to have shape with size at least {whole.domain.event_dim}, but "
                             f"got {shape}.")
        result = whole.forward_shape(shape)
        wanted = whole.inverse_shape(result)
        if tuple(wanted) != tuple(shape):
            base = base.expand(wanted[:len(wanted) - base_dims])
        more = whole.domain.event_dim - base_dims
        self.base_dist: Any = Independent(base, more) if more > 0 else base
        dims = max(whole.codomain.event_dim, base_dims + whole.codomain.event_dim - whole.domain.event_dim)
        cut = len(result) - dims
        super().__init__(result[:cut], result[cut:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(TransformedDistribution, _instance)
        shape = Size(batch_shape) + self.event_shape
        for t in reversed(self.transforms):
            shape = t.inverse_shape(shape)
        base = self.base_dist.expand(shape[:len(shape) - len(self.base_dist.event_shape)])
        members = {**self.__dict__, "_batch_shape": Size(batch_shape), "base_dist": base}
        for name in self.arg_constraints:
            if name in members:
                members[name] = members[name].expand(batch_shape)
        new.__dict__.update(members)
        return new

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        return super()._get_checked_instance(type(self) if type(self).__module__.startswith("jtorch.") else cls,
                                             _instance)

    @property
    def has_rsample(self) -> bool:
        return self.base_dist.has_rsample

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        if not self.transforms:
            return self.base_dist.support
        support = self.transforms[-1].codomain
        more = len(self.event_shape) - support.event_dim
        return constraints.independent(support, more) if more > 0 else support

    def _forward(self, x: Tensor) -> Tensor:
        for t in self.transforms:
            x = t(x)
        return x

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self._forward(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._forward(self.base_dist.rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        dims, total, y = len(self.event_shape), None, value
        for t in reversed(self.transforms):
            x = t.inv(y)
            dims += t.domain.event_dim - t.codomain.event_dim
            part = sum_rightmost(t.log_abs_det_jacobian(x, y), dims - t.domain.event_dim)
            total = -part if total is None else total - part
            y = x
        base = sum_rightmost(self.base_dist.log_prob(y), dims - len(self.base_dist.event_shape))
        return base if total is None else total + base

    def _monotonize(self, quantile: Tensor) -> Tensor:
        """A quantile of the base as one of the result, or the reverse: 1 - q where the transforms decrease."""
        sign: Any = 1
        for t in self.transforms:
            sign = sign * t.sign
        return quantile if isinstance(sign, int) and sign == 1 else sign * (quantile - 0.5) + 0.5

    def cdf(self, value: Tensor) -> Tensor:
        for t in reversed(self.transforms):
            value = t.inv(value)
        if self._validate_args:
            self.base_dist._validate_sample(value)
        return self._monotonize(self.base_dist.cdf(value))

    def icdf(self, value: Tensor) -> Tensor:
        return self._forward(self.base_dist.icdf(self._monotonize(value)))
