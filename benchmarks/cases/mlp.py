"""Training two small multilayer perceptrons."""

import numpy as np

from benchmarks.case import Case

from .training import training_program


def _digits():
    chooser = np.random.default_rng(0)
    return chooser.standard_normal((64, 784), np.float32), chooser.integers(0, 10, 64)


def _curve():
    x = np.linspace(-3, 3, 32, dtype=np.float32)[:, None]
    return x, np.sin(x)


def build_digits(torch):
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    x, y = map(torch.from_numpy, _digits())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return training_program(model, nn.functional.cross_entropy, optimizer, x.clone(), y.clone())


def build_digits_jax():
    import jax
    import jax.numpy as jnp

    from . import jax_tools as tools

    chooser = np.random.default_rng(0)
    parameters = [tools.linear(chooser, 784, 256), tools.linear(chooser, 256, 10)]

    def loss(parameters, x, y):
        first, second = parameters
        hidden = jax.nn.relu(x @ first["w"] + first["b"])
        return tools.cross_entropy(hidden @ second["w"] + second["b"], y)

    return tools.trainer(loss, parameters, tools.sgd(0.01), *map(jnp.asarray, _digits()))


def build_curve(torch):
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
    x, y = map(torch.from_numpy, _curve())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return training_program(model, nn.functional.mse_loss, optimizer, x.clone(), y.clone())


def build_curve_jax():
    import jax.numpy as jnp

    from . import jax_tools as tools

    chooser = np.random.default_rng(0)
    parameters = [tools.linear(chooser, 1, 20), tools.linear(chooser, 20, 1)]

    def loss(parameters, x, y):
        first, second = parameters
        output = jnp.tanh(x @ first["w"] + first["b"]) @ second["w"] + second["b"]
        return jnp.square(output - y).mean()

    return tools.trainer(loss, parameters, tools.adam(0.01), *map(jnp.asarray, _curve()))


CASES = [
    Case("train MLP 784-256-10, b64, SGD", build_digits, build_digits_jax),
    Case("train MLP 1-20-1, b32, Adam", build_curve, build_curve_jax),
]
