"""`torch.autograd.functional`: derivatives of a function at a point, given as tensors."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.autograd.backward import differentiate
from jtorch.autograd.modes import enable_grad, set_grad_enabled
from jtorch.autograd.scope import conformed
from jtorch.autograd.transforms import Pullback, basis, jacfwd, left_values, reshaped
from jtorch.autograd.vmap import vmap
from jtorch.capture.record import current
from jtorch.ir.graph import Value
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import zeros_like
from jtorch.ir.prims.movement import concatenate, reshape_to, slice_axis

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _as_tuple(x: Any, what: str, where: str) -> tuple[bool, tuple[Tensor, ...]]:
    """Whether it was a tuple, and it as a tuple."""
    several = isinstance(x, tuple)
    items = tuple(x) if several else (x,)
    for i, t in enumerate(items):
        if not isinstance(t, Tensor):
            place = f"value at index {i} has type {type(t)}" if several else f"given {what} has type {type(t)}"
            raise TypeError(f"The {what} given to {where} must be either a Tensor or a tuple of Tensors but the "
                            f"{place}.")
    return several, items


class _Call:
    """The function at the inputs, once."""

    def __init__(self, func: Callable[..., Any], inputs: Any, where: str, create_graph: bool, strict: bool) -> None:
        self.create_graph, self.strict = create_graph, strict
        self.several_inputs, self.inputs = _as_tuple(inputs, "inputs", where)
        with set_grad_enabled(create_graph or current.recorder.grad_enabled):
            self.pull = Pullback(func, tuple(range(len(self.inputs))), self.inputs, {}, False, where)
        self.several_outputs, self.outputs = _as_tuple(self.pull.output, "outputs of the user-provided function", where)
        if strict:
            for i, o in enumerate(self.outputs):
                if not o.requires_grad:
                    raise RuntimeError(f"Output {i} of the user-provided function does not require gradients. The "
                                       "outputs must be computed in a differentiable manner from the input when "
                                       "running in strict mode.")

    def shown(self) -> Any:
        """The outputs for the user."""
        flat = left_values(self.pull.scope, [current.recorder.value(o) for o in self.outputs], self.create_graph)
        return tuple(flat) if self.several_outputs else flat[0]

    def direction(self, v: Any, like: Sequence[Tensor], what: str, several: bool) -> list[Value]:
        """A vector given by the user, checked against what it multiplies."""
        recorder = current.recorder
        if v is None:
            if len(like) != 1 or like[0].numel() != 1:
                raise RuntimeError(f"The vector v can only be None if {what} or a single scalar."
                                   if "user" in what else f"The vector v can only be None if {what}.")
            return [constant(recorder.builder, 1, like[0].dtype, like[0]._type.shape)]
        _, items = _as_tuple(v, "v", "the function")
        if len(items) != len(like):
            raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(items)}." if several
                               else "The given v should contain a single Tensor.")
        for i, (x, t) in enumerate(zip(items, like)):
            if x.shape != t.shape:
                place = f"Entry {i} in " if several else ""
                raise RuntimeError(f"{place}v has invalid size: should be {t.shape} but got {x.shape}.")
        return [recorder.value(x if self.create_graph else x.detach()) for x in items]

    def gradients(self, outputs: Sequence[Tensor], cotangents: Sequence[Value]) -> list[Value | None]:
        found = self.pull.found(outputs, cotangents)
        if self.strict:
            for i, g in enumerate(found):
                if g is None:
                    raise RuntimeError(f"The output of the user-provided function is independent of input {i}. This is "
                                       "not allowed in strict mode.")
                if self.create_graph and not g.requires_grad:
                    raise RuntimeError(f"The jacobian of the user-provided function is independent of input {i}. This "
                                       "is not allowed in strict mode when create_graph=True.")
        return found

    def left(self, found: Sequence[Value | None]) -> Any:
        """Gradients of the inputs in the structure of the inputs."""
        flat = self.pull.left_gradients(found, self.create_graph)
        return tuple(flat) if self.several_inputs else flat[0]


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(outputs, v^T J): `v` has the structure of the outputs; it may be left out for a single scalar.

    The results are part of the graph of `inputs` with `create_graph`. With `strict`, an output that does not depend on
    an input is an error.
    """
    c = _Call(func, inputs, "vjp", create_graph, strict)
    cotangents = c.direction(v, c.outputs, "the user-provided function returns a single Tensor with a single element",
                             c.several_outputs)
    return c.shown(), c.left(c.gradients(c.outputs, cotangents))


def _double(c: _Call, outputs: Sequence[Tensor], v: Sequence[Value]) -> list[Value]:
    """J v without forward mode: u^T J is linear in u, and its gradient along v is J v."""
    recorder = current.recorder
    with enable_grad():
        probes = []
        for o in outputs:
            probe = wrap(recorder, zeros_like(recorder.value(o.detach())))
            probe._requires_grad, probe._epoch = True, None
            probes.append(probe)
        found = c.pull.found(outputs, [recorder.value(u) for u in probes])
        live = [(wrap(recorder, g), d) for g, d in zip(found, v) if g is not None and g.requires_grad]
        results = differentiate(recorder, [g for g, _ in live], [d for _, d in live], probes, True, True)
        if c.strict and any(r is None for r in results):
            raise RuntimeError("The gradient with respect to the input is independent of an entry in the grad_outputs "
                               "when using the double backward trick to compute forward mode gradients. This is not "
                               "allowed in strict mode.")
        return [conformed(r, recorder.value(o)) for r, o in zip(results, outputs)]


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(outputs, J v): `v` has the structure of the inputs; see `vjp`."""
    c = _Call(func, inputs, "jvp", create_graph, strict)
    direction = c.direction(v, c.inputs, "the input to the user-provided function is a single Tensor with a single "
                                         "element", c.several_inputs)
    found = left_values(c.pull.scope, _double(c, c.outputs, direction), create_graph)
    return c.shown(), tuple(found) if c.several_outputs else found[0]


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False,
             vectorize: bool = False, strategy: str = "reverse-mode") -> Any:
    """The Jacobian: for output i and input j a tensor of shape output.shape + input.shape, in tuples where the
    outputs, the inputs are tuples (outputs outside).

    `vectorize` computes all rows together, by `vmap`. `strategy='forward-mode'` goes by columns, and needs it.
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function '
                             'has more outputs than inputs, "forward-mode" tends to be more performant. Otherwise, '
                             'prefer to use "reverse-mode".')
    if strategy == "forward-mode":
        return _forward_jacobian(func, inputs, create_graph, strict, vectorize)
    if vectorize and strict:
        raise RuntimeError("torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported "
                           "together. Please either set `strict=False` or `vectorize=False`.")
    c = _Call(func, inputs, "jacobian", create_graph, strict)
    rows = [_rows(c, o, vectorize) for o in c.outputs]
    result = tuple([tuple(row) if c.several_inputs else row[0] for row in rows])
    return result if c.several_outputs else result[0]


def _rows(c: _Call, o: Tensor, vectorize: bool) -> list[Tensor]:
    """The Jacobian of one output with respect to each input."""
    recorder = current.recorder
    builder = recorder.builder
    shapes = [(*o._type.shape, *x._type.shape) for x in c.inputs]
    if not o.numel():
        return [wrap(recorder, constant(builder, 0, x.dtype, s)) for x, s in zip(c.inputs, shapes)]
    units = basis(builder, o._type.shape, o.dtype)
    if vectorize:
        def row(g: Tensor) -> tuple[Tensor, ...]:
            return tuple(c.pull.left_gradients(c.gradients([o], [current.recorder.value(g)]), True))
        with set_grad_enabled(c.create_graph):
            parts = vmap(row)(wrap(recorder, units))
            return [reshaped(part, s) for part, s in zip(parts, shapes)]
    found: list[list[Value]] = []
    for i in range(o.numel()):
        unit = reshape_to(slice_axis(units, 0, i, i + 1), o._type.shape)
        gradients = [conformed(g, recorder.value(t)) for g, t in zip(c.gradients([o], [unit]), c.pull.leaves)]
        found.append([reshape_to(g, (1, *g.shape)) for g in gradients])
    joined = [reshape_to(concatenate(*column, axis=0), s) for column, s in zip(zip(*found), shapes)]
    return left_values(c.pull.scope, joined, c.create_graph)


def _forward_jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool, strict: bool, vectorize: bool) -> Any:
    if strict:
        raise RuntimeError('torch.autograd.functional.jacobian: `strict=True` and `strategy="forward-mode"` are not '
                           'supported together (yet). Please either set `strict=False` or `strategy="reverse-mode"`.')
    if not vectorize:
        raise NotImplementedError("Computing Jacobian using forward-AD or forward-over-reverse Hessian is only "
                                  "implemented for `vectorize=True`.")
    several, items = _as_tuple(inputs, "inputs", "jacobian")

    def checked(*given: Tensor) -> Any:
        result = func(*given)
        _as_tuple(result, "outputs of the user-provided function", "jacobian")
        return result
    with set_grad_enabled(create_graph):
        return jacfwd(checked, tuple(range(len(items))) if several else 0)(*items)


def _scalar(func: Callable[..., Any], where: str) -> Callable[..., Tensor]:
    def checked(*inputs: Tensor) -> Tensor:
        result = func(*inputs)
        several, items = _as_tuple(result, "outputs of the user-provided function", where)
        if several:
            raise RuntimeError(f"The function given to {where} should return a single Tensor")
        if items[0].numel() != 1:
            raise RuntimeError(f"The Tensor returned by the function given to {where} should contain a single element")
        return items[0].squeeze()
    return checked


def _gradient(func: Callable[..., Any], where: str, several: bool) -> Callable[..., Any]:
    """The gradient of a scalar function as a function."""
    def gradient(*inputs: Tensor) -> Any:
        return jacobian(_scalar(func, where), inputs if several else inputs[0], create_graph=True)
    return gradient


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False,
            vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode") -> Any:
    """The Hessian of a function with one scalar output: for inputs i and j a tensor of shape
    input_i.shape + input_j.shape; see `jacobian`."""
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')
    several, _ = _as_tuple(inputs, "inputs", "hessian")
    return jacobian(_gradient(func, "hessian", several), inputs, create_graph, strict, vectorize,
                    outer_jacobian_strategy)


def _value_and_gradient(func: Callable[..., Any], inputs: Any, create_graph: bool, strict: bool, where: str) -> Any:
    """The function, called once, and its gradient in the graph of the stand-ins."""
    c = _Call(_scalar(func, where), inputs, where, create_graph, strict)
    recorder = current.recorder
    one = constant(recorder.builder, 1, c.outputs[0].dtype)
    found = c.pull.found(c.outputs, [one])
    if strict and any(g is None for g in found):
        raise RuntimeError("The output of the user-provided function is independent of an input. This is not allowed "
                           "in strict mode.")
    with enable_grad():
        gradient = [wrap(recorder, conformed(g, recorder.value(t))) for g, t in zip(found, c.pull.leaves)]
    return c, gradient


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(output, v^T H) for a function with one scalar output; `v` has the structure of the inputs."""
    c, gradient = _value_and_gradient(func, inputs, create_graph, strict, "vhp")
    direction = c.direction(v, c.inputs, "the input to the user-provided function is a single Tensor with a single "
                                         "element", c.several_inputs)
    c.strict = False
    return c.shown(), c.left(c.gradients(gradient, direction))


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(output, H v) for a function with one scalar output; `v` has the structure of the inputs."""
    c, gradient = _value_and_gradient(func, inputs, create_graph, strict, "hvp")
    direction = c.direction(v, c.inputs, "the input to the user-provided function is a single Tensor with a single "
                                         "element", c.several_inputs)
    c.strict = False
    found = left_values(c.pull.scope, _double(c, gradient, direction), create_graph)
    return c.shown(), tuple(found) if c.several_inputs else found[0]
