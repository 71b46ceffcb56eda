"""SIGHUP: what changes, what goes on, and what is refused."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.counters import imbalance
from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2
from tests.broker import PATIENCE, Message, Mosquitto, Subscriber, free_port, wait_until
from tests.daemon_process import Daemon, configuration

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
DEVICE = "changing"


class Scene:
    """A daemon that is changed, and somebody who sends and listens."""

    def __init__(self, daemon: Daemon, client: Subscriber, config: dict[str, Any]) -> None:
        self.daemon = daemon
        self.client = client
        self.config = config

    def change(self, edit: Callable[[dict[str, Any]], object]) -> None:
        edit(self.config)
        self.daemon.configure(self.config)
        self.daemon.reload()

    def messages(self, topic: str) -> list[Message]:
        return [message for message in self.client.messages if message.topic == topic]

    def ask(self, topic: str, pipeline: str, device: str = DEVICE) -> dict[str, Any]:
        """Sends an image; the next result of the pipeline."""
        before = len(self.messages(f"edge/{device}/{pipeline}/result"))
        self.client.publish(topic, IMAGE)
        results = self.client.wait_for(lambda message: message.topic == f"edge/{device}/{pipeline}/result", before + 1)
        document: dict[str, Any] = json.loads(results[before].payload)
        return document

    def info(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.messages(f"edge/{DEVICE}/info")[-1].payload)
        return document


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """One for each test, so that none has inputs of the test before to deliver again."""
    with Mosquitto(tmp_path / "broker") as started:
        yield started


@pytest.fixture
def scene(broker: Mosquitto, tmp_path: Path) -> Iterator[Scene]:
    """Two pipelines, `a` and `b`, that share a model."""
    config = configuration(
        broker,
        DEVICE,
        models={"digits": {"path": str(DIGITS)}},
        pipelines={
            "a": {"source": {"type": "mqtt", "topic": "to/a"}, "model": "digits"},
            "b": {"source": {"type": "mqtt", "topic": "to/b"}, "model": "digits"},
        },
    )
    with Subscriber(broker.port, "edge/#") as client, Daemon(tmp_path, config) as daemon:
        yield Scene(daemon, client, deepcopy(config))
        assert daemon.stop().code == 0
        assert "Traceback" not in daemon.log()
    for message in client.messages:
        if message.topic.endswith("/stats"):
            assert {imbalance(counts) for counts in json.loads(message.payload)["pipelines"].values()} <= {""}


def test_a_pipeline_is_added_while_the_others_go_on(scene: Scene) -> None:
    first = scene.ask("to/a", "a")
    scene.change(lambda c: c["pipelines"].update(c={"source": {"type": "mqtt", "topic": "to/c"}, "model": "digits"}))
    assert scene.ask("to/c", "c")["seq"] == 1
    later = scene.ask("to/a", "a")
    assert (later["boot_id"], later["seq"]) == (first["boot_id"], first["seq"] + 1)
    wait_until(lambda: set(scene.info()["pipelines"]) == {"a", "b", "c"}, 10, "info names the new one")
    assert len(scene.messages(f"edge/{DEVICE}/status")) >= 1
    assert {message.payload for message in scene.messages(f"edge/{DEVICE}/status")} == {b"online"}


def test_a_pipeline_is_removed_and_comes_back(scene: Scene) -> None:
    assert [scene.ask("to/a", "a")["seq"] for _ in range(3)] == [1, 2, 3]
    removed = scene.config["pipelines"]["a"]
    scene.change(lambda c: c["pipelines"].pop("a"))
    wait_until(lambda: set(scene.info()["pipelines"]) == {"b"}, 10, "info names it no more")
    scene.ask("to/b", "b")
    scene.change(lambda c: c["pipelines"].update(a=removed))
    assert scene.ask("to/a", "a")["seq"] == 4


def test_a_pipeline_is_changed_and_counts_on(scene: Scene) -> None:
    assert len(scene.ask("to/a", "a")["predictions"]) == 5
    scene.change(lambda c: c["pipelines"]["a"].update(top_k=1))
    result = scene.ask("to/a", "a")
    assert (len(result["predictions"]), result["seq"]) == (1, 2)


def test_a_new_topic_replaces_the_old_one(scene: Scene) -> None:
    scene.ask("to/a", "a")
    scene.change(lambda c: c["pipelines"]["a"]["source"].update(topic="elsewhere"))
    scene.client.publish("to/a", IMAGE)
    result = scene.ask("elsewhere", "a")
    assert (result["input"]["topic"], result["seq"]) == ("elsewhere", 2)
    assert scene.ask("elsewhere", "a")["seq"] == 3


def test_a_new_model_serves_from_then_on(scene: Scene) -> None:
    before = scene.ask("to/a", "a")["model"]
    onnx = {
        "path": str(DIGITS / "digits.onnx"),
        "labels": str(DIGITS / "labels.txt"),
        "preprocess": {"color": "gray", "normalize": {"mean": 0, "std": 255}},
    }
    scene.change(lambda c: c["models"].update(digits=onnx))
    after = scene.ask("to/a", "a")
    assert after["model"]["sha256"] != before["sha256"]
    assert after["predictions"][0]["label"] == "5"
    wait_until(lambda: "ONNX" in scene.info()["models"]["digits"]["engine"], 10, "info names the new engine")


def test_a_model_file_that_was_replaced_is_loaded_anew(scene: Scene) -> None:
    copy = scene.daemon.config_file.parent / "model.tflite"
    copy.write_bytes((DIGITS / "digits.tflite").read_bytes())
    keys = {
        "path": copy.name,
        "labels": str(DIGITS / "labels.txt"),
        "preprocess": {"color": "gray", "normalize": {"mean": 0, "std": 255}},
    }
    scene.change(lambda c: c["models"].update(digits=keys))
    before = scene.ask("to/a", "a")["model"]
    loads = scene.daemon.log().count("model.tflite: ")
    scene.daemon.reload()
    assert scene.ask("to/a", "a")["model"] == before
    assert scene.daemon.log().count("model.tflite: ") == loads
    copy.unlink()
    copy.write_bytes((DIGITS / "digits.tflite").read_bytes() + bytes(16))
    scene.daemon.reload()
    assert scene.ask("to/a", "a")["model"]["sha256"] != before["sha256"]


def break_yaml(config: dict[str, Any]) -> None:
    config["pipelines"]["a"]["sauce"] = config["pipelines"]["a"].pop("source")


def break_model(config: dict[str, Any]) -> None:
    config["models"]["digits"] = {"path": "labels.txt"}


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [(break_yaml, "pipelines.a.sauce: unknown key; did you mean 'source'?"), (break_model, "models.digits")],
)
def test_an_invalid_change_is_refused_and_the_old_one_goes_on(
    damage: Callable[[dict[str, Any]], None], complaint: str, scene: Scene
) -> None:
    first = scene.ask("to/a", "a")
    (scene.daemon.config_file.parent / "labels.txt").write_text("no model")
    scene.change(damage)
    log = scene.daemon.log()
    assert complaint in log
    assert "the new configuration is invalid: keeping the old one" in log
    later = scene.ask("to/a", "a")
    assert (later["boot_id"], later["seq"], later["model"]) == (first["boot_id"], first["seq"] + 1, first["model"])


def test_every_one_of_many_mistakes_is_said(scene: Scene) -> None:
    scene.change(lambda c: c.update({f"mistake{number:02}": 1 for number in range(25)}))
    log = scene.daemon.log()
    assert [f"mistake{number:02}" for number in range(25) if f"mistake{number:02}: unknown key" not in log] == []


def test_another_device_name_takes_leave_under_the_old_one(scene: Scene) -> None:
    first = scene.ask("to/a", "a")
    scene.change(lambda c: c.update(device_id="renamed"))
    result = scene.ask("to/a", "a", device="renamed")
    assert (result["device_id"], result["seq"]) == ("renamed", first["seq"] + 1)
    wait_until(lambda: scene.messages(f"edge/{DEVICE}/status")[-1].payload == b"offline", 10, "the old one is offline")
    assert scene.messages("edge/renamed/status")[-1].payload == b"online"


def test_another_broker_gets_the_results_from_then_on(scene: Scene, mosquitto: Mosquitto) -> None:
    first = scene.ask("to/a", "a")
    with Subscriber(mosquitto.port, "edge/#") as client:
        scene.change(lambda c: c["mqtt"].update(url=mosquitto.url))
        moved = Scene(scene.daemon, client, scene.config)
        assert moved.ask("to/a", "a")["seq"] == first["seq"] + 1
        wait_until(lambda: scene.messages(f"edge/{DEVICE}/status")[-1].payload == b"offline", 10, "it took leave")
        scene.daemon.stop()
        client.wait_for(lambda message: message.payload == b"offline")
        scene.daemon.start()


def test_a_pipeline_that_is_at_work_is_changed_without_a_loss(scene: Scene) -> None:
    scene.change(lambda c: c["pipelines"]["a"]["source"].update(topic="to/a/+"))
    count = 300
    for number in range(count):
        scene.client.client.publish(f"to/a/{number}", IMAGE, 1)
        if number == count // 2:
            scene.change(lambda c: c["pipelines"]["a"].update(top_k=1))

    def results() -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in scene.messages(f"edge/{DEVICE}/a/result")]

    wait_until(lambda: len({result["input"]["topic"] for result in results()}) == count, 30, "every input is answered")
    assert {len(result["predictions"]) for result in results()} == {1, 5}
    assert [result["seq"] for result in results()] == list(range(1, len(results()) + 1))
    assert not scene.messages(f"edge/{DEVICE}/a/error")


def test_a_change_does_not_wait_for_a_long_queue_and_loses_none_of_it(scene: Scene) -> None:
    onnx = {
        "path": str(DIGITS / "digits.onnx"),
        "labels": str(DIGITS / "labels.txt"),
        "preprocess": {"color": "gray", "normalize": {"mean": 0, "std": 255}},
    }
    # Many regions of a large picture: the queue is worth many seconds of work.
    large = cv2.imencode(".jpg", np.zeros((1000, 1500, 3), np.uint8))[1].tobytes()
    many = {f"r{number}": [0, 0, 1, 1] for number in range(250)}
    scene.change(
        lambda c: c["pipelines"]["a"].update(top_k=1, regions=many, source={"type": "mqtt", "topic": "to/a/+"})
    )
    topics = {f"to/a/{number}" for number in range(60)}
    for topic in topics:
        scene.client.client.publish(topic, large, 1)
    scene.client.wait_for(lambda message: message.topic == f"edge/{DEVICE}/a/result", 2)
    began = time.monotonic()
    scene.change(lambda c: (c["pipelines"]["a"].pop("regions"), c["models"].update(digits=onnx)))
    assert time.monotonic() - began < 5 * PATIENCE

    def results() -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in scene.messages(f"edge/{DEVICE}/a/result")]

    wait_until(lambda: {result["input"]["topic"] for result in results()} == topics, 30, "every input is answered")
    assert not scene.messages(f"edge/{DEVICE}/a/error")
    assert "defect" not in scene.daemon.log()

    def in_progress() -> int:
        stats = json.loads(scene.messages(f"edge/{DEVICE}/stats")[-1].payload)
        return int(stats["pipelines"]["a"]["in_progress"])

    wait_until(lambda: in_progress() == 0, 10, "everything is accounted for")


@pytest.mark.parametrize("qos", [0, 1])
def test_the_result_of_a_long_inference_goes_over_the_new_connection(
    qos: int, broker: Mosquitto, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    def config(url: str) -> dict[str, Any]:
        source = {"type": "mqtt", "topic": "to/a", "qos": qos}
        pipelines = {"a": {"source": source, "model": "digits"}}
        return configuration(url, DEVICE, models={"digits": {"path": str(DIGITS)}}, pipelines=pipelines)

    slow = Daemon(tmp_path, config(broker.url), module="tests.daemon.failing", environment={"SLOW": "6"})
    with Subscriber(broker.port, "edge/#") as before, Subscriber(mosquitto.port, "edge/#") as client, slow as daemon:
        before.client.publish("to/a", IMAGE, qos)
        wait_until(lambda: counts(before)["in_progress"] == 1, 20, "the input has come in")
        daemon.configure(config(mosquitto.url))
        daemon.reload()
        client.wait_for(lambda message: message.topic == f"edge/{DEVICE}/a/result", 1, 20)
        wait_until(lambda: counts(client)["acknowledged"] == 1, 10, "the broker has it")
        last = counts(client)
    assert (last["captured"], last["inferred"], last["in_progress"], last["queued"]) == (1, 1, 0, 0)
    assert not imbalance(last)


def counts(client: Subscriber) -> dict[str, Any]:
    stats = [message for message in client.messages if message.topic == f"edge/{DEVICE}/stats"]
    found: dict[str, Any] = json.loads(stats[-1].payload)["pipelines"]["a"] if stats else defaultdict(int)
    return found


def test_results_that_wait_on_the_disk_move_with_the_outbox(broker: Mosquitto, tmp_path: Path) -> None:
    source = {"type": "images", "path": str(DIGITS / "golden")}
    config = configuration(
        f"mqtt://127.0.0.1:{free_port()}",
        DEVICE,
        models={"digits": {"path": str(DIGITS)}},
        pipelines={"a": {"source": source, "model": "digits"}},
        outbox={"path": "old.db"},
    )
    count = len(list((DIGITS / "golden").iterdir()))
    with Subscriber(broker.port, "edge/#") as client, Daemon(tmp_path, config) as daemon:
        wait_until((tmp_path / "old.db").exists, 20, "results wait on the disk")
        wait_until(lambda: f"STATUS=a {count} results" in str(daemon.notifications), 20, "all are made")
        daemon.configure(config | {"outbox": {"path": "new.db"}, "pipelines": {"b": config["pipelines"]["a"]}})
        daemon.reload()
        assert (tmp_path / "new.db").exists()
        assert not (tmp_path / "old.db").exists()
        daemon.configure(config | {"outbox": {"path": "new.db"}, "mqtt": {"url": broker.url}})
        daemon.reload()
        client.wait_for(lambda message: message.topic == f"edge/{DEVICE}/a/result", count, 20)
        wait_until(lambda: counts(client)["queued"] == 0, 10, "nothing waits")
