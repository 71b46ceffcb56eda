"""The recipes lead to what they promise: each page's configuration runs, with a clip in place of the camera."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.command_line import edge_agent
from tests.daemon_process import Daemon
from tests.pages import ROOT, blocks

RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.md"))


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.name)
def test_a_recipe_has_at_most_forty_lines(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= 40


@pytest.fixture(scope="module")
def somebody_leaves(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of a clip, five frames a second: somebody stands there, and goes to the right after seven."""
    path = tmp_path_factory.mktemp("clip") / "hall.avi"
    video = cv2.VideoCapture(str(data_dir / "video" / "one-by-one-person-detection.mp4"))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (768, 432))
    for number in range(240):
        there, image = video.read()
        assert there
        if number >= 120 and number % 2 == 0:
            writer.write(np.asarray(image, np.uint8))
    writer.release()
    return path


def test_people_are_counted_through_the_door_and_the_totals_outlast_a_restart(
    somebody_leaves: Path, data_dir: Path, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    [block] = blocks("yaml", page="count-people.md")
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"]["url"] = mosquitto.url
    options["pipelines"]["hall"]["source"] |= {"url": str(somebody_leaves), "fps": "max"}
    model = data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    options["models"]["people"]["path"] = str(model)
    options["pipelines"]["hall"]["lines"]["door"]["reset"] = None  # it may be midnight
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(options))
    with Subscriber(mosquitto.port, "edge/porch-pi/hall/#") as subscriber:
        for total in (1, 2):
            done = edge_agent("run", "--once", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            wait_until(lambda total=total: len(crossings(subscriber)) == total, 10, "crossings")  # type: ignore[misc]  # mypy infers no lambda with a default
            event = crossings(subscriber)[-1]
            assert (event["line"], event["direction"], event["in"], event["out"]) == ("door", "in", total, 0)
            assert results(subscriber)[-1]["lines"] == {"door": {"in": total, "out": 0}}


def documents(subscriber: Subscriber, what: str) -> list[dict[str, Any]]:
    return [json.loads(one.payload) for one in subscriber.messages if one.topic == f"edge/porch-pi/hall/{what}"]


def crossings(subscriber: Subscriber) -> list[dict[str, Any]]:
    return [event for event in documents(subscriber, "event") if event["event"] == "cross"]


def results(subscriber: Subscriber) -> list[dict[str, Any]]:
    return documents(subscriber, "result")


def test_readings_of_a_sensor_are_learned_and_what_is_unusual_is_an_alarm_also_after_a_restart(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    [block] = blocks("yaml", page="unusual-readings.md")
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"]["url"] = mosquitto.url
    options["home_assistant"]["enabled"] = False
    options["pipelines"]["cellar"]["model"]["learn"] = 50  # as the page suggests
    topic = "edge/porch-pi/cellar"

    with Subscriber(mosquitto.port, f"{topic}/#") as subscriber:

        def read(*temperatures: float) -> list[dict[str, Any]]:
            """What is published about readings, the temperature of each."""
            count = len(subscriber.messages) + len(temperatures)
            for one in temperatures:
                message = {"temperature": one, "humidity": 61.2, "linkquality": 97}
                subscriber.publish("zigbee2mqtt/cellar", json.dumps(message).encode())
            wait_until(lambda: len(subscriber.messages) >= count, 10, "results")
            found = [json.loads(one.payload) for one in subscriber.messages if one.topic == f"{topic}/result"]
            return [result["predictions"][0] for result in found[-len(temperatures) :]]

        with Daemon(tmp_path, options):
            assert read(*[4.2, 4.3] * 25)[-1] == {
                "channel": "temperature", "unit": "°C", "reading": 4.3, "learning": True,
            }  # fmt: skip
            usual = read(4.2)[-1]
            assert (usual["label"], usual["expected"][0] < 4.2 < usual["expected"][1] < 6) == ("normal", True)
        with Daemon(tmp_path, options):
            assert [one["label"] for one in read(17.5, 17.5)] == ["normal", "anomaly"]
            [event] = [
                json.loads(one.payload) for one in subscriber.wait_for(lambda one: one.topic == f"{topic}/event")
            ]
            assert (event["event"], event["channel"], event["reason"]) == ("alarm", "temperature", "level")
            assert (event["reading"], event["topic"]) == (17.5, "zigbee2mqtt/cellar")


def test_a_meter_is_read_and_what_it_can_not_show_is_refused_and_kept(tmp_path: Path, mosquitto: Mosquitto) -> None:
    [block] = blocks("yaml", page="read-a-meter.md")
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"]["url"] = mosquitto.url
    clip = {"type": "video", "url": str(shipped("clips/meter.mp4")), "fps": "max"}
    options["pipelines"]["meter"]["source"] = clip  # the camera's, without `every`
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(options))
    with Subscriber(mosquitto.port, "edge/porch-pi/meter/result") as subscriber:
        for _ in range(2):  # the second time the meter has fallen
            done = edge_agent("run", "--once", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        wait_until(lambda: len(subscriber.messages) == 400, 10, "results")
    results = [json.loads(one.payload) for one in subscriber.messages]
    first, again = ([one["predictions"][0] for one in results[at : at + 200]] for at in (0, 200))
    values = [one["value"] for one in first]
    assert {one["task"] for one in results} == {"meter"}
    assert (values[0], values[-1], values == sorted(values)) == (4293, 4303, True)
    assert sum("refused" in one for one in first) == 0
    assert {one["value"] for one in again} == {4303}
    assert [one["refused"] for one in again[:10]] == ["falls"] * 10
    pictures = list((tmp_path / "refused" / "meter").iterdir())
    assert len(pictures) == 20
    assert cv2.imread(str(pictures[0])) is not None


def test_a_person_in_the_yard_has_a_picture_that_events_name_and_that_outlasts_the_visit(
    somebody_leaves: Path, data_dir: Path, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    [block] = blocks("yaml", page="picture-on-the-phone.md")
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"]["url"] = mosquitto.url
    options["pipelines"]["yard"]["source"] |= {"url": str(somebody_leaves), "fps": "max"}
    model = data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    options["models"]["people"]["path"] = str(model)
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(options))
    with Subscriber(mosquitto.port, "edge/porch-pi/yard/#") as subscriber:
        done = edge_agent("run", "--once", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        entered = json.loads(subscriber.wait_for(lambda one: one.topic == "edge/porch-pi/yard/event")[0].payload)
        assert (entered["event"], entered["zone"], entered["label"]) == ("enter", "path", "person")
        came = subscriber.wait_for(lambda one: one.topic == entered["picture"], 2)
    with Subscriber(mosquitto.port, "edge/porch-pi/yard/object/#") as later:
        for topic in ("edge/porch-pi/yard/object", entered["picture"]):
            later.wait_for(lambda one, topic=topic: one.topic == topic)  # type: ignore[misc]  # as above
        kept = {one.topic: one.payload for one in later.messages}
    latest = kept["edge/porch-pi/yard/object"]
    assert kept[entered["picture"]] == came[-1].payload != came[0].payload  # replaced by a better one
    assert latest in kept.values()
    assert cv2.imdecode(np.frombuffer(latest, np.uint8), cv2.IMREAD_COLOR) is not None


def test_the_blueprint_uses_what_events_have() -> None:
    class Loader(yaml.SafeLoader):
        """Knows Home Assistant's `!input`."""

    Loader.add_constructor("!input", lambda _, node: f"input {node.value}")
    text = (ROOT / "deploy" / "home-assistant" / "object-on-the-phone.yaml").read_text()
    blueprint = yaml.load(text, Loader)
    inputs = blueprint["blueprint"]["input"]
    assert {f"input {name}" for name in inputs} == {f"input {name}" for name in ("event", "picture", "notify")}
    assert [one["selector"]["entity"]["domain"] for one in list(inputs.values())[:2]] == ["event", "image"]
    [shown] = [json.loads(block.text) for block in blocks("json", page="picture-on-the-phone.md")]
    assert shown.keys() >= {"pipeline", "track_id", "label"}
    assert shown["event"] in ("enter", "leave")
