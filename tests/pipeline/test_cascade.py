"""Detect, then classify: a pipeline whose input is what another one finds."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from edge_agent.config.loader import load
from edge_agent.errors import ConfigError
from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2
from tests.broker import Message, Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration

DETECTOR = "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
CLASSIFIER = "classify_tflite/mobilenet_v1_0.25_224_quant.tflite"


def cascade(broker: Mosquitto, data_dir: Path, source: dict[str, Any], **follow: Any) -> dict[str, Any]:
    return configuration(
        broker,
        "cascade",
        models={"find": {"path": str(data_dir / DETECTOR)}, "name": {"path": str(data_dir / CLASSIFIER)}},
        pipelines={
            # The one that follows stands first: the order in the file does not matter.
            "which": {"source": {"type": "pipeline", "name": "porch"} | follow, "model": "name", "top_k": 1},
            "porch": {"source": source, "model": "find", "min_confidence": 0.5},
        },
    )


def documents(client: Subscriber, pipeline: str) -> list[dict[str, Any]]:
    topic = f"edge/cascade/{pipeline}/result"
    return [json.loads(message.payload) for message in client.messages if message.topic == topic]


def ended(message: Message) -> bool:
    return message.topic == "edge/cascade/status" and message.payload == b"offline"


def test_each_object_that_is_wanted_is_classified_and_names_its_parent(
    broker: Mosquitto, data_dir: Path, tmp_path: Path
) -> None:
    images = {"type": "images", "path": str(data_dir / "images" / "*.jpg")}
    labels = ["bus", "cat", "dog", "bird"]
    with Subscriber(broker.port, "edge/cascade/#") as client:
        daemon = Daemon(
            tmp_path, cascade(broker, data_dir, images, labels=labels, min_confidence=0.6), arguments=("--once",)
        ).start(ready=False)
        assert daemon.wait(60).code == 0, daemon.log()
        client.wait_for(ended)
    found = [
        (result["seq"], prediction["label"], prediction["confidence"])
        for result in documents(client, "porch")
        for prediction in result["predictions"]
        if prediction["label"] in labels and prediction["confidence"] >= 0.6
    ]
    parents = [result["input"]["parent"] for result in documents(client, "which")]
    assert found
    assert [(parent["seq"], parent["label"], parent["confidence"]) for parent in parents] == found
    assert {parent["pipeline"] for parent in parents} == {"porch"}
    bus = next(result for result in documents(client, "which") if result["input"]["parent"]["label"] == "bus")
    x1, y1, x2, y2 = bus["input"]["parent"]["box"]
    assert (bus["input"]["width"], bus["input"]["height"]) == (x2 - x1, y2 - y1)
    assert bus["predictions"][0]["label"] in ("minibus", "trolleybus", "school bus")


def test_a_margin_widens_the_crop_within_the_picture(broker: Mosquitto, data_dir: Path, tmp_path: Path) -> None:
    image = {"type": "images", "path": str(data_dir / "images" / "bus.jpg")}
    settings = cascade(broker, data_dir, image, labels=["bus"], margin=0.5)
    with Subscriber(broker.port, "edge/cascade/#") as client:
        daemon = Daemon(tmp_path, settings, arguments=("--once",)).start(ready=False)
        assert daemon.wait(60).code == 0, daemon.log()
        client.wait_for(ended)
    [result] = documents(client, "which")
    assert result["input"]["parent"]["box"][0] == 0
    assert result["input"]["width"] == 810


def test_the_one_that_follows_goes_on_when_the_other_one_is_changed(
    broker: Mosquitto, data_dir: Path, tmp_path: Path
) -> None:
    settings = cascade(broker, data_dir, {"type": "mqtt", "topic": "cascade/in"}, labels=["bus"])
    bus = (data_dir / "images" / "bus.jpg").read_bytes()
    with Subscriber(broker.port, "edge/cascade/#") as client, Daemon(tmp_path, settings) as daemon:
        client.wait_for(lambda message: message.payload == b"online")
        client.publish("cascade/in", bus)
        client.wait_for(lambda message: message.topic == "edge/cascade/which/result")
        settings["pipelines"]["porch"]["min_confidence"] = 0.6
        daemon.configure(settings)
        daemon.reload()
        client.publish("cascade/in", bus)
        client.wait_for(lambda message: message.topic == "edge/cascade/which/result", 2)
    assert [result["seq"] for result in documents(client, "which")] == [1, 2]


def test_a_pipeline_without_boxes_can_not_be_followed(broker: Mosquitto, data_dir: Path, tmp_path: Path) -> None:
    settings = cascade(broker, data_dir, {"type": "images", "path": str(data_dir / "images")})
    settings["models"]["find"]["path"] = str(data_dir / CLASSIFIER)
    daemon = Daemon(tmp_path, settings).start(ready=False)
    assert daemon.wait().code == 2
    assert "pipelines.which.source.name: porch finds no boxes, its task is classification" in daemon.log()


@pytest.mark.parametrize(
    ("parents", "problem"),
    [
        ({"a": "a"}, "pipelines.a.source.name: a pipeline must not be its own source"),
        ({"a": "b", "b": "c", "c": "a"}, "pipelines.b.source.name: a pipeline must not be its own source"),
        ({"a": "nobody"}, "pipelines.a.source.name: there is no pipeline 'nobody'"),
    ],
)
def test_a_chain_begins_with_a_real_source(parents: dict[str, str], problem: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    pipelines = {
        name: {"source": {"type": "pipeline", "name": parent}, "model": "m"} for name, parent in parents.items()
    }
    path.write_text(json.dumps({"models": {"m": {"path": str(shipped("digits"))}}, "pipelines": pipelines}))
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert problem in str(raised.value)


def test_an_mqtt_source_works_with_the_embedded_broker(tmp_path: Path) -> None:
    pytest.importorskip("amqtt")
    settings: dict[str, Any] = {
        "device_id": "inside",
        "mqtt": {"url": "embedded"},
        "models": {"digits": {"path": str(shipped("digits"))}},
        "pipelines": {"lab": {"source": {"type": "mqtt", "topic": "lab/in"}, "model": "digits"}},
    }
    with Daemon(tmp_path, settings) as daemon:
        port = int(daemon.log().split("mqtt://127.0.0.1:")[1].split()[0])
        with Subscriber(port, "edge/inside/#", protocol=MQTTProtocolVersion.MQTTv311) as client:
            client.publish("lab/in", (shipped("digits") / "golden" / "3_seven_segment.png").read_bytes())
            [message] = client.wait_for(lambda message: message.topic == "edge/inside/lab/result")
    assert json.loads(message.payload)["predictions"][0]["label"] == "3"


def task_archive(files: Path, folder: Path) -> Path:
    """Both models in one archive, as MediaPipe publishes models that belong together."""
    with zipfile.ZipFile(folder / "hand_landmarker.task", "w") as archive:
        for name in ("openmv_palm.tflite", "openmv_hand.tflite"):
            archive.write(files / name, name)
    return folder / "hand_landmarker.task"


@pytest.mark.parametrize("as_one_archive", [False, True], ids=["two files", "one archive"])
def test_a_hand_is_read_in_the_crop_of_a_palm(
    broker: Mosquitto, data_dir: Path, tmp_path: Path, *, as_one_archive: bool
) -> None:
    files = data_dir / "met_in_the_wild"
    if as_one_archive:
        files = task_archive(files, tmp_path)
    config = configuration(
        broker,
        "cascade",
        models={
            "palms": {"path": str(files / "openmv_palm.tflite")},
            "hands": {"path": str(files / "openmv_hand.tflite")},
        },
        pipelines={
            "porch": {
                "source": {"type": "images", "path": str(data_dir / "images" / "squat.bmp")},
                "model": "palms",
                "min_confidence": 0.7,
            },
            "fingers": {"source": {"type": "pipeline", "name": "porch", "margin": 1}, "model": "hands"},
        },
    )
    with Subscriber(broker.port, "edge/cascade/#") as client:
        daemon = Daemon(tmp_path, config, arguments=("--once",)).start(ready=False)
        assert daemon.wait(60).code == 0, daemon.log()
        client.wait_for(ended)
    (found,), (read,) = documents(client, "porch"), documents(client, "fingers")
    (palm,), (hand,) = found["predictions"], read["predictions"]
    assert (found["task"], palm["label"], len(palm["keypoints"])) == ("pose", "palm", 7)
    assert (read["task"], hand["label"], len(hand["keypoints"])) == ("pose", "right hand", 21)
    left, top, right, bottom = read["input"]["parent"]["box"]
    assert right - left == pytest.approx(3 * (palm["box"][2] - palm["box"][0]), abs=3)
    # The wrist of both, in pixels of the picture.
    wrist = hand["keypoints"][0][0] + left, hand["keypoints"][0][1] + top
    assert wrist == pytest.approx(palm["keypoints"][0], abs=20)
    assert bottom - top > 60


def test_text_is_read_in_the_crop_of_its_line(broker: Mosquitto, data_dir: Path, tmp_path: Path) -> None:
    files = data_dir / "met_in_the_wild"
    line = cv2.imread(str(files / "hello_4711.png"))
    assert line is not None
    page = np.full((480, 640, 3), 90, np.uint8)
    page[200 : 200 + line.shape[0], 150 : 150 + line.shape[1]] = line
    cv2.imwrite(str(tmp_path / "page.png"), page)
    # PaddleOCR's en_dict.txt.
    characters = [*map(chr, range(48, 127)), *map(chr, range(33, 48)), " "]
    (tmp_path / "dict.txt").write_text("\n".join(characters) + "\n")
    config = configuration(
        broker,
        "cascade",
        models={
            "finder": {"path": str(files / "ppocr_det.onnx"), "preprocess": {"size": "640x640"}},
            "reader": {
                "path": str(files / "ppocr_rec.onnx"),
                "labels": str(tmp_path / "dict.txt"),
                "preprocess": {"size": "320x32"},
            },
        },
        pipelines={
            "porch": {"source": {"type": "images", "path": str(tmp_path / "page.png")}, "model": "finder"},
            "texts": {"source": {"type": "pipeline", "name": "porch"}, "model": "reader"},
        },
    )
    with Subscriber(broker.port, "edge/cascade/#") as client:
        daemon = Daemon(tmp_path, config, arguments=("--once",)).start(ready=False)
        assert daemon.wait(60).code == 0, daemon.log()
        client.wait_for(ended)
    (found,), (read,) = documents(client, "porch"), documents(client, "texts")
    assert (found["task"], len(found["predictions"][0]["polygons"][0])) == ("detection", 4)
    assert read["task"] == "ocr"
    assert [one["label"] for one in read["predictions"]] == ["hello 4711"]
