import json
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.commands import optimize
from edge_agent.modelfile.inspect import read

MODEL = "classify_tflite/mobilenet_v1_0.25_224_quant.tflite"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def measured(before: float, after: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is faster depends on the machine, and on what else it does."""
    monkeypatch.setattr(optimize, "_measure", lambda *_: (before, after))


def arguments(data_dir: Path, out: Path, *further: str) -> list[str]:
    samples = str(data_dir / "imagenet_100" / "n02[0-2]*")
    return ["models", "optimize", str(data_dir / MODEL), "--samples", samples, "-o", str(out), *further]


def test_a_faster_model_that_says_the_same_is_written(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(2.0, 1.0, monkeypatch)
    out = tmp_path / "int8.tflite"
    assert main(arguments(data_dir, out)) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("same result for ")
    assert second == "1.00 ms instead of 2.00 ms on this machine"
    assert third == f"{out}: written"
    assert read(out).operators["QUANTIZE"] == 2


def test_what_is_no_faster_is_not_written(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(1.0, 1.0, monkeypatch)
    out = tmp_path / "int8.tflite"
    assert main(arguments(data_dir, out, "--json")) == 1
    printed = capsys.readouterr()
    assert "nothing is written, since it is not faster" in printed.err
    document = json.loads(printed.out)
    assert (document["path"], document["before_ms"], document["after_ms"]) == (None, 1.0, 1.0)
    assert 20 <= document["pictures"] == document["same"] + document["tied"]
    assert not out.exists()


def test_what_says_something_else_is_not_written(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = (data_dir / "classify_tflite" / "mobilenet_v1_0.5_160_quant.tflite").read_bytes()
    monkeypatch.setattr(optimize, "to_int8", lambda _: other)
    measured(2.0, 1.0, monkeypatch)
    assert main(arguments(data_dir, tmp_path / "int8.tflite", "--labels", "none")) == 1
    assert "nothing is written, since its results differ" in capsys.readouterr().err
    assert list(tmp_path.glob("*.tflite")) == []


def test_wrong_arguments_are_answered_before_anything_is_done(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.tflite"
    there.touch()
    few = str(data_dir / "images")
    for given, sentence in (
        (["digits", "--samples", few, "-o", "x.tflite"], "digits: expected a .tflite file"),
        (
            [str(data_dir / MODEL), "--samples", few, "-o", str(there)],
            "expected the name of a .tflite file that is not",
        ),
        ([str(data_dir / MODEL), "--samples", few, "-o", "x.tflite"], "--samples: expected at least 20 pictures"),
        ([str(data_dir / MODEL), "--samples", f"{few}/none*", "-o", "x.tflite"], "there is no image file"),
    ):
        assert main(["models", "optimize", *given]) in (1, 2)
        assert sentence in capsys.readouterr().err


def test_a_label_as_good_as_tied_counts_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_agent.samples import Prediction

    def said(*confidences: float) -> list[Prediction]:
        return [Prediction(str(number), number, confidence) for number, confidence in enumerate(confidences)]

    old = said(0.40, 0.36, 0.20)
    assert [optimize._rank(old, [one]) for one in (*old, Prediction("x", 99, 0.9))] == [
        "same",
        "tied",
        "other",
        "other",
    ]
    assert optimize.Agreement(100, 97, 2).enough
    assert not optimize.Agreement(100, 97, 1).enough
