"""PyTorch's CPU generator: the mt19937 engine and its state, as a pure function of NumPy arrays.

A state is one `uint32[STATE_WORDS]` array, so that it can be an ordinary value of a graph:

    words 0..623   the Mersenne twister
    word  624      position: how many of the 624 are used up (624: twist before the next draw)
    word  625      1 if a normal sample is waiting, else 0
    words 626..627 that sample, a float64, low word first

The waiting sample is part of the state because `normal_` on fewer than 16 elements makes two samples at a time
and keeps the second one for the next call (see `random_streams.normal_scalar_from_draws`).
No function here changes a state that it is given.
"""
from __future__ import annotations

import threading

import numpy as np

WORDS = 624
POSITION = 624
HAS_NORMAL = 625
NORMAL = slice(626, 628)
STATE_WORDS = 628

DEFAULT_SEED = 67280421310721
"""What PyTorch's default generator is seeded with when nobody seeds it."""

_PIECE = 1 << 16
"""Draws that are made at a time."""

_engines = threading.local()


def seed(value: int) -> np.ndarray:
    """The state after `manual_seed(value)`: `init_genrand` of the low 32 bits, no waiting sample."""
    engine = _engine()
    engine._legacy_seeding(value & 0xFFFFFFFF)
    state = np.zeros(STATE_WORDS, np.uint32)
    state[:WORDS] = engine.state["state"]["key"]
    state[POSITION] = WORDS
    return state


def draw(state: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The next `count` 32-bit draws, and the state after them."""
    engine = _engine()
    engine.state = {"bit_generator": "MT19937", "state": {"key": state[:WORDS], "pos": int(state[POSITION])}}
    draws = np.empty(count, np.uint32)
    for start in range(0, count, _PIECE):  # NumPy gives them as 64 bits each
        draws[start:start + _PIECE] = engine.random_raw(min(_PIECE, count - start))
    after = engine.state["state"]
    new_state = state.copy()
    new_state[:WORDS] = after["key"]
    new_state[POSITION] = after["pos"]
    return draws, new_state


def join64(draws: np.ndarray) -> np.ndarray:
    """Pairs of 32-bit draws as 64-bit draws: the earlier one is the high word."""
    pairs = draws.reshape(-1, 2).astype(np.uint64)
    return (pairs[:, 0] << np.uint64(32)) | pairs[:, 1]


def waiting_normal(state: np.ndarray) -> float | None:
    """The normal sample that the next small `normal_` begins with, if there is one."""
    return float(state[NORMAL].copy().view(np.float64)[0]) if state[HAS_NORMAL] else None


def with_waiting_normal(state: np.ndarray, sample: float | None) -> np.ndarray:
    """The state with its waiting normal sample replaced (`None`: taken away)."""
    new_state = state.copy()
    new_state[HAS_NORMAL] = sample is not None
    new_state[NORMAL] = np.array([0.0 if sample is None else sample]).view(np.uint32)
    return new_state


_TORCH_STATE = np.dtype(
    [
        ("seed", "<u8"),
        ("left", "<i4"),
        ("seeded", "<i4"),
        ("next", "<u8"),
        ("words", "<u8", WORDS),
        ("normal_x", "<f8"),
        ("normal", "<f8"),
        ("normal_rho", "<f8"),
        ("has_normal", "<i4"),
        ("float_normal", "<f4"),
        ("has_float_normal", "<i8"),
    ]
)
"""The bytes of `torch.get_rng_state()` for a CPU generator (5056 of them)."""


def to_torch_bytes(state: np.ndarray, initial_seed: int) -> np.ndarray:
    """The state as the `uint8` array that PyTorch's `get_rng_state` gives and `set_rng_state` takes.

    PyTorch notes a difference between a state just seeded and one whose 624 words are used up, which means nothing
    for the draws that follow; both are written in the first way.
    """
    record = np.zeros((), _TORCH_STATE)
    position = int(state[POSITION])
    sample = waiting_normal(state)
    fresh = position == WORDS
    record["seed"] = initial_seed & 0xFFFFFFFFFFFFFFFF
    record["left"] = 1 if fresh else WORDS - position + 1
    record["seeded"] = 1
    record["next"] = 0 if fresh else position
    record["words"] = state[:WORDS]
    record["has_normal"] = sample is not None
    record["normal"] = sample or 0.0
    return np.frombuffer(record.tobytes(), np.uint8).copy()


def from_torch_bytes(data: np.ndarray) -> tuple[np.ndarray, int]:
    """A state and its initial seed from the bytes of `to_torch_bytes` or of PyTorch's `get_rng_state`."""
    data = np.ascontiguousarray(data, np.uint8)
    if data.size != _TORCH_STATE.itemsize:
        raise RuntimeError(f"Expected a CPU generator state of {_TORCH_STATE.itemsize} bytes but found {data.size}")
    record = np.frombuffer(data.tobytes(), _TORCH_STATE)[0]
    left = int(record["left"])
    if not record["seeded"] or not 0 < left <= WORDS or record["next"] > WORDS:
        raise RuntimeError("Invalid mt19937 state")
    state = np.zeros(STATE_WORDS, np.uint32)
    state[:WORDS] = record["words"]
    state[POSITION] = WORDS - left + 1 if left > 1 else WORDS
    return with_waiting_normal(state, float(record["normal"]) if record["has_normal"] else None), int(record["seed"])


def _engine() -> np.random.MT19937:
    """This thread's bit generator; its own state means nothing, every use sets it."""
    engine = getattr(_engines, "value", None)
    if engine is None:
        engine = _engines.value = np.random.MT19937(0)
    return engine
