"""Views: tensors over the same storage."""
from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Size, Tensor, attach
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.graph import contiguous_strides
from jtorch.ir.prims import create, movement
from jtorch.ir.prims.complex import view_as_complex, view_as_real
from jtorch.ir.prims.view_dtype import view_dtype
from jtorch.ops.arguments import shape_of, wrap_dim, wrap_dims
from jtorch.ops.attach import FUNCTIONS, expose
from jtorch.views import make_view, remembered, reshaped_strides

# --- shapes ----------------------------------------------------------------------------------------------------------


def inferred_shape(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """The shape with its -1 filled in; RuntimeError with PyTorch's text where it does not fit."""
    known, unknown = 1, None
    for i, n in enumerate(shape):
        if n == -1:
            if unknown is not None:
                raise RuntimeError("only one dimension can be inferred")
            unknown = i
        elif n < 0:
            raise RuntimeError(f"invalid shape dimension {n} at index {i} of shape {list(shape)}")
        else:
            known *= n
    if unknown is None:
        if known != numel:
            raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
        return shape
    if known == 0 and numel == 0:
        raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified "
                           "dimension size -1 can be any value and is ambiguous")
    if known == 0 or numel % known:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    return (*shape[:unknown], numel // known, *shape[unknown + 1:])


def alias(t: Tensor) -> Tensor:
    """Another tensor over all of the same memory."""
    v = make_view(t, movement.reshape, (t._type.shape,))
    v._geometry = t._geometry
    return v


def _reshape(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    return make_view(t, movement.reshape, (shape,))


@expose("reshape")
@remembered
def reshape(input: Tensor, *shape: Any) -> Tensor:
    new = inferred_shape(shape_of(shape), input._type.numel)
    return input if new == input._type.shape else _reshape(input, new)


def _reshape_keyword(input: Tensor, *args: Any, shape: Any = None) -> Tensor:
    return reshape(input, *(args if shape is None else (shape,)))


FUNCTIONS["reshape"] = _reshape_keyword
attach(reshape=_reshape_keyword)


@expose("view", function=False)
@remembered
def view(self: Tensor, *shape: Any, size: Any = None, dtype: Any = None) -> Tensor:
    if size is not None:
        shape = (size,)
    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], dtypes.dtype)):
        d = dtype or shape[0]
        return alias(self) if d is self.dtype else make_view(self, view_dtype, (d,))
    new = inferred_shape(shape_of(shape), self._type.numel)
    if self._geometry is not None and reshaped_strides(self._type.shape, self._geometry[0], new) is None:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension "
                           "spans "
                           "across two contiguous subspaces). Use .reshape(...) instead.")
    return _reshape(self, new)


@expose("view_as", function=False)
def view_as(self: Tensor, other: Tensor) -> Tensor:
    return view(self, other.shape)


@expose("reshape_as", function=False)
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    return reshape(self, other.shape)


@expose("size", function=False)
def size(self: Tensor, dim: int | None = None) -> Any:
    return self.shape if dim is None else self._type.shape[wrap_dim(dim, self.ndim)]


@expose("dim", "ndimension", function=False)
def dim(self: Tensor) -> int:
    return len(self._type.shape)


@expose("ravel")
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension: a view where the input is contiguous, else a copy."""
    return reshape(input.contiguous(), -1)


@expose("flatten")
@remembered
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    n = input.ndim
    start, end = wrap_dim(start_dim, n), wrap_dim(end_dim, n)
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if n == 0:
        return reshape(input, 1)
    if start == end:
        return input
    shape = input._type.shape
    return reshape(input, (*shape[:start], math.prod(shape[start:end + 1]), *shape[end + 1:]))


@expose("unflatten")
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    d = wrap_dim(dim, input.ndim)
    sizes = tuple(sizes)
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    n = input.shape[d]
    try:
        sizes = inferred_shape(sizes, n)
    except RuntimeError:
        raise RuntimeError(f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {d} ({n}) "
                           "in the "
                           "input tensor") from None
    return view(input, (*input.shape[:d], *sizes, *input.shape[d + 1:]))


# --- permutations ----------------------------------------------------------------------------------------------------

@expose("permute")
@remembered
def permute(input: Tensor, *dims: Any) -> Tensor:
    given = shape_of(dims)
    n = input.ndim
    if len(given) != n:
        raise RuntimeError("permute(sparse_coo): number of dimensions in the tensor input does not match the length "
                           "of the "
                           f"desired ordering of dimensions i.e. input.dim() = {n} is not equal to len(dims) = "
                           f"{len(given)}")
    order = tuple([wrap_dim(d, n) for d in given])
    if len(set(order)) != n:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return make_view(input, movement.permute, (order,))


def _permute_keyword(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    return permute(input, *(args if dims is None else (dims,)))


FUNCTIONS["permute"] = _permute_keyword
attach(permute=_permute_keyword)


@expose("transpose", "swapaxes", "swapdims")
@remembered
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    n = input.ndim
    a, b = wrap_dim(dim0, n), wrap_dim(dim1, n)
    if a == b or n == 0:
        return alias(input)
    order = list(range(n))
    order[a], order[b] = b, a
    return make_view(input, movement.permute, (tuple(order),))


def _swap_keyword(input: Tensor, axis0: int, axis1: int) -> Tensor:
    return transpose(input, axis0, axis1)


FUNCTIONS["swapaxes"] = _swap_keyword
attach(swapaxes=_swap_keyword)


@expose("t")
def t(input: Tensor) -> Tensor:
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return transpose(input, 0, 1) if input.ndim == 2 else alias(input)


@expose("movedim", "moveaxis")
@remembered
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    n = input.ndim
    src, dst = (x if isinstance(x, (tuple, list)) else (x,) for x in (source, destination))
    if len(src) != len(dst):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({list(src)} dims) should contain "
                           "the same "
                           f"number of dims as destination ({list(dst)} dims)")
    src, dst = tuple(wrap_dim(d, n) for d in src), tuple(wrap_dim(d, n) for d in dst)
    for name, dims in (("source", src), ("destination", dst)):
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({list(dims)})")
    order = [-1] * n
    for s, d in zip(src, dst):
        order[d] = s
    rest = iter([i for i in range(n) if i not in src])
    return permute(input, [next(rest) if o < 0 else o for o in order]) if n else alias(input)


def _adjoint(x: Tensor) -> Tensor:
    y = transpose(x, -2, -1)
    return y.conj() if x.dtype.is_complex else y


def _get_T(self: Tensor) -> Tensor:
    if self.ndim not in (0, 2):
        warnings.warn("The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated "
                      "and it "
                      "will throw an error in a future release. Consider `x.mT` to transpose batches of matrices or "
                      "`x.permute(*torch.arange(x.ndim - 1, -1, -1))` to reverse the dimensions of a tensor.",
                      UserWarning, stacklevel=2)
    return permute(self, tuple(range(self.ndim - 1, -1, -1)))


def _get_mT(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
    return transpose(self, -2, -1)


def _get_H(self: Tensor) -> Tensor:
    if self.ndim not in (0, 2):
        raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor.")
    return _adjoint(self) if self.ndim else alias(self)


def _get_mH(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise RuntimeError(f"tensor.mH is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
    return _adjoint(self)


attach(T=property(_get_T), mT=property(_get_mT), H=property(_get_H), mH=property(_get_mH))


@expose("adjoint")
def adjoint(input: Tensor) -> Tensor:
    if input.ndim < 2:
        raise RuntimeError("tensor.adjoint() is only supported on matrices or batches of matrices. Got "
                           f"{input.ndim}-D tensor.")
    return _adjoint(input)


# --- sizes of 1 ------------------------------------------------------------------------------------------------------

@expose("squeeze")
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    shape, n = input._type.shape, input.ndim
    dims = range(n) if dim is None else wrap_dims(dim, n)
    gone = [d for d in dims if n and shape[d] == 1]
    keep = [d for d in range(n) if d not in gone]
    if not gone:
        return alias(input)
    strides, offset = input.stride(), input.storage_offset()
    result = _reshape(input, tuple(shape[d] for d in keep))
    return _placed(result, tuple(strides[d] for d in keep), offset)


def _placed(v: Tensor, strides: tuple[int, ...], offset: int) -> Tensor:
    """Note the strides that PyTorch reports where a size is 1 (or 0) and any stride would do."""
    v._geometry = None if offset == 0 and strides == contiguous_strides(v._type.shape) else (strides, offset)
    return v


@expose("unsqueeze")
@remembered
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    n = input.ndim + 1
    d = wrap_dim(dim, n)
    shape, strides = input._type.shape, input.stride()
    step = shape[d] * strides[d] if d < n - 1 else 1
    result = _reshape(input, (*shape[:d], 1, *shape[d:]))
    return _placed(result, (*strides[:d], step, *strides[d:]), input.storage_offset())


@expose("expand", function=False)
@remembered
def expand(self: Tensor, *sizes: Any, size: Any = None, implicit: bool = False) -> Tensor:
    new = shape_of(sizes if size is None else (size,))
    shape = self._type.shape
    lead = len(new) - len(shape)
    if lead < 0:
        raise RuntimeError(f"expand({tensor_words(self)}, size={list(new)}): the number of sizes provided "
                           f"({len(new)}) must be greater or equal to the number of dimensions in the tensor "
                           f"({len(shape)})")
    full = []
    for i, n in enumerate(new):
        old = shape[i - lead] if i >= lead else 1
        if n == -1:
            if i < lead:
                raise RuntimeError(f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing "
                                   f"dimension {i}")
            n = old
        elif n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(new)}")
        if old != n and old != 1:
            raise RuntimeError(f"The expanded size of the tensor ({n}) must match the existing size ({old}) at "
                               f"non-singleton dimension {i}.  Target sizes: {list(new)}.  Tensor sizes: {list(shape)}")
        full.append(n)
    if tuple(full) == shape:
        return alias(self)
    return make_view(self, movement.expand, (tuple(full),))


def tensor_words(x: Tensor) -> str:
    kinds = {"float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int", "bool": "Bool"}
    return f"torch.{kinds.get(x.dtype.name, x.dtype.name)}Tensor{{{list(x.shape)}}}"


@expose("broadcast_to")
def broadcast_to(input: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    return expand(input, *sizes, size=size)


@expose("expand_as", function=False)
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    return expand(self, other.shape)


@expose("broadcast_tensors", method=False)
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    shape = arith.broadcast_shapes(*[x._type.shape for x in tensors])
    return tuple([expand(x, shape) for x in tensors])


@expose("broadcast_shapes", method=False)
def broadcast_shapes(*shapes: Any) -> Any:
    full = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    try:
        return Size(arith.broadcast_shapes(*full) if full else ())
    except RuntimeError:
        raise RuntimeError("Shape mismatch: objects cannot be broadcast to a single shape") from None


# --- parts -----------------------------------------------------------------------------------------------------------

def slice_dim(x: Tensor, d: int, start: int, stop: int, step: int = 1) -> Tensor:
    """x[..., start:stop:step, ...] with 0 <= start <= stop <= size."""
    shape = x._type.shape
    starts, stops, steps = [0] * len(shape), list(shape), [1] * len(shape)
    starts[d], stops[d], steps[d] = start, stop, step
    return make_view(x, movement.slice_, (tuple(starts), tuple(stops), tuple(steps)))


@expose("narrow")
@remembered
def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    if input.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, input.ndim)
    n = input.shape[d]
    if isinstance(start, Tensor) and (start.ndim or start.dtype.category != dtypes.INT):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    start = int(start)
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -n <= start <= n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start += n if start < 0 else 0
    if start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return slice_dim(input, d, start, start + length)


@expose("narrow_copy")
def narrow_copy(input: Tensor, dim: int, start: Any, length: int, *, out: Any = None) -> Tensor:
    part = narrow(input, dim, start, length)
    return part.clone() if out is None else out.resize_(part.shape).copy_(part)


@expose("select")
@remembered
def select(input: Tensor, dim: int, index: Any) -> Tensor:
    if input.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, input.ndim)
    n = input.shape[d]
    i = operator.index(index)
    if not -n <= i < n:
        raise IndexError(f"select(): index {i} out of range for tensor of size {list(input.shape)} at dimension {d}")
    return select_at(input, d, i % n)


def select_at(x: Tensor, d: int, i: int) -> Tensor:
    part = slice_dim(x, d, i, i + 1)
    shape, strides = part._type.shape, part.stride()
    result = _reshape(part, shape[:d] + shape[d + 1:])
    return _placed(result, strides[:d] + strides[d + 1:], part.storage_offset())


def _slice_function(input: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    d = wrap_dim(dim, input.ndim)
    a, b, c = slice(start, end, step).indices(input.shape[d])
    return slice_dim(input, d, a, max(a, b), c)


@expose("unbind")
@remembered
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    if input.ndim == 0:
        raise RuntimeError("Dimension specified as 0 but tensor has no dimensions") if dim in (0, -1) else IndexError(
            "Dimension specified as 0 but tensor has no dimensions")
    d = wrap_dim(dim, input.ndim)
    return tuple([select_at(input, d, i) for i in range(input.shape[d])])


@expose("split")
@remembered
def split(input: Tensor, split_size_or_sections: Any = None, dim: int = 0, *, split_size: Any = None) -> tuple[Tensor,
                                                                                                               ...]:
    sizes = split_size_or_sections if split_size is None else split_size
    if isinstance(sizes, (tuple, list)):
        return split_with_sizes(input, sizes, dim)
    if input.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, input.ndim)
    n, step = input.shape[d], operator.index(sizes)
    if step < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={step}")
    if step == 0:
        if n:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        return (alias(input),)
    return tuple([slice_dim(input, d, i, min(i + step, n)) for i in range(0, n, step)]) or (slice_dim(input, d, 0, 0),)


@expose("split_with_sizes")
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    if input.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, input.ndim)
    n, start, parts = input.shape[d], 0, []
    sizes = [operator.index(s) for s in split_sizes]
    if any(s < 0 for s in sizes) or sum(sizes) != n:
        raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                           "dimension "
                           f"{d}), but got split_sizes={sizes}")
    for s in sizes:
        parts.append(slice_dim(input, d, start, start + s))
        start += s
    return tuple(parts)


@expose("chunk")
@remembered
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    if input.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    d = wrap_dim(dim, input.ndim)
    n = input.shape[d]
    step = -(-n // chunks)
    if step == 0:
        return tuple([slice_dim(input, d, 0, 0) for _ in range(chunks)])
    return split(input, step, d)


@expose("tensor_split")
def tensor_split(input: Tensor, indices_or_sections: Any = None, dim: int = 0, *, indices: Any = None,
                 sections: Any = None) -> tuple[Tensor, ...]:
    given = next(x for x in (indices_or_sections, indices, sections) if x is not None)
    if input.ndim == 0:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = wrap_dim(dim, input.ndim)
    n = input.shape[d]
    if isinstance(given, Tensor):
        given = given.tolist()
    if isinstance(given, (tuple, list)):
        ends = [slice(0, i).indices(n)[1] for i in given]
        starts = [0, *ends]
        return tuple([slice_dim(input, d, a, max(a, b)) for a, b in zip(starts, [*ends, n])])
    if given <= 0:
        raise RuntimeError(f"number of sections must be larger than 0, got {given}")
    small, extra = divmod(n, given)
    parts, start = [], 0
    for i in range(given):
        stop = start + small + (i < extra)
        parts.append(slice_dim(input, d, start, stop))
        start = stop
    return tuple(parts)


def _split_along(name: str, least: int, axis: Any) -> None:
    def function(input: Tensor, indices_or_sections: Any = None, *, indices: Any = None, sections: Any = None
                 ) -> tuple[Tensor, ...]:
        given = next(x for x in (indices_or_sections, indices, sections) if x is not None)
        if input.ndim < least:
            raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension"
                               f"{'s' if least > 1 else ''}, but got a tensor with {input.ndim} dimensions!")
        d = axis(input)
        if isinstance(given, int) and (given == 0 or input.shape[d] % given):
            raise RuntimeError(f"torch.{name} attempted to split along dimension {d}, but the size of the dimension "
                               f"{input.shape[d]} is not divisible by the split_size {given}!")
        return tensor_split(input, given, d)
    function.__name__ = name
    expose(name)(function)


_split_along("hsplit", 1, lambda x: 0 if x.ndim == 1 else 1)
_split_along("vsplit", 2, lambda x: 0)
_split_along("dsplit", 3, lambda x: 2)


@expose("diagonal")
@remembered
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    n = input.ndim
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    shape, strides = input._type.shape, input.stride()
    length = max(min(shape[a], shape[b] - offset) if offset >= 0 else min(shape[a] + offset, shape[b]), 0)
    rest = [d for d in range(n) if d not in (a, b)]
    new = (*[shape[d] for d in rest], length)
    steps = (*[strides[d] for d in rest], strides[a] + strides[b])
    start = input.storage_offset()
    if length:
        start += offset * strides[b] if offset >= 0 else -offset * strides[a]
    # as view operations that fuse: put the two axes last, cut the diagonal out of the flattened matrix
    x = permute(input, (*rest, a, b))
    rows, columns = shape[a], shape[b]
    if length == 0:
        return _placed(_reshape(slice_dim(slice_dim(x, n - 1, 0, 0), n - 2, 0, min(1, rows)),
                                (*new[:-1], 0)) if rows else _reshape(slice_dim(x, n - 1, 0, min(1, columns)), new),
                       steps, start)
    x = narrow(narrow(x, n - 2, max(-offset, 0), length), n - 1, max(offset, 0), length)
    if x._view is not None and length > 1 and reshaped_strides(x._type.shape, x.stride(),
                                                               (*new[:-1], length * length)) is None:
        return as_strided(input, new, steps, start)
    flat = _reshape(x, (*new[:-1], length * length))
    return _placed(slice_dim(flat, flat.ndim - 1, 0, length * length, length + 1), steps, start)


@expose("as_strided")
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    shape, strides = tuple(size), tuple(stride)
    if len(shape) != len(strides):
        raise RuntimeError("mismatch in length of strides and shape")
    if any(s < 0 for s in strides):
        raise RuntimeError("as_strided: Negative strides are not supported at the moment, got strides: "
                           f"{list(strides)}")
    start = input.storage_offset() if storage_offset is None else storage_offset
    if start < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {start}")
    reach = start + sum((n - 1) * s for n, s in zip(shape, strides)) if 0 not in shape else -1
    nbytes = input._storage.cell.type.nbytes
    if (reach + 1) * input.itemsize > nbytes:
        raise RuntimeError(f"setStorage: sizes {list(shape)}, strides {list(strides)}, storage offset {start}, and "
                           f"itemsize {input.itemsize} requiring a storage size of {(reach + 1) * input.itemsize} are "
                           f"out of bounds for storage of size {nbytes}")
    return make_view(whole(input), movement.as_strided, (shape, strides, start))


def whole(x: Tensor) -> Tensor:
    """The storage of a tensor as a tensor of its dtype: what strides and offsets refer to. It keeps the markers of the
    chain, and conjugation."""
    if x._view is None:
        return x
    base: Tensor = object.__new__(Tensor)
    base._storage, base._type, base._geometry = x._storage, x._storage.cell.type, None
    base._view = tuple([(operation, owner) for operation, owner in x._view if operation is create.detach
                        or (operation is create.variable and owner._view is None)]) or None
    base._value, base._version, base._epoch, base._requires_grad, base._grad = None, -1, None, False, None  # type: ignore
    d = x._type.dtype
    if base._type.dtype is not d:
        base = _reshape(base, (base._type.numel,))
        if base._type.dtype.is_complex and base._type.dtype.to_real() is d:  # as these, it is differentiable
            base = make_view(base, view_as_real, ())
        elif d.is_complex and base._type.dtype is d.to_real():
            base = make_view(_reshape(base, (-1, 2)), view_as_complex, ())
        else:
            used = base._type.nbytes // d.itemsize * d.itemsize // base.itemsize
            base = make_view(slice_dim(base, 0, 0, used), view_dtype, (d,))
    for op in x._pending_ops():
        base = make_view(base, op, ())
    if current.recorder.grad_enabled and x.requires_grad:  # what is differentiated is `x`, not what lies beside it
        base._view = (*(base._view or ()), (create.graft, x))
    return base


@expose("dim_order", function=False)
def dim_order(self: Tensor) -> tuple[int, ...]:
    """The dimensions from the one with the largest stride to the one with the smallest."""
    strides = self.stride()
    return tuple(sorted(range(self.ndim), key=lambda d: (-strides[d], d)))


@expose("unfold", function=False)
@remembered
def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    d = wrap_dim(dimension, self.ndim)
    shape, strides = self._type.shape, self.stride()
    n = shape[d] if shape else 1
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if not shape:
        return make_view(self, movement.reshape, ((1,),)) if size == 1 else as_strided(self, (size,), (1,))
    count = (n - size) // step + 1
    return as_strided(self, (*shape[:d], count, *shape[d + 1:], size),
                      (*strides[:d], strides[d] * step, *strides[d + 1:], strides[d]))


def _in_place_view(name: str, function: Any) -> None:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        v = function(self, *args, **kwargs)
        self._type, self._view, self._geometry, self._epoch = v._type, v._view, v._geometry, None
        return self
    method.__name__ = name
    setattr(Tensor, name, method)


for _name, _function in {"squeeze_": squeeze, "unsqueeze_": unsqueeze, "transpose_": transpose, "t_": t,
                         "swapaxes_": transpose, "swapdims_": transpose, "as_strided_": as_strided}.items():
    _in_place_view(_name, _function)

for _name in ("chunk", "split", "split_with_sizes"):
    FUNCTIONS["unsafe_" + _name] = FUNCTIONS[_name]
    setattr(Tensor, "unsafe_" + _name, FUNCTIONS[_name])
for _name in ("select", "squeeze", "unsqueeze", "permute", "transpose"):
    def _copying(input: Tensor, *args: Any, _view: Any = FUNCTIONS[_name], **kwargs: Any) -> Tensor:
        return _view(input, *args, **kwargs).clone()
    FUNCTIONS[_name + "_copy"] = _copying
