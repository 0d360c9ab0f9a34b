"""The iterator over a DataLoader with worker processes.

Each worker has a connection of its own. Tasks (a number and the indices of a batch) go to the workers in turn, some
ahead of what is asked for; each task is answered exactly once, by a batch, an exception or the end of the worker's
stream. Batches are given out in the order of the tasks, or as they come. To end a worker its connection is closed; a
worker's death shows in its sentinel, at once.
"""
from __future__ import annotations

import itertools
import os
import selectors
import signal
import sys
import time
import warnings
import weakref
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

import jtorch
from jtorch import multiprocessing as own_multiprocessing
from jtorch.utils.data._utils.iterator import BaseIterator
from jtorch.utils.data._utils.transport import Receiver
from jtorch.utils.data._utils.worker import (
    ExceptionWrapper,
    IterableDatasetStopIteration,
    ResumeIteration,
    WorkerSetup,
    work,
)

if TYPE_CHECKING:
    from jtorch.utils.data.dataloader import DataLoader

JOIN_SECONDS = 5.0
"""How long a worker may go on with what it does when its loader is done. Then it is ended."""

_END = object()

_ends: weakref.WeakSet[Any] = weakref.WeakSet()
"""This process's ends of connections to workers."""


def _close_ends() -> None:
    """In a forked child: a worker is to see that its connection is closed when the loader's process closes it."""
    for connection in list(_ends):
        connection.close()


os.register_at_fork(after_in_child=_close_ends)


class Worker:
    """A worker process as the loader sees it."""

    def __init__(self, context: Any, setup: WorkerSetup) -> None:
        connection, theirs = context.Pipe()
        _ends.add(connection)
        self.process = context.Process(target=work, args=(setup, theirs), daemon=True)
        try:
            self.process.start()
        except BaseException:
            connection.close()
            raise
        finally:
            theirs.close()
        self.connection, self.receiver = connection, Receiver(connection)
        self.active = True  # has its stream more to give in this epoch?
        self.tasks = 0  # sent and not given out yet

    def send(self, task: int | None, index: Any) -> None:
        try:
            self.connection.send((task, index, self.receiver.returned()))
        except ConnectionError:
            pass  # it has died: `receive` reports that

    def end_of(self) -> str:
        """How the process has ended, in PyTorch's words."""
        name, code = f"DataLoader worker (pid {self.process.pid})", self.process.exitcode
        if code is None or code >= 0:
            return (f"{name} exited unexpectedly with exit code {code}. Details are lost due to multiprocessing. "
                    "Rerunning with num_workers=0 may give better error trace.")
        text = f"{name} is killed by signal: {signal.strsignal(-code)}. "
        if -code == signal.SIGBUS:
            text += ("It is possible that dataloader's workers are out of shared memory. Please try to raise your "
                     "shared memory limit.")
        return text


class MultiProcessingIterator(BaseIterator):
    """Has worker processes read the dataset."""

    _selector: Any = None

    def __init__(self, loader: DataLoader) -> None:
        self._workers: list[Worker] = []
        self._process, self._closed = os.getpid(), False
        self._numbers = itertools.count()
        self._sent: dict[int, Worker] = {}  # tasks whose answers are not given out yet, in order
        self._answers: dict[int, Any] = {}  # answers that are here, by task
        super().__init__(loader)

    def _begin(self) -> None:
        super()._begin()
        if self._workers:
            for worker in self._workers:
                worker.send(None, ResumeIteration())
                worker.active, worker.tasks = True, 0
        else:
            self._start()
        self._indices = iter(self._loader._index_sampler)
        self._sent, self._answers = {}, {}
        self._turns = itertools.cycle(self._workers)
        for _ in range(self._most_tasks):
            self._send_task()

    def _start(self) -> None:
        loader = self._loader
        if loader.prefetch_factor < 1:  # type: ignore[operator]
            raise AssertionError("prefetch_factor must be positive")
        context: Any = loader.multiprocessing_context or own_multiprocessing
        jtorch.synchronize()  # or each worker would compute again what is pending in the dataset
        self._selector = selectors.DefaultSelector()
        try:
            for i in range(loader.num_workers):
                setup = WorkerSetup(loader.dataset, loader._fetch_options, loader.worker_init_fn, i, loader.num_workers,
                                    self._base_seed)
                worker = Worker(context, setup)
                self._workers.append(worker)
                self._selector.register(worker.connection, selectors.EVENT_READ, worker)
                self._selector.register(worker.process.sentinel, selectors.EVENT_READ, worker)
        except (TypeError, AttributeError, PicklingError):
            warnings.warn("Got pickle error when attempting to start a worker Process. This might be because the "
                          "worker Process arguments are not picklable. You can also try "
                          "multiprocessing.set_start_method('fork').", stacklevel=5)
            raise

    @property
    def _most_tasks(self) -> int:
        return self._loader.prefetch_factor * len(self._workers)  # type: ignore[operator]

    # --- tasks ---------------------------------------------------------------------------------------------------

    def _send_task(self) -> None:
        """Give the next batch to the worker whose turn it is, if there is one."""
        index = next(self._indices, _END)
        worker = None if index is _END else self._next_worker()
        if worker is None:
            return
        task = next(self._numbers)
        self._sent[task] = worker
        worker.tasks += 1
        worker.send(task, index)

    def _next_worker(self) -> Worker | None:
        most = self._most_tasks // max(1, sum(w.active for w in self._workers))
        for worker in itertools.islice(self._turns, len(self._workers)):
            if worker.active and (self._loader.in_order or worker.tasks < most):
                return worker
        return None

    def _next_data(self) -> Any:
        while self._sent:
            task = self._next_task()
            worker = self._sent.pop(task)
            worker.tasks -= 1
            data = self._answers.pop(task)()
            worker.active = worker.active and not isinstance(data, IterableDatasetStopIteration)
            self._send_task()
            if isinstance(data, ExceptionWrapper):
                data.reraise()
            if not isinstance(data, IterableDatasetStopIteration):
                return data
        if not self._loader.persistent_workers:
            self._shut_down()
        raise StopIteration

    def _next_task(self) -> int:
        """The task whose answer is given out now; waits for it."""
        first = next(iter(self._sent))
        while first not in self._answers:
            if self._answers and not self._loader.in_order:
                return next(iter(self._answers))
            self._receive()
        return first

    def _receive(self) -> None:
        """Wait for answers. RuntimeError if the loader's timeout passes, or if a worker has died."""
        timeout, died = self._loader.timeout, []
        try:
            ready = self._selector.select(timeout if timeout > 0 else None)
            for key, _ in ready:
                worker = key.data
                try:
                    if key.fileobj is not worker.connection:
                        raise EOFError
                    task, data = worker.receiver.receive()
                except (EOFError, ConnectionError):
                    died.append(worker)
                    continue
                if task in self._sent:  # and not of an epoch that was left before its end
                    self._answers[task] = data
        except BaseException:  # half a message may have been read
            self._shut_down()
            raise
        if died:
            self._report_death(died)
        if not ready:
            raise RuntimeError(f"DataLoader timed out after {timeout} seconds")

    # --- the end -------------------------------------------------------------------------------------------------

    def _report_death(self, died: list[Worker]) -> None:
        """RuntimeError: the workers that have ended, and how."""
        dead = list(dict.fromkeys(died))
        for worker in dead:
            worker.process.join(JOIN_SECONDS)  # its connection closes before it has an exit code
        cause = RuntimeError("; ".join(w.end_of() for w in dead))
        self._shut_down()
        pids = ", ".join(str(w.process.pid) for w in dead)
        raise RuntimeError(f"DataLoader worker (pid(s) {pids}) exited unexpectedly") from cause

    def _shut_down(self) -> None:
        """End the workers, those that do not leave by themselves by a signal."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        self._sent, self._answers = {}, {}
        if self._selector is not None:
            self._selector.close()
        for worker in self._workers:
            worker.connection.close()
        processes = [w.process for w in self._workers]
        for end in (None, "terminate", "kill"):
            for process in processes:
                if end is not None and process.is_alive():
                    getattr(process, end)()
            deadline = time.monotonic() + JOIN_SECONDS
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))

    def __del__(self) -> None:
        if not sys.is_finalizing():  # then Python ends the processes, and parts of it are gone
            self._shut_down()
