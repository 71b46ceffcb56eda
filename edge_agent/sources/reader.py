"""Runs a source that iterates: one thread reads, and for a live source another one watches over it.

A read may fail, but it may also block for ever or repeat the last frame for ever, which is what capture libraries do
when a camera is unplugged. So a live source is watched: when nothing new has come for its stall timeout, the reading
thread is abandoned and the source is opened again, with back-off, for as long as it takes.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from edge_agent.backoff import Backoff
from edge_agent.errors import EdgeAgentError, SourceError
from edge_agent.intake import Intake
from edge_agent.samples import Sample

log = logging.getLogger(__name__)

REOPEN_CEILING = 30.0


class Readable(Protocol):
    """A source that can be iterated over, each time from its beginning."""

    name: str
    """For messages: what it is and where, without credentials."""
    live: bool
    """Whether the newest sample matters more than every sample; a live source never ends by itself."""
    stall_timeout: float
    """Seconds without a sample after which a live source is taken as gone."""

    def samples(self, stopping: threading.Event) -> Iterator[Sample]:
        """Samples, until the source ends or `stopping` is set.

        Raises:
            SourceError: it can't be opened or has failed.
        """
        ...


class Reader:
    """A `Source` made of a `Readable`."""

    def __init__(self, readable: Readable) -> None:
        self.live = readable.live
        self._readable = readable
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"source {readable.name}", daemon=True)

    def start(self, intake: Intake, trouble: Callable[[EdgeAgentError], None]) -> None:
        """See `Source.start`."""
        self._intake, self._trouble = intake, trouble
        self._thread.start()

    def wait_ready(self, timeout: float) -> None:
        """See `Source.wait_ready`: a reader misses nothing that it is meant to see."""

    def stop(self) -> None:
        """See `Source.stop`."""
        self._stopping.set()
        self._intake.close()
        self._thread.join(2.0)

    def close(self) -> None:
        """See `Source.close`."""

    def _run(self) -> None:
        if self.live:
            self._watch_over()
        else:
            attempt = _Attempt(self._readable, self._intake, self._trouble)
            attempt.read(self._stopping)
            if attempt.failure:
                log.error("%s", attempt.failure)
                self._trouble(attempt.failure)
        self._intake.close()

    def _watch_over(self) -> None:
        backoff = Backoff(ceiling=REOPEN_CEILING)
        said = ""
        while not self._stopping.is_set():
            attempt = _Attempt(self._readable, self._intake, self._trouble)
            failure = attempt.watch(self._stopping)
            if attempt.delivered:
                backoff.reset()
                said = ""
            if failure is None:
                return
            if str(failure) != said:
                said = str(failure)
                log.warning("%s: trying again until it is back", failure)
                self._trouble(failure)
            self._stopping.wait(backoff.delay())


class _Attempt:
    """One opening of the source, and all that is read from it."""

    def __init__(self, readable: Readable, intake: Intake, trouble: Callable[[EdgeAgentError], None]) -> None:
        self._readable = readable
        self._intake = intake
        self._trouble = trouble
        self._abandoned = threading.Event()
        self._news = threading.Condition()
        self._ended = False
        self.delivered = 0
        self.failure: EdgeAgentError | None = None

    def read(self, stopping: threading.Event) -> None:
        """Puts everything the source has into the intake."""
        try:
            for sample in self._readable.samples(stopping):
                if stopping.is_set():
                    break
                if not self._intake.put(sample):
                    break
                with self._news:
                    self.delivered += 1
                    self._news.notify_all()
        except EdgeAgentError as error:
            self.failure = error
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()

    def watch(self, stopping: threading.Event) -> EdgeAgentError | None:
        """Reads in a thread of its own until that ends, fails or stalls; returns why, or None if it was stopped."""
        abandoned = self._abandoned
        thread = threading.Thread(target=self.read, args=(abandoned,), name=f"read {self._readable.name}", daemon=True)
        thread.start()
        seen, since = 0, time.monotonic()
        with self._news:
            while not self._ended and not stopping.is_set():
                self._news.wait(0.5)
                now = time.monotonic()
                if self.delivered != seen:
                    seen, since = self.delivered, now
                elif now - since > self._readable.stall_timeout:
                    break
            ended = self._ended
        abandoned.set()
        if stopping.is_set():
            thread.join(1.0)
            return None
        if ended:
            return self.failure or SourceError(f"{self._readable.name}: the stream has ended")
        return SourceError(f"{self._readable.name}: nothing new for {self._readable.stall_timeout:g} s")
