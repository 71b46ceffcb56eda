"""What runtimes write to standard error without being asked, kept out of the log."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_INFORMS = b"INFO:"
_ALL = (_INFORMS, b"WARNING:", b"ERROR:", "└".encode())

# Standard error is the whole process's: two that take it away at once would give it back in the wrong order.
_taken = threading.Lock()


@contextlib.contextmanager
def without_chatter(*, warnings_too: bool = False) -> Iterator[None]:
    """Leaves out what a runtime only informs of; where another thread is doing that already, nothing.

    Args:
        warnings_too: also what it warns of, and its errors, where these are told in other words.
    """
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
            os.write(2, b"".join(line for line in lines if not line.startswith(_ALL if warnings_too else _INFORMS)))
