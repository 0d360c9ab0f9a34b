"""Random numbers inside of a mapped function: what `vmap(..., randomness=)` means for what is drawn there."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.capture.dispatch import Function
from jtorch.capture.mapping import RANDOM_REFUSED, Map
from jtorch.ir.graph import Value
from jtorch.ir.prims.movement import concatenate, expand_to, reshape_to

Draw = Callable[..., Value]


def draw_in_map(level: Map, draw: Draw, formula: Function, args: tuple[Any, ...]) -> Value:
    """What one example sees of `draw(*args)`.

    'same': the numbers that one example alone would draw. 'different': those of one draw for the whole batch, as if
    every shape had the mapped axis in front.
    """
    if level.randomness == "error":
        raise RuntimeError(RANDOM_REFUSED)
    tensors = any(isinstance(a, Tensor) for a in args)
    if level.randomness == "same":
        with level.outside():
            if not tensors:
                return draw(*args)
            recorder = level.recorder
            given = [level.lift([recorder.value(a)])[0] if isinstance(a, Tensor) else None for a in args]
            if not any(g is not None and g[1] for g in given):
                return draw(*args)
        raise RuntimeError("vmap: Cannot ask for same randomness on an operator whose arguments differ between "
                           "examples; use randomness='different'")
    names = formula.names[1:]  # the first is the state
    if "shape" not in names and not tensors:
        with level.outside():
            rows = [draw(*args) for _ in range(level.size)]
            return level.bind(concatenate(*[reshape_to(r, (1, *r.shape)) for r in rows], axis=0))
    recorder = level.recorder
    shape = args[names.index("shape")] if "shape" in names else None
    whole: list[Any] = []
    for name, a in zip(names, args):
        if name == "shape":
            a = (level.size, *a)
        elif isinstance(a, Tensor):
            v = recorder.value(a)
            whole.append(level.lift_whole(v if shape is None else expand_to(v, shape)))
            continue
        whole.append(a)
    with level.outside():
        rows_of: tuple[int, ...] = whole[0].shape[:-1] if names[0] == "weights" else ()
        if len(rows_of) == 2:  # multinomial takes two axes
            whole[0] = reshape_to(whole[0], (rows_of[0] * rows_of[1], whole[0].shape[-1]))
        v = draw(*[wrap(recorder, a) if isinstance(a, Value) else a for a in whole])
        if len(rows_of) == 2:
            v = reshape_to(v, (*rows_of, v.shape[-1]))
        return level.bind(v)
