"""Copies of files in memory that cannot be changed any more."""

import contextlib
import errno
import fcntl
import os
import resource
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edge_agent.system.cache import cache_dir

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_SEAL_SECONDS = 10.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are this user's own


class SealedFile:
    """A file in memory: https://man7.org/linux/man-pages/man2/memfd_create.2.html.

    It exists until this object is freed and nothing maps the file any more.

    Args:
        blocks: the content; what they raise is passed on.

    Attributes:
        path: at which this process can open it.

    Raises:
        OSError: there is not enough memory.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        descriptor = os.memfd_create("model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        weakref.finalize(self, os.close, descriptor)
        self.path = f"/proc/self/fd/{descriptor}"
        with large_files(), os.fdopen(os.dup(descriptor), "wb") as file:
            file.writelines(blocks)
        _seal(descriptor)


@contextlib.contextmanager
def private_copy(files: Mapping[str, Iterable[bytes]]) -> Iterator[Path]:
    """Yields a folder with copies of files, for what opens them by their names. They have no names any more after that.

    Args:
        files: the contents by relative path; what they raise is passed on.

    Raises:
        OSError: there is not enough memory.
    """
    place = _SHARED_MEMORY / f"edge-agent-{os.getuid()}" if _SHARED_MEMORY.is_dir() else cache_dir()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.lstat().st_uid != os.getuid():
        raise PermissionError(f"{place} belongs to another user")
    for left in place.glob("load-*"):
        if not Path(f"/proc/{left.name.split('-')[1]}").exists():  # that process has crashed
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"load-{os.getpid()}-", dir=place))
    try:
        with large_files():
            for name, blocks in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with (folder / name).open("wb") as file:
                    file.writelines(blocks)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _seal(descriptor: int) -> None:
    """Seals a file in memory; tried again while the kernel still has the written pages in use (memory compaction)."""
    deadline = time.monotonic() + _SEAL_SECONDS
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextlib.contextmanager
def large_files() -> Iterator[None]:
    """Lifts the soft limit on the size of files, which applies to files in memory, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
