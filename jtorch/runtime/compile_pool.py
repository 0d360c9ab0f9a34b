"""Compile processes, started on first need: kernels are compiled side by side, away from the GIL, and without LLVM and
Numba in the user's process, where they would take more memory than most models.

Each process is driven by one daemon thread over pipes. If a process dies, another one gets its work, once. The
processes leave when their input closes, that is when ours ends, however it ends, and when they had nothing to do for
a while. Where no process can be started, the thread compiles by itself.
"""
from __future__ import annotations

import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

from jtorch.errors import CompileError
from jtorch.runtime.compile_worker import answer_of

ANOTHER_FROM = 10
"""Waiting kernels that outweigh the start of one more process (Numba's import)."""

log = logging.getLogger("jtorch.compile")


def size() -> int:
    """How many compile processes this machine gets."""
    return max(1, min(4, len(os.sched_getaffinity(0))))


class _Worker(threading.Thread):
    """A thread and the process it drives."""

    def __init__(self, requests: queue.SimpleQueue):
        super().__init__(name="jtorch-compile", daemon=True)
        self.requests, self.process = requests, None

    def run(self):
        while True:
            function, args, future = self.requests.get()
            if not future.set_running_or_notify_cancel():
                continue
            for last in (False, True):
                try:
                    done, answer = self.ask(function, args)
                    break
                except Exception as error:
                    self.process = None
                    if last:
                        done, answer = False, f"the compile process failed: {error!r}"
            if done:
                future.set_result(answer)
            else:
                future.set_exception(CompileError(answer, *args[:1]))

    def ask(self, function, args):
        if self.process is None or self.process.poll() is not None:
            try:
                self.process = start_process()
            except OSError as error:
                log.warning("cannot start a compile process, compiling in this one: %s", error)
                return answer_of(function, args)
        pickle.dump((function, args), self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)


def start_process() -> subprocess.Popen:
    """A fresh compile process. Raises OSError."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("compile_worker.py"))], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=True)  # Ctrl-C is for the user's process


class CompilePool:
    """Compile processes behind one queue.

    >>> pool = CompilePool()
    >>> pool.submit(compile_kernel, source, params).result()    # object code, or CompileError
    """

    def __init__(self):
        self.requests, self.workers, self.lock = queue.SimpleQueue(), [], threading.Lock()

    def submit(self, function: Callable[..., bytes], *args: Any) -> Future:
        """Have a function of a module called by a compile process."""
        future: Future = Future()
        self.requests.put((function, args, future))
        with self.lock:
            busy = self.requests.qsize() >= ANOTHER_FROM * len(self.workers)
            if busy and len(self.workers) < size():
                worker = _Worker(self.requests)
                self.workers.append(worker)
                worker.start()
        return future


pool = lru_cache(CompilePool)
"""The process's compile processes."""


def _leave_to_parent() -> None:
    """In a forked child: the threads do not exist, and its copies of the pipes lead nowhere from now on, so that what a
    file object still holds does not get between the parent's requests."""
    if pool.cache_info().currsize:
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for worker in pool().workers:
            if worker.process is not None:
                for pipe in (worker.process.stdin, worker.process.stdout):
                    os.dup2(nowhere, pipe.fileno(), inheritable=False)
        os.close(nowhere)
        pool.cache_clear()


os.register_at_fork(after_in_child=_leave_to_parent)
