"""`torch._foreach_*`: an operation on each tensor of a list, as optimizers and averages of weights are written. Each is
recorded like any other; what is recorded together runs as one program."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor
from jtorch.ops.attach import FUNCTIONS

_UNARY = ("abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1", "floor", "frac",
          "lgamma", "log", "log10", "log1p", "log2", "neg", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin",
          "sinh", "sqrt", "tan", "tanh", "trunc")
_WITH_OPERANDS = ("add", "clamp_max", "clamp_min", "div", "lerp", "mul", "pow", "sub")


def rows_of(name: str, args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The arguments of each tensor: lists are taken apart, everything else is the same for all."""
    lists = [a for a in args if isinstance(a, (list, tuple))]
    if not lists or lists[0] is not args[0] and name != "_foreach_pow":
        raise TypeError(f"{name}(): argument 'self' (position 1) must be tuple of Tensors, not "
                        f"{type(args[0]).__name__ if args else 'nothing'}")
    count = len(lists[0])
    if not count:
        raise RuntimeError("Tensor list must have at least one tensor.")
    for a in lists:
        if len(a) != count:
            if a and not isinstance(a[0], Tensor):
                raise RuntimeError("Tensor list must have same number of elements as scalar list.")
            raise RuntimeError(f"Tensor lists must have the same number of tensors, got {count} and {len(a)}")
    return [tuple([a[i] if isinstance(a, (list, tuple)) else a for a in args]) for i in range(count)]


def _define(name: str, function: Callable[..., Any] | None = None) -> None:
    """Make `_foreach_name` public, of the function or method of that name if none is given. Those whose names end in an
    underscore give back the list."""
    public, in_place = f"_foreach_{name}", name.endswith("_")

    def foreach(*args: Any, **kwargs: Any) -> Any:
        each = function or (getattr(Tensor, name) if in_place else FUNCTIONS[name])
        found = [each(*row, **kwargs) for row in rows_of(public, args)]
        return found if in_place else tuple(found)
    foreach.__name__ = foreach.__qualname__ = public
    foreach.__doc__ = f"`{name}` of each tensor in a list; other lists are taken along, all else is the same for each."
    FUNCTIONS[public] = foreach


def _extreme(name: str, bound: str, self: Tensor, other: Any) -> Tensor:
    """`maximum` and `minimum`, here of numbers too."""
    return FUNCTIONS[name if isinstance(other, Tensor) else bound](self, other)


def _extreme_in_place(name: str, bound: str, self: Tensor, other: Any) -> Tensor:
    return self.copy_(_extreme(name, bound, self, other))


def _with_product(name: str, self: Tensor, tensor1: Any, tensor2: Any, value: Any = 1) -> Tensor:
    """`addcmul` and `addcdiv`, whose number may also stand fourth here."""
    return getattr(Tensor, name)(self, tensor1, tensor2, value=value)


def _norm(self: Tensor, ord: Any = 2, dtype: Any = None) -> Tensor:
    return FUNCTIONS["norm"](self, ord, dtype=dtype)


for _name in (*_UNARY, *_WITH_OPERANDS):
    _define(_name)
    _define(_name + "_")
for _name, _bound in (("maximum", "clamp_min"), ("minimum", "clamp_max")):
    _define(_name, functools.partial(_extreme, _name, _bound))
    _define(_name + "_", functools.partial(_extreme_in_place, _name, _bound))
for _name in ("addcdiv", "addcdiv_", "addcmul", "addcmul_"):
    _define(_name, functools.partial(_with_product, _name))
for _name in ("clone", "copy_", "max", "mm", "zero_"):
    _define(_name)
_define("norm", _norm)
