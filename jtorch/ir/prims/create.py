"""Values made from nothing, and the markers that carry no computation: leaf, variable, detach."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from jtorch.dtypes import INT, dtype, wrapped
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op

leaf = Op("leaf", "leaf", lambda number, type: type, no_grad="a parameter of the graph", attr_names=("number", "type"))
"""Parameter of a graph: `number` is its place, `type` its Type."""


def make_leaf(builder: Builder, number: int, type: Type) -> Value:
    return builder.intern(leaf, (), (number, type))


def is_scalar(x: Value) -> bool:
    """Is this 0-d Value a Python number given at run time? Such leaves have negative numbers."""
    return x.op.kind == "leaf" and x.attrs[0] < 0


placeholder = Op("placeholder", "leaf", lambda number, type: type, no_grad="stands for an example that is not there",
                 attr_names=("number", "type"))
"""One example, inside of a function that is mapped over many. No program ever computes it."""

variable = Op("variable", "marker", lambda t, number: t, lambda a, number: a, no_grad="where differentiation ends",
              attr_names=("number",))
"""Identity; the derivative is taken with respect to this value. `number` tells variables apart."""

detach = Op("detach", "marker", lambda t: t, lambda a: a, no_grad="detached")
"""Identity through which no gradient flows."""

graft = Op("graft", "marker", lambda data, history: data, lambda data, history: data,
           lambda g, y, data, history: (None, g), jvp=lambda t, y, data, history: t[1])
"""`data` with the derivative of `history`: what a tensor with a history holds after a write that is not recorded."""


def _full_numpy(shape: tuple[int, ...], value: Any, dtype: dtype) -> np.ndarray:
    if math.prod(shape) < _REPEATED:
        return np.full(shape, value, dtype.numpy)
    return np.broadcast_to(np.array(value, dtype.numpy), shape)


_REPEATED = 1 << 14
"""Elements; from this many on a constant is one number that is read again and again, and no memory that is filled."""

full = Op("full", "create", lambda shape, value, dtype: Type(dtype, shape), _full_numpy, no_grad="a constant",
          attr_names=("shape", "value", "dtype"), expr=lambda ins, out, attrs: f"O({attrs['value']!r})")
"""Every element is the Python number `value`."""


def _iota_numpy(length: int, dtype: dtype) -> np.ndarray:
    return np.arange(length).astype(dtype.numpy)


iota = Op("iota", "create", lambda length, dtype: Type(dtype, (length,)), _iota_numpy, no_grad="a constant",
          attr_names=("length", "dtype"))
"""0, 1, ..., length - 1."""


def constant(builder: Builder, value: Any, dtype: dtype, shape: tuple[int, ...] = ()) -> Value:
    if type(value) is int and dtype.category == INT:
        value = wrapped(value, dtype)
    return builder.intern(full, (), (shape, value, dtype))
