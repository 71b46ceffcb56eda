import json
from pathlib import Path

import numpy as np
import pytest

from edge_agent.postprocess.thresholds import Threshold
from edge_agent.samples import Prediction
from edge_agent.settings.series import Anomaly


def label(threshold: Threshold, score: float) -> str | None:
    [judged] = threshold([Prediction(None, None, None, value=score)])
    assert judged.value == score
    return judged.label


def test_a_stated_threshold_goes_before_that_of_the_bundle() -> None:
    of_bundle = Threshold("pump", Anomaly(), 5.0, "hash", None)
    stated = Threshold("pump", Anomaly(threshold=10.0), 5.0, "hash", None)
    assert [label(of_bundle, score) for score in (5.0, 5.1)] == ["normal", "anomaly"]
    assert [label(stated, score) for score in (10.0, 10.1)] == ["normal", "anomaly"]


def test_without_any_threshold_there_are_scores_only() -> None:
    assert label(Threshold("pump", Anomaly(), None, "hash", None), 1e9) is None


def test_a_threshold_is_learned_from_what_is_normal_and_kept_over_restarts(tmp_path: Path) -> None:
    file = tmp_path / "learned/pump.json"
    options = Anomaly(learn=200, deviations=3.0)
    scores = np.random.default_rng(1).normal(10, 2, 200).tolist()
    threshold = Threshold("pump", options, 5.0, "hash", file)
    assert {label(threshold, score) for score in scores} == {None}
    learned = np.mean(scores) + 3 * np.std(scores, ddof=1)
    assert [label(threshold, score) for score in (learned - 0.01, learned + 0.01)] == ["normal", "anomaly"]
    assert list(file.parent.iterdir()) == [file]
    written = file.stat().st_mtime_ns
    again = Threshold("pump", options, 5.0, "hash", file)
    assert [label(again, score) for score in (learned - 0.01, learned + 0.01)] == ["normal", "anomaly"]
    assert file.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("options", "model"),
    [(Anomaly(learn=20), "another"), (Anomaly(learn=21), "hash"), (Anomaly(learn=20, deviations=2), "hash")],
)
def test_another_model_or_another_wish_is_learned_anew(options: Anomaly, model: str, tmp_path: Path) -> None:
    file = tmp_path / "pump.json"
    threshold = Threshold("pump", Anomaly(learn=20), None, "hash", file)
    for _ in range(20):
        label(threshold, 1.0)
    assert label(threshold, 2.0) == "anomaly"
    assert label(Threshold("pump", options, None, model, file), 2.0) is None


@pytest.mark.parametrize("content", ["", "[1]", '{"model": "hash"', "[" * 100_000, '{"threshold": "x"}', "\0" * 100])
def test_a_file_that_can_not_be_used_is_learned_anew(content: str, tmp_path: Path) -> None:
    file = tmp_path / "pump.json"
    file.write_text(content)
    assert label(Threshold("pump", Anomaly(learn=20), None, "hash", file), 2.0) is None


def test_a_threshold_that_is_no_number_is_learned_anew(tmp_path: Path) -> None:
    file = tmp_path / "pump.json"
    key = {"model": "hash", "learn": 20, "deviations": 4.0}
    for value in (None, "high", float("nan"), [1]):
        file.write_text(json.dumps(key | {"threshold": value}))
        assert label(Threshold("pump", Anomaly(learn=20), None, "hash", file), 2.0) is None


def test_where_nothing_can_be_written_it_is_learned_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "learned").write_text("a file where the folder should be")
    threshold = Threshold("pump", Anomaly(learn=10), None, "hash", tmp_path / "learned/pump.json")
    for _ in range(10):
        label(threshold, 1.0)
    assert label(threshold, 2.0) == "anomaly"
    assert "can't be kept" in caplog.text
