"""paho's client with fewer system calls and fewer wake-ups of its network thread.

paho reads the two bytes before each packet one by one, wakes its network thread for each packet that another thread
queues, and writes packet by packet. Each of these system calls lets another thread run, which costs more than the call.
Here one call reads or writes several packets. While the network thread waits for the socket, the thread that queues a
packet also writes it; while it is awake, packets are left to it, so that it writes several at once.
"""

import socket
import threading
import time
from typing import Any, Literal

from paho.mqtt.client import DISCONNECT, PUBACK, PUBLISH, Client, MQTTMessage, MQTTMessageInfo, MQTTv5
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

# Bytes that are read ahead, and that are joined to be written at once.
_BUFFER = 1 << 14
_TYPE = 0xF0  # of a packet, in its first byte
_ID_SIZE = 2  # bytes of a packet id, and of the length of a topic
# What a PUBACK without a reason code means.
_SUCCESS, _NO_PROPERTIES = ReasonCode(PacketTypes.PUBACK), Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]  # paho leaves it untyped


class BufferedClient(Client):
    """A client whose network loop is driven by one thread; any thread may publish and acknowledge."""

    _ahead = b""  # read, and not yet taken
    _drained = False  # whether the socket had no more when it was last read
    _waits = False  # whether the network thread waits for the socket, and does not see what others queue

    def __init__(self, *args: Any, **options: Any) -> None:
        # Held by the thread that takes packets from the queue, writes to the socket or closes it.
        self._writing = threading.RLock()
        super().__init__(*args, **options)

    def loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        """One iteration of the network loop: see paho."""
        self._waits = True  # before it looks at the queue: what is queued later is written by others, or wakes it
        result = super().loop(timeout)
        self._waits = False
        return result

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handles all packets that have come, and writes what that has led to."""
        self._waits = self._drained = False
        result = super().loop_read(max_packets)
        while self._ahead and result == MQTTErrorCode.MQTT_ERR_SUCCESS and self._sock is not None:
            result = super().loop_read(max_packets)
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS and self.want_write():
            result = self.loop_write()
        return result

    def close(self) -> None:
        """Closes the socket, if it is open."""
        self._sock_close()

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self._ahead:
            if self._drained:  # as the next call would find
                raise BlockingIOError
            wanted = max(bufsize, _BUFFER)
            self._ahead = super()._sock_recv(wanted)
            self._drained = len(self._ahead) < wanted
        taken, self._ahead = self._ahead[:bufsize], self._ahead[bufsize:]
        return taken

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
        message = _without_properties(self._in_packet["command"], self._in_packet["packet"], self._protocol)
        if message is None:
            return super()._handle_publish()
        self._handle_on_message(message)
        return MQTTErrorCode.MQTT_ERR_SUCCESS if self._manual_ack or not message.qos else self._send_puback(message.mid)

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) != _ID_SIZE:
            return super()._handle_pubackcomp(cmd)
        message_id = int.from_bytes(packet)
        with self._out_message_mutex:
            if message_id in self._out_messages:
                return self._do_on_publish(message_id, _SUCCESS, _NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _queued(command: int, packet: bytes | bytearray, mid: int, qos: int, info: MQTTMessageInfo | None = None) -> Any:
    """A packet as paho queues it."""
    size = len(packet)
    return {"command": command, "mid": mid, "qos": qos, "pos": 0, "to_process": size, "packet": packet, "info": info}


def _is_plain(queued: Any) -> bool:
    """Whether nothing follows when a packet is written: one of QoS 0 is reported then, and DISCONNECT ends it all."""
    kind = queued["command"] & _TYPE
    return bool(kind != DISCONNECT and (kind != PUBLISH or queued["qos"]))


def _without_properties(command: int, packet: bytes | bytearray, protocol: int) -> MQTTMessage | None:
    """The message of a PUBLISH packet of QoS 0 or 1; None if it has properties, or is malformed.

    Most inputs have none, and paho takes longer for no properties than for all the rest. It also copies the payload
    several times.
    """
    qos, at = command >> 1 & 3, _ID_SIZE + int.from_bytes(packet[:_ID_SIZE])
    message = MQTTMessage(topic=bytes(packet[_ID_SIZE:at]))
    if qos:
        message.mid = int.from_bytes(packet[at : at + _ID_SIZE])
        at += _ID_SIZE
    if protocol == MQTTv5:
        if packet[at : at + 1] != b"\0":
            return None
        at += 1
    if qos > 1 or at > len(packet):
        return None
    message.qos, message.dup, message.retain = qos, bool(command & 8), bool(command & 1)
    message.payload = bytes(memoryview(packet)[at:])
    return message
