"""Built-in functions of the eager path that would be a few hundred steps of Python's interpreter a call: what they do is
written in Python beside their callers (`capture.record`, `capture.dispatch`), and wherever something is not of the
commonest kind they have done nothing and say so, and Python does it.

    jt_flush(conf, (recorder, epoch, table), 3) -> True or False    `Recorder.flush` of one operation that is compiled

They are METH_FASTCALL functions on CPython objects through its stable API. Slots of instances are read and written in
place: `conf` is the address of words that say where they lie (`objects.Layout`).
"""
from contextlib import contextmanager

from llvmlite import ir

from .layout import ConfWords, HeaderWords, LoneWords, Status
from .native_ir import I64, VOID, Emitter, Module

OBJECTS_API = {
    "Py_IncRef": (VOID, [I64]),
    "Py_DecRef": (VOID, [I64]),
    "PyList_Size": (I64, [I64]),
    "PyList_GetItem": (I64, [I64, I64]),
    "PyList_SetSlice": (I64, [I64, I64, I64, I64]),
    "PyDict_GetItemWithError": (I64, [I64, I64]),
    "PyDict_Size": (I64, [I64]),
    "PyDict_Clear": (VOID, [I64]),
    "PySet_Size": (I64, [I64]),
    "PyType_GenericAlloc": (I64, [I64, I64]),
    "PyIter_Next": (I64, [I64]),
    "PyErr_Clear": (VOID, []),
    "PyObject_SetAttr": (I64, [I64, I64, I64]),
}
"""Results and parameters of `layout.OBJECTS_API`. (Where C has int, only being zero counts.)"""


class ObjectEmitter(Emitter):
    """An Emitter that knows objects: a reference is its address."""

    python: dict[str, ir.Function]
    conf: ir.Value  # address of the `ConfWords`
    otherwise: ir.Block  # where to go when Python has to do it

    def api(self, name, *args):
        return self.call(self.python[name], [self.const(a) if isinstance(a, int) else a for a in args])

    def known(self, word):
        """A word of the configuration."""
        return self.get(self.conf, word)

    def _place(self, owner, slot):
        return self.inttoptr(self.add(owner, self.known(slot)), I64.as_pointer())

    def slot(self, owner, slot):
        """What is in an object's slot, a borrowed reference (0: nothing)."""
        return self.load(self._place(owner, slot), typ=I64)

    def begin(self, owner, slot, item):
        """Put an item, whose reference is taken over, in the slot of a new object."""
        self.store(item, self._place(owner, slot))

    def replace(self, owner, slot, item):
        """Put another item, whose reference is taken over, in a slot."""
        place = self._place(owner, slot)
        old = self.load(place, typ=I64)
        self.store(item, place)
        self.api("Py_DecRef", old)

    def new(self, item):
        """The item, with one reference more."""
        self.api("Py_IncRef", item)
        return item

    def alike(self, a, b):
        return self.icmp_signed("==", a, b)

    def need(self, condition):
        """Go on only if so (an item: if it is not 0)."""
        if condition.type is I64:
            condition = self.icmp_signed("!=", condition, self.const(0))
        self.leave_if(self.not_(condition), self.otherwise)

    def undo(self, step):
        """From here on, `step` has to be undone before Python may do it."""
        then, self.otherwise = self.otherwise, self.append_basic_block("undo")
        with self.at(self.otherwise):
            step()
            self.branch(then)

    def type_of(self, item):
        return self.get(item, 1)

    def references(self, item):
        """The reference count (its low half: newer Pythons keep flags above it)."""
        return self.and_(self.get(item, 0), self.const(0xFFFFFFFF))

    @contextmanager
    def at(self, block):
        """Write into another block."""
        before = self.block
        self.position_at_end(block)
        yield
        self.position_at_end(before)


class Objects:
    """Adds the functions to the native loop's module."""

    def __init__(self, module: Module) -> None:
        self.run = module.run
        self.python = dict(module.python)
        for name, types in OBJECTS_API.items():
            self.python[name] = ir.Function(module.module, ir.FunctionType(*types), name)
        self.module = module
        self._function("jt_flush", self._emit_flush)

    def _function(self, name, emit):
        function = ir.Function(self.module.module, ir.FunctionType(I64, [I64, I64, I64]), name)
        b = ObjectEmitter(function.append_basic_block("entry"))
        failed = b.append_basic_block("failed")
        self_, args, _ = function.args
        b.python = self.python
        b.conf = b.api("PyLong_AsLongLong", self_)
        b.otherwise = b.append_basic_block("otherwise")
        emit(b, args, failed)
        b.position_at_end(failed)
        b.ret(b.const(0))

    def _emit_flush(self, b, args, failed):
        recorder, epoch, table = [b.get(args, i) for i in range(3)]
        none, false = b.known(ConfWords.NONE), b.known(ConfWords.FALSE)
        with b.at(b.otherwise):
            b.api("PyErr_Clear")
            b.ret(b.new(false))

        pending = b.slot(epoch, ConfWords.EPOCH_PENDING)
        b.need(b.alike(b.api("PyList_Size", pending), b.const(1)))
        value = b.slot(b.api("PyList_GetItem", pending, 0), ConfWords.CELL_VALUE)
        b.need(b.api("PyDict_GetItemWithError", table, value))
        # Making objects may set the garbage collector to work, and it anything else. So they come before the questions.
        buffer = b.api("PyType_GenericAlloc", b.known(ConfWords.BUFFER), 0)
        b.need(buffer)
        b.begin(buffer, ConfWords.BUFFER_HOME, b.new(none))
        b.undo(lambda: b.api("Py_DecRef", buffer))
        after = b.api("PyType_GenericAlloc", b.known(ConfWords.EPOCH), 0)
        b.need(after)
        b.undo(lambda: b.api("Py_DecRef", after))

        b.need(b.alike(b.api("PyList_Size", pending), b.const(1)))
        cell = b.api("PyList_GetItem", pending, 0)
        b.need(b.icmp_signed(">", b.references(cell), b.const(1)))  # somebody holds it
        b.need(b.alike(b.slot(cell, ConfWords.CELL_BUFFER), none))
        b.need(b.alike(b.slot(cell, ConfWords.CELL_PREVIOUS), none))
        b.need(b.alike(b.slot(epoch, ConfWords.EPOCH_MAPPED), false))
        for size, slot in (("PyList_Size", ConfWords.EPOCH_VARIABLES), ("PyDict_Size", ConfWords.EPOCH_SAVED),
                           ("PySet_Size", ConfWords.EPOCH_SPENT), ("PyDict_Size", ConfWords.EPOCH_HOOKS),
                           ("PyList_Size", ConfWords.EPOCH_FUNCTIONS)):
            b.need(b.alike(b.api(size, b.slot(epoch, slot)), b.const(0)))
        lone = b.api("PyDict_GetItemWithError", table, b.slot(cell, ConfWords.CELL_VALUE))
        b.need(lone)
        home = b.slot(lone, ConfWords.LONE_HOME)
        free = b.api("PyList_Size", home)
        b.need(free)

        row = b.api("PyLong_AsLongLong", b.slot(lone, ConfWords.LONE_ROW))
        header = b.get(row, LoneWords.HEADER)
        swap = b.cmpxchg(b.word(header, HeaderWords.TAKEN), b.const(0), b.const(1), "acquire", "monotonic")
        b.need(b.extract_value(swap, 1))
        b.undo(lambda: b.put_shared(header, HeaderWords.TAKEN, b.const(0)))
        slots = b.get(header, HeaderWords.SLOTS)
        numbers = b.get(row, LoneWords.SCALARS)
        with b.count(numbers) as (i, _):
            place = b.get(row, b.add(i, b.const(LoneWords.SIZE)))
            number = b.api("PyList_GetItem", b.slot(epoch, ConfWords.EPOCH_SCALARS), place)
            kind = b.type_of(number)
            whole = b.or_(b.alike(kind, b.known(ConfWords.INT)), b.alike(kind, b.known(ConfWords.BOOL)))
            with b.if_else(whole) as (integer, real):
                with integer:
                    here = b.add(b.const(LoneWords.SIZE), b.add(b.get(row, LoneWords.PLACES), i))
                    b.put(row, here, b.api("PyLong_AsLongLong", number))
                    b.put(slots, i, b.ptrtoint(b.word(row, here), I64))
                with real:
                    b.put(slots, i, b.add(number, b.known(ConfWords.FLOAT_DATA)))
        arguments = b.get(row, LoneWords.PLACES)
        leaves = b.slot(epoch, ConfWords.EPOCH_LEAVES)
        at = b.variable(numbers)
        with b.loop() as (filled, _):
            b.leave_if(b.icmp_signed(">=", b.value(at), arguments), filled)
            place = b.get(row, b.add(b.value(at), b.const(LoneWords.SIZE)))
            memory = b.slot(b.api("PyList_GetItem", leaves, place), ConfWords.CELL_BUFFER)
            b.put(slots, b.value(at), b.api("PyLong_AsLongLong", b.slot(memory, ConfWords.BUFFER_PTR)))
            b.bump(at)

        last = b.sub(free, b.const(1))
        block = b.new(b.api("PyList_GetItem", home, last))
        b.api("PyList_SetSlice", home, last, free, 0)
        b.begin(buffer, ConfWords.BUFFER_PTR, block)
        b.begin(buffer, ConfWords.BUFFER_NBYTES, b.new(b.slot(lone, ConfWords.LONE_NBYTES)))
        b.replace(buffer, ConfWords.BUFFER_HOME, b.new(home))
        b.put(slots, arguments, b.api("PyLong_AsLongLong", block))

        b.new(cell)
        b.undo(lambda: b.api("Py_DecRef", cell))
        state = b.api("PyEval_SaveThread")
        status = b.call(self.run, [header, b.const(0)])
        b.api("PyEval_RestoreThread", state)
        b.need(b.alike(status, b.const(Status.OK)))  # else workers are to be started, or an error to be raised
        b.put_shared(header, HeaderWords.TAKEN, b.const(0))
        b.replace(cell, ConfWords.CELL_BUFFER, buffer)
        b.replace(cell, ConfWords.CELL_VALUE, b.new(none))
        b.replace(cell, ConfWords.CELL_EPOCH, b.new(none))
        b.api("Py_DecRef", cell)

        for slot in ConfWords.EPOCH_SHARED:  # `Epoch.next`
            b.begin(after, slot, b.new(b.slot(epoch, slot)))
        b.begin(after, ConfWords.EPOCH_FLUSH_NOW, b.new(false))
        b.begin(after, ConfWords.EPOCH_SERIAL, b.api("PyIter_Next", b.known(ConfWords.SERIALS)))
        stored = b.api("PyObject_SetAttr", recorder, b.known(ConfWords.EPOCH_NAME), after)
        b.api("Py_DecRef", after)
        b.api("PyDict_Clear", b.slot(epoch, ConfWords.EPOCH_LEAF_VALUES))
        for slot in (ConfWords.EPOCH_LEAVES, ConfWords.EPOCH_SCALARS, ConfWords.EPOCH_PENDING):
            items = b.slot(epoch, slot)
            b.api("PyList_SetSlice", items, 0, b.api("PyList_Size", items), 0)
        b.leave_if(b.icmp_signed("<", b.trunc(stored, ir.IntType(32)), ir.Constant(ir.IntType(32), 0)), failed)
        b.ret(b.new(b.known(ConfWords.TRUE)))


def build(machine):
    """The text of the native loop with these functions, for a machine as `platform.machine()` names it."""
    module = Module(machine)
    Objects(module)
    return str(module.module)
