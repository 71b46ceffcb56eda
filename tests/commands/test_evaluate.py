"""`evaluate`, as it is called."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent import cli
from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2
from tests.evaluation import data


@pytest.fixture
def meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set, in the folder where the command is called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "pulled"))
    return data.digits(tmp_path / "meter").relative_to(tmp_path)


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, list[str]]:
    """Exit code, standard output, and the lines of standard error."""
    code = cli.main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code, out, _ = evaluate(capsys, *arguments, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_json_has_the_fields_of_the_public_interface(meter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "digits", meter)
    assert (found["task"], found["samples"]) == ("classification", 14)
    assert found["metrics"]["top1"] == 1
    assert {"top1", "top5"} <= set(found["interval"]) <= set(found["metrics"])
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert found["memory_mb"] >= 0
    assert {row["label"] for row in found["per_class"]} == {path.name for path in meter.iterdir()}


def test_figures_are_recorded_in_the_bundle_once_for_each_data_and_machine(
    meter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path("bundle")
    shutil.copytree(shipped("digits"), bundle)
    before = (bundle / "model.yaml").read_text()
    moved = shutil.copytree(meter, Path("elsewhere") / meter.name)
    for place in (meter, moved):
        assert evaluate(capsys, bundle, place, "--record")[0] == 0
    assert (bundle / "model.yaml").read_text().startswith(before)  # comments and all
    (other,) = (path for path in (moved / "7").iterdir())
    shutil.copy(other, other.with_name("once-more.png"))
    evaluate(capsys, bundle, moved, "--record")
    assert cli.main(["inspect", str(bundle), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    first, second = document["evaluated"]
    assert (first["samples"], first["metrics"]["top1"], first["accelerator"]) == (14, 1, "cpu")
    assert first["interval"]["top1"][0] == pytest.approx(0.7684)
    assert first["model_sha256"] == document["sha256"]
    assert (second["samples"], second["data_sha256"] != first["data_sha256"]) == (15, True)


def test_figures_are_not_recorded_where_there_is_no_folder_of_a_bundle(
    meter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, [error] = evaluate(capsys, shipped("digits") / "digits.onnx", meter, "--record")
    assert (code != 0, out, "folder of a bundle" in error) == (True, "", True)


def test_against_the_same_model_there_is_no_difference(meter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "digits", meter, "--against", shipped("digits") / "digits.onnx")
    assert found["against"]["samples"] == 14
    assert found["difference"]["metrics"]["top1"] == 0
    assert found["difference"]["differing"] == []


def test_what_is_stated_of_a_model_counts_for_the_other_that_says_too_little(
    meter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.tflite", "other.tflite"):
        shutil.copy(shipped("digits") / "digits.tflite", name)
    labels = str(shipped("digits") / "labels.txt")
    stated = ("--labels", labels, "--color", "gray", "--resize", "stretch")
    found = document(capsys, "one.tflite", meter, *stated, "--against", "other.tflite")
    assert found["difference"]["metrics"]["top1"] == 0
    code, _, [error] = evaluate(capsys, "digits", meter, "--against", "other.tflite")
    assert (code, "labels: FILE" in error) == (cli.WRONG_USAGE, True)


def test_a_mapping_is_stated_in_a_file(meter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (meter / "7").rename(meter / "seven")
    code, _, err = evaluate(capsys, "digits", meter)
    assert code == cli.WRONG_USAGE
    assert "--map" in err[0]
    Path("map.yaml").write_text("seven: 7\nblank:\n")
    found = document(capsys, "digits", meter, "--map", "map.yaml")
    assert (found["samples"], found["left_out"]) == (12, 2)


def test_figures_are_drawn(meter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    wrong = next((meter / "3").iterdir())
    wrong.rename(meter / "8" / wrong.name)
    found = document(capsys, "digits", meter, "--plot", "figures")
    assert found["metrics"]["top1"] < 1
    drawn = {path.name: cv2.imread(str(path)) for path in Path("figures").iterdir()}
    assert set(drawn) == {"confusion.png", "reliability.png", "mistakes.png"}
    assert all(picture is not None and picture.std() > 5 for picture in drawn.values())


def test_without_the_extra_figures_are_refused_before_anything_runs(
    meter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, [error] = evaluate(capsys, "digits", meter, "--plot", "figures")
    assert (code, out) == (cli.WRONG_USAGE, "")
    assert error.startswith("drawing figures needs a package")


@pytest.mark.parametrize(
    "arguments",
    [("digits", "gone"), ("digits", "meter", "--accelerator", "none"), ("digits", "meter", "--map", "gone.yaml")],
)
def test_wrong_usage_is_one_line(meter: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    code, out, err = evaluate(capsys, *arguments)
    assert (code, out, len(err)) == (cli.WRONG_USAGE, "", 1)


def test_a_damaged_sample_is_named_and_the_exit_code_says_so(meter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (meter / "7" / "broken.png").write_bytes(b"none")
    code, out, [error] = evaluate(capsys, "digits", meter)
    assert code == cli.FAILED
    assert "14 samples" in out
    assert error.startswith(f"{meter}/7/broken.png: ")


def test_interrupted_it_prints_what_has_been_measured(meter: Path) -> None:
    pictures = list(meter.glob("*/*.png"))
    for number in range(5000):
        picture = pictures[number % len(pictures)]
        (picture.parent / f"{number:05}.png").symlink_to(picture.resolve())
    command = [sys.executable, "-m", "edge_agent", "evaluate", "digits", str(meter), "--json"]
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment) as program:
        wait_until_the_model_is_loaded(program.pid)
        program.send_signal(signal.SIGINT)
        out, _ = program.communicate(timeout=60)
    found = json.loads(out)
    assert program.returncode == 1
    assert found["interrupted"]
    assert found["samples"] < 5000


def wait_until_the_model_is_loaded(process: int) -> None:
    """Until a process has the runtime in its memory."""
    until = time.monotonic() + 60
    while "litert" not in Path(f"/proc/{process}/maps").read_text().lower():
        assert time.monotonic() < until
        time.sleep(0.02)
