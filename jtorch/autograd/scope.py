"""Differentiation with respect to the arguments of a function, for `torch.func` and `autograd.functional`.

The function is called on stand-ins for its arguments, which are variables of their own: what it computes is
differentiated with respect to them, in whatever graph its arguments are part of. Afterwards the arguments themselves
are put in the place of the stand-ins (`leave`), so results are ordinary tensors of the surrounding graph and
transformations nest.
"""
from __future__ import annotations

from collections.abc import Sequence

from jtorch._tensor import Tensor, wrap
from jtorch.autograd.walk import Move
from jtorch.capture.cell import Epoch
from jtorch.capture.record import current
from jtorch.ir.graph import Value
from jtorch.ir.passes.forward import tangents
from jtorch.ir.passes.substitute import substitute
from jtorch.ir.prims.create import detach, variable
from jtorch.ir.prims.elementwise import cast_to, zeros_like


class Scope:
    """The stand-ins of one transformed call."""

    def __init__(self) -> None:
        self.recorder = current.recorder
        self.start = self.recorder.epoch.serial
        self.originals: dict[Tensor, Tensor] = {}  # variable -> the argument it stands for
        self.memory: tuple[Epoch | None, dict[Value, Value], dict[Value, Value]] = (None, {}, {})

    def leaf(self, original: Tensor) -> Tensor:
        """A leaf tensor in the place of an argument."""
        recorder = self.recorder
        v = recorder.value(original)
        t = wrap(recorder, recorder.builder.intern(detach, (v,), ()) if v.requires_grad else v)
        t._requires_grad, t._epoch = True, None
        self.originals[t] = original
        return t

    def stand_in(self, original: Tensor) -> tuple[Tensor, Tensor]:
        """(leaf, a tensor of its value that is no leaf): the function may write to the latter in place."""
        leaf = self.leaf(original)
        return leaf, wrap(self.recorder, self.recorder.value(leaf))

    def env(self) -> tuple[dict[Value, Value], dict[Value, Value]]:
        """What has been rebuilt in this epoch: histories put in place, and variables replaced."""
        if self.memory[0] is not self.recorder.epoch:
            self.memory = (self.recorder.epoch, {}, {})
        return self.memory[1], self.memory[2]

    def present(self, values: Sequence[Value]) -> list[Value]:
        """The values as functions of the variables in this epoch's graph, also where a flush came in between."""
        recorder = self.recorder
        epoch = recorder.epoch
        if epoch.serial == self.start:
            return list(values)
        moves: dict[Epoch, Move] = {}
        env = self.env()[0]

        def history(v: Value) -> Value | None:
            if v.op is not variable:
                return None
            cell = epoch.variables[v.attrs[0]]
            if isinstance(cell, Tensor) or not isinstance(cell.epoch, Epoch) or cell.epoch.serial < self.start:
                return v
            move = moves.setdefault(cell.epoch, Move(recorder, cell.epoch))
            return substitute([move.value(cell.value)], history, env)[0]
        return substitute(values, history, env)

    def leave(self, values: Sequence[Value]) -> list[Value]:
        """The values with the arguments in the place of their stand-ins."""
        recorder = self.recorder
        epoch = recorder.epoch
        values = self.present(values)
        pairs = [(recorder.value(t), recorder.value(o)) for t, o in self.originals.items()]
        key = ("leave", tuple(values), tuple(pairs))
        found = recorder.calls.get(key)
        if found is None:
            def original(v: Value) -> Value | None:
                if v.op is not variable:
                    return None
                owner = epoch.variables[v.attrs[0]]
                if isinstance(owner, Tensor) and owner in self.originals:
                    return recorder.value(self.originals[owner])
                return v
            found = recorder.calls[key] = substitute(values, original, self.env()[1])
        return found

    def leave_tensor(self, t: Tensor) -> Tensor:
        """A result of the function as a tensor of the surrounding graph."""
        recorder = self.recorder
        v = recorder.value(t)
        return wrap(recorder, self.leave([v])[0]) if v.requires_grad else t

    def tangents(self, outputs: Sequence[Value], seeds: dict[Tensor, Value]) -> list[Value | None]:
        """Tangents of outputs, given those of the leaves; still with the variables in them."""
        recorder = self.recorder
        epoch = recorder.epoch
        outputs = self.present(outputs)
        found = {}
        for v in epoch.variable_values.values():  # a leaf has several Values where a history was moved here
            owner = epoch.variables[v.attrs[0]]
            if isinstance(owner, Tensor) and owner in seeds:
                found[v] = seeds[owner]
        if epoch.functions:  # the user's code decides
            return tangents(outputs, found)
        key = ("tangents", tuple(outputs), tuple(found.items()))
        known = recorder.calls.get(key)
        if known is None:
            known = recorder.calls[key] = tangents(outputs, found)
        return known


def conformed(g: Value | None, like: Value) -> Value:
    """A derivative of the type of `like`; zeros where there is none."""
    return zeros_like(like) if g is None else cast_to(g, like.dtype)
