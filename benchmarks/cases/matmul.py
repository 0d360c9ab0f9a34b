"""One float32 matrix product, 1024 x 1024 x 1024."""

import numpy as np

from benchmarks.case import Case, Program


def _inputs():
    chooser = np.random.default_rng(0)
    return [chooser.standard_normal((1024, 1024), np.float32) for _ in range(2)]


def build(torch):
    return Program(lambda a, b: a @ b, tuple(torch.from_numpy(a).clone() for a in _inputs()))


def build_jax():
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda a, b: a @ b)
    a, b = map(jnp.asarray, _inputs())
    return lambda: product(a, b).block_until_ready()


CASES = [Case("matmul 1024", build, build_jax, exportable=True)]
