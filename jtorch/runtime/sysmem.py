"""Memory from the operating system: malloc, mappings, and how much there is."""

import ctypes
import mmap
import os

HUGE_PAGE = 2 << 20
"""Bytes."""

HUGE_FROM = 4 << 20
"""Bytes; mappings from this size on start on a huge page's boundary and ask for huge pages."""

PAGE = mmap.PAGESIZE
FAILED = ctypes.c_void_p(-1).value


def _libc():
    libc = ctypes.CDLL(None, use_errno=True)
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    libc.posix_memalign.argtypes = [ctypes.POINTER(pointer), size, size]
    libc.free.argtypes, libc.free.restype = [pointer], None
    libc.mmap.argtypes = [pointer, size, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    libc.mmap.restype = pointer
    libc.munmap.argtypes = [pointer, size]
    libc.mprotect.argtypes = [pointer, size, ctypes.c_int]
    libc.madvise.argtypes = [pointer, size, ctypes.c_int]
    return libc


LIBC = _libc()


def malloc(nbytes, alignment):
    """Address of `nbytes` bytes, or 0."""
    result = ctypes.c_void_p()
    failed = LIBC.posix_memalign(ctypes.byref(result), alignment, nbytes)
    return 0 if failed else result.value


def free(address):
    """Give back what `malloc` gave."""
    LIBC.free(address)


def give_back():
    """Let the system have the pages of freed memory that malloc keeps, where malloc can do that (glibc)."""
    trim = getattr(LIBC, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def map_pages(nbytes):
    """Address of a fresh mapping of `nbytes` bytes (a multiple of the page size), or 0."""
    slack = HUGE_PAGE - PAGE if nbytes >= HUGE_FROM else 0
    flags, protection = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE
    raw = LIBC.mmap(None, nbytes + slack, protection, flags, -1, 0)
    if raw == FAILED:
        return 0
    if not slack:
        return raw
    start = -(-raw // HUGE_PAGE) * HUGE_PAGE
    if start > raw:
        LIBC.munmap(raw, start - raw)
    if slack > start - raw:
        LIBC.munmap(start + nbytes, slack - (start - raw))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        LIBC.madvise(start, nbytes, mmap.MADV_HUGEPAGE)
    return start


def map_shared(descriptor, nbytes):
    """Address of the first `nbytes` bytes of a file, shared with all who map it; 0 if that cannot be."""
    raw = LIBC.mmap(None, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
    return 0 if raw == FAILED else raw


def unmap_pages(address, nbytes):
    """Give back what `map_pages` or `map_shared` gave."""
    LIBC.munmap(address, nbytes)


def forget_pages(address, nbytes):
    """Let the system have the pages of a mapping; they are zeros when they are touched again."""
    LIBC.madvise(address, nbytes, mmap.MADV_DONTNEED)


def make_executable(address, nbytes):
    """Let whole pages be read and run, and no longer written. Raises OSError."""
    if LIBC.mprotect(address, nbytes, mmap.PROT_READ | mmap.PROT_EXEC):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def memory_info():
    """(total, available) bytes for this process: the machine's, or its control group's if that is less."""
    total = available = 1 << 62
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        total = int(lines["MemTotal"].split()[0]) * 1024
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        pass  # not Linux: no limit is known
    limit, used = _control_group("max"), _control_group("current")
    if limit is not None and used is not None:
        total, available = min(total, limit), min(available, max(limit - used, 0))
    return total, available


def _control_group(field):
    try:
        with open(f"/sys/fs/cgroup/memory.{field}") as file:
            return int(file.read())
    except (OSError, ValueError):  # no such file, or "max"
        return None
