"""Inverses, determinants and systems of linear equations."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor, attach
from jtorch.ir import arith
from jtorch.ir.composites import systems
from jtorch.ir.graph import Value
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims import factor, matrices, reduce
from jtorch.ir.prims import solve as systems_prims
from jtorch.ir.prims.complex import conjugated
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.movement import concatenate, expand_to, permute_to, reshape_to, slice_axis
from jtorch.ops.arguments import named
from jtorch.ops.attach import FUNCTIONS, with_out
from jtorch.ops.decompositions import at_once, check_dtype, check_matrix, check_square, public
from jtorch.ops.linalg import matrix_norm
from jtorch.views import type_name


def _identity(like: Value) -> Value:
    return ew.where(matrices.eye_mask(like), ew.ones_like(like), ew.zeros_like(like))


# --- inverses --------------------------------------------------------------------------------------------------------

def _inverse(name: str, A: Value, check: bool) -> tuple[Value, Value]:
    found, info = systems_prims.inverse(check_square(name, A))
    return (factor.succeeded(found, info, name=name, reason="inv") if check else found), info


@public
def _inv(A: Value) -> Value:
    return _inverse("linalg.inv", A, True)[0]


@public
def _inv_ex(A: Value, *, check_errors: bool = False) -> Any:
    return named("linalg_inv_ex", "inverse info")(*_inverse("linalg.inv", A, check_errors))


@public
def _tensorinv(A: Value, ind: int = 2) -> Value:
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    first, rest = A.shape[:ind], A.shape[ind:]
    n = math.prod(first)
    if n != math.prod(rest):
        raise RuntimeError(f"Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]),"
                           f" but got {math.prod(rest)} != {n}")
    return reshape_to(_inverse("linalg.inv", reshape_to(A, (n, n)), True)[0], (*rest, *first))


inv, inv_ex, tensorinv = at_once(_inv), at_once(_inv_ex), at_once(_tensorinv)


# --- determinants ----------------------------------------------------------------------------------------------------

@public
def _det(A: Value) -> Value:
    return systems_prims.determinant(check_square("linalg.det", A))


def _sign_and_log(name: str, A: Value) -> tuple[Value, Value]:
    """Both from the determinant's factors: the logarithm's derivative is A^-H."""
    factors, pivots, _ = systems_prims.lu_decomposition(check_square(name, A))
    return systems.slogdet(A, factors, pivots)


@public
def _slogdet(A: Value) -> Any:
    return named("linalg_slogdet", "sign logabsdet")(*_sign_and_log("linalg.slogdet", A))


@public
def _torch_slogdet(input: Value) -> Any:
    return named("slogdet", "sign logabsdet")(*_sign_and_log("linalg.slogdet", input))


@public
def _logdet(input: Value) -> Value:
    """NaN where the determinant is negative."""
    sign, size = _sign_and_log("logdet", input)
    if sign.dtype.is_complex:
        return ew.log(sign) + ew.cast_to(size, sign.dtype)
    return arith.where(arith.eq(sign, -1.0), math.nan, size)


det, slogdet = with_out(_det), with_out(_slogdet)


# --- systems ---------------------------------------------------------------------------------------------------------

def _same_dtypes(name: str, A: Value, B: Value) -> None:
    if A.dtype is not B.dtype:
        raise RuntimeError(f"{name}: Expected A and B to have the same dtype, but found A of type "
                           f"{type_name(A.dtype)} and B of type {type_name(B.dtype)} instead")


def is_vector(A: Value, B: Value) -> bool:
    """Is B a batch of vectors rather than of matrices? (NumPy's rule, as it was.)"""
    return B.ndim == 1 or (A.ndim - 1 == B.ndim and B.shape == A.shape[:-1])


def _aligned(name: str, A: Value, B: Value, left: bool) -> tuple[Value, Value]:
    """Batches broadcast against each other."""
    if A.shape[-1] != B.shape[-2 if left else -1]:
        raise RuntimeError(f"{name}: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
                           f"({A.shape[-2]}x{A.shape[-1]} and {B.shape[-2]}x{B.shape[-1]})")
    lead = arith.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    return expand_to(A, (*lead, *A.shape[-2:])), expand_to(B, (*lead, *B.shape[-2:]))


def _solved(A: Value, B: Value, left: bool, name: str, check: bool) -> tuple[Value, Value, Value, Value]:
    """(X, LU, pivots, info)"""
    check_square("linalg.solve", A)
    check_dtype("linalg.solve", B)
    _same_dtypes("linalg.solve", A, B)
    vector = left and is_vector(A, B)
    right = reshape_to(B, (*B.shape, 1)) if vector else B
    if not left and is_vector(A, B) and B.ndim == 1:
        raise RuntimeError("linalg.solve: Vector broadcasting of the left hand side is not supported for left=False. In"
                           " this case linalg.solve is equivalent to B / A.squeeze(-1)")
    if right.ndim < 2:
        raise RuntimeError("linalg.solve: The input tensor B must have at least 2 dimensions.")
    factors, pivots, info = systems_prims.lu_decomposition(A)
    if check:
        factors = factor.succeeded(factors, info, name=name, reason="solve")
    wide_a, right = _aligned("linalg.solve", A, right, left)
    lead = wide_a.shape[:-2]
    wide = [expand_to(v, (*lead, *v.shape[A.ndim - 2:])) for v in (factors, pivots)]
    if left:
        x = systems_prims.solve(wide_a, *wide, right)
    else:
        x = matrices.transpose_last(systems_prims.solve(wide_a, *wide, matrices.transpose_last(right), transpose=True))
    return (reshape_to(x, x.shape[:-1]) if vector else x), factors, pivots, info


@public
def _solve(A: Value, B: Value, *, left: bool = True) -> Value:
    return _solved(A, B, left, "torch.linalg.solve", True)[0]


@public
def _solve_ex(A: Value, B: Value, *, left: bool = True, check_errors: bool = False) -> Any:
    x, _, _, info = _solved(A, B, left, "torch.linalg.solve_ex", check_errors)
    return named("linalg_solve_ex", "result info")(x, info)


solve, solve_ex = at_once(_solve), at_once(_solve_ex)


@public
def _tensorsolve(A: Value, B: Value, dims: Sequence[int] | None = None) -> Value:
    if dims is not None:
        moved = [d % A.ndim for d in ((dims,) if isinstance(dims, int) else dims)]
        A = permute_to(A, (*[d for d in range(A.ndim) if d not in moved], *moved))
    rest = A.shape[B.ndim:]
    if math.prod(A.shape[:B.ndim]) != math.prod(rest):
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
                           f"prod(self.shape[:other.ndim]), but got {math.prod(rest)} != "
                           f"{math.prod(A.shape[:B.ndim])}")
    n = math.prod(rest)
    x = _solved(reshape_to(A, (n, n)), reshape_to(B, (n,)), True, "torch.linalg.solve", True)[0]
    return reshape_to(x, rest)


tensorsolve = at_once(_tensorsolve)


def _triangular(A: Value, B: Value, upper: bool, left: bool, unit: bool, transpose: bool = False) -> Value:
    if left:
        return systems_prims.solve_triangular(A, B, upper=upper, transpose=transpose, unit=unit)
    return matrices.transpose_last(systems_prims.solve_triangular(
        A, matrices.transpose_last(B), upper=upper, transpose=not transpose, unit=unit))


@public
def _solve_triangular(A: Value, B: Value, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Value:
    name = "linalg.solve_triangular"
    check_square(name, A)
    check_matrix(name, B, "B")
    _same_dtypes(name, A, B)
    return _triangular(*_aligned(name, A, B, left), bool(upper), left, bool(unitriangular))


solve_triangular = with_out(_solve_triangular)


@public
def _triangular_solve(input: Value, A: Value, upper: bool = True, transpose: bool = False,
                      unitriangular: bool = False) -> Any:
    name = "triangular_solve"
    check_square(name, A)
    check_matrix(name, input, "B")
    _same_dtypes(name, A, input)
    a, b = _aligned(name, A, input, True)
    x = _triangular(a, b, upper, True, unitriangular, transpose)
    return named("triangular_solve", "solution cloned_coefficient")(x, A)


@public
def _lu_solve(LU: Value, pivots: Value, B: Value, *, left: bool = True, adjoint: bool = False) -> Value:
    """Through the triangles, so that LU itself is differentiated with respect to."""
    name = "torch.linalg.lu_solve"
    if pivots.dtype is not dtypes.int32:
        raise RuntimeError("linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32")
    check_square(name, LU, "LU")
    _same_dtypes(name, LU, B)
    if pivots.shape != LU.shape[:-1]:
        raise RuntimeError("linalg.lu_solve: Number of pivots per batch should be same as the dimension of the matrix")
    n = LU.shape[-1]
    wide, right = _aligned("linalg.lu_solve", LU, B, left)
    wide_pivots = expand_to(pivots, (*wide.shape[:-2], n))
    if not left:
        right = matrices.adjoint(right)
        adjoint = not adjoint
    if adjoint:
        x = systems_prims.solve_triangular(conjugated(wide), right, upper=True, transpose=True)
        x = systems_prims.solve_triangular(conjugated(wide), x, transpose=True, unit=True)
        x = factor.permute_rows(x, factor.lu_order(wide_pivots, size=n, inverse=True))
    else:
        x = factor.permute_rows(right, factor.lu_order(wide_pivots, size=n, inverse=False))
        x = systems_prims.solve_triangular(wide, x, unit=True)
        x = systems_prims.solve_triangular(wide, x, upper=True)
    return x if left else matrices.adjoint(x)


lu_solve = with_out(_lu_solve)


def _torch_lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor, *, out: Any = None) -> Tensor:
    return lu_solve(LU_data, LU_pivots, b, out=out)


@public
def _cholesky_solve(input: Value, L: Value, upper: bool = False) -> Value:
    name = "cholesky_solve"
    for v, argument in ((input, "b"), (L, "u")):
        if v.ndim < 2:
            raise RuntimeError(f"{argument} should have at least 2 dimensions, but has {v.ndim} dimensions instead")
    check_square(name, L)
    _same_dtypes(name, L, input)
    low, b = _aligned(name, matrices.adjoint(L) if upper else L, input, True)
    x = systems_prims.solve_triangular(low, b)
    return systems_prims.solve_triangular(conjugated(low), x, transpose=True)


@public
def _cholesky_inverse(L: Value, upper: bool = False) -> Value:
    check_square("cholesky_inverse", L)
    low = matrices.adjoint(L) if upper else L
    half = systems_prims.solve_triangular(low, _identity(low))
    return matrices.matmul(matrices.adjoint(half), half)


@public
def _ldl_factor(A: Value, *, hermitian: bool = False) -> Any:
    factors, pivots, info = systems_prims.ldl_factor(check_square("torch.linalg.ldl_factor_ex", A), hermitian=hermitian)
    factors = factor.succeeded(factors, info, name="torch.linalg.ldl_factor_ex", reason="ldl_factor")
    return named("linalg_ldl_factor", "LD pivots")(factors, pivots)


@public
def _ldl_factor_ex(A: Value, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    factors, pivots, info = systems_prims.ldl_factor(check_square("torch.linalg.ldl_factor_ex", A), hermitian=hermitian)
    if check_errors:
        factors = factor.succeeded(factors, info, name="torch.linalg.ldl_factor_ex", reason="ldl_factor")
    return named("linalg_ldl_factor_ex", "LD pivots info")(factors, pivots, info)


@public
def _ldl_solve(LD: Value, pivots: Value, B: Value, *, hermitian: bool = False) -> Value:
    name = "torch.linalg.ldl_solve"
    check_square(name, LD, "LD")
    if B.ndim < 2:
        raise RuntimeError("torch.linalg.ldl_solve: Expected B to have at least 2 dimensions, but it has "
                           f"{B.ndim} dimensions instead")
    if pivots.dtype.category != dtypes.INT:
        raise RuntimeError(f"{name}: Expected pivots to be integers. Got {type_name(pivots.dtype)}")
    _same_dtypes(name, LD, B)
    wide, right = _aligned("linalg.ldl_solve", LD, B, True)
    return systems_prims.ldl_solve(wide, expand_to(pivots, wide.shape[:-1]), right, hermitian=hermitian)


ldl_factor, ldl_factor_ex, ldl_solve = at_once(_ldl_factor), at_once(_ldl_factor_ex), with_out(_ldl_solve)

_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


@public
def _lstsq(A: Value, B: Value, rcond: float | None = None, *, driver: str | None = None) -> Any:
    name = "torch.linalg.lstsq"
    if A.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if B.ndim < 1:
        raise RuntimeError(f"{name}: other must have at least 1 dimension.")
    check_dtype(name, A)
    if A.dtype is not B.dtype:
        raise RuntimeError(f"{name}: Expected input and other to have the same dtype, but got input's dtype "
                           f"{type_name(A.dtype)} and other's dtype {type_name(B.dtype)}")
    driver = "gelsy" if driver is None else driver
    if driver not in _DRIVERS:
        raise RuntimeError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")
    m, n = A.shape[-2:]
    vector = A.ndim - B.ndim == 1 and A.shape[:-1] == B.shape
    right = reshape_to(B, (*B.shape, 1)) if vector else B
    if right.ndim < 2 or right.shape[-2] != m:
        raise RuntimeError(f"{name}: input.size(-2) should match other.size({'-1' if B.ndim == 1 else '-2'})")
    lead = arith.broadcast_shapes(A.shape[:-2], right.shape[:-2])
    a, right = expand_to(A, (*lead, m, n)), expand_to(right, (*lead, *right.shape[-2:]))
    x = systems.lstsq(a, right, rcond=rcond, driver=driver)
    _, rank, sizes = systems_prims.least_squares(a, right, rcond=rcond, driver=driver)
    none = constant(A.builder, 0, a.dtype.to_real(), (0,))
    residuals = ew.abs_(slice_axis(reshape_to(x, (x.type.numel,)), 0, 0, 0))  # none, but differentiable ones
    if m > n and driver != "gelsy":
        gap = ew.abs_(right - matrices.matmul(a, x))
        residuals = reduce.sum_(gap * gap, axes=(gap.ndim - 2,))
    if driver == "gels":
        rank = constant(A.builder, 0, dtypes.int64, (0,))
    return named("linalg_lstsq", "solution residuals rank singular_values")(
        reshape_to(x, x.shape[:-1]) if vector else x, residuals, rank, sizes if driver in ("gelsd", "gelss") else none)


_lstsq_at_once = at_once(_lstsq)


def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """(solution, residuals, rank, singular_values). Residuals exist where every matrix has full rank."""
    found = _lstsq_at_once(A, B, rcond, driver=driver)
    if driver != "gels" and found.residuals.numel() and bool((found.rank < A.shape[-1]).any()):
        found = type(found)(found[0], found[1][..., :0].reshape(0), *found[2:])
    return found


# --- functions of matrices -------------------------------------------------------------------------------------------

@public
def _matrix_exp(A: Value) -> Value:
    name = "linalg.matrix_exp"
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        check_square(name, A)
    return systems_prims.matrix_exp(check_dtype(name, A))


def matrix_exp(A: Tensor) -> Tensor:
    return _matrix_exp(A)


def cond(A: Tensor, p: Any = None, *, out: Any = None) -> Tensor:
    """The condition number |A| |A^-1| in the norm `p`; infinite for singular matrices."""
    if A.ndim < 2:
        raise RuntimeError("linalg.cond: The input tensor A must have at least 2 dimensions.")
    if p is None or p in (2, -2):
        found = _singular_ratio(A, p == -2)
    else:
        if isinstance(p, str) and p not in ("fro", "nuc") or not isinstance(p, str) and abs(p) not in (1, math.inf):
            raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
        if A.shape[-1] != A.shape[-2]:
            raise RuntimeError("linalg.cond: A must be batches of square matrices, but they are "
                               f"{A.shape[-2]} by {A.shape[-1]} matrices")
        inverse, info = inv_ex(A)
        found = matrix_norm(A, p) * matrix_norm(inverse.masked_fill((info != 0)[..., None, None], math.inf), p)
        if not A.numel():
            found = FUNCTIONS["zeros"](A.shape[:-2], dtype=found.dtype)
    return found if out is None else out.resize_(found.shape).copy_(found)


@public
def _singular_ratio(A: Value, inverted: bool) -> Value:
    real = A.dtype.to_real()
    if not min(A.shape[-2:]):
        return constant(A.builder, 0, real, A.shape[:-2])
    sizes = factor.svd(check_matrix("linalg.svd", A))[1]
    first, last = (reshape_to(slice_axis(sizes, sizes.ndim - 1, i, i + 1), sizes.shape[:-1])
                   for i in (0, sizes.shape[-1] - 1))
    return last / first if inverted else first / last


@public
def _vander(x: Value, *, N: int | None = None) -> Value:
    x = x if x.ndim else reshape_to(x, (1,))
    n = x.shape[-1] if N is None else N
    if n <= 1 and N is not None:
        raise RuntimeError("N must be greater than 1.")
    return concatenate(*_powers(x, n), axis=x.ndim)


def _powers(x: Value, count: int) -> list[Value]:
    """x ** 0, x ** 1, …, each with an axis of one element behind its own."""
    if x.dtype.category <= dtypes.INT:
        x = ew.cast_to(x, dtypes.int64)
    powers = [ew.ones_like(x)]
    for _ in range(count - 1):
        powers.append(powers[-1] * x)
    return [reshape_to(p, (*p.shape, 1)) for p in powers[:count]]


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    return _vander(x, N=N)


@public
def _torch_vander(x: Value, N: int | None = None, increasing: bool = False) -> Value:
    """[len(x), N]: the powers of x, as `numpy.vander`."""
    if x.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    n = x.shape[0] if N is None else N
    if n < 0:
        raise RuntimeError("N must be non-negative.")
    columns = _powers(x, max(n, 1))
    if not increasing:
        columns.reverse()
    y = concatenate(*columns, axis=1)
    return y if n else slice_axis(y, 1, 0, 0)


def attach_torch_names() -> None:
    """The same functions under the names of the `torch` namespace and of tensors."""
    functions: dict[str, Callable[..., Any]] = {
            "inverse": inv, "det": det, "logdet": with_out(_logdet), "slogdet": with_out(_torch_slogdet),
            "matrix_exp": matrix_exp, "cholesky_solve": with_out(_cholesky_solve), "lu_solve": _torch_lu_solve,
            "cholesky_inverse": with_out(_cholesky_inverse), "triangular_solve": with_out(_triangular_solve)}
    for name, function in functions.items():
        FUNCTIONS[name] = function
        attach(**{name: function})
    FUNCTIONS["vander"] = _torch_vander


attach_torch_names()
