"""Disks with a flaw, for tests: a small one, one that turns read-only. They take the rights to mount."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes, in memory, mounted on `folder`; skips the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        pytest.skip("needs the right to mount: run as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def turn_read_only(folder: Path, *, back: bool = False) -> None:
    """Remounts a disk made by `small_disk` read-only, or writable again."""
    assert _mount("-o", f"remount,{'rw' if back else 'ro'}", str(folder))
