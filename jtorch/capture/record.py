"""The eager recorder: operations become interned Values; a flush computes the ones that are still wanted."""
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from jtorch import dtypes
from jtorch.capture import observe
from jtorch.capture.cell import Cell, Epoch
from jtorch.capture.execute import ProgramTable, buffer_of, compute, compute_once, statistics
from jtorch.capture.rhythm import Rhythm
from jtorch.capture.structure import Structures
from jtorch.config import config
from jtorch.ir.graph import Builder, Type, Value, topological, user_location
from jtorch.ir.passes.batch import dependents
from jtorch.ir.prims.complex import conj
from jtorch.ir.prims.create import detach, graft, make_leaf, variable
from jtorch.ir.prims.elementwise import neg
from jtorch.ir.prims.movement import as_part, slice_
from jtorch.lazy import lazy_module
from jtorch.storage import SharedBuffer, Storage

if TYPE_CHECKING:
    from jtorch._tensor import Tensor
    from jtorch.capture import lone
else:
    lone = lazy_module("jtorch.capture.lone")

# References to a pending cell that are not the user's: the epoch's list, the loop variable, getrefcount's argument.
_INTERNAL_REFERENCES = 3
SNAPSHOT = 32 << 10
"""Bytes up to which memory that the outside looks at is copied when it is read; what reads more is computed at once."""

OWNED = frozenset([variable, graft])
"""Steps of a view's chain that name a tensor: what is differentiated is that one."""

VIEWED, WRITTEN = "viewed", "written"
"""What keys of `Recorder.calls` begin with, for a view's chain that is read and one that is written."""

# View operations after which a tensor is more than the memory that it is read from.
_NOT_MEMORY = OWNED | {conj, neg}


class Recorder:
    """Records one Python thread's operations. `builder` outlives epochs, so repeated work finds its Values again."""

    __slots__ = ("lock", "grad_enabled", "inference", "autocast", "holding", "tracing", "levels", "walks", "structures",
                 "rhythm", "builder", "call_tables", "calls", "backwards", "forms", "origins", "programs", "leaf_table",
                 "epoch", "look_up", "record", "write", "assign", "flush_ready", "__weakref__")

    def __init__(self) -> None:
        self.look_up: Callable[..., Any] = not_at_once
        self.record: Callable[..., Tensor | None] = not_at_once
        self.write: Callable[..., Tensor | None] = not_at_once
        self.assign: Callable[..., Tensor | None] = not_at_once
        self.flush_ready: Callable[[Recorder], bool] = not_ready
        self.lock = threading.RLock()
        self.grad_enabled = True
        self.inference = False
        self.autocast: dtypes.dtype | None = None  # what autocast lowers to, None outside of it; see `set_autocast`
        self.holding = 0  # while Values of this epoch are in somebody's hands: no flush in between
        self.tracing: Any = None  # the Trace that is being recorded, if this is a trace's recorder
        self.levels: list[Any] = []  # mapped functions that are running, the innermost last (capture.mapping)
        self.walks = 0  # how many backwards there were
        self.structures = Structures()
        self.rhythm = Rhythm()
        self.reset()

    def reset(self) -> None:
        """Forget all interned values and the programs keyed by them."""
        self.builder = Builder(user_location)
        self.call_tables: dict[dtypes.dtype | None, dict[tuple, Any]] = {}  # by what autocast lowers to
        self.set_autocast(self.autocast)
        self.backwards: dict[tuple, Any] = {}  # (roots, cotangents) -> gradients
        self.forms: dict[Value, Any] = {}  # of values that were stacked (capture.alike)
        self.origins: tuple[dict[Value, str], dict[Any, int]] = {}, {}  # see `autograd.names.origins`
        self.programs = ProgramTable(self.structures)
        self.leaf_table: dict[tuple[int, Any], Value] = {}  # (number, id of the type or Python type) -> leaf
        self.epoch = Epoch(self)

    @property
    def knows_values(self) -> bool:
        """May values of tensors be looked at, to check them? Not in a trace, nor in a mapped function."""
        return self.tracing is None and not self.levels

    def set_autocast(self, lower: dtypes.dtype | None) -> None:
        """Autocast to this dtype from now on, None: not at all. The same call then means something else, so each
        state has a table of its own: `calls`, (function, arguments) -> Values, the recorder's fast path."""
        self.autocast = lower
        self.calls = self.call_tables.setdefault(lower, {})

    # --- tensors to values ---------------------------------------------------------------------------------------

    def enter(self, t: Tensor) -> Value:
        """The Value of a tensor in this epoch (the slow path; operators look at the tensor's own note first)."""
        epoch = self.epoch
        storage = t._storage
        if self.tracing is None and storage.exports is not None and storage.exported():
            if t._type.nbytes <= SNAPSHOT and not (t._requires_grad or self.levels) and is_data(t):
                return self.leaf(Cell(t._type, None, None, buffer_of(t._array().copy())))
            epoch.flush_now = True
            self.rhythm.interrupt()
        cell = storage.cell
        if t._view is None:
            v = self.contents(storage, t)
        else:
            part = self.part(t, cell)
            v = part if part is not None else self.viewed(self.contents(storage, t), t._view)
        if t._requires_grad and not v.requires_grad:
            v = self.variable(t, v)
        t._value, t._version, t._epoch = v, storage.version, epoch
        return v

    def contents(self, storage: Storage, t: Tensor | None = None) -> Value:
        """The Value of all that is in a storage. A trace captures it, and `t` if that is the tensor which it is of."""
        if self.tracing is None:
            return self.cell_value(storage.cell)
        self.tracing.entering = storage, t
        try:
            return self.cell_value(storage.cell)
        finally:
            self.tracing.entering = None  # a tensor that the call made must not live on for that

    def viewed(self, v: Value, chain: tuple[tuple[Any, Any], ...]) -> Value:
        """What a chain of view operations makes of `v`."""
        key = (VIEWED, v, chain)
        found = self.calls.get(key)
        if found is None:
            found = v
            for op, attrs in chain:
                found = self.apply_view(found, op, attrs)
            if not any(op in OWNED for op, _ in chain):  # variables are numbered anew in each epoch
                self.calls[key] = found
        return found

    def apply_view(self, v: Value, op: Any, attrs: Any) -> Value:
        """One step of a view's chain."""
        if op is variable:
            return self.variable(attrs, v)
        if op is graft:
            part = self.value(attrs)
            strides, offset = attrs._geometry or (attrs._type.strides, 0)
            history = as_part(self.detached(v), part, strides, offset)
            return self.builder.intern(graft, (v, history), ()) if part.requires_grad else v
        return self.builder.intern(op, (v,), attrs)

    def value(self, t: Tensor) -> Value:
        if t._epoch is self.epoch and t._version == t._storage.version:
            return t._value
        return self.enter(t)

    def part(self, t: Tensor, cell: Cell) -> Value | None:
        """The elements of a view as a leaf of their own, where they lie together in data that nobody writes to: the
        same work on another part (a sample, a slice of a dataset) is then the same program. Few elements of one row
        that do not lie together (a crop of a sample) are copied."""
        kind, whole, buffer, storage = t._type, cell.type, cell.buffer, t._storage
        strides, offset = t._geometry or (kind.strides, 0)
        if (buffer is None or cell.value is not None or kind.nbytes >= whole.nbytes or kind.dtype is not whole.dtype
                or self.tracing is not None or self.levels):
            return None
        scattered = strides != kind.strides
        if scattered and (kind.nbytes > SNAPSHOT or not is_of_one_row(t._view)):  # type: ignore[arg-type]
            return None
        for operation, _ in t._view:  # type: ignore[union-attr]
            if operation in _NOT_MEMORY:
                return None
        if storage.settled != storage.version and not storage.is_settled():
            return None
        if scattered:
            return self.leaf(Cell(kind, None, None, buffer_of(t._array().copy())))
        return self.leaf(Cell(kind, None, None, SharedBuffer.over(buffer, offset * kind.dtype.itemsize, kind.nbytes)))

    def cell_value(self, cell: Cell) -> Value:
        epoch = self.epoch
        if cell.epoch is epoch:
            return cell.value  # type: ignore[return-value]
        found = epoch.leaf_values.get(cell)
        if found is not None:
            return found
        if cell.buffer is None:
            materialise_elsewhere(cell)
        if self.tracing is not None:
            self.tracing.capture(cell)
        leaves = epoch.leaves  # `leaf`, without the call
        v = self.leaf_table.get((len(leaves), id(cell.type)))
        if v is None:
            v = self.leaf(cell)
        else:
            leaves.append(cell)
        if cell.value is not None and cell.value.requires_grad:  # it has a history: backward goes on there
            v = self.variable(cell, v)
        epoch.leaf_values[cell] = v
        return v

    def leaf(self, cell: Cell) -> Value:
        """A materialised cell as a new leaf."""
        leaves = self.epoch.leaves
        key = (len(leaves), id(cell.type))
        leaves.append(cell)
        found = self.leaf_table.get(key)
        if found is None:
            found = self.leaf_table[key] = make_leaf(self.builder, key[0], cell.type)
        return found

    def variable(self, owner: Any, v: Value) -> Value:
        """`v` as something that the derivative is taken with respect to."""
        epoch = self.epoch
        key = (id(owner), v)
        found = epoch.variable_values.get(key)
        if found is None:
            found = self.builder.intern(variable, (v,), (len(epoch.variables),))
            epoch.variables.append(owner)
            epoch.variable_values[key] = found
        return found

    def scalar(self, x: bool | int | float | complex) -> Value:
        """A Python number as a leaf that is read at run time; a few common ones are constants. OverflowError for an
        integer that has no place in int64."""
        if type(x) is int and not -_LONG <= x < _LONG:
            raise OverflowError("int too big to convert")
        scalars = self.epoch.scalars
        scalars.append(x)
        key = (-len(scalars), type(x))
        found = self.leaf_table.get(key)
        if found is None:
            found = self.leaf_table[key] = make_leaf(self.builder, key[0], _SCALAR_TYPES[type(x)])
        return found

    def detached(self, v: Value) -> Value:
        return self.builder.intern(detach, (v,), ()) if v.requires_grad else v

    # --- flush ---------------------------------------------------------------------------------------------------

    def after_record(self) -> None:
        """Called when an operation read exported memory, and now and then, to keep what is pending within bounds."""
        epoch = self.epoch
        if self.tracing is not None or self.holding or epoch.flush_now and self.rhythm.waits(epoch):
            return
        if epoch.flush_now or len(epoch.pending) >= config.max_pending_ops or self.rhythm.ends_here(epoch):
            self.flush()
        elif sum(c.type.nbytes for c in epoch.pending[-64:]) * (len(epoch.pending) / 64) > config.max_pending_bytes:
            self.flush()

    def flush(self) -> None:
        """Compute every pending cell that is still referenced, and begin a new epoch."""
        if self.flush_ready(self):
            statistics["compiled"] += 1
            return
        epoch = self.epoch
        pending = epoch.pending
        if self.holding or not pending and not epoch.leaves:
            return
        if self.tracing is not None:
            self.tracing.refuse_value()
        with self.lock:
            wanted, early = [], []  # what is to be computed, and what was while Values were held
            for c in pending:
                if getrefcount(c) > _INTERNAL_REFERENCES:
                    (wanted if c.buffer is None else early).append(c)
            if observe.sinks or epoch.mapped:
                wanted = unusual(epoch, wanted)
            pending.clear()
            epoch.lasting = bool(epoch.variables) and any(epoch.leads_back(c) for c in (*wanted, *early))
            try:
                if wanted:
                    self.compute(epoch, wanted)
            except Exception as error:  # what was wanted keeps its value and this epoch: `materialise_elsewhere`
                error.__traceback__ = None  # show the user's line and this one, not our inside
                undo_writes(epoch, wanted)
                raise
            finally:
                epoch.leaf_values.clear()
                self.epoch = epoch.next() if self.release(epoch, wanted + early) else Epoch(self)
            if len(self.builder.table) > config.max_interned:
                self.reset()

    def compute(self, epoch: Epoch, cells: Sequence[Cell]) -> None:
        values: tuple[Value, ...] = (cells[0].value,) if len(cells) == 1 else tuple([c.value for c in cells])  # type: ignore
        donors: list[Cell | None] | None = None
        for c in cells:
            if c.previous is not None:
                donors = [c.previous for c in cells]
                break
        plan = self.programs.plans.get(values) or self.programs.plan(values)
        if self.record is not_at_once and (self.programs.ready or self.programs.renewing):
            lone.equip(self)
        if not plan.differentiable:
            for c, buffer in zip(cells, compute(epoch, self.programs, plan, donors)):
                c.buffer = buffer
            return
        dear = self.dear_results(epoch, values)
        have = set(values) if dear else ()
        residuals = tuple([v for v in dear if v not in have])
        if residuals:
            plan = self.programs.plan(values + residuals)
        buffers = compute(epoch, self.programs, plan, donors)
        for c, buffer in zip(cells, buffers):
            c.buffer = buffer
        for v, buffer in zip(values + residuals, buffers) if dear else ():
            if v in dear and type(buffer) is not SharedBuffer:
                epoch.saved[v] = Cell(v.type, None, None, buffer)

    def dear_results(self, epoch: Epoch, values: tuple[Value, ...]) -> dict[Value, None]:
        """What a flush that computes `values` keeps, so that a backward after it need not repeat the dear work."""
        roots = tuple([v for v in values if v.requires_grad and v.siblings[0] not in epoch.spent])
        if not roots:
            return {}
        key = ("residuals", roots, values)
        found = self.backwards.get(key)
        if found is None:
            kept: dict[Value, None] = {}
            seen, stack = set(), list(roots)
            while stack:
                v = stack.pop()
                if v in seen:
                    continue
                seen.add(v)
                if v.op is variable:  # what it was: the update that made it is not repeated with its derivatives
                    if v.inputs[0].op.kind not in ("leaf", "create"):
                        kept[v.inputs[0]] = None
                    continue
                if v.op.kind not in ("elementwise", "movement", "marker", "create", "leaf"):
                    kept.update(dict.fromkeys(v.siblings))  # also a factor that nobody has asked for yet
                for i in v.inputs:
                    if i.requires_grad or (i.op.kind in ("random", "library") and i not in seen):
                        stack.append(i)
            found = self.backwards[key] = dict.fromkeys(sorted(kept, key=lambda v: v.id))
        return found

    @staticmethod
    def release(epoch: Epoch, cells: Sequence[Cell]) -> bool:
        """A computed cell keeps its history only while a backward may still go through it; without one, the epoch lets
        go of what its computation was made of: nothing will be asked of it again. Are its emptied containers free?"""
        finished = not epoch.lasting
        for c in cells:
            c.previous = None
            v = c.value
            if v is None or c.epoch is None:
                continue
            if c.buffer is None:
                finished = False
            elif not v.requires_grad:
                c.value = c.epoch = None
            elif v.siblings[0] in epoch.spent:
                c.epoch = SPENT
        if finished:
            epoch.leaves.clear()
            epoch.scalars.clear()
        if not epoch.variables:
            return finished
        epoch.variable_values.clear()
        return False

    def materialise(self, cell: Cell) -> None:
        """Compute `cell`, whoever recorded it."""
        if cell.buffer is not None:
            return
        if cell.epoch is self.epoch and self.holding:  # computed alone
            cell.buffer = compute(self.epoch, self.programs, self.programs.plan((cell.value,)))[0]  # type: ignore[arg-type]
        elif cell.epoch is self.epoch:
            self.flush()
            if cell.buffer is None:
                raise RuntimeError("the value of this tensor could not be computed: the flush that should have "
                                   "computed it failed")
        else:
            materialise_elsewhere(cell)


def not_at_once(recorder: Recorder, *args: Any) -> Any:
    """What a call gives that was recorded before, as Values (`look_up`), as a tensor (`record`) or written into one
    (`write`; `assign` writes a Value); None where more has to be looked at. So always until there are the built-in
    functions (`capture.lone`)."""
    return None


def not_ready(recorder: Recorder) -> bool:
    """Flush what a program is known for, and say that it is done. Never until there is a built-in function for it."""
    return False


def unusual(epoch: Epoch, wanted: list[Cell]) -> list[Cell]:
    """What a flush computes where somebody profiles, or examples of mapped functions are among the pending cells."""
    if observe.sinks:  # a profile shows also what nobody keeps
        pending = [c for c in epoch.pending if c.buffer is None]
        nodes = topological([c.value for c in pending])  # type: ignore[misc]
        used = {i for v in nodes for i in v.inputs} | {c.value for c in wanted}
        wanted = wanted + [c for c in pending if c.value not in used]
    if epoch.mapped:  # examples that outlived their function: asking for their value is an error
        lost = dependents([c.value for c in wanted])  # type: ignore[misc]
        wanted = [c for c in wanted if c.value.siblings[0] not in lost]  # type: ignore[union-attr]
    return wanted


def is_of_one_row(chain: tuple[tuple[Any, Any], ...]) -> bool:
    """Does a view begin with the choice of one row of what it is a view of?"""
    operation, attrs = chain[0]
    return operation is slice_ and attrs[1][0] - attrs[0][0] == 1


def is_data(t: Tensor) -> bool:
    """Is the tensor what lies in its storage's memory, without a history?"""
    if t._storage.cell.value is not None:
        return False
    for op, _ in t._view or ():
        if op in _NOT_MEMORY:
            return False
    return True


def undo_writes(epoch: Epoch, cells: Sequence[Cell]) -> None:
    """Tensors whose new contents cannot be computed have what they had before the writes of this epoch."""
    for c in cells:
        storage = None if c.home is None or c.buffer is not None else c.home()
        if storage is None or storage.cell is not c:
            continue
        try:
            materialise_elsewhere(c)
        except Exception:
            storage.cell = Cell(c.type, c.before, epoch) if c.previous is None else c.previous
            storage.version += 1


SPENT: Any = type("Spent", (), {"__repr__": lambda self: "<a graph that backward has gone through>"})()
"""The epoch of a cell whose history was given up by a backward without `retain_graph`."""


def materialise_elsewhere(cell: Cell) -> None:
    """Compute a cell that another thread (or an enclosing trace) has pending, without disturbing that recorder."""
    epoch = cell.epoch
    if epoch is None or cell.value is None:
        raise RuntimeError("the value of this tensor was lost: the computation that should have produced it failed")
    with epoch.recorder.lock:
        if cell.buffer is None:
            if epoch.recorder.tracing is not None:
                epoch.recorder.tracing.refuse_value()
            cell.buffer = compute_once(epoch, (cell.value,))[0]
            if cell in epoch.pending:  # it waits for nothing, and its memory is not to wait for a flush
                epoch.pending.remove(cell)
            if not cell.value.requires_grad and epoch is not epoch.recorder.epoch:
                cell.value = cell.epoch = None


_LONG = 1 << 63
_SCALAR_TYPES: dict[type, Type] = {
    bool: Type(dtypes.bool_, ()), int: Type(dtypes.int64, ()), float: Type(dtypes.float64, ()),
    complex: Type(dtypes.complex128, ()),
}


class _Current(threading.local):
    """Each thread's recorder; a trace puts its own in place for the time of the traced call."""

    recorder: Recorder

    def __init__(self) -> None:
        self.recorder = Recorder()


current = _Current()
