"""Samples of the composites, with `torch.nn.functional` as the reference (see op_samples.py)."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import op_samples
from op_samples import Sample, distinct, integers, normal, uniform

from jtorch.ir import mt19937

COMPOSITES: dict[str, Callable[[], Iterator[Sample]]] = {}


def of(*names: str) -> Callable:
    def register(make: Callable[..., Iterator[Sample]]) -> Callable:
        for name in names:
            COMPOSITES[name] = (lambda name=name: make(name)) if len(names) > 1 else make
        return make
    return register


def F(T: Any) -> Any:
    return T.nn.functional


# --- activations ------------------------------------------------------------------------------------------------------

ACTIVATIONS: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    "gelu": ({}, lambda T, x: F(T).gelu(x)),
    "gelu_tanh": ({}, lambda T, x: F(T).gelu(x, approximate="tanh")),
    "silu": ({}, lambda T, x: F(T).silu(x)),
    "softplus": ({"beta": 2.0, "threshold": 3.0}, lambda T, x: F(T).softplus(x, 2.0, 3.0)),
    "logsigmoid": ({}, lambda T, x: F(T).logsigmoid(x)),
    "mish": ({}, lambda T, x: F(T).mish(x)),
    "tanhshrink": ({}, lambda T, x: F(T).tanhshrink(x)),
    "softsign": ({}, lambda T, x: F(T).softsign(x)),
    "elu": ({"alpha": 1.3}, lambda T, x: F(T).elu(x, 1.3)),
    "selu": ({}, lambda T, x: F(T).selu(x)),
    "celu": ({"alpha": 2.0}, lambda T, x: F(T).celu(x, 2.0)),  # PyTorch has 1 / alpha in float32
    "leaky_relu": ({"slope": 0.2}, lambda T, x: F(T).leaky_relu(x, 0.2)),
    "hardtanh": ({"low": -0.5, "high": 0.7}, lambda T, x: F(T).hardtanh(x, -0.5, 0.7)),
    "relu6": ({}, lambda T, x: F(T).relu6(x)),
    "hardsigmoid": ({}, lambda T, x: F(T).hardsigmoid(x)),
    "hardswish": ({}, lambda T, x: F(T).hardswish(x)),
    "threshold": ({"bound": 0.3, "value": 2.0}, lambda T, x: F(T).threshold(x, 0.3, 2.0)),
    "softshrink": ({"bound": 0.4}, lambda T, x: F(T).softshrink(x, 0.4)),
    "hardshrink": ({"bound": 0.4}, lambda T, x: F(T).hardshrink(x, 0.4)),
    "clamp": ({"low": -0.5, "high": 0.7}, lambda T, x: x.clamp(-0.5, 0.7)),
}


@of(*ACTIVATIONS)
def activations(name: str) -> Iterator[Sample]:
    attrs, reference = ACTIVATIONS[name]
    for shape in ((), (5,), (4, 5), (0, 2)):
        yield Sample((distinct(*shape),), attrs, reference)
    if name == "clamp":
        yield Sample((distinct(5),), {"low": None, "high": 0.2}, lambda T, x: x.clamp(max=0.2))


@of("prelu")
def prelu() -> Iterator[Sample]:
    yield Sample((distinct(2, 3, 2), normal(3)), {}, lambda T, x, w: F(T).prelu(x, w))
    yield Sample((distinct(4), normal(1)), {}, lambda T, x, w: F(T).prelu(x, w))


@of("glu")
def glu() -> Iterator[Sample]:
    yield Sample((normal(3, 4, 2),), {"axis": 1}, lambda T, x: F(T).glu(x, 1))


@of("rrelu")
def rrelu() -> Iterator[Sample]:
    yield Sample((distinct(3, 4), uniform(0.1, 0.3, 3, 4)), {}, lambda T, x, a: T.where(x > 0, x, x * a))


# --- pointwise --------------------------------------------------------------------------------------------------------

@of("entr", "ndtr")
def of_probabilities(name: str) -> Iterator[Sample]:
    for shape in ((), (5,), (0, 2)):
        yield Sample((uniform(0.1, 3, *shape),), {}, lambda T, x: getattr(T.special, name)(x))
    yield Sample((np.array([0.0, -1.0, 30.0]),), {}, lambda T, x: getattr(T.special, name)(x), False)


@of("trigamma")
def trigamma() -> Iterator[Sample]:
    yield Sample((uniform(0.3, 6, 3, 2),), {}, lambda T, x: T.polygamma(1, x))
    yield Sample((np.array([-3.25, -0.5, 0.01, 0.4999, 50.0, 1e10]),), {}, lambda T, x: T.polygamma(1, x), False)


@of("lerp", "addcmul", "addcdiv", "clamp_tensors", "logaddexp", "xlogy", "xlog1py", "hypot")
def pointwise(name: str) -> Iterator[Sample]:
    if name == "lerp":
        yield Sample((normal(3, 4), normal(3, 4), uniform(0, 1, 3, 4)), {}, lambda T, a, b, w: T.lerp(a, b, w))
        yield Sample((normal(3, 4), normal(3, 4), np.array(0.3)), {}, lambda T, a, b, w: T.lerp(a, b, w))
    elif name in ("addcmul", "addcdiv"):
        for value in (1, 0.7):
            yield Sample((normal(3, 4), normal(3, 4), uniform(0.5, 1, 3, 4)), {"value": value},
                         lambda T, x, a, b, v=value: getattr(T, name)(x, a, b, value=v))
    elif name == "clamp_tensors":
        yield Sample((distinct(3, 4), uniform(-1, 0.2, 3, 4), uniform(0.3, 1, 3, 4)), {},
                     lambda T, x, a, b: T.clamp(x, a, b))
    elif name in ("xlogy", "xlog1py"):
        edge = 0.0 if name == "xlogy" else -1.0
        x = uniform(0.2, 1, 3, 4)
        yield Sample((x, uniform(0.2, 1, 3, 4)), {}, lambda T, x, y: getattr(T.special, name)(x, y))
        zero = np.where(x < 0.5, 0.0, x)
        yield Sample((zero, np.where(x < 0.4, edge, 1.5)), {}, lambda T, x, y: getattr(T.special, name)(x, y), False)
    else:
        yield Sample((normal(3, 4), normal(3, 4)), {}, lambda T, a, b: getattr(T, name)(a, b))
    if name == "logaddexp":
        extremes = np.array([math.inf, -math.inf, 800.0, math.inf])
        yield Sample((extremes, np.array([math.inf, -math.inf, 801.0, 0.0])), {}, None, False)


# --- softmax, statistics ----------------------------------------------------------------------------------------------

@of("softmax", "log_softmax")
def softmaxes(name: str) -> Iterator[Sample]:
    for shape, axis in (((3, 4), 1), ((2, 3, 4), 1), ((4,), 0)):
        yield Sample((normal(*shape) * 3,), {"axis": axis}, lambda T, x, a=axis: getattr(F(T), name)(x, a))
    yield Sample((normal(3, 4) * 1e3,), {"axis": 1}, lambda T, x: getattr(F(T), name)(x, 1), False)


AXES = (((3, 4), (1,)), ((2, 3, 4), (0, 2)), ((4,), (0,)))


@of("product_of_others")
def products() -> Iterator[Sample]:
    def reference(T: Any, x: Any) -> Any:
        n = x.shape[1]
        return T.stack([x[:, [j for j in range(n) if j != k]].prod(1) for k in range(n)], 1)
    x = uniform(0.5, 2, 5, 4)
    x[1, 2] = x[2, 0] = x[2, 3] = 0  # one zero, two, three
    x[3, :3] = 0
    yield Sample((x,), {"axes": (1,)}, reference, smooth=False)  # three derivatives of a product are one too many
    yield Sample((uniform(0.5, 2, 2, 3),), {"axes": (0, 1)}, None)


@of("logsumexp", "mean", "var", "std", "var_mean")
def statistics(name: str) -> Iterator[Sample]:
    for shape, axes in AXES:
        for correction in (1, 0) if "var" in name or name == "std" else (None,):
            more = {} if correction is None else {"correction": correction}
            yield Sample((normal(*shape),), {"axes": axes, **more},
                         lambda T, x, a=axes, m=more: getattr(T, name)(x, dim=a, **m))
    if name == "logsumexp":
        extremes = np.array([[math.inf, 0.0], [-math.inf, -math.inf], [-math.inf, 1.0], [900.0, 900.0]])
        yield Sample((extremes,), {"axes": (1,)}, lambda T, x: T.logsumexp(x, 1), False)
    if name in ("var", "mean"):
        more = {"correction": 1} if name == "var" else {}
        yield Sample((normal(2, 1 if more else 0),), {"axes": (1,), **more},
                     lambda T, x, m=more: getattr(T, name)(x, dim=1, **m), False)


@of("vector_norm")
def norms() -> Iterator[Sample]:
    for p in (2.0, 1.0, 3.0, 0.5, math.inf, -math.inf, 0.0):
        yield Sample((distinct(2, 3, 4),), {"axes": (0, 2), "p": p},
                     lambda T, x, p=p: T.linalg.vector_norm(x, p, dim=(0, 2)))
    yield Sample((np.zeros((2, 3)),), {"axes": (1,), "p": 2.0}, lambda T, x: T.linalg.vector_norm(x, 2, dim=1), False)


# --- normalisation ----------------------------------------------------------------------------------------------------

@of("layer_norm", "rms_norm")
def trailing_norms(name: str) -> Iterator[Sample]:
    for affine in range(3 if name == "layer_norm" else 2):
        for ndim in (1, 2):
            shape = (2, 3, 4)
            inputs = (normal(*shape), *[normal(*shape[3 - ndim:]) for _ in range(affine)])
            yield Sample(inputs, {"ndim": ndim, "eps": 1e-3}, lambda T, x, *a, s=shape[3 - ndim:]: getattr(F(T), name)(
                x, s, *a, eps=1e-3))


@of("batch_norm_train", "batch_norm", "group_norm", "instance_norm")
def channel_norms(name: str) -> Iterator[Sample]:
    for shape in ((5, 4), (3, 4, 2, 2)):
        for affine in range(3):
            x, rest = normal(*shape), tuple(normal(4) for _ in range(affine))
            if name == "batch_norm_train":
                def train(T: Any, x: Any, *a: Any) -> Any:
                    axes = [i for i in range(x.ndim) if i != 1]
                    y = F(T).batch_norm(x, None, None, *a, training=True, eps=1e-3)
                    return y, x.mean(axes), x.var(axes, correction=0)
                yield Sample((x, *rest), {"eps": 1e-3}, train)
            elif name == "batch_norm":
                yield Sample((x, normal(4), uniform(0.5, 2, 4), *rest), {"eps": 1e-3},
                             lambda T, x, m, v, *a: F(T).batch_norm(x, m, v, *a, training=False, eps=1e-3),
                             fixed=(1, 2))
            elif name == "group_norm":
                yield Sample((x, *rest), {"groups": 2, "eps": 1e-3},
                             lambda T, x, *a: F(T).group_norm(x, 2, *a, eps=1e-3))
            elif len(shape) > 2:
                yield Sample((x, *rest), {"eps": 1e-3}, lambda T, x, *a: F(T).instance_norm(
                    x, None, None, *a, eps=1e-3))


@of("local_response_norm")
def local_response_norm() -> Iterator[Sample]:
    for size, beta in ((2, 0.75), (3, 0.75), (3, 1.5), (2, 0.3)):
        yield Sample((normal(2, 5, 3, 2),), {"size": size, "alpha": 0.1, "beta": beta, "k": 1.0},
                     lambda T, x, s=size, b=beta: F(T).local_response_norm(x, s, 0.1, b))


@of("normalize")
def normalize() -> Iterator[Sample]:
    yield Sample((normal(3, 4),), {"p": 2.0, "axis": 1, "eps": 1e-12}, lambda T, x: F(T).normalize(x, dim=1))
    yield Sample((normal(3, 4),), {"p": 3.0, "axis": 0, "eps": 1e-12}, lambda T, x: F(T).normalize(x, 3.0, 0))


# --- losses -----------------------------------------------------------------------------------------------------------

def probability(*shape: int) -> np.ndarray:
    return uniform(0.1, 0.9, *shape)


def sign(*shape: int) -> np.ndarray:
    return integers(0, 2, *shape) * 2.0 - 1


LOSSES: dict[str, tuple[tuple[Callable[..., np.ndarray], ...], list[dict[str, Any]]]] = {
    "mse_loss": ((normal, normal), [{}]),
    "l1_loss": ((normal, normal), [{}]),
    "smooth_l1_loss": ((normal, normal), [{}, {"beta": 0.4}, {"beta": 0.0}]),
    "huber_loss": ((normal, normal), [{"delta": 0.7}]),
    "binary_cross_entropy": ((probability, probability), [{}]),
    "bce_with_logits": ((normal, probability), [{}]),
    "kl_div": ((normal, probability), [{}, {"log_target": True}]),
    "poisson_nll_loss": ((probability, lambda *s: uniform(0.5, 4, *s)), [{"full": f, "log_input": i, "eps": 1e-8}
                                                                        for f in (False, True) for i in (False, True)]),
    "gaussian_nll_loss": ((normal, normal, lambda *s: uniform(0.5, 2, *s)), [{}, {"full": True}]),
    "hinge_embedding_loss": ((normal, sign), [{"margin": 0.5}]),
    "margin_ranking_loss": ((normal, normal, sign), [{"margin": 0.3}]),
    "soft_margin_loss": ((normal, sign), [{}]),
    "multilabel_soft_margin_loss": ((normal, lambda *s: integers(0, 2, *s) * 1.0), [{}]),
    "triplet_margin_loss": ((normal, normal, normal), [{}, {"margin": 3.0, "p": 3.0, "swap": True}]),
}


@of(*LOSSES)
def losses(name: str) -> Iterator[Sample]:
    makers, variants = LOSSES[name]
    called = {"bce_with_logits": "binary_cross_entropy_with_logits"}.get(name, name)
    for attrs in variants:
        for reduction in ("mean", "sum", "none"):
            def reference(T: Any, *x: Any, attrs: Any = attrs, reduction: str = reduction) -> Any:
                return getattr(F(T), called)(*x, **attrs, reduction=reduction)
            yield Sample(tuple(m(3, 4) for m in makers), {**attrs, "reduction": reduction}, reference,
                         fixed=(1,) if name in ("soft_margin_loss", "hinge_embedding_loss") else ())
    if name == "bce_with_logits":
        yield Sample((normal(3, 4), probability(3, 4), uniform(0.5, 2, 4)), {}, lambda T, x, t, p: getattr(
            F(T), called)(x, t, pos_weight=p), fixed=(2,))


@of("cosine_similarity", "pairwise_distance", "cosine_embedding_loss")
def rows(name: str) -> Iterator[Sample]:
    if name == "cosine_similarity":
        yield Sample((normal(3, 4), normal(3, 4)), {"axis": 1, "eps": 1e-8},
                     lambda T, a, b: F(T).cosine_similarity(a, b, 1))
    elif name == "pairwise_distance":
        yield Sample((normal(3, 4), normal(3, 4)), {"p": 2.0, "eps": 1e-6},
                     lambda T, a, b: F(T).pairwise_distance(a, b))
    else:
        for reduction in ("mean", "none"):
            yield Sample((normal(5, 4), normal(5, 4), np.array([1.0, -1, 1, -1, -1])),
                         {"margin": -0.5, "reduction": reduction},
                         lambda T, a, b, t, r=reduction: F(T).cosine_embedding_loss(a, b, t, -0.5, reduction=r),
                         fixed=(2,))


@of("nll_loss", "cross_entropy", "soft_cross_entropy")
def classes(name: str) -> Iterator[Sample]:
    for shape in ((4, 3), (2, 3, 5), (3,)):
        x, count = normal(*shape), shape[1] if len(shape) > 1 else shape[0]
        targets = integers(0, 3, *(shape[:1] + shape[2:] if len(shape) > 1 else ()))
        if targets.size > 2:
            targets.flat[1] = -100
        for weighted in (False, True):
            weight = (uniform(0.5, 2, count),) if weighted else ()
            for reduction in ("mean", "sum", "none"):
                for smoothing in (None,) if name == "nll_loss" else (0.0, 0.2):
                    attrs: dict[str, Any] = {"reduction": reduction}
                    if smoothing is not None:
                        attrs["label_smoothing"] = smoothing
                    goal = probability(*shape) if name == "soft_cross_entropy" else targets
                    called = "nll_loss" if name == "nll_loss" else "cross_entropy"

                    def reference(T: Any, x: Any, t: Any, *w: Any, attrs: Any = attrs, called: str = called) -> Any:
                        return getattr(F(T), called)(x, t, *w, **attrs)
                    yield Sample((x, goal, *weight), attrs, reference, fixed=() if "soft" in name else (2,))


# --- attention --------------------------------------------------------------------------------------------------------

@of("linear")
def linear() -> Iterator[Sample]:
    for lead in ((), (3,), (2, 3)):
        yield Sample((normal(*lead, 4), normal(5, 4)), {}, lambda T, x, w: F(T).linear(x, w))
        yield Sample((normal(*lead, 4), normal(5, 4), normal(5)), {}, lambda T, x, w, b: F(T).linear(x, w, b))


@of("dropout")
def dropout() -> Iterator[Sample]:
    for p in (0.3, 1.0):
        yield Sample((normal(3, 4), mt19937.draw(mt19937.seed(1), 24)[0]), {"p": p})


@of("attention")
def attention() -> Iterator[Sample]:
    q, k, v = normal(2, 3, 5, 4), normal(2, 3, 6, 4), normal(2, 3, 6, 2)
    attend = "scaled_dot_product_attention"
    yield Sample((q, k, v), {}, lambda T, q, k, v: getattr(F(T), attend)(q, k, v))
    yield Sample((q, k, v), {"is_causal": True, "scale": 0.3},
                 lambda T, q, k, v: getattr(F(T), attend)(q, k, v, is_causal=True, scale=0.3))
    yield Sample((q, k, v, normal(5, 6)), {}, lambda T, q, k, v, m: getattr(F(T), attend)(q, k, v, m))
    seen = integers(0, 2, 2, 1, 5, 6) > 0
    seen[0, 0, 2] = False
    yield Sample((q, k, v, seen), {}, lambda T, q, k, v, m: getattr(F(T), attend)(q, k, v, m))


# --- pooling ----------------------------------------------------------------------------------------------------------

@of("adaptive_avg_pool")
def adaptive() -> Iterator[Sample]:
    for spatial, output in (((6,), (3,)), ((7,), (3,)), ((7, 5), (1, 1)), ((7, 5), (3, 4)), ((3, 4, 5), (2, 4, 3)),
                            ((3, 2), (5, 4)), ((52,), (3,)), ((35, 3), (2, 2))):
        nd = len(spatial)
        yield Sample((distinct(2, 3, *spatial),), {"output": output}, lambda T, x, o=output, nd=nd: getattr(
            F(T), f"adaptive_avg_pool{nd}d")(x, o))


@of("interpolate")
def interpolations() -> Iterator[Sample]:
    for spatial, sizes, kind, antialias in (((4,), (7,), "linear", False), ((5, 4), (3, 6), "linear", False),
                                            ((5, 4), (7, 3), "cubic", False), ((9, 8), (4, 11), "linear", True),
                                            ((9, 7), (4, 2), "cubic", True)):
        nd = len(spatial)
        call = {"mode": "bicubic" if kind == "cubic" else "linear" if nd == 1 else "bilinear", "antialias": antialias}
        yield Sample((normal(2, 3, *spatial),), {"sizes": sizes, "scales": (None,) * nd, "kind": kind,
                                                 "align_corners": False, "antialias": antialias},
                     lambda T, x, sizes=sizes, call=call: F(T).interpolate(x, sizes, **call))


@of("grid_sample")
def grids() -> Iterator[Sample]:
    for channels, mode, padding in ((2, "bilinear", "zeros"), (9, "bilinear", "border"), (2, "bicubic", "reflection"),
                                    (9, "bicubic", "zeros")):
        attrs = {"mode": mode, "padding_mode": padding, "align_corners": False}
        yield Sample((normal(1, channels, 4, 3), uniform(-1.2, 1.2, 1, 2, 3, 2)), attrs,
                     lambda T, x, grid, attrs=attrs: F(T).grid_sample(x, grid, **attrs))


# --- optimizers -------------------------------------------------------------------------------------------------------

def _steps(n: int, scalars: tuple[float, ...], step: bool = True, **attrs: Any) -> Sample:
    """p and `n` states, [step], g, and hyperparameters."""
    states = [normal(3, 2), *[uniform(0.1, 1, 3, 2) for _ in range(n)]]
    return Sample((*states, *([np.array(3.0)] if step else []), normal(3, 2), *map(np.array, scalars)), attrs)


OPTIMIZERS: dict[str, list[Callable[[], Sample]]] = {
    "sgd_step": [lambda: _steps(0, (0.1,), False),
                 lambda: _steps(1, (0.1, 0.9, 0.1, 0.01), False, momentum=True, decay=True)],
    "adam_step": [lambda: _steps(2, (0.1, 0.9, 0.99, 1e-8)),
                  lambda: _steps(3, (0.1, 0.9, 0.99, 1e-8, 0.1), amsgrad=True, decay=True, decoupled=True)],
    "adadelta_step": [lambda: _steps(2, (1.0, 0.9, 1e-6))],
    "adagrad_step": [lambda: _steps(1, (0.1, 0.01, 1e-10))],
    "rmsprop_step": [lambda: _steps(3, (0.1, 0.9, 1e-8, 0.5), momentum=True, centered=True)],
    "adamax_step": [lambda: _steps(2, (0.1, 0.9, 0.99, 1e-8))],
    "radam_step": [lambda: _steps(2, (0.1, 0.9, 0.99, 1e-8))],
    "sparse_adam_step": [lambda: _steps(2, (0.1, 0.9, 0.99, 1e-8))],
    "muon_step": [lambda: _steps(1, (0.1, 0.01, 0.9, 1e-7), False, nesterov=True, coefficients=(3.4445, -4.775, 2.0315),
                                 steps=2, ratio=1.0)],
    "adafactor_step": [lambda: _steps(1, (0.1, -0.8, 1e-3, 1.0), factored=False, least=1e-7)],
    "rprop_step": [lambda: _steps(2, (0.5, 1.2, 1e-6, 50.0))],
}


@of(*OPTIMIZERS)
def optimizers(name: str) -> Iterator[Sample]:
    for make in OPTIMIZERS[name]:
        yield make()


@of("nadam_step")
def nadam() -> Iterator[Sample]:
    yield Sample((normal(3, 2), normal(3, 2), uniform(0.1, 1, 3, 2), np.array(0.8), np.array(3.0), normal(3, 2),
                  *map(np.array, (0.1, 0.9, 0.99, 1e-8, 0.004))))


@of("asgd_step")
def asgd() -> Iterator[Sample]:
    yield Sample((normal(3, 2), normal(3, 2), np.array(0.1), np.array(1.0), np.array(3.0), normal(3, 2),
                  *map(np.array, (0.1, 1e-4, 0.75, 1e6))))




# --- random numbers that are differentiable in their parameters ----------------------------------------------------

@of("standard_gamma", "dirichlet")
def sampled(name: str) -> Iterator[Sample]:
    yield Sample((mt19937.seed(3), uniform(0.2, 30, 3, 4)), {}, smooth=False)


@of("gamma_slope", "dirichlet_slope")
def slopes(name: str) -> Iterator[Sample]:
    alpha = np.concatenate([uniform(0.2, 1, 20), uniform(1, 8, 20), uniform(8, 60, 20)])
    fixed = (0, 1, 2)  # PyTorch does not differentiate them again
    if name == "gamma_slope":
        numbers = op_samples.R.gamma(alpha)
        yield Sample((alpha, numbers), {}, lambda T, a, x: T._standard_gamma_grad(a, x), False, fixed)
    else:
        beta = op_samples.R.permutation(alpha)
        numbers = op_samples.R.beta(alpha, beta)
        yield Sample((numbers, alpha, alpha + beta), {}, lambda T, x, a, t: T._dirichlet_grad(x, a, t), False, fixed)


# --- alignments and distances -----------------------------------------------------------------------------------------

def ctc_reference(T: Any, x: Any, targets: Any, steps: Any, sizes: Any) -> Any:
    """PyTorch's derivative takes for granted that probabilities sum to 1; this takes that term away."""
    inside = T.arange(x.shape[0])[:, None] < steps
    total = (x.exp().sum(2) * inside).sum(0)
    return F(T).ctc_loss(x, targets, steps, sizes, reduction="none") - (total - total.detach())


@of("ctc_loss")
def ctc_loss() -> Iterator[Sample]:
    for t, n, s, classes in ((6, 2, 2, 4), (5, 1, 3, 3), (1, 1, 1, 2), (3, 2, 0, 3)):
        steps, sizes = np.array([t, max(t - 1, 1)][:n]), np.array([s, max(s - 1, 0)][:n])
        x = normal(t, n, classes)
        x -= np.log(np.exp(x).sum(-1, keepdims=True))
        yield Sample((x, integers(1, classes, n, s), steps, sizes), {"blank": 0}, ctc_reference, fixed=(1, 2, 3))


@of("pdist")
def pdist() -> Iterator[Sample]:
    for p in (0.0, 1.0, 2.0, 3.0, math.inf):
        yield Sample((normal(5, 4),), {"p": p}, lambda T, x, p=p: F(T).pdist(x, p))
    yield Sample((normal(1, 3),), {}, lambda T, x: F(T).pdist(x))


@of("cdist")
def cdist() -> Iterator[Sample]:
    for p in (2.0, 1.0, 3.0, math.inf):
        yield Sample((normal(2, 3, 4), normal(2, 5, 4)), {"p": p}, lambda T, x, y, p=p: T.cdist(x, y, p))
    yield Sample((normal(4, 3), normal(2, 3)), {"product": True},
                 lambda T, x, y: T.cdist(x, y, compute_mode="use_mm_for_euclid_dist"))
    yield Sample((normal(0, 3), normal(2, 3)), {}, lambda T, x, y: T.cdist(x, y))


@of("cumprod_gradient")
def running_products() -> Iterator[Sample]:
    zeros = distinct(3, 6)
    zeros[0, 2] = zeros[1, 0] = zeros[1, 3] = zeros[2, 1] = zeros[2, 2] = zeros[2, 5] = 0
    for axis, x in ((1, zeros), (0, distinct(4, 2)), (0, distinct(1)), (1, distinct(2, 0))):
        def reference(T: Any, g: Any, x: Any, axis: int = axis) -> Any:
            differentiated = g.requires_grad or x.requires_grad
            x = x if x.requires_grad else x.detach().requires_grad_()
            found = T.autograd.grad((x.cumprod(axis) * g).sum(), x, create_graph=True)[0]
            return found if differentiated else found.detach()
        yield Sample((normal(*x.shape), x), {"axis": axis}, reference)
