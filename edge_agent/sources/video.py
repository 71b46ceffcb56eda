"""Video files, and streams over RTSP or HTTP: through OpenCV, or through PyAV where it is installed (streams only)."""

import importlib.util
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_agent import settings
from edge_agent.errors import InputError, SourceError
from edge_agent.preprocess.opencv import cv2
from edge_agent.samples import Sample
from edge_agent.sources import Context
from edge_agent.sources.frozen import FrozenFrameDetector
from edge_agent.sources.http_pictures import HttpPictures, SinglePictureError, open_pictures
from edge_agent.sources.occasional import looked_at
from edge_agent.sources.reader import Reader
from edge_agent.sources.rtsp import why_no_stream
from edge_agent.system.address import without_credentials
from edge_agent.system.home import expand_user

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.sources.watch import WatchAll

    Frame = NDArray[np.uint8] | bytes

log = logging.getLogger(__name__)

_OPEN_TIMEOUT_MS = 10_000
_FALLBACK_FPS = 25.0
# A file with fewer frames than this fraction of the number in its header is truncated. The number may be an estimate.
_MIN_COMPLETE = 0.95


class Video:
    """Frames of a file at a chosen rate, or of a stream: (height, width, 3), uint8, BGR.

    Args:
        url: path of a file, or address of a stream.
        name: for messages.
        fps: `source`, `max`, or frames per second.
        loop: whether a file starts again at its end.
        live: whether it is a stream.
        stall_timeout: seconds; see `Readable`.
        paced: whether the frames of a file come as fast as it plays, unless `fps` is `max`.
        watch: reads the packets of a stream; None: OpenCV reads its frames.
    """

    def __init__(
        self,
        url: str,
        name: str,
        fps: Literal["source", "max"] | float,
        stall_timeout: float,
        *,
        loop: bool,
        live: bool,
        paced: bool = True,
        watch: "WatchAll | None" = None,
    ) -> None:
        self.name = name
        self.live = live
        self.stall_timeout = stall_timeout
        self._url = url
        self._fps = fps
        self._loop = loop
        self._watch = watch
        self._paced = paced and fps != "max"
        self._frozen = FrozenFrameDetector(name, stall_timeout)

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """One sample per frame; `origin` has the frame's number and, for a file, its position in seconds."""
        if self.live:
            yield from self._stream(stopping)
            return
        capture = self._open()
        try:
            yield from self._file(capture, stopping)
        finally:
            capture.release()

    def _stream(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """The frames of a stream, or a snapshot that is fetched again and again."""
        fps = None if isinstance(self._fps, str) else self._fps
        number = 0
        while not stopping.is_set():
            began, capture = time.monotonic(), self._open()
            try:
                if self._watch is None or isinstance(capture, HttpPictures):
                    yield from stream(capture, self.name, fps, self._frozen, stopping, number)
                else:
                    yield from self._watch.samples(capture, stopping)
            except SinglePictureError:
                if fps is None:
                    raise
                number += 1
                while (left := began + 1 / fps - time.monotonic()) > 0:
                    if stopping.wait(min(left, self.stall_timeout / 2)):
                        return
                    yield None
            finally:
                capture.release()

    def _open(self) -> Any:
        if not self.live and _is_text(Path(self._url)):
            raise SourceError(f"{self.name}: is a text file, not a video")  # FFmpeg would render the text as a video
        hint = ""
        if self._url.startswith(("http://", "https://")):
            found = open_pictures(self._url, self.name, self.stall_timeout)
            if isinstance(found, HttpPictures) and self._watch is not None and self._watch.needs_packets:
                found.release()
                why = "sends pictures that each stand by themselves: leave out `watch`, and use `gate` alone"
                raise SourceError(f"{self.name}: {why}")
            if isinstance(found, HttpPictures):
                log.debug("%s: opened: JPEG pictures over HTTP", self.name)
                return found
            hint = found.hint
        if self._watch is not None:
            return self._watch.open(self._url, self.stall_timeout, hint)
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(self.stall_timeout * 1000)]
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, timeouts if self.live else [])
        if not capture.isOpened():
            capture.release()
            why = "can't be opened as a video"
            if self.live:
                why = hint or why_no_stream(self._url, self.name)
            raise SourceError(f"{self.name}: {why}")
        log.debug("%s: opened", self.name)
        return capture

    def _file(self, capture: Any, stopping: threading.Event) -> Iterator[Sample]:
        native = capture.get(cv2.CAP_PROP_FPS)
        native = native if 0 < native <= 1000 else _FALLBACK_FPS  # noqa: PLR2004 - a header may claim anything
        wanted = self._fps if isinstance(self._fps, float) else native
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        started, taken, number, read_any, earlier = time.monotonic(), 0, 0, False, 0.0
        while not stopping.is_set():
            if not capture.grab():
                if not (self._loop and read_any and capture.set(cv2.CAP_PROP_POS_FRAMES, 0)):
                    break
                earlier += number / native
                number, taken, started, read_any = 0, 0, time.monotonic(), False
                continue
            read_any = True
            position = number / native
            number += 1
            if position * wanted < taken - 1e-6:
                continue  # fewer frames per second are wanted than the file has
            taken += 1
            if self._paced and stopping.wait(max(0.0, started + position - time.monotonic())):
                break
            origin = {"url": self.name, "frame": number, "position_s": round(position, 3)}
            yield _sample(_retrieve(capture, self.name, number), origin, earlier + position)
        if stopping.is_set():
            return
        if number == 0:
            raise SourceError(f"{self.name}: has no frame that can be read")
        if number < count * _MIN_COMPLETE:
            log.warning("%s: ends after %d of %d frames: is the file cut off?", self.name, number, count)


def stream(
    capture: Any,
    name: str,
    fps: float | None,
    frozen: FrozenFrameDetector,
    stopping: threading.Event,
    number: int = 0,
) -> Iterator[Sample | None]:
    """Frames of an open capture, at most `fps` per second; None in place of a skipped frame.

    Args:
        capture: a `cv2.VideoCapture`, or `HttpPictures`.
        name: for messages.
        fps: see above; None: all.
        frozen: looks for a capture that hangs.
        stopping: ends it.
        number: of the frame before the first one.

    Raises:
        SourceError: a read has failed, or the frame is frozen.
    """
    frozen.opened()
    due, any_taken = time.monotonic(), False
    while not stopping.is_set():
        if not capture.grab():
            raise SourceError(f"{name}: no frame can be read any more")
        number += 1
        now = time.monotonic()
        if fps is not None:
            if now < due:
                if any_taken:
                    yield None
                continue
            due = max(due + 1 / fps, now)
        frame = _retrieve(capture, name, number)
        if isinstance(frame, InputError) or frozen.passes(frame):
            any_taken = True
            yield _sample(frame, {"url": name, "frame": number})


def _retrieve(capture: Any, name: str, number: int) -> "Frame | InputError":
    ok, frame = capture.retrieve()
    if not ok:
        return InputError(f"{name}: frame {number} can't be decoded")
    return frame if isinstance(frame, bytes) else np.asarray(frame, np.uint8)


def _sample(data: "Frame | InputError", origin: dict[str, Any], played: float | None = None) -> Sample:
    return Sample(data, captured_at=time.time(), captured=time.monotonic(), origin=origin, played=played)


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False  # opening it as a video fails as well
    # All formats except this one have a zero in their first bytes.
    return bool(head) and b"\0" not in head and not head.startswith(b"YUV4MPEG2")


def create(source: settings.VideoSource, context: Context) -> Reader:
    """The source for the settings."""
    url = source.url
    if not source.live:
        url = str(context.folder / expand_user(url.removeprefix("file://")))
    name = without_credentials(url) if source.live else url
    options = {"loop": source.loop, "live": source.live}
    # A server that sends single pictures needs a rate at which they are fetched.
    fps = 2.0 if source.every is not None and source.fps == "source" else source.fps
    video = Video(url, name, fps, source.stall_timeout, watch=_watch(source, name, context), **options)
    return Reader(looked_at(video, source.every))


def _watch(source: settings.VideoSource, name: str, context: Context) -> "WatchAll | None":
    """What reads the packets of a stream, where the extra is installed."""
    if not source.live or importlib.util.find_spec("av") is None:
        return None
    from edge_agent.sources import watch

    return watch.watch(name, source, context)
