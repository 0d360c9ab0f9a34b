"""Loads relocatable ELF objects for x86-64 into this process, without LLVM.

The objects are those that LLVM's code generator makes of our modules: position-independent code that reaches its
constants by 32-bit offsets and calls a few functions from outside through stubs. All sections of an object go into one
piece of memory, next to each other: pieces mapped one by one may be farther apart than 2 GiB in a process with large
tensors. Memory is never writable and executable at once.

The format: System V ABI, chapters 4 and 5, with the AMD64 supplement for the relocations.
"""
from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
import threading
from collections.abc import Mapping

from jtorch.runtime import sysmem

ARENA = 1 << 20
"""Bytes of address space that objects are put into, page by page, before a new piece is mapped."""

HEADER = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")

CLASS_64, LITTLE_ENDIAN, RELOCATABLE, X86_64 = 2, 1, 1, 62  # of the file header
SYMTAB, RELA, NOBITS, UNWIND = 2, 4, 8, 0x70000001  # types of sections
WRITE, ALLOC = 1, 2  # flags of sections
UNDEFINED, ABSOLUTE = 0, 0xFFF1  # section numbers of symbols
R_64, R_PC32, R_PLT32, R_PC64 = 1, 2, 4, 24  # relocations
STUB = b"\xff\x25\0\0\0\0"  # jmp *0(%rip); the address follows
STUB_SIZE = 16


class ElfError(ValueError):
    """The object holds something that our compiler does not make."""


def supported() -> bool:
    """Does this machine run what `Loader` loads?"""
    return sys.platform == "linux" and os.uname().machine == "x86_64"


class _Object:
    """The parts of an object file."""

    def __init__(self, code: bytes):
        self.code = code
        try:
            magic, word, order, kind, machine, *_, start, _, _, _, _, _, count, _ = HEADER.unpack_from(code)
            if (magic, word, order, kind, machine) != (b"\x7fELF", CLASS_64, LITTLE_ENDIAN, RELOCATABLE, X86_64):
                raise ElfError("not a relocatable ELF object for x86-64")
            self.sections = [SECTION.unpack_from(code, start + i * SECTION.size) for i in range(count)]
            tables = [s for s in self.sections if s[1] == SYMTAB]
            self.symbols = [self._symbol(s, at) for s in tables for at in range(s[4], s[4] + s[5], SYMBOL.size)]
        except (struct.error, IndexError, OverflowError, UnicodeDecodeError) as error:
            raise ElfError(f"a damaged object: {error}") from error

    def _symbol(self, table: tuple, at: int) -> tuple[str, int, int]:
        name, _, _, section, value, _ = SYMBOL.unpack_from(self.code, at)
        start = self.sections[table[6]][4] + name
        return self.code[start:self.code.index(b"\0", start)].decode(), section, value

    def loaded(self) -> dict[int, tuple]:
        """The sections that are needed at run time, by number (unwinding information is not: nothing is thrown)."""
        found = {}
        for number, s in enumerate(self.sections):
            if s[2] & ALLOC and s[5] and s[1] != UNWIND:
                if s[2] & WRITE or s[1] == NOBITS:
                    raise ElfError("an object with variables")
                found[number] = s
        return found

    def relocations(self, number: int) -> list[tuple[int, int, tuple[str, int, int], int]]:
        """(offset, kind, symbol, addend) of those that apply to a section."""
        found = []
        for s in self.sections:
            if s[1] == RELA and s[7] == number:
                for at in range(s[4], s[4] + s[5], RELOCATION.size):
                    offset, info, addend = RELOCATION.unpack_from(self.code, at)
                    found.append((offset, info & 0xFFFFFFFF, self.symbols[info >> 32], addend))
        return found


class Loader:
    """Puts object code into the process's memory, for good.

    >>> loader = Loader({"memcpy": address})
    >>> loader.add(object_code)["kernel"]    # the address of a function in it
    """

    def __init__(self, outside: Mapping[str, int] | None = None):
        self.outside = dict(outside or {})
        self._lock = threading.Lock()
        self._free = self._end = 0

    def add(self, code: bytes) -> dict[str, int]:
        """Addresses of the object's symbols. Raises ElfError, and OSError where the system refuses memory."""
        parts = _Object(code)
        sections = parts.loaded()
        offsets, size = {}, 0
        for number, s in sections.items():
            size = -(-size // s[8]) * s[8] if s[8] > 1 else size
            offsets[number] = size
            size += s[5]
        stubs = {symbol[0]: 0 for number in sections for _, _, symbol, _ in parts.relocations(number)
                 if symbol[1] == UNDEFINED}
        for i, name in enumerate(stubs):
            stubs[name] = -(-size // STUB_SIZE) * STUB_SIZE + i * STUB_SIZE
        size = max([size, *[at + STUB_SIZE for at in stubs.values()]])
        image = bytearray(size)
        for number, s in sections.items():
            image[offsets[number]:offsets[number] + s[5]] = code[s[4]:s[4] + s[5]]
        for name, at in stubs.items():
            image[at:at + STUB_SIZE] = (STUB + struct.pack("<Q", self._address(name))).ljust(STUB_SIZE, b"\0")
        with self._lock:
            base = self._take(size)
            for number in sections:
                for offset, kind, (name, section, value), addend in parts.relocations(number):
                    target = base + (stubs[name] if section == UNDEFINED else offsets[section] + value) + addend
                    _relocate(image, offsets[number] + offset, kind, target, base)
            _install(base, bytes(image))
        return {name: base + offsets[section] + value for name, section, value in parts.symbols
                if name and section in offsets}

    def _address(self, name: str) -> int:
        found = self.outside.get(name)
        if found is None:
            function = getattr(sysmem.LIBC, name, None)
            if function is None:
                raise ElfError(f"an object calls {name}, which is nowhere")
            found = self.outside[name] = ctypes.cast(function, ctypes.c_void_p).value or 0
        return found

    def _take(self, size: int) -> int:
        """Fresh pages."""
        size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if self._end - self._free < size:
            length = max(ARENA, size)
            self._free = sysmem.map_pages(length)
            if not self._free:
                raise MemoryError("the operating system gives no memory for code")
            self._end = self._free + length
        self._free += size
        return self._free - size


def _relocate(image: bytearray, at: int, kind: int, target: int, base: int) -> None:
    if kind in (R_PC32, R_PLT32):
        struct.pack_into("<i", image, at, target - (base + at))
    elif kind == R_PC64:
        struct.pack_into("<q", image, at, target - (base + at))
    elif kind == R_64:
        struct.pack_into("<Q", image, at, target)
    else:
        raise ElfError(f"relocation {kind}")


def _install(base: int, image: bytes) -> None:
    """Write the image and make it code."""
    ctypes.memmove(base, image, len(image))
    sysmem.make_executable(base, -(-len(image) // mmap.PAGESIZE) * mmap.PAGESIZE)
