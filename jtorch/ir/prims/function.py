"""Custom differentiation: outputs computed in some way, with a derivative given by the user."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch.ir.graph import Type, Value
from jtorch.ir.primitive import Op
from jtorch.ir.prims.elementwise import expand

rules: dict[str, Callable[..., Any]] = {}
"""Filled in by `jtorch.autograd`; each begins with the node's `number`. 'vjp': (cotangents, results, operands) ->
cotangents of the operands; 'jvp': (tangents of the operands, results, operands) -> tangents of the results; 'batch':
(size, count of results, operands that all have the mapped axis) -> the mapped results."""


def _infer(*types: Type, results: int, number: Any) -> Any:
    return types[:results]


def _listed(v: Any) -> tuple:
    return v if isinstance(v, tuple) else (v,)


def _vjp(g: Any, out: Any, *operands: Value, results: int, number: Any) -> tuple:
    return (None,) * results + tuple(rules["vjp"](number, _listed(g), _listed(out), operands[results:]))


def _jvp(tangents: tuple, out: Any, *operands: Value, results: int, number: Any) -> Any:
    return rules["jvp"](number, tangents[results:], _listed(out), operands[results:])


def _batch(self: Op, builder: Any, size: int, mapped: tuple[bool, ...], *operands: Value, results: int,
           number: Any) -> tuple:
    whole = [v if m else expand(v, (size, *v.shape)) for v, m in zip(operands, mapped)]
    return rules["batch"](number, size, results, whole)


custom_function = Op("custom_function", "marker", _infer, lambda *arrays, results, number: arrays[:results], _vjp,
                     jvp=_jvp, batch=_batch, wirtinger=True, attr_names=("results", "number"))
"""The first `results` operands, which were computed from the others by a function that brings its own derivative."""
