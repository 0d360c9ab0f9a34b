"""Distributions to compare with PyTorch's."""
from __future__ import annotations

from typing import Any

import numpy as np


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.4, 4, shape)


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape)


def real(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def covariance(*shape: int, seed: int = 0) -> np.ndarray:
    a = real(*shape, shape[-1], seed=seed)
    return a @ np.swapaxes(a, -1, -2) + 0.5 * np.eye(shape[-1])


def simplex(*shape: int, seed: int = 0) -> np.ndarray:
    p = unit(*shape, seed=seed)
    return p / p.sum(-1, keepdims=True)


def lower(*shape: int, seed: int = 0) -> np.ndarray:
    return np.linalg.cholesky(covariance(*shape, seed=seed))


# name -> (class, parameters by name)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "normal": ("Normal", {"loc": real(3, 2), "scale": positive(2)}),
    "bernoulli probs": ("Bernoulli", {"probs": unit(3, 2)}),
    "bernoulli logits": ("Bernoulli", {"logits": real(3)}),
    "categorical probs": ("Categorical", {"probs": positive(2, 4)}),
    "categorical logits": ("Categorical", {"logits": real(2, 4)}),
    "one hot": ("OneHotCategorical", {"probs": positive(3, 4)}),
    "one hot straight through": ("OneHotCategoricalStraightThrough", {"logits": real(3, 4)}),
    "uniform": ("Uniform", {"low": -positive(3, 2), "high": positive(2)}),
    "cauchy": ("Cauchy", {"loc": real(3), "scale": positive(3)}),
    "laplace": ("Laplace", {"loc": real(3), "scale": positive(2, 3)}),
    "exponential": ("Exponential", {"rate": positive(3, 2)}),
    "gumbel": ("Gumbel", {"loc": real(3), "scale": positive(3)}),
    "half normal": ("HalfNormal", {"scale": positive(3)}),
    "half cauchy": ("HalfCauchy", {"scale": positive(3)}),
    "log normal": ("LogNormal", {"loc": real(3), "scale": 0.3 * positive(3)}),
    "logistic normal": ("LogisticNormal", {"loc": real(2, 3), "scale": positive(2, 3)}),
    "pareto": ("Pareto", {"scale": positive(3), "alpha": 2 + positive(3)}),
    "geometric": ("Geometric", {"probs": unit(3)}),
    "continuous bernoulli": ("ContinuousBernoulli", {"probs": np.array([0.1, 0.4995, 0.5, 0.8])}),
    "relaxed bernoulli": ("RelaxedBernoulli", {"temperature": np.array([0.7]), "logits": real(3)}),
    "generalized pareto": ("GeneralizedPareto", {"loc": real(4), "scale": positive(4),
                                                 "concentration": np.array([-0.3, 0.0, 0.2, 0.6])}),
    "von mises": ("VonMises", {"loc": real(4), "concentration": np.array([0.2, 1, 3, 9.0])}),
    "gamma": ("Gamma", {"concentration": positive(3, 2), "rate": positive(3, 2, seed=1)}),
    "chi2": ("Chi2", {"df": positive(3)}),
    "inverse gamma": ("InverseGamma", {"concentration": 2 + positive(3), "rate": positive(3)}),
    "beta": ("Beta", {"concentration1": 1 + positive(3, 2), "concentration0": positive(3, 2, seed=1)}),
    "dirichlet": ("Dirichlet", {"concentration": positive(3, 4)}),
    "poisson": ("Poisson", {"rate": np.array([0.5, 3.0, 40.0])}),
    "binomial": ("Binomial", {"total_count": 30, "probs": unit(3)}),
    "binomial logits": ("Binomial", {"total_count": np.array([3.0, 10, 90]), "logits": real(3)}),
    "negative binomial": ("NegativeBinomial", {"total_count": positive(3), "probs": unit(3)}),
    "multinomial": ("Multinomial", {"total_count": 7, "probs": positive(2, 3)}),
    "student t": ("StudentT", {"df": 2 + positive(3), "loc": real(3), "scale": positive(3)}),
    "f": ("FisherSnedecor", {"df1": 2 + positive(3), "df2": 4 + positive(3)}),
    "kumaraswamy": ("Kumaraswamy", {"concentration1": 1 + positive(3), "concentration0": 1 + positive(3, seed=1)}),
    "weibull": ("Weibull", {"scale": positive(3), "concentration": 1 + positive(3, seed=1)}),
    "relaxed one hot": ("RelaxedOneHotCategorical", {"temperature": np.array(0.7), "logits": real(2, 3)}),
    "multivariate covariance": ("MultivariateNormal", {"loc": real(3), "covariance_matrix": covariance(2, 3)}),
    "multivariate precision": ("MultivariateNormal", {"loc": real(2, 3), "precision_matrix": covariance(3)}),
    "multivariate tril": ("MultivariateNormal", {"loc": real(2, 3), "scale_tril": lower(2, 3)}),
    "low rank": ("LowRankMultivariateNormal", {"loc": real(4), "cov_factor": real(4, 2), "cov_diag": positive(4)}),
    "lkj": ("LKJCholesky", {"dim": 3, "concentration": positive(2)}),
    "wishart": ("Wishart", {"df": np.array(5.5), "covariance_matrix": covariance(3)}),
}


SINGLE_ONLY = ("generalized pareto",)  # PyTorch's compares with a float32 constant


def parameters(name: str, T: Any, dtype: str = "float64", grad: bool = False) -> dict[str, Any]:
    """The parameters of a case as tensors of module `T`."""
    made = {}
    dtype = "float32" if name in SINGLE_ONLY else dtype
    for key, value in CASES[name][1].items():
        if isinstance(value, np.ndarray):
            value = T.tensor(value, dtype=getattr(T, dtype))
            if grad:
                value.requires_grad_()
        made[key] = value
    return made


def build(name: str, T: Any, dtype: str = "float64") -> Any:
    return getattr(T.distributions, CASES[name][0])(**parameters(name, T, dtype))
