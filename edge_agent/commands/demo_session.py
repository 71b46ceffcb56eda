"""What all demos run: broker, agent and subscriber in one process."""

import json
import logging
import shutil
import signal
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import loader
from edge_agent.counters import Counters
from edge_agent.daemon.agent import Agent
from edge_agent.mqtt.embedded import EmbeddedBroker

DEVICE = "demo"
CONNECT_TIMEOUT = 10.0
# The width of what is not shown on a terminal; from `ROOMY` on, tables have all of their columns.
WIDTH, ROOMY = 120, 64


@dataclass(frozen=True, slots=True)
class Played:
    """How a demo has ended.

    Attributes:
        counters: of each pipeline.
        interrupted: whether by Ctrl-C.
    """

    counters: dict[str, dict[str, Any]]
    interrupted: bool


def width() -> int:
    """Characters in a line of the terminal."""
    return shutil.get_terminal_size((WIDTH, 24)).columns


def say(text: str) -> None:
    """Prints a sentence, in lines of the terminal's width."""
    print(textwrap.fill(text, width(), break_long_words=False, break_on_hyphens=False), flush=True)


def balance(counters: dict[str, Any], what: str) -> None:
    """Prints where all inputs of a pipeline are."""
    dropped = sum(counters["dropped"].values())
    say(
        f"{what}: {counters['captured']} captured = {counters['inferred']} inferred"
        f" + {counters['in_progress']} in progress + {dropped} dropped"
    )


def play(
    sections: dict[str, Any],
    topic: str,
    introduce: Callable[[str], None],
    show: Callable[[dict[str, Any]], None],
    act: "Callable[[Subscriber], None]",
) -> Played:
    """Runs broker, agent and subscriber until `act` returns, or until Ctrl-C.

    Args:
        sections: of the agent's configuration, besides device and broker.
        topic: filter of the results.
        introduce: called with the broker's address before anything runs.
        show: called with each document that arrives.
        act: called while all of it runs; it may send inputs.

    Raises:
        EdgeAgentError: the broker, or what the configuration names, can't be used.
    """
    logging.getLogger("edge_agent").setLevel(logging.ERROR)
    broker = EmbeddedBroker()
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="edge-agent-demo-") as folder:
        url = broker.start()
        # Its log has a line for each client that leaves before it has begun, as at Ctrl-C.
        logging.getLogger("amqtt.broker").setLevel(logging.CRITICAL)
        path = Path(folder) / "agent.yaml"
        document = {"device_id": DEVICE, "mqtt": {"url": url, "protocol": "3.1.1"}, **sections}
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        agent = Agent(loader.load(path))
        subscriber = Subscriber(url, topic, show)
        try:
            introduce(url)
            started = False
            try:
                with _interrupted_later():
                    subscriber.connect()
                    agent.start()
                    started = True
                act(subscriber)
            finally:
                if started:
                    with _uninterrupted():
                        agent.stop()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            with _uninterrupted():
                subscriber.close()
                broker.stop()
    # Of a pipeline that had not begun there are none.
    nothing = {name: Counters().as_dict() for name in sections["pipelines"]}
    return Played(nothing | agent.counters(), interrupted)


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Ctrl-C takes effect at the end: what is half started can't be stopped."""
    said: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: said.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if said:
        raise KeyboardInterrupt


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C has been said already; another one shall not leave things half stopped."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
