import json
from pathlib import Path

import pytest

from edge_agent import cli
from edge_agent.commands.benchmarking import CRASHED, choose
from edge_agent.engines.tuning import Tuning
from edge_agent.models import qualification
from edge_agent.models.qualification import Qualification
from edge_agent.models.resolve import ModelSource
from edge_agent.models.shipped import shipped
from tests.models.hostile_models import crashing_tflite


def test_it_measures_each_number_of_threads_and_chooses_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(shipped("digits/digits.tflite")), "--seconds", "0.1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    on_cpu = [one for one in document["measurements"] if one["accelerator"] == "cpu"]
    assert on_cpu[0]["threads"] == 1
    for measured in on_cpu:
        assert measured["problem"] == ""
        assert 0 < measured["p50_ms"] <= measured["p90_ms"] <= measured["p99_ms"]
        assert min(measured[key] for key in ("per_second", "memory_mib", "load_ms")) > 0
    elsewhere = [one for one in document["measurements"] if one["accelerator"] == "edgetpu"]
    assert all(one["problem"] for one in elsewhere)
    assert document["best"]["accelerator"] == "cpu"


def test_it_shows_what_tuning_finds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def qualify(source: ModelSource, _batch: int) -> Qualification:  # the bundled models are too small to be tuned
        asked.append(source.options.tune)
        return Qualification(tuning=Tuning(2, 1, 1.9))

    monkeypatch.setattr(qualification, "qualify", qualify)
    model = str(shipped("digits/digits.tflite"))
    assert cli.main(["bench", model, "--seconds", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tuned"] == Tuning(2, 1, 1.9).facts()
    assert cli.main(["bench", model, "--seconds", "0.1"]) == 0
    assert Tuning(2, 1, 1.9).describe() in capsys.readouterr().out
    assert asked == ["auto", "auto"]


def test_a_model_that_crashes_the_runtime_crashes_its_own_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = crashing_tflite(tmp_path)
    assert cli.main(["bench", str(model), "--seconds", "0.1"]) == 2
    assert f"{model}: {CRASHED}" in capsys.readouterr().err


@pytest.mark.parametrize(("per_second", "best"), [((100, 110, 120), 3), ((100, 110, 111), 1), ((100, 200, 210), 2)])
def test_more_threads_are_chosen_only_if_they_pay(per_second: tuple[float, ...], best: int) -> None:
    assert choose([1, 2, 3], per_second) == best
