"""Large blocks of memory, cut from mappings of the operating system and joined with their free neighbours again.

A program whose sizes change from run to run asks for blocks of many sizes, one after the other. Were each of them a
mapping that only a block of its size is taken from, all of them together would stay; cut from one another they take
what the largest need takes.

A range of a mapping is in use, free (its pages are there, and are handed out first) or fresh (the operating system has
not been asked for its pages, or has them back). Nothing here is safe from other threads: the allocator holds a lock.
Lists are changed by single operations, so that Ctrl-C can at worst lose a block.
"""

from bisect import bisect_left, insort

from . import sysmem

SEGMENT = 256 << 20
"""Bytes of a mapping, or more for a larger block. Pages that nobody has touched take no memory."""

Range = tuple[int, int]
"""Where it begins and where it ends."""


class Ranges(list[Range]):
    """Disjoint ranges of addresses, ascending; those that touch are joined, within one mapping."""

    @property
    def total(self) -> int:
        """Bytes in all of them."""
        return sum(end - start for start, end in self)

    def add(self, start: int, end: int, mapping: Range) -> Range:
        """Put in a range of a mapping; returns the range that it is part of now."""
        at = behind = bisect_left(self, (start, end))
        if at < len(self) and self[at][0] == end < mapping[1]:
            end, behind = self[at][1], at + 1
        if at and self[at - 1][1] == start > mapping[0]:
            start, at = self[at - 1][0], at - 1
        self[at:behind] = [(start, end)]
        return start, end

    def cut(self, at: int, size: int) -> int:
        """Take the first `size` bytes of range number `at`; returns where they are."""
        start, end = self[at]
        self[at:at + 1] = [(start + size, end)] if start + size < end else []
        return start

    def best(self, size: int) -> int:
        """The number of the smallest range that has `size` bytes, the first of equals; -1 if there is none."""
        return min(((end - start, at) for at, (start, end) in enumerate(self) if end - start >= size),
                   default=(0, -1))[1]

    def largest(self) -> Range:
        """The largest range."""
        return max(self, key=lambda r: r[1] - r[0])


class Heap:
    """`take` and `put` blocks of whole pages."""

    def __init__(self) -> None:
        self.free, self.fresh = Ranges(), Ranges()
        self.mappings: list[Range] = []

    def take(self, size: int) -> int:
        """Address of a block of `size` bytes, or 0 if the operating system has none."""
        at = self.free.best(size)
        return self.free.cut(at, size) if at >= 0 else self._extend(size) or self._map(size)

    def put(self, start: int, size: int) -> Range:
        """Take a block back; returns the free range that it is part of."""
        return self.free.add(start, start + size, self._mapping(start))

    def adopt(self, start: int, size: int) -> None:
        """A block that was mapped by itself is one of the heap's from now on."""
        insort(self.mappings, (start, start + size))

    def give_back(self, given: Range) -> None:
        """Let the operating system have the pages of a free range, and the mapping if nothing else is in it."""
        start, end = given
        mapping = self._mapping(start)
        self.free.remove(given)
        sysmem.forget_pages(start, end - start)
        if self.fresh.add(start, end, mapping) == mapping:
            self.fresh.remove(mapping)
            self.mappings.remove(mapping)
            sysmem.unmap_pages(mapping[0], mapping[1] - mapping[0])

    def _extend(self, size: int) -> int:
        """A block of a free range and fresh pages behind it, or of fresh pages alone; 0 if there are not so many."""
        before = {end: at for at, (_, end) in enumerate(self.free)}
        for at, (start, end) in enumerate(self.fresh):
            joined = before.get(start) if start > self._mapping(start)[0] else None
            own = 0 if joined is None else start - self.free[joined][0]
            if own + end - start >= size:
                begin = self.fresh.cut(at, size - own)
                return begin if joined is None else self.free.cut(joined, own)
        return 0

    def _map(self, size: int) -> int:
        for whole in (max(size, SEGMENT), size):
            start = sysmem.map_pages(whole)
            if start:
                self.adopt(start, whole)
                if whole > size:
                    self.fresh.add(start + size, start + whole, (start, start + whole))
                return start
        return 0

    def _mapping(self, address: int) -> Range:
        return self.mappings[bisect_left(self.mappings, (address + 1,)) - 1]
