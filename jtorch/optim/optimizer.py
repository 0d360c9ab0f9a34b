"""The base of all optimizers, and how an update is recorded.

A step records one operation per parameter (`ir.composites`; its results are the new parameter and the new state) and
writes them in place. It never reads a value: the step counter is a tensor, and hyperparameters are scalars that the
program reads when it runs, so a scheduler that changes `lr` changes no program.
"""
from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.capture.cell import Cell
from jtorch.capture.record import current
from jtorch.ir.graph import Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.create import detach, variable
from jtorch.ir.prims.elementwise import cast_to
from jtorch.nn.modules.module import typename
from jtorch.nn.utils.hooks import RemovableHandle
from jtorch.views import assign, compute_at

required = type("_RequiredParameter", (), {"__repr__": lambda self: "<required parameter>"})()
_pre_hooks: OrderedDict[int, Any] = OrderedDict()
_post_hooks: OrderedDict[int, Any] = OrderedDict()
_HOOK_TABLES = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_optimizer_state_dict_pre_hooks",
                "_optimizer_state_dict_post_hooks", "_optimizer_load_state_dict_pre_hooks",
                "_optimizer_load_state_dict_post_hooks")


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` before the step of every optimizer."""
    return _register(_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` after the step of every optimizer."""
    return _register(_post_hooks, hook)


def _register(hooks: OrderedDict[int, Any], hook: Any, prepend: bool = False) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def _hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """`step` between its hooks; what it recorded is computed at its end, unless a trace is being recorded."""
    @functools.wraps(step)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        for hook in (*_pre_hooks.values(), *self._optimizer_step_pre_hooks.values()):
            changed = hook(self, (self, *args), kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        f"{step} must return None or a tuple of (new_args, new_kwargs), but got {changed}."
                    )
                (_, *args), kwargs = changed
        tracing = current.recorder.tracing
        if tracing is not None:
            facts = self.static_facts()
            tracing.assume(lambda: self.static_facts() == facts, f"hyperparameters of {type(self).__name__} changed "
                           "in a way that changes what a step does")
        result = step(self, *args, **kwargs)
        for hook in (*self._optimizer_step_post_hooks.values(), *_post_hooks.values()):
            hook(self, (self, *args), kwargs)
        recorder = current.recorder
        if recorder.tracing is None:
            recorder.flush()
        return result
    wrapper.hooked = True  # type: ignore[attr-defined]
    return wrapper


class Optimizer:
    """Base of optimizers: parameter groups, state per parameter, and what a step is made of."""

    state: defaultdict[Tensor, Any]
    param_groups: list[dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        step = cls.__dict__.get("step")
        if step is not None and not getattr(step, "hooked", False):
            cls.step = _hooked(step)  # type: ignore[method-assign]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        for table in _HOOK_TABLES:
            setattr(self, table, OrderedDict())
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                            + typename(params))
        self.state = defaultdict(dict)
        self.param_groups = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for table in _HOOK_TABLES:
            self.__dict__.setdefault(table, OrderedDict())

    def __repr__(self) -> str:
        text = type(self).__name__ + " ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            for key in sorted(group):
                if key != "params":
                    text += f"    {key}: {group[key]}\n"
        return text + ")"

    # --- the step ----------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.detach_().zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients. A `closure` computes the loss (and the gradients) first."""
        raise NotImplementedError

    def static_facts(self) -> list[Any]:
        """What a recorded step takes for granted, comparable by `==`: here all of the hyperparameters, because a step
        written in Python uses them as plain numbers. Tensors are read when the program runs; which ones, counts."""
        return [[(k, id(v) if isinstance(v, Tensor) else len(v) if k == "params" else v) for k, v in g.items()]
                for g in self.param_groups]

    def run_closure(self, closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            return None
        with jtorch.enable_grad():
            return closure()

    def scalar(self, index: int, name: str, place: int | None = None) -> Value:
        """A hyperparameter of group `index` as a float64 value that is read when the program runs."""
        return capture_scalar(self, index, name, place)

    def updates(self) -> Iterable[tuple[int, dict[str, Any], list[tuple[Tensor, Tensor, dict[str, Any]]]]]:
        """(number, group, [(parameter, gradient, state), ...]) of groups with gradients; missing state is made."""
        for index, group in enumerate(self.param_groups):
            found = []
            for p in group["params"]:
                grad = p.grad
                if grad is None:
                    continue
                state = self.state.get(p)
                if not state:
                    state = {}
                    self.init_state(group, p, state)
                    if state:
                        self.state[p] = state
                        if current.recorder.tracing is not None:
                            current.recorder.tracing.note_initialization()
                found.append((p, grad, state))
            if found:
                yield index, group, found

    def init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        """Fill the state of a parameter that is updated for the first time."""

    # --- state -------------------------------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step; it may return other (args, kwargs)."""
        return _register(self._optimizer_step_pre_hooks, hook)  # type: ignore[attr-defined]

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return _register(self._optimizer_step_post_hooks, hook)  # type: ignore[attr-defined]

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` before `state_dict`."""
        return _register(self._optimizer_state_dict_pre_hooks, hook, prepend)  # type: ignore[attr-defined]

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` after `state_dict`; it may return another one."""
        return _register(self._optimizer_state_dict_post_hooks, hook, prepend)  # type: ignore[attr-defined]

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` before `load_state_dict`; it may return another one."""
        return _register(self._optimizer_load_state_dict_pre_hooks, hook, prepend)  # type: ignore[attr-defined]

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` after `load_state_dict`."""
        return _register(self._optimizer_load_state_dict_post_hooks, hook, prepend)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """State and groups, with parameters as numbers: what `load_state_dict` reads, here and in PyTorch."""
        for hook in self._optimizer_state_dict_pre_hooks.values():  # type: ignore[attr-defined]
            hook(self)
        numbers: dict[int, int] = {}
        groups, start = [], 0
        for group in self.param_groups:
            for i, p in enumerate(group["params"], start):
                numbers.setdefault(id(p), i)
            packed = {k: v for k, v in group.items() if k != "params"}
            packed["params"] = [numbers[id(p)] for p in group["params"]]
            start += len(group["params"])
            groups.append(packed)
        state = {numbers[id(k)] if isinstance(k, Tensor) else k: v for k, v in self.state.items()}
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():  # type: ignore[attr-defined]
            changed = hook(self, result)
            result = result if changed is None else changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over state and hyperparameters. State tensors keep their memory, so compiled steps stay valid."""
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():  # type: ignore[attr-defined]
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        groups, saved = self.param_groups, deepcopy(state_dict["param_groups"])
        if len(groups) != len(saved):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(g["params"]) != len(s["params"]) for g, s in zip(groups, saved)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        by_number = dict(zip(chain.from_iterable(s["params"] for s in saved),
                             chain.from_iterable(g["params"] for g in groups)))
        state: defaultdict[Any, Any] = defaultdict(dict)
        with jtorch.no_grad():
            for k, v in state_dict["state"].items():
                if k in by_number:
                    p = by_number[k]
                    state[p] = _taken_over(p, v, self.state.get(p))
                else:
                    state[k] = v
        for group, new in zip(groups, saved):
            new["params"] = group["params"]
            if "param_names" in group:
                new.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved})
        for hook in self._optimizer_load_state_dict_post_hooks.values():  # type: ignore[attr-defined]
            hook(self)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own hyperparameters."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors "
                "in sets will change between runs. Please use a list instead."
            )
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        if names:
            if len(names) != len(params):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            param_group["param_names"] = names
        param_group["params"] = params
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError("optimizer can only optimize Tensors, but one of the params is " + typename(p))
            if not self.defaults.get("differentiable") and not (p.is_leaf or p.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        if len(params) != len(set(params)):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this will cause an "
                "error; see github.com/pytorch/pytorch/issues/40967 for more information",
                stacklevel=3,
            )
        for group in self.param_groups:
            if ("param_names" in param_group) != ("param_names" in group):
                kind = "with names" if "param_names" in param_group else "without names"
                raise ValueError("all optimizer param groups should be with/without names. cannot add param group "
                                 f"{kind} to the optimizer")
            if not set(params).isdisjoint(group["params"]):
                raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)


def _taken_over(p: Tensor, value: Any, present: Any, key: Any = None) -> Any:
    """Loaded state for `p`, in the dtype of `p` (but for the step counter), in the memory of `present` if that fits."""
    if isinstance(value, Tensor):
        if key != "step" and p.is_floating_point():
            value = value.to(p.dtype)
        if isinstance(present, Tensor) and present.shape == value.shape and present.dtype is value.dtype:
            return present.copy_(value)
        return value.clone()
    if isinstance(value, dict):
        before = present if isinstance(present, dict) else {}
        return {k: _taken_over(p, v, before.get(k), k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_taken_over(p, v, None) for v in value)
    return value


def capture_scalar(optimizer: Optimizer, index: int, name: str, place: int | None = None) -> Value:
    """A hyperparameter as a value read at run time: by a trace anew at every call, in eager mode now."""
    recorder = current.recorder

    def read() -> Any:
        x = optimizer.param_groups[index][name]
        return x if place is None else x[place]

    x = read()
    if isinstance(x, Tensor):
        return cast_to(recorder.detached(recorder.value(x)), jtorch.float64)
    if recorder.tracing is not None:
        return recorder.tracing.capture_scalar(lambda: float(read()))
    return recorder.scalar(float(x))


def plain(t: Tensor) -> Value:
    """The value of a tensor, without its role in differentiation."""
    recorder = current.recorder
    if t._view is None and t._storage.exports is None and recorder.tracing is None:
        v = recorder.cell_value(t._storage.cell)
    else:
        v = recorder.value(t)
        if v.op is variable:
            v = v.inputs[0]
    return recorder.builder.intern(detach, (v,), ()) if v.requires_grad else v


def update(op: Op, targets: Sequence[Tensor], inputs: Sequence[Value], attrs: tuple = ()) -> list[tuple[Cell, Any]]:
    """Record `op(*targets, *inputs)`, whose results are the new contents of `targets`, and write them. Returns, for
    `compute_shared`, the cells of memory that others look at. The caller holds the recorder."""
    values = tuple([plain(t) for t in targets])
    recorder = current.recorder
    results = recorder.builder.intern(op, (*values, *inputs), attrs)
    if recorder.tracing is not None:
        for t, v in zip(targets, results):
            assign(t, v)
        return []
    epoch, shared = recorder.epoch, []
    for t, v in zip(targets, results):
        storage = t._storage
        if t._view is not None:
            assign(t, v)
            continue
        cell = Cell(v.type, v, epoch)  # what `assign` does, for a whole storage
        epoch.pending.append(cell)
        if storage.exported():
            shared.append((cell, storage.cell.buffer))
        storage.write(cell)
    return shared


def compute_shared(cells: list[tuple[Cell, Any]]) -> None:
    """Compute what updates have written to memory that others look at, all in one launch."""
    for cell, home in cells:
        compute_at(current.recorder, cell, home)


def zeros_like(p: Tensor) -> Tensor:
    return jtorch.zeros(tuple(p.shape), dtype=p.dtype)


def counter(value: float = 0.0) -> Tensor:
    """The step counter: a 0-d float32 tensor."""
    return jtorch.tensor(value, dtype=jtorch.float32)


def check(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)
