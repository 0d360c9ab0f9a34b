"""`gradcheck` and `gradgradcheck`: derivatives against central differences in float64."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jtorch._tensor import Tensor, from_array
from jtorch.autograd.backward import grad
from jtorch.autograd.modes import enable_grad, no_grad


class GradcheckError(RuntimeError):
    """The analytic and the numerical derivative differ."""


def _outputs(function: Callable[..., Any], inputs: Sequence[Any]) -> list[Tensor]:
    result = function(*inputs)
    flat = [result] if isinstance(result, Tensor) else list(result)
    return [o for o in flat if isinstance(o, Tensor) and o.dtype.is_floating_point]


def gradcheck(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
              check_grad_dtypes: bool = False, check_batched_grad: bool = False, fast_mode: bool = False,
              **options: Any) -> bool:
    """Compare the Jacobian of `func` at `inputs` (float64 recommended) with central differences of step `eps`.

    Raises GradcheckError (or returns False) where they differ by more than `atol + rtol * |numerical|`.
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [t for t in inputs if isinstance(t, Tensor) and t.requires_grad]
    if not wanted:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of the them have "
                         "requires_grad=True.")
    for o, output in enumerate(_outputs(func, inputs)):
        if not output.requires_grad:
            continue
        for i, (t, analytic) in enumerate(zip(wanted, _jacobian(output, wanted))):
            numerical = _numerical(func, inputs, t, o, eps)
            if not np.allclose(analytic, numerical, rtol, atol, equal_nan=True):
                if not raise_exception:
                    return False
                raise GradcheckError(f"Jacobian mismatch for output {o} with respect to input {i},\n"
                                     f"numerical:{numerical}\nanalytical:{analytic}\n")
    return True


def _jacobian(output: Tensor, wanted: Sequence[Tensor]) -> list[np.ndarray]:
    """d output / d wanted, rows by elements of the input, columns by elements of the output."""
    result = [np.zeros((t.numel(), output.numel())) for t in wanted]
    for column in range(output.numel()):
        direction = np.zeros(output.numel())
        direction[column] = 1
        seed = from_array(direction.reshape(output._type.shape).astype(output.dtype.numpy))
        for jacobian, g in zip(result, grad(output, wanted, seed, retain_graph=True, allow_unused=True)):
            if g is not None:
                jacobian[:, column] = g._array().ravel()
    return result


def _numerical(func: Callable[..., Any], inputs: Sequence[Any], t: Tensor, output: int, eps: float) -> np.ndarray:
    base = t._array().astype(np.float64).copy()
    columns = []
    for place in range(base.size):
        sides = []
        for step in (eps, -eps):
            moved = base.copy()
            moved.ravel()[place] += step
            probe = from_array(moved.astype(t.dtype.numpy))
            with no_grad():
                results = _outputs(func, [probe if x is t else x for x in inputs])
            sides.append(results[output]._array().astype(np.float64).ravel())
        columns.append((sides[0] - sides[1]) / (2 * eps))
    return np.array(columns).reshape(base.size, -1)


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6,
                  atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True, **options: Any) -> bool:
    """`gradcheck` of the gradient of `func`, with random cotangents unless given."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    outputs = [o for o in _outputs(func, inputs) if o.requires_grad]
    random = np.random.default_rng(0)
    if grad_outputs is None:
        seeds = [from_array(random.standard_normal(o._type.shape).astype(o.dtype.numpy), True) for o in outputs]
    else:
        seeds = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    n = len(inputs)

    @enable_grad()  # also where gradcheck probes without grad
    def first_derivative(*everything: Any) -> Any:
        arguments, cotangents = everything[:n], everything[n:]
        fresh = [x if not isinstance(x, Tensor) or x.requires_grad or not original.requires_grad
                 else x.detach().requires_grad_() for x, original in zip(arguments, inputs)]
        results = [o for o in _outputs(func, fresh) if o.requires_grad]
        wanted = [x for x, original in zip(fresh, inputs) if isinstance(x, Tensor) and original.requires_grad]
        found = grad(results, wanted, list(cotangents), create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(first_derivative, (*inputs, *seeds), eps=eps, atol=atol, rtol=rtol,
                     raise_exception=raise_exception)

