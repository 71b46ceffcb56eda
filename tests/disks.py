"""Disks with a flaw, for tests: too small, read-only, without power. They take the right to mount."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

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


class PowerCutDisk:
    """A disk whose state can be had as it would be after a power cut at this moment.

    A file system in an image, on a loop device, whose image lies in another file system. To cut the power is to freeze
    that other one in between two writes, and to copy the image: the copy has all that the kernel had handed to the
    device by then, and nothing of what was still in its page cache. What this does not show: devices that lose what
    they have said to be written, or that tear a sector.

    Needs the right to mount, and loop devices; else the test is skipped.

    Args:
        folder: where images and mount points go.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self._outer = folder / "outer"
        self._after = folder / "after"
        self._copy = folder / "copy.img"
        self._mounted: list[Path] = []
        self._folder = folder

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._make(self._folder / "outer.img", self._outer, 300_000_000)
            self._make(self._outer / "disk.img", self.path, 100_000_000)
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            pytest.skip(f"needs the right to mount and loop devices: run as root ({error})")
        return self

    def _make(self, image: Path, mount_point: Path, size: int) -> None:
        image.touch()
        os.truncate(image, size)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)
        self._mount(image, mount_point)

    def _mount(self, image: Path, mount_point: Path) -> None:
        mount_point.mkdir(exist_ok=True)
        command = ["mount", "-o", "loop,noatime", str(image), str(mount_point)]
        subprocess.run(command, check=True, capture_output=True)
        self._mounted.append(mount_point)

    def _unmount(self, mount_point: Path) -> None:
        self._mounted.remove(mount_point)
        subprocess.run(["umount", str(mount_point)], check=True)

    @contextmanager
    def cut(self) -> Iterator[Path]:
        """What is on the disk when the power comes back after a cut at this moment, mounted."""
        subprocess.run(["fsfreeze", "--freeze", str(self._outer)], check=True)
        try:
            shutil.copyfile(self._outer / "disk.img", self._copy)
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(self._outer)], check=True)
        self._mount(self._copy, self._after)
        try:
            yield self._after
        finally:
            self._unmount(self._after)

    def __exit__(self, *_: object) -> None:
        for mount_point in reversed(self._mounted.copy()):
            self._unmount(mount_point)
