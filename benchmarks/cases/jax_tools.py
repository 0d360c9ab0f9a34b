"""Training in JAX by hand: parameter trees, PyTorch's optimizers as functions, one donated jitted step."""

import jax
import jax.numpy as jnp
import numpy as np


def uniform(chooser, *shape, fan_in):
    """PyTorch's default initialisation of weights and biases."""
    bound = fan_in**-0.5
    return jnp.asarray(chooser.uniform(-bound, bound, shape).astype(np.float32))


def linear(chooser, inputs, outputs):
    """Weight (inputs, outputs) and bias."""
    return {"w": uniform(chooser, inputs, outputs, fan_in=inputs), "b": uniform(chooser, outputs, fan_in=inputs)}


def layer_norm(x, weight, bias):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * weight + bias


def cross_entropy(logits, target):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1).mean()


def sgd(rate):
    """`(parameter, gradient, state, step) -> (parameter, state)` and how many arrays of state it has."""
    return (lambda p, g, state, step: (p - rate * g, state)), 0


def adam(rate, decay=0.0, first=0.9, second=0.999, eps=1e-8):
    """Adam; with `decay`, AdamW."""

    def update(p, g, state, step):
        m = first * state[0] + (1 - first) * g
        v = second * state[1] + (1 - second) * g * g
        p = p * (1 - rate * decay)
        p = p - rate / (1 - first**step) * m / (jnp.sqrt(v / (1 - second**step)) + eps)
        return p, (m, v)

    return update, 2


def adadelta(rate, rho=0.9, eps=1e-6):
    def update(p, g, state, step):
        square = rho * state[0] + (1 - rho) * g * g
        delta = jnp.sqrt(state[1] + eps) / jnp.sqrt(square + eps) * g
        return p - rate * delta, (square, rho * state[1] + (1 - rho) * delta * delta)

    return update, 2


def trainer(loss_function, parameters, optimizer, *batch, random=False):
    """A step that trains `parameters` on the batch.

    The loss is `loss_function(parameters, *batch)`; with `random` it gets a fresh key before the batch.
    """
    update, slots = optimizer
    leaves, tree = jax.tree.flatten(parameters)

    def step(state, *batch):
        leaves, slots, count, key = state
        if random:
            key, now = jax.random.split(key)
            batch = now, *batch
        loss, gradients = jax.value_and_grad(lambda ps: loss_function(tree.unflatten(ps), *batch))(leaves)
        updated = [update(p, g, s, count) for p, g, s in zip(leaves, gradients, slots, strict=True)]
        return ([p for p, _ in updated], [s for _, s in updated], count + 1, key), loss

    compiled = jax.jit(step, donate_argnums=0)
    zeros = [tuple(jnp.zeros_like(p) for _ in range(slots)) for p in leaves]
    held = [(leaves, zeros, jnp.float32(1), jax.random.key(0) if random else None)]

    def run():
        held[0], loss = compiled(held[0], *batch)
        return loss.block_until_ready()

    return run
