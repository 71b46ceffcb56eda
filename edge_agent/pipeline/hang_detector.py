"""Notices a worker that does not come back from a step: a model or a driver that hangs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge_agent.samples import Sample


class HangDetector:
    """Measures how long each worker has been in its present step.

    Time blocked on the broker or on ordering is no step, and does not count as busy.
    """

    def __init__(self) -> None:
        self._started: dict[int, float] = {}
        self._samples: dict[int, tuple[Sample, ...]] = {}

    @contextmanager
    def step(self, *samples: Sample) -> Iterator[None]:
        """To be within while the calling thread works on samples."""
        worker = threading.get_ident()
        self._samples[worker], self._started[worker] = samples, time.monotonic()
        try:
            yield
        finally:
            del self._started[worker], self._samples[worker]

    def busy_for(self) -> float:
        """Seconds since the oldest step that still goes on began; 0 when there is none; from any thread."""
        started = list(self._started.values())
        return time.monotonic() - min(started) if started else 0.0

    def samples_since(self, seconds: float) -> list[Sample]:
        """The samples of the steps that have gone on for longer; from any thread."""
        now = time.monotonic()
        workers = [worker for worker, started in list(self._started.items()) if now - started > seconds]
        return [sample for worker in workers for sample in self._samples.get(worker, ())]
