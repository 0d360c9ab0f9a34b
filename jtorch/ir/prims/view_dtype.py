"""The bytes of elements, read as elements of another dtype."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch.dtypes import dtype, type_name
from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op


def _infer(t: Type, dtype: dtype) -> Type:
    old, new = t.dtype.itemsize, dtype.itemsize
    if old == new:
        return Type(dtype, t.shape)
    change = f"to view {type_name(t.dtype)} as {type_name(dtype)} (different element sizes)"
    if not t.shape:
        raise RuntimeError(f"self.dim() cannot be 0 {change}")
    if (t.shape[-1] * old) % new:
        raise RuntimeError(f"self.size(-1) must be divisible by {new // old} {change}, but got {t.shape[-1]}")
    return Type(dtype, (*t.shape[:-1], t.shape[-1] * old // new))


def _numpy(a: np.ndarray, dtype: dtype) -> np.ndarray:
    a = np.ascontiguousarray(a).reshape(a.shape)
    if not a.size:  # NumPy cannot tell how many larger elements an empty axis holds
        shape = a.shape if a.itemsize == dtype.itemsize else (*a.shape[:-1], a.shape[-1] * a.itemsize // dtype.itemsize)
        return np.empty(shape, dtype.numpy)
    return a.view(dtype.numpy)


def _batch(self: Op, b: Any, n: int, m: tuple, x: Value, dtype: dtype) -> Value:
    return self(x, dtype=dtype)


view_dtype = Op("view_dtype", "index", _infer, _numpy, attr_names=("dtype",), batch=_batch,
                no_grad="the bytes of numbers have no derivative", domain="bytes")
