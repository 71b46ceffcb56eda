"""The load: JPEGs published with QoS 1, a fixed number of them unanswered at a time, and each answer timed.

It runs in the benchmark's own process, beside the broker and the program under measurement, on the same cores, the
same for every program. So it must be light: it speaks just enough MQTT 3.1.1 over a blocking socket, publishes bytes
that were made before, and does nothing between two answers but note the time. Its CPU time is in the report.
"""

import contextlib
import io
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Self

from benchmarks.processes import cpu_seconds

PATIENCE = 60.0
NOBODY: Mapping[str, int] = {}
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
QOS_1, RETAINED = 0x02, 0x01
REFUSED = 1


class Wire:
    """An MQTT 3.1.1 connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = io.BufferedReader(socket.SocketIO(self._socket, "r"), 1 << 18)
        self._message_id = 0
        # Protocol level 4, clean session, no keepalive, a client id that the broker makes up.
        self._send(CONNECT, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
        self._expect(CONNACK)

    def subscribe(self, topic: str) -> None:
        """Asks for a topic, with QoS 0."""
        self._send(SUBSCRIBE, b"\x00\x01" + _text(topic) + b"\x00")
        self._expect(SUBACK)

    def publish(self, topic: str, payload: bytes) -> None:
        """Sends a message with QoS 1; each must be followed, sooner or later, by `wait_for_puback`."""
        self._message_id = self._message_id % 0xFFFF + 1
        self._send(PUBLISH | QOS_1, _text(topic) + struct.pack("!H", self._message_id), payload)

    def wait_for_puback(self) -> None:
        """Waits for the broker's acknowledgement of one message."""
        self._expect(PUBACK)

    def receive(self) -> bytes:
        """The payload of the next message.

        Raises:
            TimeoutError: none has come for a minute.
        """
        return self.receive_with_topic()[1]

    def receive_with_topic(self) -> tuple[str, bytes]:
        """The next message; what the broker has retained, of a turn before, is passed over.

        Raises:
            TimeoutError: none has come for a minute.
        """
        # Else the broker, which has Nagle's algorithm on, may keep a result back until ours acknowledge the one before.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        kind, body = self._packet()
        while kind == PUBLISH | RETAINED:
            kind, body = self._packet()
        _check(kind, body, PUBLISH)
        end = 2 + int.from_bytes(body[:2])
        return body[2:end].decode(), body[end:]

    def discard(self) -> None:
        """Reads and forgets whatever comes, until the connection is closed."""
        with contextlib.suppress(OSError):
            while self._socket.recv(1 << 16):
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # wakes a thread that reads
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _expect(self, wanted: int) -> bytes:
        kind, body = self._packet()
        _check(kind, body, wanted)
        return body

    def _send(self, kind: int, *parts: bytes) -> None:
        length, head = sum(map(len, parts)), bytearray([kind])
        while True:
            length, low = divmod(length, 128)
            head.append(low | (128 if length else 0))
            if not length:
                break
        self._socket.sendall(b"".join((head, *parts)))

    def _packet(self) -> tuple[int, bytes]:
        kind = self._byte()
        length = shift = 0
        while True:
            byte = self._byte()
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return kind, self._reader.read(length)

    def _byte(self) -> int:
        byte = self._reader.read(1)
        if not byte:
            raise ConnectionError("the broker has hung up")
        return byte[0]


def _check(kind: int, body: bytes, wanted: int) -> None:
    if kind != wanted or (wanted in (CONNACK, SUBACK) and body[-1] >= REFUSED):
        raise ConnectionError(f"the broker answers {kind:#x} {body[:16].hex()}")


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("!H", len(encoded)) + encoded


class Load:
    """Feeds one program through a broker, on one connection, and hears its answers on another one.

    On a single connection the acknowledgement of a JPEG and its result, both small and both from the broker, would
    meet Nagle's algorithm at the broker and delayed acknowledgements here: 44 ms, whatever the program does.

    Args:
        port: of the broker.
        topic_in: that the program takes JPEGs from.
        topic_out: that it answers on.
        jpegs: sent in turn.
    """

    def __init__(self, port: int, topic_in: str, topic_out: str, jpegs: Sequence[bytes]) -> None:
        self._topic, self._jpegs = topic_in, jpegs
        self._out, self._in = Wire(port), Wire(port)
        self._in.subscribe(topic_out)
        self._sent: deque[float] = deque()
        self._number = 0

    def round(self, outstanding: int, count: int, watched: Mapping[str, int] = NOBODY) -> dict[str, float]:
        """`count` answers that are measured, after as many to warm up as there are JPEGs.

        Every program measured here answers in the order of the requests, so each answer is that of the oldest one.

        Args:
            outstanding: how many requests are unanswered at a time.
            count: of the answers that are measured.
            watched: process ids by the name under which their CPU time is to be returned.

        Returns:
            `per_second`: answers; `p50_ms`, `p99_ms`: from before a JPEG was sent until its answer was there;
            `load_cpu_ms` and those of `watched`: CPU time an answer.
        """
        for _ in range(outstanding):
            self._send()
        for _ in self._jpegs:
            self._answer()
            self._send()
        began, cpu = time.perf_counter(), _cpu(watched)
        latencies = []
        for _ in range(count):
            latencies.append(self._answer())
            self._send()
        seconds, cpu_after = time.perf_counter() - began, _cpu(watched)
        for _ in range(outstanding):
            self._answer()
        latencies.sort()
        measured = {name: (cpu_after[name] - cpu[name]) * 1000 / count for name in cpu}
        measured |= {f"p{percent}_ms": latencies[min(count - 1, count * percent // 100)] for percent in (50, 99)}
        return measured | {"per_second": count / seconds}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._out, self._in:
            pass

    def _send(self) -> None:
        self._sent.append(time.perf_counter())
        self._out.publish(self._topic, self._jpegs[self._number % len(self._jpegs)])
        self._number += 1

    def _answer(self) -> float:
        """Waits for it; returns its latency in milliseconds."""
        self._in.receive()
        latency = time.perf_counter() - self._sent.popleft()
        self._out.wait_for_puback()
        return latency * 1000


def _cpu(watched: Mapping[str, int]) -> dict[str, float]:
    return {name: cpu_seconds(pid) for name, pid in watched.items()} | {"load_cpu_ms": time.process_time()}
