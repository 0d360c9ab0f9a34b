"""The kernels of Fourier transforms against NumPy's transforms in double precision."""
from __future__ import annotations

import numpy as np
import pytest
from library_runner import lower, run
from test_library_kernels import meaning, node_of

from jtorch.codegen.library.fourier import radices, split

PAIRS = [(np.float32, np.complex64), (np.float64, np.complex128)]
CASES = [((3, 8), (1,)), ((40, 60), (0, 1)), ((5, 30, 7), (1,)), ((3, 10, 20), (1,)), ((2, 3, 4, 5), (1, 3, 0)),
         ((33, 13), (1,)), ((70, 1000), (1,)), ((100, 33), (0,)), ((20, 1), (1,)), ((1, 77), (1,))]


def check(op: str, x: np.ndarray, **attrs: object) -> None:
    node = node_of(op, [x], **attrs)
    got = run(node, [x])[0]
    wide = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
    want = meaning(node_of(op, [wide], **attrs), [wide])[0]
    bound = 5e-7 if x.dtype in (np.float32, np.complex64) else 2e-15
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= bound * np.abs(want).max()


def normal(dtype: type, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


@pytest.mark.parametrize(("real", "wide"), PAIRS)
def test_transforms(real: type, wide: type) -> None:
    for shape, axes in CASES if real is np.float32 else [c for c in CASES if c[1] == (len(c[0]) - 1,)]:
        for forward in (True, False):
            for dtype in (real, wide):
                check("fft", normal(dtype, *shape), axes=axes, forward=forward, scale=0.25)
        check("rfft", normal(real, *shape), axes=axes, scale=0.25)
        n = shape[axes[-1]]
        half = [n // 2 + 1 if a == axes[-1] else m for a, m in enumerate(shape)]
        check("irfft", normal(wide, *half), axes=axes, size=n, scale=0.25)
    check("fft", np.asfortranarray(normal(wide, 20, 30)), axes=(1,), forward=True, scale=1.0)


@pytest.mark.parametrize("n", [*range(1, 34), 49, 61, 128, 143, 360, 1024, 2187, 4096])
def test_lengths(n: int) -> None:
    check("fft", normal(np.complex128, 3, n), axes=(1,), forward=True, scale=1.0)


@pytest.mark.parametrize("shape", [(1, 6000), (2, 1 << 15), (4500, 2), (100003 - 3,)], ids=str)
def test_long_lines(shape: tuple[int, ...]) -> None:
    axis = int(np.argmax(shape))
    for dtype in (np.complex64, np.float32):
        for forward in (True, False):
            check("fft", normal(dtype, *shape), axes=(axis,), forward=forward, scale=0.5)
    check("rfft", normal(np.float32, *shape), axes=(axis,), scale=0.5)


def test_what_has_no_kernel() -> None:
    assert radices(67) is None and radices(2 * 67) is None
    assert split(4099 * 2) is None
    x = normal(np.complex64, 2, 67)
    assert lower(node_of("fft", [x], axes=(1,), forward=True), [x]) is None
