"""Which operators autocast changes, and how: PyTorch's lists for the CPU.

Under `torch.autocast("cpu")` the operators of LOWER get their float32 arguments as bfloat16 (or float16), those of
FULL their half-precision arguments as float32; all others take what comes. float64 is left alone. Only the operator
that the user calls is looked up, not those that it is made of.

PyTorch's lists name operators of its dispatcher; some functions that are composites there (`einsum`, `tensordot`,
`inner`) reach a matrix product of the list, and stand here themselves. Their like in a user's eyes are left out
where the effect is an accident of the composition: `linalg.pinv`, `cov` and `corrcoef` give bfloat16 in PyTorch and
float32 here. Also different: padding by reflection or replication keeps half precision, and in-place and `out=` forms
are lowered like the plain ones.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jtorch import dtypes
from jtorch.dtypes import dtype
from jtorch.ir.graph import Value
from jtorch.ir.prims.create import leaf
from jtorch.ir.prims.elementwise import cast_to

LOWER = frozenset("""
    addbmm addmm attention baddbmm bmm chain_matmul conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
    conv_transpose3d einsum inner linear lstm matmul matmul_operator mm multi_dot multi_head_attention_forward prelu
    rnn_relu rnn_tanh rnn_relu_cell rnn_tanh_cell scaled_dot_product_attention tensordot vecdot
""".split())

FULL = frozenset("""
    adaptive_avg_pool3d adaptive_max_pool3d avg_pool3d bce_with_logits binary_cross_entropy cdist cholesky
    cholesky_inverse cholesky_solve cond cosine_embedding_loss cross_entropy ctc_loss eig eigh eigvals eigvalsh
    fft fft2 fftn fractional_max_pool2d fractional_max_pool3d geqrf grid_sample grid_sampler_2d grid_sampler_3d
    hfft hinge_embedding_loss householder_product huber_loss ifft ifft2 ifftn ihfft inv inverse irfft irfft2 irfftn
    kl_div l1_loss linear_cross_entropy lstsq lu_solve margin_ranking_loss matrix_rank max_pool3d max_unpool1d
    max_unpool2d max_unpool3d mse_loss multi_margin_loss multilabel_margin_loss nanquantile nll_loss orgqr ormqr
    pad_reflect pad_replicate poisson_nll_loss polar prod qr quantile rfft rfft2 rfftn smooth_l1_loss
    soft_margin_loss solve stft svd svdvals tensorinv tensorsolve trace triangular_solve triplet_margin_loss
    view_as_complex
""".split())

PROMOTE = frozenset(["index_copy"])
"""The widest of the arguments' dtypes for all of them. `cat` and `stack`, which are on PyTorch's list, do so by
themselves."""

HALVES = (dtypes.bfloat16, dtypes.float16)


def arguments(name: str, values: list[Any], lower: dtype) -> list[Any]:
    """The arguments of the operator `name` as autocast to `lower` hands them on."""
    name = name.lstrip("_")
    if name in LOWER:
        if name == "einsum" and not _sums(values):
            return values
        return _cast(values, (dtypes.float32, *HALVES), lower)
    if name in FULL:
        return _cast(values, HALVES, dtypes.float32)
    if name in PROMOTE and any(type(v) is Value and v.dtype is dtypes.float32 for v in values):
        return _cast(values, HALVES, dtypes.float32)
    return values


def _cast(values: Sequence[Any], sources: tuple[dtype, ...], target: dtype) -> list[Any]:
    return [tuple(_cast(v, sources, target)) if type(v) is tuple
            else cast_to(v, target) if type(v) is Value and v.dtype in sources and not _is_number(v)
            else v for v in values]


def _is_number(v: Value) -> bool:
    return v.op is leaf and v.attrs[0] < 0


def _sums(values: Sequence[Any]) -> bool:
    """Whether einsum multiplies and sums: otherwise PyTorch's reaches no matrix product."""
    equation, operands = values
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    letters = [c for c in inputs if c.isalpha()]
    kept = output if arrow else [c for c in letters if letters.count(c) == 1]
    return len(operands) > 1 and not set(letters) <= set(kept)
