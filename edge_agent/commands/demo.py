"""`demo`: the main job with no set-up: broker, model, clip, and a subscriber that shows what arrives."""

import json
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import loader
from edge_agent.daemon.agent import Agent
from edge_agent.models.shipped import shipped
from edge_agent.mqtt.embedded import EmbeddedBroker
from edge_agent.samples import timestamp

DEVICE = "demo"
TOPIC = f"edge/{DEVICE}/meter/result"
CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What one result says the meter shows.

    Attributes:
        text: the digits from left to right; `_` for one that is blank.
        confidence: of the least certain digit, 0 to 1.
        frame: number of the clip's frame, from 1.
        latency_ms: from the frame's capture to the result's arrival here.
    """

    at: str
    text: str
    confidence: float
    frame: int
    latency_ms: float


def run(seconds: float, *, as_json: bool) -> int:
    """Runs the demo for so many seconds, or until Ctrl-C; returns the exit code.

    Raises:
        EdgeAgentError: the broker, the model or the clip can't be used.
    """
    screen = _Screen(quiet=as_json)
    counters = play(_sections(), TOPIC, screen.introduce, screen.receive, lambda _: time.sleep(seconds))["meter"]
    if as_json:
        print(
            json.dumps(
                {"readings": [_as_dict(reading) for reading in screen.readings], "counters": counters},
                indent=2,
            )
        )
    else:
        screen.sum_up(counters)
    return 0 if screen.readings else 1


def _sections() -> dict[str, Any]:
    clip = yaml.safe_load(shipped("clips/meter.yaml").read_text())
    return {
        "models": {"digits": {"path": str(shipped("digits"))}},
        "pipelines": {
            "meter": {
                "source": {"type": "video", "url": str(shipped(f"clips/{clip['clip']}")), "loop": True},
                "model": "digits",
                "top_k": 1,
                "regions": clip["regions"],
            }
        },
    }


def play(
    sections: dict[str, Any],
    topic: str,
    introduce: Callable[[str], None],
    show: Callable[[dict[str, Any]], None],
    act: "Callable[[Subscriber], None]",
) -> dict[str, dict[str, Any]]:
    """Runs broker, agent and subscriber until an act, or Ctrl-C, has ended it.

    Args:
        sections: of the agent's configuration, besides device and broker.
        topic: what is subscribed to.
        introduce: told the broker's address before anything runs.
        show: takes each document that arrives.
        act: what happens while all of it runs; it may send inputs.

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
    """An ordinary MQTT client, as any other program would be.

    Args:
        url: of the broker.
        topic: of the results.
        show: takes each of them.
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


class _Screen:
    """Shows readings: a line for each new one; on a terminal the last line follows every result."""

    def __init__(self, *, quiet: bool) -> None:
        self.readings: list[Reading] = []
        self._quiet = quiet
        self._live = sys.stdout.isatty()

    def introduce(self, url: str) -> None:
        if self._quiet:
            return
        print("A clip of a meter goes through the bundled digit reader; results arrive over MQTT.")
        print(f"Broker {url} (inside this process), topic {TOPIC}")
        print("\n  time          reading   confidence   latency   frame")

    def receive(self, result: dict[str, Any]) -> None:
        now = time.time()
        captured = datetime.fromisoformat(result["captured_at"]).timestamp()
        predictions = result["predictions"]
        self.show(
            Reading(
                at=timestamp(now),
                text="".join("_" if item["label"] == "blank" else item["label"] for item in predictions),
                confidence=min(item["confidence"] for item in predictions),
                frame=result["input"]["frame"],
                latency_ms=round((now - captured) * 1000, 1),
            )
        )

    def show(self, reading: Reading) -> None:
        new = not self.readings or self.readings[-1].text != reading.text
        self.readings.append(reading)
        if self._quiet or not (new or self._live):
            return
        line = (
            f"  {reading.at[11:23]}  {reading.text:<8}  {reading.confidence:>9.1%}   "
            f"{reading.latency_ms:>5.1f} ms   {reading.frame:>5}"
        )
        if self._live:
            print(("\n" if new else "\r") + line, end="", flush=True)
        else:
            print(line, flush=True)

    def sum_up(self, counters: dict[str, Any]) -> None:
        dropped = sum(counters["dropped"].values())
        latencies = sorted(reading.latency_ms for reading in self.readings)
        print(f"\n\n{len(self.readings)} results arrived", end="")
        print(f", half of them within {latencies[len(latencies) // 2]:.1f} ms of their frame" if latencies else "")
        print(
            f"frames: {counters['captured']} captured = {counters['inferred']} inferred"
            f" + {counters['in_progress']} in progress + {dropped} dropped"
        )
        print(
            f"results: {counters['produced']} produced = {counters['acknowledged']} acknowledged by the broker"
            f" + {counters['queued']} waiting + {sum(counters['discarded'].values())} discarded"
        )


def _as_dict(reading: Reading) -> dict[str, Any]:
    return {
        "at": reading.at,
        "reading": reading.text,
        "confidence": reading.confidence,
        "frame": reading.frame,
        "latency_ms": reading.latency_ms,
    }
