"""Inputs that arrive on a topic. Each source has a session of its own with the broker, so that a slow pipeline holds up
no other one, and so that the broker keeps exactly its unanswered inputs.

A QoS 1 input is acknowledged when its result is safe. The number of unacknowledged inputs is bounded, and that bound,
which the broker keeps, is what slows the senders down.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from paho.mqtt.client import MQTTMessage

from edge_agent import settings
from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.intake import Intake
from edge_agent.mqtt.connection import Connection, Link, Session
from edge_agent.samples import ReplyTo, Sample
from edge_agent.sources import Context

# Inputs under way at a time: enough to keep decoding and inference busy, few enough to hold as pictures in memory.
RECEIVE_MAXIMUM = 16


class MqttSource:
    """Feeds each message of a topic filter into the intake."""

    live = False

    def __init__(self, source: settings.MqttSource, context: Context) -> None:
        self._source = source
        topic = f"$share/{source.share}/{source.topic}" if source.share else source.topic
        session = Session(
            client_id=context.client_id,
            protocol=context.mqtt.protocol,
            keepalive=context.mqtt.keepalive,
            # A group's inputs go to its other members when one is away; a single agent's wait for it.
            expiry=0 if source.share else context.mqtt.session_expiry,
            receive_maximum=RECEIVE_MAXIMUM,
            max_packet_size=context.mqtt.max_packet_size,
            subscriptions=((topic, source.qos),),
        )
        self._connection = Connection(context.endpoint, session, on_message=self._received)

    def start(self, intake: Intake, trouble: Callable[[EdgeAgentError], None]) -> None:
        """See `Source.start`."""
        self._intake, self._trouble = intake, trouble
        self._connection.start()

    def wait_ready(self, timeout: float) -> None:
        """See `Source.wait_ready`: the subscription stands."""
        self._connection.wait_until_subscribed(timeout)

    def stop(self) -> None:
        """See `Source.stop`; the connection stays, so that what is still in progress can be acknowledged."""
        self._intake.close()

    def close(self) -> None:
        """Leaves the broker, which keeps what is not acknowledged."""
        self._connection.stop()

    def _received(self, link: Link, message: MQTTMessage) -> None:
        origin: dict[str, Any] = {"topic": message.topic}
        if message.dup:
            origin["redelivered"] = True
        data: bytes | InputError = message.payload
        if len(message.payload) > self._source.max_payload:
            limit = f"at most {self._source.max_payload} are decoded (max_payload)"
            data = InputError(f"{message.topic}: {len(message.payload)} bytes: {limit}")
        self._intake.offer(
            Sample(
                data,
                captured_at=time.time(),
                captured=time.monotonic(),
                origin=origin,
                reply_to=_reply_to(message),
                settle=lambda: link.ack(message.mid),
            )
        )


def _reply_to(message: MQTTMessage) -> ReplyTo | None:
    properties: Mapping[str, Any] = vars(message.properties) if message.properties else {}
    topic = properties.get("ResponseTopic")
    return ReplyTo(topic, properties.get("CorrelationData")) if topic else None


def create(source: settings.MqttSource, context: Context) -> MqttSource:
    """The source for the settings."""
    return MqttSource(source, context)
