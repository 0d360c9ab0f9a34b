"""Recording as built-in functions: a call that is in the table of calls is looked up, and its Value is made a tensor or
written into one. In Python: `dispatch.evaluate`, `_tensor.wrap`, `views.assign`, `Recorder.enter`."""
from llvmlite import ir

from .layout import ConfWords
from .native_ir import I1, I32
from .object_emitter import ObjectEmitter

EQUAL = 2
"""CPython's Py_EQ."""


class Recording:
    """One method per function; `b` writes what follows the way out of it (`b.otherwise`), which this begins with."""

    def look_up(self, b, args, count):
        recorder = b.get(args, 0)
        epoch, raised = self._begin(b, recorder)
        value = self._looked_up(b, recorder, epoch, args, count, 1, raised)
        b.drop(epoch)
        b.ret(value)

    def record(self, b, args, count):
        recorder = b.get(args, 0)
        epoch, raised = self._begin(b, recorder)
        value = self._looked_up(b, recorder, epoch, args, count, 1, raised)
        none, false, true = b.known(ConfWords.NONE), b.known(ConfWords.FALSE), b.known(ConfWords.TRUE)
        b.need(b.alike(b.type_of(value), b.known(ConfWords.VALUE)))
        b.need(b.or_(b.alike(b.slot(value, ConfWords.VALUE_REQUIRES_GRAD), false),
                     b.alike(b.slot(recorder, ConfWords.RECORDER_GRAD_ENABLED), true)))
        cell, storage, tensor = [b.make(kind) for kind in (ConfWords.CELL, ConfWords.STORAGE, ConfWords.TENSOR)]
        pending = self._pending(b, recorder, epoch)
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
        for item in (cell, storage, value, epoch):
            b.drop(item)
        b.ret(tensor)

    def write(self, b, args, count):
        recorder, target = b.get(args, 0), b.get(args, 2)
        epoch, raised = self._begin(b, recorder)
        value = self._looked_up(b, recorder, epoch, args, count, 2, raised)
        self._written(b, recorder, epoch, target, value)
        b.drop(value)
        b.drop(epoch)
        b.ret(b.new(target))

    def assign(self, b, args, _):
        recorder, target, value = [b.get(args, i) for i in range(3)]
        epoch, _ = self._begin(b, recorder)
        self._written(b, recorder, epoch, target, value)
        b.drop(epoch)
        b.ret(b.new(target))

    def _begin(self, b: ObjectEmitter, recorder):
        """The way out; the epoch (a new reference), and a variable that says that an error was raised meanwhile."""
        raised = b.variable(b.const(0))
        with b.at(b.otherwise):
            with b.if_then(b.icmp_signed("!=", b.value(raised), b.const(0))):  # the user's error, or Ctrl-C
                b.ret(b.const(0))
            b.api("PyErr_Clear")
            b.ret(b.new(b.known(ConfWords.NONE)))
        epoch = b.new(b.slot(recorder, ConfWords.RECORDER_EPOCH))
        b.undo(lambda: b.drop(epoch))
        return epoch, raised

    def _looked_up(self, b, recorder, epoch, args, count, skipped, raised):
        """What the table of calls has for a function and its arguments, a new reference. The function stands behind the
        recorder, the arguments `skipped` behind that."""
        function, none = b.get(args, 1), b.known(ConfWords.NONE)
        key = b.api("PyTuple_New", b.sub(count, b.const(skipped)))
        b.need(key)
        outside = b.otherwise
        b.undo(lambda: b.drop(key))
        b.api("PyTuple_SetItem", key, 0, b.new(function))
        numbers = b.slot(epoch, ConfWords.EPOCH_SCALARS)
        known_before = b.api("PyList_Size", numbers)

        def forget_numbers():
            b.api("PyList_SetSlice", numbers, known_before, b.api("PyList_Size", numbers), 0)

        b.undo(forget_numbers)
        part, at = b.variable(b.const(0)), b.variable(b.const(skipped + 1))
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
                parameter = b.api("PyTuple_GetItem", b.slot(function, ConfWords.FUNCTION_KINDS),
                                  b.sub(place, b.const(skipped + 1)))
                b.store(self._number(b, recorder, numbers, item, parameter), part)
                b.branch(ready)
            of_list = b.alike(kind, b.known(ConfWords.LIST))
            with b.if_else(b.or_(of_list, b.alike(kind, b.known(ConfWords.TUPLE)))) as (several, one):
                with several:
                    b.store(self._sequence(b, recorder, epoch, item, of_list, raised), part)
                with one:
                    b.store(self._entered(b, recorder, epoch, item, raised), part)
            b.branch(ready)
            b.position_at_end(ready)
            b.api("PyTuple_SetItem", key, b.sub(place, b.const(skipped)), b.value(part))
            b.bump(at)
        calls = b.slot(recorder, ConfWords.RECORDER_CALLS)
        value = b.api("PyDict_GetItemWithError", calls, key)
        b.need(value)
        b.new(value)
        b.drop(key)
        b.otherwise = outside
        b.undo(forget_numbers)
        b.undo(lambda: b.drop(value))
        return value

    def _pending(self, b, recorder, epoch):
        """The epoch's list of pending cells, if one may be added without more ado."""
        pending = b.slot(epoch, ConfWords.EPOCH_PENDING)
        waiting = b.add(b.api("PyList_Size", pending), b.const(1))
        b.need(b.and_(waiting, b.const(63)))  # now and then what is pending is looked at
        b.need(b.alike(b.slot(epoch, ConfWords.EPOCH_FLUSH_NOW), b.known(ConfWords.FALSE)))
        b.need(b.alike(b.api("PySet_Size", b.slot(epoch, ConfWords.EPOCH_SPENT)), b.const(0)))
        b.need(b.alike(b.slot(recorder, ConfWords.RECORDER_EPOCH), epoch))
        return pending

    def _written(self, b, recorder, epoch, target, value):
        """`views.assign`: make the Value the contents of the target, or of what it is a view of."""
        none, false = b.known(ConfWords.NONE), b.known(ConfWords.FALSE)
        collect = b.no_collection()
        cell = b.make(ConfWords.CELL)
        pending = self._pending(b, recorder, epoch)
        b.need(b.alike(b.slot(recorder, ConfWords.RECORDER_TRACING), none))
        b.need(b.alike(b.api("PyList_Size", b.slot(recorder, ConfWords.RECORDER_LEVELS)), b.const(0)))
        b.need(b.trunc(b.api("PyType_IsSubtype", b.type_of(target), b.known(ConfWords.TENSOR)), I32))
        b.need(b.alike(b.slot(target, ConfWords.TENSOR_REQUIRES_GRAD), false))
        storage = b.slot(target, ConfWords.TENSOR_STORAGE)
        b.need(b.alike(b.type_of(storage), b.known(ConfWords.STORAGE)))
        b.need(b.alike(b.slot(storage, ConfWords.STORAGE_EXPORTS), none))
        self._need_plain(b, value)
        b.need(b.alike(b.slot(value, ConfWords.VALUE_TYPE), b.slot(target, ConfWords.TENSOR_TYPE)))
        old = b.slot(storage, ConfWords.STORAGE_CELL)
        before = b.slot(old, ConfWords.CELL_VALUE)
        with b.if_then(b.not_(b.alike(before, none))):
            self._need_plain(b, before)
        view, contents = b.slot(target, ConfWords.TENSOR_VIEW), b.variable(value)
        with b.if_then(b.not_(b.alike(view, none))):
            base = self._of_cell(b, recorder, epoch, old)
            key = b.tuple(b.known(ConfWords.WRITTEN), base, view, value)
            b.store(b.api("PyDict_GetItemWithError", b.slot(recorder, ConfWords.RECORDER_CALLS), key), contents)
            b.drop(key)
            b.need(b.value(contents))
            self._need_plain(b, b.value(contents))
        home = b.api("PyWeakref_NewRef", storage, 0)
        b.need(home)

        b.fill(cell, {ConfWords.CELL_TYPE: b.slot(old, ConfWords.CELL_TYPE), ConfWords.CELL_VALUE: b.value(contents),
                      ConfWords.CELL_EPOCH: epoch, ConfWords.CELL_BUFFER: none, ConfWords.CELL_RANGE: none})
        b.begin(cell, ConfWords.CELL_HOME, home)
        previous, earlier = b.variable(none), b.variable(none)  # `Storage.write`
        donor = b.slot(old, ConfWords.CELL_PREVIOUS)
        with b.if_else(b.alike(b.slot(old, ConfWords.CELL_BUFFER), none)) as (pending_too, there):
            with there:
                b.store(old, previous)
            with pending_too:
                with b.if_else(b.alike(donor, none)) as (undone, overwritten):
                    with undone:
                        first = b.slot(old, ConfWords.CELL_BEFORE)
                        b.store(b.select(b.alike(first, none), before, first), earlier)
                    with overwritten:
                        b.store(donor, previous)
        b.fill(cell, {ConfWords.CELL_PREVIOUS: b.value(previous), ConfWords.CELL_BEFORE: b.value(earlier)})
        with b.if_then(b.alike(b.value(previous), donor)):
            b.replace(old, ConfWords.CELL_PREVIOUS, b.new(none))
        counted = b.api("PyLong_AsLongLong", b.slot(storage, ConfWords.STORAGE_VERSION))
        version = b.api("PyLong_FromLong", b.add(counted, b.const(1)))
        for slot, item in ((ConfWords.TENSOR_VALUE, value), (ConfWords.TENSOR_VERSION, version),
                           (ConfWords.TENSOR_EPOCH, epoch)):
            b.replace(target, slot, b.new(item))
        b.replace(storage, ConfWords.STORAGE_VERSION, version)
        b.api("PyList_Append", pending, cell)
        b.replace(storage, ConfWords.STORAGE_CELL, cell)
        collect()

    def _need_plain(self, b, value):
        """A Value of which no gradient is wanted."""
        b.need(b.alike(b.type_of(value), b.known(ConfWords.VALUE)))
        b.need(b.alike(b.slot(value, ConfWords.VALUE_REQUIRES_GRAD), b.known(ConfWords.FALSE)))

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
        b.undo(lambda: b.drop(packed))
        b.store(packed, result)
        b.leave_if(b.icmp_signed("==", size, b.const(0)), made)
        whole = b.alike(b.type_of(item_of(b.const(0))), integer)
        with b.if_else(whole) as (ints, tensors):
            with ints:
                kinds = b.api("PyTuple_New", size)
                b.need(kinds)
                b.undo(lambda: b.drop(kinds))
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
                    b.drop(packed)
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
        b.need(b.alike(b.slot(recorder, ConfWords.RECORDER_TRACING), none))
        b.need(b.alike(b.slot(tensor, ConfWords.TENSOR_REQUIRES_GRAD), b.known(ConfWords.FALSE)))
        b.need(b.alike(b.type_of(storage), b.known(ConfWords.STORAGE)))
        b.need(b.alike(b.slot(storage, ConfWords.STORAGE_EXPORTS), none))
        cell = b.slot(storage, ConfWords.STORAGE_CELL)
        view = b.slot(tensor, ConfWords.TENSOR_VIEW)
        with b.if_else(b.alike(view, none)) as (whole, part):
            with whole:
                b.store(self._of_cell(b, recorder, epoch, cell), result)
            with part:
                b.store(self._viewed(b, recorder, epoch, cell, tensor, view), result)
        for slot, item in ((ConfWords.TENSOR_VALUE, b.value(result)), (ConfWords.TENSOR_VERSION, version),
                           (ConfWords.TENSOR_EPOCH, epoch)):
            b.replace(tensor, slot, b.new(item))
        b.new(b.value(result))
        b.branch(done)
        b.position_at_end(python)
        at = b.arguments(recorder, tensor)
        b.store(b.api("PyObject_Vectorcall", b.known(ConfWords.RECORDER_ENTER), at, 2, 0), result)
        b.otherwise = outside
        with b.if_then(b.alike(b.value(result), b.const(0))):
            b.store(b.const(1), raised)
        b.need(b.value(result))
        b.branch(done)
        b.position_at_end(done)
        return b.value(result)

    def _viewed(self, b, recorder, epoch, cell, tensor, view):
        """`Recorder.enter` of a view: a borrowed reference. What is a part by itself (`Recorder.part`) is Python's."""
        buffer, geometry = b.slot(cell, ConfWords.CELL_BUFFER), b.slot(tensor, ConfWords.TENSOR_GEOMETRY)
        none, kind = b.known(ConfWords.NONE), b.slot(tensor, ConfWords.TENSOR_TYPE)
        with b.if_then(b.not_(b.alike(buffer, none))):
            with b.if_else(b.alike(geometry, none)) as (from_start, elsewhere):
                with from_start:
                    size, whole = [b.api("PyLong_AsLongLong", b.slot(k, ConfWords.TYPE_NBYTES))
                                   for k in (kind, b.slot(cell, ConfWords.CELL_TYPE))]
                    b.need(b.icmp_signed(">=", size, whole))
                with elsewhere:
                    strides = b.api("PyTuple_GetItem", geometry, 0)
                    same = b.api("PyObject_RichCompareBool", strides, b.slot(kind, ConfWords.TYPE_STRIDES), EQUAL)
                    b.need(b.icmp_signed("==", b.trunc(same, I32), ir.Constant(I32, 0)))
        base = self._of_cell(b, recorder, epoch, cell)
        key = b.tuple(b.known(ConfWords.VIEWED), base, view)
        found = b.api("PyDict_GetItemWithError", b.slot(recorder, ConfWords.RECORDER_CALLS), key)
        b.drop(key)
        b.need(found)
        return found

    def _of_cell(self, b, recorder, epoch, cell):
        """`Recorder.cell_value`: a borrowed reference."""
        result = b.variable(b.slot(cell, ConfWords.CELL_VALUE))
        with b.if_then(b.not_(b.alike(b.slot(cell, ConfWords.CELL_EPOCH), epoch))):
            b.store(self._leaf(b, recorder, epoch, cell), result)
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
            b.drop(key)
            b.drop(cell)
            b.need(leaf)
            b.api("PyList_Append", leaves, cell)
            b.api("PyDict_SetItem", values, cell, leaf)
            b.store(leaf, result)
        return b.value(result)

    def _number(self, b, recorder, numbers, item, parameter):
        """What stands in the key for a Python number, a new reference: itself with its type, or, for an operand that is
        no constant, the leaf by which it is read at run time (`Recorder.scalar`)."""
        kind = b.type_of(item)
        pair = b.tuple(kind, item)
        result = b.variable(pair)
        outside = b.otherwise
        b.undo(lambda: b.drop(pair))
        with b.if_then(b.alike(parameter, b.known(ConfWords.OPERAND))):
            constant = b.trunc(b.api("PySet_Contains", b.known(ConfWords.CONSTANTS), pair), I1)
            with b.if_else(constant) as (baked_in, read):
                with baked_in:
                    with b.if_then(b.not_(b.trunc(b.api("PyObject_IsTrue", item), I1))):  # 0.0 == -0.0
                        text = b.api("PyObject_Str", item)
                        b.need(text)
                        b.store(b.tuple(kind, text), result)
                        b.drop(text)
                        b.drop(pair)
                with read:
                    with b.if_then(b.alike(kind, b.known(ConfWords.INT))):  # what has no place in int64 gives -1
                        b.need(b.icmp_signed("!=", b.api("PyLong_AsLongLong", item), b.const(-1)))
                    name = b.api("PyTuple_New", 2)
                    b.need(name)
                    place = b.sub(b.const(-1), b.api("PyList_Size", numbers))
                    b.api("PyTuple_SetItem", name, 0, b.api("PyLong_FromLong", place))
                    b.api("PyTuple_SetItem", name, 1, b.new(kind))
                    leaf = b.api("PyDict_GetItemWithError", b.slot(recorder, ConfWords.RECORDER_LEAF_TABLE), name)
                    b.drop(name)
                    b.need(leaf)
                    b.api("PyList_Append", numbers, item)
                    b.store(b.new(leaf), result)
                    b.drop(pair)
        b.otherwise = outside
        return b.value(result)
