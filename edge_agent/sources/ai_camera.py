"""Raspberry Pi's AI Camera: frames, and what the network in its sensor (IMX500) makes of them, by `rpicam-vid`.

The program writes JPEG frames to one output, their metadata to a second one, and their times to a third one. The time,
which metadata have as well, says which belong together: https://github.com/raspberrypi/rpicam-apps (output/output.cpp).

A sensor with a network in it stalls after minutes to hours: https://github.com/raspberrypi/libcamera/issues/355. Frames
may go on meanwhile, so a restart follows when no output tensor comes.
"""

import json
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.errors import SourceError
from edge_agent.samples import Sample, SensorOutput
from edge_agent.sources import Context
from edge_agent.sources.child import Child, in_words
from edge_agent.sources.frame_matcher import Frame, FrameMatcher
from edge_agent.sources.reader import Reader

log = logging.getLogger(__name__)

# In the arguments, replaced by the paths of the program's further outputs, in this order.
_METADATA, _TIMES = "{metadata}", "{times}"
# Seconds from the end of a program's output to its end.
_END_PATIENCE = 1.0
# Seconds that the reader waits longer than this source, whose message says more.
_LATER = 5.0
# A frame that is older than this, by the sensor's clock, has another clock.
_MAX_AGE = 5.0
# Any stage for this sensor loads the network; this one does nothing else then.
_STAGE = "imx500_object_detection"


class AiCamera:
    """The camera: see `Readable`.

    Args:
        source: its settings.
        network: the .rpk file.
        folder: the working directory of the program.
        name: for messages.
        counters: of the pipeline.
    """

    live = True

    def __init__(
        self, source: settings.AiCameraSource, network: Path, folder: Path, name: str, counters: Counters
    ) -> None:
        self.name = name
        self.stall_timeout = source.stall_timeout + _LATER
        self._source = source
        self._network = network
        self._folder = folder
        self._counters = counters
        self._started = False
        self._alone = threading.Lock()
        counters.restart(0)

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """The frames that the network has seen, with its output."""
        # One process at a time may use the camera, and the one before takes a moment to end.
        with self._alone, tempfile.TemporaryDirectory(prefix="edge-agent-camera-") as own:
            if stopping.is_set():
                return
            if self._started:
                self._counters.restart()
            self._started = True
            stages = Path(own) / "stages.json"
            stages.write_text(json.dumps({_STAGE: {"max_detections": 0, "network_file": str(self._network)}}))
            child = Child(self._argv(stages), self._folder, self.name, (_METADATA, _TIMES))
            log.debug("%s: started as process %d", self.name, child.pid)
            try:
                yield from self._read(child, stopping)
                if not stopping.is_set():
                    raise SourceError(f"{self.name}: {in_words(child.stop(_END_PATIENCE))}")
            finally:
                child.stop()

    def _argv(self, stages: Path) -> list[str]:
        source = self._source
        size = ["--width", str(source.width), "--height", str(source.height), "--framerate", f"{source.fps:g}"]
        frames = ["--timeout", "0", "--nopreview", "--codec", "mjpeg", "--flush", "--output", "-"]
        facts = ["--metadata", _METADATA, "--metadata-format", "json", "--save-pts", _TIMES]
        return [source.program, *frames, *size, "--post-process-file", str(stages), *facts]

    def _read(self, child: Child, stopping: threading.Event) -> Iterator[Sample]:
        """Samples until the program closes its output.

        Raises:
            SourceError: no output of the network comes, or it can't be assigned to frames.
        """
        matcher, count, frames = FrameMatcher(), 0, 0
        last = time.monotonic()
        while child.writes and not stopping.is_set():
            for output, data in child.receive():
                for frame in matcher.feed(output, data):
                    frames += 1
                    if frame.values is None:
                        continue
                    count, last = count + 1, time.monotonic()
                    yield self._sample(frame, count)
            if matcher.problem:
                raise SourceError(f"{self.name}: {matcher.problem}")
            patience = self._source.stall_timeout if count else self._source.load_timeout
            if time.monotonic() - last > patience:
                what = "frames come, but no results of the network" if frames else "neither frames nor results come"
                raise SourceError(f"{self.name}: {what}, for {patience:g} s: the sensor has stalled")

    def _sample(self, frame: Frame, count: int) -> Sample:
        assert frame.values is not None  # noqa: S101 - those without are no samples
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - frame.sensor_time
        age = age if 0 <= age <= _MAX_AGE else 0.0
        sensor = SensorOutput(frame.values, frame.crop, (self._source.width, self._source.height))
        return Sample(
            frame.data,
            captured_at=time.time() - age,
            captured=time.monotonic() - age,
            origin={"camera": "imx500", "frame": count},
            sensor=sensor,
        )


def create(source: settings.AiCameraSource, context: Context) -> Reader:
    """The source for the settings."""
    name = f"{context.topic.rpartition('/')[2]}: AI Camera"
    network = context.model_file or Path(source.model)
    camera = AiCamera(source, network, context.folder, name, context.counters)
    return Reader(camera, open_patience=source.load_timeout + _LATER)
