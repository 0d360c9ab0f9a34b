"""The process-wide pool of worker threads.

Workers are Python daemon threads that enter the native loop and stay there, without the GIL. They start at
the first program that has work for them. One Python thread at a time has the workers; another one that runs
a program meanwhile runs it alone. A forked child starts without workers and gets its own when it needs them.
"""

import atexit
import ctypes
import os
import threading
import time

from . import native
from .layout import LINE, MAX_THREADS, WORD, PoolWords

SPIN_SECONDS = 40e-6
"""How long a thread polls before it sleeps (workers poll longer while a program is running)."""

LOCK_TIMEOUT = 5.0
"""Seconds that resizing or stopping the pool waits for a running program."""


def available_cpus():
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Worker threads and the memory they are steered by.

    `address` is what native code takes; it stays the same for the life of the process. `most_threads` is the largest
    number of threads that there has been: what is kept for each of them is enough when they come back.
    """

    def __init__(self, num_threads=None):
        self._memory = (ctypes.c_int64 * (PoolWords.SIZE + LINE))()
        base = ctypes.addressof(self._memory)
        self.address = -(-base // (LINE * WORD)) * (LINE * WORD)
        self._words = (ctypes.c_int64 * PoolWords.SIZE).from_address(self.address)
        self._threads = []
        self._starting = threading.Lock()
        self._spin = 0
        self._words[PoolWords.THREADS] = min(num_threads or available_cpus(), MAX_THREADS)
        self.most_threads = self.num_threads

    @property
    def num_threads(self):
        """Threads that a program may use, the calling one included."""
        return self._words[PoolWords.THREADS]

    @property
    def epoch(self):
        """Regions that have been shared with the workers so far."""
        return self._words[PoolWords.EPOCH]

    def resize(self, num_threads):
        """Use `num_threads` threads from now on; waits for a program that has the workers."""
        if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
            raise RuntimeError(f"set_num_threads expects a positive integer, got {num_threads!r}")
        num_threads = min(num_threads, MAX_THREADS)
        if num_threads != self.num_threads:
            self.stop()
            self._words[PoolWords.THREADS] = num_threads
            self.most_threads = max(self.most_threads, num_threads)

    def start(self):
        """Start the workers if they are not running."""
        with self._starting:
            words = self._words
            if words[PoolWords.STARTED]:
                return
            words[PoolWords.SPIN] = self._spin_limit()
            words[PoolWords.STOP] = 0
            for worker in range(1, self.num_threads):
                args = (self.address, worker, words[PoolWords.EPOCH])
                thread = threading.Thread(
                    target=native.load().worker, args=args, name=f"jtorch-worker-{worker}", daemon=True
                )
                thread.start()
                self._threads.append(thread)
            words[PoolWords.STARTED] = 1

    def stop(self):
        """Let the workers leave; they start again when a program needs them."""
        with self._starting:
            if not self._words[PoolWords.STARTED]:
                return
            self._lock()
            words = self._words
            words[PoolWords.STOP] = 1
            words[PoolWords.STARTED] = 0
            words[PoolWords.EPOCH] += 1  # a worker on its way into the futex wait must not miss the wake
            native.load().wake(self.address)
            for thread in self._threads:
                thread.join()
            self._threads.clear()
            words[PoolWords.BUSY] = 0

    def _lock(self):
        deadline = time.monotonic() + LOCK_TIMEOUT
        while not native.load().try_lock(self.address):
            if time.monotonic() > deadline:
                raise RuntimeError("the thread pool is busy: a program is running on another thread")
            time.sleep(1e-4)

    def _spin_limit(self):
        """Polls that take `SPIN_SECONDS`, measured once: a pause takes 5 to 150 cycles."""
        if not self._spin:
            polls, spin = 1000, native.load().spin
            spin(1)
            best = min(self._seconds(spin, polls) for _ in range(3))
            self._spin = max(1, int(SPIN_SECONDS / best * polls))
        return self._spin

    @staticmethod
    def _seconds(function, argument):
        start = time.perf_counter()
        function(argument)
        return time.perf_counter() - start

    def forget_workers(self):
        """In a forked child: the workers, and whoever held a lock, do not exist here."""
        threads = self.num_threads
        ctypes.memset(self.address, 0, PoolWords.SIZE * WORD)
        self._words[PoolWords.THREADS] = threads
        self._threads = []
        self._starting = threading.Lock()


pool = Pool()
"""The process's pool."""


def get_num_threads():
    """Threads that a program may use, the calling one included."""
    return pool.num_threads


def set_num_threads(num_threads):
    """Let programs use `num_threads` threads (at most `MAX_THREADS`)."""
    pool.resize(num_threads)


def _stop_at_exit():
    try:
        pool.stop()
    except RuntimeError:
        pass  # a daemon thread is inside a program: the process ends without waiting for it


atexit.register(_stop_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.forget_workers)
