"""Inputs for the operations of linear algebra, see op_samples.py."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from op_samples import Sample, complex_normal, normal

from jtorch.ir import lapack


def square(n: int, *lead: int, of: Callable[..., np.ndarray] = normal) -> np.ndarray:
    """Well away from singular."""
    return of(*lead, n, n) + 3 * np.eye(n)


def definite(n: int, *lead: int, of: Callable[..., np.ndarray] = normal) -> np.ndarray:
    x = of(*lead, n, n)
    return x @ np.conj(np.swapaxes(x, -1, -2)) + np.eye(n)


def apart(n: int, m: int, *lead: int) -> np.ndarray:
    """Singular values that are no neighbours."""
    u, _, vh = np.linalg.svd(normal(*lead, n, m), full_matrices=False)
    return (u * (1.0 + np.arange(min(n, m)))) @ vh


def squares() -> Iterator[np.ndarray]:
    yield square(3)
    yield square(2, 2, 3)
    yield square(3, of=complex_normal)
    yield np.zeros((2, 0, 0))


def unary(reference: Callable[..., Any]) -> Callable[[], Iterator[Sample]]:
    return lambda: (Sample((a,), {}, reference) for a in squares())


def inverse() -> Iterator[Sample]:
    for a in squares():
        yield Sample((a,), {}, lambda T, a: tuple(T.linalg.inv_ex(a)))


def lu_factor() -> Iterator[Sample]:
    for a in (*squares(), normal(3, 5), normal(2, 5, 3), complex_normal(4, 2)):
        yield Sample((a,), {}, lambda T, a: tuple(T.linalg.lu_factor_ex(a)))


def lu_order() -> Iterator[Sample]:
    exchanges = lapack.lu(normal(2, 4, 3))[1]
    for inverse in (False, True):
        yield Sample((exchanges,), {"size": 4, "inverse": inverse})


def solve() -> Iterator[Sample]:
    for a, b in ((square(3), normal(3, 2)), (square(2, 2), normal(2, 2, 3)),
                 (square(3, of=complex_normal), complex_normal(3, 2))):
        factors, exchanges, _ = lapack.lu(a)
        for transpose in (False, True):
            yield Sample((a, factors, exchanges, b), {"transpose": transpose},
                         lambda T, a, f, e, b, t=transpose: T.linalg.solve(a.mT if t else a, b), smooth=False,
                         fixed=(1, 2))


def solve_triangular() -> Iterator[Sample]:
    for a, b in ((square(3), normal(3, 2)), (square(2, 2, of=complex_normal), complex_normal(2, 2, 3))):
        for upper in (False, True):
            for transpose, unit in ((False, False), (True, False), (True, True)):
                def reference(T: Any, a: Any, b: Any, up: bool = upper, t: bool = transpose, u: bool = unit) -> Any:
                    part = T.triu(a) if up else T.tril(a)
                    return T.linalg.solve_triangular(part.mT if t else part, b, upper=up != t, unitriangular=u)
                yield Sample((a, b), {"upper": upper, "transpose": transpose, "unit": unit}, reference)


def determinant() -> Iterator[Sample]:
    for a in squares():
        yield Sample((a,), {}, lambda T, a: T.linalg.det(a))


def singular() -> np.ndarray:
    a = square(3)
    a[2] = a[0]
    return a


def cofactors() -> Iterator[Sample]:
    for a in squares():
        yield Sample((a,), {}, lambda T, a: (T.linalg.det(a)[..., None, None] * T.linalg.inv(a).mT) if a.numel() else a)


def cholesky() -> Iterator[Sample]:
    for a in (definite(3), definite(2, 2, 3), definite(3, of=complex_normal), np.zeros((0, 2, 2))):
        for upper in (False, True):
            yield Sample((a,), {"upper": upper}, lambda T, a, u=upper: tuple(T.linalg.cholesky_ex(a, upper=u)))


def qr() -> Iterator[Sample]:
    for a in (normal(3, 3), normal(2, 5, 3), normal(2, 4), complex_normal(4, 3), normal(0, 3)):
        yield Sample((a,), {"complete": False}, lambda T, a: tuple(T.linalg.qr(a)))
    yield Sample((normal(3, 3),), {"complete": True}, lambda T, a: tuple(T.linalg.qr(a, "complete")))


def eigh() -> Iterator[Sample]:
    for a in (definite(3), definite(2, 2, 3)):
        for upper in (False, True):
            yield Sample((a,), {"upper": upper}, None)
    yield Sample((np.zeros((2, 0, 0)),), {"upper": False})


def eig() -> Iterator[Sample]:
    for a in (apart(3, 3), apart(2, 2, 3), complex_normal(3, 3)):
        yield Sample((a,), {}, None, smooth=False)  # vectors have no phase of their own: see test_linalg.py


def svd() -> Iterator[Sample]:
    for a in (apart(3, 3), apart(5, 2), apart(2, 4, 2)):
        yield Sample((a,), {"full": False}, None)
    yield Sample((normal(3, 5),), {"full": True}, None, smooth=False)
    yield Sample((np.zeros((0, 3)),), {"full": True}, None)


def least_squares() -> Iterator[Sample]:
    for driver in ("gels", "gelsy", "gelsd", "gelss"):
        for a, b in ((normal(4, 2), normal(4, 3)), (normal(2, 3, 4), normal(2, 3, 1)),
                     (complex_normal(3, 3), complex_normal(3, 1))):
            yield Sample((a, b), {"rcond": None, "driver": driver}, None)


def ldl_factor() -> Iterator[Sample]:
    for a in (definite(3), definite(3, of=complex_normal)):
        yield Sample((a,), {"hermitian": True}, lambda T, a: tuple(T.linalg.ldl_factor_ex(a, hermitian=True)))


def ldl_solve() -> Iterator[Sample]:
    a = definite(3)
    yield Sample((*lapack.ldl(a, True)[:2], normal(3, 2)), {"hermitian": True})


def reflectors() -> Iterator[Sample]:
    yield Sample((normal(4, 3),), {}, lambda T, a: tuple(T.geqrf(a)))


def succeeded() -> Iterator[Sample]:
    yield Sample((normal(2, 3), np.zeros(2, np.int32)), {"name": "linalg.inv", "reason": "inv"})


def pinv() -> Iterator[Sample]:
    for a in (normal(3, 3), normal(2, 4, 2), normal(2, 3), complex_normal(3, 2)):
        lead = a.shape[:-2]
        yield Sample((a, np.zeros(lead), np.full(lead, 1e-12)), {"hermitian": False},
                     lambda T, a, x, y: T.linalg.pinv(a),
                     fixed=(1, 2))


def lstsq() -> Iterator[Sample]:
    for a, b in ((normal(4, 2), normal(4, 3)), (normal(2, 3, 4), normal(2, 3, 1)),
                 (complex_normal(3, 3), complex_normal(3, 1))):
        yield Sample((a, b), {"rcond": None, "driver": "gelsd"}, None)


def slogdet() -> Iterator[Sample]:
    for a in (square(3), normal(2, 2, 2), square(3, of=complex_normal)):
        yield Sample((a, *lapack.lu(a)[:2]), {}, lambda T, a, f, e: tuple(T.linalg.slogdet(a)), smooth=False,
                     fixed=(1, 2))


def fft() -> Iterator[Sample]:
    yield Sample((np.zeros((0, 3), np.complex128),), {"axes": (1,), "forward": True}, None)
    for shape, axes in (((5,), (0,)), ((2, 3, 4), (2, 0))):
        for forward in (True, False):
            yield Sample((complex_normal(*shape),), {"axes": axes, "forward": forward},
                         lambda T, x, a=axes, f=forward: T.fft.fftn(x, dim=a) if f else
                         T.fft.ifftn(x, dim=a, norm="forward"))


def rfft() -> Iterator[Sample]:
    for shape, axes in (((5,), (0,)), ((2, 3, 4), (2, 0)), ((1, 6), (1,)), ((3, 1), (1,))):
        yield Sample((normal(*shape),), {"axes": axes}, lambda T, x, a=axes: T.fft.rfftn(x, dim=a))


def irfft() -> Iterator[Sample]:
    for shape, axes, size in (((4,), (0,), 6), ((4,), (0,), 7), ((3, 2, 3), (0, 2), 4), ((1,), (0,), 1),
                              ((2,), (0,), 2)):
        sizes = (*[shape[a] for a in axes[:-1]], size)
        yield Sample((complex_normal(*shape),), {"axes": axes, "size": size},
                     lambda T, x, a=axes, s=sizes: T.fft.irfftn(x, s, a, norm="forward"))


def exponential_tangent() -> Iterator[Sample]:
    """Of zero, small and large matrices, of which every polynomial takes some."""
    def reference(T: Any, a: Any, e: Any) -> Any:
        n = a.shape[-1]
        return T.linalg.matrix_exp(T.cat([T.cat([a, e], -1), T.cat([a * 0, a], -1)], -2))[..., :n, n:]
    sizes = np.array([0.0, 1e-9, 1e-4, 0.01, 0.2, 0.5, 2.0])[:, None, None]
    for a, e in ((normal(7, 3, 3) * sizes, normal(7, 3, 3)), (complex_normal(2, 2), complex_normal(2, 2)),
                 (normal(2, 1, 1), normal(2, 1, 1))):
        yield Sample((a, e), {}, reference)


def matrix_exp() -> Iterator[Sample]:
    for e in exponential_tangent():
        yield Sample(e.arrays[:1], {}, lambda T, a: T.linalg.matrix_exp(a))
    yield from unary(lambda T, a: T.linalg.matrix_exp(a))()


LINALG: dict[str, Callable[[], Iterator[Sample]]] = {
    "inverse": inverse, "lu_decomposition": lambda: (Sample(s.arrays, {}) for s in lu_factor()),
    "lu_factor": lu_factor, "lu_order": lu_order, "solve": solve, "solve_triangular": solve_triangular,
    "determinant": determinant, "cofactors": cofactors, "cholesky": cholesky, "qr": qr, "eigh": eigh, "eig": eig,
    "svd": svd, "least_squares": least_squares, "ldl_factor": ldl_factor, "ldl_solve": ldl_solve,
    "fft": fft, "rfft": rfft, "irfft": irfft, "pinv": pinv, "lstsq": lstsq, "slogdet": slogdet,
    "reflectors": reflectors, "succeeded": succeeded,
    "matrix_exp": matrix_exp, "exponential_tangent": exponential_tangent,
}
