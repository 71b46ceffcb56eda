"""What the daemon takes and what it says, over a real broker: INTERFACE of topics and payloads."""

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent import __version__
from edge_agent.counters import imbalance
from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.images import decode_image

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
DEVICE = "bench"
MODELS = {"digits": {"path": str(DIGITS)}}
PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


def on(topic: str) -> Callable[[Message], bool]:
    return lambda message: message.topic == topic


def documents(messages: list[Message]) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in messages]


@pytest.fixture(scope="module")
def listener(broker: Mosquitto) -> Iterator[Subscriber]:
    """Hears everything that the daemon says; in the end, all counters that it published have balanced."""
    with Subscriber(broker.port, f"edge/{DEVICE}/#", "answers/#") as client:
        yield client
        found = [
            imbalance(counts)
            for stats in documents([m for m in client.messages if m.topic == f"edge/{DEVICE}/stats"])
            for counts in stats["pipelines"].values()
        ]
    assert len(found) > 10
    assert set(found) == {""}


@pytest.fixture(scope="module")
def daemon(broker: Mosquitto, listener: Subscriber, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with three pipelines that read MQTT."""
    config = configuration(
        broker,
        DEVICE,
        models=MODELS,
        pipelines={
            "lab": {"source": {"type": "mqtt", "topic": "lab/#"}, "model": "digits", "top_k": 2},
            "loose": {"source": {"type": "mqtt", "topic": "loose/+/image", "qos": 0}, "model": "digits"},
            "halves": {
                "source": {"type": "mqtt", "topic": "halves"},
                "model": "digits",
                "top_k": 1,
                "regions": {"left": [0, 0, 0.5, 1], "right": [0.5, 0, 1, 1]},
            },
        },
    )
    with Daemon(tmp_path_factory.mktemp("daemon"), config) as running:
        yield running


@pytest.fixture
def sender(broker: Mosquitto) -> Iterator[Subscriber]:
    with Subscriber(broker.port, client_id="sender") as client:
        yield client


class Conversation:
    """What is said from now on."""

    def __init__(self, listener: Subscriber) -> None:
        self._listener = listener
        self._before = len(listener.messages)

    def wait(self, topic: str, count: int = 1, timeout: float = 20.0) -> list[Message]:
        started = self._listener.messages[self._before - 1].arrived_at if self._before else 0.0
        return self._listener.wait_for(
            lambda message: message.topic == topic and message.arrived_at > started, count, timeout
        )

    def results(self, pipeline: str, count: int = 1) -> list[dict[str, Any]]:
        return documents(self.wait(f"edge/{DEVICE}/{pipeline}/result", count))

    def errors(self, pipeline: str, count: int = 1) -> list[dict[str, Any]]:
        return documents(self.wait(f"edge/{DEVICE}/{pipeline}/error", count))


@pytest.fixture
def talk(listener: Subscriber, daemon: Daemon) -> Conversation:
    return Conversation(listener)


def test_an_image_is_answered_with_a_result_document(talk: Conversation, sender: Subscriber) -> None:
    sender.publish("lab/meter/1", IMAGE)
    [message] = talk.wait(f"edge/{DEVICE}/lab/result")
    assert (message.qos, message.retain) == (1, False)
    result = json.loads(message.payload)
    assert list(result) == [
        "device_id",
        "pipeline",
        "boot_id",
        "seq",
        "captured_at",
        "clock_synced",
        "replayed",
        "model",
        "task",
        "predictions",
        "input",
        "timing_ms",
    ]
    assert (result["device_id"], result["pipeline"], result["task"]) == (DEVICE, "lab", "classification")
    assert re.fullmatch(r"[0-9a-f]{8}", result["boot_id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", result["captured_at"])
    assert isinstance(result["clock_synced"], bool)
    assert result["replayed"] is False
    assert result["model"]["name"] == "digits"
    assert result["model"]["version"] == "1"
    assert re.fullmatch(r"[0-9a-f]{12}", result["model"]["sha256"])
    best, second = result["predictions"]
    assert (best["label"], best["class_id"]) == ("5", 5)
    assert 0.9 < best["confidence"] <= 1
    assert set(best) == set(second) == {"label", "class_id", "confidence"}
    height, width = decode_image(IMAGE).shape[:2]
    assert result["input"] == {"width": width, "height": height, "topic": "lab/meter/1"}
    times = result["timing_ms"]
    assert list(times) == ["queue", "preprocess", "inference", "postprocess", "total"]
    assert sum(times.values()) == pytest.approx(2 * times["total"], abs=0.1)


def test_results_are_numbered_without_gaps(talk: Conversation, sender: Subscriber) -> None:
    for number in range(50):
        sender.client.publish(f"lab/{number}", IMAGE, 1)
    results = talk.results("lab", 50)
    assert [result["input"]["topic"] for result in results] == [f"lab/{number}" for number in range(50)]
    first = results[0]["seq"]
    assert [result["seq"] for result in results] == list(range(first, first + 50))
    assert len({result["boot_id"] for result in results}) == 1


def test_qos_0_and_a_wildcard(talk: Conversation, sender: Subscriber) -> None:
    for topic in ("loose/a/image", "loose/a/other", "loose/b/image"):
        sender.publish(topic, IMAGE, qos=0)
    results = talk.results("loose", 2)
    assert [result["input"]["topic"] for result in results] == ["loose/a/image", "loose/b/image"]


def test_regions_are_named_in_the_predictions(talk: Conversation, sender: Subscriber) -> None:
    picture = decode_image(IMAGE)
    other = decode_image((DIGITS / "golden" / "7_printed.png").read_bytes())
    other = np.asarray(cv2.resize(other, (picture.shape[1], picture.shape[0])), np.uint8)
    sender.publish("halves", cv2.imencode(".png", np.hstack([picture, other]))[1].tobytes())
    [result] = talk.results("halves")
    assert [(one["region"], one["label"]) for one in result["predictions"]] == [("left", "5"), ("right", "7")]


def test_a_request_gets_its_answer_where_it_wants_it(talk: Conversation, sender: Subscriber) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    properties.ResponseTopic = "answers/here"
    properties.CorrelationData = b"\x00request 7\xff"
    sender.publish("lab/request", IMAGE, properties=properties)
    [answer] = talk.wait("answers/here")
    assert vars(answer.properties)["CorrelationData"] == b"\x00request 7\xff"
    [published] = talk.results("lab")
    assert json.loads(answer.payload) == published


def test_status_and_info_are_retained(broker: Mosquitto, daemon: Daemon) -> None:
    with Subscriber(broker.port, f"edge/{DEVICE}/status", f"edge/{DEVICE}/info") as late:
        [status] = late.wait_for(on(f"edge/{DEVICE}/status"))
        [message] = late.wait_for(on(f"edge/{DEVICE}/info"))
    assert (status.payload, status.retain) == (b"online", True)
    assert message.retain
    info = json.loads(message.payload)
    assert (info["device_id"], info["version"]) == (DEVICE, __version__)
    facts: dict[str, Any] = {"source": "mqtt", "model": "digits", "topic": f"edge/{DEVICE}/lab/result", "problem": ""}
    facts |= {"paused": False, "min_confidence": 0.0}
    assert info["pipelines"]["lab"] == facts
    assert set(info["pipelines"]) == {"lab", "loose", "halves"}
    model = info["models"]["digits"]
    assert (model["name"], model["version"]) == ("digits", "1")
    assert re.fullmatch(r"[0-9a-f]{64}", model["sha256"])
    assert re.match(r"(LiteRT|tflite-runtime|ONNX Runtime) \d", model["engine"])
    assert model["accelerator"] == {
        "asked": ["cpu"],
        "in_use": "cpu",
        "fallback": "",
        "share": None,
        "speed_up": None,
        "moves": 0,
    }


def test_stats_count_what_happened(talk: Conversation, sender: Subscriber) -> None:
    before = documents(talk.wait(f"edge/{DEVICE}/stats"))[0]
    for payload in (IMAGE, b"no image", IMAGE):
        sender.publish("lab/x", payload)
    talk.results("lab", 2)
    talk.errors("lab", 1)
    later = documents(Conversation(talk._listener).wait(f"edge/{DEVICE}/stats", 2))[-1]
    assert set(later) == {"device_id", "boot_id", "uptime_s", "thermal", "pipelines", "performance", "models"}
    assert set(later["performance"]["lab"]) == {"inferred_per_s", "inference_ms"}
    assert later["performance"]["lab"]["inference_ms"] > 0
    assert later["uptime_s"] > before["uptime_s"]
    old, new = before["pipelines"]["lab"], later["pipelines"]["lab"]
    assert new["captured"] - old["captured"] == 3
    assert new["inferred"] - old["inferred"] == 2
    assert new["dropped"]["invalid"] - old["dropped"]["invalid"] == 1
    assert new["produced"] - old["produced"] == new["acknowledged"] - old["acknowledged"] == 2
    assert new["in_progress"] == new["queued"] == 0


def huge_png() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


BAD = {
    "nothing": (b"", "the image is empty: 0 bytes"),
    "truncated": (IMAGE[:200], "is cut off or damaged"),
    "a huge header": (huge_png(), "the PNG image is 50000 x 50000 pixels: at most 50 megapixels are decoded"),
    "text": (b"hello", "not a JPEG, PNG, BMP or WebP image: starts with 68 65 6c 6c 6f, 5 bytes"),
    "JSON": (b'{"values": [1]}', "not a JPEG, PNG, BMP or WebP image: starts with 7b 22 76 61 6c 75 65 73, 15 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_input_that_cannot_be_used_is_said_with_one_sentence_and_the_next_one_is_answered(
    name: str, talk: Conversation, sender: Subscriber, daemon: Daemon
) -> None:
    payload, sentence = BAD[name]
    sender.publish("lab/bad", payload)
    sender.publish("lab/good", IMAGE)
    [message] = talk.wait(f"edge/{DEVICE}/lab/error")
    assert not message.retain
    error = json.loads(message.payload)
    assert set(error) == {"device_id", "pipeline", "boot_id", "at", "error", "input"}
    assert error["error"].endswith(sentence)
    assert error["input"] == {"topic": "lab/bad"}
    [result] = talk.results("lab")
    assert result["input"]["topic"] == "lab/good"
    assert "Traceback" not in daemon.log()


def test_a_payload_of_200_mb_is_refused_and_its_memory_comes_back(
    talk: Conversation, sender: Subscriber, daemon: Daemon
) -> None:
    before = daemon.memory()
    sender.publish("lab/large", bytes(200_000_000), timeout=60)
    [error] = talk.errors("lab")
    assert error["error"] == "lab/large: larger than 32000000 bytes (max_payload)"
    sender.publish("lab/good", IMAGE)
    talk.results("lab")
    wait_until(lambda: daemon.memory() < before + 50, 10, "its memory has come back")
