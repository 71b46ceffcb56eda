"""Files that are replaced as a whole, or not at all, also in a power cut."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Replaces a file; when this returns, it is on the disk under its name.

    Raises:
        OSError: it can't be written; the previous content is unchanged.
    """
    part = path.with_name(f"{path.name}.new")
    with part.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries to the disk.

    Raises:
        OSError: the disk refuses it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
