"""Encoded clips, made by ffmpeg, for the streams that tests serve."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from edge_agent.errors import SourceError
from edge_agent.sources.packets import Arrival, PacketStream

FPS = 25
GOP = 25
# What a camera may send, as options of the encoder; one keyframe a second.
CODECS = {
    "H.264": ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", str(GOP), "-sc_threshold", "0"),
    "H.264, B-frames, open groups": (
        *("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0"),
        *("-x264-params", f"bframes=3:b-adapt=0:open-gop=1:keyint={GOP}:min-keyint={GOP}"),
    ),
    "H.265, B-frames, open groups": (
        *("-c:v", "libx265", "-preset", "ultrafast"),
        *("-x265-params", f"bframes=3:b-adapt=0:open-gop=1:keyint={GOP}:scenecut=0:log-level=none"),
    ),
    "Motion JPEG": ("-c:v", "mjpeg"),
}


def make_clip(path: Path, codec: str = "H.264", *, seconds: float = 2.0, size: str = "320x240") -> Path:
    """A clip with a picture that changes all the time."""
    program = shutil.which("ffmpeg")
    assert program is not None, "Debian: apt-get install ffmpeg"
    source = f"testsrc2=size={size}:rate={FPS}"
    command = [program, "-v", "error", "-y", "-f", "lavfi", "-i", source, "-t", str(seconds), *CODECS[codec], str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


class Opened(PacketStream):
    """The packets of a file, which come at once, as if at their own pace.

    Attributes:
        latest: seconds after the start at which the latest packet came.
    """

    latest = 0.0

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._container = av.open(str(path))
        self._stream = self._container.streams.video[0]

    def packets(self) -> Iterator[Any]:
        began = time.monotonic()
        number = 0
        for packet in self._container.demux(self._stream):
            if packet.size:
                number += 1
                self.latest = number / FPS
                packet.opaque = Arrival(number, began + number / FPS, self.latest)
                yield packet
        raise SourceError(f"{self.name}: no frame can be read any more")
