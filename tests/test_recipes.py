"""The recipes lead to what they promise: each page's configuration runs, with a clip in place of the camera."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
import yaml

from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2
from tests.broker import Mosquitto, Subscriber, free_port, wait_until
from tests.command_line import edge_agent
from tests.daemon_process import Daemon
from tests.language.model_files import write_model
from tests.models.moonshine_model import write as write_moonshine
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


def every_fifth_frame(clip: Path, out: Path) -> Path:
    video = cv2.VideoCapture(str(clip))
    writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (768, 432))
    while video.grab():
        writer.write(np.asarray(video.retrieve()[1], np.uint8))
        for _ in range(4):
            video.grab()
    writer.release()
    return out


def test_one_person_at_a_time_counts_as_one_with_nothing_set(
    data_dir: Path, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    [block] = blocks("yaml", page="person-in-the-yard.md")
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"]["url"] = mosquitto.url
    mirror = tmp_path / "mirror" / "nanodet-m-320" / "nanodet_m_320.onnx"
    mirror.parent.mkdir(parents=True)
    mirror.write_bytes((data_dir / "met_in_the_wild" / "nanodet_m_320_k.onnx").read_bytes())
    variables = {"EDGE_AGENT_MIRROR": str(tmp_path / "mirror"), "EDGE_AGENT_MODELS": str(tmp_path / "models")}
    pulled = edge_agent("models", "pull", "nanodet-m-320", cwd=tmp_path, further_environment=variables)
    assert pulled.returncode == 0, pulled.stderr
    clip = every_fifth_frame(data_dir / "video" / "one-by-one-person-detection.mp4", tmp_path / "yard.avi")
    options["pipelines"]["yard"] |= {"source": {"type": "video", "url": str(clip), "fps": "max"}, "publish": {}}
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(options))
    with Subscriber(mosquitto.port, "edge/porch-pi/yard/result") as subscriber:
        done = edge_agent("run", "--once", cwd=tmp_path, further_environment=variables)
        assert done.returncode == 0, done.stderr
        results = [json.loads(one.payload) for one in subscriber.messages]
    counts = Counter(len(result["predictions"]) for result in results)
    assert counts[1] > counts[0] > 0
    assert sum(counts[more] for more in counts if more > 1) <= 2


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


def test_an_export_of_ultralytics_serves_as_it_is(data_dir: Path, tmp_path: Path, mosquitto: Mosquitto) -> None:
    [block] = blocks("yaml", page="my-yolo-export.md")
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"]["url"] = mosquitto.url
    options["pipelines"]["street"]["source"] = {"type": "images", "path": str(data_dir / "images" / "bus.jpg")}
    (tmp_path / "best.tflite").write_bytes((data_dir / "detect_tflite" / "yolov8n_integer_quant.tflite").read_bytes())
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(options))
    with Subscriber(mosquitto.port, "edge/porch-pi/street/result") as subscriber:
        done = edge_agent("run", "--once", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        [message] = subscriber.wait_for(lambda _: True)
    found = [one["label"] for one in json.loads(message.payload)["predictions"]]
    assert sorted(found) == ["bus", "person", "person", "person"]


def test_a_spoken_phrase_ends_as_the_message_that_a_relay_hears(tmp_path: Path, mosquitto: Mosquitto) -> None:
    [block] = blocks("yaml", page="voice-to-a-relay.md")
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"]["url"] = mosquitto.url
    options["pipelines"]["voice"]["source"] = {"type": "mqtt", "topic": "microphone"}
    options["stats_interval"] = "200ms"
    with Subscriber(mosquitto.port, "#") as relay, Daemon(tmp_path, options):
        for clip in ("turn_the_porch_light_on", "weather_in_paris", "turn_the_porch_light_off"):
            relay.publish("microphone", (ROOT / "tests" / "clips" / f"{clip}.wav").read_bytes())
        stats = relay.wait_for(lambda one: one.topic.endswith("/stats") and b'"done": 2' in one.payload)
        relay.wait_for(lambda one: one.topic.endswith("/voice/result"), 3)
        heard = [json.loads(one.payload) for one in relay.messages if one.topic == "zigbee2mqtt/porch/set"]
        results = [json.loads(one.payload) for one in relay.messages if one.topic.endswith("/voice/result")]
    assert heard == [{"state": "ON"}, {"state": "OFF"}]
    said = [[one["label"] for one in result["predictions"]] for result in results]
    assert said == [["turn the porch light on"], [], ["turn the porch light off"]]
    assert json.loads(stats[-1].payload)["actions"] == {"voice": {"done": 2, "limited": 0, "failed": 0}}


def test_a_command_in_other_words_ends_as_the_message_that_a_relay_hears(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
    [block] = blocks("yaml", page="commands-in-your-own-words.md")
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"]["url"] = mosquitto.url
    options["pipelines"]["voice"]["source"] = {"type": "mqtt", "topic": "microphone"}
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path))
    heard = " Turn the porch lamp on, and the kitchen fan off, please."
    model = write_moonshine(tmp_path / "moonshine-tiny-en", re.findall(r" ?[^ ]+", heard))
    (model / "model.yaml").write_text("{name: moonshine-tiny-en, version: '1', task: transcription}")
    with Subscriber(mosquitto.port, "#") as relay, Daemon(tmp_path, options):
        relay.publish("microphone", (ROOT / "tests" / "clips" / "weather_in_paris.wav").read_bytes())
        [result] = relay.wait_for(lambda one: one.topic.endswith("/orders/result"))
    sent = [(one.topic, json.loads(one.payload)) for one in relay.messages if one.topic.startswith("zigbee2mqtt/")]
    assert sent == [("zigbee2mqtt/porch_light/set", {"state": "ON"}), ("zigbee2mqtt/kitchen_fan/set", {"state": "OFF"})]
    calls = json.loads(result.payload)["calls"]
    assert [(call["name"], call["outcome"]) for call in calls] == [("turn_on", "sent"), ("turn_off", "sent")]


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


def test_a_model_answers_over_http_and_over_mqtt(tmp_path: Path, mosquitto: Mosquitto) -> None:
    pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
    [block] = blocks("yaml", page="chat-with-a-model.md")
    options: dict[str, Any] = yaml.safe_load(block.text)
    port = free_port()
    options |= {"mqtt": {"url": mosquitto.url}, "http": {"listen": f"127.0.0.1:{port}"}}
    options["models"]["assistant"]["path"] = str(write_model(tmp_path / "model"))
    [body] = re.findall(r"-d '(.+)'", (ROOT / "docs" / "recipes" / "chat-with-a-model.md").read_text())
    with Daemon(tmp_path, options), Subscriber(mosquitto.port, "edge/desk-pi/chat/result") as listener:
        address = f"http://127.0.0.1:{port}/v1/chat/completions"
        answer = urllib3.request("POST", address, body=body, headers={"Content-Type": "application/json"}, timeout=60)
        listener.publish("house/ask", "What is a macaw?")
        [result] = listener.wait_for(lambda message: message.topic.endswith("result"), timeout=30)
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
    assert json.loads(result.payload)["task"] == "text"


def test_a_day_of_crossings_becomes_a_question_and_an_answer(tmp_path: Path, mosquitto: Mosquitto) -> None:
    pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
    [block], [script] = (
        blocks("yaml", page="sentence-about-the-day.md"),
        blocks("python", page="sentence-about-the-day.md"),
    )
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"] = {"url": mosquitto.url}
    options["models"]["assistant"]["path"] = str(write_model(tmp_path / "model"))
    (tmp_path / "day.py").write_text(script.text)
    with Daemon(tmp_path, options), Subscriber(mosquitto.port, "house/day", "edge/porch-pi/day/result") as listener:
        command = [sys.executable, str(tmp_path / "day.py"), "127.0.0.1", str(mosquitto.port), "5"]
        with subprocess.Popen(command) as counting:
            while counting.poll() is None:  # it may not have subscribed yet
                for label in ("car", "person"):
                    listener.publish("edge/porch-pi/drive/event", json.dumps({"event": "cross", "label": label}))
                listener.publish("edge/porch-pi/drive/event", json.dumps({"event": "enter", "label": "dog"}))
        [question] = listener.wait_for(lambda message: message.topic == "house/day")
        [answer] = listener.wait_for(lambda message: message.topic.endswith("result"), timeout=30)
    said = question.payload.decode()
    assert re.search(r"\d\d:00: \d+ car\. ", said)
    assert re.search(r"\d\d:00: \d+ person\.", said)
    assert "dog" not in said
    assert json.loads(answer.payload)["task"] == "text"
