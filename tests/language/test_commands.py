"""What the commands say of a language model."""

import json
from pathlib import Path

import pytest

from edge_agent import cli
from tests.language.model_files import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "words")


def test_bench_measures_reading_and_writing_for_each_number_of_threads(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", str(model), "--seconds", "0.1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["measurements"][0]["threads"] == 1
    for measured in document["measurements"]:
        assert measured["problem"] == ""
        assert measured["prompt_tokens"] == 256
        assert min(measured[key] for key in ("first_token_ms", "output_per_second", "memory_mib", "load_ms")) > 0
    assert document["best"]["threads"] in [measured["threads"] for measured in document["measurements"]]


def test_inspect_tells_what_memory_a_conversation_takes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["task"], facts["context"], facts["vocabulary"]) == ("text", 512, 400)
    # Keys and values: 2 layers, 2 heads of 16 numbers; 64 outputs of 400; 4 bytes each.
    assert facts["session_size"] == 4 * (2 * 2 * 2 * 16 * 512 + 64 * 400)
    assert cli.main(["inspect", str(model)]) == 0
    assert "cache       364.5 kB for each conversation of 512 tokens" in capsys.readouterr().out


def test_predict_says_that_a_language_model_is_asked_over_mqtt(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(model), "parrot.jpg"]) != 0
    assert "a language model, which takes requests over MQTT" in capsys.readouterr().err
