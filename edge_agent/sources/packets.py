"""Streams as packets, through PyAV: to demultiplex costs next to nothing, so only what is looked at is decoded."""

import io
import logging
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edge_agent.counters import VideoCounts
from edge_agent.errors import MissingExtraError, SourceError
from edge_agent.preprocess.opencv import MAX_PIXELS
from edge_agent.preprocess.regions import Rectangle
from edge_agent.sources.rtsp import why_no_stream

try:
    import av
except ImportError as error:
    raise MissingExtraError("watching a stream", "video", error) from None

from edge_agent.sources.hardware_decoder import HardwareDecoder, HardwareTrial, reason

log = logging.getLogger(__name__)

OPEN_TIMEOUT = 10.0
# Bounds of the packets that wait for somebody to look at them: what is decoded at once when that happens.
MAX_WAITING_BYTES = 16_000_000
MAX_WAITING_PACKETS = 300
# A stream whose decoder works for more than this share of the time gets all threads.
MAX_LOAD = 0.6
_LOAD_WINDOW = 5.0
_DELAY_PACKETS = 50
# What a stream may lead to: FFmpeg follows playlists, and none of them is to reach a file.
_PROTOCOLS = (
    "rtp,srtp,udp,udplite,tcp,tls,http,https,httpproxy,rtmp,rtmps,rtmpe,rtmpt,rtmpte,rtmpts,ftp,sftp,srt,rist,sctp,"
    "mmsh,mmst,unix,zmq,hls,crypto,data"
)

av.logging.set_level(None)  # its messages are part of our errors


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a packet came.

    Attributes:
        number: of the packet in its stream, from 1.
        at: on the monotonic clock.
        clock: seconds since the epoch.
        taken: when the camera took the picture, in seconds on its own clock; None: it does not say.
    """

    number: int
    at: float
    clock: float
    taken: float | None = None


class Delay:
    """How much later than they are taken a stream's pictures come.

    It is the least one of the latest second or two, since a large picture takes longer than others.

    Attributes:
        seconds: from the camera's clock to the monotonic one, whose difference is unknown: it is only good to be
            compared with that of another stream of the same camera. None: the camera does not say.
    """

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._latest: deque[float] = deque(maxlen=_DELAY_PACKETS)

    def add(self, arrival: Arrival) -> None:
        """Takes a packet's arrival into account."""
        if arrival.taken is not None:
            self._latest.append(arrival.at - arrival.taken)
            self.seconds = min(self._latest)


class PacketStream:
    """An open stream: the packets of its first video.

    Args:
        url: the address, with its credentials.
        name: for messages.
        timeout: seconds of silence after which reading fails.
        hint: why it is no stream of pictures, where that is known.

    Raises:
        SourceError: it can't be opened, and why.
    """

    def __init__(self, url: str, name: str, timeout: float, hint: str = "") -> None:
        self.name = name
        # Over UDP, packets are lost. How many frames a second come is seen later: to find out first takes a second.
        options = {"rtsp_flags": "prefer_tcp", "protocol_whitelist": _PROTOCOLS, "fpsprobesize": "0"}
        try:
            self._container = av.open(url, options=options, timeout=(OPEN_TIMEOUT, timeout))
        except (av.error.FFmpegError, OSError, ValueError):
            raise SourceError(f"{name}: {hint or why_no_stream(url, name)}") from None
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{name}: {hint or 'has no video'}")
        self._stream = self._container.streams.video[0]
        codec = self._stream.codec_context
        log.debug("%s: opened: %s, %d x %d", name, codec.name, codec.width, codec.height)

    def packets(self) -> Iterator[Any]:
        """Each `av.Packet` when it comes, with its `Arrival` as `opaque`.

        Raises:
            SourceError: the stream has ended or has failed.
        """
        number = 0
        try:
            for packet in self._container.demux(self._stream):
                if packet.size == 0:
                    break
                number += 1
                packet.opaque = Arrival(number, time.monotonic(), time.time(), _taken(packet))
                yield packet
        except (av.error.FFmpegError, OSError):
            pass
        raise SourceError(f"{self.name}: no frame can be read any more")

    @cached_property
    def header(self) -> bytes:
        """An MP4 file of the stream without any packet: codec, size and parameters. Empty: MP4 has no such codec."""
        file = io.BytesIO()
        try:
            with av.open(file, "w", format="mp4", options={"movflags": "empty_moov+frag_keyframe"}) as container:
                container.add_stream_from_template(self._stream)
                container.start_encoding()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            log.debug("%s: can't be recorded as packets: %s", self.name, error)
            return b""
        return file.getvalue()

    def relative(self, regions: Mapping[str, Rectangle]) -> dict[str, Rectangle]:
        """Regions in fractions of the picture, which holds for a stream of another size too."""
        codec = self._stream.codec_context
        width, height = max(1, codec.width), max(1, codec.height)
        return {
            name: box if max(box) <= 1 else (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
            for name, box in regions.items()
        }

    def decoder(self, *, all_threads: bool, deblocking: bool) -> Any:
        """A new `av.CodecContext` for its packets.

        Args:
            all_threads: whether it may use all cores. One thread costs the least, and frames come out at once.
            deblocking: whether edges between blocks are smoothed.
        """
        codec = self._stream.codec_context
        decoder = av.CodecContext.create(codec.codec.name, "r")
        decoder.extradata = codec.extradata
        decoder.copy_opaque = True
        decoder.thread_count = 0 if all_threads else 1
        decoder.thread_type = "AUTO"
        decoder.options = {"max_pixels": str(MAX_PIXELS)} | ({} if deblocking else {"skip_loop_filter": "all"})
        return decoder

    def hardware_decoder(self) -> HardwareDecoder:
        """A decoder in hardware for its packets.

        Raises:
            ValueError: there is none.
        """
        codec = self._stream.codec_context
        return HardwareDecoder(codec.codec.name, codec.extradata)

    def release(self) -> None:
        """Closes the connection."""
        self._container.close()


def _taken(packet: Any) -> float | None:
    """Seconds on the camera's clock, which its RTCP sender reports tell (RFC 3550, section 6.4.1).

    FFmpeg attaches them as an `AVProducerReferenceTime`: microseconds since the epoch as int64, and flags.
    """
    if not packet.has_sidedata("prft"):
        return None
    (microseconds,) = struct.unpack_from("=q", bytes(packet.get_sidedata("prft")))
    return float(microseconds / 1e6)


class PausableDecoder:
    """Decodes a stream when somebody looks, from any packet on: those since the last keyframe wait until then.

    The decoder and the packets that wait are always one uninterrupted piece of the stream. They are bounded: when too
    many wait, they are decoded without anybody looking.

    Args:
        stream: gives the packets.
        counts: of the stream.
        all_threads: see `PacketStream.decoder`.
        deblocking: see there.
        hardware: whether a decoder in hardware is tried, and used if it proves itself.
    """

    def __init__(
        self,
        stream: PacketStream,
        counts: VideoCounts,
        *,
        all_threads: bool,
        deblocking: bool,
        hardware: bool = False,
    ) -> None:
        self._stream = stream
        self._counts = counts
        self._deblocking = deblocking
        self._all_threads = all_threads
        self._decoder = stream.decoder(all_threads=all_threads, deblocking=deblocking)
        self._waiting: deque[Any] = deque()
        self._bytes = 0
        # The first packet that waits, if it is a keyframe that has been decoded alone.
        self._seen: Any = None
        self._began = False
        # Whether the decoder has had every packet before those that wait.
        self._is_whole = False
        self._load_since, self._busy = time.monotonic(), 0.0
        self._trial: HardwareTrial | None = None
        # The decoder in hardware that has proved itself: in use, or from the next keyframe on.
        self._hardware: HardwareDecoder | None = None
        if hardware:
            try:
                self._trial = HardwareTrial(stream.hardware_decoder())
            except ValueError as error:
                self._decided(f"software: {error}")

    def put(self, packet: Any) -> None:
        """Adds a packet to those that wait. A keyframe replaces them."""
        self._counts.arrive()
        if packet.is_keyframe:
            self.clear()
            self._began = True
        self._waiting.append(packet)
        self._bytes += packet.size
        if self._bytes > MAX_WAITING_BYTES or len(self._waiting) > MAX_WAITING_PACKETS:
            self._began = True  # there may be none: some encoders refresh pictures bit by bit
            for _ in self.frames():
                pass

    def frames(self, wanted: Callable[[Arrival], bool] = lambda _: True) -> Iterator[Any]:
        """Decodes all packets that wait: `av.VideoFrame`s with their `Arrival`. Before the first keyframe: nothing.

        Args:
            wanted: whether a frame will be looked at. Those that are not, and that no other frame refers to, are left
                out: most of the B-frames, and the upper layers of a stream with temporal layers.
        """
        if not self._began:
            return
        while self._waiting:
            packet = self._waiting.popleft()
            self._bytes -= packet.size
            if packet is self._seen:
                self._seen = None
            else:
                self._counts.decode()
            if packet.is_keyframe:
                yield from self._start_over()
            self._is_whole = True
            yield from self._decode(packet, is_wanted=wanted(packet.opaque))

    def look(self) -> Iterator[Any]:
        """Decodes the keyframe among the packets that wait, which go on waiting."""
        if self._waiting and self._waiting[0].is_keyframe and self._seen is None:
            self._seen = self._waiting[0]
            self._counts.decode()
            yield from self._start_over()
            yield from self._decode(self._seen)
            self._is_whole = False
            yield from self._start_over()

    def clear(self) -> None:
        """Skips all packets that wait."""
        self._is_whole &= not self._waiting
        self._counts.skip(len(self._waiting) - (self._seen is not None))
        self._waiting.clear()
        self._bytes, self._seen = 0, None

    def _start_over(self) -> Iterator[Any]:
        """At a keyframe: has the decoder forget what is not continued; what it still holds comes out."""
        now, replaced = time.monotonic(), self._hardware is not None and self._hardware is not self._decoder
        if self._hardware is None and now - self._load_since > _LOAD_WINDOW:
            replaced = not self._all_threads and self._busy > MAX_LOAD * (now - self._load_since)
            self._load_since, self._busy = now, 0.0
        if self._decoder.is_open and (replaced or not self._is_whole):
            yield from self._decode(None)
            self._decoder.flush_buffers()
            if self._trial is not None:
                self._trial.hardware.flush_buffers()
        if replaced and self._hardware is not None:
            self._decoder = self._hardware
            self._decoder.flush_buffers()
        elif replaced:
            log.info("%s: decoding takes most of one core: it uses all of them", self._stream.name)
            self._all_threads = True
            self._decoder = self._stream.decoder(all_threads=True, deblocking=self._deblocking)

    def _decode(self, packet: Any, *, is_wanted: bool = True) -> Iterator[Any]:
        if self._trial is None and self._decoder is not self._hardware:
            self._decoder.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        began = time.thread_time()  # with one thread, the decoder works in this one
        try:
            frames = self._decoder.decode(packet)
        except (av.error.FFmpegError, ValueError) as error:
            self._counts.damage()
            frames = []
            self._give_up_hardware(error)
        spent = time.thread_time() - began
        self._busy += spent
        if self._trial is not None and packet is not None:
            self._trial.compare(packet, frames, spent)
            self._judge(self._trial)
        for frame in frames:
            # Of an open group of pictures, those that refer to what was not decoded; of an encoder without keyframes,
            # what is not yet whole.
            if not frame.is_corrupt and isinstance(frame.opaque, Arrival):
                yield frame

    def _judge(self, trial: HardwareTrial) -> None:
        if trial.verdict is None:
            return
        self._trial = None
        if trial.verdict:
            self._decided(f"software: {trial.verdict}")
        else:
            self._hardware = trial.hardware
            self._decided(trial.hardware.name)

    def _give_up_hardware(self, error: Exception) -> None:
        if self._hardware is not None and self._decoder is self._hardware:
            self._decided(f"software: {self._hardware.name} fails: {reason(error)}")
            self._hardware = None
            self._decoder = self._stream.decoder(all_threads=self._all_threads, deblocking=self._deblocking)

    def _decided(self, decoder: str) -> None:
        """Says which decoder serves, once for a stream, however often it is opened."""
        if self._counts.as_dict().get("decoder") != decoder:
            log.log(
                logging.WARNING if decoder.startswith("software") else logging.INFO,
                "%s: decoder: %s",
                self._stream.name,
                decoder,
            )
            self._counts.note(decoder=decoder)
