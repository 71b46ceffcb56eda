"""paho's client with bounds on the memory that a broker can make it use."""

from typing import Any, Self

from paho.mqtt.enums import MQTTErrorCode

from edge_agent.mqtt.buffered_client import BufferedClient

# QoS 2 messages without a PUBREL. No session subscribes with QoS 2; an earlier client of the same id may have.
MAX_UNRELEASED = 16
# Bytes that are read at a time.
_READ = 1 << 20


class _Head(bytearray):
    """The first bytes of a packet, up to `limit`; what follows is not kept."""

    limit = 0

    def __iadd__(self, data: Any) -> Self:  # type: ignore[misc]  # paho only adds bytes
        self.extend(data[: max(0, self.limit - len(self))])
        return self


class BoundedClient(BufferedClient):
    """Keeps no more than the first bytes of a packet that is too large, and few QoS 2 messages.

    Attributes:
        max_packet_size: the connection is closed at a larger packet, since the broker knows this limit; None: no limit.
        max_kept: bytes of a packet that are kept; None: all.
        exceeded: which bound the broker has exceeded, so that the connection is closed; empty: none.
    """

    max_packet_size: int | None = None
    max_kept: int | None = None
    exceeded: str = ""

    def _sock_recv(self, bufsize: int) -> bytes:
        packet: Any = self._in_packet
        if packet["have_remaining"] and not packet["packet"]:
            size = packet["remaining_length"]
            if self.max_packet_size is not None and size > self.max_packet_size:
                self.exceeded = f"the broker sent a packet of {size} bytes, at most {self.max_packet_size} are taken"
                raise ConnectionAbortedError("packet too large")
            if self.max_kept is not None and size > self.max_kept:
                packet["packet"] = _Head()
                packet["packet"].limit = self.max_kept
        return super()._sock_recv(min(bufsize, _READ))

    def _handle_publish(self) -> MQTTErrorCode:
        if self._in_packet["command"] & 0x04 and len(self._in_messages) >= MAX_UNRELEASED:
            self.exceeded = f"the broker sent {MAX_UNRELEASED} QoS 2 messages without releasing one"
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._handle_publish()
