"""Contractions: batched matrix product. Transposed operands are `permute`s of the operands; the backend reads them as
BLAS transposition flags."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch import dtypes
from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.elementwise import cast_to
from jtorch.ir.prims.movement import expand_to, permute, permute_to, reshape_to


def _matmul_infer(a: Type, b: Type, wide: bool = False) -> Type:
    if a.dtype is not b.dtype or a.ndim != b.ndim or a.ndim < 2 or a.shape[:-2] != b.shape[:-2]:
        raise AssertionError(f"matmul: {a}, {b}")
    if a.shape[-1] != b.shape[-2]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a.shape[-2]}x{a.shape[-1]} and "
                           f"{b.shape[-2]}x{b.shape[-1]})")
    halves = wide and a.dtype in (dtypes.float16, dtypes.bfloat16)
    return Type(dtypes.float32 if halves else a.dtype, (*a.shape[:-1], b.shape[-1]))


def transpose_last(v: Value) -> Value:
    n = v.ndim
    return permute_to(v, (*range(n - 2), n - 1, n - 2))


def _matmul_batch(op: Op, builder: Any, n: int, m: tuple, a: Value, b: Value, wide: bool = False) -> Value:
    if not m[1] and b.ndim == 2 and a.ndim == 3:  # one matrix for all: fold the mapped axis into the rows
        rows = reshape_to(a, (n * a.shape[1], a.shape[2]))
        return reshape_to(op(rows, b, wide=wide), (n, a.shape[1], b.shape[1]))
    a = a if m[0] else expand_to(a, (n, *a.shape))
    b = b if m[1] else expand_to(b, (n, *b.shape))
    return op(a, b, wide=wide)


def _matmul_jvp(t: tuple, y: Value, a: Value, b: Value, wide: bool = False) -> Value:
    left = None if t[0] is None else matmul(t[0], b, wide=wide)
    right = None if t[1] is None else matmul(a, t[1], wide=wide)
    return left + right if left is not None and right is not None else left if right is None else right


def _matmul_vjp(g: Value, y: Value, a: Value, b: Value, wide: bool = False) -> tuple:
    """g b^T and a^T g; for an operand that is itself a transpose, the transpose of that, so that the two meet."""
    grad_a = grad_b = None
    g = cast_to(g, a.dtype)
    if a.requires_grad:
        grad_a = transpose_last(matmul(b, transpose_last(g))) if is_transpose(a) else matmul(g, transpose_last(b))
    if b.requires_grad:
        grad_b = transpose_last(matmul(transpose_last(g), a)) if is_transpose(b) else matmul(transpose_last(a), g)
    return grad_a, grad_b


def is_transpose(v: Value) -> bool:
    """Is the value another one with its last two axes exchanged?"""
    n = v.ndim
    return v.op is permute and v.attrs[0] == (*range(n - 2), n - 1, n - 2)


matmul = Op("matmul", "contract", _matmul_infer, lambda a, b, wide: np.matmul(a, b), _matmul_vjp, jvp=_matmul_jvp,
            batch=_matmul_batch, attr_names=("wide",), attr_defaults={"wide": False})
"""[..., M, K] @ [..., K, N] with equal leading axes. `wide`, of half types: the sums as they are, in float32."""
