"""A traced call as a program: what it takes for granted, and how it runs on captured state."""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jtorch import dtypes
from jtorch._tensor import Tensor, computed_tensor, wrap
from jtorch.capture import observe
from jtorch.capture.cell import Cell
from jtorch.capture.execute import scalar_buffer, strip_markers
from jtorch.capture.inline import callable_graph, record_call
from jtorch.capture.modules import Modules
from jtorch.capture.record import OWNED, SPENT, Recorder, current
from jtorch.capture.signature import Leaf, flatten, unflatten
from jtorch.capture.steady import LONG, Steady, steady_state
from jtorch.ir.graph import Graph, Value, topological
from jtorch.ir.prims.create import detach
from jtorch.lazy import lazy_module
from jtorch.runtime.memory import allocator
from jtorch.storage import Storage
from jtorch.views import make_view, store

if TYPE_CHECKING:
    from jtorch import driver
    from jtorch.capture.trace import Trace
else:
    driver = lazy_module("jtorch.driver")

_SCALAR_SLOTS: dict[Any, Any] = {
    dtypes.float64: ctypes.c_double, dtypes.int64: ctypes.c_int64, dtypes.bool_: ctypes.c_bool}
_references = sys.getrefcount
_CELL_REFERENCES = 3  # the storage, a local variable, getrefcount's argument
_BUFFER_REFERENCES = 2  # the cell, getrefcount's argument
_LOCAL_REFERENCES = 3  # the cell, a local variable, getrefcount's argument


class Variant:
    """One captured program: how to check that it applies, and how to run it."""

    def __init__(self, name: str, trace: Trace, recorder: Recorder, leaves: Sequence[Leaf],
                 stand_ins: Sequence[Tensor], result: Any) -> None:
        epoch = recorder.epoch
        inputs = {id(leaf.cell): i for i, leaf in enumerate(leaves)}
        flat_result, self.structure = flatten(result)
        self.results: list[tuple[str, Any]] = []
        argument_of = {id(t): i for i, t in enumerate(stand_ins)}
        values: list[Value] = []
        places: dict[Value, int] = {}

        def place(v: Value) -> int:
            source = strip_markers(v)
            if source not in places:
                places[source] = len(values)
                values.append(source)
            return places[source]

        # written storages first: their outputs are in place. An argument's storage is noted by the argument's number.
        argument_storage = {id(leaf.storage): i for i, leaf in enumerate(leaves)}
        self.written: list[tuple[Storage, int]] = []
        self.written_arguments: list[tuple[int, int]] = []
        self.differentiable = False
        self.live: set[int] = set()  # outputs written to storages that require grad from then on
        for storage, cell in trace.before.items():
            if storage.cell.epoch is epoch and cell is not storage.cell:
                v = recorder.cell_value(storage.cell)
                out = place(v)
                if v.requires_grad and v.siblings[0] not in epoch.spent:
                    self.differentiable = True
                    self.live.add(out)
                if id(storage) in argument_storage:
                    self.written_arguments.append((argument_storage[id(storage)], out))
                else:
                    self.written.append((storage, out))
        self.grads: list[list[Any]] = []  # [a tensor, or an argument's number; its new .grad; output or -1]
        for t, before, _ in trace.grads.values():
            g = t._grad
            if g is before:
                continue  # read, or written in place
            fresh = g is not None and g._storage.cell.epoch is epoch and g._storage not in trace.before
            self.grads.append([argument_of.get(id(t), t), g,
                               place(recorder.value(g)) if fresh else -1])  # type: ignore[arg-type]
        self.guarded_grads = [(t, g is None) for t, g, read in trace.grads.values()
                              if read and id(t) not in argument_of]
        self.new_leaves: list[int] = []  # results that are leaf tensors made by the call
        self.spent: dict[int, Value] = {}  # results whose graph the function's own backward has used up
        made: dict[int, int] = {}  # tensors, and storages of which the whole is a result, that the call made -> results
        for i, item in enumerate(flat_result):
            if isinstance(item, Tensor) and item._view is None:
                made.setdefault(id(item._storage), i)
        for i, item in enumerate(flat_result):
            if not isinstance(item, Tensor):
                self.results.append(("static", item))
                continue
            storage, chain = item._storage, item._view or ()
            argument = argument_storage.get(id(storage))
            if argument is not None and leaves[argument].whole:
                start = leaves[argument].tensor._view or ()
                argument = argument if chain[:len(start)] == start else None
                chain = chain[len(start):]
            if id(item) in argument_of:
                self.results.append(("argument", argument_of[id(item)]))
            elif argument is not None:
                self.results.append(("view of argument", (argument, chain)))
            elif storage.cell.epoch is not epoch and storage.cell.buffer is not None:
                self.results.append(("same", item))
            elif made.get(id(item), i) != i:
                self.results.append(("again", made[id(item)]))
            elif made.get(id(storage), i) != i:
                self.results.append(("view of result", (made[id(storage)], chain)))
            else:
                made[id(item)] = i
                v = recorder.value(item)
                spent = v.siblings[0] in epoch.spent  # the function itself called backward
                live = v.requires_grad and not spent and not item._requires_grad
                self.differentiable |= live
                self.results.append(("new", (place(v), live)))
                if item._requires_grad:
                    self.new_leaves.append(i)
                    continue
                if v.requires_grad and spent:
                    self.spent[len(self.results) - 1] = v
        written = {out for _, out in self.written}
        of_arguments = any(type(t) is int for t, _, _ in self.grads)
        self.plain = not (self.differentiable or self.written_arguments or of_arguments)
        self.only_new = not self.new_leaves and all(kind == "new" and item[0] not in written
                                                    for kind, item in self.results)
        self.trace_values = values
        params = sorted((v for v in topological(values) if v.op.kind == "leaf"), key=lambda v: v.attrs[0])
        self.graph = Graph(params, values, name)
        # where each parameter comes from: an argument, captured state, a constant, or a scalar
        self.sources: list[tuple[str, Any]] = []
        self.constants: list[Any] = []
        for p in params:
            number = p.attrs[0]
            if number < 0:
                getter = trace.scalars.get(number)
                if getter is None:
                    self.sources.append(("constant", scalar_buffer(epoch.scalars[-number - 1])))
                else:
                    self.sources.append(("scalar", getter))
                continue
            cell = epoch.leaves[number]
            if id(cell) in inputs:
                self.sources.append(("argument", inputs[id(cell)]))
            elif id(cell) in trace.captured:
                self.sources.append(("state", trace.captured[id(cell)]))
            else:
                self.sources.append(("constant", cell.buffer))
        self.modules = Modules(trace.modes.values())
        self.conditions = trace.conditions
        self.callable = callable_graph(values, epoch, trace, leaves) if self.differentiable else None
        self.state = [(s, p.type, i) for i, (p, (kind, s)) in enumerate(zip(params, self.sources)) if kind == "state"]
        self.anchors = self._find_anchors(trace, argument_of)
        self.from_arguments = [(i, a) for i, (kind, a) in enumerate(self.sources) if kind == "argument"]
        self._note_captured()
        self.unguarded = not (self.modules.modes or self.guarded_grads or self.state or self.conditions)
        self.executable: Any = None
        self.pure = False
        self.steady: Steady | None = None
        self.patience = self.runs_to_steady = 1  # see `settle`
        self._prepare_in_place()

    def _find_anchors(self, trace: Trace, argument_of: dict[int, int]) -> list[tuple[Tensor, bool, Storage]]:
        """Where the storages of captured state belong: (tensor, in its .grad?, storage). Both `.data` and `.grad` may
        be replaced between two calls."""
        storages = [s for s, _, _ in self.state] + [s for s, _ in self.written]
        tensors = {id(s): (t, False, s) for s, t in trace.owners.items()}
        for t, g, _ in trace.grads.values():
            if g is not None and g._view is None and id(t) not in argument_of:
                tensors[id(g._storage)] = (t, True, g._storage)
        return [tensors[i] for i in dict.fromkeys(map(id, storages)) if i in tensors]

    def _note_captured(self) -> None:
        self.captured = {id(s) for s, _, _ in self.state} | {id(s) for s, _ in self.written}

    def is_given_state(self, args: Sequence[Tensor]) -> bool:
        """Is one of the arguments captured state?"""
        captured = self.captured
        for _, a in self.from_arguments:
            if id(args[a]._storage) in captured:
                return True
        return False

    def _prepare_in_place(self) -> None:
        place_of_state = {id(s): i for i, (kind, s) in enumerate(self.sources) if kind == "state"}
        self.in_place: dict[int, int] = {}
        taken: set[int] = set()
        for storage, out in self.written:
            param = place_of_state.get(id(storage))
            if param is not None and out not in self.in_place and param not in taken:
                self.in_place[out] = param
                taken.add(param)

    # --- guards ------------------------------------------------------------------------------------------------------

    def stale(self) -> str | None:
        """Why this program does not stand for a call now, or None if it does."""
        changed = self.modules.changed()
        if changed is not None:
            return changed
        for holds, otherwise in self.conditions:
            if not holds():
                return otherwise
        for t, was_none in self.guarded_grads:
            if (t._grad is None) is not was_none:
                return f"a .grad that the function reads is {'None' if t._grad is None else 'there'} now"
        moved: dict[Storage, Storage] = {}
        for t, is_grad, storage in self.anchors:
            holder = t._grad if is_grad else t
            if holder is None or holder._storage is not storage:
                if holder is None or holder._view is not None:
                    return "captured state was replaced by a view"
                moved[storage] = holder._storage
        for storage, expected, _ in self.state:
            found = (moved.get(storage, storage) if moved else storage).cell.type
            if found is not expected and found != expected:
                return f"captured state changed from {expected} to {found}"
        if moved:
            self._move(moved)
        return None

    def _move(self, moved: dict[Storage, Storage]) -> None:
        """Captured tensors have other storages now."""
        def new(s: Any) -> Any:
            return moved.get(s, s) if type(s) is Storage else s
        self.anchors = [(t, is_grad, new(s)) for t, is_grad, s in self.anchors]
        self.state = [(new(s), expected, i) for s, expected, i in self.state]
        self.sources = [(kind, new(s)) for kind, s in self.sources]
        self.written = [(new(s), out) for s, out in self.written]
        self._note_captured()
        if self.callable is not None:
            self.callable = replace(self.callable, sources=tuple([(kind, new(s)) for kind, s in self.callable.sources]))
        if self.executable is not None:
            self.moved = [(new(s), out) for s, out in self.moved]
            self.owned = [(new(s), i, out) for s, i, out in self.owned]
            self.read_only = [(new(s), i) for s, i in self.read_only]

    def as_left(self) -> bool:
        """Is everything as the last run left it?"""
        if self.modules.changed() is not None:
            return False
        for holds, _ in self.conditions:
            if not holds():
                return False
        steady = self.steady
        if steady.unchanged():  # type: ignore[union-attr]
            return True
        if steady.runs > LONG:  # type: ignore[union-attr]
            self.patience = 1
        self.steady, self.runs_to_steady = None, self.patience
        return False

    def settle(self) -> bool:
        """Between two runs: does it look as if the next ones would find what the last one left behind? Where they do
        not, it is looked for less and less often."""
        self.runs_to_steady -= 1
        if self.runs_to_steady:
            return False
        self.patience *= 2
        self.runs_to_steady = self.patience
        self.steady = steady_state(self)
        return self.steady is not None and self.as_left()

    # --- running -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Compile, and lay out what a call has to fill in."""
        self.executable = driver.compile_graph(self.graph, self.in_place)
        self.types = [v.type for v in self.trace_values]
        settled = [(s, out) for s, out in self.written if out in self.in_place
                   and self.sources[self.in_place[out]][1] is s]
        self.moved = [(s, out) for s, out in self.written if (s, out) not in settled]
        count = len(self.sources)
        self.owned = [(self.sources[param][1], param, count + out) for out, param in self.in_place.items()]
        self.read_only = [(s, i) for s, _, i in self.state if i not in self.in_place.values()]
        own_grads = {entry[2]: entry for entry in self.grads
                     if entry[2] >= 0 and type(entry[0]) is not int and self._only_use(entry[2])}
        for out, entry in own_grads.items():
            self._take_over(entry, self.types[out])
        self.fresh = [(i, v.type.nbytes, own_grads.get(i)) for i, v in enumerate(self.trace_values)
                      if i not in self.in_place]
        self.fixed = [source.ptr if kind == "constant" else 0 for kind, source in self.sources] + [0] * len(self.types)
        self.getters = []
        for i, (kind, getter) in enumerate(self.sources):
            if kind == "scalar":
                slot = _SCALAR_SLOTS[self.graph.params[i].dtype]()
                self.getters.append((slot, getter))
                self.fixed[i] = ctypes.addressof(slot)
        self.pure = (self.structure is None and len(self.types) == 1 and self.only_new and not self.differentiable
                     and not (self.state or self.written or self.grads or self.written_arguments or self.getters
                              or self.spent))

    def _take_over(self, entry: list[Any], expected: Any) -> None:
        """Let the first run write a gradient where the one of the call before lies, which it replaces unread."""
        g = entry[0]._grad
        if g is None or g._view is not None or any(s is g._storage for s, _, _ in self.state):
            return
        storage = g._storage
        cell = storage.cell
        if cell.buffer is None or cell.type != expected or storage.exports is not None or g.requires_grad:
            return
        storage.cell = Cell(cell.type, None, None, cell.buffer)  # without what it was computed from
        entry[1] = g

    def _only_use(self, out: int) -> bool:
        """Is this output nothing but one tensor's gradient?"""
        uses = [o for _, _, o in self.grads] + [o for _, o in self.written]
        uses += [item[0] for kind, item in self.results if kind == "new"]
        return uses.count(out) == 1

    def run(self, leaves: Sequence[Any]) -> Any:
        """`leaves`: per tensor argument something with `.ptr` (and for a recorded run, a Leaf)."""
        if self.differentiable and current.recorder.grad_enabled:
            return self.run_recorded(leaves)
        if self.executable is None:
            self.prepare()
        ptrs = self.fixed[:]
        for i, a in self.from_arguments:
            ptrs[i] = leaves[a].ptr
        for storage, i, out in self.owned:
            cell = storage.cell
            if _references(cell) > _CELL_REFERENCES or _references(cell.buffer) > _BUFFER_REFERENCES:
                cell = self._own(storage)
            ptrs[i] = ptrs[out] = cell.buffer.ptr
        for storage, i in self.read_only:
            ptrs[i] = storage.cell.buffer.ptr
        for slot, getter in self.getters:
            slot.value = getter()
        outputs: list[Any] = [None] * len(self.types)
        where = len(self.sources)
        for out, size, entry in self.fresh:
            if entry is not None:  # the gradient's memory of the last call, if nobody else has it
                g = entry[1]
                cell = g._storage.cell
                b = cell.buffer
                if (b is not None and _references(g) <= _LOCAL_REFERENCES + (entry[0]._grad is g)
                        and _references(g._storage) <= _BUFFER_REFERENCES
                        and _references(cell) <= _CELL_REFERENCES and _references(b) <= _LOCAL_REFERENCES):
                    ptrs[where + out] = b.ptr
                    outputs[out] = b
                    continue
            b = outputs[out] = allocator.alloc(size)
            ptrs[where + out] = b.ptr
        observe.run(self.executable, ptrs)
        if self.written or self.grads or self.written_arguments:
            self._effects(leaves, outputs)
        if not self.only_new:
            return self._result(leaves, outputs)
        return self._new_results(outputs)

    def run_plain(self, args: Sequence[Tensor]) -> Any:
        """`run` on whole tensors without a history."""
        if self.pure:
            return self.run_pure(args)
        if self.steady is None and self.executable is not None and self.settle():
            return self.run_again(args)
        return self.run([t._storage.cell.buffer for t in args])

    def run_again(self, args: Sequence[Tensor]) -> Any:
        """`run` on whole tensors where everything else is as the last run left it."""
        steady: Steady = self.steady  # type: ignore[assignment]
        steady.runs += 1
        ptrs = steady.ptrs[:]
        for i, a in self.from_arguments:
            ptrs[i] = args[a]._storage.cell.buffer.ptr
        for slot, getter in self.getters:
            slot.value = getter()
        outputs = {}
        for out, place, size in steady.fresh:
            b = outputs[out] = allocator.alloc(size)
            ptrs[place] = b.ptr
        observe.run(self.executable, ptrs)
        return self._new_results(outputs)

    def _new_results(self, outputs: Any) -> Any:
        """The result of a call all of whose tensors are new."""
        flat = [computed_tensor(outputs[item[0]], self.types[item[0]]) for _, item in self.results]
        for i, v in self.spent.items():
            cell = flat[i]._storage.cell
            cell.value, cell.epoch = v, SPENT
        return flat[0] if self.structure is None else unflatten(self.structure, flat)

    def run_pure(self, args: Sequence[Tensor]) -> Tensor:
        """`run` for a program that makes one tensor from whole tensors and touches nothing else."""
        result = allocator.alloc(self.fresh[0][1])
        ptrs = self.fixed[:]
        for i, a in self.from_arguments:
            ptrs[i] = args[a]._storage.cell.buffer.ptr
        ptrs[-1] = result.ptr
        observe.run(self.executable, ptrs)
        return computed_tensor(result, self.types[0])

    @staticmethod
    def _own(storage: Storage) -> Cell:
        """The storage's cell, with memory of its own: it is about to be written, and somebody else holds it."""
        cell = storage.cell
        if storage.exports is not None and storage.exported():
            return cell  # the outside is meant to see it
        copy = allocator.alloc(cell.buffer.nbytes)
        copy.copy_from(cell.buffer)
        storage.cell = Cell(cell.type, None, None, copy)
        return storage.cell

    def _effects(self, leaves: Sequence[Any], outputs: list[Any]) -> None:
        moved = self.moved
        if self.written_arguments:
            moved = moved + [(leaves[i].storage, out) for i, out in self.written_arguments]
        for storage, out in moved:
            buffer = outputs[out] if outputs[out] is not None else self._copy_of(out)
            if storage.exports is not None and storage.exported():
                storage.cell.buffer.copy_from(buffer)
            else:
                storage.cell = Cell(storage.cell.type, None, None, buffer)
            storage.version += 1
        for entry in self.grads:
            t, g, out = entry
            if out >= 0:
                buffer = outputs[out] if outputs[out] is not None else self._copy_of(out)
                if type(t) is int:
                    g = computed_tensor(buffer, self.types[out])
                elif g._storage.cell.buffer is not buffer:
                    g = entry[1] = computed_tensor(buffer, self.types[out])
            owner = leaves[t].tensor if type(t) is int else t
            owner._grad = g

    def _copy_of(self, out: int) -> Any:
        """The data of an output that was written in place of a captured storage, for another owner."""
        storage = self.sources[self.in_place[out]][1]
        copy = allocator.alloc(storage.cell.buffer.nbytes)
        copy.copy_from(storage.cell.buffer)
        return copy

    def _result(self, leaves: Sequence[Any], outputs: list[Any]) -> Any:
        flat: list[Any] = []
        for kind, item in self.results:
            t = None
            if kind == "new":
                place = item[0]
                buffer = outputs[place] if outputs[place] is not None else self._copy_of(place)
                t = computed_tensor(buffer, self.types[place])
                if len(flat) in self.spent:
                    t._storage.cell.value, t._storage.cell.epoch = self.spent[len(flat)], SPENT
            flat.append(t)
        return self._complete(flat, leaves)

    def _complete(self, flat: list[Any], leaves: Sequence[Leaf]) -> Any:
        """The result of the call, given those of its tensors that are new."""
        for i in self.new_leaves:
            flat[i]._requires_grad = True
        for i, (kind, item) in enumerate(self.results):
            if kind == "argument":
                flat[i] = leaves[item].tensor
            elif kind == "view of argument":
                flat[i] = view_again(leaves[item[0]].tensor, item[1])
            elif kind in ("same", "static"):
                flat[i] = item
        for i, (kind, item) in enumerate(self.results):
            if kind == "view of result":
                flat[i] = view_again(flat[item[0]], item[1])
        for i, (kind, item) in enumerate(self.results):
            if kind == "again":
                flat[i] = flat[item]
        return unflatten(self.structure, flat)

    def run_recorded(self, leaves: Sequence[Leaf]) -> Any:
        """The call as one node of the enclosing eager graph, so that a backward can go through it."""
        recorder = current.recorder
        values = record_call(recorder, self.callable, leaves)
        flat: list[Any] = []
        for kind, item in self.results:
            t = None
            if kind == "new":
                place, requires_grad = item
                v = values[place]
                t = wrap(recorder, v if requires_grad else recorder.detached(v))
            flat.append(t)
        for storage, out in self.written:
            store(recorder, storage, values[out] if out in self.live else recorder.detached(values[out]))
        for i, out in self.written_arguments:
            store(recorder, leaves[i].storage, values[out] if out in self.live else recorder.detached(values[out]))
        for t, g, out in self.grads:
            owner = leaves[t].tensor if type(t) is int else t
            owner._grad = g if out < 0 else wrap(recorder, recorder.detached(values[out]))
        return self._complete(flat, leaves)


def view_again(t: Tensor, chain: Sequence[tuple[Any, tuple]]) -> Tensor:
    """The view that the operations lead to."""
    if not chain:
        chain = ((detach, ()),)  # another tensor of the same contents
    for operation, attrs in chain:
        if operation not in OWNED:
            t = make_view(t, operation, attrs)
    return t
