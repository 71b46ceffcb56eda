"""Notices a worker that does not come back from a step: a model or a driver that hangs."""

import threading
import time

from edge_agent.samples import Sample

# By thread: when its present step began, on the monotonic clock, and the samples that it works on.
Steps = dict[int, tuple[float, tuple[Sample, ...]]]


class HangDetector:
    """Measures how long each worker has been in its present step.

    Time blocked on the broker or on ordering is no step, and does not count as busy.
    """

    def __init__(self) -> None:
        self._steps: Steps = {}

    def step(self, *samples: Sample) -> "Step":
        """To be within while the calling thread works on samples."""
        return Step(self._steps, samples)

    def busy_for(self) -> float:
        """Seconds since the oldest step that still goes on began; 0 when there is none; from any thread."""
        started = [started for started, _ in list(self._steps.values())]
        return time.monotonic() - min(started) if started else 0.0

    def samples_since(self, seconds: float) -> list[Sample]:
        """The samples of the steps that have gone on for longer; from any thread."""
        now = time.monotonic()
        return [
            sample for started, samples in list(self._steps.values()) if now - started > seconds for sample in samples
        ]


class Step:
    """See `HangDetector.step`. Made for every sample, and a generator takes three times as long."""

    __slots__ = ("_samples", "_steps")

    def __init__(self, steps: Steps, samples: tuple[Sample, ...]) -> None:
        self._steps, self._samples = steps, samples

    def __enter__(self) -> None:
        self._steps[threading.get_ident()] = time.monotonic(), self._samples

    def __exit__(self, *_: object) -> None:
        del self._steps[threading.get_ident()]
