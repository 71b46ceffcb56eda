"""The remote commands that concern the agent as a whole: each only where it is allowed."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from edge_agent.daemon import maintenance
from edge_agent.errors import EdgeAgentError
from edge_agent.settings import RemoteCommands
from edge_agent.system import logs
from tests import scenarios
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon

CMD = "edge/porch/cmd"


def answer(client: Subscriber, command: dict[str, Any]) -> dict[str, Any]:
    def is_reply(message: Message) -> bool:
        return message.topic == f"{CMD}/reply"

    before = len(client.wait_for(is_reply, 0))
    client.publish(CMD, json.dumps(command))
    found: dict[str, Any] = json.loads(client.wait_for(is_reply, before + 1, timeout=60)[-1].payload)
    return found


def test_what_is_allowed_is_carried_out_with_a_line_in_the_log_and_the_rest_is_refused(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    config = scenarios.lab(mosquitto, "porch") | {"remote_commands": {"allow": ["reload", "logs", "restart"]}}
    with Subscriber(mosquitto.port, "edge/#") as client, Daemon(tmp_path, config) as daemon:
        assert answer(client, {"command": "reload"})["requested"] is True
        wait_until(lambda: "configuration reloaded" in daemon.log(), 20, "a reload")
        lines = answer(client, {"command": "logs", "lines": 200})["lines"]
        assert any(line.endswith("command over edge/porch/cmd: reload: done") for line in lines)
        assert answer(client, {"command": "logs", "lines": 201})["ok"] is False
        refused = answer(client, {"command": "doctor"})
        assert (refused["ok"], "no such command" in refused["error"]) == (False, True)
        assert answer(client, {"command": "restart"})["ok"] is False  # it has just been started


def test_the_report_of_doctor_comes_from_a_process_of_its_own(mosquitto: Mosquitto, tmp_path: Path) -> None:
    config = scenarios.lab(mosquitto, "porch") | {"remote_commands": {"allow": ["doctor"]}}
    with Subscriber(mosquitto.port, "edge/#") as client, Daemon(tmp_path, config):
        report = answer(client, {"command": "doctor"})["report"]
    assert {"configuration", "disk", "broker"} <= {finding["check"] for finding in report["findings"]}


def test_lines_are_bounded_and_without_credentials() -> None:
    recent = logs.RecentLines()
    for number in range(logs.MAX_RECENT + 10):
        text = f"{number} rtsp://user:hidden@cam.lan/1?token=hidden " + "x" * 1000
        recent.filter(logging.LogRecord("edge_agent", logging.ERROR, __file__, number, text, (), None))
    lines = recent.last(1000)
    assert len(lines) == logs.MAX_RECENT
    assert all(len(line) == logs.MAX_LINE for line in lines)
    assert "rtsp://cam.lan/1 x" in lines[-1]
    assert not any("hidden" in line for line in lines)


def test_an_agent_that_has_just_been_started_is_not_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setattr("edge_agent.daemon.maintenance.time.monotonic", lambda: 100.0)
    commands = maintenance.commands_of(RemoteCommands(allow=("restart",)), Path(), lambda: None, 90.0)
    with pytest.raises(EdgeAgentError, match="just been started"):
        commands["restart"].run({})
