"""A connection for a command that listens to what devices keep at the broker."""

import queue
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from paho.mqtt.client import MQTTMessage

from edge_agent.commands.arrival import Arrival
from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link
from edge_agent.settings import Mqtt

POLL = 0.05
Messages = queue.SimpleQueue[tuple[str, bytes]]
"""Topic and payload of each."""


class Listening(NamedTuple):
    """A connection with its subscriptions.

    Attributes:
        connection: with the broker.
        messages: that have come over it.
        arrival: of what the broker keeps.
    """

    connection: Connection
    messages: Messages
    arrival: Arrival

    def kept(self, at_most: float) -> Iterator[tuple[str, bytes]]:
        """The messages until all that the broker keeps has arrived, for `at_most` seconds."""
        until = time.monotonic() + at_most
        while time.monotonic() < until:
            complete = self.arrival.is_complete(self.connection.link)
            try:
                yield self.messages.get(timeout=0.0 if complete else POLL)
            except queue.Empty:
                if complete:
                    return


@contextmanager
def subscribed(mqtt: Mqtt, folder: Path, name: str, kinds: Sequence[str], within: float) -> Iterator[Listening]:
    """A connection with its subscriptions.

    Args:
        mqtt: the broker.
        folder: that its files are relative to.
        name: of what listens, for the client id.
        kinds: what of each device, `status` first.
        within: seconds until the subscriptions must stand.

    Raises:
        EdgeAgentError: the broker is not reached.
    """
    messages: Messages = queue.SimpleQueue()
    arrival = Arrival(mqtt.topic_prefix, kinds)
    endpoint = Endpoint.from_settings(mqtt, folder)
    session = arrival.session(mqtt, f"edge-agent-{name}-{uuid.uuid4().hex[:8]}")

    def receive(_link: Link, message: MQTTMessage) -> None:
        arrival.note(message.topic, retained=message.retain)
        messages.put((message.topic, bytes(message.payload)))

    connection = Connection(endpoint, session, on_message=receive)
    connection.start()
    try:
        connection.wait_until_tried(within)
        if connection.link is None or not connection.wait_until_subscribed(within):
            raise EdgeAgentError(connection.diagnosis or f"{endpoint.address}: does not answer the subscription")
        yield Listening(connection, messages, arrival)
    finally:
        connection.stop()
