"""`backward` and `grad`."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.autograd.modes import no_grad, set_grad_enabled
from jtorch.autograd.vmap import vmap
from jtorch.autograd.walk import Walk
from jtorch.capture.record import SPENT, Recorder, current
from jtorch.ir.graph import Value
from jtorch.ir.prims.create import constant, variable
from jtorch.views import assign


def backward(tensors: Tensor | Sequence[Tensor], grad_tensors: Any = None, retain_graph: bool | None = None,
             create_graph: bool = False, inputs: Tensor | Sequence[Tensor] | None = None) -> None:
    """Accumulate the gradients of `tensors` into the `.grad` of the leaves (or of `inputs`)."""
    recorder = current.recorder
    roots = _sequence(tensors)
    cotangents = _cotangents(recorder, roots, grad_tensors)
    if inputs is not None:
        chosen = _sequence(inputs)
        if not chosen:
            raise RuntimeError("`inputs` argument to `backward` cannot be empty.")
        found = differentiate(recorder, roots, cotangents, chosen, bool(retain_graph), create_graph)
        pairs = [(t, g) for t, g in zip(chosen, found) if g is not None]
    else:
        keep = create_graph if retain_graph is None else retain_graph
        pairs = list(_leaf_gradients(recorder, roots, cotangents, keep, create_graph).items())
    recorder.holding += 1
    try:  # as tensors: a hook may look at a value, and the flush leaves mere Values behind in the old epoch
        gradients = [wrap(recorder, g if create_graph else recorder.detached(g)) for _, g in pairs]
    finally:
        recorder.holding -= 1
    for t, _ in pairs:
        _accumulate(recorder, t, gradients.pop(0), create_graph)
    if not (create_graph or retain_graph):
        recorder.rhythm.walked(recorder)


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: Any = None,
         retain_graph: bool | None = None, create_graph: bool = False, only_inputs: bool = True,
         allow_unused: bool | None = None, is_grads_batched: bool = False,
         materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`, as new tensors.

    With `is_grads_batched` the first dimension of each of `grad_outputs` runs over several cotangents, and that of the
    results over their gradients.
    """
    if is_grads_batched:
        given = _sequence(grad_outputs) if grad_outputs is not None else ()

        def one(*cotangents: Tensor | None) -> Any:
            return grad(outputs, inputs, cotangents, True if retain_graph is None else retain_graph, create_graph,
                        allow_unused=allow_unused, materialize_grads=materialize_grads)
        found = vmap(one, tuple([None if g is None else 0 for g in given]), (0,) * len(_sequence(inputs)))(*given)
        return found
    recorder = current.recorder
    roots, wanted = _sequence(outputs), _sequence(inputs)
    for t in wanted:
        if not t.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    cotangents = _cotangents(recorder, roots, grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    found = differentiate(recorder, roots, cotangents, wanted, keep, create_graph)
    results: list[Tensor | None] = []
    for t, g in zip(wanted, found):
        if g is None and materialize_grads:
            g = constant(recorder.builder, 0, t.dtype, tuple(t.shape))
        if g is None and not allow_unused:
            raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph. Set "
                               "allow_unused=True if this is the desired behavior.")
        results.append(None if g is None else wrap(recorder, g if create_graph else recorder.detached(g)))
    gradients = tuple([g if g is None or not _has_hooks(t) else _hooked(t, g, create_graph)
                       for t, g in zip(wanted, results)])
    if not keep:
        recorder.rhythm.walked(recorder)
    return gradients


def _sequence(x: Any) -> tuple[Tensor, ...]:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _cotangents(recorder: Recorder, roots: Sequence[Tensor], given: Any) -> list[Value]:
    given = [None] * len(roots) if given is None else list(_sequence(given))
    if len(given) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(given)} gradients")
    result = []
    for i, (t, g) in enumerate(zip(roots, given)):
        if not t.requires_grad:
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        if g is None:
            if t.numel() != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            result.append(constant(recorder.builder, 1, t.dtype, t._type.shape))
        else:
            if tuple(g.shape) != tuple(t.shape):
                raise RuntimeError(f"Mismatch in shape: grad_output[{i}] has a shape of {g.shape} and output[{i}] has "
                                   f"a shape of {t.shape}.")
            result.append(recorder.value(g))
    return result


def _leaf_gradients(recorder: Recorder, roots: Sequence[Tensor], cotangents: Sequence[Value], keep: bool,
                    create_graph: bool) -> dict[Tensor, Value]:
    """leaf tensor -> gradient, for every leaf that the roots depend on."""
    walk = Walk(recorder, keep, create_graph)
    walk.run([recorder.value(t) for t in roots], cotangents, {})
    return walk.leaves


def differentiate(recorder: Recorder, roots: Sequence[Tensor], cotangents: Sequence[Value], wanted: Sequence[Tensor],
                   keep: bool, create_graph: bool) -> list[Value | None]:
    """The gradient of each wanted tensor, None where unused."""
    walk = Walk(recorder, keep, create_graph)
    values = [recorder.value(t) for t in roots]
    present: dict[Value, None] = {}
    past: dict[Any, dict[Value, None]] = {}
    keys: list[Any] = []
    for t in wanted:
        if t._requires_grad:
            keys.append(t)
            continue
        v = recorder.value(t)
        cell = t._storage.cell
        if v.op is variable and recorder.epoch.variables[v.attrs[0]] is cell and cell.epoch is not SPENT:
            past.setdefault(cell.epoch, {})[cell.value] = None
            keys.append((cell.epoch, cell.value))
        else:
            present[v] = None
            keys.append((recorder.epoch, v))
    walk.past_wanted = past
    walk.run(values, cotangents, present)
    return [walk.leaves.get(key) if isinstance(key, Tensor) else walk.found.get(key) for key in keys]


def _has_hooks(t: Tensor) -> bool:
    return t._requires_grad and bool(t.__dict__.get("_backward_hooks"))


def _hooked(t: Tensor, g: Tensor, create_graph: bool) -> Tensor:
    """The gradient of a leaf after its hooks."""
    with set_grad_enabled(create_graph):
        for hook in list(t.__dict__["_backward_hooks"].values()):
            result = hook(g)
            if result is not None:
                g = result if create_graph else result.detach()
    return g


def _accumulate(recorder: Recorder, t: Tensor, g: Tensor, create_graph: bool) -> None:
    hooks = _has_hooks(t)
    if hooks:
        g = _hooked(t, g, create_graph)
    if recorder.tracing is not None:
        recorder.tracing.saw_grad(t)
    present = t._grad
    if present is None:
        t._grad = wrap(recorder, recorder.value(g)) if hooks else g  # a hook may have kept it
    elif create_graph:
        t._grad = wrap(recorder, recorder.value(present) + recorder.value(g))
    else:
        with no_grad():
            assign(present, recorder.value(present) + recorder.value(g))
    for hook in list(t.__dict__.get("_post_accumulate_hooks", {}).values()):
        hook(t)
