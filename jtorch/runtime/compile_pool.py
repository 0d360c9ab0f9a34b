"""A few compile processes, started on first need, that compile kernels side by side and away from the GIL.

Each process is driven by one daemon thread over pipes. If a process dies, another one gets its kernel, once. The
processes leave when their input closes, that is when ours ends, however it ends.
"""
from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future

from jtorch.errors import CompileError


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
            source, params, future = self.requests.get()
            if not future.set_running_or_notify_cancel():
                continue
            for last in (False, True):
                try:
                    done, answer = self.ask(source, params)
                    break
                except Exception as error:
                    self.process = None
                    if last:
                        done, answer = False, f"the compile process failed: {error!r}"
            if done:
                future.set_result(answer)
            else:
                future.set_exception(CompileError(answer, source))

    def ask(self, source, params):
        if self.process is None or self.process.poll() is not None:
            self.process = self.start_process()
        pickle.dump((source, params), self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    @staticmethod
    def start_process():
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        return subprocess.Popen(
            [sys.executable, "-m", "jtorch.runtime.compile_worker"], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True)  # Ctrl-C is for the user's process


class CompilePool:
    """Compile processes behind one queue.

    >>> pool = CompilePool()
    >>> pool.submit(source, params).result()    # object code, or CompileError
    """

    def __init__(self):
        self.requests, self.workers, self.lock = queue.SimpleQueue(), [], threading.Lock()

    def submit(self, source: str, params: tuple[str, ...]) -> Future:
        future = Future()
        with self.lock:
            if len(self.workers) < size():
                worker = _Worker(self.requests)
                self.workers.append(worker)
                worker.start()
        self.requests.put((source, params, future))
        return future
