"""`Recorder.flush` as a built-in function, where a program for what is wanted has run before."""
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from .layout import ConfWords, HeaderWords, ReadyWords, Status
from .native_ir import I64
from .object_emitter import ObjectEmitter

Word = Any  # a value in LLVM IR

OF_DONOR = 3
"""References to a leaf that is a donor and nobody else's: `Epoch.leaves`, `Epoch.leaf_values`, `Cell.previous`."""


def flush(b: ObjectEmitter, run: ir.Function, args: Word) -> None:
    """Nothing is changed before the program has run; what was made until then is given up where Python has to do it."""
    recorder = b.get(args, 0)
    none, false = b.known(ConfWords.NONE), b.known(ConfWords.FALSE)
    raised = b.variable(b.const(0))
    with b.at(b.otherwise):
        with b.if_then(b.icmp_signed("!=", b.value(raised), b.const(0))):  # Ctrl-C
            b.ret(b.const(0))
        b.api("PyErr_Clear")
        b.ret(b.new(false))
    b.need(b.api("PyList_Size", b.slot(b.slot(recorder, ConfWords.RECORDER_EPOCH), ConfWords.EPOCH_PENDING)))
    b.need(b.alike(b.slot(recorder, ConfWords.RECORDER_TRACING), none))
    release = _lock(b, b.slot(recorder, ConfWords.RECORDER_LOCK), raised)
    collect = b.no_collection()
    epoch = b.slot(recorder, ConfWords.RECORDER_EPOCH)
    _need_plain(b, recorder, epoch)
    wanted, made = _array(b), _array(b)
    number = _wanted(b, epoch, wanted)
    ready = _ready(b, recorder, wanted, number)
    row = b.api("PyLong_AsLongLong", b.slot(ready, ConfWords.READY_ROW))
    header, arguments = b.get(row, ReadyWords.HEADER), b.get(row, ReadyWords.PLACES)
    boxes = b.add(arguments, b.const(ReadyWords.SIZE))
    over = b.add(boxes, b.get(row, ReadyWords.SCALARS))
    _need_donors(b, epoch, row, over, wanted, number)

    swap = b.cmpxchg(b.word(header, HeaderWords.TAKEN), b.const(0), b.const(1), "acquire", "monotonic")
    b.need(b.extract_value(swap, 1))
    b.undo(lambda: b.put_shared(header, HeaderWords.TAKEN, b.const(0)))
    _place_arguments(b, epoch, row, boxes)
    after = b.make(ConfWords.EPOCH)
    _place_results(b, ready, row, over, wanted, made, number)
    with _each(b, wanted, number) as (_, cell):
        b.new(cell)
    b.undo(lambda: _let_go(b, wanted, number))
    collect()
    state = b.api("PyEval_SaveThread")
    status = b.call(run, [header, b.const(0)])
    b.api("PyEval_RestoreThread", state)
    b.need(b.alike(status, b.const(Status.OK)))  # else workers are to be started, or an error to be raised

    b.put_shared(header, HeaderWords.TAKEN, b.const(0))
    with _each(b, wanted, number) as (i, cell):
        buffer = b.variable(b.get(made, i))
        with b.if_then(b.alike(b.value(buffer), b.const(0))):
            b.store(b.new(b.slot(b.slot(cell, ConfWords.CELL_PREVIOUS), ConfWords.CELL_BUFFER)), buffer)
        b.replace(cell, ConfWords.CELL_BUFFER, b.value(buffer))
        for slot in (ConfWords.CELL_VALUE, ConfWords.CELL_EPOCH, ConfWords.CELL_PREVIOUS):
            b.replace(cell, slot, b.new(none))
    for slot in ConfWords.EPOCH_SHARED:  # `Epoch.next`
        b.begin(after, slot, b.new(b.slot(epoch, slot)))
    b.begin(after, ConfWords.EPOCH_FLUSH_NOW, b.new(false))
    b.begin(after, ConfWords.EPOCH_SERIAL, b.api("PyIter_Next", b.known(ConfWords.SERIALS)))
    b.replace(recorder, ConfWords.RECORDER_EPOCH, after)
    b.api("PyDict_Clear", b.slot(after, ConfWords.EPOCH_LEAF_VALUES))
    for slot in (ConfWords.EPOCH_LEAVES, ConfWords.EPOCH_SCALARS, ConfWords.EPOCH_PENDING):
        items = b.slot(after, slot)
        size = b.api("PyList_Size", items)
        with b.if_then(b.not_(b.alike(size, b.const(0)))):
            b.api("PyList_SetSlice", items, 0, size, 0)
    _let_go(b, wanted, number)
    release()
    b.ret(b.new(b.known(ConfWords.TRUE)))


def _lock(b: ObjectEmitter, lock: Word, raised: Word) -> Callable[[], None]:
    """Take a lock of Python's; returns what gives it back."""
    def call(name: int) -> Word:
        return b.api("PyObject_VectorcallMethod", b.known(name), b.arguments(lock), 1, 0)

    taken = call(ConfWords.ACQUIRE)
    with b.if_then(b.alike(taken, b.const(0))):
        b.store(b.const(1), raised)
    b.need(taken)
    b.drop(taken)

    def release() -> None:
        b.api("PyErr_Clear")
        b.drop(call(ConfWords.RELEASE))

    b.undo(release)
    return release


def _need_plain(b: ObjectEmitter, recorder: Word, epoch: Word) -> None:
    """Go on if nobody profiles, and no gradients or mapped functions are in play."""
    b.need(b.alike(b.slot(recorder, ConfWords.RECORDER_HOLDING), b.known(ConfWords.ZERO)))
    b.need(b.alike(b.api("PyList_Size", b.known(ConfWords.SINKS)), b.const(0)))
    b.need(b.alike(b.slot(epoch, ConfWords.EPOCH_MAPPED), b.known(ConfWords.FALSE)))
    for size, slot in (("PyList_Size", ConfWords.EPOCH_VARIABLES), ("PyDict_Size", ConfWords.EPOCH_SAVED),
                       ("PySet_Size", ConfWords.EPOCH_SPENT), ("PyDict_Size", ConfWords.EPOCH_HOOKS),
                       ("PyList_Size", ConfWords.EPOCH_FUNCTIONS)):
        b.need(b.alike(b.api(size, b.slot(epoch, slot)), b.const(0)))


def _array(b: ObjectEmitter) -> Word:
    """The address of words for as many cells as a program may have results."""
    with b.goto_entry_block():
        return b.ptrtoint(b.alloca(I64, size=ReadyWords.MOST_RESULTS), I64)


@contextmanager
def _each(b, array, number):
    """Number and item, for each item of an array."""
    with b.count(number) as (i, _):
        yield i, b.get(array, i)


def _let_go(b: ObjectEmitter, items: Word, number: Word) -> None:
    with _each(b, items, number) as (_, item):
        with b.if_then(b.not_(b.alike(item, b.const(0)))):
            b.drop(item)


def _wanted(b: ObjectEmitter, epoch: Word, wanted: Word) -> Word:
    """Put the pending cells that somebody refers to in the array. How many?"""
    pending, number = b.slot(epoch, ConfWords.EPOCH_PENDING), b.variable(b.const(0))
    with b.count(b.api("PyList_Size", pending)) as (i, _):
        cell = b.api("PyList_GetItem", pending, i)
        missing = b.alike(b.slot(cell, ConfWords.CELL_BUFFER), b.known(ConfWords.NONE))
        with b.if_then(b.and_(missing, b.icmp_signed(">", b.references(cell), b.const(1)))):
            place = b.value(number)
            b.need(b.icmp_signed("<", place, b.const(ReadyWords.MOST_RESULTS)))
            b.put(wanted, place, cell)
            b.bump(number)
    b.need(b.value(number))
    return b.value(number)


def _ready(b: ObjectEmitter, recorder: Word, wanted: Word, number: Word) -> Word:
    """What is known of a flush of these cells."""
    key, renewing = b.variable(b.const(0)), b.variable(b.const(0))
    with b.if_else(b.alike(number, b.const(1))) as (one, several):
        with one:
            b.store(b.new(b.slot(b.get(wanted, 0), ConfWords.CELL_VALUE)), key)
        with several:
            packed = b.api("PyTuple_New", number)
            b.need(packed)
            with _each(b, wanted, number) as (i, cell):
                b.api("PyTuple_SetItem", packed, i, b.new(b.slot(cell, ConfWords.CELL_VALUE)))
            b.store(packed, key)
    with _each(b, wanted, number) as (_, cell):
        with b.if_then(b.not_(b.alike(b.slot(cell, ConfWords.CELL_PREVIOUS), b.known(ConfWords.NONE)))):
            b.store(b.const(1), renewing)
    programs = b.slot(recorder, ConfWords.RECORDER_PROGRAMS)
    table = b.select(b.alike(b.value(renewing), b.const(0)), b.slot(programs, ConfWords.PROGRAMS_READY),
                     b.slot(programs, ConfWords.PROGRAMS_RENEWING))
    ready = b.api("PyDict_GetItemWithError", table, b.value(key))
    b.drop(b.value(key))
    b.need(ready)
    return ready


def _need_donors(b: ObjectEmitter, epoch: Word, row: Word, over: Word, wanted: Word, number: Word) -> None:
    """`execute.takeovers`: go on if results find the memory that they are to be written over, and nobody else holds it.
    """
    none, leaves = b.known(ConfWords.NONE), b.slot(epoch, ConfWords.EPOCH_LEAVES)
    with _each(b, wanted, number) as (i, cell):
        donor, place = b.slot(cell, ConfWords.CELL_PREVIOUS), b.get(row, b.add(over, i))
        fresh = b.alike(place, b.const(ReadyWords.FRESH))
        b.need(b.alike(b.alike(donor, none), fresh))
        with b.if_then(b.not_(fresh)):
            b.need(b.alike(b.references(b.slot(donor, ConfWords.CELL_BUFFER)), b.const(1)))
            unread = b.alike(place, b.const(ReadyWords.UNREAD))
            most = b.select(unread, b.const(1), b.const(OF_DONOR))
            b.need(b.icmp_signed("<=", b.references(donor), most))
            with b.if_then(b.not_(unread)):
                b.need(b.alike(b.api("PyList_GetItem", leaves, place), donor))


def _place_arguments(b: ObjectEmitter, epoch: Word, row: Word, boxes: Word) -> None:
    """Put the addresses of run-time scalars and leaves in the program's slots."""
    scalars, arguments = b.get(row, ReadyWords.SCALARS), b.get(row, ReadyWords.PLACES)
    slots = b.get(b.get(row, ReadyWords.HEADER), HeaderWords.SLOTS)
    with b.count(scalars) as (i, _):
        place = b.get(row, b.add(i, b.const(ReadyWords.SIZE)))
        number = b.api("PyList_GetItem", b.slot(epoch, ConfWords.EPOCH_SCALARS), place)
        kind = b.type_of(number)
        whole = b.or_(b.alike(kind, b.known(ConfWords.INT)), b.alike(kind, b.known(ConfWords.BOOL)))
        with b.if_else(whole) as (integer, real):
            with integer:
                here = b.add(boxes, i)
                b.put(row, here, b.api("PyLong_AsLongLong", number))
                b.put(slots, i, b.ptrtoint(b.word(row, here), I64))
            with real:
                b.put(slots, i, b.add(number, b.known(ConfWords.FLOAT_DATA)))
    leaves, at = b.slot(epoch, ConfWords.EPOCH_LEAVES), b.variable(scalars)
    with b.loop() as (filled, _):
        b.leave_if(b.icmp_signed(">=", b.value(at), arguments), filled)
        place = b.get(row, b.add(b.value(at), b.const(ReadyWords.SIZE)))
        memory = b.slot(b.api("PyList_GetItem", leaves, place), ConfWords.CELL_BUFFER)
        b.put(slots, b.value(at), b.api("PyLong_AsLongLong", b.slot(memory, ConfWords.BUFFER_PTR)))
        b.bump(at)


def _place_results(b: ObjectEmitter, ready: Word, row: Word, over: Word, wanted: Word, made: Word, number: Word
                   ) -> None:
    """Make a buffer for each result that is not written over a donor, and put the results' addresses in the slots."""
    slots, first = b.get(b.get(row, ReadyWords.HEADER), HeaderWords.SLOTS), b.get(row, ReadyWords.PLACES)
    homes, sizes = b.slot(ready, ConfWords.READY_HOMES), b.slot(ready, ConfWords.READY_SIZES)
    with b.count(number) as (i, _):
        b.put(made, i, b.const(0))
    b.undo(lambda: _let_go(b, made, number))
    with _each(b, wanted, number) as (i, cell):
        buffer = b.variable(b.const(0))
        with b.if_else(b.alike(b.get(row, b.add(over, i)), b.const(ReadyWords.FRESH))) as (fresh, given):
            with fresh:
                home = b.api("PyTuple_GetItem", homes, i)
                free = b.api("PyList_Size", home)
                b.need(free)
                new = b.api("PyType_GenericAlloc", b.known(ConfWords.BUFFER), 0)
                b.need(new)
                last = b.sub(free, b.const(1))
                b.fill(new, {ConfWords.BUFFER_PTR: b.api("PyList_GetItem", home, last), ConfWords.BUFFER_HOME: home,
                             ConfWords.BUFFER_NBYTES: b.api("PyTuple_GetItem", sizes, i)})
                b.api("PyList_SetSlice", home, last, free, 0)
                b.put(made, i, new)
                b.store(new, buffer)
            with given:
                b.store(b.slot(b.slot(cell, ConfWords.CELL_PREVIOUS), ConfWords.CELL_BUFFER), buffer)
        address = b.api("PyLong_AsLongLong", b.slot(b.value(buffer), ConfWords.BUFFER_PTR))
        b.put(slots, b.add(first, i), address)
