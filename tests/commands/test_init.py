"""`init`: questions at a terminal, and the file that comes of the answers."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.config import loader
from edge_agent.models.shipped import shipped
from edge_agent.setup import found

Answer = Callable[..., int]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Answer:
    """Answers the questions, on a machine with one webcam; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    camera = found.Input("webcam", "pictures", {"type": "camera", "device": 0, "fps": 5})
    monkeypatch.setattr(found, "cameras", lambda: [camera])
    monkeypatch.setattr(found, "microphones", list)

    def given(lines: Sequence[str], *arguments: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return main(["init", *arguments])

    return given


ALL = ["porch-pi", "mqtt://broker.lan", "ann", "secret", "1", "1", "n", "person, dog", "porch", "y", "1"]


def test_a_few_answers_make_a_file_that_loads_and_that_only_its_owner_may_read(
    answer: Answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(ALL) == 0
    config = loader.load(tmp_path / "agent.yaml").settings
    assert (config.device_id, config.mqtt.username, config.home_assistant.enabled) == ("porch-pi", "ann", True)
    porch = config.pipelines["porch"]
    assert (porch.source.type, porch.filters.labels) == ("camera", ("person", "dog"))
    assert porch.tracking is not None
    assert config.http is not None
    assert (config.http.listen, config.http.edit) == ("0.0.0.0:8080", True)
    for name in ("agent.yaml", "page-token", "broker-password"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert (tmp_path / "broker-password").read_text() == "secret\n"
    token = (tmp_path / "page-token").read_text().strip()
    said = capsys.readouterr().out
    assert "edge-agent run -c agent.yaml" in said
    assert token not in said
    assert (tmp_path / "agent.yaml").read_text().count("#") > 5


def test_empty_answers_take_what_is_proposed(answer: Answer, tmp_path: Path) -> None:
    assert answer(["", "", "", "", "", "n", "", "", "", "3"]) == 0
    config = loader.load(tmp_path / "agent.yaml").settings
    assert config.models["main"].path == Path("coco-ssd-mobilenet-v1")
    assert (config.http, list(config.pipelines)) == (None, ["yard"])


def test_what_init_has_written_passes_check(answer: Answer, tmp_path: Path) -> None:
    model = str(shipped("digits") / "digits.tflite")
    pictures = ["", "mqtt://127.0.0.1", "", "3", "lab/images"]
    count = len(found.models("pictures"))
    assert answer([*pictures, str(count + 1), model, "lab", "n", "3"]) == 0
    assert main(["check", "-c", "agent.yaml"]) == 0


@pytest.mark.parametrize("name", ["x: {y", "a\\b", "{}", "*a", "'", "ü"])
def test_an_answer_is_text_whatever_is_in_it(name: str, answer: Answer, tmp_path: Path) -> None:
    assert answer([name, *ALL[1:]]) == 0
    assert loader.load(tmp_path / "agent.yaml").settings.device_id == name


def test_a_file_that_is_there_is_not_overwritten_without_being_told(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("# mine\n")
    assert answer(ALL) == 2
    assert (tmp_path / "agent.yaml").read_text() == "# mine\n"
    assert answer(ALL, "--force") == 0
    assert answer(ALL, "-o", "other.yaml") == 0


def test_an_answer_that_no_configuration_can_hold_writes_nothing(answer: Answer, tmp_path: Path) -> None:
    assert answer(["porch-pi", "http://broker", *ALL[2:]]) == 2
    assert not (tmp_path / "agent.yaml").exists()


def test_without_answers_nothing_is_written(answer: Answer, tmp_path: Path) -> None:
    assert answer(ALL[:4]) == 1
    assert not (tmp_path / "agent.yaml").exists()


def test_what_is_to_be_chosen_in_the_browser_needs_the_page_and_no_pipeline(answer: Answer, tmp_path: Path) -> None:
    assert answer(["", "", "", "5", "", "3", "2"]) == 0
    config = loader.load(tmp_path / "agent.yaml").settings
    assert config.pipelines == {}
    assert config.http is not None
    assert (config.http.listen, config.http.edit) == ("127.0.0.1:8080", True)
