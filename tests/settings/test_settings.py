from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge_agent.settings import (
    CameraSource,
    Model,
    Mqtt,
    MqttSource,
    Pipeline,
    Preprocess,
    Settings,
    VideoSource,
)
from edge_agent.settings.base import Frozen, Normalize


def refusals(settings: type[Frozen], **values: Any) -> list[str]:
    """What is wrong, by key."""
    with pytest.raises(ValidationError) as caught:
        settings(**values)
    return [".".join(str(part) for part in details["loc"]) for details in caught.value.errors()]


def test_settings_can_not_be_changed() -> None:
    settings = Settings(device_id="porch")
    with pytest.raises(ValidationError, match="frozen"):
        settings.device_id = "lab"  # type: ignore[misc]  # what is not allowed is what is tried


def test_the_defaults_are_sound() -> None:
    assert Settings.model_validate(Settings(device_id="x").model_dump()) == Settings(device_id="x")


@pytest.mark.parametrize("name", ["porch", "porch pi", "küche", "12", "a-b_c.d", "$x"[1:], "x" * 64])
def test_names_that_can_stand_in_a_topic(name: str) -> None:
    assert Settings(device_id=name, models={name: Model(path=Path("x"))}).device_id == name


@pytest.mark.parametrize("name", ["", "a/b", "a+b", "#", "$SYS", "a\n", "\nb", "a\0b", "a\x7f", "x" * 65])
def test_names_that_can_not_stand_in_a_topic(name: str) -> None:
    assert refusals(Settings, device_id=name) == ["device_id"]
    assert refusals(MqttSource, type="mqtt", topic="t", share=name) == ["share"]
    assert refusals(Settings, models={name: {"path": "x"}}) == [f"models.{name}.[key]"]


@pytest.mark.parametrize("prefix", ["edge", "site/hill/edge", "a"])
def test_prefixes_of_one_and_more_levels(prefix: str) -> None:
    assert Mqtt(topic_prefix=prefix).topic_prefix == prefix


@pytest.mark.parametrize("prefix", ["", "/", "/a", "a/", "a b", "a/#", "+/a", "$SYS", "a\n", "a\0"])
def test_prefixes_that_make_no_topic(prefix: str) -> None:
    assert refusals(Mqtt, topic_prefix=prefix) == ["topic_prefix"]


@pytest.mark.parametrize(
    "url",
    ["embedded", "mqtt://b", "mqtt://b:1883", "mqtts://b.lan:8883", "ws://b/mqtt", "wss://b:9001/x", "mqtt://[::1]"],
)
def test_brokers_addresses(url: str) -> None:
    assert Mqtt(url=url).url == url


@pytest.mark.parametrize(
    "url",
    ["", "broker", "http://b", "mqtt://", "mqtt://b c", "mqtt://u:p@b", "mqtt://b:0x1", "mqtt://b:65536", "mqtt://[b"],
)
def test_what_is_no_brokers_address(url: str) -> None:
    assert refusals(Mqtt, url=url) == ["url"]


@pytest.mark.parametrize("topic", ["a", "a/b", "+", "#", "a/+/b", "a/#", "+/+/#", "/a", "$SYS/#", " "])
def test_topic_filters(topic: str) -> None:
    assert MqttSource(type="mqtt", topic=topic).topic == topic


@pytest.mark.parametrize("topic", ["", "a#", "#/a", "a/#/b", "##", "a+", "+a/b", "$share/g/t", "a\0b", "x" * 1025])
def test_what_is_no_topic_filter(topic: str) -> None:
    assert refusals(MqttSource, type="mqtt", topic=topic) == ["topic"]


def test_a_file_may_be_looped_and_a_stream_not() -> None:
    assert VideoSource(type="video", url="clip.mp4", loop=True).live is False
    assert VideoSource(type="video", url="file:///clip.mp4", loop=True).live is False
    assert VideoSource(type="video", url="rtsp://camera/1").live is True
    assert refusals(VideoSource, type="video", url="rtsp://camera/1", loop=True) == ["loop"]


@pytest.mark.parametrize("device", [0, 1, "/dev/video0", "HD Webcam"])
def test_a_camera_is_a_number_a_path_or_a_name(device: int | str) -> None:
    assert CameraSource(type="camera", device=device).device == device


def test_a_camera_whose_number_is_text_is_that_number() -> None:
    assert CameraSource(type="camera", device="2").device == 2


@pytest.mark.parametrize(
    "region", [[0, 0, 1, 1], [10, 20, 30, 40], [0.25, 0.5, 0.75, 1]], ids=["whole", "pixels", "fractions"]
)
def test_regions_are_rectangles_with_an_area(region: list[float]) -> None:
    pipeline = Pipeline.model_validate({"source": {"type": "camera"}, "model": "m", "regions": {"r": region}})
    assert pipeline.regions["r"] == tuple(region)


@pytest.mark.parametrize(
    "region", [[0, 0, 0, 1], [1, 0, 0, 1], [-1, 0, 1, 1], [0, 2, 1, 1], [0, 0, 1], [0, 0, 1, 1, 1], [], "left"]
)
def test_what_is_no_region(region: object) -> None:
    found = refusals(Pipeline, source={"type": "camera"}, model="m", regions={"r": region, "s": [0, 0, 1, 1]})
    assert found == ["regions.r"]


@pytest.mark.parametrize("std", [0, -1, (1, 0, 1), float("nan")])
def test_pixels_are_not_divided_by_what_is_not_above_zero(std: object) -> None:
    assert refusals(Normalize, std=std)


def test_an_accelerator_that_nobody_knows_is_refused() -> None:
    assert Model(path=Path("x"), accelerators=("edgetpu", "cpu")).accelerators == ("edgetpu", "cpu")
    assert refusals(Model, path="x", accelerators=["cpu", "cpu"]) == ["accelerators"]
    assert refusals(Model, path="x", accelerators=[]) == ["accelerators"]


def test_a_key_without_a_value_is_as_if_it_were_not_there() -> None:
    assert Mqtt.model_validate({"url": None, "username": None}) == Mqtt()
    assert Model.model_validate({"path": "x", "preprocess": None}).preprocess == Preprocess()
    assert refusals(Model, path=None) == ["path"]


def gated(source: str, **options: Any) -> dict[str, Any]:
    needs: dict[str, dict[str, Any]] = {
        "mqtt": {"topic": "t"},
        "video": {"url": "v"},
        "images": {"path": "p"},
        "pipeline": {"name": "n"},
    }
    needs |= {"command": {"argv": ["rpicam-vid"], "format": "mjpeg"}}
    described = {"type": source} | needs.get(source, {})
    return {"source": described, "model": "m", "gate": {"type": "motion", "heartbeat": "5s"}} | options


@pytest.mark.parametrize("source", ["camera", "video", "command", "mqtt"])
def test_a_gate_is_for_sources_that_show_a_scene(source: str) -> None:
    tracked = gated(source, tracking={"lost_after": "6s"}, publish={"on_change": True, "heartbeat": "5s"})
    assert Pipeline.model_validate(tracked).gate is not None
    assert refusals(Pipeline, **gated("images")) == refusals(Pipeline, **gated("pipeline")) == ["gate"]


def test_what_comes_after_a_gate_lives_on_its_heartbeat() -> None:
    assert refusals(Pipeline, **gated("camera", tracking={"lost_after": "5s"})) == ["tracking"]
    often = {"on_change": True, "heartbeat": "4s"}
    assert refusals(Pipeline, **gated("camera", publish=often)) == ["publish"]


COMMAND = {"type": "command", "argv": ["program"]}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"format": "mjpeg", "width": 640}, "width: is not for format: mjpeg"),
        ({"format": "raw", "width": 640, "height": 480}, "pixel_format: is required with format: raw"),
        ({"format": "raw", "pixel_format": "gray8", "height": 480}, "width: is required with format: raw"),
        ({"format": "raw", "pixel_format": "yuv420p", "width": 641, "height": 480}, "width: must be even"),
        ({"format": "pcm"}, "rate: is required with format: pcm"),
        ({"format": "pcm", "rate": 16000, "channels": ["left"]}, "channels: must be a number with format: pcm"),
        ({"format": "jsonl", "channels": 3}, "channels: must be a number with format: pcm, and a list"),
        ({"format": "csv", "channels": ["x", "x"]}, "channels: must be names that differ"),
        ({"format": "csv", "sample_format": "u8"}, "sample_format: is not for format: csv"),
        ({"format": "csv", "argv": []}, "argv: "),
        ({"format": "csv", "argv": [""]}, "argv: must begin with the name of a program"),
        ({"format": "csv", "argv": ["sensor -a"]}, "argv: must begin with a program, without spaces"),
        ({"format": "csv", "argv": ["a", "b\0"]}, "argv: must not hold the character U+0000"),
        ({"type": "iio"}, "needs a rate, or buffered: true"),
        ({"type": "microphone", "device": "-V"}, "device: "),
    ],
)
def test_a_stream_that_makes_no_sense_is_refused(keys: dict[str, Any], problem: str) -> None:
    source = keys if "type" in keys else COMMAND | keys
    with pytest.raises(ValidationError) as caught:
        Pipeline.model_validate({"source": source, "model": "m"})
    told = [
        f"{details['loc'][-1]}: {details['msg'].removeprefix('Value error, ')}"
        for details in caught.value.errors(include_url=False)
    ]
    assert any(problem in text for text in told), told


@pytest.mark.parametrize(
    "keys",
    [
        {"format": "mjpeg"},
        {"format": "raw", "pixel_format": "yuv420p", "width": 640, "height": 480},
        {"format": "pcm", "rate": 16000, "channels": "2"},
        {"format": "jsonl", "channels": ["x", "y"], "rate": "50"},
        {"format": "csv", "restart": "never"},
        {"type": "iio", "buffered": True},
        {"type": "iio", "device": "lid", "rate": 50},
    ],
)
def test_a_stream_that_makes_sense_is_taken(keys: dict[str, Any]) -> None:
    Pipeline.model_validate({"source": keys if "type" in keys else COMMAND | keys, "model": "m"})
