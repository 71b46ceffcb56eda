"""Programs whose standard output is a stream of images, sound or readings."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.errors import SourceError
from edge_agent.samples import Sample
from edge_agent.sources import Context
from edge_agent.sources.child import Child, in_words
from edge_agent.sources.occasional import looked_at
from edge_agent.sources.reader import Reader
from edge_agent.sources.streams import SampleBuilder, StreamFormat

log = logging.getLogger(__name__)

# Seconds from the end of a program's output to the end of the program.
_END_PATIENCE = 1.0
# A live source is paused only when it is ahead by more than this many seconds.
_MAX_AHEAD = 0.1


class Command:
    """The output of a program.

    Args:
        argv: the program and its arguments.
        folder: its working directory.
        name: for messages; without the arguments, which may hold passwords.
        origin: published with each sample.
        new_format: makes a parser for the stream; called at each start of the program.
        live: whether it is started again when it ends, and read at a limited rate.
        stall_timeout: seconds; see `Readable`.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        folder: Path,
        name: str,
        origin: Mapping[str, Any],
        new_format: Callable[[], StreamFormat],
        *,
        live: bool,
        stall_timeout: float,
    ) -> None:
        self.name = name
        self.live = live
        self.stall_timeout = stall_timeout
        self._argv = argv
        self._folder = folder
        self._origin = origin
        self._new_format = new_format
        self._broken = False
        self._alone = threading.Lock()

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """Images one by one; readings and sound in chunks, as they arrive."""
        # A program that is stopped takes a moment to end, and the next one may use the same camera.
        with self._alone:
            if stopping.is_set():
                return
            child = Child(self._argv, self._folder, self.name)
            log.debug("%s: started as process %d", self.name, child.pid)
            stream = self._new_format()
            samples_of = SampleBuilder(self._origin, broken=self._broken)
            self._broken = True
            code = None
            try:
                due = time.monotonic()
                for data in child.read(stopping.is_set):
                    yield from samples_of(stream.feed(data))
                    if self.live:
                        due = max(due, time.monotonic()) + len(data) / stream.max_bytes_per_second
                        if (early := due - time.monotonic()) > _MAX_AHEAD:
                            stopping.wait(early)
                if not stopping.is_set():
                    yield from samples_of(stream.end())
                    code = child.stop(_END_PATIENCE)
            finally:
                child.stop()
            log.debug("%s: %s", self.name, in_words(code))
            if not stopping.is_set() and (self.live or code != 0):
                raise SourceError(f"{self.name}: {in_words(code)}")


def stream_format_of(source: settings.CommandSource) -> StreamFormat:
    """A new parser for the format in the settings."""
    channels = source.channels
    match source.format:
        case "mjpeg":
            from edge_agent.sources.mjpeg import Mjpeg

            return Mjpeg()
        case "raw":
            from edge_agent.sources.raw_video import RawVideo

            return RawVideo(source.width or 0, source.height or 0, source.pixel_format or "")
        case "pcm":
            from edge_agent.timeseries.wav import Pcm

            return Pcm(source.sample_format or "s16le", source.rate or 0, channels if isinstance(channels, int) else 1)
        case "jsonl" | "csv":
            from edge_agent.sources.lines import Csv, Json, Lines

            parser = Json() if source.format == "jsonl" else Csv()
            return Lines(parser, channels if isinstance(channels, tuple) else None, source.rate)


def create(source: settings.CommandSource, context: Context) -> Reader:
    """The source for the settings."""
    pipeline, program = context.topic.rpartition("/")[2], Path(source.argv[0]).name
    every = source.every if source.format in ("mjpeg", "raw") else None
    return Reader(
        looked_at(
            Command(
                source.argv,
                context.folder,
                f"{pipeline}: command {program}",
                {"command": program},
                lambda: stream_format_of(source),
                live=source.restart == "always",
                stall_timeout=source.stall_timeout,
            ),
            every,
        )
    )
