"""The native loop as LLVM IR: run a launch table, share it with worker threads, sleep, wake.

Functions of the module (all words are int64; addresses are int64 too):

    jt_run(header, times) -> status           run a program segment; if times is not 0, times[i] is the
                                              clock before region i and the last entry the end (ns)
    jt_run_rows(header, rows, count) -> int   run it once for each of `count` rows of buffer addresses, one after the
                                              other: 16 * rows done + status, which is 0 when all are done
    jt_call(self, args, count) -> object      the same for Python, as a METH_FASTCALL function: self is the
                                              header's address, args are the buffers'
    jt_unchanged(self, args, count) -> object whether words of memory are as the rows at the address self say
    jt_worker(pool, worker, epoch)            a worker thread's life
    jt_wake(pool)                             wake all workers (to see STOP)
    jt_try_lock(pool) -> bool                 take the pool's busy flag
    jt_spin(polls)                            what waiting costs, to calibrate the spin limit

`selection_ir` and `objects_ir` add what eager operations call by themselves.

How a region is shared. Its chunks are numbered through all its launches and cut into one contiguous
range per thread. A thread claims batches from its own range first and then from the others', always by
compare-and-swap on the range's counter. The counters carry the region's epoch, so a claim succeeds only
while the region is alive, and no thread has to acknowledge a region: one that sleeps through it costs
nothing. The caller leaves when all chunks are finished.
"""

from contextlib import contextmanager

from llvmlite import ir

from .layout import (
    LINE,
    MAX_THREADS,
    PYTHON_API,
    WORD,
    FixupWords,
    HeaderWords,
    PoolWords,
    RegionWords,
    RowWords,
    Status,
    WatchWords,
)

I1 = ir.IntType(1)
I8 = ir.IntType(8)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
VOID = ir.VoidType()

BATCHES_PER_WORKER = 8
"""A thread's range is claimed in about this many pieces: enough to even out a late thread."""

BUSY_PATIENCE = 16
"""Workers spin this many times longer before they sleep while a program is running."""

FTZ_DAZ = 0x8040
"""The MXCSR bits that flush denormal results and inputs to zero."""

FUTEX_WAIT_PRIVATE = 128
FUTEX_WAKE_PRIVATE = 129


PYTHON_TYPES = {
    "PyLong_AsLongLong": (I64, [I64]),
    "PyLong_FromLong": (I64, [I64]),
    "PyErr_Occurred": (I64, []),
    "PyEval_SaveThread": (I64, []),
    "PyEval_RestoreThread": (VOID, [I64]),
}
"""Results and parameters of `layout.PYTHON_API`; objects are their addresses."""


class Target:
    """What differs between the machines: the futex system call, the spin hint, the FTZ register."""

    def __init__(self, machine):
        self.x86 = machine in ("x86_64", "AMD64")
        self.futex = 202 if self.x86 else 98
        self.pause, self.pause_args = ("llvm.x86.sse2.pause", []) if self.x86 else ("llvm.aarch64.hint", [1])


class Emitter(ir.IRBuilder):
    """An IRBuilder that speaks in words: addresses are int64, fields are (address, word index)."""

    @staticmethod
    def const(value):
        return ir.Constant(I64, value)

    def word(self, base, index):
        """Address of word `index` (a Python int or a value) after `base`, as a pointer."""
        offset = self.const(index * WORD) if isinstance(index, int) else self.mul(index, self.const(WORD))
        return self.inttoptr(self.add(base, offset), I64.as_pointer())

    def get(self, base, index):
        return self.load(self.word(base, index), typ=I64)

    def put(self, base, index, value):
        self.store(value, self.word(base, index))

    def get_shared(self, base, index, ordering="acquire"):
        return self.load_atomic(self.word(base, index), ordering, WORD, typ=I64)

    def put_shared(self, base, index, value, ordering="release"):
        self.store_atomic(value, self.word(base, index), ordering, WORD)

    def variable(self, value):
        """A mutable word in the entry block, promoted to a register by the optimiser."""
        with self.goto_entry_block():
            slot = self.alloca(I64)
        self.store(value, slot)
        return slot

    def value(self, variable):
        return self.load(variable, typ=I64)

    def bump(self, variable, by=1):
        by = self.const(by) if isinstance(by, int) else by
        self.store(self.add(self.value(variable), by), variable)

    def least(self, a, b):
        return self.select(self.icmp_signed("<", a, b), a, b)

    @contextmanager
    def loop(self):
        """An endless loop; yields the block that `branch` leaves it by and the one that repeats it."""
        head, after = self.append_basic_block("loop"), self.append_basic_block("after")
        self.branch(head)
        self.position_at_end(head)
        yield after, head
        if not self.block.is_terminated:
            self.branch(head)
        self.position_at_end(after)

    @contextmanager
    def count(self, end):
        """`for i in range(end)`; yields i and the block that leaves the loop."""
        i = self.variable(self.const(0))
        with self.loop() as (after, _):
            now = self.value(i)
            self.leave_if(self.icmp_signed(">=", now, end), after)
            yield now, after
            self.bump(i)

    def leave_if(self, condition, block):
        """Branch to `block` if `condition`, else go on."""
        onward = self.append_basic_block("onward")
        self.cbranch(condition, block, onward)
        self.position_at_end(onward)


class Module:
    """Builds the module, one method per function; helpers come before their callers."""

    def __init__(self, machine):
        self.target = Target(machine)
        self.module = ir.Module("jtorch_runtime")
        word3, word4 = [I64] * 3, [I64] * 4
        self.syscall = ir.Function(self.module, ir.FunctionType(I64, [I64], var_arg=True), "syscall")
        self.clock_gettime = ir.Function(self.module, ir.FunctionType(I32, [I32, I64.as_pointer()]), "clock_gettime")
        hint = ir.FunctionType(VOID, [I32] * len(self.target.pause_args))
        self.pause = ir.Function(self.module, hint, self.target.pause)
        if self.target.x86:
            control = ir.FunctionType(VOID, [I32.as_pointer()])
            self.stmxcsr = ir.Function(self.module, control, "llvm.x86.sse.stmxcsr")
            self.ldmxcsr = ir.Function(self.module, control, "llvm.x86.sse.ldmxcsr")
        self.spin = self.function("jt_spin", VOID, [I64], self._emit_spin, exported=True)
        self.function("jt_wake", VOID, [I64], self._emit_wake, exported=True)
        self.serial = self.function("serial", VOID, [I64], self._emit_serial)
        self.chunks = self.function("chunks", VOID, word4, self._emit_chunks)
        self.work = self.function("work", VOID, word3, self._emit_work)
        self.region = self.function("region", VOID, word3, self._emit_region)
        self.try_lock = self.function("jt_try_lock", I1, [I64], self._emit_try_lock, exported=True)
        self.run = self.function("jt_run", I64, [I64] * 2, self._emit_run, exported=True)
        self.function("jt_run_rows", I64, word3, self._emit_run_rows, exported=True)
        self.python = {
            name: ir.Function(self.module, ir.FunctionType(*PYTHON_TYPES[name]), name) for name in PYTHON_API
        }
        self.function("jt_call", I64, word3, self._emit_call, exported=True)
        self.function("jt_unchanged", I64, word3, self._emit_unchanged, exported=True)
        self.function("jt_worker", VOID, word3, self._emit_worker, exported=True)

    def function(self, name, result, params, emit, exported=False):
        function = ir.Function(self.module, ir.FunctionType(result, params), name)
        function.linkage = "external" if exported else "internal"
        builder = Emitter(function.append_basic_block("entry"))
        emit(builder, *function.args)
        return function

    # ---- waiting ----

    def _pause(self, b):
        b.call(self.pause, [ir.Constant(I32, value) for value in self.target.pause_args])

    def _emit_spin(self, b, polls):
        with b.count(polls):
            self._pause(b)
        b.ret_void()

    def _futex(self, b, base, index, operation, value):
        """Wait while the low half of a word equals `value`, or wake up to `value` waiters."""
        zero, address = b.const(0), b.ptrtoint(b.word(base, index), I64)
        b.call(self.syscall, [b.const(self.target.futex), address, b.const(operation), value, zero, zero, zero])

    def _low_half(self, b, value):
        return b.and_(value, b.const(0xFFFFFFFF))

    def _emit_wake(self, b, pool):
        self._futex(b, pool, PoolWords.EPOCH, FUTEX_WAKE_PRIVATE, b.const(MAX_THREADS))
        b.ret_void()

    # ---- denormals ----

    def _flush_denormals(self, b):
        """Set FTZ and DAZ; returns the slot that keeps the caller's control word (None off x86)."""
        if not self.target.x86:
            return None
        with b.goto_entry_block():
            saved, changed = b.alloca(I32), b.alloca(I32)
        b.call(self.stmxcsr, [saved])
        b.store(b.or_(b.load(saved, typ=I32), ir.Constant(I32, FTZ_DAZ)), changed)
        b.call(self.ldmxcsr, [changed])
        return saved

    def _restore_denormals(self, b, saved):
        if saved is not None:
            b.call(self.ldmxcsr, [saved])

    # ---- running chunks ----

    def _call_kernel(self, b, row, begin, end, worker):
        kernel = ir.FunctionType(VOID, [I64.as_pointer(), I64, I64, I64])
        address = b.inttoptr(b.get(row, RowWords.KERNEL), kernel.as_pointer())
        args = b.inttoptr(b.get(row, RowWords.ARGS), I64.as_pointer())
        b.call(address, [args, begin, end, worker])

    def _row(self, b, region, index):
        return b.add(b.get(region, RegionWords.ROWS), b.mul(index, b.const(RowWords.SIZE * WORD)))

    def _emit_serial(self, b, region):
        """serial(region): each launch whole, in order, as worker 0."""
        with b.count(b.get(region, RegionWords.LAUNCHES)) as (i, _):
            row = self._row(b, region, i)
            self._call_kernel(b, row, b.const(0), b.get(row, RowWords.TOTAL), b.const(0))
        b.ret_void()

    def _emit_chunks(self, b, region, first, last, worker):
        """chunks(region, first, last, worker): neighbouring chunks of one launch become one call."""
        row = b.variable(b.get(region, RegionWords.ROWS))
        at = b.variable(first)
        with b.loop() as (after, repeat):
            chunk, here = b.value(at), b.value(row)
            b.leave_if(b.icmp_signed(">=", chunk, last), after)
            start = b.get(here, RowWords.FIRST)
            stop = b.add(start, b.get(here, RowWords.CHUNKS))
            with b.if_then(b.icmp_signed("<=", stop, chunk)):
                b.bump(row, RowWords.SIZE * WORD)
                b.branch(repeat)
            grain, until = b.get(here, RowWords.GRAIN), b.least(last, stop)
            begin = b.mul(b.sub(chunk, start), grain)
            end = b.least(b.mul(b.sub(until, start), grain), b.get(here, RowWords.TOTAL))
            self._call_kernel(b, here, begin, end, worker)
            b.store(until, at)
        b.ret_void()

    # ---- sharing a region ----

    def _range_start(self, b, chunks, workers, worker):
        return b.sdiv(b.mul(chunks, worker), workers)

    def _counter(self, b, worker):
        return b.add(b.const(PoolWords.COUNTERS), b.mul(worker, b.const(LINE)))

    def _emit_work(self, b, pool, epoch, worker):
        """work(pool, epoch, worker): claim and run chunks of region `epoch` until there are none."""
        region = b.get_shared(pool, PoolWords.REGION)
        chunks = b.get_shared(pool, PoolWords.CHUNKS)
        workers = b.get_shared(pool, PoolWords.WORKERS)
        batch = b.get_shared(pool, PoolWords.BATCH)
        tag = self._low_half(b, epoch)
        done = b.variable(b.const(0))
        with b.count(workers) as (i, finished):
            b.leave_if(b.icmp_signed(">=", worker, workers), finished)
            victim = b.srem(b.add(worker, i), workers)
            counter = self._counter(b, victim)
            end = self._range_start(b, chunks, workers, b.add(victim, b.const(1)))
            with b.loop() as (next_victim, retry):
                seen = b.get_shared(pool, counter)
                b.leave_if(b.icmp_unsigned("!=", b.lshr(seen, b.const(32)), tag), finished)
                first = self._low_half(b, seen)
                b.leave_if(b.icmp_signed(">=", first, end), next_victim)
                last = b.least(b.add(first, batch), end)
                size = b.sub(last, first)
                swap = b.cmpxchg(b.word(pool, counter), seen, b.add(seen, size), "acq_rel", "acquire")
                b.leave_if(b.not_(b.extract_value(swap, 1)), retry)
                b.call(self.chunks, [region, first, last, worker])
                b.bump(done, size)
        mine = b.value(done)
        with b.if_then(b.icmp_signed(">", mine, b.const(0))):
            before = b.atomic_rmw("sub", b.word(pool, PoolWords.REMAINING), mine, "seq_cst")
            with b.if_then(b.icmp_signed("==", before, mine)):
                waiting = b.get_shared(pool, PoolWords.WAITING, "seq_cst")
                with b.if_then(b.icmp_signed("!=", waiting, b.const(0))):
                    self._futex(b, pool, PoolWords.REMAINING, FUTEX_WAKE_PRIVATE, b.const(1))
        b.ret_void()

    def _emit_region(self, b, pool, region, workers):
        """region(pool, region, workers): publish it, take part, wait for the others.

        The counters are closed before the description changes and opened after: a thread that still
        looks at the last region then finds a counter it cannot claim from.
        """
        chunks = b.get(region, RegionWords.CHUNKS)
        epoch = b.add(b.get_shared(pool, PoolWords.EPOCH, "monotonic"), b.const(1))
        tag = b.shl(epoch, b.const(32))
        with b.count(workers) as (w, _):
            b.put_shared(pool, self._counter(b, w), b.or_(tag, b.const(0x7FFFFFFF)))
        pieces = b.mul(workers, b.const(BATCHES_PER_WORKER))
        batch = b.sdiv(chunks, pieces)
        one = b.const(1)
        b.put_shared(pool, PoolWords.REGION, region)
        b.put_shared(pool, PoolWords.CHUNKS, chunks)
        b.put_shared(pool, PoolWords.WORKERS, workers)
        b.put_shared(pool, PoolWords.BATCH, b.select(b.icmp_signed(">", batch, one), batch, one))
        b.put_shared(pool, PoolWords.REMAINING, chunks)
        with b.count(workers) as (w, _):
            b.put_shared(pool, self._counter(b, w), b.or_(tag, self._range_start(b, chunks, workers, w)))
        b.put_shared(pool, PoolWords.EPOCH, epoch, "seq_cst")
        sleepers = b.get_shared(pool, PoolWords.SLEEPERS, "seq_cst")
        with b.if_then(b.icmp_signed(">", sleepers, b.const(0))):
            self._futex(b, pool, PoolWords.EPOCH, FUTEX_WAKE_PRIVATE, b.least(b.sub(workers, one), chunks))
        b.call(self.work, [pool, epoch, b.const(0)])
        self._await_zero(b, pool)
        b.ret_void()

    def _await_zero(self, b, pool):
        """Wait until REMAINING is 0: spin, then sleep."""
        polls, limit = b.variable(b.const(0)), b.get(pool, PoolWords.SPIN)
        with b.loop() as (finished, repeat):
            remaining = b.get_shared(pool, PoolWords.REMAINING)
            b.leave_if(b.icmp_signed("==", remaining, b.const(0)), finished)
            with b.if_then(b.icmp_signed("<", b.value(polls), limit)):
                self._pause(b)
                b.bump(polls)
                b.branch(repeat)
            b.put_shared(pool, PoolWords.WAITING, b.const(1), "seq_cst")
            now = b.get_shared(pool, PoolWords.REMAINING, "seq_cst")
            with b.if_then(b.icmp_signed("!=", now, b.const(0))):
                self._futex(b, pool, PoolWords.REMAINING, FUTEX_WAIT_PRIVATE, self._low_half(b, now))
            b.put_shared(pool, PoolWords.WAITING, b.const(0))

    def _emit_worker(self, b, pool, worker, epoch):
        """worker(pool, worker, epoch): run every region published after `epoch`, until STOP."""
        self._flush_denormals(b)
        seen, polls, zero = b.variable(epoch), b.variable(b.const(0)), b.const(0)
        with b.loop() as (stopped, repeat):
            current = b.get_shared(pool, PoolWords.EPOCH)
            with b.if_then(b.icmp_signed("!=", current, b.value(seen))):
                b.store(current, seen)
                b.call(self.work, [pool, current, worker])
                b.store(zero, polls)
                b.branch(repeat)
            b.leave_if(b.icmp_signed("!=", b.get_shared(pool, PoolWords.STOP), zero), stopped)
            limit = b.get(pool, PoolWords.SPIN)
            with b.if_then(b.icmp_signed("<", b.value(polls), b.mul(limit, b.const(BUSY_PATIENCE)))):
                self._pause(b)
                b.bump(polls)
                # The flag is looked at late: looking takes its cache line from the caller.
                b.leave_if(b.icmp_signed("<", b.value(polls), limit), repeat)
                busy = b.get_shared(pool, PoolWords.BUSY, "monotonic")
                with b.if_then(b.icmp_signed("!=", busy, zero)):
                    b.branch(repeat)
            b.atomic_rmw("add", b.word(pool, PoolWords.SLEEPERS), b.const(1), "seq_cst")
            still = b.icmp_signed("==", b.get_shared(pool, PoolWords.EPOCH, "seq_cst"), current)
            going = b.icmp_signed("==", b.get_shared(pool, PoolWords.STOP, "seq_cst"), zero)
            with b.if_then(b.and_(still, going)):
                self._futex(b, pool, PoolWords.EPOCH, FUTEX_WAIT_PRIVATE, self._low_half(b, current))
            b.atomic_rmw("sub", b.word(pool, PoolWords.SLEEPERS), b.const(1), "seq_cst")
            b.store(zero, polls)
        b.ret_void()

    # ---- running a program ----

    def _emit_try_lock(self, b, pool):
        swap = b.cmpxchg(b.word(pool, PoolWords.BUSY), b.const(0), b.const(1), "acquire", "monotonic")
        b.ret(b.extract_value(swap, 1))

    def _apply_fixups(self, b, header):
        with b.count(b.get(header, HeaderWords.FIXUP_COUNT)) as (i, _):
            fixup = b.add(b.get(header, HeaderWords.FIXUPS), b.mul(i, b.const(FixupWords.SIZE * WORD)))
            slot = b.get(b.get(fixup, FixupWords.SLOT), 0)
            b.put(b.get(fixup, FixupWords.TARGET), 0, b.add(slot, b.get(fixup, FixupWords.OFFSET)))

    def _region_at(self, b, header, index):
        return b.add(b.get(header, HeaderWords.REGIONS), b.mul(index, b.const(RegionWords.SIZE * WORD)))

    def _workers(self, b, pool, header, needs_workers):
        """Threads this run may use: a variable, 1 if the pool is taken by another Python thread."""
        workers, one = b.variable(b.const(1)), b.const(1)
        with b.if_then(b.icmp_signed("!=", b.get(header, HeaderWords.PARALLEL), b.const(0))):
            limit = b.least(b.get_shared(pool, PoolWords.THREADS), b.get(header, HeaderWords.MAX_WORKERS))
            with b.if_then(b.icmp_signed(">", limit, one)):
                b.leave_if(b.icmp_signed("==", b.get_shared(pool, PoolWords.STARTED), b.const(0)), needs_workers)
                with b.if_then(b.call(self.try_lock, [pool])):
                    # Asked again under the lock: the pool may have been resized in between.
                    limit = b.least(b.get_shared(pool, PoolWords.THREADS), b.get(header, HeaderWords.MAX_WORKERS))
                    b.store(limit, workers)
        return workers

    def _run_region(self, b, pool, region, workers):
        shared = b.icmp_signed(">", b.get(region, RegionWords.CHUNKS), b.const(0))
        with b.if_else(b.and_(shared, b.icmp_signed(">", workers, b.const(1)))) as (parallel, alone):
            with parallel:
                b.call(self.region, [pool, region, workers])
            with alone:
                b.call(self.serial, [region])

    def _emit_run(self, b, header, times):
        pool = b.get(header, HeaderWords.POOL)
        needs_workers = b.append_basic_block("needs_workers")
        workers = b.value(self._workers(b, pool, header, needs_workers))
        self._apply_fixups(b, header)
        error = b.get(header, HeaderWords.ERROR)
        b.put(error, 0, b.const(0))
        saved = self._flush_denormals(b)
        timed = b.icmp_signed("!=", times, b.const(0))
        with b.count(b.get(header, HeaderWords.REGION_COUNT)) as (i, finished):
            with b.if_then(timed):
                b.put(times, i, self._nanoseconds(b))
            self._run_region(b, pool, self._region_at(b, header, i), workers)
            b.leave_if(b.icmp_signed("!=", b.get_shared(error, 0), b.const(0)), finished)
        with b.if_then(timed):
            b.put(times, b.get(header, HeaderWords.REGION_COUNT), self._nanoseconds(b))
        self._restore_denormals(b, saved)
        with b.if_then(b.icmp_signed(">", workers, b.const(1))):
            b.put_shared(pool, PoolWords.BUSY, b.const(0))
        failed = b.icmp_signed("!=", b.get(error, 0), b.const(0))
        b.ret(b.select(failed, b.const(Status.KERNEL_ERROR), b.const(Status.OK)))
        b.position_at_end(needs_workers)
        b.ret(b.const(Status.NEEDS_WORKERS))

    def _emit_run_rows(self, b, header, rows, count):
        slots, buffers = b.get(header, HeaderWords.SLOTS), b.get(header, HeaderWords.BUFFERS)
        with b.count(count) as (i, _):
            row = b.add(rows, b.mul(b.mul(i, buffers), b.const(WORD)))
            with b.count(buffers) as (k, _):
                b.put(slots, k, b.get(row, k))
            status = b.call(self.run, [header, b.const(0)])
            with b.if_then(b.icmp_signed("!=", status, b.const(Status.OK))):
                b.ret(b.add(b.mul(i, b.const(16)), status))
        b.ret(b.mul(count, b.const(16)))

    def _emit_unchanged(self, b, self_, args, count):
        """Look at the words of `WatchWords` in order, up to the first that is another: 1 if there is none, else 0."""
        failed = b.append_basic_block("failed")
        watch = self._as_int(b, self_, failed)
        row = b.variable(b.add(watch, b.const(WatchWords.ROWS * WORD)))
        with b.count(b.get(watch, WatchWords.COUNT)):
            here = b.value(row)
            found = b.and_(b.get(b.get(here, WatchWords.PLACE), 0), b.get(here, WatchWords.MASK))
            with b.if_then(b.icmp_signed("!=", found, b.get(here, WatchWords.EXPECTED))):
                b.ret(b.call(self.python["PyLong_FromLong"], [b.const(0)]))
            b.bump(row, WatchWords.SIZE * WORD)
        b.ret(b.call(self.python["PyLong_FromLong"], [b.const(1)]))
        b.position_at_end(failed)
        b.ret(b.const(0))

    def _emit_call(self, b, self_, args, count):
        """Fill the slots from Python ints, run without the GIL, return the status as an int."""
        failed, wrong, taken = [b.append_basic_block(name) for name in ("failed", "wrong", "taken")]
        header = self._as_int(b, self_, failed)
        b.leave_if(b.icmp_signed("!=", count, b.get(header, HeaderWords.BUFFERS)), wrong)
        swap = b.cmpxchg(b.word(header, HeaderWords.TAKEN), b.const(0), b.const(1), "acquire", "monotonic")
        b.leave_if(b.not_(b.extract_value(swap, 1)), taken)
        invalid = b.append_basic_block("invalid")
        slots = b.get(header, HeaderWords.SLOTS)
        with b.count(count) as (i, _):
            b.put(slots, i, self._as_int(b, b.get(args, i), invalid))
        state = b.call(self.python["PyEval_SaveThread"], [])
        status = b.call(self.run, [header, b.const(0)])
        b.call(self.python["PyEval_RestoreThread"], [state])
        with b.if_then(b.icmp_signed("!=", status, b.const(Status.KERNEL_ERROR))):
            b.put_shared(header, HeaderWords.TAKEN, b.const(0))
        b.ret(b.call(self.python["PyLong_FromLong"], [status]))
        b.position_at_end(wrong)
        b.ret(b.call(self.python["PyLong_FromLong"], [b.const(Status.WRONG_COUNT)]))
        b.position_at_end(taken)
        b.ret(b.call(self.python["PyLong_FromLong"], [b.const(Status.TAKEN)]))
        b.position_at_end(invalid)
        b.put_shared(header, HeaderWords.TAKEN, b.const(0))
        b.branch(failed)
        b.position_at_end(failed)
        b.ret(b.const(0))

    def _as_int(self, b, item, failed):
        """The value of a Python int; branches to `failed` with the exception set if it is none."""
        value = b.call(self.python["PyLong_AsLongLong"], [item])
        with b.if_then(b.icmp_signed("==", value, b.const(-1))):
            b.leave_if(b.icmp_signed("!=", b.call(self.python["PyErr_Occurred"], []), b.const(0)), failed)
        return value

    def _nanoseconds(self, b):
        """The monotonic clock."""
        with b.goto_entry_block():
            timespec = b.alloca(I64, size=2)
        b.call(self.clock_gettime, [ir.Constant(I32, 1), timespec])
        at = b.ptrtoint(timespec, I64)
        return b.add(b.mul(b.get(at, 0), b.const(10**9)), b.get(at, 1))
