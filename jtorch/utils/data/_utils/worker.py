"""The life of a DataLoader's worker process."""
from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import jtorch
from jtorch.utils.data._utils.fetch import fetcher_of
from jtorch.utils.data._utils.transport import Sender

STATUS_CHECK_INTERVAL = 5.0
"""Seconds after which a worker without work looks whether its loader's process is still there."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker knows of itself: its number, how many there are, its seed, and its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


class _Worker:
    info: WorkerInfo | None = None
    """Of this process, None if it is no worker."""


def get_worker_info() -> WorkerInfo | None:
    """In a DataLoader's worker process what it knows of itself (`id`, `num_workers`, `seed`, `dataset`), else None."""
    return _Worker.info


class ExceptionWrapper:
    """An exception of another process or thread, with its traceback as text."""

    def __init__(self, exc_info: Any = None, where: str = "in background") -> None:
        found: Any = exc_info or sys.exc_info()
        self.exc_type, self.where = found[0], where
        self.exc_msg = "".join(traceback.format_exception(*found))

    def reraise(self) -> None:
        """Raise an exception of the same type here. Its message holds the other traceback."""
        text = f"Caught {self.exc_type.__name__} {self.where}.\nOriginal {self.exc_msg}"
        if issubclass(self.exc_type, KeyError):
            text = _Literal(text)
        try:
            error = self.exc_type(text)
        except Exception:  # its constructor takes something else
            raise RuntimeError(text) from None
        raise error


class _Literal(str):
    """A text that is its own repr: KeyError shows that of its argument."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class IterableDatasetStopIteration:
    """The answer of a worker whose stream is at its end."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class ResumeIteration:
    """The order to begin the dataset anew, for the next epoch of workers that persist."""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker is started with."""

    dataset: Any
    options: tuple
    init_fn: Callable[[int], None] | None
    id: int
    num_workers: int
    base_seed: int


def seed_all(base_seed: int, worker_id: int) -> int:
    """Seed Python's, jtorch's and NumPy's generators for a worker as PyTorch does. NumPy's gets an independent seed:
    the state of a `SeedSequence` of the worker and the base seed. Returns jtorch's."""
    seed = base_seed + worker_id
    random.seed(seed)
    jtorch.manual_seed(seed)
    entropy = [worker_id, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    np.random.seed(np.random.SeedSequence(entropy).generate_state(4))
    return seed


def work(setup: WorkerSetup, connection: Any) -> None:
    """Answer tasks until the connection is closed at the other end, or the process there is gone."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a handler of the user's would keep the worker from being ended
        jtorch.set_num_threads(1)
        seed = seed_all(setup.base_seed, setup.id)
        _Worker.info = WorkerInfo(setup.id, setup.num_workers, seed, setup.dataset)
        serve(setup, connection)
    except (KeyboardInterrupt, EOFError, ConnectionError):
        pass  # Ctrl-C is reported by the loader's process; a closed connection is the order to leave


def serve(setup: WorkerSetup, connection: Any) -> None:
    parent, sender, where = os.getppid(), Sender(connection), f"in DataLoader worker process {setup.id}"
    fetcher: Any = None
    failure: ExceptionWrapper | None = None
    try:
        if setup.init_fn is not None:
            setup.init_fn(setup.id)
        fetcher = fetcher_of(setup.dataset, *setup.options)
    except Exception:
        failure = ExceptionWrapper(where=where)
    ended = False
    while True:
        while not connection.poll(STATUS_CHECK_INTERVAL):
            if os.getppid() != parent:
                return
        task, index, returned = connection.recv()
        sender.returned(returned)
        if isinstance(index, ResumeIteration):
            fetcher, failure, ended = fetcher_of(setup.dataset, *setup.options), None, False
            continue
        answer: Any
        if ended:
            answer = IterableDatasetStopIteration(setup.id)
        elif failure is not None:
            answer = failure
        else:
            try:
                answer = fetcher.fetch(index)
            except Exception as error:
                ended = isinstance(error, StopIteration) and hasattr(fetcher, "samples")
                answer = IterableDatasetStopIteration(setup.id) if ended else ExceptionWrapper(where=where)
        try:
            sender.send(task, answer)
        except ConnectionError:
            raise
        except Exception:  # what cannot be pickled
            answer = ExceptionWrapper(where=where)
            try:
                sender.send(task, answer)
            except Exception:  # not even the exception's type
                answer.exc_type = RuntimeError
                sender.send(task, answer)
        del answer, index
