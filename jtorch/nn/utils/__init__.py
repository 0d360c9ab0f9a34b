"""Tools for training."""
from jtorch.nn.utils import hooks


def __getattr__(name: str) -> object:
    """The tools need `jtorch` itself, and `jtorch.nn.modules` needs `hooks`: so they are loaded on first use."""
    import importlib
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"jtorch.nn.utils.{home}")
    return module if name == home else getattr(module, name)


_HOMES = {
    "rnn": "rnn",
    "clip_grad": "clip_grad",
    "convert_parameters": "convert_parameters",
    "fusion": "fusion",
    "init": "init",
    "memory_format": "memory_format",
    "parametrizations": "parametrizations",
    "parametrize": "parametrize",
    "prune": "prune",
    "stateless": "stateless",
    "skip_init": "init",
    **dict.fromkeys(("remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"), "legacy_norms"),
    **dict.fromkeys(("convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format"), "memory_format"),
    **dict.fromkeys(
        ("clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"),
        "clip_grad",
    ),
    **dict.fromkeys(("parameters_to_vector", "vector_to_parameters"), "convert_parameters"),
    **dict.fromkeys(
        ("fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"), "fusion"
    ),
}
__all__ = ["hooks", *_HOMES]


def __dir__() -> list[str]:
    return sorted(__all__)
