"""`torch.masked`: reductions and normalizations of the elements that a mask lets count.

Masked elements are replaced by the operation's identity; where a result has no element that counts, it is the
identity too (NaN for the mean, median and spread). Tensors only: PyTorch's `MaskedTensor` is not here.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor
from jtorch.dtype_info import iinfo
from jtorch.linalg import vector_norm
from jtorch.ops import FUNCTIONS as F

__all__ = ["amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp", "logsumexp", "mean",
           "median", "norm", "normalize", "prod", "softmax", "softmin", "std", "sum", "var"]


def _canonical(input: Tensor, mask: Tensor) -> Tensor:
    """The mask, of truth values, expanded over the input."""
    if mask.ndim > input.ndim:
        raise IndexError("_input_mask expected broadcastable mask (got mask dimensionality higher than of the input)")
    return F["broadcast_to"](mask, input.shape).to(dtypes.bool_)


def _kept(input: Tensor, mask: Tensor | None, identity: Any) -> Tensor:
    return input if mask is None else F["where"](_canonical(input, mask), input, F["full"]((), identity,
                                                                                           dtype=input.dtype))


def _lowest(input: Tensor) -> Any:
    if input.dtype.is_complex or input.dtype is dtypes.bool_:
        raise NotImplementedError(f"identity of amax on {input.dtype} input")
    return -math.inf if input.dtype.is_floating_point else iinfo(input.dtype).min


def _highest(input: Tensor) -> Any:
    if input.dtype.is_complex or input.dtype is dtypes.bool_:
        raise NotImplementedError(f"identity of amin on {input.dtype} input")
    return math.inf if input.dtype.is_floating_point else iinfo(input.dtype).max


def _dims(dim: Any, ndim: int) -> tuple[int, ...]:
    """`dim` as a tuple of places in order: all of them for None and ()."""
    if dim is None or dim == ():
        return tuple(range(ndim))
    n = max(ndim, 1)
    found = []
    for d in (dim,) if isinstance(dim, int) else dim:
        if d % n in found and -n <= d < n:
            raise RuntimeError(f"dim={d % n} appears multiple times in the list of dims")
        if not -n <= d < n:
            raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {d})")
        found.append(d % n)
    return tuple(sorted(found))


def _dtype(input: Tensor, dtype: Any) -> Tensor:
    return input if dtype is None else input.to(dtype)


# --- reductions ------------------------------------------------------------------------------------------------------

def _integers_as_int64(input: Tensor, dtype: Any) -> Any:
    return dtypes.int64 if dtype is None and input.dtype.category <= dtypes.INT else dtype


def sum(input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
        ) -> Tensor:
    x = _kept(_dtype(input, _integers_as_int64(input, dtype)), mask, 0)
    return F["sum"](x, _dims(dim, x.ndim), bool(keepdim))


def prod(input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
         ) -> Tensor:
    x = _kept(_dtype(input, _integers_as_int64(input, dtype)), mask, 1)
    for d in reversed(_dims(dim, x.ndim)):
        x = F["prod"](x, d, bool(keepdim))
    return x


def amax(input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
         ) -> Tensor:
    x = _dtype(input, dtype)
    return F["amax"](_kept(x, mask, _lowest(x)), _dims(dim, x.ndim), bool(keepdim))


def amin(input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
         ) -> Tensor:
    x = _dtype(input, dtype)
    return F["amin"](_kept(x, mask, _highest(x)), _dims(dim, x.ndim), bool(keepdim))


def argmax(input: Tensor, dim: int | None = None, *, keepdim: bool | None = False, dtype: Any = None,
           mask: Tensor | None = None) -> Tensor:
    """As in PyTorch, the places have the dtype of the input."""
    return F["argmax"](_kept(input, mask, _lowest(input)), dim, bool(keepdim)).to(dtype or input.dtype)


def argmin(input: Tensor, dim: int | None = None, *, keepdim: bool | None = False, dtype: Any = None,
           mask: Tensor | None = None) -> Tensor:
    """As in PyTorch, the places have the dtype of the input."""
    return F["argmin"](_kept(input, mask, _highest(input)), dim, bool(keepdim)).to(dtype or input.dtype)


def _counts(input: Tensor, dims: tuple[int, ...], keepdim: bool, mask: Tensor | None, dtype: Any) -> Tensor:
    ones = F["ones"](input.shape, dtype=dtype) if mask is None else _canonical(input, mask).to(dtype)
    return F["sum"](ones, dims, keepdim)


def _countable(input: Tensor, dtype: Any) -> Tensor:
    x = _dtype(input, dtype)
    return x if x.dtype.category >= dtypes.FLOAT or dtype is not None else x.to(dtypes.float32)


def mean(input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
         ) -> Tensor:
    x = _countable(input, dtype)
    dims = _dims(dim, x.ndim)
    return sum(x, dims, keepdim=keepdim, mask=mask) / _counts(x, dims, bool(keepdim), mask, x.dtype)


def median(input: Tensor, dim: int = -1, *, keepdim: bool = False, dtype: Any = None, mask: Tensor | None = None
           ) -> Tensor:
    x = input if input.dtype.is_floating_point else input.to(dtypes.float32)
    found = F["nanmedian"](_kept(x, mask, math.nan), _dims(dim, x.ndim)[0], keepdim).values
    if x is input:
        return found
    if bool(F["isnan"](found).any()):
        raise ValueError("masked median expects no fully masked out rows if dtype is not floating point")
    return found.to(input.dtype if dtype is None else dtype)


def norm(input: Tensor, ord: float | None = 2.0, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None,
         mask: Tensor | None = None) -> Tensor:
    x = _kept(_dtype(input, dtype), mask, math.inf if ord == -math.inf else 0)
    return vector_norm(x, 2.0 if ord is None else ord, _dims(dim, x.ndim), bool(keepdim))


def _spread(input: Tensor, dim: Any, unbiased: bool | None, keepdim: bool | None, dtype: Any, mask: Tensor | None,
            correction: float | None, root: bool) -> Tensor:
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    x = _countable(input, dtype)
    dims = _dims(dim, x.ndim)
    counts = _counts(x, dims, True, mask, x.dtype)
    gap = x - sum(x, dims, keepdim=True, mask=mask) / counts
    total = sum(gap * gap.conj() if x.dtype.is_complex else gap * gap, dims, keepdim=keepdim, mask=mask)
    counts = counts if keepdim else counts.reshape(total.shape)
    found = total / (counts - correction).clamp(min=0)
    return found.sqrt() if root else found


def var(input: Tensor, dim: Any = None, unbiased: bool | None = None, *, correction: float | None = None,
        keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    return _spread(input, dim, unbiased, keepdim, dtype, mask, correction, False)


def std(input: Tensor, dim: Any = None, unbiased: bool | None = None, *, correction: float | None = None,
        keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    return _spread(input, dim, unbiased, keepdim, dtype, mask, correction, True)


def logsumexp(input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Tensor | None = None
              ) -> Tensor:
    x = _dtype(input, dtype)
    lowest = -math.inf if x.dtype.category >= dtypes.FLOAT else iinfo(x.dtype).min
    return F["logsumexp"](_kept(x, mask, lowest), _dims(dim, x.ndim), keepdim)


def logaddexp(input: Tensor, other: Tensor, *, dtype: Any = None, input_mask: Tensor | None = None,
              other_mask: Tensor | None = None) -> Tensor:
    a, b = _dtype(input, dtype), _dtype(other, dtype)
    return F["logaddexp"](_kept(a, input_mask, -math.inf), _kept(b, other_mask, -math.inf))


# --- as many elements as there were ----------------------------------------------------------------------------------

def cumsum(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    return F["cumsum"](_kept(_dtype(input, _integers_as_int64(input, dtype)), mask, 0), _dims(dim, input.ndim)[0])


def cumprod(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    return F["cumprod"](_kept(_dtype(input, _integers_as_int64(input, dtype)), mask, 1), _dims(dim, input.ndim)[0])


def _normalization(name: str, excluded: float) -> Callable[..., Tensor]:
    def normalized(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
        x = _dtype(input, dtype)
        return F[name](_kept(x, mask, excluded), _dims(dim, x.ndim)[0])
    return normalized


softmax, log_softmax = _normalization("softmax", -math.inf), _normalization("log_softmax", -math.inf)


def softmin(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    x = _dtype(input, dtype)
    return F["softmax"](-_kept(x, mask, math.inf), _dims(dim, x.ndim)[0])


def normalize(input: Tensor, ord: float, dim: int, *, eps: float = 1e-12, dtype: Any = None,
              mask: Tensor | None = None) -> Tensor:
    x = _dtype(input, dtype)
    size = norm(x, ord, _dims(dim, x.ndim)[0], keepdim=True, mask=mask)
    return _kept(x, mask, 0) / F["maximum"](size, F["full"]((), eps, dtype=size.dtype))
