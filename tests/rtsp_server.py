"""A camera on the network that serves its streams over RTSP: RTP within the TCP connection, as RFC 2326, section 10.12,
with H.264 (RFC 6184) and H.265 (RFC 7798)."""

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av

CLOCK = 90_000
_MOST = 1400  # bytes of an RTP packet
_REPORT_PERIOD = 0.5
_NTP_EPOCH = -2_208_988_800  # 1900-01-01, in seconds since 1970


@dataclass(frozen=True)
class Unit:
    """One encoded picture.

    Attributes:
        sent: seconds after the start of the stream at which it is sent.
        shown: the same, at which it is shown.
        nals: its parts.
    """

    sent: float
    shown: float
    nals: tuple[bytes, ...]


@dataclass(frozen=True)
class Clip:
    """What a stream shows, again and again from a moment on.

    Attributes:
        codec: H264 or H265.
        units: its pictures.
        seconds: how long it lasts.
        again: seconds after its start from which it is shown again.
    """

    codec: str
    units: tuple[Unit, ...]
    seconds: float
    again: float = 0.0

    @classmethod
    def read(cls, *paths: Path, again: int = 0) -> "Clip":
        """The pictures of encoded files (.ts), one after the other, and again from the file with this number on."""
        units: list[Unit] = []
        begins, codec, again_at = 0.0, "", 0.0
        for number_of_file, path in enumerate(paths):
            again_at = begins if number_of_file == again else again_at
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                codec = {"h264": "H264", "hevc": "H265"}[stream.codec_context.name]
                step = float(1 / (stream.average_rate or Fraction(25)))
                packets = [packet for packet in container.demux(stream) if packet.size]
            first = min(float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None)
            for number, packet in enumerate(packets):
                shown = float((packet.pts or 0) * packet.time_base) - first
                units.append(Unit(begins + number * step, begins + shown, tuple(_nals(bytes(packet)))))
            begins += len(packets) * step
        return cls(codec, tuple(units), begins, again_at)


class RtspServer:
    """Serves clips in real time to any number of clients.

    Args:
        clips: by path.
        late: seconds by which a path's pictures are sent later than they are taken.
        clock: what the camera's clock shows more than the monotonic one, in seconds; it is told in RTCP sender reports
            (RFC 3550, section 6.4.1). None: there are no reports.

    Attributes:
        sent: units sent so far, over all connections, by path.
        connections: how many have been accepted so far.
    """

    def __init__(
        self, clips: Mapping[str, Clip], late: Mapping[str, float] | None = None, clock: float | None = None
    ) -> None:
        server = self
        self._clips = dict(clips)
        self._late = dict(late or {})
        self._clock = clock
        self.sent = dict.fromkeys(clips, 0)
        self.began: dict[str, float] = {}
        self.connections = 0
        self._closed = threading.Event()
        self._playing = threading.Event()
        self._playing.set()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                server.connections += 1
                with contextlib.suppress(OSError, ValueError):
                    server._serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{path}"

    def stall(self) -> None:
        """Connections stand, and nothing comes any more."""
        self._playing.clear()

    def play(self) -> None:
        self._playing.set()

    def _serve(self, request: Any) -> None:
        path = ""
        while line := request.rfile.readline():
            method, uri, _ = line.decode().split(" ")
            headers = {}
            while (header := request.rfile.readline().strip()) != b"":
                key, _, value = header.decode().partition(":")
                headers[key.lower()] = value.strip()
            path = uri.split("/")[3]
            status, extra, body = "200 OK", "", ""
            if path not in self._clips:
                status = "404 Not Found"
            elif method == "DESCRIBE":
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                    f"a=rtpmap:96 {self._clips[path].codec}/{CLOCK}\r\na=control:track1\r\n"
                )
                extra = f"Content-Type: application/sdp\r\nContent-Base: {uri}/\r\n"
            elif method == "OPTIONS":
                extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "SETUP":
                extra = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            elif method in ("PLAY", "TEARDOWN"):
                extra = "Session: 1\r\n"
            head = f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
            request.wfile.write((head + body).encode())
            if method == "PLAY":
                self._play(request.connection, path)
                return
            if method == "TEARDOWN":
                return

    def _play(self, connection: socket.socket, path: str) -> None:
        clip, sequence, began = self._clips[path], 0, time.monotonic()
        self.began[path] = time.monotonic()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(10)
        turn, reported, late = 0.0, -_REPORT_PERIOD, self._late.get(path, 0.0)
        while True:
            for unit in clip.units:
                while not self._playing.is_set():
                    if self._closed.wait(0.02):
                        return
                if self._closed.wait(max(0.0, began + late + turn + unit.sent - time.monotonic())):
                    return
                data = bytearray()
                if self._clock is not None and turn + unit.sent - reported >= _REPORT_PERIOD:
                    reported = turn + unit.sent
                    data += _sender_report(self._clock + began + turn + unit.shown, turn + unit.shown)
                for payload, last in _payloads(unit.nals, clip.codec):
                    stamp = round((turn + unit.shown) * CLOCK) & 0xFFFFFFFF
                    data += struct.pack(">BBH", 0x24, 0, len(payload) + 12)
                    data += struct.pack(">BBHII", 0x80, 96 | (last << 7), sequence & 0xFFFF, stamp, 1) + payload
                    sequence += 1
                connection.sendall(data)
                self.sent[path] += 1
            turn += clip.seconds - clip.again
            clip = replace(clip, units=tuple(unit for unit in clip.units if unit.sent >= clip.again))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()


def _sender_report(taken: float, shown: float) -> bytes:
    """That a picture was taken at this moment, in seconds since 1970, as a packet of the second channel."""
    ntp = round((taken - _NTP_EPOCH) * 2**32)
    stamp = round(shown * CLOCK) & 0xFFFFFFFF
    report = struct.pack(">BBHIQIII", 0x80, 200, 6, 1, ntp, stamp, 0, 0)
    return struct.pack(">BBH", 0x24, 1, len(report)) + report


def _nals(data: bytes) -> Iterator[bytes]:
    """The units of an Annex B byte stream."""
    for part in data.split(b"\0\0\1"):
        nal = part.rstrip(b"\0")
        if nal:
            yield nal


def _payloads(nals: tuple[bytes, ...], codec: str) -> Iterator[tuple[bytes, bool]]:
    """RTP payloads of one picture, and whether each is its last one; large units in fragments."""
    for number, nal in enumerate(nals):
        is_last = number == len(nals) - 1
        if len(nal) <= _MOST:
            yield nal, is_last
            continue
        if codec == "H264":
            head, kind, body = bytes([nal[0] & 0xE0 | 28]), nal[0] & 0x1F, nal[1:]
        else:
            head, kind, body = bytes([nal[0] & 0x81 | 49 << 1, nal[1]]), nal[0] >> 1 & 0x3F, nal[2:]
        for at in range(0, len(body), _MOST):
            ends = at + _MOST >= len(body)
            yield head + bytes([(at == 0) << 7 | ends << 6 | kind]) + body[at : at + _MOST], is_last and ends
