"""Programs whose standard output is a stream of pictures, sound or readings."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.errors import SourceError
from edge_agent.samples import Sample
from edge_agent.sources import Context
from edge_agent.sources.child import Child
from edge_agent.sources.reader import Reader
from edge_agent.sources.streams import SampleBuilder, StreamFormat

# Between the end of a program's output and the end of the program.
_LAST_WORDS = 1.0
_LONGEST_PAUSE = 0.1


class Command:
    """What a program writes.

    Args:
        argv: the program and its arguments.
        folder: where it is run.
        name: for messages; without the arguments, which may hold passwords.
        origin: facts about where the stream comes from.
        fresh: makes what reads a stream of its format.
        live: it is started again when it ends, and read no faster than anything real writes.
        stall_timeout: seconds; see `Readable`.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        folder: Path,
        name: str,
        origin: Mapping[str, Any],
        fresh: Callable[[], StreamFormat],
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
        self._fresh = fresh
        self._broken = False
        self._alone = threading.Lock()

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """Pictures one by one; readings and sound as they come."""
        # A run that is given up takes a moment to end, and the next may want the same camera.
        with self._alone:
            if stopping.is_set():
                return
            child = Child(self._argv, self._folder, self.name)
            stream = self._fresh()
            samples_of = SampleBuilder(self._origin, broken=self._broken)
            self._broken = True
            code = None
            try:
                due = time.monotonic()
                for data in child.read(stopping.is_set):
                    yield from samples_of(stream.feed(data))
                    if self.live:
                        due = max(due, time.monotonic()) + len(data) / stream.max_bytes_per_second
                        if (early := due - time.monotonic()) > _LONGEST_PAUSE:
                            stopping.wait(early)
                if not stopping.is_set():
                    yield from samples_of(stream.end())
                    code = child.stop(_LAST_WORDS)
            finally:
                child.stop()
            if not stopping.is_set() and (self.live or code != 0):
                raise SourceError(f"{self.name}: {_in_words(code)}")


def _in_words(code: int | None) -> str:
    """How a program ended; see `Child.stop`."""
    if code is None:
        return "has closed its output"
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


def stream_format_of(source: settings.CommandSource) -> StreamFormat:
    """A fresh one of what the settings say."""
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
    return Reader(
        Command(
            source.argv,
            context.folder,
            f"{pipeline}: command {program}",
            {"command": program},
            lambda: stream_format_of(source),
            live=source.restart == "always",
            stall_timeout=source.stall_timeout,
        )
    )
