"""Notices a worker that does not come back from a step: a model or a driver that hangs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class HangDetector:
    """Measures how long each worker has been in its present step.

    Time blocked on the broker or on ordering is no step, and does not count as busy.
    """

    def __init__(self) -> None:
        self._started: dict[int, float] = {}

    @contextmanager
    def step(self) -> Iterator[None]:
        """To be within while the calling thread works."""
        worker = threading.get_ident()
        self._started[worker] = time.monotonic()
        try:
            yield
        finally:
            del self._started[worker]

    def busy_for(self) -> float:
        """Seconds since the oldest step that still goes on began; 0 when there is none; from any thread."""
        started = list(self._started.values())
        return time.monotonic() - min(started) if started else 0.0
