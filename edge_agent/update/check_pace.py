"""How often a repository is asked, though commands over MQTT may come by the thousand."""

import math
import time

# Seconds between the starts of two checks.
LEAST_INTERVAL = 5.0


class CheckPace:
    """Remembers the latest check. It outlives an updater, which a reload or a rollback replaces."""

    def __init__(self) -> None:
        self._began = -math.inf

    def left(self, interval: float) -> float:
        """Seconds until the next check may begin.

        Args:
            interval: of the regular checks, which may be shorter than the least interval.
        """
        return max(0.0, self._began + min(LEAST_INTERVAL, interval) - time.monotonic())

    def began(self) -> None:
        """A check begins."""
        self._began = time.monotonic()
