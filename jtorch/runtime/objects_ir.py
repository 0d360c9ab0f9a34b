"""Built-in functions of the eager path that would take Python's interpreter a few hundred steps a call. What they do
is written in Python beside their callers (`capture.record`, `capture.dispatch`, `views`); where something is not of the
commonest kind they change nothing and say so, and Python does it.

    jt_look_up(conf, (recorder, function, *arguments), n) -> Values or None   what a call gave that was made before
    jt_record(conf, (recorder, function, *arguments), n) -> tensor or None    the same as a new tensor
    jt_write(conf, (recorder, function, target, *arguments), n) -> target or None   the same written into a tensor
    jt_assign(conf, (recorder, target, Value), 3) -> target or None           a Value written into a tensor
    jt_flush(conf, (recorder,), 1) -> True or False                           `Recorder.flush` of what is compiled

They are METH_FASTCALL functions on CPython objects through its stable API. Slots of instances are read and written in
place: `conf` is the address of words that say where they lie (`objects.Layout`).
"""
from llvmlite import ir

from .flush_ir import flush
from .native_ir import I64, Module
from .object_emitter import OBJECTS_API, ObjectEmitter
from .record_ir import Recording
from .selection_ir import add_selection


def add_functions(module: Module) -> None:
    """Add them to the native loop's module."""
    python = dict(module.python)
    for name, types in OBJECTS_API.items():
        python[name] = ir.Function(module.module, ir.FunctionType(*types), name)
    recording = Recording()
    functions = {
        "jt_look_up": recording.look_up, "jt_record": recording.record, "jt_write": recording.write,
        "jt_assign": recording.assign, "jt_flush": lambda b, args, count: flush(b, module.run, args),
    }
    for name, emit in functions.items():
        function = ir.Function(module.module, ir.FunctionType(I64, [I64, I64, I64]), name)
        b = ObjectEmitter(function.append_basic_block("entry"))
        self_, args, count = function.args
        b.python = python
        b.conf = b.api("PyLong_AsLongLong", self_)
        b.otherwise = b.append_basic_block("otherwise")
        emit(b, args, count)


def build(machine: str) -> str:
    """The text of the native loop with all that is added to it, for a machine as `platform.machine()` names it."""
    module = Module(machine)
    add_functions(module)
    add_selection(module)
    return str(module.module)
