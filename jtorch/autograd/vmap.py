"""`vmap`: a function of one example as a function of many."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from jtorch._tensor import Tensor, wrap
from jtorch.capture.mapping import Map, from_front
from jtorch.capture.record import current
from jtorch.capture.signature import flatten, unflatten
from jtorch.ir.graph import Value
from jtorch.ir.passes.batch import all_examples
from jtorch.ir.prims.movement import concatenate, slice_axis
from jtorch.ops.random import default_generator


def vmap(func: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
         chunk_size: int | None = None) -> Callable[..., Any]:
    """`func`, written for one example, mapped over a dimension of its tensor arguments.

    The function runs once; what it recorded is then rewritten for all examples (`ir.passes.batch`), so a mapped
    function costs what the batched one would. `in_dims` names the dimension of each argument (an int, None for an
    argument that is the same for all, or a nest of tuples that matches the arguments), `out_dims` where it goes in the
    results.
    Keyword arguments are the same for all examples. `randomness`: 'error', 'same' numbers for all examples, or
    'different' ones, those that one call for the whole batch would draw. `chunk_size` bounds how many examples are
    computed together.

    Raises ValueError where dimensions do not fit the arguments or results; RuntimeError where the function needs the
    value of an example, writes to a tensor from outside, or draws random numbers against `randomness`.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if chunk_size is not None and not chunk_size > 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")
    name = name_of(func)

    @functools.wraps(func, assigned=[a for a in functools.WRAPPER_ASSIGNMENTS if hasattr(func, a)], updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        flat, structure = flatten(args)
        dims = _input_dims(name, in_dims, args, flat, structure)
        size = _size(flat, dims)
        if chunk_size is None or chunk_size >= size:
            results, shape = _mapped(func, name, flat, structure, dims, out_dims, randomness, size, kwargs)
            return unflatten(shape, results)
        recorder = current.recorder
        pieces: list[list[Any]] = []
        state = default_generator.get_state() if randomness == "same" else None
        for start in range(0, size, chunk_size):
            stop = min(start + chunk_size, size)
            if state is not None:
                default_generator.set_state(state)
            part = [x if d is None else wrap(recorder, slice_axis(recorder.value(x), d, start, stop))
                    for x, d in zip(flat, dims)]
            results, shape = _mapped(func, name, part, structure, dims, out_dims, randomness, stop - start, kwargs)
            pieces.append(results)
        axes = _output_dims(name, out_dims, shape, pieces[0])
        joined = [column[0] if axis is None else _joined(column, axis) for column, axis in zip(zip(*pieces), axes)]
        return unflatten(shape, joined)
    return wrapped


def _joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    recorder = current.recorder
    values = [recorder.value(t) for t in parts]
    return wrap(recorder, concatenate(*values, axis=axis % values[0].ndim))


def _mapped(func: Callable[..., Any], name: str, flat: Sequence[Any], structure: Any, dims: Sequence[int | None],
            out_dims: Any, randomness: str, size: int, kwargs: dict[str, Any]) -> tuple[list[Any], Any]:
    """One run of the function: flat results, and their structure."""
    recorder = current.recorder
    level = Map(recorder, size, randomness)
    recorder.levels.append(level)
    recorder.holding += 1
    try:
        inner = [x if d is None else level.example(x, d) for x, d in zip(flat, dims)]
        found, shape = flatten(func(*unflatten(structure, inner), **kwargs))
        axes = _output_dims(name, out_dims, shape, found)
        values = [recorder.value(x) for x in found if isinstance(x, Tensor)]
        lifted = iter(level.lift(values))
        results: list[Any] = []
        for x, axis in zip(found, axes):
            if not isinstance(x, Tensor):
                if axis is not None:
                    raise ValueError(f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(x)}. Did "
                                     "you mean to set out_dims= to None for output?")
                results.append(x)
                continue
            result = next(lifted)
            if axis is None:
                if result[1]:
                    raise ValueError(f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None")
                results.append(x)
                continue
            results.append(_placed(all_examples(result, size), axis))
        return [wrap(recorder, r) if isinstance(r, Value) else r for r in results], shape
    finally:
        recorder.levels.remove(level)
        recorder.holding -= 1


def _placed(v: Value, axis: int) -> Value:
    if not -v.ndim <= axis < v.ndim:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-v.ndim}, {v.ndim - 1}], but got "
                         f"{axis})")
    return from_front(v, axis % v.ndim)


def name_of(func: Callable[..., Any]) -> str:
    if hasattr(func, "__name__"):
        return func.__name__
    if isinstance(func, functools.partial):
        return f"functools.partial({name_of(func.func)}, ...)"
    return repr(func)


# --- dimensions ------------------------------------------------------------------------------------------------------

def _leaves(structure: Any) -> int:
    return 1 if structure is None else sum(map(_leaves, structure[-1]))


def spread(prefix: Any, structure: Any) -> list[Any] | None:
    """`prefix`, an int, None, or a nest that matches `structure` from the top, as one item per leaf; None if it does
    not match."""
    if structure is None:
        return [prefix]
    if prefix is None or isinstance(prefix, int):
        return [prefix] * _leaves(structure)
    if isinstance(prefix, dict):
        if len(structure) != 3 or tuple(prefix) != structure[1]:
            return None
        items = list(prefix.values())
    elif isinstance(prefix, tuple | list) and len(structure) == 2 and type(prefix) is structure[0]:
        items = list(prefix)
    else:
        return None
    if len(items) != len(structure[-1]):
        return None
    parts = [spread(p, s) for p, s in zip(items, structure[-1])]
    return None if any(p is None for p in parts) else [x for p in parts for x in p]  # type: ignore[union-attr]


def _input_dims(name: str, in_dims: Any, args: tuple[Any, ...], flat: Sequence[Any], structure: Any
                ) -> list[int | None]:
    where = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
    if not isinstance(in_dims, int | tuple):
        raise ValueError(f"{where}expected `in_dims` to be int or a (potentially nested) tuple matching the structure "
                         f"of inputs, got: {type(in_dims)}.")
    if not args:
        raise ValueError(f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to "
                         "vmap over a function with no inputs. The latter is unsupported.")
    dims = spread(in_dims, structure)
    if dims is None:
        raise ValueError(f"{where}in_dims is not compatible with the structure of `inputs`: {len(args)} arguments.")
    for i, (x, d) in enumerate(zip(flat, dims)):
        if d is None:
            continue
        if not isinstance(d, int):
            raise ValueError(f"{where}Got in_dim={d} for an input but in_dim must be either an integer dimension or "
                             "None.")
        if not isinstance(x, Tensor):
            raise ValueError(f"{where}Got in_dim={d} for an input but the input is of type {type(x)}. We cannot vmap "
                             "over non-Tensor arguments, please use None as the respective in_dim")
        if not -x.ndim <= d < x.ndim:
            raise ValueError(f"{where}Got in_dim={d} for some input, but that input is a Tensor of dimensionality "
                             f"{x.ndim} so expected in_dim to satisfy -{x.ndim} <= in_dim < {x.ndim}.")
        dims[i] = d % x.ndim
    return dims


def _size(flat: Sequence[Any], dims: Sequence[int | None]) -> int:
    sizes = [x._type.shape[d] for x, d in zip(flat, dims) if d is not None]
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if any(n != sizes[0] for n in sizes):
        raise ValueError("vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
                         f"{sizes} for the mapped dimension")
    return sizes[0]


def _output_dims(name: str, out_dims: Any, structure: Any, found: Sequence[Any]) -> list[int | None]:
    def refuse() -> NoReturn:
        raise ValueError(f"vmap({name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the "
                         f"structure of `outputs`: {len(found)} results.")
    if structure is None and isinstance(out_dims, tuple) and len(out_dims) == 1:
        out_dims = out_dims[0]
    dims = spread(out_dims, structure)
    if dims is None and isinstance(out_dims, tuple) and structure is not None and structure[0] is list:
        dims = spread(list(out_dims), structure)
    if dims is None:
        refuse()
    for d in dims:
        if d is not None and not isinstance(d, int):
            raise ValueError(f"vmap({name}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a python "
                             "collection of ints representing where in the outputs the vmapped dimension should "
                             "appear.")
    return dims
