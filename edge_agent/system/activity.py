"""Whether this process is working on samples, published to its worker processes in one byte of shared memory."""

import mmap
import os
import threading
from collections.abc import Callable


class Activity:
    """Counts the threads that work on a sample; each is within `with` while it does.

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
    """For a process that has inherited the descriptor: a function that returns whether any thread works on a sample."""
    shared = mmap.mmap(file, 1, prot=mmap.PROT_READ)
    return lambda: shared[0] != 0


# One per process: all pipelines share the cores.
ACTIVITY = Activity()
