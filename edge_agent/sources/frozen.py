"""Notices a camera that hangs and gives its last frame again and again."""

import time
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frame = NDArray[np.uint8] | bytes


class FrozenFrameDetector:
    """Detects a capture that returns the same frame for ever, also across reopening.

    Args:
        name: of the source, for messages.
        timeout: seconds.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self._name = name
        self._timeout = timeout
        self._last: Frame | None = None
        self._since = 0.0
        self._is_frozen = False

    def opened(self) -> None:
        """Called when the capture has been opened, for the first time or again."""
        self._since = time.monotonic()

    def passes(self, frame: "Frame") -> bool:
        """Whether a frame is new: False for the one at which the capture had frozen before it was reopened.

        Args:
            frame: (height, width, 3) or (height, width), uint8; or an encoded picture.

        Raises:
            SourceError: all frames of the last `timeout` seconds were identical.
        """
        now = time.monotonic()
        if self._last is None or _differ(frame, self._last):
            self._last, self._since, self._is_frozen = frame, now, False
        elif now - self._since > self._timeout:
            self._is_frozen = True
            raise SourceError(f"{self._name}: the same frame again and again for {self._timeout:g} s")
        return not self._is_frozen


def _differ(frame: "Frame", other: "Frame") -> bool:
    if isinstance(frame, bytes) or isinstance(other, bytes):
        return bool(frame != other)
    # The noise of a real camera shows in a few pixels; all of them are compared only if these are equal.
    sparse = slice(None, None, 16)
    return not (np.array_equal(frame[sparse, sparse], other[sparse, sparse]) and np.array_equal(frame, other))
