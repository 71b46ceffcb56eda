"""Whether samples are being worked on, told to processes that rest meanwhile: one byte of memory, shared with them."""

import mmap
import os
import threading
from collections.abc import Callable


class Activity:
    """Counts the workers that have a sample at hand; each is within `with` for so long.

    Attributes:
        file: descriptor of the shared memory, for `watch`.
    """

    def __init__(self) -> None:
        self.file = os.memfd_create("at work")
        os.ftruncate(self.file, 1)
        self._shared = mmap.mmap(self.file, 1)
        self._lock = threading.Lock()
        self._count = 0

    def __enter__(self) -> None:
        self._add(1)

    def __exit__(self, *_: object) -> None:
        self._add(-1)

    def _add(self, number: int) -> None:
        with self._lock:
            self._count += number
            self._shared[0] = self._count > 0


def watch(file: int) -> Callable[[], bool]:
    """The other side: in a process that has inherited the descriptor, says whether there is a sample at hand."""
    shared = mmap.mmap(file, 1, prot=mmap.PROT_READ)
    return lambda: shared[0] != 0


# One for the process, as the cores are.
ACTIVITY = Activity()
