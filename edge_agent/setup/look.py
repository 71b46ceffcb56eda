"""One picture of a camera that no pipeline reads, for somebody who chooses among several."""

import threading
import time
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.errors import EdgeAgentError, SourceError
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.preprocess.decoding import pixels_of
from edge_agent.publish.drawing import encode_jpeg, shrunk
from edge_agent.setup.found import Input
from edge_agent.sources import Context, open_source
from edge_agent.sources.queue import SampleQueue
from edge_agent.sources.reader import Reader

# Seconds in which a picture may come, and those in which the camera is released afterwards.
PATIENCE, RELEASE = 12.0, 2.0
SIDE, MOST_BYTES = 640, 60_000
# Cameras whose last read has not returned; with as many, no further one is opened.
MOST_HUNG = 3


class BusyError(EdgeAgentError):
    """No camera is opened now."""


class CameraLook:
    """Takes pictures of cameras, one at a time: each is opened, read for two seconds at most, and closed again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hung: list[Reader] = []

    def take(self, chosen: Input, folder: Path) -> bytes:
        """A picture as JPEG.

        Args:
            chosen: the camera.
            folder: what relative paths are relative to.

        Raises:
            BusyError: another picture is being taken, or too many cameras hang.
            SourceError: the camera gives no picture; says why.
        """
        if not self._lock.acquire(blocking=False):
            raise BusyError("a picture of another camera is being taken")
        try:
            self._hung = [one for one in self._hung if not one.is_released]
            if len(self._hung) >= MOST_HUNG:
                raise BusyError(f"{len(self._hung)} cameras have not answered yet: try again later")
            return self._take(chosen, folder)
        finally:
            self._lock.release()

    def _take(self, chosen: Input, folder: Path) -> bytes:
        try:
            # Looked at now and then, the last picture of its first moments is taken: see `Occasional`.
            once = chosen.source | {"every": 86_400}
            options: settings.Source = TypeAdapter[settings.Source](settings.Source).validate_python(once)
        except ValidationError as error:
            raise SourceError(f"{chosen.title}: {error.errors()[0]['msg']}") from None
        mqtt = settings.Mqtt()
        reader = open_source(options, Context(folder, "look", Endpoint.from_settings(mqtt, folder), mqtt))
        if not isinstance(reader, Reader):
            raise SourceError(f"{chosen.title}: no camera")
        queue, troubles = SampleQueue(1, Counters(), keep_newest=True), list[EdgeAgentError]()

        def give_up(error: EdgeAgentError) -> None:
            troubles.append(error)
            queue.close()

        timer = threading.Timer(PATIENCE, queue.close)
        timer.start()
        reader.start(queue, give_up)
        samples = queue.get()
        timer.cancel()
        reader.stop()
        queue.discard_pending()
        reader.close(time.monotonic() + RELEASE)
        if not reader.is_released:
            self._hung.append(reader)
        picture = pixels_of(samples[0].data) if samples else None
        for sample in samples:
            sample.settlement.return_to_sender()  # no pipeline counts it
        if picture is None:
            raise troubles[0] if troubles else SourceError(f"{chosen.title}: no picture within {PATIENCE:g} s")
        return encode_jpeg(shrunk(picture, SIDE), MOST_BYTES)
