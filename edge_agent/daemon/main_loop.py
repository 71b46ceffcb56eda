"""The main thread's loop: runs functions for signal handlers and other threads, and periodic actions."""

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.system import limits

log = logging.getLogger(__name__)

# Seconds for which `wait` may delay a call.
CALL_LATENCY = 0.2
# An action that takes longer delays all others.
SLOW = 1.0


@dataclass(slots=True)
class PeriodicAction:
    """An action with an interval.

    Attributes:
        name: for the log.
        interval: seconds; read after each run, since a reload may change it.
        action: the action.
        next: when it is due, on the monotonic clock.
    """

    name: str
    interval: Callable[[], float]
    action: Callable[[], None]
    next: float


class MainLoop:
    """Runs calls and periodic actions one after the other, and sleeps in between, until it is stopped."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._actions: list[PeriodicAction] = []
        self._stopped = False

    def call(self, function: Callable[[], None]) -> None:
        """Queues a function for the main thread; may be used by signal handlers and other threads."""
        self._calls.put(function)

    def every(
        self, interval: Callable[[], float], action: Callable[[], None], name: str, *, at_once: bool = True
    ) -> None:
        """Adds a periodic action.

        Args:
            interval: seconds; may change.
            action: the action.
            name: for the log.
            at_once: whether it is due now; otherwise after the first interval.
        """
        self._actions.append(PeriodicAction(name, interval, action, time.monotonic() + (0 if at_once else interval())))

    def stop(self) -> None:
        """Ends `run` after the current call or action, whatever else is queued; may be used by signal handlers."""
        self._stopped = True
        self._calls.put(lambda: None)  # wakes `run` and `wait`

    def run(self) -> None:
        """Runs until `stop`."""
        while not self._stopped:
            due = min(action.next for action in self._actions)
            try:
                function = self._calls.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                pass
            else:
                function()
            for action in self._actions:
                if not self._stopped and (now := time.monotonic()) >= action.next:
                    _run(action)
                    action.next = now + action.interval()
                    if (took := time.monotonic() - now) > SLOW:
                        log.debug("%s took %.1f s", action.name, took)

    def wait(self, condition: Callable[[float], bool], timeout: float) -> bool:
        """Waits for a condition; returns whether it came true. Returns early when a call is waiting.

        Args:
            condition: waits for up to the seconds that are passed to it; returns whether it is true.
            timeout: seconds.
        """
        deadline = time.monotonic() + timeout
        while self._calls.empty() and time.monotonic() < deadline:
            if condition(CALL_LATENCY):
                return True
        return False


def _run(action: PeriodicAction) -> None:
    """Runs an action; one that a limit of the system stops is tried again when it is due next.

    Any other exception ends the loop, and the process with it.
    """
    try:
        action.action()
    except (OSError, MemoryError, RuntimeError) as error:
        if not (limit := limits.explained(error)):
            raise
        log.error("%s: %s", action.name, limit)
