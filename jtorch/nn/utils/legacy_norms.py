"""`weight_norm` and `spectral_norm` in their older form: hooks that set the weight before every forward."""
from __future__ import annotations

import warnings
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn import functional as F
from jtorch.nn.modules.module import Module
from jtorch.nn.parameter import Parameter, is_lazy
from jtorch.nn.utils.parametrizations import norm_except_dim, output_axis

__all__ = ["SpectralNorm", "WeightNorm", "remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


class _WeightHook:
    """Computes the module's tensor `name` from others, before each forward."""

    name: str

    @classmethod
    def find(cls, module: Module, name: str) -> tuple[int, Any] | None:
        """The hook on this tensor, with its key."""
        for key, hook in module._forward_pre_hooks.items():
            if isinstance(hook, cls) and hook.name == name:
                return key, hook
        return None

    @classmethod
    def take_off(cls, module: Module, name: str, kind: str) -> Any:
        found = cls.find(module, name)
        if found is None:
            raise ValueError(f"{kind} of '{name}' not found in {module}")
        key, hook = found
        hook.remove(module)
        del module._forward_pre_hooks[key]
        return hook

    @classmethod
    def check(cls, module: Module, name: str, kind: str) -> Tensor:
        """The tensor, if it can get such a hook."""
        if cls.find(module, name) is not None:
            raise RuntimeError(f"Cannot register two {kind} hooks on the same parameter {name}")
        weight = getattr(module, name)
        if weight is None:
            raise ValueError(f"`{cls.__name__}` cannot be applied as parameter `{name}` is None")
        if is_lazy(weight):
            what = "spectral" if cls is SpectralNorm else "weight"
            raise ValueError(f"The module passed to `{cls.__name__}` can't have uninitialized parameters. Make sure to "
                             f"run the dummy forward before applying {what} normalization")
        return weight


class WeightNorm(_WeightHook):
    """Weight = `<name>_v` / its norm * `<name>_g`."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Tensor:
        g, v = getattr(module, self.name + "_g"), getattr(module, self.name + "_v")
        return v * (g / norm_except_dim(v, self.dim))

    @staticmethod
    def apply(module: Module, name: str, dim: int | None) -> WeightNorm:
        """Put the hook on, and its parameters in place of the weight."""
        warnings.warn("`torch.nn.utils.weight_norm` is deprecated in favor of "
                      "`torch.nn.utils.parametrizations.weight_norm`.", FutureWarning, stacklevel=3)
        weight = WeightNorm.check(module, name, "weight_norm")
        hook = WeightNorm(name, dim)
        del module._parameters[name]
        with jtorch.no_grad():
            module.register_parameter(name + "_g", Parameter(norm_except_dim(weight, hook.dim)))
        module.register_parameter(name + "_v", Parameter(weight.data))
        setattr(module, name, hook.compute_weight(module))
        module.register_forward_pre_hook(hook)
        return hook

    def remove(self, module: Module) -> None:
        """Put the present weight in the place of its parts."""
        weight = self.compute_weight(module)
        delattr(module, self.name)
        del module._parameters[self.name + "_g"]
        del module._parameters[self.name + "_v"]
        setattr(module, self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


class SpectralNorm(_WeightHook):
    """Weight = `<name>_orig` / its largest singular value, estimated from the buffers `<name>_u` and `<name>_v`."""

    _version = 1

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        if n_power_iterations <= 0:
            raise ValueError("Expected n_power_iterations to be positive, but got "
                             f"n_power_iterations={n_power_iterations}")
        self.name, self.dim, self.n_power_iterations, self.eps = name, dim, n_power_iterations, eps

    def reshape_weight_to_matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.dim, 0).flatten(1) if weight.ndim > 1 else weight.unsqueeze(1)

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Tensor:
        weight, u, v = (getattr(module, self.name + end) for end in ("_orig", "_u", "_v"))
        matrix = self.reshape_weight_to_matrix(weight)
        if do_power_iteration:
            with jtorch.no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(F.normalize(matrix.t().mv(u), dim=0, eps=self.eps))
                    u.copy_(F.normalize(matrix.mv(v), dim=0, eps=self.eps))
                u, v = u.clone(), v.clone()
        return weight / u.dot(matrix.mv(v))

    @staticmethod
    def apply(module: Module, name: str, n_power_iterations: int, dim: int, eps: float) -> SpectralNorm:
        """Put the hook on, and its parameter and buffers in place of the weight."""
        weight: Any = SpectralNorm.check(module, name, "spectral_norm")
        hook = SpectralNorm(name, n_power_iterations, dim, eps)
        with jtorch.no_grad():
            u, v = [F.normalize(weight.new_empty(n).normal_(0, 1), dim=0, eps=eps)
                    for n in hook.reshape_weight_to_matrix(weight).shape]
        delattr(module, name)
        module.register_parameter(name + "_orig", weight)
        setattr(module, name, weight.data)  # so that it is there, but is no parameter
        module.register_buffer(name + "_u", u)
        module.register_buffer(name + "_v", v)
        module.register_forward_pre_hook(hook)
        module._register_state_dict_hook(_NoteVersion(hook))
        return hook

    def remove(self, module: Module) -> None:
        """Put the present weight in the place of its parts."""
        with jtorch.no_grad():
            weight = self.compute_weight(module, do_power_iteration=False)
        for end in ("", "_u", "_v", "_orig"):
            delattr(module, self.name + end)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, do_power_iteration=module.training))


class _NoteVersion:
    """Writes into a `state_dict`'s metadata which form of the buffers it holds, as PyTorch reads it."""

    def __init__(self, hook: SpectralNorm) -> None:
        self.hook = hook

    def __call__(self, module: Module, state_dict: Any, prefix: str, local_metadata: dict[str, Any]) -> None:
        local_metadata.setdefault("spectral_norm", {})[self.hook.name + ".version"] = self.hook._version


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Weight normalisation; `parametrizations.weight_norm` is its newer form. Returns the module."""
    WeightNorm.apply(module, name, dim)
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Take weight normalisation off; the weight stays as it is."""
    WeightNorm.take_off(module, name, "weight_norm")
    return module


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Module:
    """Spectral normalisation; `parametrizations.spectral_norm` is its newer form. Returns the module."""
    SpectralNorm.apply(module, name, n_power_iterations, output_axis(module, dim), eps)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Take spectral normalisation off; the weight stays as it is."""
    hook = SpectralNorm.take_off(module, name, "spectral_norm")
    for key, other in list(module._state_dict_hooks.items()):
        if isinstance(other, _NoteVersion) and other.hook is hook:
            del module._state_dict_hooks[key]
    return module
