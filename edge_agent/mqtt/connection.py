"""Keeps one session with the broker connected: falls back from MQTT 5 to 3.1.1, reconnects with back-off.

Each attempt has a new client object, so no state of a lost connection (packet ids, partly sent packets) is carried over
to the next. What must not be lost is kept by the outbox and, for inputs, by the broker's session.
"""

import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import LogLevel
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.errors import ConfigError
from edge_agent.mqtt import reasons
from edge_agent.mqtt.bounded_client import BoundedClient
from edge_agent.mqtt.connection_health import ConnectionHealth
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import CONNECT_TIMEOUT, Link, Session, Subscription, Version, new_client
from edge_agent.mqtt.reasons import Refusal
from edge_agent.system import limits
from edge_agent.system.backoff import Backoff

log = logging.getLogger(__name__)

# Seconds after which a connection counts as stable: the back-off starts again from its shortest delay.
STABLE_AFTER = 10.0
# The network loop checks its timeouts this often: in seconds before the CONNACK, and per keep-alive interval after it.
HANDSHAKE_TICK = 0.5
TICKS_PER_KEEPALIVE = 6
# Seconds until a refused subscription is requested again, at first and at most: access rules may have changed.
FIRST_RESUBSCRIBE = 5.0
MAX_RESUBSCRIBE = 300.0


class Connection:
    """Keeps one session connected until it is stopped.

    Callbacks run in the connection's own thread, which is also the network thread: while one runs, nothing is read or
    written. A callback must not wait for a lock that another thread holds while it publishes.

    Args:
        endpoint: the broker.
        session: the parameters of CONNECT and SUBSCRIBE.
        on_up: called with the link after each CONNACK.
        on_down: called when the connection is lost.
        on_message: called with each message that arrives.
        on_acknowledged: called for each PUBACK, with the packet id and, if its reason code is a failure, the refusal.

    Attributes:
        link: the present connection; None: there is none.
        problem: why there is none; empty: there is one.
        refused: for each topic filter that the broker refuses to subscribe to, its reason.
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
        self.refused: dict[str, str] = {}
        self._on_up, self._on_down, self._on_message = on_up, on_down, on_message
        self._on_acknowledged = on_acknowledged
        self._version: Version = "3.1.1" if session.protocol == "3.1.1" else "5"
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._subscribed_once = threading.Event()
        self._reported = ""
        self._reported_old_version = False
        self._client: Client | None = None
        self._refusal: ReasonCode | None = None
        self._disconnect_reason: ReasonCode | None = None
        self._fault = ""
        self._own_reason = ""  # why this side ends the connection, to make it again
        self._health = ConnectionHealth(endpoint.address, session.client_id)
        self._subscribing: dict[int, Sequence[Subscription]] = {}  # by packet id, until the SUBACK
        self._resubscribe_at = math.inf
        self._resubscribe_delay = FIRST_RESUBSCRIBE
        self._thread = threading.Thread(target=self._run, name=f"mqtt {session.client_id}", daemon=True)

    @property
    def diagnosis(self) -> str:
        """Why the session does not work as it should, also while it is connected; empty: it does. From any thread.

        That is why there is no connection, a client id that another client uses, acknowledgements that did not come, or
        a refused subscription.
        """
        refused, health = dict(self.refused), self._health.diagnosis(connected=self.link is not None)
        if self._health.contested and health:
            return health
        return (
            self.problem
            or health
            or "; ".join(
                f"{self.endpoint.address}: the broker refuses the subscription to {topic}: {reason}"
                for topic, reason in refused.items()
            )
        )

    def start(self) -> None:
        """Starts the thread, which connects."""
        self._thread.start()

    def wait_until_tried(self, timeout: float) -> bool:
        """Waits until the first attempt has succeeded or failed; returns False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.link is not None or bool(self._reported), timeout)

    def wait_until_subscribed(self, timeout: float) -> bool:
        """Waits for the first SUBACK; returns False after `timeout` seconds."""
        return self._subscribed_once.wait(timeout)

    def stop(self, timeout: float = 0.5, *, with_will: bool = False) -> None:
        """Sends what has been published, then DISCONNECT, and ends the thread.

        Args:
            timeout: seconds to wait for the thread; after that it ends in the background.
            with_will: whether the will is published, as after a connection loss.
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

    def _reconnect(self, client: Client, reason: str) -> None:
        self._end_because(reason)
        client.disconnect()

    def _end_because(self, reason: str) -> None:
        self._own_reason = f"{self.endpoint.address}: {reason}: reconnecting"

    # Everything below runs in the connection's thread.

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            tried = self._version
            if self._connect_once() > STABLE_AFTER:
                backoff.reset()
            if (tried, self._version) == ("5", "3.1.1"):
                continue  # without delay: the same attempt in the other version
            self._stopping.wait(backoff.delay())

    def _tick(self, client: Client) -> float:
        """Seconds that the network loop may wait for the socket."""
        if self.link is None:
            return HANDSHAKE_TICK
        # paho obeys the broker's keep-alive interval (CONNACK), which may be shorter than the session's.
        tick = (client.keepalive or self.session.keepalive) / TICKS_PER_KEEPALIVE
        return max(0.0, min(tick, self._resubscribe_at - time.monotonic()))

    def _connect_once(self) -> float:
        """Connects and runs the network loop until the connection ends; returns how long it lasted, in seconds."""
        self._refusal, self._disconnect_reason, self._fault, self._own_reason = None, None, "", ""
        try:
            client = new_client(self.endpoint, self.session, self._version)
            client.on_connect = self._connected
            client.on_subscribe = self._subscribed
            client.on_message = self._received
            client.on_publish = self._published
            client.on_disconnect = self._disconnected
            client.on_log = self._note_fault
            log.debug("%s: connecting to %s, MQTT %s", self.session.client_id, self.endpoint.address, self._version)
            self.session.connect(self.endpoint, self._version, client)
        except ConfigError as error:
            self._report(str(error))
        except OSError as error:
            limit = limits.explained(error)
            self._report(f"{self.endpoint.address}: {limit}" if limit else self.endpoint.explain(error))
        except UnicodeError:  # not a valid host name
            self._report(self.endpoint.explain(socket.gaierror()))
        except Exception as error:
            log.exception("%s: a defect in edge-agent: trying again", self.endpoint.address)
            self._report(f"{self.endpoint.address}: {limits.in_words(error)}")
        else:
            self._client = client
            return self._loop(client)
        self._health.not_reached()
        return 0.0

    def _loop(self, client: BoundedClient) -> float:
        """Runs the network loop until the connection ends; returns how long it lasted, in seconds."""
        began = time.monotonic()
        try:
            while self._is_alive(client, began):
                client.loop(self._tick(client))
                if time.monotonic() >= self._resubscribe_at:
                    self._subscribe_again(client)
        except Exception:
            log.exception("%s: a defect in edge-agent: reconnecting", self.endpoint.address)
        if client.exceeded:
            self._end_because(client.exceeded)
        client.close()
        was_up = self.link is not None
        self._resubscribe_at = math.inf
        if not self._stopping.is_set():
            self._explain_end(was_up=was_up)
        with self._changed:
            self.link = None
        if was_up:
            self._on_down()
        return time.monotonic() - began if was_up else 0.0

    def _is_alive(self, client: Client, began: float) -> bool:
        if client.socket() is None:
            return False
        if self.link is not None:
            return True
        if time.monotonic() - began > CONNECT_TIMEOUT:
            self._fault = "accepts the connection and then says nothing: is it an MQTT broker?"
            return False
        return not self._stopping.is_set()

    def _note_fault(self, _client: Client, _data: Any, level: int, text: str) -> None:
        # When the broker rejects TLS after the handshake, as TLS 1.3 does without a client certificate, only paho's log
        # has the reason.
        if level == LogLevel.MQTT_LOG_ERR:
            self._fault = self._fault or self.endpoint.explain_alert(text)

    def _connected(
        self, client: Client, _data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        client.on_log = None  # only TLS failures are read from it, and it costs time
        if reason.is_failure:
            self._refusal = reason
            return
        if self._stopping.is_set():
            return
        self._subscribing.clear()
        self._subscribe(client, self.session)
        self._health.connected()
        link = Link(
            cast("BoundedClient", client),  # made by `new_client`
            self._version,
            receive_maximum=getattr(properties, "ReceiveMaximum", 65_535),
            max_packet_size=getattr(properties, "MaximumPacketSize", 268_435_455),
            max_qos=getattr(properties, "MaximumQoS", 2),
            retains=bool(getattr(properties, "RetainAvailable", 1)),
            resumed=flags.session_present,
            device_id=self.session.device_id,
            reconnect=partial(self._reconnect, client),
        )
        with self._changed:
            self.link = link
            self.problem = self._reported = ""
            self._changed.notify_all()
        self._report_connected(link)
        self._on_up(link)

    def _report_connected(self, link: Link) -> None:
        address = self.endpoint.address
        log.info("connected to %s as %s, MQTT %s", address, self.session.client_id, link.version)
        if (self.session.protocol, link.version) == ("auto", "3.1.1") and not self._reported_old_version:
            self._reported_old_version = True
            log.warning("%s: does not speak MQTT 5: going on with MQTT 3.1.1", address)
        if link.max_qos == 0:
            log.warning("%s: takes messages of QoS 0 only: results may get lost on the way", address)
        if not link.retains:
            log.warning("%s: keeps no retained messages: who comes later learns no status and no info", address)

    def _subscribe(self, client: Client, session: Session) -> None:
        if (message_id := session.subscribe(self._version, client)) is not None:
            self._subscribing[message_id] = session.subscriptions

    def _subscribe_again(self, client: Client) -> None:
        """Requests the refused subscriptions once more."""
        self._resubscribe_at = math.inf
        refused = tuple(wanted for wanted in self.session.subscriptions if wanted.topic in self.refused)
        self._subscribe(client, replace(self.session, subscriptions=refused, unsubscriptions=()))

    def _subscribed(
        self, _client: Client, _data: Any, mid: int, answers: list[ReasonCode], _properties: Properties | None
    ) -> None:
        log.debug("%s: subscribed: %s", self.session.client_id, ", ".join(map(str, answers)))
        for wanted, reason in zip(self._subscribing.pop(mid, ()), answers, strict=False):
            self._note_subscription(wanted.topic, reasons.sentence(reason) if reasons.failed(reason) else "")
        if not self.refused:
            self._resubscribe_delay = FIRST_RESUBSCRIBE
        elif self._resubscribe_at == math.inf:
            self._resubscribe_at = time.monotonic() + self._resubscribe_delay
            self._resubscribe_delay = min(MAX_RESUBSCRIBE, 2 * self._resubscribe_delay)
        self._subscribed_once.set()

    def _note_subscription(self, topic: str, reason: str) -> None:
        """Records why a subscription is refused; `reason` is empty if it is granted. Logs what has changed."""
        before = self.refused.get(topic, "")
        address = self.endpoint.address
        if reason:
            self.refused = self.refused | {topic: reason}
            if reason != before:
                log.error("%s: the broker refuses the subscription to %s: %s", address, topic, reason)
        elif before:
            self.refused = {other: why for other, why in self.refused.items() if other != topic}
            log.info("%s: the broker grants the subscription to %s now", address, topic)

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
            self._disconnect_reason = reason

    def _explain_end(self, *, was_up: bool) -> None:
        """Reports why the connection has ended, and chooses the version of the next attempt."""
        address, tried = self.endpoint.address, self._version
        fall_back: Version = "3.1.1" if tried == "5" and self.session.protocol == "auto" else tried
        self._version = "5" if self.session.protocol == "auto" else tried
        if was_up:
            self._health.lost(self._disconnect_reason, self._own_reason)
        if was_up and (self._own_reason or self._health.contested):
            self._report(self._own_reason or self._health.contested)
        elif was_up and self._disconnect_reason is not None:
            self._report(
                f"{address}: connection lost: ended by the broker: {reasons.sentence(self._disconnect_reason)}"
            )
        elif was_up:
            self._report(f"{address}: connection lost: the network or the broker is gone")
        elif self._fault:
            self._report(f"{address}: {self._fault}")
        elif self._refusal is not None and self._adapt_will(self._refusal):
            pass  # the next attempt has another will
        elif self._refusal is not None and self._refusal.value != reasons.UNSUPPORTED_PROTOCOL:
            self._report(f"{address}: the broker refuses the connection: {reasons.sentence(self._refusal)}")
        elif fall_back != tried:  # version refused, or closed without a CONNACK, as many older brokers do
            self._version = fall_back
        elif self._refusal is not None:
            self._report(f"{address}: does not speak MQTT {tried}: set mqtt.protocol: auto")
        else:
            hint = "is it an MQTT broker, and not its TLS port?"
            self._report(f"{address}: closed the connection without a CONNACK: {hint}")

    def _adapt_will(self, refusal: ReasonCode) -> bool:
        """Whether the broker refuses the connection for the will, which is now one that it may accept."""
        will = self.session.will
        if will is not None and will.retain and refusal.value == reasons.RETAIN_NOT_SUPPORTED:
            will = replace(will, retain=False)
        elif will is not None and will.qos and refusal.value == reasons.QOS_NOT_SUPPORTED:
            will = replace(will, qos=0)
        else:
            return False
        self.session = replace(self.session, will=will)
        return True

    def _report(self, problem: str) -> None:
        """Logs a problem when it is not the one reported last."""
        with self._changed:
            self.problem = problem
            new, self._reported = problem != self._reported, problem
            self._changed.notify_all()
        if new:
            log.warning("%s", problem)
