"""The discovery message at a real broker: when it is said, when again, and what becomes of it."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.home_assistant.discovery import Discovery
from edge_agent.models.shipped import shipped
from edge_agent.mqtt.endpoint import Endpoint
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration

DEVICE = "porch-pi"
TOPIC = f"homeassistant/device/{DEVICE}/config"
SENSOR = {"platform": "sensor"}


def lab(broker: Mosquitto, **further: Any) -> dict[str, Any]:
    return configuration(
        broker,
        DEVICE,
        home_assistant={"enabled": True},
        models={"digits": {"path": str(shipped("digits"))}},
        pipelines={"lab": {"source": {"type": "mqtt", "topic": "lab/images"}, "model": "digits"}},
        **further,
    )


@pytest.fixture
def listener(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    with Subscriber(mosquitto.port, "homeassistant/#", "edge/#") as subscriber:
        yield subscriber


def told(listener: Subscriber, count: int) -> list[dict[str, Any]]:
    """The first discovery messages; an empty one is {}."""
    messages = listener.wait_for(_is_discovery, count)
    return [json.loads(message.payload or b"{}") for message in messages]


def _is_discovery(message: Message) -> bool:
    return message.topic.startswith("homeassistant/device/")


def kept(broker: Mosquitto) -> list[str]:
    """Which discovery topics the broker holds something for."""
    with Subscriber(broker.port, "homeassistant/#", "end") as late:
        late.publish("end", b"")
        late.wait_for(lambda message: message.topic == "end")
        return [message.topic for message in late.messages if _is_discovery(message)]


def test_a_device_tells_of_itself_and_again_when_home_assistant_starts(
    mosquitto: Mosquitto, listener: Subscriber, tmp_path: Path
) -> None:
    with Daemon(tmp_path, lab(mosquitto)) as daemon:
        [first] = told(listener, 1)
        assert first["availability"] == [{"topic": f"edge/{DEVICE}/status"}]
        assert "pipelines.lab.label" in first["components"]
        topics = {component["state_topic"] for component in first["components"].values()}
        listener.publish("lab/images", next((shipped("digits") / "golden").glob("*.png")).read_bytes())
        wait_until(lambda: topics <= {message.topic for message in listener.messages}, 10, f"all of {topics}")
        listener.publish("homeassistant/status", b"offline")
        listener.publish("homeassistant/status", b"online")
        assert told(listener, 2) == [first, first]
        assert kept(mosquitto) == [TOPIC]
        assert daemon.stop().code == 0
        assert "WARNING" not in daemon.log()
    assert kept(mosquitto) == [TOPIC]


def test_what_is_gone_is_taken_back_over_reload_and_restart(
    mosquitto: Mosquitto, listener: Subscriber, tmp_path: Path
) -> None:
    config = lab(mosquitto)
    second = deepcopy(config["pipelines"]["lab"])
    config["pipelines"] |= {"attic": second, "shed": second}
    daemon = Daemon(tmp_path, config)
    with daemon:
        [both] = told(listener, 1)
        del config["pipelines"]["attic"]
        daemon.configure(config)
        daemon.reload()
        _, farewell, after = told(listener, 3)
    assert farewell["components"]["pipelines.attic.label"] == SENSOR
    assert farewell["components"].keys() == both["components"].keys()
    assert not [name for name in after["components"] if "attic" in name]
    del config["pipelines"]["shed"]
    daemon.configure(config)
    with daemon:
        farewell, last = told(listener, 5)[3:]
    assert farewell["components"]["pipelines.shed.label"] == SENSOR
    assert farewell["components"].keys() == after["components"].keys()
    assert not [name for name in last["components"] if "shed" in name]


def test_switched_off_or_renamed_the_device_is_forgotten(
    mosquitto: Mosquitto, listener: Subscriber, tmp_path: Path
) -> None:
    config = lab(mosquitto)
    with Daemon(tmp_path, config) as daemon:
        told(listener, 1)
        config["device_id"] = "shed pi"
        daemon.configure(config)
        daemon.reload()
        renamed = told(listener, 3)[2]
        assert renamed["device"]["name"] == "shed pi"
        [topic] = kept(mosquitto)
        assert topic.startswith("homeassistant/device/shed_pi-")
        config["home_assistant"] = {"enabled": False}
        daemon.configure(config)
        daemon.reload()
        assert told(listener, 4)[3] == {}
        assert kept(mosquitto) == []


def test_nothing_is_said_and_nothing_imported_without_being_asked(mosquitto: Mosquitto, tmp_path: Path) -> None:
    config = lab(mosquitto) | {"home_assistant": {}}
    daemon = Daemon(tmp_path, config, environment={"PYTHONPROFILEIMPORTTIME": "1"})
    with Subscriber(mosquitto.port, "#") as listener, daemon:
        listener.wait_for(lambda message: message.topic.endswith("/stats"), 2)
        assert not [message for message in listener.messages if message.topic.startswith("homeassistant")]
    assert "edge_agent.daemon.agent" in daemon.log()
    assert "edge_agent.home_assistant" not in daemon.log()
    assert "home-assistant" not in mosquitto.log()


@pytest.mark.parametrize(
    "earlier", [b"[]", b"\xff", b'{"components": 3}', b'{"components": {"a": {"platform": "lock"}}}', b"[" * 100_000]
)
def test_what_others_have_left_on_the_topic_does_no_harm(
    mosquitto: Mosquitto, listener: Subscriber, earlier: bytes
) -> None:
    listener.publish("homeassistant/device/x/config", earlier, retain=True)
    options = settings.Mqtt(url=mosquitto.url)
    discovery = Discovery(Endpoint.from_settings(options, Path()), options, "homeassistant", "x")
    discovery.start()
    discovery.publish({"components": {"a": SENSOR}})
    messages = listener.wait_for(_is_discovery, 2)
    discovery.stop()
    assert [json.loads(message.payload) for message in messages[1:]] == [{"components": {"a": SENSOR}}]
    assert len([message for message in listener.messages if _is_discovery(message)]) == 2


def test_a_message_that_is_too_large_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path, ["max_packet_size 2000"]) as narrow:
        options = settings.Mqtt(url=narrow.url)
        discovery = Discovery(Endpoint.from_settings(options, Path()), options, "homeassistant", "x")
        discovery.start()
        discovery.publish({"components": {"a": SENSOR | {"name": "a" * 3000}}})
        wait_until(lambda: "the broker takes 2000" in caplog.text, 10, "a warning")
        discovery.stop()
    assert "lost" not in caplog.text
