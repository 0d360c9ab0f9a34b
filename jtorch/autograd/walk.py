"""One backward through the recorded graph, and through the histories of flushed tensors."""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from jtorch._tensor import Tensor, wrap
from jtorch.autograd.anomaly_mode import check, checks_gradients
from jtorch.autograd.modes import set_grad_enabled
from jtorch.autograd.names import is_number
from jtorch.autograd.node import RetainGrad
from jtorch.autograd.pieces import MANY, SEED, run_piece
from jtorch.capture.cell import Cell, Epoch
from jtorch.capture.record import SPENT, Recorder
from jtorch.ir.graph import Value, operands_first
from jtorch.ir.passes.autodiff import gradients
from jtorch.ir.prims import function as custom
from jtorch.ir.prims.create import leaf, make_leaf, variable

_TWICE = ("Trying to backward through the graph a second time (or directly access saved tensors after they have "
          "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
          "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or "
          "if you need to access saved tensors after calling backward.")


class Walk:
    """One backward: through the present epoch's graph, then through the histories that its leaves have.

    A gradient is a Value of the present epoch, or, where the walk goes through many epochs, a Cell: computed already.
    """

    def __init__(self, recorder: Recorder, keep: bool, create_graph: bool) -> None:
        self.recorder, self.keep, self.create_graph = recorder, keep, create_graph
        recorder.walks += 1
        self.leaves: dict[Tensor, Any] = {}
        self.found: dict[tuple[Epoch, Value], Any] = {}
        self.past_wanted: dict[Epoch, dict[Value, None]] = {}
        self.histories: dict[Epoch, dict[Cell, Any]] = {}
        self.computed = False  # are all gradients Cells?

    def run(self, roots: Sequence[Value], cotangents: Sequence[Value], wanted: dict[Value, None]) -> None:
        epoch, passed = self.recorder.epoch, 0
        self.sort(epoch, self.through(epoch, roots, cotangents, tuple(wanted)), wanted)
        while self.histories:
            piecewise = passed + len(self.histories) >= MANY
            latest = max(self.histories, key=lambda e: e.serial)
            cells = self.histories[latest]
            past = self.past_wanted.get(latest, {})
            if piecewise and self.can_compute(latest):
                self.compute()
                del self.histories[latest]
                self.through_piece(latest, cells, past)
            else:
                del self.histories[latest]
                given = {c: self.value(g) for c, g in cells.items()}
                self.sort(latest, self.through_past(latest, given, tuple(past)), past)
            for c in cells:
                if c.value is not None and c.value.siblings[0] in latest.spent:
                    c.epoch = SPENT  # and lets go of what the epoch holds
            passed += 1
        self.leaves = {t: self.value(g) for t, g in self.leaves.items()}
        self.found = {key: self.value(g) for key, g in self.found.items()}

    def value(self, g: Value | Cell) -> Value:
        return self.recorder.cell_value(g) if type(g) is Cell else g  # type: ignore[return-value]

    def owner(self, epoch: Epoch, v: Value) -> tuple[Any, dict[Any, Any]]:
        """Whose the gradient of a variable is, and where those are kept."""
        owner = epoch.variables[v.attrs[0]]
        if isinstance(owner, Tensor):
            return owner, self.leaves
        if owner.epoch is SPENT:
            raise RuntimeError(_TWICE)
        return owner, self.histories.setdefault(owner.epoch, {})

    def sort(self, epoch: Epoch, found: dict[Value, Value], wanted: dict[Value, None]) -> None:
        """Gradients of an epoch's variables go to leaf tensors or, for cells, further into the past."""
        self.computed = False
        for v, g in found.items():
            if v in wanted:
                self.found[epoch, v] = g
            if v.op is variable:
                owner, kept = self.owner(epoch, v)
                present = kept.get(owner)
                kept[owner] = g if present is None else self.value(present) + g

    def can_compute(self, epoch: Epoch) -> bool:
        """Is only the result of the walk through this epoch wanted, not its graph?"""
        recorder = self.recorder
        return not (self.create_graph or recorder.tracing is not None or recorder.levels or recorder.holding
                    or epoch.hooks or epoch.functions or epoch.mapped or checks_gradients(recorder))

    def compute(self) -> None:
        """Compute all gradients that there are."""
        if self.computed:
            return
        recorder = self.recorder
        epoch = recorder.epoch
        everywhere: list[dict[Any, Any]] = [self.leaves, self.found, *self.histories.values()]
        for kept in everywhere:
            for key, g in kept.items():
                if type(g) is not Cell:
                    kept[key] = Cell(g.type, recorder.detached(g), epoch)
                    epoch.pending.append(kept[key])
        recorder.flush()
        self.computed = True

    def through_piece(self, epoch: Epoch, cells: dict[Cell, Cell], wanted: dict[Value, None]) -> None:
        """The backward of an epoch that was flushed, run at once."""
        roots = [c.value for c in cells if c.value is not None]
        seeds = [make_leaf(roots[0].builder, SEED + i, c.type) for i, c in enumerate(cells)]
        found = self.through(epoch, roots, seeds, tuple(wanted))
        targets: dict[Any, tuple[dict[Any, Any], list[Value]]] = {}
        for v, g in found.items():
            if v.op is variable:
                owner, kept = self.owner(epoch, v)
                targets.setdefault(owner, (kept, []))[1].append(g)
        asked = [v for v in wanted if v in found]
        groups = [gradients for _, gradients in targets.values()] + [[found[v]] for v in asked]
        sums = [kept.get(owner) for owner, (kept, _) in targets.items()] + [None] * len(asked)
        results = iter(run_piece(self.recorder, epoch, list(cells.values()), groups, sums))
        for owner, (kept, _) in targets.items():
            kept[owner] = next(results)
        for v, result in zip(asked, results):
            self.found[epoch, v] = result

    def through(self, epoch: Epoch, roots: Sequence[Value], cotangents: Sequence[Value], wanted: tuple[Value, ...],
                hooks: dict[Value, Any] | None = None) -> dict[Value, Value]:
        recorder = self.recorder
        hooks = epoch.hooks if hooks is None else hooks
        watched = checks_gradients(recorder)
        remember = not hooks and not epoch.functions and not watched
        key = (tuple(roots), tuple(cotangents), wanted)
        cached = recorder.backwards.get(key) if remember else None
        if cached is None:
            visited: list[Value] = []
            run_hooks = {v: functools.partial(self.run_hooks, list(h)) for v, h in hooks.items()}
            with set_grad_enabled(self.create_graph):  # for the user's code that hooks and custom functions run
                steps: list[tuple[Value, Sequence[Value | None]]] | None = [] if watched else None
                recorder.holding += 1
                try:
                    found = gradients(roots, cotangents, wanted, run_hooks, visited, steps=steps)
                finally:
                    recorder.holding -= 1
            if steps is not None:
                check(recorder, steps)
            cached = (found, *spendable(visited))
            if remember and not (epoch.functions or recorder.epoch.functions):
                recorder.backwards[key] = cached
        found, visited_nodes, with_residuals = cached
        if epoch.spent and not epoch.spent.isdisjoint(with_residuals):
            raise RuntimeError(_TWICE)
        if not self.keep and visited_nodes:
            epoch.spend(visited_nodes)
        return found

    def run_hooks(self, hooks: list[Callable[[Tensor], Any]], g: Value) -> Value:
        """Hooks see the complete gradient as a tensor and may replace it."""
        recorder = self.recorder
        with set_grad_enabled(self.create_graph):
            for hook in sorted(hooks, key=lambda h: type(h) is RetainGrad):
                result = hook(wrap(recorder, g if self.create_graph else recorder.detached(g)))
                if result is not None:
                    g = recorder.value(result)
        return g

    def through_past(self, epoch: Epoch, cells: dict[Cell, Value], wanted: tuple[Value, ...]) -> dict[Value, Value]:
        """The backward of an epoch that was flushed, as values of the present one.

        Usually: differentiate there, then re-express the result here, with what the flush saved as leaves. Where the
        graph itself is needed (higher derivatives, hooks, custom functions), it is first rebuilt here.
        """
        move = Move(self.recorder, epoch)
        roots = [c.value for c in cells if c.value is not None]
        if (self.create_graph or epoch.hooks or epoch.functions or checks_gradients(self.recorder)
                or roots[0].builder is not self.recorder.builder):
            new_roots = [move.value(v) for v in roots]
            new_wanted = {move.value(v): v for v in wanted}
            hooks = {move.value(v): h for v, h in epoch.hooks.items()}
            result: dict[Value, Value] = {}
            found = self.through(self.recorder.epoch, new_roots, list(cells.values()), tuple(new_wanted), hooks)
            back = {n: o for o, n in move.variables.items()}
            for v, g in found.items():
                for old in {back.get(v), new_wanted.get(v)} - {None}:
                    result[old] = g  # type: ignore[index]
            return result
        seeds = [make_leaf(self.recorder.builder, SEED + i, c.type) for i, c in enumerate(cells)]
        move.env.update(zip(seeds, cells.values()))
        move.cut = True
        return {v: move.value(g) for v, g in self.through(epoch, roots, seeds, wanted).items()}


def spendable(visited: Sequence[Value]) -> tuple[frozenset[Value], frozenset[Value]]:
    """Of the nodes that a backward went through: those behind which something is given up with the graph, and those
    that themselves keep operands for the backward. Sums and the like keep nothing, and a graph of them may be
    used again."""
    keep: set[Value] = set()
    spent: set[Value] = set()
    for v in reversed(visited):
        if keeps_operands(v):
            keep.add(v)
            spent.add(v)
        elif any(i.siblings[0] in spent for i in v.inputs):
            spent.add(v)
    return frozenset(spent), frozenset(keep)


def keeps_operands(v: Value) -> bool:
    name = v.op.name
    if v.op.linear or name in ("add", "sub", "neg") or v.op.kind == "marker":
        return False
    if name not in ("mul", "div"):
        return True
    a, b = v.inputs
    return not (is_number(b) or (name == "mul" and is_number(a)))


class Move:
    """Values of an earlier epoch re-expressed in the present one: same graph, leaves bound to the same data."""

    def __init__(self, recorder: Recorder, epoch: Epoch) -> None:
        self.recorder, self.epoch = recorder, epoch
        self.env: dict[Value, Value] = {}
        self.variables: dict[Value, Value] = {}
        self.cut = False  # take what the flush saved as data

    def value(self, v: Value) -> Value:
        operands_first([v], self.env, self.rebuild)
        return self.env[v]

    def is_data(self, node: Value) -> bool:
        """Is a value taken as the flush saved it? Where the graph is rebuilt, only what has no derivative."""
        return node in self.epoch.saved and (self.cut or not node.requires_grad)

    def rebuild(self, node: Value) -> list[Value]:
        """Put a node in `env`, or say which operands have to be there first."""
        recorder, epoch, env = self.recorder, self.epoch, self.env
        if self.is_data(node):
            env[node] = recorder.leaf(epoch.saved[node])
            return []
        missing = [i for i in node.inputs if i not in env]
        if missing:
            return missing
        if node.op is leaf:
            number = node.attrs[0]
            env[node] = (recorder.leaf(epoch.leaves[number]) if number >= 0
                         else recorder.scalar(epoch.scalars[-number - 1]))
        elif node.op is variable:
            inner = env[node.inputs[0]]
            env[node] = self.variables[node] = recorder.variable(epoch.variables[node.attrs[0]], inner)
        else:
            attrs = node.attrs
            if node.op is custom.custom_function and isinstance(attrs[1], int):
                recorder.epoch.functions.append(epoch.functions[attrs[1]])
                attrs = (attrs[0], len(recorder.epoch.functions) - 1)
            result = recorder.builder.intern(node.op, tuple([env[i] for i in node.inputs]), attrs, node.loc)
            for old, new in zip(node.siblings, result if isinstance(result, tuple) else (result,)):
                env[old] = new
        return []
