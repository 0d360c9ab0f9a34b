"""Writes LLVM IR that works on CPython objects through its stable API, and on the slots of their instances in place."""
from contextlib import contextmanager

from llvmlite import ir

from .layout import PLAIN_COUNTS
from .native_ir import I1, I64, VOID, Emitter

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
    "PyObject_VectorcallMethod": (I64, [I64, I64, I64, I64]),
    "PyObject_RichCompareBool": (I64, [I64, I64, I64]),
    "PyWeakref_NewRef": (I64, [I64, I64]),
    "PyObject_IsTrue": (I64, [I64]),
    "PyObject_Str": (I64, [I64]),
    "PySet_Contains": (I64, [I64, I64]),
    "PyGC_Disable": (I64, []),
    "PyGC_Enable": (I64, []),
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
        self.drop(old)

    def new(self, item):
        """The item, with one reference more."""
        if PLAIN_COUNTS:
            self.put(item, 0, self.add(self.get(item, 0), self.const(1)))
        else:
            self.api("Py_IncRef", item)
        return item

    def drop(self, item):
        """One reference to the item less."""
        if not PLAIN_COUNTS:
            self.api("Py_DecRef", item)
            return
        references = self.get(item, 0)
        with self.if_else(self.alike(references, self.const(1))) as (last, others):
            with last:
                self.api("Py_DecRef", item)
            with others:
                self.put(item, 0, self.sub(references, self.const(1)))

    def make(self, kind):
        """A new instance of a type of the configuration, with nothing in its slots; given up if Python has to do it."""
        made = self.api("PyType_GenericAlloc", self.known(kind), 0)
        self.need(made)
        self.undo(lambda: self.drop(made))
        return made

    def tuple(self, *items):
        """A new tuple."""
        made = self.api("PyTuple_New", len(items))
        self.need(made)
        for i, item in enumerate(items):
            self.api("PyTuple_SetItem", made, i, self.new(item))
        return made

    def arguments(self, *items):
        """The address of an array of references, as a call takes them."""
        with self.goto_entry_block():
            array = self.alloca(I64, size=len(items))
        at = self.ptrtoint(array, I64)
        for i, item in enumerate(items):
            self.put(at, i, item)
        return at

    def no_collection(self):
        """Making objects may set the garbage collector to work, and that anything else: not until what is returned is
        called, or Python does it."""
        collecting = self.variable(self.api("PyGC_Disable"))

        def collect():
            with self.if_then(self.trunc(self.value(collecting), I1)):
                self.api("PyGC_Enable")
            self.store(self.const(0), collecting)

        self.undo(collect)
        return collect

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
