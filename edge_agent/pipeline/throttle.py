"""Which frames of a live source are taken while the device is slowed down because of its temperature."""

from collections.abc import Callable

# Frame intervals that are averaged.
_INTERVALS = 8


class Throttle:
    """Limits the work of a live source to a share of what it would be. Frames must come in order, from one thread.

    The share is one of work, not of frames: a model that is slower than its camera would have no less to do if every
    second frame were left out.

    Args:
        factor: returns the share of the work that is allowed now, above 0 to 1.
    """

    def __init__(self, factor: Callable[[], float]) -> None:
        self._factor = factor
        self._last: float | None = None
        self._interval = self._due = self._spent = 0.0

    def admits(self, captured: float) -> bool:
        """Whether a frame may be worked on.

        Args:
            captured: when it was taken, in seconds on the monotonic clock.
        """
        interval = 0.0 if self._last is None else captured - self._last
        self._last = captured
        # A mean over several, in which an interruption of the source counts little.
        step = (min(interval, 2 * self._interval) - self._interval) / _INTERVALS
        self._interval = self._interval + step if self._interval else interval
        factor = self._factor()
        if factor < 1 and captured < self._due:
            return False
        # Half an interval early, because frames do not come exactly on time.
        self._due = captured + max(self._interval, self._spent) / factor - self._interval / 2
        return True

    def spent(self, seconds: float) -> None:
        """Records how long the latest frame was worked on."""
        self._spent = seconds
