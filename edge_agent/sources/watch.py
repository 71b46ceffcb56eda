"""Which packets of a stream are decoded: that is most of what a camera costs, and most frames show nothing new."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from edge_agent import settings
from edge_agent.counters import VideoCounts
from edge_agent.preprocess.motion_gate import MotionGate
from edge_agent.samples import PlanarFrame, Sample
from edge_agent.sources import Context
from edge_agent.sources.frozen import FrozenFrameDetector
from edge_agent.sources.pace import KeyframePace, Pace
from edge_agent.sources.packet_sizes import PacketSizes
from edge_agent.sources.packets import Arrival, Delay, PacketStream, PausableDecoder
from edge_agent.sources.second_stream import SecondStream

log = logging.getLogger(__name__)

# Up to this rate, in frames a second, one thread decodes: more of them cost more, and delay frames.
ONE_THREAD_FPS = 10.0
# Frames a second that the motion gate looks at while a stream is decoded for it.
GATE_FPS = 5.0
# Seconds before something was seen to move from which on frames are taken: two streams of a camera, or the sizes of
# packets and what they show, are not quite of the same moment.
LEAD = 0.3
# Seconds that are decoded after something seemed to move, if it turns out that nothing does.
CONFIRM = 0.6
# Seconds by which a second stream may come later than the main one; more means that their clocks differ.
MAX_LATE = 5.0


class FrameSamples:
    """Makes samples of frames, in order.

    Args:
        name: of the stream, for `origin`.
        pace: which of them are taken.
        frozen: looks for a stream that hangs.

    Attributes:
        since: frames that came before this moment are not taken.
    """

    def __init__(self, name: str, pace: Pace, frozen: FrozenFrameDetector) -> None:
        self._name = name
        self._pace = pace
        self._frozen = frozen
        self._number, self._at, self._clock = 0, 0.0, 0.0
        self._latest: Arrival | None = None
        self.since = 0.0
        frozen.opened()

    def wants(self, arrival: Arrival, tolerance: float = 0.0) -> bool:
        """Whether a frame that came then is taken, unless it came before or is frozen.

        Args:
            arrival: of its packet.
            tolerance: see `Pace.is_due`.
        """
        at = max(arrival.at, self._at)
        return at >= self.since and self._pace.is_due(at, tolerance)

    def samples(self, frames: Iterable[Any], *, tolerance: float = 0.0) -> Iterator[Sample | None]:
        """A sample for each frame that is taken, None for the others.

        Args:
            frames: of `PausableDecoder`.
            tolerance: see `Pace.is_due`.

        Raises:
            SourceError: the stream is frozen.
        """
        for frame in frames:
            arrival = frame.opaque
            # Frames that refer to later ones come after them.
            self._number, self._at = max(arrival.number, self._number + 1), max(arrival.at, self._at)
            self._clock = max(arrival.clock, self._clock) if arrival.at == self._at else self._clock
            picture, is_again, self._latest = PlanarFrame(frame), arrival == self._latest, arrival
            # A keyframe that was looked at alone may come a second time.
            if is_again or not self.wants(arrival, tolerance):
                yield None
            elif self._frozen.passes(picture.luma()):
                self._pace.take(self._at)
                origin = {"url": self._name, "frame": self._number}
                yield Sample(picture, captured_at=self._clock, captured=self._at, origin=origin)


class WatchAll:
    """Every frame of a stream, at most `fps` a second; only the keyframes, where these come as often.

    Args:
        name: of the stream, for messages and `origin`.
        options: of the source.
        context: of the pipeline.
    """

    def __init__(self, name: str, options: settings.VideoSource, context: Context) -> None:
        self._name = name
        self._fps = None if isinstance(options.fps, str) else options.fps
        self._options = options
        self._context = context
        self._counts: VideoCounts = context.counters.video()
        self._frozen = FrozenFrameDetector(name, options.stall_timeout)

    @property
    def needs_packets(self) -> bool:
        """Whether pictures that come one by one, outside of a stream, are of no use."""
        return self._options.watch != "all"

    def open(self, url: str, timeout: float, hint: str) -> PacketStream:
        """The stream: see `PacketStream`."""
        return PacketStream(url, self._name, timeout, hint)

    def samples(self, stream: PacketStream, stopping: threading.Event) -> Iterator[Sample | None]:
        """The frames of an open stream; None in place of one that is not taken.

        Raises:
            SourceError: the stream has ended or failed, or is frozen.
        """
        decoder = self._decoder(stream)
        try:
            for packet in stream.packets():
                if self._context.packets is not None:
                    self._context.packets.put(packet, stream)
                decoder.put(packet)
                if packet.is_keyframe:
                    self._keyframes.keyframe(packet.opaque.at)
                yield from self._step(decoder, packet)
                if stopping.is_set():
                    return
        finally:
            decoder.clear()

    def _decoder(self, stream: PacketStream) -> PausableDecoder:
        """Begins with a stream that has just been opened."""
        self._pace = Pace(self._fps)
        self._keyframes = KeyframePace(self._pace.period)
        self._frames = FrameSamples(self._name, self._pace, self._frozen)
        all_threads = self._fps is None or self._fps > ONE_THREAD_FPS
        return PausableDecoder(
            stream,
            self._counts,
            all_threads=all_threads,
            deblocking=self._options.deblocking,
            hardware=self._options.hardware,
        )

    def _step(self, decoder: PausableDecoder, packet: Any) -> Iterator[Sample | None]:
        """Decides about a packet, which waits in the decoder."""
        at = packet.opaque.at
        if not self._keyframes.suffices(at):
            yield from self._frames.samples(decoder.frames(self._frames.wants))
        elif packet.is_keyframe and self._pace.is_due(at, self._keyframes.tolerance):
            frames = list(decoder.look())
            if not frames:
                self._keyframes.is_unusable()
            yield from self._frames.samples(frames, tolerance=self._keyframes.tolerance)
        else:
            yield None


class WatchSecond(WatchAll):
    """Frames of a stream while a second, smaller one of the same camera shows that something moves.

    Args:
        name: see `WatchAll`.
        options: see `WatchAll`.
        context: see `WatchAll`.
        second: the second stream.
    """

    def __init__(
        self, name: str, options: settings.VideoSource, context: Context, second: settings.SecondStream
    ) -> None:
        super().__init__(name, options, context)
        self._second = SecondStream(second.url, options.stall_timeout, context.gate or _GATE)
        self._counts.note(second=self._second.counts.as_dict)
        self._is_first = True

    def samples(self, stream: PacketStream, stopping: threading.Event) -> Iterator[Sample | None]:
        """See `WatchAll`."""
        if stopping.is_set():
            return
        with self._second.watched(stream.relative(self._context.regions)):
            yield from super().samples(stream, stopping)

    def _decoder(self, stream: PacketStream) -> PausableDecoder:
        self._delay = Delay()
        return super()._decoder(stream)

    def _step(self, decoder: PausableDecoder, packet: Any) -> Iterator[Sample | None]:
        self._delay.add(packet.opaque)
        since = self._second.moves_since
        if since is None:
            self._is_first = True
            yield None
            return
        if self._is_first:
            self._frozen.opened()
        self._frames.since = since - LEAD - self._late()
        for sample in super()._step(decoder, packet):
            if sample is not None and self._is_first:
                self._is_first = False
                self._counts.note(first_look_ms=round((time.monotonic() - since) * 1000))
            yield None if sample is None else replace(sample, shows_motion=True)

    def _late(self) -> float:
        """Seconds by which the second stream comes later than the main one, as far as the camera tells.

        If the main one is the later one, frames from before the motion are taken as well, which does no harm.
        """
        main, second = self._delay.seconds, self._second.delay.seconds
        if main is None or second is None or not 0 < second - main <= MAX_LATE:
            return 0.0
        self._second.counts.note(late_ms=round((second - main) * 1000))
        return second - main


class WatchPackets(WatchAll):
    """Keyframes, and all frames while something moves: as the sizes of packets say, or as a keyframe shows.

    Whether sizes tell is learned from the stream itself, all of which is decoded until then.
    """

    def __init__(self, name: str, options: settings.VideoSource, context: Context) -> None:
        super().__init__(name, options, context)
        self._gate = MotionGate(context.gate or _GATE, context.regions)
        self._sizes = PacketSizes()
        self._standing = ""

    def _decoder(self, stream: PacketStream) -> PausableDecoder:
        decoder = super()._decoder(stream)
        fps = None if self._fps is None else max(self._fps, GATE_FPS)
        self._taken = self._pace
        self._frames = FrameSamples(self._name, Pace(fps), self._frozen)
        self._sizes.opened()
        # The moment since which all is decoded; None: keyframes only.
        self._since: float | None = 0.0
        self._alarm: float | None = None
        self._judged = 0.0
        return decoder

    def _step(self, decoder: PausableDecoder, packet: Any) -> Iterator[Sample | None]:
        at = packet.opaque.at
        alarm = self._sizes.add(packet.size, at, is_keyframe=packet.is_keyframe)
        self._say()
        if not self._sizes.tell:
            self._since, self._alarm = 0.0, None
        elif self._since is None and alarm:
            self._since = self._alarm = at
        if self._since is not None:
            self._frames.since = self._since - LEAD
            yield from self._judge(self._frames.samples(decoder.frames(self._frames.wants)), at)
        elif packet.is_keyframe:
            frames = list(decoder.look())
            if not frames:
                self._sizes.give_up("keyframes are no pictures by themselves")
            yield from self._judge(self._frames.samples(frames, tolerance=1 / GATE_FPS), at)
        else:
            yield None

    def _judge(self, samples: Iterator[Sample | None], at: float) -> Iterator[Sample | None]:
        """Has the gate look at what was decoded, and decides whether decoding goes on."""
        for sample in samples:
            if sample is None:
                yield None
                continue
            passes = self._gate.passes(sample, glance=sample.captured - self._judged > CONFIRM)
            self._judged = sample.captured
            self._sizes.learn(sample.captured, moves=self._gate.moves)
            if self._gate.moves and self._since is None:
                self._since = sample.captured
            if passes and self._alarm is not None:
                self._counts.note(first_look_ms=round((time.monotonic() - self._alarm) * 1000))
                self._alarm = None
            is_taken = passes and self._taken.is_due(sample.captured)
            if is_taken:
                self._taken.take(sample.captured)
            yield replace(sample, shows_motion=True) if is_taken else None
            opened = self._since
            if opened is not None and self._sizes.tell and not passes and sample.captured - opened > CONFIRM:
                self._since = self._alarm = None
        if self._since is not None and self._since > at:
            self._since = at

    def _say(self) -> None:
        standing = self._sizes.standing
        if standing != self._standing:
            log.info("%s: sizes of packets: %s", self._name, standing)
            self._standing = standing
            self._counts.note(sizes=standing)


_GATE = settings.Gate(type="motion")


def watch(name: str, options: settings.VideoSource, context: Context) -> WatchAll:
    """What reads the packets of a stream, as the settings say."""
    if isinstance(options.watch, settings.SecondStream):
        return WatchSecond(name, options, context, options.watch)
    return WatchPackets(name, options, context) if options.watch == "packets" else WatchAll(name, options, context)
