"""The parameters of a session (`Session`), an established connection (`Link`), and paho's client behind both."""

import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.mqtt.bounded_client import BoundedClient
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.publish_properties import PublishProperties, will_properties
from edge_agent.settings.topics import problem_of_name

CONNECT_TIMEOUT = 10.0
Version = Literal["5", "3.1.1"]


@dataclass(frozen=True, slots=True)
class Will:
    """The last will: published by the broker, retained, when the connection is lost without a DISCONNECT.

    Attributes:
        delay: will delay interval: the broker waits this long for a reconnect, seconds (MQTT 5).
    """

    topic: str
    payload: bytes
    delay: int = 0
    qos: int = 1
    retain: bool = True


class Subscription(NamedTuple):
    """A topic filter with its options.

    Attributes:
        retained_again: whether retained messages are sent at each subscribe, not only for a new subscription (MQTT 5).
    """

    topic: str
    qos: int
    retained_again: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """What a connection requests from the broker.

    Attributes:
        client_id: identifies the session.
        protocol: MQTT version; `auto`: 5, or 3.1.1 if the broker does not support it.
        keepalive: keep-alive interval, seconds.
        expiry: session expiry interval: how long the broker keeps the session, seconds; 0: not at all.
        receive_maximum: QoS 1 messages that the broker may send before a PUBACK (MQTT 5).
        max_packet_size: largest packet that the broker may send, bytes (MQTT 5).
        max_kept: bytes of a larger packet that are kept in memory, at its beginning; None: all.
        will: the last will.
        subscriptions: subscribed to after each CONNACK.
        unsubscriptions: topic filters that are removed from the broker's session.
        device_id: named as the sender of all that is published (MQTT 5); empty: no sender is named.
        reads_properties: whether the properties of messages are decoded (MQTT 5), which takes longer than all the rest.
        read_ahead: bytes that are read, if they have come, before the first message is handled: a broker drops what a
            slow reader leaves to it.
    """

    client_id: str
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive: float = 30.0
    expiry: float = 0.0
    receive_maximum: int | None = None
    max_packet_size: int | None = None
    max_kept: int | None = None
    will: Will | None = None
    subscriptions: Sequence[Subscription] = field(default=())
    unsubscriptions: Sequence[str] = field(default=())
    device_id: str = ""
    reads_properties: bool = True
    read_ahead: int = 1

    def connect(self, endpoint: Endpoint, version: Version, client: Client) -> None:
        """Opens the network connection; the first iteration of the network loop sends CONNECT.

        Raises:
            OSError, UnicodeError: there is no connection.
        """
        # MQTT 3.1.1: the client object has its clean_session already, and paho expects its "not set" (3) here.
        clean_start: bool | Literal[3] = self.expiry == 0 if version == "5" else 3
        properties = self._properties() if version == "5" else None
        keepalive = int(self.keepalive)
        client.connect(endpoint.host, endpoint.port, keepalive, clean_start=clean_start, properties=properties)

    def subscribe(self, version: Version, client: Client) -> int | None:
        """Sends UNSUBSCRIBE and SUBSCRIBE; to subscribe again in a kept session changes nothing.

        Returns:
            The packet id of the SUBSCRIBE; None if there is none.
        """
        if self.unsubscriptions:
            client.unsubscribe(list(self.unsubscriptions))
        if not self.subscriptions:
            return None
        if version != "5":
            return client.subscribe([(wanted.topic, wanted.qos) for wanted in self.subscriptions])[1]
        handling = [0 if wanted.retained_again else 1 for wanted in self.subscriptions]
        options = [
            (wanted.topic, SubscribeOptions(wanted.qos, retainHandling=when))
            for wanted, when in zip(self.subscriptions, handling, strict=True)
        ]
        return client.subscribe(options)[1]

    def _properties(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
        if self.expiry:
            properties.SessionExpiryInterval = int(self.expiry)
        if self.receive_maximum:
            properties.ReceiveMaximum = self.receive_maximum
        if self.max_packet_size:
            properties.MaximumPacketSize = self.max_packet_size
        return properties


@dataclass(frozen=True, slots=True)
class Link:
    """One established connection, with the limits from its CONNACK. Not used again after it is lost.

    Attributes:
        client: paho's client.
        version: MQTT version.
        receive_maximum: QoS 1 messages that may be published before a PUBACK.
        max_packet_size: largest packet that the broker accepts, bytes.
        max_qos: highest QoS that the broker accepts.
        retains: whether the broker supports retained messages.
        resumed: session present: whether the broker has kept the session.
        device_id: see `Session`.
        reconnect: ends the connection, for a reason, so that it is made again; from any thread.
    """

    client: BoundedClient
    version: Version
    receive_maximum: int = 65_535
    max_packet_size: int = 268_435_455
    max_qos: int = 2
    retains: bool = True
    resumed: bool = False
    device_id: str = ""
    reconnect: Callable[[str], None] = lambda _: None

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: PublishProperties = PublishProperties(),  # noqa: B008 - can't be changed
    ) -> int | None:
        """Queues a PUBLISH for the network thread; `qos` and `retain` are reduced to what the broker supports.

        In MQTT 5 the message has the properties that are given, and names the sender.

        Returns:
            The packet id; None if the connection is lost.

        Raises:
            ValueError: the topic can't be published to.
        """
        # paho would send most of those that are not valid, and the broker would close the connection.
        if problem := problem_of_name(topic):
            raise ValueError(f"the topic {problem}")
        retain = retain and self.retains
        packed = properties.of(self.device_id) if self.version == "5" else None
        if min(qos, self.max_qos):
            return self.client.publish_qos1(topic, payload, retain=retain, properties=packed)
        info = self.client.publish(topic, payload, 0, retain, packed)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def delivered(self) -> bool:
        """Whether the broker's machine has received all that was published; False where that can't be determined."""
        sock = self.client.socket()
        if sock is None or self.client.want_write():
            return False
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            [unsent] = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
            return bool(unsent == 0)
        return False

    def ack(self, message_id: int, qos: int = 1) -> None:
        """Acknowledges a message: PUBACK, or for QoS 2 PUBCOMP.

        A message of QoS 0 has no packet id and no acknowledgement: brokers close the connection on a PUBACK of id 0.
        """
        if message_id and qos:
            self.client.ack(message_id, qos)


def new_client(endpoint: Endpoint, session: Session, version: Version) -> BoundedClient:
    """A client object for one attempt to connect.

    Raises:
        ConfigError: the password or a certificate can't be read.
    """
    client = BoundedClient(
        CallbackAPIVersion.VERSION2,
        session.client_id,
        clean_session=session.expiry == 0 if version == "3.1.1" else None,
        protocol=MQTTv5 if version == "5" else MQTTv311,
        transport="websockets" if endpoint.scheme in ("ws", "wss") else "tcp",
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.reads_properties, client.read_ahead = session.reads_properties, session.read_ahead
    client.max_kept = session.max_kept
    client.max_packet_size = session.max_packet_size if version == "5" else None
    client.max_inflight_messages_set(0)  # the outbox observes the receive maximum
    client.connect_timeout = CONNECT_TIMEOUT
    if context := endpoint.tls_context():
        client.tls_set_context(context)
    if endpoint.scheme in ("ws", "wss"):
        client.ws_set_options(endpoint.path)
    if endpoint.username is not None:
        client.username_pw_set(endpoint.username, endpoint.password())
    if session.will:
        will = session.will
        properties = will_properties(will.delay, session.device_id) if version == "5" else None
        client.will_set(will.topic, will.payload, will.qos, retain=will.retain, properties=properties)

    def tune(_client: Client, _data: Any, sock: Any) -> None:
        # Nagle's algorithm together with delayed TCP acknowledgements costs 40 ms a message. If TCP data is not
        # acknowledged for a keep-alive interval, the connection is lost; the kernel's own timeout is much longer.
        with socket.socket(fileno=os.dup(sock.fileno())) as tcp:  # paho's WebSocket has no setsockopt
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(session.keepalive * 1000))

    client.on_socket_open = tune
    # With this set, publishing only queues: the network loop alone writes to the socket.
    client.on_socket_register_write = lambda *_: None
    return client
