"""Raw draws of PyTorch's CPU generator. A generator's state is an ordinary uint32 value, laid out as in
`jtorch/ir/mt19937.py`; what is made of the draws is arithmetic, in `jtorch/ir/composites/random.py`."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir import mt19937 as engine
from jtorch.ir import random_samplers as samplers
from jtorch.ir import random_streams as streams
from jtorch.ir.graph import Type
from jtorch.ir.primitive import Op

STATE = Type(dtypes.uint32, (engine.STATE_WORDS,))
RANDOM = "random numbers have no derivative"


def _check_state(state: Type) -> None:
    if state != STATE:
        raise AssertionError(f"a generator's state is {STATE}, not {state}")


def _mt19937_infer(state: Type, count: int) -> tuple[Type, Type]:
    _check_state(state)
    return Type(dtypes.uint32, (count,)), STATE


mt19937 = Op("mt19937", "random", _mt19937_infer, lambda state, count: engine.draw(state, count), no_grad=RANDOM,
             attr_names=("count",), domain="random")
"""(raw uint32[count], new state)."""


def _scalar_normals_infer(state: Type, count: int) -> tuple[Type, Type]:
    _check_state(state)
    return Type(dtypes.float64, (count,)), STATE


def _scalar_normals_numpy(state: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return streams.normal(state, count, np.dtype(np.float64), contiguous=False)


scalar_normals = Op("scalar_normals", "random", _scalar_normals_infer, _scalar_normals_numpy, no_grad=RANDOM,
                    attr_names=("count",), domain="random")
"""(float64[count] standard normals made two at a time, new state). One of them may wait in the state, so how many draws
this takes is known at run time only."""


def _wide_integers_infer(raw: Type, low: int, span: int) -> Type:
    if raw.dtype is not dtypes.uint32 or raw.ndim != 1 or raw.shape[0] % 2:
        raise AssertionError(f"wide_integers: {raw}")
    return Type(dtypes.int64, (raw.shape[0] // 2,))


def _wide_integers_numpy(raw: np.ndarray, low: int, span: int) -> np.ndarray:
    values = engine.join64(np.ascontiguousarray(raw))
    if span < 1 << 64:
        values = values % np.uint64(span) + np.uint64(low & 0xFFFFFFFFFFFFFFFF)
    return values.view(np.int64)


wide_integers = Op("wide_integers", "random", _wide_integers_infer, _wide_integers_numpy, no_grad=RANDOM,
                   attr_names=("low", "span"), domain="raw")
"""low + (64-bit draw % span) of pairs of draws; unsigned, which no other dtype of the IR can say."""


def _shuffle_infer(offsets: Type, length: int) -> Type:
    if offsets.dtype is not dtypes.int64 or offsets.shape != (max(length - 1, 0),):
        raise AssertionError(f"shuffle: {offsets} for {length}")
    return Type(dtypes.int64, (length,))


shuffle = Op("shuffle", "random", _shuffle_infer,
             lambda offsets, length: streams.randperm_from_offsets(offsets, length, np.dtype(np.int64)),
             no_grad=RANDOM, attr_names=("length",), domain="offsets")
"""Fisher-Yates: 0 .. length - 1, place i swapped with place i + offsets[i], one after another."""


# --- rejection: how many draws a number takes is known when it is accepted --------------------------------------------

def _sampler_infer(state: Type, *parameters: Type) -> tuple[Type, Type]:
    _check_state(state)
    first = parameters[0]
    if not first.dtype.is_floating_point or any(p != first for p in parameters):
        raise AssertionError(f"a sampler's parameters: {parameters}")
    return Type(dtypes.float64, first.shape), STATE


def _sampler(name: str, sample: Any) -> Op:
    def meaning(state: np.ndarray, *parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, after = sample(state, *[np.ascontiguousarray(p).reshape(-1) for p in parameters])
        return values.reshape(parameters[0].shape), after
    return Op(name, "random", _sampler_infer, meaning, no_grad=RANDOM, domain="sampler")


gamma_draws = _sampler("gamma_draws", samplers.standard_gamma)
"""(float64 gamma numbers of the given shapes, new state)."""
poisson_draws = _sampler("poisson_draws", samplers.poisson)
"""(float64 counts for the given rates, new state)."""
binomial_draws = _sampler("binomial_draws", samplers.binomial)
"""(float64 successes in so many trials of the given probabilities, new state)."""
