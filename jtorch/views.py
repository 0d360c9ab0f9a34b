"""Views: tensors that share a storage. Reading replays the chain of view operations; writing runs it backwards."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.capture.cell import Cell
from jtorch.capture.record import OWNED, WRITTEN, Recorder, current
from jtorch.dtypes import dtype, type_name
from jtorch.ir.graph import Type, Value, contiguous_strides
from jtorch.ir.primitive import Op
from jtorch.ir.prims.complex import conj, conjugated, view_as_complex, view_as_real
from jtorch.ir.prims.create import detach, graft, variable
from jtorch.ir.prims.elementwise import cast_to, neg
from jtorch.ir.prims.movement import (
    as_strided,
    as_strided_scatter,
    expand,
    expand_to,
    inverse_permutation,
    permute,
    reshape,
    reshape_to,
    slice_,
    slice_update,
)
from jtorch.ir.prims.view_dtype import view_dtype

Geometry = tuple[tuple[int, ...], int]


def reshaped_strides(shape: tuple[int, ...], strides: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides with which memory of (shape, strides) reads as shape `new`; None if that takes a copy.

    From the last axis on, old axes are gathered into blocks that are contiguous in themselves; each block must hold
    a whole number of new axes.
    """
    if 0 in shape:
        return contiguous_strides(new)
    result = [1] * len(new)
    axis = len(new) - 1
    block, step = 1, strides[-1] if strides else 1
    for d in reversed(range(len(shape))):
        block *= shape[d]
        if d and (shape[d - 1] == 1 or strides[d - 1] == block * step):
            continue
        filled = 1
        while axis >= 0 and (filled < block or new[axis] == 1):
            result[axis] = filled * step
            filled *= new[axis]
            axis -= 1
        if filled != block:
            return None
        if d:
            block, step = 1, strides[d - 1]
    return tuple(result)


def _reshape_geometry(t: Type, g: Geometry, attrs: tuple) -> Geometry | None:
    strides = reshaped_strides(t.shape, g[0], attrs[0])
    return None if strides is None else (strides, g[1])


def _permute_geometry(t: Type, g: Geometry, attrs: tuple) -> Geometry:
    return tuple(g[0][p] for p in attrs[0]), g[1]


def _expand_geometry(t: Type, g: Geometry, attrs: tuple) -> Geometry:
    new = attrs[0]
    lead = len(new) - len(t.shape)
    strides = tuple(0 if n != m else s for n, m, s in zip(t.shape, new[lead:], g[0]))
    return (0,) * lead + strides, g[1]


def _slice_geometry(t: Type, g: Geometry, attrs: tuple) -> Geometry:
    starts, _, steps = attrs
    offset = g[1] + sum(a * s for a, s in zip(starts, g[0]))
    return tuple(s * c for s, c in zip(g[0], steps)), offset


def _same_geometry(t: Type, g: Geometry, attrs: tuple) -> Geometry:
    return g


def _pairs_geometry(t: Type, g: Geometry, attrs: tuple) -> Geometry:
    """In elements of half the size."""
    return (*[2 * s for s in g[0]], 1), 2 * g[1]


def _from_pairs_geometry(t: Type, g: Geometry, attrs: tuple) -> Geometry:
    return tuple([s // 2 for s in g[0][:-1]]), g[1] // 2


def _dtype_geometry(t: Type, g: Geometry, attrs: tuple) -> Geometry:
    """Raises RuntimeError as PyTorch does where elements of another size do not lie on the old ones' strides."""
    strides, offset = g
    old, new = t.dtype, attrs[0]
    if new.itemsize == old.itemsize:
        return g

    def refuse(what: str, but: int) -> None:
        raise RuntimeError(f"{what} to view {type_name(old)} as {type_name(new)} (different element sizes), but got "
                           f"{but}")

    if strides[-1] != 1:
        refuse("self.stride(-1) must be 1", strides[-1])
    if new.itemsize < old.itemsize:
        ratio = old.itemsize // new.itemsize
        return (*[s * ratio for s in strides[:-1]], 1), offset * ratio
    ratio = new.itemsize // old.itemsize
    if offset % ratio:
        refuse(f"self.storage_offset() must be divisible by {ratio}", offset)
    for axis, s in enumerate(strides[:-1]):
        if s % ratio:
            refuse(f"self.stride({axis}) must be divisible by {ratio}", s)
    return (*[s // ratio for s in strides[:-1]], 1), offset // ratio


_GEOMETRY: dict[Op, Callable[..., Geometry | None]] = {
    reshape: _reshape_geometry, permute: _permute_geometry, expand: _expand_geometry, slice_: _slice_geometry,
    as_strided: lambda t, g, attrs: (attrs[1], attrs[2]), detach: _same_geometry, conj: _same_geometry,
    neg: _same_geometry, view_as_real: _pairs_geometry, view_as_complex: _from_pairs_geometry,
    view_dtype: _dtype_geometry,
}


def _refuse_expanded(parent: Value, attrs: tuple, new: Value) -> Value:
    if parent.shape == new.shape:
        return new
    raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single "
                       "memory location. Please clone() the tensor before performing the operation.")


_WRITE: dict[Op, Callable[[Value, tuple, Value], Value]] = {
    reshape: lambda parent, attrs, new: reshape_to(new, parent.shape),
    permute: lambda parent, attrs, new: permute(new, perm=inverse_permutation(attrs[0])),
    expand: _refuse_expanded,
    slice_: lambda parent, attrs, new: slice_update(parent, new, starts=attrs[0], stops=attrs[1], steps=attrs[2]),
    as_strided: lambda parent, attrs, new: as_strided_scatter(
        parent, new, shape=attrs[0], strides=attrs[1], offset=attrs[2], accumulate=False),
    detach: lambda parent, attrs, new: grafted(parent, new),
    variable: lambda parent, attrs, new: new,
    view_as_real: lambda parent, attrs, new: view_as_complex(new),
    view_as_complex: lambda parent, attrs, new: view_as_real(new),
    conj: lambda parent, attrs, new: conjugated(new),
    neg: lambda parent, attrs, new: neg(new),
    view_dtype: lambda parent, attrs, new: view_dtype(new, dtype=parent.dtype),
}
"""(value before the view operation, its attributes, new value of the view) -> new value before it."""

def grafted(parent: Value, new: Value) -> Value:
    """`new` written where it is not recorded: the derivative of what was there stays."""
    if new.requires_grad:
        new = new.builder.intern(detach, (new,), ())
    return new.builder.intern(graft, (new, parent), ()) if parent.requires_grad else new


_memo: dict[tuple, tuple[Type, Geometry | None]] = {}


def make_view(t: Tensor, operation: Op, attrs: tuple) -> Tensor:
    """A view of `t`; for a reshape that needs a copy, a new tensor."""
    key = (operation, attrs, t._type, t._geometry)
    found = _memo.get(key)
    if found is None:
        geometry = t._geometry or (contiguous_strides(t._type.shape), 0)
        out = operation.infer(t._type, **dict(zip(operation.attr_names, attrs)))
        place = _GEOMETRY[operation](t._type, geometry, attrs)
        if place == (contiguous_strides(out.shape), 0):
            found = (out, None)
        else:
            found = (out, place if place is not None else _COPY)
        if len(_memo) > 100_000:
            _memo.clear()
        _memo[key] = found
    recorder = current.recorder
    if found[1] is _COPY:
        return wrap(recorder, recorder.builder.intern(operation, (recorder.value(t),), attrs))
    return view_of(t, found[0], ((operation, attrs),), found[1])


def view_of(t: Tensor, kind: Type, operations: tuple, geometry: Geometry | None) -> Tensor:
    """A view by its type, the operations that lead to it, and where it lies."""
    v: Tensor = _new(Tensor)
    v._storage = t._storage
    v._type = kind
    if t._requires_grad or not current.recorder.grad_enabled:
        v._view = _start(t) + operations
    else:
        v._view = operations if t._view is None else t._view + operations
    v._geometry = geometry
    v._value = v._epoch = v._grad = None  # type: ignore[assignment]
    v._version = -1
    v._requires_grad = False
    return v


def _start(t: Tensor) -> tuple[tuple[Any, Any], ...]:
    """What the chain of a view of `t` begins with."""
    chain: tuple[tuple[Any, Any], ...] = t._view or ()
    if t._requires_grad:
        chain = (*chain, (variable, t))
    if not current.recorder.grad_enabled and t.requires_grad:
        chain = (*chain, (detach, ()))
    return chain


_new = object.__new__
_COPY: Geometry = ((), -1)

MANY = 10_000
"""Views that a memo holds."""


class Memo:
    """How views were made, by what they depend on: a view that was asked for before costs no arithmetic again.

    `anywhere`: what is selected does not depend on where the tensor begins in its memory, so the keys need not say it.
    """

    def __init__(self, anywhere: bool = False) -> None:
        self.made: dict[tuple, Any] = {}
        self.views, self.anywhere = 0, anywhere

    def again(self, t: Tensor, key: tuple) -> Any:
        """The view or tuple of views of `t` that was noted, None where there is none."""
        found: Any = self.made.get(key)
        if found is None:
            return None
        if self.anywhere:
            kind, operations, (strides, offset) = found
            offset += t.storage_offset()
            found = kind, operations, (strides, offset) if offset or strides != kind.strides else None
        return view_of(t, *found) if type(found) is tuple else tuple([view_of(t, *one) for one in found])

    def note(self, t: Tensor, key: tuple, result: Any) -> Any:
        """Remember how `result` (a tensor, or a tuple of them) was made of `t`, and return it."""
        views = result if type(result) is tuple else (result,)
        found = []
        start = len(t._view or ())
        for v in views:
            chain = v._view or ()
            if (v is t or v._storage is not t._storage or chain[:start] != (t._view or ())
                    or any(o[0] is graft for o in chain)):
                return result
            operations = tuple([o for o in (v._view or ())[start:] if o[0] is not variable and o[0] is not detach])
            place = (v.stride(), v.storage_offset() - t.storage_offset()) if self.anywhere else v._geometry
            found.append((v._type, operations, place))
        self.views += len(views)
        if self.views > MANY:
            self.made.clear()
            self.views = 0
        if len(views) <= MANY:
            self.made[key] = found if type(result) is tuple else found[0]
        return result


def remembered(body: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose views depend on the tensor's type and geometry and on integers (and tuples of them) alone."""
    memo = Memo()

    @functools.wraps(body)
    def function(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            return body(input, *args, **kwargs)
        for a in args:
            if type(a) is not int and not _are_ints(a):
                return body(input, *args)
        key = (input._type, input._geometry, args)
        found = memo.again(input, key)
        return memo.note(input, key, body(input, *args)) if found is None else found
    return function


def _are_ints(a: Any) -> bool:
    if not isinstance(a, tuple):
        return False
    for n in a:
        if type(n) is not int:
            return False
    return True


def check_writable(t: Tensor) -> None:
    """RuntimeError where a write that is recorded would change a leaf whose gradient is wanted."""
    if t._requires_grad:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    for operation, _ in t._view or ():
        if operation is variable:
            raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")


def assign(t: Tensor, v: Value) -> Tensor:
    """Write `v` into the tensor in place: what every `op_` and `out=` ends in. Returns `t`."""
    recorder = current.recorder
    if recorder.assign(recorder, t, v) is not None:
        return t
    if recorder.grad_enabled:
        check_writable(t)
    kind = t._type
    if v.type is not kind:
        if v.type.shape != kind.shape:
            v = fit(v, kind.shape)
        if v.type.dtype is not kind.dtype:
            v = cast_to(v, kind.dtype)
    if v.requires_grad and not recorder.grad_enabled:
        v = recorder.detached(v)
    storage = t._storage
    new = v
    if t._view is not None:
        new = written(recorder, recorder.contents(storage, t), writable_chain(t), v)
    noted, epoch = not t._requires_grad, recorder.epoch
    if not recorder.grad_enabled:
        before = storage.cell.value
        if before is not None and before.requires_grad:
            v = new = grafted(recorder.contents(storage, t), new)
            noted = noted and t._view is None
        elif t._view is not None:
            new = recorder.detached(new)
    store(recorder, storage, new)
    if noted:
        t._value, t._version, t._epoch = v, storage.version, epoch  # storing may have begun another epoch
    return t


def writable_chain(t: Tensor) -> tuple[tuple[Op, Any], ...]:
    """The view operations that a write to `t` runs backwards. What is a part of an expanded tensor, but has a place of
    its own for each element, is written where it lies."""
    chain = t._view or ()
    for operation, _ in chain:
        if operation is expand:
            break
    else:
        return chain
    shape, (strides, offset) = t._type.shape, t._geometry or (t._type.strides, 0)
    if any(operation not in _PLAIN_VIEWS for operation, _ in chain) or any(
            s == 0 and n > 1 for n, s in zip(shape, strides)):
        return chain
    return ((as_strided, (shape, strides, offset)),)


_PLAIN_VIEWS = frozenset((reshape, permute, expand, slice_))


def written(recorder: Recorder, base: Value, chain: tuple[tuple[Op, Any], ...], v: Value) -> Value:
    """`base` with `v` in place of the view that `chain` leads to."""
    key = (WRITTEN, base, chain, v)
    new = recorder.calls.get(key)
    if new is None:
        steps = [step for step in chain if step[0] is not graft]  # a write is to all that lies there
        parents = [base]
        for operation, attrs in steps[:-1]:
            parents.append(recorder.apply_view(parents[-1], operation, attrs))
        new = v
        for (operation, attrs), parent in zip(reversed(steps), reversed(parents)):
            new = _WRITE[operation](parent, attrs, new)
        if not any(operation in OWNED for operation, _ in chain):  # variables are numbered anew in each epoch
            recorder.calls[key] = new
    return new


def store(recorder: Recorder, storage: Any, new: Value) -> None:
    """Make `new` the contents of a storage; at once, in its own memory, where the outside is looking."""
    epoch = recorder.epoch
    if epoch.spent:
        epoch.revive(new)
    if recorder.levels:
        recorder.levels[-1].check_write(storage.cell, new)
    cell = Cell(storage.cell.type, new, epoch)
    epoch.pending.append(cell)
    if storage.exports is not None and storage.exported() and recorder.tracing is None:
        home = storage.cell.buffer
        storage.write(cell)
        compute_at(recorder, cell, home)
        return
    if recorder.tracing is not None:
        recorder.tracing.wrote(storage)
    storage.write(cell)
    if epoch.flush_now or not len(epoch.pending) & 63:
        recorder.after_record()


def compute_at(recorder: Recorder, cell: Cell, home: Any) -> None:
    """Compute a cell now, into memory at which the outside is looking."""
    recorder.materialise(cell)
    if cell.buffer is not home:
        home.copy_from(cell.buffer)
        cell.buffer = home


def fit(v: Value, shape: tuple[int, ...]) -> Value:
    """`v` broadcast to the shape of the tensor that is written."""
    lead = len(shape) - v.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(v.shape, shape[lead:])):
        raise RuntimeError(f"output with shape {list(shape)} doesn't match the broadcast shape {list(v.shape)}")
    return expand_to(v, shape)


def check_result_dtype(result: dtype, target: dtype) -> None:
    """In-place and `out=` results may not lower their category."""
    if result.category > target.category:
        raise RuntimeError(f"result type {type_name(result)} can't be cast to the desired output type "
                           f"{type_name(target)}")
