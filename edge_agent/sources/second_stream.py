"""A camera's second, small stream: to look at it for motion costs a tenth of what the main one costs."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from edge_agent import settings
from edge_agent.counters import VideoCounts
from edge_agent.errors import EdgeAgentError
from edge_agent.preprocess.motion_gate import MotionGate
from edge_agent.preprocess.regions import Rectangle
from edge_agent.samples import PlanarFrame, Sample
from edge_agent.sources.pace import Pace
from edge_agent.sources.packets import Delay, PacketStream, PausableDecoder
from edge_agent.system.address import without_credentials
from edge_agent.system.backoff import Backoff

log = logging.getLogger(__name__)

# Frames a second that the gate looks at.
LOOKS = 5.0
RETRY_CEILING = 30.0
_END_TIMEOUT = 0.3


class SecondStream:
    """Says whether something moves in a stream; a thread decodes it.

    Args:
        url: its address.
        stall_timeout: seconds of silence after which it counts as lost.
        gate: what counts as motion.

    Attributes:
        counts: of its packets.
        moves_since: the moment on the monotonic clock since which something moves; None: nothing does. While the
            stream can't be read, everything counts as motion.
        delay: of its pictures.
    """

    def __init__(self, url: str, stall_timeout: float, gate: settings.Gate) -> None:
        self.name = without_credentials(url)
        self.counts = VideoCounts()
        self.moves_since: float | None = None
        self.delay = Delay()
        self._url = url
        self._stall_timeout = stall_timeout
        self._gate = gate
        self._problem = ""

    @contextmanager
    def watched(self, regions: Mapping[str, Rectangle]) -> Iterator[None]:
        """Looks at the stream until the end of the `with` block.

        Args:
            regions: in fractions of the picture; only motion inside them counts.
        """
        ended = threading.Event()
        # What was seen before is of no use after a break.
        self.moves_since = time.monotonic()
        thread = threading.Thread(target=self._run, args=(ended, regions), name=f"second {self.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_END_TIMEOUT)  # it may wait for a packet

    def _run(self, ended: threading.Event, regions: Mapping[str, Rectangle]) -> None:
        backoff = Backoff(ceiling=RETRY_CEILING)
        while not ended.is_set():
            try:
                self._look(ended, MotionGate(self._gate, regions), backoff)
            except EdgeAgentError as error:
                if ended.is_set():
                    return
                if str(error) != self._problem:
                    self._problem = str(error)
                    log.warning("%s: everything of the main stream is decoded until it is back", error)
                    self.counts.note(problem=self._problem)
                self.moves_since = self.moves_since or time.monotonic()
            ended.wait(backoff.delay())

    def _look(self, ended: threading.Event, gate: MotionGate, backoff: Backoff) -> None:
        stream = PacketStream(self._url, self.name, self._stall_timeout)
        # Without deblocking, errors grow until the next keyframe, and the gate sees them go.
        decoder = PausableDecoder(stream, self.counts, all_threads=False, deblocking=True)
        pace, self.delay = Pace(LOOKS), Delay()
        try:
            for packet in stream.packets():
                if ended.is_set():
                    return
                self.delay.add(packet.opaque)
                decoder.put(packet)
                for frame in decoder.frames(lambda arrival: pace.is_due(arrival.at)):
                    at = frame.opaque.at
                    if pace.is_due(at):
                        pace.take(at)
                        passes = gate.passes(Sample(PlanarFrame(frame), frame.opaque.clock, at, {}))
                        self._is_back(backoff)
                        self.moves_since = (self.moves_since or at) if passes else None
        finally:
            decoder.clear()
            stream.release()

    def _is_back(self, backoff: Backoff) -> None:
        if self._problem:
            log.info("%s: is back", self.name)
            self._problem = ""
            self.counts.note(problem="")
            backoff.reset()
