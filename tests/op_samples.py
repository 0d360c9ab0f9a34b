"""Inputs for every operation of the registry, and what PyTorch computes from them.

`samples(op)` gives a few `Sample`s. A `reference` is a function of the torch module and of torch tensors, so that
nothing here needs PyTorch. Float samples are float64; tests cast them down for other dtypes.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import jtorch.ir  # noqa: F401  registers the operations
from jtorch import dtypes
from jtorch.ir import mt19937
from jtorch.ir.graph import Builder, Type
from jtorch.ir.primitive import REGISTRY, Op
from jtorch.ir.prims.control import trace
from jtorch.ir.prims.create import make_leaf, variable
from jtorch.ir.prims.elementwise import REAL_ONLY

SHAPES = ((), (3,), (2, 3), (0, 2))
R = np.random.default_rng(20)


@dataclass
class Sample:
    """`smooth`: may finite differences be taken (no kink or tie at hand)? `fixed`: operands that PyTorch does not
    differentiate with respect to."""

    arrays: tuple[np.ndarray, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    reference: Callable[..., Any] | None = None
    smooth: bool = True
    fixed: tuple[int, ...] = ()


def normal(*shape: int) -> np.ndarray:
    return R.standard_normal(shape)


def complex_normal(*shape: int) -> np.ndarray:
    return R.standard_normal(shape) + 1j * R.standard_normal(shape)


def uniform(low: float, high: float, *shape: int) -> np.ndarray:
    return R.uniform(low, high, shape)


def distinct(*shape: int) -> np.ndarray:
    """Values far enough from each other, and from 0, for finite differences."""
    n = int(np.prod(shape))
    return ((R.permutation(n) - n / 2 + 0.25) * 0.37).reshape(shape)


def integers(low: int, high: int, *shape: int) -> np.ndarray:
    return R.integers(low, high, shape)


REAL: dict[str, Callable[..., np.ndarray]] = {
    "real": distinct,
    "float": lambda *s: normal(*s) + 0.01,
    "positive": lambda *s: uniform(0.3, 3, *s),
    "unit": lambda *s: uniform(-0.9, 0.9, *s),
    "nonzero": lambda *s: uniform(0.5, 2, *s) * np.where(R.random(s) < 0.5, -1, 1),
    "above one": lambda *s: uniform(1.2, 3, *s),
}

# --- elementwise ------------------------------------------------------------------------------------------------------

ARITY = dict.fromkeys("""neg abs sign exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan asin acos
    atan sinh cosh tanh asinh acosh atanh sigmoid relu erf erfc floor ceil trunc round isnan isinf isfinite logical_not
    bitwise_not lgamma digamma erfinv""".split(), 1)
TORCH_NAMES = {"left_shift": "bitwise_left_shift", "right_shift": "bitwise_right_shift"}


def torch_function(name: str) -> Callable[..., Any]:
    if name in ("floor_divide", "trunc_divide"):
        mode = name.partition("_")[0]
        return lambda T, a, b: T.div(a, b, rounding_mode=mode)
    if name == "where":
        return lambda T, c, a, b: T.where(c, a, b)
    return lambda T, *x: getattr(T, TORCH_NAMES.get(name, name), None)(*x)


def elementwise_samples(op: Op) -> Iterator[Sample]:
    reference = torch_function(op.name)
    if op.name == "cast":
        for target in dtypes.ALL:
            if target not in (dtypes.uint32,):
                yield Sample((distinct(2, 3),), {"dtype": target}, None, target is dtypes.float64)
        return
    if op.name == "where":
        yield Sample((R.random((2, 3)) < 0.5, distinct(2, 3), distinct(2, 3)), {}, reference)
        return
    if op.domain is None:  # not one of the pure operations of programs: see NO_SAMPLES
        return
    if op.name == "within":
        yield Sample((integers(0, 5, 2, 3), np.full((2, 3), 5)), {}, lambda T, index, size: index)
        return
    arity = ARITY.get(op.name, 2)
    if op.domain == "integer":
        for d in (np.int64, np.uint8, np.bool_):
            if "shift" in op.name:
                if d is np.bool_:
                    continue
                yield Sample((integers(0, 9, 2, 3).astype(d), integers(0, 4, 2, 3).astype(d)), {}, reference)
            else:
                yield Sample(tuple(integers(0, 2 if d is np.bool_ else 100, 2, 3).astype(d) for _ in range(arity)), {},
                             reference)
        return
    make = REAL[op.domain]
    for shape in SHAPES:
        yield Sample(tuple(make(*shape) for _ in range(arity)), {}, reference)
    if op.name not in REAL_ONLY and op.name not in ("isnan", "isinf", "isfinite", "logical_not"):
        for shape in SHAPES[1:3]:
            yield Sample(tuple(0.5 + complex_normal(*shape) / 3 for _ in range(arity)), {},
                         torch_function("sgn" if op.name == "sign" else op.name))
    if op.domain in ("real", "nonzero") and op.name not in ("copysign", "relu"):  # integers have a meaning too
        a = tuple(integers(1, 6, 4).astype(np.int32) * np.array([1, -1, 1, -1], np.int32) for _ in range(arity))
        if op.name not in ("div", "atan2", "reciprocal", "floor", "ceil", "trunc", "round"):
            yield Sample(a, {}, reference)


# --- everything else --------------------------------------------------------------------------------------------------

def movement(name: str) -> Iterator[Sample]:
    x = normal(2, 3, 4)
    if name == "reshape":
        yield Sample((x,), {"shape": (4, 6)}, lambda T, x: x.reshape(4, 6))
        yield Sample((normal(1),), {"shape": ()}, lambda T, x: x.reshape(()))
    if name == "permute":
        yield Sample((x,), {"perm": (2, 0, 1)}, lambda T, x: x.permute(2, 0, 1))
        yield Sample((normal(),), {"perm": ()}, lambda T, x: x)
    if name == "expand":
        yield Sample((normal(3, 1),), {"shape": (2, 3, 4)}, lambda T, x: x.expand(2, 3, 4))
        yield Sample((normal(),), {"shape": (2, 0)}, lambda T, x: x.expand(2, 0))
    if name == "slice":
        yield Sample((x,), {"starts": (0, 1, 0), "stops": (2, 3, 4), "steps": (1, 1, 2)}, lambda T, x: x[:, 1:, ::2])
        yield Sample((x,), {"starts": (0, 1, 0), "stops": (2, 1, 4), "steps": (1, 1, 3)}, lambda T, x: x[:, 1:1, ::3])
    if name == "pad":
        yield Sample((normal(2, 3), normal()), {"widths": ((1, 0, 0), (0, 2, 0))},
                     lambda T, x, v: T.cat([T.cat([v.expand(1, 3), x]), v.expand(3, 2)], 1))
        yield Sample((normal(3), normal()), {"widths": ((0, 1, 2),)}, None)
    if name == "condensed":
        yield Sample((normal(2, 4, 4),), {}, lambda T, x: x[:, *T.triu_indices(4, 4, 1)])
    if name == "expanded":
        yield Sample((normal(2, 6),), {"size": 4})
    if name == "extend":
        for mode in ("reflect", "replicate", "circular"):
            yield Sample((normal(1, 2, 3, 4),), {"widths": ((0, 0), (0, 0), (1, 2), (3, 0)), "mode": mode},
                         lambda T, x, m=mode: T.nn.functional.pad(x, (3, 0, 1, 2), mode=m))
        yield Sample((normal(2, 1, 3),), {"widths": ((0, 0), (0, 0), (2, 2)), "mode": "reflect"},
                     lambda T, x: T.nn.functional.pad(x, (2, 2), mode="reflect"))
    if name == "flip":
        yield Sample((x,), {"axes": (0, 2)}, lambda T, x: x.flip(0, 2))
    if name == "concatenate":
        yield Sample((normal(2, 3), normal(2, 1), normal(2, 0)), {"axis": 1}, lambda T, *x: T.cat(x, 1))
    if name == "as_strided":
        yield Sample((normal(12),), {"shape": (3, 4), "strides": (2, 1), "offset": 1},
                     lambda T, x: x.as_strided((3, 4), (2, 1), 1))
    if name == "as_strided_scatter":
        where = {"shape": (2, 3), "strides": (4, 1), "offset": 1}
        yield Sample((normal(12), normal(2, 3)), {**where, "accumulate": False}, None)  # PyTorch's gradient is wrong
        yield Sample((normal(12), normal(2, 3)), {**where, "accumulate": True}, None)
    if name == "slice_update":
        yield Sample((x, normal(2, 2, 2)), {"starts": (0, 1, 0), "stops": (2, 3, 4), "steps": (1, 1, 2)},
                     lambda T, x, s: T.slice_scatter(x, T.slice_scatter(x[:, 1:], s, 2, 0, 4, 2), 1, 1, 3))


def reductions(name: str) -> Iterator[Sample]:
    if name in ("argmax", "argmin"):
        for axis in (0, 1):
            yield Sample((distinct(3, 4),), {"axis": axis}, lambda T, x, a=axis: getattr(T, name)(x, a))
        return
    if name in ("any", "all"):
        yield Sample((R.random((3, 4)) < 0.5,), {"axes": (1,)}, lambda T, x: getattr(T, name)(x, 1))
        return
    call = {"max": "amax", "min": "amin", "max_number": "amax"}.get(name, name)

    def reference(T: Any, x: Any, axes: Any) -> Any:
        if name == "prod":
            for a in reversed(axes):
                x = x.prod(a)
            return x
        return getattr(T, call)(x, axes)
    for shape, axes in (((3, 4), (0,)), ((2, 3, 2), (0, 2)), ((5,), (0,))):
        yield Sample((distinct(*shape),), {"axes": axes}, lambda T, x, axes=axes: reference(T, x, axes))
    if name == "prod":
        zeros = uniform(0.5, 2, 4, 3)
        zeros[1, 2] = zeros[2, 0] = zeros[2, 1] = zeros[3] = 0
        yield Sample((zeros,), {"axes": (1,)}, lambda T, x: x.prod(1))
    if name in ("sum", "prod"):
        yield Sample((complex_normal(3, 2),), {"axes": (0,)}, lambda T, x: reference(T, x, (0,)))
        yield Sample((normal(0, 2),), {"axes": (0,)}, lambda T, x: reference(T, x, (0,)))
    if name == "prod":
        zeros = distinct(3, 3)
        zeros[0, 0] = zeros[1, 0] = zeros[1, 1] = 0
        yield Sample((zeros,), {"axes": (1,)}, lambda T, x: x.prod(1))


def indexing(name: str) -> Iterator[Sample]:
    x, rows = normal(4, 5, 3), integers(-5, 5, 2, 3)
    places = integers(0, 5, 3, 7, 2)
    if name == "view_dtype":
        for d, t in ((dtypes.int64, "int64"), (dtypes.int32, "int32"), (dtypes.complex128, "complex128")):
            yield Sample((normal(3, 8),), {"dtype": d}, lambda T, x, t=t: x.view(getattr(T, t)), smooth=False)
        yield Sample((normal(0, 4),), {"dtype": dtypes.int16}, smooth=False)
        return
    if name.startswith("sample"):
        for shape, index in (((2, 3, 5, 1), integers(-1, 6, 2, 4, 7)), ((2, 1, 4, 3), integers(0, 4, 2, 2, 6)),
                             ((1, 6, 5, 1), integers(0, 5, 1, 17, 3))):
            weight, out = normal(*index.shape), normal(*shape[:2], index.shape[2], shape[3])
            x = normal(*shape)
            arrays = {"sample": (x, index, weight), "sample_input_grad": (out, index, weight),
                      "sample_weight_grad": (x, index, out)}[name]
            yield Sample(arrays, {"size": shape[2]} if name == "sample_input_grad" else {}, None)
    if name == "take":
        yield Sample((x, rows), {"axis": 1}, lambda T, x, i: x[:, i])
        yield Sample((x, np.array(2)), {"axis": 2}, lambda T, x, i: x[:, :, i])
        yield Sample((x, np.zeros((0,), np.int64)), {"axis": 0}, lambda T, x, i: x[i])
    if name == "put_add":
        yield Sample((x, rows, normal(4, 2, 3, 3)), {"axis": 1},
                     lambda T, x, i, s: x.index_put((T.arange(4)[:, None, None], i), s, accumulate=True))
    if name == "put":
        yield Sample((x, np.array([3, -5]), normal(4, 2, 3)), {"axis": 1},
                     lambda T, x, i, s: x.index_copy(1, i % 5, s))
    if name == "gather":
        yield Sample((x, places), {"axis": 1}, lambda T, x, i: x.gather(1, i))
        yield Sample((x, places[:0]), {"axis": 1}, lambda T, x, i: x.gather(1, i))
    if name == "scatter":
        src = distinct(3, 7, 2)
        once = np.argsort(R.random((3, 5, 2)), axis=1)
        yield Sample((x, once, src[:, :5]), {"axis": 1, "mode": "set"}, lambda T, x, i, s: x.scatter(1, i, s))
        for mode, theirs in (("add", "sum"), ("prod", "prod"), ("amax", "amax"), ("amin", "amin")):
            yield Sample((x, places, src), {"axis": 1, "mode": mode},
                         lambda T, x, i, s, m=theirs: x.scatter_reduce(1, i, s, m))
    if name == "searchsorted":
        for right in (False, True):
            yield Sample((np.sort(normal(6)), normal(2, 3)), {"right": right},
                         lambda T, e, x, r=right: T.searchsorted(e, x, right=r))
        yield Sample((np.sort(normal(2, 6)), normal(2, 3)), {"right": False}, lambda T, e, x: T.searchsorted(e, x))


CONVOLUTIONS = ((1, 1, 0, 1, 1), (2, 1, 0, 1, 1), (2, 2, 1, 1, 2), (2, 1, 2, 2, 1), (2, 3, 1, 2, 4), (3, 2, 1, 1, 2))


def convolutions(name: str) -> Iterator[Sample]:
    for nd, stride, padding, dilation, groups in CONVOLUTIONS:
        x, w = normal(2, 4, *(7, 6, 5)[:nd]), normal(4, 4 // groups, *(3, 2, 1)[:nd])
        attrs = {"stride": (stride,) * nd, "padding": ((padding, padding),) * nd, "dilation": (dilation,) * nd,
                 "groups": groups}
        y = REGISTRY["convolution"].numpy(x, w, **attrs)
        plain = (stride, padding, dilation, groups)

        def conv(T: Any, x: Any, w: Any, nd: int = nd, plain: tuple = plain) -> Any:
            s, p, d, g = plain
            return getattr(T.nn.functional, f"conv{nd}d")(x, w, None, s, p, d, g)

        def of_input(T: Any, g: Any, w: Any, x: Any = x, conv: Any = conv) -> Any:
            leaf = T.zeros(x.shape, dtype=g.dtype, requires_grad=True)
            return T.autograd.grad(conv(T, leaf, w), leaf, g, create_graph=True)[0]

        def of_weight(T: Any, g: Any, x: Any, w: Any = w, conv: Any = conv) -> Any:
            leaf = T.zeros(w.shape, dtype=g.dtype, requires_grad=True)
            return T.autograd.grad(conv(T, x, leaf), leaf, g, create_graph=True)[0]

        if name == "convolution":
            yield Sample((x, w), attrs, conv)
        if name == "conv_input_grad":
            yield Sample((y, w), {"input_spatial": x.shape[2:], **attrs}, of_input)
        if name == "conv_weight_grad":
            yield Sample((y, x), {"kernel_spatial": w.shape[2:], **attrs}, of_weight)


def pools(name: str) -> Iterator[Sample]:
    if name == "adaptive_max_pool":
        for spatial, output in (((6,), (3,)), ((7,), (3,)), ((7, 5), (3, 4)), ((3, 4, 5), (2, 4, 3)), ((3, 2), (5, 4))):
            yield Sample((distinct(2, 3, *spatial),), {"output": output}, lambda T, x, o=output: getattr(
                T.nn.functional, f"adaptive_max_pool{len(o)}d")(x, o, return_indices=True))
        return
    for nd, k, s, p, d, ceil in ((1, 2, 2, 0, 1, False), (2, 3, 2, 1, 1, False), (2, 3, 2, 1, 1, True),
                                 (2, 2, 1, 1, 2, False), (3, 2, 2, 0, 1, True)):
        x = distinct(2, 3, *(7, 6, 5)[:nd])

        def t(v: Any, nd: int = nd) -> tuple:
            return (v,) * nd
        attrs = {"kernel": t(k), "stride": t(s), "padding": t(p), "ceil_mode": ceil}
        if name in ("max_pool", "max_pool_grad"):
            attrs["dilation"] = t(d)
            y, indices = REGISTRY["max_pool"].numpy(x, **attrs)
            if name == "max_pool":
                yield Sample((x,), attrs, lambda T, x, nd=nd, a=(k, s, p, d), c=ceil: getattr(
                    T.nn.functional, f"max_pool{nd}d")(x, *a, ceil_mode=c, return_indices=True))
            else:
                yield Sample((y, indices), {"input_spatial": x.shape[2:]})
        elif d == 1:
            for include, divisor in ((True, None), (False, None), (True, 3)):
                if nd == 1 and divisor:
                    continue
                more = {"count_include_pad": include, "divisor_override": divisor}

                def reference(T: Any, x: Any, nd: int = nd, a: tuple = (k, s, p, ceil, include),
                              v: Any = divisor) -> Any:
                    pool = getattr(T.nn.functional, f"avg_pool{nd}d")
                    return pool(x, *a) if nd == 1 else pool(x, *a, v)
                y = REGISTRY["avg_pool"].numpy(x, **attrs, **more)
                if name == "avg_pool":
                    yield Sample((x,), {**attrs, **more}, reference)
                else:
                    yield Sample((y,), {"input_spatial": x.shape[2:], **attrs, **more})


def random(name: str) -> Iterator[Sample]:
    state = mt19937.seed(3)
    if name in ("mt19937", "scalar_normals"):
        yield Sample((state,), {"count": 7})
    if name == "wide_integers":
        yield Sample((mt19937.draw(state, 8)[0],), {"low": -5, "span": 1 << 40})
    if name == "shuffle":
        yield Sample((np.array([2, 0, 1, 0]),), {"length": 5})
    if name in ("gamma_draws", "poisson_draws"):
        yield Sample((state, uniform(0.2, 30, 3, 4)), {}, smooth=False)
    if name == "binomial_draws":
        yield Sample((state, integers(0, 90, 3, 4) * 1.0, uniform(0, 1, 3, 4)), {}, smooth=False)


COMPLEX: dict[str, Callable[..., Any]] = {
    "conj": lambda T, x: x.conj().resolve_conj(), "view_as_real": lambda T, x: T.view_as_real(x),
    "view_as_complex": lambda T, x: T.view_as_complex(x), "real_part": lambda T, x: x.real * 1,
    "imag_part": lambda T, x: x.imag * 1,
}


SPECIAL = set("""erfcx log_ndtr ndtri i0 i1 i0e i1e airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1
    spherical_bessel_j0 modified_bessel_k0 modified_bessel_k1 scaled_modified_bessel_k0
    scaled_modified_bessel_k1""".split())
UNARY_DOMAINS = {**REAL, "fraction": lambda *s: uniform(0.05, 0.95, *s)}


def library(name: str) -> Iterator[Sample]:
    if name == "sort":
        for descending in (False, True):
            yield Sample((distinct(3, 4),), {"axis": 1, "descending": descending, "stable": True},
                         lambda T, x, d=descending: tuple(T.sort(x, dim=1, descending=d, stable=True)))
        yield Sample((distinct(3, 4),), {"axis": 1, "descending": True, "stable": True, "part": (1, 3)},
                     lambda T, x: tuple(r[:, 1:3] for r in T.sort(x, dim=1, descending=True, stable=True)))
        ties = integers(0, 3, 3, 9).astype(np.float64)
        yield Sample((ties,), {"axis": 1, "descending": True, "stable": True},
                     lambda T, x: tuple(T.sort(x, dim=1, descending=True, stable=True)), False)
        return
    if name == "nth":
        for shape, axis in (((5,), 0), ((3, 4), 1), ((3, 4), 0), ((0, 3), 1)):
            rest = shape[:axis] + shape[axis + 1:]
            middle = np.full(rest, (shape[axis] - 1) // 2)
            yield Sample((distinct(*shape), middle), {"axis": axis}, lambda T, x, k, a=axis: tuple(T.nanmedian(x, a)))
            yield Sample((distinct(*shape), integers(0, shape[axis], *rest)), {"axis": axis})
        ties = integers(0, 3, 3, 9).astype(np.float64)
        yield Sample((ties, integers(0, 9, 3)), {"axis": 1}, smooth=False)
        return
    if name == "bincount":
        for shape in ((300,), (2, 3), (2, 0)):
            yield Sample((integers(0, 4, *shape),), {"size": 6},
                         (lambda T, x: (x[:, None] == T.arange(6)).sum(0)) if len(shape) == 1 else None)
        return
    if name == "row_places":
        yield Sample((np.array([0, 3, 1]), np.array([2, 2, 6])), {"total": 6})
        return
    if name in ("gcd", "lcm"):
        yield Sample((integers(-40, 40, 3, 4), integers(-40, 40, 3, 4)), {}, lambda T, a, b: getattr(T, name)(a, b))
        return
    if name == "frexp":
        for shape in SHAPES:
            yield Sample((normal(*shape) * 9,), {}, lambda T, x: tuple(T.frexp(x)))
        return
    if name in ("gammainc", "gammaincc"):
        yield Sample((uniform(0.3, 6, 3, 2), uniform(0.3, 6, 3, 2)), {}, lambda T, a, x: getattr(T.special, name)(a, x),
                     fixed=(0,))
        return
    if REGISTRY[name].domain == "degree":
        degrees = integers(-1, 8, 3, 4).astype(np.float64) + 0.25
        yield Sample((uniform(-1.5, 1.5, 3, 4), degrees), {}, lambda T, x, n: getattr(T.special, name)(x, n))
        return
    if name == "zeta":
        yield Sample((uniform(1.3, 6, 3, 2), uniform(0.3, 6, 3, 2)), {}, lambda T, x, q: T.special.zeta(x, q),
                     fixed=(0,))
        return
    if name in SPECIAL:
        make = UNARY_DOMAINS[REGISTRY[name].domain]
        for shape in SHAPES:
            yield Sample((make(*shape),), {}, lambda T, x: getattr(T.special, name)(x))
        yield Sample((np.array([0.0]),), {}, lambda T, x: getattr(T.special, name)(x), smooth=False)
        return
    if name == "polygamma":
        for n in (1, 3):
            yield Sample((uniform(0.3, 6, 3, 2),), {"n": n}, lambda T, x, n=n: T.polygamma(n, x))
        return
    if name == "make_complex":
        yield Sample((normal(2, 3), normal(2, 3)), {}, lambda T, re, im: T.complex(re, im))
        return
    if name in COMPLEX:
        for shape in ((), (3,), (2, 3)):
            x = complex_normal(*shape)
            x = np.stack([x.real, x.imag], -1) if name == "view_as_complex" else x
            yield Sample((np.asarray(x),), {}, COMPLEX[name])
        return
    for axis, shape in ((0, (5,)), (1, (2, 4, 3)), (0, (0, 2))):
        if shape[axis] or name in ("cumsum", "cumprod"):
            yield Sample((distinct(*shape),), {"axis": axis}, lambda T, x, a=axis: _plain(getattr(T, name)(x, a)))
    if name == "cumprod":
        zeros = distinct(2, 6)
        zeros[0, 2] = zeros[1, 0] = zeros[1, 3] = 0
        yield Sample((zeros,), {"axis": 1}, lambda T, x: x.cumprod(1))


def _plain(v: Any) -> Any:
    return tuple(v) if isinstance(v, tuple) else v


def control(name: str) -> Iterator[Sample]:
    vector, matrix = Type(dtypes.float64, (3,)), Type(dtypes.float64, (3, 3))
    tanh, matmul, total = REGISTRY["tanh"], REGISTRY["matmul"], REGISTRY["sum"]
    if name == "cond":
        branches = {"then_branch": trace(lambda x, y: [x * y, x], [vector, vector], "then"),
                    "else_branch": trace(lambda x, y: [tanh(x), y * y], [vector, vector], "otherwise")}
        for p in (True, False):
            yield Sample((np.array(p), normal(3), normal(3)), branches,
                         lambda T, p, x, y: (x * y, x) if p else (T.tanh(x), y * y))
    if name == "while_loop":
        go_on = trace(lambda x, y: [total(x, axes=(0,)) < 50.0], [vector, vector], "go_on")
        step = trace(lambda x, y: [x * y + tanh(x), y], [vector, vector], "step")

        def loop(T: Any, x: Any, y: Any) -> Any:
            while x.sum() < 50:
                x = x * y + x.tanh()
            return x, y
        yield Sample((np.array([1.0, 2.0, 0.5]), np.array([1.5, 1.2, 1.1])), {"condition": go_on, "body": step}, loop)
    if name == "scan":
        row = Type(dtypes.float64, (1, 3))

        def step_of(emit: bool) -> Any:
            def step(w: Any, h: Any, x: Any) -> list:
                h = tanh(matmul(h, w) + x)
                return [h, h if emit else h * h]
            return step
        for emit in (True, False):
            body = trace(step_of(emit), [matrix, row, row], "step")
            for reverse in (False, True):
                def unrolled(T: Any, w: Any, h: Any, xs: Any, emit: bool = emit, reverse: bool = reverse) -> Any:
                    ys: list = [None] * 4
                    for i in reversed(range(4)) if reverse else range(4):
                        h = T.tanh(h @ w + xs[i])
                        ys[i] = h if emit else h * h
                    return h, T.stack(ys)
                yield Sample((normal(3, 3) * 0.5, normal(1, 3), normal(4, 1, 3)),
                             {"body": body, "n_carry": 1, "length": 4, "n_consts": 1, "reverse": reverse}, unrolled)


def contract(name: str) -> Iterator[Sample]:
    if name == "distances":
        for p in (0.0, 1.0, 2.0, 3.0, math.inf):
            yield Sample((normal(2, 3, 4), normal(2, 5, 4)), {"p": p}, lambda T, x, y, p=p: T.cdist(x, y, p))
        yield Sample((normal(3, 0), normal(2, 0)), {"p": 1.0}, lambda T, x, y: T.cdist(x, y, 1.0))
        return
    if name in ("attend", "attend_grad"):
        yield from attention(name)
        return
    yield Sample((normal(3, 4), normal(4, 2)), {}, lambda T, a, b: a @ b)
    yield Sample((normal(2, 3, 4), normal(2, 4, 2)), {}, lambda T, a, b: a @ b)
    yield Sample((normal(3, 0), normal(0, 2)), {}, lambda T, a, b: a @ b)
    yield Sample((complex_normal(2, 3, 4), complex_normal(2, 4, 2)), {}, lambda T, a, b: a @ b)


def attention(name: str) -> Iterator[Sample]:
    for lead, t, s, e, d, causal in (((), 3, 4, 2, 3, False), ((2,), 4, 3, 2, 3, True), ((2, 1), 2, 5, 3, 1, True)):
        attrs = {"causal": causal, "scale": 0.6}
        q, k, v, g = normal(*lead, t, e), normal(*lead, s, e), normal(*lead, s, d), normal(*lead, t, d)

        def attended(T: Any, q: Any, k: Any, v: Any, causal: bool = causal) -> Any:
            scores = q @ k.mT * 0.6
            seen = T.ones_like(scores).tril() > 0 if causal else T.ones_like(scores) > 0
            scores = scores.masked_fill(~seen, -T.inf)
            return T.softmax(scores, -1) @ v, T.logsumexp(scores, -1)

        def cotangents(T: Any, q: Any, k: Any, v: Any, g: Any, sums: Any, delta: Any, causal: bool = causal) -> Any:
            scores = q @ k.mT * 0.6
            weights = T.exp(scores - sums[..., None])
            weights = weights.tril() if causal else weights
            slopes = weights * (g @ v.mT - delta[..., None]) * 0.6
            return slopes @ k, slopes.mT @ q, weights.mT @ g
        if name == "attend":
            yield Sample((q, k, v), attrs, attended)
        else:
            yield Sample((q, k, v, g, normal(*lead, t) + 3, normal(*lead, t)), attrs, cotangents)


def create(name: str) -> Iterator[Sample]:
    if name == "full":
        yield Sample((), {"shape": (2, 3), "value": 1.5, "dtype": dtypes.float32})
    if name == "iota":
        yield Sample((), {"length": 5, "dtype": dtypes.int64})


def markers(name: str) -> Iterator[Sample]:
    if name == "variable":
        yield Sample((normal(2),), {"number": 3})
    if name == "detach":
        yield Sample((normal(2),), {})


FAMILIES: dict[str, Callable[[str], Iterator[Sample]]] = {
    "movement": movement, "reduce": reductions, "random": random, "library": library, "scan": library,
    "control": control,
    "contract": contract, "create": create, "marker": markers,
}


def samples(op: Op) -> list[Sample]:
    """Samples of one operation, the same ones in each process."""
    global R
    R = np.random.default_rng(sum(map(ord, op.name)))
    from linalg_samples import LINALG  # it takes its makers from here
    if op.name in LINALG:
        return list(LINALG[op.name]())
    if op.kind == "elementwise":
        return list(elementwise_samples(op))
    if op.kind == "composite":
        from composite_samples import COMPOSITES  # it takes its makers from here
        return list(COMPOSITES[op.name]()) if op.name in COMPOSITES else []
    if op.kind == "index":
        return [*indexing(op.name), *movement(op.name)]
    if op.kind == "window":
        return list(convolutions(op.name) if op.name.startswith("conv") else pools(op.name))
    family = FAMILIES.get(op.kind)
    return list(family(op.name)) if family else []


# --- running them -----------------------------------------------------------------------------------------------------

def differentiable(v: Any) -> bool:
    return v.dtype.is_floating_point or v.dtype.is_complex


def applied(op: Op, arrays: tuple[np.ndarray, ...], attrs: dict[str, Any],
            mark: bool = False) -> tuple[list, list, tuple]:
    """(leaves, operands, results) of one application; `mark` makes variables of the floating operands."""
    b = Builder()
    b.default_float = dtypes.float64
    leaves = [make_leaf(b, i, Type(dtypes.from_numpy(a.dtype), a.shape)) for i, a in enumerate(arrays)]
    operands = [variable(v, number=i) if mark and differentiable(v) else v for i, v in enumerate(leaves)]
    result = b.apply(op, *operands, **attrs)
    return leaves, operands, result if isinstance(result, tuple) else (result,)


NO_SAMPLES = {
    "copy": "exists in compiled graphs only",
    "leaf": "a parameter has no computation",
    "placeholder": "likewise",
    "graft": "a write without a derivative; the fuzz programs make them",
    "call": "a captured function, its body; tests of jit.trace cover it",
    "refused": "its derivative is an error; tests of qr cover it",
    "custom_function": "its derivative belongs to the user; tests of autograd.Function cover it",
}
