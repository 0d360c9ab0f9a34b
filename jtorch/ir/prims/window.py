"""Windows that slide over the last axes: convolution and pooling, in one to three dimensions.

A convolution is bilinear, and its two derivatives are operations of the same family: each of `convolution`,
`conv_input_grad` and `conv_weight_grad` is expressed by the other two, so gradients of every order fall out.
`conv_input_grad` is also what PyTorch calls a transposed convolution.
"""
from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

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
    if 0 in spatial:
        raise RuntimeError("Only zero batch or zero channel inputs are supported, but got an input of "
                           f"{' x '.join(map(str, spatial))}")
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


def padded(x: np.ndarray, padding: Padding, fill: Any = 0) -> np.ndarray:
    if not any(lo or hi for lo, hi in padding):
        return x
    n = len(padding)
    shape = (*x.shape[:x.ndim - n], *[s + lo + hi for s, (lo, hi) in zip(x.shape[x.ndim - n:], padding)])
    out = np.full(shape, fill, x.dtype)
    out[(..., *[slice(lo, s - hi) for s, (lo, hi) in zip(shape[x.ndim - n:], padding)])] = x
    return out


def seen_at(x: np.ndarray, place: Shape, out: Shape, stride: Shape, dilation: Shape) -> np.ndarray:
    """[..., *out]: what each window of the padded x sees at one place of the kernel (a view)."""
    return x[(..., *[slice(p * d, p * d + (o - 1) * s + 1, s) if o else slice(0, 0)
                     for p, d, o, s in zip(place, dilation, out, stride)])]


def _columns(x: np.ndarray, kernel: Shape, out: Shape, stride: Shape, padding: Padding, dilation: Shape,
             groups: int) -> np.ndarray:
    """The operand of the matrix product: [N, groups, C/groups * K, out], copied place by place in long rows."""
    if all(k == 1 and s == 1 for k, s in zip(kernel, stride)):
        columns = padded(x, padding)
    else:
        wide = padded(x, padding)
        columns = np.empty((*x.shape[:2], prod(kernel), *out), x.dtype)
        for i, place in enumerate(np.ndindex(*kernel)):
            columns[:, :, i] = seen_at(wide, place, out, stride, dilation)
    return columns.reshape(x.shape[0], groups, x.shape[1] // groups * prod(kernel), prod(out))


def _grouped(w: np.ndarray, groups: int) -> np.ndarray:
    """[groups, O/groups, C/groups * K]"""
    return w.reshape(groups, w.shape[0] // groups, prod(w.shape[1:]))


def _rows(g: np.ndarray, groups: int) -> np.ndarray:
    """[N, groups, O/groups, out]"""
    return g.reshape(g.shape[0], groups, g.shape[1] // groups, prod(g.shape[2:]))


def _conv_numpy(x: np.ndarray, w: np.ndarray, stride: Shape, padding: Padding, dilation: Shape,
                groups: int) -> np.ndarray:
    out = conv_output_spatial(x.shape[2:], w.shape[2:], stride, padding, dilation)
    y = _grouped(w, groups) @ _columns(x, w.shape[2:], out, stride, padding, dilation, groups)
    return y.reshape(x.shape[0], w.shape[0], *out)


def spread(v: np.ndarray, spatial: Shape, kernel: Shape, stride: Shape, padding: Padding,
           dilation: Shape) -> np.ndarray:
    """[..., K, *out], added into the places [..., *S] where windows saw them."""
    n = len(kernel)
    lead, out = v.shape[:v.ndim - n - 1], v.shape[v.ndim - n:]
    x = np.zeros((*lead, *[s + lo + hi for s, (lo, hi) in zip(spatial, padding)]), v.dtype)
    for i, place in enumerate(np.ndindex(*kernel)):
        seen_at(x, place, out, stride, dilation)[...] += v[(..., i, *[slice(None)] * n)]
    return x[(..., *[slice(lo, lo + s) for s, (lo, _) in zip(spatial, padding)])]


def _input_grad_numpy(g: np.ndarray, w: np.ndarray, input_spatial: Shape, stride: Shape, padding: Padding,
                      dilation: Shape, groups: int) -> np.ndarray:
    kernel = w.shape[2:]
    columns = _grouped(w, groups).transpose(0, 2, 1) @ _rows(g, groups)
    v = columns.reshape(g.shape[0], groups * w.shape[1], prod(kernel), *g.shape[2:])
    return spread(v, input_spatial, kernel, stride, padding, dilation)


def _weight_grad_numpy(g: np.ndarray, x: np.ndarray, kernel_spatial: Shape, stride: Shape, padding: Padding,
                       dilation: Shape, groups: int) -> np.ndarray:
    columns = _columns(x, kernel_spatial, g.shape[2:], stride, padding, dilation, groups)
    w = (_rows(g, groups) @ columns.transpose(0, 1, 3, 2)).sum(axis=0)
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
    if 0 in spatial:
        raise RuntimeError(f"Expected input's non-batch dimensions to have positive length, but got {list(spatial)}")
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
    lowest = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    wide = padded(x, _covering(spatial, out, kernel, stride, padding, dilation), lowest)
    starts = np.meshgrid(*[np.arange(o) * s - p for o, s, p in zip(out, stride, padding)], indexing="ij")
    values, index = np.full((*x.shape[:x.ndim - n], *out), lowest, x.dtype), np.full(out, -1, np.int64)
    for place in np.ndindex(*kernel):
        v = seen_at(wide, place, out, stride, dilation)
        at = [s + p * d for s, p, d in zip(starts, place, dilation)]
        inside = np.logical_and.reduce([(a >= 0) & (a < s) for a, s in zip(at, spatial)])
        flat = np.zeros(out, np.int64)
        for a, s in zip(at, spatial):
            flat = flat * s + a
        better = ((v > values) | (v != v) | (index < 0)) & inside
        values, index = np.where(better, v, values), np.where(better, flat, index)
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

def spans(n: int, m: int) -> list[tuple[int, int]]:
    """The windows of an axis of n that is pooled to m: they cover it, and overlap where m does not divide n."""
    return [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def _adaptive_infer(x: Type, output: Shape) -> tuple[Type, Type]:
    n = len(output)
    if x.ndim < n or 0 in x.shape[x.ndim - n:]:
        raise RuntimeError("Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                           f"{list(x.shape)}")
    shape = (*x.shape[:x.ndim - n], *output)
    return Type(x.dtype, shape), Type(dtypes.int64, shape)


def _adaptive_max_pool_numpy(x: np.ndarray, output: Shape) -> tuple[np.ndarray, np.ndarray]:
    n = len(output)
    lead, spatial = x.shape[:x.ndim - n], x.shape[x.ndim - n:]
    places = np.arange(prod(spatial)).reshape(spatial)
    index = np.empty((*lead, *output), np.int64)
    for at in np.ndindex(*output):
        window = tuple(slice(*spans(s, m)[i]) for s, m, i in zip(spatial, output, at))
        best = x[(..., *window)].reshape(*lead, places[window].size).argmax(-1)
        index[(..., *at)] = places[window].ravel()[best]
    flat = x.reshape(*lead, prod(spatial))
    return np.take_along_axis(flat, index.reshape(*lead, prod(output)), -1).reshape(index.shape), index


adaptive_max_pool = Op(
    "adaptive_max_pool", "window", _adaptive_infer, _adaptive_max_pool_numpy,
    lambda g, y, x, output: (max_pool_grad(g[0], y[1], input_spatial=x.shape[x.ndim - len(output):]),),
    jvp=lambda t, y, x, output: (pick(t[0], y[1], len(output)), None),
    attr_names=("output",), batch=_leading_batch, domain="pool")
"""(values, indices): maxima over the last axes, to the sizes `output`; window i of an axis of n that is pooled to m is
[floor(i * n / m), ceil((i + 1) * n / m)). Indices are flat in the input's plane."""

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
    wide = padded(x, _covering(spatial, out, kernel, stride, padding, ones))
    total = sum(seen_at(wide, place, out, stride, ones) for place in np.ndindex(*kernel))
    divisor = pool_divisor(spatial, out, kernel, stride, padding, count_include_pad, divisor_override)
    return total / np.asarray(divisor, x.dtype)


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
    lead = g.shape[:g.ndim - n]
    v = np.broadcast_to(share.reshape(*lead, 1, *out), (*lead, prod(kernel), *out))
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
