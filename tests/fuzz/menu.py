"""The operations of the registry as statements of random programs, made from the samples of the tests.

An operation is drawn as soon as it has a sample with a reference. What its reference cannot say (results without a sign
or an order of their own, random numbers, optimizers) stands below under `PROGRAMS`.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does
import op_samples
from op_samples import ARITY, NO_SAMPLES, Sample, distinct, normal, samples, uniform

import jtorch
from jtorch import dtypes
from jtorch.ir.primitive import REGISTRY, Op

# --- programs of operations whose samples have no reference -----------------------------------------------------------

Program = Callable[..., Any]


def _square(n: int) -> np.ndarray:
    return normal(n, n) + 3 * np.eye(n)


def _seeded(program: Program) -> Program:
    def seeded(T: Any, *x: Any) -> Any:
        T.manual_seed(5)
        return program(T, *x)
    return seeded


def _pool_grad(name: str) -> Program:
    def of_input(T: Any, g: Any) -> Any:
        leaf = T.arange(30, dtype=g.dtype).sin().reshape(1, 1, 5, 6).requires_grad_()
        return T.autograd.grad(getattr(T.nn.functional, name)(leaf, 2), leaf, g, create_graph=True)[0]
    return of_input


def _optimized(name: str, **options: Any) -> Program:
    def program(T: Any, x: Any, g: Any) -> Any:
        p = T.nn.Parameter(x.detach().clone())
        optimizer = getattr(T.optim, name)([p], **options)
        for scale in (1.0, -0.5):
            p.grad = g.detach() * scale
            optimizer.step()
        return p.detach().clone()
    return program


def _write_strided(T: Any, x: Any, s: Any) -> Any:
    y = x.clone()
    y.as_strided((2, 3), (4, 1), 1).copy_(s)
    return y


def _eigh(T: Any, x: Any) -> Any:
    values, vectors = T.linalg.eigh(x + x.mT)
    return values, (vectors * values.exp()[..., None, :]) @ vectors.mT


def _svd(T: Any, x: Any) -> Any:
    u, s, vh = T.linalg.svd(x, full_matrices=False)
    return s, (u * s.sin()[..., None, :]) @ vh


def _eig(T: Any, x: Any) -> Any:
    values, vectors = T.linalg.eig(x)
    return ((vectors * values.cos()[..., None, :]) @ T.linalg.inv(vectors)).real


def _cast(target: str) -> Program:
    return lambda T, x: x.abs().to(getattr(T, target)).to(x.dtype)


X, G = (lambda: normal(3, 2)), (lambda: normal(3, 2))
SPREAD = (lambda: _square(3) * np.arange(1, 4),)
STEPS: dict[str, Program] = {
    "sgd_step": _optimized("SGD", lr=0.1, momentum=0.9), "adam_step": _optimized("Adam", lr=0.1),
    "adadelta_step": _optimized("Adadelta"), "adagrad_step": _optimized("Adagrad", lr=0.1),
    "rmsprop_step": _optimized("RMSprop", lr=0.1, momentum=0.5, centered=True),
    "adamax_step": _optimized("Adamax", lr=0.1), "nadam_step": _optimized("NAdam", lr=0.1),
    "radam_step": _optimized("RAdam", lr=0.1), "rprop_step": _optimized("Rprop", lr=0.1),
    "asgd_step": _optimized("ASGD", lr=0.1), "adafactor_step": _optimized("Adafactor", lr=0.1),
}

PROGRAMS: dict[str, list[tuple[tuple[Callable[[], np.ndarray], ...], Program]]] = {
    "within": [((X,), lambda T, x: T.nn.functional.embedding_bag(T.tensor([[0, 2], [1, 1]]), x, mode="sum"))],
    "row_places": [((X,), lambda T, x: x[T.tril_indices(3, 2)[0]])],
    "variable": [((X,), lambda T, x: x.detach().clone().requires_grad_() * 2)],
    "detach": [((X,), lambda T, x: x * x.detach())],
    "full": [((X,), lambda T, x: T.full((3, 2), 1.5) * x)],
    "iota": [((X,), lambda T, x: T.arange(2) * x)],
    "cast": [((lambda: distinct(2, 3),), _cast(d.name)) for d in dtypes.ALL
             if d is not dtypes.bool_ and not d.is_complex and not d.name.startswith("uint") or d is dtypes.uint8],
    "as_strided_scatter": [((lambda: normal(12), lambda: normal(2, 3)), _write_strided)],
    "lu_decomposition": [((lambda: _square(3),), lambda T, x: T.linalg.lu_factor(x)[0])],
    "lu_order": [((lambda: normal(4, 3),), lambda T, x: tuple(T.linalg.lu(x)))],
    "least_squares": [((lambda: normal(4, 2), lambda: normal(4, 3)), lambda T, a, b: T.linalg.lstsq(a, b).solution)],
    "lstsq": [((lambda: normal(4, 2), lambda: normal(4, 3)),
               lambda T, a, b: T.linalg.lstsq(a, b, driver="gelsd").solution)],
    "ldl_solve": [((lambda: _square(3), lambda: normal(3, 2)), lambda T, a, b: T.linalg.ldl_solve(
        *T.linalg.ldl_factor((a + a.mT).detach()), b.detach()))],
    "succeeded": [((lambda: _square(3),), lambda T, x: T.linalg.cholesky(x @ x.mT))],
    "eigh": [(SPREAD, _eigh)], "eig": [(SPREAD, _eig)], "svd": [(SPREAD, _svd)],
    "mt19937": [((X,), _seeded(lambda T, x: x * T.rand(3, 2)))],
    "scalar_normals": [((X,), _seeded(lambda T, x: x * T.randn(3, 2)))],
    "wide_integers": [((X,), _seeded(lambda T, x: T.randint(-5, 1 << 40, (3,))))],
    "shuffle": [((X,), _seeded(lambda T, x: x[T.randperm(3)]))],
    "gamma_draws": [((lambda: uniform(0.5, 5, 3),), _seeded(lambda T, x: T._standard_gamma(x.detach())))],
    "poisson_draws": [((lambda: uniform(0.5, 5, 3),), _seeded(lambda T, x: T.poisson(x.detach())))],
    "binomial_draws": [((lambda: uniform(0.2, 0.8, 3),), _seeded(
        lambda T, x: T.binomial(T.full((3,), 9, dtype=x.dtype), x.detach())))],
    "standard_gamma": [((lambda: uniform(0.5, 5, 3),), _seeded(lambda T, x: T._standard_gamma(x)))],
    "dirichlet": [((lambda: uniform(0.5, 5, 2, 3),), _seeded(
        lambda T, x: T.distributions.Dirichlet(x, validate_args=False).rsample()))],
    "dropout": [((X,), _seeded(lambda T, x: T.nn.functional.dropout(x, 0.3)))],
    "max_pool_grad": [((lambda: normal(1, 1, 2, 3),), _pool_grad("max_pool2d"))],
    "avg_pool_grad": [((lambda: normal(1, 1, 2, 3),), _pool_grad("avg_pool2d"))],
    **{name: [((X, G), step)] for name, step in STEPS.items()},
}
NOT_DRAWN = {
    **NO_SAMPLES,
    "cond": "regions have tests of their own", "while_loop": "likewise", "scan": "likewise",
    "sparse_adam_step": "needs gradients in the sparse layout", "muon_step": "computes in bfloat16",
    "bincount": "its size is read from its operand", "expanded": "the derivative of condensed",
    "sample": "grid_sample and interpolate, whose bodies have it",
    "sample_input_grad": "likewise", "sample_weight_grad": "likewise",
    "hardsigmoid": "PyTorch's float64 gradient has 1/6 rounded to float32, 5e-9 off",
}
NOT_RECORDED = {  # what PyTorch's function records in their place
    "condensed": "pdist, whose body has it", "distances": "cdist, whose body has it",
    "max_number": "softmax, whose body has it",
    "attend": "attention, whose body has it", "attend_grad": "likewise",
    "gamma_draws": "standard_gamma, whose body has it", "lu_decomposition": "lu_factor, whose body has it",
    **dict.fromkeys(("addcdiv", "addcmul", "clamp", "clamp_tensors", "dropout", "lerp", "rrelu"), "elementwise steps"),
}
NOT_TRACED = {"least_squares", "lstsq"}
"""The shape of their results depends on values: a trace refuses them."""

# --- the menu ---------------------------------------------------------------------------------------------------------

STEPPED = {"sign", "floor", "ceil", "trunc", "round", "fmod", "remainder", "floor_divide", "trunc_divide", "copysign",
           "nextafter"}
"""Rounding of their operands decides: they get numbers far from a step."""
REALMS: dict[str, Program] = {
    "real": lambda T, v: v,
    "float": lambda T, v: 3 * T.tanh(v / 3),
    "positive": lambda T, v: 1.65 + 1.3 * T.tanh(v),
    "unit": lambda T, v: 0.9 * T.tanh(v),
    "nonzero": lambda T, v: T.tanh(v) + T.where(v > 0, 0.5, -0.5).to(v.dtype),
    "above one": lambda T, v: 2.1 + 0.9 * T.tanh(v),
}
"""Of any numbers, those that an elementwise operation is defined for."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One sample of an operation. `free`: the operands that values of the program go into."""

    op: str
    number: int
    sample: Sample
    free: tuple[int, ...]


def _free(s: Sample) -> tuple[int, ...]:
    """Those that PyTorch differentiates; else all of them."""
    differentiated = tuple(i for i, a in enumerate(s.arrays) if a.dtype.kind in "fc" and i not in s.fixed)
    return differentiated or tuple(range(len(s.arrays)))


def _samples(op: Op) -> list[Sample]:
    found = samples(op)  # also seeds what `PROGRAMS` makes
    if op.name in PROGRAMS:
        return [Sample(tuple(make() for make in makers), {}, program) for makers, program in PROGRAMS[op.name]]
    found = [s for s in found if s.reference is not None]
    return [s for s in found if s.smooth] or found


@cache
def entries(name: str) -> tuple[Entry, ...]:
    return tuple(Entry(name, i, s, _free(s)) for i, s in enumerate(_samples(REGISTRY[name])) if _free(s))


@cache
def menu() -> tuple[str, ...]:
    """Names of the operations that can be drawn."""
    return tuple(name for name in sorted(REGISTRY) if name not in NOT_DRAWN and entries(name))


@cache
def elementwise() -> tuple[str, ...]:
    """Those that can be applied to values of any shape."""
    return tuple(n for n in menu() if REGISTRY[n].kind == "elementwise" and REGISTRY[n].domain in REALMS
                 and REGISTRY[n].no_grad is None and n not in STEPPED and n != "cast")


def arity(name: str) -> int:
    return ARITY.get(name, 2)


@cache
def results(name: str, number: int) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Shape and dtype of each result for float64 operands; empty if one of them is not finite."""
    entry = entries(name)[number]
    found = sampled(jtorch, name, number, *[jtorch.zeros(1, dtype=jtorch.float64) for _ in entry.free])
    if not all(bool(r.isfinite().all()) for r in found):
        return ()
    return tuple((tuple(r.shape), str(r.dtype).removeprefix("torch.")) for r in found)


# --- what programs call -----------------------------------------------------------------------------------------------

def _fit(torch: Any, v: Any, shape: tuple[int, ...]) -> Any:
    """The elements of `v`, again and again, in another shape."""
    n = int(np.prod(shape))
    flat = v.reshape(-1) if v.numel() else v.sum().reshape(1)
    return flat.repeat(-(-n // flat.shape[0]))[:n].reshape(shape)


def _laid(torch: Any, x: Any, layout: int) -> Any:
    """`x` in another layout of the memory: 1 transposed, 2 stepped, 3 with an offset."""
    if layout == 1:
        return x.transpose(0, -1).contiguous().transpose(0, -1) if x.ndim > 1 else x
    if layout == 2:
        return torch.stack([x, x * 2], -1)[..., 0]
    if layout == 3:
        return torch.cat([torch.ones(1, dtype=x.dtype), x.reshape(-1)])[1:].view(x.shape)
    return x


def sampled(torch: Any, name: str, number: int, *given: Any, layout: int = 0) -> tuple:
    """The operation's sample, moved a little by the values given; complex results as pairs of real ones."""
    entry, dtype = entries(name)[number], given[0].dtype
    operands = []
    for i, a in enumerate(entry.sample.arrays):
        x = torch.tensor(a.real if a.dtype.kind == "c" else a)
        x = x.to(dtype) if x.dtype == torch.float64 else x
        if i in entry.free:
            v = _fit(torch, given[entry.free.index(i)].to(dtype), a.shape)
            if a.dtype.kind == "b":
                x = x ^ (v > 0)
            elif a.dtype.kind in "iu":
                x = x * (1 + (v > 0).to(x.dtype))
            else:
                by = 0.05 * (v.detach() if i in entry.sample.fixed else v).tanh()
                x = x + by
            if a.dtype.kind == "c":
                x = torch.complex(x, torch.tensor(a.imag).to(dtype) - by)
            x = _laid(torch, x, layout)
        elif a.dtype.kind == "c":
            x = torch.complex(x, torch.tensor(a.imag).to(dtype))
        operands.append(x)
    found = entry.sample.reference(torch, *operands)
    found = found if isinstance(found, tuple) else (found,)
    return tuple(torch.stack([r.real, r.imag], -1) if r.dtype.is_complex else r for r in found)


def applied(torch: Any, name: str, *given: Any) -> Any:
    """An elementwise operation of values brought to where it is defined."""
    realm = REALMS[REGISTRY[name].domain]
    return op_samples.torch_function(name)(torch, *[realm(torch, v) for v in given])
