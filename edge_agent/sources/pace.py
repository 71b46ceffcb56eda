"""How often frames of a stream are taken, and whether keyframes alone come as often."""

# A keyframe that is late by this share of the interval is not waited for any longer.
_LATE = 0.5
# Frames for which the keyframes suffice may come a little more seldom than they are asked for.
_SLACK = 1.05
# Seconds that two moments may differ by rounding.
_EXACT = 0.001


class KeyframePace:
    """Whether keyframes alone come as often as frames are wanted.

    Args:
        period: seconds from one frame to the next that is wanted; 0: all frames.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._last: float | None = None
        self._interval: float | None = None
        self._usable = True

    def keyframe(self, at: float) -> None:
        """Called when a keyframe comes."""
        if self._last is not None:
            self._interval = at - self._last
        self._last = at

    def is_unusable(self) -> None:
        """Called when a keyframe gives no picture by itself, as where an encoder refreshes them bit by bit."""
        self._usable = False

    def suffices(self, now: float) -> bool:
        """Whether the frames between keyframes need not be decoded."""
        if not self._usable or self._last is None or self._interval is None:
            return False
        return self._interval <= self._period * _SLACK and now - self._last <= self._period * (1 + _LATE)

    @property
    def tolerance(self) -> float:
        """How many seconds before it is due a keyframe is taken, since the next one would be later than that."""
        return 0.0 if self._interval is None else self._interval / 2


class Pace:
    """At most a number of frames a second.

    Args:
        fps: frames a second; None: all.
    """

    def __init__(self, fps: float | None) -> None:
        self.period = 0.0 if fps is None else 1 / fps
        self._due: float | None = None

    def is_due(self, at: float, tolerance: float = 0.0) -> bool:
        """Whether a frame that came at this moment is wanted."""
        return self._due is None or at >= self._due - tolerance - _EXACT

    def take(self, at: float) -> None:
        """Called with the moment of each frame that is taken."""
        due = at if self._due is None else self._due
        self._due = max(due + self.period, at + self.period / 2)
