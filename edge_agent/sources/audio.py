"""WAV files of a folder or a glob pattern."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edge_agent import settings
from edge_agent.errors import InputError, SourceError
from edge_agent.samples import Sample, Series
from edge_agent.sources import Context
from edge_agent.sources.images import files
from edge_agent.sources.reader import Reader
from edge_agent.system.home import expand_user
from edge_agent.system.regular_file import open_regular
from edge_agent.timeseries.wav import read_header

ENDINGS = (".wav", ".wave")
# Seconds of sound per sample.
_CHUNK_SECONDS = 0.1


class Audio:
    """Files in the order of their names; in a folder, only those with the suffix of a WAV file."""

    live = False
    stall_timeout = 0.0

    def __init__(self, pattern: str) -> None:
        self.name = f"audio {pattern}"
        self._pattern = pattern

    def samples(self, stopping: threading.Event) -> Iterator[Sample]:
        """Chunks of a tenth of a second. The first one of each file is marked as following a gap."""
        paths = files(self._pattern, ENDINGS)
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
    """Reads a WAV file in chunks (samples, channels), float32, full scale -1 to 1; an error where it can't be read."""
    try:
        with open_regular(path) as file:
            yield from read_open(file, os.fstat(file.fileno()).st_size, str(path))
    except OSError as error:
        yield InputError(f"{path}: can't be read: {error.strerror}")


def read_open(file: BinaryIO, length: int, name: str) -> Iterator[Series | InputError]:
    """See `read`, for an open file of a length in bytes; the name is for messages."""
    try:
        header = read_header(file, length)
        chunk_bytes = max(1, round(header.rate * _CHUNK_SECONDS)) * header.block
        left, gap = header.size, True
        while data := file.read(chunk_bytes if left is None else min(chunk_bytes, left)):
            whole = len(data) - len(data) % header.block
            if whole:
                yield Series(header.samples(data[:whole]), rate=header.rate, gap=gap)
                gap = False
            left = None if left is None else left - len(data)
        if left:
            yield InputError(f"{name}: is cut off: {left} of {header.size} bytes of sound are missing")
    except InputError as error:
        yield InputError(f"{name}: {error}")


def create(source: settings.AudioSource, context: Context) -> Reader:
    """The source for the settings."""
    return Reader(Audio(str(context.folder / expand_user(source.path))))
