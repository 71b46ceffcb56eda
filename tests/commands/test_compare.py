"""`models compare`, as it is called."""

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_agent import cli
from edge_agent.commands import compare
from edge_agent.models.shipped import shipped
from tests.evaluation import data


def test_each_model_and_setting_is_measured_in_a_process_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data.digits(tmp_path / "meter")
    onnx = shipped("digits") / "digits.onnx"
    code = cli.main(["models", "compare", "digits", str(onnx), "gone.tflite", "meter", "--threads", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert code == 1
    assert [row["model"] for row in rows] == ["digits", str(onnx), "gone.tflite"]
    assert [row.get("samples") for row in rows] == [14, 14, None]
    assert all(row["metrics"]["top1"] == 1 and row["memory_mb"] > 0 and row["threads"] == 1 for row in rows[:2])
    assert "no such file" in rows[2]["error"]
    assert sum(row["best"] for row in rows) == 1  # both are equally right, and one is faster


def row(value: float, latency: float, task: str = "classification") -> dict[str, Any]:
    metric = {"classification": "top1", "regression": "mae"}[task]
    return {"task": task, "metrics": {metric: value}, "latency_ms": {"p50": latency}}


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row(0.9, 10), row(0.8, 5), row(0.7, 6)], [True, True, False]),
        ([row(0.9, 10), row(0.9, 10)], [True, True]),
        ([row(0.9, 10), row(0.9, 9)], [False, True]),
        ([row(1.0, 5, "regression"), row(2.0, 9, "regression")], [True, False]),
        ([row(0.9, 10), {"error": "gone"}], [True, False]),
    ],
)
def test_what_nothing_beats_in_both_is_marked(rows: list[dict[str, Any]], best: list[bool]) -> None:
    compare.mark(rows)
    assert [one["best"] for one in rows] == best


def test_the_picture_has_all_that_could_be_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    data.digits(tmp_path / "meter")
    onnx = str(shipped("digits") / "digits.onnx")
    assert cli.main(["models", "compare", "digits", onnx, "gone.tflite", "meter", "--plot", "figures"]) == 1
    picture = cv2.imread("figures/comparison.png")
    assert picture is not None
    assert picture.std() > 5
    assert "figures/comparison.png" in capsys.readouterr().err


def test_the_table_has_a_line_for_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data.digits(tmp_path / "meter")
    assert cli.main(["models", "compare", "digits", "meter"]) == 0
    head, line, note = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["model", "top1"]
    assert line.split()[:2] == ["digits", "1.0000"]
    assert line.rstrip().endswith("*")
    assert note.startswith("*")
