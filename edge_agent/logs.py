"""Log lines for a terminal or the journal: one an event, and no storms."""

import logging
import os
import sys
import time

_JOURNAL_LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_BURST = 10
_PER_SECONDS = 10.0


class _NoStorms(logging.Filter):
    """Bounds the warnings, of which there may be one for each input.

    Lets through ten from one place in the code, then one every ten seconds that says how many are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        place = (record.pathname, record.lineno)
        now = time.monotonic()
        since, count = self._places.get(place, (now, 0))
        if now - since > _PER_SECONDS:
            if count > _BURST:
                record.msg = f"{record.msg} (and {count - _BURST} more such lines, left out)"
                self._places[place] = (now, _BURST)
                return True
            since, count = now, 0
        self._places[place] = (since, count + 1)
        return count < _BURST


class _Lines(logging.Formatter):
    """One line a record; in the journal with its level in front, on a terminal with the time."""

    def __init__(self) -> None:
        self._journal = "JOURNAL_STREAM" in os.environ
        super().__init__("%(message)s" if self._journal else "%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"<{_JOURNAL_LEVELS.get(record.levelno, 6)}>{text}" if self._journal else text


def set_up(*, debug: bool) -> None:
    """Sends the log to standard error."""
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(_Lines())
    out.addFilter(_NoStorms())
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[out], force=True)
    for noisy in ("amqtt", "transitions", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
