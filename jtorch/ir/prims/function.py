"""Custom differentiation: outputs computed in some way, with a derivative given by the user."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch.ir.graph import Type
from jtorch.ir.primitive import Op

derivative: list[Callable[..., Any]] = []
"""Filled in by `jtorch.autograd`: (number, cotangents, outputs, inputs) -> cotangents of the inputs."""


def _infer(*types: Type, results: int, number: int) -> Any:
    return types[:results]


def _vjp(g: Any, out: Any, *operands: Any, results: int, number: int) -> tuple:
    if results == 1:
        g, out = (g,), (out,)
    return (None,) * results + tuple(derivative[0](number, g, out, operands[results:]))


custom_function = Op("custom_function", "marker", _infer, lambda *arrays, results, number: arrays[:results], _vjp,
                     wirtinger=True, attr_names=("results", "number"))
"""The first `results` operands, which were computed from the others by a function that brings its own derivative."""
