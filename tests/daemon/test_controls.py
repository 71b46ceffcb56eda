"""Home Assistant pauses a pipeline and sets its threshold; both are kept on the device."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon
from tests.scenarios import IMAGES, lab

PREFIX = "edge/porch-pi"


class House:
    """A client that sends commands and sees what a device publishes."""

    def __init__(self, client: Subscriber) -> None:
        self._client = client

    def send(self, **command: Any) -> dict[str, Any]:
        """The answer to a command."""
        before = len(self.came("cmd/reply"))
        self._client.publish(f"{PREFIX}/cmd", json.dumps(command).encode())
        wait_until(lambda: len(self.came("cmd/reply")) > before, 10, "an answer")
        answer: dict[str, Any] = json.loads(self.came("cmd/reply")[-1].payload)
        return answer

    def show(self) -> None:
        self._client.publish("in/1", IMAGES[0])

    def came(self, topic: str) -> list[Message]:
        return [one for one in self._client.messages if one.topic == f"{PREFIX}/{topic}"]

    def results(self) -> list[Any]:
        return [json.loads(one.payload)["predictions"] for one in self.came("lab/result")]

    def info(self) -> dict[str, Any]:
        """What the latest `info` reports of the pipeline."""
        about: dict[str, Any] = json.loads(self.came("info")[-1].payload)["pipelines"]["lab"]
        return about


@pytest.fixture
def config(mosquitto: Mosquitto) -> dict[str, Any]:
    return lab(mosquitto, "porch-pi") | {"home_assistant": {"enabled": True}}


def test_a_paused_pipeline_takes_no_input_also_after_a_restart_until_it_is_resumed(
    config: dict[str, Any], mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Subscriber(mosquitto.port, "edge/#") as client:
        house = House(client)
        with Daemon(tmp_path, config):
            assert house.send(command="pause", pipeline="lab")["paused"] is True
            wait_until(lambda: house.came("lab/status")[-1].payload == b"offline", 10, "its status")
            assert (house.info()["paused"], house.info()["problem"]) == (True, "paused by command")
            assert house.send(command="pause", pipeline="lap")["ok"] is False
        with Daemon(tmp_path, config):
            wait_until(lambda: house.info()["paused"], 10, "it is still paused")
            house.show()
            assert house.send(command="pause", pipeline="lab", paused=False)["paused"] is False
            wait_until(lambda: house.came("lab/status")[-1].payload == b"online", 10, "its status")
            house.show()
            wait_until(house.results, 10, "a result")
            assert (house.info()["paused"], house.info()["problem"]) == (False, "")


def test_a_threshold_is_used_at_once_and_kept_until_it_is_taken_back(
    config: dict[str, Any], mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Subscriber(mosquitto.port, "edge/#") as client:
        house = House(client)
        with Daemon(tmp_path, config):
            assert house.send(command="threshold", pipeline="lab", min_confidence=1)["min_confidence"] == 1.0
            wait_until(lambda: house.info()["min_confidence"] == 1.0, 10, "it is published")
            house.show()
            wait_until(lambda: house.results() == [[]], 10, "a result without predictions")
            for wrong in (1.5, -1, "0.5", True):
                assert house.send(command="threshold", pipeline="lab", min_confidence=wrong)["ok"] is False
        with Daemon(tmp_path, config):
            wait_until(lambda: house.info()["min_confidence"] == 1.0, 10, "it is kept")
            assert house.send(command="threshold", pipeline="lab")["ok"] is True
            house.show()
            wait_until(lambda: len(house.results()) == 2, 10, "a result")
            assert house.results()[1]


def test_without_home_assistant_there_are_no_such_commands(
    config: dict[str, Any], mosquitto: Mosquitto, tmp_path: Path
) -> None:
    update = {"url": "http://127.0.0.1:1", "root": "root.json", "models": {"digits": "stable"}}
    (tmp_path / "root.json").write_text("{}")
    config |= {"home_assistant": {"enabled": False}, "update": update}
    with Subscriber(mosquitto.port, "edge/#") as client, Daemon(tmp_path, config):
        assert House(client).send(command="pause", pipeline="lab")["ok"] is False
