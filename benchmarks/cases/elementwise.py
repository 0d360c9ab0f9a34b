"""A chain of twelve elementwise operations, much like a GELU, at three sizes."""

import functools

import numpy as np

from benchmarks.case import Case, Program


def _input(n):
    return np.random.default_rng(0).standard_normal(n, np.float32)


def build(torch, n):
    def chain(x):
        inner = 0.7978845608 * (x + 0.044715 * (x * x * x))
        return torch.relu(0.5 * x * (1.0 + torch.tanh(inner)) + 0.1 * x)

    return Program(chain, (torch.from_numpy(_input(n)).clone(),))


def build_jax(n):
    import jax
    import jax.numpy as jnp

    @jax.jit
    def chain(x):
        inner = 0.7978845608 * (x + 0.044715 * (x * x * x))
        return jax.nn.relu(0.5 * x * (1.0 + jnp.tanh(inner)) + 0.1 * x)

    x = jnp.asarray(_input(n))
    return lambda: chain(x).block_until_ready()


CASES = [
    Case(
        f"gelu-like chain, n={label}",
        functools.partial(build, n=n),
        functools.partial(build_jax, n=n),
        exportable=True,
        traffic=8 * n if n > 1_000_000 else None,
    )
    for label, n in (("1e3", 1000), ("1e5", 100_000), ("1e7", 10_000_000))
]
