"""Sound from ALSA, recorded by the program `arecord`, which all distributions have."""

import shutil
import threading
from collections.abc import Iterator

from edge_agent import settings
from edge_agent.errors import SourceError
from edge_agent.samples import Sample
from edge_agent.sources import Context
from edge_agent.sources.command import Command
from edge_agent.sources.reader import Reader
from edge_agent.timeseries.wav import Pcm

# ALSA's period and buffer, in microseconds.
_PERIOD, _BUFFER = 50_000, 1_000_000


class Microphone:
    """Sound of a microphone, as it arrives."""

    live = True

    def __init__(self, source: settings.MicrophoneSource, context: Context) -> None:
        self.name = f"microphone {source.device}"
        self.stall_timeout = source.stall_timeout
        options = {"-t": "raw", "-f": "S16_LE", "-r": source.rate, "-c": source.channels, "-D": source.device}
        options |= {"-F": _PERIOD, "-B": _BUFFER}
        self._command = Command(
            ("arecord", "-q", *(str(part) for option in options.items() for part in option)),
            context.folder,
            self.name,
            {"device": source.device},
            lambda: Pcm("s16le", source.rate, source.channels),
            live=True,
            stall_timeout=source.stall_timeout,
        )

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """Chunks of about 50 ms: (samples, channels), full scale -1 to 1."""
        if shutil.which("arecord") is None:
            raise SourceError(f"{self.name}: the program arecord is missing: apt-get install alsa-utils")
        yield from self._command.samples(stopping)


def create(source: settings.MicrophoneSource, context: Context) -> Reader:
    """The source for the settings."""
    return Reader(Microphone(source, context))
