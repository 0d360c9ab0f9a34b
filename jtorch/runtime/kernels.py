"""Kernels by their text: `load` gives the callable address, from memory, from the disk cache, or compiled.

    kernel = load(source, ("p:float32", "p:float32"))
    kernel.address        # void (*)(int64_t *args, int64_t begin, int64_t end, int64_t worker)

What is in the disk cache is loaded; what is not, compile processes make. Neither imports Numba or LLVM here.
"""
from __future__ import annotations

import linecache
import os
import threading
from concurrent.futures import Future
from functools import lru_cache

from jtorch.runtime import cache, compile, compile_pool
from jtorch.runtime.loader import make_loader


class Kernel:
    """A loaded kernel: `address` of its entry, its `source` and `params`, and the `name` of its symbol."""

    __slots__ = ("address", "name", "params", "source")

    def __init__(self, source: str, params: tuple[str, ...], name: str, address: int):
        self.source, self.params, self.name, self.address = source, params, name, address

    def __repr__(self):
        return f"<Kernel {self.name} at {self.address:#x}>"


class Handle:
    """A kernel that may still be compiling."""

    __slots__ = ("_future", "_key")

    def __init__(self, key, future: Future):
        self._key, self._future = key, future

    def ready(self) -> bool:
        """Whether `result` returns (or raises) at once."""
        if not self._future.done() and _pending.get(self._key) is not self._future:  # asked for before a fork
            self._future = request(*self._key)._future
        return self._future.done()

    def result(self) -> Kernel:
        """The kernel; waits for it. Raises CompileError."""
        self.ready()
        return _finish(self._key, self._future)


_lock = threading.RLock()
_loaded: dict[tuple, Kernel] = {}
_pending: dict[tuple, Future] = {}
_loader = lru_cache(make_loader)


def _after_fork():
    """What the parent waits for does not come to the child. What is loaded stays."""
    global _lock
    _lock = threading.RLock()
    _pending.clear()


os.register_at_fork(after_in_child=_after_fork)


def load(source: str, params: tuple[str, ...]) -> Kernel:
    """The kernel of this text, compiled if it is new. Raises CompileError."""
    return _loaded.get((source, params)) or load_many([(source, params)])[0]


def load_many(kernels: list[tuple[str, tuple[str, ...]]]) -> list[Kernel]:
    """The kernels of these texts; many missing ones are compiled side by side. Raises CompileError."""
    missing = [key for key in dict.fromkeys(kernels) if _find(key) is None]
    with _lock:
        waiting = [(key, _pending.get(key) or _submit(key)) for key in missing]
    for key, future in waiting:
        _finish(key, future)
    return [_loaded[key] for key in kernels]


def request(source: str, params: tuple[str, ...]) -> Handle:
    """Start to compile a kernel in the background, unless it is there already."""
    key = source, params
    found = _find(key)
    if found is not None:
        future = Future()
        future.set_result(None)
        return Handle(key, future)
    with _lock:
        return Handle(key, _pending.get(key) or _submit(key))


def compiling() -> int:
    """How many kernels are still being compiled in the background."""
    return sum(not future.done() for future in list(_pending.values()))


def asm(kernel: Kernel) -> str:
    """The kernel's assembly, to look at (compiles it again)."""
    return compile.assembly(kernel.source, kernel.params)


def _cache_key(key) -> str:
    source, params = key
    return "\0".join(("kernel", compile.fingerprint(), *params, source))


def _find(key) -> Kernel | None:
    """A kernel that need not be compiled."""
    kernel = _loaded.get(key)
    if kernel is None:
        code = cache.get_blob(_cache_key(key))
        if code is not None:
            kernel = _install(key, code)
    return kernel


def _install(key, code: bytes) -> Kernel:
    source, params = key
    name = compile.entry_name(source, params)
    with _lock:
        kernel = _loaded.get(key)
        if kernel is None:
            kernel = _loaded[key] = Kernel(source, params, name, _loader().add(code)[name])
            file = compile.filename(name)
            linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    return kernel


def _store(key, code: bytes) -> Kernel:
    cache.put_blob(_cache_key(key), code)
    return _install(key, code)


def _submit(key) -> Future:
    future = _pending[key] = compile_pool.pool().submit(compile.compile_kernel, *key)
    return future


def _finish(key, future: Future) -> Kernel:
    """Wait for a background compile and install its kernel, once."""
    kernel = _loaded.get(key)
    if kernel is not None:
        return kernel
    try:
        code = future.result()
    finally:
        if future.done():
            _pending.pop(key, None)
    return _store(key, code)
