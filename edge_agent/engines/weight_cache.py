"""XNNPACK's weight cache: a model's weights as this processor wants them, packed once, mapped by all who run the model.

XNNPACK looks only at the head of such a file and at the list of what is in it: weights that have changed since it takes
as they are; and where the disk is full while it writes one, it ends the process. So it writes into memory here, and a
file's name says what it is for, and ends with a checksum of that and of the content.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from edge_agent.system.cache import cache_dir, processor

# Bound on all such files; the oldest go.
MAX_BYTES = 256 * 2**20
# A file is written only where so many times its size is free.
ROOM = 4

_BLOCK = 1 << 20

T = TypeVar("T")


def with_weights(model: Path, packer: str, load: Callable[[str], T]) -> T:
    """Loads a model with its packed weights, which are packed before if that has not been done, or they are damaged.

    Where there is no place for them, the model is loaded without.

    Args:
        model: its file.
        packer: what packs them: the runtime, its version, and options that matter.
        load: loads the model with the cache file of this path, and fills that if it is empty; without one if it is "".
    """
    try:
        name = _name(model, packer)
        path = _sound(name) or _pack(name, load)
    except OSError:
        path = None
    return load(str(path or ""))


def _name(model: Path, packer: str) -> str:
    with model.open("rb") as file:
        content = hashlib.file_digest(file, "blake2b").hexdigest()
    return hashlib.sha256(repr((content, packer, processor())).encode()).hexdigest()[:32]


def _sound(name: str) -> Path | None:
    """The file of this name, if it is as it was written; one that is not is removed."""
    for path in _folder().glob(f"{name}-*"):
        with path.open("rb") as file:
            if path.name == _with_checksum(name, file):
                with contextlib.suppress(OSError):  # a disk that can be read only
                    os.utime(path)  # the oldest go
                return path
        path.unlink()
    return None


def _pack(name: str, load: Callable[[str], T]) -> Path | None:
    """Has the weights packed and keeps them; None where there are none, or no room."""
    with os.fdopen(os.memfd_create("weights"), "rb") as packed:
        load(f"/proc/self/fd/{packed.fileno()}")
        size = packed.seek(0, os.SEEK_END)
        _folder().mkdir(parents=True, exist_ok=True)
        if not 0 < size <= MAX_BYTES or size * ROOM > shutil.disk_usage(_folder()).free:
            return None
        path = _folder() / _with_checksum(name, packed)
        packed.seek(0)
        with tempfile.NamedTemporaryFile(dir=_folder(), suffix=".part", delete=False) as part:
            try:
                shutil.copyfileobj(packed, part, _BLOCK)
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).rename(path)
            except OSError:
                Path(part.name).unlink()
                raise
    _prune()
    return path


def _with_checksum(name: str, file: BufferedReader) -> str:
    """The name that a file of this content has."""
    file.seek(0)
    checksum = hashlib.file_digest(file, lambda: hashlib.blake2b(name.encode(), digest_size=8))
    return f"{name}-{checksum.hexdigest()}"


def _prune() -> None:
    """Removes the oldest files, and what an interrupted process has left, until the rest is not too large."""
    total = 0
    files = [(path.stat(), path) for path in _folder().iterdir()]
    for status, path in sorted(files, key=lambda one: one[0].st_mtime, reverse=True):
        total += status.st_size
        if total > MAX_BYTES:
            with contextlib.suppress(FileNotFoundError):  # somebody else has been quicker
                path.unlink()


def _folder() -> Path:
    return cache_dir() / "weights"
