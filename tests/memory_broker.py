"""A broker in memory, and connections to it in place of `mqtt.connection.Connection`. Nothing happens by itself.

Sessions are kept as MQTT wants it: QoS 1 messages wait, are in flight up to the receive maximum until their PUBACK, and
come again, marked as redelivered, over the next connection. Everything that a client is called with runs in the thread
that calls the broker, which stands for the network threads.
"""

import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

from paho.mqtt.client import MQTTMessage, topic_matches_sub
from paho.mqtt.enums import MQTTErrorCode

from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session
from edge_agent.mqtt.reasons import Refusal
from tests.broker import Message

RECEIVE_MAXIMUM = 16
REFUSED = Refusal("not today", for_now=False)
Acks = Literal["at once", "later", "refused"]


@dataclass
class Kept:
    """What the broker keeps of a session."""

    waiting: deque[tuple[str, bytes]] = field(default_factory=deque)
    in_flight: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))


class MemoryBroker:
    """The broker.

    Attributes:
        up: whether it can be reached.
        acks: what becomes of results: acknowledged at once, later (`acknowledge`), or refused.
        published: what the agent has published and the broker has taken.
        refused: the inputs, by their topics, whose results the broker has refused.
        lost: the inputs, by their topics, that the broker has forgotten with a session.
        delivered: the QoS 1 inputs, by their topics, in the order in which they were delivered for the first time.
    """

    def __init__(self) -> None:
        self.up = True
        self.acks: Acks = "at once"
        self.published: list[Message] = []
        self.refused: list[str] = []
        self.lost: set[str] = set()
        self.delivered: list[str] = []
        self._lock = threading.RLock()
        self._kept: dict[str, Kept] = {}
        self._connections: list[MemoryConnection] = []
        self._unanswered: list[tuple[MemoryConnection, int]] = []

    def send(self, topic: str, payload: bytes, qos: int) -> None:
        """A client publishes an input."""
        for connection in list(self._connections):
            if not any(topic_matches_sub(one.topic, topic) for one in connection.session.subscriptions):
                continue
            if qos:
                self._kept[connection.session.client_id].waiting.append((topic, payload))
            elif connection.link is not None:
                connection.receive(0, topic, payload, dup=False)
        self.deliver()

    def deliver(self) -> None:
        """Delivers what waits and fits."""
        for connection in list(self._connections):
            kept = self._kept[connection.session.client_id]
            while connection.link is not None:
                with self._lock:
                    if not kept.waiting or len(kept.in_flight) >= RECEIVE_MAXIMUM:
                        break
                    number, message = next(kept.numbers), kept.waiting.popleft()
                    kept.in_flight[number] = message
                self.delivered.append(message[0])
                connection.receive(number, *message, dup=False)

    def drop(self) -> None:
        """All connections are lost, and the broker can't be reached."""
        self.up = False
        for connection in list(self._connections):
            connection.lose()
        self._unanswered.clear()

    def come_back(self) -> None:
        """The broker can be reached again, and all connect."""
        self.up = True
        for connection in list(self._connections):
            self.connect(connection)

    def forget(self) -> None:
        """Loses all sessions, as a broker without persistence does when it is restarted."""
        self.drop()
        for kept in self._kept.values():
            self.lost |= {topic for topic, _ in (*kept.waiting, *kept.in_flight.values())}
        self._kept = {connection.session.client_id: Kept() for connection in self._connections}
        for connection in self._connections:
            connection.resumable = False

    def acknowledge(self) -> None:
        """Acknowledges what was published and not answered."""
        with self._lock:
            unanswered, self._unanswered = self._unanswered, []
        for connection, message_id in unanswered:
            connection.on_acknowledged(message_id, None)

    def still_held(self) -> set[str]:
        """The topics of the inputs that are not acknowledged."""
        with self._lock:
            return {topic for kept in self._kept.values() for topic, _ in (*kept.waiting, *kept.in_flight.values())}

    # For connections.

    def connect(self, connection: "MemoryConnection") -> None:
        """A connection begins or begins again, if it can."""
        if connection not in self._connections:
            self._connections.append(connection)
        known = connection.session.client_id in self._kept
        kept = self._kept.setdefault(connection.session.client_id, Kept())
        if not self.up or connection.link is not None:
            return
        resumed = known and connection.resumable
        connection.resumable = connection.session.expiry > 0
        connection.open(resumed=resumed)
        with self._lock:
            again = list(kept.in_flight.items())
        for number, message in again:
            connection.receive(number, *message, dup=True)
        self.deliver()

    def leave(self, connection: "MemoryConnection") -> None:
        """A connection ends for good; its session is kept."""
        connection.lose()
        if connection in self._connections:
            self._connections.remove(connection)

    def take(self, connection: "MemoryConnection", message_id: int, topic: str, payload: bytes, qos: int) -> None:
        """A client has published a message."""
        refusal = None
        with self._lock:
            if self.acks == "refused" and topic.endswith("/result"):
                refusal = REFUSED
                self.refused.append(json.loads(payload)["input"].get("topic", ""))
            else:
                self.published.append(Message(topic, payload, False, qos, None, time.monotonic()))
            if self.acks == "later" and topic.endswith("/result"):
                self._unanswered.append((connection, message_id))
                return
        if qos:
            connection.on_acknowledged(message_id, refusal)

    def acked(self, client_id: str, message_id: int) -> None:
        """A client has acknowledged an input."""
        with self._lock:
            assert message_id in self._kept[client_id].in_flight, "a PUBACK for what is not in flight"
            del self._kept[client_id].in_flight[message_id]


class MemoryConnection:
    """See `Connection`."""

    broker: MemoryBroker  # set by the test

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
        self.endpoint, self.session = endpoint, session
        self.link: Link | None = None
        self.problem = self.diagnosis = ""
        self.resumable = session.expiry > 0
        self.on_acknowledged = on_acknowledged
        self._on_up, self._on_down, self._on_message = on_up, on_down, on_message

    def start(self) -> None:
        self.broker.connect(self)

    def wait_until_tried(self, timeout: float) -> bool:  # noqa: ARG002 - it is tried at once
        return True

    def wait_until_subscribed(self, timeout: float) -> bool:  # noqa: ARG002 - see above
        return True

    def stop(self, timeout: float = 0.5, *, with_will: bool = False) -> None:  # noqa: ARG002 - see above
        self.broker.leave(self)

    def open(self, *, resumed: bool) -> None:
        self.link = Link(
            _Client(self),  # type: ignore[arg-type]  # what a link uses of paho's client
            "5",
            resumed=resumed,
            device_id=self.session.device_id,
        )
        self._on_up(self.link)

    def lose(self) -> None:
        if self.link is not None:
            self.link.client.alive = False  # type: ignore[attr-defined]  # of `_Client`
            self.link = None
            self._on_down()

    def receive(self, number: int, topic: str, payload: bytes, *, dup: bool) -> None:
        message = MQTTMessage(number, topic.encode())
        message.payload, message.qos, message.dup = payload, int(number > 0), dup
        assert self.link is not None
        self._on_message(self.link, message)


class _Client:
    """What a link uses of paho's client."""

    def __init__(self, connection: MemoryConnection) -> None:
        self.alive = True
        self._connection = connection
        self._numbers = itertools.count(1)

    def publish_qos1(self, topic: str, payload: bytes | str, **_options: Any) -> int | None:
        return self._take(topic, payload, 1)

    def publish(self, topic: str, payload: bytes | str, qos: int, _retain: bool, _properties: Any) -> Any:
        number = self._take(topic, payload, qos)
        result = MQTTErrorCode.MQTT_ERR_NO_CONN if number is None else MQTTErrorCode.MQTT_ERR_SUCCESS
        return SimpleNamespace(mid=number, rc=result)

    def _take(self, topic: str, payload: bytes | str, qos: int) -> int | None:
        if not self.alive:
            return None
        number = next(self._numbers)
        data = payload.encode() if isinstance(payload, str) else payload
        self._connection.broker.take(self._connection, number, topic, data, qos)
        return number

    def ack(self, message_id: int, _qos: int) -> None:
        if self.alive:
            self._connection.broker.acked(self._connection.session.client_id, message_id)

    def socket(self) -> None:
        return None

    def want_write(self) -> bool:
        return False
