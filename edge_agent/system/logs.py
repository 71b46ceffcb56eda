"""Log lines for a terminal, the journal or a program; repeated warnings are limited in rate."""

import json
import logging
import os
import sys
import time
from collections import deque
from typing import Any, Literal, TextIO

from edge_agent.samples import timestamp
from edge_agent.system import limits
from edge_agent.system.address import without_credentials
from edge_agent.system.terminal import printable

Format = Literal["text", "json"]

# https://www.freedesktop.org/software/systemd/man/sd-daemon.html
_JOURNAL_LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
# What messages say of exceptions that nothing was prepared for.
DEFECT = "a defect in edge-agent"
# Lines that are kept in memory for the remote command `logs`, and characters of one.
MAX_RECENT, MAX_LINE = 500, 500
_BURST = 10
_PER_SECONDS = 10.0


class _RateLimit(logging.Filter):
    """Limits the rate of warnings and exceptions, of which there may be one for each input.

    Passes ten from the same place in the code and for the same pipeline, then one every ten seconds with the number of
    those that were left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING and not record.exc_info:
            return True
        place = (record.pathname, record.lineno, _pipeline_of(record))
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


class _Limits(logging.Filter):
    """Names the limit of the system that has led to an exception, in place of a traceback: it is no defect."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and (why := limits.explained(error)):
            record.msg, record.args = record.getMessage().replace(DEFECT, why), ()
            record.exc_info = record.exc_text = None
        return True


def _pipeline_of(record: logging.LogRecord) -> str:
    """Which pipeline a record is about; "" if it is about none."""
    return str(getattr(record, "pipeline", ""))


class _Lines(logging.Formatter):
    """A line with time, level and text; for the journal, which adds the time, with its prefix for the level."""

    def __init__(self, *, journal: bool) -> None:
        self._journal = journal
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in the standard library
        record.message = printable(record.message)  # a line break in it would look like another event
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return _marked(super().format(record), record, journal=self._journal)


class _Json(logging.Formatter):
    """One JSON object a record."""

    def __init__(self, *, journal: bool) -> None:
        self._journal = journal
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if pipeline := _pipeline_of(record):
            document["pipeline"] = pipeline
        document["message"] = record.getMessage()
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return _marked(json.dumps(document), record, journal=self._journal)


def _marked(text: str, record: logging.LogRecord, *, journal: bool) -> str:
    """With the journal's prefix for the level in front of every line."""
    if not journal:
        return text
    mark = f"<{_JOURNAL_LEVELS.get(record.levelno, 6)}>"
    return mark + text.replace("\n", f"\n{mark}")


def _is_journal() -> bool:
    """Whether standard error is the journal: processes that write elsewhere inherit the variable, too."""
    stated = os.environ.get("JOURNAL_STREAM", "")
    try:
        stat = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return stated == f"{stat.st_dev}:{stat.st_ino}"


class _StandardError(logging.StreamHandler[TextIO]):
    """Standard error by a duplicate descriptor: the original is redirected while a runtime's output is suppressed."""

    def __init__(self) -> None:
        handle = os.dup(sys.stderr.fileno())
        super().__init__(os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace"))

    def close(self) -> None:
        super().close()
        self.stream.close()


class RecentLines(logging.Filter):
    """Keeps the latest lines that have passed the other filters, for the command `logs`.

    Addresses are without user name, password and query.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=MAX_RECENT)

    def filter(self, record: logging.LogRecord) -> bool:
        """Passes every record; keeps those from level `info`."""
        if record.levelno >= logging.INFO:
            text = printable(record.getMessage()[: 10 * MAX_LINE])
            words = [without_credentials(word) if "://" in word else word for word in text.split(" ")]
            line = f"{timestamp(record.created)} {record.levelname.lower()} {' '.join(words)}"
            self._lines.append(line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…")
        return True

    def last(self, count: int) -> list[str]:
        """The latest lines, the oldest first."""
        return list(self._lines)[-count:]


RECENT = RecentLines()


def _out() -> logging.StreamHandler[TextIO]:
    try:
        return _StandardError()
    except (OSError, ValueError, AttributeError):  # it is not a file, or was closed before the start
        return logging.StreamHandler(sys.stderr)


def set_up(*, debug: bool, form: Format = "text") -> None:
    """Sends the log to standard error."""
    out = _out()
    out.setFormatter((_Json if form == "json" else _Lines)(journal=_is_journal()))
    out.addFilter(_RateLimit())
    out.addFilter(_Limits())
    out.addFilter(RECENT)  # the last one
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[out], force=True)
    for noisy in ("amqtt", "transitions", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
