"""Python's `multiprocessing`, in which tensors travel through queues and pipes as shared memory.

    import jtorch.multiprocessing as mp

    model.share_memory()
    mp.spawn(train, args=(model,), nprocs=2)        # each process writes to the same parameters

What is sent is the memory, not a copy: both sides see what the other writes. With the sharing strategy
'file_descriptor', the sender has to live until the tensor has arrived.
"""
import multiprocessing as _multiprocessing
from multiprocessing import *  # noqa: F403  what Python's has

from jtorch.multiprocessing import reductions
from jtorch.multiprocessing.spawn import (
    ProcessContext,
    ProcessException,
    ProcessExitedException,
    ProcessRaisedException,
    SpawnContext,
    spawn,
    start_processes,
)
from jtorch.ops.sharing import STRATEGIES as _STRATEGIES
from jtorch.ops.sharing import get_sharing_strategy, set_sharing_strategy


def get_all_sharing_strategies():
    """The names that `set_sharing_strategy` takes."""
    return set(_STRATEGIES)


__all__ = ["ProcessContext", "ProcessException", "ProcessExitedException", "ProcessRaisedException", "SpawnContext",
           "get_all_sharing_strategies", "get_sharing_strategy", "reductions", "set_sharing_strategy", "spawn",
           "start_processes", *_multiprocessing.__all__]
