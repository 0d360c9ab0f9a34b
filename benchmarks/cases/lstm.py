"""Training an LSTM: 64 features in, 128 hidden, 32 time steps, batch 32, Adam on the last output."""

import numpy as np

from benchmarks.case import Case

from .training import training_program

FEATURES, HIDDEN, TIME, BATCH = 64, 128, 32, 32


def _sequences():
    chooser = np.random.default_rng(0)
    return chooser.standard_normal((TIME, BATCH, FEATURES), np.float32), chooser.standard_normal((BATCH, 1), np.float32)


def build(torch):
    nn = torch.nn

    class Model(nn.Module):
        """An LSTM and a linear head on its last output."""

        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(FEATURES, HIDDEN), nn.Linear(HIDDEN, 1)

        def forward(self, x):
            return self.head(self.lstm(x)[0][-1])

    torch.manual_seed(0)
    model = Model()
    x, y = (torch.from_numpy(array).clone() for array in _sequences())
    return training_program(model, nn.functional.mse_loss, torch.optim.Adam(model.parameters(), lr=1e-3), x, y)


def build_jax():
    import jax
    import jax.numpy as jnp

    from . import jax_tools as tools

    chooser = np.random.default_rng(0)
    parameters = {
        "input": tools.uniform(chooser, FEATURES, 4 * HIDDEN, fan_in=HIDDEN),
        "hidden": tools.uniform(chooser, HIDDEN, 4 * HIDDEN, fan_in=HIDDEN),
        "bias": tools.uniform(chooser, 4 * HIDDEN, fan_in=HIDDEN),
        "head": tools.linear(chooser, HIDDEN, 1),
    }

    def loss(parameters, x, y):
        projected = x @ parameters["input"] + parameters["bias"]

        def cell(carry, row):
            hidden, memory = carry
            i, f, g, o = jnp.split(row + hidden @ parameters["hidden"], 4, -1)
            memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(memory), memory), None

        zero = jnp.zeros((BATCH, HIDDEN))
        (hidden, _), _ = jax.lax.scan(cell, (zero, zero), projected)
        return jnp.square(hidden @ parameters["head"]["w"] + parameters["head"]["b"] - y).mean()

    return tools.trainer(loss, parameters, tools.adam(1e-3), *map(jnp.asarray, _sequences()))


CASES = [Case("train LSTM 64-128, T32, b32, Adam", build, build_jax)]
