"""`spawn`: one function in several processes; if one fails the others are ended, and its error is raised here."""
from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

_SET_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
_END_SECONDS = 5.0  # how long processes that are told to end may take


class ProcessException(Exception):
    """A process of `spawn` has failed."""

    __slots__ = ("error_index", "error_pid")

    def __init__(self, msg: str, error_index: int, pid: int) -> None:
        super().__init__(msg)
        self.msg, self.error_index, self.pid = msg, error_index, pid

    def __reduce__(self) -> tuple:
        return type(self), (self.msg, self.error_index, self.pid)


class ProcessRaisedException(ProcessException):
    """A process has ended with an exception; the message has its traceback."""

    def __init__(self, msg: str, error_index: int, error_pid: int) -> None:
        super().__init__(msg, error_index, error_pid)


class ProcessExitedException(ProcessException):
    """A process has ended with an exit code other than 0, or by a signal."""

    __slots__ = ("exit_code", "signal_name")

    def __init__(self, msg: str, error_index: int, error_pid: int, exit_code: int,
                 signal_name: str | None = None) -> None:
        super().__init__(msg, error_index, error_pid)
        self.exit_code, self.signal_name = exit_code, signal_name

    def __reduce__(self) -> tuple:
        return type(self), (self.msg, self.error_index, self.pid, self.exit_code, self.signal_name)


def _run(function: Callable[..., Any], index: int, args: tuple, errors: Any) -> None:
    """The life of a process."""
    if sys.platform == "linux":  # it ends when the process that started it does
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGINT)
    try:
        function(index, *args)
    except KeyboardInterrupt:
        pass  # the starting process has it too
    except Exception:
        errors.send(traceback.format_exc())
        sys.exit(1)


class ProcessContext:
    """The processes of a `spawn(..., join=False)`."""

    def __init__(self, processes: list[Any], errors: list[Any]) -> None:
        self.processes, self.errors = processes, errors
        self.sentinels = {p.sentinel: i for i, p in enumerate(processes)}

    def pids(self) -> list[int]:
        """The processes' numbers for the operating system."""
        return [int(p.pid) for p in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """Wait until one more process has ended; True if all have.

        If one has failed, the others are told to end, after `grace_period` seconds if it is given.

        Raises: ProcessRaisedException, ProcessExitedException.
        """
        if not self.sentinels:
            return True
        for sentinel in multiprocessing.connection.wait(list(self.sentinels), timeout):
            index = self.sentinels.pop(sentinel)
            self.processes[index].join()
            if self.processes[index].exitcode:
                self._end_others(grace_period)
                self._raise(index)
        return not self.sentinels

    def _end_others(self, grace_period: float | None) -> None:
        deadline = time.monotonic() + (grace_period or 0.0)
        for p in self.processes:
            p.join(max(0.0, deadline - time.monotonic()))
        for end in ("terminate", "kill"):
            for p in self.processes:
                if p.is_alive():
                    getattr(p, end)()
            deadline = time.monotonic() + _END_SECONDS
            for p in self.processes:
                p.join(max(0.0, deadline - time.monotonic()))

    def _raise(self, index: int) -> None:
        p = self.processes[index]
        with contextlib.suppress(EOFError, OSError):
            if self.errors[index].poll():
                text = self.errors[index].recv()
                raise ProcessRaisedException(f"\n\n-- Process {index} terminated with the following error:\n{text}",
                                             error_index=index, error_pid=p.pid)
        if p.exitcode < 0:
            try:
                name = signal.Signals(-p.exitcode).name
            except ValueError:
                name = f"<Unknown signal {-p.exitcode}>"
            raise ProcessExitedException(f"process {index} terminated with signal {name}", error_index=index,
                                         error_pid=p.pid, exit_code=p.exitcode, signal_name=name)
        raise ProcessExitedException(f"process {index} terminated with exit code {p.exitcode}", error_index=index,
                                     error_pid=p.pid, exit_code=p.exitcode)


class SpawnContext(ProcessContext):
    """What `spawn` returns."""


def start_processes(fn: Callable[..., Any], args: tuple = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
                    start_method: str = "spawn") -> ProcessContext | None:
    """Run `fn(i, *args)` in `nprocs` processes. Waits for them, or with `join=False` returns their context."""
    context: Any = multiprocessing.get_context(start_method)
    processes, errors = [], []
    for i in range(nprocs):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(fn, i, args, sender), daemon=daemon)
        process.start()
        sender.close()  # the process has its own
        processes.append(process)
        errors.append(receiver)
    started = SpawnContext(processes, errors)
    if not join:
        return started
    while not started.join():
        pass
    return None


def spawn(fn: Callable[..., Any], args: tuple = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
          start_method: str = "spawn") -> ProcessContext | None:
    """Run `fn(i, *args)` in `nprocs` processes. Waits for them, or with `join=False` returns their context.

    Raises: ProcessRaisedException with the traceback of a process that raised; ProcessExitedException where one ended
    otherwise. The other processes are ended then.
    """
    return start_processes(fn, args, nprocs, join, daemon, start_method)


__all__ = ["ProcessContext", "ProcessException", "ProcessExitedException", "ProcessRaisedException", "SpawnContext",
           "spawn", "start_processes"]
