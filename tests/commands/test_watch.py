import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from pathlib import Path
from typing import Any, Self

import pytest
from rich.console import Console

from edge_agent.commands.fleet import Fleet, Row
from edge_agent.commands.fleet_table import devices, in_room, problems, summary, table
from edge_agent.commands.text_table import as_text
from tests.broker import Mosquitto, Subscriber, free_port, password_file, wait_until
from tests.command_line import command, edge_agent, environment
from tests.daemon_process import Daemon, configuration
from tests.mqtt.scripted_broker import ScriptedBroker

FULL = Row("porch-pi", "online", "meter", 9.96, "2 person, 1 bus", 3.0, 25.58, "photos 3", "edgetpu", "", 2, 0)
TROUBLED = Row("attic", "online", "hall", 0.5, "[red]x\\x1b", 3.0, 1e9, "m", "cpu", "edgetpu: no library", 0, 7)
AWAY = Row("cellar", "offline")


def printed(rows: list[Row], width: int) -> list[str]:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(*map(as_text, table(rows, width, now=65.0)), sep="\n")
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [80, 200])
def test_a_row_is_one_line_of_the_terminal_s_width(width: int) -> None:
    long = Row("d" * 64, "online", "p" * 64, 1e12, "r" * 60, 0.0, 1e12, "m" * 60, "a" * 60, "why", 10**12, 10**12)
    lines = printed([FULL, TROUBLED, AWAY, long], width)
    assert len(lines) == 5
    assert max(map(len, lines)) <= width


def test_a_terminal_of_80_columns_shows_what_matters_most() -> None:
    head, line = printed([FULL], 80)
    assert head.split() == ["device", "pipeline", "status", "/s", "last", "result", "ms", "model", "on", "outbox"]
    assert re.fullmatch(r"porch-pi +meter +online +10\.0 2 person, 1.* +25\.6 photos 3 +edgetpu +2 *", line)


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (20, "device status"),
        (40, "device pipeline status last result"),
        (60, "device pipeline status /s last result ms"),
        (72, "device pipeline status /s last result ms on outbox"),
    ],
)
def test_a_narrow_terminal_leaves_out_what_matters_least(width: int, columns: str) -> None:
    lines = printed([FULL], width)
    assert lines[0].split() == columns.split()
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    assert "online" in lines[1]


def test_a_wide_terminal_shows_the_age_of_the_last_result_too() -> None:
    head, line = printed([FULL], 200)
    assert "ago" in head.split()
    assert re.search(r"2 person, 1 bus +1 m +25\.6 photos 3", line)


def test_what_devices_say_is_not_taken_for_markup() -> None:
    assert "[red]x\\x1b" in printed([TROUBLED], 200)[1]


def test_fallback_and_lost_results_are_marked_and_the_marks_explained() -> None:
    assert re.search(r"cpu ! +0 -7", printed([TROUBLED], 200)[1])
    assert summary([TROUBLED, AWAY], [TROUBLED, AWAY], 3) == [
        "2 devices, 1 online",
        "! not the preferred accelerator, -N: lost results, 3 invalid messages",
    ]
    assert summary([TROUBLED], [TROUBLED], 1) == [
        "1 device, 1 online",
        "! not the preferred accelerator, -N: lost results, 1 invalid message",
    ]


def test_a_problem_stands_in_place_of_the_last_result_and_comes_first() -> None:
    fleet = Fleet("edge")
    info = {
        "problem": "",
        "pipelines": {
            "hall": {"model": "m", "problem": "the broker refuses\x1b"},
            "lab": {"model": "m", "problem": ""},
        },
    }
    for what, payload in (("status", b"online"), ("info", json.dumps(info).encode())):
        fleet.receive(f"edge/pi/{what}", payload, 0.0)
    rows = fleet.rows()
    assert [row.in_trouble for row in rows] == [True, False]
    assert "the broker refuses\\x1b" in printed(rows, 200)[1]
    assert devices(rows, 0.0)[0]["pipelines"][0]["problem"] == "the broker refuses\\x1b"
    info["problem"] = "another client"
    fleet.receive("edge/pi/info", json.dumps(info).encode(), 0.0)
    assert [row.problem for row in fleet.rows()] == ["the broker refuses\\x1b", "another client"]
    fleet.receive("edge/pi/status", b"offline", 0.0)
    assert [row.problem for row in fleet.rows()] == ["", ""]


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, []),
        (2, ["pi p0: x", "pi p1: x"]),
        (3, ["pi p0: x", "and 2 more problems"]),
        (4, ["pi p0: x", "and 3 more problems"]),
    ],
)
def test_problems_stand_in_full_below_the_table(count: int, shown: list[str]) -> None:
    rows = [Row("pi", "online", f"p{number}", problem="x") for number in range(count)]
    assert problems([FULL, *rows], 2) == shown


def test_where_there_is_not_room_for_all_those_in_trouble_come_first() -> None:
    rows = [Row(f"pi-{number:04}", "online") for number in range(5000)] + [AWAY, TROUBLED]
    shown = in_room(rows, 20)
    assert [row.device for row in shown[:3]] == ["cellar", "attic", "pi-0000"]
    assert len(shown) == 20
    assert summary(rows, shown, 0)[0] == "5002 devices, 5001 online; 20 of 5002 lines, those in trouble first"
    assert in_room([FULL, AWAY], 20) == [FULL, AWAY]


def test_a_document_has_a_list_of_devices_with_their_pipelines() -> None:
    assert devices([FULL, AWAY], now=4.5) == [
        {
            "device_id": "porch-pi",
            "status": "online",
            "pipelines": [
                {
                    "name": "meter",
                    "results_per_s": 9.96,
                    "last_result": "2 person, 1 bus",
                    "latency_ms": 25.58,
                    "model": "photos 3",
                    "accelerator": "edgetpu",
                    "fallback": "",
                    "waiting": 2,
                    "lost": 0,
                    "problem": "",
                    "last_result_age_s": 1.5,
                }
            ],
        },
        {"device_id": "cellar", "status": "offline", "pipelines": []},
    ]


def meter(broker: Mosquitto) -> dict[str, Any]:
    """A configuration with a pipeline that always has results, and one that waits for input."""
    clip = str(Path(__file__).parents[2] / "models" / "clips" / "meter.mp4")
    pipelines = {
        "meter": {"source": {"type": "video", "url": clip, "loop": True}, "model": "digits"},
        "lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"},
    }
    return configuration(broker, "porch-pi", models={"digits": {"path": "digits"}}, pipelines=pipelines)


def test_a_running_agent_is_seen_once_with_its_results(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with Daemon(tmp_path / "daemon", meter(mosquitto)):
        run = edge_agent("watch", "--url", mosquitto.url, "--json", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    document = json.loads(run.stdout)
    assert (document["broker"], document["topic_prefix"]) == (mosquitto.url, "edge")
    (device,) = document["devices"]
    assert (device["device_id"], device["status"]) == ("porch-pi", "online")
    lab, seen = device["pipelines"]
    assert (lab["name"], lab["results_per_s"], lab["last_result"]) == ("lab", 0, "")
    assert (seen["name"], seen["model"], seen["accelerator"]) == ("meter", "digits 1", "cpu")
    assert seen["results_per_s"] > 0
    assert re.fullmatch(r"(blank|\d) \d+%", seen["last_result"])
    assert seen["latency_ms"] > 0


class Terminal:
    """A terminal in which `watch` runs; a context manager ends it in any case."""

    def __init__(self, folder: Path, *arguments: str, columns: int = 80, lines: int = 10) -> None:
        self.seen = ""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._ours = ours
        self.process = subprocess.Popen(
            command("watch", *arguments),
            cwd=folder,
            # Whoever runs the tests may have told them of another size.
            env=environment({"TERM": "xterm", "COLUMNS": str(columns), "LINES": str(lines)}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 65536):
                self.seen += data.decode(errors="replace")
        except OSError:  # the other side has closed
            pass
        os.close(self._ours)

    def shows(self, text: str) -> None:
        try:
            wait_until(lambda: text in self.seen, 20.0, f"the terminal shows {text}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.seen[-3000:]!r}") from None

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_live_it_follows_results_and_survives_the_loss_of_the_broker(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with Subscriber(mosquitto.port) as device:
        device.publish("edge/pi/status", "online", retain=True)
        device.publish("edge/pi/info", json.dumps({"pipelines": {"porch": {}}}), retain=True)
        with Terminal(tmp_path, "--url", mosquitto.url) as terminal:
            terminal.shows("1 device, 1 online")
            wait_until(lambda: "edge/pi/porch/result (QoS 0)" in mosquitto.log(), 10.0, "results are subscribed to")
            device.publish("edge/pi/porch/result", json.dumps({"predictions": [{"label": "parrot"}]}))
            terminal.shows("parrot")
            mosquitto.stop()
            terminal.shows("nothing listens there")
            terminal.seen = ""
            mosquitto.start()
            device.wait_ready()
            wait_until(lambda: mosquitto.log().count("edge/pi/porch/result (QoS 0)") > 1, 20.0, "subscribed to again")
            device.publish("edge/pi/porch/result", json.dumps({"predictions": [{"label": "macaw"}]}))
            terminal.shows("macaw")
            terminal.seen = ""
            terminal.shows(mosquitto.url)
            assert "nothing listens there" not in terminal.seen
            assert terminal.end() == 0
    assert "Traceback" not in terminal.seen
    assert "KeyboardInterrupt" not in terminal.seen


def test_results_are_subscribed_to_only_for_the_lines_that_are_shown(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with Subscriber(mosquitto.port) as fleet:
        for number in range(30):
            fleet.publish(f"edge/pi-{number}/status", "online", retain=True)
            fleet.publish(f"edge/pi-{number}/info", json.dumps({"pipelines": {"porch": {}}}), retain=True)
        with Terminal(tmp_path, "--url", mosquitto.url, lines=10) as terminal:
            terminal.shows("30 devices, 30 online; 5 of 30 lines")
            wait_until(lambda: "porch/result (QoS 0)" in mosquitto.log(), 10.0, "results are subscribed to")
            assert terminal.end() == 0
    assert "result/" not in mosquitto.log()
    assert mosquitto.log().count("porch/result (QoS 0)") < 30


def test_it_ends_with_its_terminal(tmp_path: Path, mosquitto: Mosquitto) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command("watch", "--url", mosquitto.url), cwd=tmp_path, env=environment(), stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        wait_until(lambda: "edge/+/stats (QoS 0)" in mosquitto.log(), 20.0, "it watches")
        os.close(ours)
        try:
            process.wait(20.0)
        finally:
            process.kill()


def test_a_refused_subscription_is_said(tmp_path: Path) -> None:
    with (
        ScriptedBroker(suback=0x87) as strict,
        Terminal(tmp_path, "--url", f"mqtt://127.0.0.1:{strict.port}", columns=200) as terminal,
    ):
        terminal.shows("the broker refuses the subscription to edge/+/")
        assert terminal.end() == 0


def test_a_configuration_says_where_the_broker_is_and_how_to_get_in(tmp_path: Path) -> None:
    passwords = password_file(tmp_path / "passwords", "pi", "right")
    (tmp_path / "secret").write_text("right\n")
    with Mosquitto(tmp_path, [f"password_file {passwords}", "allow_anonymous false"]) as guarded:
        options = {"url": guarded.url, "username": "pi", "password_file": "secret", "topic_prefix": "site/a"}
        (tmp_path / "agent.yaml").write_text(json.dumps({"mqtt": options}))
        with Terminal(tmp_path, "-c", "agent.yaml") as terminal:
            terminal.shows("no messages from devices yet")
            assert terminal.end() == 0
        assert "site/a/+/status (QoS 0)" in guarded.log()
        refused = edge_agent("watch", "--url", guarded.url, "--once", cwd=tmp_path)
        stated = ("--username", "pi", "--password-file", "secret", "--prefix", "x")
        with Terminal(tmp_path, "--url", guarded.url, *stated) as terminal:
            terminal.shows("no messages from devices yet")
            assert terminal.end() == 0
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "the broker refuses the connection: Not authorized" in refused.stderr


def test_a_broker_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    run = edge_agent("watch", "--url", f"mqtt://127.0.0.1:{free_port()}", cwd=tmp_path)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (1, "", 1)
    assert "nothing listens there" in run.stderr


def test_an_embedded_broker_has_no_address_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("mqtt: {url: embedded}\n")
    run = edge_agent("watch", "-c", "agent.yaml", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("--url: give the address of the embedded broker")
