"""Video files, and streams over RTSP or HTTP, through OpenCV."""

import os
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2  # noqa: E402 - reads the variables above when it is loaded

from edge_agent import settings  # noqa: E402
from edge_agent.errors import SourceError  # noqa: E402
from edge_agent.samples import Sample  # noqa: E402
from edge_agent.sources import Context  # noqa: E402
from edge_agent.sources.reader import Reader  # noqa: E402

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OPEN_TIMEOUT_MS = 10_000
_FALLBACK_FPS = 25.0


class FrozenPicture:
    """Notices a capture that returns the same frame for ever.

    Args:
        timeout: seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._last = 0
        self._since = time.monotonic()

    def is_frozen(self, frame: "NDArray[np.uint8]") -> bool:
        """Whether all frames of the last `timeout` seconds were the same, bit by bit, on a grid of points."""
        now, fingerprint = time.monotonic(), zlib.crc32(frame[::8, ::8].tobytes())
        if fingerprint != self._last:
            self._last, self._since = fingerprint, now
        return now - self._since > self._timeout


class Video:
    """Frames of a file at a chosen pace, or of a stream as they come.

    Args:
        url: a file's path, or an address.
        name: for messages.
        fps: `source`, `max`, or frames a second.
        loop: start a file again at its end.
        live: it is a stream.
        stall_timeout: seconds; see `Readable`.
    """

    def __init__(
        self, url: str, name: str, fps: Literal["source", "max"] | float, stall_timeout: float, *, loop: bool, live: bool
    ) -> None:
        self.name = name
        self.live = live
        self.stall_timeout = stall_timeout
        self._url = url
        self._fps = fps
        self._loop = loop

    def samples(self, stopping: threading.Event) -> Iterator[Sample]:
        """One sample a frame; `origin` has the frame's number and, for a file, its position in seconds."""
        capture = self._open()
        try:
            yield from self._stream(capture) if self.live else self._file(capture, stopping)
        finally:
            capture.release()

    def _open(self) -> Any:
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(self.stall_timeout * 1000)]
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, timeouts) if self.live else cv2.VideoCapture(self._url)
        if not capture.isOpened():
            capture.release()
            raise SourceError(f"{self.name}: can't be opened as a video")
        return capture

    def _file(self, capture: Any, stopping: threading.Event) -> Iterator[Sample]:
        native = capture.get(cv2.CAP_PROP_FPS)
        native = native if 0 < native <= 1000 else _FALLBACK_FPS  # noqa: PLR2004 - a header may claim anything
        wanted = self._fps if isinstance(self._fps, float) else native
        started, shown, number, read_any = time.monotonic(), 0, 0, False
        while not stopping.is_set():
            if not capture.grab():
                if not (self._loop and read_any and capture.set(cv2.CAP_PROP_POS_FRAMES, 0)):
                    break
                number, shown, started, read_any = 0, 0, time.monotonic(), False
                continue
            read_any = True
            position = number / native
            number += 1
            if position * wanted < shown - 1e-6:
                continue  # fewer frames a second are wanted than the file has
            shown += 1
            if self._fps != "max" and stopping.wait(max(0.0, started + position - time.monotonic())):
                break
            ok, frame = capture.retrieve()
            if ok:
                yield _sample(frame, {"url": self.name, "frame": number, "position_s": round(position, 3)})
        if number == 0 and not stopping.is_set():
            raise SourceError(f"{self.name}: has no frame that can be read")

    def _stream(self, capture: Any) -> Iterator[Sample]:
        yield from stream(capture, self.name, None if isinstance(self._fps, str) else self._fps, self.stall_timeout)


def stream(capture: Any, name: str, fps: float | None, stall_timeout: float) -> Iterator[Sample]:
    """Frames of an open capture as they come, at most `fps` a second, until it fails or freezes.

    Raises:
        SourceError: a read has failed, or the picture is frozen.
    """
    frozen = FrozenPicture(stall_timeout)
    number, due = 0, time.monotonic()
    while True:
        if not capture.grab():
            raise SourceError(f"{name}: no frame can be read any more")
        number += 1
        now = time.monotonic()
        if fps is not None:
            if now < due:
                continue
            due = max(due + 1 / fps, now)
        ok, frame = capture.retrieve()
        if not ok:
            raise SourceError(f"{name}: a frame can't be decoded")
        if frozen.is_frozen(frame):
            raise SourceError(f"{name}: the same frame again and again for {stall_timeout:g} s")
        yield _sample(frame, {"url": name, "frame": number})


def _sample(frame: "NDArray[np.uint8]", origin: dict[str, Any]) -> Sample:
    return Sample(frame, captured_at=time.time(), captured=time.monotonic(), origin=origin)


def without_credentials(url: str) -> str:
    """The address without user name, password and query, which may hold keys."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def create(source: settings.VideoSource, context: Context) -> Reader:
    """The source for the settings."""
    url = source.url
    if not source.live:
        url = str(context.folder / Path(url.removeprefix("file://")).expanduser())
    name = without_credentials(url) if source.live else url
    return Reader(Video(url, name, source.fps, source.stall_timeout, loop=source.loop, live=source.live))
