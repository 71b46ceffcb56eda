"""Runs a source that is an iterator: one thread reads, and for a live source another one supervises it.

When a camera is unplugged, a read may fail, but capture libraries may also block or return the last frame for ever. So
a live source is supervised: without a sign of life for its stall timeout, the reading thread is abandoned and the
source is opened again, with back-off and without a limit on attempts.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from edge_agent.errors import EdgeAgentError, InputError, SourceError
from edge_agent.samples import Sample
from edge_agent.sources import Trouble
from edge_agent.sources.queue import SampleQueue
from edge_agent.system import limits
from edge_agent.system.backoff import Backoff

log = logging.getLogger(__name__)

REOPEN_CEILING = 30.0
# Seconds of operation after which the back-off starts again from its first delay.
STABLE_AFTER = 10.0
# Minimum patience for the first frame, in seconds: opening takes longer than one frame.
OPEN_PATIENCE = 15.0
# A read that never returns can't be ended, only abandoned. With this many abandoned reads, the source is not opened
# again until one of them has returned.
MAX_ABANDONED = 3


class Readable(Protocol):
    """A source that can be iterated over, each time from its start."""

    name: str
    """For messages: what it is and where, without credentials."""
    live: bool
    """Whether the newest sample matters more than every sample; a live source never ends by itself."""
    stall_timeout: float
    """Seconds without a sign of life after which a live source counts as lost."""

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """Samples, until the source ends or `stopping` is set; None is only a sign of life.

        Raises:
            SourceError: it can't be opened or has failed.
        """
        ...


class Reader:
    """A `Source` made of a `Readable`.

    Args:
        readable: what is read.
        open_patience: seconds in which the first sample of a live one may come.
    """

    def __init__(self, readable: Readable, open_patience: float = OPEN_PATIENCE) -> None:
        self._open_patience = open_patience
        self.live = readable.live
        # For a live source only the newest sample, for a finite one just enough to keep the workers busy.
        self.capacity = 1 if readable.live else 2
        self._readable = readable
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._attempts: list[_Attempt] = []
        self._diagnosis = ""
        self._thread = threading.Thread(target=self._run, name=f"source {readable.name}", daemon=True)

    @property
    def diagnosis(self) -> str:
        """See `Source.diagnosis`: why it has failed, until it gives a sign of life again."""
        return self._diagnosis

    @property
    def is_released(self) -> bool:
        """Whether it reads no more, and nothing is open; after `close`, False if a read blocks."""
        return not self._thread.is_alive() and all(attempt.ended for attempt in self._attempts)

    def start(self, queue: SampleQueue, trouble: Trouble) -> None:
        """See `Source.start`."""
        self._queue, self._trouble = queue, trouble
        self._thread.start()

    def wait_ready(self, timeout: float) -> bool:  # noqa: ARG002 - every source is asked alike
        """See `Source.wait_ready`: a reader has nothing to wait for."""
        return True

    def stop(self) -> None:
        """See `Source.stop`."""
        self._stopping.set()
        self._queue.close()
        with self._changed:
            self._changed.notify_all()

    def close(self, deadline: float) -> None:
        """See `Source.close`: releases what is open, unless a read blocks."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._changed.wait_for(
                lambda: all(attempt.ended for attempt in self._attempts), max(0.0, deadline - time.monotonic())
            )

    def _run(self) -> None:
        if self.live:
            self._supervise()
        else:
            attempt = _Attempt(self._readable, self._queue, self._changed)
            attempt.read(self._stopping)
            if attempt.failure:
                self._diagnosis = str(attempt.failure)
                log.error("%s", attempt.failure)
                self._trouble(attempt.failure)
        self._queue.close()

    def _supervise(self) -> None:
        backoff = Backoff(ceiling=REOPEN_CEILING)
        reported: set[str] = set()
        while not self._stopping.is_set():
            attempt = _Attempt(self._readable, self._queue, self._changed, self._came_alive)
            self._attempts = [earlier for earlier in self._attempts if not earlier.ended] + [attempt]
            began = time.monotonic()
            failure = attempt.watch(self._stopping, self._open_patience, came_back=bool(reported))
            if self._stopping.is_set():
                return
            if attempt.alive:
                reported.clear()
                if time.monotonic() - began > STABLE_AFTER:
                    backoff.reset()
            # A program that prints its readings and ends, for example, is not at fault if it can be started again.
            if not (attempt.alive and attempt.ended and attempt.failure is None):
                self._diagnosis = str(failure)
            if str(failure) not in reported:
                reported.add(str(failure))
                log.warning("%s: trying again until it is back", failure)
                self._trouble(failure)
            delay = backoff.delay()
            log.debug("%s: reconnecting after %.1f s", self._readable.name, delay)
            self._pause(delay)

    def _came_alive(self) -> None:
        self._diagnosis = ""

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(self._stopping.is_set, seconds)
            self._changed.wait_for(
                lambda: self._stopping.is_set() or sum(not attempt.ended for attempt in self._attempts) < MAX_ABANDONED
            )


class _Attempt:
    """One opening of the source, and all that is read from it.

    Attributes:
        alive: whether it has given a sign of life; an unusable input is none.
        ended: whether the iteration has ended and the source has been released.
        failure: why it ended; None: regularly.
    """

    def __init__(
        self,
        readable: Readable,
        queue: SampleQueue,
        changed: threading.Condition,
        came_alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._readable = readable
        self._queue = queue
        self._changed = changed
        self._on_alive = came_alive
        self._abandoned = threading.Event()
        self._seen = 0.0
        self.alive = False
        self.ended = False
        self.failure: EdgeAgentError | None = None

    def read(self, stopping: threading.Event, *, came_back: bool = False) -> None:
        """Puts all samples of the source into the queue."""
        name, count = self._readable.name, 0
        log.debug("%s: opening", name)
        try:
            for sample in self._readable.samples(stopping):
                if stopping.is_set() or (sample is not None and not self._queue.put(sample)):
                    break
                if sample is not None and not count:
                    log.debug("%s: first sample", name)
                count += sample is not None
                if sample is not None and isinstance(sample.data, InputError):
                    continue
                self._seen = time.monotonic()
                if not self.alive:
                    self._come_alive(came_back=came_back)
        except EdgeAgentError as error:
            self.failure = error
        except OSError as error:
            self.failure = SourceError(f"{name}: {error.strerror or error}")
        except Exception as error:
            log.exception("%s: a defect in edge-agent", name)
            self.failure = SourceError(f"{name}: {limits.in_words(error)}")
        finally:
            log.debug("%s: ended after %d samples", name, count)
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _come_alive(self, *, came_back: bool) -> None:
        if came_back:
            log.info("%s: is back", self._readable.name)
        self._on_alive()
        with self._changed:
            self.alive = True
            self._changed.notify_all()  # from now on, the shorter timeout applies

    def watch(self, stopping: threading.Event, open_patience: float, *, came_back: bool) -> EdgeAgentError:
        """Reads in a thread until that ends, fails or stalls, or `stopping` is set; returns the reason."""
        name, timeout = self._readable.name, self._readable.stall_timeout
        patience, opened = max(timeout, open_patience), time.monotonic()
        options = {"came_back": came_back}
        reading = threading.Thread(
            target=self.read, args=(self._abandoned,), kwargs=options, name=f"read {name}", daemon=True
        )
        try:
            reading.start()
        except RuntimeError as error:  # there are too many threads: it is tried again like any other failure
            self.ended = True
            return SourceError(f"{name}: {limits.in_words(error)}")
        with self._changed:
            while not self.ended and not stopping.is_set():
                deadline = self._seen + timeout if self.alive else opened + patience
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        self._abandoned.set()
        if self.ended:
            return self.failure or SourceError(f"{name}: the stream has ended")
        return SourceError(f"{name}: nothing usable has come for {timeout if self.alive else patience:g} s")
