"""How often in a row an accelerator has crashed the whole process, recorded for the process that starts next.

A native crash leaves no time to write anything. So a flag is set before each call of the driver: one byte in shared
memory, which outlives the process and needs neither a system call nor the disk.
"""

import fcntl
import hashlib
import mmap
import os
import stat
import struct
import time
from pathlib import Path

from edge_agent.system.cache import cache_dir

# After this many in a row the accelerator is not used until the machine starts again.
MAX_CRASHES = 3
# Seconds of service after which a crash is the first of a row.
STEADY = 600.0

_RECORD = struct.Struct(
    "<BxxxId"
)  # whether a call is in progress; crashes in a row; begin of service, on the clock since boot
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder made in it is this user's own


class CrashRecord:
    """The record of one model on one accelerator. It is a context manager for calls that may crash.

    Where no record can be kept, or another process holds it, nothing is recorded and `crashes` is 0.

    Args:
        key: identifies the model and the accelerator.

    Attributes:
        crashes: how many processes in a row have crashed in such a call.
    """

    def __init__(self, key: str) -> None:
        self.crashes = 0
        self._memory: mmap.mmap | bytearray = bytearray(_RECORD.size)
        try:
            self._file = _open(hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32])
        except OSError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends, however it ends
            os.ftruncate(self._file, _RECORD.size)
            self._memory = mmap.mmap(self._file, _RECORD.size)
        except OSError:
            os.close(self._file)
            return
        inside, self.crashes, since = _RECORD.unpack(self._memory[:])
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        if inside:
            self.crashes = 1 if now - since > STEADY else self.crashes + 1
        elif now - since > STEADY:
            self.crashes = 0
        self._memory[:] = _RECORD.pack(0, self.crashes, now)

    def __enter__(self) -> None:
        self._memory[0] = 1

    def __exit__(self, *_: object) -> None:
        self._memory[0] = 0

    def close(self) -> None:
        """Releases the record, which keeps the number of crashes."""
        memory, self._memory = self._memory, bytearray(_RECORD.size)
        if isinstance(memory, mmap.mmap):
            memory[0] = 0
            memory.close()
            os.close(self._file)


def _open(name: str) -> int:
    """Opens the file of a record; where there is shared memory, it is gone after the next boot.

    Raises:
        OSError: there is no place for it.
    """
    folder = _SHARED_MEMORY / f"edge-agent-{os.getuid()}" if _SHARED_MEMORY.is_dir() else cache_dir() / "crashes"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
