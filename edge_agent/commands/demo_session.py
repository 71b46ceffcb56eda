"""What all demos run: broker, agent and subscriber in one process."""

import json
import logging
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import loader
from edge_agent.daemon.agent import Agent
from edge_agent.mqtt.embedded import EmbeddedBroker

DEVICE = "demo"
CONNECT_TIMEOUT = 10.0


def play(
    sections: dict[str, Any],
    topic: str,
    introduce: Callable[[str], None],
    show: Callable[[dict[str, Any]], None],
    act: "Callable[[Subscriber], None]",
) -> dict[str, dict[str, Any]]:
    """Runs broker, agent and subscriber until `act` returns, or until Ctrl-C.

    Args:
        sections: of the agent's configuration, besides device and broker.
        topic: filter of the results.
        introduce: called with the broker's address before anything runs.
        show: called with each document that arrives.
        act: called while all of it runs; it may send inputs.

    Returns:
        The counters of each pipeline.

    Raises:
        EdgeAgentError: the broker, or what the configuration names, can't be used.
    """
    logging.getLogger("edge_agent").setLevel(logging.ERROR)
    broker = EmbeddedBroker()
    url = broker.start()
    with tempfile.TemporaryDirectory(prefix="edge-agent-demo-") as folder:
        path = Path(folder) / "agent.yaml"
        document = {"device_id": DEVICE, "mqtt": {"url": url, "protocol": "3.1.1"}, **sections}
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        agent = Agent(loader.load(path))
        subscriber = Subscriber(url, topic, show)
        try:
            introduce(url)
            subscriber.connect()
            agent.start()
            try:
                act(subscriber)
            except KeyboardInterrupt:
                pass
            finally:
                agent.stop()
        finally:
            subscriber.close()
            broker.stop()
    return agent.counters()


class Subscriber:
    """An ordinary MQTT client.

    Args:
        url: of the broker.
        topic: filter of the results.
        show: called with each of them.
    """

    def __init__(self, url: str, topic: str, show: Callable[[dict[str, Any]], None]) -> None:
        self._address = url.removeprefix("mqtt://").split(":")
        self._show = show
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "demo-subscriber", protocol=MQTTv311)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._received

    def connect(self) -> None:
        """Connects, and waits until it is subscribed."""
        host, port = self._address
        self._client.connect(host, int(port))
        self._client.loop_start()
        self._subscribed.wait(CONNECT_TIMEOUT)

    def send(self, topic: str, payload: bytes) -> None:
        """Publishes an input."""
        self._client.publish(topic, payload, 1)

    def close(self) -> None:
        """Leaves the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def _received(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._show(json.loads(message.payload))
