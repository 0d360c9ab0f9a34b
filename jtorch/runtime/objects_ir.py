"""Built-in functions of the eager path that would take Python's interpreter a few hundred steps a call. What they do
is written in Python beside their callers (`capture.record`, `capture.dispatch`); where something is not of the
commonest kind they change nothing and say so, and Python does it.

    jt_look_up(conf, (recorder, function, *arguments), n) -> Values or None   what a call gave that was made before
    jt_record(conf, (recorder, function, *arguments), n) -> tensor or None    the same as a new tensor
    jt_flush(conf, (recorder, epoch, table), 3) -> True or False              `Recorder.flush` of one that is compiled

They are METH_FASTCALL functions on CPython objects through its stable API. Slots of instances are read and written in
place: `conf` is the address of words that say where they lie (`objects.Layout`).
"""
from contextlib import contextmanager

from llvmlite import ir

from .layout import ConfWords, HeaderWords, LoneWords, Status
from .native_ir import I1, I32, I64, VOID, Emitter, Module

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
    "PyList_Append": (I64, [I64, I64]),
    "PyDict_SetItem": (I64, [I64, I64, I64]),
    "PyTuple_New": (I64, [I64]),
    "PyTuple_Size": (I64, [I64]),
    "PyTuple_GetItem": (I64, [I64, I64]),
    "PyTuple_SetItem": (I64, [I64, I64, I64]),
    "PyType_IsSubtype": (I64, [I64, I64]),
    "PyObject_Vectorcall": (I64, [I64, I64, I64, I64]),
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

    def fill(self, owner, items):
        """Put items in the slots of a new object."""
        for slot, item in items.items():
            self.begin(owner, slot, self.new(item))

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
        if condition.type is not I1:
            condition = self.icmp_signed("!=", condition, ir.Constant(condition.type, 0))
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
        self._function("jt_look_up", self._emit_look_up)
        self._function("jt_record", self._emit_record)
        self._function("jt_flush", self._emit_flush)

    def _function(self, name, emit):
        function = ir.Function(self.module.module, ir.FunctionType(I64, [I64, I64, I64]), name)
        b = ObjectEmitter(function.append_basic_block("entry"))
        self_, args, count = function.args
        b.python = self.python
        b.conf = b.api("PyLong_AsLongLong", self_)
        b.otherwise = b.append_basic_block("otherwise")
        emit(b, args, count)

    # ---- recording ----

    def _emit_look_up(self, b, args, count):
        """`dispatch.evaluate`."""
        value, key, epoch = self._looked_up(b, args, count)
        b.api("Py_DecRef", key)
        b.api("Py_DecRef", epoch)
        b.ret(value)

    def _looked_up(self, b, args, count):
        """New references: what the table of calls has for these arguments, the key that it has it for, the epoch."""
        recorder, function = b.get(args, 0), b.get(args, 1)
        none = b.known(ConfWords.NONE)
        raised = b.variable(b.const(0))
        with b.at(b.otherwise):
            with b.if_then(b.icmp_signed("!=", b.value(raised), b.const(0))):  # the user's error, or Ctrl-C
                b.ret(b.const(0))
            b.api("PyErr_Clear")
            b.ret(b.new(none))
        epoch = b.new(b.slot(recorder, ConfWords.RECORDER_EPOCH))
        b.undo(lambda: b.api("Py_DecRef", epoch))
        key = b.api("PyTuple_New", b.sub(count, b.const(1)))
        b.need(key)
        b.undo(lambda: b.api("Py_DecRef", key))
        b.api("PyTuple_SetItem", key, 0, b.new(function))
        part, number = b.variable(b.const(0)), b.variable(b.const(0))
        at = b.variable(b.const(2))
        with b.loop() as (packed, again):
            place = b.value(at)
            b.leave_if(b.icmp_signed(">=", place, count), packed)
            item = b.get(args, place)
            kind = b.type_of(item)
            ready = b.append_basic_block("ready")
            with b.if_then(b.or_(b.alike(item, none), b.alike(kind, b.known(ConfWords.STR)))):
                b.store(b.new(item), part)
                b.branch(ready)
            real = b.alike(kind, b.known(ConfWords.FLOAT))
            whole = b.or_(b.alike(kind, b.known(ConfWords.INT)), b.alike(kind, b.known(ConfWords.BOOL)))
            with b.if_then(b.or_(real, whole)):
                pair = b.api("PyTuple_New", 2)
                b.need(pair)
                b.api("PyTuple_SetItem", pair, 0, b.new(kind))
                b.api("PyTuple_SetItem", pair, 1, b.new(item))
                b.store(pair, part)
                b.store(place, number)
                b.branch(ready)
            of_list = b.alike(kind, b.known(ConfWords.LIST))
            with b.if_else(b.or_(of_list, b.alike(kind, b.known(ConfWords.TUPLE)))) as (several, one):
                with several:
                    b.store(self._sequence(b, recorder, epoch, item, of_list, raised), part)
                with one:
                    b.store(self._entered(b, recorder, epoch, item, raised), part)
            b.branch(ready)
            b.position_at_end(ready)
            b.api("PyTuple_SetItem", key, b.sub(place, b.const(1)), b.value(part))
            b.bump(at)
        calls = b.slot(recorder, ConfWords.RECORDER_CALLS)
        found = b.variable(b.api("PyDict_GetItemWithError", calls, key))
        with b.if_then(b.alike(b.value(found), b.const(0))):
            other = self._as_scalar(b, recorder, epoch, args, key, b.value(number))
            b.store(b.api("PyDict_GetItemWithError", calls, other), found)
            b.api("Py_DecRef", other)
            b.need(b.value(found))
            b.api("PyList_Append", b.slot(epoch, ConfWords.EPOCH_SCALARS), b.get(args, b.value(number)))
        value = b.new(b.value(found))
        b.undo(lambda: b.api("Py_DecRef", value))
        return value, key, epoch

    def _emit_record(self, b, args, count):
        """`dispatch.evaluate` and `_tensor.wrap`."""
        value, key, epoch = self._looked_up(b, args, count)
        recorder = b.get(args, 0)
        none, false, true = b.known(ConfWords.NONE), b.known(ConfWords.FALSE), b.known(ConfWords.TRUE)
        b.need(b.alike(b.type_of(value), b.known(ConfWords.VALUE)))
        b.need(b.or_(b.alike(b.slot(value, ConfWords.VALUE_REQUIRES_GRAD), false),
                     b.alike(b.slot(recorder, ConfWords.RECORDER_GRAD_ENABLED), true)))
        made = []
        for kind in (ConfWords.CELL, ConfWords.STORAGE, ConfWords.TENSOR):
            new = b.api("PyType_GenericAlloc", b.known(kind), 0)
            b.need(new)
            b.undo(lambda new=new: b.api("Py_DecRef", new))
            made.append(new)
        cell, storage, tensor = made
        pending = b.slot(epoch, ConfWords.EPOCH_PENDING)
        waiting = b.add(b.api("PyList_Size", pending), b.const(1))
        b.need(b.and_(waiting, b.const(63)))  # now and then what is pending is looked at
        b.need(b.alike(b.slot(epoch, ConfWords.EPOCH_FLUSH_NOW), false))
        b.need(b.alike(b.api("PySet_Size", b.slot(epoch, ConfWords.EPOCH_SPENT)), b.const(0)))
        b.need(b.alike(b.slot(recorder, ConfWords.RECORDER_EPOCH), epoch))
        kind, zero = b.slot(value, ConfWords.VALUE_TYPE), b.known(ConfWords.ZERO)
        b.fill(cell, {ConfWords.CELL_TYPE: kind, ConfWords.CELL_VALUE: value, ConfWords.CELL_EPOCH: epoch,
                      ConfWords.CELL_BUFFER: none, ConfWords.CELL_PREVIOUS: none, ConfWords.CELL_RANGE: none,
                      ConfWords.CELL_HOME: none, ConfWords.CELL_BEFORE: none})
        b.fill(storage, {ConfWords.STORAGE_CELL: cell, ConfWords.STORAGE_VERSION: zero,
                         ConfWords.STORAGE_SETTLED: zero, ConfWords.STORAGE_EXPORTS: none})
        b.fill(tensor, {ConfWords.TENSOR_STORAGE: storage, ConfWords.TENSOR_TYPE: kind, ConfWords.TENSOR_VIEW: none,
                        ConfWords.TENSOR_GEOMETRY: none, ConfWords.TENSOR_VALUE: value,
                        ConfWords.TENSOR_VERSION: zero, ConfWords.TENSOR_EPOCH: epoch,
                        ConfWords.TENSOR_REQUIRES_GRAD: false, ConfWords.TENSOR_GRAD: none})
        b.api("PyList_Append", pending, cell)
        for item in (cell, storage, value, key, epoch):
            b.api("Py_DecRef", item)
        b.ret(tensor)

    def _sequence(self, b, recorder, epoch, items, of_list, raised):
        """What stands in the key for a sequence of tensors and None, or of Python ints: a new reference."""
        def item_of(i):
            found = b.variable(b.const(0))
            with b.if_else(of_list) as (in_list, in_tuple):
                with in_list:
                    b.store(b.api("PyList_GetItem", items, i), found)
                with in_tuple:
                    b.store(b.api("PyTuple_GetItem", items, i), found)
            return b.value(found)

        result, counted = b.variable(b.const(0)), b.variable(b.const(0))
        with b.if_else(of_list) as (in_list, in_tuple):
            with in_list:
                b.store(b.api("PyList_Size", items), counted)
            with in_tuple:
                b.store(b.api("PyTuple_Size", items), counted)
        size = b.value(counted)
        made = b.append_basic_block("made")
        integer = b.known(ConfWords.INT)
        packed = b.api("PyTuple_New", size)
        b.need(packed)
        outside = b.otherwise
        b.undo(lambda: b.api("Py_DecRef", packed))
        b.store(packed, result)
        b.leave_if(b.icmp_signed("==", size, b.const(0)), made)
        whole = b.alike(b.type_of(item_of(b.const(0))), integer)
        with b.if_else(whole) as (ints, tensors):
            with ints:
                kinds = b.api("PyTuple_New", size)
                b.need(kinds)
                b.undo(lambda: b.api("Py_DecRef", kinds))
                with b.count(size) as (i, _):
                    item = item_of(i)
                    b.need(b.alike(b.type_of(item), integer))
                    b.api("PyTuple_SetItem", kinds, i, b.new(integer))
                    b.api("PyTuple_SetItem", packed, i, b.new(item))
                pair = b.api("PyTuple_New", 2)
                b.need(pair)
                b.api("PyTuple_SetItem", pair, 0, kinds)
                b.api("PyTuple_SetItem", pair, 1, packed)
                b.store(pair, result)
                b.otherwise = b.append_basic_block("not_tensors")
                with b.at(b.otherwise):
                    b.api("Py_DecRef", packed)
                    b.branch(outside)
            with tensors:
                with b.count(size) as (i, _):
                    item = item_of(i)
                    value = b.variable(item)
                    with b.if_else(b.alike(item, b.known(ConfWords.NONE))) as (gap, tensor):
                        with gap:
                            b.new(item)
                        with tensor:
                            b.store(self._entered(b, recorder, epoch, item, raised), value)
                    b.api("PyTuple_SetItem", packed, i, b.value(value))
        b.otherwise = outside
        b.branch(made)
        b.position_at_end(made)
        return b.value(result)

    def _entered(self, b, recorder, epoch, tensor, raised):
        """`Recorder.value`: a new reference. Python looks at what is more than data; `raised` is set if that fails."""
        kind = b.type_of(tensor)
        b.need(b.trunc(b.api("PyType_IsSubtype", kind, b.known(ConfWords.TENSOR)), I32))
        none = b.known(ConfWords.NONE)
        storage = b.slot(tensor, ConfWords.TENSOR_STORAGE)
        version = b.slot(storage, ConfWords.STORAGE_VERSION)
        result = b.variable(b.slot(tensor, ConfWords.TENSOR_VALUE))
        done = b.append_basic_block("entered")
        with b.if_then(b.and_(b.alike(b.slot(tensor, ConfWords.TENSOR_EPOCH), epoch),
                              b.alike(b.slot(tensor, ConfWords.TENSOR_VERSION), version))):
            b.new(b.value(result))
            b.branch(done)
        python = b.append_basic_block("enter")
        outside, b.otherwise = b.otherwise, python
        for owner, slot in ((recorder, ConfWords.RECORDER_TRACING), (tensor, ConfWords.TENSOR_VIEW)):
            b.need(b.alike(b.slot(owner, slot), none))
        b.need(b.alike(b.slot(tensor, ConfWords.TENSOR_REQUIRES_GRAD), b.known(ConfWords.FALSE)))
        b.need(b.alike(b.type_of(storage), b.known(ConfWords.STORAGE)))
        b.need(b.alike(b.slot(storage, ConfWords.STORAGE_EXPORTS), none))
        cell = b.slot(storage, ConfWords.STORAGE_CELL)
        recorded = b.alike(b.slot(cell, ConfWords.CELL_EPOCH), epoch)
        b.store(b.slot(cell, ConfWords.CELL_VALUE), result)
        with b.if_then(b.not_(recorded)):
            b.store(self._leaf(b, recorder, epoch, cell), result)
        for slot, item in ((ConfWords.TENSOR_VALUE, b.value(result)), (ConfWords.TENSOR_VERSION, version),
                           (ConfWords.TENSOR_EPOCH, epoch)):
            b.replace(tensor, slot, b.new(item))
        b.new(b.value(result))
        b.branch(done)
        b.position_at_end(python)
        with b.goto_entry_block():
            arguments = b.alloca(I64, size=2)
        at = b.ptrtoint(arguments, I64)
        b.put(at, 0, recorder)
        b.put(at, 1, tensor)
        b.store(b.api("PyObject_Vectorcall", b.known(ConfWords.RECORDER_ENTER), at, 2, 0), result)
        b.otherwise = outside
        with b.if_then(b.alike(b.value(result), b.const(0))):
            b.store(b.const(1), raised)
        b.need(b.value(result))
        b.branch(done)
        b.position_at_end(done)
        return b.value(result)

    def _leaf(self, b, recorder, epoch, cell):
        """`Recorder.cell_value` of data: a borrowed reference."""
        values = b.slot(epoch, ConfWords.EPOCH_LEAF_VALUES)
        result = b.variable(b.api("PyDict_GetItemWithError", values, cell))
        with b.if_then(b.alike(b.value(result), b.const(0))):
            b.need(b.alike(b.slot(cell, ConfWords.CELL_VALUE), b.known(ConfWords.NONE)))
            b.need(b.not_(b.alike(b.slot(cell, ConfWords.CELL_BUFFER), b.known(ConfWords.NONE))))
            leaves = b.slot(epoch, ConfWords.EPOCH_LEAVES)
            b.new(cell)
            key = b.api("PyTuple_New", 2)
            b.api("PyTuple_SetItem", key, 0, b.api("PyLong_FromLong", b.api("PyList_Size", leaves)))
            b.api("PyTuple_SetItem", key, 1, b.api("PyLong_FromLong", b.slot(cell, ConfWords.CELL_TYPE)))
            leaf = b.api("PyDict_GetItemWithError", b.slot(recorder, ConfWords.RECORDER_LEAF_TABLE), key)
            b.api("Py_DecRef", key)
            b.api("Py_DecRef", cell)
            b.need(leaf)
            b.api("PyList_Append", leaves, cell)
            b.api("PyDict_SetItem", values, cell, leaf)
            b.store(leaf, result)
        return b.value(result)

    def _as_scalar(self, b, recorder, epoch, args, key, place):
        """The key with `Recorder.scalar` of a Python number in its place, where that is no constant."""
        b.need(place)
        item = b.get(args, place)
        kind = b.type_of(item)
        with b.if_then(b.alike(kind, b.known(ConfWords.INT))):  # what has no place in int64 gives -1
            b.need(b.icmp_signed("!=", b.api("PyLong_AsLongLong", item), b.const(-1)))
        scalars = b.api("PyList_Size", b.slot(epoch, ConfWords.EPOCH_SCALARS))
        name = b.api("PyTuple_New", 2)
        b.api("PyTuple_SetItem", name, 0, b.api("PyLong_FromLong", b.sub(b.const(-1), scalars)))
        b.api("PyTuple_SetItem", name, 1, b.new(kind))
        leaf = b.api("PyDict_GetItemWithError", b.slot(recorder, ConfWords.RECORDER_LEAF_TABLE), name)
        b.api("Py_DecRef", name)
        b.need(leaf)
        size = b.api("PyTuple_Size", key)
        other = b.api("PyTuple_New", size)
        with b.count(size) as (i, _):
            here = b.alike(i, b.sub(place, b.const(1)))
            b.api("PyTuple_SetItem", other, i, b.new(b.select(here, leaf, b.api("PyTuple_GetItem", key, i))))
        return other

    # ---- flushing ----

    def _emit_flush(self, b, args, _):
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
        b.replace(recorder, ConfWords.RECORDER_EPOCH, after)
        b.api("PyDict_Clear", b.slot(epoch, ConfWords.EPOCH_LEAF_VALUES))
        for slot in (ConfWords.EPOCH_LEAVES, ConfWords.EPOCH_SCALARS, ConfWords.EPOCH_PENDING):
            items = b.slot(epoch, slot)
            b.api("PyList_SetSlice", items, 0, b.api("PyList_Size", items), 0)
        b.ret(b.new(b.known(ConfWords.TRUE)))


def build(machine):
    """The text of the native loop with these functions, for a machine as `platform.machine()` names it."""
    module = Module(machine)
    Objects(module)
    return str(module.module)
