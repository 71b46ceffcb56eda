"""Readings that arrive as lines on a serial port, through pyserial."""

import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_agent import settings
from edge_agent.errors import MissingExtraError, SourceError
from edge_agent.samples import Sample
from edge_agent.sources import Context
from edge_agent.sources.lines import Csv, Json, Lines
from edge_agent.sources.reader import Reader
from edge_agent.sources.streams import SampleBuilder

if TYPE_CHECKING:
    from serial import Serial

log = logging.getLogger(__name__)

# How often a quiet port is checked for `stopping`, in seconds.
_POLL = 0.2
_CHUNK = 65536


class SerialLine:
    """Readings of a serial port."""

    live = True

    def __init__(self, source: settings.SerialSource) -> None:
        self.name = f"serial {source.port}"
        self.stall_timeout = source.stall_timeout
        self._settings = source
        self._broken = False

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """Readings as they arrive; those that arrive together are one sample."""
        options = self._settings
        lines = Lines(
            Json() if options.format == "jsonl" else Csv(), options.channels, options.rate, begins_anywhere=True
        )
        samples_of = SampleBuilder({"port": options.port}, broken=self._broken)
        self._broken = True
        with self._open() as port:
            log.debug("%s: opened at %d baud", self.name, options.baud)
            while not stopping.is_set():
                try:
                    # Wait for one byte, then take all that have arrived.
                    data = port.read(1)
                    data += port.read(min(port.in_waiting, _CHUNK))
                except OSError as error:
                    raise SourceError(f"{self.name}: can't be read any more: was it unplugged? ({error})") from None
                yield from samples_of(lines.feed(data))

    def _open(self) -> "Serial":
        try:
            from serial import Serial
        except ImportError as error:
            raise MissingExtraError(f"{self.name}: reading a serial port", "serial", error) from None
        try:
            return Serial(self._settings.port, self._settings.baud, timeout=_POLL, exclusive=True)
        except (ValueError, OSError) as error:
            raise SourceError(f"{self.name}: can't be opened: {_why(error)}") from None


def _why(error: Exception) -> str:
    match getattr(error, "errno", None):
        case 2:
            return "there is no such port: is the device plugged in?"
        case 11 | 16:
            return "it is in use by another program"
        case 13:
            return "not permitted: add this user to the group `dialout`"
    return str(error)


def create(source: settings.SerialSource, context: Context) -> Reader:  # noqa: ARG001 - every source is created alike
    """The source for the settings."""
    return Reader(SerialLine(source))
