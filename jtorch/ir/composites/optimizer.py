"""What optimizers do: `<name>_step(parameter, state..., gradient, hyperparameters...) -> (parameter, state...)`.

The arithmetic follows PyTorch's, tensor by tensor and in its order. Hyperparameters are 0-d float64 values that are
read when the program runs; what is computed from them and from the step counter alone is computed in float64 and
rounded once, where it meets the parameter's dtype. Which of them take part is static and stands in the attributes;
absent ones are not among the inputs.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jtorch import dtypes
from jtorch.ir.arith import ne, where
from jtorch.ir.composites.define import composite
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import detach, is_scalar
from jtorch.ir.prims.elementwise import abs_, cast_to, maximum, minimum, sign, sqrt, zeros_like
from jtorch.ir.prims.movement import expand_to
from jtorch.ir.prims.reduce import any_, keep_axes

Body = Callable[..., tuple[Value, ...]]


def step_op(name: str, results: Callable[..., int], attrs: dict[str, Any]) -> Callable[[Body], Op]:
    """The composite of an update whose first `results(**attrs)` inputs are what it renews."""
    def define(body: Body) -> Op:
        def infer(*types: Type, **given: Any) -> tuple[Type, ...]:
            n = results(**given)
            if types[n].shape != types[0].shape:
                raise RuntimeError(
                    f"The size of a gradient {list(types[n].shape)} must match the size of its parameter "
                    f"{list(types[0].shape)}"
                )
            return types[:n]

        def run(b: Builder, *inputs: Value, **given: Any) -> tuple[Value, ...]:
            # a scalar leaf promotes as a Python number does, to the default float: hide that it is one
            plain = [detach(v) if is_scalar(v) else v for v in inputs]
            new = body(iter(plain), results(**given), **given)
            return tuple([expand_to(cast_to(v, old.dtype), old.shape) for v, old in zip(new, inputs)])
        return composite(name, run, infer=infer, attrs=attrs, widen=False,
                         no_grad="parameters are updated outside of what is differentiated")
    return define


def take(inputs: Iterator[Value], n: int) -> list[Value]:
    return [next(inputs) for _ in range(n)]


def times(x: Value, scalar: Value) -> Value:
    """x * scalar, the scalar rounded to x's dtype."""
    return x * cast_to(scalar, x.dtype)


def plus(x: Value, scalar: Value) -> Value:
    return x + cast_to(scalar, x.dtype)


def blend(old: Value, new: Value, weight: Value) -> Value:
    """`old.lerp(new, weight)`."""
    return old + times(new - old, weight)


def decay_square(old: Value, g: Value, beta: Value) -> Value:
    """`old.mul(beta).addcmul(g, g, value=1 - beta)`."""
    return times(old, beta) + times(g, 1 - beta) * g


def gradient(p: Value, g: Value, decay: Value | None, maximize: bool) -> Value:
    g = cast_to(g, p.dtype)
    g = -g if maximize else g
    return g if decay is None else g + times(p, decay)


def counted(step: Value) -> tuple[Value, Value]:
    """The next step counter, and the same as float64."""
    step = step + 1
    return step, cast_to(step, dtypes.float64)


@step_op("sgd_step", lambda momentum, **_: 2 if momentum else 1,
         {"momentum": False, "decay": False, "nesterov": False, "maximize": False, "first": False})
def sgd_step(inputs: Iterator[Value], n: int, momentum: bool, decay: bool, nesterov: bool, maximize: bool,
             first: bool) -> tuple[Value, ...]:
    """p, [buffer], g, lr, [momentum, dampening], [weight_decay]. The `first` step makes the buffer the gradient."""
    p, *state = take(inputs, n)
    g, lr = take(inputs, 2)
    factor, dampening = take(inputs, 2) if momentum else (lr, lr)
    g = gradient(p, g, next(inputs) if decay else None, maximize)
    if not momentum:
        return (p - times(g, lr),)
    buffer = g if first else times(state[0], factor) + times(g, 1 - dampening)
    direction = g + times(buffer, factor) if nesterov else buffer
    return p - times(direction, lr), buffer


@step_op("adam_step", lambda amsgrad, **_: 5 if amsgrad else 4,
         {"amsgrad": False, "decay": False, "decoupled": False, "maximize": False})
def adam_step(inputs: Iterator[Value], n: int, amsgrad: bool, decay: bool, decoupled: bool,
              maximize: bool) -> tuple[Value, ...]:
    """p, exp_avg, exp_avg_sq, [max_exp_avg_sq], step, g, lr, beta1, beta2, eps, [weight_decay]."""
    p, m, v, *largest, step = take(inputs, n)
    g, lr, beta1, beta2, eps = take(inputs, 5)
    wd = next(inputs) if decay else None
    step, t = counted(step)
    if decoupled and wd is not None:
        p, wd = times(p, 1 - lr * wd), None
    g = gradient(p, g, wd, maximize)
    m = blend(m, g, 1 - beta1)
    v = decay_square(v, g, beta2)
    largest = [maximum(x, v) for x in largest]
    root = sqrt((largest or [v])[0]) / cast_to(sqrt(1 - beta2 ** t), v.dtype)
    size = lr / (1 - beta1 ** t)
    p = p - times(m, size) / plus(root, eps)
    return (p, m, v, *largest, step)


@step_op("sparse_adam_step", lambda **_: 4, {"maximize": False})
def sparse_adam_step(inputs: Iterator[Value], n: int, maximize: bool) -> tuple[Value, ...]:
    """p, exp_avg, exp_avg_sq, step, g, lr, beta1, beta2, eps: adam_step for the rows whose gradient is not all 0."""
    p, m, v, step = take(inputs, n)
    g, lr, beta1, beta2, eps = take(inputs, 5)
    step, t = counted(step)
    g = gradient(p, g, None, maximize)
    present, inner = ne(g, 0), tuple(range(1, g.ndim))
    if inner:
        present = keep_axes(any_(present, axes=inner), g, inner)
    m = where(present, blend(m, g, 1 - beta1), m)
    v = where(present, v + times(g * g - v, 1 - beta2), v)
    size = lr * sqrt(1 - beta2 ** t) / (1 - beta1 ** t)
    return where(present, p - times(m / plus(sqrt(v), eps), size), p), m, v, step


@step_op("adadelta_step", lambda **_: 4, {"decay": False, "maximize": False})
def adadelta_step(inputs: Iterator[Value], n: int, decay: bool, maximize: bool) -> tuple[Value, ...]:
    """p, square_avg, acc_delta, step, g, lr, rho, eps, [weight_decay]."""
    p, square, delta_square, step = take(inputs, n)
    g, lr, rho, eps = take(inputs, 4)
    g = gradient(p, g, next(inputs) if decay else None, maximize)
    square = decay_square(square, g, rho)
    delta = sqrt(plus(delta_square, eps)) / sqrt(plus(square, eps)) * g
    delta_square = decay_square(delta_square, delta, rho)
    return p - times(delta, lr), square, delta_square, step + 1


@step_op("adagrad_step", lambda **_: 3, {"decay": False, "maximize": False})
def adagrad_step(inputs: Iterator[Value], n: int, decay: bool, maximize: bool) -> tuple[Value, ...]:
    """p, sum, step, g, lr, lr_decay, eps, [weight_decay]."""
    p, total, step = take(inputs, n)
    g, lr, lr_decay, eps = take(inputs, 4)
    step, t = counted(step)
    g = gradient(p, g, next(inputs) if decay else None, maximize)
    size = lr / (1 + (t - 1) * lr_decay)
    total = total + g * g
    return p - times(g, size) / plus(sqrt(total), eps), total, step


@step_op("rmsprop_step", lambda momentum, centered, **_: 3 + momentum + centered,
         {"momentum": False, "centered": False, "decay": False, "maximize": False})
def rmsprop_step(inputs: Iterator[Value], n: int, momentum: bool, centered: bool, decay: bool,
                 maximize: bool) -> tuple[Value, ...]:
    """p, square_avg, [momentum_buffer], [grad_avg], step, g, lr, alpha, eps, [momentum], [weight_decay]."""
    p, square, *state, step = take(inputs, n)
    g, lr, alpha, eps = take(inputs, 4)
    factor = next(inputs) if momentum else None
    g = gradient(p, g, next(inputs) if decay else None, maximize)
    square = decay_square(square, g, alpha)
    under = square
    if centered:
        state[-1] = blend(state[-1], g, 1 - alpha)
        under = square - state[-1] * state[-1]
    root = plus(sqrt(under), eps)
    if factor is None:
        p = p - times(g, lr) / root
    else:
        state[0] = times(state[0], factor) + g / root
        p = p - times(state[0], lr)
    return (p, square, *state, step + 1)


@step_op("adamax_step", lambda **_: 4, {"decay": False, "maximize": False})
def adamax_step(inputs: Iterator[Value], n: int, decay: bool, maximize: bool) -> tuple[Value, ...]:
    """p, exp_avg, exp_inf, step, g, lr, beta1, beta2, eps, [weight_decay]."""
    p, m, u, step = take(inputs, n)
    g, lr, beta1, beta2, eps = take(inputs, 5)
    step, t = counted(step)
    g = gradient(p, g, next(inputs) if decay else None, maximize)
    m = blend(m, g, 1 - beta1)
    u = maximum(times(u, beta2), plus(abs_(g), eps))
    return p - times(m, lr / (1 - beta1 ** t)) / u, m, u, step


@step_op("nadam_step", lambda **_: 5, {"decay": False, "decoupled": False, "maximize": False})
def nadam_step(inputs: Iterator[Value], n: int, decay: bool, decoupled: bool, maximize: bool) -> tuple[Value, ...]:
    """p, exp_avg, exp_avg_sq, mu_product, step, g, lr, beta1, beta2, eps, momentum_decay, [weight_decay]."""
    p, m, v, product, step = take(inputs, n)
    g, lr, beta1, beta2, eps, momentum_decay = take(inputs, 6)
    wd = next(inputs) if decay else None
    step, t = counted(step)
    if decoupled and wd is not None:
        p, wd = times(p, 1 - lr * wd), None
    g = gradient(p, g, wd, maximize)
    base = lr * 0 + 0.96
    mu = beta1 * (1.0 - base ** (t * momentum_decay) * 0.5)
    mu_next = beta1 * (1.0 - base ** ((t + 1) * momentum_decay) * 0.5)
    product = times(product, mu)
    so_far = cast_to(product, dtypes.float64)
    m = blend(m, g, 1 - beta1)
    v = decay_square(v, g, beta2)
    denominator = plus(sqrt(v / cast_to(1 - beta2 ** t, v.dtype)), eps)
    p = p - times(g, lr * (1.0 - mu) / (1.0 - so_far)) / denominator
    p = p - times(m, lr * mu_next / (1.0 - so_far * mu_next)) / denominator
    return p, m, v, product, step


@step_op("radam_step", lambda **_: 4, {"decay": False, "decoupled": False, "maximize": False})
def radam_step(inputs: Iterator[Value], n: int, decay: bool, decoupled: bool, maximize: bool) -> tuple[Value, ...]:
    """p, exp_avg, exp_avg_sq, step, g, lr, beta1, beta2, eps, [weight_decay]."""
    p, m, v, step = take(inputs, n)
    g, lr, beta1, beta2, eps = take(inputs, 5)
    wd = next(inputs) if decay else None
    step, t = counted(step)
    if decoupled and wd is not None:
        p, wd = times(p, 1 - lr * wd), None
    g = gradient(p, g, wd, maximize)
    m = blend(m, g, 1 - beta1)
    v = decay_square(v, g, beta2)
    correction1, correction2 = 1 - beta1 ** t, 1 - beta2 ** t
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * (beta2 ** t) / correction2
    rectified = length > 5.0
    safe = where(rectified, length, longest)
    rectification = sqrt((safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe))
    moved = times(m / cast_to(correction1, m.dtype), lr)
    adaptive = cast_to(sqrt(correction2), v.dtype) / plus(sqrt(v), eps)
    p = p - where(expand_to(rectified, p.shape), times(moved * adaptive, rectification), moved)
    return p, m, v, step


@step_op("rprop_step", lambda **_: 4, {"maximize": False})
def rprop_step(inputs: Iterator[Value], n: int, maximize: bool) -> tuple[Value, ...]:
    """p, prev, step_size, step, g, etaminus, etaplus, smallest, largest."""
    p, previous, size, step = take(inputs, n)
    g, shrink, grow, smallest, largest = take(inputs, 5)
    g = gradient(p, g, None, maximize)
    agreement = g * previous
    zero = zeros_like(g)
    change = where(agreement > 0, cast_to(grow, g.dtype), where(agreement < 0, cast_to(shrink, g.dtype), zero + 1))
    size = size * change
    size = minimum(maximum(size, expand_to(cast_to(smallest, g.dtype), g.shape)),
                   expand_to(cast_to(largest, g.dtype), g.shape))
    g = where(agreement < 0, zero, g)
    return p - sign(g) * size, g, size, step + 1


@step_op("asgd_step", lambda **_: 5, {"decay": False, "maximize": False})
def asgd_step(inputs: Iterator[Value], n: int, decay: bool, maximize: bool) -> tuple[Value, ...]:
    """p, ax, eta, mu, step, g, lr, lambd, alpha, t0, [weight_decay]."""
    p, ax, eta, mu, step = take(inputs, n)
    g, lr, lambd, alpha, t0 = take(inputs, 5)
    step, t = counted(step)
    g = gradient(p, g, next(inputs) if decay else None, maximize)
    rate = cast_to(eta, dtypes.float64)
    p = times(p, 1 - lambd * rate) - times(g, rate)
    ax = where(expand_to(_is_one(mu), p.shape), p, ax + (p - ax) * mu)
    eta = lr / (1 + lambd * lr * t) ** alpha
    past = t - t0
    mu = 1 / where(past > 1.0, past, past * 0 + 1.0)
    return p, ax, eta, mu, step


def _is_one(x: Value) -> Value:
    return (x >= 1) & (x <= 1)
