"""Kullback-Leibler divergences of pairs of families."""
from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import jtorch as torch
from jtorch import Tensor
from jtorch.distributions.bernoulli import Bernoulli
from jtorch.distributions.beta import Beta
from jtorch.distributions.binomial import Binomial
from jtorch.distributions.categorical import Categorical
from jtorch.distributions.cauchy import Cauchy
from jtorch.distributions.continuous_bernoulli import ContinuousBernoulli
from jtorch.distributions.dirichlet import Dirichlet
from jtorch.distributions.distribution import Distribution
from jtorch.distributions.exp_family import ExponentialFamily
from jtorch.distributions.exponential import Exponential
from jtorch.distributions.gamma import Gamma
from jtorch.distributions.geometric import Geometric
from jtorch.distributions.gumbel import Gumbel
from jtorch.distributions.half_normal import HalfNormal
from jtorch.distributions.independent import Independent
from jtorch.distributions.laplace import Laplace
from jtorch.distributions.lowrank_multivariate_normal import LowRankMultivariateNormal, mahalanobis
from jtorch.distributions.multivariate_normal import MultivariateNormal, batch_mahalanobis, log_diagonal
from jtorch.distributions.normal import Normal
from jtorch.distributions.one_hot_categorical import OneHotCategorical
from jtorch.distributions.pareto import Pareto
from jtorch.distributions.poisson import Poisson
from jtorch.distributions.transformed_distribution import TransformedDistribution
from jtorch.distributions.uniform import Uniform
from jtorch.distributions.utils import euler_constant, sum_rightmost

__all__ = ["kl_divergence", "register_kl"]

Rule = Callable[[Any, Any], Tensor]
RULES: dict[tuple[type, type], Rule] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Rule], Rule]:
    """Decorator: the divergence of these families, and of subclasses that have none of their own."""
    for kind, name in ((type_p, "type_p"), (type_q, "type_q")):
        if not isinstance(kind, type) and issubclass(kind, Distribution):
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def decorate(rule: Rule) -> Rule:
        RULES[type_p, type_q] = rule
        _rule.cache_clear()
        return rule
    return decorate


@functools.cache
def _rule(type_p: type, type_q: type) -> Rule | None:
    """The most specific rule: nearest in the order of classes of p, and the same of q. Where the two differ, p's."""
    matches = [(p, q) for p, q in RULES if issubclass(type_p, p) and issubclass(type_q, q)]
    if not matches:
        return None
    places_p, places_q = type_p.__mro__, type_q.__mro__
    by_p = min(matches, key=lambda m: (places_p.index(m[0]), places_q.index(m[1])))
    by_q = min(matches, key=lambda m: (places_q.index(m[1]), places_p.index(m[0])))
    if RULES[by_p] is not RULES[by_q]:
        warnings.warn(f"Ambiguous kl_divergence({type_p.__name__}, {type_q.__name__}). Please register_kl("
                      f"{by_p[0].__name__}, {by_q[1].__name__})", RuntimeWarning, stacklevel=3)
    return RULES[by_p]


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q), the expectation of log p(x) - log q(x) under p, for each member of the batch.

    Raises NotImplementedError for a pair of families without a rule.
    """
    kinds: Any = (type(p), type(q))
    rule = _rule(*kinds)
    if rule is None:
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {type(p).__name__} and q type "
                                  f"{type(q).__name__}")
    return rule(p, q)


def _infinite(like: Tensor) -> Tensor:
    return torch.full_like(like, math.inf)


def _x_log_x(x: Tensor) -> Tensor:
    return torch.special.xlogy(x, x)


# --- a family with itself --------------------------------------------------------------------------------------------

@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Tensor:
    softplus = torch.nn.functional.softplus
    one = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    one = torch.where(q.probs == 0, math.inf, one)
    one = torch.where(p.probs == 0, 0.0, one)
    zero = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
    zero = torch.where(q.probs == 1, math.inf, zero)
    zero = torch.where(p.probs == 1, 0.0, zero)
    return one + zero


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return a.lgamma() + b.lgamma() - (a + b).lgamma()


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Tensor:
    total_p, total_q = p.concentration1 + p.concentration0, q.concentration1 + q.concentration0
    norm = (q.concentration1.lgamma() + q.concentration0.lgamma() + total_p.lgamma()
            - (p.concentration1.lgamma() + p.concentration0.lgamma() + total_q.lgamma()))
    return (norm + (p.concentration1 - q.concentration1) * torch.digamma(p.concentration1)
            + (p.concentration0 - q.concentration0) * torch.digamma(p.concentration0)
            + (total_q - total_p) * torch.digamma(total_p))


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Tensor:
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    kl = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p())
    return torch.where((p.total_count > q.total_count).expand(kl.shape), math.inf, kl)


@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Tensor:
    t = p.probs * (p.logits - q.logits)
    t = torch.where((q.probs == 0).expand(t.shape), math.inf, t)
    t = torch.where((p.probs == 0).expand(t.shape), 0.0, t)
    return t.sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: Any, q: Any) -> Tensor:
    return _categorical(p._categorical, q._categorical)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: Any, q: Any) -> Tensor:
    return (p.mean * (p.logits - q.logits) + p._log_norm() + torch.log1p(-p.probs) - q._log_norm()
            - torch.log1p(-q.probs))


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Tensor:
    total_p, total_q = p.concentration.sum(-1), q.concentration.sum(-1)
    norm = total_p.lgamma() - total_q.lgamma() - (p.concentration.lgamma() - q.concentration.lgamma()).sum(-1)
    slopes = p.concentration.digamma() - total_p.digamma().unsqueeze(-1)
    return norm + ((p.concentration - q.concentration) * slopes).sum(-1)


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    return -ratio.log() + ratio - 1


@register_kl(ExponentialFamily, ExponentialFamily)
def _exponential_family(p: Any, q: Any) -> Tensor:
    """A Bregman divergence of the log normalizer."""
    if type(p) is not type(q):
        raise NotImplementedError("The cross KL-divergence between different exponential families cannot be computed "
                                  "using Bregman divergences")
    params_p = [x.detach().requires_grad_() for x in p._natural_params]
    params_q = q._natural_params
    normalizer = p._log_normalizer(*params_p)
    slopes = torch.autograd.grad(normalizer.sum(), params_p, create_graph=True)
    result = q._log_normalizer(*params_q) - normalizer
    for a, b, slope in zip(params_p, params_q, slopes):
        result = result - sum_rightmost((b - a) * slope, len(q.event_shape))
    return result


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Tensor:
    return (q.concentration * (p.rate / q.rate).log() + torch.lgamma(q.concentration) - torch.lgamma(p.concentration)
            + (p.concentration - q.concentration) * torch.digamma(p.concentration)
            + (q.rate - p.rate) * (p.concentration / p.rate))


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Tensor:
    ratio, scaled_q, scaled_p = p.scale / q.scale, q.loc / q.scale, p.loc / q.scale
    rest = torch.exp(scaled_q + (1 + ratio).lgamma() - scaled_p)
    return scaled_p - scaled_q - ratio.log() + ratio * euler_constant + rest - (1 + euler_constant)


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Tensor:
    return -p.entropy() - torch.log1p(-q.probs) / p.probs - q.logits


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Tensor:
    return _normal(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Tensor:
    """Gil, Alajaji and Linder, Rényi divergence measures for commonly used univariate distributions, 2013."""
    ratio, gap = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + gap / q.scale + ratio * torch.exp(-gap / p.scale) - 1


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Tensor:
    ratio = (p.scale / q.scale).pow(2)
    gap = ((p.loc - q.loc) / q.scale).pow(2)
    return 0.5 * (ratio + gap - 1 - ratio.log())


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Tensor:
    ratio = p.scale / q.scale
    a = q.alpha / p.alpha
    result = q.alpha * ratio.log() - a.log() + a - 1
    return torch.where(p.support.lower_bound < q.support.lower_bound, math.inf, result)


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Tensor:
    """A bijection of both leaves the divergence as it is."""
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Tensor:
    result = ((q.high - q.low) / (p.high - p.low)).log()
    return torch.where((q.low > p.low) | (q.high < p.high), math.inf, result)


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Tensor:
    """Chyzak and Nielsen, A closed-form formula for the KL divergence between Cauchy distributions, 2019."""
    total = ((p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)).log()
    return total - (4 * p.scale * q.scale).log()


# --- multivariate normal ---------------------------------------------------------------------------------------------

def _trace(factor: Tensor, other: Tensor) -> Tensor:
    """trace(F F^T) of F = factor^-1 other, for broadcast batches."""
    solved = torch.linalg.solve_triangular(factor, other, upper=False)
    return solved.pow(2).sum((-2, -1))


def _same_event(p: Any, q: Any, names: str) -> None:
    if p.event_shape != q.event_shape:
        raise ValueError(f"KL-divergence between two {names} with different event shapes cannot be computed")


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate(p: Any, q: Any) -> Tensor:
    _same_event(p, q, "Multivariate Normals")
    half = log_diagonal(q._unbroadcasted_scale_tril) - log_diagonal(p._unbroadcasted_scale_tril)
    trace = _trace(q._unbroadcasted_scale_tril, p._unbroadcasted_scale_tril)
    distance = batch_mahalanobis(q._unbroadcasted_scale_tril, q.loc - p.loc)
    return half + 0.5 * (trace + distance - p.event_shape[0])


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _low_rank(p: Any, q: Any) -> Tensor:
    """With the Woodbury identity for q's precision: tr(Q^-1 P) = tr(D^-1 P) - tr(A P A^T), A = C^-1 W^T D^-1."""
    _same_event(p, q, "Low Rank Multivariate Normals")
    return 0.5 * (q._log_det() - p._log_det() + mahalanobis(q, q.loc - p.loc)
                  + _low_rank_trace(q, p._unbroadcasted_cov_factor, p._unbroadcasted_cov_diag.sqrt().diag_embed())
                  - p.event_shape[0])


def _low_rank_trace(q: Any, *roots: Tensor) -> Tensor:
    """tr(Q^-1 sum(R R^T)) for matrices R."""
    scaled = q._unbroadcasted_cov_factor.mT / q._unbroadcasted_cov_diag.unsqueeze(-2)
    a = torch.linalg.solve_triangular(q._capacitance_tril, scaled, upper=False)
    total: Any = 0
    for root in roots:
        plain = (root.pow(2) / q._unbroadcasted_cov_diag.unsqueeze(-1)).sum((-2, -1))
        total = total + plain - (a @ root).pow(2).sum((-2, -1))
    return total


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _multivariate_low_rank(p: Any, q: Any) -> Tensor:
    _same_event(p, q, "(Low Rank) Multivariate Normals")
    return 0.5 * (q._log_det() - 2 * log_diagonal(p._unbroadcasted_scale_tril) + mahalanobis(q, q.loc - p.loc)
                  + _low_rank_trace(q, p._unbroadcasted_scale_tril) - p.event_shape[0])


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _low_rank_multivariate(p: Any, q: Any) -> Tensor:
    _same_event(p, q, "(Low Rank) Multivariate Normals")
    trace = (_trace(q._unbroadcasted_scale_tril, p._unbroadcasted_cov_factor)
             + _trace(q._unbroadcasted_scale_tril, p._unbroadcasted_cov_diag.sqrt().diag_embed()))
    distance = batch_mahalanobis(q._unbroadcasted_scale_tril, q.loc - p.loc)
    return 0.5 * (2 * log_diagonal(q._unbroadcasted_scale_tril) - p._log_det() + trace + distance - p.event_shape[0])


# --- families with others --------------------------------------------------------------------------------------------

@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Tensor:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Beta, ContinuousBernoulli)
def _beta_continuous_bernoulli(p: Any, q: Any) -> Tensor:
    return -p.entropy() - p.mean * q.logits - torch.log1p(-q.probs) - q._log_norm()


def _disjoint(family: type, *others: type) -> None:
    """The first gives weight to what the others cannot reach: the divergence is infinite."""
    for other in others:
        @register_kl(family, other)
        def rule(p: Any, q: Any) -> Tensor:
            like = next(v for v in (getattr(p, n, None) for n in _SHAPED) if v is not None)
            return _infinite(like)


_SHAPED = ("loc", "rate", "concentration1", "scale", "low", "mean")
_disjoint(Beta, Pareto)
_disjoint(ContinuousBernoulli, Pareto)
_disjoint(Exponential, Beta, ContinuousBernoulli, Pareto, Uniform)
_disjoint(Gamma, Beta, ContinuousBernoulli, Pareto, Uniform)
_disjoint(Gumbel, Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform)
_disjoint(Laplace, Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform)
_disjoint(Normal, Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform)
_disjoint(Pareto, Beta, ContinuousBernoulli, Uniform)
_disjoint(Poisson, Bernoulli, Binomial)


@register_kl(Beta, Exponential)
def _beta_exponential(p: Any, q: Any) -> Tensor:
    return -p.entropy() - q.rate.log() + q.rate * (p.concentration1 / (p.concentration1 + p.concentration0))


@register_kl(Beta, Gamma)
def _beta_gamma(p: Any, q: Any) -> Tensor:
    mean = p.concentration1 / (p.concentration1 + p.concentration0)
    log_mean = p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma()
    norm = q.concentration.lgamma() - q.concentration * q.rate.log()
    return -p.entropy() + norm - (q.concentration - 1) * log_mean + q.rate * mean


def _gaussian_cross(mean: Tensor, variance: Tensor, q: Any) -> Tensor:
    """-E[log q(x)] of a normal q under a distribution of that mean and variance."""
    square = q.scale.pow(2)
    return 0.5 * (2 * math.pi * square).log() + (variance + (mean - q.loc).pow(2)) / (2 * square)


@register_kl(Beta, Normal)
def _beta_normal(p: Any, q: Any) -> Tensor:
    return -p.entropy() + _gaussian_cross(p.mean, p.variance, q)


@register_kl(Beta, Uniform)
def _beta_uniform(p: Any, q: Any) -> Tensor:
    result = -p.entropy() + (q.high - q.low).log()
    return torch.where((q.low > p.support.lower_bound) | (q.high < p.support.upper_bound), math.inf, result)


@register_kl(ContinuousBernoulli, Exponential)
def _continuous_bernoulli_exponential(p: Any, q: Any) -> Tensor:
    return -p.entropy() - torch.log(q.rate) + q.rate * p.mean


@register_kl(ContinuousBernoulli, Normal)
def _continuous_bernoulli_normal(p: Any, q: Any) -> Tensor:
    return -p.entropy() + _gaussian_cross(p.mean, p.variance, q)


@register_kl(ContinuousBernoulli, Uniform)
def _continuous_bernoulli_uniform(p: Any, q: Any) -> Tensor:
    result = -p.entropy() + (q.high - q.low).log()
    return torch.where((q.low > p.support.lower_bound) | (q.high < p.support.upper_bound), math.inf, result)


@register_kl(Exponential, Gamma)
def _exponential_gamma(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    return (-q.concentration * torch.log(ratio) + ratio + q.concentration.lgamma()
            + q.concentration * euler_constant - (1 + euler_constant))


@register_kl(Exponential, Gumbel)
def _exponential_gumbel(p: Any, q: Any) -> Tensor:
    product, scaled = p.rate * q.scale, q.loc / q.scale
    rest = torch.exp(scaled) * product / (product + 1)
    return product.log() - 1 + product.reciprocal() - scaled + rest


@register_kl(Exponential, Normal)
def _exponential_normal(p: Any, q: Any) -> Tensor:
    return -p.entropy() + _gaussian_cross(p.mean, p.variance, q)


@register_kl(Gamma, Exponential)
def _gamma_exponential(p: Any, q: Any) -> Tensor:
    return -p.entropy() - q.rate.log() + q.rate * p.concentration / p.rate


@register_kl(Gamma, Gumbel)
def _gamma_gumbel(p: Any, q: Any) -> Tensor:
    product, scaled = p.rate * q.scale, q.loc / q.scale
    return ((p.concentration - 1) * p.concentration.digamma() - p.concentration.lgamma() - p.concentration
            + product.log() + p.concentration / product - scaled
            + torch.exp(scaled) * (1 + product.reciprocal()).pow(-p.concentration))


@register_kl(Gamma, Normal)
def _gamma_normal(p: Any, q: Any) -> Tensor:
    return -p.entropy() + _gaussian_cross(p.mean, p.variance, q)


@register_kl(Gumbel, Normal)
def _gumbel_normal(p: Any, q: Any) -> Tensor:
    return -p.entropy() + _gaussian_cross(p.mean, p.variance, q)


@register_kl(Laplace, Normal)
def _laplace_normal(p: Any, q: Any) -> Tensor:
    return -p.entropy() + _gaussian_cross(p.mean, p.variance, q)


@register_kl(Normal, Gumbel)
def _normal_gumbel(p: Any, q: Any) -> Tensor:
    mean, half = (p.loc - q.loc) / q.scale, (p.scale / q.scale).pow(2) * 0.5
    return mean + torch.exp(half - mean) + q.scale.log() - p.entropy()


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Tensor:
    gap = p.loc - q.loc
    ratio = gap / p.scale
    spread = math.sqrt(2 / math.pi) * p.scale * torch.exp(-0.5 * ratio.pow(2))
    distance = spread + gap * torch.erf(math.sqrt(0.5) * ratio)
    return -torch.log(p.scale) - (0.5 + 0.5 * math.log(2 * math.pi)) + torch.log(2 * q.scale) + distance / q.scale


@register_kl(Pareto, Exponential)
def _pareto_exponential(p: Any, q: Any) -> Tensor:
    product = p.scale * q.rate
    result = (p.alpha / product).log() - p.alpha.reciprocal() + p.alpha * product / (p.alpha - 1) - 1
    return torch.where(p.alpha <= 1, math.inf, result)


@register_kl(Pareto, Gamma)
def _pareto_gamma(p: Any, q: Any) -> Tensor:
    shared = p.scale.log() + p.alpha.reciprocal()
    result = (p.alpha.log() - shared + (q.concentration.lgamma() - q.concentration * q.rate.log())
              + (1 - q.concentration) * shared + q.rate * p.alpha * p.scale / (p.alpha - 1) - 1)
    return torch.where(p.alpha <= 1, math.inf, result)


@register_kl(Pareto, Normal)
def _pareto_normal(p: Any, q: Any) -> Tensor:
    return torch.where(p.alpha <= 2, math.inf, -p.entropy() + _gaussian_cross(p.mean, p.variance, q))


@register_kl(Uniform, Beta)
def _uniform_beta(p: Any, q: Any) -> Tensor:
    width = p.high - p.low
    log_one = (q.concentration1 - 1) * (_x_log_x(p.high) - _x_log_x(p.low) - width) / width
    log_two = (q.concentration0 - 1) * (_x_log_x(1 - p.high) - _x_log_x(1 - p.low) + width) / width
    result = -torch.log(width) - log_one + log_two + _log_beta(q.concentration1, q.concentration0)
    return torch.where((p.high > q.support.upper_bound) | (p.low < q.support.lower_bound), math.inf, result)


@register_kl(Uniform, ContinuousBernoulli)
def _uniform_continuous_bernoulli(p: Any, q: Any) -> Tensor:
    result = -p.entropy() - p.mean * q.logits - torch.log1p(-q.probs) - q._log_norm()
    outside = (p.high >= q.support.upper_bound) | (p.low <= q.support.lower_bound)
    return torch.where(outside, math.inf, result)


@register_kl(Uniform, Exponential)
def _uniform_exponential(p: Any, q: Any) -> Tensor:
    result = q.rate * (p.high + p.low) / 2 - ((p.high - p.low) * q.rate).log()
    return torch.where(p.low < q.support.lower_bound, math.inf, result)


@register_kl(Uniform, Gamma)
def _uniform_gamma(p: Any, q: Any) -> Tensor:
    width = p.high - p.low
    logs = (1 - q.concentration) * (_x_log_x(p.high) - _x_log_x(p.low) - width) / width
    norm = q.concentration.lgamma() - q.concentration * q.rate.log()
    result = -width.log() + norm + logs + q.rate * (p.high + p.low) / 2
    return torch.where(p.low < q.support.lower_bound, math.inf, result)


@register_kl(Uniform, Gumbel)
def _uniform_gumbel(p: Any, q: Any) -> Tensor:
    scale = q.scale / (p.high - p.low)
    high, low = (p.high - q.loc) / q.scale, (p.low - q.loc) / q.scale
    return scale.log() + 0.5 * (high + low) - scale * (torch.exp(-high) - torch.exp(-low))


@register_kl(Uniform, Normal)
def _uniform_normal(p: Any, q: Any) -> Tensor:
    return -p.entropy() + _gaussian_cross(p.mean, p.variance, q)


@register_kl(Uniform, Pareto)
def _uniform_pareto(p: Any, q: Any) -> Tensor:
    width = p.high - p.low
    logs = (_x_log_x(p.high) - _x_log_x(p.low) - width) / width
    result = (1 + q.alpha) * logs - torch.log(width) - q.alpha.log() - q.alpha * q.scale.log()
    return torch.where(p.low < q.support.lower_bound, math.inf, result)
