"""Hand-written kernels for what is not a loop nest over a formula: matrix products, convolutions, windows, indexing,
random draws, scans, linear algebra, Fourier transforms.

    plan = lower(node, inputs, outputs)      # Lowering: kernel calls and temporaries, or None

The kernels are Python functions of this package (see `kernel_text.py`); they go through the same compiler as generated
ones.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from jtorch.codegen.library import (
    attention,
    border,
    conv,
    fourier,
    gamma,
    gemm,
    indexing,
    integers,
    lapack,
    pairs,
    pool,
    random,
    rejection,
    sample,
    scan,
    sorting,
)
from jtorch.codegen.library.call import Epilogue, KernelCall, Lowering, Operand, whole
from jtorch.ir.graph import Value

LOWERINGS: dict[str, Callable[[Lowering], None]] = {
    "matmul": gemm.matmul, "attend": attention.attend, "attend_grad": attention.attend_grad,
    "convolution": conv.convolution, "conv_input_grad": conv.input_grad, "conv_weight_grad": conv.weight_grad,
    "max_pool": pool.max_pool, "max_pool_grad": pool.max_pool_grad,
    "adaptive_max_pool": pool.adaptive_max_pool, "avg_pool": pool.avg_pool,
    "avg_pool_grad": pool.avg_pool_grad,
    "poisson_draws": rejection.counts, "binomial_draws": rejection.counts,
    "mt19937": random.mt19937, "shuffle": random.shuffle,
    "cumsum": scan.running, "cumprod": scan.running, "cummax": scan.extrema, "cummin": scan.extrema,
    "logcumsumexp": scan.logsumexp,
    "sort": sorting.sort, "nth": sorting.nth, "gcd": integers.gcd, "lcm": integers.lcm,
    "bincount": integers.bincount, "row_places": integers.row_places,
    "gammainc": gamma.incomplete, "gammaincc": gamma.incomplete,
    "take": indexing.take, "put": indexing.put, "put_add": indexing.put, "gather": indexing.gather,
    "scatter": indexing.scatter, "searchsorted": indexing.searchsorted,
    "distances": pairs.distances, "condensed": pairs.condensed, "expanded": pairs.expanded,
    "sample": sample.sample, "sample_input_grad": sample.sample_input_grad,
    "sample_weight_grad": sample.sample_weight_grad,
    "slice_update": indexing.slice_update, "as_strided_scatter": indexing.as_strided_scatter,
    "concatenate": indexing.concatenate, "pad": border.pad,
    "extend": border.extend, "flip": indexing.flip,
    "cholesky": lapack.cholesky, "lu_decomposition": lapack.lu, "lu_factor": lapack.lu, "lu_order": lapack.lu_order,
    "solve": lapack.solve, "solve_triangular": lapack.solve_triangular, "inverse": lapack.inverse,
    "determinant": lapack.determinant, "cofactors": lapack.cofactors, "qr": lapack.qr, "reflectors": lapack.reflectors,
    "eigh": lapack.eigh, "svd": lapack.svd, "eig": lapack.eig, "least_squares": lapack.least_squares,
    "succeeded": lapack.succeeded,
    "fft": fourier.fft, "rfft": fourier.rfft, "irfft": fourier.irfft,
    "copy": indexing.plain_copy, "permute": indexing.permute, "reshape": indexing.reshape,
}
"""Operation -> function that fills in a `Lowering`, or raises NotImplementedError with the reason why it cannot."""

FUSES = frozenset({"matmul", "convolution", "conv_input_grad", "conv_weight_grad", "sample"})
"""Operations whose lowering can take an epilogue."""


def covers(node: Value) -> bool:
    """Is there a library kernel for this operation?"""
    return node.op.name in LOWERINGS


def lower(node: Value, inputs: Sequence[Operand] | None = None, outputs: Sequence[Operand] | None = None,
          epilogue: Callable[[int, int, int], Epilogue | None] | None = None,
          in_place: int | None = None, wanted: frozenset[int] | None = None) -> Lowering | None:
    """Kernel calls for `node`. None where there is no kernel for these operands: use the operation's NumPy meaning.

    Operands are contiguous unless they are given; inputs may have any strides, outputs are contiguous. The calls stand
    in order, each behind a barrier unless it says otherwise.
    """
    if node.op.name not in LOWERINGS:
        return None
    if inputs is None:
        inputs = [whole(("in", i), v.dtype, v.shape) for i, v in enumerate(node.inputs)]
    if outputs is None:
        outputs = [whole(("out", i), v.dtype, v.shape) for i, v in enumerate(node.siblings)]
    low = Lowering(node, tuple(inputs), tuple(outputs), epilogue, in_place)
    if wanted is not None:
        low.wanted = wanted
    try:
        LOWERINGS[node.op.name](low)
    except NotImplementedError:
        return None
    return low


__all__ = ["FUSES", "LOWERINGS", "Epilogue", "KernelCall", "Lowering", "Operand", "covers", "lower", "whole"]
