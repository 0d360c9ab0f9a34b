"""PyTorch's name of the operation behind a tensor (`MulBackward0`), as `grad_fn` and printed tensors show it.

PyTorch names the derivative of the operation that was called last. Here a call may have become several operations or
another one, so the name follows from the function that was called, where the recorder knows it, or else from the
operation and its operands.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from jtorch.capture.cell import Epoch
from jtorch.ir.graph import Value
from jtorch.ir.prims.create import leaf
from jtorch.ir.prims.function import custom_function
from jtorch.ir.prims.movement import permute, slice_

Name = str | Callable[[Value], str]


def is_number(v: Value) -> bool:
    """Is it a Python number, perhaps broadcast?"""
    while v.op.linear and len(v.inputs) == 1:
        v = v.inputs[0]
    return v.op.kind == "create" and not v.inputs or (v.op is leaf and v.attrs[0] < 0)


def _reduced(v: Value) -> str:
    return {"mean": "Mean", "sum": "Sum1" if v.ndim else "Sum"}.get(str(v.kwargs.get("reduction", "mean")), "Mul")


def _over_axes(word: str) -> Callable[[Value], str]:
    return lambda v: f"{word}{int(len(v.attr('axes')) < v.inputs[0].ndim)}"


def _product(v: Value) -> str:
    return {0: "Dot", 1: "Mv", 2: "Mm"}.get(v.ndim, "UnsafeView")


def _linear(v: Value) -> str:
    biased = len(v.inputs) == 3
    return ("Addmm" if biased else "Mm") if v.ndim == 2 else "View" if biased else "UnsafeView"


def _power(v: Value) -> str:
    if v.op.name != "pow" or is_number(v.inputs[1]):
        return "Pow"
    return "Pow2" if is_number(v.inputs[0]) else "Pow1"


def _cross_entropy(v: Value) -> str:
    if v.op.name != "cross_entropy":
        return "Div1"
    return "Add" if v.attr("label_smoothing") else "NllLoss2D" if v.inputs[0].ndim > 2 else "NllLoss"


def _shape_change(v: Value) -> str:
    """A new shape of the same elements: an index into one place of an axis, an axis of size 1 more or less, or a
    view."""
    x = v.inputs[0]
    if x.op is slice_:
        whole = x.inputs[0].shape
        starts, stops, steps = x.attrs
        cut = [d for d, n in enumerate(whole) if (starts[d], stops[d], steps[d]) != (0, n, 1) or n == 1]
        if cut and v.ndim < x.ndim:
            return "Select" if x.shape[cut[-1]] == 1 else "Slice"
    if any(x.shape[:d] + (1,) + x.shape[d:] == v.shape for d in range(v.ndim)):
        return "Unsqueeze"
    if any(v.shape[:d] + (1,) + v.shape[d:] == x.shape for d in range(x.ndim)):
        return "Squeeze1"
    return "UnsafeView" if x.op is permute else "View"


def _order_change(v: Value) -> str:
    moved = sum(i != p for i, p in enumerate(v.attrs[0]))
    return "T" if v.ndim == 2 else "Transpose" if moved == 2 else "Permute"


_EXTENSIONS: dict[str, str] = {"reflect": "Reflection", "replicate": "Replication", "circular": "Circular"}
_KINDS: dict[tuple[int, str], str] = {
    (3, "linear"): "Linear1D", (4, "linear"): "Bilinear2D", (5, "linear"): "Trilinear3D", (4, "cubic"): "Bicubic2D",
}

_FUNCTIONS: dict[str, Name] = {
    "_matmul_operator": _product, "matmul": _product, "mm": "Mm", "mv": "Mv", "dot": "Dot", "linear": _linear,
    "addmm": "Addmm", "baddbmm": "Baddbmm", "kron": "UnsafeView", "trace": "Trace", "cross": "LinalgCross",
    "pow": _power, "square": "Pow", "sub": lambda v: "Rsub1" if is_number(v.inputs[0]) else "Sub",
    "clamp": "Clamp1", "clamp_min": "ClampMin", "clamp_max": "ClampMax", "lerp": "Lerp", "addcmul": "Addcmul",
    "addcdiv": "Addcdiv", "logit": "Logit", "sinc": "Sinc", "frac": "Frac", "nan_to_num": "NanToNum", "log1p": "Log1P",
    "max": lambda v: "Max1" if v.op.name == "max" else "Max0", "amax": "Amax", "nansum": "Nansum",
    "min": lambda v: "Min1" if v.op.name == "min" else "Min0", "amin": "Amin",
    "median": lambda v: "Median1" if v.ndim else "Median", "prod": _over_axes("Prod"), "topk": "Topk",
    "_repeat_value": "Repeat", "stack": "Stack", "roll": "Roll", "diag_embed": "DiagEmbed", "tril": "Tril",
    "triu": "Triu", "index_select": "IndexSelect", "masked_fill": "MaskedFill", "scatter_add": "ScatterAdd",
    "index_add": "IndexAdd", "_block_diag": "BlockDiag", "_fill_value": "Fill", "complex": "Complex",
    "relu6": "Hardtanh", "logsigmoid": "LogSigmoid", "selu": "Elu", "softsign": "Div", "tanhshrink": "Sub",
    "prelu": "PreluKernel", "conv_transpose2d": "Convolution", "conv_transpose1d": "Squeeze1",
    "max_pool1d": "Squeeze1", "avg_pool1d": "Squeeze1", "adaptive_avg_pool1d": "Squeeze1",
    "adaptive_avg_pool2d": lambda v: "Mean1" if v.shape[-2:] == (1, 1) else "AdaptiveAvgPool2D",
    "adaptive_max_pool2d": "AdaptiveMaxPool2D", "_embedding": "Embedding", "_even_bags": "EmbeddingBag",
    "_pad_constant": "ConstantPadNd", "grid_sample": "GridSampler2D", "_instance_norm": "View", "_rms_norm": "Mul",
    "_normalize": "Div", "cosine_similarity": "Sum1", "_pairwise_distance": "Norm1", "local_response_norm": "Div",
    "_cross_entropy": _cross_entropy, "_ctc_loss": "Mean", "_l1_loss": _reduced,
    "_kl_div": lambda v: "Div" if v.op.name == "div" else _reduced(v), "_hinge_embedding_loss": _reduced,
    "_margin_ranking_loss": _reduced, "_triplet_margin_loss": _reduced, "_cosine_embedding_loss": _reduced,
    "_poisson_nll_loss": _reduced, "_gaussian_nll_loss": _reduced, "_multilabel_soft_margin_loss": _reduced,
    "_attention": "ScaledDotProductFlashAttentionForCpu",
}
"""Functions whose derivative is not named after the operation that they end with: a word, or what gives one."""

_OPERATIONS: dict[str, Name] = {
    "reshape": _shape_change, "permute": _order_change, "linear": _linear, "concatenate": "Cat",
    "matmul": lambda v: "Mm" if v.ndim == 2 else "Bmm", "sum": _over_axes("Sum"), "mean": _over_axes("Mean"),
    "layer_norm": "NativeLayerNorm", "batch_norm_train": "NativeBatchNorm", "batch_norm": "NativeBatchNorm",
    "group_norm": "NativeGroupNorm", "cross_entropy": _cross_entropy, "soft_cross_entropy": _cross_entropy,
    "max_pool": "MaxPool2DWithIndices", "avg_pool": "AvgPool2D", "adaptive_avg_pool": "AdaptiveAvgPool2D",
    "vector_norm": "LinalgVectorNorm", "take": "Index", "cast": "ToCopy", "max": "Amax", "min": "Amin",
    "attention": "ScaledDotProductAttention", "bce_with_logits": "BinaryCrossEntropyWithLogits", "pow": _power,
    "graft": "CopySlices", "slice_update": "SliceScatter", "make_complex": "Complex", "clone": "Clone",
    "determinant": "LinalgDet", "slogdet": "LinalgSlogdet", "inverse": "LinalgInvEx", "cholesky": "LinalgCholeskyEx",
    "svd": "LinalgSvd", "eigh": "LinalgEigh", "qr": "LinalgQr", "matrix_exp": "LinalgMatrixExp",
    "fft": lambda v: "FftC2C" if v.inputs[0].dtype.is_complex else "FftR2C", "rfft": "FftR2C", "irfft": "FftC2R",
    "interpolate": lambda v: f"Upsample{_KINDS[v.ndim, v.attr('kind')]}",
    "extend": lambda v: f"{_EXTENSIONS[v.attr('mode')]}Pad{v.ndim - 2}D",
    "succeeded": lambda v: _word(v.inputs[0]),
}
"""The same for operations."""


def name_of(v: Value, epoch: Epoch | None) -> str:
    """PyTorch's name of the derivative of the operation that made a value."""
    if v.op is custom_function:
        number = v.attr("number")
        owner = number if epoch is None or not isinstance(number, int) else epoch.functions[number]
        return f"{owner.name}Backward"
    called = None if epoch is None else origins(epoch.recorder).get(v)
    known = None if called is None else _FUNCTIONS.get(called)
    word = _word(v) if known is None else _numbered(known, v)
    return f"{word[:-1]}Backward{word[-1]}"


def _word(v: Value) -> str:
    known = _OPERATIONS.get(v.op.name)
    return "".join([p.capitalize() for p in v.op.name.split("_")]) + "0" if known is None else _numbered(known, v)


def _numbered(name: Name, v: Value) -> str:
    """A name of the tables, with the number of the variant."""
    word = name if isinstance(name, str) else name(v)
    return word if word[-1].isdigit() else word + "0"


def origins(recorder: Any) -> dict[Value, str]:
    """The function whose call gave a value. It is in the keys of the recorder's calls; what was called since the last
    look is read from there: `seen` says how many calls of each table were."""
    found, seen = recorder.origins
    for state, calls in recorder.call_tables.items():
        for key, result in itertools.islice(calls.items(), seen.get(state, 0), None):
            name = getattr(key[0], "name", None)
            if name is not None:
                for v in result if isinstance(result, tuple | list) else (result,):
                    if isinstance(v, Value) and v.requires_grad and v not in key:
                        found[v] = name
        seen[state] = len(calls)
    return found
