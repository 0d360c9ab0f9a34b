"""Safetensors files, with the functions of `safetensors.torch`. Needs the package `safetensors`.

    from jtorch.serialization.safetensors import load_file, save_file
    save_file(model.state_dict(), "model.safetensors")

In a script that runs under `python -m jtorch`, `from safetensors.torch import save_file` gives these functions.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from jtorch import devices, dtypes
from jtorch._tensor import Tensor
from jtorch.dtypes import dtype
from jtorch.ops.pickling import storage_over, whole_of
from jtorch.serialization.saving import replacing

_TYPES = {"F64": dtypes.float64, "F32": dtypes.float32, "F16": dtypes.float16, "BF16": dtypes.bfloat16,
          "I64": dtypes.int64, "I32": dtypes.int32, "I16": dtypes.int16, "I8": dtypes.int8, "U8": dtypes.uint8,
          "U32": dtypes.uint32, "BOOL": dtypes.bool_, "C64": dtypes.complex64}


def save(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """The tensors as the bytes of a safetensors file. ValueError for tensors that are not contiguous; RuntimeError
    where several share memory."""
    import safetensors
    arrays = _arrays(tensors)
    return safetensors.serialize(_specs(safetensors, tensors, arrays), metadata=metadata)


def save_file(tensors: Mapping[str, Tensor], filename: Any, metadata: dict[str, str] | None = None) -> None:
    """`save` into a file; the previous one stays until the new one is complete."""
    data = save(tensors, metadata)
    with replacing(filename) as file:
        file.write(data)


def load(data: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file. `safetensors.SafetensorError` if they are none."""
    import safetensors
    return {name: _tensor(info) for name, info in safetensors.deserialize(data)}


def load_file(filename: Any, device: Any = "cpu", *, backend: str = "mmap") -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    devices.check(device)
    with open(filename, "rb") as file:
        return load(file.read())


def save_model(model: Any, filename: str, metadata: dict[str, str] | None = None,
               force_contiguous: bool = True) -> None:
    """A model's `state_dict`; of names for the same memory one is kept, the others are noted in the metadata."""
    state = dict(model.state_dict())
    notes = dict(metadata or {})
    for kept, others in _duplicates(state, frozenset()).items():
        for name in others:
            notes.setdefault(name, kept)
            del state[name]
    if force_contiguous:
        state = {name: t.contiguous() for name, t in state.items()}
    save_file(state, filename, notes or metadata)


def load_model(model: Any, filename: Any, strict: bool = True, device: Any = "cpu", *,
               backend: str = "mmap") -> tuple[Any, list[str]]:
    """Load what `save_model` wrote into a model. (missing, unexpected) names; RuntimeError if `strict` and there are
    any."""
    state = load_file(filename, device)
    found = model.load_state_dict(state, strict=False)
    missing, unexpected = set(found.missing_keys), list(found.unexpected_keys)
    for others in _duplicates(model.state_dict(), frozenset(state)).values():
        unexpected += [name for name in others if name not in missing]
        missing.difference_update(others)
    if strict and (missing or unexpected):
        lines = [f"Error(s) in loading state_dict for {type(model).__name__}:"]
        for what, names in (("Missing", missing), ("Unexpected", unexpected)):
            if names:
                quoted = ", ".join([f'"{n}"' for n in sorted(names)])
                lines.append(f"    {what} key(s) in state_dict: {quoted}")
        raise RuntimeError("\n".join(lines))
    return missing, unexpected


def _duplicates(state: Mapping[str, Tensor], preferred: frozenset[str]) -> dict[str, list[str]]:
    """name to keep -> other names of the same memory."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, t in state.items():
        groups[t._storage].append(name)
    found = {}
    for storage, names in groups.items():
        if len(names) < 2:
            continue
        whole = sorted([n for n in names if state[n].numel() == storage.cell.type.numel],
                       key=lambda n: (n not in preferred, n))
        if not whole:
            raise RuntimeError("Error while trying to find names to remove to save state dict, but found no suitable "
                               f"name to keep for saving amongst: {sorted(names)}. None is covering the entire "
                               "storage.")
        found[whole[0]] = sorted(set(names) - {whole[0]})
    return found


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    if not isinstance(tensors, Mapping):
        raise ValueError(f"Expected a dict of [str, torch.Tensor] but received {type(tensors)}")
    owners: dict[Any, list[str]] = defaultdict(list)
    for name, t in tensors.items():
        if not isinstance(t, Tensor):
            raise ValueError(f"Key `{name}` is invalid, expected torch.Tensor but received {type(t)}")
        if not t.is_contiguous():
            raise ValueError(f"You are trying to save a non contiguous tensor: `{name}` which is not allowed. Call "
                             "`.contiguous()` on it, or save the tensor that it is a view of and slice after loading.")
        if t.numel():
            owners[t._storage].append(name)
    shared = [names for names in owners.values() if len(names) > 1]
    if shared:
        raise RuntimeError(f"Some tensors share memory, this will lead to duplicate memory on disk and potential "
                           f"differences when loading them again: {shared}. A potential way to correctly save your "
                           "model is to use `save_model`.")
    return {name: np.ascontiguousarray(t.detach()._array()) for name, t in tensors.items()}


def _specs(safetensors: Any, tensors: Mapping[str, Tensor], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: safetensors.TensorSpec(dtype=tensors[name].dtype.name, shape=list(tensors[name].shape),
                                         data_ptr=a.ctypes.data, data_len=a.nbytes) for name, a in arrays.items()}


def _tensor(info: dict[str, Any]) -> Tensor:
    d: dtype | None = _TYPES.get(info["dtype"])
    if d is None:
        raise RuntimeError(f"the file holds a tensor of type {info['dtype']}, which jtorch does not have")
    return whole_of(storage_over(np.frombuffer(bytearray(info["data"]), np.uint8), d, tuple(info["shape"])))
