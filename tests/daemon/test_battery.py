"""The battery of a phone, with a stand-in that prints what termux-battery-status prints."""

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any, Self

import pytest

from edge_agent import settings
from edge_agent.daemon import battery
from edge_agent.daemon.battery import Battery
from tests import scenarios
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon

ANSWER = {
    "present": True,
    "technology": "Li-ion",
    "health": "GOOD",
    "plugged": "UNPLUGGED",
    "status": "DISCHARGING",
    "temperature": 31.2,
    "voltage": 3917,
    "current": -311000,
    "current_average": -284000,
    "percentage": 57,
    "level": 57,
    "scale": 100,
    "charge_counter": 2411000,
}


class Phone:
    """A folder with the stand-in, and what it answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "termux"
        self.folder.mkdir()
        self.path = f"{self.folder}:{os.environ['PATH']}"
        self.set_program(f"cat {self.folder}/answer")
        self.answers()

    def set_program(self, script: str) -> None:
        program = self.folder / "new"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        program.rename(self.folder / "termux-battery-status")

    def answers(self, **facts: Any) -> None:
        (self.folder / "new").write_text(json.dumps(ANSWER | facts, indent=2))
        (self.folder / "new").rename(self.folder / "answer")


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    made = Phone(tmp_path)
    monkeypatch.setenv("PATH", made.path)
    return made


class Watched:
    """A battery that is asked until the end of the `with` block."""

    def __init__(self, **options: Any) -> None:
        self.battery = Battery(settings.Battery.model_construct(**{"pause_below": None, "interval": 0.02} | options))

    def wait_for(self, percentage: float) -> Battery:
        wait_until(lambda: self.battery.facts.get("percentage") == percentage, 15, f"{percentage} % are known")
        return self.battery

    def __enter__(self) -> Self:
        self.battery.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.battery.stop()
        wait_until(lambda: not any(t.name == "battery" for t in threading.enumerate()), 15, "nothing is left behind")


def test_level_and_temperature_are_known(phone: Phone) -> None:
    with Watched() as watched:
        facts = watched.wait_for(57).facts
    assert facts == {"percentage": 57, "plugged": False, "temperature_c": 31.2}
    assert not watched.battery.low


def test_it_is_low_below_the_level_until_it_is_well_above_it(phone: Phone) -> None:
    with Watched(pause_below=20) as watched:
        for percentage, low in ((57, False), (20, False), (19, True), (24, True), (25, False), (21, False), (5, True)):
            phone.answers(percentage=percentage)
            assert watched.wait_for(percentage).low == low, percentage


def test_it_is_not_low_while_it_is_being_charged(phone: Phone) -> None:
    phone.answers(percentage=5)
    with Watched(pause_below=20) as watched:
        assert watched.wait_for(5).low
        phone.answers(percentage=6, plugged="PLUGGED_USB")
        assert not watched.wait_for(6).low


def test_a_machine_without_a_way_to_ask_has_no_battery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with Watched() as watched:
        assert not any(thread.name == "battery" for thread in threading.enumerate())
        assert watched.battery.facts == {}
    assert caplog.messages == []
    with Watched(pause_below=20):
        pass
    assert caplog.messages == [
        "battery: no termux-battery-status: battery.pause_below has no effect (Termux: pkg install termux-api)"
    ]


@pytest.mark.usefixtures("phone")
def test_an_error_of_the_system_while_it_is_read_is_got_over(monkeypatch: pytest.MonkeyPatch) -> None:
    read, errors = battery._read, [OSError(errno.EIO, "Input/output error")]

    def failing(stopping: threading.Event) -> dict[str, Any]:
        if errors:
            raise errors.pop()
        return read(stopping)

    monkeypatch.setattr(battery, "_read", failing)
    with Watched() as watched:
        watched.wait_for(57)
    assert not errors


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 1", "nothing"),
        ("echo No", "Expecting value"),
        ("echo '[1]'", "no percentage in it"),
        ("echo '{}'", "no percentage in it"),
        ("""echo '{"percentage": null, "plugged": 1}'""", "argument must be"),
        ("yes", "Expecting value"),
        ("sleep 1000 & wait", "nothing"),
    ],
)
def test_an_answer_that_cannot_be_used_is_said_once_and_the_next_may_be_fine(
    script: str, why: str, phone: Phone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(battery, "PATIENCE", 0.5)
    phone.set_program(f"echo x >> {phone.folder}/asked; {script}")
    with Watched(pause_below=20) as watched:
        wait_until(lambda: (phone.folder / "asked").exists() and caplog.messages, 15, "it is said")
        asked = (phone.folder / "asked").read_text()
        wait_until(lambda: len((phone.folder / "asked").read_text()) > len(asked), 15, "it is asked again")
        assert watched.battery.facts == {}
        phone.set_program(f"cat {phone.folder}/answer")
        watched.wait_for(57)
    [said] = caplog.messages
    assert said.startswith("battery: no usable answer from termux-battery-status: is Termux:API installed?")
    assert why in said


def test_the_daemon_tells_the_battery_and_pauses_while_it_is_low(
    mosquitto: Mosquitto, phone: Phone, tmp_path: Path
) -> None:
    config = scenarios.lab(mosquitto, "phone", battery={"pause_below": 20, "interval": "1s"})

    def told(client: Subscriber, percentage: float, *, paused: bool) -> None:
        def fits(stats: dict[str, Any]) -> bool:
            seen = stats.get("battery", {})
            return (seen.get("percentage"), seen.get("paused")) == (percentage, paused)

        client.wait_for(lambda m: m.topic == "edge/phone/stats" and fits(json.loads(m.payload)), timeout=20)

    def answers(client: Subscriber) -> int:
        return sum(message.topic == "edge/phone/lab/result" for message in client.messages)

    with Subscriber(mosquitto.port, "edge/phone/#") as client, Daemon(tmp_path, config) as daemon:
        told(client, 57, paused=False)
        client.publish("in/1", scenarios.image("5"))
        wait_until(lambda: answers(client) == 1, 20, "an answer")
        phone.answers(percentage=19)
        told(client, 19, paused=True)
        daemon.reload()
        client.publish("in/2", scenarios.image("5"))
        client.messages.clear()
        told(client, 19, paused=True)
        assert answers(client) == 0
        phone.answers(percentage=19, plugged="PLUGGED_AC")
        told(client, 19, paused=False)
        wait_until(lambda: answers(client) == 1, 20, "the answer to what came meanwhile")
        assert daemon.log().count("battery low: pausing all pipelines") == 1
        assert daemon.log().count("battery recovered: resuming pipelines") == 1
