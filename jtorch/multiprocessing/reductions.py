"""How storages and tensors are pickled for another process."""
from __future__ import annotations

import os
import weakref
from multiprocessing import reduction
from typing import Any

from jtorch._tensor import Tensor
from jtorch.dtypes import dtype
from jtorch.nn.parameter import Buffer, Parameter
from jtorch.ops.sharing import Described, Named, file_identity, hold, share, shared_storage
from jtorch.storage import Storage

_received: weakref.WeakValueDictionary[tuple, Storage] = weakref.WeakValueDictionary()
"""The storages that are here, by their files: one that comes again is the same one."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_received.clear)


def reduce_storage(storage: Storage) -> tuple:
    kind = storage.cell.type
    if not kind.nbytes:
        return storage.__reduce_ex__(2)  # type: ignore[return-value]
    mapping = share(storage)
    _received[mapping.identity] = storage
    if isinstance(mapping, Named):
        hold(mapping.name)
        return _from_name, (mapping.name, mapping.nbytes, kind.dtype, kind.shape)
    return _from_descriptor, (reduction.DupFd(mapping.descriptor), mapping.nbytes, kind.dtype, kind.shape)


def _from_name(name: str, nbytes: int, d: dtype, shape: tuple[int, ...]) -> Storage:
    found = _received.get((name,))
    mapping = Named.received(name, nbytes)  # it takes over the message's reference
    if found is None:
        found = _received[(name,)] = shared_storage(mapping, d, shape)
    return found


def _from_descriptor(sent: Any, nbytes: int, d: dtype, shape: tuple[int, ...]) -> Storage:
    descriptor = sent.detach()
    identity = file_identity(descriptor)
    found = _received.get(identity)
    if found is not None:
        os.close(descriptor)
        return found
    found = _received[identity] = shared_storage(Described(descriptor, nbytes), d, shape)
    return found


def reduce_tensor(t: Tensor) -> tuple:
    if t.requires_grad and not t.is_leaf:
        raise RuntimeError("Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd does "
                           "not support crossing process boundaries.  If you just want to transfer the data, call "
                           "detach() on the tensor before serializing (e.g., putting it on the queue).")
    return t.__reduce_ex__(2)  # type: ignore[return-value]


def init_reductions() -> None:
    """Let `multiprocessing` pickle tensors so."""
    reduction.ForkingPickler.register(Storage, reduce_storage)
    for kind in (Tensor, Parameter, Buffer):
        reduction.ForkingPickler.register(kind, reduce_tensor)


init_reductions()
