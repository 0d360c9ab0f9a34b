"""The classic MNIST network: two 3x3 convolutions of 32 and 64 channels, a pool, 128 hidden units, dropout."""

import functools

import numpy as np

from benchmarks.case import Case, Program

from .training import training_program


def _images(batch):
    chooser = np.random.default_rng(0)
    return chooser.standard_normal((batch, 1, 28, 28), np.float32), chooser.integers(0, 10, batch)


def make_model(torch):
    nn = torch.nn
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def build_training(torch):
    model = make_model(torch)
    x, y = map(torch.from_numpy, _images(64))
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    return training_program(model, torch.nn.functional.cross_entropy, optimizer, x.clone(), y.clone())


def build_inference(torch, batch):
    return Program(make_model(torch).eval(), (torch.from_numpy(_images(batch)[0]).clone(),))


def _parameters_jax():
    from . import jax_tools as tools

    chooser = np.random.default_rng(0)

    def convolution(inputs, outputs):
        fan_in = 9 * inputs
        return {
            "w": tools.uniform(chooser, 3, 3, inputs, outputs, fan_in=fan_in),
            "b": tools.uniform(chooser, outputs, fan_in=fan_in),
        }

    return [convolution(1, 32), convolution(32, 64), tools.linear(chooser, 9216, 128), tools.linear(chooser, 128, 10)]


def _forward_jax(parameters, x, key=None):
    import jax
    import jax.numpy as jnp

    def dropout(x, key, p):
        return x if key is None else jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)

    keys = jax.random.split(key) if key is not None else (None, None)
    for layer in parameters[:2]:
        x = jax.lax.conv_general_dilated(x, layer["w"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + layer["b"])
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = dropout(x, keys[0], 0.25).reshape(len(x), -1)
    x = dropout(jax.nn.relu(x @ parameters[2]["w"] + parameters[2]["b"]), keys[1], 0.5)
    return x @ parameters[3]["w"] + parameters[3]["b"]


def build_training_jax():
    import jax.numpy as jnp

    from . import jax_tools as tools

    x, y = map(jnp.asarray, _images(64))
    return tools.trainer(
        lambda parameters, key, x, y: tools.cross_entropy(_forward_jax(parameters, x, key), y),
        _parameters_jax(),
        tools.adadelta(1.0),
        x.transpose(0, 2, 3, 1),
        y,
        random=True,
    )


def build_inference_jax(batch):
    import jax
    import jax.numpy as jnp

    forward = jax.jit(_forward_jax)
    parameters, x = _parameters_jax(), jnp.asarray(_images(batch)[0]).transpose(0, 2, 3, 1)
    return lambda: forward(parameters, x).block_until_ready()


CASES = [
    Case("train MNIST CNN, b64, Adadelta", build_training, build_training_jax),
    *(
        Case(
            f"infer MNIST CNN, b{batch}",
            functools.partial(build_inference, batch=batch),
            functools.partial(build_inference_jax, batch=batch),
            exportable=True,
        )
        for batch in (64, 1)
    ),
]
