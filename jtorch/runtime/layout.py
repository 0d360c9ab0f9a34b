"""Word layouts of the memory that Python and the native loop share.

Every field is one signed 64-bit word; the numbers below are word indices. Python fills these tables
(`threads`, `program`), the native loop (`native_ir`) reads them.
"""
import sys

WORD = 8
"""Bytes in a word."""

LINE = 8
"""Words in a cache line: fields that different threads write are kept this far apart."""

MAX_THREADS = 256
"""Upper bound of the pool's size; the pool's memory has a chunk counter for each."""

PLAIN_COUNTS = sys.version_info < (3, 12) and not hasattr(sys, "gettotalrefcount")
"""Is a reference count a plain word? Later Pythons have objects that live forever, debug builds count in total."""


PYTHON_API = (
    "PyLong_AsLongLong",
    "PyLong_FromLong",
    "PyErr_Occurred",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
)
"""Functions of CPython's stable ABI that the native loop calls when Python calls it."""


OBJECTS_API = (
    "Py_IncRef",
    "Py_DecRef",
    "PyList_Size",
    "PyList_GetItem",
    "PyList_SetSlice",
    "PyDict_GetItemWithError",
    "PyDict_Size",
    "PyDict_Clear",
    "PySet_Size",
    "PyType_GenericAlloc",
    "PyIter_Next",
    "PyErr_Clear",
    "PyList_Append",
    "PyDict_SetItem",
    "PyTuple_New",
    "PyTuple_Size",
    "PyTuple_GetItem",
    "PyTuple_SetItem",
    "PyType_IsSubtype",
    "PyObject_Vectorcall",
    "PyObject_VectorcallMethod",
    "PyObject_RichCompareBool",
    "PyWeakref_NewRef",
    "PyObject_IsTrue",
    "PyObject_Str",
    "PySet_Contains",
    "PyGC_Disable",
    "PyGC_Enable",
)
"""Those that the built-in functions of the eager path call."""


class PoolWords:
    """The process-wide pool.

    A chunk counter is `epoch << 32 | next chunk`, so that a worker that comes late, or was
    descheduled, cannot claim a chunk of a region it does not know: its compare-and-swap fails.
    """

    EPOCH = 0  # number of regions published; workers wait on its low half
    SLEEPERS = 1 * LINE  # workers inside a futex wait
    STOP = 1 * LINE + 1  # workers leave when it is set
    THREADS = 1 * LINE + 2  # threads a region may use, the caller included
    STARTED = 1 * LINE + 3  # 1 when the worker threads exist
    SPIN = 1 * LINE + 4  # polls before a waiting thread sleeps
    BUSY = 2 * LINE  # 1 while a Python thread uses the workers
    REGION = 3 * LINE  # address of the published region's `RegionWords`
    CHUNKS = 3 * LINE + 1  # its chunks (workers read nothing behind REGION before they own a chunk)
    WORKERS = 3 * LINE + 2  # threads that share it
    BATCH = 3 * LINE + 3  # chunks claimed at once
    REMAINING = 4 * LINE  # chunks not finished yet; the caller waits for 0
    WAITING = 4 * LINE + 1  # 1 while the caller sleeps on REMAINING
    COUNTERS = 5 * LINE  # one chunk counter per worker, a line apart
    SIZE = COUNTERS + MAX_THREADS * LINE


class RegionWords:
    """Launches that run side by side."""

    ROWS = 0  # address of the first launch row
    LAUNCHES = 1  # number of launch rows
    CHUNKS = 2  # chunks of all of them; 0 asks for a serial run
    SIZE = 4


class RowWords:
    """One launch."""

    KERNEL = 0  # address of the kernel
    ARGS = 1  # address of its argument words
    TOTAL = 2  # work items
    GRAIN = 3  # items per chunk
    FIRST = 4  # number of its first chunk in the region
    CHUNKS = 5  # number of its chunks
    SIZE = 8


class FixupWords:
    """One argument that depends on the run: `*target = slot + offset`."""

    TARGET = 0  # address of the argument word
    SLOT = 1  # address of the slot word
    OFFSET = 2  # bytes
    SIZE = 3


class HeaderWords:
    """One native segment of a program: the regions between two host calls."""

    REGIONS = 0  # address of the first region
    REGION_COUNT = 1
    FIXUPS = 2  # address of the first fixup
    FIXUP_COUNT = 3
    ERROR = 4  # address of the error word
    PARALLEL = 5  # 1 if a region is worth more than one thread
    MAX_WORKERS = 6  # threads that there is scratch memory for
    POOL = 7  # address of the pool
    SLOTS = 8  # address of the first slot
    BUFFERS = 9  # slots that a call sets
    TAKEN = 10  # 1 from the start of a call to its end (after a kernel's error: until Python has read the error word)
    SIZE = 11


class ReadyWords:
    """A program as the built-in flush reads it. Behind these words: the places of its arguments in `Epoch.scalars` and
    `Epoch.leaves`, a word for each scalar to lie in, and for each result where it is written: over the leaf of this
    number, or FRESH or UNREAD."""

    HEADER = 0  # address of the program's segment
    SCALARS = 1  # run-time scalars among its arguments; they come first
    PLACES = 2  # its arguments
    SIZE = 3

    FRESH = -1  # in new memory
    UNREAD = -2  # over memory of contents that it replaces, which is no leaf
    MOST_RESULTS = 16


class WatchWords:
    """Words of memory that should not change: how many, then a row for each."""

    COUNT = 0
    ROWS = 1

    PLACE = 0  # address of the word
    MASK = 1  # the bits that count
    EXPECTED = 2
    SIZE = 3


class ConfWords:
    """What the built-in functions of the eager path know of objects: addresses of some, and where the slots of
    instances lie, in bytes. `capture.lone` says what belongs in each word."""

    NONE, FALSE, TRUE, ZERO, INT, BOOL, FLOAT, STR, FLOAT_DATA = range(9)
    BUFFER, BUFFER_PTR, BUFFER_NBYTES, BUFFER_HOME = range(9, 13)
    READY_ROW, READY_HOMES, READY_SIZES = range(13, 16)
    VALUE, VALUE_TYPE, VALUE_REQUIRES_GRAD = range(16, 19)
    (CELL, CELL_TYPE, CELL_VALUE, CELL_EPOCH, CELL_BUFFER, CELL_PREVIOUS, CELL_RANGE, CELL_HOME,
     CELL_BEFORE) = range(19, 28)
    STORAGE, STORAGE_CELL, STORAGE_VERSION, STORAGE_SETTLED, STORAGE_EXPORTS = range(28, 33)
    (TENSOR, TENSOR_STORAGE, TENSOR_TYPE, TENSOR_VIEW, TENSOR_GEOMETRY, TENSOR_VALUE, TENSOR_VERSION, TENSOR_EPOCH,
     TENSOR_REQUIRES_GRAD, TENSOR_GRAD) = range(33, 43)
    (RECORDER_EPOCH, RECORDER_CALLS, RECORDER_LEAF_TABLE, RECORDER_TRACING, RECORDER_GRAD_ENABLED, RECORDER_LOCK,
     RECORDER_HOLDING, RECORDER_LEVELS, RECORDER_PROGRAMS) = range(43, 52)
    RECORDER_ENTER, TUPLE, LIST, SINKS, VIEWED, WRITTEN, ACQUIRE, RELEASE = range(52, 60)
    PROGRAMS_READY, PROGRAMS_RENEWING, TYPE_NBYTES, TYPE_STRIDES = range(60, 64)
    EPOCH, EPOCH_SERIAL, EPOCH_FLUSH_NOW, SERIALS = range(64, 68)
    FUNCTION_KINDS, OPERAND, CONSTANTS = range(68, 71)
    EPOCH_SHARED = tuple(range(71, 85))  # slots whose contents the next epoch takes over
    (EPOCH_RECORDER, EPOCH_LEAVES, EPOCH_LEAF_VALUES, EPOCH_SCALARS, EPOCH_PENDING, EPOCH_VARIABLES,
     EPOCH_VARIABLE_VALUES, EPOCH_SAVED, EPOCH_SPENT, EPOCH_SPENT_BEFORE, EPOCH_HOOKS, EPOCH_FUNCTIONS,
     EPOCH_MAPPED, EPOCH_LASTING) = EPOCH_SHARED
    SIZE = 85


class Status:
    """What a native run returns."""

    OK = 0
    NEEDS_WORKERS = 1  # nothing was run: the pool has to be started first
    KERNEL_ERROR = 2  # a kernel wrote to the error word
    WRONG_COUNT = 3  # nothing was run: the number of buffers is not the program's
    TAKEN = 4  # nothing was run: another thread is running on these words
