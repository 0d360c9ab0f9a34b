"""`torch.profiler`: profiles of chosen steps of a loop. `jtorch.autograd.profiler` says what an event is."""
from __future__ import annotations

import enum
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from jtorch.autograd.profiler import profile as _watch
from jtorch.autograd.profiler import record_function
from jtorch.autograd.profiler_util import EventList

__all__ = ["ProfilerAction", "ProfilerActivity", "profile", "record_function", "schedule", "supported_activities",
           "tensorboard_trace_handler"]


class ProfilerActivity(enum.Enum):
    """What to watch. There is the CPU only; others are accepted and see nothing."""

    CPU = 0
    XPU = 1
    CUDA = 2
    MTIA = 3


class ProfilerAction(enum.Enum):
    """What to do in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    return {ProfilerActivity.CPU}


def schedule(*, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0,
             skip_first_wait: int = 0) -> Callable[[int], ProfilerAction]:
    """The action of each step: after `skip_first` steps, `repeat` times (0: for ever) `wait` steps of nothing, `warmup`
    of warming up, `active` of recording, the last of which saves. AssertionError for negative numbers or active=0."""
    assert wait >= 0 and warmup >= 0 and active > 0 and repeat >= 0 and skip_first >= 0, \
        "Invalid profiler schedule arguments"

    def action(step: int) -> ProfilerAction:
        assert step >= 0
        if step < skip_first:
            return ProfilerAction.NONE
        step -= skip_first
        if skip_first_wait:
            step += wait
        cycle, place = divmod(step, wait + warmup + active)
        if repeat and cycle >= repeat or place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        last = place == wait + warmup + active - 1
        return ProfilerAction.RECORD_AND_SAVE if last else ProfilerAction.RECORD
    return action


def tensorboard_trace_handler(dir_name: str, worker_name: str | None = None, use_gzip: bool = False
                              ) -> Callable[[profile], None]:
    """An `on_trace_ready` that writes each trace into a folder for TensorBoard's profiler plugin."""
    def handle(profiler: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        name = f"{worker}.{time.time_ns()}.pt.trace.json{'.gz' if use_gzip else ''}"
        profiler.export_chrome_trace(os.path.join(dir_name, name))
    return handle


class profile:
    """Watch a block, or with a `schedule` some of its steps, which the loop counts by `step()`.

    `on_trace_ready(profiler)` is called whenever a recording ends. PyTorch's further options are accepted; shapes are
    kept always, stacks, memory and FLOPs never.
    """

    def __init__(self, *, activities: Iterable[ProfilerActivity] | None = None,
                 schedule: Callable[[int], ProfilerAction] | None = None,
                 on_trace_ready: Callable[[profile], Any] | None = None, record_shapes: bool = False,
                 profile_memory: bool = False, with_stack: bool = False, with_flops: bool = False,
                 with_modules: bool = False, **options: Any) -> None:
        self.activities = set(activities) if activities is not None else supported_activities()
        self.schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self.on_trace_ready = on_trace_ready
        self.step_num = 0
        self.current_action = self.schedule(0)
        self.profiler: _watch | None = None
        self._recording = False
        self._step_range: record_function | None = None
        self._steps = schedule is not None

    def start(self) -> None:
        self._enter_action()
        self._open_step()

    def stop(self) -> None:
        self._close_step()
        self._leave_recording()

    def step(self) -> None:
        """The next step of the loop begins."""
        self._close_step()
        previous = self.current_action
        self.step_num += 1
        self.current_action = self.schedule(self.step_num)
        if previous is ProfilerAction.RECORD_AND_SAVE or self.current_action not in _RECORDING:
            self._leave_recording()
        self._enter_action()
        self._open_step()

    def _enter_action(self) -> None:
        if self.current_action in _RECORDING and not self._recording:
            self.profiler = _watch()
            self.profiler.start()
            self._recording = True

    def _leave_recording(self) -> None:
        if self._recording and self.profiler is not None:
            self.profiler.stop()
            self._recording = False
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)

    def _open_step(self) -> None:
        if self._steps:
            self._step_range = record_function(f"ProfilerStep#{self.step_num}")
            self._step_range.__enter__()

    def _close_step(self) -> None:
        if self._step_range is not None:
            self._step_range.__exit__()
            self._step_range = None

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.stop()

    def events(self) -> EventList:
        if self.profiler is None:
            raise AssertionError("Profiler must be initialized before getting events")
        return self.profiler._events()

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0, **other: Any) -> EventList:
        return self.events().key_averages(group_by_input_shape)

    def export_chrome_trace(self, path: str) -> None:
        """Write what was recorded last for chrome://tracing or Perfetto; compressed if the name ends in .gz."""
        self.events().export_chrome_trace(path)

    def add_metadata(self, key: str, value: str) -> None:
        """Accepted; a trace has no place for it."""

    add_metadata_json = add_metadata


_RECORDING = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
