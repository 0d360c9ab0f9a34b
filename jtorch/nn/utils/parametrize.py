"""Parametrizations: a parameter or buffer of a module that is computed, at every use, from other tensors.

`register_parametrization(module, "weight", f)` gives the module a class of its own, in which `weight` is a property
that applies `f` to `module.parametrizations.weight.original`.
"""
from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.capture.record import current
from jtorch.nn.modules.container import ModuleDict, ModuleList
from jtorch.nn.modules.module import Module
from jtorch.nn.parameter import Parameter

__all__ = ["ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
           "transfer_parametrizations_and_params", "type_before_parametrizations"]


class _Cache:
    """What parametrized tensors came to within `cached()`, by module and name; in a trace, that trace's own."""

    def __init__(self) -> None:
        self.depth = 0
        self.found: dict[tuple[Any, ...], Tensor] = {}

    def get(self, module: Module, name: str, compute: Any) -> Tensor:
        if not self.depth:
            return compute()
        key = (module, name, current.recorder)
        if key not in self.found:
            self.found[key] = compute()
        return self.found[key]


_cache = _Cache()


@contextmanager
def cached() -> Iterator[None]:
    """Within it, parametrized tensors are computed once. (RNN cells use their weights at every step.)"""
    _cache.depth += 1
    try:
        yield
    finally:
        _cache.depth -= 1
        if not _cache.depth:
            _cache.found.clear()


def _register(module: Module, name: str, t: Tensor) -> None:
    if isinstance(t, Parameter):
        module.register_parameter(name, t)
    else:
        module.register_buffer(name, t)


def _replace(target: Tensor, value: Tensor) -> None:
    """`target` stays the object that optimizers know, and has `value` for its contents."""
    target.data = value.detach()


def _inverse(modules: Sequence[Module], value: Any, required: bool) -> Any:
    """`right_inverse` of each module, the last first; one without it is its own inverse unless that is `required`."""
    for module in reversed(list(modules)):
        inverse = getattr(module, "right_inverse", None)
        if inverse is None:
            if required:
                raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
            continue
        try:
            value = inverse(value)
        except NotImplementedError:
            if required:
                raise
    return value


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, applied one after another to `original` (or, where the first one's
    `right_inverse` gives several tensors, to `original0`, `original1`, ...)."""

    original: Tensor
    unsafe: bool

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if len(modules) == 0:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with jtorch.no_grad():
            new = _inverse(modules, original, required=False)
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                             f"Got {type(new).__name__}")
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if isinstance(new, Tensor):
            if new.dtype is not dtype:
                raise ValueError("When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                                 f"original.dtype: {dtype}\nright_inverse(original).dtype: {new.dtype}")
            if new is not original:
                _replace(original, new)
            _register(self, "original", original)
        else:
            for i, t in enumerate(new):
                if not isinstance(t, Tensor):
                    raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                                     f"Got element {i} of the sequence with type {type(t).__name__}.")
                t = Parameter(t, original.requires_grad) if isinstance(original, Parameter) else t
                _register(self, f"original{i}", t.requires_grad_(original.requires_grad))
        if not unsafe:
            result = self()
            if not isinstance(result, Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(result).__name__}.")
            for what, before, after in (("dtype", dtype, result.dtype), ("shape", shape, result.shape)):
                if before != after:
                    raise ValueError(f"Registering a parametrization may not change the {what} of the tensor, unless "
                                     f"`unsafe` flag is enabled.\nunparametrized {what}: {before}\nparametrized {what}:"
                                     f" {after}")

    def _originals(self) -> list[Tensor]:
        return [self.original] if self.is_tensor else [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def right_inverse(self, value: Tensor) -> None:
        """Set the originals so that the parametrized tensor becomes `value`."""
        with jtorch.no_grad():
            new = _inverse(list(self), value, required=True)
            if self.is_tensor:
                if not isinstance(new, Tensor):
                    raise ValueError(f"`right_inverse` should return a tensor. Got {type(new).__name__}")
                if new.dtype is not self.original.dtype:
                    raise ValueError(f"The tensor returned by `right_inverse` has dtype {new.dtype} while `original` "
                                     f"has dtype {self.original.dtype}")
                _replace(self.original, new)
                return
            if not isinstance(new, Sequence):
                raise ValueError(f"'right_inverse' must return a sequence of tensors. Got {type(new).__name__}.")
            if len(new) != self.ntensors:
                raise ValueError(f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a "
                                 f"sequence of length {len(new)}.")
            for i, (t, old) in enumerate(zip(new, self._originals())):
                if not isinstance(t, Tensor):
                    raise ValueError("'right_inverse' must return a sequence of tensors. Got element "
                                     f"{i} of type {type(t).__name__}.")
                if t.dtype is not old.dtype:
                    raise ValueError(f"Tensor {i} returned by `right_inverse` has dtype {t.dtype} while `original{i}` "
                                     f"has dtype {old.dtype}")
                _replace(old, t)

    def forward(self) -> Tensor:
        first, *rest = self
        x = first(*self._originals())
        for module in rest:
            x = module(x)
        return x


def _copied(self: Module, memo: dict[int, Any]) -> Module:
    """A deep copy, with a class of its own: what is done to the parametrizations of one does not reach the other."""
    if id(self) in memo:
        return memo[id(self)]
    replica: Any = object.__new__(type_before_parametrizations(self))
    memo[id(self)] = replica
    replica.__dict__.update(copy.deepcopy(self.__dict__, memo))
    _inject_class(replica)
    for name in replica.parametrizations:
        _inject_property(replica, name)
    return replica


def _refuse_pickling(self: Module) -> Any:
    raise RuntimeError("Serialization of parametrized modules is only supported through state_dict().")


def _inject_class(module: Module) -> None:
    cls = type(module)
    members: dict[str, Any] = {"__getstate__": _refuse_pickling}
    if not hasattr(cls, "__deepcopy__"):
        members["__deepcopy__"] = _copied
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), members)


def _inject_property(module: Module, name: str) -> None:
    def compute(self: Any) -> Tensor:
        return _cache.get(self, name, self.parametrizations[name])

    def assign(self: Any, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)
    setattr(type(module), name, property(compute, assign))


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *,
                             unsafe: bool = False) -> Module:
    """Let `module.<tensor_name>` be `parametrization` of what it was before (or of what the parametrizations that it
    has already give). With `unsafe`, it may change dtype and shape. Returns the module.

    Raises ValueError where there is no such tensor, or where dtype or shape change unasked.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_consistency(module, tensor_name, parametrization)
        present = module.parametrizations[tensor_name]
        present.append(parametrization)
        present.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        chain = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _inject_class(module)
            module.parametrizations = ModuleDict()
        _inject_property(module, tensor_name)
        module.parametrizations[tensor_name] = chain
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
                         f"'{tensor_name}'")
    return module


def _check_consistency(module: Module, name: str, parametrization: Module) -> None:
    """A further parametrization maps the tensors of a dtype and shape to themselves."""
    before = getattr(module, name)
    after = parametrization(before)
    if not isinstance(after, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(after).__name__}.")
    for what, x, y in (("dtype", before.dtype, after.dtype), ("shape", before.shape, after.shape)):
        if x != y:
            raise ValueError(f"Registering a parametrization may not change the {what} of the tensor, unless the "
                             f"`unsafe` flag is enabled.\nmodule.{name}.{what}: {x}\n"
                             f"parametrization(module.{name}).{what}: {y}")
    if not hasattr(parametrization, "right_inverse"):
        return
    try:
        back = parametrization.right_inverse(after)
    except NotImplementedError:
        return
    if not isinstance(back, Tensor):
        raise ValueError(f"parametrization.right_inverse must return a tensor. Got: {type(back).__name__}")
    for what, x, y in (("dtype", before.dtype, back.dtype), ("shape", before.shape, back.shape)):
        if x != y:
            raise ValueError(f"The tensor returned by parametrization.right_inverse must have the same {what} as "
                             f"module.{name}, unless the `unsafe` flag is enabled.\nmodule.{name}.{what}: {x}\n"
                             f"returned {what}: {y}")


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Is this tensor of the module (any of them, without a name) parametrized?"""
    chains = module._modules.get("parametrizations")
    if not isinstance(chains, ModuleDict):
        return False
    return len(chains) > 0 if tensor_name is None else tensor_name in chains


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a parametrized tensor a plain one again: with its parametrized value, or else with the original's."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    chain = module.parametrizations[tensor_name]
    if chain.is_tensor:
        original = chain.original
        if leave_parametrized:
            with jtorch.no_grad():
                _replace(original, getattr(module, tensor_name).clone())
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        original = Parameter(value.detach().clone()) if value.requires_grad else value
    else:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in "
                         "terms of a sequence of tensors.")
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that the module had before."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module: Module, to_module: Module,
                                         tensor_name: str | None = None) -> Module:
    """Give `to_module` the parametrizations (one tensor's, or all) of `from_module` with their originals."""
    if is_parametrized(from_module):
        for name in (list(from_module.parametrizations) if tensor_name is None else [tensor_name]):
            source = from_module.parametrizations[name]
            if not hasattr(to_module, name):
                setattr(to_module, name, Parameter(getattr(from_module, name)))
            for parametrization in source:
                register_parametrization(to_module, name, parametrization)
            target = to_module.parametrizations[name]
            for key in ["original"] if source.is_tensor else [f"original{i}" for i in range(source.ntensors)]:
                setattr(target, key, getattr(source, key))
    return to_module
