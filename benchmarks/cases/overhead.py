"""What is not arithmetic: import, eager recording, compile time of a deep network."""

import numpy as np

from benchmarks.case import Case, Program

ADDS, LAYERS, WIDTH = 1000, 200, 64


def build_adds(torch):
    def adds(x):
        y = x
        for _ in range(ADDS):
            y = y + x
        return y

    return Program(adds, (torch.ones(10),))


def build_deep(torch):
    nn = torch.nn
    torch.manual_seed(0)
    layers = [layer for _ in range(LAYERS) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    model = nn.Sequential(*layers)

    def gradients(x):
        model.zero_grad()
        loss = model(x).sum()
        loss.backward()
        return loss

    return Program(gradients, (torch.ones(32, WIDTH),))


def build_deep_jax():
    import jax
    import jax.numpy as jnp

    from . import jax_tools as tools

    chooser = np.random.default_rng(0)
    parameters = [tools.linear(chooser, WIDTH, WIDTH) for _ in range(LAYERS)]

    @jax.jit
    def gradients(parameters, x):
        def loss(parameters):
            y = x
            for layer in parameters:
                y = jax.nn.relu(y @ layer["w"] + layer["b"])
            return y.sum()

        return jax.value_and_grad(loss)(parameters)

    x = jnp.ones((32, WIDTH))
    return lambda: jax.block_until_ready(gradients(parameters, x))


def build_import(torch):
    return Program(lambda: torch)


CASES = [
    Case("one of 1000 dependent adds", build_adds, eager_only=True, operations=ADDS),
    Case("200-layer MLP, first call", build_deep, build_deep_jax, measure="first"),
    Case("import", build_import, lambda: lambda: None, exportable=True, measure="import"),
]
