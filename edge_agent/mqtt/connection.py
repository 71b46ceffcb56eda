"""One session with the broker, kept up: connect, fall back from MQTT 5 to 3.1.1, reconnect with back-off.

Every attempt gets a fresh client object, so that nothing of a broken connection (packet ids, half-sent messages) leaks
into the next. What must survive is kept by the outbox and, for inputs, by the broker's session.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import LogLevel
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.errors import ConfigError
from edge_agent.mqtt import reasons
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import CONNECT_TIMEOUT, Link, Session, Version, new_client
from edge_agent.mqtt.reasons import Refusal
from edge_agent.system.backoff import Backoff

log = logging.getLogger(__name__)

# A connection that has lasted so long was a good one: the next delay is a short one again.
STABLE_AFTER = 10.0
# How often the network loop looks at the clock: while it waits for the answer to CONNECT, and later.
HANDSHAKE_TICK = 0.5
TICKS_PER_KEEPALIVE = 6


class Connection:
    """Keeps one session up until it is stopped.

    The callbacks run in the connection's own thread, which is also the network thread: while one runs, nothing is read
    or written. They must not wait for a lock that is held while publishing.

    Args:
        endpoint: the broker.
        session: what is asked of it.
        on_up: called with each new link.
        on_down: called when the link is gone.
        on_message: called with each input.
        on_acknowledged: called with the id of a published message and, if the broker has refused it, why.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        session: Session,
        *,
        on_up: Callable[[Link], None] = lambda _: None,
        on_down: Callable[[], None] = lambda: None,
        on_message: Callable[[Link, MQTTMessage], None] = lambda *_: None,
        on_acknowledged: Callable[[int, Refusal | None], None] = lambda *_: None,
    ) -> None:
        self.endpoint = endpoint
        self.session = session
        self.link: Link | None = None
        self.problem = "not connected yet"
        self._on_up, self._on_down, self._on_message = on_up, on_down, on_message
        self._on_acknowledged = on_acknowledged
        self._version: Version = "3.1.1" if session.protocol == "3.1.1" else "5"
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._subscribed_once = threading.Event()
        self._said = ""
        self._said_old_version = False
        self._client: Client | None = None
        self._refusal: ReasonCode | None = None
        self._goodbye: ReasonCode | None = None
        self._fault = ""
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

    def stop(self, timeout: float = 0.5, *, with_will: bool = False) -> None:
        """Sends what has been handed over, disconnects politely and ends the thread.

        Args:
            timeout: seconds; after that the thread is left to end by itself.
            with_will: whether the broker publishes the will, as it does when we are gone without a word.
        """
        self._stopping.set()
        link, client = self.link, self._client
        if with_will and link is not None and link.version == "5":
            link.client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
        elif client is not None:
            if with_will and link is not None and self.session.will is not None:
                link.publish(self.session.will.topic, self.session.will.payload, 1, retain=True)
            client.disconnect()
        self._thread.join(timeout)

    # Everything below runs in the connection's thread.

    def _keep_up(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            tried = self._version
            if self._connect_once() > STABLE_AFTER:
                backoff.reset()
            if (tried, self._version) == ("5", "3.1.1"):
                continue  # to try the other version is no repetition
            self._stopping.wait(backoff.delay())

    def _connect_once(self) -> float:
        """Connects and stays connected for as long as it goes; returns for how long, in seconds."""
        self._refusal, self._goodbye, self._fault = None, None, ""
        try:
            client = new_client(self.endpoint, self.session, self._version)
            client.on_connect = self._connected
            client.on_subscribe = self._subscribed
            client.on_message = self._received
            client.on_publish = self._published
            client.on_disconnect = self._disconnected
            client.on_log = self._note_fault
            self.session.connect(self.endpoint, self._version, client)
        except ConfigError as error:
            self._say(str(error))
        except OSError as error:
            self._say(self.endpoint.explain(error))
        except UnicodeError:  # of what can't be the name of a host
            self._say(self.endpoint.explain(socket.gaierror()))
        else:
            self._client = client
            return self._run(client)
        return 0.0

    def _run(self, client: Client) -> float:
        """The network loop, until the connection ends; returns for how long it stood, in seconds."""
        began = time.monotonic()
        try:
            while self._goes_on(client, began):
                client.loop(self.session.keepalive / TICKS_PER_KEEPALIVE if self.link else HANDSHAKE_TICK)
        except Exception:
            log.exception("%s: a defect in edge-agent: the connection is opened anew", self.endpoint.address)
        if (sock := client.socket()) is not None:
            sock.close()
        was_up = self.link is not None
        if not self._stopping.is_set():
            self._explain_end(was_up=was_up)
        with self._changed:
            self.link = None
        if was_up:
            self._on_down()
        return time.monotonic() - began if was_up else 0.0

    def _goes_on(self, client: Client, began: float) -> bool:
        if client.socket() is None:
            return False
        if self.link is not None:
            return True
        if time.monotonic() - began > CONNECT_TIMEOUT:
            self._fault = "accepts the connection and then says nothing: is it an MQTT broker?"
            return False
        return not self._stopping.is_set()

    def _note_fault(self, _client: Client, _data: Any, level: int, text: str) -> None:
        # When TLS is refused after the handshake, as TLS 1.3 does for want of a certificate, only paho's log says so.
        if level == LogLevel.MQTT_LOG_ERR:
            self._fault = self._fault or self.endpoint.explain_alert(text)

    def _connected(
        self, client: Client, _data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        client.on_log = None  # it costs time, and has told what it can
        if reason.is_failure:
            self._refusal = reason
            return
        if self._stopping.is_set():
            return
        self.session.subscribe(self._version, client)
        link = Link(
            client,
            self._version,
            receive_maximum=getattr(properties, "ReceiveMaximum", 65_535),
            max_packet_size=getattr(properties, "MaximumPacketSize", 268_435_455),
            max_qos=getattr(properties, "MaximumQoS", 2),
            retains=bool(getattr(properties, "RetainAvailable", 1)),
            resumed=flags.session_present,
        )
        with self._changed:
            self.link = link
            self.problem = self._said = ""
            self._changed.notify_all()
        self._say_connected(link)
        self._on_up(link)

    def _say_connected(self, link: Link) -> None:
        address = self.endpoint.address
        log.info("connected to %s as %s, MQTT %s", address, self.session.client_id, link.version)
        if (self.session.protocol, link.version) == ("auto", "3.1.1") and not self._said_old_version:
            self._said_old_version = True
            log.warning("%s: does not speak MQTT 5: going on with MQTT 3.1.1", address)
        if link.max_qos == 0:
            log.warning("%s: takes messages of QoS 0 only: results may get lost on the way", address)
        if not link.retains:
            log.warning("%s: keeps no retained messages: who comes later learns no status and no info", address)

    def _subscribed(
        self, _client: Client, _data: Any, _mid: int, answers: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._subscribed_once.set()
        for wanted, reason in zip(self.session.subscriptions, answers, strict=False):
            if reasons.failed(reason):
                what = f"{self.endpoint.address}: the broker refuses the subscription to {wanted.topic}"
                log.error("%s: %s", what, reasons.sentence(reason))

    def _received(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if self.link is not None:
            self._on_message(self.link, message)

    def _published(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._on_acknowledged(mid, reasons.refusal(reason))

    def _disconnected(
        self, _client: Client, _data: Any, flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._goodbye = reason

    def _explain_end(self, *, was_up: bool) -> None:
        """Says why the connection has ended, and settles which version the next attempt speaks."""
        address, tried = self.endpoint.address, self._version
        fall_back: Version = "3.1.1" if tried == "5" and self.session.protocol == "auto" else tried
        self._version = "5" if self.session.protocol == "auto" else tried
        if was_up and self._goodbye is not None:
            self._say(f"{address}: connection lost: ended by the broker: {reasons.sentence(self._goodbye)}")
        elif was_up:
            self._say(f"{address}: connection lost: the network or the broker is gone")
        elif self._fault:
            self._say(f"{address}: {self._fault}")
        elif self._refusal is not None and self._refusal.value != reasons.UNSUPPORTED_PROTOCOL:
            self._say(f"{address}: the broker refuses the connection: {reasons.sentence(self._refusal)}")
        elif fall_back != tried:  # refused as too new, or hung up on, which is what many an older broker does
            self._version = fall_back
        elif self._refusal is not None:
            self._say(f"{address}: does not speak MQTT {tried}: set mqtt.protocol: auto")
        else:
            hint = "is it an MQTT broker, and not its TLS port?"
            self._say(f"{address}: closed the connection without a CONNACK: {hint}")

    def _say(self, problem: str) -> None:
        """Logs a state of affairs when it is new."""
        with self._changed:
            self.problem = problem
            new, self._said = problem != self._said, problem
            self._changed.notify_all()
        if new:
            log.warning("%s", problem)
