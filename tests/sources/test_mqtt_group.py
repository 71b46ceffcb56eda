"""Members of a group: whom they stand in for, and at whose word."""

import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge_agent import settings
from edge_agent.models.model import Model
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.sources.stage import DIGITS, Stage

IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
AWAY = json.dumps({"subscription": "$share/crew/in/#", "there": False}).encode()
THERE = json.dumps({"subscription": "$share/crew/in/#", "there": True}).encode()


@pytest.fixture
def sender(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    with Subscriber(mosquitto.port, "edge/test/stage/share", client_id="sender") as client:
        yield client


def stage(mosquitto: Mosquitto, digits: Model, folder: Path, **keys: Any) -> Stage:
    broker = {"url": mosquitto.url, "session_expiry": 60}
    return Stage({"type": "mqtt", "topic": "in/#", "share": "crew", **keys}, digits, folder, broker)


def connections() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mqtt edge-agent")]


def test_without_stand_in_nothing_is_said_and_nobody_is_listened_to(
    mosquitto: Mosquitto, digits: Model, sender: Subscriber, tmp_path: Path
) -> None:
    with stage(mosquitto, digits, tmp_path) as one:
        for number in range(50):
            sender.publish(f"edge/evil/p{number}/share", AWAY, retain=True)
        sender.publish("in/1", IMAGE)
        one.wait_for_results(1)
        assert len(connections()) == 1
    assert not sender.messages


def test_made_up_members_make_no_connections(
    mosquitto: Mosquitto, digits: Model, sender: Subscriber, tmp_path: Path
) -> None:
    with stage(mosquitto, digits, tmp_path, stand_in=["test", "shed", "porch"]) as one:
        for number in range(1100):
            sender.client.publish(f"edge/evil/p{number}/share", AWAY, 1, retain=True)
            sender.client.publish(f"edge/e{number}/stage/share", AWAY, 1, retain=True)
        sender.publish("edge/shed/stage/share", AWAY, retain=True)
        wait_until(lambda: len(connections()) == 2, 10, "it stands in for the one that is named")
        sender.publish("in/1", IMAGE)
        one.wait_for_results(1)
        assert sorted(connections()) == [f"mqtt edge-agent-{device}-stage-{CRC}" for device in ("shed", "test")]
        sender.publish("edge/shed/stage/share", THERE, retain=True)
        wait_until(lambda: len(connections()) == 1, 10, "it has come back")


CRC = f"{zlib.crc32(b'$share/crew/in/#'):08x}"


def test_a_retained_qos_0_message_on_its_own_topic_or_a_members_disturbs_nobody(
    mosquitto: Mosquitto, digits: Model, sender: Subscriber, tmp_path: Path
) -> None:
    for device in ("test", "shed"):
        sender.client.publish(f"edge/{device}/stage/share", b"x", 0, retain=True)
    with stage(mosquitto, digits, tmp_path, stand_in=["test", "shed"]) as one:
        for device in ("test", "shed"):
            sender.client.publish(f"edge/{device}/stage/share", b"x", 0, retain=True)
        for number in range(5):
            sender.publish(f"in/{number}", IMAGE)
        one.wait_for_results(5)
        assert "disconnected" not in mosquitto.log_file.read_text().replace("sender", "")
        assert mosquitto.log_file.read_text().count(f"as edge-agent-test-stage-{CRC}") == 1


def test_stand_in_needs_a_group() -> None:
    source = settings.MqttSource.model_validate({"type": "mqtt", "topic": "x", "share": "g", "stand_in": ["a"]})
    assert source.stand_in == ("a",)
    with pytest.raises(ValidationError, match="needs `share`"):
        settings.MqttSource.model_validate({"type": "mqtt", "topic": "x", "stand_in": ["a"]})
