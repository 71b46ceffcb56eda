"""Messages of a topic filter as inputs.

Each source has its own session with the broker. So a slow pipeline does not block another one, and the broker keeps
exactly the inputs of this source that have no PUBACK.

The PUBACK of a QoS 1 input is sent when its result is safe. The receive maximum bounds the inputs without a PUBACK, and
so slows the senders down. From a broker that does not observe it, no more is read than there is room for. QoS 0 inputs
can't be slowed down: when the queue is full, the oldest are dropped.

What this agent has published itself is no input, whatever topic it comes back on: it is acknowledged and not counted.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from paho.mqtt.client import MQTTMessage

from edge_agent import settings
from edge_agent.counters import Settlement
from edge_agent.errors import InputError
from edge_agent.mqtt import client_ids
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.delivery import MAX_HEADER
from edge_agent.mqtt.inbox import Inbox
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.mqtt.publish_properties import senders
from edge_agent.samples import ReplyTo, Sample
from edge_agent.settings.topics import overlap, problem_of_name
from edge_agent.sources import Context, Trouble
from edge_agent.sources.mqtt_group import Group
from edge_agent.sources.queue import SampleQueue
from edge_agent.system.terminal import printable
from edge_agent.system.text import decode_lenient

log = logging.getLogger(__name__)

# Inputs without a PUBACK at a time: enough to keep decoding and inference busy, few enough for images in memory.
RECEIVE_MAXIMUM = 16
# Last level of the topic, below the pipeline's own, that cancels a request; the payload is the request's id.
CANCEL = "cancel"
MAX_ID = 256
# Topics whose latest message is remembered.
MAX_RETAINED = 1000
# Devices whose messages may have led to an input, one after the other: where all hear all, each adds one.
MAX_SENDERS = 4
# Topics that are logged when messages of this agent come back on them.
MAX_LOGGED = 10


class MqttSource:
    """Puts each message of a topic filter into the sample queue."""

    live = False
    capacity = 128  # what a broker of MQTT 3.1.1 may send before it waits for acknowledgements

    def __init__(self, source: settings.MqttSource, context: Context) -> None:
        self._source = source
        self._retained: dict[str, int] = {}  # hash of the latest message, by topic
        topic = f"$share/{source.share}/{source.topic}" if source.share else source.topic
        _, device, pipeline = context.topic.rsplit("/", 2)
        self._device, self._pipeline, self._own_topics = device, pipeline, context.own_topics
        self._came_back: set[str] = set()  # topics
        subscriptions = [Subscription(topic, source.qos)]
        self._cancel, self._cancel_topic = context.cancel, f"{context.topic}/{CANCEL}"
        if self._cancel is not None:
            # QoS 0: requests that wait for their PUBACK do not block a cancellation.
            subscriptions.append(Subscription(self._cancel_topic, 0))
        self._state_topics, self._hear = context.state_topics, context.hear
        subscriptions += [Subscription(topic, 0) for topic in sorted(self._state_topics)]
        session = Session(
            client_id=client_ids.of_source(device, pipeline, topic),
            device_id=device,
            protocol=context.mqtt.protocol,
            keepalive=context.mqtt.keepalive,
            expiry=context.mqtt.session_expiry,
            receive_maximum=RECEIVE_MAXIMUM,
            max_packet_size=context.mqtt.max_packet_size,
            max_kept=source.max_payload + MAX_HEADER,
            subscriptions=tuple(subscriptions),
        )
        self._group = None
        if source.stand_in:
            self._group = Group(context.topic, topic, source.stand_in, context.endpoint, self._take)
            session = self._group.session(session)
        self._inbox = Inbox(self._take)
        self._connection = Connection(
            context.endpoint, session, on_up=self._up, on_down=self._inbox.down, on_message=self._received
        )

    def start(self, queue: SampleQueue, trouble: Trouble) -> None:  # noqa: ARG002 - the connection logs its own problems
        """See `Source.start`."""
        self._queue = queue
        self._connection.start()

    def wait_ready(self, timeout: float) -> bool:
        """See `Source.wait_ready`: the SUBACK has come."""
        return self._connection.wait_until_subscribed(timeout)

    @property
    def diagnosis(self) -> str:
        """See `Source.diagnosis`, and `Connection.diagnosis`."""
        return self._connection.diagnosis

    def stop(self) -> None:
        """See `Source.stop`; the connection stays up, so that inputs in progress can be acknowledged."""
        self._queue.close()

    def close(self, deadline: float) -> None:
        """Disconnects; the broker keeps the inputs that are not acknowledged."""
        self._connection.stop(max(0.0, deadline - time.monotonic()), with_will=self._group is not None)
        if self._group is not None:
            self._group.close()

    def _up(self, link: Link) -> None:
        self._inbox.up(link)
        if self._group is not None:
            self._group.up(link)

    def _received(self, link: Link, message: MQTTMessage) -> None:
        topic = message.topic  # decoded each time
        if self._cancel is not None and topic == self._cancel_topic:
            self._cancel(decode_lenient(message.payload[:MAX_ID]).strip())
            link.ack(message.mid, message.qos)  # of QoS 1 if the source's topic filter matches this topic as well
        elif topic in self._state_topics:
            self._hear(topic, bytes(message.payload))
            link.ack(message.mid, message.qos)
        elif self._group is not None and self._group.takes(link, message):
            return
        elif self._repeats(topic, message):
            link.ack(message.mid, message.qos)
        else:
            self._inbox.received(link, message)

    def _repeats(self, topic: str, message: MQTTMessage) -> bool:
        """Whether a retained message was taken before: MQTT 3.1.1 brokers send it again at each SUBSCRIBE.

        A redelivered one (DUP flag) is the inbox's.
        """
        # Of the others it remembers the latest: that is what the broker may have retained.
        content = hash(bytes(message.payload))
        known = self._retained.pop(topic, None) == content
        self._retained[topic] = content
        if len(self._retained) > MAX_RETAINED:
            del self._retained[next(iter(self._retained))]
        return known and message.retain and not message.dup

    def _is_own(self, topic: str, known: tuple[str, ...]) -> bool:
        """Whether a message is this agent's, or was led to by one of its. MQTT 3.1.1 has only the topic to tell."""
        if self._device not in known and len(known) <= MAX_SENDERS and topic not in self._own_topics:
            return False
        if topic not in self._came_back and len(self._came_back) < MAX_LOGGED:
            self._came_back.add(topic)
            log.warning(
                "%s: ignoring what this agent has published itself, which has come back on %s: does a bridge or a rule"
                " of the broker send it there?",
                self._pipeline,
                printable(topic),
            )
        return True

    def _take(self, message: MQTTMessage, done: Callable[[], None]) -> None:
        topic, known = message.topic, senders(message)
        if self._is_own(topic, known):
            done()
            return
        origin: dict[str, Any] = {"topic": topic}
        if message.dup:
            origin["redelivered"] = True
        data: bytes | InputError = bytes(message.payload)
        if len(message.payload) > self._source.max_payload:
            # How much larger it was is not known: only its beginning is kept.
            data = InputError(f"{topic}: larger than {self._source.max_payload} bytes (max_payload)")
        # The sample has no reference to the message: that would keep a payload that is too large in memory.
        sample = Sample(
            data,
            captured_at=time.time(),
            captured=time.monotonic(),
            origin=origin,
            reply_to=_reply_to(message, self._source.topic),
            settlement=Settlement(done if message.qos else None),
            senders=known,
        )
        put = self._queue.put if message.qos else self._queue.put_drop_oldest
        put(sample)  # if the pipeline stops, the broker keeps what is not acknowledged


def _reply_to(message: MQTTMessage, topic_filter: str) -> ReplyTo | None:
    """Response topic and correlation data of a request; None if there is no valid response topic.

    Nor is one valid that the source's own topic filter matches: the answer would be the next input.
    """
    properties: Mapping[str, Any] = vars(message.properties) if message.properties else {}
    topic = properties.get("ResponseTopic", "")
    if problem_of_name(topic) or overlap(topic_filter, topic):
        return None
    return ReplyTo(topic, properties.get("CorrelationData"))


def create(source: settings.MqttSource, context: Context) -> MqttSource:
    """The source for the settings."""
    return MqttSource(source, context)
