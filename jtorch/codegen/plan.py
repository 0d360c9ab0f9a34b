"""Where every value lives, in which order kernels run, and where they wait for each other.

An `Entry` is one launch or one host call, with what it reads and writes. `plan` puts the barriers (regions are runs
of entries that do not depend on one another), and gives every intermediate value a place in the arena for the regions
in which it lives. Outputs are written where the caller wants them.
"""
from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jtorch.codegen.body import Body, Read, Temporary, Write
from jtorch.codegen.cpu import Kernel
from jtorch.codegen.loops import DENSE, Load
from jtorch.codegen.partition import Group
from jtorch.codegen.schedule import Step, schedule
from jtorch.dtypes import by_name
from jtorch.ir.graph import Value

ALIGNMENT = 64
ARENA, SCRATCH, ERROR = -1, -2, -3  # buffer numbers with a meaning of their own (`runtime.program`)


@dataclass(slots=True)
class Entry:
    """One thing that runs."""

    reads: list[Any]  # root values and temporaries
    writes: list[Any]
    group: Group | None
    step: Step | None = None
    kernel: Kernel | None = None
    call: Any = None  # a library's KernelCall, and its arguments with values in place of operand numbers
    call_args: list[Any] = field(default_factory=list)
    epilogue: Any = None  # the group that the call finishes its blocks with (`epilogue.Attached`)
    own_args: int = 0  # how many of the arguments are not the epilogue's
    run: object = None  # the same for calls that may run beside one another, whatever they read and write
    host: Callable | None = None  # host function of addresses, given for reads then writes
    scratch: int = 0  # bytes per worker
    region: int = 0
    barrier: bool = True
    overwrites: bool = False  # does it write where a parameter is?

    @property
    def may_fail(self) -> bool:
        """Does it check something, and stop the program where that does not hold?"""
        if self.step is not None:
            return bool(self.step.binding.fails)
        return any(isinstance(a, tuple) and a[0] == "code" for a in self.call_args)


@dataclass
class MemoryPlan:
    """Places of values: ('buf', number, byte offset)."""

    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    arena_size: int = 0
    scratch_size: int = 0
    total_bytes: int = 0  # of all intermediate values together
    lives: list[tuple[str, int, int, int, int]] = field(default_factory=list)  # name, bytes, offset, first, last region

    def place(self, value: Any) -> tuple[int, int]:
        return self.places[id(value)]

    def __str__(self) -> str:
        lines = [f"arena {self.arena_size} bytes for {self.total_bytes} bytes of values, scratch {self.scratch_size} "
                 "per worker"]
        lines += [f"    {name}: {size} bytes at {offset}, regions {first}..{last}"
                  for name, size, offset, first, last in self.lives]
        return "\n".join(lines)


def size_of(value: Any) -> int:
    return value.numel * value.dtype.itemsize if isinstance(value, Temporary) else value.type.nbytes


def step_entry(group: Group | None, step: Step, kernel: Kernel) -> Entry:
    reads, writes = [], []
    written = {s.buffer for s in step.nest.stores}
    for i, (source, _) in enumerate(step.binding.buffers):
        (writes if i in written else reads).append(source)
    return Entry(reads, writes, group, step, kernel, scratch=scratch_of(step, kernel))


def scratch_of(step: Step, kernel: Kernel) -> int:
    """Bytes of a worker's scratch arrays."""
    return sum(scratch_bytes(step, kernel, d) for d in kernel.scratch)


def scratch_length(step: Step, kernel: Kernel) -> int:
    """Elements of one scratch array: a row, a block of columns, or a tile."""
    if "group" in kernel.arguments:
        return step.group
    if step.nest.schedule == "column":
        return step.block
    if step.nest.schedule == "tile":
        return 2 * step.tile * (step.tile + 1)
    n = 1
    for extent in step.binding.extents[step.nest.parallel:]:
        n *= extent
    return n


def scratch_bytes(step: Step, kernel: Kernel, dtype: str) -> int:
    return -(-scratch_length(step, kernel) * by_name(dtype).itemsize // ALIGNMENT) * ALIGNMENT


def substitute(e: Entry, old: Value, new: Any) -> None:
    """Let an entry use `new` in place of `old`."""
    e.reads = [new if v is old else v for v in e.reads]
    e.writes = [new if v is old else v for v in e.writes]
    if e.step is not None:
        e.step.binding.buffers = [(new if v is old else v, offset) for v, offset in e.step.binding.buffers]
    e.call_args = [(new, a[1]) if isinstance(a, tuple) and a[0] is old else a for a in e.call_args]
    if e.epilogue is not None and e.epilogue.binding is not None:
        e.epilogue.binding.buffers = [(new if v is old else v, offset) for v, offset in e.epilogue.binding.buffers]


def copy_entry(source: Any, target: Any, emit: Callable[[Any], Kernel]) -> Entry:
    """Copy the whole data of one value to another of the same type."""
    n, d = target.type.numel if isinstance(target, Value) else target.numel, target.dtype
    if d.is_complex:  # both parts, one after the other
        n, d = 2 * n, d.to_real()
    body = Body({0: n}, [0] if n != 1 else [], [])
    strides = {0: 1} if n != 1 else {}
    body.statements.append(Read(d, source, 0, dict(strides)))
    body.writes.append(Write(0, target, 0, dict(strides)))
    step = schedule(body)
    return step_entry(None, step, emit(step.nest))


def safe_in_place(entry: Entry, target: Any, param: Value) -> bool:
    """May `target` be written over `param` by the kernel that reads it? It may if it reads each element before it
    writes it."""
    if param not in entry.reads:
        return True
    if entry.step is not None:
        nest, binding = entry.step.nest, entry.step.binding
    elif entry.epilogue is not None and all(a[0] is not param for a in entry.call_args[:entry.own_args]
                                            if isinstance(a, tuple)):
        nest, binding = entry.epilogue.nest, entry.epilogue.binding
    else:
        return False
    stores = [s for s in nest.stores if binding.buffers[s.buffer][0] is target]
    if len(stores) != 1 or nest.chunked:
        return False
    if nest.reduce and nest.phase_of[stores[0].value] != nest.last_phase:
        return False
    strides = access_strides(nest, binding)
    store = nest.stores.index(stores[0])
    for i, v in enumerate(nest.values):
        if isinstance(v, Load) and binding.buffers[v.buffer][0] is param:
            if binding.buffers[v.buffer][1] != 0 or strides["v", i] != strides["w", store]:
                return False
            if stores[0].value not in nest.using(i) and any(s.value in nest.using(i) for s in nest.stores):
                # Pointers do not alias for the compiler: it may store first and load for another store later.
                return False
    if nest.reduce:  # a row is read as a whole before it is written; a row value must not be
        every = frozenset(range(nest.parallel + nest.reduce))
        return all(nest.loops_of[i] == every or strides["v", i] == strides["w", store]
                   for i, v in enumerate(nest.values)
                   if isinstance(v, Load) and binding.buffers[v.buffer][0] is param)
    return True


def access_strides(nest: Any, binding: Any) -> dict[tuple[str, int], tuple]:
    """The strides of every access as numbers (DENSE stays a word)."""
    numbers = iter(binding.strides)
    result: dict[tuple[str, int], tuple] = {}
    items = [(("v", i), getattr(v, "access", None)) for i, v in enumerate(nest.values)]
    items += [(("w", j), s.access) for j, s in enumerate(nest.stores)]
    for key, access in items:
        if access is None or access == DENSE:
            result[key] = (access,)
        else:
            result[key] = tuple([next(numbers) if s == "s" else s for s in access])
    return result


SMALL = 4096
"""Bytes; updates of no more than that may wait for no other reason than the checks of the program."""


def delay_updates(entries: list[Entry], outputs: dict[int, Value], params: tuple[Value, ...],
                  in_place: dict[int, int]) -> list[Entry]:
    """Let what overwrites a parameter run behind the last reader of it, where nobody needs its results before."""
    if not in_place:
        return entries
    over = {id(outputs[k]): id(params[p]) for k, p in in_place.items()}
    first_read: dict[int, int] = {}
    last_read: dict[int, int] = {}
    for i, e in enumerate(entries):
        for v in e.reads:
            first_read.setdefault(id(v), i)
            last_read[id(v)] = i
    last_check = max((i for i, e in enumerate(entries) if e.may_fail), default=-1)
    runs: dict[int, list[int]] = {}  # entries of one group stay together
    for i, e in enumerate(entries):
        runs.setdefault(id(e.group) if e.group is not None else -i - 1, []).append(i)
    keys = list(range(len(entries)))
    for run in runs.values():
        written = [id(v) for i in run for v in entries[i].writes]
        until = max([last_read.get(over[m], -1) for m in written if m in over], default=-1)
        if until >= 0 and sum(size_of(v) for i in run for v in entries[i].writes) <= SMALL:
            until = max(until, last_check)  # a counter, a random generator: a program that is stopped does not touch it
        outside = [first_read[m] for m in written if first_read.get(m, -1) > run[-1]]
        if until > run[-1] and all(until < first for first in outside):
            for i in run:
                keys[i] = until
    order = sorted(range(len(entries)), key=lambda i: (keys[i], keys[i] != i, i))  # behind the reader itself
    return [entries[i] for i in order]


def redirect_unsafe(entries: list[Entry], outputs: dict[int, Value], params: tuple[Value, ...],
                    in_place: dict[int, int], emit: Callable[[Any], Kernel]) -> dict[int, Any]:
    """Outputs that cannot be written over their parameter at once get a temporary, copied at the end.

    Returns output number -> temporary. Such an output is unsafe if something reads the parameter after (or while) it
    is written.
    """
    redirected: dict[int, Any] = {}
    readers_of: dict[int, list[int]] = {}
    writers_of: dict[int, list[int]] = {}
    for i, e in enumerate(entries):
        for v in e.reads:
            readers_of.setdefault(id(v), []).append(i)
        for v in e.writes:
            writers_of.setdefault(id(v), []).append(i)
    for number, param_number in in_place.items():
        root, param = outputs[number], params[param_number]
        last_read = max(readers_of.get(id(param), ()), default=-1)
        writers = writers_of.get(id(root), ())
        if not writers:
            continue
        safe = writers[0] > last_read or (
            writers[0] == last_read and safe_in_place(entries[last_read], root, param))
        if not safe:
            redirected[number] = Temporary(root.dtype, root.type.numel)
    for number, temporary in redirected.items():
        entries.append(copy_entry(temporary, outputs[number], emit))
        entries[-1].reads = [temporary]
    return redirected


def store_past(entries: list[Entry], aliases: dict[int, int], emit: Callable[[Any], Kernel]) -> None:
    """Let what is larger than the caches be stored past them, where it is not written over what the same kernel read:
    that is in a cache."""
    for e in entries:
        step = e.step.stored_past() if e.step is not None else None
        if step is None or {aliases.get(id(v)) for v in e.writes} & {id(v) for v in e.reads}:
            continue
        e.step, e.kernel = step, emit(step.nest)
        e.scratch = scratch_of(step, e.kernel)


LOOKBACK = 2  # regions by which an entry may run earlier than its place in the graph: more would only lengthen lives


def checks_first(entries: list[Entry], aliases: dict[int, int]) -> list[Entry]:
    """What may stop the program, and what that rests on, in front of the rest: then only what it rests on itself can
    have overwritten a parameter when it stops."""
    if not any(e.may_fail for e in entries):
        return entries
    reads: set[int] = set()
    writes: set[int] = set()
    early: set[int] = set()
    for number in reversed(range(len(entries))):
        e = entries[number]
        read, written = [{aliases.get(id(v), id(v)) for v in values} for values in (e.reads, e.writes)]
        if e.may_fail or written & (reads | writes) or read & writes:
            early.add(number)
            reads |= read
            writes |= written
    return [e for wanted in (True, False) for number, e in enumerate(entries) if (number in early) is wanted]


def order_entries(entries: list[Entry], aliases: dict[int, int], outputs: frozenset[int] = frozenset()) -> list[Entry]:
    """Number the regions, and sort by them: an entry is in the first region in which all that it needs is done.

    `aliases`: id of a value -> id of the value whose memory it is in. `outputs`: ids of the results, whose memory may
    hold what somebody still has if the program is stopped (a gradient that the next one replaces).
    """
    written: dict[int, tuple[int, Any]] = {}  # memory -> (last region that writes it, the run that does)
    read: dict[int, int] = {}
    frontier, fence, checked = 0, 0, -1
    entries = checks_first(entries, aliases)
    for e in entries:
        reads = [aliases.get(id(v), id(v)) for v in e.reads]
        writes = [aliases.get(id(v), id(v)) for v in e.writes]
        region = max(fence, frontier - LOOKBACK)
        for m in reads:
            if m in written:
                region = max(region, _after(written[m], e))
        for m in writes:
            if m in written:
                region = max(region, _after(written[m], e))
            region = max(region, read.get(m, -1) + 1)
        e.overwrites = any(id(v) in aliases for v in e.writes)
        if e.overwrites or any(id(v) in outputs for v in e.writes):  # a program that is stopped has overwritten nothing
            region = max(region, checked + 1)
        if e.host is not None:
            region = max(region, frontier + 1 if frontier or written else 0)
            fence = region + 1
        e.region = region
        if e.may_fail:
            checked = max(checked, region)
        frontier = max(frontier, region)
        for m in reads:
            read[m] = max(read.get(m, -1), region) if not _beside(written.get(m), e) else read.get(m, -1)
        for m in writes:
            written[m] = (region, e.run)
    entries = sorted(entries, key=lambda e: e.region)
    previous = None
    for e in entries:
        e.barrier = previous is None or e.region != previous.region or e.host is not None or previous.host is not None
        previous = e
    return entries


def _beside(writer: tuple[int, Any] | None, e: Entry) -> bool:
    """Calls of a library kernel that need not wait for each other, though they write one memory."""
    return writer is not None and e.call is not None and writer[1] is e.run


def _after(writer: tuple[int, Any], e: Entry) -> int:
    return writer[0] if _beside(writer, e) else writer[0] + 1


def plan_memory(entries: list[Entry], fixed: dict[int, tuple[int, int]]) -> MemoryPlan:
    """Places for everything that `entries` touch; `fixed` are those of parameters and outputs."""
    memory = MemoryPlan(dict(fixed))
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    values: dict[int, Any] = {}
    for e in entries:
        for v in (*e.reads, *e.writes):
            key = id(v)
            if key in fixed:
                continue
            values[key] = v
            first.setdefault(key, e.region)
            last[key] = e.region
        memory.scratch_size = max(memory.scratch_size, e.scratch)
    dying: dict[int, list[int]] = {}
    for key, region in last.items():
        dying.setdefault(region, []).append(key)
    free: list[tuple[int, int]] = []  # (offset, size), sorted by offset
    end = 0
    starting: dict[int, list[int]] = {}
    for key, region in first.items():
        starting.setdefault(region, []).append(key)
    for region in sorted(set(starting) | set(dying)):
        for key in sorted(starting.get(region, ()), key=lambda k: -size_of(values[k])):
            size = -(-max(size_of(values[key]), 1) // ALIGNMENT) * ALIGNMENT
            best = min((f for f in free if f[1] >= size), key=lambda f: f[1], default=None)
            if best is not None:
                free.remove(best)
                offset = best[0]
                if best[1] > size:
                    insort(free, (offset + size, best[1] - size))
            elif free and free[-1][0] + free[-1][1] == end:
                offset = free.pop()[0]
                end = offset + size
            else:
                offset, end = end, end + size
            memory.places[key] = (ARENA, offset)
            memory.total_bytes += size
            name = f"%{values[key].id}" if isinstance(values[key], Value) else "partial"
            memory.lives.append((name, size, offset, region, last[key]))
        for key in dying.get(region, ()):
            release(free, memory.places[key][1], -(-max(size_of(values[key]), 1) // ALIGNMENT) * ALIGNMENT)
    memory.arena_size = end
    memory.scratch_size = -(-memory.scratch_size // ALIGNMENT) * ALIGNMENT
    return memory


def release(free: list[tuple[int, int]], offset: int, size: int) -> None:
    """Put a block back, joined with its free neighbours."""
    insort(free, (offset, size))
    at = free.index((offset, size))
    if at + 1 < len(free) and free[at][0] + free[at][1] == free[at + 1][0]:
        free[at:at + 2] = [(free[at][0], free[at][1] + free[at + 1][1])]
    if at > 0 and free[at - 1][0] + free[at - 1][1] == free[at][0]:
        free[at - 1:at + 1] = [(free[at - 1][0], free[at - 1][1] + free[at][1])]


def call_arguments(entry: Entry, memory: MemoryPlan, symbols: Callable[[str], int], codes: dict[int, Any]) -> list[Any]:
    """The arguments of a library kernel."""
    args: list[Any] = []
    for a in entry.call_args:
        if not isinstance(a, tuple):
            args.append(a)
        elif a[0] == "symbol":
            args.append(symbols(a[1]))
        elif a[0] == "scratch":
            args.append(("buf", SCRATCH, a[1] if len(a) > 1 else 0))
        elif a[0] == "scratch_stride":
            args.append(memory.scratch_size)
        elif a[0] == "error":
            args.append(("buf", ERROR, 0))
        elif a[0] == "code":
            codes[len(codes) + 1] = (entry.group.library if entry.group else None, a[1], a[2])
            args.append(len(codes))
        else:
            number, place = memory.places[id(a[0])]
            args.append(("buf", number, place + a[1]))
    return args


def arguments(entry: Entry, memory: MemoryPlan, codes: dict[int, Any]) -> list[Any]:
    """The kernel's arguments, in the order of `cpu.Writer.kernel`."""
    step, kernel = entry.step, entry.kernel
    assert step is not None and kernel is not None
    binding = step.binding
    args: list[Any] = []
    for source, offset in binding.buffers:
        number, place = memory.places[id(source)]
        args.append(("buf", number, place + offset * source.dtype.itemsize))
    args += binding.extents
    args += binding.strides
    args += binding.constants
    names = kernel.arguments[len(args):]
    named = {"block": step.block, "blocks": step.blocks, "chunk": binding.chunk, "tile": step.tile,
             "tiles": step.tiles, "pitch": step.tile + 1, "group": step.group,
             "ahead": step.ahead * (step.group if "group" in names else 1)}
    offset = 0
    scratches = iter(kernel.scratch)
    stride_types = iter(kernel.scratch)
    fails = iter(binding.fails)
    for name in names:
        if name == "scratch":
            d = next(scratches)
            args.append(("buf", SCRATCH, offset))
            offset += scratch_bytes(step, kernel, d)
        elif name == "scratch stride":
            args.append(memory.scratch_size // by_name(next(stride_types)).itemsize)
        elif name == "error":
            args.append(("buf", ERROR, 0))
        elif name == "code":
            code = len(codes) + 1
            node = next(fails)
            codes[code] = (node, *node.op.error)
            args.append(code)
        else:
            args.append(named[name])
    return args
