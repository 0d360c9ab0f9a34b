"""Windows that slide over the last axes: convolution and pooling, in one to three dimensions.

A convolution is bilinear, and its two derivatives are operations of the same family: each of `convolution`,
`conv_input_grad` and `conv_weight_grad` is expressed by the other two, so gradients of every order fall out.
`conv_input_grad` is also what PyTorch calls a transposed convolution.
"""
from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from jtorch import dtypes
from jtorch.ir.graph import Builder, Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.elementwise import expand
from jtorch.ir.prims.indexing import gather
from jtorch.ir.prims.movement import permute_to, reshape_to

Shape = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]
CONV = ("stride", "padding", "dilation", "groups")


# --- convolution -----------------------------------------------------------------------------------------------------

def conv_output_spatial(spatial: Shape, kernel: Shape, stride: Shape, padding: Padding, dilation: Shape) -> Shape:
    padded = tuple(n + lo + hi for n, (lo, hi) in zip(spatial, padding))
    extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
    if any(e > n for e, n in zip(extents, padded)):
        raise RuntimeError(f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). Kernel size: "
                           f"({' x '.join(map(str, extents))}). Kernel size can't be greater than actual input size")
    return tuple((n - e) // s + 1 for n, e, s in zip(padded, extents, stride))


def _conv_infer(x: Type, w: Type, stride: Shape, padding: Padding, dilation: Shape, groups: int) -> Type:
    n = len(stride)
    if x.ndim != n + 2 or w.ndim != n + 2 or not 1 <= n <= 3 or len(padding) != n or len(dilation) != n:
        raise AssertionError(f"convolution: {x}, {w}, stride {stride}, padding {padding}, dilation {dilation}")
    if x.dtype is not w.dtype:
        raise RuntimeError(f"Input type ({x.dtype.name}) and weight type ({w.dtype.name}) should be the same")
    if x.shape[1] != w.shape[1] * groups:
        raise RuntimeError(f"Given groups={groups}, weight of size {list(w.shape)}, expected input{list(x.shape)} to "
                           f"have {w.shape[1] * groups} channels, but got {x.shape[1]} channels instead")
    if groups <= 0 or w.shape[0] % groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but "
                           f"got weight of size {list(w.shape)} instead")
    return Type(x.dtype, (x.shape[0], w.shape[0],
                          *conv_output_spatial(x.shape[2:], w.shape[2:], stride, padding, dilation)))


def _input_grad_infer(g: Type, w: Type, input_spatial: Shape, stride: Shape, padding: Padding, dilation: Shape,
                      groups: int) -> Type:
    x = Type(g.dtype, (g.shape[0], w.shape[1] * groups, *input_spatial))
    if _conv_infer(x, w, stride, padding, dilation, groups) != g:
        raise AssertionError(f"conv_input_grad: {g}, {w} of {input_spatial}")
    return x


def _weight_grad_infer(g: Type, x: Type, kernel_spatial: Shape, stride: Shape, padding: Padding, dilation: Shape,
                       groups: int) -> Type:
    w = Type(g.dtype, (g.shape[1], x.shape[1] // groups, *kernel_spatial))
    if _conv_infer(x, w, stride, padding, dilation, groups) != g:
        raise AssertionError(f"conv_weight_grad: {g}, {x} of {kernel_spatial}")
    return w


def windows(x: np.ndarray, kernel: Shape, stride: Shape, padding: Padding, dilation: Shape,
            fill: Any = 0) -> np.ndarray:
    """[..., *S] -> a view [..., *out, *K] of the padded array."""
    n = len(kernel)
    lead = x.ndim - n
    if any(lo or hi for lo, hi in padding):
        x = np.pad(x, [(0, 0)] * lead + list(padding), constant_values=fill)
    extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
    view = sliding_window_view(x, extents, tuple(range(lead, x.ndim)))
    steps = [slice(None)] * lead + [slice(None, None, s) for s in stride] + [slice(None, None, d) for d in dilation]
    return view[tuple(steps)]


def _columns(x: np.ndarray, kernel: Shape, stride: Shape, padding: Padding, dilation: Shape, groups: int) -> np.ndarray:
    """The operand of the matrix product: [groups, N * out, C/groups * K]."""
    v = windows(x, kernel, stride, padding, dilation)
    n = len(kernel)
    v = v.reshape(v.shape[0], groups, v.shape[1] // groups, *v.shape[2:])
    v = v.transpose(1, 0, *range(3, 3 + n), 2, *range(3 + n, 3 + 2 * n))
    return v.reshape(groups, prod(v.shape[1:2 + n]), prod(v.shape[2 + n:]))


def _rows(g: np.ndarray, groups: int) -> np.ndarray:
    """[N, O, *out] -> [groups, N * out, O/groups]."""
    v = np.moveaxis(g.reshape(g.shape[0], groups, g.shape[1] // groups, -1), (1, 2), (0, 3))
    return v.reshape(groups, v.shape[1] * v.shape[2], v.shape[3])


def _conv_numpy(x: np.ndarray, w: np.ndarray, stride: Shape, padding: Padding, dilation: Shape,
                groups: int) -> np.ndarray:
    spatial = conv_output_spatial(x.shape[2:], w.shape[2:], stride, padding, dilation)
    columns = _columns(x, w.shape[2:], stride, padding, dilation, groups)
    weights = w.reshape(groups, w.shape[0] // groups, prod(w.shape[1:]))
    y = columns @ weights.transpose(0, 2, 1)  # [groups, N * out, O/groups]
    y = y.reshape(groups, x.shape[0], prod(spatial), weights.shape[1]).transpose(1, 0, 3, 2)
    return y.reshape(x.shape[0], w.shape[0], *spatial)


def spread(v: np.ndarray, spatial: Shape, kernel: Shape, stride: Shape, padding: Padding,
           dilation: Shape) -> np.ndarray:
    """The transpose of `windows`: [..., *out, *K] added into [..., *S]."""
    n = len(kernel)
    lead, out = v.shape[:v.ndim - 2 * n], v.shape[v.ndim - 2 * n:v.ndim - n]
    x = np.zeros((*lead, *[s + lo + hi for s, (lo, hi) in zip(spatial, padding)]), v.dtype)
    for place in np.ndindex(*kernel):
        target = tuple(slice(p * d, p * d + (o - 1) * s + 1, s) if o else slice(0, 0)
                       for p, d, o, s in zip(place, dilation, out, stride))
        x[(..., *target)] += v[(..., *place)]
    return x[(..., *[slice(lo, lo + s) for s, (lo, _) in zip(spatial, padding)])]


def _input_grad_numpy(g: np.ndarray, w: np.ndarray, input_spatial: Shape, stride: Shape, padding: Padding,
                      dilation: Shape, groups: int) -> np.ndarray:
    kernel, spatial = w.shape[2:], g.shape[2:]
    columns = _rows(g, groups) @ w.reshape(groups, w.shape[0] // groups, prod(w.shape[1:]))
    n = len(kernel)
    v = columns.reshape(groups, g.shape[0], *spatial, w.shape[1], *kernel)
    v = v.transpose(1, 0, 2 + n, *range(2, 2 + n), *range(3 + n, 3 + 2 * n))
    v = v.reshape(g.shape[0], groups * w.shape[1], *spatial, *kernel)
    return spread(v, input_spatial, kernel, stride, padding, dilation)


def _weight_grad_numpy(g: np.ndarray, x: np.ndarray, kernel_spatial: Shape, stride: Shape, padding: Padding,
                       dilation: Shape, groups: int) -> np.ndarray:
    columns = _columns(x, kernel_spatial, stride, padding, dilation, groups)
    w = _rows(g, groups).transpose(0, 2, 1) @ columns
    return w.reshape(g.shape[1], x.shape[1] // groups, *kernel_spatial)


def _fold_groups(v: Value, mapped: bool, n: int) -> Value:
    """[n, N, C, ...] -> [N, n * C, ...]: the mapped axis in front of the channels."""
    v = v if mapped else expand(v, (n, *v.shape))
    v = permute_to(v, (1, 0, *range(2, v.ndim)))
    return reshape_to(v, (v.shape[0], n * v.shape[2], *v.shape[3:]))


def _unfold_groups(v: Value, n: int) -> Value:
    v = reshape_to(v, (v.shape[0], n, v.shape[1] // n, *v.shape[2:]))
    return permute_to(v, (1, 0, *range(2, v.ndim)))


def _fold_weights(w: Value, mapped: bool, n: int) -> Value:
    w = w if mapped else expand(w, (n, *w.shape))
    return reshape_to(w, (n * w.shape[1], *w.shape[2:]))


def _conv_batch(self: Op, b: Builder, n: int, m: tuple, x: Value, w: Value, groups: int, **attrs: Any) -> Value:
    """`convolution` and `conv_input_grad`: more examples where only those are mapped, else more groups."""
    if not m[1]:
        y = self(reshape_to(x, (n * x.shape[1], *x.shape[2:])), w, groups=groups, **attrs)
        return reshape_to(y, (n, x.shape[1], *y.shape[1:]))
    return _unfold_groups(self(_fold_groups(x, m[0], n), _fold_weights(w, m[1], n), groups=n * groups, **attrs), n)


def _weight_grad_batch(self: Op, b: Builder, n: int, m: tuple, g: Value, x: Value, groups: int, **attrs: Any) -> Value:
    w = self(_fold_groups(g, m[0], n), _fold_groups(x, m[1], n), groups=n * groups, **attrs)
    return reshape_to(w, (n, w.shape[0] // n, *w.shape[1:]))


def _both(t: tuple, op: Op, a: Value, b: Value, **attrs: Any) -> Value | None:
    """The tangent of a bilinear operation."""
    parts = [op(*pair, **attrs) for pair, given in (((t[0], b), t[0]), ((a, t[1]), t[1])) if given is not None]
    return None if not parts else parts[0] if len(parts) == 1 else parts[0] + parts[1]


convolution = Op(
    "convolution", "window", _conv_infer, _conv_numpy,
    lambda g, y, x, w, **c: (conv_input_grad(g, w, input_spatial=x.shape[2:], **c) if x.requires_grad else None,
                             conv_weight_grad(g, x, kernel_spatial=w.shape[2:], **c) if w.requires_grad else None),
    jvp=lambda t, y, x, w, **c: _both(t, convolution, x, w, **c),
    attr_names=CONV, batch=_conv_batch, domain="convolution")
"""x[N, C, *S] with w[O, C/groups, *K] -> [N, O, *out]; `padding` is ((before, after), ...) per spatial axis."""

conv_input_grad = Op(
    "conv_input_grad", "window", _input_grad_infer, _input_grad_numpy,
    lambda h, y, g, w, input_spatial, **c: (
        convolution(h, w, **c) if g.requires_grad else None,
        conv_weight_grad(g, h, kernel_spatial=w.shape[2:], **c) if w.requires_grad else None),
    jvp=lambda t, y, g, w, **c: _both(t, conv_input_grad, g, w, **c),
    attr_names=("input_spatial", *CONV), batch=_conv_batch, domain="convolution")
"""The x-derivative of `convolution`: g[N, O, *out], w -> [N, C, *input_spatial]."""

conv_weight_grad = Op(
    "conv_weight_grad", "window", _weight_grad_infer, _weight_grad_numpy,
    lambda v, y, g, x, kernel_spatial, **c: (
        convolution(x, v, **c) if g.requires_grad else None,
        conv_input_grad(g, v, input_spatial=x.shape[2:], **c) if x.requires_grad else None),
    jvp=lambda t, y, g, x, **c: _both(t, conv_weight_grad, g, x, **c),
    attr_names=("kernel_spatial", *CONV), batch=_weight_grad_batch, domain="convolution")
"""The w-derivative of `convolution`: g[N, O, *out], x -> [O, C/groups, *kernel_spatial]."""


# --- pooling ---------------------------------------------------------------------------------------------------------

def pool_output_spatial(spatial: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape,
                        ceil_mode: bool) -> Shape:
    """A window may hang over the end in `ceil_mode`, but it has to begin inside the input or its left padding."""
    out = []
    for n, k, s, p, d in zip(spatial, kernel, stride, padding, dilation):
        if k <= 0 or s <= 0 or d <= 0:
            raise RuntimeError("kernel size, stride and dilation should be greater than zero, but got kernel "
                               f"{kernel}, stride {stride}, dilation {dilation}")
        if p < 0 or p > (d * (k - 1) + 1) // 2:
            raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} "
                               f"and dilation={d}")
        size = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (size - 1) * s >= n + p:
            size -= 1
        out.append(size)
    if any(size < 1 for size in out):
        raise RuntimeError(f"Given input size: {tuple(spatial)}. Calculated output size: {tuple(out)}. Output size is "
                           "too small")
    return tuple(out)


def _covering(spatial: Shape, out: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Padding:
    """Padding under which exactly `out` windows fit (the last one may hang over, or rows may stay unread)."""
    return tuple((p, max(0, (o - 1) * s + d * (k - 1) + 1 - n - p))
                 for n, o, k, s, p, d in zip(spatial, out, kernel, stride, padding, dilation))


def _first(v: np.ndarray, out: Shape) -> np.ndarray:
    """Windows past the last wanted one fall away (the input may be longer than they need)."""
    n = len(out)
    return v[(..., *[slice(0, o) for o in out], *[slice(None)] * n)]


def _pooled(t: Type, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, ceil_mode: bool) -> Shape:
    n = len(kernel)
    if t.ndim < n:
        raise AssertionError(f"pool: {t} has fewer axes than the window {kernel}")
    return (*t.shape[:t.ndim - n],
            *pool_output_spatial(t.shape[t.ndim - n:], kernel, stride, padding, dilation, ceil_mode))


def _max_pool_infer(x: Type, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape,
                    ceil_mode: bool) -> tuple[Type, Type]:
    shape = _pooled(x, kernel, stride, padding, dilation, ceil_mode)
    return Type(x.dtype, shape), Type(dtypes.int64, shape)


def _max_pool_numpy(x: np.ndarray, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape,
                    ceil_mode: bool) -> tuple[np.ndarray, np.ndarray]:
    n = len(kernel)
    spatial = x.shape[x.ndim - n:]
    out = pool_output_spatial(spatial, kernel, stride, padding, dilation, ceil_mode)
    cover = _covering(spatial, out, kernel, stride, padding, dilation)
    lowest = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    v = _first(windows(x, kernel, stride, cover, dilation, lowest), out)
    flat = v.reshape(*v.shape[:-n], prod(kernel))
    best = np.argmax(flat, axis=-1)
    values = np.take_along_axis(flat, best[..., None], -1)[..., 0]
    index = np.zeros(best.shape, np.int64)
    for axis, place in enumerate(np.unravel_index(best, kernel)):
        start = (np.arange(out[axis]) * stride[axis] - padding[axis]).reshape([-1] + [1] * (n - 1 - axis))
        index = index * spatial[axis] + np.clip(start + place * dilation[axis], 0, spatial[axis] - 1)
    return values, index


def _leading_batch(self: Op, b: Builder, n: int, m: tuple, *inputs: Value, **attrs: Any) -> Any:
    """Windows leave leading axes alone, and any number of them may be there."""
    inputs = tuple(v if mapped else expand(v, (n, *v.shape)) for v, mapped in zip(inputs, m))
    return b.apply(self, *inputs, **attrs)


def _flat(v: Value, n: int) -> Value:
    return reshape_to(v, (*v.shape[:v.ndim - n], prod(v.shape[v.ndim - n:])))


def pick(h: Value, indices: Value, n: int) -> Value:
    """Elements of the planes (the last `n` axes) of h at flat `indices`."""
    return reshape_to(gather(_flat(h, n), _flat(indices, n), axis=h.ndim - n), indices.shape)


max_pool = Op(
    "max_pool", "window", _max_pool_infer, _max_pool_numpy,
    lambda g, y, x, kernel, **a: (max_pool_grad(g[0], y[1], input_spatial=x.shape[x.ndim - len(kernel):]),),
    jvp=lambda t, y, x, kernel, **a: (pick(t[0], y[1], len(kernel)), None),
    attr_names=("kernel", "stride", "padding", "dilation", "ceil_mode"), batch=_leading_batch, domain="pool")
"""(values, indices): maxima of windows over the last axes; indices are int64 and flat in the input's plane."""


def _max_pool_grad_infer(g: Type, indices: Type, input_spatial: Shape) -> Type:
    if g.shape != indices.shape or indices.dtype is not dtypes.int64:
        raise AssertionError(f"max_pool_grad: {g}, {indices}")
    return Type(g.dtype, (*g.shape[:g.ndim - len(input_spatial)], *input_spatial))


def _max_pool_grad_numpy(g: np.ndarray, indices: np.ndarray, input_spatial: Shape) -> np.ndarray:
    n = len(input_spatial)
    lead = g.shape[:g.ndim - n]
    planes, size = prod(lead), prod(input_spatial)
    out = np.zeros(planes * size, g.dtype)
    if g.size:
        np.add.at(out, (indices.reshape(planes, -1) + np.arange(planes)[:, None] * size).ravel(), g.ravel())
    return out.reshape(*lead, *input_spatial)


max_pool_grad = Op(
    "max_pool_grad", "window", _max_pool_grad_infer, _max_pool_grad_numpy,
    lambda h, y, g, indices, input_spatial: (pick(h, indices, len(input_spatial)), None),
    jvp=lambda t, y, g, indices, input_spatial: max_pool_grad(t[0], indices, input_spatial=input_spatial),
    attr_names=("input_spatial",), batch=_leading_batch, domain="pool")
"""g added into zeros of planes `input_spatial` at flat `indices`."""

AVG = ("kernel", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


def pool_divisor(spatial: Shape, out: Shape, kernel: Shape, stride: Shape, padding: Shape, count_include_pad: bool,
                 divisor_override: int | None) -> np.ndarray | int:
    """How many elements each window averages over: an int where they agree, else an array of shape `out`."""
    if divisor_override:
        return divisor_override
    result: Any = 1
    for axis, (n, o, k, s, p) in enumerate(zip(spatial, out, kernel, stride, padding)):
        start = np.arange(o) * s - p
        stop = np.minimum(start + k, n + p)
        if not count_include_pad:
            start, stop = np.maximum(start, 0), np.minimum(stop, n)
        result = result * (stop - start).reshape([-1] + [1] * (len(out) - 1 - axis))
    return int(result.flat[0]) if result.size and (result == result.flat[0]).all() else result


def _ones(kernel: Shape) -> Shape:
    return (1,) * len(kernel)


def _avg_pool_infer(x: Type, kernel: Shape, stride: Shape, padding: Shape, ceil_mode: bool, count_include_pad: bool,
                    divisor_override: int | None) -> Type:
    return Type(x.dtype, _pooled(x, kernel, stride, padding, _ones(kernel), ceil_mode))


def _avg_pool_numpy(x: np.ndarray, kernel: Shape, stride: Shape, padding: Shape, ceil_mode: bool,
                    count_include_pad: bool, divisor_override: int | None) -> np.ndarray:
    n, ones = len(kernel), _ones(kernel)
    spatial = x.shape[x.ndim - n:]
    out = pool_output_spatial(spatial, kernel, stride, padding, ones, ceil_mode)
    v = _first(windows(x, kernel, stride, _covering(spatial, out, kernel, stride, padding, ones), ones), out)
    divisor = pool_divisor(spatial, out, kernel, stride, padding, count_include_pad, divisor_override)
    return v.sum(axis=tuple(range(v.ndim - n, v.ndim)), dtype=x.dtype) / np.asarray(divisor, x.dtype)


def _avg_pool_grad_infer(g: Type, input_spatial: Shape, **pool: Any) -> Type:
    x = Type(g.dtype, (*g.shape[:g.ndim - len(input_spatial)], *input_spatial))
    if _avg_pool_infer(x, **pool) != g:
        raise AssertionError(f"avg_pool_grad: {g} of {input_spatial}")
    return x


def _avg_pool_grad_numpy(g: np.ndarray, input_spatial: Shape, kernel: Shape, stride: Shape, padding: Shape,
                         ceil_mode: bool, count_include_pad: bool, divisor_override: int | None) -> np.ndarray:
    n, ones = len(kernel), _ones(kernel)
    out = g.shape[g.ndim - n:]
    divisor = pool_divisor(input_spatial, out, kernel, stride, padding, count_include_pad, divisor_override)
    share = g / np.asarray(divisor, g.dtype)
    v = np.broadcast_to(share.reshape(*g.shape, *ones), (*g.shape, *kernel))
    return spread(v, input_spatial, kernel, stride,
                  _covering(input_spatial, out, kernel, stride, padding, ones), ones)


avg_pool = Op(
    "avg_pool", "window", _avg_pool_infer, _avg_pool_numpy,
    lambda g, y, x, **pool: (avg_pool_grad(g, input_spatial=x.shape[x.ndim - len(pool["kernel"]):], **pool),),
    attr_names=AVG, linear=True, batch=_leading_batch, domain="pool",
    attr_defaults={"ceil_mode": False, "count_include_pad": True, "divisor_override": None})
"""Averages of windows over the last axes. `divisor_override` replaces the count of elements."""

avg_pool_grad = Op(
    "avg_pool_grad", "window", _avg_pool_grad_infer, _avg_pool_grad_numpy,
    lambda h, y, g, input_spatial, **pool: (avg_pool(h, **pool),),
    attr_names=("input_spatial", *AVG), linear=True, batch=_leading_batch, domain="pool")
"""g divided, and added into the windows that `avg_pool` read."""
