"""The fast path of `nn.MultiheadAttention` and the transformer layers in inference: attention is one fused kernel
here with or without it."""
_fastpath = True


def get_fastpath_enabled() -> bool:
    return _fastpath


def set_fastpath_enabled(value: bool) -> None:
    global _fastpath
    _fastpath = value
