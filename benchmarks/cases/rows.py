"""Row kernels and a full reduction, all bounded by memory: what about fits into a third-level cache, and what does not.
"""

from functools import partial

import numpy as np

from benchmarks.case import Case, Program

ROWS, MANY, WIDTH = 4096, 16384, 1024


def _input(rows):
    return np.random.default_rng(0).standard_normal((rows, WIDTH), np.float32)


def build_softmax(torch, rows=ROWS):
    return Program(lambda x: torch.softmax(x, -1), (torch.from_numpy(_input(rows)).clone(),))


def build_softmax_jax(rows=ROWS):
    import jax
    import jax.numpy as jnp

    softmax = jax.jit(lambda x: jax.nn.softmax(x, -1))
    x = jnp.asarray(_input(rows))
    return lambda: softmax(x).block_until_ready()


def build_layer_norm(torch, rows=ROWS):
    norm = torch.nn.functional.layer_norm
    inputs = torch.from_numpy(_input(rows)).clone(), torch.ones(WIDTH), torch.zeros(WIDTH)
    return Program(lambda x, weight, bias: norm(x, (WIDTH,), weight, bias), inputs)


def build_layer_norm_jax(rows=ROWS):
    import jax
    import jax.numpy as jnp

    from .jax_tools import layer_norm

    norm = jax.jit(layer_norm)
    x, weight, bias = jnp.asarray(_input(rows)), jnp.ones(WIDTH), jnp.zeros(WIDTH)
    return lambda: norm(x, weight, bias).block_until_ready()


def build_sum(torch):
    return Program(lambda x: (x * x).sum(), (torch.from_numpy(_input(ROWS)).clone(),))


def build_sum_jax():
    import jax
    import jax.numpy as jnp

    total = jax.jit(lambda x: (x * x).sum())
    x = jnp.asarray(_input(ROWS))
    return lambda: total(x).block_until_ready()


def _of_rows(name, build, build_jax, rows):
    return Case(f"{name} {rows}x{WIDTH}", partial(build, rows=rows), partial(build_jax, rows=rows), exportable=True,
                traffic=8 * rows * WIDTH)


CASES = [
    *(_of_rows("softmax", build_softmax, build_softmax_jax, rows) for rows in (ROWS, MANY)),
    *(_of_rows("layer_norm", build_layer_norm, build_layer_norm_jax, rows) for rows in (ROWS, MANY)),
    Case("sum of squares, 4M", build_sum, build_sum_jax, exportable=True, traffic=4 * ROWS * WIDTH),
]
