"""A connection for a command that listens to what devices keep at the broker."""

import queue
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Session, Subscription
from edge_agent.settings import Mqtt

Messages = queue.SimpleQueue[tuple[str, bytes]]
"""Topic and payload of each."""


@contextmanager
def subscribed(
    mqtt: Mqtt, folder: Path, name: str, topics: Sequence[str], within: float
) -> Iterator[tuple[Connection, Messages]]:
    """A connection with its subscriptions, and the messages that have come over it.

    Args:
        mqtt: the broker.
        folder: that its files are relative to.
        name: of what listens, for the client id.
        topics: filters.
        within: seconds until the subscriptions must stand.

    Raises:
        EdgeAgentError: the broker is not reached.
    """
    messages: Messages = queue.SimpleQueue()
    endpoint = Endpoint.from_settings(mqtt, folder)
    session = Session(
        client_id=f"edge-agent-{name}-{uuid.uuid4().hex[:8]}",
        protocol=mqtt.protocol,
        keepalive=mqtt.keepalive,
        subscriptions=[Subscription(topic, 0, retained_again=True) for topic in topics],
    )
    connection = Connection(
        endpoint, session, on_message=lambda _, message: messages.put((message.topic, bytes(message.payload)))
    )
    connection.start()
    try:
        if not connection.wait_until_subscribed(within):
            raise EdgeAgentError(f"{endpoint.address}: {connection.problem}")
        yield connection, messages
    finally:
        connection.stop()
