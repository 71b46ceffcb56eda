"""Commands over MQTT: what a device does when it is told to, and what nobody can make it do."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.broker import Message, Mosquitto, wait_until
from tests.command_line import edge_agent
from tests.update.kit import DEVICE, Scene, scene

NO_COMMANDS: list[tuple[Any, str]] = [
    (b"\xff", 'not JSON: expected {"command": …}'),
    (b"[" * 9000, 'not JSON: expected {"command": …}'),
    (b" " * 10_001, "a command has at most 10000 bytes, this one 10001"),
    ([], "no such command: None; known here: update, rollback, pin"),
    ({"command": "install", "url": "http://evil"}, "no such command: 'install'; known here: update, rollback, pin"),
    ({"command": "rollback"}, "model: expected what is updated here (model: digits)"),
    ({"command": "rollback", "model": ["digits"]}, "rollback: model: expected a text, found ['digits']"),
    (
        {"command": "rollback", "model": "digits", "labels": ["site-a"]},
        "rollback: unknown key 'labels': only commands to all devices take it; nothing was done",
    ),
    ({"command": "update", "agian": True}, "update: unknown key 'agian'; did you mean 'again'?; nothing was done"),
]


# Seconds between two checks, shorter than those of a device.
LEAST_INTERVAL = 1.0


@pytest.fixture(scope="module")
def device(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Scene]:
    """A device with versions 2 and 3 that looks for updates only when it is told to."""
    with scene(broker, tmp_path_factory.mktemp("stage"), cache, interval="30d") as stage:
        stage.install("2")
        stage.install("3")
        stage.daemon.environment["LEAST_INTERVAL"] = str(LEAST_INTERVAL)
        with stage.daemon:
            yield stage


@pytest.fixture
def stage(device: Scene, tmp_path: Path) -> Iterator[Scene]:
    """The device, which is afterwards as it was before."""
    before = device.store.state()
    for key in before.versions:
        shutil.copy(device.store.archive(key), tmp_path)
    device.client.messages.clear()
    device.server.requests.clear()
    yield device
    for release in device.repository.releases():
        if release.number > len(before.versions) and release.share:
            device.repository.promote(release.name, 0, [])
    for key in before.versions:
        shutil.copy(tmp_path / f"{key}.zip", device.store.archive(key))
    with device.store.changing() as state:
        for one in fields(state):
            setattr(state, one.name, getattr(before, one.name))
    device.daemon.reload()


def command(stage: Scene, payload: Any, topic: str = f"edge/{DEVICE}/cmd", **options: Any) -> dict[str, Any]:
    """The answer to a command."""
    before = len(_replies(stage))
    stage.client.publish(topic, payload if isinstance(payload, bytes) else json.dumps(payload), **options)
    return _replies(stage, before + 1)[-1]


def _replies(stage: Scene, count: int = 0, timeout: float = 30.0) -> list[dict[str, Any]]:
    def is_reply(message: Message) -> bool:
        return message.topic == f"edge/{DEVICE}/cmd/reply"

    return [json.loads(message.payload) for message in stage.client.wait_for(is_reply, count, timeout)]


def test_a_device_looks_for_updates_and_goes_back_when_it_or_all_devices_are_told_to(stage: Scene) -> None:
    for version, topic, options in ("4", f"edge/{DEVICE}/cmd", {}), ("5", "edge/all/cmd", {"spread": 0}):
        stage.release(version)
        assert command(stage, {"command": "update", **options}, topic) == {
            "device_id": DEVICE,
            "command": "update",
            "ok": True,
        }
        stage.wait_for("committed", f"digits/{version}")
    # And takes the new one back, for good, unless it is told to take it again.
    answer = command(stage, {"command": "rollback", "model": "digits"})
    assert answer == {"device_id": DEVICE, "command": "rollback", "ok": True, "version": "digits/4"}
    assert stage.serving() == "4"
    command(stage, {"command": "update"})
    assert stage.serving() == "4"
    stage.client.messages.clear()
    command(stage, {"command": "update", "again": True})
    stage.wait_for("committed", "digits/5")


def test_a_pinned_version_stays_until_it_is_unpinned(stage: Scene) -> None:
    pinned = command(stage, {"command": "pin", "model": "digits", "devices": [DEVICE], "spread": 0}, "edge/all/cmd")
    assert (pinned["pinned"], pinned["version"]) == (True, "digits/3")
    stage.release("6")
    before = len(stage.server.requests)
    command(stage, {"command": "update"})
    wait_until(lambda: len(stage.server.requests) >= before + 3, 20, "a check")
    assert stage.states()[-1]["pinned"]
    command(stage, {"command": "pin", "model": "digits", "pinned": False})
    command(stage, {"command": "update"})
    stage.wait_for("committed", "digits/6")
    assert not any("6" in str(state["version"]) for state in stage.states() if state["pinned"])


def test_a_version_is_taken_back_by_hand_and_the_history_tells(stage: Scene) -> None:
    config = str(stage.daemon.config_file)
    done = edge_agent("models", "rollback", "digits", "-c", config, cwd=stage.folder)
    assert done.stdout == "digits: digits/2 is active; `systemctl reload edge-agent` has a running daemon use it\n"
    assert stage.serving() == "3"
    stage.daemon.reload()
    assert stage.serving() == "2"
    history = edge_agent("models", "history", "-c", config, cwd=stage.folder).stdout.splitlines()
    assert history[0] == "digits: digits/2 is active"
    assert [line.split("  ", 2)[2].split()[0] for line in history[1:]] == ["activated", "committed"] * 2 + ["rolled"]
    assert history[-1].endswith("digits/3: by hand")


def test_what_is_no_command_is_answered_with_the_reason(stage: Scene) -> None:
    for payload, problem in NO_COMMANDS:
        assert command(stage, payload) == {"device_id": DEVICE, "ok": False, "error": problem}
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    properties.ResponseTopic, properties.CorrelationData = f"edge/{DEVICE}/here", b"7"
    stage.client.publish(f"edge/{DEVICE}/cmd", "?", properties=properties)
    (answer,) = stage.client.wait_for(lambda message: message.topic == f"edge/{DEVICE}/here")
    assert not json.loads(answer.payload)["ok"]
    assert getattr(answer.properties, "CorrelationData", None) == b"7"


def test_whoever_holds_the_broker_s_password_can_put_no_model_on_a_device(stage: Scene) -> None:
    archive = stage.store.archive(str(stage.store.state().active)).read_bytes()
    for document in (
        {"command": "update", "url": "http://evil.example", "root": "root.json", "models": {"digits": "evil"}},
        {"command": "update", "release": {"channel": "digits", "version": "9", "number": 9}},
        {"command": "rollback", "model": "digits", "path": "/tmp/evil.zip", "version": "9"},
    ):
        assert not command(stage, document)["ok"]
    assert command(stage, {"command": "rollback", "model": "digits"})["ok"]
    assert command(stage, {"command": "update"})["ok"]
    wait_until(lambda: any("timestamp" in path for path, _ in stage.server.requests), 20, "a check")
    stage.client.publish(
        f"edge/{DEVICE}/update", json.dumps({"models": {"digits": {"step": "activated"}}}), retain=True
    )
    stage.client.publish(f"edge/{DEVICE}/cmd", archive)
    assert stage.serving() == "2"
    assert {request[0].split("/")[1] for request in stage.server.requests} == {"metadata"}


def test_any_number_of_update_commands_makes_few_requests_and_each_is_answered(stage: Scene) -> None:
    command(stage, {"command": "update"})
    wait_until(lambda: stage.server.requests, 10, "the first check")
    count, began = 500, time.monotonic()
    for _ in range(count // 10):
        for _ in range(9):
            stage.client.client.publish(f"edge/{DEVICE}/cmd", '{"command": "update"}', 1)
        # Without a version to go back to, this command starts the updater anew.
        stage.client.client.publish(f"edge/{DEVICE}/cmd", '{"command": "rollback", "model": "digits"}', 1)
    replies = _replies(stage, count + 1, timeout=60)
    assert all(reply["ok"] or "too many" in reply["error"] or reply.get("command") != "update" for reply in replies)
    metadata = [path for path, _ in stage.server.requests if "timestamp" in path]
    assert len(metadata) <= 2 + (time.monotonic() - began) / LEAST_INTERVAL


def test_a_retained_command_is_not_carried_out(stage: Scene) -> None:
    stage.daemon.stop()
    stage.client.publish(f"edge/{DEVICE}/cmd", '{"command": "rollback", "model": "digits"}', retain=True)
    stage.daemon.start()
    assert command(stage, {"command": "update"})["ok"]
    assert stage.serving() == "3"
    assert "ignoring a retained command" in stage.daemon.log()
    stage.client.publish(f"edge/{DEVICE}/cmd", "", retain=True)
    wait_until(lambda: any("not JSON" in one.get("error", "") for one in _replies(stage)), 10, "that is no command")


def test_what_an_agent_has_published_is_no_command(stage: Scene) -> None:
    asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    asked.ResponseTopic = "edge/all/cmd"  # the answer goes to every device as a command
    stage.client.publish(f"edge/{DEVICE}/cmd", '{"command": "fly"}', properties=asked)
    ignored = "edge/all/cmd: ignoring what an agent has published"
    wait_until(lambda: ignored in stage.daemon.log(), 10, "the answer has come as a command")
    assert command(stage, {"command": "update"})["ok"]
    assert len(_replies(stage)) == 1


def test_a_command_to_all_is_followed_by_those_that_it_is_for(stage: Scene) -> None:
    rollback = {"command": "rollback", "model": "digits", "spread": 0}
    for others in {"labels": ["site-a"]}, {"devices": ["another"]}, {"labels": ["site-a"], "devices": ["another"]}:
        stage.client.publish("edge/all/cmd", json.dumps(rollback | others))
    answer = command(stage, rollback | {"label": ["site-a"]}, "edge/all/cmd")  # misspelt: for nobody
    assert not answer["ok"]
    assert "'label'; did you mean 'labels'?" in answer["error"]
    assert stage.serving() == "3"
    assert command(stage, rollback | {"labels": ["lab"], "devices": [DEVICE]}, "edge/all/cmd")["ok"]
    assert stage.serving() == "2"
