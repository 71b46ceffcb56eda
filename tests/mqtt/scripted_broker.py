"""A broker that does what a test tells it: refuse, stay silent, limit, answer with any reason code, or send rubbish."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14


def connack(reason: int = 0, properties: bytes = b"") -> bytes:
    """CONNACK of MQTT 5."""
    return bytes([0x20, 3 + len(properties), 0, reason, len(properties)]) + properties


def connack_3(code: int = 0) -> bytes:
    """CONNACK of MQTT 3.1.1."""
    return bytes([0x20, 2, 0, code])


@dataclass(frozen=True)
class Published:
    """A PUBLISH packet that the broker got."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class ScriptedBroker:
    """Listens on a loopback port; a thread for each connection.

    Args:
        on_connect: what is answered to CONNECT, by its protocol level (4: 3.1.1, 5); None: the connection is closed;
            b"": nothing.
        on_publish: reason code for each QoS 1 message; None: no answer.
        suback: reason code for every subscription.
    """

    def __init__(
        self,
        on_connect: Callable[[int], bytes | None] = lambda level: connack() if level == 5 else connack_3(),
        on_publish: Callable[[Published], int | None] = lambda _: 0,
        suback: int = 1,
    ) -> None:
        self.on_connect = on_connect
        self.on_publish = on_publish
        self.suback = suback
        self.frozen = False  # whether it takes everything and answers nothing
        self.levels: list[int] = []
        self.subscribed = 0  # SUBSCRIBE packets
        self.pings: list[float] = []  # when each PINGREQ came, on the monotonic clock
        self.published: list[Published] = []
        self.most_unanswered = 0
        self._unanswered = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)

    def send(self, data: bytes) -> None:
        """Sends raw bytes over every open connection."""
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.sendall(data)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        self._unanswered, level = 0, 0
        with contextlib.suppress(OSError, EOFError), connection, connection.makefile("rb") as stream:
            while True:
                kind, flags, body = _packet(stream.read)
                if self.frozen:
                    continue
                if kind == CONNECT:
                    level = body[6]
                    self.levels.append(level)
                    answer = self.on_connect(level)
                    if answer is None:
                        return
                    connection.sendall(answer)
                elif kind == PUBLISH:
                    self._answer_publish(connection, level, flags, body)
                elif kind == SUBSCRIBE:
                    self.subscribed += 1
                    properties = b"\0" if level == 5 else b""
                    codes = bytes([self.suback] * _topics(body[2 + len(properties) :]))
                    answer = body[:2] + properties + codes
                    connection.sendall(bytes([0x90, len(answer)]) + answer)
                elif kind == PINGREQ:
                    self.pings.append(time.monotonic())
                    connection.sendall(b"\xd0\0")
                elif kind == DISCONNECT:
                    return

    def _answer_publish(self, connection: socket.socket, level: int, flags: int, body: bytes) -> None:
        length = struct.unpack_from("!H", body)[0]
        topic, rest, qos = body[2 : 2 + length].decode(), body[2 + length :], flags >> 1 & 3
        message_id, rest = (rest[:2], rest[2:]) if qos else (b"", rest)
        if level == 5:
            rest = rest[1 + rest[0] :]
        message = Published(topic, rest, qos, bool(flags & 1))
        self.published.append(message)
        if not qos:
            return
        self._unanswered += 1
        self.most_unanswered = max(self.most_unanswered, self._unanswered)
        reason = self.on_publish(message)
        if reason is not None:
            self._unanswered -= 1
            code = bytes([reason]) if reason else b""
            connection.sendall(bytes([0x40, 2 + len(code)]) + message_id + code)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join()
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


def _topics(filters: bytes) -> int:
    """The number of topic filters in the payload of a SUBSCRIBE; each is followed by one byte of options."""
    count = 0
    while filters:
        [length] = struct.unpack_from("!H", filters)
        filters, count = filters[3 + length :], count + 1
    return count


def _packet(read: Callable[[int], bytes]) -> tuple[int, int, bytes]:
    first = read(1)
    if not first:
        raise EOFError
    length, shift = 0, 0
    while True:
        [byte] = read(1)
        length |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            break
    return first[0] >> 4, first[0] & 15, read(length)
