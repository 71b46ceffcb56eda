"""Events that are handled in order, by one thread at a time."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

# Seconds of rest after a defect, which may come again at once.
_REST = 1.0


class EventQueue:
    """Handles events in the thread that brings them if no other thread is at it, which spares a wake-up; never waits.

    What would have to wait, for a disk or until it is due, is done by a thread of its own, to be made of `run`.

    Args:
        may_handle: whether any thread may handle events now; False: it could have to wait for the disk.
        handled: called after events, to do what follows from them at once.
        work: called by the own thread after `handled`, to do all the rest that is due.
        due_at: when the own thread has work again, on the monotonic clock; infinite: not before an event.
        is_over: whether the own thread can end.
    """

    def __init__(
        self,
        *,
        may_handle: Callable[[], bool],
        handled: Callable[[], None],
        work: Callable[[], None],
        due_at: Callable[[], float],
        is_over: Callable[[], bool],
    ) -> None:
        self._may_handle, self._handled, self._work = may_handle, handled, work
        self._due_at, self._is_over = due_at, is_over
        self._events: deque[Callable[[], None]] = deque()
        self._turn = threading.Lock()  # held by the thread that handles events
        self._wake = threading.Event()  # there is something for the own thread to do
        self._wakes_at = 0.0  # when it looks by itself
        self._failed = False

    def __bool__(self) -> bool:
        """Whether there are events that are not handled yet."""
        return bool(self._events)

    def add(self, event: Callable[[], None]) -> None:
        """Adds an event, to be handled with `handle`."""
        self._events.append(event)

    def handle(self) -> None:
        """Handles the events in this thread, or has the own thread do it."""
        while self._events and self._turn.acquire(blocking=False):  # the thread that has it looks at the events again
            try:
                here = self._may_handle() and not self._failed
                if not here or not self._do(self._handled) or self._due_at() < self._wakes_at:
                    self._wake.set()
            finally:
                self._turn.release()
            if not here:
                return

    def wake(self) -> None:
        """Has the own thread look at once."""
        self._wake.set()

    def run(self) -> None:
        """The own thread, until it can end."""
        while not self._pass():
            if not self._events:
                self._wake.wait(None if self._wakes_at == math.inf else max(0.0, self._wakes_at - time.monotonic()))

    @contextmanager
    def last(self) -> Iterator[None]:
        """After `run`: handles what is left, and keeps other threads from handling anything within."""
        with self._turn:
            while self._events:
                self._do(self._handled)
            yield

    def _pass(self) -> bool:
        with self._turn:
            self._wake.clear()
            if self._failed:
                time.sleep(_REST)
                self._failed = False
            self._wakes_at = self._due_at() if self._do(self._handled, self._work) else 0.0
            return self._is_over()

    def _do(self, *steps: Callable[[], None]) -> bool:
        try:
            while self._events:
                self._events.popleft()()
            for step in steps:
                step()
        except Exception:
            log.exception("a defect in edge-agent: results may be late")
            self._failed = True
        return not self._failed
