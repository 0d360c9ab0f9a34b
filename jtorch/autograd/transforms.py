"""Functions that make functions: `grad`, `vjp`, `jvp`, `jacrev`, `jacfwd`, `hessian`, `linearize` of `torch.func`.

Each runs its function once, on stand-ins (`autograd.scope`), and rewrites what was recorded. So they nest, with each
other and with `vmap`, and work inside `jit.trace`.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.autograd.backward import differentiate
from jtorch.autograd.modes import enable_grad, set_grad_enabled
from jtorch.autograd.scope import Scope, conformed
from jtorch.autograd.vmap import vmap
from jtorch.capture.record import Recorder, current
from jtorch.capture.signature import flatten, unflatten
from jtorch.dtypes import dtype
from jtorch.ir.composites.define import numbers
from jtorch.ir.graph import Builder, Graph, Value, topological
from jtorch.ir.prims.control import inline
from jtorch.ir.prims.create import constant, leaf, make_leaf
from jtorch.ir.prims.elementwise import cast_to, eq
from jtorch.ir.prims.movement import reshape_to

Argnums = int | tuple[int, ...]


# --- arguments and results -------------------------------------------------------------------------------------------

def chosen(argnums: Argnums, args: tuple[Any, ...]) -> tuple[int, ...]:
    """Places of the arguments to differentiate with respect to."""
    if not isinstance(argnums, int | tuple):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    places = []
    for a in argnums if isinstance(argnums, tuple) else (argnums,):
        if not isinstance(a, int):
            raise RuntimeError(f"argnum must be int, got: {type(a)}")
        if not -len(args) <= a < len(args):
            raise RuntimeError(f"Got argnum={a}, but only {len(args)} positional inputs")
        places.append(a % len(args))
    if not places:
        raise RuntimeError("argnums must be non-empty")
    if len(set(places)) != len(places):
        raise RuntimeError(f"argnums elements must be unique, got {argnums}")
    return tuple(places)


def picked(argnums: Argnums, args: tuple[Any, ...]) -> Any:
    """The arguments to differentiate with respect to: one, or a tuple of them."""
    places = chosen(argnums, args)
    return tuple([args[i] for i in places]) if isinstance(argnums, tuple) else args[places[0]]


def replaced(argnums: Argnums, args: tuple[Any, ...], new: Any) -> tuple[Any, ...]:
    """`args` with others in the chosen places."""
    items = list(args)
    for i, x in zip(chosen(argnums, args), new if isinstance(argnums, tuple) else (new,)):
        items[i] = x
    return tuple(items)


def check_differentiable(flat: Sequence[Any]) -> None:
    for x in flat:
        if not isinstance(x, Tensor):
            raise ValueError(f"Thing passed to transform API must be Tensor, got {type(x)}")
        if not (x.dtype.is_floating_point or x.dtype.is_complex):
            raise RuntimeError("only Tensors of floating point dtype can require gradients")


def split_aux(result: Any, has_aux: bool, where: str) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(f"{where}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return result


def left(scope: Scope, tree: Any) -> Any:
    """The tensors of a result as tensors of the surrounding graph."""
    flat, structure = flatten(tree)
    return unflatten(structure, [scope.leave_tensor(x) if isinstance(x, Tensor) else x for x in flat])


def left_values(scope: Scope, values: Sequence[Value], grad_enabled: bool) -> list[Tensor]:
    recorder = scope.recorder
    recorder.holding += 1  # a flush would leave the later ones behind in the old epoch
    try:
        with set_grad_enabled(grad_enabled):
            return [wrap(recorder, v) for v in scope.leave(values)]
    finally:
        recorder.holding -= 1


# --- reverse mode ----------------------------------------------------------------------------------------------------

class Pullback:
    """A function that ran once: its output, and gradients of that as often as they are asked for."""

    def __init__(self, func: Callable[..., Any], argnums: Argnums, args: tuple[Any, ...], kwargs: dict[str, Any],
                 has_aux: bool, where: str) -> None:
        self.recorder = current.recorder
        self.grad_enabled = self.recorder.grad_enabled
        self.scope = scope = Scope()
        flat, self.structure = flatten(picked(argnums, args))
        check_differentiable(flat)
        with enable_grad():
            self.leaves = [scope.leaf(x) for x in flat]
            inner = replaced(argnums, args, unflatten(self.structure, self.leaves))
            self.output, aux = split_aux(func(*inner, **kwargs), has_aux, where)
        self.aux = self.leave(aux) if has_aux else None

    def leave(self, tree: Any) -> Any:
        with set_grad_enabled(self.grad_enabled):
            return left(self.scope, tree)

    def found(self, outputs: Sequence[Tensor], cotangents: Sequence[Value], create_graph: bool = True,
              keep: bool = True) -> list[Value | None]:
        """Gradients with respect to the stand-ins, None where an output does not depend on one."""
        live = [(o, g) for o, g in zip(outputs, cotangents) if o.requires_grad]
        with enable_grad():
            return differentiate(current.recorder, [o for o, _ in live], [g for _, g in live], self.leaves, keep,
                                 create_graph)

    def gradients(self, outputs: Sequence[Tensor], cotangents: Sequence[Value], create_graph: bool = True,
                  keep: bool = True) -> list[Tensor]:
        """Gradients with respect to the arguments, as tensors of the surrounding graph."""
        found = self.found(outputs, cotangents, create_graph, keep)
        return self.left_gradients(found, self.grad_enabled and create_graph)

    def left_gradients(self, found: Sequence[Value | None], grad_enabled: bool) -> list[Tensor]:
        recorder = current.recorder
        values = [conformed(g, recorder.value(t)) for g, t in zip(found, self.leaves)]
        return left_values(self.scope, values, grad_enabled)


def grad_and_value(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns (gradient of `func` with respect to the arguments `argnums`, value of `func`).

    `func` returns a tensor of no dimensions; with `has_aux`, (tensor, anything), and the second part of the result is
    (value, aux). Arguments to differentiate may be nests of tuples, lists and dictionaries of tensors. Raises
    RuntimeError where the output is no scalar tensor.
    """
    where = "grad_and_value(f)(*args)"

    @functools.wraps(func, updated=())
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        p = Pullback(func, argnums, args, kwargs, has_aux, where)
        if not isinstance(p.output, Tensor):
            raise RuntimeError(f"{where}: Expected f(*args) to return a Tensor, got {type(p.output)}")
        if p.output.ndim:
            raise RuntimeError(f"{where}: Expected f(*args) to return a scalar Tensor, got tensor with {p.output.ndim} "
                               "dims. Maybe you wanted to use the vjp or jacrev APIs instead?")
        one = constant(p.recorder.builder, 1, p.output.dtype)
        grads = unflatten(p.structure, p.gradients([p.output], [one]))
        value = p.leave(p.output)
        return (grads, (value, p.aux)) if has_aux else (grads, value)
    return wrapper


def value_and_grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """As `grad_and_value`, with the value first."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func, updated=())
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        grads, value = both(*args, **kwargs)
        return value, grads
    return wrapper


def grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that computes the gradient of `func` with respect to the arguments `argnums`: see `grad_and_value`.

    With `has_aux`, (gradient, aux).
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func, updated=())
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        grads, value = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads
    return wrapper


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """(`func(*primals)`, a function of cotangents): with `has_aux`, aux is the third.

    The function takes cotangents in the structure of the output and returns those of the primals, a tuple, also of a
    single one. It may be called as often as one likes.
    """
    p = Pullback(func, tuple(range(len(primals))), primals, {}, has_aux, "vjp(f, *primals)")
    flat, structure = flatten(p.output)
    if not flat:
        raise RuntimeError("vjp(f, *primals): Expected f to be a function that has non-empty output (got output = [])")
    for x in flat:
        if not isinstance(x, Tensor):
            raise RuntimeError(f"vjp(f, *primals): expected f(*primals) to return only tensors, got unsupported type "
                               f"{type(x)}")
        if not (x.dtype.is_floating_point or x.dtype.is_complex):
            raise RuntimeError("vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got Tensor "
                               f"with dtype {x.dtype}")
    output = p.leave(p.output)
    higher = any(x.requires_grad for x in flatten(output)[0])

    def pull(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        given, given_structure = flatten(cotangents)
        if given_structure != structure:
            raise RuntimeError("Expected pytree structure of cotangents to be the same as pytree structure of outputs "
                               f"to the function. cotangents: {len(given)} leaves, primal output: {len(flat)} leaves")
        recorder = current.recorder
        values = []
        for g, o in zip(given, flat):
            if g.shape != o.shape:
                raise RuntimeError(f"Mismatch in shape: grad_output has a shape of {g.shape} and output has a shape of "
                                   f"{o.shape}.")
            values.append(cast_to(recorder.value(g), o.dtype))
        create = create_graph if create_graph is not None else higher or any(v.requires_grad for v in values)
        return unflatten(p.structure, p.gradients(flat, values, create, retain_graph))
    return (output, pull, p.aux) if has_aux else (output, pull)


# --- forward mode ----------------------------------------------------------------------------------------------------

class Pushforward:
    """A function that ran once on stand-ins: tangents of its output as often as they are asked for."""

    where = "jvp(f, primals, tangents)"

    def __init__(self, func: Callable[..., Any], argnums: Argnums, args: tuple[Any, ...], has_aux: bool) -> None:
        self.recorder = current.recorder
        self.grad_enabled = self.recorder.grad_enabled
        self.scope = Scope()
        flat, self.structure = flatten(picked(argnums, args))
        check_tensors(flat, self.where, "primals")
        check_differentiable(flat)
        self.primals = flat
        with enable_grad():
            pairs = [self.scope.stand_in(x) for x in flat]
            self.leaves = [leaf for leaf, _ in pairs]
            inner = replaced(argnums, args, unflatten(self.structure, [shown for _, shown in pairs]))
            self.output, aux = split_aux(func(*inner), has_aux, self.where)
        self.flat, self.output_structure = flatten(self.output)
        if not self.flat:
            raise RuntimeError(f"{self.where}: Expected f to be a function that has non-empty output (got output = [])")
        for x in self.flat:
            if not isinstance(x, Tensor):
                raise RuntimeError(f"{self.where}: expected f(*args) to return only tensors, got unsupported type "
                                   f"{type(x)}")
        self.aux = self.leave(aux) if has_aux else None

    def leave(self, tree: Any) -> Any:
        with set_grad_enabled(self.grad_enabled):
            return left(self.scope, tree)

    def tangents(self, given: Sequence[Value | None], strict: bool = False) -> list[Tensor]:
        """Tangents of the flat outputs, as tensors of the surrounding graph, zeros where there are none."""
        recorder = current.recorder
        outputs = [recorder.value(x) for x in self.flat]
        with enable_grad():
            found = self.scope.tangents(outputs, {t: g for t, g in zip(self.leaves, given) if g is not None})
            if strict and any(t is None for t in found):
                raise RuntimeError("jvp(f, primals, tangents, strict=True): The output of f is independent of the "
                                   "inputs. This is not allowed with strict=True.")
            values = [conformed(t, v) for t, v in zip(found, outputs)]
        return left_values(self.scope, values, self.grad_enabled)


def check_tensors(flat: Sequence[Any], where: str, what: str) -> None:
    if not flat:
        raise RuntimeError(f"{where}: Expected {what} to contain at least one Tensor.")
    for x in flat:
        if not isinstance(x, Tensor):
            raise RuntimeError(f"{where}: Expected {what} to only contain Tensors, got {type(x)}")


def check_tangents(primals: Sequence[Tensor], tangents: Sequence[Tensor]) -> None:
    for i, (x, t) in enumerate(zip(primals, tangents)):
        if x.shape != t.shape:
            raise RuntimeError(f"tangent:{i} with shape {t.shape} in flattened pytree doesn't match the shape "
                               f"{x.shape} of the corresponding primal.")
        if x.dtype is not t.dtype:
            raise RuntimeError(f"tangent:{i} with dtype {t.dtype} in flattened pytree doesn't match the dtype "
                               f"{x.dtype} of the corresponding primal.")


def jvp(func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> Any:
    """(`func(*primals)`, its derivative along `tangents`): with `has_aux`, aux is the third.

    `tangents` has the structure, shapes and dtypes of the tuple `primals`. With `strict`, an output that does not
    depend on the primals is an error.
    """
    if not isinstance(primals, tuple):
        raise RuntimeError("jvp(f, primals, tangents): Expected primals to be a tuple. E.g. it should be valid to call "
                           "f(*primals).")
    given, structure = flatten(tangents)
    if structure != flatten(primals)[1]:
        raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to have the same python "
                           "structure. For example, if primals is a tuple of 3 tensors, tangents also must be.")
    check_tensors(given, "jvp(f, primals, tangents)", "tangents")
    p = Pushforward(func, tuple(range(len(primals))), primals, has_aux)
    check_tangents(p.primals, given)
    found = p.tangents([p.recorder.value(t) for t in given], strict)
    results = (p.leave(p.output), unflatten(p.output_structure, found))
    return (*results, p.aux) if has_aux else results


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(`func(*primals)`, a function of tangents): the derivative of `func` there, a linear function.

    What it needs of `func` is computed once; calling it costs the linear part only.
    """
    recorder = current.recorder
    p = Pushforward(func, tuple(range(len(primals))), primals, False)
    seeds = [make_leaf(recorder.builder, _SEED + i, x._type) for i, x in enumerate(p.primals)]
    outputs = [recorder.value(x) for x in p.flat]
    with enable_grad():
        tangents = p.scope.tangents(outputs, dict(zip(p.leaves, seeds)))
        found = p.scope.leave([conformed(t, v) for t, v in zip(tangents, outputs)])
    linear, kept = linear_part(recorder, found, seeds)
    output = p.leave(p.output)

    def apply(*tangents: Any) -> Any:
        given, structure = flatten(tangents)
        if structure != p.structure:
            raise RuntimeError("Expected the tangents to have the structure of the primals, "
                               f"{len(p.primals)} leaves, not {len(given)}")
        check_tensors(given, "linearize(f, *primals)", "tangents")
        check_tangents(p.primals, given)
        recorder = current.recorder
        results = inline(linear, recorder.builder, [recorder.value(t) for t in (*given, *kept)])
        return unflatten(p.output_structure, [wrap(recorder, v) for v in results])
    return output, apply


_SEED = 1 << 41  # leaf numbers of the tangents that a linear function takes


def linear_part(recorder: Recorder, values: Sequence[Value], seeds: Sequence[Value]) -> tuple[Graph, list[Tensor]]:
    """`values` as a graph of the seeds and of the values on the way that do not depend on them, and those as
    tensors."""
    dependent = set(seeds)
    for node in topological(values):
        if any(i in dependent for i in node.inputs):
            dependent.update(node.siblings)
    frontier: dict[Value, None] = {v: None for v in values if v not in dependent}
    for node in topological([v for v in values if v in dependent]):
        if node in dependent:
            frontier.update((i, None) for i in node.inputs if i not in dependent)
    outside = [v for v in frontier if v.op.kind != "create"]
    builder = Builder()
    builder.default_float = recorder.builder.default_float
    params = [make_leaf(builder, i, v.type) for i, v in enumerate((*seeds, *outside))]
    env = dict(zip((*seeds, *outside), params))
    for node in topological(values):
        if node in env or node.op is leaf or not (node in dependent or node in frontier):
            continue
        result = builder.intern(node.op, tuple([env[i] for i in node.inputs]), node.attrs, node.loc)
        env.update(zip(node.siblings, result if isinstance(result, tuple) else (result,)))
    recorder.holding += 1
    try:
        kept = [wrap(recorder, v) for v in outside]
    finally:
        recorder.holding -= 1
    return Graph(params, [env[v] for v in values], "linear"), kept


# --- Jacobians -------------------------------------------------------------------------------------------------------

def basis(b: Builder, shape: tuple[int, ...], d: dtype) -> Value:
    """The unit tensors of a shape, stacked."""
    n = 1
    for s in shape:
        n *= s
    square = cast_to(eq(numbers(b, (n, n), 0), numbers(b, (n, n), 1)), d)
    return reshape_to(square, (n, *shape))


def refuse_complex(where: str, flat: Sequence[Any], what: str) -> None:
    for x in flat:
        if isinstance(x, Tensor) and x.dtype.is_complex:
            raise RuntimeError(f"{where}: Expected all {what}s to be real but received complex tensor at flattened "
                               f"{what}")


def jacrev(func: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None,
           _preallocate_and_copy: bool = False) -> Callable[..., Any]:
    """A function that computes the Jacobian of `func`, row by row (reverse mode): shape output.shape + input.shape.

    The result has the structure of the output, each leaf of it the structure of the chosen arguments. `chunk_size`
    bounds how many rows are computed together. With `has_aux`, (Jacobian, aux).
    """
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func, updated=())
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        refuse_complex("jacrev", flatten(args)[0], "input")
        p = Pullback(func, argnums, args, kwargs, has_aux, "jacrev(f)(*args)")
        flat, structure = flatten(p.output)
        refuse_complex("jacrev", flat, "output")
        rows = []
        for o in flat:
            if not isinstance(o, Tensor):
                raise RuntimeError(f"jacrev: expected f(*args) to return only tensors, got unsupported type {type(o)}")

            def row(g: Tensor, o: Tensor = o) -> tuple[Tensor, ...]:
                return tuple(p.gradients([o], [current.recorder.value(g)]))
            units = wrap(p.recorder, basis(p.recorder.builder, o._type.shape, o.dtype))
            with set_grad_enabled(p.grad_enabled):
                parts = (vmap(row, chunk_size=chunk_size)(units) if o.numel() else
                         tuple([wrap(p.recorder, constant(p.recorder.builder, 0, t.dtype, (0, *t._type.shape)))
                                for t in p.leaves]))
                rows.append(unflatten(p.structure, [reshaped(part, (*o._type.shape, *t._type.shape))
                                                    for part, t in zip(parts, p.leaves)]))
        result = unflatten(structure, rows)
        return (result, p.aux) if has_aux else result
    return wrapper


def reshaped(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    recorder = current.recorder
    return wrap(recorder, reshape_to(recorder.value(t), shape))


def jacfwd(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, *, randomness: str = "error"
           ) -> Callable[..., Any]:
    """A function that computes the Jacobian of `func`, column by column (forward mode): see `jacrev`."""

    @functools.wraps(func, updated=())
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        refuse_complex("jacfwd", flatten(args)[0], "input")
        run = functools.partial(func, **kwargs) if kwargs else func
        p = Pushforward(run, argnums, args, has_aux)
        refuse_complex("jacfwd", p.flat, "output")
        columns = []
        for i, x in enumerate(p.primals):
            def column(t: Tensor, i: int = i) -> tuple[Tensor, ...]:
                given: list[Value | None] = [None] * len(p.primals)
                given[i] = current.recorder.value(t)
                return tuple(p.tangents(given))
            if x.numel():
                units = wrap(p.recorder, basis(p.recorder.builder, x._type.shape, x.dtype))
                parts = vmap(column, out_dims=-1, randomness=randomness)(units)
            else:
                parts = [wrap(p.recorder, constant(p.recorder.builder, 0, o.dtype, (*o._type.shape, 0)))
                         for o in p.flat]
            columns.append([reshaped(part, (*o._type.shape, *x._type.shape)) for part, o in zip(parts, p.flat)])
        rows = [unflatten(p.structure, list(row)) for row in zip(*columns)]
        result = unflatten(p.output_structure, rows)
        return (result, p.aux) if has_aux else result
    return wrapper


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The Hessian of a scalar function: forward over reverse."""
    return jacfwd(jacrev(func, argnums), argnums)
