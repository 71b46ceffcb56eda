"""How a command over MQTT is read, and when those to all devices are executed."""

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.daemon import remote_commands
from edge_agent.daemon.command_request import SPREAD_S, Command, Request, read
from edge_agent.daemon.remote_commands import MAX_WAITING, RemoteCommands
from edge_agent.errors import EdgeAgentError

COMMANDS = {"update": Command(lambda _: {}, {"again": bool}), "rollback": Command(lambda _: {}, {"model": str})}


def read_text(document: Any, *, to_all: bool = True) -> Request:
    return read(json.dumps(document).encode(), COMMANDS, to_all=to_all)


@pytest.mark.parametrize(
    ("request_", "addressed"),
    [
        ({}, True),
        ({"labels": ["site-a"]}, True),
        ({"labels": ["site-b"]}, False),
        ({"devices": ["porch"]}, True),
        ({"devices": ["attic"]}, False),
        ({"labels": ["site-b"], "devices": ["porch"]}, True),
        ({"labels": ["site-a"], "devices": ["attic"]}, True),
        ({"labels": ["site-b"], "devices": ["attic"]}, False),
    ],
)
def test_a_command_is_for_devices_with_one_of_its_labels_and_for_those_it_names(
    request_: dict[str, Any], addressed: bool
) -> None:
    assert read_text({"command": "update"} | request_).is_for("porch", ["site-a", "canary"]) is addressed


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": []},
        {"labels": "site-a"},
        {"labels": [1]},
        {"labels": None},
        {"devices": {}},
        {"spread": -1},
        {"spread": "soon"},
        {"spread": True},
        {"spread": "2d"},
        {"spread": float("nan")},
        {"again": "yes"},
        {"again": 1},
        {"Labels": ["site-a"]},
        {"model": "digits"},
    ],
)
def test_what_is_not_understood_is_refused_and_never_taken_for_less(wrong: dict[str, Any]) -> None:
    with pytest.raises(EdgeAgentError):
        read_text({"command": "update"} | wrong)


def test_only_commands_to_all_are_addressed_and_spread() -> None:
    assert read_text({"command": "update"}).spread == SPREAD_S
    assert read_text({"command": "update", "spread": "5m"}).spread == 300
    assert read_text({"command": "update"}, to_all=False).spread == 0
    for key in "labels", "devices", "spread":
        with pytest.raises(EdgeAgentError, match="only commands to all"):
            read_text({"command": "update", key: ["a"]}, to_all=False)


class Timer:
    """Stands for `threading.Timer`; time passes when a test says so."""

    started: list["Timer"]

    def __init__(self, delay: float, due: Callable[[], None]) -> None:
        self.delay, self.due = delay, due

    def start(self) -> None:
        self.started.append(self)


def test_commands_to_all_begin_at_random_moments_within_their_time_and_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Timer.started = []
    monkeypatch.setattr(
        remote_commands, "threading", SimpleNamespace(Timer=Timer, BoundedSemaphore=threading.BoundedSemaphore)
    )
    done: list[str] = []
    answers: list[dict[str, Any]] = []
    link: Any = SimpleNamespace(
        ack=lambda *_: None, publish=lambda _topic, text, *_, **__: answers.append(json.loads(text))
    )
    message: Any = SimpleNamespace(
        topic="edge/all/cmd",
        payload=b'{"command": "update", "spread": "1h"}',
        mid=1,
        qos=1,
        retain=False,
        properties=None,
    )
    commands = {"update": Command(lambda _: done.append("update") or {}, {})}  # type: ignore[func-returns-value]  # append
    device = RemoteCommands("edge/porch", "edge/all/cmd", "porch", lambda: (), commands, lambda function: function())
    for _ in range(MAX_WAITING + 1):
        device.received(link, message)
    delays = [timer.delay for timer in Timer.started]
    assert len(set(delays)) == MAX_WAITING
    assert all(0 <= delay <= 3600 for delay in delays)
    assert done == []
    assert [answer["ok"] for answer in answers] == [False]  # one too many
    for timer in Timer.started:
        timer.due()
    assert done == ["update"] * MAX_WAITING
    assert [answer["ok"] for answer in answers] == [False] + [True] * MAX_WAITING
