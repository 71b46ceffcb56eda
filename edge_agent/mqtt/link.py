"""What a connection asks of the broker (`Session`), what it gets (`Link`), and the client object behind both."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.mqtt.endpoint import Endpoint

CONNECT_TIMEOUT = 10.0
Version = Literal["5", "3.1.1"]


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us, retained, when we are gone without a word.

    Attributes:
        delay: how long the broker waits whether we come back, in seconds (MQTT 5).
    """

    topic: str
    payload: bytes
    delay: int = 0


class Subscription(NamedTuple):
    """A topic filter, and how it is subscribed to.

    Attributes:
        retained_again: whether retained messages are wanted after each reconnect, not only the first time (MQTT 5).
    """

    topic: str
    qos: int
    retained_again: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """What a connection asks of the broker.

    Attributes:
        client_id: the session's name at the broker.
        protocol: MQTT version, or `auto`.
        keepalive: seconds.
        expiry: how long the broker keeps the session, seconds; 0: not at all.
        receive_maximum: most unacknowledged inputs at a time (MQTT 5).
        max_packet_size: largest packet to be sent to us, bytes (MQTT 5).
        subscriptions: what is subscribed to.
        unsubscriptions: topic filters that the broker's session may hold and shall not hold any longer.
    """

    client_id: str
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive: float = 30.0
    expiry: float = 0.0
    receive_maximum: int | None = None
    max_packet_size: int | None = None
    will: Will | None = None
    subscriptions: Sequence[Subscription] = field(default=())
    unsubscriptions: Sequence[str] = field(default=())

    def connect(self, endpoint: Endpoint, version: Version, client: Client) -> None:
        """Opens the network connection and has CONNECT sent by the first turn of the network loop.

        Raises:
            OSError, UnicodeError: there is no connection.
        """
        # In MQTT 3.1.1, where paho wants to see the "not set" of its own, this stands in the client already.
        clean_start: bool | Literal[3] = self.expiry == 0 if version == "5" else 3
        properties = self._properties() if version == "5" else None
        keepalive = int(self.keepalive)
        client.connect(endpoint.host, endpoint.port, keepalive, clean_start=clean_start, properties=properties)

    def subscribe(self, version: Version, client: Client) -> None:
        """Asks for the subscriptions, which does no harm where the broker's session has them already."""
        if self.unsubscriptions:
            client.unsubscribe(list(self.unsubscriptions))
        if not self.subscriptions:
            return
        if version != "5":
            client.subscribe([(wanted.topic, wanted.qos) for wanted in self.subscriptions])
            return
        handling = [0 if wanted.retained_again else 1 for wanted in self.subscriptions]
        options = [
            (wanted.topic, SubscribeOptions(wanted.qos, retainHandling=when))
            for wanted, when in zip(self.subscriptions, handling, strict=True)
        ]
        client.subscribe(options)

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
    """One established connection; of no use any more once it is down.

    Attributes:
        client: the client object.
        version: MQTT version.
        receive_maximum: most QoS 1 messages that may be unacknowledged.
        max_packet_size: largest packet that the broker takes, bytes.
        max_qos: highest QoS that the broker takes.
        retains: whether the broker takes retained messages.
        resumed: whether the broker goes on with the session of before.
    """

    client: Client
    version: Version
    receive_maximum: int = 65_535
    max_packet_size: int = 268_435_455
    max_qos: int = 2
    retains: bool = True
    resumed: bool = False

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int | None:
        """Hands a message to the network thread.

        Returns:
            The message's id; None if the link is down.

        Raises:
            ValueError: nothing can be published to this topic.
        """
        if not topic:  # paho sends it nevertheless, as it would after a topic alias, and the broker hangs up
            raise ValueError("a topic can't be empty")
        info = self.client.publish(
            topic,
            payload,
            min(qos, self.max_qos),
            retain and self.retains,
            properties if self.version == "5" else None,
        )
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def ack(self, message_id: int) -> None:
        """Acknowledges a QoS 1 message."""
        self.client.ack(message_id, 1)


def _delay(will: Will, version: Version) -> Properties | None:
    if version != "5":
        return None
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    properties.WillDelayInterval = will.delay
    return properties


def new_client(endpoint: Endpoint, session: Session, version: Version) -> Client:
    """A client object for one attempt to connect.

    Raises:
        ConfigError: the password or a certificate can't be read.
    """
    client = Client(
        CallbackAPIVersion.VERSION2,
        session.client_id,
        clean_session=session.expiry == 0 if version == "3.1.1" else None,
        protocol=MQTTv5 if version == "5" else MQTTv311,
        transport="websockets" if endpoint.scheme in ("ws", "wss") else "tcp",
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.max_inflight_messages_set(0)  # whoever publishes keeps the broker's bound
    client.connect_timeout = CONNECT_TIMEOUT
    if context := endpoint.tls_context():
        client.tls_set_context(context)
    if endpoint.scheme in ("ws", "wss"):
        client.ws_set_options(endpoint.path)
    if endpoint.username is not None:
        client.username_pw_set(endpoint.username, endpoint.password())
    if session.will:
        client.will_set(
            session.will.topic, session.will.payload, 1, retain=True, properties=_delay(session.will, version)
        )

    def tune(_client: Client, _data: Any, sock: Any) -> None:
        # Nagle's algorithm against delayed acknowledgements costs 40 ms a message. A peer whose kernel does not take
        # our data for a keepalive interval is gone, whatever our own kernel's, far longer, patience.
        with socket.socket(fileno=os.dup(sock.fileno())) as tcp:  # options belong to the connection, not to the handle
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(session.keepalive * 1000))

    client.on_socket_open = tune
    # With this set, a thread that publishes leaves the writing to the network loop.
    client.on_socket_register_write = lambda *_: None
    return client
