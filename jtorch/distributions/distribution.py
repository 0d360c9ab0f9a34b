"""The base class of distributions."""
from __future__ import annotations

import warnings
from typing import Any

import jtorch as torch
from jtorch import Size, Tensor
from jtorch.distributions import constraints
from jtorch.distributions.utils import lazy_property

__all__ = ["Distribution"]


class Distribution:
    """A batch of distributions over events of one shape.

    A family says in `arg_constraints` which parameters it has; the number of event dimensions of each stands there too,
    and that is all that `expand`, validation and printing need. With `validate_args` (on unless Python runs with -O)
    parameters and values are checked, which needs their data; inside of `jit.trace` nothing is checked.
    """

    has_rsample: Any = False
    has_enumerate_support: Any = False
    arg_constraints: Any = property(lambda self: _missing())
    _validate_args: bool = __debug__

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        if value not in (True, False):
            raise ValueError
        Distribution._validate_args = value

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None) -> None:
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._check_parameters()

    def _check_parameters(self) -> None:
        """ValueError where a parameter is outside of its region."""
        try:
            regions = self.arg_constraints
        except NotImplementedError:
            warnings.warn(f"{type(self)} does not define `arg_constraints`. Please set `arg_constraints = {{}}` or "
                          "initialize the distribution with `validate_args=False` to turn off validation.",
                          stacklevel=4)
            return
        for name, region in regions.items():
            lazy = name not in self.__dict__ and isinstance(getattr(type(self), name, None), lazy_property)
            if lazy or constraints.is_dependent(region):
                continue
            value = getattr(self, name)
            if not holds(region, value):
                raise ValueError(f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value.shape)}) of "
                                 f"distribution {self!r} to satisfy the constraint {region!r}, but found invalid "
                                 f"values:\n{value}")

    # --- shapes --------------------------------------------------------------------------------------------------

    @property
    def batch_shape(self) -> Size:
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        return self._event_shape

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distributions over a larger batch; parameters are expanded, not copied."""
        new = self._get_checked_instance(type(self), _instance)
        batch = Size(batch_shape)
        members = dict(self.__dict__)
        for name, region in self.arg_constraints.items():
            value = members.get(name)
            if isinstance(value, Tensor):
                event = value.shape[value.dim() - (0 if constraints.is_dependent(region) else region.event_dim):]
                members[name] = value.expand((*batch, *event))
        for name in self._nested:
            members[name] = members[name].expand(batch)
        new.__dict__.update(members, _batch_shape=batch, _validate_args=self._validate_args)
        return new

    _nested: tuple[str, ...] = ()  # members that are distributions of the same batch

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        if _instance is None and type(self).__init__ is not cls.__init__:  # type: ignore[misc]
            raise NotImplementedError(f"Subclass {type(self).__name__} of {cls.__name__} that defines a custom "
                                      "__init__ method must also define a custom .expand() method.")
        return type(self).__new__(type(self)) if _instance is None else _instance

    # --- what a family defines -------------------------------------------------------------------------------------

    @property
    def support(self) -> Any:
        """The constraint that samples satisfy."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError

    @property
    def mode(self) -> Tensor:
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self) -> Tensor:
        raise NotImplementedError

    @property
    def stddev(self) -> Tensor:
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Samples of shape `sample_shape + batch_shape + event_shape`, without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Samples that are differentiable in the parameters."""
        raise NotImplementedError

    def sample_n(self, n: int) -> Tensor:
        warnings.warn("`sample_n(n)` will be deprecated. Use `sample((n,))` instead.", FutureWarning, stacklevel=2)
        return self.sample((n,))

    def log_prob(self, value: Tensor) -> Tensor:
        """Logarithm of the density (of the probability, where events are discrete) at `value`."""
        raise NotImplementedError

    def cdf(self, value: Tensor) -> Tensor:
        raise NotImplementedError

    def icdf(self, value: Tensor) -> Tensor:
        raise NotImplementedError

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All events, along dimension 0."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        raise NotImplementedError

    def perplexity(self) -> Tensor:
        return torch.exp(self.entropy())

    # --- help for families -----------------------------------------------------------------------------------------

    def _enumerated(self, values: Tensor, expand: bool) -> Tensor:
        values = values.reshape((-1, *[1] * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values

    def _validate_sample(self, value: Tensor) -> None:
        """ValueError for a value of another shape or outside of the support."""
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        if value.size()[value.dim() - len(self._event_shape):] != self._event_shape:
            raise ValueError(f"The right-most size of value must match event_shape: {value.size()} vs "
                             f"{self._event_shape}.")
        expected = self._batch_shape + self._event_shape
        if any(1 not in (i, j) and i != j for i, j in zip(reversed(value.shape), reversed(expected))):
            raise ValueError(f"Value is not broadcastable with batch_shape+event_shape: {value.size()} vs {expected}.")
        try:
            support = self.support
        except NotImplementedError:
            warnings.warn(f"{type(self)} does not define `support` to enable sample validation. Please initialize the "
                          "distribution with `validate_args=False` to turn off validation.", stacklevel=3)
            return
        if not holds(support, value):
            raise ValueError(f"Expected value argument ({type(value).__name__} of shape {tuple(value.shape)}) to be "
                             f"within the support ({support!r}) of the distribution {self!r}, but found invalid "
                             f"values:\n{value}")

    def __repr__(self) -> str:
        shown = {k: self.__dict__[k] for k in self.arg_constraints if k in self.__dict__}
        parts = [f"{k}: {v if v.numel() == 1 else v.size()}" for k, v in shown.items()]
        return f"{type(self).__name__}({', '.join(parts)})"


def _missing() -> Any:
    raise NotImplementedError


def holds(region: constraints.Constraint, value: Tensor) -> bool:
    """Is every event inside? A trace cannot look at data: there the answer is yes."""
    return torch.jit.is_tracing() or bool(region.check(value.detach()).all())
