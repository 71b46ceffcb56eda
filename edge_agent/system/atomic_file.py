"""Files that are there as a whole, or as they were before: after a power cut, too."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Replaces a file; when this returns, it is on the disk under its name.

    Raises:
        OSError: it can't be written; what was there before still is.
    """
    part = path.with_name(f"{path.name}.new")
    with part.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Puts on the disk which files a folder has, and under which names.

    Raises:
        OSError: the disk does not take it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
