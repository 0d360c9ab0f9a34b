"""The matrix products: matmul and its family, einsum, tensordot."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from jtorch import dtypes
from jtorch._tensor import Tensor, attach
from jtorch.capture.dispatch import Function
from jtorch.capture.record import current
from jtorch.ir import arith
from jtorch.ir.arith import Operand
from jtorch.ir.graph import Value
from jtorch.ir.prims import contract, movement, reduce
from jtorch.ir.prims import elementwise as ew
from jtorch.ir.prims.complex import complex_of, conjugated, imag, real
from jtorch.ir.prims.create import constant
from jtorch.ir.prims.matrices import adjoint
from jtorch.ops.arguments import wrap_dim
from jtorch.ops.attach import FUNCTIONS, define
from jtorch.ops.pointwise import fast_binary, fast_inplace
from jtorch.views import type_name


def _same_dtype(name: str, a: Value, b: Value) -> None:
    if a.dtype is not b.dtype:
        if name == "dot":
            raise RuntimeError(f"dot : expected both vectors to have same dtype, but found {type_name(a.dtype)} and "
                               f"{type_name(b.dtype)}")
        raise RuntimeError("expected m1 and m2 to have the same dtype, but got: "
                           f"{_C_NAMES.get(a.dtype.name, a.dtype.name)} "
                           f"!= {_C_NAMES.get(b.dtype.name, b.dtype.name)}")


_C_NAMES = {"float32": "float", "float64": "double", "int64": "long long", "int32": "int", "int16": "short int",
            "int8": "signed char", "uint8": "unsigned char", "float16": "c10::Half", "bfloat16": "c10::BFloat16"}


def product(a: Value, b: Value) -> Value:
    """[..., M, K] @ [..., K, N] with equal leading axes, in any dtype; an empty K gives zeros."""
    if a.shape[-1] == 0 or a.type.numel == 0 or b.type.numel == 0:
        shape = (*a.shape[:-1], b.shape[-1])
        if not (a.requires_grad or b.requires_grad):
            return constant(a.builder, False if a.dtype is dtypes.bool_ else 0, a.dtype, shape)
    return contract.matmul(a, b)


def _sizes(a: Value, b: Value) -> str:
    return f"({'x'.join(map(str, a.shape))} and {'x'.join(map(str, b.shape))})"


def multiply(a: Value, b: Value) -> Value:
    """`torch.matmul` for every combination of ranks."""
    if a.ndim == 0 or b.ndim == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D")
    if a.ndim == 1 and b.ndim == 1:
        return dot_product(a, b)
    _same_dtype("matmul", a, b)
    rows = movement.reshape_to(a, (1, *a.shape)) if a.ndim == 1 else a
    columns = movement.reshape_to(b, (*b.shape, 1)) if b.ndim == 1 else b
    if rows.shape[-1] != columns.shape[-2]:
        _mismatch(a, b, rows, columns)
    if rows.ndim > 2 and columns.ndim == 2:  # one matrix for all: one big product
        lead = rows.shape[:-1]
        y = product(movement.reshape_to(rows, (_count(lead), rows.shape[-1])), columns)
        y = movement.reshape_to(y, (*lead, columns.shape[-1]))
    else:
        lead = arith.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        y = product(movement.expand_to(rows, (*lead, *rows.shape[-2:])),
                    movement.expand_to(columns, (*lead, *columns.shape[-2:])))
    if a.ndim == 1:
        y = movement.reshape_to(y, (*y.shape[:-2], y.shape[-1]))
    if b.ndim == 1:
        y = movement.reshape_to(y, y.shape[:-1])
    return y


def _mismatch(a: Value, b: Value, rows: Value, columns: Value) -> None:
    if a.ndim <= 2 and b.ndim == 1:
        raise RuntimeError(f"size mismatch, got input ({rows.shape[-2]}), mat ({rows.shape[-2]}x{rows.shape[-1]}), vec "
                           f"({b.shape[0]})")
    if b.ndim <= 2:
        n = _count(rows.shape[:-1])
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({n}x{rows.shape[-1]} and "
                           f"{columns.shape[-2]}x{columns.shape[-1]})")
    lead = arith.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    n = _count(lead)
    raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{n}, {rows.shape[-1]}] but "
                       "got: "
                       f"[{n}, {columns.shape[-2]}].")


def _count(shape: Sequence[int]) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


def dot_product(a: Value, b: Value) -> Value:
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {a.ndim}D and {b.ndim}D tensors")
    _same_dtype("dot", a, b)
    if a.shape != b.shape:
        raise RuntimeError(f"inconsistent tensor size, expected tensor [{a.shape[0]}] and src [{b.shape[0]}] to have "
                           "the same "
                           f"number of elements, but got {a.shape[0]} and {b.shape[0]} elements respectively")
    return reduce.sum_(a * b, axes=(0,))


@define("matmul")
def matmul(input: Value, other: Value) -> Value:
    return multiply(input, other)


def _matmul_operator(a: Value, b: Value) -> Value:
    return multiply(a, b)


_function = Function(_matmul_operator)
_fast = fast_binary(_function)


def _tensors_only(method: Any) -> Any:
    def operate(self: Tensor, other: Any) -> Any:
        return method(self, other) if isinstance(other, Tensor) else NotImplemented
    return operate


attach(__matmul__=_tensors_only(_fast))
attach(__rmatmul__=_tensors_only(fast_binary(_function, reflected=True)))
attach(__imatmul__=_tensors_only(fast_inplace(_function)))


def _matrices(name: str, a: Value, b: Value) -> None:
    if a.ndim != 2:
        raise RuntimeError("self must be a matrix" if name == "mm" else f"mat1 must be a matrix, got {a.ndim}-D tensor")
    if b.ndim != 2:
        raise RuntimeError("mat2 must be a matrix" if name == "mm" else f"mat2 must be a matrix, got {b.ndim}-D tensor")
    _same_dtype(name, a, b)
    if a.shape[1] != b.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied {_sizes(a, b)}")


@define()
def mm(input: Value, mat2: Value) -> Value:
    _matrices("mm", input, mat2)
    return product(input, mat2)


def _batches(a: Value, b: Value, names: tuple[str, str] = ("batch1", "batch2")) -> None:
    for v, name in zip((a, b), names):
        if v.ndim != 3:
            raise RuntimeError(f"{name} must be a 3D tensor")
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, "
                           f"{a.shape[2]}] but "
                           f"got: [{b.shape[0]}, {b.shape[1]}].")
    _same_dtype("bmm", a, b)


@define()
def bmm(input: Value, mat2: Value) -> Value:
    _batches(input, mat2)
    return product(input, mat2)


def _matrix_vector(m: Value, v: Value) -> Value:
    if m.ndim != 2 or v.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got 1, {m.ndim}, {v.ndim}")
    if m.shape[1] != v.shape[0]:
        raise RuntimeError(f"size mismatch, got input ({m.shape[0]}), mat ({m.shape[0]}x{m.shape[1]}), vec "
                           f"({v.shape[0]})")
    _same_dtype("mv", m, v)
    return movement.reshape_to(product(m, movement.reshape_to(v, (*v.shape, 1))), (m.shape[0],))


@define()
def mv(input: Value, vec: Value) -> Value:
    return _matrix_vector(input, vec)


@define()
def dot(input: Value, tensor: Value) -> Value:
    return dot_product(input, tensor)


@define()
def vdot(input: Value, other: Value) -> Value:
    return dot_product(conjugated(input), other)


def _combined(base: Value, y: Value, beta: Operand, alpha: Operand, name: str) -> Value:
    if base.dtype is not y.dtype:
        raise RuntimeError(f"self and mat2 must have the same dtype, but got {type_name(base.dtype)} and "
                           f"{type_name(y.dtype)}")
    try:
        movement.expand_to(base, y.shape)
    except RuntimeError:
        for i, (n, m) in enumerate(zip(reversed(base.shape), reversed(y.shape))):
            if n not in (1, m):
                raise RuntimeError(f"The expanded size of the tensor ({m}) must match the existing size ({n}) at "
                                   f"non-singleton dimension {y.ndim - 1 - i}.  Target sizes: {list(y.shape)}.  Tensor "
                                   f"sizes: {list(base.shape)}") from None
        raise RuntimeError(f"expand(torch.{type_name(base.dtype)}Tensor{{{list(base.shape)}}}, "
                           f"size={list(y.shape)}): the "
                           f"number of sizes provided ({y.ndim}) must be greater or equal to the number of "
                           "dimensions in the "
                           f"tensor ({base.ndim})") from None
    if y.dtype.category <= dtypes.INT:  # the factors are integers too, then
        alpha, beta = (arith.as_value(y.builder, x, y.dtype) for x in (alpha, beta))
    whole_y, whole_base = (not isinstance(x, Value) and x == 1 for x in (alpha, beta))
    if whole_y and whole_base:
        return base + y

    def combined(base: Value, y: Value) -> Value:
        multiple = y if whole_y else ew.cast_to(y * alpha, y.dtype)
        if not isinstance(beta, Value) and beta == 0:
            return multiple
        return (base if whole_base else ew.cast_to(base * beta, base.dtype)) + multiple
    return arith.rounded_once(combined, base, y)


@define(inplace=True)
def addmm(input: Value, mat1: Value, mat2: Value, *, beta: Operand = 1, alpha: Operand = 1) -> Value:
    _matrices("addmm", mat1, mat2)
    return _combined(input, product(mat1, mat2), beta, alpha, "addmm")


@define(inplace=True)
def addmv(input: Value, mat: Value, vec: Value, *, beta: Operand = 1, alpha: Operand = 1) -> Value:
    return _combined(input, _matrix_vector(mat, vec), beta, alpha, "addmv")


@define(inplace=True)
def baddbmm(input: Value, batch1: Value, batch2: Value, *, beta: Operand = 1, alpha: Operand = 1) -> Value:
    _batches(batch1, batch2)
    return _combined(input, product(batch1, batch2), beta, alpha, "baddbmm")


@define(inplace=True)
def addbmm(input: Value, batch1: Value, batch2: Value, *, beta: Operand = 1, alpha: Operand = 1) -> Value:
    _batches(batch1, batch2)
    return _combined(input, reduce.sum_(product(batch1, batch2), axes=(0,)), beta, alpha, "addbmm")


@define(inplace=True)
def addr(input: Value, vec1: Value, vec2: Value, *, beta: Operand = 1, alpha: Operand = 1) -> Value:
    return _combined(input, _outer(vec1, vec2), beta, alpha, "addr")


def _outer(a: Value, b: Value) -> Value:
    for name, v in (("self", a), ("vec2", b)):
        if v.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {v.ndim}-D")
    return arith.mul(movement.reshape_to(a, (*a.shape, 1)), b)


@define("outer", "ger")
def outer(input: Value, vec2: Value) -> Value:
    return _outer(input, vec2)


@define()
def inner(input: Value, other: Value) -> Value:
    if input.ndim == 0 or other.ndim == 0:
        return arith.mul(input, other)
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError("inner() the last dimension must match on both input tensors but got shapes "
                           f"{list(input.shape)} "
                           f"and {list(other.shape)}")
    return contracted(input, other, (input.ndim - 1,), (other.ndim - 1,))


def contracted(a: Value, b: Value, a_dims: Sequence[int], b_dims: Sequence[int]) -> Value:
    """Sum of products over pairs of dimensions; the others in order, a's first."""
    a_free = [d for d in range(a.ndim) if d not in a_dims]
    b_free = [d for d in range(b.ndim) if d not in b_dims]
    shape = tuple([a.shape[d] for d in a_free] + [b.shape[d] for d in b_free])
    k = _count([a.shape[d] for d in a_dims])
    left = movement.permute_to(a, (*a_free, *a_dims))
    right = movement.permute_to(b, (*b_dims, *b_free))
    left = movement.reshape_to(left, (_count(left.shape[:len(a_free)]), k))
    right = movement.reshape_to(right, (k, _count(right.shape[len(b_dims):])))
    return movement.reshape_to(product(left, right), shape)


@define(method=False)
def tensordot(a: Value, b: Value, dims: Any = 2) -> Value:
    if isinstance(dims, Value):
        raise TypeError("tensordot(): dims as a tensor is not supported")
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        a_dims: Sequence[int] = range(a.ndim - dims, a.ndim)
        b_dims: Sequence[int] = range(dims)
    else:
        a_dims, b_dims = ((d,) if isinstance(d, int) else d for d in dims)
    if len(a_dims) != len(b_dims):
        raise RuntimeError("both dimension lists should have same length")
    _same_dtype("tensordot", a, b)
    a_dims, b_dims = [wrap_dim(d, a.ndim) for d in a_dims], [wrap_dim(d, b.ndim) for d in b_dims]
    for i, j in zip(a_dims, b_dims):
        n, m = a.shape[i], b.shape[j]
        if n != m and 1 not in (n, m):
            raise RuntimeError(f"contracted dimensions need to match, but first has size {n} in dim {i} and second "
                               "has size "
                               f"{m} in dim {j}")
        if n != m and n == 1:
            b = _sum_keeping(b, j)
        elif n != m:
            a = _sum_keeping(a, i)
    return contracted(a, b, a_dims, b_dims)


def _sum_keeping(v: Value, d: int) -> Value:
    return movement.reshape_to(reduce.sum_(v, axes=(d,)), tuple([1 if i == d else n for i, n in enumerate(v.shape)]))


# --- einsum ----------------------------------------------------------------------------------------------------------

@define(method=False, function=False)
def _einsum(equation: str, operands: tuple[Value, ...]) -> Value:
    inputs, output = _parse(equation, operands)
    d = operands[0].dtype
    for v in operands:
        if v.dtype is not d:
            raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {_C_NAMES.get(d.name, d.name)} != "
                               f"{_C_NAMES.get(v.dtype.name, v.dtype.name)}")
    terms = [_diagonal_labels(v, labels) for v, labels in zip(operands, inputs)]
    sizes: dict[Any, int] = {}
    for v, labels in terms:
        for n, label in zip(v.shape, labels):
            if sizes.setdefault(label, n) != n:
                if 1 not in (n, sizes[label]):
                    raise RuntimeError("einsum(): operands do not broadcast with remapped shapes "
                                       "[original->remapped]: "
                                       f"{[list(o.shape) for o in operands]}")
                sizes[label] = max(n, sizes[label])
    value, labels = terms[0]
    for i, (other, other_labels) in enumerate(terms[1:], 1):
        later = set(output).union(*[set(t[1]) for t in terms[i + 1:]])
        value, labels = _contract(value, labels, other, other_labels, later)
    gone = [label for label in labels if label not in output]
    if gone and value.dtype.category <= dtypes.INT:
        value = ew.cast_to(value, dtypes.int64)
    value, labels = _sum_labels(value, labels, gone)
    value = movement.permute_to(value, tuple([labels.index(label) for label in output]))
    return movement.expand_to(value, tuple([sizes[label] for label in output]))


def _parse(equation: str, operands: Sequence[Value]) -> tuple[list[list[Any]], list[Any]]:
    """Labels of every operand and of the result; an ellipsis becomes labels that are numbers (from the right)."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(operands):
        comparison = "more" if len(parts) < len(operands) else "fewer"
        raise RuntimeError(f"einsum(): {comparison} operands were provided than specified in the equation")
    inputs, widest = [], 0
    for i, (part, v) in enumerate(zip(parts, operands)):
        before, dots, after = part.partition("...")
        for c in before + after:
            if not c.isalpha():
                raise RuntimeError(f"einsum(): invalid subscript given at index {equation.index(c)} in the equation "
                                   "string, "
                                   "subscripts must be in [a-zA-Z]")
        named = len(before) + len(after)
        if named > v.ndim or (named < v.ndim and not dots):
            raise RuntimeError(f"einsum(): the number of subscripts in the equation ({named}) "
                               f"{'is more than' if named > v.ndim else 'does not match'} the number of dimensions "
                               f"({v.ndim}) for operand {i}" + (" and no ellipsis was given" if not dots else ""))
        free = v.ndim - named
        widest = max(widest, free)
        inputs.append([*before, *range(free - 1, -1, -1), *after])
    ellipsis = list(range(widest - 1, -1, -1))
    if arrow:
        before, dots, after = right.partition("...")
        output: list[Any] = [*before, *(ellipsis if dots else []), *after]
        for c in before + after:
            if c not in left:
                raise RuntimeError(f"einsum(): output subscript {c} does not appear in the equation for any input "
                                   "operand")
            if (before + after).count(c) > 1:
                raise RuntimeError(f"einsum(): output subscript {c} appears more than once in the output")
    else:
        letters = [c for labels in inputs for c in labels if isinstance(c, str)]
        output = ellipsis + sorted([c for c in set(letters) if letters.count(c) == 1])
    return inputs, output


def _diagonal_labels(v: Value, labels: list[Any]) -> tuple[Value, list[Any]]:
    """Take the diagonal over a label that one operand carries twice."""
    while len(set(labels)) < len(labels):
        label = next(x for x in labels if labels.count(x) > 1)
        a = labels.index(label)
        b = labels.index(label, a + 1)
        n = v.shape[a]
        if n != v.shape[b]:
            raise RuntimeError(f"einsum(): subscript {label} is repeated for operand 0 but the sizes don't match, "
                               f"{v.shape[b]} != {n}")
        rest = [d for d in range(v.ndim) if d not in (a, b)]
        v = movement.permute_to(v, (*rest, a, b))
        lead = v.shape[:-2]
        flat = movement.reshape_to(v, (*lead, n * n))
        v = movement.slice_axis(flat, len(lead), 0, n * n, n + 1)
        labels = [labels[d] for d in rest] + [label]
    return v, labels


def _sum_labels(v: Value, labels: list[Any], gone: Sequence[Any]) -> tuple[Value, list[Any]]:
    axes = tuple(sorted(labels.index(label) for label in gone))
    return (reduce.sum_(v, axes=axes) if axes else v), [label for label in labels if label not in gone]


def _contract(a: Value, a_labels: list[Any], b: Value, b_labels: list[Any], later: set[Any]) -> tuple[Value, list[Any]]:
    a, a_labels = _sum_labels(a, a_labels, [x for x in a_labels if x not in later and x not in b_labels])
    b, b_labels = _sum_labels(b, b_labels, [x for x in b_labels if x not in later and x not in a_labels])
    shared = [x for x in a_labels if x in b_labels]
    summed = [x for x in shared if x not in later]
    for x in list(summed):  # a broadcast size of 1 against the other's: sum the other first
        n, m = a.shape[a_labels.index(x)], b.shape[b_labels.index(x)]
        if n != m:
            if n == 1:
                b = _sum_keeping(b, b_labels.index(x))
            else:
                a = _sum_keeping(a, a_labels.index(x))
    batch = [x for x in shared if x in later]
    a_free = [x for x in a_labels if x not in shared]
    b_free = [x for x in b_labels if x not in shared]
    left = movement.permute_to(a, tuple([a_labels.index(x) for x in batch + a_free + summed]))
    right = movement.permute_to(b, tuple([b_labels.index(x) for x in batch + summed + b_free]))
    k = len(batch)
    lead = arith.broadcast_shapes(left.shape[:k], right.shape[:k])
    left, right = movement.expand_to(left, (*lead, *left.shape[k:])), movement.expand_to(right,
                                                                                         (*lead, *right.shape[k:]))
    a_shape, b_shape = left.shape[k:k + len(a_free)], right.shape[k + len(summed):]
    labels = batch + a_free + b_free
    if not summed and (not a_free or not b_free):  # no product of matrices in it
        left = movement.reshape_to(left, (*lead, *a_shape, *[1] * len(b_free)))
        right = movement.reshape_to(right, (*lead, *[1] * len(a_free), *b_shape))
        return arith.mul(left, right), labels
    inner_size = _count(left.shape[k + len(a_free):])
    y = product(movement.reshape_to(left, (*lead, _count(a_shape), inner_size)),
                movement.reshape_to(right, (*lead, inner_size, _count(b_shape))))
    return movement.reshape_to(y, (*lead, *a_shape, *b_shape)), labels


def einsum(*args: Any) -> Tensor:
    """`torch.einsum("ij,jk->ik", a, b)`, also with the operands as a list or as (operand, labels) pairs."""
    if not args:
        raise ValueError("einsum(): must specify the equation string and at least one operand, or at least one "
                         "operand and "
                         "its subscripts list")
    if isinstance(args[0], Tensor):
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

        def spelled(labels: Any) -> str:
            return "".join("..." if x is Ellipsis else letters[x] for x in labels)
        operands = args[0:len(args) // 2 * 2:2]
        equation = ",".join(spelled(x) for x in args[1:len(args) // 2 * 2:2])
        if len(args) % 2:
            equation += "->" + spelled(args[-1])
    else:
        equation, *rest = args
        operands = tuple(rest[0] if len(rest) == 1 and isinstance(rest[0], (list, tuple)) else rest)
    return _einsum(equation, operands)


@define(method=True)
def kron(input: Value, other: Value) -> Value:
    n = max(input.ndim, other.ndim)
    a, b = ((1,) * (n - v.ndim) + v.shape for v in (input, other))
    left = movement.reshape_to(input, tuple([k for s in a for k in (s, 1)]))
    right = movement.reshape_to(other, tuple([k for s in b for k in (1, s)]))
    return movement.reshape_to(arith.mul(left, right), tuple([s * t for s, t in zip(a, b)]))


def chain_matmul(*matrices: Tensor, out: Any = None) -> Tensor:
    y = matrices[0]
    for m in matrices[1:]:
        y = y @ m
    return y


@define()
def cross(input: Value, other: Value, dim: int | None = None) -> Value:
    a, b = arith.promote(input, other)
    axis = next((d for d, n in enumerate(a.shape) if n == 3), None) if dim is None else wrap_dim(dim, a.ndim)
    if axis is None:
        raise RuntimeError("no dimension of size 3 in input")
    if a.shape[axis] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {axis if dim is None else dim} must have length 3. Got "
                           f"{input.shape[axis]} and {other.shape[axis]}")

    x, y = ([movement.slice_axis(v, axis, i, i + 1) for i in range(3)] for v in (a, b))
    return movement.concatenate(*[x[i] * y[j] - x[j] * y[i] for i, j in ((1, 2), (2, 0), (0, 1))], axis=axis)


def _check_weights(name: str, w: Value | None, n: int, kind: str, fits: Callable[[dtypes.dtype], bool]) -> None:
    if w is None:
        return
    if w.ndim > 1:
        raise RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {w.ndim} "
                           "dimensions")
    if not fits(w.dtype):
        raise RuntimeError(f"cov(): expected {name} to have {kind} dtype but got {name} with {type_name(w.dtype)} "
                           "dtype")
    if w.type.numel != n:
        raise RuntimeError(f"cov(): expected {name} to have the same numel as there are observations in the input but "
                           f"got {w.type.numel} != {n}")


@define()
def cov(input: Value, *, correction: int = 1, fweights: Value | None = None, aweights: Value | None = None) -> Value:
    if input.ndim > 2:
        raise RuntimeError("cov(): expected input to have two or fewer dimensions but got an input with "
                           f"{input.ndim} dimensions")
    x = arith.as_float(input)
    x = x if x.ndim == 2 else movement.reshape_to(x, (1, x.type.numel))
    if aweights is not None:
        x = ew.cast_to(x, arith.result_dtype(x.builder, [x, aweights]))
    _check_weights("fweights", fweights, x.shape[1], "integral", lambda d: d.category == dtypes.INT)
    _check_weights("aweights", aweights, x.shape[1], "floating point", lambda d: d.is_floating_point)
    weights, d = None, x.dtype.to_real()
    if fweights is not None:
        weights = ew.cast_to(fweights, d)
    if aweights is not None:
        weights = ew.cast_to(aweights, d) if weights is None else weights * ew.cast_to(aweights, d)
    if weights is None:
        n = x.shape[1]
        mean = _sum_keeping(x, 1) / n
        total: Any = float(n - correction)
        centred = x - mean
        scaled = centred
        total = max(total, 0.0)
    else:
        whole = reduce.sum_(weights, axes=(0,))
        mean = _sum_keeping(x * weights, 1) / whole
        centred = x - mean
        scaled = centred * weights
        if aweights is None or correction == 0:
            total = whole - correction
        else:
            total = whole - reduce.sum_(weights * ew.cast_to(aweights, d), axes=(0,)) / whole * correction
        total = arith.maximum(total, 0.0)
    y = product(scaled, adjoint(centred)) / total
    return movement.reshape_to(y, ()) if y.type.numel == 1 else y


def _weights_looked_at(function: Callable[..., Any]) -> Callable[..., Any]:
    """`cov` that refuses negative weights, where their values may be looked at."""
    @functools.wraps(function)
    def call(input: Tensor, *, fweights: Tensor | None = None, aweights: Tensor | None = None, **more: Any) -> Any:
        if current.recorder.knows_values:
            for name, w in (("fweights", fweights), ("aweights", aweights)):
                if w is not None and bool((w < 0).any()):
                    raise RuntimeError(f"cov(): {name} cannot be negative")
        return function(input, fweights=fweights, aweights=aweights, **more)
    return call


FUNCTIONS["cov"] = _weights_looked_at(FUNCTIONS["cov"])
attach(cov=_weights_looked_at(cov))


@define()
def corrcoef(input: Value) -> Value:
    c = cov.function.body(input)
    if c.ndim == 0:
        return c / c
    n = c.shape[0]
    flat = movement.reshape_to(c, (n * n,))
    deviation = ew.sqrt(movement.slice_axis(flat, 0, 0, n * n, n + 1))
    y = c / movement.reshape_to(deviation, (n, 1)) / deviation
    if y.dtype.is_complex:
        return complex_of(_within_one(real(y)), _within_one(imag(y)))
    return _within_one(y)


def _within_one(x: Value) -> Value:
    return arith.maximum(arith.minimum(x, 1.0), -1.0)


FUNCTIONS.update(einsum=einsum, chain_matmul=chain_matmul)
