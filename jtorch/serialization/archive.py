"""PyTorch's zip files: named records, stored without compression, each starting at a multiple of 64 bytes."""
from __future__ import annotations

import io
import mmap
import os
import struct
import zipfile
import zlib
from typing import IO, Any

import numpy as np

ALIGNMENT = 64
MAGIC = b"PK\x03\x04"
_LOCAL = struct.Struct("<4s5H3L2H")  # signature, versions, flags, ..., CRC, sizes, lengths of name and extra field
_PADDING = struct.Struct("<2sH")  # the extra field's tag and length
_ZIP64 = 20  # bytes of the extra field of a large record
_CHUNK = 1 << 22

DAMAGED = (zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, UnicodeDecodeError, OverflowError,
           zlib.error, ValueError, IndexError, RuntimeError)
"""What `zipfile` raises for damaged files."""


def damaged(reason: object) -> RuntimeError:
    return RuntimeError(f"PytorchStreamReader failed reading zip archive: {reason}")


class Reader:
    """The records of a file (a seekable object) by name, without the archive's own name in front."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        try:
            self.size = file.seek(0, io.SEEK_END)
            self.zip = zipfile.ZipFile(file)
            entries = self.zip.infolist()
        except DAMAGED as error:
            raise damaged(error) from None
        if not entries:
            raise damaged("it holds no records")
        self.name = entries[0].filename.partition("/")[0]
        self.entries = {e.filename.removeprefix(self.name + "/"): e for e in entries}

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def read(self, name: str) -> bytes:
        """A record. RuntimeError if it is not there or damaged."""
        entry = self.entry(name)
        if entry.compress_type != zipfile.ZIP_STORED:
            try:
                return self.zip.read(entry)
            except DAMAGED as error:
                raise damaged(f"record {name}: {error}") from None
        data = bytearray(self.place(name)[1])
        self.read_into(name, memoryview(data))
        return bytes(data)

    def entry(self, name: str) -> zipfile.ZipInfo:
        found = self.entries.get(name)
        if found is None:
            raise RuntimeError(f"PytorchStreamReader failed locating file {name}: file not found")
        if found.compress_type == zipfile.ZIP_STORED and found.compress_size != found.file_size:
            raise damaged(f"record {name} has two sizes")
        return found

    def place(self, name: str) -> tuple[int, int]:
        """(start, length) of a stored record's bytes in the file."""
        entry = self.entry(name)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise damaged(f"record {name} is compressed")
        try:
            self.file.seek(entry.header_offset)
            header = _LOCAL.unpack(self.file.read(_LOCAL.size))
        except DAMAGED as error:
            raise damaged(f"record {name}: {error}") from None
        start = entry.header_offset + _LOCAL.size + header[-2] + header[-1]
        if header[0] != MAGIC or start + entry.file_size > self.size:
            raise damaged(f"record {name} is not where the directory says")
        return start, entry.file_size

    def length(self, name: str) -> int:
        """Bytes of a record; of a stored one, no more than the file has."""
        entry = self.entry(name)
        return self.place(name)[1] if entry.compress_type == zipfile.ZIP_STORED else entry.file_size

    def read_into(self, name: str, memory: memoryview) -> None:
        """A record into memory of its length. The checksum is looked at if there is one."""
        entry = self.entry(name)
        if entry.compress_type != zipfile.ZIP_STORED:
            memory[:] = self.read(name)
            return
        self.file.seek(self.place(name)[0])
        checksum = done = 0
        readinto = getattr(self.file, "readinto", None)
        while done < len(memory):
            part = memory[done:done + _CHUNK]
            if readinto is not None:
                got = readinto(part)
            else:
                data = self.file.read(len(part))
                got = len(data)
                part[:got] = data
            if not got:
                raise damaged(f"record {name} ends early")
            if entry.CRC:  # PyTorch can be told to leave it out
                checksum = zlib.crc32(part[:got], checksum)
            done += got
        if checksum != entry.CRC:
            raise damaged(f"record {name} does not have its checksum")


class Mapping:
    """A file's bytes as private memory: written to without the file being changed, read when they are used."""

    def __init__(self, path: str | os.PathLike) -> None:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise damaged("the file is empty")
            self.bytes = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)

    def part(self, start: int, length: int, itemsize: int) -> np.ndarray:
        part = self.bytes[start:start + length]
        return part if part.ctypes.data % itemsize == 0 else part.copy()


class Writer:
    """Writes records into a file (an object with `write`)."""

    def __init__(self, file: Any, name: str) -> None:
        self.name = name
        self.zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)

    def write(self, name: str, data: Any) -> None:
        data = memoryview(data)
        entry = zipfile.ZipInfo(f"{self.name}/{name}", (1980, 1, 1, 0, 0, 0))
        entry.file_size = data.nbytes
        header = _LOCAL.size + len(entry.filename.encode())
        large = entry.file_size * 1.05 > zipfile.ZIP64_LIMIT  # zipfile's own rule
        start = self.zip.fp.tell() + header + _PADDING.size + (_ZIP64 if large else 0)  # type: ignore[union-attr]
        fill = -start % ALIGNMENT
        entry.extra = _PADDING.pack(b"FB", fill) + b"Z" * fill
        with self.zip.open(entry, "w") as record:
            for done in range(0, data.nbytes, _CHUNK):
                record.write(data[done:done + _CHUNK])

    def close(self) -> None:
        self.zip.close()
