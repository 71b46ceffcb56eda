"""Files that entries are only ever appended to: each entry has its lengths and a checksum, so a damaged one is found.

Layout, little-endian: 8 bytes `EASAMPLE`, the version as uint16, 6 zero bytes; then entries: the byte 0xEA and `ENT`,
the lengths of the document and of the data as uint32, the CRC-32 of both together as uint32, the document (JSON in
UTF-8), the data.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edge_agent.errors import EdgeAgentError
from edge_agent.system import text

VERSION = 1
MAX_DOCUMENT, MAX_DATA = 4_000_000, 64_000_000
# No file of ours is larger: a segment is closed once it is a few megabytes, a recording has a bound of its own.
MAX_FILE = 2_000_000_000
_HEAD = struct.Struct("<8sH6x")
_ENTRY = struct.Struct("<4sIII")
_MAGIC, _ENTRY_MAGIC = b"EASAMPLE", b"\xeaENT"
_BLOCK = 1 << 20


class StoreError(EdgeAgentError):
    """A store of samples or a recording can't be used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A document and the bytes that it is about."""

    document: Mapping[str, Any]
    data: bytes

    def encoded(self) -> bytes:
        """As it stands in a file.

        Raises:
            StoreError: it is too large.
        """
        document = json.dumps(self.document, separators=(",", ":")).encode()
        if len(document) > MAX_DOCUMENT or len(self.data) > MAX_DATA:
            raise StoreError(f"an entry of {len(document)} + {len(self.data)} bytes: too large to be stored")
        checksum = zlib.crc32(self.data, zlib.crc32(document))
        return b"".join((_ENTRY.pack(_ENTRY_MAGIC, len(document), len(self.data), checksum), document, self.data))


@dataclass(slots=True)
class Walk:
    """What reading a file from the start has found.

    Attributes:
        entries: number of sound entries.
        damaged: number of places that could not be read.
        end: offset behind the last sound entry.
    """

    entries: int = 0
    damaged: int = 0
    end: int = _HEAD.size


def head() -> bytes:
    """The start of every file."""
    return _HEAD.pack(_MAGIC, VERSION)


def check_head(path: Path) -> bool:
    """Whether a file has a head of ours; False if it is cut off within it.

    Raises:
        StoreError: it is of another program, or of a newer version.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_FILE:
            raise StoreError(f"{path}: larger than any file of edge-agent's samples, {MAX_FILE} bytes")
        start = file.read(_HEAD.size)
    if len(start) < _HEAD.size and head().startswith(start):
        return False
    magic, version = _HEAD.unpack(start) if len(start) == _HEAD.size else (b"", 0)
    if magic != _MAGIC:
        raise StoreError(f"{path}: no file of samples: it starts with {start[:8].hex(' ')}")
    if version > VERSION:
        raise StoreError(
            f"{path}: written by a newer version of edge-agent (format {version}, this one knows {VERSION}): it is "
            "left as it is; install the newer version, or state another `path`"
        )
    return True


def walk(path: Path, found: Walk | None = None) -> Iterator[tuple[int, Entry]]:
    """The sound entries of a file with their offsets. Behind a damaged place it goes on with the next sound entry.

    Args:
        path: of the file.
        found: is filled while the entries are read.

    Raises:
        StoreError: see `check_head`.
        OSError: it can't be read.
    """
    found = found or Walk()
    if not check_head(path):
        found.end = 0
        return
    with path.open("rb") as file:
        at, size, damaged = _HEAD.size, os.fstat(file.fileno()).st_size, False
        while at < size:
            entry = _entry(file, at, size)
            if entry is None:
                found.damaged += not damaged
                damaged, at = True, _next_magic(file, at + 1, size)
                continue
            damaged, length = False, _ENTRY.size + entry[1]
            yield at, entry[0]
            at += length
            found.entries += 1
            found.end = at


def read_entry(path: Path, at: int) -> Entry:
    """One entry.

    Raises:
        StoreError: there is none at this offset, or it is damaged.
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        entry = _entry(file, at, os.fstat(file.fileno()).st_size)
    if entry is None:
        raise StoreError(f"{path}: no sound entry at byte {at}")
    return entry[0]


def _entry(file: BinaryIO, at: int, size: int) -> tuple[Entry, int] | None:
    """The entry at an offset and the length of its parts; None if it is damaged."""
    file.seek(at)
    start = file.read(_ENTRY.size)
    if len(start) < _ENTRY.size:
        return None
    magic, document_length, data_length, checksum = _ENTRY.unpack(start)
    length = document_length + data_length
    too_large = document_length > MAX_DOCUMENT or data_length > MAX_DATA or at + _ENTRY.size + length > size
    if magic != _ENTRY_MAGIC or too_large:
        return None
    content = file.read(length)
    if len(content) < length or zlib.crc32(content) != checksum:
        return None
    try:
        document = text.parse_json(content[:document_length])
    except ValueError:
        return None
    return (Entry(document, content[document_length:]), length) if isinstance(document, dict) else None


def _next_magic(file: BinaryIO, at: int, size: int) -> int:
    """The offset of the next place that looks like an entry; the file's size if there is none."""
    while at < size:
        file.seek(at)
        block = file.read(_BLOCK)
        if (where := block.find(_ENTRY_MAGIC)) >= 0:
            return at + where
        if len(block) < _BLOCK:
            return size
        at += _BLOCK - len(_ENTRY_MAGIC) + 1
    return size


class Appender:
    """Appends entries to a file; a failed write leaves what was there before.

    Args:
        path: of the file; where there is none it is made with the first entry.
        size: bytes of it that are sound.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        self.size = size

    def append(self, entries: Iterable[bytes]) -> None:
        """Appends encoded entries; when this returns, they are on the disk.

        Raises:
            OSError: they are not; a part that has been written is cut off, or else ignored when it is read.
        """
        content = b"".join(entries)
        if self.size and not self.path.exists():  # somebody has deleted it
            self.size = 0
        new = self.size == 0
        try:
            with self.path.open("r+b" if self.path.exists() else "x+b") as file:
                file.seek(self.size)
                file.truncate()
                file.write(head() + content if new else content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self._cut()
            raise
        self.size += len(content) + (_HEAD.size if new else 0)

    def _cut(self) -> None:
        try:
            if self.size:
                os.truncate(self.path, self.size)
            else:
                self.path.unlink(missing_ok=True)
        except OSError:  # a disk that has become read-only: reading ignores the rest, and the next write cuts it off
            return
