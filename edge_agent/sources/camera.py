"""V4L2 cameras, through OpenCV."""

import threading
from collections.abc import Iterator
from pathlib import Path

from edge_agent import settings
from edge_agent.errors import SourceError
from edge_agent.opencv import cv2
from edge_agent.samples import Sample
from edge_agent.sources import Context
from edge_agent.sources.reader import Reader
from edge_agent.sources.video import FrozenPicture, stream

SYSFS = Path("/sys/class/video4linux")


class Camera:
    """Frames of a camera as they come."""

    live = True

    def __init__(self, source: settings.CameraSource) -> None:
        self.name = f"camera {source.device}"
        self.stall_timeout = source.stall_timeout
        self._settings = source
        self._frozen = FrozenPicture(self.name, source.stall_timeout)

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """One sample a frame."""
        path = find_device(self._settings.device)
        capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        try:
            if not capture.isOpened():
                raise SourceError(f"{self.name}: {path} can't be opened: {_why_not(Path(path))}")
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not the oldest of a queue
            for key, value in (
                (cv2.CAP_PROP_FRAME_WIDTH, self._settings.width),
                (cv2.CAP_PROP_FRAME_HEIGHT, self._settings.height),
                (cv2.CAP_PROP_FPS, self._settings.fps),
            ):
                if value is not None:
                    capture.set(key, value)
            yield from stream(capture, self.name, self._settings.fps, self._frozen, stopping)
        finally:
            capture.release()


def find_device(device: int | str, sysfs: Path = SYSFS) -> str:
    """The /dev path of a camera given by number, path, or part of its name.

    Raises:
        SourceError: there is none of that name; names those that there are.
    """
    if isinstance(device, int) or device.isdigit():
        return f"/dev/video{device}"
    if device.startswith("/"):
        return device
    names = {entry.name: (entry / "name").read_text(errors="replace").strip() for entry in _nodes(sysfs)}
    matching = [f"/dev/{entry}" for entry, name in names.items() if device.lower() in name.lower()]
    if not matching:
        known = ", ".join(f"/dev/{entry} ({name})" for entry, name in names.items()) or "none"
        raise SourceError(f"camera {device!r}: no camera has this name; there is: {known}")
    return matching[0]  # one camera often has several nodes, the first of which gives pictures


def _nodes(sysfs: Path) -> list[Path]:
    """In the order of their numbers."""
    return sorted(sysfs.glob("video*"), key=lambda entry: (len(entry.name), entry.name))


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
    return Reader(Camera(source))
