"""`autograd.Function`: operations with a derivative of the user's own."""
from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jtorch._tensor import Tensor, wrap
from jtorch.autograd.modes import enable_grad, no_grad
from jtorch.autograd.saved import Packed, pack
from jtorch.capture.mapping import Map
from jtorch.capture.record import Recorder, current
from jtorch.ir.graph import Value
from jtorch.ir.prims.elementwise import zeros_like
from jtorch.ir.prims.function import custom_function, rules
from jtorch.views import assign

Values = Sequence[Value]


class VmapInfo(NamedTuple):
    """What a `vmap` staticmethod is told."""

    batch_size: int
    randomness: str


class FunctionCtx:
    """What `forward` leaves for `backward`.

    Saved tensors are operands of the recorded operation, so a derivative of it sees their values at the time they were
    saved, whatever the graph has been rewritten to since: `_operands` holds those while a derivative runs.
    """

    needs_input_grad: tuple[bool, ...] = ()
    materialize_grads = True
    _saved: tuple[Any, ...] = ()
    _saved_forward: tuple[Any, ...] = ()
    _places: tuple[tuple[Any, ...], tuple[Any, ...]] = ((), ())  # operands, or packed tensors, or None
    _operands: Callable[[int], Tensor] | None = None
    _forward_mode = False
    _dirty: tuple[Tensor, ...] = ()
    _non_differentiable: tuple[Tensor, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (or None) for `backward`, where they are `saved_tensors`."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument is of type "
                                f"{type(t).__name__}")
        self._saved = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Keep tensors for `jvp`, where they are `saved_tensors`."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError("save_for_forward expects all arguments to be tensors; you should save non-tensors as "
                                "attributes on ctx.")
        self._saved_forward = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        if self._operands is None:
            return tuple([_alive(t) for t in self._saved])
        places = self._places[1] if self._forward_mode and self._places[1] else self._places[0]
        return tuple([p.unpack() if isinstance(p, Packed) else None if p is None else self._operands(p)
                      for p in places])

    saved_variables = saved_tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Outputs through which no gradient flows."""
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Inputs that `forward` wrote to in place: returned, they are the outputs."""
        self._dirty = tensors

    def mark_shared_storage(self, *pairs: Any) -> None:
        """Nothing to do, as in PyTorch."""

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for an output without a gradient."""
        self.materialize_grads = value


def _alive(t: Any) -> Any:
    return t() if isinstance(t, weakref.ref) else t


class BackwardCFunction(FunctionCtx):
    """The context of one application of `function`."""

    def __init__(self, function: type[Function], needs: tuple[bool, ...]) -> None:
        self._function = function
        self.needs_input_grad = needs


class Function(FunctionCtx):
    """Base of custom functions: static `forward(ctx, ...)` and `backward(ctx, *grads)`; call with `apply`.

    Or `forward(...)` and `setup_context(ctx, inputs, output)`. `jvp(ctx, *tangents)` serves forward mode. Inside of
    `vmap` the function is mapped like all others, or by its own `vmap(info, in_dims, *args)`, which returns (outputs
    for all examples, their mapped dimensions).
    """

    generate_vmap_rule = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Legacy autograd function with non-static forward method is deprecated. Please use "
                           "new-style autograd function with static forward method.")

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError("You must implement either the backward or vjp method for your custom "
                                  "autograd.Function to use it with backward mode AD.")

    vjp = backward

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with "
                                  "forward mode AD.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        raise NotImplementedError("To use autograd.Function with vmap, you must either override the vmap staticmethod "
                                  "or set generate_vmap_rule=True.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise TypeError(f"{cls.__name__}.apply() takes no keyword arguments")
        recorder = current.recorder
        tensors = [a for a in args if isinstance(a, Tensor)]
        needs = tuple([isinstance(a, Tensor) and a.requires_grad for a in args])
        given = [recorder.value(t) for t in tensors]  # before `forward` may write to them
        ctx = BackwardCFunction(cls, needs)
        separate = cls.setup_context is not Function.setup_context
        recorder.holding += 1  # the values of one application belong to one epoch
        try:
            with no_grad():
                if recorder.levels and cls.vmap is not Function.vmap and _is_mapped(recorder.levels[-1], given):
                    if not separate:
                        raise RuntimeError("In order to use an autograd.Function with functorch transforms (vmap, "
                                           "grad, jvp, jacrev, ...), it must override the setup_context staticmethod.")
                    result = _map_by_rule(recorder.levels[-1], cls, args)
                else:
                    result = cls.forward(*args) if separate else cls.forward(ctx, *args)
                if separate:
                    cls.setup_context(ctx, args, result)
            if not any(needs) or not recorder.grad_enabled:
                return result
            return _record(recorder, ctx, args, given, result)
        finally:
            recorder.holding -= 1


class InplaceFunction(Function):
    """The base of functions that can work in place."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


def _record(recorder: Recorder, ctx: BackwardCFunction, args: tuple[Any, ...], given: Values, result: Any) -> Any:
    """The outputs as results of one operation with the user's derivative."""
    outputs = result if isinstance(result, tuple) else (result,)
    differentiable = [i for i, o in enumerate(outputs) if isinstance(o, Tensor)
                      and not any(o is n for n in ctx._non_differentiable)]
    operands = [recorder.value(outputs[i]) for i in differentiable]
    count = len(operands)
    operands += given
    home = {id(outputs[i]): k for k, i in enumerate(differentiable)}
    tensors = [a for a in args if isinstance(a, Tensor)]
    home.update((id(t), count + k) for k, t in enumerate(tensors) if id(t) not in home)

    def place(t: Tensor | None) -> Any:
        if t is None:
            return None
        packed = pack(t)
        if packed is not None:
            return packed
        if id(t) not in home:
            home[id(t)] = len(operands)
            operands.append(recorder.value(t))
        return home[id(t)]
    ctx._places = (tuple([place(t) for t in ctx._saved]), tuple([place(t) for t in ctx._saved_forward]))
    recorder.epoch.functions.append(Application(ctx, args, len(outputs), differentiable))
    values = recorder.builder.intern(custom_function, tuple(operands), (count, len(recorder.epoch.functions) - 1))
    final = list(outputs)
    for i, v in zip(differentiable, values):
        if any(outputs[i] is t for t in ctx._dirty):
            with enable_grad():
                assign(outputs[i], v)
        else:
            final[i] = wrap(recorder, v)
    shown = {id(o): f for o, f in zip(outputs, final)}
    # weak: contexts live as long as the graph, and the graph should not keep itself alive
    ctx._saved = tuple([None if t is None else weakref.ref(shown.get(id(t), t)) for t in ctx._saved])
    ctx._saved_forward = ()
    ctx._dirty = ctx._non_differentiable = ()
    return tuple(final) if isinstance(result, tuple) else final[0]


class Application:
    """One use of a Function: what its derivatives need besides the operands."""

    def __init__(self, ctx: BackwardCFunction, args: tuple[Any, ...], outputs: int,
                 differentiable: Sequence[int]) -> None:
        self.ctx = ctx
        self.name = ctx._function.__name__
        self.is_tensor = [isinstance(a, Tensor) for a in args]
        self.outputs = outputs
        self.differentiable = list(differentiable)

    def bound(self, results: Values, operands: Values, forward_mode: bool) -> BackwardCFunction:
        """The context, its saved tensors being the operands of this node."""
        values = (*results, *operands)
        recorder = current.recorder
        self.ctx._operands = lambda place: wrap(recorder, values[place])
        self.ctx._forward_mode = forward_mode
        return self.ctx

    def vjp(self, g: Sequence[Value | None], results: Values, operands: Values) -> list[Value | None]:
        recorder = current.recorder
        ctx = self.bound(results, operands, False)
        given: list[Tensor | None] = [None] * self.outputs
        for i, cotangent, r in zip(self.differentiable, g, results):
            if cotangent is None and ctx.materialize_grads:
                cotangent = zeros_like(r)
            given[i] = None if cotangent is None else wrap(recorder, cotangent)
        function = ctx._function
        rule = function.vjp if function.vjp is not Function.vjp else function.backward
        try:
            found = rule(ctx, *given)
        finally:
            ctx._operands = None
        found = tuple(found) if isinstance(found, tuple | list) else (found,)
        expected = len(self.is_tensor)
        if len(found) > expected and all(x is None for x in found[expected:]):
            found = found[:expected]
        if len(found) != expected:
            raise RuntimeError(f"function {self.name}Backward returned an incorrect number of gradients (expected "
                               f"{expected}, got {len(found)})")
        return [self.cotangent(i, x) for i, (x, tensor) in enumerate(zip(found, self.is_tensor))
                if tensor or x is not None] + [None] * (len(operands) - sum(self.is_tensor))

    def cotangent(self, i: int, g: Any) -> Value | None:
        if not self.is_tensor[i]:
            raise RuntimeError(f"function {self.name}Backward returned a gradient different from None at position "
                               f"{i + 1}, but the corresponding forward input was not a Variable")
        if g is not None and not isinstance(g, Tensor):
            raise TypeError(f"expected Variable or None (got {type(g).__name__})")
        return None if g is None else current.recorder.value(g)

    def jvp(self, tangents: Sequence[Value | None], results: Values, operands: Values) -> tuple[Value | None, ...]:
        recorder = current.recorder
        ctx = self.bound(results, operands, True)
        rest = iter(zip(tangents, operands))
        given: list[Tensor | None] = []
        for tensor in self.is_tensor:
            t, x = next(rest) if tensor else (None, None)
            if t is None and x is not None and ctx.materialize_grads:
                t = zeros_like(x)
            given.append(None if t is None else wrap(recorder, t))
        try:
            found = ctx._function.jvp(ctx, *given)
        finally:
            ctx._operands = None
        found = tuple(found) if isinstance(found, tuple | list) else (found,)
        if len(found) != self.outputs:
            raise RuntimeError(f"{self.name}.jvp returned {len(found)} tangents for {self.outputs} outputs")
        return tuple([None if found[i] is None else recorder.value(found[i]) for i in self.differentiable])


class MappedApplication:
    """An application inside of a mapped function, for all examples: its derivatives are mapped too."""

    def __init__(self, inner: Any, size: int) -> None:
        self.inner, self.size = inner, size
        self.name = inner.name

    def run(self, rule: Callable[..., Any], *groups: Sequence[Value | None]) -> list[Value | None]:
        """`rule` on one example of each group's values, and its results for all examples."""
        recorder = current.recorder
        level = Map(recorder, self.size, "different", derivative=True)
        recorder.levels.append(level)
        try:
            found = rule(*[[None if v is None else level.bind(v) for v in group] for group in groups])
            return [None if v is None else level.lift_whole(v) for v in found]
        finally:
            recorder.levels.remove(level)

    def vjp(self, g: Sequence[Value | None], results: Values, operands: Values) -> list[Value | None]:
        return self.run(self.inner.vjp, g, results, operands)

    def jvp(self, tangents: Sequence[Value | None], results: Values, operands: Values) -> tuple[Value | None, ...]:
        return tuple(self.run(self.inner.jvp, tangents, results, operands))


# --- the rules of the operation --------------------------------------------------------------------------------------

def application(number: Any) -> Any:
    """The application behind a node: numbered in the epoch, or, in a captured graph, the thing itself."""
    functions = current.recorder.epoch.functions
    if isinstance(number, int):
        return functions[number]
    functions.append(number)  # so that what the user's code makes of this epoch is not remembered for others
    return number


def _batch(number: Any, size: int, results: int, operands: Values) -> Any:
    functions = current.recorder.epoch.functions
    functions.append(MappedApplication(application(number), size))
    return operands[0].builder.intern(custom_function, tuple(operands), (results, len(functions) - 1))


rules["vjp"] = lambda number, g, results, operands: application(number).vjp(g, results, operands)
rules["jvp"] = lambda number, tangents, results, operands: application(number).jvp(tangents, results, operands)
rules["batch"] = _batch


# --- a mapping of the user's own -------------------------------------------------------------------------------------

def _is_mapped(level: Map, values: Values) -> bool:
    return any(mapped for _, mapped in level.lift(values))


def _map_by_rule(level: Map, function: type[Function], args: tuple[Any, ...]) -> Any:
    """What one example sees of the outputs that the function's `vmap` computes for all."""
    recorder = current.recorder
    whole: list[Any] = []
    dims: list[int | None] = []
    for a in args:
        v, mapped = level.lift([recorder.value(a)])[0] if isinstance(a, Tensor) else (None, False)
        whole.append(wrap(recorder, v) if mapped else a)  # type: ignore[arg-type]
        dims.append(0 if mapped else None)
    with level.outside():
        found = function.vmap(VmapInfo(level.size, level.randomness), tuple(dims), *whole)
        if not (isinstance(found, tuple) and len(found) == 2):
            raise RuntimeError(f"{function.__name__}.vmap must return (outputs, out_dims)")
        outputs, out_dims = found
        several = isinstance(outputs, tuple | list)
        flat = list(outputs) if several else [outputs]
        places = list(out_dims) if isinstance(out_dims, tuple | list) else [out_dims] * len(flat)
    if len(places) != len(flat):
        raise RuntimeError(f"{function.__name__}.vmap returned {len(flat)} outputs and {len(places)} out_dims")
    results = [o if d is None or not isinstance(o, Tensor) else level.example(o, d % o.ndim)
               for o, d in zip(flat, places)]
    return tuple(results) if several else results[0]


# --- once differentiable ---------------------------------------------------------------------------------------------

class _Once(Function):
    """The identity on a gradient that depends on others in a way that is not recorded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *sources: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a `backward` that cannot be differentiated again: doing so raises RuntimeError."""
    @functools.wraps(function)
    def wrapper(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            found = function(ctx, *grads)
        sources = [g for g in grads if isinstance(g, Tensor) and g.requires_grad]
        if not sources or not current.recorder.grad_enabled:
            return found
        marked = [_Once.apply(x.detach(), *sources) if isinstance(x, Tensor) else x
                  for x in (found if isinstance(found, tuple) else (found,))]
        return tuple(marked) if isinstance(found, tuple) else marked[0]
    return wrapper

