"""Keeps the messages that runtimes print to standard error out of the log."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

INFO = (b"INFO:",)
# CompiledModel warns of other makers' drivers that are not installed. Its errors reach the log as exceptions.
EVERYTHING = (b"",)

# File descriptor 2 belongs to the whole process: two threads that replace it at once would restore the wrong one.
_replaced = threading.Lock()


@contextlib.contextmanager
def without_chatter(begin: tuple[bytes, ...] = INFO) -> Iterator[None]:
    """Drops lines on standard error that begin with one of these; if another thread is filtering already, none."""
    if not _replaced.acquire(blocking=False):
        yield
        return
    sys.stderr.flush()
    real = os.dup(2)
    with os.fdopen(os.memfd_create("stderr"), "rb") as captured:  # in memory: there may be no disk to write on
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            _replaced.release()
            captured.seek(0)
            lines = captured.read().splitlines(keepends=True)
            os.write(2, b"".join(line for line in lines if not line.startswith(begin)))
