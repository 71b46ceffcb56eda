"""What runtimes write to standard error without being asked, kept out of the log."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

INFORMS = (b"INFO:",)
# What LiteRT's CompiledModel warns of is not there (drivers of other makers), and errors are told in other words.
INFORMS_AND_WARNS = (*INFORMS, b"WARNING:", b"ERROR:", "└".encode())
EVERYTHING = (b"",)

# Standard error is the whole process's: two that take it away at once would give it back in the wrong order.
_taken = threading.Lock()


@contextlib.contextmanager
def without_chatter(begin: tuple[bytes, ...] = INFORMS) -> Iterator[None]:
    """Leaves out lines that begin so; where another thread is doing that already, nothing."""
    if not _taken.acquire(blocking=False):
        yield
        return
    sys.stderr.flush()
    real = os.dup(2)
    with os.fdopen(os.memfd_create("said"), "rb") as said:  # there may be no disk to write on
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            _taken.release()
            said.seek(0)
            lines = said.read().splitlines(keepends=True)
            os.write(2, b"".join(line for line in lines if not line.startswith(begin)))
