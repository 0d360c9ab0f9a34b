"""LAPACK's kernels against their operations' NumPy meaning; what is unique up to signs, against what defines it."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from library_runner import lower, run
from test_library_kernels import meaning, node_of

from jtorch.errors import LinAlgError

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
LEADS = [(), (2, 2)]
SHAPES = [(7, 7), (7, 4), (4, 7), (1, 1)]


def normal(dtype: type, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def adjoint(x: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(x, -1, -2))


def definite(dtype: type, *shape: int) -> np.ndarray:
    x = normal(dtype, *shape)
    return (x @ adjoint(x) + np.eye(shape[-1])).astype(dtype)


def close(got: np.ndarray, want: np.ndarray) -> None:
    eps = 3e-4 if got.dtype in (np.float32, np.complex64) else 1e-10
    np.testing.assert_allclose(got, want, rtol=eps, atol=eps * max(1.0, float(np.abs(want).max(initial=0))))


def check(op: str, arrays: list[np.ndarray], **attrs: object) -> None:
    node = node_of(op, arrays, **attrs)
    for got, want in zip(run(node, arrays), meaning(node, arrays), strict=True):
        close(got, want)


def matrices(dtype: type) -> Iterator[np.ndarray]:
    for lead in LEADS:
        for shape in SHAPES:
            yield normal(dtype, *lead, *shape)
    yield normal(dtype, 40, 40)
    yield np.swapaxes(normal(dtype, 3, 5, 4), -1, -2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lead", LEADS, ids=str)
def test_systems(dtype: type, lead: tuple[int, ...]) -> None:
    for n in (1, 6) if lead else (70,):
        a, b = definite(dtype, *lead, n, n), normal(dtype, *lead, n, 150 if n == 6 else 3)
        for name in ("inverse", "determinant"):
            check(name, [a / n])
        regular = normal(dtype, *lead, n, n) + 2 * np.eye(n, dtype=dtype)
        factors, exchanges, _ = meaning(node_of("lu_factor", [regular]), [regular])
        for flag in (False, True):
            check("cholesky", [a], upper=flag)
            check("solve", [regular, factors, exchanges, b], transpose=flag)
            check("lu_order", [exchanges], size=n + 2, inverse=flag)
            for unit in (False, True):
                triangle = a / n + 2 * np.eye(n, dtype=dtype)
                check("solve_triangular", [triangle, b], upper=flag, transpose=unit, unit=False)
                check("solve_triangular", [triangle / 4 if n == 70 else triangle, b], upper=flag, transpose=not unit,
                      unit=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors(dtype: type) -> None:
    for a in matrices(dtype):
        for name in ("lu_decomposition", "lu_factor", "reflectors"):
            check(name, [a])
        for complete in (False, True):
            check("qr", [a], complete=complete)
    for shape in ((2, 150, 150), (200, 140), (140, 200), (150, 20)):
        check("qr", [normal(dtype, *shape)], complete=shape[-1] == 20)


@pytest.mark.parametrize("dtype", DTYPES)
def test_singular_values(dtype: type) -> None:
    for a in matrices(dtype):
        for full in (False, True):
            node = node_of("svd", [a], full=full)
            u, s, vh, info = run(node, [a])
            k = s.shape[-1]
            close((u[..., :k] * s[..., None, :].astype(dtype)) @ vh[..., :k, :], a)
            for q in (u, adjoint(vh)):
                close(adjoint(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), adjoint(q).shape[:-1] + (q.shape[-1],)))
            close(s, meaning(node, [a])[1])
            assert not info.any()
            close(run(node, [a], wanted=frozenset({1}))[1], s)


@pytest.mark.parametrize("dtype", DTYPES)
def test_eigenvalues(dtype: type) -> None:
    for a in (x for x in matrices(dtype) if x.shape[-1] == x.shape[-2]):
        w, v = run(node_of("eig", [a]), [a])
        close(a @ v, v * w[..., None, :])
        close(np.linalg.norm(v, axis=-2), np.ones(w.shape))
        values = run(node_of("eig", [a]), [a], wanted=frozenset({0}))[0]
        for got, want in zip(values.reshape(-1, values.shape[-1]), w.reshape(-1, values.shape[-1])):
            assert max(np.abs(got[:, None] - want).min(1).max(), np.abs(want[:, None] - got).min(1).max()) < 2e-3
        for upper in (False, True):
            node = node_of("eigh", [a], upper=upper)
            w, v, info = run(node, [a])
            triangle = np.triu(a) if upper else np.tril(a)
            whole = triangle + adjoint(triangle) - np.eye(a.shape[-1]) * a.real
            close(whole.astype(dtype) @ v, v * w[..., None, :].astype(dtype))
            close(w, meaning(node, [a])[0])
            close(run(node, [a], wanted=frozenset({0}))[0], w)
            assert not info.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eigenvectors_of_large_matrices(dtype: type) -> None:
    """Also of numbers whose squares are out of range, and of none but zeros."""
    a = normal(dtype, 2, 150, 150)
    a = a + adjoint(a)
    for scale in (1, np.finfo(dtype).max / 1e3, np.finfo(dtype).tiny * 1e3, 0):
        for upper in (False, True):
            w, v, info = run(node_of("eigh", [a], upper=upper), [(a * scale).astype(dtype)])
            if scale:
                w = (w / scale).astype(dtype)
                close(a @ v, v * w[..., None, :])
            close(adjoint(v) @ v, np.broadcast_to(np.eye(150), v.shape))
            assert not info.any() and (np.diff(w) >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_cofactors(dtype: type) -> None:
    """Of regular matrices, and of those whose rank is one or more too low."""
    for n in (1, 2, 5):
        check("cofactors", [normal(dtype, 2, n, n)])
        for missing in (1, 2):
            a = normal(dtype, n, n)
            a[-missing:] = 0
            check("cofactors", [a])
        check("cofactors", [np.zeros((n, n), dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_least_squares(dtype: type) -> None:
    for shape in SHAPES:
        for lead in LEADS:
            a, b = normal(dtype, *lead, *shape), normal(dtype, *lead, shape[0], 3)
            check("least_squares", [a, b], rcond=None, driver="gelsy")
    for m, n in ((40, 40), (50, 30), (30, 50), (5, 1)):
        a = normal(dtype, 4, m, n) + 4 * np.eye(m, n, dtype=dtype)
        a[1, :, n // 2:] = a[1, :, :1]  # of a lower rank
        a[2] = 0
        check("least_squares", [a, normal(dtype, 4, m, 150)], rcond=1e-4, driver="gelsy")
    assert lower(node_of("least_squares", [a, b], rcond=None, driver="gelsd"), [a, b]) is None


def test_failures() -> None:
    """Codes of failed matrices, and the errors that they become."""
    a = np.stack([np.eye(3), np.diag([1.0, -1, 1]), np.eye(3)])
    assert run(node_of("cholesky", [a], upper=False), [a])[1].tolist() == [0, 2, 0]
    singular = np.stack([np.eye(3), np.diag([1.0, 1, 0])])
    found, info = run(node_of("inverse", [singular]), [singular])
    assert info.tolist() == [0, 3]
    assert np.isnan(found[1]).all() and np.isfinite(found[0]).all()
    bad = np.array([[1.0, np.inf], [0, 1]])
    with pytest.raises(RuntimeError, match="should not contain infs or NaNs"):
        run(node_of("eig", [bad]), [bad])


def test_error_names_the_matrix() -> None:
    import jtorch as torch
    a = torch.eye(3, dtype=torch.float64).repeat(4, 1, 1)
    a[2, 1, 1] = -1

    @torch.jit.trace
    def factor(a: torch.Tensor) -> torch.Tensor:
        return torch.linalg.cholesky(a)
    with pytest.raises(LinAlgError, match=r"linalg.cholesky: \(Batch element 2\): .* minor of order 2 "):
        factor(a)
    with pytest.raises(LinAlgError, match=r"linalg.cholesky: The .* minor of order 2 "):
        factor(a[2])
    np.testing.assert_array_equal(factor(a[:2]).numpy(), a[:2].numpy())
