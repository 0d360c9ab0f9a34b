"""Automatic differentiation as PyTorch's users know it: `backward`, `grad`, grad modes, hooks, `Function`.

There is no tape. Values are a pure graph, so the gradient of a loss is a function of the loss's Value: it is
generated once (`ir.passes.autodiff`), remembered under that Value, and found again by the next iteration.
"""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.capture.cell import Cell, Epoch
from jtorch.capture.record import SPENT, Recorder, current
from jtorch.ir.graph import Value
from jtorch.ir.passes.autodiff import gradients
from jtorch.ir.prims import function as custom
from jtorch.ir.prims.create import constant, leaf, make_leaf, variable
from jtorch.views import assign

_SEED = 1 << 40  # leaf numbers of cotangents in a graph of an earlier epoch

_TWICE = ("Trying to backward through the graph a second time (or directly access saved tensors after they have already "
          "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
          "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access "
          "saved tensors after calling backward.")


# --- grad modes ------------------------------------------------------------------------------------------------------

class _GradMode:
    """Context manager and decorator that sets whether operations record gradients."""

    mode = True

    def __init__(self) -> None:
        self._previous: list[bool] = []

    def __enter__(self) -> Any:
        recorder = current.recorder
        self._previous.append(recorder.grad_enabled)
        recorder.grad_enabled = self.mode
        return None

    def __exit__(self, *exc: Any) -> None:
        current.recorder.grad_enabled = self._previous.pop()

    def clone(self) -> _GradMode:
        return type(self)()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isclass(function):
            function.__init__ = self(function.__init__)  # type: ignore[misc]
            return function
        if inspect.isgeneratorfunction(function):
            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                with self.clone():
                    steps = function(*args, **kwargs)
                    try:
                        item = next(steps)
                    except StopIteration as stop:
                        return stop.value
                while True:
                    try:
                        sent = yield item
                        with self.clone():
                            item = steps.send(sent)
                    except StopIteration as stop:
                        return stop.value
            return generator

        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return function(*args, **kwargs)
        return inner


class no_grad(_GradMode):
    """`torch.no_grad()`: results do not require grad."""

    mode = False

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = object.__new__(cls)
        if function is None:
            return self
        self.__init__()  # type: ignore[misc]  used as a bare decorator
        return self(function)


class enable_grad(_GradMode):
    """`torch.enable_grad()`."""

    mode = True

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return no_grad.__new__(cls, function)


class set_grad_enabled(_GradMode):
    """`torch.set_grad_enabled(mode)`: acts at once; as a context manager it is undone at the end."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = bool(mode)
        recorder = current.recorder
        self._before = recorder.grad_enabled
        recorder.grad_enabled = self.mode

    def __enter__(self) -> None:
        self._previous.append(self._before)
        current.recorder.grad_enabled = self.mode

    def clone(self) -> _GradMode:
        return set_grad_enabled(self.mode)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        current.recorder.grad_enabled = self._before
        return super().__call__(function)


class inference_mode(_GradMode):
    """`torch.inference_mode()`: `no_grad` for code that will never need gradients."""

    def __init__(self, mode: bool | Callable[..., Any] = True) -> None:
        super().__init__()
        self.inference = bool(mode)
        self.mode = not self.inference and current.recorder.grad_enabled

    def __new__(cls, mode: bool | Callable[..., Any] = True) -> Any:
        self = object.__new__(cls)
        if callable(mode):
            self.__init__()  # type: ignore[misc]
            return self(mode)
        return self

    def __enter__(self) -> None:
        super().__enter__()
        recorder = current.recorder
        self._before = recorder.inference
        recorder.inference = self.inference

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        current.recorder.inference = self._before

    def clone(self) -> _GradMode:
        return inference_mode(self.inference)


def is_grad_enabled() -> bool:
    return current.recorder.grad_enabled


def is_inference_mode_enabled() -> bool:
    return current.recorder.inference


# --- backward and grad -----------------------------------------------------------------------------------------------

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
        found = _differentiate(recorder, roots, cotangents, chosen, bool(retain_graph), create_graph)
        for t, g in zip(chosen, found):
            if g is not None:
                _accumulate(recorder, t, g, create_graph)
        return
    keep = create_graph if retain_graph is None else retain_graph
    for t, g in _leaf_gradients(recorder, roots, cotangents, keep, create_graph).items():
        _accumulate(recorder, t, g, create_graph)


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: Any = None,
         retain_graph: bool | None = None, create_graph: bool = False, only_inputs: bool = True,
         allow_unused: bool | None = None, is_grads_batched: bool = False,
         materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`, as new tensors."""
    if is_grads_batched:
        raise NotImplementedError("grad(is_grads_batched=True) is not implemented")
    recorder = current.recorder
    roots, wanted = _sequence(outputs), _sequence(inputs)
    for t in wanted:
        if not t.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    cotangents = _cotangents(recorder, roots, grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    found = _differentiate(recorder, roots, cotangents, wanted, keep, create_graph)
    results: list[Tensor | None] = []
    for t, g in zip(wanted, found):
        if g is None and materialize_grads:
            g = constant(recorder.builder, 0, t.dtype, tuple(t.shape))
        if g is None and not allow_unused:
            raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph. Set "
                               "allow_unused=True if this is the desired behavior.")
        results.append(None if g is None else wrap(recorder, g if create_graph else recorder.detached(g)))
    return tuple(results)


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
                raise RuntimeError(f"Mismatch in shape: grad_output[{i}] has a shape of {g.shape} and output[{i}] has a "
                                   f"shape of {t.shape}.")
            result.append(recorder.value(g))
    return result


def _leaf_gradients(recorder: Recorder, roots: Sequence[Tensor], cotangents: Sequence[Value], keep: bool,
                    create_graph: bool) -> dict[Tensor, Value]:
    """leaf tensor -> gradient, for every leaf that the roots depend on."""
    walk = _Walk(recorder, keep, create_graph)
    walk.run([recorder.value(t) for t in roots], cotangents, {})
    return walk.leaves


def _differentiate(recorder: Recorder, roots: Sequence[Tensor], cotangents: Sequence[Value], wanted: Sequence[Tensor],
                   keep: bool, create_graph: bool) -> list[Value | None]:
    """The gradient of each wanted tensor, None where unused."""
    walk = _Walk(recorder, keep, create_graph)
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
            past.setdefault(cell.epoch, {})[cell.value] = None  # type: ignore[index]
            keys.append((cell.epoch, cell.value))
        else:
            present[v] = None
            keys.append((recorder.epoch, v))
    walk.past_wanted = past
    walk.run(values, cotangents, present)
    return [walk.leaves.get(key) if isinstance(key, Tensor) else walk.found.get(key) for key in keys]


class _Walk:
    """One backward: through the present epoch's graph, then through the histories that its leaves have."""

    def __init__(self, recorder: Recorder, keep: bool, create_graph: bool) -> None:
        self.recorder, self.keep, self.create_graph = recorder, keep, create_graph
        self.leaves: dict[Tensor, Value] = {}
        self.found: dict[tuple[Epoch, Value], Value] = {}
        self.past_wanted: dict[Epoch, dict[Value, None]] = {}
        self.histories: dict[Epoch, dict[Cell, Value]] = {}

    def run(self, roots: Sequence[Value], cotangents: Sequence[Value], wanted: dict[Value, None]) -> None:
        epoch = self.recorder.epoch
        self.sort(epoch, self.through(epoch, roots, cotangents, tuple(wanted)), wanted)
        while self.histories:
            latest = max(self.histories, key=lambda e: e.serial)
            cells = self.histories.pop(latest)
            past = self.past_wanted.get(latest, {})
            self.sort(latest, self.through_past(latest, cells, tuple(past)), past)

    def sort(self, epoch: Epoch, found: dict[Value, Value], wanted: dict[Value, None]) -> None:
        """Gradients of an epoch's variables go to leaf tensors or, for cells, further into the past."""
        for v, g in found.items():
            if v in wanted:
                self.found[epoch, v] = g
            if v.op is not variable:
                continue
            owner = epoch.variables[v.attrs[0]]
            if isinstance(owner, Tensor):
                present = self.leaves.get(owner)
                self.leaves[owner] = g if present is None else present + g
            else:
                if owner.epoch is SPENT:
                    raise RuntimeError(_TWICE)
                cells = self.histories.setdefault(owner.epoch, {})
                present = cells.get(owner)
                cells[owner] = g if present is None else present + g

    def through(self, epoch: Epoch, roots: Sequence[Value], cotangents: Sequence[Value], wanted: tuple[Value, ...],
                hooks: dict[Value, Any] | None = None) -> dict[Value, Value]:
        recorder = self.recorder
        hooks = epoch.hooks if hooks is None else hooks
        remember = not hooks and not epoch.functions
        key = (tuple(roots), tuple(cotangents), wanted)
        cached = recorder.backwards.get(key) if remember else None
        if cached is None:
            visited: list[Value] = []
            run_hooks = {v: functools.partial(self.run_hooks, list(h)) for v, h in hooks.items()}
            found = gradients(roots, cotangents, wanted, run_hooks, visited)
            cached = (found, frozenset(visited), frozenset(v for v in visited if not v.op.linear))
            if remember:
                recorder.backwards[key] = cached
        found, visited_nodes, with_residuals = cached
        if epoch.spent and not epoch.spent.isdisjoint(with_residuals):
            raise RuntimeError(_TWICE)
        if not self.keep:
            epoch.spent.update(visited_nodes)
        return found

    def run_hooks(self, hooks: list[Callable[[Tensor], Any]], g: Value) -> Value:
        """Hooks see the complete gradient as a tensor and may replace it."""
        recorder = self.recorder
        with set_grad_enabled(self.create_graph):
            for hook in hooks:
                result = hook(wrap(recorder, g if self.create_graph else recorder.detached(g)))
                if result is not None:
                    g = recorder.value(result)
        return g

    def through_past(self, epoch: Epoch, cells: dict[Cell, Value], wanted: tuple[Value, ...]) -> dict[Value, Value]:
        """The backward of an epoch that was flushed, as values of the present one.

        Usually: differentiate there, then re-express the result here, with what the flush saved as leaves. Where the
        graph itself is needed (higher derivatives, hooks, custom functions), it is first rebuilt here.
        """
        move = _Move(self.recorder, epoch)
        roots = [c.value for c in cells]
        if self.create_graph or epoch.hooks or epoch.functions or roots[0].builder is not self.recorder.builder:
            new_roots = [move.value(v) for v in roots]
            new_wanted = {move.value(v): v for v in wanted}
            hooks = {move.value(v): h for v, h in epoch.hooks.items()}
            result: dict[Value, Value] = {}
            found = self.through(self.recorder.epoch, new_roots, list(cells.values()), tuple(new_wanted), hooks)
            back = {n: o for o, n in move.variables.items()}
            for v, g in found.items():
                for old in {back.get(v), new_wanted.get(v)} - {None}:
                    result[old] = g  # type: ignore[index]
            return result
        seeds = [make_leaf(self.recorder.builder, _SEED + i, c.type) for i, c in enumerate(cells)]
        move.env.update(zip(seeds, cells.values()))
        move.cut = True
        return {v: move.value(g) for v, g in self.through(epoch, roots, seeds, wanted).items()}  # type: ignore[arg-type]


class _Move:
    """Values of an earlier epoch re-expressed in the present one: same graph, leaves bound to the same data."""

    def __init__(self, recorder: Recorder, epoch: Epoch) -> None:
        self.recorder, self.epoch = recorder, epoch
        self.env: dict[Value, Value] = {}
        self.variables: dict[Value, Value] = {}
        self.cut = False  # take what the flush saved as data

    def value(self, v: Value) -> Value:
        env = self.env
        stack = [v]
        while stack:
            node = stack[-1]
            if node in env:
                stack.pop()
                continue
            missing = [] if self.cut and node in self.epoch.saved else [i for i in node.inputs if i not in env]
            if missing:
                stack += missing
                continue
            stack.pop()
            self.rebuild(node)
        return env[v]

    def rebuild(self, node: Value) -> None:
        recorder, epoch, env = self.recorder, self.epoch, self.env
        if self.cut and node in epoch.saved:
            env[node] = recorder.leaf(epoch.saved[node])
        elif node.op is leaf:
            number = node.attrs[0]
            env[node] = (recorder.leaf(epoch.leaves[number]) if number >= 0
                         else recorder.scalar(epoch.scalars[-number - 1]))
        elif node.op is variable:
            inner = env[node.inputs[0]]
            env[node] = self.variables[node] = recorder.variable(epoch.variables[node.attrs[0]], inner)
        else:
            attrs = node.attrs
            if node.op is custom.custom_function:
                recorder.epoch.functions.append(epoch.functions[attrs[1]])
                attrs = (attrs[0], len(recorder.epoch.functions) - 1)
            result = recorder.builder.intern(node.op, tuple([env[i] for i in node.inputs]), attrs, node.loc)
            for old, new in zip(node.siblings, result if isinstance(result, tuple) else (result,)):
                env[old] = new


def _accumulate(recorder: Recorder, t: Tensor, g: Value, create_graph: bool) -> None:
    hooks = t.__dict__.get("_backward_hooks")
    if hooks and t._requires_grad:
        with set_grad_enabled(create_graph):
            for hook in list(hooks.values()):
                result = hook(wrap(recorder, g if create_graph else recorder.detached(g)))
                if result is not None:
                    g = recorder.value(result)
    if not create_graph:
        g = recorder.detached(g)
    if recorder.tracing is not None:
        recorder.tracing.saw_grad(t)
    present = t._grad
    if present is None:
        t._grad = wrap(recorder, g)
    elif create_graph:
        t._grad = wrap(recorder, recorder.value(present) + g)
    else:
        with no_grad():
            assign(present, recorder.value(present) + g)
    for hook in list(t.__dict__.get("_post_accumulate_hooks", {}).values()):
        hook(t)


# --- tensors ---------------------------------------------------------------------------------------------------------

class RemovableHandle:
    """What `register_hook` returns; `remove()` takes the hook away."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self.id = max(hooks, default=-1) + 1
        self.hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        self.hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


class _ValueHooks(dict):
    """Hooks of a value that is no leaf: kept in its epoch."""

    def __init__(self, hooks: list[Any]) -> None:
        super().__init__()
        self.list = hooks

    def __setitem__(self, key: int, hook: Any) -> None:
        super().__setitem__(key, hook)
        self.list.append(hook)

    def pop(self, key: int, default: Any = None) -> Any:
        hook = super().pop(key, default)
        if hook in self.list:
            self.list.remove(hook)
        return hook


def _register_hook(self: Tensor, hook: Callable[[Tensor], Any]) -> RemovableHandle:
    """Call `hook(grad)` whenever the gradient of this tensor is computed; it may return a replacement."""
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if self._requires_grad:
        return RemovableHandle(self.__dict__.setdefault("_backward_hooks", {}), hook)
    return RemovableHandle(_ValueHooks(_hooks_of(self)), hook)


def _hooks_of(t: Tensor) -> list[Any]:
    recorder = current.recorder
    v = recorder.value(t)
    cell = t._storage.cell
    if v.op is variable and cell.epoch is not SPENT and isinstance(cell.epoch, Epoch):
        return cell.epoch.hooks.setdefault(cell.value, [])  # type: ignore[arg-type]
    return recorder.epoch.hooks.setdefault(v, [])


def _register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], None]) -> RemovableHandle:
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if not self._requires_grad:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    return RemovableHandle(self.__dict__.setdefault("_post_accumulate_hooks", {}), hook)


def _retain_grad(self: Tensor) -> None:
    """Keep the gradient of a tensor that is no leaf in its `.grad`."""
    if not self.requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if self._requires_grad or self.__dict__.get("_retains_grad"):
        return
    self.__dict__["_retains_grad"] = True

    def keep(g: Tensor) -> None:
        self._grad = g
    _hooks_of(self).append(keep)


def _tensor_backward(self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
                     create_graph: bool = False, inputs: Any = None) -> None:
    """`Tensor.backward`."""
    backward(self, None if gradient is None else (gradient,), retain_graph, create_graph, inputs)


def _get_grad(self: Tensor) -> Tensor | None:
    tracing = current.recorder.tracing
    if tracing is not None:
        tracing.saw_grad(self)
    return self._grad


def _set_grad(self: Tensor, g: Tensor | None) -> None:
    if g is not None:
        if not isinstance(g, Tensor):
            raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(g).__name__}")
        if g.dtype is not self.dtype:
            raise RuntimeError(f"assigned grad has data of a different type: expected {self.dtype}, got {g.dtype}")
        if g.shape != self.shape:
            raise RuntimeError("assigned grad has data of a different size")
    tracing = current.recorder.tracing
    if tracing is not None:
        tracing.saw_grad(self, read=False)
    self._grad = g


def _del_grad(self: Tensor) -> None:
    _set_grad(self, None)


class GradFn:
    """What `Tensor.grad_fn` shows: the operation that made the tensor."""

    def __init__(self, value: Value) -> None:
        self._value = value

    def name(self) -> str:
        word = "".join(part.capitalize() for part in self._value.op.name.split("_"))
        return f"{word}Backward0"

    @property
    def next_functions(self) -> tuple[tuple[GradFn, int], ...]:
        return tuple((GradFn(i), i.index) for i in self._value.inputs if i.requires_grad)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self._value):#x}>"


def _grad_fn(self: Tensor) -> GradFn | None:
    if self._requires_grad or not self.requires_grad:
        return None
    v = current.recorder.value(self)
    if v.op is variable and self._storage.cell.value is not None:
        v = self._storage.cell.value
    return GradFn(v)


Tensor.grad = property(_get_grad, _set_grad, _del_grad)  # type: ignore[attr-defined]
Tensor.grad_fn = property(_grad_fn)  # type: ignore[attr-defined]
Tensor.backward = _tensor_backward  # type: ignore[attr-defined]
Tensor.register_hook = _register_hook  # type: ignore[attr-defined]
Tensor.register_post_accumulate_grad_hook = _register_post_accumulate_grad_hook  # type: ignore[attr-defined]
Tensor.retain_grad = _retain_grad  # type: ignore[attr-defined]
Tensor.retains_grad = property(lambda self: self.__dict__.get("_retains_grad", False))  # type: ignore[attr-defined]


# --- custom functions ------------------------------------------------------------------------------------------------

class FunctionCtx:
    """What `forward` leaves for `backward`."""

    def __init__(self, function: type[Function], needs: tuple[bool, ...]) -> None:
        self._function = function
        self.needs_input_grad = needs
        self._saved: tuple[Any, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self.materialize_grads = True

    def save_for_backward(self, *tensors: Any) -> None:
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self._saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Nothing to do: values are immutable, so an in-place forward cannot spoil what others saved."""

    def set_materialize_grads(self, value: bool) -> None:
        self.materialize_grads = value


class Function:
    """Base of custom functions: static `forward(ctx, ...)` and `backward(ctx, *grads)`; call with `apply`."""

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError("You must implement either the backward or vjp method for your custom "
                                  "autograd.Function to use it with backward mode AD.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise NotImplementedError("setup_context is not implemented.")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        recorder = current.recorder
        needs = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        ctx = FunctionCtx(cls, needs)
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
        if not any(needs) or not recorder.grad_enabled:
            return result
        outputs = result if isinstance(result, tuple) else (result,)
        places = [i for i, o in enumerate(outputs) if isinstance(o, Tensor)
                  and not any(o is n for n in ctx._non_differentiable)]
        inputs = [a for a in args if isinstance(a, Tensor)]
        number = len(recorder.epoch.functions)
        recorder.epoch.functions.append((ctx, args))
        values = recorder.builder.intern(
            custom.custom_function,
            tuple([recorder.value(outputs[i]) for i in places] + [recorder.value(t) for t in inputs]),
            (len(places), number))
        final = list(outputs)
        for i, v in zip(places, values):
            final[i] = wrap(recorder, v)
            ctx._saved = tuple(final[i] if s is outputs[i] else s for s in ctx._saved)
        return tuple(final) if isinstance(result, tuple) else final[0]


def _custom_derivative(number: int, g: tuple[Value | None, ...], out: tuple[Value, ...],
                       inputs: tuple[Value, ...]) -> list[Value | None]:
    recorder = current.recorder
    ctx, args = recorder.epoch.functions[number]
    grads = []
    for cotangent, o in zip(g, out):
        if cotangent is None and ctx.materialize_grads:
            cotangent = constant(recorder.builder, 0, o.dtype, o.shape)
        grads.append(None if cotangent is None else wrap(recorder, cotangent))
    result = ctx._function.backward(ctx, *grads)
    result = result if isinstance(result, tuple) else (result,)
    if len(result) < len(args):
        raise RuntimeError(f"function {ctx._function.__name__}Backward returned an incorrect number of gradients "
                           f"(expected {len(args)}, got {len(result)})")
    return [None if r is None else recorder.value(r) for r, a in zip(result, args) if isinstance(a, Tensor)]


custom.derivative.append(_custom_derivative)


def once_differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a `backward` that cannot be differentiated again: its results do not require grad."""
    @functools.wraps(function)
    def wrapper(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            return function(ctx, *grads)
    return wrapper


