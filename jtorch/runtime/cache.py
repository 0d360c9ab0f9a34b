"""The disk cache: bytes under a key, shared by all processes of a user.

An entry is one file, `<directory>/<2 hex digits>/<hash of the key>`: a magic number, a checksum, the bytes. It is
written to a temporary file and renamed, so that readers see all of it or nothing. Whatever is wrong with the disk
(missing home, read-only, full, garbage in a file), callers see a miss, and the first trouble of each kind is
logged. The cache is kept under a size, and a number of entries, by removing what was used longest ago. To look at all
files of a full cache takes seconds, so that a write looks at a group of the 256 folders, which has its share of both.

    JTORCH_CACHE_DIR    where; default $XDG_CACHE_HOME/jtorch or ~/.cache/jtorch; empty: no disk cache
    JTORCH_CACHE_SIZE   bytes, or with a suffix K, M or G; default: what `jtorch cache --limit` has set, or 512M
"""
from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import time
from functools import lru_cache
from pathlib import Path

MAGIC = b"jtorch1\n"
CHECKSUM_BYTES = 32
FOLDERS = 256
LIMIT_FILE = "limit"  # in the cache's directory: the size that the user wants for it
DEFAULT_LIMIT = 512 << 20
ENTRIES = 1 << 16
SHARE = 2 << 20  # bytes that a group of folders has at least, or all of them if the limit is less
BLOCK = 4096  # what the smallest file takes of a disk
TOUCH_AFTER_S = 3600  # an entry's time of use is refreshed at most this often
STALE_TEMPORARY_S = 3600
log = logging.getLogger("jtorch.cache")


class Cache:
    """A directory of checked entries, at most about `limit` bytes and `ENTRIES` of them.

    >>> cache = Cache(directory)
    >>> cache.put("key", b"bytes")
    >>> cache.get("key")
    b'bytes'
    """

    def __init__(self, directory: Path | None, limit: int = DEFAULT_LIMIT):
        self.directory, self.limit = directory, limit
        self.unwritable = directory is None
        self._unswept: dict[int, int] = {}  # by group of folders: bytes written since the last look at it
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self.directory / digest[:2] / digest[2:]

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None."""
        if self.directory is None:
            return None
        path = self.path(key)
        try:
            with open(path, "rb") as file:
                data = file.read()
                used = os.fstat(file.fileno()).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._warn("read", f"cannot read the cache: {error}")
            return None
        body = data[len(MAGIC) + CHECKSUM_BYTES:]
        if data[:len(MAGIC) + CHECKSUM_BYTES] != MAGIC + hashlib.sha256(body).digest():
            self._warn("damage", f"damaged cache entry {path}; it is made anew")
            self._remove(path)
            return None
        if time.time() - used > TOUCH_AFTER_S:
            try:
                os.utime(path)
            except OSError:
                pass  # a read-only cache serves as it is
        return body

    def put(self, key: str, body: bytes) -> None:
        """Keep `body` under `key`, if the disk lets us."""
        if self.unwritable:
            return
        path = self.path(key)
        temporary = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix="tmp")
            with os.fdopen(handle, "wb") as file:
                file.write(MAGIC + hashlib.sha256(body).digest() + body)
            os.replace(temporary, path)
        except OSError as error:
            self.unwritable = True
            self._warn("write", f"cannot write the cache in {self.directory}, continuing without: {error}")
            if temporary is not None:
                self._remove(Path(temporary))
            return
        groups = max(1, min(FOLDERS, self.limit // SHARE))
        group, allowed = int(path.parent.name, 16) % groups, self.limit // groups // 16
        with self._lock:
            # A process that writes little looks now and then as well: where in the count it begins is the key's chance.
            unswept = self._unswept.get(group, int(path.name[:8], 16) % (allowed + 1)) + len(body) + BLOCK
            due = unswept > allowed
            self._unswept[group] = 0 if due else unswept
        if due:
            self._sweep(range(group, FOLDERS, groups), self.limit // groups, max(ENTRIES // groups, 1))

    def sweep(self) -> None:
        """Remove the entries used longest ago until nine tenths of the limits remain, and abandoned temporaries."""
        self._sweep(range(FOLDERS), self.limit, ENTRIES)

    def _sweep(self, folders: range, limit: int, most: int) -> None:
        """The same in these folders: at most `limit` bytes in `most` entries."""
        entries, temporaries = self._files(folders)
        now = time.time()
        for used, _, path in temporaries:
            if now - used > STALE_TEMPORARY_S:
                self._remove(path)
        total, count = sum(size for _, size, _ in entries), len(entries)
        if total <= limit and count <= most:
            return
        for _, size, path in sorted(entries):
            self._remove(path)
            total, count = total - size, count - 1
            if total <= limit * 9 // 10 and count <= most * 9 // 10:
                break

    def usage(self) -> tuple[int, int]:
        """The number of entries and their bytes."""
        entries, _ = self._files()
        return len(entries), sum(size for _, size, _ in entries)

    def clear(self) -> tuple[int, int]:
        """Remove all entries; how many, and their bytes. Processes that use them go on: they make them anew."""
        entries, temporaries = self._files()
        for _, _, path in entries + temporaries:
            self._remove(path)
        return len(entries), sum(size for _, size, _ in entries)

    def bound(self, limit: int) -> None:
        """Keep the cache under `limit` bytes from now on, in later processes too. Raises OSError if it cannot."""
        if self.directory is None:
            raise OSError("there is no disk cache")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / LIMIT_FILE).write_text(f"{limit}\n")
        self.limit = limit
        self.sweep()

    def _files(self, folders: range = range(FOLDERS)
               ) -> tuple[list[tuple[float, int, str]], list[tuple[float, int, str]]]:
        """(time of use, size, path) of the entries, and of the files that are still being written."""
        entries: list[tuple[float, int, Path]] = []
        temporaries: list[tuple[float, int, Path]] = []
        for number in folders if self.directory is not None else ():
            try:
                found = list(os.scandir(self.directory / f"{number:02x}"))  # type: ignore[operator]
            except OSError:
                continue
            for file in found:
                try:
                    status = file.stat()
                except OSError:
                    continue  # another process removed it
                kind = temporaries if file.name.startswith("tmp") else entries
                kind.append((status.st_mtime, status.st_size, file.path))
        return entries, temporaries

    def _remove(self, path: str | Path) -> None:
        try:
            os.unlink(path)
        except OSError:
            pass  # gone already, or not ours to remove: it stays a miss

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning(message)


def bytes_of(text: str) -> int:
    """'300', '64K', '512M' or '1.5G' as a number of bytes. Raises ValueError."""
    units = {"K": 10, "M": 20, "G": 30}
    text = text.strip().upper()
    if text[-1:] in units:
        return int(float(text[:-1]) * (1 << units[text[-1]]))
    return int(text)


def _default_directory() -> Path | None:
    named = os.environ.get("JTORCH_CACHE_DIR")
    if named is not None:
        return Path(named) if named else None
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jtorch"
    except RuntimeError:  # no home
        return None


def _default_limit(directory: Path | None) -> int:
    named = os.environ.get("JTORCH_CACHE_SIZE")
    if named:
        return bytes_of(named)
    try:
        return bytes_of((directory / LIMIT_FILE).read_text()) if directory is not None else DEFAULT_LIMIT
    except (OSError, ValueError):
        return DEFAULT_LIMIT


@lru_cache
def default() -> Cache:
    """The process's cache, as the environment describes it."""
    directory = _default_directory()
    return Cache(directory, _default_limit(directory))


def get_blob(key: str) -> bytes | None:
    """The bytes that `put_blob` kept under `key`, in this process or another, or None."""
    return default().get(key)


def put_blob(key: str, body: bytes) -> None:
    """Keep bytes under a key; the key must name everything the bytes depend on."""
    default().put(key, body)
