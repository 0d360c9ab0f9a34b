"""Matrix factorizations: Cholesky, LU, QR, eigenvalues, singular values, and what is read off them."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.composites import systems
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import factor, matrices, reduce, solve
from jtorch.ir.prims.create import constant, iota
from jtorch.ir.prims.movement import expand_to, reshape_to, slice_axis
from jtorch.ops.arguments import named
from jtorch.ops.attach import FUNCTIONS, define, with_out
from jtorch.views import type_name

public = define(method=False, function=False)


def at_once(operator: Callable[..., Any]) -> Callable[..., Any]:
    """With `out=`; and computed at once, so that what the matrices' values make impossible is an error at this line
    (in a trace, an error of the run)."""
    called = with_out(operator)

    @functools.wraps(operator)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = called(*args, **kwargs)
        recorder = current.recorder
        if recorder.tracing is None and not recorder.levels:
            for t in (result,) if isinstance(result, Tensor) else result:
                if t.numel():
                    t._array()
                    break
        return result
    return call


# --- what every function demands -------------------------------------------------------------------------------------

def check_matrix(name: str, x: Value, argument: str = "A", half: bool = False) -> Value:
    if x.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {argument} must have at least 2 dimensions.")
    return check_dtype(name, x, half)


def check_dtype(name: str, x: Value, half: bool = False) -> Value:
    if x.dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {type_name(x.dtype)}")
    if not half and x.dtype.itemsize == 2:
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {type_name(x.dtype)}")
    return x


def check_square(name: str, x: Value, argument: str = "A") -> Value:
    check_matrix(name, x, argument)
    if x.shape[-1] != x.shape[-2]:
        raise RuntimeError(f"{name}: {argument} must be batches of square matrices, but they are {x.shape[-2]} by "
                           f"{x.shape[-1]} matrices")
    return x


# --- Cholesky --------------------------------------------------------------------------------------------------------

@public
def _cholesky(A: Value, *, upper: bool = False) -> Value:
    factors, info = factor.cholesky(check_square("linalg.cholesky", A), upper=bool(upper))
    return factor.succeeded(factors, info, name="linalg.cholesky", reason="cholesky")


cholesky = at_once(_cholesky)


@public
def _cholesky_ex(A: Value, *, upper: bool = False, check_errors: bool = False) -> Any:
    factors, info = factor.cholesky(check_square("linalg.cholesky_ex", A), upper=bool(upper))
    if check_errors:
        factors = factor.succeeded(factors, info, name="linalg.cholesky_ex", reason="cholesky")
    return named("linalg_cholesky_ex", "L info")(factors, info)


cholesky_ex = at_once(_cholesky_ex)


@public
def _torch_cholesky(input: Value, upper: bool = False) -> Value:
    factors, info = factor.cholesky(check_square("cholesky", input), upper=bool(upper))
    return factor.succeeded(factors, info, name="cholesky", reason="cholesky")


# --- LU --------------------------------------------------------------------------------------------------------------

def _refuse_no_pivot(name: str, pivot: bool) -> None:
    if not pivot:
        raise RuntimeError(f"{name}: LU without pivoting is not implemented on the CPU")


@public
def _lu_factor(A: Value, *, pivot: bool = True) -> Any:
    _refuse_no_pivot("linalg.lu_factor", pivot)
    factors, pivots, info = factor.lu_factor(check_matrix("torch.linalg.lu_factor", A))
    factors = factor.succeeded(factors, info, name="torch.linalg.lu_factor_ex", reason="lu_factor")
    return named("linalg_lu_factor", "LU pivots")(factors, pivots)


lu_factor = at_once(_lu_factor)


@public
def _lu_factor_ex(A: Value, *, pivot: bool = True, check_errors: bool = False) -> Any:
    _refuse_no_pivot("linalg.lu_factor", pivot)
    factors, pivots, info = factor.lu_factor(check_matrix("torch.linalg.lu_factor", A))
    if check_errors:
        factors = factor.succeeded(factors, info, name="torch.linalg.lu_factor_ex", reason="lu_factor")
    return named("linalg_lu_factor_ex", "LU pivots info")(factors, pivots, info)


lu_factor_ex = at_once(_lu_factor_ex)


def lu_parts(factors: Value, pivots: Value) -> tuple[Value, Value, Value]:
    """(P, L, U) with P L U = A."""
    m, n = factors.shape[-2:]
    k = min(m, n)
    square = matrices.columns(factors, 0, k)
    ones = constant(square.builder, 1, square.dtype, square.shape)
    low = ew.where(matrices.eye_mask(square), ones, matrices.lower(square, -1))
    order = factor.lu_order(pivots, size=m, inverse=True)
    column = order.builder.apply(iota, length=m, dtype=dtypes.int64)
    shape = (*order.shape, m)
    p = ew.cast_to(ew.eq(matrices.per_row(order, constant(order.builder, 0, dtypes.int64, shape)),
                         expand_to(column, shape)), factors.dtype)
    return p, low, matrices.upper(matrices.rows(factors, 0, k))


@public
def _lu(A: Value, *, pivot: bool = True) -> Any:
    _refuse_no_pivot("linalg.lu", pivot)
    factors, pivots, _ = factor.lu_factor(check_matrix("linalg.lu", A))
    return named("linalg_lu", "P L U")(*lu_parts(factors, pivots))


lu = with_out(_lu)


@public
def _lu_unpack(LU_data: Value, LU_pivots: Value, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    if LU_pivots.dtype is not dtypes.int32:
        raise RuntimeError("torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.\n"
                           "Note: this function is intended to be used with the output produced by "
                           "torch.linalg.lu_factor")
    parts = lu_parts(LU_data, LU_pivots)
    none = constant(LU_data.builder, 0, LU_data.dtype, (0,))
    return named("lu_unpack", "P L U")(parts[0] if unpack_pivots else none,
                                       *(parts[1:] if unpack_data else (none, none)))


def _torch_lu(A: Tensor, pivot: bool = True, get_infos: bool = False, out: Any = None) -> Any:
    result = lu_factor_ex(A, pivot=pivot)
    return named("_lu_with_info", "LU pivots info")(*result) if get_infos else tuple(result)[:2]


# --- QR --------------------------------------------------------------------------------------------------------------

@public
def _qr(A: Value, mode: str = "reduced") -> Any:
    check_matrix("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or "
                           "'complete'")
    q, r = factor.qr(A, complete=mode == "complete")
    if mode == "r":
        if A.requires_grad:
            r = factor.refused(r, reason="The derivative of linalg.qr depends on Q, which is not computed "
                                                    "when mode='r'. Please use linalg.qr(A, mode='reduced') if you "
                                                    "are going to require gradients")
        q = constant(A.builder, 0, A.dtype, (0,))
    return named("linalg_qr", "Q R")(q, r)


qr = with_out(_qr)


@public
def _torch_qr(input: Value, some: bool = True) -> Any:
    return named("qr", "Q R")(*factor.qr(check_matrix("linalg.qr", input), complete=not some))


@public
def _geqrf(input: Value) -> Any:
    return named("geqrf", "a tau")(*solve.reflectors(check_matrix("torch.geqrf", input, "input")))


@public
def _householder_product(A: Value, tau: Value) -> Value:
    """The first n columns of the product of I - tau_i v_i v_i^H."""
    name = "torch.linalg.householder_product"
    if A.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    m, n = A.shape[-2:]
    if m < n:
        raise RuntimeError(f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if n < tau.shape[-1]:
        raise RuntimeError(f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    if A.ndim - tau.ndim != 1:
        raise RuntimeError(f"{name}: Expected tau to have one dimension less than input, but got tau.ndim equal to "
                           f"{tau.ndim} and input.ndim is equal to {A.ndim}")
    if A.shape[:-2] != tau.shape[:-1]:
        raise RuntimeError(f"{name}: Expected batch of tau to be equal to input.shape[:-2], but got "
                           f"{list(tau.shape[:-1])}")
    if A.dtype is not tau.dtype:
        raise RuntimeError(f"{name}: tau dtype {type_name(tau.dtype)} does not match input dtype {type_name(A.dtype)}")
    check_dtype(name, A)
    low = matrices.lower(A, -1)
    ones = constant(A.builder, 1, A.dtype, A.shape)
    vectors = ew.where(matrices.eye_mask(A), ones, low)
    zero = constant(A.builder, 0, A.dtype, A.shape)
    q = ew.where(matrices.eye_mask(A), ones, zero)
    for i in reversed(range(tau.shape[-1])):
        v = matrices.columns(vectors, i, i + 1)
        t = expand_to(reshape_to(element(tau, i), (*v.shape[:-2], 1, 1)), v.shape)
        q = q - matrices.matmul(v * t, matrices.matmul(matrices.adjoint(v), q))
    return q


def element(v: Value, i: int) -> Value:
    """Element i of the last axis."""
    return reshape_to(slice_axis(v, v.ndim - 1, i, i + 1), v.shape[:-1])


householder_product = with_out(_householder_product)


def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False, *, out: Any = None
          ) -> Tensor:
    """The product of `other` with all m columns of the Q whose reflectors `input` holds."""
    if input.ndim < 2 or other.ndim < 2:
        raise RuntimeError("torch.ormqr: input and other must have at least 2 dimensions.")
    m, n = input.shape[-2:]
    if other.shape[-2 if left else -1] != m:
        raise RuntimeError(f"torch.ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2]")
    if tau.shape[-1] > m or tau.shape[-1] > n:
        raise RuntimeError("torch.ormqr: tau.shape[-1] must be less than or equal to input.shape[-1]")
    rest = FUNCTIONS["zeros"]((*input.shape[:-1], max(m - n, 0)), dtype=input.dtype)
    q = householder_product(FUNCTIONS["cat"]([input[..., :m], rest], -1), tau)
    q = q.mH if transpose else q
    y = q @ other if left else other @ q
    return y if out is None else out.resize_(y.shape).copy_(y)


# --- eigenvalues -----------------------------------------------------------------------------------------------------

def _is_upper(uplo: str) -> bool:
    if str(uplo).upper() not in ("L", "U") or len(uplo) != 1:
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {uplo}")
    return uplo.upper() == "U"


def _hermitian_values(name: str, A: Value, uplo: str) -> tuple[Value, Value]:
    values, vectors, info = factor.eigh(check_square(name, A), upper=_is_upper(uplo))
    return factor.succeeded(values, info, name=name, reason="eigh"), vectors


@public
def _eigh(A: Value, UPLO: str = "L") -> Any:
    return named("linalg_eigh", "eigenvalues eigenvectors")(*_hermitian_values("linalg.eigh", A, UPLO))


@public
def _eigvalsh(A: Value, UPLO: str = "L") -> Value:
    return _hermitian_values("linalg.eigh", A, UPLO)[0]


@public
def _eig(A: Value) -> Any:
    return named("linalg_eig", "eigenvalues eigenvectors")(*factor.eig(check_square("linalg.eig", A)))


@public
def _eigvals(A: Value) -> Value:
    return factor.eig(check_square("linalg.eigvals", A))[0]


eigh, eigvalsh, eig, eigvals = at_once(_eigh), at_once(_eigvalsh), at_once(_eig), at_once(_eigvals)


# --- singular values -------------------------------------------------------------------------------------------------

def _singular(name: str, A: Value, full: bool) -> tuple[Value, Value, Value]:
    u, s, vh, info = factor.svd(check_matrix(name, A), full=full)
    return u, factor.succeeded(s, info, name=name, reason="svd"), vh


def _refuse_driver(name: str, driver: Any) -> None:
    if driver is not None:
        raise RuntimeError(f"{name}: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER "
                           "backend.")


@public
def _svd(A: Value, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    _refuse_driver("linalg.svd", driver)
    return named("linalg_svd", "U S Vh")(*_singular("linalg.svd", A, bool(full_matrices)))


@public
def _svdvals(A: Value, *, driver: str | None = None) -> Value:
    _refuse_driver("linalg.svd", driver)
    return _singular("linalg.svd", A, False)[1]


svd, svdvals = at_once(_svd), at_once(_svdvals)


@public
def _torch_svd(input: Value, some: bool = True, compute_uv: bool = True) -> Any:
    """`torch.svd`: V, not its adjoint."""
    m, n = check_matrix("linalg.svd", input, "A").shape[-2:]
    if not compute_uv:
        zeros = [constant(input.builder, 0, input.dtype, (*input.shape[:-2], k, k)) for k in (m, n)]
        return named("svd", "U S V")(zeros[0], _singular("linalg.svd", input, False)[1], zeros[1])
    u, s, vh = _singular("linalg.svd", input, not some)
    return named("svd", "U S V")(u, s, matrices.adjoint(vh))


# --- what singular values tell ---------------------------------------------------------------------------------------

def tolerances(A: Value, atol: Any, rtol: Any) -> tuple[Value, Value]:
    """One pair of tolerances per matrix: rtol is eps * max(m, n) unless one of them is given."""
    real, lead = A.dtype.to_real(), A.shape[:-2]
    if rtol is None:
        eps = float(np.finfo(real.numpy).eps) * max(A.shape[-2:])
        rtol = constant(A.builder, eps, real, lead)
        if atol is not None:
            given = expand_to(arith.as_value(A.builder, atol, real), lead)
            rtol = arith.where(given > 0.0, 0.0, rtol)
            rtol = ew.cast_to(rtol, real)
    for x in (atol, rtol):
        if isinstance(x, Value) and x.dtype.is_complex:
            raise RuntimeError("torch.linalg.matrix_rank: atol tensor of complex type is not supported.")
    atol = constant(A.builder, 0.0, real) if atol is None else atol
    a, r = (arith.as_value(A.builder, x, real) for x in (atol, rtol))
    return expand_to(a, lead), expand_to(r, lead)


@public
def _pinv(A: Value, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Value:
    (check_square if hermitian else check_matrix)("linalg.pinv", A)
    return systems.pinv(A, *tolerances(A, atol, rtol), hermitian=bool(hermitian))


_pinv_out = at_once(_pinv)


def pinv(A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None, out: Any = None
         ) -> Tensor:
    return _pinv_out(A, atol=atol, rtol=rcond if rtol is None else rtol, hermitian=hermitian, out=out)


@public
def _matrix_rank(A: Value, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Value:
    (check_square if hermitian else check_matrix)("linalg.matrix_rank", A)
    if not min(A.shape[-2:]):
        return constant(A.builder, 0, dtypes.int64, A.shape[:-2])
    sizes = ew.abs_(_hermitian_values("linalg.eigh", A, "L")[0]) if hermitian else _singular("linalg.svd", A, False)[1]
    found = systems.kept(sizes, *tolerances(A, atol, rtol))
    return reduce.sum_(ew.cast_to(found, dtypes.int64), axes=(found.ndim - 1,))


_matrix_rank_out = at_once(_matrix_rank)


def matrix_rank(A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None,
                out: Any = None) -> Tensor:
    """The number of singular values above max(atol, rtol * the largest)."""
    if tol is not None:
        atol, rtol = tol, 0.0
    return _matrix_rank_out(A, atol=atol, rtol=rtol, hermitian=hermitian, out=out)


def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None) -> Any:
    """An approximate SVD of rank q by random projection (N. Halko et al., "Finding structure with randomness",
    2011)."""
    q, niter = 6 if q is None else q, 2 if niter is None else niter
    m, n = A.shape[-2:]
    B = A if M is None else A - M.expand(A.shape)
    if m < n:
        B = B.mH
    basis = qr(B @ FUNCTIONS["randn"](B.shape[-1], q, dtype=B.dtype))[0]
    for _ in range(niter):
        basis = qr(B @ qr(B.mH @ basis)[0])[0]
    u, s, vh = svd(basis.mH @ B, full_matrices=False)
    u, v = basis @ u, vh.mH
    return (v, s, u) if m < n else (u, s, v)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> Any:
    """Principal components by `svd_lowrank` of the (centred) rows."""
    m, n = A.shape[-2:]
    if q is None:
        q = min(6, m, n)
    elif not 0 <= q <= min(m, n):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    return svd_lowrank(A - A.mean(dim=-2, keepdim=True) if center else A, q, niter=niter)


def attach_torch_names() -> None:
    """The same functions under the names of the `torch` namespace and of tensors."""
    functions: dict[str, Callable[..., Any]] = {
            "cholesky": at_once(_torch_cholesky), "qr": with_out(_torch_qr), "svd": at_once(_torch_svd),
            "lu": _torch_lu, "lu_unpack": with_out(_lu_unpack), "geqrf": with_out(_geqrf),
            "orgqr": householder_product, "ormqr": ormqr,
            "pinverse": lambda input, rcond=1e-15: pinv(input, rcond)}
    for name, function in functions.items():
        FUNCTIONS[name] = function
        if name != "lu_unpack":
            setattr(Tensor, name, function)
    FUNCTIONS["svd_lowrank"], FUNCTIONS["pca_lowrank"] = svd_lowrank, pca_lowrank


attach_torch_names()

__all__ = ["cholesky", "cholesky_ex", "eig", "eigh", "eigvals", "eigvalsh", "householder_product", "lu",
           "lu_factor", "lu_factor_ex", "matrix_rank", "pinv", "qr", "svd", "svdvals"]
