"""V4L2 cameras, through OpenCV."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from edge_agent import settings
from edge_agent.errors import SourceError
from edge_agent.preprocess.opencv import cv2
from edge_agent.samples import Sample
from edge_agent.sources import Context
from edge_agent.sources.frozen import FrozenFrameDetector
from edge_agent.sources.occasional import looked_at
from edge_agent.sources.reader import Reader
from edge_agent.sources.v4l2 import find_device
from edge_agent.sources.video import stream

log = logging.getLogger(__name__)


class Camera:
    """Frames of a camera: (height, width, 3), uint8, BGR."""

    live = True

    def __init__(self, source: settings.CameraSource) -> None:
        self.name = f"camera {source.device}"
        self.stall_timeout = source.stall_timeout
        self._settings = source
        self._frozen = FrozenFrameDetector(self.name, source.stall_timeout)

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """One sample per frame."""
        path = find_device(self._settings.device)
        capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        try:
            if not capture.isOpened():
                raise SourceError(f"{self.name}: {path} can't be opened: {_why_not(Path(path))}")
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not the oldest one in a queue
            for key, value in (
                (cv2.CAP_PROP_FRAME_WIDTH, self._settings.width),
                (cv2.CAP_PROP_FRAME_HEIGHT, self._settings.height),
                (cv2.CAP_PROP_FPS, self._settings.fps),
            ):
                if value is not None:
                    capture.set(key, value)
            width, height = (capture.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            log.debug("%s: opened %s: %g x %g at %g fps", self.name, path, width, height, capture.get(cv2.CAP_PROP_FPS))
            yield from stream(capture, self.name, self._settings.fps, self._frozen, stopping)
        finally:
            capture.release()


def _why_not(path: Path) -> str:
    if not path.exists():
        return "there is no such device: is the camera plugged in?"
    try:
        with path.open("rb"):
            return "it is in use by another program, or gives no pictures (a metadata node?)"
    except OSError as error:
        hint = ": add this user to the group `video`" if isinstance(error, PermissionError) else ""
        return f"{error.strerror}{hint}"


def create(source: settings.CameraSource, context: Context) -> Reader:  # noqa: ARG001 - every source is created alike
    """The source for the settings."""
    return Reader(looked_at(Camera(source), source.every))
