"""paho's client with fewer system calls and fewer wake-ups of its network thread.

paho reads the two bytes before each packet one by one, wakes its network thread for each packet that another thread
queues, and writes packet by packet. Each of these system calls lets another thread run, which costs more than the call.
Here one call reads or writes several packets. While the network thread waits for the socket, the thread that queues a
packet also writes it; while it is awake, packets are left to it, so that it writes several at once.

What paho records of each message, so that threads can wait until it is sent, costs as much as sending it. The outbox
has a record of its own, so packets of QoS 1 are made here.
"""

import contextlib
import select
import socket
import threading
import time
from collections import deque
from typing import Any, Literal

from paho.mqtt.client import DISCONNECT, PUBACK, PUBLISH, Client, MQTTMessage, MQTTMessageInfo, MQTTv5
from paho.mqtt.enums import MessageState, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

# Bytes that are read ahead, and that are joined to be written at once.
_BUFFER = 1 << 14
# Seconds without anything, after which `read_ahead` waits for no more.
_PAUSE = 0.02
# Bytes of a packet that is taken as a whole: no limit on the size of packets can be set as low as this.
_SMALL = 1000
_TYPE = 0xF0  # of a packet, in its first byte
_LONG = 0x80  # the bit of a byte of a length, after which there is another byte
_QOS_1, _NO_PROPERTIES_SIZE = 0x02, b"\0"
_ID_SIZE = 2  # bytes of a packet id, and of the length of a topic
# What nearly all PUBACKs hold after the packet id.
_ACCEPTED = {b"": ReasonCode(PacketTypes.PUBACK), b"\x10": ReasonCode(PacketTypes.PUBACK, "No matching subscribers")}
_NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]  # paho leaves it untyped


class BufferedClient(Client):
    """A client whose network loop is driven by one thread; any thread may publish and acknowledge.

    Attributes:
        reads_properties: whether the properties of messages are decoded.
        read_ahead: bytes that are read, if they have come, before the first of them is handled.
    """

    reads_properties = True
    read_ahead = 1

    _ahead = b""  # read; what is before `_taken` has been taken
    _taken = 0
    _finds: OSError | None = None  # what the next read from the socket would find, if that is known
    _waits = False  # whether the network thread waits for the socket, and does not see what others queue

    def __init__(self, *args: Any, **options: Any) -> None:
        # Held by the thread that takes packets from the queue, writes to the socket or closes it.
        self._writing = threading.RLock()
        self._further: deque[bytes] = deque()  # read, after `_ahead`
        super().__init__(*args, **options)

    def loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        """One iteration of the network loop: see paho."""
        self._waits = True  # before it looks at the queue: what is queued later is written by others, or wakes it
        result = super().loop(timeout)
        self._waits = False
        return result

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handles all packets that have come, and writes what that has led to."""
        self._waits, self._finds = False, None
        result = super().loop_read(max_packets)
        while result == MQTTErrorCode.MQTT_ERR_SUCCESS and self._sock is not None and self._has_more():
            result = super().loop_read(max_packets)
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS and self.want_write():
            result = self.loop_write()
        return result

    def close(self) -> None:
        """Closes the socket, if it is open."""
        self._sock_close()

    def publish_qos1(
        self, topic: str, payload: bytes | str, *, retain: bool, properties: Properties | None
    ) -> int | None:
        """Queues a PUBLISH of QoS 1; `on_publish` is called with its packet id when it is acknowledged.

        Returns:
            The packet id; None: there is no connection.
        """
        if self._sock is None:
            return None
        while (mid := self._mid_generate()) in self._out_messages:
            pass
        name = topic.encode()
        parts = [len(name).to_bytes(_ID_SIZE), name, mid.to_bytes(_ID_SIZE)]
        if self._protocol == MQTTv5:
            parts.append(_NO_PROPERTIES_SIZE if properties is None else properties.pack())  # type: ignore[no-untyped-call]  # untyped
        parts.append(payload.encode() if isinstance(payload, str) else payload)
        head, size = bytearray((PUBLISH | _QOS_1 | retain,)), sum(map(len, parts))
        while size >= _LONG:
            head.append(size % _LONG | _LONG)
            size //= _LONG
        head.append(size)
        with self._out_message_mutex:
            self._out_messages[mid] = _SENT
        self._packet_queue(PUBLISH, b"".join((head, *parts)), mid, 1)
        return mid

    def _do_on_publish(self, mid: int, reason_code: ReasonCode, properties: Properties) -> MQTTErrorCode:
        del self._out_messages[mid]
        on_publish: Any = self._on_publish
        if on_publish is not None:
            on_publish(self, None, mid, reason_code, properties)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _packet_read(self) -> MQTTErrorCode:
        if not self._in_packet["command"]:
            self._take_small_packet()
        return super()._packet_read()

    def _take_small_packet(self) -> None:
        """Hands paho a packet as a whole, if it is small and all of it has come; paho takes others byte by byte."""
        if self._taken >= len(self._ahead) and (self._further or self._finds is None):
            with contextlib.suppress(OSError):  # paho finds it as well
                self._read_on(_BUFFER)
            if self._further and self._further[0]:  # nothing: the connection has ended, which paho handles
                self._ahead, self._taken = self._further.popleft(), 0
        ahead, at = self._ahead, self._taken
        if len(ahead) < at + 3 or ahead[at] == 0:
            return
        size, start = ahead[at + 1], at + 2
        if size >= _LONG:
            size += (ahead[start] - 1) * _LONG
            start += 1
        end = start + size
        if size > _SMALL or end > len(ahead):
            return
        self._in_packet |= {
            "command": ahead[at],
            "have_remaining": 1,
            "remaining_length": size,
            "packet": bytearray(ahead[start:end]),
        }
        self._taken = end

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._taken >= len(self._ahead):
            self._read_on(max(bufsize, _BUFFER))
            self._ahead, self._taken = self._further.popleft(), 0
        start = self._taken
        self._taken = start + bufsize
        return self._ahead[start : self._taken]

    def _has_more(self) -> bool:
        return self._taken < len(self._ahead) or bool(self._further)

    def _read_on(self, size: int) -> None:
        """Reads what has come, `size` bytes at a time; after `read_ahead` bytes, or an end, the rest is left."""
        if self._finds is not None and not self._further:
            raise self._finds
        waits, kept = not self._further, sum(map(len, self._further))
        while True:
            try:
                found = super()._sock_recv(size)
            except OSError as error:
                self._finds = error
                if not self._further:
                    raise
                return
            drained = len(found) < size
            self._finds = BlockingIOError() if found and drained else None
            if found or not self._further:
                self._further.append(found)
            kept += len(found)
            if not found or kept >= self.read_ahead or (drained and not (waits and self._comes_more())):
                return

    def _comes_more(self) -> bool:
        return self._sock is not None and bool(select.select([self._sock], [], [], _PAUSE)[0])

    def _packet_queue(
        self, command: int, packet: bytes | bytearray, mid: int, qos: int, info: MQTTMessageInfo | None = None
    ) -> MQTTErrorCode:
        self._out_packet.append(_queued(command, packet, mid, qos, info))
        if self._waits and type(self._sock) is socket.socket:  # in TLS, no thread may write while another one reads
            self._write_here()
        if self._waits and self._out_packet and self._sockpairW is not None:
            self._waits = False
            self._sockpairW.send(b"0")
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _write_here(self) -> None:
        """Writes what is queued; what can't be written is left to the network thread, which reports errors."""
        while self._out_packet and self._writing.acquire(blocking=False):
            try:
                self._join_first()
                first: Any = self._out_packet[0]
                if self._sock is None or not _is_plain(first):
                    return
                written = self._sock.send(first["packet"][first["pos"] :])
                first["pos"] += written
                first["to_process"] -= written
                if first["to_process"]:
                    return
                self._out_packet.popleft()
                self._last_msg_out = time.monotonic()
            except (OSError, IndexError):  # IndexError: another thread has just written it
                return
            finally:
                self._writing.release()

    def _packet_write(self) -> MQTTErrorCode:
        self._waits = False
        with self._writing:
            self._join_first()
            return super()._packet_write()

    def _sock_close(self) -> None:
        with self._writing:
            super()._sock_close()

    def _join_first(self) -> None:
        """Makes one packet of the first ones in the queue, so that they are written at once."""
        if len(self._out_packet) == 1:
            return
        joined, size = [], 0
        while self._out_packet and size < _BUFFER and _is_plain(self._out_packet[0]):
            packet = self._out_packet.popleft()
            joined.append(packet["packet"][packet["pos"] :])
            size += len(joined[-1])
        if joined:
            self._out_packet.appendleft(_queued(PUBACK, b"".join(joined), mid=0, qos=1))

    def _handle_publish(self) -> MQTTErrorCode:
        incoming = self._in_packet
        message = _without_properties(
            incoming["command"], incoming["packet"], self._protocol, skip=not self.reads_properties
        )
        if message is None:
            return super()._handle_publish()
        self._handle_on_message(message)
        return MQTTErrorCode.MQTT_ERR_SUCCESS if self._manual_ack or not message.qos else self._send_puback(message.mid)

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        reason = _ACCEPTED.get(bytes(packet[_ID_SIZE:]))
        if cmd != "PUBACK" or len(packet) < _ID_SIZE or reason is None:
            return super()._handle_pubackcomp(cmd)
        if (message_id := int.from_bytes(packet[:_ID_SIZE])) in self._out_messages:
            return self._do_on_publish(message_id, reason, _NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_on_message(self, message: MQTTMessage) -> None:
        if (on_message := self._on_message) is not None:
            on_message(self, None, message)


def _queued(command: int, packet: bytes | bytearray, mid: int, qos: int, info: MQTTMessageInfo | None = None) -> Any:
    """A packet as paho queues it."""
    size = len(packet)
    return {"command": command, "mid": mid, "qos": qos, "pos": 0, "to_process": size, "packet": packet, "info": info}


def _is_plain(queued: Any) -> bool:
    """Whether nothing follows when a packet is written: one of QoS 0 is reported then, and DISCONNECT ends it all."""
    kind = queued["command"] & _TYPE
    return bool(kind != DISCONNECT and (kind != PUBLISH or queued["qos"]))


class _Received(MQTTMessage):
    """A message that has come. paho makes a condition for each one, by which threads wait until it has been sent."""

    __slots__ = ()

    def __init__(self, topic: bytes) -> None:  # all but `info`
        self._topic, self.payload, self.properties = topic, b"", None
        self.mid, self.qos, self.dup, self.retain = 0, 0, False, False
        self.timestamp, self.state = 0.0, MessageState.MQTT_MS_INVALID


# In place of paho's record of a message that is not acknowledged yet: it has nothing to do for this one.
_SENT = _Received(b"")
_SENT.qos, _SENT.state = 1, MessageState.MQTT_MS_WAIT_FOR_PUBACK


def _without_properties(
    command: int, packet: bytes | bytearray, protocol: int, *, skip: bool = False
) -> MQTTMessage | None:
    """The message of a PUBLISH packet of QoS 0 or 1; None if it has properties, or is malformed.

    Most inputs have none, and paho takes longer for no properties than for all the rest. It also copies the payload
    several times.

    Args:
        command: the first byte of the packet.
        packet: what follows its length.
        protocol: MQTT version.
        skip: properties are not looked at.
    """
    qos, at = command >> 1 & 3, _ID_SIZE + int.from_bytes(packet[:_ID_SIZE])
    message = _Received(bytes(packet[_ID_SIZE:at]))
    if qos:
        message.mid = int.from_bytes(packet[at : at + _ID_SIZE])
        at += _ID_SIZE
    if protocol == MQTTv5:
        size = packet[at] if at < len(packet) else _LONG
        if size >= _LONG or (size and not skip):
            return None
        at += 1 + size
    if qos > 1 or at > len(packet):
        return None
    message.qos, message.dup, message.retain = qos, bool(command & 8), bool(command & 1)
    message.payload = bytes(memoryview(packet)[at:])
    return message
