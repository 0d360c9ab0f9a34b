"""Ready parametrizations: weight normalisation, spectral normalisation, orthogonal matrices."""
from __future__ import annotations

from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.nn import functional as F
from jtorch.nn.modules.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from jtorch.nn.modules.module import Module
from jtorch.nn.utils import parametrize

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


def norm_except_dim(v: Tensor, dim: int) -> Tensor:
    """The 2-norms over all axes but `dim`, which keeps its place among axes of size 1; with -1, of the whole."""
    if dim == -1:
        return v.norm(2)
    others = [d for d in range(v.ndim) if d != dim % v.ndim]
    return v.norm(2, dim=others, keepdim=True) if others else v.abs()


def tensor_of(module: Module, name: str) -> Tensor:
    t = getattr(module, name, None)
    if not isinstance(t, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    return t


def output_axis(module: Module, dim: int | None) -> int:
    """The axis of a layer's weight that its outputs are numbered along."""
    if dim is not None:
        return dim
    return 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Weight normalisation (Salimans and Kingma, 2016): the weight as a direction, `original1`, times a magnitude per
    entry of `dim` (of the whole with None), `original0`. Returns the module."""
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Checkpoints of the older `nn.utils.weight_norm`."""
        old = [f"{prefix}{name}_g", f"{prefix}{name}_v"]
        if all(key in state_dict for key in old):
            for i, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(key)
    module._register_load_state_dict_pre_hook(rename)
    return module


class _SpectralNorm(Module):
    def __init__(self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        ndim = weight.ndim
        if not -ndim <= dim < ndim:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{ndim}, {ndim - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError("Expected n_power_iterations to be positive, but got "
                             f"n_power_iterations={n_power_iterations}")
        self.dim, self.eps = dim % ndim, eps
        if ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = self._matrix(weight)
            for name, n in zip(("_u", "_v"), matrix.shape):
                self.register_buffer(name, F.normalize(matrix.new_empty(n).normal_(0, 1), dim=0, eps=eps))
            self._iterate(matrix, 15)

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.dim, 0).flatten(1)

    @jtorch.no_grad()
    def _iterate(self, matrix: Tensor, times: int) -> None:
        """Bring `_u` and `_v` nearer to the first singular vectors, in place."""
        for _ in range(times):
            self._u.copy_(F.normalize(matrix.mv(self._v), dim=0, eps=self.eps))
            self._v.copy_(F.normalize(matrix.t().mv(self._u), dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        return weight / self._u.clone().dot(matrix.mv(self._v.clone()))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Module:
    """Spectral normalisation (Miyato et al., 2018): the weight, as a matrix with `dim` for its rows, divided by its
    largest singular value, which every training forward estimates by power iteration. Returns the module."""
    weight = tensor_of(module, name)
    parametrization = _SpectralNorm(weight, n_power_iterations, output_axis(module, dim), eps)
    return parametrize.register_parametrization(module, name, parametrization)


def _positive_qr(a: Tensor) -> Tensor:
    """The orthogonal factor whose triangular one has a diagonal without negative entries."""
    q, r = jtorch.linalg.qr(a)
    return q * r.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def _is_orthogonal(q: Tensor) -> bool:
    unit = jtorch.eye(q.shape[-1], dtype=q.dtype)
    return bool(((q.mH @ q - unit).abs() <= 10.0 * q.shape[-2] * jtorch.finfo(q.dtype).eps + 1e-5 * unit.abs()).all())


class _Orthogonal(Module):
    base: Tensor | None

    def __init__(self, weight: Tensor, orthogonal_map: str, *, use_trivialization: bool = True) -> None:
        super().__init__()
        if weight.is_complex() and orthogonal_map == "householder":
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        transposed = X.shape[-2] < X.shape[-1]
        X = X.mT if transposed else X
        n, k = X.shape[-2:]
        if self.orthogonal_map == "householder":
            A = X.tril(diagonal=-1)
            Q = jtorch.linalg.householder_product(A, 2.0 / (1.0 + (A * A).sum(dim=-2)))
            Q = Q * X.detach().diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)  # signs
        else:
            X = X.tril()
            if n != k:
                X = jtorch.cat([X, X.new_zeros(*X.shape[:-2], n, n - k)], dim=-1)
            A = X - X.mH
            if self.orthogonal_map == "matrix_exp":
                Q = jtorch.matrix_exp(A)
            else:  # Cayley's transform
                unit = jtorch.eye(n, dtype=A.dtype)
                Q = jtorch.linalg.solve(unit - A / 2, unit + A / 2)
            Q = Q[..., :k]
        base = getattr(self, "base", None)
        Q = Q if base is None else base @ Q
        return Q.mT if transposed else Q

    @jtorch.no_grad()
    def right_inverse(self, Q: Tensor) -> Tensor:
        if Q.shape != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape "
                             f"{Q.shape}.")
        given = Q
        transposed = Q.shape[-2] < Q.shape[-1]
        Q = Q.mT if transposed else Q
        n, k = Q.shape[-2:]
        if "base" in self._buffers:
            if n != k:
                Q = _positive_qr(jtorch.cat([Q, jtorch.randn(*Q.shape[:-2], n, n - k, dtype=Q.dtype)], dim=-1))
            else:
                Q = Q.clone() if _is_orthogonal(Q) else _positive_qr(Q)
            self.base = Q
            start = jtorch.zeros_like(given)  # of which the householder map makes the unit matrix
            start.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
            return start
        if self.orthogonal_map != "householder":
            raise NotImplementedError("It is not possible to assign to the matrix exponential or the Cayley "
                                      "parametrizations when use_trivialization=False.")
        A, tau = jtorch.geqrf(Q)
        signs = A.diagonal(dim1=-2, dim2=-1).sign()
        A.diagonal(dim1=-2, dim2=-1).copy_(jtorch.where(tau == 0.0, -signs, signs))
        return A.mT if transposed else A


def orthogonal(module: Module, name: str = "weight", orthogonal_map: str | None = None, *,
               use_trivialization: bool = True) -> Module:
    """Let a weight (as matrix: rows or columns, whichever are fewer) be orthogonal: as the matrix exponential or
    Cayley's transform of a skew matrix, or as a product of Householder reflections (Lezcano-Casado, 2019). With
    `use_trivialization`, relative to the matrix that was assigned last. Returns the module."""
    weight = tensor_of(module, name)
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1]
        orthogonal_map = "matrix_exp" if square or weight.is_complex() else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise ValueError('orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: '
                         f"{orthogonal_map}")
    parametrization = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    return parametrize.register_parametrization(module, name, parametrization, unsafe=True)
