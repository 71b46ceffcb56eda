"""Runs a source that iterates: one thread reads, and for a live source another one watches over it.

A read may fail, but it may also block for ever or repeat the last frame for ever, which is what capture libraries do
when a camera is unplugged. So a live source is watched: when it has given no sign of life for its stall timeout, the
reading thread is abandoned and the source is opened again, with back-off, for as long as it takes.
"""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from edge_agent.errors import EdgeAgentError, InputError, SourceError
from edge_agent.samples import Sample
from edge_agent.sources import Trouble
from edge_agent.sources.queue import SampleQueue
from edge_agent.system.backoff import Backoff

log = logging.getLogger(__name__)

REOPEN_CEILING = 30.0
# A source that lives for so long is well again: the next failure is a new one, not one more of a series.
STABLE_AFTER = 10.0
# From the opening to the first frame, which takes longer than from one frame to the next.
OPEN_PATIENCE = 15.0
# A read that never returns can't be ended, only left behind. This many are, then the source is not opened again until
# one of them has returned.
MAX_LEFT_BEHIND = 3


class Readable(Protocol):
    """A source that can be iterated over, each time from its beginning."""

    name: str
    """For messages: what it is and where, without credentials."""
    live: bool
    """Whether the newest sample matters more than every sample; a live source never ends by itself."""
    stall_timeout: float
    """Seconds without a sign of life after which a live source is taken as gone."""

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """Samples, until the source ends or `stopping` is set; None is a mere sign of life.

        Raises:
            SourceError: it can't be opened or has failed.
        """
        ...


class Reader:
    """A `Source` made of a `Readable`."""

    def __init__(self, readable: Readable) -> None:
        self.live = readable.live
        # Of a live source only the newest, of a finite one just enough to keep the workers busy.
        self.capacity = 1 if readable.live else 2
        self._readable = readable
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._attempts: list[_Attempt] = []
        self._thread = threading.Thread(target=self._run, name=f"source {readable.name}", daemon=True)

    def start(self, queue: SampleQueue, trouble: Trouble) -> None:
        """See `Source.start`."""
        self._queue, self._trouble = queue, trouble
        self._thread.start()

    def wait_ready(self, timeout: float) -> bool:  # noqa: ARG002 - every source is asked alike
        """See `Source.wait_ready`: a reader misses nothing that it is meant to see."""
        return True

    def stop(self) -> None:
        """See `Source.stop`."""
        self._stopping.set()
        self._queue.close()
        with self._changed:
            self._changed.notify_all()

    def close(self, deadline: float) -> None:
        """See `Source.close`: what is open is let go, unless a read blocks."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._changed.wait_for(
                lambda: all(attempt.ended for attempt in self._attempts), max(0.0, deadline - time.monotonic())
            )

    def _run(self) -> None:
        if self.live:
            self._watch_over()
        else:
            attempt = _Attempt(self._readable, self._queue, self._changed)
            attempt.read(self._stopping)
            if attempt.failure:
                log.error("%s", attempt.failure)
                self._trouble(attempt.failure)
        self._queue.close()

    def _watch_over(self) -> None:
        backoff = Backoff(ceiling=REOPEN_CEILING)
        said: set[str] = set()
        while not self._stopping.is_set():
            attempt = _Attempt(self._readable, self._queue, self._changed)
            self._attempts = [earlier for earlier in self._attempts if not earlier.ended] + [attempt]
            began = time.monotonic()
            failure = attempt.watch(self._stopping, came_back=bool(said))
            if self._stopping.is_set():
                return
            if attempt.alive:
                said.clear()
                if time.monotonic() - began > STABLE_AFTER:
                    backoff.reset()
            if str(failure) not in said:
                said.add(str(failure))
                log.warning("%s: trying again until it is back", failure)
                self._trouble(failure)
            self._pause(backoff.delay())

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(self._stopping.is_set, seconds)
            self._changed.wait_for(
                lambda: (
                    self._stopping.is_set() or sum(not attempt.ended for attempt in self._attempts) < MAX_LEFT_BEHIND
                )
            )


class _Attempt:
    """One opening of the source, and all that is read from it.

    Attributes:
        alive: it has given a sign of life, which what can't be used is not.
        ended: nothing more will come, and the source has been let go.
        failure: why it ended, if not in the order of things.
    """

    def __init__(self, readable: Readable, queue: SampleQueue, changed: threading.Condition) -> None:
        self._readable = readable
        self._queue = queue
        self._changed = changed
        self._abandoned = threading.Event()
        self._seen = 0.0
        self.alive = False
        self.ended = False
        self.failure: EdgeAgentError | None = None

    def read(self, stopping: threading.Event, *, came_back: bool = False) -> None:
        """Puts everything the source has into the queue."""
        name = self._readable.name
        try:
            for sample in self._readable.samples(stopping):
                if stopping.is_set() or (sample is not None and not self._queue.put(sample)):
                    break
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
            self.failure = SourceError(f"{name}: internal error: {error!r}")
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _come_alive(self, *, came_back: bool) -> None:
        if came_back:
            log.info("%s: is back", self._readable.name)
        with self._changed:
            self.alive = True
            self._changed.notify_all()  # from now on the watch is closer

    def watch(self, stopping: threading.Event, *, came_back: bool) -> EdgeAgentError:
        """Reads in a thread of its own until that ends, fails or stalls, or `stopping` is set; returns why."""
        name, timeout = self._readable.name, self._readable.stall_timeout
        patience, opened = max(timeout, OPEN_PATIENCE), time.monotonic()
        threading.Thread(
            target=self.read,
            args=(self._abandoned,),
            kwargs={"came_back": came_back},
            name=f"read {name}",
            daemon=True,
        ).start()
        with self._changed:
            while not self.ended and not stopping.is_set():
                given_up_at = self._seen + timeout if self.alive else opened + patience
                left = given_up_at - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        self._abandoned.set()
        if self.ended:
            return self.failure or SourceError(f"{name}: the stream has ended")
        return SourceError(f"{name}: nothing usable has come for {timeout if self.alive else patience:g} s")
