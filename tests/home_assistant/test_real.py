"""An unmodified Home Assistant shows a device, and what it finds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_agent.home_assistant.discovery import Discovery
from edge_agent.home_assistant.entities import document
from edge_agent.models.shipped import shipped
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.settings import Mqtt, Settings
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.home_assistant.installed import HomeAssistant

pytestmark = [pytest.mark.home_assistant, pytest.mark.timeout(900)]

PATIENCE_S = 60.0
NOTHING = {"unknown", "unavailable", "none"}
ODD = 'the "odd" {{one}}'


@pytest.fixture(scope="module")
def house(broker: Mosquitto) -> Iterator[HomeAssistant]:
    """A Home Assistant at the broker."""
    with HomeAssistant() as started:
        with Subscriber(broker.port, "homeassistant/status") as listener:
            started.use_broker(broker.port)
            listener.wait_for(lambda message: message.payload == b"online", timeout=PATIENCE_S)
        yield started


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Subscriber]:
    with Subscriber(broker.port, "homeassistant/#") as subscriber:
        yield subscriber


def device(broker: Mosquitto, name: str, **pipelines: dict[str, Any]) -> dict[str, Any]:
    models = {name: {"path": str(shipped(name))} for name in ("digits", "vibration")}
    config = configuration(broker, name, home_assistant={"enabled": True}, models=models, pipelines=pipelines)
    return config | {"stats_interval": "2s"}


def at(topic: str, model: str, **options: Any) -> dict[str, Any]:
    return {"source": {"type": "mqtt", "topic": topic}, "model": model} | options


def show(client: Subscriber, topic: str, digit: str) -> None:
    client.publish(topic, (shipped("digits") / "golden" / f"{digit}_printed.png").read_bytes())


def shows(house: HomeAssistant, name: str, expected: dict[str, str]) -> None:
    """Waits until the entities of a device have these states."""
    seen: dict[str, str] = {}

    def so() -> bool:
        nonlocal seen
        seen = house.states(name)
        return expected.items() <= seen.items()

    try:
        wait_until(so, PATIENCE_S, f"{name} shows {expected}")
    except AssertionError as error:
        raise AssertionError(f"{error}, but {seen}\n{house.log()}") from None


def test_a_device_shows_up_with_what_its_pipelines_find(
    house: HomeAssistant, broker: Mosquitto, client: Subscriber, tmp_path: Path
) -> None:
    config = device(
        broker,
        "garage",
        lab=at("lab", "digits", min_confidence=0.5, snapshot={"interval": "100ms"}),
        motor=at("motor", "vibration"),
        halves=at("halves", "digits", regions={"left": [0, 0, 0.5, 1], ODD: [0.5, 0, 1, 1]}),
    )
    reading = shipped("vibration") / "golden"
    with Daemon(tmp_path, config) as daemon:
        shows(house, "garage", {"sensor.lab": "unknown", "binary_sensor.motor_anomaly": "unknown"})
        show(client, "lab", "5")
        show(client, "halves", "5")
        client.publish("motor", (reading / "anomaly_0.json").read_bytes())
        expected = {"sensor.lab": "5", "binary_sensor.motor_anomaly": "on", "sensor.results_lost": "0"}
        shows(house, "garage", expected)
        client.publish("motor", (reading / "normal_0.json").read_bytes())
        shows(house, "garage", {"binary_sensor.motor_anomaly": "off"})
        told = ("sensor.halves_left", "sensor.halves_the_odd_one", "image.lab_snapshot")
        wait_until(lambda: not {house.states("garage")[name] for name in told} & NOTHING, PATIENCE_S, f"{told} say it")
        states = house.states("garage")
        off = (
            "sensor.motor",
            "sensor.lab_inference_time",
            "sensor.lab_queue",
            "sensor.temperature",
            "sensor.lab_confidence",
        )
        assert states.keys().isdisjoint(off)
        assert {states["sensor.halves_left"], states["sensor.halves_the_odd_one"]} <= {"blank", *"0123456789"}
        assert house.fetch("image_proxy/image.garage_lab_snapshot").startswith(b"\xff\xd8")
        assert house.ask("states/sensor.garage_lab")["attributes"]["friendly_name"] == "garage Lab"
        about = "{{ device_attr('sensor.garage_lab', 'manufacturer') }} {{ device_attr('sensor.garage_lab', 'name') }}"
        assert house.template(about) == "edge-agent garage"
        daemon.stop()
    shows(house, "garage", dict.fromkeys(states, "unavailable"))
    assert house.complaints() == []


def test_a_detector_counts_what_is_asked_for(
    house: HomeAssistant, broker: Mosquitto, client: Subscriber, tmp_path: Path, data_dir: Path
) -> None:
    some = at("street", "ssd", filters={"labels": ["person"]}, min_confidence=0.6)
    config = device(broker, "street", all=at("street", "ssd"), some=some)
    config["home_assistant"] |= {"presence_delay": "15s"}
    detector = data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    config["models"] = {"ssd": {"path": str(detector)}}
    with Daemon(tmp_path, config):
        shows(house, "street", {"sensor.all": "unknown", "binary_sensor.some_person_presence": "unknown"})
        client.publish("street", (data_dir / "images" / "grace_hopper.bmp").read_bytes())
        shows(house, "street", {"binary_sensor.all_presence": "on", "binary_sensor.some_person_presence": "on"})
        assert house.states("street")["sensor.some_person"] == "1"
        client.publish("street", (shipped("digits") / "golden" / "5_printed.png").read_bytes())
        shows(house, "street", {"sensor.some_person": "0"})
        assert house.states("street")["binary_sensor.some_person_presence"] == "on"
        shows(house, "street", {"binary_sensor.some_person_presence": "off"})
    assert house.complaints() == []


@dataclass(frozen=True)
class Model:
    task: str
    labels: tuple[str, ...] = ()
    threshold: float | None = None


def test_every_kind_of_entity_is_taken(house: HomeAssistant, broker: Mosquitto, client: Subscriber) -> None:
    models = {
        "pose": Model("pose"),
        "mask": Model("segmentation", ("sky", ODD)),
        "angles": Model("regression", ("yaw", "pitch")),
        "chat": Model("text"),
    }
    update = {"url": "http://updates.lan", "root": "root.json", "models": {"pose": "stable"}}
    options = Settings.model_validate(
        {
            "device_id": "kinds",
            "models": {name: {"path": "model.tflite"} for name in models},
            "pipelines": {name: at("kinds", name) for name in models},
            "update": update,
            "http": {"listen": "192.0.2.1:8080", "token_file": "token"},
        }
    )
    mqtt = Mqtt(url=broker.url)
    discovery = Discovery(Endpoint.from_settings(mqtt, Path()), mqtt, "homeassistant", "kinds")
    discovery.start()
    discovery.publish(document("edge/kinds", options, models))
    client.publish("edge/kinds/status", b"online", retain=True)
    shows(house, "kinds", {"sensor.chat": "unavailable"})
    for name in models:
        client.publish(f"edge/kinds/{name}/status", b"online", retain=True)
    shows(house, "kinds", {"sensor.chat": "unknown"})
    link = house.template("{{ device_attr('sensor.kinds_chat', 'configuration_url') }}")
    assert link == "http://192.0.2.1:8080"
    results = {
        "chat": {"text": "A" * 1000, "finish_reason": "stop"},
        "angles": {"predictions": [{"label": "pitch", "class_id": 1, "value": -2.5}]},
        "mask": {"predictions": [{"label": ODD, "class_id": 1, "area": 7}]},
        "pose": {"predictions": []},
    }
    for name, result in results.items():
        client.publish(f"edge/kinds/{name}/result", json.dumps(result))
    client.publish("edge/kinds/update", json.dumps({"models": {"pose": {"step": "committed"}}}))
    expected = {
        "sensor.chat": "A" * 255,
        "sensor.angles_pitch": "-2.5",
        "sensor.angles_yaw": "unknown",
        "sensor.mask_the_odd_one": "1",
        "binary_sensor.mask_sky_presence": "off",
        "sensor.pose": "0",
        "sensor.pose_update": "committed",
    }
    shows(house, "kinds", expected)
    with Subscriber(broker.port, "edge/kinds/cmd") as listener:
        house.ask("services/button/press", {"entity_id": "button.kinds_look_for_updates"})
        [pressed] = listener.wait_for(lambda _: True)
    assert json.loads(pressed.payload) == {"command": "update"}
    discovery.stop(withdraw=True)
    wait_until(lambda: not house.states("kinds"), PATIENCE_S, "all has gone")
    assert house.complaints() == []


def test_a_device_that_is_gone_without_a_word_is_unavailable(
    house: HomeAssistant, broker: Mosquitto, tmp_path: Path
) -> None:
    daemon = Daemon(tmp_path, device(broker, "cellar", lab=at("cellar", "digits")))
    with daemon:
        shows(house, "cellar", {"sensor.lab": "unknown"})
        daemon.kill()
    shows(house, "cellar", {"sensor.lab": "unavailable", "sensor.results_lost": "unavailable"})
    with daemon:
        shows(house, "cellar", {"sensor.lab": "unknown"})


def test_what_is_removed_there_is_removed_here(
    house: HomeAssistant, broker: Mosquitto, client: Subscriber, tmp_path: Path
) -> None:
    config = device(broker, "attic", lab=at("attic/1", "digits"), shelf=at("attic/2", "digits"))
    daemon = Daemon(tmp_path, config)
    with daemon:
        shows(
            house, "attic", {"sensor.lab": "unknown", "sensor.shelf": "unknown", "binary_sensor.shelf_problem": "off"}
        )
        del config["pipelines"]["shelf"]
        daemon.configure(config)
    with daemon:
        wait_until(lambda: "sensor.shelf" not in house.states("attic"), PATIENCE_S, "it has gone")
        assert not [name for name in house.states("attic") if "shelf" in name]
        show(client, "attic/1", "5")
        shows(house, "attic", {"sensor.lab": "5"})
        config["home_assistant"] = {"enabled": False}
        daemon.configure(config)
        daemon.reload()
        wait_until(lambda: not house.states("attic"), PATIENCE_S, "all has gone")
    assert house.complaints() == []


def test_it_comes_back_when_what_the_broker_kept_is_lost(
    house: HomeAssistant, broker: Mosquitto, client: Subscriber, tmp_path: Path
) -> None:
    with Daemon(tmp_path, device(broker, "barn", lab=at("barn", "digits"))):
        shows(house, "barn", {"sensor.lab": "unknown"})
        client.publish("homeassistant/device/barn/config", b"", retain=True)
        wait_until(lambda: not house.states("barn"), PATIENCE_S, "it has gone")
        client.publish("homeassistant/status", b"online")
        shows(house, "barn", {"sensor.lab": "unknown"})


def test_home_assistant_refuses_what_does_not_say_where_it_is_from(house: HomeAssistant, client: Subscriber) -> None:
    """So the tests above would notice if it did not like our messages."""
    sensor = {"platform": "sensor", "unique_id": "stranger", "state_topic": "stranger"}
    message = {"device": {"identifiers": ["stranger"]}, "components": {"a": sensor}}
    client.publish("homeassistant/device/stranger/config", json.dumps(message))
    wait_until(
        lambda: "Invalid MQTT device discovery payload for stranger" in "".join(house.complaints()),
        PATIENCE_S,
        "it is said",
    )
