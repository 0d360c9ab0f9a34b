"""Random numbers that are drawn by rejection: gamma, Dirichlet, Poisson, binomial. The streams are PyTorch's."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.capture.dispatch import Function
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.composites import sampling as formulas
from jtorch.ir.graph import Builder, Value
from jtorch.ir.prims.elementwise import cast_to
from jtorch.ir.prims.random import binomial_draws, poisson_draws
from jtorch.ops.attach import define, expose
from jtorch.ops.random import Generator, draw
from jtorch.views import type_name


def _standard_gamma_body(builder: Builder, state: Value, alpha: Value) -> Any:
    return formulas.standard_gamma(state, alpha)


def _dirichlet_body(builder: Builder, state: Value, alpha: Value) -> Any:
    return formulas.dirichlet(state, alpha)


def _poisson_body(builder: Builder, state: Value, rate: Value) -> Any:
    drawn, after = poisson_draws(state, rate)
    return cast_to(drawn, rate.dtype), after


def _binomial_body(builder: Builder, state: Value, count: Value, prob: Value) -> Any:
    drawn, after = binomial_draws(state, *arith.broadcast((count, prob)))
    return cast_to(drawn, count.dtype), after


def _function(name: str, body: Callable[..., Any]) -> Function:
    body.__name__ = name
    return Function(body)


_GAMMA, _DIRICHLET = _function("_standard_gamma", _standard_gamma_body), _function("_dirichlet", _dirichlet_body)
_POISSON, _BINOMIAL = _function("poisson", _poisson_body), _function("binomial", _binomial_body)


def _check_floating(name: str, t: Tensor) -> None:
    if not t.dtype.is_floating_point:
        raise NotImplementedError(f"\"{name}\" not implemented for '{type_name(t.dtype)}'")


def _check_values(valid: Callable[[], Tensor], message: str) -> None:
    """RuntimeError where values are out of range. A trace cannot look at values."""
    if current.recorder.knows_values and not bool(valid().all()):
        raise RuntimeError(message)


@expose("_standard_gamma")
def _standard_gamma(self: Tensor, generator: Generator | None = None) -> Tensor:
    """Gamma numbers of rate 1, differentiable in the shape."""
    _check_floating("gamma_cpu", self)
    return wrap(current.recorder, draw(_GAMMA, generator, self))


@define("_standard_gamma_grad", out=False)
def _standard_gamma_grad(self: Value, output: Value) -> Value:
    return formulas.gamma_slope(*arith.broadcast((self, output)))


@expose("_sample_dirichlet", method=False)
def _sample_dirichlet(self: Tensor, generator: Generator | None = None) -> Tensor:
    """Dirichlet numbers over the last dimension, differentiable in the concentration."""
    _check_floating("dirichlet", self)
    return wrap(current.recorder, draw(_DIRICHLET, generator, self))


@define("_dirichlet_grad", method=False, out=False)
def _dirichlet_grad(x: Value, alpha: Value, total: Value) -> Value:
    return formulas.dirichlet_slope(*arith.broadcast((x, alpha, total)))


@expose("poisson", method=False)
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson counts of the rates in `input`, in its dtype."""
    _check_floating("poisson_cpu", input)
    rates = input.detach()
    _check_values(lambda: ~(rates < 0), "invalid Poisson rate, expected rate to be non-negative")
    return wrap(current.recorder, draw(_POISSON, generator, rates))


@expose("binomial", method=False)
def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """Successes in `count` trials of probability `prob`, which are of one floating dtype."""
    _check_floating("binomial_cpu", count)
    if count.dtype is not prob.dtype:
        raise RuntimeError(f"Found dtype {type_name(prob.dtype)} but expected {type_name(count.dtype)}")
    return wrap(current.recorder, draw(_BINOMIAL, generator, count.detach(), prob.detach()))
