"""Batches on their way from a worker process to the one that asked for them.

A batch is pickled; the bytes of its tensors and arrays lie beside the pickle, in memory that both processes have
mapped. The worker makes such a segment, sends its descriptor once, and uses it again for a later batch when the
receiver says that nothing of the former one is left there. A segment is a file without a name: however the processes
end, nothing stays behind.
"""
from __future__ import annotations

import ctypes
import mmap
import os
import pickle
from collections import deque
from multiprocessing import reduction
from typing import Any

from jtorch.ops.sharing import Mapping, anonymous_file

ALIGNMENT = 64
"""Bytes; each tensor starts at a multiple of it."""

INLINE = 16 << 10
"""Bytes; a batch below this goes through the pipe itself: to map a segment for it would take longer."""


class Sender:
    """The worker's end."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.segments: dict[int, Mapping] = {}
        self.free: set[int] = set()
        self.made = 0
        self.dropped: list[int] = []  # segments that the receiver need not keep either

    def send(self, label: Any, data: Any) -> None:
        """Send `data`. What pickling raises, it raises before anything is sent."""
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(data, 5, buffer_callback=buffers.append)
        views = [b.raw() for b in buffers]
        places, end = [], 0
        for view in views:
            start = -(-end // ALIGNMENT) * ALIGNMENT
            end = start + view.nbytes
            places.append((start, end))
        if end < INLINE:
            self.connection.send_bytes(pickle.dumps((label, head, buffers, None, 0, ()), 5))
            return
        number, descriptor = self.segment(end)
        segment = self.segments[number]
        memory = memoryview((ctypes.c_char * segment.nbytes).from_address(segment.ptr)).cast("B")
        for (start, stop), view in zip(places, views):
            memory[start:stop] = view
        new = 0 if descriptor is None else segment.nbytes
        dropped, self.dropped = self.dropped, []
        self.connection.send_bytes(pickle.dumps((label, head, places, number, new, dropped), 5))
        if descriptor is not None:
            reduction.send_handle(self.connection, descriptor, None)
            os.close(descriptor)

    def segment(self, nbytes: int) -> tuple[int, int | None]:
        """The number of a segment that may be written; the descriptor if it is a new one."""
        for number in sorted(self.free, key=lambda n: self.segments[n].nbytes):
            self.free.remove(number)
            if self.segments[number].nbytes >= nbytes:
                return number, None
            del self.segments[number]  # sizes grow: it would rarely be of use
            self.dropped.append(number)
        size = -(-(nbytes + nbytes // 8) // mmap.PAGESIZE) * mmap.PAGESIZE
        descriptor = anonymous_file(size)
        self.made += 1
        self.segments[self.made] = Mapping(descriptor, size)
        return self.made, descriptor

    def returned(self, numbers: list[int]) -> None:
        """What the receiver gives back; a number below zero: that segment is in other hands for ever."""
        for number in numbers:
            if number > 0:
                self.free.add(number)
            else:
                del self.segments[-number]


class Lease:
    """A segment in use by a batch; it goes back when the last part of the batch does. May be dropped at any moment, by
    any thread, so all it does then is one append.

    A process that is forked meanwhile sees the segment as well, so it is not used again.
    """

    __slots__ = ("number", "segment", "home", "forks_before")
    forks = 0
    """How often this process has forked."""

    def __init__(self, number: int, segment: Mapping, home: deque[int]) -> None:
        self.number, self.segment, self.home, self.forks_before = number, segment, home, self.forks

    def __del__(self) -> None:
        self.home.append(self.number if self.forks_before == self.forks else -self.number)

    @classmethod
    def count_fork(cls) -> None:
        cls.forks += 1


os.register_at_fork(before=Lease.count_fork)


class Receiver:
    """The other end, for one worker."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.segments: dict[int, Mapping] = {}
        self.done: deque[int] = deque()

    def receive(self) -> tuple[Any, Any]:
        """The next label, and a function that gives what was sent with it. EOFError, OSError: the worker is gone."""
        label, head, places, number, new, dropped = pickle.loads(self.connection.recv_bytes())
        for unused in dropped:
            del self.segments[unused]
        if number is None:
            return label, lambda: pickle.loads(head, buffers=places)
        if new:
            descriptor = reduction.recv_handle(self.connection)
            try:
                self.segments[number] = Mapping(descriptor, new)
            finally:
                os.close(descriptor)
        segment = self.segments[number]
        memory: Any = (ctypes.c_char * segment.nbytes).from_address(segment.ptr)
        memory.lease = Lease(number, segment, self.done)
        view = memoryview(memory).cast("B")
        return label, lambda: pickle.loads(head, buffers=[view[start:stop] for start, stop in places])

    def returned(self) -> list[int]:
        """Segments that the worker may have back."""
        numbers = []
        while self.done:
            number = self.done.popleft()
            numbers.append(number)
            if number < 0:
                del self.segments[-number]
        return numbers
