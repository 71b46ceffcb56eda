"""One session with the broker, kept up: connect, fall back from MQTT 5 to 3.1.1, reconnect with back-off.

Every attempt gets a fresh client object, so that nothing of a broken connection (packet ids, half-sent messages) leaks
into the next. What must survive is kept by the outbox and, for inputs, by the broker's session.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.backoff import Backoff
from edge_agent.errors import ConfigError
from edge_agent.mqtt.endpoint import Endpoint

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
STABLE_AFTER = 10.0
_UNSUPPORTED_PROTOCOL = 132
_REFUSED = 128
_HINTS = {
    134: "check mqtt.username and mqtt.password_file",
    135: "check mqtt.username, mqtt.password_file and the broker's access rules",
    133: "the broker does not accept this device_id as part of a client id",
    142: "another client uses the same client id: is device_id unique?",
}


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us when we are gone without a word."""

    topic: str
    payload: bytes


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
        subscriptions: topic filters with their QoS.
    """

    client_id: str
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive: float = 30.0
    expiry: float = 0.0
    receive_maximum: int | None = None
    max_packet_size: int | None = None
    will: Will | None = None
    subscriptions: Sequence[tuple[str, int]] = field(default=())


@dataclass(frozen=True, slots=True)
class Link:
    """One established connection; of no use any more once it is down.

    Attributes:
        client: the client object.
        version: MQTT version, 5 or 3.1.1.
        receive_maximum: most results that may be unacknowledged.
        max_packet_size: largest packet that the broker takes, bytes.
    """

    client: Client
    version: str
    receive_maximum: int
    max_packet_size: int

    def publish(
        self, topic: str, payload: bytes | str, qos: int = 0, *, retain: bool = False, properties: Properties | None = None
    ) -> int | None:
        """Hands a message to the network thread; returns its id, or None if the link is down."""
        info = self.client.publish(topic, payload, qos, retain, properties if self.version == "5" else None)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def ack(self, message_id: int) -> None:
        """Acknowledges a QoS 1 message that came over this link."""
        if message_id:  # QoS 0 messages have none
            self.client.ack(message_id, 1)


class Connection:
    """Keeps one session up until it is stopped.

    The callbacks run in the network thread and must be quick and not wait for locks held while publishing.

    Args:
        endpoint: the broker.
        session: what is asked of it.
        on_up: called with each new link.
        on_down: called when the link is gone.
        on_message: called with each input.
        on_acknowledged: called with a message id and whether the broker took the message (else why not).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        session: Session,
        *,
        on_up: Callable[[Link], None] = lambda _: None,
        on_down: Callable[[], None] = lambda: None,
        on_message: Callable[[Link, MQTTMessage], None] = lambda *_: None,
        on_acknowledged: Callable[[int, str], None] = lambda *_: None,
    ) -> None:
        self.endpoint = endpoint
        self.session = session
        self.link: Link | None = None
        self.problem = "not connected yet"
        self._on_up, self._on_down, self._on_message = on_up, on_down, on_message
        self._on_acknowledged = on_acknowledged
        self._protocol = "3.1.1" if session.protocol == "3.1.1" else "5"
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._subscribed_once = threading.Event()
        self._said = ""
        self._refusal: ReasonCode | None = None
        self._thread = threading.Thread(target=self._keep_up, name=f"mqtt {session.client_id}", daemon=True)

    def start(self) -> None:
        """Begins to connect, in the background."""
        self._thread.start()

    def wait_until_tried(self, timeout: float) -> bool:
        """Waits for the first attempt to succeed or fail; returns whether it did either in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.link is not None or bool(self._said), timeout)

    def wait_until_subscribed(self, timeout: float) -> bool:
        """Waits until the subscriptions stand (or have been refused); returns whether that came in time."""
        return self._subscribed_once.wait(timeout)

    def stop(self, timeout: float = 0.5) -> None:
        """Disconnects politely (the will is not sent) and ends the threads.

        Args:
            timeout: seconds; after that the connection is simply left.
        """
        self._stopping.set()
        with self._changed:
            link = self.link
            self._changed.notify_all()
        if link is not None:
            link.client.disconnect()
        self._thread.join(timeout)

    def _keep_up(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            began = time.monotonic()
            self._connect_once()
            if time.monotonic() - began > STABLE_AFTER:
                backoff.reset()
            self._stopping.wait(backoff.delay())

    def _connect_once(self) -> None:
        """Connects and stays connected for as long as it goes."""
        ended = threading.Event()
        self._refusal = None
        try:
            client = self._new_client(ended)
            client.connect(
                self.endpoint.host,
                self.endpoint.port,
                int(self.session.keepalive),
                clean_start=self._clean if self._protocol == "5" else 3,  # 3: "not set", for versions before 5
                properties=self._connect_properties() if self._protocol == "5" else None,
            )
        except OSError as error:
            self._say(self.endpoint.explain(error))
            return
        except ConfigError as error:
            self._say(str(error))
            return
        client.loop_start()
        ended.wait(HANDSHAKE_TIMEOUT)
        if self.link is None and not ended.is_set():
            self._say(f"{self.endpoint.address}: accepts the connection and then says nothing: is it an MQTT broker?")
        else:
            ended.wait()
        client.loop_stop()
        if self.link is not None:
            with self._changed:
                self.link = None
            self._on_down()

    @property
    def _clean(self) -> bool:
        return self.session.expiry == 0

    def _new_client(self, ended: threading.Event) -> Client:
        clean = {} if self._protocol == "5" else {"clean_session": self._clean}
        client = Client(
            CallbackAPIVersion.VERSION2,
            self.session.client_id,
            protocol=MQTTv5 if self._protocol == "5" else MQTTv311,
            transport="websockets" if self.endpoint.scheme in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
            manual_ack=True,
            **clean,
        )
        client.max_inflight_messages_set(0)  # the outbox has its own bound
        client.connect_timeout = HANDSHAKE_TIMEOUT
        if context := self.endpoint.tls_context():
            client.tls_set_context(context)
        if self.endpoint.scheme in ("ws", "wss"):
            client.ws_set_options(self.endpoint.path)
        if self.endpoint.username is not None:
            client.username_pw_set(self.endpoint.username, self.endpoint.password())
        if self.session.will:
            client.will_set(self.session.will.topic, self.session.will.payload, qos=1, retain=True)
        client.on_socket_open = self._tune_socket
        client.on_connect = self._connected
        client.on_message = self._received
        client.on_publish = self._published
        client.on_subscribe = self._subscribed

        def disconnected(
            _client: Client, _data: Any, flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
        ) -> None:
            self._explain_disconnect(flags, reason)
            ended.set()

        client.on_disconnect = disconnected
        return client

    def _connect_properties(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)
        if self.session.expiry:
            properties.SessionExpiryInterval = int(self.session.expiry)
        if self.session.receive_maximum:
            properties.ReceiveMaximum = self.session.receive_maximum
        if self.session.max_packet_size:
            properties.MaximumPacketSize = self.session.max_packet_size
        return properties

    def _tune_socket(self, _client: Client, _data: Any, sock: Any) -> None:
        # Nagle's algorithm against delayed acknowledgements costs 40 ms a message. A peer that does not take our data
        # for a keepalive interval is gone, whatever the kernel's own, far longer, patience.
        raw = sock if isinstance(sock, socket.socket) else getattr(sock, "_socket", None)
        if isinstance(raw, socket.socket):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.session.keepalive * 1000))

    def _connected(
        self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refusal = reason  # said in the disconnect that follows
            return
        if self.session.subscriptions:
            client.subscribe([self._subscription(*wanted) for wanted in self.session.subscriptions])
        link = Link(
            client,
            self._protocol,
            receive_maximum=getattr(properties, "ReceiveMaximum", 65535),
            max_packet_size=getattr(properties, "MaximumPacketSize", 268_435_455),
        )
        with self._changed:
            self.link = link
            self.problem = ""
            self._changed.notify_all()
        log.info("connected to %s as %s, MQTT %s", self.endpoint.address, self.session.client_id, self._protocol)
        self._said = ""
        self._on_up(link)

    def _subscription(self, topic_filter: str, qos: int) -> tuple[str, Any]:
        if self._protocol != "5":
            return topic_filter, qos
        # Retained messages come once, with a new subscription, not again after each reconnect.
        return topic_filter, SubscribeOptions(qos, retainHandling=0 if topic_filter.startswith("$share/") else 1)

    def _subscribed(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._subscribed_once.set()
        for (topic_filter, _), reason in zip(self.session.subscriptions, reasons, strict=False):
            if reason.value >= _REFUSED:
                log.error(
                    "%s: the broker refuses the subscription to %s: %s: check its access rules",
                    self.endpoint.address,
                    topic_filter,
                    reason,
                )

    def _received(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        link = self.link
        if link is not None and link.client is client:
            self._on_message(link, message)

    def _published(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._on_acknowledged(mid, str(reason) if reason.value >= _REFUSED else "")

    def _explain_disconnect(self, flags: DisconnectFlags, reason: ReasonCode) -> None:
        if self._stopping.is_set():
            return
        address, may_fall_back = self.endpoint.address, self.session.protocol == "auto"
        if self.link is not None:
            by = "by the broker" if flags.is_disconnect_packet_from_server else "the network or the broker is gone"
            self._say(f"{address}: connection lost: {by} ({reason}){_hint(reason)}")
        elif may_fall_back and self._protocol == "5" and (
            self._refusal is None or self._refusal.value == _UNSUPPORTED_PROTOCOL
        ):
            self._protocol = "3.1.1"
            self._say(f"{address}: does not speak MQTT 5: going on with MQTT 3.1.1")
        else:
            if may_fall_back and self._refusal is None:
                self._protocol = "5"
            why = f"the broker refuses the connection: {self._refusal}" if self._refusal else "closes the connection"
            self._say(f"{address}: {why}{_hint(self._refusal)}")

    def _say(self, problem: str) -> None:
        """Logs a state of affairs when it is new."""
        with self._changed:
            self.problem = problem
            new, self._said = problem != self._said, problem
            self._changed.notify_all()
        if new:
            log.warning("%s", problem)


def _hint(reason: ReasonCode | None) -> str:
    hint = _HINTS.get(reason.value) if reason is not None else None
    return f": {hint}" if hint else ""
