"""Distances between the rows of two matrices."""
from __future__ import annotations

from jtorch import dtypes
from jtorch.ir import arith
from jtorch.ir.composites import distances
from jtorch.ir.graph import Value
from jtorch.ops.attach import define

_MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")
_FEW = 25  # rows up to which PyTorch takes differences rather than a matrix product


@define(method=False, out=False)
def cdist(x1: Value, x2: Value, p: float = 2.0, compute_mode: str | None = None) -> Value:
    """[..., P, M], [..., R, M] -> the p-norm distance of every row to every row, [..., P, R]."""
    for i, x in enumerate((x1, x2), 1):
        if x.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, X{i} got: {x.ndim}D")
        if not x.dtype.is_floating_point:
            raise RuntimeError(f"cdist only supports floating-point dtypes, X{i} got: {x.dtype}")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    mode = _MODES[0] if compute_mode is None else compute_mode
    if mode not in _MODES:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    d = dtypes.promote_types(x1.dtype, x2.dtype)
    a, b = distances.all_pairs(*[arith.as_value(x.builder, x, d) for x in (x1, x2)])
    if not a.shape[-1]:
        p = 1.0  # no columns: all distances are 0, also those that are maxima
    many = a.shape[-2] > _FEW or b.shape[-2] > _FEW
    return distances.cdist(a, b, p=float(p), product=p == 2 and (mode == _MODES[1] or (mode == _MODES[0] and many)))
