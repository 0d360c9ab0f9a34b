"""The backward through an epoch that was flushed, as a program of its own.

A loop that looks at a value in each step leaves an epoch behind for each step. As one graph, the backward through all
of them is another graph for every number of steps: it would be made and interpreted anew each time. One epoch's part of
it is the same from step to step, so that it is made once and soon compiled, however many steps there are.

Such a part takes the epoch's data, what the flush saved, the cotangents of the epoch's results, and the gradients that
later epochs gave; it adds its own to those.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jtorch.capture.cell import Cell, Epoch
from jtorch.capture.execute import compute
from jtorch.capture.record import Recorder
from jtorch.ir.graph import Value
from jtorch.ir.passes.substitute import substitute
from jtorch.ir.prims.create import make_leaf

MANY = 8
"""Epochs from which on a backward goes through each by itself. Fewer are made part of the present graph, where they
fuse with what surrounds them and nothing is computed that is not asked for."""

SEED = 1 << 40  # leaf numbers of cotangents in a graph of an earlier epoch


def run_piece(recorder: Recorder, epoch: Epoch, cotangents: Sequence[Cell], gradients: Sequence[Sequence[Value]],
              sums: Sequence[Cell | None]) -> list[Cell]:
    """For each group of `gradients`, which are Values of `epoch` made from seeds, their sum and that with `sums`."""
    groups = tuple([tuple(g) for g in gradients])
    saved, n = tuple(epoch.saved), len(epoch.leaves)
    key = ("piece", groups, tuple([s is not None for s in sums]), saved, n, len(cotangents))
    plan = recorder.backwards.get(key)
    if plan is None:
        seeds = len(saved) + len(cotangents)
        plan = recorder.backwards[key] = recorder.programs.plan(_outputs(groups, sums, saved, n, seeds))
    own = Epoch(recorder)
    own.leaves = [*epoch.leaves, *epoch.saved.values(), *cotangents, *[s for s in sums if s is not None]]
    own.scalars = epoch.scalars
    buffers = compute(own, recorder.programs, plan)
    return [Cell(g[0].type, None, None, buffer) for g, buffer in zip(groups, buffers)]


def _outputs(groups: tuple[tuple[Value, ...], ...], sums: Sequence[Cell | None], saved: tuple[Value, ...], n: int,
             given: int) -> tuple[Value, ...]:
    """The sums as Values: leaves from `n` on are what was saved, the cotangents, and the sums so far."""
    places = {v: n + i for i, v in enumerate(saved)}
    shift = n + len(saved) - SEED

    def replacement(v: Value) -> Value | None:
        if v in places:
            return make_leaf(v.builder, places[v], v.type)
        if v.op.kind == "leaf" and v.attrs[0] >= SEED:
            return make_leaf(v.builder, v.attrs[0] + shift, v.type)
        return None

    env: dict[Value, Value] = {}
    outputs, number = [], n + given
    for group, present in zip(groups, sums):
        terms: list[Any] = substitute(group, replacement, env, live=False)
        if present is not None:
            terms.insert(0, make_leaf(group[0].builder, number, group[0].type))
            number += 1
        total = terms[0]
        for g in terms[1:]:
            total = total + g
        outputs.append(total)
    return tuple(outputs)
