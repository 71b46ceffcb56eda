"""When the next sample of a live source is taken: as late as can be without the model having to wait for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# How much of a measurement goes into what is expected, where to follow it at once could make the model wait.
_SLOWLY = 0.1


class FrameScheduler:
    """Holds a worker back while as many samples of others are in the model as it takes at the same time.

    Args:
        places: returns that number.

    Taken early, a sample grows old for as long as the model is busy, while newer ones come. What was measured before
    tells when the model will be free, and how long before that the next sample has to be taken. An inference is
    expected to be rather short, a preparation rather long, so that the model seldom waits.
    """

    def __init__(self, places: Callable[[], int] = lambda: 1) -> None:
        self._places = places
        self._changed = threading.Condition()
        self._began: list[float] = []
        self._inference = self._preparation = 0.0

    def wait(self) -> None:
        """Returns when it is time to take a sample."""
        with self._changed:
            while len(self._began) >= self._places():
                left = self._began[0] + self._inference - self._preparation - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def prepared(self, seconds: float) -> None:
        """Notes how long it took to prepare a sample."""
        self._preparation = max(seconds, _nearer(self._preparation, seconds))

    @contextmanager
    def inference(self) -> Iterator[None]:
        """To be within while a sample is in the model."""
        began = time.monotonic()
        with self._changed:
            self._began.append(began)
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            with self._changed:
                self._began.remove(began)
                self._inference = min(seconds, _nearer(self._inference, seconds))
                self._changed.notify_all()


def _nearer(expected: float, measured: float) -> float:
    return expected + _SLOWLY * (measured - expected)
