"""The latest packets of a stream as the camera sent them, in memory: what a recording of it begins with."""

import base64
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol


class Stream(Protocol):
    """Where packets come from."""

    @property
    def header(self) -> bytes:
        """An MP4 file of such a stream without any packet; empty if it can't be one."""


@dataclass(frozen=True, slots=True)
class KeptPacket:
    """A packet.

    Attributes:
        number: over all streams, from 1.
        at: when it came, on the monotonic clock.
        is_keyframe: whether decoding can begin with it.
        document: what is stated of it.
        data: the packet itself.
    """

    number: int
    at: float
    is_keyframe: bool
    document: dict[str, Any]
    data: bytes


class PacketRing:
    """The packets of the last seconds, from a keyframe on. The source puts them in, a recorder reads them.

    Args:
        seconds: how far back they must reach.
        most: bound on them, in bytes. Beyond it, they reach less far back.

    Attributes:
        left_out: number of packets that nothing could be decoded from, or that alone are too many.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self.left_out = 0
        self._seconds = seconds
        self._most = most
        self._lock = threading.Lock()
        self._packets: deque[KeptPacket] = deque()
        self._keyframes: deque[KeptPacket] = deque()
        self._bytes = self._number = self._stream_number = 0
        self._stream: Stream | None = None

    def put(self, packet: Any, stream: Stream) -> None:
        """Takes an `av.Packet` with its `Arrival`."""
        with self._lock:
            if stream is not self._stream:
                self._stream, self._stream_number = stream, self._stream_number + 1
                self._clear()
            is_usable = stream.header and packet.dts is not None and packet.pts is not None
            if not is_usable or not (self._packets or packet.is_keyframe):
                self.left_out += 1
                return
            self._number += 1
            document = {
                "at": packet.opaque.at,
                "keyframe": packet.is_keyframe,
                "pts": packet.pts,
                "dts": packet.dts,
                "time_base": [packet.time_base.numerator, packet.time_base.denominator],
                "stream": self._stream_number,
            }
            if packet.is_keyframe:
                document["header"] = base64.b64encode(stream.header).decode()
            kept = KeptPacket(self._number, packet.opaque.at, packet.is_keyframe, {"packet": document}, bytes(packet))
            self._packets.append(kept)
            self._bytes += len(kept.data)
            if kept.is_keyframe:
                self._keyframes.append(kept)
            self._forget(kept.at)

    def since(self, moment: float) -> int:
        """Number of the last keyframe before a moment on the monotonic clock, else of the first packet there is."""
        with self._lock:
            before = [packet.number for packet in self._keyframes if packet.at <= moment]
            return before[-1] if before else (self._packets[0].number if self._packets else self._number + 1)

    def from_number(self, number: int) -> list[KeptPacket]:
        """The packets from this number on, as far as they are there."""
        with self._lock:
            return [packet for packet in self._packets if packet.number >= number]

    def _forget(self, now: float) -> None:
        while len(self._keyframes) > 1 and (self._bytes > self._most or self._keyframes[1].at < now - self._seconds):
            self._keyframes.popleft()
            while self._packets[0] is not self._keyframes[0]:
                self._bytes -= len(self._packets.popleft().data)
        if self._bytes > self._most:
            self.left_out += len(self._packets)
            self._clear()

    def _clear(self) -> None:
        self._packets.clear()
        self._keyframes.clear()
        self._bytes = 0
