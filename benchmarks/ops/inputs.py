"""The inputs that operators are measured on, by name: the same numbers for every implementation."""

from collections.abc import Callable
from typing import Any

import numpy as np

N = 1000
Array = np.ndarray[Any, Any]


def _generator() -> np.random.Generator:
    return np.random.default_rng(0)


def normal(*shape: int) -> Callable[[], Array]:
    return lambda: _generator().standard_normal(shape, np.float32)


def uniform(low: float, high: float, *shape: int) -> Callable[[], Array]:
    return lambda: _generator().uniform(low, high, shape).astype(np.float32)


def integers(low: int, high: int, *shape: int) -> Callable[[], Array]:
    return lambda: _generator().integers(low, high, shape)


def _spread(n: int) -> Array:
    """A well-conditioned symmetric positive definite matrix."""
    a = _generator().standard_normal((n, n)).astype(np.float32)
    return a @ a.T / n + np.eye(n, dtype=np.float32)


INPUTS: dict[str, Callable[[], Array]] = {
    "x": normal(N, N),
    "y": lambda: _generator().permuted(normal(N, N)()),
    "z": lambda: normal(N, N)()[::-1].copy(),
    "unit": uniform(0.001, 0.999, N, N),  # open interval (0, 1)
    "symmetric": uniform(-0.999, 0.999, N, N),
    "positive": uniform(0.1, 3, N, N),
    "above": uniform(1.001, 3, N, N),
    "double": lambda: normal(N, N)().astype(np.float64),
    "int": integers(1, 100, N, N),
    "int2": lambda: integers(1, 100, N, N)()[::-1].copy(),
    "shift": integers(0, 8, N, N),
    "bool": lambda: integers(0, 2, N, N)().astype(bool),
    "bool2": lambda: integers(0, 2, N, N)()[::-1].astype(bool),
    "half": lambda: normal(N, N)().astype(np.float16),
    "complex": lambda: (normal(N, N)() + 1j * normal(N, N)()[::-1]).astype(np.complex64),
    "pairs": normal(N, N // 2, 2),
    "vector": normal(N * N),
    "vector2": lambda: normal(N * N)()[::-1].copy(),
    "sorted": lambda: np.sort(normal(N * N)()),
    "ints": integers(0, N, N * N),
    "runs": lambda: np.sort(integers(0, N, N * N)()),
    "row": normal(N),
    "row_positive": uniform(0.5, 2, N),
    "edges": lambda: np.sort(normal(N)()),
    "column": normal(N, 1),
    "tall": normal(10 * N, N // 10),
    "wide": normal(N // 10, 10 * N),
    "cube": normal(100, 100, 100),
    "cube2": lambda: normal(100, 100, 100)()[::-1].copy(),
    "places": integers(0, N, N, N),  # an index along either axis
    "rows": integers(0, N, N),
    "lines": integers(0, N * N, N * N),  # an index into a vector
    "few": integers(0, N * N, N),
    "few_values": normal(N),
    "classes": integers(0, N, N),
    "signs": lambda: np.where(integers(0, 2, N, N)() > 0, 1, -1).astype(np.float32),
    "row_signs": lambda: np.where(integers(0, 2, N)() > 0, 1, -1).astype(np.float32),
    "chosen": lambda: integers(0, 2, N, N)().astype(np.float32),
    "labels": lambda: np.concatenate([integers(0, N, N, 5)(), np.full((N, N - 5), -1)], 1),
    "signal": normal(16, 16, 4000),
    "image": normal(8, 16, 88, 88),
    "volume": normal(2, 8, 40, 40, 40),
    "small_image": normal(8, 16, 44, 44),
    "columns": normal(8, 144, 900),
    "wide_image": normal(8, 64, 44, 44),
    "grid": uniform(-1.05, 1.05, 8, 88, 88, 2),
    "theta": normal(8, 2, 3),
    "kernel1": normal(16, 16, 5),
    "kernel2": normal(16, 16, 3, 3),
    "kernel_depth": normal(16, 1, 3, 3),
    "kernel_groups": normal(16, 4, 3, 3),
    "kernel_point": normal(32, 16, 1, 1),
    "kernel3": normal(8, 8, 3, 3, 3),
    "channels": normal(16),
    "channels_positive": uniform(0.5, 2, 16),
    "weight": normal(256, 1000),
    "bias": normal(256),
    "matrix": normal(256, 256),
    "matrix2": lambda: normal(256, 256)()[::-1].copy(),
    "matrices": normal(64, 128, 128),
    "matrices2": lambda: normal(64, 128, 128)()[::-1].copy(),
    "definite": lambda: _spread(256),
    "definites": lambda: np.stack([_spread(32)] * 64),
    "bilinear": normal(20, 64, 64),
    "left": normal(1000, 64),
    "right": lambda: normal(1000, 64)()[::-1].copy(),
    "points": normal(1000, 16),
    "points2": lambda: normal(1000, 16)()[::-1].copy(),
    "table": normal(10_000, 100),
    "words": integers(0, 10_000, 100, 100),
    "queries": normal(4, 8, 256, 64),
    "keys": lambda: normal(4, 8, 256, 64)()[::-1].copy(),
    "weights": uniform(0.1, 1, N),
    "angles": uniform(-3, 3, N, N),
    "weight64": normal(64, 1000),
    "matrix_int": integers(-9, 9, 256, 256),
    "matrix_complex": lambda: (normal(256, 256)() + 1j * normal(256, 256)()[::-1]).astype(np.complex64),
    "square": normal(128, 128),
    "batch": normal(64, 32, 32),
    "triples": normal(333_333, 3),
    "triples2": lambda: normal(333_333, 3)()[::-1].copy(),
    "half_spectrum": lambda: np.fft.rfft(normal(N, N)()).astype(np.complex64),
    "vector_complex": lambda: (normal(N * N)() + 1j * normal(N * N)()[::-1]).astype(np.complex64),
    "tens": lambda: np.full((N, N), 10, np.float32),
    "positive_unit": uniform(0.1, 0.9, N, N),
    "ctc_scores": normal(100, 100, 100),
    "ctc_targets": integers(1, 100, 100, 20),
}


def tensors(torch: Any, names: tuple[str, ...]) -> list[Any]:
    """Inputs as tensors that own their memory."""
    return [torch.from_numpy(INPUTS[name]()).clone() for name in names]
