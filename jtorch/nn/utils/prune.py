"""Pruning: a parameter as its original times a mask, set before every forward by a hook.

`<name>_orig` is the parameter, `<name>_mask` a buffer, and `<name>` their product.
"""
from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn.modules.module import Module
from jtorch.nn.utils.convert_parameters import parameters_to_vector


class BasePruningMethod(ABC):
    """A way to prune: `compute_mask` decides; `PRUNING_TYPE` says what it may look at when it is applied after another
    method: 'unstructured' (entries that are still there), 'structured' (channels that are) or 'global' (everything)."""

    _tensor_name: str
    PRUNING_TYPE: str

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask for importances `t`, within `default_mask`."""

    def apply_mask(self, module: Module) -> Tensor:
        """The pruned tensor."""
        original = getattr(module, self._tensor_name + "_orig")
        return getattr(module, self._tensor_name + "_mask").to(dtype=original.dtype) * original

    @classmethod
    def apply(cls, module: Module, name: str, *args: Any, importance_scores: Tensor | None = None,
              **kwargs: Any) -> BasePruningMethod:
        """Prune `module.<name>` from now on, on top of what prunes it already."""
        method: BasePruningMethod = cls(*args, **kwargs)
        method._tensor_name = name
        present = _find(module, name)
        if present is not None:
            key, old = present
            del module._forward_pre_hooks[key]
            container = old if isinstance(old, PruningContainer) else PruningContainer(old)
            container.add_pruning_method(method)
            method = container
        tensor = getattr(module, name)
        if importance_scores is None:
            importance_scores = tensor
        elif importance_scores.shape != tensor.shape:
            raise AssertionError(f"importance_scores should have the same shape as parameter {name} of {module}, got "
                                 f"{importance_scores.shape} vs {tensor.shape}")
        first = present is None
        if first:
            module.register_parameter(name + "_orig", tensor)
            del module._parameters[name]
            mask = jtorch.ones_like(tensor)
        else:
            mask = getattr(module, name + "_mask").detach().clone()
        try:
            with jtorch.no_grad():
                mask = method.compute_mask(importance_scores, default_mask=mask)
            module.register_buffer(name + "_mask", mask)
            setattr(module, name, method.apply_mask(module))
            module.register_forward_pre_hook(method)
        except Exception:
            if first:
                module.register_parameter(name, tensor)
                del module._parameters[name + "_orig"]
            raise
        return method

    def prune(self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None) -> Tensor:
        """`t` with this method's mask, outside of any module."""
        if importance_scores is None:
            importance_scores = t
        elif importance_scores.shape != t.shape:
            raise AssertionError(f"importance_scores should have the same shape as tensor t, got "
                                 f"{importance_scores.shape} vs {t.shape}")
        default_mask = jtorch.ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(importance_scores, default_mask=default_mask)

    def remove(self, module: Module) -> None:
        """Make the pruned tensor the parameter, for good."""
        name = self._tensor_name
        with jtorch.no_grad():
            pruned = self.apply_mask(module)
        if hasattr(module, name):
            delattr(module, name)
        original = module._parameters.pop(name + "_orig")
        original.data = pruned
        del module._buffers[name + "_mask"]
        setattr(module, name, original)


def _find(module: Module, name: str) -> tuple[int, BasePruningMethod] | None:
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return key, hook
    return None


class PruningContainer(BasePruningMethod):
    """Several methods on one tensor, in the order in which they were applied."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        if len(args) == 1:
            self._tensor_name = args[0]._tensor_name
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod | None) -> None:
        """Add a method for the same tensor."""
        if method is not None:
            if not isinstance(method, BasePruningMethod):
                raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
            if self._tensor_name != method._tensor_name:
                raise ValueError(f"Can only add pruning methods acting on the parameter named '{self._tensor_name}' to "
                                 f"PruningContainer {self}. Found '{method._tensor_name}'")
        self._pruning_methods += (method,)  # type: ignore[operator]

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: Any) -> Any:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        method: Any = self._pruning_methods[-1]
        kind = method.PRUNING_TYPE
        place: Any
        if kind == "unstructured":
            place = default_mask == 1
        elif kind == "structured":
            if not hasattr(method, "dim"):
                raise AttributeError('Pruning methods of PRUNING_TYPE "structured" need to have the attribute `dim` '
                                     "defined.")
            axis = method.dim + t.ndim if method.dim < 0 else method.dim
            if axis < 0:
                raise IndexError(f"Index is out of bounds for tensor with dimensions {t.ndim}")
            others = [d for d in range(t.ndim) if d != axis]
            place = (*[slice(None)] * axis, default_mask.sum(dim=others) != 0)
        elif kind == "global":
            place = ...
        else:
            raise ValueError(f"Unrecognized PRUNING_TYPE {kind}")
        mask = default_mask.to(dtype=t.dtype).clone()
        mask[place] = method.compute_mask(t[place], default_mask=default_mask[place]).to(dtype=mask.dtype)
        return mask


class Identity(BasePruningMethod):
    """Prunes nothing."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask


class _Amount(BasePruningMethod):
    """Prunes an amount: a number of units, or a fraction of all."""

    amount: Any

    def __init__(self, amount: int | float) -> None:
        if not isinstance(amount, numbers.Real):
            raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
        whole = isinstance(amount, numbers.Integral)
        if amount < 0 or (not whole and amount > 1.0):
            raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")
        self.amount = amount

    def units(self, available: int) -> int:
        """How many of the units to prune."""
        if not isinstance(self.amount, numbers.Integral):
            return round(self.amount * available)
        if int(self.amount) > available:
            raise ValueError(f"amount={self.amount} should be smaller than the number of parameters to prune="
                             f"{available}")
        return int(self.amount)


class _Unstructured(_Amount):
    PRUNING_TYPE = "unstructured"

    def victims(self, t: Tensor, n: int) -> Tensor:
        """Places of `n` entries, counted through."""
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        n = self.units(t.numel())
        mask = default_mask.clone()
        if n:
            mask.view(-1)[self.victims(t, n)] = 0
        return mask


class RandomUnstructured(_Unstructured):
    """Prunes entries at random."""

    def victims(self, t: Tensor, n: int) -> Tensor:
        return jtorch.topk(jtorch.rand_like(t).view(-1), k=n).indices


class L1Unstructured(_Unstructured):
    """Prunes the entries that are smallest in magnitude."""

    def victims(self, t: Tensor, n: int) -> Tensor:
        return jtorch.topk(t.abs().reshape(-1), k=n, largest=False).indices


class _Structured(_Amount):
    PRUNING_TYPE = "structured"
    dim: int

    def kept(self, t: Tensor, n: int) -> Tensor:
        """Which channels stay when `n` go: a mask, or their numbers."""
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if t.ndim <= 1:
            raise ValueError("Structured pruning can only be applied to multidimensional tensors. Found tensor of "
                             f"shape {t.shape} with {t.ndim} dims")
        if self.dim >= t.ndim:
            raise IndexError(f"Invalid index {self.dim} for tensor of size {t.shape}")
        n = self.units(t.shape[self.dim])
        if n == 0:
            return default_mask
        mask = jtorch.zeros_like(t)
        mask[(*[slice(None)] * (self.dim % t.ndim), self.kept(t, n))] = 1
        return mask * default_mask.to(dtype=mask.dtype)


class RandomStructured(_Structured):
    """Prunes channels at random."""

    def __init__(self, amount: int | float, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def kept(self, t: Tensor, n: int) -> Tensor:
        order = jtorch.rand(t.shape[self.dim])
        return order > jtorch.kthvalue(order, k=n).values


class LnStructured(_Structured):
    """Prunes the channels whose n-norm is smallest."""

    def __init__(self, amount: int | float, n: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.n, self.dim = n, dim

    def kept(self, t: Tensor, n: int) -> Tensor:
        norms = t.norm(self.n, dim=[d for d in range(t.ndim) if d != self.dim % t.ndim])
        return jtorch.topk(norms, k=t.shape[self.dim] - n, largest=True).indices


class CustomFromMask(BasePruningMethod):
    """Prunes by a given mask."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if default_mask.shape != self.mask.shape:
            raise AssertionError(f"default_mask shape {default_mask.shape} must match self.mask shape "
                                 f"{self.mask.shape}")
        return default_mask * self.mask.to(dtype=default_mask.dtype)


def identity(module: Module, name: str) -> Module:
    """Give the tensor a mask of ones."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: int | float) -> Module:
    """Prune entries at random."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Module, name: str, amount: int | float,
                    importance_scores: Tensor | None = None) -> Module:
    """Prune the entries that are smallest in magnitude (of `importance_scores`, where given)."""
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: int | float, dim: int) -> Module:
    """Prune channels along `dim` at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: Module, name: str, amount: int | float, n: Any, dim: int,
                  importance_scores: Tensor | None = None) -> Module:
    """Prune the channels along `dim` with the smallest n-norms."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Tensor) -> Module:
    """Prune by a mask."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(parameters: Iterable[tuple[Module, str]], pruning_method: type[BasePruningMethod],
                        importance_scores: dict[tuple[Module, str], Tensor] | None = None, **kwargs: Any) -> None:
    """Prune entries of several tensors [(module, name), ...] as if they were one."""
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    scores = {} if importance_scores is None else importance_scores
    if not isinstance(scores, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    places = list(parameters)
    tensors = [getattr(module, name) for module, name in places]
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError('Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
                        f"{pruning_method} of type {method.PRUNING_TYPE}")
    method._tensor_name = "all"
    with jtorch.no_grad():
        importance = parameters_to_vector([scores.get(place, t) for place, t in zip(places, tensors)])
        masks = parameters_to_vector([getattr(module, name + "_mask", jtorch.ones_like(t))
                                      for (module, name), t in zip(places, tensors)])
        mask = PruningContainer(method).compute_mask(importance, masks)
    start = 0
    for (module, name), t in zip(places, tensors):
        custom_from_mask(module, name, mask[start:start + t.numel()].view_as(t))
        start += t.numel()


def remove(module: Module, name: str) -> Module:
    """Stop pruning the tensor; what is pruned stays zero until it is trained."""
    found = _find(module, name)
    if found is None:
        raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")
    key, method = found
    method.remove(module)
    del module._forward_pre_hooks[key]
    return module


def is_pruned(module: Module) -> bool:
    """Is any tensor of the module or of its submodules pruned?"""
    return any(isinstance(hook, BasePruningMethod) for m in module.modules() for hook in m._forward_pre_hooks.values())
