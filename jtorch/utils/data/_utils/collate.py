"""Samples into batches."""
from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

import jtorch
from jtorch._tensor import Tensor, from_array
from jtorch.ops.joining import stacked_data

_TEXT = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"


def default_convert(data: Any) -> Any:
    """NumPy data as tensors, at any depth."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUO" else jtorch.as_tensor(data)
    if isinstance(data, Mapping):
        return _rebuilt(data, {k: default_convert(v) for k, v in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(default_convert(d) for d in data))
    if isinstance(data, tuple):
        return [default_convert(d) for d in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _rebuilt_list(data, [default_convert(d) for d in data])
    return data


def _rebuilt(like: Mapping, items: dict) -> Any:
    if isinstance(like, MutableMapping):
        result = copy.copy(like)
        result.update(items)
        return result
    try:
        return type(like)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _rebuilt_list(like: Sequence, items: list) -> Any:
    if isinstance(like, MutableSequence):
        result = copy.copy(like)
        for i, x in enumerate(items):
            result[i] = x
        return result
    try:
        return type(like)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def collate(batch: Any, *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None) -> Any:
    """A batch of samples as one: `collate_fn_map` says how for each type."""
    first = batch[0]
    if collate_fn_map is not None:
        function = collate_fn_map.get(type(first))
        if function is not None:
            return function(batch, collate_fn_map=collate_fn_map)
        for kind, function in collate_fn_map.items():
            if isinstance(first, kind):
                return function(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        return _rebuilt(first, {k: collate([d[k] for d in batch], collate_fn_map=collate_fn_map) for k in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(collate(s, collate_fn_map=collate_fn_map) for s in zip(*batch)))
    if isinstance(first, Sequence):
        if len(set(map(len, batch))) > 1:
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [collate(s, collate_fn_map=collate_fn_map) for s in zip(*batch)]
        return columns if isinstance(first, tuple) else _rebuilt_list(first, columns)
    raise TypeError(_TEXT.format(type(first)))


def _tensors(batch: Any, **kwargs: Any) -> Tensor:
    """Samples that are there are copied side by side; what is still pending is stacked as part of its computation."""
    joined = stacked_data(batch)
    return jtorch.stack(list(batch), 0) if joined is None else joined


def _arrays(batch: Any, **kwargs: Any) -> Tensor:
    if batch[0].dtype.kind in "SUO":
        raise TypeError(_TEXT.format(batch[0].dtype))
    return from_array(np.stack(batch))


default_collate_fn_map: dict[Any, Callable[..., Any]] = {
    Tensor: _tensors,
    np.ndarray: _arrays,
    (np.bool_, np.number, np.object_): lambda batch, **kwargs: jtorch.as_tensor(batch),
    float: lambda batch, **kwargs: jtorch.tensor(batch, dtype=jtorch.float64),
    int: lambda batch, **kwargs: jtorch.tensor(batch),
    str: lambda batch, **kwargs: batch,
    bytes: lambda batch, **kwargs: batch,
}
"""type (or types) of the samples -> how they become a batch."""


def default_collate(batch: Any) -> Any:
    """Tensors, arrays and numbers stacked; dictionaries, tuples and lists element by element."""
    return collate(batch, collate_fn_map=default_collate_fn_map)
