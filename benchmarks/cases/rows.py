"""Row kernels and a full reduction, all bounded by memory."""

import numpy as np

from benchmarks.case import Case, Program

SHAPE = (4096, 1024)
NUMEL = SHAPE[0] * SHAPE[1]


def _input(seed=0):
    return np.random.default_rng(seed).standard_normal(SHAPE, np.float32)


def build_softmax(torch):
    return Program(lambda x: torch.softmax(x, -1), (torch.from_numpy(_input()).clone(),))


def build_softmax_jax():
    import jax
    import jax.numpy as jnp

    softmax = jax.jit(lambda x: jax.nn.softmax(x, -1))
    x = jnp.asarray(_input())
    return lambda: softmax(x).block_until_ready()


def build_layer_norm(torch):
    norm = torch.nn.functional.layer_norm
    inputs = torch.from_numpy(_input()).clone(), torch.ones(SHAPE[1]), torch.zeros(SHAPE[1])
    return Program(lambda x, weight, bias: norm(x, (SHAPE[1],), weight, bias), inputs)


def build_layer_norm_jax():
    import jax
    import jax.numpy as jnp

    from .jax_tools import layer_norm

    norm = jax.jit(layer_norm)
    x, weight, bias = jnp.asarray(_input()), jnp.ones(SHAPE[1]), jnp.zeros(SHAPE[1])
    return lambda: norm(x, weight, bias).block_until_ready()


def build_sum(torch):
    return Program(lambda x: (x * x).sum(), (torch.from_numpy(_input()).clone(),))


def build_sum_jax():
    import jax
    import jax.numpy as jnp

    total = jax.jit(lambda x: (x * x).sum())
    x = jnp.asarray(_input())
    return lambda: total(x).block_until_ready()


CASES = [
    Case("softmax 4096x1024", build_softmax, build_softmax_jax, exportable=True, traffic=8 * NUMEL),
    Case("layer_norm 4096x1024", build_layer_norm, build_layer_norm_jax, exportable=True, traffic=8 * NUMEL),
    Case("sum of squares, 4M", build_sum, build_sum_jax, exportable=True, traffic=4 * NUMEL),
]
