"""Renames what can't be used in the place of a file of ours, so that somebody can look at it; bounded in number."""

import contextlib
import os
import shutil
import stat
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

# What has been set aside of one file and is kept; older ones are removed.
MAX_KEPT = 3


def set_aside(path: Path, suffixes: Sequence[str] = (), as_name: Path | None = None) -> Path:
    """Renames whatever is at a path to `NAME.damaged`; what had that name is `NAME.damaged.2` then, and so on.

    Args:
        path: a file, or a folder, link or device in its place; there may be none.
        suffixes: of the names of files that belong to it, and are renamed with it.
        as_name: path that NAME is taken from, if not from `path`: several may share one, and so the bound.

    Returns:
        The new path.

    Raises:
        OSError: it can't be renamed.
    """
    base = as_name or path
    endings = [".damaged", *(f".damaged.{number}" for number in range(2, MAX_KEPT + 1))]
    names = [base.with_name(f"{base.name}{ending}") for ending in endings]
    free = next((number for number, name in enumerate(names, 1) if not _any(name, suffixes)), MAX_KEPT)
    for old, new in reversed([*pairwise([path, *names[:free]])]):
        for suffix in ("", *suffixes):
            source, target = old.with_name(old.name + suffix), new.with_name(new.name + suffix)
            _remove(target)
            if os.path.lexists(source):
                source.rename(target)
    return names[0]


def why_unusable(path: Path) -> str:
    """Why what is at a path can't be used as a file of ours; empty if it can, or nothing is there.

    A file on a read-only disk can be used: it is the disk that can't be written.

    Raises:
        OSError: its folder can't be looked into.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISDIR(mode):
        return "it is a folder"
    if not stat.S_ISREG(mode):
        return "it is not a file"
    if os.access(path, os.R_OK | os.W_OK) or os.statvfs(path).f_flag & os.ST_RDONLY:
        return ""
    return "it belongs to another user, or is write-protected"


def _any(path: Path, suffixes: Sequence[str]) -> bool:
    return any(os.path.lexists(path.with_name(path.name + suffix)) for suffix in ("", *suffixes))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
