import json
from pathlib import Path

import pytest

from edge_agent import cli
from edge_agent.commands import config_argument
from tests.broker import Mosquitto
from tests.command_line import edge_agent


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The current folder's, and the service's."""
    here, service = tmp_path / "here", tmp_path / "etc"
    here.mkdir()
    service.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(config_argument, "PLACES", (Path("agent.yaml"), service / "agent.yaml"))
    return here / "agent.yaml", service / "agent.yaml"


def write(file: Path, device: str) -> None:
    file.write_text(
        f"device_id: {device}\nmodels: {{digits: {{path: digits}}}}\n"
        "pipelines: {lab: {source: {type: mqtt, topic: lab}, model: digits}}\n"
    )


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["check", "--json", *arguments]) == 0
    return str(json.loads(capsys.readouterr().out)["device_id"])


def test_the_configuration_of_this_folder_goes_before_the_service_s(
    places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, service = places
    write(service, "service")
    assert checked(capsys) == "service"
    write(here, "here")
    assert checked(capsys) == "here"
    write(tmp_path / "stated.yaml", "stated")
    assert checked(capsys, "-c", str(tmp_path / "stated.yaml")) == "stated"


@pytest.mark.parametrize("command", ["run", "check", "models history"])
def test_where_there_is_none_the_places_are_named(
    command: str, places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command.split()) == 2
    said = capsys.readouterr().err
    assert str(places[1]) in said
    assert "-c FILE" in said


def test_watch_takes_the_broker_of_the_configuration_that_is_there(tmp_path: Path, mosquitto: Mosquitto) -> None:
    (tmp_path / "agent.yaml").write_text(f"device_id: a\nmqtt: {{url: '{mosquitto.url}', topic_prefix: attic}}\n")
    done = edge_agent("watch", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["broker"], document["topic_prefix"]) == (mosquitto.url, "attic")
