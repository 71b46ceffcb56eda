"""Which packets of a stream are decoded: that is most of what a camera costs, and most frames show nothing new."""

import threading
from collections.abc import Iterator
from typing import Any

from edge_agent import settings
from edge_agent.counters import VideoCounts
from edge_agent.samples import PlanarFrame, Sample
from edge_agent.sources.frozen import FrozenFrameDetector
from edge_agent.sources.packets import PacketStream, PausableDecoder

# Up to this rate, in frames a second, one thread decodes: more of them cost more, and delay frames.
ONE_THREAD_FPS = 10.0
# A keyframe that is late by this share of the interval is waited for.
_LATE = 0.5
# Seconds that two moments may differ by rounding.
_EXACT = 0.001
# Frames for which the keyframes suffice may come a little more seldom than they are asked for.
_SLACK = 1.05


class KeyframePace:
    """Whether keyframes alone come as often as frames are wanted.

    Args:
        period: seconds from one frame to the next that is wanted; 0: all frames.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._last: float | None = None
        self._interval: float | None = None
        self._usable = True

    def keyframe(self, at: float) -> None:
        """Called when a keyframe comes."""
        if self._last is not None:
            self._interval = at - self._last
        self._last = at

    def is_unusable(self) -> None:
        """Called when a keyframe gives no picture by itself, as where an encoder refreshes them bit by bit."""
        self._usable = False

    def suffices(self, now: float) -> bool:
        """Whether the frames between keyframes need not be decoded."""
        if not self._usable or self._last is None or self._interval is None:
            return False
        return self._interval <= self._period * _SLACK and now - self._last <= self._period * (1 + _LATE)

    @property
    def tolerance(self) -> float:
        """How many seconds before it is due a keyframe is taken, since the next one would be later than that."""
        return 0.0 if self._interval is None else self._interval / 2


class Pace:
    """At most a number of frames a second.

    Args:
        fps: frames a second; None: all.
    """

    def __init__(self, fps: float | None) -> None:
        self.period = 0.0 if fps is None else 1 / fps
        self._due: float | None = None

    def is_due(self, at: float, tolerance: float = 0.0) -> bool:
        """Whether a frame that came at this moment is wanted."""
        return self._due is None or at >= self._due - tolerance - _EXACT

    def take(self, at: float) -> None:
        """Called with the moment of each frame that is taken."""
        due = at if self._due is None else self._due
        self._due = max(due + self.period, at + self.period / 2)


class WatchAll:
    """Every frame of a stream, at most `fps` a second; only the keyframes, where these come as often.

    Args:
        name: of the stream, for messages and `origin`.
        options: of the source.
        counts: of the stream.
    """

    def __init__(self, name: str, options: settings.VideoSource, counts: VideoCounts) -> None:
        self._name = name
        self._fps = None if isinstance(options.fps, str) else options.fps
        self._deblocking = options.deblocking
        self._counts = counts
        self._frozen = FrozenFrameDetector(name, options.stall_timeout)

    def open(self, url: str, timeout: float, hint: str) -> PacketStream:
        """The stream: see `PacketStream`."""
        return PacketStream(url, self._name, timeout, hint)

    def samples(self, stream: PacketStream, stopping: threading.Event) -> Iterator[Sample | None]:
        """The frames of an open stream; None in place of one that is not taken.

        Raises:
            SourceError: the stream has ended or failed, or is frozen.
        """
        all_threads = self._fps is None or self._fps > ONE_THREAD_FPS
        decoder = PausableDecoder(stream, self._counts, all_threads=all_threads, deblocking=self._deblocking)
        pace = Pace(self._fps)
        keyframes = KeyframePace(pace.period)
        builder = FrameSamples(self._name, pace, self._frozen)
        try:
            for packet in stream.packets():
                if stopping.is_set():
                    return
                at = packet.opaque.at
                decoder.put(packet)
                if packet.is_keyframe:
                    keyframes.keyframe(at)
                if not keyframes.suffices(at):
                    yield from builder.samples(decoder.frames())
                elif packet.is_keyframe and pace.is_due(at, keyframes.tolerance):
                    frames = list(decoder.look())
                    if not frames:
                        keyframes.is_unusable()
                    yield from builder.samples(frames, keyframes.tolerance)
                else:
                    yield None
        finally:
            decoder.clear()


class FrameSamples:
    """Makes samples of frames, in order.

    Args:
        name: of the stream, for `origin`.
        pace: which of them are taken.
        frozen: looks for a stream that hangs.
    """

    def __init__(self, name: str, pace: Pace, frozen: FrozenFrameDetector) -> None:
        self._name = name
        self._pace = pace
        self._frozen = frozen
        self._number, self._at, self._clock = 0, 0.0, 0.0
        frozen.opened()

    def samples(self, frames: Any, tolerance: float = 0.0) -> Iterator[Sample | None]:
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
            picture = PlanarFrame(frame)
            if not self._pace.is_due(self._at, tolerance):
                yield None
            elif self._frozen.passes(picture.luma()):
                self._pace.take(self._at)
                origin = {"url": self._name, "frame": self._number}
                yield Sample(picture, captured_at=self._clock, captured=self._at, origin=origin)
