"""Movement primitives: the result's elements are the operand's, at other places. In a kernel they cost nothing: each is
an index map. All but `pad`, `flip` and `concatenate` are what PyTorch calls views."""
from __future__ import annotations

from typing import Any

import numpy as np

from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op, op
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.elementwise import ones_like, zeros_like

Shape = tuple[int, ...]


def _numel(shape: Shape) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


def _reshape_infer(t: Type, shape: Shape) -> Type:
    if _numel(shape) != t.numel:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {t.numel}")
    return Type(t.dtype, shape)


reshape = Op("reshape", "movement", _reshape_infer, lambda a, shape: np.reshape(a, shape),
             lambda g, y, x, shape: (reshape_to(g, x.shape),), attr_names=("shape",), linear=True,
             batch=lambda op, b, n, m, x, shape: reshape_to(x, (n, *shape)))


def reshape_to(v: Value, shape: Shape) -> Value:
    return v if v.shape == tuple(shape) else reshape(v, shape=tuple(shape))


def inverse_permutation(perm: tuple[int, ...]) -> tuple[int, ...]:
    inverse = [0] * len(perm)
    for i, p in enumerate(perm):
        inverse[p] = i
    return tuple(inverse)


permute = Op("permute", "movement", lambda t, perm: Type(t.dtype, [t.shape[p] for p in perm]),
             lambda a, perm: np.transpose(a, perm),
             lambda g, y, x, perm: (permute_to(g, inverse_permutation(perm)),), attr_names=("perm",), linear=True,
             batch=lambda op, b, n, m, x, perm: permute_to(x, (0, *[p + 1 for p in perm])))


def permute_to(v: Value, perm: tuple[int, ...]) -> Value:
    return v if tuple(perm) == tuple(range(len(perm))) else permute(v, perm=tuple(perm))


def _expand_infer(t: Type, shape: Shape) -> Type:
    lead = len(shape) - len(t.shape)
    if lead < 0 or any(s != n and s != 1 for s, n in zip(t.shape, shape[lead:])):
        raise RuntimeError(f"The expanded size of the tensor {shape} must match the existing size {t.shape}")
    return Type(t.dtype, shape)


def _expand_vjp(g: Value, y: Value, x: Value, shape: Shape) -> tuple:
    return (sum_to(g, x.shape),)


def sum_to(g: Value, shape: Shape) -> Value:
    """Undo broadcasting: sum `g` over the axes along which `shape` was expanded to `g.shape`."""
    if g.shape == shape:
        return g
    lead = len(g.shape) - len(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, s in enumerate(shape) if s == 1 and g.shape[lead + i] != 1)
    return reshape_to(op("sum")(g, axes=axes) if axes else g, shape)


def _expand_batch(self: Op, b: Any, n: int, m: tuple, x: Value, shape: Shape) -> Value:
    lead = len(shape) - (x.ndim - 1)
    return expand_to(reshape_to(x, (n, *[1] * lead, *x.shape[1:])), (n, *shape))


expand = Op("expand", "movement", _expand_infer, lambda a, shape: np.broadcast_to(a, shape), _expand_vjp,
            attr_names=("shape",), linear=True, batch=_expand_batch)
"""Right-aligned broadcast of size-1 and missing axes."""


def expand_to(v: Value, shape: Shape) -> Value:
    return v if v.shape == tuple(shape) else expand(v, shape=tuple(shape))


def _slice_infer(t: Type, starts: Shape, stops: Shape, steps: Shape) -> Type:
    shape = []
    for n, start, stop, step in zip(t.shape, starts, stops, steps):
        if not (0 <= start <= n and start <= stop <= n and step >= 1):
            raise AssertionError(f"slice {start}:{stop}:{step} of an axis of size {n}")
        shape.append(-(-(stop - start) // step))
    return Type(t.dtype, shape)


def _slices(starts: Shape, stops: Shape, steps: Shape) -> tuple[slice, ...]:
    return tuple(slice(a, b, c) for a, b, c in zip(starts, stops, steps))


def _slice_vjp(g: Value, y: Value, x: Value, starts: Shape, stops: Shape, steps: Shape) -> tuple:
    widths = []
    for n, start, step, size in zip(x.shape, starts, steps, g.shape):
        covered = start + (size - 1) * step + 1 if size else start
        widths.append((start, n - covered, step - 1))
    if any(size == 0 for size in g.shape):
        return (zeros_like(x),)
    return (pad(g, constant(g.builder, 0, g.dtype), widths=tuple(widths)),)


slice_ = Op("slice", "movement", _slice_infer, lambda a, starts, stops, steps: a[_slices(starts, stops, steps)],
            _slice_vjp, attr_names=("starts", "stops", "steps"), linear=True,
            batch=lambda op, b, n, m, x, starts, stops, steps:
            op(x, starts=(0, *starts), stops=(n, *stops), steps=(1, *steps)))
"""x[start:stop:step] along every axis; indices normalised to 0 <= start <= stop <= size, step >= 1."""


def slice_axis(v: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    n = v.shape[axis]
    if (start, stop, step) == (0, n, 1):
        return v
    starts, stops, steps = [0] * v.ndim, list(v.shape), [1] * v.ndim
    starts[axis], stops[axis], steps[axis] = start, max(start, stop), step
    return slice_(v, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


def _pad_infer(t: Type, value: Type, widths: tuple) -> Type:
    if value.shape != () or value.dtype is not t.dtype:
        raise AssertionError(f"pad value {value}")
    return Type(t.dtype, [lo + hi + (n + (n - 1) * inner if n else 0) for n, (lo, hi, inner) in zip(t.shape, widths)])


def _pad_numpy(a: np.ndarray, value: np.ndarray, widths: tuple) -> np.ndarray:
    shape = [lo + hi + (n + (n - 1) * inner if n else 0) for n, (lo, hi, inner) in zip(a.shape, widths)]
    out = np.full(shape, value, a.dtype)
    if a.size:
        out[tuple(slice(lo, s - hi, inner + 1) for s, (lo, hi, inner) in zip(shape, widths))] = a
    return out


def _pad_vjp(g: Value, y: Value, x: Value, value: Value, widths: tuple) -> tuple:
    if any(s == 0 for s in x.shape):
        inner = zeros_like(x)
    else:
        inner = slice_(g, starts=tuple(lo for lo, _, _ in widths),
                       stops=tuple(s - hi for s, (_, hi, _) in zip(g.shape, widths)),
                       steps=tuple(i + 1 for _, _, i in widths))
    every = tuple(range(g.ndim))
    return inner, op("sum")(g, axes=every) - op("sum")(inner, axes=every) if value.requires_grad else None


def _pad_batch(self: Op, b: Any, n: int, m: tuple, x: Value, value: Value, widths: tuple) -> Value:
    if m[1]:
        raise NotImplementedError("vmap over the padding value")
    return self(x, value, widths=((0, 0, 0), *widths))


def _pad_jvp(t: tuple, y: Value, x: Value, value: Value, widths: tuple) -> Value:
    return pad(*[zeros_like(v) if d is None else d for d, v in zip(t, (x, value))], widths=widths)


pad = Op("pad", "movement", _pad_infer, _pad_numpy, _pad_vjp, jvp=_pad_jvp, attr_names=("widths",), batch=_pad_batch)
"""`widths` per axis: (before, after, between): elements of the 0-d `value` around and between those of x; all >= 0."""

flip = Op("flip", "movement", lambda t, axes: t, lambda a, axes: np.flip(a, axes),
          lambda g, y, x, axes: (flip(g, axes=axes),), attr_names=("axes",), linear=True,
          batch=lambda op, b, n, m, x, axes: op(x, axes=tuple(a + 1 for a in axes)))


def _concat_infer(*types: Type, axis: int) -> Type:
    shape = list(types[0].shape)
    shape[axis] = sum(t.shape[axis] for t in types)
    for t in types:
        if t.dtype is not types[0].dtype or any(i != axis and s != shape[i] for i, s in enumerate(t.shape)):
            raise AssertionError(f"concatenate: {types}")
    return Type(types[0].dtype, shape)


def _concat_vjp(g: Value, y: Value, *xs: Value, axis: int) -> tuple:
    grads, start = [], 0
    for x in xs:
        grads.append(slice_axis(g, axis, start, start + x.shape[axis]))
        start += x.shape[axis]
    return tuple(grads)


def _concat_batch(self: Op, b: Any, n: int, m: tuple, *xs: Value, axis: int) -> Value:
    xs = tuple(x if is_mapped else expand_to(x, (n, *x.shape)) for x, is_mapped in zip(xs, m))
    return self(*xs, axis=axis + 1)


concatenate = Op("concatenate", "movement", _concat_infer, lambda *xs, axis: np.concatenate(xs, axis), _concat_vjp,
                 attr_names=("axis",), linear=True, batch=_concat_batch)


def _as_strided_numpy(a: np.ndarray, shape: Shape, strides: Shape, offset: int) -> np.ndarray:
    flat = np.ascontiguousarray(a).ravel()
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, [s * flat.itemsize for s in strides]).copy()


def _as_strided_vjp(g: Value, y: Value, x: Value, shape: Shape, strides: Shape, offset: int) -> tuple:
    return (as_strided_scatter(zeros_like(x), g, shape=shape, strides=strides, offset=offset, accumulate=True),)


as_strided = Op("as_strided", "movement", lambda t, shape, strides, offset: Type(t.dtype, shape), _as_strided_numpy,
                _as_strided_vjp, attr_names=("shape", "strides", "offset"), linear=True,
                batch=lambda op, b, n, m, x, shape, strides, offset:
                op(x, shape=(n, *shape), strides=(x.type.numel // max(n, 1), *strides), offset=offset))
"""Elements of the contiguous x at offset + sum(i * stride); in elements. Places may overlap."""


def overlaps(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Might two places of the strided view be the same?"""
    covered = 0
    for s, n in sorted((abs(s), n) for s, n in zip(strides, shape) if n > 1):
        if s <= covered:
            return True
        covered += s * (n - 1)
    return False


def _as_strided_scatter_numpy(a: np.ndarray, src: np.ndarray, shape: Shape, strides: Shape, offset: int,
                              accumulate: bool) -> np.ndarray:
    out = a.reshape(-1)
    place = np.full(shape, offset, np.int64)
    for axis, (n, s) in enumerate(zip(shape, strides)):
        place += (np.arange(n) * s).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    if accumulate:
        np.add.at(out, place.ravel(), src.ravel())
    else:
        out[place.ravel()] = src.ravel()
    return a


def _as_strided_scatter_vjp(g: Value, y: Value, x: Value, src: Value, shape: Shape, strides: Shape, offset: int,
                            accumulate: bool) -> tuple:
    picked = as_strided(g, shape=shape, strides=strides, offset=offset)
    if accumulate:
        return g, picked
    return as_strided_scatter(g, zeros_like(src), shape=shape, strides=strides, offset=offset, accumulate=False), picked


def _as_strided_scatter_batch(self: Op, b: Any, n: int, m: tuple, x: Value, src: Value, shape: Shape, strides: Shape,
                              offset: int, accumulate: bool) -> Value:
    x, src = (v if mapped else expand_to(v, (n, *v.shape)) for v, mapped in zip((x, src), m))
    return self(x, src, shape=(n, *shape), strides=(x.type.numel // max(n, 1), *strides), offset=offset,
                accumulate=accumulate)


def _as_strided_scatter_jvp(t: tuple, y: Value, x: Value, src: Value, **where: Any) -> Value:
    return as_strided_scatter(*[zeros_like(v) if d is None else d for d, v in zip(t, (x, src))], **where)


as_strided_scatter = Op("as_strided_scatter", "index", lambda t, s, shape, strides, offset, accumulate: t,
                        _as_strided_scatter_numpy, _as_strided_scatter_vjp, jvp=_as_strided_scatter_jvp,
                        attr_names=("shape", "strides", "offset", "accumulate"), updates=True,
                        batch=_as_strided_scatter_batch)
"""x with the places that as_strided reads replaced by (or added with) src."""


def as_part(x: Value, part: Value, strides: Shape, offset: int) -> Value:
    """x, where `part` is what as_strided reads of it, as a function of `part` alone. A place that is read several times
    has a share of each."""
    where = {"shape": part.shape, "strides": strides, "offset": offset}
    share = part
    if overlaps(part.shape, strides):
        counts = as_strided_scatter(zeros_like(x), ones_like(part), accumulate=True, **where)
        share = part / as_strided(counts, **where)
    return as_strided_scatter(x, share, accumulate=False, **where)


def _slice_update_numpy(a: np.ndarray, src: np.ndarray, starts: Shape, stops: Shape, steps: Shape) -> np.ndarray:
    a[_slices(starts, stops, steps)] = src
    return a


def _slice_update_infer(t: Type, s: Type, starts: Shape, stops: Shape, steps: Shape) -> Type:
    if _slice_infer(t, starts, stops, steps) != s:
        raise AssertionError(f"slice_update: {s} into {t}[{starts}:{stops}:{steps}]")
    return t


def _slice_update_vjp(g: Value, y: Value, x: Value, src: Value, **where: Any) -> tuple:
    return slice_update(g, zeros_like(src), **where), slice_(g, **where)


slice_update = Op("slice_update", "index", _slice_update_infer, _slice_update_numpy, _slice_update_vjp,
                  attr_names=("starts", "stops", "steps"), linear=True, updates=True,
                  batch=lambda op, b, n, m, x, s, starts, stops, steps: op(
                      x if m[0] else expand_to(x, (n, *x.shape)), s if m[1] else expand_to(s, (n, *s.shape)),
                      starts=(0, *starts), stops=(n, *stops), steps=(1, *steps)))
"""x with x[start:stop:step] replaced by src: what writing through a slice means."""
