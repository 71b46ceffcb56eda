"""Sound files (WAV) of a folder or a glob pattern."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edge_agent import settings
from edge_agent.errors import InputError, SourceError
from edge_agent.samples import Sample, Series
from edge_agent.sources import Context
from edge_agent.sources.images import files
from edge_agent.sources.reader import Reader
from edge_agent.timeseries.wav import pcm, read_header

_ENDINGS = {".wav", ".wave"}
# Seconds of sound that come at a time.
_AT_A_TIME = 0.1


class Audio:
    """The files in the order of their names; of a folder only those whose names end like a WAV file's."""

    live = False
    stall_timeout = 0.0

    def __init__(self, pattern: str) -> None:
        self.name = f"audio {pattern}"
        self._pattern = pattern

    def samples(self, stopping: threading.Event) -> Iterator[Sample]:
        """A tenth of a second of sound at a time; the first of each file comes after a gap."""
        paths = files(self._pattern, _ENDINGS)
        if not paths:
            raise SourceError(f"{self.name}: there is no WAV file")
        for path in paths:
            position = 0.0
            for data in read(path):
                origin = {"path": str(path), "position_s": round(position, 3)}
                yield Sample(data, captured_at=time.time(), captured=time.monotonic(), origin=origin)
                if isinstance(data, Series) and data.rate:
                    position += len(data.values) / data.rate
                if stopping.is_set():
                    return


def read(path: Path) -> Iterator[Series | InputError]:
    """The sound of a WAV file, full scale -1 to 1; an error where it can't be read (any more)."""
    try:
        with path.open("rb") as file:
            header = read_header(file)
            at_a_time = max(1, round(header.rate * _AT_A_TIME)) * header.block
            left, gap = header.size, True
            while data := file.read(at_a_time if left is None else min(at_a_time, left)):
                whole = len(data) - len(data) % header.block
                if whole:
                    values = pcm(data[:whole], header.sample_format, header.channels)
                    yield Series(values, rate=header.rate, gap=gap)
                    gap = False
                left = None if left is None else left - len(data)
            if left:
                yield InputError(f"{path}: is cut off: {left} of {header.size} bytes of sound are missing")
    except InputError as error:
        yield InputError(f"{path}: {error}")
    except OSError as error:
        yield InputError(f"{path}: can't be read: {error.strerror}")


def create(source: settings.AudioSource, context: Context) -> Reader:
    """The source for the settings."""
    return Reader(Audio(str(context.folder / Path(source.path).expanduser())))
