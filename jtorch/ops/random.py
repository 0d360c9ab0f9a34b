"""Random numbers: generators, whose state is a tensor like any other, and what draws from them.

Drawing is recorded: a function of the state gives numbers and the next state, which is written back into the state's
tensor. So a trace captures the state of a generator as it captures a parameter.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch import devices, dtypes
from jtorch._tensor import Tensor, from_array, wrap
from jtorch.capture.dispatch import Function, evaluate
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir import mt19937 as engine
from jtorch.ir.composites import random as formulas
from jtorch.ir.graph import Builder, Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims.movement import expand_to, reshape_to
from jtorch.ops.arguments import check_shape, default_float, memory_order, shape_of
from jtorch.ops.attach import FUNCTIONS, expose, write_out
from jtorch.ops.creation import as_dtype, empty_permuted
from jtorch.ops.mapped_random import draw_in_map
from jtorch.views import assign, check_result_dtype, type_name


class Generator:
    """A source of random numbers: PyTorch's mt19937 engine."""

    def __init__(self, device: Any = "cpu") -> None:
        devices.check(device)
        self._seed = engine.DEFAULT_SEED
        self._state: Tensor | None = None

    @property
    def device(self) -> devices.device:
        return devices.cpu

    @property
    def state(self) -> Tensor:
        """The engine's state: a tensor that drawing writes to."""
        if self._state is None:
            self._state = from_array(engine.seed(self._seed))
        return self._state

    def _set(self, words: np.ndarray) -> None:
        if self._state is None:
            self._state = from_array(words)
        else:
            assign(self._state, current.recorder.value(from_array(words)))

    def manual_seed(self, seed: int) -> Generator:
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise RuntimeError("Overflow when unpacking long long")
        self._seed = seed & ((1 << 64) - 1)
        self._set(engine.seed(self._seed))
        return self

    def seed(self) -> int:
        import secrets
        seed = secrets.randbits(53)
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        return self._seed

    def get_state(self) -> Tensor:
        """The state as bytes."""
        return from_array(self.state._array().copy().view(np.uint8))

    def set_state(self, new_state: Tensor) -> Generator:
        if not isinstance(new_state, Tensor) or new_state.dtype is not dtypes.uint8:
            raise TypeError("expected a torch.ByteTensor, but got " + (new_state.type() if isinstance(new_state, Tensor)
                                                                      else type(new_state).__name__))
        raw = np.ascontiguousarray(new_state._array())
        if raw.size != 4 * engine.STATE_WORDS:
            raise RuntimeError(f"Expected a CPUGeneratorImplState of size {4 * engine.STATE_WORDS} but found the "
                               "input RNG state "
                               f"size to be {raw.size}")
        self._set(raw.view(np.uint32).copy())
        return self

    def clone_state(self) -> Generator:
        other = Generator()
        other._seed = self._seed
        other._set(self.state._array().copy())
        return other

    def __getstate__(self) -> tuple:
        return (self._seed, self.state._array().copy())

    def __setstate__(self, state: tuple) -> None:
        self._seed, self._state = state[0], from_array(state[1])

    def __repr__(self) -> str:
        return f"<torch._C.Generator object at {id(self):#x}>"


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    return default_generator.manual_seed(seed)


def seed() -> int:
    return default_generator.seed()


def initial_seed() -> int:
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    default_generator.set_state(new_state)


FUNCTIONS.update(manual_seed=manual_seed, seed=seed, initial_seed=initial_seed, get_rng_state=get_rng_state,
                 set_rng_state=set_rng_state)

# --- drawing ---------------------------------------------------------------------------------------------------------


def draw(formula: Function, generator: Generator | None, *args: Any) -> Value:
    """The numbers of `formula(builder, state, ...) -> (numbers, new state)`; the state moves on."""
    recorder = current.recorder
    if recorder.levels:
        return draw_in_map(recorder.levels[-1], functools.partial(draw, formula, generator), formula, args)
    state = (generator or default_generator).state
    values, after = evaluate(formula, (state, *args))
    recorder.holding += 1  # the numbers are still to be wrapped, in the same epoch
    try:
        assign(state, after)
    finally:
        recorder.holding -= 1
    return values


def _formula(name: str, body: Callable[..., Any]) -> Function:
    body.__name__ = name
    return Function(body)


def _rand(builder: Builder, state: Value, shape: Any, dtype: Any) -> Any:
    return formulas.rand(builder, state, shape, dtype)


def _randn(builder: Builder, state: Value, shape: Any, dtype: Any) -> Any:
    return formulas.randn(builder, state, shape, dtype)


def _randint_body(builder: Builder, state: Value, shape: Any, low: Any, high: Any, dtype: Any) -> Any:
    return formulas.randint(builder, state, shape, low, high, dtype)


def _randperm_body(builder: Builder, state: Value, n: Any, dtype: Any) -> Any:
    return formulas.randperm(builder, state, n, dtype)


def _number(b: Builder, x: Any) -> Any:
    return ew.cast_to(x, dtypes.float64) if isinstance(x, Value) else float(x)


def _uniform_body(builder: Builder, state: Value, shape: Any, dtype: Any, low: arith.Operand,
                  high: arith.Operand) -> Any:
    return formulas.uniform(builder, state, shape, dtype, _number(builder, low), _number(builder, high))


def _normal_body(builder: Builder, state: Value, shape: Any, dtype: Any, mean: arith.Operand, std: arith.Operand,
                 contiguous: Any) -> Any:
    return formulas.normal(builder, state, shape, dtype, _number(builder, mean), _number(builder, std), contiguous)


def _log_normal_body(builder: Builder, state: Value, shape: Any, dtype: Any, mean: arith.Operand,
                     std: arith.Operand) -> Any:
    return formulas.log_normal(builder, state, shape, dtype, _number(builder, mean), _number(builder, std))


def _bernoulli_body(builder: Builder, state: Value, shape: Any, p: arith.Operand, dtype: Any) -> Any:
    of_tensor = isinstance(p, Value) and not arith.is_scalar(p)
    if dtype.is_complex:
        name = "bernoulli_tensor_cpu_self_" if of_tensor else "bernoulli_scalar_cpu_"
        raise NotImplementedError(f"\"{name}\" not implemented for '{type_name(dtype)}'")
    p = p if isinstance(p, Value) and of_tensor else _number(builder, p)
    if isinstance(p, Value) and p.ndim and p.shape != shape:
        p = expand_to(p, shape)
    return formulas.bernoulli(builder, state, shape, p, dtype)


def _noise_body(builder: Builder, state: Value, shape: Any, keep: arith.Operand, dtype: Any) -> Any:
    ones, state = _bernoulli_body(builder, state, shape, keep, dtype)
    check_result_dtype(dtypes.float32, dtype)
    return ones / keep, state


def _exponential_body(builder: Builder, state: Value, shape: Any, dtype: Any, rate: Any) -> Any:
    return formulas.exponential(builder, state, shape, dtype, rate)


def _cauchy_body(builder: Builder, state: Value, shape: Any, dtype: Any, median: Any, sigma: Any) -> Any:
    return formulas.cauchy(builder, state, shape, dtype, median, sigma)


def _geometric_body(builder: Builder, state: Value, shape: Any, dtype: Any, p: Any) -> Any:
    return formulas.geometric(builder, state, shape, dtype, p)


def _random_body(builder: Builder, state: Value, shape: Any, dtype: Any) -> Any:
    return formulas.random(builder, state, shape, dtype)


def _multinomial_body(builder: Builder, state: Value, weights: Value, samples: Any, replacement: Any) -> Any:
    rows = weights if weights.ndim == 2 else reshape_to(weights, (1, *weights.shape))
    picked, after = formulas.multinomial(builder, state, rows, samples, replacement)
    return (picked if weights.ndim == 2 else reshape_to(picked, (samples,))), after


_RAND, _RANDN = _formula("rand", _rand), _formula("randn", _randn)
_RANDINT, _RANDPERM = _formula("randint", _randint_body), _formula("randperm", _randperm_body)
_UNIFORM, _NORMAL = _formula("uniform", _uniform_body), _formula("normal", _normal_body)
_LOG_NORMAL, _BERNOULLI = _formula("log_normal", _log_normal_body), _formula("bernoulli", _bernoulli_body)
_EXPONENTIAL, _CAUCHY = _formula("exponential", _exponential_body), _formula("cauchy", _cauchy_body)
_GEOMETRIC, _RANDOM = _formula("geometric", _geometric_body), _formula("random", _random_body)
_MULTINOMIAL, _NOISE = _formula("multinomial", _multinomial_body), _formula("dropout_noise", _noise_body)


def _made(v: Value, requires_grad: bool, out: Any) -> Tensor:
    if out is not None:
        return write_out(v, out)
    t = wrap(current.recorder, v)
    return t.requires_grad_() if requires_grad else t


def _floating(name: str, dtype: Any, out: Any = None) -> Any:
    d = as_dtype(dtype) or (out.dtype if out is not None else default_float())
    if d.category < dtypes.FLOAT:
        kernel = {"rand": "check_uniform_bounds", "randn": "normal_kernel_cpu"}[name]
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{type_name(d)}'")
    return d


def _filled(name: str, formula: Function, fill: str) -> None:
    def function(*size: Any, generator: Generator | None = None, out: Any = None, dtype: Any = None, layout: Any = None,
                 device: Any = None, requires_grad: bool = False, pin_memory: bool = False, **kwargs: Any) -> Tensor:
        devices.check(device)
        if "size" in kwargs:
            size = (kwargs.pop("size"),)
        if kwargs:
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(kwargs))}'")
        shape = check_shape(shape_of(size))
        d = _floating(name, dtype, out)
        if d.is_complex:
            t = getattr(FUNCTIONS["empty"](shape, dtype=d), fill)(generator=generator)
            return _made(current.recorder.value(t), requires_grad, out)
        return _made(draw(formula, generator, shape, d), requires_grad, out)

    def like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
             requires_grad: bool = False, memory_format: Any = None, generator: Generator | None = None) -> Tensor:
        devices.check(device)
        axes = None if memory_format is dtypes.LAYOUTS[1] else memory_order(input)
        d = _floating(name, dtype or input.dtype)
        if axes is None and not d.is_complex:
            return _made(draw(formula, generator, input._type.shape, d), requires_grad, None)
        order = tuple(range(input.ndim)) if axes is None else axes
        t = getattr(empty_permuted(input.shape, order, dtype=d), fill)(generator=generator)
        return t.requires_grad_() if requires_grad else t
    function.__name__, like.__name__ = name, name + "_like"
    FUNCTIONS[name], FUNCTIONS[name + "_like"] = function, like


_filled("rand", _RAND, "uniform_")
_filled("randn", _RANDN, "normal_")


def _check_range(low: int, high: int, dtype: dtypes.dtype) -> None:
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")


@expose("randint", method=False)
def randint(*args: Any, low: int = 0, high: int | None = None, size: Any = None, generator: Generator | None = None,
            out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
            pin_memory: bool = False) -> Tensor:
    """`randint(high, size)` or `randint(low, high, size)`."""
    devices.check(device)
    given = list(args)
    if given and isinstance(given[-1], (tuple, list)):
        size = given.pop()
    if len(given) == 2:
        low, high = given
    elif len(given) == 1:
        if high is None:
            high = given[0]
        else:
            low = given[0]
    d = as_dtype(dtype) or (out.dtype if out is not None else dtypes.int64)
    low, high = int(low), int(high)  # type: ignore[arg-type]
    _check_range(low, high, d)
    return _made(draw(_RANDINT, generator, check_shape(shape_of((size,))), low, high, d), requires_grad, out)


@expose("randint_like", method=False)
def randint_like(input: Tensor, *args: Any, low: int = 0, high: int | None = None, dtype: Any = None,
                 layout: Any = None,
                 device: Any = None, requires_grad: bool = False, memory_format: Any = None, pin_memory: bool = False
                 ) -> Tensor:
    if len(args) == 2:
        low, high = args
    elif args:
        high = args[0] if high is None else high
    if isinstance(high, Tensor):
        high = int(high.item())
    return randint(low, high, input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


@expose("randperm", method=False)
def randperm(n: int, *, generator: Generator | None = None, out: Any = None, dtype: Any = None, layout: Any = None,
             device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    devices.check(device)
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    return _made(draw(_RANDPERM, generator, int(n), as_dtype(dtype) or dtypes.int64), requires_grad, out)


@expose("normal", method=False)
def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, out: Any = None,
           dtype: Any = None, device: Any = None, layout: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    devices.check(device)
    if isinstance(std, Tensor):
        if (current.recorder.knows_values and std._type.numel and not isinstance(mean, Tensor)
                and bool((std < 0).any())):
            raise RuntimeError("normal expects all elements of std >= 0.0")
    elif std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    if not isinstance(mean, Tensor) and not isinstance(std, Tensor):
        d = as_dtype(dtype) or (out.dtype if out is not None else default_float())
        shape = check_shape(shape_of((size,)))
        return _made(draw(_NORMAL, generator, shape, d, float(mean), float(std), True), requires_grad, out)
    tensors = [x for x in (mean, std) if isinstance(x, Tensor)]
    shape = arith.broadcast_shapes(*[x._type.shape for x in tensors])
    samples = wrap(current.recorder, draw(_NORMAL, generator, shape, tensors[0].dtype, 0.0, 1.0, True))
    result = (samples * std + mean).detach()
    return result if out is None else out.resize_(result.shape).copy_(result)


@expose("bernoulli")
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None, out: Any = None) -> Tensor:
    if p is not None:
        _check_p("bernoulli_", p)
        return _made(draw(_BERNOULLI, generator, input._type.shape, float(p), input.dtype), False, out)
    probabilities = input.detach()
    return _made(draw(_BERNOULLI, generator, input._type.shape, probabilities, input.dtype), False, out)


def dropout_noise(shape: tuple[int, ...], keep: float, dtype: dtypes.dtype) -> Tensor:
    """What a dropout multiplies with: `empty(shape).bernoulli_(keep).div_(keep)`, recorded at once."""
    return wrap(current.recorder, draw(_NOISE, None, shape, keep, dtype))


def _check_p(name: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise RuntimeError(f"{name} expects p to be in [0, 1], but got p={p:g}")


@expose("multinomial")
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None,
                out: Any = None) -> Tensor:
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {type_name(input.dtype)}")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > input.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if current.recorder.knows_values:
        array = input.detach()._array()
        if not np.isfinite(array.astype(np.float64)).all() or (array < 0).any():
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        if (array.sum(-1) == 0).any():
            raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    return _made(draw(_MULTINOMIAL, generator, input.detach(), int(num_samples), bool(replacement)), False, out)


# --- in place --------------------------------------------------------------------------------------------------------

def _in_memory_order(t: Tensor) -> Tensor:
    """The tensor with its dimensions in the order of memory, which is the order in which PyTorch fills it."""
    if t._geometry is None:
        return t
    strides = t._geometry[0]
    order = sorted(range(t.ndim), key=lambda d: -strides[d])
    return t if order == list(range(t.ndim)) else t.permute(order)


def _fill(t: Tensor, formula: Function, generator: Generator | None, *args: Any) -> Tensor:
    """Draw over the tensor's shape and write."""
    ordered = _in_memory_order(t)
    assign(ordered, draw(formula, generator, ordered._type.shape, *args))
    return t


@expose("uniform_", function=False)
def uniform_(self: Tensor, from_: float = 0, to: float = 1, *, generator: Generator | None = None,
             **kwargs: float) -> Tensor:
    low = kwargs.get("from", from_)
    if low > to:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={to:g}")
    if self.dtype.is_complex:
        uniform_(FUNCTIONS["view_as_real"](self), low, to, generator=generator)
        return self
    dtypes.require(self.dtype, dtypes.FLOAT, "check_uniform_bounds")
    return _fill(self, _UNIFORM, generator, self.dtype, float(low), float(to))


@expose("normal_", function=False)
def normal_(self: Tensor, mean: float = 0, std: float = 1, *, generator: Generator | None = None) -> Tensor:
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    if self.dtype.is_complex:  # each part has half of the variance
        normal_(FUNCTIONS["view_as_real"](self), mean, std / math.sqrt(2), generator=generator)
        return self
    dtypes.require(self.dtype, dtypes.FLOAT, "normal_kernel_cpu")
    return _fill(self, _NORMAL, generator, self.dtype, float(mean), float(std), self.is_contiguous())


@expose("log_normal_", function=False)
def log_normal_(self: Tensor, mean: float = 1, std: float = 2, *, generator: Generator | None = None) -> Tensor:
    if std <= 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    return _fill(self, _LOG_NORMAL, generator, self.dtype, float(mean), float(std))


@expose("bernoulli_", function=False)
def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    if isinstance(p, Tensor):
        return assign(self, draw(_BERNOULLI, generator, self._type.shape, p.detach(), self.dtype))
    _check_p("bernoulli_", p)
    return _fill(self, _BERNOULLI, generator, float(p), self.dtype)


@expose("exponential_", function=False)
def exponential_(self: Tensor, lambd: float = 1, *, generator: Generator | None = None) -> Tensor:
    if lambd <= 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    return _fill(self, _EXPONENTIAL, generator, self.dtype, float(lambd))


@expose("cauchy_", function=False)
def cauchy_(self: Tensor, median: float = 0, sigma: float = 1, *, generator: Generator | None = None) -> Tensor:
    if sigma <= 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    return _fill(self, _CAUCHY, generator, self.dtype, float(median), float(sigma))


@expose("geometric_", function=False)
def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    return _fill(self, _GEOMETRIC, generator, self.dtype, float(p))


@expose("random_", function=False)
def random_(self: Tensor, from_: Any = None, to: int | None = None, *, generator: Generator | None = None, **kwargs: Any
            ) -> Tensor:
    """`random_()`, `random_(to)`, `random_(from, to)`."""
    low = kwargs.get("from", from_)
    if low is None and to is None:
        return _fill(self, _RANDOM, generator, self.dtype)
    if to is None and "from" not in kwargs:
        low, to = 0, low
    if to is None:
        to = int(np.iinfo(self.dtype.numpy).max) + 1 if not self.dtype.is_floating_point else 1 << 24
    low, to = int(low or 0), int(to)
    _check_range(low, to, self.dtype)
    return _fill(self, _RANDINT, generator, low, to, self.dtype)


__all__ = ["Generator", "default_generator", "dropout_noise", "manual_seed"]
