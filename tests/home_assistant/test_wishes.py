"""Recipes that end in Home Assistant: the picture on the phone, and the voice that starts something."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.models import registry
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon
from tests.home_assistant.installed import HomeAssistant
from tests.home_assistant.test_real import PATIENCE_S, shows
from tests.models.moonshine_model import write as write_moonshine
from tests.pages import ROOT, blocks
from tests.test_recipes import somebody_leaves

__all__ = ["somebody_leaves"]
pytestmark = [pytest.mark.home_assistant, pytest.mark.timeout(900)]

BLUEPRINT = ROOT / "deploy" / "home-assistant" / "object-on-the-phone.yaml"
# A script stands in for the app on the phone: it publishes what it was given.
AUTOMATIONS = "{{ states.automation | map(attribute='entity_id') | join(' ') }}"
PHONE = """\
script:
  phone:
    sequence:
      - action: mqtt.publish
        data: {topic: phone, payload: "{{ dict(title=title, message=message, data=data) | tojson }}"}
automation ui: !include automations.yaml
automation:
  - alias: picture
    use_blueprint:
      path: edge-agent/object-on-the-phone.yaml
      input: {event: event.porch_pi_yard_event, picture: image.porch_pi_yard_object, notify: script.phone}
  - alias: voice
    triggers: [{trigger: state, entity_id: event.porch_pi_voice_heard, not_to: [unavailable, unknown]}]
    actions:
      - action: mqtt.publish
        data: {topic: heard, payload: "{{ trigger.to_state.attributes.event_type }}"}
"""


@pytest.fixture(scope="module")
def house(broker: Mosquitto) -> Iterator[HomeAssistant]:
    """A Home Assistant at the broker, with automations as the recipes have them."""
    with HomeAssistant(PHONE, [BLUEPRINT]) as started:
        with Subscriber(broker.port, "homeassistant/status") as listener:
            started.use_broker(broker.port)
            listener.wait_for(lambda message: message.payload == b"online", timeout=PATIENCE_S)
        yield started


def recipe(page: str, broker: Mosquitto) -> dict[str, Any]:
    [block] = blocks("yaml", page=page)
    options: dict[str, Any] = yaml.safe_load(block.text)
    options["mqtt"]["url"] = broker.url
    return options


def test_the_blueprint_sends_the_picture_when_somebody_comes(
    house: HomeAssistant, broker: Mosquitto, somebody_leaves: Path, data_dir: Path, tmp_path: Path
) -> None:
    options = recipe("picture-on-the-phone.md", broker)
    options["pipelines"]["yard"]["source"] |= {"url": str(somebody_leaves), "fps": "source"}
    model = data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    options["models"]["people"]["path"] = str(model)
    options["pipelines"]["yard"]["source"]["loop"] = True
    with Subscriber(broker.port, "phone") as phone, Daemon(tmp_path, options):
        came = json.loads(phone.wait_for(lambda _: True, timeout=PATIENCE_S)[0].payload)
        shows(house, "porch_pi", {"binary_sensor.yard_path": "on"})
        assert came["message"] in ("person is there", "person has left")
        picture = house.fetch(came["data"]["image"].removeprefix("/api/"))
        assert picture.startswith(b"\xff\xd8")
    assert house.complaints() == []


def test_a_spoken_phrase_starts_an_automation(house: HomeAssistant, broker: Mosquitto, tmp_path: Path) -> None:
    options = recipe("voice-to-a-relay.md", broker)
    options["pipelines"]["voice"]["source"] = {"type": "mqtt", "topic": "microphone"}
    clips = ROOT / "tests" / "clips"
    with Subscriber(broker.port, "heard") as heard, Daemon(tmp_path, options):
        shows(house, "porch_pi", {"event.voice_heard": "unknown"})
        heard.publish("microphone", (clips / "weather_in_paris.wav").read_bytes())
        heard.publish("microphone", (clips / "turn_the_porch_light_on.wav").read_bytes())
        [said] = heard.wait_for(lambda _: True, timeout=PATIENCE_S)
        assert said.payload == b"turn the porch light on"
        device = house.template("{{ device_id('event.porch_pi_voice_heard') }}")
        assert device not in ("", "None")
        house.ask(
            "config/automation/config/by_phrase",
            {
                "alias": "by phrase",
                "triggers": [
                    {
                        "trigger": "device",
                        "domain": "mqtt",
                        "device_id": device,
                        "type": "voice heard",
                        "subtype": "turn the porch light off",
                    }
                ],
                "actions": [{"action": "mqtt.publish", "data": {"topic": "heard", "payload": "by the device"}}],
            },
        )
        wait_until(lambda: "automation.by_phrase" in house.template(AUTOMATIONS), PATIENCE_S, "the automation is there")
        heard.publish("microphone", (clips / "turn_the_porch_light_off.wav").read_bytes())
        heard.wait_for(lambda message: message.payload == b"by the device", timeout=PATIENCE_S)
    assert house.complaints() == []


def test_a_person_in_the_yard_is_there_and_counted_and_gone(
    house: HomeAssistant,
    broker: Mosquitto,
    somebody_leaves: Path,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
    mirror = tmp_path / "mirror" / "nanodet-m-320" / "nanodet_m_320.onnx"
    mirror.parent.mkdir(parents=True)
    mirror.symlink_to(data_dir / "met_in_the_wild" / "nanodet_m_320_k.onnx")
    registry.pull("nanodet-m-320", tmp_path / "models", str(tmp_path / "mirror"))
    options = recipe("person-in-the-yard.md", broker)
    options["device_id"] = "yard-pi"
    options["pipelines"]["yard"]["source"] |= {"url": str(somebody_leaves), "fps": "source", "loop": True}
    with Daemon(tmp_path, options):
        shows(house, "yard_pi", {"binary_sensor.yard_person_presence": "on", "sensor.yard_person": "1"})
        shows(house, "yard_pi", {"binary_sensor.yard_person_presence": "off", "sensor.yard_person": "0"})
    shows(house, "yard_pi", {"binary_sensor.yard_person_presence": "unavailable"})
    assert house.complaints() == []


def test_what_is_said_in_other_words_switches_and_is_shown(
    house: HomeAssistant, broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = recipe("commands-in-your-own-words.md", broker)
    options["device_id"] = "hall-pi"
    options["pipelines"]["voice"]["source"] = {"type": "mqtt", "topic": "microphone"}
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path))
    model = write_moonshine(tmp_path / "moonshine-tiny-en", [" Turn", " the", " porch", " lamp", " on", "."])
    (model / "model.yaml").write_text("{name: moonshine-tiny-en, version: '1', task: transcription}")
    with Subscriber(broker.port, "zigbee2mqtt/#") as relay, Daemon(tmp_path, options):
        shows(house, "hall_pi", {"sensor.voice": "unknown"})
        relay.publish("microphone", (ROOT / "tests" / "clips" / "weather_in_paris.wav").read_bytes())
        [message] = relay.wait_for(lambda _: True, timeout=PATIENCE_S)
        assert (message.topic, json.loads(message.payload)) == ("zigbee2mqtt/porch_light/set", {"state": "ON"})
        shows(house, "hall_pi", {"sensor.voice": "Turn the porch lamp on."})
    assert house.complaints() == []
