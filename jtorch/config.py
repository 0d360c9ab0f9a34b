"""Settings. Each has one owner (named) and can be set by an environment variable of the same name, JTORCH_*."""
from __future__ import annotations

import os
from dataclasses import dataclass, fields


@dataclass
class Config:
    """Process-wide settings; assign to change."""

    max_pending_ops: int = 4096  # capture.record: flush when so many operations wait
    max_pending_bytes: int = 1 << 31  # capture.record: ... or when their results would take so many bytes
    max_interned: int = 100_000  # capture.record: interned values kept before the tables start afresh
    eager_compile: str = "async"  # capture.execute: 'async' (interpret until ready), 'sync' (wait), or 'never'
    compile_after: int = 2  # capture.execute: compile a graph at its n-th appearance
    deterministic: bool = False  # capture.execute: pin the tier: wait for compiled code from the first run


def _from_environment() -> Config:
    config = Config()
    for f in fields(config):
        text = os.environ.get("JTORCH_" + f.name.upper())
        if text is not None:
            kind = type(getattr(config, f.name))
            setattr(config, f.name, text not in ("0", "false", "") if kind is bool else kind(text))
    return config


config = _from_environment()
