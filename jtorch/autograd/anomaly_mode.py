"""Anomaly detection: a NaN that a derivative makes is an error that names the line of the forward."""
from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from jtorch.autograd.names import name_of
from jtorch.capture.execute import array_of, compute_once
from jtorch.capture.record import Recorder, current
from jtorch.ir.graph import Value


class _Mode(threading.local):
    enabled = False
    check_nan = True


_mode = _Mode()


def _set(enabled: bool, check_nan: bool) -> tuple[bool, bool]:
    """The mode before. Where it begins, what was recorded so far is forgotten: a value keeps the line that recorded it
    first, and that should be one of this mode."""
    before = (_mode.enabled, _mode.check_nan)
    recorder = current.recorder
    if enabled and not _mode.enabled and recorder.knows_values:
        recorder.flush()
        recorder.reset()
    _mode.enabled, _mode.check_nan = enabled, check_nan
    return before


class set_detect_anomaly:
    """`set_detect_anomaly(mode, check_nan=True)`: acts at once; as a context manager it is undone at the end."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = _set(bool(mode), check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        _set(*self._before)


class detect_anomaly:
    """Within it a backward that makes a NaN raises RuntimeError, and a warning shows the line of the forward whose
    derivative it was. Backwards are slow in this mode: every derivative is computed and looked at."""

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan
        warnings.warn("Anomaly Detection has been enabled. This mode will increase the runtime and should only be "
                      "enabled for debugging.", stacklevel=2)

    def __enter__(self) -> None:
        self._before = _set(True, self.check_nan)

    def __exit__(self, *exc: Any) -> None:
        _set(*self._before)


def is_anomaly_enabled() -> bool:
    return _mode.enabled


def is_anomaly_check_nan_enabled() -> bool:
    return _mode.check_nan


def checks_gradients(recorder: Recorder) -> bool:
    """Is every derivative to be looked at? A trace and a mapped function have no values to look at."""
    return _mode.enabled and _mode.check_nan and recorder.knows_values


def check(recorder: Recorder, steps: Sequence[tuple[Value, Sequence[Value | None]]]) -> None:
    """RuntimeError for the first of the derivatives (node, cotangents of its operands) that holds a NaN."""
    values = [g for _, found in steps for g in found
              if g is not None and (g.dtype.is_floating_point or g.dtype.is_complex)]
    buffers = dict(zip(values, compute_once(recorder.epoch, values)))
    for node, found in steps:
        for i, g in enumerate(found):
            if g in buffers and np.isnan(array_of(buffers[g], g.type).astype(np.complex128)).any():
                _report(recorder, node, i)


def _report(recorder: Recorder, node: Value, place: int) -> None:
    name = name_of(node, recorder.epoch)
    where = "an unknown line"
    if node.loc is not None:
        file, line = node.loc
        where = f"{file}:{line}"
        warnings.warn(f"Error detected in {name}. The forward call that caused the error:\n  File \"{file}\", line "
                      f"{line}", stacklevel=2)
    raise RuntimeError(f"Function '{name}' returned nan values in its {place}th output. "
                       f"The forward call was at {where}.")
