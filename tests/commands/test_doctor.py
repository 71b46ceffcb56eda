import json
from pathlib import Path

import pytest

from edge_agent.commands import doctor
from edge_agent.doctor.checks import CHECKS
from edge_agent.doctor.machine import ok
from tests.broker import Mosquitto, free_port
from tests.command_line import edge_agent


def test_this_machine_with_a_broker_gets_one_json_document_and_exit_code_0(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    document = f"device_id: porch\nmqtt: {{url: '{mosquitto.url}'}}\noutbox: {{max_size: 100kB}}\n"
    (tmp_path / "agent.yaml").write_text(document)
    run = edge_agent("doctor", "-c", "agent.yaml", "--json", cwd=tmp_path)
    answer = json.loads(run.stdout)
    assert (run.returncode, run.stderr, answer["ok"]) == (0, "", True)
    assert {finding["check"] for finding in answer["findings"]} == set(CHECKS)
    assert set(answer["findings"][0]) == {"check", "state", "text", "fix"}


def test_a_failure_is_told_with_what_fixes_it_and_exit_code_1(tmp_path: Path) -> None:
    run = edge_agent("doctor", "--url", f"mqtt://127.0.0.1:{free_port()}", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (1, "")
    *_, problem, fix, _repository, empty, summary = run.stdout.splitlines()
    assert problem.startswith("failure  broker ")
    assert fix.strip().startswith("fix: on 127.0.0.1: sudo systemctl")
    assert (empty, summary.endswith(" 1 failures")) == ("", True)


def test_a_broken_configuration_is_a_finding_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("device_idd: porch\n")
    run = edge_agent("doctor", "-c", "agent.yaml", cwd=tmp_path)
    assert run.returncode == 1
    assert "failure  configuration  agent.yaml:1: device_idd: unknown key; did you mean 'device_id'?" in run.stdout
    assert "  clock " in run.stdout


def test_wrong_arguments_for_the_broker_are_refused(tmp_path: Path) -> None:
    run = edge_agent("doctor", "--url", "http://x", "--password-file", "secret", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.splitlines() == [
        "--url: must be mqtt://HOST[:PORT], mqtts://, ws://, wss:// or embedded",
        "--password-file: needs a username",
    ]


def test_what_a_device_says_of_itself_does_not_reach_the_terminal_raw(capsys: pytest.CaptureFixture[str]) -> None:
    doctor._show("cameras", ok(f"/dev/video0: \x1b[31mevil\n{'x' * 1000}"))
    (line,) = capsys.readouterr().out.splitlines()
    assert "\\x1b[31mevil\\n" in line
    assert len(line) < 600
