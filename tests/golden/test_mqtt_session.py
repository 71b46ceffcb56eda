"""What a device says over MQTT, against the session on record: topics, retain, QoS, properties and payloads.

What differs from run to run (ids, times, versions, measurements) is replaced by a word for it. Confidences and other
fractions may differ a little, since processors round differently. How to record again: see `golden_files`.
"""

import functools
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.broker import Message, Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration
from tests.golden.golden_files import ENVIRONMENT, PROJECT, check, edge_agent

DEVICE = "golden"
P = f"edge/{DEVICE}"
DIGITS = PROJECT / "models/digits/golden"
VIBRATION = PROJECT / "models/vibration/golden"
ACTIVITY = PROJECT / "models/activity/golden"
# Of these only the last message counts: how often they are published depends on how long things take.
STATES = ("info", "accelerator", "update", "stats")
# Keys whose values differ from run to run; each of a dictionary's own is replaced.
MEASURED = {
    "timing_ms",
    "first_token_ms",
    "per_second",
    "performance",
    "thermal",
    "uptime_s",
    "seconds",
    "position_s",
    "clock_synced",
    "boot_id",
    "tuning",
    "machine",
    "disk",
}
PATTERNS = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{12}([0-9a-f]{52})?\b"), "SHA256"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "ID"),
    (re.compile(r"\b\d+\.\d+\.\d+\b"), "VERSION"),
    (re.compile(re.escape(str(PROJECT))), "PROJECT"),
)
# By how much fractions may differ.
TOLERANCE = 0.02
WIDTH = 140


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def detector(file: Path) -> None:
    """A detector that finds the same box in every picture, in the form of YOLO with suppression inside."""
    found = np.zeros((1, 300, 6), np.float32)
    found[0, 0] = (8, 8, 56, 60, 0.9, 0)
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 64, 64))
    out = helper.make_tensor_value_info("output0", TensorProto.FLOAT, found.shape)
    constant = helper.make_node("Constant", (), ("output0",), value=onnx.numpy_helper.from_array(found))
    graph = helper.make_graph([constant], "detector", [image], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)


def sections(folder: Path, address: str) -> dict[str, Any]:
    detector(folder / "boxes.onnx")
    (folder / "boxes.txt").write_text("plate\n")
    boxes = {
        "path": "boxes.onnx",
        "labels": "boxes.txt",
        "decoder": "yolo_end_to_end",
        "preprocess": {"normalize": "unit"},
    }
    return {
        "home_assistant": {"enabled": True},
        "update": {"url": address, "root": "releases/metadata/1.root.json", "models": {"digits": "digits"}},
        "models": {name: {"path": name} for name in ("digits", "vibration", "activity")} | {"boxes": boxes},
        "pipelines": {
            "lab": {"source": {"type": "mqtt", "topic": "lab/images"}, "model": "digits", "top_k": 2},
            "album": {
                "source": {"type": "images", "path": str(DIGITS / "*_printed.png")},
                "model": "digits",
                "top_k": 1,
                "publish": {"retain": True, "topic": "house/{device_id}/{label}", "expire_after": "1h"},
            },
            "halves": {
                "source": {"type": "mqtt", "topic": "lab/halves", "share": "readers", "stand_in": ["golden"]},
                "model": "digits",
                "top_k": 1,
                "regions": {"upper": [0, 0, 1, 0.5], "whole": [0, 0, 1, 1]},
                "publish": {"on_change": True},
            },
            "pump": {"source": {"type": "mqtt", "topic": "pump/readings"}, "model": "vibration"},
            "walk": {
                "source": {"type": "mqtt", "topic": "walk/readings"},
                "model": "activity",
                "window": {},
                "smoothing": {"over": 1},
            },
            "hall": {
                "source": {"type": "mqtt", "topic": "hall/images"},
                "model": "boxes",
                "tracking": {"lost_after": "1h"},
                "snapshot": {"interval": "1h"},
                "filters": {"zones": {"middle": [[0.2, 0.2], [0.8, 0.2], [0.8, 1], [0.2, 1]]}},
            },
            "plate": {"source": {"type": "pipeline", "name": "hall"}, "model": "digits", "top_k": 1},
        },
    }


class Session:
    """Sends inputs one after the other, each when the one before has been answered."""

    def __init__(self, client: Subscriber) -> None:
        self.client = client
        self.sent: set[str] = set()

    def send(self, topic: str, payload: bytes | str, *answers: str, **properties: Any) -> None:
        """Publishes an input and waits for a message on each of the topics."""
        before = {answer: self.count(answer) for answer in answers}
        asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
        for key, value in properties.items():
            setattr(asked, key, value)
        self.sent.add(topic)
        self.client.publish(topic, payload, properties=asked)
        for answer, count in before.items():
            self.client.wait_for(lambda message, answer=answer: message.topic == answer, count + 1, 30)  # type: ignore[misc]

    def count(self, topic: str) -> int:
        return sum(message.topic == topic for message in list(self.client.messages))

    def wait_until_settled(self) -> None:
        """Waits until the counters say that nothing is under way any more."""
        topic, seen = f"{P}/stats", len(self.client.messages)

        def is_settled(message: Message) -> bool:
            if message.topic != topic or message in self.client.messages[:seen]:
                return False
            pipelines = json.loads(message.payload)["pipelines"].values()
            return not any(counts["queued"] or counts["in_progress"] for counts in pipelines)

        self.client.wait_for(is_settled, timeout=30)


def play(session: Session) -> None:
    """All that is sent to the device, but for requests to a language model."""
    five, seven = ((DIGITS / f"{digit}_printed.png").read_bytes() for digit in (5, 7))
    session.send("lab/images", five, f"{P}/lab/result")
    asked = {"ResponseTopic": "answers", "CorrelationData": b"7"}
    session.send("lab/images", seven, f"{P}/lab/result", "answers", **asked)
    session.send("lab/images", "no picture", f"{P}/lab/error", "answers", **asked)
    session.send("lab/halves", five, f"{P}/halves/result")
    session.send("lab/halves", five)
    session.send("lab/halves", seven, f"{P}/halves/result")
    for name in ("normal_0", "anomaly_0"):
        session.send("pump/readings", (VIBRATION / f"{name}.json").read_bytes(), f"{P}/pump/result")
    session.send("pump/readings", "[1, 2]", f"{P}/pump/error")
    for name in ("walking_0", "running_0"):
        answers = (f"{P}/walk/result", f"{P}/walk/event")
        session.send("walk/readings", (ACTIVITY / f"{name}.json").read_bytes(), *answers)
    session.send("hall/images", five, f"{P}/hall/result", f"{P}/hall/snapshot")
    session.send("hall/images", five, f"{P}/hall/event", f"{P}/plate/result")
    session.send(f"{P}/cmd", '{"command": "fly"}', f"{P}/cmd/reply")
    session.send("edge/all/cmd", '{"command": "update", "spread": 0}', "answers", **asked)


@contextmanager
def recorded(broker: Mosquitto, name: str) -> Iterator[Session]:
    """A session whose messages, up to the device's last one, are compared with the golden file of that name."""
    with Subscriber(broker.port, "#", as_published=True) as client:
        session = Session(client)
        yield session
        client.wait_for(lambda message: message.payload == b"offline")
        with Subscriber(broker.port, "#", as_published=True) as late:
            late.publish("end", "")
            late.wait_for(lambda message: message.topic == "end")
            retained = sorted({message.topic for message in late.messages if message.retain})
        messages = [message for message in client.messages if message.topic not in session.sent | {"end"}]
    text = compact({"messages": described(messages), "retained_at_the_end": retained})
    check(name, text, lambda recorded: compact(settled(json.loads(text), json.loads(recorded))))


def test_the_messages_of_a_device_are_those_on_record(mosquitto: Mosquitto, tmp_path: Path) -> None:
    made = edge_agent("release", "init", "-r", "releases", cwd=tmp_path, EDGE_AGENT_PASSPHRASE="a passphrase")
    assert made.returncode == 0, made.stderr
    with web_server(tmp_path / "releases") as address, recorded(mosquitto, "mqtt_session.json") as session:
        config = configuration(mosquitto, DEVICE, **sections(tmp_path, address))
        with Daemon(tmp_path, config, environment=ENVIRONMENT | {"XDG_CACHE_HOME": str(tmp_path)}) as daemon:
            play(session)
            session.client.wait_for(
                lambda message: message.topic == f"homeassistant/device/{DEVICE}/config", timeout=30
            )
            session.client.wait_for(has_looked_for_updates, timeout=30)
            session.wait_until_settled()
            assert daemon.stop().code == 0


def test_the_messages_of_a_language_model_and_of_a_kill_are_those_on_record(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime_genai")
    pytest.importorskip("llguidance")
    pipeline = {"source": {"type": "mqtt", "topic": "home/ask"}, "model": "intents"}
    models = {"intents": {"path": "intents", "language": {"context": 256}}}
    config = configuration(mosquitto, DEVICE, models=models, pipelines={"home": pipeline})
    with (
        recorded(mosquitto, "mqtt_session_language.json") as session,
        Daemon(tmp_path, config, environment=ENVIRONMENT | {"XDG_CACHE_HOME": str(tmp_path)}) as daemon,
    ):
        result = f"{P}/home/result"
        session.send("home/ask", "one sentence on the pump: anomaly 3.21", result)
        session.send("home/ask", json.dumps({"prompt": "open the garage door", "id": "q1", "stream": True}), result)
        choices = {"prompt": "is the kitchen window closed?", "choices": ["yes", "no"], "max_tokens": 4}
        session.send("home/ask", json.dumps(choices), result)
        session.send("home/ask", '{"prompt": "x", "temprature": 1}', f"{P}/home/error")
        session.wait_until_settled()
        daemon.kill()


def has_looked_for_updates(message: Message) -> bool:
    return message.topic == f"{P}/update" and json.loads(message.payload)["checked_at"] is not None


def described(messages: list[Message]) -> dict[str, Any]:
    """The messages by topic, in the order of their arrival; of states the last one alone."""
    topics: dict[str, list[Any]] = {}
    for message in messages:
        properties: dict[str, Any] = {}
        if message.properties:
            properties = message.properties.json()  # type: ignore[no-untyped-call]  # paho leaves this one untyped
        if "MessageExpiryInterval" in properties:
            properties["MessageExpiryInterval"] = "SECONDS"
        one = {"qos": message.qos, "retain": message.retain, "properties": properties, "payload": payload_of(message)}
        topics.setdefault(message.topic, []).append(one)
    for topic in {f"{P}/{name}" for name in STATES} & topics.keys():
        del topics[topic][:-1]
    for topic, pieces in topics.items():
        if topic.endswith("/stream"):  # how the answer is cut into pieces depends on how long it takes
            text = "".join(piece["payload"]["text"] for piece in pieces)
            assert [piece["payload"]["index"] for piece in pieces] == list(range(len(pieces)))
            topics[topic] = [pieces[0] | {"payload": pieces[0]["payload"] | {"text": text}}]
    return topics


def payload_of(message: Message) -> Any:
    if message.payload.startswith(b"\xff\xd8"):
        return "JPEG"
    if message.payload.startswith(b"{"):
        return normalised(json.loads(message.payload), "")
    return message.payload.decode()


def normalised(value: Any, key: str) -> Any:
    """A value of a document with what differs from run to run replaced."""
    if key == "performance":  # of those pipelines alone that have had inputs since the last time
        return "MEASURED"
    if isinstance(value, dict):
        return {name: normalised(part, key if key in MEASURED else name) for name, part in value.items()}
    if isinstance(value, list):
        return [normalised(part, key) for part in value]
    if key in MEASURED:
        return "MEASURED"
    if isinstance(value, str):
        for pattern, word in PATTERNS:
            value = pattern.sub(word, value)
    return value


def settled(value: Any, recorded: Any) -> Any:
    """A value with those fractions that are near enough replaced by the ones on record."""
    if isinstance(value, dict) and isinstance(recorded, dict):
        return {key: settled(part, recorded.get(key)) for key, part in value.items()}
    if isinstance(value, list) and isinstance(recorded, list) and len(value) == len(recorded):
        return [settled(part, other) for part, other in zip(value, recorded, strict=True)]
    near = isinstance(value, float) and isinstance(recorded, float) and abs(value - recorded) <= TOLERANCE
    return recorded if near else value


def compact(value: Any, indent: str = "") -> str:
    """JSON whose parts stand in one line each where there is room."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if len(indent) + len(line) <= WIDTH or not isinstance(value, dict | list):
        return line + ("" if indent else "\n")
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {compact(value[key], inner)}" for key in sorted(value)]
    else:
        parts = [compact(part, inner) for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    lines = ",\n".join(f"{inner}{part}" for part in parts)
    return f"{opening}\n{lines}\n{indent}{closing}" + ("" if indent else "\n")
