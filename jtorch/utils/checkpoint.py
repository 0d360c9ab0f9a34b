"""`torch.utils.checkpoint`: parts of a network whose inside is computed again in the backward instead of being kept."""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from jtorch._tensor import Tensor
from jtorch.autograd import Function, grad
from jtorch.autograd.modes import enable_grad, no_grad
from jtorch.autograd.node import AccumulateGrad
from jtorch.capture.record import current
from jtorch.ops.random import get_rng_state, set_rng_state
from jtorch.ops.settings import synchronize
from jtorch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

__all__ = ["checkpoint", "checkpoint_sequential"]


class _Recomputed(Function):
    """The outputs of `call`, computed already; the backward computes them again, with a graph, and differentiates."""

    @staticmethod
    def forward(ctx: Any, call: Callable[..., Any], rng_state: Tensor | None, outputs: tuple[Tensor, ...],
                count: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.call, ctx.rng_state, ctx.count = call, rng_state, count
        ctx.parameters = inputs[count:]
        ctx.save_for_backward(*inputs[:count])
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        inputs, needed = list(ctx.saved_tensors), ctx.needs_input_grad[4:]
        create_graph = current.recorder.grad_enabled
        with enable_grad():
            if not create_graph:
                inputs = [t.detach().requires_grad_(n) for t, n in zip(inputs, needed)]
            now = get_rng_state() if ctx.rng_state is not None else None
            if ctx.rng_state is not None:
                set_rng_state(ctx.rng_state)
            try:
                outputs = ctx.call(*inputs)
            finally:
                if now is not None:
                    set_rng_state(now)
        wanted = [(o, g) for o, g in zip(outputs, grads) if g is not None and o.requires_grad]
        inputs += ctx.parameters
        places = [i for i, n in enumerate(needed) if n]
        found: list[Any] = [None] * len(inputs)
        if wanted and places:
            results = grad([o for o, _ in wanted], [inputs[i] for i in places], [g for _, g in wanted],
                           create_graph=create_graph, allow_unused=True)
            for i, g in zip(places, results):
                found[i] = g
        return (None, None, None, None, *found)


def _leaves_behind(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """The tensors that gradients of `tensors` would be added to."""
    todo: list[Any] = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(todo)
    while todo:
        node = todo.pop()
        if isinstance(node, AccumulateGrad):
            yield node.variable
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                todo.append(below)


def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None,
               context_fn: Callable[[], tuple[Any, Any]] = lambda: (nullcontext(), nullcontext()),
               determinism_check: str = "default", debug: bool = False, early_stop: bool = True,
               preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`, whose intermediate results are not kept: the backward computes them again.

    Random numbers (unless `preserve_rng_state=False`) and autocast are in the recomputation what they were;
    `context_fn` gives a context manager for the first run and one for the second. A call ends an epoch: what was
    recorded is computed, and what is inside of the function is dropped. With `use_reentrant=True`, PyTorch's older way,
    the result has a gradient only if one of the arguments requires it, and keyword arguments are a ValueError. In a
    trace there is nothing to do, for the compiler decides what is kept: the function is called.
    """
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. "
                      "use_reentrant=False is recommended.", stacklevel=2)
        use_reentrant = True
    if use_reentrant and kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    recorder = current.recorder
    if recorder.tracing is not None or not recorder.grad_enabled:
        return function(*args, **kwargs)
    flat, spec = tree_flatten((args, kwargs))
    places = [i for i, x in enumerate(flat) if isinstance(x, Tensor)]
    inputs = [flat[i] for i in places]
    if use_reentrant and not any(t.requires_grad for t in inputs):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)
        with no_grad():
            return function(*args, **kwargs)
    autocast_state = recorder.autocast
    first, second = context_fn()
    result_spec: list[TreeSpec] = []

    def call(context: Any, given: Sequence[Tensor]) -> list[Any]:
        leaves = list(flat)
        for i, t in zip(places, given):
            leaves[i] = t
        positional, named = tree_unflatten(leaves, spec)
        before = recorder.autocast
        recorder.set_autocast(autocast_state)
        try:
            with context:
                results, found = tree_flatten(function(*positional, **named))
        finally:
            recorder.set_autocast(before)
        result_spec[:] = [found]
        return results

    state = get_rng_state() if preserve_rng_state else None
    given = [t.detach().requires_grad_(t.requires_grad) for t in inputs]
    results = call(first, given)
    outputs = [r for r in results if isinstance(r, Tensor) and r.requires_grad]
    own = {id(t) for t in given}
    parameters = [t for t in _leaves_behind(outputs) if id(t) not in own]
    shown = [r.detach().clone() if isinstance(r, Tensor) and r.requires_grad else r for r in results]
    kept = [i for i, r in enumerate(results) if isinstance(r, Tensor) and r.requires_grad]
    del outputs, results, given
    if kept:
        def again(*tensors: Tensor) -> list[Tensor]:
            found = call(second, tensors)
            return [found[i] for i in kept]
        connected = _Recomputed.apply(again, state, tuple([shown[i] for i in kept]), len(inputs), *inputs, *parameters)
        for i, t in zip(kept, connected):
            shown[i] = t
    synchronize()
    return tree_unflatten(shown, result_spec[0])


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None,
                          preserve_rng_state: bool = True) -> Any:
    """A sequence of functions (or a Sequential) in `segments` parts, all but the last of them under `checkpoint`."""
    layers = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(layers) // segments

    def part(start: int, end: int) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            for layer in layers[start:end]:
                x = layer(x)
            return x
        return run
    for k in range(segments - 1):
        input = checkpoint(part(k * size, (k + 1) * size), input, use_reentrant=use_reentrant,
                           preserve_rng_state=preserve_rng_state)
    return part((segments - 1) * size, len(layers))(input)
