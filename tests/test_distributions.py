"""jtorch.distributions against torch.distributions: samples, densities, moments, divergences, gradients, texts."""
from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from distribution_cases import CASES, build, parameters, positive, real, simplex, unit

import jtorch

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
MODULES = (jtorch, torch)


def array(t: Any) -> np.ndarray:
    return t.detach().numpy()


def close(ours: Any, theirs: Any, what: str, rtol: float = 1e-9) -> None:
    assert tuple(ours.shape) == tuple(theirs.shape), what
    assert str(ours.dtype) == str(theirs.dtype), what
    if theirs.dtype is torch.float32:
        rtol = max(rtol, 1e-5)
    np.testing.assert_allclose(array(ours), array(theirs), rtol, rtol, err_msg=what)


def tried(f: Any, *args: Any) -> Any:
    """The result, or the class of an error that says the family has no such thing."""
    try:
        return f(*args)
    except NotImplementedError:
        return NotImplementedError


SINGLE = {"multinomial": "PyTorch's entropy takes log n! in float32"}


def vendor_stream(name: str) -> bool:
    """PyTorch takes exponentials from a vendor's library on some processors; and of Wishart matrices it draws the good
    ones again."""
    return name in ("exponential", "pareto", "weibull", "wishart")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_samples(name: str, dtype: str) -> None:
    """Same seed, same samples; and the generator stands at the same place after."""
    found = []
    for T in MODULES:
        d = build(name, T, dtype)
        T.manual_seed(4)
        found.append((d.sample(), d.sample((5,)), T.rand(2)))
        assert not found[-1][0].requires_grad
    (a, b, after), (c, d, rest) = found
    assert a.shape == tuple(c.shape) and b.shape == tuple(d.shape) and str(a.dtype) == str(c.dtype)
    if not vendor_stream(name):
        rtol = 1e-9 if dtype == "float64" else 2e-4
        close(a, c, name, rtol)
        close(b, d, name, rtol)
        close(after, rest, name)


MOMENTS = ("mean", "variance", "stddev", "mode")


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    """Moments, entropy, log_prob, cdf, icdf, enumeration, shapes and text."""
    ours, theirs = build(name, jtorch), build(name, torch)
    assert repr(ours) == repr(theirs)
    assert ours.batch_shape == tuple(theirs.batch_shape) and ours.event_shape == tuple(theirs.event_shape)
    assert ours.has_rsample == theirs.has_rsample
    assert ours.has_enumerate_support == theirs.has_enumerate_support
    assert repr(ours.support) == repr(theirs.support) or "tensor" in repr(theirs.support)
    for moment in MOMENTS:
        a, b = (tried(getattr, d, moment) for d in (ours, theirs))
        if b is NotImplementedError:
            assert a is b, moment
        else:
            close(a, b, f"{name}.{moment}")
    for method in ("entropy", "enumerate_support"):
        a, b = (tried(getattr(d, method)) for d in (ours, theirs))
        if b is NotImplementedError:
            assert a is b, method
        else:
            close(a, b, f"{name}.{method}()", 1e-6 if name in SINGLE else 1e-9)
    value = theirs.sample((4,))
    mine = jtorch.tensor(array(value))
    close(ours.log_prob(mine), theirs.log_prob(value), f"{name}.log_prob")
    a, b = tried(ours.cdf, mine), tried(theirs.cdf, value)
    if b is NotImplementedError:
        assert a is b
    else:
        close(a, b, f"{name}.cdf")
        a, b = tried(ours.icdf, a), tried(theirs.icdf, b)
        assert (a is b) or close(a, b, f"{name}.icdf", 1e-7) is None


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    """Of log_prob in the parameters, and of rsample where the numbers are PyTorch's."""
    grads = []
    theirs = build(name, torch)
    value = array(theirs.sample((3,)))
    for T in MODULES:
        p = parameters(name, T, grad=True)
        d = getattr(T.distributions, CASES[name][0])(**p, validate_args=False)
        wanted = [v for k, v in p.items() if hasattr(v, "requires_grad") and k != "total_count"]
        loss = d.log_prob(T.tensor(value)).sum()
        found = list(T.autograd.grad(loss, wanted, allow_unused=True))
        if d.has_rsample and not vendor_stream(name):
            d = getattr(T.distributions, CASES[name][0])(**p, validate_args=False)
            T.manual_seed(1)
            drawn = d.rsample((2,))
            weights = T.linspace(0.3, 1.7, drawn.numel(), dtype=T.float64).reshape(drawn.shape)
            found += T.autograd.grad((drawn * weights).sum(), wanted, allow_unused=True)
        grads.append(found)
    for i, (a, b) in enumerate(zip(*grads, strict=True)):
        assert (a is None) == (b is None), f"{name}, gradient {i}"
        if a is not None:
            close(a, b, f"{name}, gradient {i}", 1e-7)


@pytest.mark.parametrize("name", CASES)
def test_expand(name: str) -> None:
    ours, theirs = build(name, jtorch), build(name, torch)
    batch = (2, *theirs.batch_shape)
    a, b = ours.expand(batch), theirs.expand(batch)
    assert type(a) is type(ours) and a.batch_shape == tuple(b.batch_shape)
    assert a.sample().shape == tuple(b.sample().shape)
    value = b.sample()
    close(a.log_prob(jtorch.tensor(array(value))), b.log_prob(value), name)
    assert repr(a) == repr(b)


# --- divergences ------------------------------------------------------------------------------------------------------

POINTS: dict[str, tuple[str, list[np.ndarray]]] = {
    "Bernoulli": ("Bernoulli", [unit(3)]), "Beta": ("Beta", [positive(3), positive(3, seed=2)]),
    "Binomial": ("Binomial", [np.full(3, 5.0), unit(3)]), "Categorical": ("Categorical", [simplex(3, 4)]),
    "Cauchy": ("Cauchy", [real(3), positive(3)]), "ContinuousBernoulli": ("ContinuousBernoulli", [unit(3)]),
    "Dirichlet": ("Dirichlet", [positive(3, 4)]), "Exponential": ("Exponential", [positive(3)]),
    "Gamma": ("Gamma", [positive(3), positive(3, seed=3)]), "Geometric": ("Geometric", [unit(3)]),
    "Gumbel": ("Gumbel", [real(3), positive(3)]), "HalfNormal": ("HalfNormal", [positive(3)]),
    "Laplace": ("Laplace", [real(3), positive(3)]), "LogNormal": ("LogNormal", [real(3), positive(3)]),
    "Normal": ("Normal", [real(3), positive(3)]), "OneHotCategorical": ("OneHotCategorical", [simplex(3, 4)]),
    "Pareto": ("Pareto", [positive(3), 2.5 + positive(3)]), "Poisson": ("Poisson", [positive(3)]),
    "Uniform": ("Uniform", [0.2 * unit(3), 0.5 + 0.4 * unit(3)]),
    "MultivariateNormal": ("MultivariateNormal", [real(4), CASES["multivariate tril"][1]["scale_tril"][0, :1, :1]
                                                 * np.eye(4)]),
    "LowRankMultivariateNormal": ("LowRankMultivariateNormal", [real(4), real(4, 2), positive(4)]),
}


def point(family: str, T: Any, moved: float) -> Any:
    kind, arrays = POINTS[family]
    arrays = [a * (1 + moved) if kind != "Binomial" or i else a for i, a in enumerate(arrays)]
    if "Categorical" in kind:
        arrays = [arrays[0] ** (1 + moved)]
    return getattr(T.distributions, kind)(*[T.tensor(a) for a in arrays])


@pytest.mark.parametrize("family", POINTS)
def test_divergences(family: str) -> None:
    """Of the family with every other one: the value, or that there is no rule."""
    for other in POINTS:
        found = []
        for T in MODULES:
            p, q = point(family, T, 0.0), point(other, T, 0.1)
            found.append(tried(T.distributions.kl_divergence, p, q))
        if found[1] is NotImplementedError:
            assert found[0] is NotImplementedError, other
        else:
            close(*found, f"KL({family} || {other})")


def test_divergence_of_composed_distributions() -> None:
    def independent(T: Any, by: float) -> Any:
        normal = T.distributions.Normal(T.tensor(real(3, 2)) + by, T.tensor(positive(3, 2)))
        return T.distributions.Independent(normal, 1)

    def transformed(T: Any, by: float) -> Any:
        normal = T.distributions.Normal(T.tensor(real(3)) + by, 1.0)
        return T.distributions.TransformedDistribution(normal, T.distributions.ExpTransform())
    for make in (independent, transformed):
        close(*[T.distributions.kl_divergence(make(T, 0.0), make(T, 0.7)) for T in MODULES], "KL")


def test_rules_of_subclasses() -> None:
    class Mine(jtorch.distributions.Normal):
        pass
    p, q = Mine(0.0, 1.0), jtorch.distributions.Normal(1.0, 2.0)
    assert jtorch.distributions.kl_divergence(p, q).item() == pytest.approx(
        math.log(2) + (1 + 1) / 8 - 0.5, rel=1e-6)

    @jtorch.distributions.register_kl(Mine, Mine)
    def mine(p: Any, q: Any) -> Any:
        return jtorch.tensor(42.0)
    assert jtorch.distributions.kl_divergence(p, p).item() == 42


# --- what is made of distributions ------------------------------------------------------------------------------------

def mixtures(T: Any) -> list[Any]:
    D = T.distributions
    mix = D.Categorical(T.tensor(simplex(2, 3)))
    return [D.MixtureSameFamily(mix, D.Normal(T.tensor(real(2, 3)), T.tensor(positive(2, 3)))),
            D.MixtureSameFamily(D.Categorical(T.tensor(simplex(3))), D.Independent(
                D.Normal(T.tensor(real(3, 2)), T.tensor(positive(3, 2))), 1))]


def composed(T: Any) -> list[Any]:
    D = T.distributions
    normal = D.Normal(T.tensor(real(3, 2)), T.tensor(positive(3, 2)))
    return [*mixtures(T), D.Independent(normal, 1), D.Independent(normal, 2),
            D.TransformedDistribution(normal, [D.AffineTransform(1.5, -2.0), D.SigmoidTransform()]),
            D.TransformedDistribution(D.Uniform(T.tensor(unit(2)), T.tensor(1 + unit(2))), D.TanhTransform()),
            D.TransformedDistribution(D.Normal(T.tensor(real(2, 3)), 1.0), D.StickBreakingTransform()),
            D.TransformedDistribution(D.Independent(normal, 1), [D.ExpTransform()])]


@pytest.mark.parametrize("i", range(8))
def test_composed(i: int) -> None:
    ours, theirs = composed(jtorch)[i], composed(torch)[i]
    assert repr(ours) == repr(theirs)
    assert (ours.batch_shape, ours.event_shape) == (tuple(theirs.batch_shape), tuple(theirs.event_shape))
    for T in MODULES:
        T.manual_seed(3)
    a, b = ours.sample((4,)), theirs.sample((4,))
    close(a, b, "sample", 1e-6)
    a = jtorch.tensor(array(b))
    close(ours.log_prob(a), theirs.log_prob(b), "log_prob")
    for method in ("cdf",):
        x, y = tried(getattr(ours, method), a), tried(getattr(theirs, method), b)
        assert (x is y) or close(x, y, method) is None
    for moment in ("mean", "variance"):
        x, y = tried(getattr, ours, moment), tried(getattr, theirs, moment)
        assert (x is y) or close(x, y, moment) is None
    assert ours.expand((5, *ours.batch_shape)).sample().shape == tuple(
        theirs.expand((5, *theirs.batch_shape)).sample().shape)


# --- transforms and constraints ---------------------------------------------------------------------------------------

TRANSFORMS = {
    "exp": (lambda D, T: D.ExpTransform(), real(3, 2)),
    "power": (lambda D, T: D.PowerTransform(T.tensor(2.0, dtype=T.float64)), positive(3)),
    "sigmoid": (lambda D, T: D.SigmoidTransform(), real(3)),
    "softplus": (lambda D, T: D.SoftplusTransform(), real(3)),
    "tanh": (lambda D, T: D.TanhTransform(), real(3)),
    "affine": (lambda D, T: D.AffineTransform(1.0, T.tensor([-2.0, 3.0], dtype=T.float64)), real(3, 2)),
    "affine event": (lambda D, T: D.AffineTransform(1.0, 3.0, event_dim=1), real(3, 2)),
    "stick": (lambda D, T: D.StickBreakingTransform(), real(2, 3)),
    "correlation": (lambda D, T: D.CorrCholeskyTransform(), real(2, 6)),
    "reshape": (lambda D, T: D.ReshapeTransform((6,), (2, 3)), real(2, 6)),
    "composed": (lambda D, T: D.ComposeTransform([D.AffineTransform(0.5, 2.0), D.ExpTransform()]), real(3)),
    "independent": (lambda D, T: D.IndependentTransform(D.ExpTransform(), 1), real(3, 2)),
    "inverse": (lambda D, T: D.ExpTransform().inv, positive(3)),
    "cat": (lambda D, T: D.CatTransform([D.ExpTransform(), D.TanhTransform()], 0, [1, 2]), real(3)),
    "stack": (lambda D, T: D.StackTransform([D.ExpTransform(), D.TanhTransform()], 1), real(3, 2)),
    "quantile": (lambda D, T: D.CumulativeDistributionTransform(D.Normal(T.zeros((), dtype=T.float64), 2.0)), real(3)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name: str) -> None:
    make, x = TRANSFORMS[name]
    found = []
    for T in MODULES:
        t = make(T.distributions, T)
        v = T.tensor(x, requires_grad=True)
        y = t(v)
        jacobian = t.log_abs_det_jacobian(v, y)
        grads = T.autograd.grad((y ** 2).sum() + jacobian.sum(), v)
        found.append([y, jacobian, t.inv(y), *grads])
        assert tuple(t.forward_shape(tuple(x.shape))) == tuple(y.shape)
        assert tuple(t.inverse_shape(tuple(y.shape))) == x.shape
    for a, b in zip(*found):
        close(a, b, name)
    ours, theirs = make(jtorch.distributions, jtorch), make(torch.distributions, torch)
    assert (ours.domain.event_dim, ours.codomain.event_dim) == (theirs.domain.event_dim, theirs.codomain.event_dim)
    assert ours.bijective == theirs.bijective and repr(ours) == repr(theirs)


def test_cached_transform_gives_back_what_it_was_made_of() -> None:
    t = jtorch.distributions.TanhTransform(cache_size=1)
    x = jtorch.tensor([30.0])
    assert t.inv(t(x)) is x and t.inv.inv is t
    with pytest.raises(ValueError, match="cache_size must be 0 or 1"):
        jtorch.distributions.ExpTransform(cache_size=2)


CONSTRAINTS = ["real", "positive", "nonnegative", "unit_interval", "simplex", "lower_cholesky", "positive_definite",
               "corr_cholesky", "boolean", "nonnegative_integer", "real_vector", "greater_than(2.0)", "less_than(-1.0)",
               "interval(-1.0, 3.0)", "half_open_interval(0.0, 2.0)", "independent(C.positive, 1)", "one_hot",
               "integer_interval(0, 3)", "lower_triangular", "symmetric", "square", "positive_semidefinite",
               "multinomial(3)", "stack([C.real, C.positive], 1)", "cat([C.real, C.positive], -1, [1, 2])"]
VALUES = [real(3, 3), np.eye(3), np.abs(real(3, 3)), simplex(3, 3), np.array([[0.0, 1, 0], [0, 0, 1], [1, 1, 0]]),
          np.linalg.cholesky(np.array([[1, 0.3, 0.2], [0.3, 1, 0.1], [0.2, 0.1, 1]])), np.full((3, 3), np.nan)]


@pytest.mark.parametrize("text", CONSTRAINTS)
def test_constraints(text: str) -> None:
    ours, theirs = (eval(("" if text.startswith("C.") else "C.") + text, {"C": T.distributions.constraints})
                    for T in MODULES)
    assert repr(ours) == repr(theirs)
    assert (ours.event_dim, ours.is_discrete) == (theirs.event_dim, theirs.is_discrete)
    for value in VALUES:
        if text.startswith("stack"):
            value = value[:, :2]
        if np.isnan(value).any() and "positive_" in text:
            continue
        a, b = ours.check(jtorch.tensor(value)), theirs.check(torch.tensor(value))
        np.testing.assert_array_equal(array(a), array(b), err_msg=text)
    for registry in ("biject_to", "transform_to"):
        a, b = (tried(getattr(T.distributions, registry), c) for T, c in zip(MODULES, (ours, theirs)))
        if b is NotImplementedError:
            assert a is b
        else:
            x = real(2, 3) if theirs.event_dim < 2 or "corr" in text else real(2, 3, 3)
            if text.startswith("stack"):
                x = x[:, :2]
            assert ours.check(a(jtorch.tensor(x))).all()
            close(a(jtorch.tensor(x)), b(torch.tensor(x)), text)


# --- errors, sharing, tracing -----------------------------------------------------------------------------------------

WRONG = [
    lambda T: T.distributions.Normal(0.0, -1.0),
    lambda T: T.distributions.Normal(T.tensor([0.0, float("nan")]), 1.0),
    lambda T: T.distributions.Uniform(T.tensor([1.0, 2.0]), T.tensor([2.0, 2.0])),
    lambda T: T.distributions.Bernoulli(),
    lambda T: T.distributions.Bernoulli(T.tensor(1.5)),
    lambda T: T.distributions.Bernoulli(probs=0.5, logits=0.1),
    lambda T: T.distributions.Categorical(T.tensor(0.5)),
    lambda T: T.distributions.Categorical(T.tensor([0.5, -0.5])),
    lambda T: T.distributions.Normal(0.0, 1.0).log_prob(0.3),
    lambda T: T.distributions.Normal(T.zeros(2), 1.0).log_prob(T.zeros(3)),
    lambda T: T.distributions.Exponential(1.0).log_prob(T.tensor(-1.0)),
    lambda T: T.distributions.Bernoulli(0.5).log_prob(T.tensor(0.5)),
    lambda T: T.distributions.Categorical(T.ones(3)).log_prob(T.tensor(5)),
    lambda T: T.distributions.Independent(T.distributions.Normal(0.0, 1.0), 1),
    lambda T: T.distributions.MultivariateNormal(T.zeros(2)),
    lambda T: T.distributions.MultivariateNormal(T.tensor(0.0), T.eye(1)),
    lambda T: T.distributions.MultivariateNormal(T.zeros(2), -T.eye(2)),
    lambda T: T.distributions.Dirichlet(T.tensor(1.0)),
    lambda T: T.distributions.kl_divergence(T.distributions.Normal(0.0, 1.0), T.distributions.Cauchy(0.0, 1.0)),
    lambda T: T.distributions.transform_to(T.distributions.constraints.boolean),
    lambda T: T.distributions.LKJCholesky(1),
    lambda T: T.distributions.MixtureSameFamily(1, T.distributions.Normal(0.0, 1.0)),
    lambda T: T.distributions.TransformedDistribution(T.distributions.Normal(0.0, 1.0), 3),
    lambda T: T.distributions.Poisson(T.tensor(2.0)).rsample(),
    lambda T: T.distributions.Normal(0.0, "a"),
    lambda T: T.distributions.Categorical(T.ones(3)).cdf(T.tensor(1)),
    lambda T: T.distributions.Distribution.set_default_validate_args(3),
]


@pytest.mark.parametrize("i", range(len(WRONG)))
def test_errors(i: int) -> None:
    """PyTorch's class of error and PyTorch's text."""
    found = []
    for T in MODULES:
        with pytest.raises(Exception) as caught:
            WRONG[i](T)
        found.append(caught)
    assert found[0].type is found[1].type
    assert str(found[0].value) == str(found[1].value)


def test_validation_can_be_turned_off() -> None:
    assert jtorch.distributions.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
    jtorch.distributions.Distribution.set_default_validate_args(False)
    try:
        jtorch.distributions.Normal(0.0, -1.0)
    finally:
        jtorch.distributions.Distribution.set_default_validate_args(True)


def test_a_policy_in_a_trace() -> None:
    """Sampling and log_prob inside of jit.trace: the same numbers as eagerly."""
    def act(logits: Any) -> Any:
        d = jtorch.distributions.Categorical(logits=logits)
        a = d.sample()
        return a, d.log_prob(a), jtorch.distributions.Normal(logits, logits.exp()).rsample()
    logits = jtorch.tensor(real(4, 3))
    traced = jtorch.jit.trace(act)
    for f in (act, traced):
        jtorch.manual_seed(5)
        f(logits)
        found = f(logits)
        if f is act:
            expected = found
    for a, b in zip(found, expected):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-12)


@pytest.mark.parametrize("name", ["normal", "gamma", "categorical logits", "gumbel", "multivariate covariance"])
def test_pickling(name: str) -> None:
    d = build(name, jtorch)
    again = pickle.loads(pickle.dumps(d))
    value = d.sample()
    close(again.log_prob(value), d.log_prob(value), name)
