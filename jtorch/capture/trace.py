"""`jit.trace`: a whole call as one program.

The first call with a new signature runs the user's Python once over a recorder of its own. What it read that existed
before (parameters, buffers, optimizer state, the random generator) becomes *captured state*; what it wrote becomes
outputs that land in the same memory. Later calls with that signature check guards and run the program.

A call that leaves new tensors behind (an optimizer making its state) is run eagerly instead: the next call sees the
state in being and is captured.
"""
from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jtorch._tensor import Tensor
from jtorch.capture.cell import Cell
from jtorch.capture.record import Recorder, current
from jtorch.capture.signature import Leaf, flatten, signature_of, unflatten, views_of
from jtorch.capture.variant import Variant
from jtorch.errors import TraceError
from jtorch.ir.graph import Graph, Value, user_location
from jtorch.storage import Storage

_ATTEMPTS = 3  # calls that may leave new tensors behind before tracing is given up for the function
_REPLACEMENTS = 8  # programs in succession that were of no use again, as members of modules had been replaced


class Trace:
    """What a traced call touches while it is being recorded. The recorder and the library report to it."""

    def __init__(self) -> None:
        self.captured: dict[int, Storage] = {}  # id(cell) -> storage
        self.constants: dict[int, Cell] = {}  # cells made during the trace from data: constants of the program
        self.before: dict[Storage, Cell] = {}  # first contents of storages that were written
        self.grads: dict[int, tuple[Tensor, Tensor | None, bool]] = {}  # id -> tensor, its .grad before, was it read
        self.scalars: dict[int, Callable[[], Any]] = {}  # scalar leaf number -> getter
        self.modes: dict[int, tuple[Any, bool]] = {}  # modules and their training flags
        self.conditions: list[tuple[Callable[[], bool], str]] = []  # what the program takes for granted
        self.initializing = False
        self.entering: tuple[Storage, Tensor | None] | None = None  # whose contents the recorder is about to read
        self.owners: dict[Storage, Tensor] = {}  # captured storages -> a tensor that is the whole of it
        self.recorder: Recorder

    def capture(self, cell: Cell) -> None:
        if id(cell) in self.constants or self.entering is None:
            return
        storage, t = self.entering
        self.captured[id(cell)] = storage
        if t is not None and t._view is None and (t._requires_grad or storage not in self.owners):
            self.owners[storage] = t

    def made(self, cell: Cell) -> None:
        """Data that the traced function itself brought into being."""
        self.constants[id(cell)] = cell

    def is_constant(self, cell: Cell) -> bool:
        return id(cell) in self.constants

    def wrote(self, storage: Storage) -> None:
        if storage not in self.before:
            self.before[storage] = storage.cell

    def saw_grad(self, t: Tensor, read: bool = True) -> None:
        if id(t) not in self.grads:
            self.grads[id(t)] = (t, t._grad, read)

    def saw_module(self, module: Any) -> None:
        self.modes[id(module)] = (module, module.training)

    def assume(self, holds: Callable[[], bool], otherwise: str) -> None:
        """The program stands only while `holds()`; `otherwise` says what has happened when it does not."""
        self.conditions.append((holds, otherwise))

    def note_initialization(self) -> None:
        """State came into being: this call cannot stand for the next ones."""
        self.initializing = True

    def capture_scalar(self, getter: Callable[[], Any]) -> Value:
        """A Python number that is read again, with `getter`, at every call."""
        v = self.recorder.scalar(getter())
        self.scalars[v.attrs[0]] = getter
        return v

    def refuse_value(self) -> None:
        location = user_location()
        where = f"{location[0]}:{location[1]}: " if location else ""
        raise TraceError(
            f"{where}a traced function needs the value of a tensor here (bool(), item(), numpy(), print, or a Python "
            "branch on it). The trace would hold this one value for ever. Use torch.where, move this line out of the "
            "traced function, or write the control flow with jit.script.")


class Traced:
    """A callable that runs as compiled programs, one per signature of its calls."""

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.variants: dict[Any, list[Variant]] = {}
        self.plain: dict[Any, Variant] = {}
        self.aliasing: set[Any] = set()  # signatures whose calls write to views among the arguments, or to their bases
        self.events: list[str] = []
        self.failures = self.replacements = 0
        self.latest: Variant | None = None
        if hasattr(function, "__name__"):
            functools.update_wrapper(self, function)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        bound = instance.__dict__.get(("traced", id(self)))
        if bound is None:
            bound = self.bind(instance, owner)
            instance.__dict__["traced", id(self)] = bound
        return bound

    def bind(self, instance: Any, owner: type | None) -> Traced:
        """This function as a method of `instance`."""
        return Traced(self.function.__get__(instance, owner), self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        recorder = current.recorder
        if recorder.tracing is not None or recorder.levels or self.failures >= _ATTEMPTS or (
                self.replacements >= _REPLACEMENTS):
            # inside another trace or a mapped function: part of it
            return self.function(*args, **kwargs)
        if recorder.epoch.pending or recorder.epoch.leaves:
            recorder.flush()
        if self.plain and not kwargs:
            variant = self.plain.get(self._plain_key(args, recorder))
            if variant is not None and variant.pure and variant.unguarded:
                self.latest = variant
                return variant.run_pure(args)
            if variant is not None and not variant.is_given_state(args):
                if variant.steady is not None and variant.as_left():
                    self.latest = variant
                    return variant.run_again(args)
                if variant.unguarded or variant.stale() is None:
                    self.latest = variant
                    return variant.run_plain(args)
        flat, structure = flatten((args, kwargs) if kwargs else args)
        leaves = [Leaf(t) for t in flat if isinstance(t, Tensor)]
        signature = signature_of(flat, structure, recorder)
        if signature in self.aliasing:
            leaves = [Leaf(t, True) for t in flat if isinstance(t, Tensor)]
            signature = (signature, views_of(leaves))
        given = self._given_state(leaves)
        if given:  # what is read and written by two names is another program
            signature = (signature, given)
        reason = None
        for variant in self.variants.get(signature, ()):
            reason = variant.stale()
            if reason is None:
                self.latest, self.replacements = variant, 0
                if not kwargs and variant.only_new and variant.plain and not given:
                    self.plain[self._plain_key(args, recorder)] = variant
                    self.plain.pop(None, None)
                return variant.run(leaves)
        if reason is None:
            reason = "first call" if not self.variants else "a new signature: " + describe(flat)
        self.events.append(reason)
        return self._capture(signature, flat, structure, leaves, bool(kwargs))

    def _given_state(self, leaves: Sequence[Leaf]) -> tuple[tuple[int, int], ...]:
        """Which arguments are state that programs have captured: (number, id of its storage)."""
        found = []
        for i, leaf in enumerate(leaves):
            storage = id(leaf.tensor._storage)
            if any(storage in v.captured for variants in self.variants.values() for v in variants):
                found.append((i, storage))
        return tuple(found)

    @staticmethod
    def _plain_key(args: tuple[Any, ...], recorder: Recorder) -> Any:
        """A quick signature for calls with nothing but whole tensors that have no history; else None.

        Types are interned and the programs keep theirs alive, so their ids identify them.
        """
        key: list[Any] = [recorder.grad_enabled, recorder.autocast]
        for t in args:
            if not isinstance(t, Tensor) or t._view is not None or t._requires_grad:
                return None
            cell = t._storage.cell
            if cell.value is not None or cell.buffer is None:  # has a history, or is pending in another thread
                return None
            key.append(id(t._type))
        return tuple(key)

    def _capture(self, signature: Any, flat: list[Any], structure: Any, leaves: list[Leaf], keywords: bool) -> Any:
        outer = current.recorder
        trace = Trace()
        recorder = Recorder()
        recorder.tracing = trace
        recorder.grad_enabled, recorder.inference = outer.grad_enabled, outer.inference
        recorder.set_autocast(outer.autocast)
        recorder.builder.default_float = outer.builder.default_float
        trace.recorder = recorder
        stand_ins = [leaf.stand_in() for leaf in leaves]
        tensors = iter(stand_ins)
        arguments = unflatten(structure, [next(tensors) if isinstance(x, Tensor) else x for x in flat])
        args, kwargs = arguments if keywords else (arguments, {})
        current.recorder = recorder
        aside = not gc.get_freeze_count()
        if aside:  # so that `_escaped` looks through what the call has made, not through all objects that there are
            gc.freeze()
        try:
            result = self.function(*args, **kwargs)
            del args, kwargs, arguments
            escaped = self._escaped(trace, recorder, result)
            if trace.initializing or escaped:
                return self._finish_eagerly(trace, recorder, leaves, result, escaped)
            written = {id(s) for s in trace.before}
            aliased = any(not leaf.whole and not written.isdisjoint((id(leaf.storage), id(leaf.tensor._storage)))
                          for leaf in leaves)
            variant = None if aliased else Variant(self.name, trace, recorder, leaves, stand_ins, result)
        except BaseException:
            self._roll_back(trace)
            raise
        finally:
            current.recorder = outer
            if aside:
                gc.unfreeze()
        result = None
        self._roll_back(trace)
        recorder.epoch.forget()  # so that the memory of captured cells may be written in place
        trace.before.clear()
        trace.grads.clear()
        for t in trace.owners.values():  # what they noted keeps the epoch alive that was before, and all it read
            t._epoch = None
        del stand_ins
        if variant is None:  # views have to be seen as what they are
            self.aliasing.add(signature)
            leaves = [Leaf(leaf.tensor, True) for leaf in leaves]
            return self._capture((signature, views_of(leaves)), flat, structure, leaves, keywords)
        variants = self.variants.setdefault(signature, [])
        if any(v.modules.replaced() for v in variants):
            variants[:] = [v for v in variants if not v.modules.replaced()]
            self.replacements += 1
            if self.replacements == _REPLACEMENTS:
                self.events.append("runs eagerly from now on: members of its modules are replaced in every call")
        variants.append(variant)
        self.latest = variant
        return variant.run(leaves)

    @staticmethod
    def _roll_back(trace: Trace) -> None:
        """Undo what the recording did to storages and gradients: the program will do it for real."""
        for storage, cell in trace.before.items():
            storage.cell = cell
            storage.version += 1
        for t, g, _ in trace.grads.values():
            t._grad = g

    def _escaped(self, trace: Trace, recorder: Recorder, result: Any) -> list[Storage]:
        """Storages that the call made and that live on elsewhere than in its result, gradients and written state."""
        flat, _ = flatten(result)
        storages = [*trace.before, *[t._storage for t in flat if isinstance(t, Tensor)],
                    *[t._grad._storage for t, _, _ in trace.grads.values() if t._grad is not None]]
        known = {id(s): s for s in storages}
        holders: dict[int, int] = {}  # how many references to a cell the known storages are
        for s in known.values():
            holders[id(s.cell)] = holders.get(id(s.cell), 0) + 1
        suspects = {id(cell): cell for cell in recorder.epoch.pending
                    if sys.getrefcount(cell) > 3 + holders.get(id(cell), 0)}
        found = []
        if suspects:
            for holder in gc.get_referrers(*suspects.values()):
                if type(holder) is Storage and id(holder) not in known and id(holder.cell) in suspects:
                    found.append(holder)
        if found:  # only those that something outlives the call with
            gc.collect()
            found = [s for s in found if sys.getrefcount(s) > 3]
        return found

    def _finish_eagerly(self, trace: Trace, recorder: Recorder, leaves: Sequence[Leaf], result: Any,
                        escaped: list[Storage]) -> Any:
        reason = "state came into being during the call" if trace.initializing else (
            f"{len(escaped)} tensors made by the call live on outside its results")
        self.events.append(f"ran eagerly: {reason}")
        self.failures += not trace.initializing
        recorder.tracing = None
        shown = [leaf for leaf in leaves if not leaf.whole]  # views that the function saw as tensors of their own
        for leaf in shown:
            leaf.cell.buffer = leaf.shared()
        recorder.flush()
        for leaf in shown:
            if leaf.storage in trace.before:
                leaf.tensor.detach().copy_(leaf.shown.detach())
            leaf.tensor._grad = leaf.shown._grad
        flat, structure = flatten(result)
        tensors = {id(leaf.shown): leaf.tensor for leaf in shown}
        return unflatten(structure, [tensors.get(id(x), x) for x in flat]) if shown else result

    # --- looking at it -----------------------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        return self._variant().graph

    @property
    def code(self) -> str:
        return str(self.graph)

    @property
    def kernels(self) -> Any:
        return self._executable().kernels

    def _variant(self) -> Variant:
        if self.latest is None:
            raise RuntimeError(f"{self.name} has not been called yet, so there is nothing traced to look at")
        return self.latest

    def _executable(self) -> Any:
        variant = self._variant()
        if variant.executable is None:
            variant.prepare()
        return variant.executable

    def explain(self) -> str:
        """Why each trace was made, and what the present program consists of."""
        lines = [f"{self.name}: {sum(map(len, self.variants.values()))} programs"]
        lines += [f"  {i + 1}. {event}" for i, event in enumerate(self.events)]
        if self.latest is not None:
            lines.append(self._executable().explain())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<traced {self.name}>"


def describe(flat: list[Any]) -> str:
    return ", ".join(repr(x._type) if isinstance(x, Tensor) else repr(x) for x in flat)


