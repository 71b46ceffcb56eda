"""Checks .zip archives from elsewhere, and unpacks them: names, types and sizes are bounded before any is written."""

import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_agent.system.units import format_size

# What a damaged archive ends in, besides `RefusedError`.
DAMAGES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError)
MAGIC = b"PK\3\4"
_FREE_BYTES = 1_000_000  # may always be unpacked, however well it is compressed
_MAX_DEPTH = 8
# The archive's last record: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.16.
_END = struct.Struct("<4x2x2x2xHI4xH")
_END_SIGNATURE, _LOCATOR_64_SIGNATURE, _LOCATOR_64_BYTES = b"PK\5\6", b"PK\6\7", 20
_MAX_COMMENT = 0xFFFF
_NAME = re.compile(r"[^\\:\x00-\x1f\x7f]{1,255}")
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


class RefusedError(Exception):
    """The archive can't be used; as text: why."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an archive may be.

    Attributes:
        what: what it holds, for messages: `a bundle`.
        files: number of them.
        directory_bytes: of its list of files, which is read into memory as a whole.
        total_bytes: of what is unpacked.
        ratio: of that to the archive's own size.
    """

    what: str
    files: int
    directory_bytes: int
    total_bytes: int
    ratio: int


def check_directory(file: BinaryIO, bounds: Bounds) -> None:
    """Checks the size of the archive's list of files, before it is read.

    Raises:
        RefusedError: it is too large, or the archive is cut off.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _MAX_COMMENT - _LOCATOR_64_BYTES))
    tail = file.read()
    end = tail.rfind(_END_SIGNATURE)
    if end < 0 or len(tail) - end < _END.size:
        raise RefusedError("the archive is cut off: copy or download it again")
    entries, directory_bytes, _ = _END.unpack_from(tail, end)
    is_64_bit = tail[max(0, end - _LOCATOR_64_BYTES) : end].startswith(_LOCATOR_64_SIGNATURE)
    if is_64_bit or entries > bounds.files or directory_bytes > bounds.directory_bytes:
        raise RefusedError(f"expected {bounds.what} of at most {bounds.files} files, found {entries}")


def checked(archive: zipfile.ZipFile, bounds: Bounds) -> list[zipfile.ZipInfo]:
    """The files of the archive, when names, types and sizes of all are checked.

    Raises:
        RefusedError: one of them is refused.
    """
    entries = archive.infolist()
    for entry in entries:
        parts = entry.filename.removesuffix("/").split("/")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if len(parts) > _MAX_DEPTH or any(part in (".", "..") or not _NAME.fullmatch(part) for part in parts):
            raise RefusedError(f"{entry.filename!r} in it is no name of a file in a folder")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RefusedError(f"{entry.filename} in it is a link or a device: put the file itself there")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _COMPRESSIONS:
            raise RefusedError(f"{entry.filename} in it is encrypted or unusually compressed: use plain deflate")
    if len({entry.filename for entry in entries}) < len(entries):
        raise RefusedError("two files in it have the same name")
    size, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if size > min(bounds.total_bytes, _FREE_BYTES + bounds.ratio * packed):
        raise RefusedError(
            f"its {format_size(packed)} would become {format_size(size)}: at most {bounds.ratio} times as much and "
            f"{format_size(bounds.total_bytes)} are unpacked"
        )
    return [entry for entry in entries if not entry.is_dir()]


def extract(archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], folder: Path, *, durable: bool) -> None:
    """Writes files of an archive, `checked`, into a folder.

    Args:
        archive: the archive.
        entries: of it.
        folder: is made if it is not there.
        durable: whether each file is on the disk when this returns.

    Raises:
        OSError: there is no place, or a file is there already.
    """
    for entry in entries:
        target = folder / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as content, target.open("xb") as out:
            shutil.copyfileobj(content, out)
            if durable:
                out.flush()
                os.fsync(out.fileno())
