"""What the broker keeps of a fleet arrives as a whole."""

import json
from pathlib import Path

import pytest

from edge_agent.commands.fleet_inventory import WHAT, Inventory
from edge_agent.commands.subscribed import subscribed
from edge_agent.settings import Mqtt
from tests.broker import Mosquitto, Subscriber

DEVICES = 600
INFO = json.dumps({"version": "1.0", "problem": "x" * 60_000}).encode()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_a_broker_drops_of_a_burst_is_asked_for_device_by_device(tmp_path: Path, protocol: str) -> None:
    with (
        Mosquitto(tmp_path, ["max_queued_messages 450", "log_type error"]) as broker,
        Subscriber(broker.port) as client,
    ):
        for number in range(DEVICES):
            client.client.publish(f"edge/pi-{number}/status", "online", retain=True)
            client.client.publish(f"edge/pi-{number}/info", INFO, retain=True)
        client.publish("edge/all/cmd", "")  # comes after them
        found = Inventory("edge")
        mqtt = Mqtt.model_validate({"url": broker.url, "protocol": protocol})
        with subscribed(mqtt, tmp_path, "test", WHAT, within=10.0) as listening:
            for topic, payload in listening.kept(60.0):
                found.receive(topic, payload)
    devices = found.devices()
    assert len(devices) == DEVICES
    assert all(device["version"] == "1.0" for device in devices)


def test_a_broker_that_keeps_nothing_is_left_at_once(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with subscribed(Mqtt(url=mosquitto.url), tmp_path, "test", WHAT, within=10.0) as listening:
        assert list(listening.kept(60.0)) == []
