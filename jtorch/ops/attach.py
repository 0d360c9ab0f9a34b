"""Attach operators to `Tensor` as methods, in-place methods and `out=` forms."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor
from jtorch.capture.dispatch import Function, evaluate, operator, packer, with_keyword, wrap_result
from jtorch.capture.record import current
from jtorch.ir.graph import Value
from jtorch.views import assign, check_result_dtype

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Public functions of the `torch` namespace by name."""


def define(*names: str, method: bool = True, function: bool = True, inplace: bool = False,
           out: bool | str = True) -> Callable[[Callable[..., Any]], Any]:
    """Make a value function public under `names` (default: its own): in the namespace, as a method, as `name_`.

    `out=True` gives the function an `out=` keyword, 'typed', 'apart' or 'typed apart' one with demands (`with_out`).
    """
    def decorate(body: Callable[..., Any]) -> Any:
        public = operator(body)
        called = with_out(public, *str(out).split()) if out else public
        for name in names or (public.__name__,):
            if function:
                FUNCTIONS[name] = called
            if method:
                setattr(Tensor, name, called if not out else public)
            if inplace:
                setattr(Tensor, name + "_", in_place(public, name))
                if function:
                    FUNCTIONS[name + "_"] = getattr(Tensor, name + "_")
        return public
    return decorate


def expose(*names: str, method: bool = True, function: bool = True) -> Callable[[Callable[..., Any]],
                                                                                Callable[..., Any]]:
    """Make a function of tensors (not of values) public: views, and what needs data at once."""
    def decorate(body: Callable[..., Any]) -> Callable[..., Any]:
        for name in names or (body.__name__.rstrip("_"),):
            if function:
                FUNCTIONS[name] = body
            if method:
                setattr(Tensor, name, body)
        return body
    return decorate


def wrap_public(wrapper: Callable[[Callable[..., Any]], Callable[..., Any]], *names: str) -> None:
    """Put `wrapper(function)` in the place of public functions and methods."""
    for name in names:
        if name in FUNCTIONS:
            FUNCTIONS[name] = wrapper(FUNCTIONS[name])
        if hasattr(Tensor, name):
            setattr(Tensor, name, wrapper(getattr(Tensor, name)))


def in_place(public: Callable[..., Any], name: str) -> Callable[..., Any]:
    """`t.name_(...)`: the result written into `t`."""
    function = public.function  # type: ignore[attr-defined]
    pack = packer(public)

    @functools.wraps(public)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        recorder, arguments = current.recorder, pack(self, *args, **kwargs)
        done = recorder.write(recorder, function, self, *arguments)
        if done is not None:
            return done
        result = evaluate(function, arguments)
        check_result_dtype(result.dtype, self._type.dtype)
        return assign(self, result)
    method.__name__ = name + "_"
    return method


def with_out(public: Callable[..., Any], *demands: str) -> Callable[..., Any]:
    """Add the `out=` keyword: results are written into the given tensors, resized if their shape differs.

    `demands`: 'typed', `out` has to have the result's dtype; 'apart', it may not share memory with an operand.
    """
    typed, apart = "typed" in demands, "apart" in demands

    def write(out: Any, packed: tuple[Any, ...]) -> Any:
        if apart:
            check_apart(packed, out)
        return write_out(evaluate(public.function, packed), out, typed)  # type: ignore[attr-defined]
    return with_keyword(public, "out", write)


def check_apart(operands: Any, out: Any) -> None:
    """RuntimeError where `out` shares its memory with one of the operands (tensors, at any depth of tuples)."""
    storages = [o._storage for o in (out if isinstance(out, (tuple, list)) else (out,))]
    for x in operands:
        if isinstance(x, (tuple, list)):
            check_apart(x, out)
        elif isinstance(x, Tensor) and x._storage in storages:
            raise RuntimeError("unsupported operation: some elements of the input tensor and the written-to tensor "
                               "refer to a single memory location. Please clone() the tensor before performing the "
                               "operation.")


def check_out(v: Value, out: Any, typed: bool) -> None:
    """Raise unless the tensor `out` can take the value; `typed`: only if the dtypes are equal."""
    if not isinstance(out, Tensor):
        raise TypeError(f"argument 'out' must be Tensor, not {type(out).__name__}")
    if typed and v.dtype is not out.dtype:
        raise RuntimeError(f"Expected out tensor to have dtype {v.dtype}, but got {out.dtype} instead")
    check_result_dtype(v.dtype, out.dtype)
    if out.requires_grad and current.recorder.grad_enabled:
        raise RuntimeError("functions with out=... arguments don't support automatic differentiation, but one of the "
                           "arguments requires grad.")


def write_out(result: Any, out: Any, typed: bool = False) -> Any:
    """Write values into the tensors given as `out=`, resized where their shape differs. Returns `out`."""
    if isinstance(result, Value):
        check_out(result, out, typed)
        if out.shape != result.shape:
            recorder = current.recorder
            recorder.holding += 1
            try:
                out.resize_(result.shape)
            finally:
                recorder.holding -= 1
        return assign(out, result)
    if not isinstance(out, (tuple, list)) or len(out) != len(result):
        raise TypeError(f"argument 'out' must be tuple of {len(result)} Tensors, not {type(out).__name__}")
    for v, o in zip(result, out):
        check_out(v, o, typed)
    tensors = wrap_result(tuple(result))  # a write may flush, and values do not outlive their epoch
    for t, o in zip(tensors, out):
        write_out(evaluate(_IDENTITY, (t,)), o)
    return out


def _identity(input: Value) -> Value:
    return input


_IDENTITY = Function(_identity)


__all__ = ["FUNCTIONS", "define", "expose", "wrap_result"]
