"""Programs: tables of launches that one native call runs.

A `Program` is flattened once into a template of words; a `Frame` is one relocated copy of it, with its own
argument words, so that several Python threads may run the same program at once.
"""
from __future__ import annotations

import array
import ctypes
import itertools
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy

from . import native
from .layout import MAX_THREADS, WORD, FixupWords, HeaderWords, RegionWords, RowWords, Status
from .memory import Buffer, address_of, allocator
from .threads import pool

Arg = tuple[str, int, int] | int | float
"""`('buf', buffer index, byte offset)`, an integer, or a float that is stored as float64."""

ARENA = -1
"""Buffer index of the program's arena: `arena_size` bytes that live as long as one run."""

SCRATCH = -2
"""Buffer index of the scratch memory: `scratch_size` bytes for each worker, one after the other."""

KEPT_ARENA = 64 << 10
"""Bytes; memory up to this size stays with its frame (an allocation costs more than a small program's call)."""

ERROR = -3
"""Buffer index of the error word (int64). A kernel that stores a non-zero code there stops the program."""

RESERVED = 3


class KernelError(RuntimeError):
    """A kernel reported an error; `code` is what it wrote to the error word."""

    def __init__(self, code: int):
        super().__init__(f"a kernel reported error {code}")
        self.code = code


@dataclass(slots=True)
class Launch:
    """One kernel over `total` work items, which are cut into chunks of `grain` items or multiples of it.

    A buffer's slot may also carry eight bytes that are no address, such as a run-time scalar, with offset 0.
    `grain` should be worth 10 µs or more; a region whose launches are together worth no more than one
    grain is run by the calling thread alone. `barrier`: wait for all launches before this one.
    """

    kernel_address: int
    args: Sequence[Arg]
    total: int
    grain: int = 1
    barrier: bool = True


@dataclass(slots=True)
class HostCall:
    """A Python function called between launches, with a barrier on both sides.

    `args` are as in `Launch`; a buffer argument arrives as its address.
    """

    fn: Callable[..., object]
    args: Sequence[Arg] = field(default_factory=list)


class Frame:
    """A program's words in memory, ready to run: one run at a time."""

    __slots__ = ("memory", "slots", "headers", "arena", "call")

    def __init__(self, template: Template, arena_size: int = 0, scratch_size: int = 0):
        """`arena_size` bytes, and `scratch_size` for each worker that there may be, stay with the frame."""
        words = template.words
        self.memory = (ctypes.c_int64 * len(words)).from_buffer_copy(words)
        base = ctypes.addressof(self.memory)
        for index in template.relocations:
            self.memory[index] += base
        self.slots = (ctypes.c_int64 * template.slot_count).from_address(base + template.slots * WORD)
        self.slots[ERROR] = base + template.error * WORD
        self.headers = [base + header * WORD for header in template.headers]
        self.call = native.load().caller(self.headers[0]) if len(self.headers) == 1 else None
        workers = pool.most_threads
        self.arena: Buffer | None = None
        if arena_size or scratch_size:
            self.arena = allocator.alloc(arena_size + workers * scratch_size)
            self.slots[ARENA] = self.arena.ptr
        if self.arena and scratch_size:
            self.slots[SCRATCH] = self.arena.ptr + arena_size
            self.limit_workers(workers)

    def take_error(self) -> int:
        """What a kernel wrote to the error word; the frame may be run again from now on."""
        code = ctypes.c_int64.from_address(self.slots[ERROR]).value
        for header in self.headers:
            ctypes.c_int64.from_address(header + HeaderWords.TAKEN * WORD).value = 0
        return code

    def limit_workers(self, number: int) -> None:
        """No more threads than there is scratch memory for."""
        for header in self.headers:
            ctypes.c_int64.from_address(header + HeaderWords.MAX_WORKERS * WORD).value = number


class Template:
    """The words of a program with addresses relative to their start; `relocations` lists where those are."""

    def __init__(self, segments: list[list[Launch]], n_buffers: int):
        self.words = array.array("q")
        self.relocations: list[int] = []
        self.slot_count = n_buffers + RESERVED
        self.error = self._reserve(1)
        self.slots = self._reserve(self.slot_count)
        self.headers = [self._reserve(HeaderWords.SIZE) for _ in segments]
        for header, segment in zip(self.headers, segments, strict=True):
            self._write_segment(header, segment)

    def _reserve(self, count):
        start = len(self.words)
        self.words.extend([0] * count)
        return start

    def _point(self, index, target):
        """Word `index` holds the address of word `target`."""
        self.words[index] = target * WORD
        self.relocations.append(index)

    def _write_segment(self, header, segment):
        words = self.words
        rows = self._reserve(RowWords.SIZE * len(segment))
        fixups: list[tuple[int, int, int]] = []
        for i, launch in enumerate(segment):
            self._write_row(rows + i * RowWords.SIZE, launch, fixups)
        regions = split_regions(segment)
        first_region = self._reserve(RegionWords.SIZE * len(regions))
        self._point(header + HeaderWords.REGIONS, first_region)
        words[header + HeaderWords.REGION_COUNT] = len(regions)
        row = rows
        for i, launches in enumerate(regions):
            at = first_region + i * RegionWords.SIZE
            self._point(at + RegionWords.ROWS, row)
            words[at + RegionWords.LAUNCHES] = len(launches)
            chunks = self._number_chunks(row, launches)
            if sum(launch.total / launch.grain for launch in launches) > 1:
                words[at + RegionWords.CHUNKS] = chunks
                words[header + HeaderWords.PARALLEL] = 1
            row += RowWords.SIZE * len(launches)
        first_fixup = self._reserve(FixupWords.SIZE * len(fixups))
        self._point(header + HeaderWords.FIXUPS, first_fixup)
        words[header + HeaderWords.FIXUP_COUNT] = len(fixups)
        for i, (target, slot, offset) in enumerate(fixups):
            at = first_fixup + i * FixupWords.SIZE
            self._point(at + FixupWords.TARGET, target)
            self._point(at + FixupWords.SLOT, slot)
            words[at + FixupWords.OFFSET] = offset
        self._point(header + HeaderWords.ERROR, self.error)
        self._point(header + HeaderWords.SLOTS, self.slots)
        words[header + HeaderWords.BUFFERS] = self.slot_count - RESERVED
        words[header + HeaderWords.POOL] = pool.address
        words[header + HeaderWords.MAX_WORKERS] = MAX_THREADS

    def _write_row(self, row, launch, fixups):
        args = self._reserve(len(launch.args))
        self.words[row + RowWords.KERNEL] = launch.kernel_address
        self._point(row + RowWords.ARGS, args)
        self.words[row + RowWords.TOTAL] = launch.total
        self.words[row + RowWords.GRAIN] = launch.grain
        for target, arg in enumerate(launch.args, args):
            if isinstance(arg, tuple):
                _, buffer, offset = arg
                fixups.append((target, self.slots + buffer % self.slot_count, offset))
            elif isinstance(arg, float):
                self.words[target] = struct.unpack("q", struct.pack("d", arg))[0]
            else:
                self.words[target] = arg

    def _number_chunks(self, row, launches):
        first = 0
        for i, launch in enumerate(launches):
            chunks = -(-launch.total // launch.grain)
            self.words[row + i * RowWords.SIZE + RowWords.FIRST] = first
            self.words[row + i * RowWords.SIZE + RowWords.CHUNKS] = chunks
            first += chunks
        if first >= 2**31:
            raise ValueError(f"a region has {first} chunks; the most is 2**31 - 1 (raise the grain)")
        return first


def split_regions(launches):
    """Groups of launches that run side by side."""
    regions: list[list[Launch]] = []
    for launch in launches:
        if launch.barrier or not regions:
            regions.append([])
        regions[-1].append(launch)
    return regions


def split_segments(entries: Sequence[Launch | HostCall]) -> list[list[Launch] | HostCall]:
    """`[[launches...], host call, [launches...], ...]`, without empty segments."""
    segments: list[list[Launch] | HostCall] = []
    for entry in entries:
        if isinstance(entry, HostCall):
            segments.append(entry)
        elif segments and isinstance(segments[-1], list):
            segments[-1].append(entry)
        else:
            segments.append([entry])
    return segments


class Program:
    """A sequence of launches and host calls over `n_buffers` buffers, an arena and scratch memory.

    Sizes are in bytes; `scratch_size` is per worker. Launches without work items are dropped. `header` is the address
    of the words by which the native loop runs all of it, 0 where it takes more.
    """

    def __init__(
        self, launches: Sequence[Launch | HostCall], n_buffers: int, arena_size: int = 0, scratch_size: int = 0
    ):
        for entry in launches:
            check_entry(entry, n_buffers)
        self.launches = [e for e in launches if isinstance(e, HostCall) or e.total > 0]
        self.n_buffers = n_buffers
        self.arena_size = -(-arena_size // 64) * 64
        self.scratch_size = -(-scratch_size // 64) * 64
        self.host_calls = sum(isinstance(entry, HostCall) for entry in self.launches)
        self._segments = split_segments(self.launches)
        native_segments = [s for s in self._segments if not isinstance(s, HostCall)]
        self._template = Template(native_segments, n_buffers)
        self._single = len(self._segments) == 1 and not self.host_calls
        self._needs_memory = self.arena_size + pool.most_threads * self.scratch_size > KEPT_ARENA
        self._set_slots = struct.Struct(f"{n_buffers}q").pack_into
        frame = self._new_frame()
        self._idle = [frame]
        self._frames = [frame] if self._single and not self._needs_memory else []
        self._loops: list[Frame] = []  # idle ones of `run_rows`
        self.header = frame.headers[0] if self._frames else 0
        self._call = frame.call if self._frames else None
        self._separate: Program | None = None

    def run(self, ptrs: Sequence[int]) -> None:
        """Run on buffers at the addresses `ptrs`, one per buffer index. Raises `KernelError`."""
        if self._call is not None:
            status = self._call(*ptrs)
            if status:
                self._finish(status, self._frames[0], ptrs)
            return
        try:
            frame = self._idle.pop()
        except IndexError:
            frame = self._new_frame()
        try:
            if self._single:
                arena = self._allocate(frame)  # noqa: F841 (held for the call)
                status = frame.call(*ptrs)
                if status:
                    self._finish(status, frame, ptrs)
            else:
                self._run_segments(frame, ptrs)
        finally:
            self._idle.append(frame)

    def run_rows(self, rows: numpy.ndarray) -> None:
        """Run once for each row of addresses (int64, contiguous), one after the other. Raises `KernelError`."""
        if not self._single:
            for row in rows.tolist():
                self.run(row)
            return
        if rows.shape[1] != self.n_buffers:
            raise ValueError(f"the program needs {self.n_buffers} buffers, got {rows.shape[1]}")
        try:
            frame = self._loops.pop()
        except IndexError:
            frame = self._new_frame()
        try:
            arena = self._allocate(frame) if self._needs_memory else None  # noqa: F841 (held for the call)
            done, at, size = 0, address_of(rows), self.n_buffers * WORD
            while done < len(rows):
                ran, status = divmod(native.load().run_rows(frame.headers[0], at + done * size, len(rows) - done), 16)
                done += ran
                if status == Status.NEEDS_WORKERS:
                    pool.start()
                elif status:
                    raise KernelError(frame.take_error())
        finally:
            self._loops.append(frame)

    def _finish(self, status, frame, ptrs):
        """Bring to its end a run in which the frame's call returned a status other than 0."""
        others = iter(self._frames[1:])
        while status:
            if status == Status.NEEDS_WORKERS:
                pool.start()
            elif status == Status.TAKEN:
                frame = next(others, None)
                if frame is None:
                    frame = self._new_frame()
                    self._frames.append(frame)
            elif status == Status.KERNEL_ERROR:
                raise KernelError(frame.take_error())
            else:
                raise ValueError(f"the program needs {self.n_buffers} buffers, got {len(ptrs)}")
            status = frame.call(*ptrs)

    def _new_frame(self):
        kept = (0, 0) if self._needs_memory else (self.arena_size, self.scratch_size)
        return Frame(self._template, *kept)

    def _run_segments(self, frame, ptrs, times=None):
        """Run segment by segment; the list `times` gets nanoseconds per region and host call."""
        arena = self._allocate(frame) if self._needs_memory else None
        self._fill_slots(frame, ptrs)
        headers = iter(frame.headers)
        for segment in self._segments:
            if isinstance(segment, HostCall):
                start = time.perf_counter_ns()
                segment.fn(*[resolve(arg, frame.slots) for arg in segment.args])
                if times is not None:
                    times.append(time.perf_counter_ns() - start)
            elif times is None:
                self._run_native(frame, next(headers))
            else:
                clocks = (ctypes.c_int64 * (len(segment) + 1))()
                self._run_native(frame, next(headers), ctypes.addressof(clocks))
                times.extend(end - start for start, end in itertools.pairwise(clocks))
        del arena

    def _fill_slots(self, frame, ptrs):
        if len(ptrs) != self.n_buffers:
            raise ValueError(f"the program needs {self.n_buffers} buffers, got {len(ptrs)}")
        self._set_slots(frame.slots, 0, *ptrs)

    def _run_native(self, frame, header, times=0):
        status = native.load().run(header, times)
        if status == Status.NEEDS_WORKERS:
            pool.start()
            self._run_native(frame, header, times)
        elif status:
            raise KernelError(frame.take_error())

    def _allocate(self, frame):
        """Arena and scratch for one run; returns the buffer that owns them."""
        size = self.arena_size
        if self.scratch_size:
            workers = pool.num_threads
            size += workers * self.scratch_size
            frame.limit_workers(workers)
        buffer = allocator.alloc(size)
        frame.slots[ARENA] = buffer.ptr
        frame.slots[SCRATCH] = buffer.ptr + self.arena_size
        return buffer

    def profile(self, ptrs: Sequence[int]) -> list[int]:
        """Run with a barrier between all launches; returns nanoseconds per launch and host call, in order."""
        if self._separate is None:
            self._separate = Program(separated(self.launches), self.n_buffers, self.arena_size, self.scratch_size)
        times: list[int] = []
        self._separate._run_segments(self._separate._new_frame(), ptrs, times)
        return times


def separated(launches):
    """The same launches, each with a barrier before it."""
    return [
        entry
        if isinstance(entry, HostCall)
        else Launch(entry.kernel_address, entry.args, entry.total, entry.grain, barrier=True)
        for entry in launches
    ]


def resolve(arg, slots):
    """A host call's argument as Python sees it."""
    if isinstance(arg, tuple):
        return slots[arg[1]] + arg[2]
    return arg


def check_entry(entry, n_buffers):
    """Raise if an entry names a buffer that does not exist or has an impossible size."""
    for arg in entry.args:
        if isinstance(arg, tuple):
            kind, buffer, _ = arg
            if kind != "buf" or not -RESERVED <= buffer < n_buffers:
                raise ValueError(f"bad buffer argument {arg!r} in a program with {n_buffers} buffers")
    if isinstance(entry, Launch) and (entry.total < 0 or entry.grain < 1):
        raise ValueError(f"bad launch: total {entry.total}, grain {entry.grain}")
