"""A live source that is looked at now and then: opened, read for a moment, and closed until the next time."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

from edge_agent.errors import SourceError
from edge_agent.samples import Sample
from edge_agent.sources.reader import Readable

# Seconds for which it is read: a camera adapts to the light in its first frames, and a stream begins with old ones.
LOOK = 2.0
# Seconds between two signs of life while it is closed.
SIGN_OF_LIFE = 0.4


class Occasional:
    """Opens a source, gives the last of its samples of the first moments, closes it, and waits.

    Args:
        readable: what is opened.
        every: seconds from one opening to the next.
    """

    live = True

    def __init__(self, readable: Readable, every: float) -> None:
        self.name = readable.name
        self.stall_timeout = readable.stall_timeout
        self._readable = readable
        self._every = every

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """See `Readable.samples`."""
        while not stopping.is_set():
            opened = time.monotonic()
            yield from self._look(stopping)
            while (left := opened + self._every - time.monotonic()) > 0 and not stopping.is_set():
                stopping.wait(min(left, SIGN_OF_LIFE))
                yield None

    def _look(self, stopping: threading.Event) -> Iterator[Sample | None]:
        latest: Sample | None = None
        with closing(self._readable.samples(stopping)) as samples:  # type: ignore[type-var]  # they are generators
            first: float | None = None
            for sample in samples:
                if sample is not None:
                    latest, first = sample, first or time.monotonic()
                if first is not None and time.monotonic() - first >= LOOK:
                    break
                yield None
        if latest is not None:
            yield latest
        elif not stopping.is_set():
            raise SourceError(f"{self.name}: it was opened, and nothing came")


def looked_at(readable: Readable, every: float | None) -> Readable:
    """The source, read all the time or, if it is live and `every` is set, now and then."""
    return readable if every is None or not readable.live else Occasional(readable, every)
